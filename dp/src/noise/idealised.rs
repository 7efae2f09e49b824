//! Floating-point Gaussian noise, for experiments in the clear only.

use std::f64::consts::TAU;

use rand_core::CryptoRng;

use crate::quantity::{RangeError, require};

/// A Gaussian in floating point (Box-Muller). **No privacy proof covers it**: its outputs have
/// holes that reveal the data (Mironov 2012, *On Significance of the Least Significant Bits for
/// Differential Privacy*). Record its use with every result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdealisedGaussian {
    std_dev: f64,
}

impl IdealisedGaussian {
    /// A Gaussian of this standard deviation; zero gives zeros.
    ///
    /// # Errors
    /// [`RangeError`] unless it is finite and not negative.
    pub fn new(std_dev: f64) -> Result<Self, RangeError> {
        let ok = std_dev >= 0.0 && std_dev.is_finite();
        require(
            ok,
            "idealised Gaussian std_dev",
            std_dev,
            "finite and not negative",
        )?;
        Ok(Self { std_dev })
    }

    /// The standard deviation.
    #[must_use]
    pub const fn std_dev(&self) -> f64 {
        self.std_dev
    }

    /// One draw.
    pub fn sample<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> f64 {
        // 53 random bits each; the first is kept above zero.
        let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) * 2f64.powi(-53);
        let radius = (-2.0 * unit(rng.next_u64()).ln()).sqrt();
        self.std_dev * radius * (TAU * unit(rng.next_u64())).cos()
    }

    /// Adds one draw to each value.
    pub fn add_to<R: CryptoRng + ?Sized>(&self, values: &mut [f64], rng: &mut R) {
        for value in values {
            *value += self.sample(rng);
        }
    }
}
