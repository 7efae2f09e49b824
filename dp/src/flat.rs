//! A tree of events as a list of counted releases that an accountant prices one by one.
//!
//! Inside the crate only. The walk knows what holds for every accountant: Gaussians on one batch add
//! their precisions; a discrete Gaussian of at least 64 grid units is a rounded continuous one; a
//! batch that is cut to a capacity is a Poisson batch up to a small distance. What remains is a
//! [`Piece`]; an accountant that cannot price one refuses with the path to it.

use std::num::NonZeroU64;

use crate::accountant::{Reason, Unsupported};
use crate::capacity::ln_tail;
use crate::event::{Branch, DpEvent, EventPath};
use crate::mechanism::{GRID_TRANSFER, MIN_STD_DEV};
use crate::quantity::Adjacency;

/// One Gaussian release at some rate (one for unsampled).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) rate: f64,
    pub(crate) noise_multiplier: f64,
}

/// One kind of release; a rate of one is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Piece {
    /// Gaussian noise, Poisson sampling.
    Gaussian(Step),
    /// Laplace noise on one number, Poisson sampling; the scale is divided by the clip bound.
    Laplace { rate: f64, scale: f64 },
    /// Discrete Gaussian noise of less than 64 grid units, Poisson sampling.
    Discrete {
        rate: f64,
        std_dev: f64,
        bound: f64,
        /// Whether there is a single coordinate.
        single: bool,
    },
    /// Gaussian noise on a batch of fixed size; the rate is the part of the records in it.
    Fixed(Step),
}

impl Piece {
    pub(crate) const fn rate(self) -> f64 {
        match self {
            Self::Gaussian(step) | Self::Fixed(step) => step.rate,
            Self::Laplace { rate, .. } | Self::Discrete { rate, .. } => rate,
        }
    }
}

/// The distance per coordinate of a discrete Gaussian from a rounded continuous one: half of
/// `4.1 exp(-2 pi^2 t^2)`.
fn grid_distance() -> f64 {
    let t = GRID_TRANSFER;
    2.1 * (-2.0 * std::f64::consts::PI.powi(2) * t * t).exp()
}

/// What a walk over a tree of events has found.
pub(crate) struct Flat {
    adjacency: Adjacency,
    pub(crate) pieces: Vec<(Piece, u64)>,
    /// Where each piece stands.
    places: Vec<(EventPath, DpEvent)>,
    pub(crate) unprotected: bool,
    /// How far the run is, in total variation, from the one that the pieces describe.
    pub(crate) distance: f64,
    path: EventPath,
}

impl Flat {
    /// The counted pieces of `count` runs of `event`.
    pub(crate) fn new(
        adjacency: Adjacency,
        event: &DpEvent,
        count: u64,
    ) -> Result<Self, Unsupported> {
        let mut flat = Self::empty(adjacency);
        flat.walk(event, count)?;
        Ok(flat)
    }

    /// As [`new`](Self::new), refused where `reason` has one against a piece.
    pub(crate) fn checked(
        adjacency: Adjacency,
        event: &DpEvent,
        count: u64,
        reason: impl Fn(Piece) -> Option<Reason>,
    ) -> Result<Self, Unsupported> {
        let flat = Self::new(adjacency, event, count)?;
        for ((piece, _), (path, event)) in flat.pieces.iter().zip(&flat.places) {
            if let Some(reason) = reason(*piece) {
                return Err(Unsupported {
                    event: Box::new(event.clone()),
                    path: path.clone(),
                    adjacency,
                    reason,
                });
            }
        }
        Ok(flat)
    }

    fn empty(adjacency: Adjacency) -> Self {
        Self {
            adjacency,
            pieces: Vec::new(),
            places: Vec::new(),
            unprotected: false,
            distance: 0.0,
            path: EventPath::default(),
        }
    }

