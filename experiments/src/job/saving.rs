//! Keeping a run while it goes on, and going on with it.
//!
//! A run directory holds the ledger and one `checkpoint.safetensors`
//! ([`sphinx_protocol::train::Checkpoint`]). [`Job::begin`] opens both, or makes the ledger of a
//! new run, and decides what a repeated step costs: in a seeded run nothing, because it is the same
//! release again; in a secret run another charge.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sphinx_dp::{Ledger, LedgerError};
use sphinx_protocol::train::{Checkpoint, Report};

use super::drive::{CurvePoint, History, StepSample};
use super::{Job, Randomness};
use crate::run_dir;
use crate::usage::UsageError;

/// File name of the checkpoint.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

/// Steps between checkpoints of a seeded run, which loses nothing but time by a crash.
const SEEDED_EVERY: u64 = 25;

/// Where and how often a run is kept.
#[derive(Clone, Debug)]
pub struct Saving {
    /// The checkpoint's file.
    pub path: PathBuf,
    /// Steps between checkpoints; 0 for none at all.
    pub every: u64,
}

impl Saving {
    /// In `folder`, `every` so many steps; by default each step of a secret run, whose lost steps
    /// would have to be paid for twice, and every 25 steps of a seeded one.
    #[must_use]
    pub fn new(folder: &Path, every: Option<u64>, randomness: &Randomness) -> Self {
        let seeded = matches!(randomness, Randomness::Seeded(_));
        Self {
            path: folder.join(CHECKPOINT),
            every: every.unwrap_or(if seeded { SEEDED_EVERY } else { 1 }),
        }
    }

    /// The folder of the run.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Whether the run is kept after so many steps of `steps`.
    pub(super) const fn is_due(&self, done: u64, steps: u64) -> bool {
        self.every > 0 && (done.is_multiple_of(self.every) || done == steps)
    }
}

/// A ledger and, if the run was begun before, where it stands.
#[derive(Debug)]
pub struct Begun {
    /// The ledger.
    pub ledger: Ledger,
    /// The last checkpoint.
    pub from: Option<Checkpoint>,
    /// How the run is kept from here on.
    pub saving: Option<Saving>,
}

impl Begun {
    /// A run that starts now and is not kept.
    #[must_use]
    pub const fn unkept(ledger: Ledger) -> Self {
        Self {
            ledger,
            from: None,
            saving: None,
        }
    }
}

impl Job {
    /// Begins or goes on with the run whose ledger is `ledger` and whose checkpoint is `saving`'s.
    ///
    /// # Errors
    /// [`UsageError`] if what is there belongs to another run, or to one that has stopped for good; the
    /// errors of ledger and checkpoint.
    pub fn begin(&self, ledger: &Path, saving: Saving, randomness: &Randomness) -> Result<Begun> {
        run_dir::refuse_stopped(saving.folder())?;
        let from = Checkpoint::read(&saving.path).context("the checkpoint")?;
        if let Some(checkpoint) = &from {
            let notes = Notes::parse(&checkpoint.notes)?;
            if notes.trial != self.config.trial_id() {
                let problem = format!(
                    "{} is of trial {}, this is trial {}",
                    saving.path.display(),
                    notes.trial,
                    self.config.trial_id()
                );
                return Err(UsageError::flag("--resume", problem));
            }
        }
        let charges = from.as_ref().map_or(0, |c| c.position.charges());
        let ledger = match (ledger.exists(), randomness) {
            (false, _) if charges > 0 => {
                let problem = format!("{} is gone; restore it", ledger.display());
                return Err(UsageError::flag("--resume", problem));
            }
            (false, _) => self.terms.ledger(Some(ledger))?,
            (true, Randomness::Seeded(_)) => self.reopen(ledger, |l| Ledger::rewind(l, charges))?,
            (true, Randomness::Secret(_)) => self.reopen(ledger, Ledger::open)?,
        };
        if let Some(checkpoint) = &from {
            let checked = checkpoint.position.check(&ledger);
            checked.map_err(|error| UsageError::flag("--resume", error.to_string()))?;
        }
        Ok(Begun {
            ledger,
            from,
            saving: Some(saving),
        })
    }

    fn reopen<'p>(
        &self,
        path: &'p Path,
        open: impl FnOnce(&'p Path) -> Result<Ledger, LedgerError>,
    ) -> Result<Ledger> {
        match open(path) {
            // Killed while the file was made: nothing was charged.
            Err(LedgerError::NoHeader { .. }) => {
                fs::remove_file(path).context("removing an empty ledger")?;
                self.terms.ledger(Some(path))
            }
            other => other.context("the ledger"),
        }
    }
}

/// What the loop keeps beside the engine's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notes {
    trial: String,
    seconds: Vec<f64>,
    cpu_s: Vec<f64>,
    release_seconds: Vec<f64>,
    #[serde(default)]
    offline_seconds: Vec<f64>,
    epsilon: Option<f64>,
    curve: Vec<KeptPoint>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPoint {
    step: u64,
    loss: f64,
    accuracy: f64,
    epsilon: Option<f64>,
}

/// JSON has no infinity: what is not finite is left out.
fn finite(value: f64) -> Option<f64> {
    Some(value).filter(|v| v.is_finite())
}

impl Notes {
    pub(super) fn new(trial: String, history: &History) -> Self {
        let steps = &history.steps;
        let point = |p: &CurvePoint| KeptPoint {
            step: p.step,
            loss: p.loss,
            accuracy: p.accuracy,
            epsilon: finite(p.epsilon),
        };
        Self {
            trial,
            seconds: steps.iter().map(|s| s.report.seconds).collect(),
            cpu_s: steps.iter().map(|s| s.cpu_s).collect(),
            release_seconds: steps.iter().map(|s| s.report.release_seconds).collect(),
            offline_seconds: steps.iter().map(|s| s.report.offline_seconds).collect(),
            epsilon: steps.last().and_then(|s| finite(s.epsilon)),
            curve: history.curve.iter().map(point).collect(),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("the notes in the checkpoint")
    }

    pub(super) fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// The history as far as it was kept: times, epsilon and the curve.
    pub(super) fn history(self) -> History {
        let epsilon = self.epsilon.unwrap_or(f64::INFINITY);
        // Not there in files of earlier versions, which prepared nothing.
        let mut offline = self.offline_seconds.into_iter();
        let times = self.seconds.iter().zip(&self.cpu_s);
        let times = times.zip(self.release_seconds).zip(0..);
        let sample = |(((&seconds, &cpu_s), release_seconds), step)| StepSample {
            report: Report {
                step,
                rows: 0,
                loss: 0.0,
                correct: 0,
                seconds,
                release_seconds,
                offline_seconds: offline.next().unwrap_or(0.0),
                epsilon,
            },
            cpu_s,
            epsilon,
            phases: None,
        };
        let steps = times.map(sample).collect();
        let point = |p: KeptPoint| CurvePoint {
            step: p.step,
            loss: p.loss,
            accuracy: p.accuracy,
            epsilon: p.epsilon.unwrap_or(f64::INFINITY),
        };
        History {
            steps,
            curve: self.curve.into_iter().map(point).collect(),
        }
    }
}
