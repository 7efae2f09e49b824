//! The one private training loop: sample, compute, clip, charge, release, learn.
//!
//! Every engine is trained by [`Trainer::step`]; engines differ only in who multiplies. Per step:
//!
//! 1. The noise is there, or is drawn, before any data is touched: while an engine waits for its server
//!    to learn, the noise of the next step is drawn ([`Report::offline_seconds`]). Noise that is not
//!    used is wiped: it is in no checkpoint.
//! 2. A Poisson batch is drawn and padded to the public capacity.
//! 3. The engine computes the passes and gives the clipped sum with every row's integer norm.
//! 4. The sum becomes a `Clipped` (norms checked), then a `Noised`: the ledger is charged first.
//! 5. The engine learns from the `Noised`, and from nothing else.
//!
//! The loop stops when the filter refuses the next step. Losses and counts in a [`Report`] are
//! private to the client.
//!
//! An engine may ask for several augmented [`Views`] of each record in its place; it averages their
//! gradients and clips the mean, so the record's influence, and the price, stay what they were.
//!
//! [`Float`] is the float engine with momentum, schedules and averages; [`Checkpoint`] says how an
//! interrupted run goes on.

use std::time::Instant;

use rayon::prelude::*;
use sphinx_dp::ledger::{Ledger, MarkError};
use sphinx_dp::mechanism::{ClipBound, Clipped, GaussianMechanism, Noised};
use sphinx_dp::sampler::PoissonSampler;
use sphinx_nn::augment::{AugmentSettings, Augmentation};
use sphinx_nn::clear::{Clear, ClearError};
use sphinx_nn::data::Dataset;
use sphinx_nn::engine::{GradientSum, Infer, Train};
use sphinx_nn::network::Network;
use sphinx_nn::tensor::Tensor;

use crate::error::Error;

mod average;
mod checkpoint;
mod float;
mod schedule;
mod state;
mod streams;

pub use average::{Average, Averaging};
pub use checkpoint::{Checkpoint, Position, replace};
pub use float::{Float, UpdateRule};
pub use schedule::{Schedule, Shape};
pub use state::{Kept, KeptError, State, keep_replica, restore_replica};
use streams::Ahead;
pub use streams::{StreamPosition, Streams};

/// An engine that learns only from noised sums.
pub trait Learn: Train {
    /// The L2 bound of one row's gradient, in units of the engine's gradient grid.
    ///
    /// # Errors
    /// If the engine has no usable bound.
    fn clip_bound(&self) -> Result<ClipBound, Error>;

    /// Applies one noised sum.
    ///
    /// # Errors
    /// Whatever keeps the update from being applied on both sides.
    fn learn(&mut self, noised: &Noised) -> Result<(), Self::Error>;

    /// How many rows the engine wants at once; `None` for the whole batch. The clipped sums of the
    /// parts are added up.
    fn rows_at_once(&self) -> Option<usize> {
        None
    }

    /// Whether [`Self::learn`] waits for another machine, so that the next noise is drawn meanwhile.
    fn learns_elsewhere(&self) -> bool {
        false
    }

    /// The views of every record that the engine wants in its place, one after the other. It takes
    /// their mean gradient as the record's, and clips that.
    fn views(&self) -> Option<Views> {
        None
    }
}

/// Which views of a record an engine learns from, [`sphinx_nn::augment`].
///
/// A view depends on the record, on these settings and on the step: the same in a resumed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views {
    /// How many, and how far they are shifted.
    pub settings: AugmentSettings,
    /// Seed of the shifts. Public: it says nothing about the data, and no privacy rests on it.
    pub seed: u64,
}

impl Learn for Clear {
    fn clip_bound(&self) -> Result<ClipBound, Error> {
        // Without clipping, a bound that no sane gradient reaches: such a run has no epsilon.
        Ok(ClipBound::new(
            self.clip_bound_on_grid().unwrap_or(1 << 40),
        )?)
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), ClearError> {
        self.apply(noised.values(), self.shift())
    }
}

/// What one step did, as only the client may know it.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Index of the step.
    pub step: u64,
    /// Rows drawn (padding excluded). Private.
    pub rows: usize,
    /// Mean loss of the drawn rows. Private.
    pub loss: f64,
    /// Rows predicted correctly before the update. Private.
    pub correct: usize,
    /// Wall seconds of the whole step.
    pub seconds: f64,
    /// Wall seconds of drawing noise if none was there, clipping check, charging and noising.
    pub release_seconds: f64,
    /// Wall seconds of drawing the noise of the next step while the engine waited.
    pub offline_seconds: f64,
    /// Epsilon spent with this step included; infinite without protection.
    pub epsilon: f64,
}

/// How a step ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The model has learnt.
    Done(Report),
    /// The filter refused: the budget would be exceeded. Nothing was sampled or released.
    BudgetSpent,
}

