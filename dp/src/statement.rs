//! The privacy statement: what a run guarantees, and what it does not.
//!
//! [`PrivacyStatement::new`] takes the ledger for what was spent and [`RunFacts`] for what the
//! ledger cannot know. Delta is the sum of four terms, each printed: the Gaussian's, the capacity
//! truncation's `(1 + e^eps) delta_cap`, the sampler's `(1 + e^eps) * coordinates * 2^-100` where
//! the noise was drawn in constant time, and the grid's
//! `(1 + e^eps) * coordinates * 2.1 exp(-2 pi^2 t^2)` with t = 4, below 1e-130 per coordinate.
//!
//! ```
//! use sphinx_dp::statement::{BiasRule, PrivacyStatement, RunFacts};
//! use sphinx_dp::{Adjacency, Budget, Delta, DpEvent, Epsilon, Ledger};
//! use sphinx_dp::{NoiseMultiplier, SamplingRate};
//!
//! let budget = Budget { epsilon: Epsilon::new(2.0)?, delta: Delta::new(1e-5)? };
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! let mut ledger = Ledger::in_memory(Some(budget), Adjacency::AddRemove);
//! ledger.charge(0, &DpEvent::poisson_gaussian(rate, NoiseMultiplier::new(1.3)?))?;
//! let facts = RunFacts {
//!     rate: Some(rate),
//!     bias_rule: BiasRule::Private,
//!     capacity: Some(688),
//!     delta_cap: 2f64.powi(-40),
//! };
//! let statement = PrivacyStatement::new(&ledger, &facts)?;
//! assert!(statement.to_string().contains("not covered"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![doc = include_str!("../proofs/bias_gap.md")]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::accountant::NotFinite;
use crate::calibrate::Budget;
use crate::ledger::Ledger;
use crate::mechanism::GRID_TRANSFER;
use crate::noise::NoiseKind;
use crate::quantity::{Adjacency, SamplingRate, extended};

/// How biases are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BiasRule {
    /// Weights and biases are clipped and noised jointly; the bias update is sent encrypted.
    Private,
    /// The paper's rule: biases are updated from exact gradients under encryption.
    Paper,
}

impl BiasRule {
    /// What the rule means for the guarantee.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Private => "private: weights and biases are noised jointly, both are covered",
            Self::Paper => {
                "paper: biases follow exact gradients that are NOT charged; later releases depend \
                 on them, so NO epsilon is proven for this run"
            }
        }
    }
}

/// What a statement needs beside the ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunFacts {
    /// The sampling rate of the run, if batches were sampled.
    pub rate: Option<SamplingRate>,
    /// How biases were updated.
    pub bias_rule: BiasRule,
    /// The public batch capacity, if batches were cut to one.
    pub capacity: Option<u64>,
    /// The probability, over the whole run, that some batch exceeds the capacity; zero without one.
    pub delta_cap: f64,
}

/// What no epsilon of a training run covers.
pub const NOT_COVERED: [&str; 4] = [
    "hyper-parameters chosen by looking at the private records",
    "test records, and anything computed from them",
    "stopping, or choosing a model, by looking at private data",
    "training losses, accuracies or norms that are published without noise",
];

/// What a run guarantees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrivacyStatement {
    /// The bound on epsilon; infinite if there is none.
    #[serde(with = "extended")]
    pub epsilon: f64,
    /// Delta in all: the four terms below.
    pub delta: f64,
    /// The delta at which the Gaussian releases were accounted.
    pub delta_gaussian: f64,
    /// The term of the capacity truncation.
    pub delta_capacity: f64,
    /// The term of the integer grid.
    pub delta_grid: f64,
    /// The term of the sampler: its distance from the exact discrete Gaussian, for all coordinates.
    #[serde(default)]
    pub delta_sampler: f64,
    /// Whether epsilon and delta are proven for this run. False for the paper's bias rule, for
    /// seeded noise and for unprotected releases.
    pub proven: bool,
    /// The budget, if one was set.
    pub budget: Option<Budget>,
    /// Which accountant.
    pub accountant: String,
    /// Which conversion to (epsilon, delta).
    pub conversion: String,
    /// The Renyi order used.
    pub order: f64,
    /// Which neighbours.
    pub adjacency: Adjacency,
    /// The Poisson sampling rate.
    pub sampling_rate: Option<f64>,
    /// Number of charges in the ledger.
    pub charges: u64,
    /// How biases were updated.
    pub bias_rule: BiasRule,
    /// All kinds of noise that the ledger saw.
    pub noise: Vec<NoiseKind>,
    /// The public batch capacity.
    pub capacity: Option<u64>,
    /// What is not covered.
    pub not_covered: Vec<String>,
}

