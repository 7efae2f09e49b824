//! What was released: privacy events as plain values.
//!
//! An event says which mechanism touched the private data, not what came out. Accountants walk
//! the tree and price it; the ledger stores it. An event carries no adjacency: that is part of the
//! [`Scheme`](crate::Scheme) which sampler, mechanism and accountant share, and the same event costs
//! more where a record is replaced than where it is added or removed. Noise is therefore measured
//! against the clip bound, never against a sensitivity that depends on the neighbours.
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

mod path;

use std::fmt;
use std::num::NonZeroU64;

pub use path::{Branch, EventPath};
use serde::{Deserialize, Serialize};

use crate::quantity::{LaplaceScale, NoiseMultiplier, SamplingRate, StdDev};

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
    /// A sum of clipped integer vectors plus discrete Gaussian noise in every coordinate: the
    /// probability of an integer x is proportional to `exp(-x^2 / (2 std_dev^2))`.
    DiscreteGaussian {
        /// The parameter of the noise, in grid units.
        std_dev: StdDev,
        /// The clip bound in the Euclidean norm, in grid units.
        bound: NonZeroU64,
        /// How many coordinates the vectors have.
        coordinates: NonZeroU64,
    },
    /// A sum of clipped numbers (one coordinate) plus Laplace noise.
    Laplace {
        /// Scale of the noise divided by the clip bound.
        scale: LaplaceScale,
    },
    /// An event run on a batch that each record joins independently.
    PoissonSampled {
        /// The probability with which each record joins.
        rate: SamplingRate,
        /// What was run on the batch.
        event: Box<Self>,
    },
    /// The same, with batches beyond a capacity cut to a uniform subset of it.
    PoissonTruncated {
        /// The probability with which each record joins.
        rate: SamplingRate,
        /// The largest batch.
        capacity: u64,
        /// The number of records, or a public bound on it.
        population: u64,
        /// What was run on the batch.
        event: Box<Self>,
    },
    /// An event run on a uniformly drawn batch of fixed size, without replacement.
    WithoutReplacement {
        /// The size of the batch.
        batch: NonZeroU64,
        /// The number of records; a smaller one counts as a whole batch.
        population: NonZeroU64,
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

    /// One release of a number with Laplace noise.
    #[must_use]
    pub const fn laplace(scale: LaplaceScale) -> Self {
        Self::Laplace { scale }
    }

    /// One release of an integer vector with discrete Gaussian noise.
    #[must_use]
    pub const fn discrete_gaussian(
        std_dev: StdDev,
        bound: NonZeroU64,
        coordinates: NonZeroU64,
    ) -> Self {
        Self::DiscreteGaussian {
            std_dev,
            bound,
            coordinates,
        }
    }

    /// This event on a Poisson batch.
    #[must_use]
    pub fn poisson_sampled(self, rate: SamplingRate) -> Self {
        Self::PoissonSampled {
            rate,
            event: Box::new(self),
        }
    }

    /// This event on a Poisson batch that is cut to a capacity.
    #[must_use]
    pub fn poisson_truncated(self, rate: SamplingRate, capacity: u64, population: u64) -> Self {
        Self::PoissonTruncated {
            rate,
            capacity,
            population,
            event: Box::new(self),
        }
    }

    /// This event on a batch of fixed size, drawn without replacement.
    #[must_use]
    pub fn without_replacement(self, batch: NonZeroU64, population: NonZeroU64) -> Self {
        Self::WithoutReplacement {
            batch,
            population,
            event: Box::new(self),
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
            Self::DiscreteGaussian {
                std_dev,
                bound,
                coordinates,
            } => write!(f, "discrete-gaussian({std_dev} / {bound}, {coordinates})"),
            Self::Laplace { scale } => write!(f, "laplace({scale})"),
            Self::PoissonSampled { rate, event } => write!(f, "poisson({rate}, {event})"),
            Self::PoissonTruncated {
                rate,
                capacity,
                event,
                ..
            } => write!(f, "poisson({rate}, at most {capacity}, {event})"),
            Self::WithoutReplacement {
                batch,
                population,
                event,
            } => write!(f, "without-replacement({batch} of {population}, {event})"),
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
            DpEvent::laplace(LaplaceScale::new(2.0).unwrap()).poisson_truncated(rate, 600, 60_000),
            DpEvent::discrete_gaussian(
                StdDev::new(70.5).unwrap(),
                NonZeroU64::MIN,
                NonZeroU64::new(9).unwrap(),
            )
            .without_replacement(NonZeroU64::MIN, NonZeroU64::new(40).unwrap()),
        ]);
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<DpEvent>(&text).unwrap(), event);
    }
}