/// What the passes over a batch, or a part of it, gave. Private.
struct Computed {
    sum: GradientSum,
    /// Sum of the losses.
    loss: f64,
    correct: usize,
}

impl Computed {
    fn plus(mut self, part: Self) -> Self {
        for (sum, value) in self.sum.values.iter_mut().zip(&part.sum.values) {
            *sum = sum.saturating_add(*value);
        }
        self.sum.norms_squared.extend(part.sum.norms_squared);
        self.loss += part.loss;
        self.correct += part.correct;
        self
    }
}

/// A private training run over one data set.
#[derive(Debug)]
pub struct Trainer<'a, E> {
    engine: E,
    network: &'a Network,
    data: &'a Dataset,
    sampler: PoissonSampler,
    mechanism: GaussianMechanism,
    capacity: usize,
    streams: Streams,
    ledger: &'a mut Ledger,
    step: u64,
    ahead: Ahead,
    /// The memory of a part of the batch, kept from step to step.
    spare: Vec<f32>,
}

/// The parts of a [`Trainer`].
#[derive(Debug)]
pub struct Setup<'a> {
    /// The network.
    pub network: &'a Network,
    /// The private data.
    pub data: &'a Dataset,
    /// Draws batches at the accounted rate.
    pub sampler: PoissonSampler,
    /// Clip bound, noise and rate.
    pub mechanism: GaussianMechanism,
    /// Rows of every batch.
    pub capacity: usize,
    /// Randomness of sampling and noise.
    pub streams: Streams,
    /// Where every release is charged first.
    pub ledger: &'a mut Ledger,
    /// Index of the first step: 0, or where a model trained before stands.
    pub first_step: u64,
}

