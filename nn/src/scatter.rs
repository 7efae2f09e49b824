//! The two-dimensional wavelet scattering transform: fixed features that need no training.
//!
//! An image is convolved with Morlet wavelets of `scales` sizes and `angles` directions, the
//! modulus is taken, convolved again with the larger wavelets, the modulus is taken again, and
//! everything is smoothed and subsampled by `2^scales`:
//!
//! `S0 = x * phi`, `S1 = |x * psi_a| * phi`, `S2 = ||x * psi_a| * psi_b| * phi` with `b` of a
//! larger scale than `a`.
//!
//! Two scales and eight angles make 81 maps: 28 x 28 pixels become 81 x 7 x 7 = 3969 features,
//! 3 x 32 x 32 become 243 x 8 x 8 = 15,552. The transform is a function of one image and of public
//! constants, so under differential privacy it costs nothing: neighbouring data sets stay
//! neighbours after it, and a record's features depend on no other record.
//!
//! Sources: Bruna and Mallat, "Invariant Scattering Convolution Networks", IEEE TPAMI 35(8), 2013;
//! filters, padding by reflection (the edge pixel not repeated), order of the maps and all
//! constants as in Kymatio 0.3 (Andreux et al., JMLR 21(60), 2020), with whose numbers the tests
//! compare. As features for private learning: Tramer and Boneh, "Differentially Private Learning
//! Needs Better Features (or Much More Data)", ICLR 2021.
//!
//! # How it is computed
//!
//! As many images as a vector register has lanes (sixteen with AVX-512) go through the same steps
//! side by side, one per lane; then every Fourier transform, modulus and sum runs at full
//! width without one shuffle. The smoothing and subsampling at the end is a small matrix on each
//! side, since `phi` is separable, and saves one Fourier transform per map. Products with a
//! filter visit only its support, and subsampling happens before the inverse transform.
//!
//! **Deviation** from Kymatio: filters are computed in double precision and rounded once, and
//! filter values below `1e-7` of the largest are left out; results agree to about `1e-5`. Only
//! additions, multiplications and square roots are used, in an order that depends neither on the
//! processor nor on threads.
//!
//! ```
//! use sphinx_nn::data::synth_digits::generate;
//! use sphinx_nn::scatter::{ScatterSettings, Scattering};
//!
//! let set = generate(1, 3);
//! let scattering = Scattering::new(set.shape, ScatterSettings::default()).unwrap();
//! let features = scattering.transform(&set.images).unwrap();
//! assert_eq!((features.rows(), features.columns()), (3, 3969));
//! ```

use crate::network::ImageShape;
use crate::tensor::Tensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::fmt;
use thiserror::Error;

mod filters;
mod fourier;
mod lanes;
mod paths;
mod smooth;

use fourier::Fourier;
use paths::{Geometry, Job, Plan};

/// Most scales: wavelets beyond are wider than any image taken here.
pub const MAX_SCALES: usize = 5;
/// Most angles.
pub const MAX_ANGLES: usize = 32;
/// Longest side of an image after padding.
pub const MAX_SIDE: usize = 512;

/// Which wavelets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScatterSettings {
    /// Number of wavelet sizes, `J`; maps shrink by `2^scales`.
    pub scales: usize,
    /// Number of directions in half a turn, `L`.
    pub angles: usize,
}

impl Default for ScatterSettings {
    /// Two scales, eight angles.
    fn default() -> Self {
        Self {
            scales: 2,
            angles: 8,
        }
    }
}

impl ScatterSettings {
    /// Maps per colour channel: `1 + J L + L^2 J (J - 1) / 2`.
    #[must_use]
    pub const fn maps(self) -> usize {
        let (j, l) = (self.scales, self.angles);
        1 + j * l + l * l * j * j.saturating_sub(1) / 2
    }
}

/// What the transform refuses.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ScatterError {
    /// Scales or angles out of range.
    #[error("scattering with {} scales and {} angles; must be between 1 and {MAX_SCALES} scales and 1 and {MAX_ANGLES} angles", .0.scales, .0.angles)]
    Settings(ScatterSettings),
    /// An image side that the wavelets do not fit into, or that pads to an unsuited length.
    #[error(
        "scattering images with a side of {side}: with {scales} scales it is padded to {padded}, which must be at most {MAX_SIDE} and a product of 2, 3 and 5, from a side of at least {least}"
    )]
    Side {
        /// Pixels along the side.
        side: usize,
        /// Scales asked for.
        scales: usize,
        /// Length after padding.
        padded: usize,
        /// Shortest side for these scales.
        least: usize,
    },
    /// No colour channels.
    #[error("scattering images with no channels; expected at least one")]
    Channels,
    /// Rows of another length than the images have.
    #[error(
        "scattering rows of {found} values; the images have {expected}: give one row per image"
    )]
    Columns {
        /// Values per row given.
        found: usize,
        /// Values per image.
        expected: usize,
    },
}

