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
//! The normalisation: maps are split, in order, into `groups` groups of equal size, and each
//! group of each record is shifted and scaled to mean 0 and variance 1 (Wu and He, "Group
//! Normalization", ECCV 2018, without learned scales; `1e-5` is added to the variance). A record's
//! features then have a norm close to the root of their number, which suits per-sample clipping.
//!
//! Computing is faster than reading from a disk would be, so nothing is cached in files.
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

use crate::data::{Dataset, Split};
use crate::network::ImageShape;
use crate::scatter::{ScatterError, ScatterSettings, Scattering};
use crate::tensor::Tensor;
use rayon::prelude::*;
use thiserror::Error;

/// Added to a group's variance.
const EPSILON: f64 = 1e-5;
/// Maps of a record that is an image and not yet features: at most this many colour channels.
const MAX_COLOURS: usize = 4;

/// Which features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeatureSettings {
    /// The wavelets.
    pub scatter: ScatterSettings,
    /// Groups of maps per colour channel that are normalised together.
    pub groups: usize,
}

impl Default for FeatureSettings {
    /// Two scales, eight angles, and 27 groups of three maps.
    fn default() -> Self {
        Self {
            scatter: ScatterSettings::default(),
            groups: 27,
        }
    }
}

/// Why features cannot be computed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
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
}

/// Planned features for images of one shape.
#[derive(Clone, Debug)]
pub struct Extractor {
    scattering: Scattering,
    groups: usize,
}

impl Extractor {
    /// Plans the transform.
    ///
    /// # Errors
    /// [`FeatureError`] for images or settings that do not fit.
    pub fn new(input: ImageShape, settings: FeatureSettings) -> Result<Self, FeatureError> {
        let FeatureSettings { scatter, groups } = settings;
        let scattering = Scattering::new(input, scatter)?;
        let maps = scatter.maps();
        if groups == 0 || !maps.is_multiple_of(groups) {
            return Err(FeatureError::Groups { groups, maps });
        }
        Ok(Self { scattering, groups })
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
        .and_then(|settings| Extractor::new(input, settings).ok())
        .map_or(input, |extractor| extractor.output())
}

/// Replaces the images of both parts by the features that `model` expects, if it expects any.
///
/// # Errors
/// [`FeatureError`] for images that the features cannot be computed of.
pub fn prepare(model: &str, split: Split) -> Result<Split, FeatureError> {
    let Some(settings) = of_model(model) else {
        return Ok(split);
    };
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

    /// What the claim about privacy rests on.
    #[test]
    fn a_record_is_all_that_its_features_depend_on() {
        let set = synth_digits::generate(3, 40);
        let extractor = Extractor::new(set.shape, FeatureSettings::default()).unwrap();
        let whole = extractor.apply(&set.images).unwrap();
        let mut others = set.images.clone();
        others.as_mut_slice()[784..].fill(1.0);
        let changed = extractor.apply(&others).unwrap();
        assert_eq!(whole.row(0), changed.row(0));
        assert_ne!(whole.row(1), changed.row(1));
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
