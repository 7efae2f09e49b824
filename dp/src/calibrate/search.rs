//! The search that works with every accountant.

use super::{Budget, CalibrateError, SLACK, TOLERANCE};
use crate::accountant::{AccountError, AccountantKind, Unsupported};
use crate::event::DpEvent;
use crate::quantity::{Adjacency, Delta, NoiseMultiplier, SamplingRate};
use crate::special::search;

/// A budget, and the accountant that is to confirm that it is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibrator {
    /// Who prices the run.
    pub accountant: AccountantKind,
    /// What may be spent on the Gaussian releases.
    pub budget: Budget,
    /// The neighbours that are protected.
    pub adjacency: Adjacency,
}

/// The noise multipliers that are tried.
const NOISE: (f64, f64) = (1e-3, 1e8);

/// The largest number of steps that is tried.
const MOST_STEPS: u64 = 1 << 40;

/// The smallest sampling rate that is tried.
const LEAST_RATE: f64 = 1e-12;

/// How close the ends of the bracket come, in the logarithm: with the slack within the tolerance.
const CLOSED: f64 = 0.8 * (TOLERANCE - SLACK);

impl Calibrator {
    /// The smallest noise multiplier, up to a relative [`TOLERANCE`] on the safe side, with which
    /// `steps` steps at `rate` stay within the budget.
    ///
    /// About eight questions to the accountant.
    ///
    /// # Errors
    /// [`CalibrateError`] for no steps, for a budget out of reach and for steps that the accountant
    /// does not price.
    pub fn noise_multiplier(
        &self,
        rate: SamplingRate,
        steps: u64,
    ) -> Result<NoiseMultiplier, CalibrateError> {
        if steps == 0 {
            return Err(CalibrateError::NoSteps);
        }
        let out_of_reach = CalibrateError::OutOfReach {
            largest: NOISE.1,
            steps,
            rate: rate.get(),
            epsilon: self.budget.epsilon.get(),
            delta: self.budget.delta.get(),
        };
        let excess = |ln_z: f64| self.excess(rate, ln_z.exp(), steps);
        let ends = (NOISE.0.ln(), NOISE.1.ln());
        // The central limit is a few per cent off for long runs.
        let guess = self.limit_noise(rate, steps).ln().clamp(ends.0, ends.1);
        let Some((_, found)) = search(excess, guess, 0.04, ends, CLOSED)? else {
            return Err(out_of_reach);
        };
        let mut answer = found.exp();
        for _ in 0..8 {
            answer *= 1.0 + SLACK;
            if self.excess(rate, answer, steps)? <= 0.0 {
                return Ok(NoiseMultiplier::new(answer)?);
            }
        }
        Err(out_of_reach)
    }

    /// The largest number of steps, at most 2^40, that stay within the budget.
    ///
    /// # Errors
    /// [`CalibrateError`] if not even one does, and for steps that the accountant does not price.
    pub fn steps(&self, rate: SamplingRate, z: NoiseMultiplier) -> Result<u64, CalibrateError> {
        let fits = |steps| Ok::<_, Unsupported>(self.excess(rate, z.get(), steps)? <= 0.0);
        if !fits(1)? {
            return Err(self.too_little("step", z));
        }
        let (mut low, mut high) = (1u64, 2u64);
        while high < MOST_STEPS && fits(high)? {
            (low, high) = (high, high * 4);
        }
        if high >= MOST_STEPS && fits(MOST_STEPS)? {
            return Ok(MOST_STEPS);
        }
        // Epsilon is nearly linear in the square root of the steps, or in the steps themselves.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The largest sampling rate, up to a relative [`TOLERANCE`] on the safe side, at which `steps`
    /// steps stay within the budget.
    ///
    /// # Errors
    /// [`CalibrateError`] for no steps, if not even a rate of 1e-12 does, and for steps that the
    /// accountant does not price.
    pub fn rate(&self, z: NoiseMultiplier, steps: u64) -> Result<SamplingRate, CalibrateError> {
        if steps == 0 {
            return Err(CalibrateError::NoSteps);
        }
        if self.excess(SamplingRate::FULL, z.get(), steps)? <= 0.0 {
            return Ok(SamplingRate::FULL);
        }
        // Upside down, so that larger means safer.
        let excess = |ln: f64| {
            let rate = SamplingRate::new((-ln).exp().clamp(LEAST_RATE, 1.0));
            rate.map_or(Ok(f64::INFINITY), |rate| self.excess(rate, z.get(), steps))
        };
        let ends = (0.0, -LEAST_RATE.ln());
        // The Renyi accountant prices every rate, and its answer is near all others.
        let guess = match self.accountant {
            AccountantKind::Rdp => 0.5 * ends.1,
            _ => {
                let accountant = AccountantKind::Rdp;
                -Self {
                    accountant,
                    ..*self
                }
                .rate(z, steps)?
                .get()
                .ln()
            }
        };
        let found = search(excess, guess, 0.04, ends, CLOSED)?;
        let (_, ln) = found.ok_or_else(|| self.too_little("sampling", z))?;
        Ok(SamplingRate::new((-ln).exp().clamp(LEAST_RATE, 1.0))?)
    }

    fn too_little(&self, what: &'static str, z: NoiseMultiplier) -> CalibrateError {
        CalibrateError::TooLittleNoise {
            what,
            noise_multiplier: z.get(),
            epsilon: self.budget.epsilon.get(),
            delta: self.budget.delta.get(),
        }
    }

    /// The logarithm of epsilon over the target: at most zero where the run fits, infinite where
    /// the accountant finds no epsilon.
    fn excess(&self, rate: SamplingRate, z: f64, steps: u64) -> Result<f64, Unsupported> {
        let Ok(z) = NoiseMultiplier::new(z) else {
            return Ok(f64::INFINITY);
        };
        let mut accountant = self.accountant.accountant(self.adjacency);
        accountant.compose(&DpEvent::poisson_gaussian(rate, z), steps)?;
        let answer = match accountant.epsilon_at(self.budget.delta) {
            Ok(answer) => answer.upper.or(answer.estimate),
            Err(AccountError::Unsupported(refused)) => return Err(refused),
            Err(_) => None,
        };
        let epsilon = answer.unwrap_or(f64::INFINITY);
        // A small epsilon is cut off at zero, or falls very fast.
        Ok((epsilon / self.budget.epsilon.get()).ln().max(-20.0))
    }

    /// The noise multiplier by the central limit, for a start.
    fn limit_noise(&self, rate: SamplingRate, steps: u64) -> f64 {
        let Budget { epsilon, delta } = self.budget;
        let mu = limit_distance(epsilon.get(), delta);
        let one = mu / (rate.get() * (steps as f64).sqrt());
        (one * one).ln_1p().sqrt().recip()
    }
}

/// The distance at which one Gaussian release costs `epsilon` at `delta`, roughly.
fn limit_distance(epsilon: f64, delta: Delta) -> f64 {
    let target = delta.get().ln();
    let (mut low, mut high) = (1e-9f64.ln(), 1e6f64.ln());
    while high - low > 1e-4 {
        let middle = 0.5 * (low + high);
        if crate::gaussian::ln_delta(middle.exp(), epsilon) <= target {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.exp()
}
