//! From a budget to a noise multiplier, a number of steps or a sampling rate.
//!
//! A [`Calibrator`] answers the question a run starts with: how much noise do `steps` steps at
//! this sampling rate need so that the whole run stays within (epsilon, delta)? And its siblings:
//! how many steps, or how large a rate, does given noise allow? It asks any accountant. The answer
//! is on the safe side: the accountant confirms it. (With [`AccountantKind::Gdp`] nothing is safe:
//! that accountant has no bound, and its answer is an estimate.) [`noise_multiplier`] is the short
//! form for the Renyi accountant.
//!
//! ```
//! use sphinx_dp::{AccountantKind, Adjacency, Budget, Calibrator, Delta, Epsilon, SamplingRate};
//!
//! let calibrator = Calibrator {
//!     accountant: AccountantKind::Pld,
//!     budget: Budget { epsilon: Epsilon::new(2.0)?, delta: Delta::new(1e-5)? },
//!     adjacency: Adjacency::AddRemove,
//! };
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! let z = calibrator.noise_multiplier(rate, 3000)?;
//! // The true value is 1.157539; the Renyi accountant asks for 1.2241.
//! assert!((1.157_53..1.1577).contains(&z.get()));
//! let steps = calibrator.steps(rate, z)?;
//! assert!((3000..3010).contains(&steps));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! use sphinx_dp::{Adjacency, Budget, Delta, Epsilon, SamplingRate, calibrate};
//!
//! let budget = Budget { epsilon: Epsilon::new(2.0)?, delta: Delta::new(1e-5)? };
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! let z = calibrate::noise_multiplier(budget, rate, 3000, Adjacency::AddRemove)?;
//! assert!((z.get() - 1.2241).abs() < 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod search;

pub use search::Calibrator;

use crate::accountant::{AccountantKind, Unsupported};
use crate::quantity::{Adjacency, Delta, Epsilon, NoiseMultiplier, RangeError, SamplingRate};

/// What may be spent in all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The largest epsilon.
    pub epsilon: Epsilon,
    /// The delta at which it is measured.
    pub delta: Delta,
}

/// No noise multiplier could be found.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The run has no steps, so no noise is called for.
    #[error("calibrating 0 steps: any noise multiplier would do; ask for at least 1 step")]
    NoSteps,
    /// Even the largest accounted noise spends too much.
    #[error(
        "no noise multiplier up to {largest} keeps {steps} steps at rate {rate} within \
         epsilon {epsilon} at delta {delta}: raise epsilon or delta, or take fewer steps"
    )]
    OutOfReach {
        /// The largest noise multiplier that was tried.
        largest: f64,
        /// Number of steps.
        steps: u64,
        /// Sampling rate.
        rate: f64,
        /// Target epsilon.
        epsilon: f64,
        /// Target delta.
        delta: f64,
    },
    /// Even one step, or the smallest rate, spends too much with this noise.
    #[error(
        "noise multiplier {noise_multiplier} allows no {what} at all within epsilon {epsilon} at \
         delta {delta}: raise the noise, epsilon or delta"
    )]
    TooLittleNoise {
        /// What was to be found.
        what: &'static str,
        /// The noise multiplier.
        noise_multiplier: f64,
        /// Target epsilon.
        epsilon: f64,
        /// Target delta.
        delta: f64,
    },
    /// The accountant does not price such a step.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A parameter was out of range.
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// How close the answer is to the smallest sufficient one, relatively.
pub const TOLERANCE: f64 = 1e-6;

/// The noise is raised by this much over the found root, within [`TOLERANCE`], so that the small
/// loss of the grid transfer (below this for standard deviations from 4096 grid units) still fits.
const SLACK: f64 = 5e-7;

