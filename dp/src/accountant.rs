//! What it cost: the interface every accountant meets.
//!
//! An accountant is told which events happened, in which number, and answers with an epsilon for
//! a delta, or a delta for an epsilon. It refuses, by name, any event it cannot price; it never
//! guesses. An [`Answer`] keeps apart what is a bound and what is only an estimate.
//!
//! What must be true of every implementation, kept by one suite of law tests over all of them:
//! epsilon falls when delta or the noise multiplier grows, rises with sampling rate and count, does
//! not depend on the order of composition, is zero for nothing and infinite for an unprotected
//! release, and a refused event leaves the accountant as it was.
//!
//! [`AccountantKind`] picks one by name; [`price`] asks one about a run of identical steps:
//!
//! ```
//! use sphinx_dp::{AccountantKind, Adjacency, Delta, NoiseMultiplier, SamplingRate, accountant};
//!
//! let (rate, z) = (SamplingRate::from_mean(500.0, 60_000)?, NoiseMultiplier::new(1.0)?);
//! let (add, delta) = (Adjacency::AddRemove, Delta::new(1e-5)?);
//! let epsilon = |kind| accountant::price(kind, add, rate, z, 3000, delta);
//! let loss = epsilon(AccountantKind::Pld)?.upper;
//! let renyi = epsilon(AccountantKind::Rdp)?.upper;
//! let moments = epsilon(AccountantKind::Moments)?.upper;
//! assert!(loss < renyi && renyi < moments);
//! // The central limit promises less than the truth, and no bound.
//! assert_eq!(epsilon(AccountantKind::Gdp)?.upper, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! And step by step:
//!
//! ```
//! use sphinx_dp::{Accountant, Adjacency, Delta, DpEvent, NoiseMultiplier, RdpAccountant};
//!
//! let mut accountant = RdpAccountant::new(Adjacency::AddRemove);
//! accountant.compose(&DpEvent::gaussian(NoiseMultiplier::new(1.0)?), 1)?;
//! let spent = accountant.epsilon(Delta::new(1e-5)?)?;
//! assert!((4.7..4.8).contains(&spent.epsilon));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod kind;

use std::fmt::Debug;

pub use kind::{AccountantKind, UnknownAccountant};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{DpEvent, EventPath};
use crate::pld::PldError;
use crate::quantity::{Adjacency, Delta, NoiseMultiplier, SamplingRate, extended};

/// An epsilon at some delta, or a delta at some epsilon, as far as the accountant knows it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answer {
    /// No smaller value holds for the worst pair of neighbouring outputs.
    pub lower: Option<f64>,
    /// The accountant's best guess; not a bound.
    pub estimate: Option<f64>,
    /// The bound to be relied on; infinite after an unprotected release.
    pub upper: Option<f64>,
    /// The Renyi order that gave the upper bound.
    pub order: Option<f64>,
    /// Whether that order is at the edge of the searched range, so that a tighter bound may lie
    /// beyond it.
    pub at_edge: bool,
}

impl Answer {
    /// A value that is known exactly, from every side.
    #[must_use]
    pub const fn exact(value: f64) -> Self {
        Self {
            lower: Some(value),
            estimate: Some(value),
            upper: Some(value),
            order: None,
            at_edge: false,
        }
    }
}

/// No answer, and why.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The event cannot be priced by this accountant.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The arithmetic of the accountant left the range of floats.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// The privacy loss could not be composed precisely enough.
    #[error(transparent)]
    Loss(#[from] PldError),
    /// Cut batches or a coarse grid use up delta.
    #[error(transparent)]
    TooFar(#[from] TooFar),
    /// A bound was asked of an accountant that has none.
    #[error(
        "the accountant {0} gives an estimate, which may lie below the truth, and no bound; use rdp, moments or pld"
    )]
    NoBound(AccountantKind),
}

/// What has been spent so far, at some delta.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// An upper bound on epsilon; infinite after an unprotected release.
    #[serde(with = "extended")]
    pub epsilon: f64,
    /// The Renyi order that gave it.
    pub order: f64,
    /// Whether that order is at the edge of the searched range, so that a tighter bound may lie
    /// beyond it.
    pub at_edge: bool,
}

/// An event that this accountant cannot price.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("cannot account `{event}` (at {path}) under adjacency `{adjacency}`: {reason}")]
pub struct Unsupported {
    /// The sub-event at fault.
    pub event: Box<DpEvent>,
    /// Where it stands in the event that was to be composed.
    pub path: EventPath,
    /// The neighbours that were to be protected.
    pub adjacency: Adjacency,
    /// Why, and what to do instead.
    pub reason: Reason,
}

