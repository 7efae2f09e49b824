//! What it cost: the interface every accountant meets.
//!
//! An accountant is told which events happened, in which number, and answers with an epsilon for
//! a delta. It refuses, by name, any event it cannot price; it never guesses.
//!
//! What must be true of every implementation, kept by the law tests of [`crate::rdp`]: epsilon
//! falls when delta or the noise multiplier grows, rises with sampling rate and count, does not
//! depend on the order of composition, is zero for nothing and infinite for an unprotected
//! release, and a refused event leaves the accountant as it was.
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

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::DpEvent;
use crate::quantity::{Adjacency, Delta, extended};

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
#[error("cannot account `{event}` under adjacency `{adjacency}`: {reason}")]
pub struct Unsupported {
    /// The sub-event at fault.
    pub event: Box<DpEvent>,
    /// The neighbours that were to be protected.
    pub adjacency: Adjacency,
    /// Why, and what to do instead.
    pub reason: Reason,
}

/// Why an event is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// Sampling inside sampling.
    #[error("a sampled batch may only hold Gaussian releases; multiply nested rates yourself")]
    NestedSampling,
    /// More than 2^64 repetitions.
    #[error("the number of repetitions does not fit in 64 bits")]
    TooMany,
    /// The Gaussians of one batch add up to less noise than can be accounted.
    #[error("the joint noise multiplier of the releases of one batch is below 1e-6")]
    TooLittleNoise,
    /// Sampling under replace-one, by an accountant that cannot price it.
    #[error("sampled releases under this adjacency are priced by the Renyi accountant only")]
    SampledReplaceOne,
}

/// The arithmetic of an accountant left the range of floats.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error(
    "the accountant found no finite epsilon at delta {delta} and order {order}; \
     the composed events are too many or their noise is too small"
)]
pub struct NotFinite {
    /// The delta that was asked for.
    pub delta: f64,
    /// The order at which the arithmetic failed.
    pub order: f64,
}

/// Prices a sequence of events.
pub trait Accountant {
    /// The neighbours that are protected.
    fn adjacency(&self) -> Adjacency;

    /// Adds `count` runs of `event`.
    ///
    /// # Errors
    /// [`Unsupported`] names the sub-event that cannot be priced; nothing is added then.
    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported>;

    /// An upper bound on epsilon at `delta` for all that was composed.
    ///
    /// # Errors
    /// [`NotFinite`] if the arithmetic overflows.
    fn epsilon(&self, delta: Delta) -> Result<Spent, NotFinite>;

    /// The accountant's name, as printed in statements.
    fn name(&self) -> &'static str;

    /// The conversion to (epsilon, delta), with its source, as printed in statements.
    fn conversion(&self) -> &'static str;
}