    fn refuse<T>(&self, event: &DpEvent, reason: Reason) -> Result<T, Unsupported> {
        Err(Unsupported {
            event: Box::new(event.clone()),
            path: self.path.clone(),
            adjacency: self.adjacency,
            reason,
        })
    }

    fn push(&mut self, event: &DpEvent, piece: Piece, count: u64) {
        self.pieces.push((piece, count));
        self.places.push((self.path.clone(), event.clone()));
    }

    fn within<T>(&mut self, branch: Branch, f: impl FnOnce(&mut Self) -> T) -> T {
        let mut path = std::mem::take(&mut self.path);
        let result = path.within(branch, |path| {
            self.path = std::mem::take(path);
            let result = f(self);
            *path = std::mem::take(&mut self.path);
            result
        });
        self.path = path;
        result
    }

    fn walk(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        if count == 0 {
            return Ok(());
        }
        match event {
            DpEvent::NoOp => {}
            DpEvent::NonPrivate => self.unprotected = true,
            DpEvent::Gaussian { .. }
            | DpEvent::Laplace { .. }
            | DpEvent::DiscreteGaussian { .. } => self.release(event, 1.0, count),
            DpEvent::SelfComposed {
                event: inner,
                count: times,
            } => {
                let Some(total) = count.checked_mul(*times) else {
                    return self.refuse(event, Reason::TooMany);
                };
                self.within(Branch::Repeated, |flat| flat.walk(inner, total))?;
            }
            DpEvent::Composed(events) => {
                for (i, inner) in events.iter().enumerate() {
                    self.within(Branch::Part(i), |flat| flat.walk(inner, count))?;
                }
            }
            DpEvent::PoissonSampled { rate, event: inner } => {
                self.sampled(event, rate.get(), inner, count)?;
            }
            DpEvent::PoissonTruncated {
                rate,
                capacity,
                population,
                event: inner,
            } => {
                if capacity < population {
                    let tail = ln_tail(*population, rate.get(), capacity.saturating_sub(1)).exp();
                    self.distance += count as f64 * tail * (1.0 + 1e-12);
                }
                self.sampled(event, rate.get(), inner, count)?;
            }
            DpEvent::WithoutReplacement {
                batch,
                population,
                event: inner,
            } => self.fixed(event, (*batch, *population), inner, count)?,
        }
        Ok(())
    }

    /// A single release on a batch at `rate`.
    fn release(&mut self, event: &DpEvent, rate: f64, count: u64) {
        let piece = match event {
            DpEvent::Gaussian { noise_multiplier } => Piece::Gaussian(Step {
                rate,
                noise_multiplier: noise_multiplier.get(),
            }),
            DpEvent::Laplace { scale } => Piece::Laplace {
                rate,
                scale: scale.get(),
            },
            DpEvent::DiscreteGaussian {
                std_dev,
                bound,
                coordinates,
            } => {
                let (s, bound) = (std_dev.get(), bound.get() as f64);
                let t = GRID_TRANSFER;
                let transferred = ((s - t) * (s + t)).sqrt() / bound * (1.0 - 1e-15);
                if s >= MIN_STD_DEV && transferred >= 1e-6 {
                    self.distance += count as f64 * coordinates.get() as f64 * grid_distance();
                    Piece::Gaussian(Step {
                        rate,
                        noise_multiplier: transferred,
                    })
                } else {
                    Piece::Discrete {
                        rate,
                        std_dev: s,
                        bound,
                        single: *coordinates == NonZeroU64::MIN,
                    }
                }
            }
            _ => return,
        };
        self.push(event, piece, count);
    }

