//! An empirical lower bound on epsilon, from one run with many canaries.
//!
//! Each of m canaries is put into the data or left out by the toss of a coin. After the run an
//! auditor who sees only what the run released guesses for some of them which it was; the better the
//! guesses, the larger epsilon must be. A bound above the epsilon that is claimed proves, at the
//! stated confidence, that the claim is false; a bound below it proves nothing, as the guesses may
//! be poor.
//!
//! The audit is that of Steinke, Nasr, Jagielski 2023, *Privacy Auditing with One (1) Training Run*,
//! arXiv:2305.08846v1. **Deviation**: its bound has another term for delta, which is proven below from
//! the definition of privacy alone. Nothing here depends on what is audited: an engine implements
//! [`Subject`], or its scores go to [`Guesses::by_rank`] directly.
//!
//! What must be true: the coins are fair and independent (so [`run`] tosses them itself), the
//! scores depend on the coins only through what the run released, and how many guesses are made is
//! fixed before the scores are seen.
#![doc = include_str!("../proofs/audit.md")]
//!
//! # Example
//!
//! ```
//! use sphinx_dp::audit::Guesses;
//!
//! // 200 guesses about 1000 canaries, 190 of them right: not (2, 1e-5)-private.
//! let guesses = Guesses::new(1000, 200, 190)?;
//! let bound = guesses.epsilon_at_least(1e-5, 0.95)?;
//! assert!(bound > 2.0 && bound < 2.7);
//! # Ok::<(), sphinx_dp::audit::AuditError>(())
//! ```
//!
//! A subject: every included canary puts 1 into a coordinate of its own, and what is released is the
//! coordinate with noise. (`sphinx_tests::canary` audits training engines in the same way.)
//!
//! ```
//! use rand_chacha::ChaCha20Rng;
//! use rand_core::{CryptoRng, SeedableRng};
//! use sphinx_dp::audit::{AuditError, Setup, Subject, run};
//!
//! /// Says whether a canary is in, truly with probability 9/10: (ln 9, 0)-private.
//! struct Response<R>(R);
//!
//! impl<R: CryptoRng> Subject for Response<R> {
//!     type Error = AuditError;
//!
//!     fn scores(&mut self, included: &[bool]) -> Result<Vec<f64>, AuditError> {
//!         let lie = |rng: &mut R| rng.next_u32() % 10 == 0;
//!         Ok(included.iter().map(|&i| f64::from(i != lie(&mut self.0))).collect())
//!     }
//! }
//!
//! let mut rng = ChaCha20Rng::seed_from_u64(1);
//! let setup = Setup { canaries: 2000, k_plus: 500, k_minus: 500, delta: 0.0, confidence: 0.95 };
//! let audit = run(&mut Response(ChaCha20Rng::seed_from_u64(2)), &setup, &mut rng)?;
//! assert!(audit.refutes(1.5) && !audit.refutes(9f64.ln()));
//! # Ok::<(), sphinx_dp::audit::AuditError>(())
//! ```

use rand_core::CryptoRng;
use thiserror::Error;

use crate::quantity::{RangeError, require};
use crate::special::ln_choose;

/// An audit could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum AuditError {
    /// More was guessed than there is, or more was right than was guessed.
    #[error(
        "{correct} right among {guesses} guesses about {canaries} canaries: expected \
         right <= guesses <= canaries"
    )]
    Counts {
        /// Number of canaries.
        canaries: u64,
        /// Number of guesses.
        guesses: u64,
        /// Number of right guesses.
        correct: u64,
    },
    /// There is not one score for each canary.
    #[error("{scores} scores for {canaries} canaries: expected one for each")]
    ScoreCount {
        /// Number of scores.
        scores: usize,
        /// Number of canaries.
        canaries: usize,
    },
    /// A score cannot be ranked.
    #[error("the score of canary {canary} is not a number; give a finite one or an infinity")]
    NotANumber {
        /// Which canary.
        canary: usize,
    },
    /// A parameter was out of range.
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// What an auditor guessed about canaries, each included independently with probability one half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guesses {
    canaries: u64,
    guesses: u64,
    correct: u64,
}

