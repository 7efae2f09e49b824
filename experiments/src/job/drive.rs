//! The loop around the private step: samples of time, CPU and epsilon; the training curve.

use std::sync::Arc;

use anyhow::Result;
use cpu_time::ProcessTime;
use sphinx_nn::engine::Infer;
use sphinx_protocol::grid::{Engine, Local};
use sphinx_protocol::model::FrozenReplica;
use sphinx_protocol::packed::{Packed, PhaseTimes};
use sphinx_protocol::paper::Paper;
use sphinx_protocol::train::{Checkpoint, Float, Kept, Learn, Outcome, Report, Setup, Trainer};

use super::saving::{Begun, Notes};
use super::{Job, Randomness};

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

    /// Wall seconds of what steps prepared for the next one while they waited; part of theirs.
    #[must_use]
    pub fn offline_seconds(&self) -> f64 {
        self.steps.iter().map(|s| s.report.offline_seconds).sum()
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

/// An engine that can be looked at and kept between steps.
pub(super) trait Observed: Learn + Kept {
    /// The newest model, on the grid.
    fn frozen(&self) -> Option<Arc<FrozenReplica>>;

    /// Test accuracy of what is the model now.
    fn accuracy(&self, job: &Job) -> Result<f64>;

    /// Times of the last step by phase.
    fn phases(&self) -> Option<PhaseTimes> {
        None
    }
}

impl Observed for Float {
    fn frozen(&self) -> Option<Arc<FrozenReplica>> {
        None
    }

    fn accuracy(&self, job: &Job) -> Result<f64> {
        job.accuracy_float(self.model())
    }
}

impl Observed for Engine<Local> {
    fn frozen(&self) -> Option<Arc<FrozenReplica>> {
        Some(self.freeze())
    }

    fn accuracy(&self, job: &Job) -> Result<f64> {
        job.accuracy_frozen(&self.freeze())
    }
}

impl Observed for Engine<Packed> {
    fn frozen(&self) -> Option<Arc<FrozenReplica>> {
        Some(self.freeze())
    }

    fn accuracy(&self, job: &Job) -> Result<f64> {
        job.accuracy_frozen(&self.freeze())
    }

    fn phases(&self) -> Option<PhaseTimes> {
        Some(self.multiplier().times())
    }
}

impl Observed for Engine<Paper> {
    fn frozen(&self) -> Option<Arc<FrozenReplica>> {
        Some(self.freeze())
    }

    fn accuracy(&self, job: &Job) -> Result<f64> {
        job.accuracy_frozen(&self.freeze())
    }

    fn phases(&self) -> Option<PhaseTimes> {
        Some(self.multiplier().times())
    }
}

/// Runs all steps of a job that are left, or as many as the budget allows. The engine stands where
/// `begun` says.
pub(super) fn drive<E: Observed>(
    job: &Job,
    engine: E,
    randomness: &Randomness,
    begun: &mut Begun,
    watch: &mut dyn Watch,
) -> Result<(E, History)>
where
    sphinx_protocol::Error: From<<E as Infer>::Error>,
{
    let position = begun.from.as_ref().map(|checkpoint| &checkpoint.position);
    let mut history = match &begun.from {
        Some(checkpoint) => Notes::parse(&checkpoint.notes)?.history(),
        None => History::default(),
    };
    let first_step = position.map_or(0, |position| position.step);
    let setup = Setup {
        network: &job.network,
        data: &job.split.train,
        sampler: job.terms.sampler(),
        mechanism: job.terms.mechanism(engine.clip_bound()?)?,
        capacity: job.terms.capacity,
        streams: randomness.streams(position)?,
        ledger: &mut begun.ledger,
        first_step,
    };
    let mut trainer = Trainer::new(engine, setup)?;
    let steps = job.config.steps;
    for step in first_step + 1..=steps {
        let cpu = ProcessTime::now();
        let Outcome::Done(report) = trainer.step()? else {
            break;
        };
        let cpu_s = cpu.elapsed().as_secs_f64();
        let sample = StepSample {
            report,
            cpu_s,
            epsilon: report.epsilon,
            phases: trainer.engine().phases(),
        };
        watch.step(&sample, trainer.engine().frozen().as_ref())?;
        history.steps.push(sample);
        if step % steps.div_ceil(CURVE_POINTS) == 0 || step == steps {
            history.curve.push(CurvePoint {
                step,
                loss: report.loss,
                accuracy: trainer.engine().accuracy(job)?,
                epsilon: report.epsilon,
            });
        }
        if let Some(saving) = begun.saving.as_ref().filter(|s| s.is_due(step, steps)) {
            let checkpoint = Checkpoint {
                state: trainer.engine().keep(),
                position: trainer.position()?,
                notes: Notes::new(job.config.trial_id(), &history).to_text()?,
            };
            checkpoint.write(&saving.path)?;
        }
    }
    Ok((trainer.into_engine(), history))
}
