//! Experiments over many trials: accuracy against epsilon, and latency by network.
//!
//! Both write one record per trial into one run directory and skip trials whose record is there
//! already, so an interrupted run goes on where it stopped. A trial is named by the hash of its
//! resolved configuration.
//!
//! Hyper-parameters are those of [`Config::default`], chosen on procedural data of seeds 11 to 13
//! and kept for all budgets and data sets; all seeds asked for are reported.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use sphinx_figures::figures;
use sphinx_nn::data::Split;

use crate::child::Server;
use crate::cli::{DataArgs, OutputArgs};
use crate::config::{Config, Engine, load_split};
use crate::job::{Job, Randomness, Trained, Unwatched};
use crate::output::Output;
use crate::progress::Progress;
use crate::report;
use crate::run_dir::RunDir;
use crate::usage::UsageError;

mod accuracy;
mod latency;

pub use accuracy::{AccuracyArgs, accuracy_vs_epsilon};
pub use latency::{LatencyArgs, latency};

/// The flags that both experiments share.
#[derive(Clone, Debug, Args)]
pub struct SweepArgs {
    /// The run directory; trials that are recorded there are not run again
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Who computes the linear layers during training
    #[arg(long, value_enum, default_value = "clear")]
    pub engine: SweepEngine,
    /// Training steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Fewer records and steps: to see that everything works, not for results
    #[arg(long)]
    pub quick: bool,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The engines an experiment can be run on. `clear` computes on the integer grid and gives exactly
/// the trajectory of `packed`, in a fraction of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SweepEngine {
    /// At the client, on the integer grid
    Clear,
    /// At the server, on packed ciphertexts
    Packed,
}

impl From<SweepEngine> for Engine {
    fn from(engine: SweepEngine) -> Self {
        match engine {
            SweepEngine::Clear => Self::Clear,
            SweepEngine::Packed => Self::Packed,
        }
    }
}

/// What the trials of one experiment share.
struct Sweep<'a> {
    name: &'static str,
    args: &'a SweepArgs,
    out: Output,
    run: RunDir,
}

impl<'a> Sweep<'a> {
    fn new(name: &'static str, args: &'a SweepArgs) -> Result<Self> {
        let out = Output::new(args.output.json, args.output.quiet);
        let run = RunDir::reopen(&args.out)?;
        Ok(Self {
            name,
            args,
            out,
            run,
        })
    }

    /// The data of one seed.
    fn split(&self, seed: u64) -> Result<Arc<Split>> {
        let mut data = self.args.data.clone();
        if self.args.quick {
            data.train_size = data.train_size.or(Some(4000));
            data.test_size = data.test_size.or(Some(500));
        }
        Ok(Arc::new(load_split(&data, seed)?))
    }

    /// The configuration that trials start from.
    fn config(&self, split: &Split, seed: u64) -> Config {
        let default = Config::default();
        let quick = self.args.quick;
        Config {
            engine: self.args.engine.into(),
            dataset: self.args.data.dataset.name().to_owned(),
            data: self.args.data.data.clone(),
            train_size: split.train.len(),
            test_size: split.test.len(),
            steps: self
                .args
                .steps
                .unwrap_or(if quick { 10 } else { default.steps }),
            batch: if quick { 128.0 } else { default.batch },
            seed: Some(seed),
            ..default
        }
    }

    /// The records' trials so far.
    fn finished(&self) -> Result<Vec<String>> {
        Ok(self
            .run
            .records()?
            .into_iter()
            .map(|record| record.trial)
            .collect())
    }

    /// Trains one job with its own ledger.
    fn train(&self, job: &Job) -> Result<Trained> {
        let path = self.run.ledger_of(&job.config.trial_id());
        let mut ledger = job.terms.ledger(Some(&path))?;
        let randomness = Randomness::new(job.config.seed);
        match job.config.engine {
            Engine::Clear => job.train_local(&randomness, &mut ledger, &mut Unwatched),
            Engine::Packed => {
                let server = self.server()?;
                job.train_packed(&server, None, &randomness, &mut ledger, &mut Unwatched)
            }
        }
    }

    fn server(&self) -> Result<Server> {
        Server::obtain(None, &self.run.path().join("server.log"))
    }

    /// Draws the figures and says where they are.
    fn finish(self) -> Result<()> {
        let records = self.run.records()?;
        let folder = self.run.path().join("figures");
        let written = figures::render_all(&records, &folder).context("drawing the figures")?;
        if written.is_empty() {
            bail!("no trial left a record to draw");
        }
        for path in &written {
            self.out.say(path.display());
        }
        let paths: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
        self.out.object(&serde_json::json!({
            "experiment": self.name,
            "trials": records.len(),
            "figures": paths,
            "run_dir": self.run.path().display().to_string(),
        }));
        Ok(())
    }
}
