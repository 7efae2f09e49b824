//! Who is protected and how batches are drawn: one value that sampler, mechanism and accountant share.
//!
//! The commonest mistake in private training is to draw batches in one way and to account for another,
//! or to add noise against the sensitivity of one kind of neighbours and to promise privacy for another.
//! So a [`Scheme`] holds both the neighbours and the batches, is checked when it is made, and is where
//! all parts come from: the sensitivity of a clipped sum, the sampler, the event, the accountant. A
//! mechanism made for a scheme refuses a ledger of other neighbours.
//!
//! ```
//! use sphinx_dp::{Adjacency, ClipBound, SamplingRate, Scheme, SchemeError};
//!
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! let scheme = Scheme::poisson(Adjacency::ReplaceOne, rate).within(688, 60_000);
//! assert_eq!(scheme.sensitivity(ClipBound::new(1000)?), 2000);
//! assert_eq!(scheme.sampler().map(|sampler| sampler.capacity()), Some(688));
//! // A batch of fixed size betrays how many records there are.
//! let fixed = Scheme::without_replacement(Adjacency::AddRemove, 500, 60_000);
//! assert_eq!(fixed, Err(SchemeError::FixedSizeAddRemove));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::accountant::{Accountant, AccountantKind};
use crate::event::DpEvent;
use crate::mechanism::ClipBound;
use crate::quantity::{Adjacency, SamplingRate};
use crate::sampler::PoissonSampler;

/// Neighbours and batches do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemeError {
    /// Batches of fixed size where records are added or removed.
    #[error(
        "batches of fixed size have no neighbours with one record more: protect the replacement of a \
         record, or draw Poisson batches"
    )]
    FixedSizeAddRemove,
    /// A batch of nothing, or larger than the population.
    #[error("a batch of {batch} out of {population} records: expected between 1 and all of them")]
    BatchSize {
        /// The size of the batch.
        batch: u64,
        /// The number of records.
        population: u64,
    },
}

/// How batches are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batches {
    /// Each record joins independently.
    Poisson {
        /// With this probability.
        rate: SamplingRate,
    },
    /// The same, cut to a uniform subset beyond a capacity.
    PoissonTruncated {
        /// The probability of each record to join.
        rate: SamplingRate,
        /// The largest batch.
        capacity: u64,
        /// A public bound on the number of records.
        population: u64,
    },
    /// A uniform subset of fixed size.
    WithoutReplacement {
        /// The size.
        batch: NonZeroU64,
        /// The number of records.
        population: NonZeroU64,
    },
}

/// The neighbours that are protected, and how batches are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    adjacency: Adjacency,
    batches: Batches,
}

impl Scheme {
    /// Poisson batches of any size.
    #[must_use]
    pub const fn poisson(adjacency: Adjacency, rate: SamplingRate) -> Self {
        let batches = Batches::Poisson { rate };
        Self { adjacency, batches }
    }

    /// Every record in every batch.
    #[must_use]
    pub const fn full(adjacency: Adjacency) -> Self {
        Self::poisson(adjacency, SamplingRate::FULL)
    }

    /// Batches of `batch` out of `population` records, without replacement.
    ///
    /// # Errors
    /// [`SchemeError`] under [`Adjacency::AddRemove`], and unless `1 <= batch <= population`.
    pub fn without_replacement(
        adjacency: Adjacency,
        batch: u64,
        population: u64,
    ) -> Result<Self, SchemeError> {
        if adjacency == Adjacency::AddRemove {
            return Err(SchemeError::FixedSizeAddRemove);
        }
        let size = SchemeError::BatchSize { batch, population };
        let numbers = NonZeroU64::new(batch).zip(NonZeroU64::new(population));
        let (batch, population) = numbers.filter(|(b, p)| b <= p).ok_or(size)?;
        let batches = Batches::WithoutReplacement { batch, population };
        Ok(Self { adjacency, batches })
    }

    /// The same with Poisson batches cut to a capacity; batches of fixed size stay as they are.
    #[must_use]
    pub const fn within(mut self, capacity: u64, population: u64) -> Self {
        if let Batches::Poisson { rate } | Batches::PoissonTruncated { rate, .. } = self.batches {
            self.batches = Batches::PoissonTruncated {
                rate,
                capacity,
                population,
            };
        }
        self
    }

