//! The loop around the private step: samples of time, CPU and epsilon; the training curve.

use std::sync::Arc;

use anyhow::Result;
use cpu_time::ProcessTime;
use sphinx_dp::Ledger;
use sphinx_nn::clear::Clear;
use sphinx_nn::engine::Infer;
use sphinx_protocol::grid::{Engine, Local};
use sphinx_protocol::model::FrozenReplica;
use sphinx_protocol::packed::{Packed, PhaseTimes};
use sphinx_protocol::train::{Learn, Outcome, Report, Setup, Trainer};

use super::{Job, Randomness, accuracy};

/// How many points a training curve has, at most.
const CURVE_POINTS: u64 = 20;

/// What one step took and brought. Losses and counts are private to the client.
#[derive(Clone, Copy, Debug)]
pub struct StepSample {
    /// What the loop reports.
    pub report: Report,
    /// CPU seconds of this process.
    pub cpu_s: f64,
    /// Epsilon spent so far; infinite without protection.
    pub epsilon: f64,
    /// Wall seconds by phase, for engines that have phases.
    pub phases: Option<PhaseTimes>,
}

/// One point of the training curve, after `step` steps.
#[derive(Clone, Copy, Debug)]
pub struct CurvePoint {
    /// Steps done.
    pub step: u64,
    /// Mean loss of the batch of the last of them. Private.
    pub loss: f64,
    /// Test accuracy.
    pub accuracy: f64,
    /// Epsilon spent so far.
    pub epsilon: f64,
}

/// A run, step by step.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every step.
    pub steps: Vec<StepSample>,
    /// The training curve.
    pub curve: Vec<CurvePoint>,
}

impl History {
    /// Wall seconds of all steps.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(|s| s.report.seconds).sum()
    }

    /// CPU seconds of all steps.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.steps.iter().map(|s| s.cpu_s).sum()
    }

    /// The steps after the first, which pays for caches and first allocations; the first as well
    /// if it is the only one.
    #[must_use]
    pub fn steady(&self) -> &[StepSample] {
        if self.steps.len() > 1 {
            &self.steps[1..]
        } else {
            &self.steps
        }
    }
}

/// Whoever wants to know how a run is going.
pub trait Watch {
    /// A step is done; `model` is the newest version, for engines on the grid.
    ///
    /// # Errors
    /// Stops the run.
    fn step(&mut self, sample: &StepSample, model: Option<&Arc<FrozenReplica>>) -> Result<()>;
}

/// Nobody.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn step(&mut self, _: &StepSample, _: Option<&Arc<FrozenReplica>>) -> Result<()> {
        Ok(())
    }
}

/// An engine that can be looked at between steps.
pub(super) trait Observed: Learn {
    /// The newest model, on the grid.
    fn frozen(&self) -> Option<Arc<FrozenReplica>>;

    /// Times of the last step by phase.
    fn phases(&self) -> Option<PhaseTimes> {
        None
    }
}

impl Observed for Clear {
    fn frozen(&self) -> Option<Arc<FrozenReplica>> {
        None
    }
}

impl Observed for Engine<Local> {
    fn frozen(&self) -> Option<Arc<FrozenReplica>> {
        Some(self.freeze())
    }
}

impl Observed for Engine<Packed> {
    fn frozen(&self) -> Option<Arc<FrozenReplica>> {
        Some(self.freeze())
    }

    fn phases(&self) -> Option<PhaseTimes> {
        Some(self.multiplier().times())
    }
}

/// Runs all steps of a job, or as many as the budget allows.
pub(super) fn drive<E: Observed>(
    job: &Job,
    engine: E,
    randomness: &Randomness,
    ledger: &mut Ledger,
    watch: &mut dyn Watch,
) -> Result<(E, History)>
where
    sphinx_protocol::Error: From<<E as Infer>::Error>,
{
    let setup = Setup {
        network: &job.network,
        data: &job.split.train,
        sampler: job.terms.sampler(),
        mechanism: job.terms.mechanism(engine.clip_bound()?)?,
        capacity: job.terms.capacity,
        streams: randomness.streams(),
        ledger,
        first_step: 0,
    };
    let mut trainer = Trainer::new(engine, setup)?;
    let mut history = History::default();
    for step in 1..=job.config.steps {
        let cpu = ProcessTime::now();
        let Outcome::Done(report) = trainer.step()? else {
            break;
        };
        let cpu_s = cpu.elapsed().as_secs_f64();
        let epsilon = trainer.ledger().spent()?.epsilon;
        let phases = trainer.engine().phases();
        let model = trainer.engine().frozen();
        let sample = StepSample {
            report,
            cpu_s,
            epsilon,
            phases,
        };
        watch.step(&sample, model.as_ref())?;
        history.steps.push(sample);
        if step % job.config.steps.div_ceil(CURVE_POINTS) == 0 || step == job.config.steps {
            let accuracy = match &model {
                Some(model) => job.accuracy_frozen(model)?,
                None => accuracy(trainer.engine_mut(), &job.network, &job.split.test)
                    .map_err(sphinx_protocol::Error::from)?,
            };
            history.curve.push(CurvePoint {
                step,
                loss: report.loss,
                accuracy,
                epsilon,
            });
        }
    }
    Ok((trainer.into_engine(), history))
}