impl Guesses {
    /// `correct` of `guesses` guesses about `canaries` canaries were right.
    ///
    /// # Errors
    /// [`AuditError::Counts`] unless `correct <= guesses <= canaries`.
    pub const fn new(canaries: u64, guesses: u64, correct: u64) -> Result<Self, AuditError> {
        if correct > guesses || guesses > canaries {
            return Err(AuditError::Counts {
                canaries,
                guesses,
                correct,
            });
        }
        Ok(Self {
            canaries,
            guesses,
            correct,
        })
    }

    /// Guesses that the `k_plus` canaries of the highest scores were included and the `k_minus` of
    /// the lowest were not. Ties go by number.
    ///
    /// # Errors
    /// [`AuditError`] if there is not one score for each canary, one is not a number, or there are
    /// more guesses than canaries.
    pub fn by_rank(
        scores: &[f64],
        included: &[bool],
        k_plus: usize,
        k_minus: usize,
    ) -> Result<Self, AuditError> {
        let canaries = included.len();
        if scores.len() != canaries {
            let scores = scores.len();
            return Err(AuditError::ScoreCount { scores, canaries });
        }
        if let Some(canary) = scores.iter().position(|score| score.is_nan()) {
            return Err(AuditError::NotANumber { canary });
        }
        let guesses = k_plus.saturating_add(k_minus) as u64;
        // Refused before anything is counted.
        Self::new(canaries as u64, guesses, 0)?;
        let mut order: Vec<usize> = (0..canaries).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let high = order[..k_plus].iter().filter(|&&i| included[i]).count();
        let low = order[canaries - k_minus..]
            .iter()
            .filter(|&&i| !included[i])
            .count();
        Self::new(canaries as u64, guesses, (high + low) as u64)
    }

    /// Number of canaries.
    #[must_use]
    pub const fn canaries(&self) -> u64 {
        self.canaries
    }

    /// Number of guesses.
    #[must_use]
    pub const fn guesses(&self) -> u64 {
        self.guesses
    }

    /// Number of right guesses.
    #[must_use]
    pub const fn correct(&self) -> u64 {
        self.correct
    }

    /// A bound on the probability of guessing so well if the run were (`epsilon`, `delta`)-private:
    /// `Pr[W >= v] + m delta (1 - q) C`, with `q = 1 / (1 + e^-epsilon)`, `W` a binomial of
    /// `guesses` trials at `q`, and `C` the mean over `j` from 0 to `guesses - 1` of the largest
    /// probability that `j` trials give to any count.
    ///
    /// # Errors
    /// [`AuditError::Range`] unless `epsilon` is finite and not negative and `0 <= delta <= 1`.
    pub fn p_value(&self, epsilon: f64, delta: f64) -> Result<f64, AuditError> {
        let ok = epsilon >= 0.0 && epsilon.is_finite();
        require(ok, "audited epsilon", epsilon, "finite and not negative")?;
        let ok = (0.0..=1.0).contains(&delta);
        require(ok, "audited delta", delta, "between 0 and 1")?;
        Ok(self.p_value_unchecked(epsilon, delta))
    }

    fn p_value_unchecked(&self, epsilon: f64, delta: f64) -> f64 {
        (self.tail(epsilon) + self.excess(epsilon, delta)).min(1.0)
    }

    /// `ln q` and `ln (1 - q)` for `q = 1 / (1 + e^-epsilon)`.
    fn ln_odds(epsilon: f64) -> (f64, f64) {
        let ln_q = -(-epsilon).exp().ln_1p();
        (ln_q, ln_q - epsilon)
    }

    /// Logarithms of factorials carry a relative error of some 1e-15 of their size.
    fn rounding(&self) -> f64 {
        let size = (self.guesses as f64).max(2.0);
        1.0 + 4e-15 * size * size.ln()
    }

    /// `Pr[W >= v]`, rounded up.
    fn tail(&self, epsilon: f64) -> f64 {
        let odds = Self::ln_odds(epsilon);
        // From the thin end, for the smallest rounding error.
        let counts = (self.correct..=self.guesses).rev();
        let sum: f64 = counts.map(|k| binomial(self.guesses, k, odds)).sum();
        sum * self.rounding()
    }

    /// `m delta (1 - q) C`, rounded up.
    fn excess(&self, epsilon: f64, delta: f64) -> f64 {
        if delta <= 0.0 || self.guesses == 0 {
            return 0.0;
        }
        let odds = Self::ln_odds(epsilon);
        let q = odds.0.exp();
        let likeliest = |j: u64| (((j + 1) as f64 * q) as u64).min(j);
        let each = (0..self.guesses).map(|j| binomial(j, likeliest(j), odds));
        let mean = each.sum::<f64>() / self.guesses as f64;
        self.canaries as f64 * delta * odds.1.exp() * mean * self.rounding()
    }

