//! Noise: discrete Gaussians on the integers, drawn before the data is touched.
//!
//! Three samplers of one distribution, of which a release uses the first unless told otherwise:
//!
//! | sampler | distribution | time depends on |
//! |---|---|---|
//! | [`LadderGaussian`] | within 2^-100 of exact per draw, proven | parameter and count only |
//! | [`DiscreteGaussian`] (`_vartime`) | exact, parameter a float | table index, acceptance: the draw |
//! | [`RationalGaussian`] (`_vartime`) | exact, any rational variance, integers only | the draw |
//!
//! [`DiscreteGaussian`] draws integers with probability exactly proportional to `exp(-x^2 / (2
//! s^2))`, given perfect random bits: every decision compares random bits with an exact real
//! number, to as many bits as it takes. There is no floating-point output whose holes an attacker
//! could use (Mironov 2012), and nothing is rounded after the addition (Haney et al. 2022).
//! [`PreparedNoise`] holds a vector drawn ahead of time, for one use. [`IdealisedGaussian`] is the
//! floating-point stand-in, for experiments only.
//!
//! The running time of a `_vartime` sampler depends on what it draws, and so do the table entries
//! that it touches (Jin et al. 2022 turn that into an attack): draw in batches before the private
//! sum exists, where nobody can watch. The ladder has no such dependence; [`LadderGaussian`] says
//! precisely what it does with a secret. Adding the noise to the sum saturates by a select, and
//! takes the same time for all values.
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
mod ladder;
mod prepared;
mod rational;
mod table;

pub use idealised::IdealisedGaussian;
pub use ladder::{DISTANCE, LadderGaussian};
pub use prepared::{NoiseKind, PreparedNoise};
pub use rational::RationalGaussian;
pub use table::DiscreteGaussian;

#[cfg(test)]
mod tests;
