//! Fixed features before a network: scattering, then normalisation within each record.
//!
//! [`FeatureSettings`] says which; [`Extractor`] computes them for batches or whole data sets;
//! [`prepare`] does so for a model by name and leaves data alone for models without features.
//!
//! **What this costs in privacy: nothing.** A record's features depend on that record and on
//! public constants, never on another record or on a statistic of the set. Two data sets that
//! differ in one record still differ in one record afterwards, so whatever holds for private
//! training on features holds for training on the records themselves. (Normalising by the mean and
//! variance of the data set would be a release of its own and have to be paid for; Tramer and
//! Boneh, ICLR 2021, appendix B, offer both. Here only the free one exists.)
//!
//! Two more steps can be switched on, both as free:
//!
//! - `mirror`: the mean of the features of the image and of its mirror image. For classes that look
//!   the same in a mirror a linear model loses nothing by it, and half of the directions, which would
//!   hold noise only, are gone.
//! - `decorrelation`: features centred, and their maps partly decorrelated, by the mean and the
//!   covariance of the features of *procedural* images; every record is then scaled to one norm. The
//!   two procedural sets of [`crate::data`] serve as references: synth-digits for 28 x 28 pixels of one
//!   colour, synth-shapes for 32 x 32 of three; other shapes have none.
//!
//! The normalisation: maps are split, in order, into `groups` groups of equal size, and each
//! group of each record is shifted and scaled to mean 0 and variance 1 (Wu and He, "Group
//! Normalization", ECCV 2018, without learned scales; `1e-5` is added to the variance). A record's
//! features then have a norm close to the root of their number, which suits per-sample clipping.
//!
//! A whole data set takes seconds, less than reading as many features from a disk saves, so nothing
//! is cached in files; in memory, 60,000 records of 3969
//! features are 0.95 GB, and 50,000 of 15,552 are 3.1 GB.
//!
//! ```
//! use sphinx_nn::data::{self, LoadOptions};
//! use sphinx_nn::{Network, architectures, features};
//!
//! let options = LoadOptions { train: Some(20), test: Some(10), seed: 1 };
//! let split = data::load("synth-digits", None, &options).unwrap();
//! let split = features::prepare("scatter-linear", split).unwrap();
//! let architecture = architectures::by_name("scatter-linear", split.train.shape, 10).unwrap();
//! let network = Network::new(&architecture).unwrap();
//! assert_eq!(network.inputs(), 3969);
//! split.train.check_fits(&network).unwrap();
//! ```

use crate::augment::Augmentation;
use crate::data::{Dataset, Split};
use crate::network::ImageShape;
use crate::scatter::{ScatterError, ScatterSettings, Scattering};
use crate::tensor::Tensor;
use rayon::prelude::*;
use thiserror::Error;

mod reference;
mod symmetric;

use reference::Decorrelation;

/// Added to a group's variance.
const EPSILON: f64 = 1e-5;
/// Maps of a record that is an image and not yet features: at most this many colour channels.
const MAX_COLOURS: usize = 4;
/// Images whose features are computed at once.
const ROWS_AT_ONCE: usize = 2048;

/// Which features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureSettings {
    /// The wavelets.
    pub scatter: ScatterSettings,
    /// Groups of maps per colour channel that are normalised together.
    pub groups: usize,
    /// Average the features of an image and of its mirror image.
    pub mirror: bool,
    /// Power, from 0 to 1, of the inverse covariance of the reference by which maps are decorrelated:
    /// 1/2 whitens; 0 leaves features as they are, neither centred nor rescaled.
    pub decorrelation: f64,
}

impl Default for FeatureSettings {
    /// Two scales, eight angles, and 27 groups of three maps; no mirror, no reference.
    fn default() -> Self {
        Self {
            scatter: ScatterSettings::default(),
            groups: 27,
            mirror: false,
            decorrelation: 0.0,
        }
    }
}

/// Why features cannot be computed.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum FeatureError {
    /// The transform refuses.
    #[error(transparent)]
    Scatter(#[from] ScatterError),
    /// Groups that do not divide the maps.
    #[error(
        "{groups} groups for {maps} maps of each colour channel; the number of groups must divide that of maps"
    )]
    Groups {
        /// Groups asked for.
        groups: usize,
        /// Maps there are.
        maps: usize,
    },
    /// A power of no use.
    #[error("decorrelation to the power {power}; must be from 0 to 1")]
    Power {
        /// The power given.
        power: f64,
    },
    /// No procedural set has images of this shape.
    #[error(
        "decorrelation of images of {channels} x {height} x {width}: there is a reference for 1 x 28 x 28 and 3 x 32 x 32 only; leave decorrelation at 0"
    )]
    NoReference {
        /// Colour channels.
        channels: usize,
        /// Pixels down.
        height: usize,
        /// Pixels across.
        width: usize,
    },
}

/// Planned features for images of one shape.
#[derive(Clone, Debug)]
pub struct Extractor {
    scattering: Scattering,
    groups: usize,
    mirror: bool,
    decorrelation: Option<Decorrelation>,
}