    /// The largest epsilon for which the guesses are too good at this confidence, and hence for all
    /// smaller ones, as these promise more; zero if the guesses show nothing.
    ///
    /// # Errors
    /// [`AuditError::Range`] unless `0 <= delta <= 1` and `0 < confidence < 1`.
    pub fn epsilon_at_least(&self, delta: f64, confidence: f64) -> Result<f64, AuditError> {
        let ok = (0.0..=1.0).contains(&delta);
        require(ok, "audited delta", delta, "between 0 and 1")?;
        let ok = confidence > 0.0 && confidence < 1.0;
        require(ok, "confidence", confidence, "strictly between 0 and 1")?;
        let level = 1.0 - confidence;
        let refuted = |epsilon: f64| self.p_value_unchecked(epsilon, delta) <= level;
        // Beyond ln(guesses) + 40 even guesses without a fault are no surprise.
        let most = (self.guesses.max(1) as f64).ln() + 40.0;
        // The tail rises with epsilon: nothing above its crossing is refuted.
        let (mut low, _) = halved(0.0, most, |epsilon| self.tail(epsilon) <= level);
        // The excess falls with epsilon: where it is too large alone, so it is below.
        let step = 1.0 / 64.0;
        while !refuted(low) {
            if low <= 0.0 || self.excess(low, delta) > level {
                return Ok(0.0);
            }
            low = (low - step).max(0.0);
        }
        Ok(halved(low, low + step, refuted).0)
    }
}

/// The probability that `n` trials have `k` successes, from the logarithms of both chances.
fn binomial(n: u64, k: u64, (ln_success, ln_failure): (f64, f64)) -> f64 {
    (ln_choose(n, k) + k as f64 * ln_success + (n - k) as f64 * ln_failure).exp()
}

/// Where `holds`, true at `low`, ceases to hold on the way to `high`: 60 halvings.
fn halved(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> (f64, f64) {
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

/// Something that can be audited: runs once with the canaries that are included, and scores all.
pub trait Subject {
    /// What may go wrong in a run, and in the audit of it.
    type Error: From<AuditError>;

    /// Runs with exactly the canaries marked as included, and returns one score for each canary,
    /// higher where what was released speaks for it.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn scores(&mut self, included: &[bool]) -> Result<Vec<f64>, Self::Error>;
}

/// How an audit is made; fixed before the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setup {
    /// Number of canaries.
    pub canaries: usize,
    /// How many of the highest scores are guessed to be included.
    pub k_plus: usize,
    /// How many of the lowest scores are guessed to be left out.
    pub k_minus: usize,
    /// The delta of the claim.
    pub delta: f64,
    /// The confidence of the bound, 0.95 for instance.
    pub confidence: f64,
}

/// The outcome of an audit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Audit {
    /// What was guessed.
    pub guesses: Guesses,
    /// The delta at which epsilon is bounded.
    pub delta: f64,
    /// The confidence of the bound.
    pub confidence: f64,
    /// Epsilon is at least this.
    pub epsilon: f64,
}

impl Audit {
    /// Whether a claimed epsilon (at the same delta) is refuted.
    #[must_use]
    pub fn refutes(&self, claimed: f64) -> bool {
        self.epsilon > claimed
    }
}

/// Tosses a coin for each canary, runs the subject once and bounds epsilon.
///
/// # Errors
/// The subject's own errors, and [`AuditError`] through them.
pub fn run<S: Subject, R: CryptoRng + ?Sized>(
    subject: &mut S,
    setup: &Setup,
    rng: &mut R,
) -> Result<Audit, S::Error> {
    let included: Vec<bool> = (0..setup.canaries)
        .map(|_| rng.next_u32() & 1 == 1)
        .collect();
    let scores = subject.scores(&included)?;
    let guesses = Guesses::by_rank(&scores, &included, setup.k_plus, setup.k_minus)?;
    let epsilon = guesses.epsilon_at_least(setup.delta, setup.confidence)?;
    Ok(Audit {
        guesses,
        delta: setup.delta,
        confidence: setup.confidence,
        epsilon,
    })
}

#[cfg(test)]
mod tests;