    /// What is run on one batch: a single release, or Gaussians, which add up to one.
    fn batch(&self, whole: &DpEvent, inner: &DpEvent) -> Result<Self, Unsupported> {
        let mut batch = Self::empty(self.adjacency);
        batch.path = self.path.clone();
        batch.within(Branch::Batch, |batch| batch.walk(inner, 1))?;
        for ((piece, _), (path, event)) in batch.pieces.iter().zip(&batch.places) {
            let sampled = matches!(piece, Piece::Fixed(_)) || piece.rate() < 1.0;
            let alone = batch.pieces.len() == 1 && batch.pieces[0].1 == 1;
            let reason = if sampled {
                Reason::NestedSampling
            } else if !alone && !matches!(piece, Piece::Gaussian(_)) {
                Reason::JointBatch
            } else {
                continue;
            };
            let (path, event) = match reason {
                Reason::NestedSampling => (self.path.clone(), whole.clone()),
                _ => (path.clone(), event.clone()),
            };
            let adjacency = self.adjacency;
            return Err(Unsupported {
                event: Box::new(event),
                path,
                adjacency,
                reason,
            });
        }
        Ok(batch)
    }

    /// The Gaussians of one batch as one: the precisions add up, rounded so that there is less noise.
    fn joined(&self, whole: &DpEvent, batch: &Self) -> Result<Option<f64>, Unsupported> {
        let gaussians = batch
            .pieces
            .iter()
            .filter_map(|(piece, times)| match piece {
                Piece::Gaussian(step) => Some((step.noise_multiplier, *times)),
                _ => None,
            });
        let mut precision = 0.0;
        let mut number = 0;
        let mut only = 0.0;
        for (z, times) in gaussians {
            precision += times as f64 / (z * z);
            number += times;
            only = z;
        }
        let z = match number {
            0 => return Ok(None),
            1 => only,
            _ => f64::sqrt(precision).recip() * (1.0 - 1e-14),
        };
        if z < 1e-6 {
            return self.refuse(whole, Reason::TooLittleNoise);
        }
        Ok(Some(z))
    }

    fn sampled(
        &mut self,
        whole: &DpEvent,
        rate: f64,
        inner: &DpEvent,
        count: u64,
    ) -> Result<(), Unsupported> {
        let batch = self.batch(whole, inner)?;
        self.unprotected |= batch.unprotected;
        self.distance += count as f64 * batch.distance;
        if let Some(noise_multiplier) = self.joined(whole, &batch)? {
            let step = Step {
                rate,
                noise_multiplier,
            };
            self.push(whole, Piece::Gaussian(step), count);
        }
        for (piece, _) in batch.pieces {
            match piece {
                Piece::Laplace { scale, .. } => {
                    self.push(whole, Piece::Laplace { rate, scale }, count);
                }
                Piece::Discrete {
                    std_dev,
                    bound,
                    single,
                    ..
                } => {
                    if !single && rate < 1.0 {
                        return self.refuse(whole, Reason::CoarseGrid);
                    }
                    let piece = Piece::Discrete {
                        rate,
                        std_dev,
                        bound,
                        single,
                    };
                    self.push(whole, piece, count);
                }
                Piece::Gaussian(_) | Piece::Fixed(_) => {}
            }
        }
        Ok(())
    }

    fn fixed(
        &mut self,
        whole: &DpEvent,
        (batch, population): (NonZeroU64, NonZeroU64),
        inner: &DpEvent,
        count: u64,
    ) -> Result<(), Unsupported> {
        if self.adjacency == Adjacency::AddRemove {
            return self.refuse(whole, Reason::FixedSizeAddRemove);
        }
        if batch >= population {
            return self.sampled(whole, 1.0, inner, count);
        }
        let found = self.batch(whole, inner)?;
        if found
            .pieces
            .iter()
            .any(|(p, _)| !matches!(p, Piece::Gaussian(_)))
        {
            return self.refuse(whole, Reason::FixedSizeNoise);
        }
        self.unprotected |= found.unprotected;
        self.distance += count as f64 * found.distance;
        if let Some(noise_multiplier) = self.joined(whole, &found)? {
            let rate = (batch.get() as f64 / population.get() as f64)
                .next_up()
                .min(1.0);
            let step = Step {
                rate,
                noise_multiplier,
            };
            self.push(whole, Piece::Fixed(step), count);
        }
        Ok(())
    }
}
