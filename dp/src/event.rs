//! What was released: privacy events as plain values.
//!
//! An event says which mechanism touched the private data, not what came out. Accountants walk
//! the tree and price it; the ledger stores it. An event carries no adjacency: the accountant is
//! told which neighbours to protect.
//!
//! The shape (a tree of Gaussian, Poisson-sampled, self-composed and composed events) is the one
//! of the differential-privacy ledger of McMahan et al. 2018, *A General Approach to Adding
//! Differential Privacy to Iterative Training Procedures*, arXiv:1812.06210.
//!
//! ```
//! use sphinx_dp::{DpEvent, NoiseMultiplier, SamplingRate};
//!
//! let step = DpEvent::poisson_gaussian(SamplingRate::new(0.01)?, NoiseMultiplier::new(1.1)?);
//! let run = step.repeated(3000);
//! assert_eq!(run.to_string(), "3000 x poisson(0.01, gaussian(1.1))");
//! # Ok::<(), sphinx_dp::RangeError>(())
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quantity::{NoiseMultiplier, SamplingRate};

/// One release, or a tree of releases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DpEvent {
    /// Nothing was released.
    NoOp,
    /// Something was released without protection: every accountant answers infinity.
    NonPrivate,
    /// A sum of clipped vectors plus Gaussian noise.
    Gaussian {
        /// Noise standard deviation divided by the clip bound.
        noise_multiplier: NoiseMultiplier,
    },
    /// An event run on a batch that each record joins independently.
    PoissonSampled {
        /// The probability with which each record joins.
        rate: SamplingRate,
        /// What was run on the batch.
        event: Box<Self>,
    },
    /// The same event several times, with fresh randomness.
    SelfComposed {
        /// The repeated event.
        event: Box<Self>,
        /// How often.
        count: u64,
    },
    /// Several events, each of which may depend on the outputs of the earlier ones.
    Composed(Vec<Self>),
}

impl DpEvent {
    /// One unsampled Gaussian release.
    #[must_use]
    pub const fn gaussian(noise_multiplier: NoiseMultiplier) -> Self {
        Self::Gaussian { noise_multiplier }
    }

    /// One step of DP-SGD: a Gaussian release of a Poisson-sampled batch.
    #[must_use]
    pub fn poisson_gaussian(rate: SamplingRate, noise_multiplier: NoiseMultiplier) -> Self {
        Self::PoissonSampled {
            rate,
            event: Box::new(Self::gaussian(noise_multiplier)),
        }
    }

    /// The same event `count` times.
    #[must_use]
    pub fn repeated(self, count: u64) -> Self {
        Self::SelfComposed {
            event: Box::new(self),
            count,
        }
    }
}

impl fmt::Display for DpEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOp => f.write_str("nothing"),
            Self::NonPrivate => f.write_str("unprotected release"),
            Self::Gaussian { noise_multiplier } => write!(f, "gaussian({noise_multiplier})"),
            Self::PoissonSampled { rate, event } => write!(f, "poisson({rate}, {event})"),
            Self::SelfComposed { event, count } => write!(f, "{count} x {event}"),
            Self::Composed(events) => {
                f.write_str("[")?;
                for (i, event) in events.iter().enumerate() {
                    write!(f, "{}{event}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip() {
        let z = NoiseMultiplier::new(1.1).unwrap();
        let rate = SamplingRate::from_mean(500.0, 60_000).unwrap();
        let event = DpEvent::Composed(vec![
            DpEvent::NoOp,
            DpEvent::NonPrivate,
            DpEvent::gaussian(z),
            DpEvent::poisson_gaussian(rate, z).repeated(7),
        ]);
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<DpEvent>(&text).unwrap(), event);
    }
}
