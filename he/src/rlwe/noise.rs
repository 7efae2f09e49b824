//! How large errors are: one formula per operation.
//!
//! All errors here are polynomials whose coefficients have mean zero and are (nearly) uncorrelated;
//! a formula gives the variance of one coefficient. `sigma` is the standard deviation of a fresh
//! error, `s` the secret, `||.||` the Euclidean norm of the coefficients. Products of independent
//! polynomials multiply variances and the degree: each coefficient is a signed sum of `N` products.
//!
//! Sources: Cheon, Kim, Kim and Song, ePrint 2016/421, lemma 1 (encryption), lemma 2 (rescaling)
//! and lemma 3 (products), which bound the same quantities in the canonical norm; the error of a
//! key switch with digits as in Gentry, Halevi and Smart, ePrint 2012/099, section 3.1. The tests
//! compare every formula with measured errors.
//!
//! ```
//! use sphinx_he::ckks::sets;
//! use sphinx_he::rlwe::{NoiseModel, Parameters};
//! let parameters = Parameters::new(&sets::A1.literal())?;
//! let model = NoiseModel::new(&parameters);
//! // digits not above P: a key switch costs little more than the rounding of its division
//! assert!(model.key_switch_variance(1, &[1, 1]) < 40.0 * model.rounding_variance(1));
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

use super::{Parameters, SecretNorms};
use crate::zq::Modulus;

/// Variances of the errors of one parameter set.
#[derive(Debug, Clone)]
pub struct NoiseModel {
    parameters: Parameters,
    norms: SecretNorms,
}

impl NoiseModel {
    /// For the expected norms of a secret.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        Self::with_norms(parameters, SecretNorms::expected(parameters.degree()))
    }

    /// For these norms: those of a key, or the largest that a key may have.
    #[must_use]
    pub fn with_norms(parameters: &Parameters, norms: SecretNorms) -> Self {
        Self {
            parameters: parameters.clone(),
            norms,
        }
    }

    fn sigma_squared(&self) -> f64 {
        self.parameters.error_std_dev().powi(2)
    }

    /// Symmetric encryption: `sigma^2`.
    #[must_use]
    pub fn symmetric_variance(&self) -> f64 {
        self.sigma_squared()
    }

    /// Public-key encryption, `(e u + e0 + e1 s) / P` and a rounding of `c0` and `c1`:
    /// `sigma^2 (2N/3 + 1 + ||s||^2) / P^2 + (1 + ||s||^2) / 12`. Without special primes `P = 1`
    /// and there is no rounding.
    #[must_use]
    pub fn public_variance(&self) -> f64 {
        let n = self.parameters.degree() as f64;
        let exact = self.sigma_squared() * (2.0 * n / 3.0 + 1.0 + self.norms.s_squared);
        if self.parameters.special_moduli().is_empty() {
            return exact;
        }
        exact * (-2.0 * self.parameters.log2_p()).exp2() + self.rounding_variance(1)
    }

    /// Rounding each part of a ciphertext of this degree in the secret to integers, as every
    /// division does: `(1 + ||s||^2 [+ ||s^2||^2]) / 12`.
    #[must_use]
    pub fn rounding_variance(&self, degree: usize) -> f64 {
        let powers = [1.0, self.norms.s_squared, self.norms.s2_squared];
        powers[..=degree.min(2)].iter().sum::<f64>() / 12.0
    }

    /// A key switch at `level` with digits of these group sizes:
    /// `N sigma^2 / 12 sum_d (Q_d / P)^2` and the rounding of the division by `P`.
    #[must_use]
    pub fn key_switch_variance(&self, level: usize, groups: &[usize]) -> f64 {
        self.digit_variance(level, groups) + self.rounding_variance(1)
    }

    /// The part of [`Self::key_switch_variance`] that digits bring.
    #[must_use]
    pub fn digit_variance(&self, level: usize, groups: &[usize]) -> f64 {
        let (n, log2_p) = (self.parameters.degree() as f64, self.parameters.log2_p());
        let mut moduli = self.parameters.moduli()[..=level].iter();
        let ratio = |&size: &usize| {
            let bits: f64 = moduli.by_ref().take(size).map(Modulus::log2).sum();
            if bits > 0.0 {
                (2.0 * (bits - log2_p)).exp2()
            } else {
                0.0
            }
        };
        let ratios: f64 = groups.iter().map(ratio).sum();
        n * self.sigma_squared() * ratios / 12.0
    }

    /// Standard deviation in a slot of a polynomial error with this variance per coefficient: its
    /// value at a root of unity, `sqrt(N variance)`, over the scale.
    #[must_use]
    pub fn slot_error(&self, variance: f64, scale: f64) -> f64 {
        (self.parameters.degree() as f64 * variance).sqrt() / scale
    }
}