impl Extractor {
    /// Plans the transform; with decorrelation, computes the features of the reference images.
    ///
    /// # Errors
    /// [`FeatureError`] for images or settings that do not fit.
    pub fn new(input: ImageShape, settings: FeatureSettings) -> Result<Self, FeatureError> {
        let FeatureSettings {
            scatter,
            groups,
            mirror,
            decorrelation: power,
        } = settings;
        let scattering = Scattering::new(input, scatter)?;
        let maps = scatter.maps();
        if groups == 0 || !maps.is_multiple_of(groups) {
            return Err(FeatureError::Groups { groups, maps });
        }
        if !(0.0..=1.0).contains(&power) {
            return Err(FeatureError::Power { power });
        }
        let mut extractor = Self {
            scattering,
            groups,
            mirror,
            decorrelation: None,
        };
        if power > 0.0 {
            let reference = extractor.apply(&reference::images(input)?)?;
            let plan = Decorrelation::new(extractor.output(), &reference, power);
            extractor.decorrelation = Some(plan);
        }
        Ok(extractor)
    }

    /// Shape of the images that go in.
    #[must_use]
    pub const fn input(&self) -> ImageShape {
        self.scattering.input()
    }

    /// Shape of the features of one image.
    #[must_use]
    pub const fn output(&self) -> ImageShape {
        self.scattering.output()
    }

    /// The features of each row.
    ///
    /// # Errors
    /// [`ScatterError::Columns`] for rows of another length than the images have.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor, FeatureError> {
        let shape = self.output();
        let columns = shape.channels * shape.height * shape.width;
        let mut features = Tensor::zeros(images.rows(), columns);
        let blocks = features
            .as_mut_slice()
            .chunks_mut(ROWS_AT_ONCE * columns.max(1));
        for (block, to) in blocks.enumerate() {
            let first = block * ROWS_AT_ONCE;
            let last = images.rows().min(first + ROWS_AT_ONCE);
            let rows: Vec<u32> = (first..last).map(|i| i as u32).collect();
            let features = self.apply_block(&images.gather(&rows, rows.len()))?;
            to.copy_from_slice(features.as_slice());
        }
        Ok(features)
    }

    fn apply_block(&self, images: &Tensor) -> Result<Tensor, FeatureError> {
        let mut features = self.normalised(images)?;
        if self.mirror {
            let mirrored = Augmentation::mirror(self.input()).apply_all(images);
            let mirrored = self.normalised(&mirrored)?;
            let pairs = features.as_mut_slice().iter_mut().zip(mirrored.as_slice());
            pairs.for_each(|(v, m)| *v = 0.5 * (*v + m));
        }
        if let Some(decorrelation) = &self.decorrelation {
            decorrelation.apply(&mut features);
        }
        Ok(features)
    }

    fn normalised(&self, images: &Tensor) -> Result<Tensor, FeatureError> {
        let mut features = self.scattering.transform(images)?;
        normalise(&mut features, self.input().channels * self.groups);
        Ok(features)
    }

    /// The data set with features in the place of images.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn dataset(&self, set: &Dataset) -> Result<Dataset, FeatureError> {
        Ok(Dataset {
            name: set.name.clone(),
            shape: self.output(),
            classes: set.classes,
            images: self.apply(&set.images)?,
            labels: set.labels.clone(),
        })
    }
}

/// The features that a built-in model expects; `None` if it takes images as they are.
#[must_use]
pub fn of_model(model: &str) -> Option<FeatureSettings> {
    (model == "scatter-linear").then(FeatureSettings::default)
}

/// What a built-in model takes for images of shape `input`: the shape of its features, or the
/// images' own. A shape that cannot be an image's (more than four channels) is taken for features.
#[must_use]
pub fn shape_for(model: &str, input: ImageShape) -> ImageShape {
    of_model(model)
        .filter(|_| input.channels <= MAX_COLOURS)
        .and_then(|settings| Scattering::new(input, settings.scatter).ok())
        .map_or(input, |scattering| scattering.output())
}

/// Replaces the images of both parts by the features that `model` expects, if it expects any.
///
/// # Errors
/// [`FeatureError`] for images that the features cannot be computed of.
pub fn prepare(model: &str, split: Split) -> Result<Split, FeatureError> {
    match of_model(model) {
        Some(settings) => prepare_with(settings, &split),
        None => Ok(split),
    }
}

/// Both parts with these features in the place of images.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_with(settings: FeatureSettings, split: &Split) -> Result<Split, FeatureError> {
    let extractor = Extractor::new(split.train.shape, settings)?;
    Ok(Split {
        train: extractor.dataset(&split.train)?,
        test: extractor.dataset(&split.test)?,
    })
}

