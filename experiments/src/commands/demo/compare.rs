//! What the encrypted run is compared with, all of it computed in this process.

use anyhow::{Context, Result};
use sphinx_figures::record::Record;
use sphinx_protocol::model::{ModelVersion, Replica};

use crate::config::{Config, Engine};
use crate::job::{Begun, Job, Randomness, Trained, Unwatched};
use crate::report;

/// Smaller budgets for the figure of accuracy against epsilon. They run in the clear on the integer
/// grid, which gives exactly the trajectory of the encrypted engine.
const SMALLER: [f64; 3] = [1.0, 2.0, 4.0];
/// Learning rate of the run without clipping, whose gradients are longer.
const NON_PRIVATE_LR: f64 = 0.8;

/// A job and what came of it.
type Ran = (Job, Trained);

/// The runs beside the encrypted one.
pub(super) struct Comparisons {
    /// The same releases, computed by the client itself.
    clear: Ran,
    /// The same under smaller budgets.
    smaller: Vec<Ran>,
    /// Same steps and batches in floating point, without noise and clipping.
    free: Ran,
}

impl Comparisons {
    /// Runs them all.
    pub(super) fn run(job: &Job, randomness: &Randomness) -> Result<Self> {
        let clear = Config {
            engine: Engine::Clear,
            ..job.config.clone()
        };
        let smaller = SMALLER
            .into_iter()
            .filter(|e| clear.epsilon.is_some_and(|all| *e < all));
        let smaller = smaller.map(|epsilon| {
            let config = Config {
                epsilon: Some(epsilon),
                ..clear.clone()
            };
            go(job, config, randomness)
        });
        let free = Config {
            grid: false,
            private: false,
            epsilon: None,
            clip: None,
            lr: NON_PRIVATE_LR,
            ..clear.clone()
        };
        Ok(Self {
            smaller: smaller.collect::<Result<_>>()?,
            free: go(job, free, randomness)?,
            clear: go(job, clear, randomness)?,
        })
    }

    /// The run in the clear with the same seeds.
    pub(super) fn clear(&self) -> &Trained {
        &self.clear.1
    }

    /// The run without privacy.
    pub(super) fn free(&self) -> &Trained {
        &self.free.1
    }

    /// Whether the run in the clear arrived at the same weights, bit for bit.
    pub(super) fn identical_to(&self, replica: &Replica) -> Result<bool> {
        let clear = self
            .clear
            .1
            .model
            .replica()
            .context("the grid leaves a replica")?;
        let version = |replica: &Replica| -> ModelVersion { replica.public().version() };
        Ok(version(clear) == version(replica) && clear.master_biases() == replica.master_biases())
    }

    /// One record each.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let all = [&self.clear, &self.free].into_iter().chain(&self.smaller);
        all.map(|(job, trained)| report::training_record("demo", job, trained, None))
    }
}

/// The releases of these runs go nowhere, so their ledgers need no file.
fn go(job: &Job, config: Config, randomness: &Randomness) -> Result<Ran> {
    let job = job.with(config)?;
    let mut begun = Begun::unkept(job.terms.ledger(None)?);
    let trained = job.train_local(randomness, &mut begun, &mut Unwatched)?;
    Ok((job, trained))
}
