//! A plan that was fixed before the run: so many steps, each of this kind, priced as a whole.
//!
//! The privacy-loss accountant prices a schedule that is known in advance; it has no filter for runs
//! that choose their noise as they go. A ledger with a [`FixedPlan`] charges the steps of the plan
//! and refuses everything else: one step more, a larger rate, less noise. What is spent after some
//! of the steps is never more than after all of them.
#![doc = include_str!("../../proofs/fixed_plan.md")]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::accountant::{AccountError, AccountantKind, Spent};
use crate::event::DpEvent;
use crate::quantity::{Adjacency, Delta, NoiseMultiplier, SamplingRate};

/// A run that was fixed in advance: `steps` Poisson-sampled Gaussian releases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FixedPlan {
    /// Who prices it; must have a bound.
    pub accountant: AccountantKind,
    /// The largest sampling rate.
    pub rate: SamplingRate,
    /// The smallest accounted noise multiplier.
    pub noise_multiplier: NoiseMultiplier,
    /// The largest number of steps.
    pub steps: u64,
}

impl FixedPlan {
    /// One step of the plan.
    #[must_use]
    pub fn step(&self) -> DpEvent {
        DpEvent::poisson_gaussian(self.rate, self.noise_multiplier)
    }

    /// Whether `event` is a step of the plan, or one that costs less.
    #[must_use]
    pub fn covers(&self, event: &DpEvent) -> bool {
        let DpEvent::PoissonSampled { rate, event } = event else {
            return matches!(event, DpEvent::NoOp);
        };
        let DpEvent::Gaussian { noise_multiplier } = **event else {
            return false;
        };
        *rate <= self.rate && noise_multiplier >= self.noise_multiplier
    }

    /// What the first `count` steps cost.
    ///
    /// # Errors
    /// [`AccountError`] if the accountant has no answer or no bound.
    pub fn spent(
        &self,
        adjacency: Adjacency,
        count: u64,
        delta: Delta,
    ) -> Result<Spent, AccountError> {
        let mut accountant = self.accountant.accountant(adjacency);
        accountant.compose(&self.step(), count)?;
        accountant.epsilon(delta)
    }
}

impl fmt::Display for FixedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} by {}", self.steps, self.step(), self.accountant)
    }
}
