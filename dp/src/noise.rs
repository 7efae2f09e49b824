//! Noise: exact discrete Gaussians on the integers, drawn before the data is touched.
//!
//! [`DiscreteGaussian`] draws integers with probability exactly proportional to `exp(-x^2 / (2
//! s^2))`, given perfect random bits: every decision compares random bits with an exact real
//! number, to as many bits as it takes. There is no floating-point output whose holes an attacker
//! could use (Mironov 2012), and nothing is rounded after the addition (Haney et al. 2022).
//! [`PreparedNoise`] holds a vector drawn ahead of time, for one use. [`IdealisedGaussian`] is the
//! floating-point stand-in, for experiments only.
//!
//! The samplers are named `_vartime`: their running time depends on what they draw (Jin et al.
//! 2022 turn that into an attack), so noise is drawn in batches before the private sum exists.
//!
//! ```
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! use sphinx_dp::DiscreteGaussian;
//!
//! let gaussian = DiscreteGaussian::new(100.0)?;
//! let mut rng = ChaCha20Rng::seed_from_u64(1);
//! let draws: Vec<i64> = (0..1000).map(|_| gaussian.sample_vartime(&mut rng)).collect();
//! let mean_square = draws.iter().map(|x| (x * x) as f64).sum::<f64>() / 1000.0;
//! assert!((mean_square.sqrt() - 100.0).abs() < 10.0);
//! # Ok::<(), sphinx_dp::RangeError>(())
//! ```
#![doc = include_str!("../proofs/discrete_gaussian.md")]

mod cks;
mod decide;
mod idealised;
mod prepared;
mod table;

pub use idealised::IdealisedGaussian;
pub use prepared::{NoiseKind, PreparedNoise};
pub use table::DiscreteGaussian;

#[cfg(test)]
mod tests;
