//! Averages of the weights over steps: post-processing of what was released, so free of charge.
//!
//! Noise in the last iterate is the noise of the last steps; an average has less of it.
//!
//! - Exponential: `a <- d_t a + (1 - d_t) w` with `d_t = min(decay, (1 + t) / (10 + t))`, the
//!   warm-up of De, Berrada, Hayes, Smith, Balle, "Unlocking High-Accuracy Differentially Private
//!   Image Classification through Scale", arXiv:2204.13650 (2022), section 3.
//! - Tail: the mean of the iterates of the last share of the steps (Polyak, Juditsky 1992; the
//!   suffix average of Rakhlin, Shamir, Sridharan, ICML 2012).
//!
//! Sums are kept in `f64`. The first iterate is the one after the first step.
//!
//! ```
//! use sphinx_protocol::train::{Average, Averaging};
//!
//! let mut tail = Average::new(Averaging::Tail { share: 0.5 }, 1, 4).unwrap();
//! for (step, weight) in [1.0, 2.0, 3.0, 5.0].into_iter().enumerate() {
//!     tail.take(step as u64, &[weight]);
//! }
//! assert_eq!(tail.weights().unwrap(), [4.0]); // the mean of 3 and 5
//! assert!(Average::new(Averaging::None, 1, 4).is_none());
//! ```

use serde::{Deserialize, Serialize};

/// Which average of the weights is the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Averaging {
    /// None: the last iterate.
    #[default]
    None,
    /// An exponential moving average.
    Ema {
        /// Share of the average that is kept from step to step, in 0..1.
        decay: f64,
    },
    /// The mean over the last steps.
    Tail {
        /// Share of the steps that is averaged over, above 0, at most 1.
        share: f64,
    },
}

/// A running average.
#[derive(Clone, Debug, PartialEq)]
pub struct Average {
    kind: Averaging,
    /// Index of the first step that counts.
    first: u64,
    taken: u64,
    values: Vec<f64>,
}

impl Average {
    /// An average over a run of `steps` of `len` parameters; none for [`Averaging::None`].
    #[must_use]
    pub fn new(kind: Averaging, len: usize, steps: u64) -> Option<Self> {
        let first = match kind {
            Averaging::None => return None,
            Averaging::Ema { .. } => 0,
            Averaging::Tail { share } => {
                let counted = (share * steps as f64).ceil().max(1.0) as u64;
                steps.saturating_sub(counted)
            }
        };
        Some(Self {
            kind,
            first,
            taken: 0,
            values: vec![0.0; len],
        })
    }

    /// Takes the weights as they are after step `step` (from 0).
    ///
    /// # Panics
    /// If the number of weights is not that of [`Self::new`].
    pub fn take(&mut self, step: u64, weights: &[f32]) {
        assert_eq!(weights.len(), self.values.len(), "one average per weight");
        if step < self.first {
            return;
        }
        let t = self.taken as f64;
        self.taken += 1;
        let keep = match self.kind {
            _ if t == 0.0 => 0.0,
            Averaging::Ema { decay } => decay.min((1.0 + t) / (10.0 + t)),
            _ => t / (t + 1.0),
        };
        for (average, &w) in self.values.iter_mut().zip(weights) {
            *average += (1.0 - keep) * (f64::from(w) - *average);
        }
    }

    /// The average; none before the first counted step.
    #[must_use]
    pub fn weights(&self) -> Option<Vec<f32>> {
        let narrow = || self.values.iter().map(|&v| v as f32).collect();
        (self.taken > 0).then(narrow)
    }

    /// How many iterates are in it, and the sums: what a checkpoint keeps.
    #[must_use]
    pub fn state(&self) -> (u64, &[f64]) {
        (self.taken, &self.values)
    }

    /// Goes on from a [`state`](Self::state); `false`, and unchanged, if the length is another.
    #[must_use]
    pub fn restore(&mut self, taken: u64, values: Vec<f64>) -> bool {
        let fits = values.len() == self.values.len();
        if fits {
            (self.taken, self.values) = (taken, values);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The slow twin: all iterates with their final shares.
    fn explicit(kind: Averaging, iterates: &[f32]) -> f64 {
        let n = iterates.len();
        let mut shares = vec![0.0; n];
        match kind {
            Averaging::None => shares[n - 1] = 1.0,
            Averaging::Tail { share } => {
                let counted = ((share * n as f64).ceil().max(1.0) as usize).min(n);
                shares[n - counted..].fill(1.0 / counted as f64);
            }
            Averaging::Ema { decay } => {
                for (t, _) in iterates.iter().enumerate() {
                    let warm = (1.0 + t as f64) / (10.0 + t as f64);
                    let keep = if t == 0 { 0.0 } else { decay.min(warm) };
                    shares[..t].iter_mut().for_each(|s| *s *= keep);
                    shares[t] = 1.0 - keep;
                }
            }
        }
        let weighted = shares.iter().zip(iterates).map(|(s, &w)| s * f64::from(w));
        weighted.sum()
    }

    fn kinds() -> impl Strategy<Value = Averaging> {
        prop_oneof![
            (0.0..0.9999).prop_map(|decay| Averaging::Ema { decay }),
            (0.01..=1.0).prop_map(|share| Averaging::Tail { share }),
        ]
    }

    proptest! {
        #[test]
        fn running_averages_are_the_explicit_ones(
            kind in kinds(), iterates in proptest::collection::vec(-10.0_f32..10.0, 1..60),
        ) {
            let mut average = Average::new(kind, 1, iterates.len() as u64).unwrap();
            for (step, &w) in iterates.iter().enumerate() {
                average.take(step as u64, &[w]);
            }
            let found = f64::from(average.weights().unwrap()[0]);
            prop_assert!((found - explicit(kind, &iterates)).abs() < 1e-5);
        }

        #[test]
        fn weights_that_stay_are_their_own_average(kind in kinds(), w in -5.0_f32..5.0) {
            let mut average = Average::new(kind, 1, 30).unwrap();
            (0..30).for_each(|step| average.take(step, &[w]));
            prop_assert_eq!(average.weights().unwrap(), vec![w]);
        }
    }

    #[test]
    fn a_tail_waits_for_its_first_step() {
        let mut tail = Average::new(Averaging::Tail { share: 0.2 }, 1, 10).unwrap();
        (0..8).for_each(|step| tail.take(step, &[7.0]));
        assert_eq!(tail.weights(), None);
        tail.take(8, &[1.0]);
        assert_eq!(tail.weights(), Some(vec![1.0]));
    }
}
