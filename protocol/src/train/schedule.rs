//! Learning rates that change with the step: warm-up, then constant, linear, cosine or in steps.
//!
//! A schedule is public and fixed before the run, a function of the step's number alone, so it
//! changes nothing about the accounting.
//!
//! ```
//! use sphinx_protocol::train::{Schedule, Shape};
//!
//! let schedule = Schedule { base: 2.0, warm_up: 2, shape: Shape::Linear { to: 0.0 } };
//! let rates: Vec<f64> = (0..5).map(|step| schedule.rate(step, 5)).collect();
//! assert_eq!(rates, [1.0, 2.0, 2.0, 1.0, 0.0]);
//! ```

use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "shape", deny_unknown_fields)]
pub enum Shape {
    /// It stays.
    #[default]
    Constant,
    /// It falls along a line, to the share `to` of the base rate in the last step.
    Linear {
        /// Share of the base rate that is left at the end.
        to: f64,
    },
    /// It falls along half a cosine, to the share `to` in the last step (Loshchilov, Hutter,
    /// "SGDR", ICLR 2017, equation 5, without restarts).
    Cosine {
        /// Share of the base rate that is left at the end.
        to: f64,
    },
    /// It is multiplied by `factor` every `every` steps.
    Step {
        /// Steps between two changes.
        every: u64,
        /// What it is multiplied by.
        factor: f64,
    },
}

/// A learning rate for every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The rate after the warm-up.
    pub base: f64,
    /// Steps of linear warm-up: the first of them has rate `base / warm_up`.
    pub warm_up: u64,
    /// What comes after.
    pub shape: Shape,
}

impl Schedule {
    /// The same rate in every step.
    #[must_use]
    pub const fn constant(base: f64) -> Self {
        Self {
            base,
            warm_up: 0,
            shape: Shape::Constant,
        }
    }

    /// Whether the rate is the same in every step.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.warm_up == 0 && self.shape == Shape::Constant
    }

    /// The rate of step `step` (from 0) of a run of `steps`.
    ///
    /// Total: a step beyond the run has the rate of the last one.
    #[must_use]
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        let last = steps.saturating_sub(1);
        let step = step.min(last);
        if step < self.warm_up {
            return self.base * (step + 1) as f64 / self.warm_up as f64;
        }
        let gone = step - self.warm_up;
        // How far from the end of the warm-up (0) to the last step (1).
        let way = match last.saturating_sub(self.warm_up) {
            0 => 1.0,
            length => gone as f64 / length as f64,
        };
        self.base
            * match self.shape {
                Shape::Constant => 1.0,
                Shape::Linear { to } => 1.0 - way * (1.0 - to),
                Shape::Cosine { to } => {
                    to + (1.0 - to) * 0.5 * (1.0 + (std::f64::consts::PI * way).cos())
                }
                Shape::Step { every, factor } => {
                    let times = gone / every.max(1);
                    factor.powi(times.min(i32::MAX as u64) as i32)
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn falling() -> impl Strategy<Value = Shape> {
        prop_oneof![
            (0.0..1.0).prop_map(|to| Shape::Linear { to }),
            (0.0..1.0).prop_map(|to| Shape::Cosine { to }),
            (1_u64..50, 0.1..1.0).prop_map(|(every, factor)| Shape::Step { every, factor }),
            Just(Shape::Constant),
        ]
    }

    proptest! {
        /// Up during the warm-up, never up after it, never above the base, at the base right
        /// after the warm-up, and at `to` in the last step.
        #[test]
        fn rates_rise_then_fall(
            shape in falling(), base in 0.01_f64..10.0, warm_up in 0_u64..20, after in 2_u64..200,
        ) {
            let schedule = Schedule { base, warm_up, shape };
            let steps = warm_up + after;
            let rates: Vec<f64> = (0..steps).map(|t| schedule.rate(t, steps)).collect();
            let (rise, fall) = rates.split_at(warm_up as usize);
            prop_assert!(rise.windows(2).all(|w| w[0] < w[1]));
            prop_assert!(fall.windows(2).all(|w| w[0] >= w[1]));
            prop_assert!(rates.iter().all(|r| (0.0..=base * (1.0 + 1e-12)).contains(r)));
            prop_assert_eq!(fall[0], base);
            if let Shape::Linear { to } | Shape::Cosine { to } = shape {
                prop_assert!((fall[fall.len() - 1] - base * to).abs() < 1e-9 * base);
            }
        }
    }

    #[test]
    fn steps_fall_by_their_factor() {
        let shape = Shape::Step {
            every: 2,
            factor: 0.5,
        };
        let schedule = Schedule {
            base: 8.0,
            warm_up: 1,
            shape,
        };
        let rates: Vec<f64> = (0..6).map(|t| schedule.rate(t, 6)).collect();
        assert_eq!(rates, [8.0, 8.0, 8.0, 4.0, 4.0, 2.0]);
    }

    #[test]
    fn the_cosine_is_half_way_down_in_the_middle() {
        let schedule = Schedule {
            base: 1.0,
            warm_up: 0,
            shape: Shape::Cosine { to: 0.2 },
        };
        assert!((schedule.rate(50, 101) - 0.6).abs() < 1e-12);
    }
}