/// Why an event is not supported, and what to do instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// Sampling inside sampling.
    #[error("a sampled batch may only hold unsampled releases; multiply nested rates yourself")]
    NestedSampling,
    /// More than 2^64 repetitions.
    #[error("the number of repetitions does not fit in 64 bits; account fewer")]
    TooMany,
    /// The Gaussians of one batch add up to less noise than can be accounted.
    #[error(
        "the joint noise multiplier of the releases of one batch is below 1e-6; use more noise"
    )]
    TooLittleNoise,
    /// Several releases on one batch that do not add up to one Gaussian.
    #[error(
        "several releases on one batch are priced together only if all are Gaussian; draw a batch \
         for each"
    )]
    JointBatch,
    /// A discrete Gaussian whose grid is too coarse to count as a rounded continuous one.
    #[error(
        "noise below 64 grid units on several coordinates is priced only without sampling, and only \
         by the accountants rdp and moments; use a finer grid"
    )]
    CoarseGrid,
    /// Batches of fixed size where records are added or removed.
    #[error(
        "a batch of fixed size has no counterpart with one record more; protect the replacement of \
         a record, or draw Poisson batches"
    )]
    FixedSizeAddRemove,
    /// Batches of fixed size with noise other than Gaussian.
    #[error("batches of fixed size are priced for Gaussian noise only; draw Poisson batches")]
    FixedSizeNoise,
    /// Batches of fixed size, by an accountant that cannot price them.
    #[error(
        "no pair of distributions is known to dominate batches of fixed size under composition; \
         the accountants rdp and moments price them"
    )]
    FixedSizeLoss,
    /// The odometer has no delta left for a distance.
    #[error(
        "cut batches and rounded grids are accounted up to a distance, which an odometer cannot charge \
         to its delta; charge the Poisson batch or the Gaussian that it stands for, and add the distance"
    )]
    Distance,
    /// The central limit is known for Gaussians that are sampled under add-or-remove only.
    #[error("the central limit is not worked out for this; the accountants rdp and pld price it")]
    NoLimit,
}

/// The arithmetic of an accountant left the range of floats.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error(
    "the accountant found no finite epsilon at delta {delta} and order {order}; \
     the composed events are too many or their noise is too small: use more noise or fewer steps"
)]
pub struct NotFinite {
    /// The delta that was asked for.
    pub delta: f64,
    /// The order at which the arithmetic failed.
    pub order: f64,
}

/// The run is too far from the one that is accounted.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error(
    "cut batches and the grid are at a distance of {distance} from what is accounted, too much \
     against delta {delta}: use a larger capacity, a finer grid or a larger delta"
)]
pub struct TooFar {
    /// The total variation distance of the whole run.
    pub distance: f64,
    /// The delta that was asked for.
    pub delta: f64,
}

/// Asks for an answer at the delta that is left once `(1 + e^epsilon) distance` is deducted, with an
/// epsilon that the answer confirms (the proof is with [`crate::capacity`]).
pub(crate) fn at_distance<T, E: From<TooFar>>(
    delta: Delta,
    distance: f64,
    mut ask: impl FnMut(Delta) -> Result<T, E>,
    upper: impl Fn(&T) -> f64,
) -> Result<T, E> {
    if distance <= 0.0 {
        return ask(delta);
    }
    let delta = delta.get();
    let too_far = TooFar { distance, delta };
    let mut assumed = 0.0f64;
    for _ in 0..60 {
        let rest = (1.0 + assumed.exp()).mul_add(-distance, delta);
        let rest = Delta::new(rest * (1.0 - 1e-15)).map_err(|_| too_far)?;
        let answer = ask(rest)?;
        let found = upper(&answer);
        if found <= assumed || found.is_infinite() {
            return Ok(answer);
        }
        assumed = found.mul_add(1.0 + 1e-9, 1e-9);
    }
    Err(too_far.into())
}

/// Prices a sequence of events.
pub trait Accountant: Debug {
    /// Which accountant this is.
    fn kind(&self) -> AccountantKind;

    /// The neighbours that are protected.
    fn adjacency(&self) -> Adjacency;

    /// Adds `count` runs of `event`.
    ///
    /// # Errors
    /// [`Unsupported`] names the sub-event that cannot be priced; nothing is added then.
    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported>;

    /// Epsilon at `delta` for all that was composed.
    ///
    /// # Errors
    /// [`AccountError`] if the arithmetic cannot deliver.
    fn epsilon_at(&self, delta: Delta) -> Result<Answer, AccountError>;

    /// Delta at `epsilon` (not below zero) for all that was composed.
    ///
    /// # Errors
    /// [`AccountError`] if the arithmetic cannot deliver.
    fn delta_at(&self, epsilon: f64) -> Result<Answer, AccountError>;

    /// An upper bound on epsilon at `delta` for all that was composed.
    ///
    /// # Errors
    /// [`AccountError`], also for an accountant that has no bound.
    fn epsilon(&self, delta: Delta) -> Result<Spent, AccountError> {
        let answer = self.epsilon_at(delta)?;
        Ok(Spent {
            epsilon: answer.upper.ok_or(AccountError::NoBound(self.kind()))?,
            order: answer.order.unwrap_or(f64::MAX),
            at_edge: answer.at_edge,
        })
    }

    /// The accountant's name, as printed in statements.
    fn name(&self) -> &'static str {
        self.kind().title()
    }

    /// The conversion to (epsilon, delta), with its source, as printed in statements.
    fn conversion(&self) -> &'static str {
        self.kind().conversion()
    }
}

/// Epsilon at `delta` of `steps` steps of the Poisson-sampled Gaussian.
///
/// # Errors
/// [`AccountError`] where the accountant cannot price it.
pub fn price(
    kind: AccountantKind,
    adjacency: Adjacency,
    rate: SamplingRate,
    noise_multiplier: NoiseMultiplier,
    steps: u64,
    delta: Delta,
) -> Result<Answer, AccountError> {
    let mut accountant = kind.accountant(adjacency);
    accountant.compose(&DpEvent::poisson_gaussian(rate, noise_multiplier), steps)?;
    accountant.epsilon_at(delta)
}

#[cfg(test)]
mod tests;
