//! Clip, then release: the only way from private sums to public values.
//!
//! The types force the order. [`Clipped::check`] verifies every row's norm in integers;
//! [`GaussianMechanism::release`] takes the clipped sum and noise drawn ahead of it, charges the
//! ledger durably, and only then returns [`Noised`], which nothing else can make. What crosses the
//! wire in plain is a `Noised`.
//!
//! All values are integers on one public grid. The noise is the discrete Gaussian of standard
//! deviation s grid units (by default to within 2^-100 per draw, see [`NoiseSampler`]); what is accounted is the continuous Gaussian of variance `s^2 - t^2`
//! with t = 4, of which the release is a randomised rounding up to `exp(-2 pi^2 t^2)` per
//! coordinate (proof in [`crate::noise`]). Both terms are added to delta by
//! [`crate::statement`].
//!
//! ```
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! use sphinx_dp::{
//!     Adjacency, ClipBound, Clipped, GaussianMechanism, Ledger, NoiseMultiplier, SamplingRate,
//! };
//!
//! let bound = ClipBound::new(1000)?;
//! let z = NoiseMultiplier::new(1.0)?;
//! let mechanism = GaussianMechanism::new(bound, Some(z), SamplingRate::new(0.01)?)?;
//! let mut rng = ChaCha20Rng::seed_from_u64(1);
//! let noise = mechanism.prepare(2, &mut rng);
//! // Two rows, (600, 800) and (-100, 0), both within the bound.
//! let sum = Clipped::check(vec![500, 800], &[1_000_000, 10_000], bound)?;
//! let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
//! let noised = mechanism.release(0, sum, noise, &mut ledger)?;
//! assert_eq!(noised.values().len(), 2);
//! assert_eq!(ledger.entries().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clipped;
mod gaussian;

pub use clipped::{ClipBound, ClipError, Clipped};
pub use gaussian::{GRID_TRANSFER, GaussianMechanism, MIN_STD_DEV, MechanismError};
pub use gaussian::{NoEntropy, NoiseSampler, Noised, ReleaseError};

#[cfg(test)]
mod tests;