/// Shifts and scales each of `groups` equal parts of each row to mean 0 and variance 1.
///
/// # Panics
/// If the rows cannot be split into so many equal parts.
pub fn normalise(features: &mut Tensor, groups: usize) {
    let columns = features.columns();
    assert!(
        groups > 0 && columns.is_multiple_of(groups),
        "{groups} groups of {columns} features"
    );
    let size = columns / groups;
    if size == 0 {
        return;
    }
    features
        .as_mut_slice()
        .par_chunks_mut(columns)
        .for_each(|row| row.chunks_exact_mut(size).for_each(normalise_group));
}

fn normalise_group(values: &mut [f32]) {
    let count = values.len() as f64;
    let mean = sum(values, |v| v) / count;
    let variance = sum(values, |v| (v - mean) * (v - mean)) / count;
    let scale = (variance + EPSILON).sqrt().recip();
    let (mean, scale) = (mean as f32, scale as f32);
    values.iter_mut().for_each(|v| *v = (*v - mean) * scale);
}

/// A sum in eight fixed lanes.
fn sum(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|v| term(f64::from(*v))).sum();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += term(f64::from(*v));
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synth_digits;

    #[test]
    fn groups_have_mean_zero_and_variance_one() {
        let set = synth_digits::generate(3, 5);
        let extractor = Extractor::new(set.shape, FeatureSettings::default()).unwrap();
        let features = extractor.dataset(&set).unwrap();
        assert_eq!(features.shape, extractor.output());
        for i in 0..5 {
            for group in features.images.row(i).chunks_exact(147) {
                let mean = group.iter().map(|v| f64::from(*v)).sum::<f64>() / 147.0;
                let square = group.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 147.0;
                assert!(mean.abs() < 1e-5 && square < 1.0 + 1e-5, "{mean} {square}");
            }
        }
        let mut x = Tensor::from_vec(1, 4, vec![1.0, 3.0, 5.0, 5.0]).unwrap();
        normalise(&mut x, 2);
        for (got, want) in x.as_slice().iter().zip([-1.0, 1.0, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-5);
        }
    }

    fn everything() -> FeatureSettings {
        FeatureSettings {
            mirror: true,
            decorrelation: 0.25,
            ..FeatureSettings::default()
        }
    }

    /// What the claim about privacy rests on.
    #[test]
    fn a_record_is_all_that_its_features_depend_on() {
        let set = synth_digits::generate(3, 40);
        for settings in [FeatureSettings::default(), everything()] {
            let extractor = Extractor::new(set.shape, settings).unwrap();
            let whole = extractor.apply(&set.images).unwrap();
            let mut others = set.images.clone();
            others.as_mut_slice()[784..].fill(1.0);
            let changed = extractor.apply(&others).unwrap();
            assert_eq!(whole.row(0), changed.row(0));
            assert_ne!(whole.row(1), changed.row(1));
        }
    }

    #[test]
    fn mirrored_images_have_the_same_features() {
        let set = synth_digits::generate(4, 5);
        let mirrored = Augmentation::mirror(set.shape).apply_all(&set.images);
        let extractor = Extractor::new(set.shape, everything()).unwrap();
        let (one, other) = (extractor.apply(&set.images), extractor.apply(&mirrored));
        let (one, other) = (one.unwrap(), other.unwrap());
        for (a, b) in one.as_slice().iter().zip(other.as_slice()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let plain = Extractor::new(set.shape, FeatureSettings::default()).unwrap();
        assert_ne!(plain.apply(&set.images), plain.apply(&mirrored));
    }

    #[test]
    fn decorrelation_needs_a_power_and_a_reference() {
        let shape = synth_digits::generate(1, 0).shape;
        let power = |decorrelation| FeatureSettings {
            decorrelation,
            ..FeatureSettings::default()
        };
        for bad in [-0.1, 1.5, f64::NAN] {
            let error = Extractor::new(shape, power(bad)).unwrap_err();
            assert!(matches!(error, FeatureError::Power { .. }));
        }
        let other = ImageShape {
            height: 32,
            ..shape
        };
        let error = Extractor::new(other, power(0.25)).unwrap_err();
        assert!(matches!(
            error,
            FeatureError::NoReference { height: 32, .. }
        ));
    }

    #[test]
    fn models_say_which_features_they_take() {
        let split = || Split {
            train: synth_digits::generate(1, 3),
            test: synth_digits::generate(2, 2),
        };
        assert_eq!(prepare("mlp", split()).unwrap(), split());
        let prepared = prepare("scatter-linear", split()).unwrap();
        assert_eq!(
            (prepared.train.images.rows(), prepared.test.images.columns()),
            (3, 3969)
        );
        let raw = split().train.shape;
        assert_eq!(shape_for("scatter-linear", raw), prepared.train.shape);
        assert_eq!(
            shape_for("scatter-linear", prepared.train.shape),
            prepared.train.shape
        );
        assert_eq!(shape_for("mlp", raw), raw);
        let odd = FeatureSettings {
            groups: 2,
            ..FeatureSettings::default()
        };
        assert_eq!(
            Extractor::new(raw, odd).unwrap_err(),
            FeatureError::Groups {
                groups: 2,
                maps: 81
            }
        );
    }
}