    /// The neighbours.
    #[must_use]
    pub const fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    /// The batches.
    #[must_use]
    pub const fn batches(&self) -> Batches {
        self.batches
    }

    /// The probability of a record to be in a batch, as accounted.
    #[must_use]
    pub const fn rate(&self) -> Option<SamplingRate> {
        match self.batches {
            Batches::Poisson { rate } | Batches::PoissonTruncated { rate, .. } => Some(rate),
            Batches::WithoutReplacement { .. } => None,
        }
    }

    /// How far, in the Euclidean norm, a sum of vectors clipped to `bound` moves between neighbours, in
    /// grid units.
    #[must_use]
    pub const fn sensitivity(&self, bound: ClipBound) -> u64 {
        match self.adjacency {
            Adjacency::AddRemove => bound.get(),
            Adjacency::ReplaceOne => bound.get().saturating_mul(2),
        }
    }

    /// Draws the batches of this scheme; none for batches of fixed size, for which there is no sampler
    /// here.
    #[must_use]
    pub const fn sampler(&self) -> Option<PoissonSampler> {
        match self.batches {
            Batches::Poisson { rate } => Some(PoissonSampler::new(rate, u64::MAX)),
            Batches::PoissonTruncated { rate, capacity, .. } => {
                Some(PoissonSampler::new(rate, capacity))
            }
            Batches::WithoutReplacement { .. } => None,
        }
    }

    /// `release` on one batch of this scheme, as an event.
    #[must_use]
    pub fn event(&self, release: DpEvent) -> DpEvent {
        match self.batches {
            Batches::Poisson { rate } => release.poisson_sampled(rate),
            Batches::PoissonTruncated {
                rate,
                capacity,
                population,
            } => release.poisson_truncated(rate, capacity, population),
            Batches::WithoutReplacement { batch, population } => {
                release.without_replacement(batch, population)
            }
        }
    }

    /// An accountant for these neighbours.
    #[must_use]
    pub fn accountant(&self, kind: AccountantKind) -> Box<dyn Accountant> {
        kind.accountant(self.adjacency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Delta, NoiseMultiplier};

    /// Cutting costs what the tail says, and every scheme is priced by the accountants that should.
    #[test]
    fn all_schemes_are_priced() {
        let rate = SamplingRate::from_mean(500.0, 60_000).unwrap();
        let z = NoiseMultiplier::new(1.0).unwrap();
        let delta = Delta::new(1e-5).unwrap();
        let cost = |scheme: Scheme, kind| {
            let mut accountant = scheme.accountant(kind);
            let event = scheme.event(DpEvent::gaussian(z));
            accountant.compose(&event, 1000).ok()?;
            accountant.epsilon_at(delta).ok()?.upper
        };
        for adjacency in [Adjacency::AddRemove, Adjacency::ReplaceOne] {
            let plain = Scheme::poisson(adjacency, rate);
            for kind in [
                AccountantKind::Rdp,
                AccountantKind::Moments,
                AccountantKind::Pld,
            ] {
                let here = cost(plain, kind).unwrap();
                let wide = cost(plain.within(688, 60_000), kind).unwrap();
                let tight = cost(plain.within(650, 60_000), kind).unwrap();
                assert!(
                    here <= wide && wide < here * (1.0 + 1e-5),
                    "{kind}: {here} {wide}"
                );
                assert!(tight > wide, "{kind}: {tight}");
                // Too small a capacity uses up delta.
                assert_eq!(cost(plain.within(560, 60_000), kind), None, "{kind}");
            }
        }
        let fixed = Scheme::without_replacement(Adjacency::ReplaceOne, 500, 60_000).unwrap();
        assert!(cost(fixed, AccountantKind::Rdp).unwrap() > 1.0);
        assert_eq!(cost(fixed, AccountantKind::Pld), None);
        assert_eq!(fixed.sampler(), None);
        let too_large = Scheme::without_replacement(Adjacency::ReplaceOne, 7, 6);
        assert!(matches!(
            too_large,
            Err(SchemeError::BatchSize { batch: 7, .. })
        ));
    }
}
