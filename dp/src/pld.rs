//! The privacy-loss accountant: compose the whole distribution of the loss, on both sides.
//!
//! The privacy loss of a step is `ln(P(x) / Q(x))` for an output `x` drawn from `P`; losses of
//! composed steps add up, and `delta(epsilon) = E[(1 - e^(epsilon - loss))+]`. The characteristic
//! function of the composed loss is the product of those of the steps, so its logarithm is the
//! number of steps times that of one, and delta is one integral over it, along a line in the complex
//! plane that passes through the saddle point. Nothing depends on the number of steps, and tails far
//! below 1e-16 keep their digits because the line carries their weight. Removing and adding a
//! record are two such integrals; the larger epsilon counts, taken at the end.
//!
//! The answer is a bracket: every error (nodes, frequencies left out, periodic images, smoothing,
//! rounding) is bounded and charged to the lower and the upper end, typically some 1e-6 of epsilon
//! in all. Where losses are rare and large no line is good; the profile is then taken apart by the number of large
//! losses, each part with its own line. A last method works on a grid of losses. Should none be sharp, the
//! bracket is wider and says so; its upper end is then never above the Renyi accountant's.
//!
//! **Deviation** from Koskela, Jaelkoe, Honkela 2020 (arXiv:1906.03049), Gopi, Lee, Wutschitz 2021
//! (arXiv:2106.02848) and Doroshenko et al. 2022 (arXiv:2207.04380): the loss is not put on a grid, so
//! there is no drift that grows with the number of steps, and under a hundred evaluations replace
//! a transform of many thousands of points. Zhu, Dong, Wang 2022 (arXiv:2106.08567) account by the
//! characteristic function too, with quadrature along the imaginary axis; the line through the saddle
//! point is that of Alghamdi et al. 2023 (arXiv:2208.09595), who approximate where this bounds.
//!
//! Unsampled Gaussians alone are priced by [`crate::gaussian`], one sampled step by its closed form.
//! The grid also takes the pairs of a replaced record ([`Adjacency::ReplaceOne`]), Laplace noise on one number
//! and discrete Gaussians of few grid units on one integer. Batches of fixed size and coarse discrete noise on
//! vectors are refused by name.
//!
//! ```
//! use sphinx_dp::{Adjacency, Delta, DpEvent, NoiseMultiplier, PldAccountant, SamplingRate};
//!
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! let mut accountant = PldAccountant::new(Adjacency::AddRemove);
//! accountant.compose(&DpEvent::poisson_gaussian(rate, NoiseMultiplier::new(1.0)?), 3000)?;
//! let bracket = accountant.bracket(Delta::new(1e-5)?)?;
//! assert!(bracket.lower <= 2.605_251_1 && 2.605_251_1 <= bracket.upper);
//! assert!(bracket.upper - bracket.lower < 2e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![doc = include_str!("../proofs/pld.md")]

mod account;
mod bracket;
mod contour;
mod grid;
mod largest;
mod outcomes;
mod single;
mod target;
mod two;

pub use account::PldAccountant;
pub use bracket::Bracket;
use thiserror::Error;

#[cfg(doc)]
use crate::quantity::Adjacency;

/// Which neighbour is the real data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The record is in the data set: mixture against base.
    Remove,
    /// The record is not: base against mixture.
    Add,
    /// One record or another is in it: a mixture to each side, the same both ways.
    Replace,
}

/// Double precision, or a bearable amount of work, does not suffice for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PldError {
    /// Too many nodes, frequencies or points.
    #[error(
        "the composed privacy loss is too wide against its detail for the privacy-loss accountant \
         (too many steps for it, or very little noise): use the Renyi accountant"
    )]
    TooWide,
    /// Errors that are too large against delta.
    #[error(
        "rounding errors are too large against delta: use the Renyi accountant, a larger delta or \
         fewer steps"
    )]
    Precision,
}

#[cfg(test)]
mod tests;