impl<'a, E: Learn> Trainer<'a, E>
where
    Error: From<<E as Infer>::Error>,
{
    /// Brings engine and setup together.
    ///
    /// # Errors
    /// [`Error::DataShape`] if the network does not take the data's pixels;
    /// [`Error::ClipMismatch`] if engine and mechanism disagree on the clip bound;
    /// [`Error::SamplerMismatch`] if the sampler draws at another rate than is accounted, or more
    /// rows than a batch has; [`Error::Label`] for a label without a class.
    pub fn new(engine: E, setup: Setup<'a>) -> Result<Self, Error> {
        let Setup {
            network,
            data,
            sampler,
            mechanism,
            capacity,
            streams,
            ledger,
            first_step,
        } = setup;
        let (expected, got) = (network.inputs(), data.images.columns());
        if expected != got {
            return Err(Error::DataShape { expected, got });
        }
        let (ours, theirs) = (engine.clip_bound()?.get(), mechanism.bound().get());
        if ours != theirs {
            return Err(Error::ClipMismatch {
                engine: ours,
                mechanism: theirs,
            });
        }
        let rates = (sampler.rate().get(), mechanism.rate().get());
        if rates.0 != rates.1 {
            let what = "sampling rate";
            return Err(Error::SamplerMismatch {
                what,
                sampler: rates.0,
                run: rates.1,
            });
        }
        if sampler.capacity() > capacity as u64 {
            let what = "batch capacity";
            let (sampler, run) = (sampler.capacity() as f64, capacity as f64);
            return Err(Error::SamplerMismatch { what, sampler, run });
        }
        let classes = network.classes();
        if let Some(&label) = data.labels.iter().find(|&&l| usize::from(l) >= classes) {
            return Err(Error::Label { label, classes });
        }
        Ok(Self {
            engine,
            network,
            data,
            sampler,
            mechanism,
            capacity,
            streams,
            ledger,
            step: first_step,
            ahead: Ahead::default(),
            spare: Vec::new(),
        })
    }

    /// One private step.
    ///
    /// # Errors
    /// Whatever stops the engine, the release or the ledger. A step that failed after its charge
    /// stays charged.
    pub fn step(&mut self) -> Result<Outcome, Error> {
        if self.ledger.would_exceed(&self.mechanism.event()) {
            self.ahead = Ahead::default();
            return Ok(Outcome::BudgetSpent);
        }
        let start = Instant::now();
        let length = self.network.parameter_count();
        let noise = self.ahead.take();
        let noise = noise.unwrap_or_else(|| self.streams.noise(&self.mechanism, length));
        let drawn = start.elapsed().as_secs_f64();

        let batch = self
            .sampler
            .draw(self.data.labels.len(), &mut self.streams.sampling);
        let computed = self.compute(&batch)?;

        let released = Instant::now();
        let sum = computed.sum;
        let clipped = Clipped::check(sum.values, &sum.norms_squared, self.mechanism.bound())?;
        let noised = self
            .mechanism
            .release(self.step, clipped, noise, self.ledger)?;
        let release_seconds = drawn + released.elapsed().as_secs_f64();
        let offline_seconds = self.learn(&noised)?;

        let report = Report {
            step: self.step,
            rows: batch.len(),
            loss: computed.loss / batch.len().max(1) as f64,
            correct: computed.correct,
            seconds: start.elapsed().as_secs_f64(),
            release_seconds,
            offline_seconds,
            epsilon: noised.receipt().spent().epsilon,
        };
        self.step += 1;
        Ok(Outcome::Done(report))
    }

    /// The engine learns; if it waits for another machine and a next step may follow, the noise of that
    /// step is drawn meanwhile. Seconds of drawing it.
    fn learn(&mut self, noised: &Noised) -> Result<f64, Error> {
        let goes_on = !self.ledger.would_exceed(&self.mechanism.event());
        if !(goes_on && self.engine.learns_elsewhere()) {
            self.engine.learn(noised)?;
            return Ok(0.0);
        }
        let (engine, streams) = (&mut self.engine, &mut self.streams);
        let length = self.network.parameter_count();
        let (ahead, seconds, learnt) =
            streams.noise_meanwhile(&self.mechanism, length, || engine.learn(noised));
        self.ahead = ahead;
        learnt?;
        Ok(seconds)
    }

    /// The clipped sum over a batch, in as many parts as the engine wants; the work depends on the
    /// capacity alone.
    fn compute(&mut self, batch: &[u32]) -> Result<Computed, Error> {
        self.engine.begin(self.step, self.capacity)?;
        let wanted = self.engine.rows_at_once().unwrap_or(self.capacity);
        let at_once = wanted.clamp(1, self.capacity.max(1));
        let mut total: Option<Computed> = None;
        for first in (0..self.capacity.max(1)).step_by(at_once) {
            let rows = at_once.min(self.capacity - first);
            let part = &batch[first.min(batch.len())..(first + rows).min(batch.len())];
            let views = self.engine.views();
            let x = self.gather(part, rows, views)?;
            let each = views.map_or(1, |views| views.settings.multiplicity.max(1));
            let mut labels = vec![None; rows * each];
            for (labels, &i) in labels.chunks_exact_mut(each).zip(part) {
                labels.fill(Some(self.data.labels[i as usize]));
            }
            let pass = sphinx_nn::pass::gradients(&mut self.engine, self.network, &x, &labels)?;
            let computed = Computed {
                sum: self.engine.collect(pass.pending)?,
                loss: pass.loss * part.len() as f64,
                correct: pass.correct,
            };
            self.spare = x.into_vec();
            total = Some(match total {
                None => computed,
                Some(total) => total.plus(computed),
            });
        }
        // A capacity of zero still has one, empty, part.
        total.ok_or(Error::EmptyPlan {
            capacity: self.capacity,
            tickets: 1,
        })
    }

    /// The named records or their views, then rows of zeros, in memory that was used before.
    fn gather(&mut self, part: &[u32], rows: usize, views: Option<Views>) -> Result<Tensor, Error> {
        let columns = self.data.images.columns();
        let each = views.map_or(1, |views| views.settings.multiplicity.max(1));
        let (rows, of_record) = (rows * each, each * columns);
        let (shape, step) = (self.data.shape, self.step);
        let mut values = std::mem::take(&mut self.spare);
        values.resize(rows * columns, 0.0);
        let (filled, padding) = values.split_at_mut(part.len() * of_record);
        padding.fill(0.0);
        filled
            .par_chunks_mut(of_record.max(1))
            .with_min_len(32)
            .zip(part)
            .for_each(|(to, &i)| {
                let image = self.data.images.row(i as usize);
                let Some(Views { settings, seed }) = views else {
                    return to.copy_from_slice(image);
                };
                let views = Augmentation::views(shape, settings, seed, step, i);
                let rows = to.chunks_exact_mut(columns.max(1)).zip(views);
                rows.for_each(|(to, view)| view.apply(image, to));
            });
        let found = values.len();
        Tensor::from_vec(rows, columns, values).map_err(|_| Error::UpdateLength {
            expected: rows * columns,
            got: found,
        })
    }

    /// Where the run stands, for a checkpoint.
    ///
    /// # Errors
    /// [`MarkError`] if the ledger cannot be encoded for its digest.
    pub fn position(&self) -> Result<Position, MarkError> {
        Ok(Position {
            step: self.step,
            ledger: self.ledger.mark()?,
            streams: self.ahead.position(&self.streams),
        })
    }

    /// The engine.
    pub const fn engine(&self) -> &E {
        &self.engine
    }

    /// The engine, for inference between steps.
    pub const fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// The ledger.
    pub const fn ledger(&self) -> &Ledger {
        self.ledger
    }

    /// Ends the run.
    pub fn into_engine(self) -> E {
        self.engine
    }
}

#[cfg(test)]
mod tests;