/// The distance, in total variation, of one coordinate of a release from a randomised rounding of
/// the accounted Gaussian: at most `2.1 exp(-2 pi^2 t^2)`.
#[must_use]
pub fn grid_distance() -> f64 {
    let t = std::f64::consts::PI * GRID_TRANSFER;
    2.1 * (-2.0 * t * t).exp()
}

impl PrivacyStatement {
    /// The statement for everything in `ledger`.
    ///
    /// # Errors
    /// [`NotFinite`] if the accountant's arithmetic overflowed.
    pub fn new(ledger: &Ledger, facts: &RunFacts) -> Result<Self, NotFinite> {
        let spent = ledger.spent()?;
        // Two mechanisms within total variation v: delta grows by (1 + e^eps) v.
        let factor = 1.0 + spent.epsilon.exp();
        let term = |distance: f64| {
            if distance > 0.0 {
                (factor * distance).min(1.0)
            } else {
                0.0
            }
        };
        let coordinates: f64 = ledger
            .entries()
            .iter()
            .filter_map(|e| e.coordinates)
            .map(|c| c as f64)
            .sum();
        let delta_capacity = term(facts.delta_cap);
        let delta_grid = term(coordinates * grid_distance());
        let distances = ledger.entries().iter().map(|entry| {
            let each = entry.noise.map_or(0.0, NoiseKind::distance);
            entry.coordinates.unwrap_or(0) as f64 * each
        });
        let delta_sampler = term(distances.sum());
        let delta_gaussian = ledger.delta();
        let mut noise: Vec<NoiseKind> = Vec::new();
        for kind in ledger.entries().iter().filter_map(|entry| entry.noise) {
            if !noise.contains(&kind) {
                noise.push(kind);
            }
        }
        let proven = spent.epsilon.is_finite()
            && facts.bias_rule == BiasRule::Private
            && noise.iter().all(|kind| kind.protects());
        let accountant = match ledger.fixed_order() {
            Some(order) => format!("Renyi filter at the fixed order {order}"),
            None => ledger.priced_by().title().to_owned(),
        };
        let accountant = match ledger.fixed_plan() {
            Some(plan) => format!("{accountant}, for the fixed plan of {} steps", plan.steps),
            None => accountant,
        };
        Ok(Self {
            epsilon: spent.epsilon,
            delta: (delta_gaussian + delta_capacity + delta_grid + delta_sampler).min(1.0),
            delta_gaussian,
            delta_capacity,
            delta_grid,
            delta_sampler,
            proven,
            budget: ledger.budget(),
            accountant,
            conversion: ledger.priced_by().conversion().to_owned(),
            order: spent.order,
            adjacency: ledger.adjacency(),
            sampling_rate: facts.rate.map(SamplingRate::get),
            charges: ledger.entries().len() as u64,
            bias_rule: facts.bias_rule,
            noise,
            capacity: facts.capacity,
            not_covered: NOT_COVERED.iter().map(|&text| text.to_owned()).collect(),
        })
    }
}

impl fmt::Display for PrivacyStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proven {
            writeln!(
                f,
                "privacy: ({:.6}, {:.3e})-differential privacy",
                self.epsilon, self.delta
            )?;
        } else if self.epsilon.is_finite() {
            writeln!(
                f,
                "privacy: NO GUARANTEE (see below); nominal epsilon {:.6} at delta {:.3e}",
                self.epsilon, self.delta
            )?;
        } else {
            writeln!(f, "privacy: NONE (unprotected releases)")?;
        }
        writeln!(
            f,
            "  delta: {:.3e} Gaussian + {:.3e} capacity + {:.3e} grid + {:.3e} sampler",
            self.delta_gaussian, self.delta_capacity, self.delta_grid, self.delta_sampler
        )?;
        writeln!(
            f,
            "  accountant: {}, order {:.4}",
            self.accountant, self.order
        )?;
        writeln!(f, "  conversion: {}", self.conversion)?;
        writeln!(f, "  neighbours: {}", self.adjacency)?;
        match self.sampling_rate {
            Some(rate) => writeln!(f, "  sampling: Poisson, each record at rate {rate}")?,
            None => writeln!(f, "  sampling: none")?,
        }
        if let Some(capacity) = self.capacity {
            writeln!(
                f,
                "  capacity: {capacity} records, larger batches are cut uniformly"
            )?;
        }
        writeln!(f, "  biases: {}", self.bias_rule.text())?;
        for kind in &self.noise {
            writeln!(f, "  noise: {kind}")?;
        }
        writeln!(f, "  charges: {}", self.charges)?;
        write!(f, "  not covered: {}", self.not_covered.join("; "))
    }
}

#[cfg(test)]
mod tests;
