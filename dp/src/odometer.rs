//! How much an adaptive run has spent so far, valid whenever it stops.
//!
//! A filter refuses the step that would exceed a budget; an odometer has no budget. It says after every
//! step what was spent, and the statement holds at all times together: also for a run that chooses its
//! noise, its rate and when to stop in view of what was released.
//!
//! The guarantee is on the privacy loss: with probability at least `1 - delta` over the run, the loss
//! `ln (Pr[outputs | D] / Pr[outputs | D'])` is at no time above [`Odometer::spent`]. It is a little
//! dearer than what an accountant says of a run that was fixed in advance, by about
//! `ln(number of orders) / (order - 1)`.
//!
//! ```
//! use sphinx_dp::{Adjacency, Delta, DpEvent, NoiseMultiplier, Odometer, SamplingRate};
//!
//! let mut odometer = Odometer::new(Adjacency::AddRemove, Delta::new(1e-5)?);
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! let mut z = 1.0;
//! while odometer.spent() < 2.0 {
//!     odometer.charge(&DpEvent::poisson_gaussian(rate, NoiseMultiplier::new(z)?), 1)?;
//!     z *= 1.001; // in view of what was released, say
//! }
//! let saved = serde_json::to_string(&odometer.save())?;
//! let restored = Odometer::restore(&serde_json::from_str(&saved)?)?;
//! assert_eq!(restored.spent(), odometer.spent());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![doc = include_str!("../proofs/odometer.md")]

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::accountant::{Reason, Unsupported};
use crate::event::DpEvent;
use crate::flat::{Flat, Piece};
use crate::quantity::{Adjacency, Delta};

/// The orders that are kept, less one: a geometric series.
const LAMBDAS: [f64; 16] = [
    0.1, 0.25, 0.5, 1.0, 1.5, 2.25, 3.5, 5.0, 7.5, 11.0, 16.0, 24.0, 36.0, 64.0, 128.0, 512.0,
];

/// The format of a saved state.
const VERSION: u32 = 1;

/// A saved odometer is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OdometerError {
    /// Another format.
    #[error(
        "the odometer was saved in format {found}, this build reads format {VERSION}: use the version that wrote it"
    )]
    Version {
        /// The format found.
        found: u32,
    },
    /// The sums are not those that were saved.
    #[error(
        "the saved odometer does not agree with its digest: it was damaged or changed; replay the events instead"
    )]
    Damaged,
    /// A sum is missing, negative or not a number.
    #[error("the saved odometer holds {found} sums, some perhaps invalid: expected {}, each at least 0", LAMBDAS.len())]
    Sums {
        /// How many sums there are.
        found: usize,
    },
    /// The odometer has not seen exactly these events.
    #[error(
        "the odometer saw {charges} charges that are not these {found} events in this order: give it those of its own ledger"
    )]
    OtherEvents {
        /// What the odometer saw.
        charges: u64,
        /// What it was compared with.
        found: u64,
    },
}

/// An odometer as it is saved; [`Odometer::restore`] checks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OdometerState {
    version: u32,
    adjacency: Adjacency,
    delta: Delta,
    charges: u64,
    /// The sums of divergences, as bits, so that nothing is lost.
    sums: Vec<u64>,
    /// A chain of digests over all events.
    events: String,
    digest: String,
}

/// What was spent so far, at every time.
#[derive(Debug, Clone, PartialEq)]
pub struct Odometer {
    adjacency: Adjacency,
    delta: Delta,
    charges: u64,
    sums: [f64; LAMBDAS.len()],
    events: [u8; 32],
}

impl Odometer {
    /// An odometer that has seen nothing; its statement fails with probability at most `delta`.
    #[must_use]
    pub const fn new(adjacency: Adjacency, delta: Delta) -> Self {
        Self {
            adjacency,
            delta,
            charges: 0,
            sums: [0.0; LAMBDAS.len()],
            events: [0; 32],
        }
    }

    /// The neighbours that are protected.
    #[must_use]
    pub const fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    /// With what probability the statement may fail.
    #[must_use]
    pub const fn delta(&self) -> Delta {
        self.delta
    }

    /// How often it was charged.
    #[must_use]
    pub const fn charges(&self) -> u64 {
        self.charges
    }

