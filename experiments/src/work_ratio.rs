//! The honest opponent: the client trains alone, in the clear, with the same privacy.
//!
//! The client-work ratio is the client's CPU time per step divided by the CPU time of the float
//! engine for the same step: same network, same batch padded to the same capacity, same noise,
//! same number of threads, in the same process, after the run when nothing else is going on.

use anyhow::Result;
use sphinx_figures::stats;

use crate::config::{Config, Engine, Learning};
use crate::job::{Begun, Job, Randomness, Unwatched};

/// Steps that are measured, after a first one that is not.
const STEPS: u64 = 7;

/// What a step costs a client that trains alone.
#[derive(Clone, Debug)]
pub struct Opponent {
    /// Median CPU seconds per step.
    pub cpu_s: f64,
    /// Median wall seconds per step.
    pub seconds: f64,
    /// CPU seconds of every measured step.
    pub samples: Vec<f64>,
}

impl Opponent {
    /// Measures it for the work of `job`. Nothing that is computed leaves this function.
    ///
    /// # Errors
    /// Whatever stops the float engine.
    pub fn measure(job: &Job) -> Result<Self> {
        let config = Config {
            engine: Engine::Clear,
            grid: false,
            ..job.config.clone()
        };
        let mut alone = job.with(config)?;
        // The terms stay those of the real run: the same capacity and noise, fewer steps.
        alone.config.steps = STEPS + 1;
        alone.config.learning = Learning::default();
        let mut begun = Begun::unkept(alone.terms.ledger(None)?);
        let trained = alone.train_local(&Randomness::new(None), &mut begun, &mut Unwatched)?;
        let steady = trained.history.steady();
        let samples: Vec<f64> = steady.iter().map(|s| s.cpu_s).collect();
        let walls: Vec<f64> = steady.iter().map(|s| s.report.seconds).collect();
        Ok(Self {
            cpu_s: stats::median(&samples)?,
            seconds: stats::median(&walls)?,
            samples,
        })
    }
}
