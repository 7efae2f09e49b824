//! The one private training loop: sample, compute, clip, charge, release, learn.
//!
//! Every engine is trained by [`Trainer::step`]; engines differ only in who multiplies. Per step:
//!
//! 1. The noise is drawn, before any data is touched.
//! 2. A Poisson batch is drawn and padded to the public capacity.
//! 3. The engine computes the passes and gives the clipped sum with every row's integer norm.
//! 4. The sum becomes a `Clipped` (norms checked), then a `Noised`: the ledger is charged first.
//! 5. The engine learns from the `Noised`, and from nothing else.
//!
//! The loop stops when the filter refuses the next step. Losses and counts in a [`Report`] are
//! private to the client.

use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_dp::ledger::Ledger;
use sphinx_dp::mechanism::{ClipBound, Clipped, GaussianMechanism, Noised};
use sphinx_dp::noise::PreparedNoise;
use sphinx_dp::sampler::PoissonSampler;
use sphinx_nn::clear::{Clear, ClearError};
use sphinx_nn::data::Dataset;
use sphinx_nn::engine::{Infer, Train};
use sphinx_nn::network::Network;

use crate::error::Error;

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

/// The random streams of one run. Same streams, same batches, same noise.
#[derive(Debug)]
pub struct Streams {
    sampling: ChaCha20Rng,
    noise: ChaCha20Rng,
    seeded: bool,
}

impl Streams {
    /// Streams from one generator; give it operating-system randomness to protect data.
    pub fn secret<R: rand_core::CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self {
            sampling: ChaCha20Rng::from_rng(rng),
            noise: ChaCha20Rng::from_rng(rng),
            seeded: false,
        }
    }

    /// Reproducible streams for experiments and tests. Noise from a known seed protects nothing,
    /// and the privacy statement says so.
    #[must_use]
    pub fn seeded_for_experiments(seed: u64) -> Self {
        let mut root = ChaCha20Rng::seed_from_u64(seed ^ 0x5350_4849_4e58);
        Self {
            seeded: true,
            ..Self::secret(&mut root)
        }
    }

    /// The noise of one release; from a known seed it is marked as such in the ledger.
    fn noise(&mut self, mechanism: &GaussianMechanism, len: usize) -> PreparedNoise {
        if !self.seeded {
            return mechanism.prepare(len, &mut self.noise);
        }
        let mut seed = [0; 32];
        self.noise.fill_bytes(&mut seed);
        mechanism.prepare_seeded(len, seed)
    }

    /// Whether the streams come from a known seed.
    #[must_use]
    pub const fn is_seeded(&self) -> bool {
        self.seeded
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
    /// Wall seconds of drawing noise, clipping check, charging and noising.
    pub release_seconds: f64,
}

/// How a step ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The model has learnt.
    Done(Report),
    /// The filter refused: the budget would be exceeded. Nothing was sampled or released.
    BudgetSpent,
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
        })
    }

    /// One private step.
    ///
    /// # Errors
    /// Whatever stops the engine, the release or the ledger. A step that failed after its charge
    /// stays charged.
    pub fn step(&mut self) -> Result<Outcome, Error> {
        if self.ledger.would_exceed(&self.mechanism.event()) {
            return Ok(Outcome::BudgetSpent);
        }
        let start = Instant::now();
        let noise = self
            .streams
            .noise(&self.mechanism, self.network.parameter_count());
        let drawn = start.elapsed().as_secs_f64();

        let batch = self
            .sampler
            .draw(self.data.labels.len(), &mut self.streams.sampling);
        let x = self.data.images.gather(&batch, self.capacity);
        let mut labels = vec![None; self.capacity];
        for (label, &i) in labels.iter_mut().zip(&batch) {
            *label = Some(self.data.labels[i as usize]);
        }
        self.engine.begin(self.step, self.capacity)?;
        let pass = sphinx_nn::pass::gradients(&mut self.engine, self.network, &x, &labels)?;
        let sum = self.engine.collect(pass.pending)?;

        let released = Instant::now();
        let clipped = Clipped::check(sum.values, &sum.norms_squared, self.mechanism.bound())?;
        let noised = self
            .mechanism
            .release(self.step, clipped, noise, self.ledger)?;
        let release_seconds = drawn + released.elapsed().as_secs_f64();
        self.engine.learn(&noised)?;

        let report = Report {
            step: self.step,
            rows: batch.len(),
            loss: pass.loss,
            correct: pass.correct,
            seconds: start.elapsed().as_secs_f64(),
            release_seconds,
        };
        self.step += 1;
        Ok(Outcome::Done(report))
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