/// A planned transform for images of one shape.
#[derive(Clone)]
pub struct Scattering {
    input: ImageShape,
    settings: ScatterSettings,
    plan: Plan,
}

impl Scattering {
    /// Builds filters and transforms.
    ///
    /// # Errors
    /// [`ScatterError`] for settings or sides out of range.
    pub fn new(input: ImageShape, settings: ScatterSettings) -> Result<Self, ScatterError> {
        let fits = (1..=MAX_SCALES).contains(&settings.scales)
            && (1..=MAX_ANGLES).contains(&settings.angles);
        if !fits {
            return Err(ScatterError::Settings(settings));
        }
        if input.channels == 0 {
            return Err(ScatterError::Channels);
        }
        let geometry = Geometry {
            height: side(input.height, settings.scales)?,
            width: side(input.width, settings.scales)?,
        };
        Ok(Self {
            input,
            settings,
            plan: Plan::new(geometry, settings),
        })
    }

    /// Shape of the images.
    #[must_use]
    pub const fn input(&self) -> ImageShape {
        self.input
    }

    /// Scales and angles.
    #[must_use]
    pub const fn settings(&self) -> ScatterSettings {
        self.settings
    }

    /// Shape of the features: all maps of the first colour channel, then those of the next.
    #[must_use]
    pub const fn output(&self) -> ImageShape {
        let shrink = 1 << self.settings.scales;
        ImageShape {
            channels: self.input.channels * self.settings.maps(),
            height: self.input.height / shrink,
            width: self.input.width / shrink,
        }
    }

    /// The features of each row, in [`Self::output`]'s shape. Work is split over rayon's threads.
    ///
    /// # Errors
    /// [`ScatterError::Columns`] for rows that are not images of the planned shape.
    pub fn transform(&self, images: &Tensor) -> Result<Tensor, ScatterError> {
        let plane = self.input.height * self.input.width;
        let expected = self.input.channels * plane;
        if images.columns() != expected {
            let found = images.columns();
            return Err(ScatterError::Columns { found, expected });
        }
        let output = self.output();
        let block = self.settings.maps() * output.height * output.width;
        let mut features = Tensor::zeros(images.rows(), self.input.channels * block);
        pulp::Arch::new().dispatch(Everything {
            plan: &self.plan,
            plane,
            block,
            images: images.as_slice(),
            features: features.as_mut_slice(),
        });
        Ok(features)
    }
}

/// A call of the transform, to be made with the widest vectors that this processor has.
struct Everything<'a> {
    plan: &'a Plan,
    plane: usize,
    block: usize,
    images: &'a [f32],
    features: &'a mut [f32],
}

impl WithSimd for Everything<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, block, .. } = self;
        self.features
            .par_chunks_mut(S::F32_LANES * block)
            .zip(self.images.par_chunks(S::F32_LANES * self.plane))
            .for_each_init(
                || plan.buffers(simd),
                |buffers, (features, planes)| {
                    let job = Job {
                        planes,
                        features,
                        block,
                    };
                    plan.run(buffers, job);
                },
            );
    }
}

impl fmt::Debug for Scattering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scattering")
            .field("input", &self.input)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// One side of the images: its length, and what padding makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    length: usize,
    padded: usize,
}

/// Pads as the reference does: to the next multiple of `2^scales` that leaves a whole output
/// sample, or half on each side, around the image.
fn side(length: usize, scales: usize) -> Result<Side, ScatterError> {
    let unit = 1 << scales;
    let padded = (length.saturating_add(unit) / unit + 1).saturating_mul(unit);
    // Reflection needs more pixels than the frame is wide.
    let reflects = length > (padded.saturating_sub(length)).div_ceil(2);
    if length < unit || !reflects || padded > MAX_SIDE || !Fourier::suits(padded) {
        let error = ScatterError::Side {
            side: length,
            scales,
            padded,
            least: unit.max(3),
        };
        return Err(error);
    }
    Ok(Side { length, padded })
}

#[cfg(test)]
mod tests;
