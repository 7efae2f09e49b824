//! The error of a slot, predicted along a computation.
//!
//! An [`Estimate`] goes beside a ciphertext: the largest magnitude that its slots may have, and an
//! upper bound on the standard deviation of their errors. Sums add deviations (Minkowski's
//! inequality, so operands need not be independent), products add `|x| e_y + |y| e_x + e_x e_y`, and
//! each division and key switch adds what [`NoiseModel`] says. An error exceeds [`TAIL`] deviations
//! with negligible probability: errors are sums of Gaussians and of products of two of them, and
//! sixteen deviations of such a product leave `2^-44` or so (Cheon, Kim, Kim and Song, ePrint
//! 2016/421, section 3.5, take the same factor).
//!
//! ```
//! use sphinx_he::ckks::{Estimate, sets};
//! use sphinx_he::rlwe::{NoiseModel, Parameters};
//! let set = sets::A1;
//! let model = NoiseModel::new(&Parameters::new(&set.literal())?);
//! let x = Estimate::symmetric(&model, 1.0, set.scale());
//! assert!(x.bound() < 1e-8);
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

use super::Scale;
use crate::rlwe::NoiseModel;

/// Deviations that an error does not exceed.
pub const TAIL: f64 = 16.0;

/// Magnitude and error of the slots of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Largest magnitude of a slot.
    pub magnitude: f64,
    /// Standard deviation of the error of a slot, or more.
    pub deviation: f64,
}

impl Estimate {
    /// A number that is exact.
    #[must_use]
    pub const fn exact(magnitude: f64) -> Self {
        Self {
            magnitude,
            deviation: 0.0,
        }
    }

    /// An encoding: coefficients are rounded, `1/12` each.
    #[must_use]
    pub fn encoded(model: &NoiseModel, magnitude: f64, scale: Scale) -> Self {
        Self::exact(magnitude).noisier(model, 1.0 / 12.0, scale)
    }

    /// A fresh encryption under the secret key.
    #[must_use]
    pub fn symmetric(model: &NoiseModel, magnitude: f64, scale: Scale) -> Self {
        Self::encoded(model, magnitude, scale).noisier(model, model.symmetric_variance(), scale)
    }

    /// A fresh encryption under the public key.
    #[must_use]
    pub fn public(model: &NoiseModel, magnitude: f64, scale: Scale) -> Self {
        Self::encoded(model, magnitude, scale).noisier(model, model.public_variance(), scale)
    }

    /// An error of this variance per coefficient more, at this scale.
    #[must_use]
    pub fn noisier(self, model: &NoiseModel, variance: f64, scale: Scale) -> Self {
        let more = model.slot_error(variance, scale.value());
        // independent of what is there
        Self {
            deviation: self.deviation.hypot(more),
            ..self
        }
    }

    /// A sum or a difference.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            magnitude: self.magnitude + other.magnitude,
            deviation: self.deviation + other.deviation,
        }
    }

    /// A product.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let crossed = self.magnitude * other.deviation + other.magnitude * self.deviation;
        Self {
            magnitude: self.magnitude * other.magnitude,
            deviation: crossed + TAIL * self.deviation * other.deviation,
        }
    }

    /// A rescale of a ciphertext of this degree, to this scale.
    #[must_use]
    pub fn rescaled(self, model: &NoiseModel, degree: usize, scale: Scale) -> Self {
        self.noisier(model, model.rounding_variance(degree), scale)
    }

    /// A relinearisation, rotation or conjugation at this level and scale, with digits of these
    /// group sizes.
    #[must_use]
    pub fn switched(
        self,
        model: &NoiseModel,
        level: usize,
        groups: &[usize],
        scale: Scale,
    ) -> Self {
        self.noisier(model, model.key_switch_variance(level, groups), scale)
    }

    /// What the error of a slot does not exceed.
    #[must_use]
    pub fn bound(&self) -> f64 {
        TAIL * self.deviation
    }
}