/// The smallest noise multiplier, up to a relative [`TOLERANCE`] on the safe side, with which
/// `steps` steps of the Poisson-sampled Gaussian stay within `budget`, by the Renyi accountant: the
/// short form of [`Calibrator::noise_multiplier`].
///
/// The delta of the budget is spent on the Gaussian alone; deduct capacity and grid terms first
/// where they matter ([`crate::statement`] adds them).
///
/// # Errors
/// [`CalibrateError`] for no steps, or for a budget out of reach.
pub fn noise_multiplier(
    budget: Budget,
    rate: SamplingRate,
    steps: u64,
    adjacency: Adjacency,
) -> Result<NoiseMultiplier, CalibrateError> {
    let accountant = AccountantKind::Rdp;
    let calibrator = Calibrator {
        accountant,
        budget,
        adjacency,
    };
    calibrator.noise_multiplier(rate, steps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accountant::Accountant;
    use crate::event::DpEvent;
    use crate::rdp::RdpAccountant;

    fn budget(epsilon: f64, delta: f64) -> Budget {
        Budget {
            epsilon: Epsilon::new(epsilon).unwrap(),
            delta: Delta::new(delta).unwrap(),
        }
    }

    fn spent_at(z: f64, rate: SamplingRate, steps: u64, adjacency: Adjacency, delta: f64) -> f64 {
        let mut accountant = RdpAccountant::new(adjacency);
        let z = NoiseMultiplier::new(z).unwrap();
        accountant
            .compose(&DpEvent::poisson_gaussian(rate, z), steps)
            .unwrap();
        accountant
            .epsilon(Delta::new(delta).unwrap())
            .unwrap()
            .epsilon
    }

    #[test]
    fn spot_values() {
        // 500 of 60000, 3000 steps, delta 1e-5: a public RDP accountant with a list of orders
        // answers 3.60506 for epsilon 0.5 and 1.22410 for epsilon 2; the true roots are 3.31537 and
        // 1.15754.
        let rate = SamplingRate::from_mean(500.0, 60_000).unwrap();
        for (epsilon, listed, truth) in [(0.5, 3.605_065, 3.315_37), (2.0, 1.224_096, 1.157_53)] {
            let z = noise_multiplier(budget(epsilon, 1e-5), rate, 3000, Adjacency::AddRemove);
            let z = z.unwrap().get();
            assert!(z > truth && z < listed && z > listed * (1.0 - 2e-3), "{z}");
        }
    }

    #[test]
    fn impossible_requests_are_named() {
        let rate = SamplingRate::FULL;
        let add = Adjacency::AddRemove;
        let none = noise_multiplier(budget(1.0, 1e-5), rate, 0, add);
        assert_eq!(none, Err(CalibrateError::NoSteps));
        // The conversion at order 2001 alone costs more than this.
        let error = noise_multiplier(budget(1e-4, 1e-9), rate, 1, add).unwrap_err();
        assert!(
            matches!(error, CalibrateError::OutOfReach { steps: 1, .. }),
            "{error}"
        );
        // A budget that hardly needs noise.
        assert!(
            noise_multiplier(budget(1e9, 1e-5), rate, 1, add)
                .unwrap()
                .get()
                < 1.001e-3
        );
    }

    proptest! {
        #![proptest_config(crate::laws(24))]

        #[test]
        fn safe_and_tight(
            epsilon in 0.2f64..12.0,
            q in 1e-3f64..0.5,
            steps in 1u64..5000,
            replace: bool,
        ) {
            let adjacency = if replace { Adjacency::ReplaceOne } else { Adjacency::AddRemove };
            let rate = SamplingRate::new(q).unwrap();
            let z = noise_multiplier(budget(epsilon, 1e-5), rate, steps, adjacency).unwrap().get();
            prop_assert!(spent_at(z, rate, steps, adjacency, 1e-5) <= epsilon);
            let less = z * (1.0 - TOLERANCE);
            prop_assert!(spent_at(less, rate, steps, adjacency, 1e-5) > epsilon * (1.0 - 1e-9));
            // No higher than the smallest that fits by much, whatever the search did.
            prop_assert!(spent_at(0.999 * z, rate, steps, adjacency, 1e-5) > epsilon);
        }
    }
}
