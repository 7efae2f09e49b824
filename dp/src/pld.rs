//! The privacy-loss accountant: compose the whole distribution of the loss, on both sides.
//!
//! The privacy loss of a step is `ln(P(x) / Q(x))` for an output `x` drawn from `P`; losses of
//! composed steps add up, and `delta(epsilon) = E[(1 - e^(epsilon - loss))+]`. The loss of one step
//! is put on a grid, composed by one Fourier transform whose values are raised to the number of
//! steps (so the cost does not depend on it), and read off. Removing and adding a record are two
//! compositions; the larger epsilon counts, taken at the end.
//!
//! **Upper bound.** The mass of every cell of the grid goes to the two ends of the cell so that
//! both the mass under `P` and the mass under `Q` are kept ("connect the dots", Doroshenko,
//! Ghazi, Kamath, Kumar, Manurangsi 2022, arXiv:2207.04380). A likelihood ratio so spread has a
//! larger expectation of every convex function, hence dominates the step, hence (Zhu, Dong, Wang
//! 2022, arXiv:2106.08567, Theorem 10) its composition dominates the composition of the steps.
//!
//! **Lower bound.** Two cells at a time are merged: a processing of the output, which can only
//! lose privacy loss. The loss of the merged cell lies near the grid point in its middle; it is
//! lowered to it after a common shift that is taken off at the end once per step, and where that
//! would not do it is lowered by a whole cell. It is valid but loose: some parts in a thousand
//! below the upper one at noise multipliers of one and above, several per cent at a half.
//!
//! **Errors that are charged.** What is cut from the range of one step counts as an infinite loss
//! (below `1e-8 delta` in all). Masses carry a relative error of 2e-12 per step. The transform is
//! done under an exponential tilt (masses times `e^(tilt loss)`, normalised) so that the
//! composition is centred at the epsilon that is looked for: its rounding errors are then small
//! against the delta that is asked for, also where that is far below 1e-16. They are bounded in the Euclidean
//! norm by `8 log2(n)` units of rounding per transform, times the number of steps; what lies
//! outside the window, and so wraps around, is bounded by Chernoff's inequality on the discretised
//! losses. Where all this exceeds one per cent of delta the answer is a [`PldError`];
//! that happens for a single step or a few at a delta below 1e-12, whose loss has two far outcomes.
//!
//! **Deviation** from Koskela, Jaelkoe, Honkela 2020 (arXiv:1906.03049) and Gopi, Lee, Wutschitz 2021
//! (arXiv:2106.02848), who bound wrap-around for the untilted loss: with the tilt the floor of
//! double precision near 1e-16 is relative to delta instead of absolute.
//!
//! Unsampled Gaussians alone are priced by [`crate::gaussian`], without a grid. Sampled steps
//! under [`Adjacency::ReplaceOne`] are refused.
//!
//! ```
//! use sphinx_dp::{Adjacency, Delta, DpEvent, NoiseMultiplier, PldAccountant, SamplingRate};
//!
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! let mut accountant = PldAccountant::new(Adjacency::AddRemove);
//! accountant.compose(&DpEvent::poisson_gaussian(rate, NoiseMultiplier::new(1.0)?), 3000)?;
//! let bracket = accountant.bracket(Delta::new(1e-5)?)?;
//! assert!(bracket.lower <= 2.605_251_1 && 2.605_251_1 <= bracket.upper);
//! assert!(bracket.upper < 2.6056 && 2.58 < bracket.lower);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod contour;
mod single;

pub use account::{Bracket, PldAccountant};
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
}

/// Double precision, or a bearable amount of work, does not suffice for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PldError {
    /// Too many nodes or frequencies.
    #[error(
        "the composed privacy loss is too rough for the privacy-loss accountant (the noise is very \
         small): use the Renyi accountant or more noise"
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