    /// Adds `count` runs of `event`, chosen in view of everything released before, and says what is spent.
    ///
    /// # Errors
    /// [`Unsupported`] names the sub-event that cannot be priced; nothing is added then. Events that are
    /// accounted up to a distance only (batches cut to a capacity, discrete Gaussians by their grid) are
    /// refused: charge what they stand for, and the distance once, to delta.
    pub fn charge(&mut self, event: &DpEvent, count: u64) -> Result<f64, Unsupported> {
        let flat = Flat::new(self.adjacency, event, count)?;
        if flat.distance > 0.0 {
            return Err(Unsupported {
                event: Box::new(event.clone()),
                path: crate::event::EventPath::default(),
                adjacency: self.adjacency,
                reason: Reason::Distance,
            });
        }
        for (sum, lambda) in self.sums.iter_mut().zip(LAMBDAS) {
            if flat.unprotected {
                *sum = f64::INFINITY;
            }
            let one = |(piece, count): &(Piece, u64)| {
                *count as f64 * piece.rdp(self.adjacency, 1.0 + lambda)
            };
            *sum += flat.pieces.iter().map(one).sum::<f64>();
        }
        self.charges += 1;
        self.events = chained(self.events, event, count);
        Ok(self.spent())
    }

    /// The largest epsilon that the loss may have at any time so far; infinite after an unprotected
    /// release.
    ///
    /// The solution of `mean over orders of e^((order - 1)(epsilon - sum of divergences)) = 1 / delta`.
    #[must_use]
    pub fn spent(&self) -> f64 {
        if self.charges == 0 || self.sums.iter().all(|sum| *sum == 0.0) {
            return 0.0;
        }
        if self.sums.iter().any(|sum| !sum.is_finite()) {
            return f64::INFINITY;
        }
        let goal = -self.delta.get().ln() + (LAMBDAS.len() as f64).ln();
        let excess = |epsilon: f64| {
            let mut sum = crate::special::LogSum::new();
            for (total, lambda) in self.sums.iter().zip(LAMBDAS) {
                sum.add(lambda * (epsilon - total));
            }
            sum.ln() - goal
        };
        // One order alone reaches the goal here.
        let each = self.sums.iter().zip(LAMBDAS);
        let mut high = each
            .map(|(total, lambda)| total + goal / lambda)
            .fold(f64::INFINITY, f64::min);
        let mut low = 0.0;
        while high - low > 1e-12 * high {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            if excess(middle) >= 0.0 {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// The state, to be written beside a checkpoint.
    #[must_use]
    pub fn save(&self) -> OdometerState {
        let mut state = OdometerState {
            version: VERSION,
            adjacency: self.adjacency,
            delta: self.delta,
            charges: self.charges,
            sums: self.sums.iter().map(|sum| sum.to_bits()).collect(),
            events: hex(&self.events),
            digest: String::new(),
        };
        state.digest = state.digest_of();
        state
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// [`OdometerError`] for a state of another format, or one that was damaged. An older state that is
    /// whole is not noticed by itself: compare with [`agrees_with`](Self::agrees_with).
    pub fn restore(state: &OdometerState) -> Result<Self, OdometerError> {
        if state.version != VERSION {
            let found = state.version;
            return Err(OdometerError::Version { found });
        }
        if state.digest != state.digest_of() {
            return Err(OdometerError::Damaged);
        }
        let sums: Vec<f64> = state
            .sums
            .iter()
            .map(|bits| f64::from_bits(*bits))
            .collect();
        let wrong = OdometerError::Sums { found: sums.len() };
        if sums.iter().any(|sum| sum.is_nan() || *sum < 0.0) {
            return Err(wrong);
        }
        Ok(Self {
            adjacency: state.adjacency,
            delta: state.delta,
            charges: state.charges,
            sums: sums.try_into().map_err(|_| wrong)?,
            events: unhex(&state.events).ok_or(OdometerError::Damaged)?,
        })
    }

    /// Checks that exactly these events were charged, each once, in this order: those of a
    /// [`Ledger`](crate::Ledger), for instance.
    ///
    /// # Errors
    /// [`OdometerError::OtherEvents`] otherwise.
    pub fn agrees_with<'a>(
        &self,
        events: impl IntoIterator<Item = &'a DpEvent>,
    ) -> Result<(), OdometerError> {
        let (mut found, mut chain) = (0, [0; 32]);
        for event in events {
            chain = chained(chain, event, 1);
            found += 1;
        }
        let charges = self.charges;
        if charges == found && chain == self.events {
            return Ok(());
        }
        Err(OdometerError::OtherEvents { charges, found })
    }
}

impl OdometerState {
    fn digest_of(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.version.to_le_bytes());
        hasher.update([u8::from(self.adjacency == Adjacency::ReplaceOne)]);
        hasher.update(self.delta.get().to_bits().to_le_bytes());
        hasher.update(self.charges.to_le_bytes());
        for sum in &self.sums {
            hasher.update(sum.to_le_bytes());
        }
        hasher.update(self.events.as_bytes());
        hex(&hasher.finalize())
    }
}

fn chained(before: [u8; 32], event: &DpEvent, count: u64) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update(count.to_le_bytes());
    hasher.update(serde_json::to_vec(event).unwrap_or_default());
    hasher.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
