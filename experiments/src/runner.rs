//! The runner: carries out a definition, cell by cell, into one run directory.
//!
//! A cell whose record is there is not run again; a cell that was interrupted goes on from its
//! checkpoint. Cells are seeded, so however often a series is interrupted, its records hold the same
//! accuracies. The commands `run`, `accuracy-vs-epsilon` and `latency` differ only in where their
//! [`Definition`] comes from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use sphinx_figures::figures;
use sphinx_figures::load::CONFIG;
use sphinx_figures::record::Record;
use sphinx_nn::data::{LoadOptions, Split};

use crate::child::Server;
use crate::cli::OutputArgs;
use crate::config::{Config, Engine, featured, hold_out, load_named};
use crate::definition::{Definition, Kind};
use crate::environment;
use crate::job::{Job, Randomness, Saving, StepSample, Trained, Watch};
use crate::output::Output;
use crate::progress::Progress;
use crate::run_dir::RunDir;
use crate::start::Found;
use crate::usage::{OrUsage, UsageError};

mod accuracy;
mod latency;

/// The flags that everything which runs a definition shares.
#[derive(Clone, Debug, Args)]
pub struct RunnerArgs {
    /// The folder with the data files; without it, that of the variable SPHINX_DATA
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Only these budgets of the definition, with commas between them
    #[arg(long, value_delimiter = ',', value_name = "E,E,..")]
    pub epsilons: Option<Vec<f64>>,
    /// Only these seeds of the definition, with commas between them
    #[arg(long, value_delimiter = ',', value_name = "S,S,..")]
    pub seeds: Option<Vec<u64>>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs what is left of a definition in the folder `out`.
///
/// # Errors
/// [`UsageError`] if the folder belongs to another definition; whatever stops a cell. Finished cells
/// stay recorded.
pub fn run(definition: &Definition, out: &Path, args: &RunnerArgs) -> Result<()> {
    let mut runner = Runner::new(definition, out, args)?;
    match definition.kind {
        Kind::Accuracy => accuracy::run(&mut runner)?,
        Kind::Latency => latency::run(&mut runner)?,
    }
    runner.finish()
}

/// A definition being carried out.
struct Runner<'a> {
    definition: &'a Definition,
    args: &'a RunnerArgs,
    out: Output,
    run: RunDir,
    /// The data of the last seed: the same for all seeds if they come from files.
    split: Option<(u64, Arc<Split>)>,
    /// First parameters by seed: budgets share them.
    starts: BTreeMap<u64, Found>,
}

impl<'a> Runner<'a> {
    fn new(definition: &'a Definition, out: &Path, args: &'a RunnerArgs) -> Result<Self> {
        let output = Output::new(args.output.json, args.output.quiet);
        let run = RunDir::reopen(out)?;
        let path = out.join(CONFIG);
        if path.exists() {
            let there = std::fs::read_to_string(&path).or_usage("reading the definition there")?;
            let there = toml::from_str::<Definition>(&there).ok();
            if !there.is_some_and(|there| there.has_same_cells(definition)) {
                let problem = format!(
                    "{} belongs to another definition; choose another folder",
                    out.display()
                );
                return Err(UsageError::flag("--out", problem));
            }
        }
        run.write_config(definition)?;
        Ok(Self {
            definition,
            args,
            out: output,
            run,
            split: None,
            starts: BTreeMap::new(),
        })
    }

    /// The data of one seed, turned into features.
    fn split(&mut self, seed: u64) -> Result<Arc<Split>> {
        let part = &self.definition.data;
        let seed = if part.set.starts_with("synth-") {
            seed
        } else {
            0
        };
        if let Some((_, split)) = self.split.as_ref().filter(|(of, _)| *of == seed) {
            return Ok(Arc::clone(split));
        }
        // The old one goes before the new one comes: features of a whole set are large.
        self.split = None;
        let held_out = part.validation.unwrap_or(0);
        let options = LoadOptions {
            train: part.train.map(|n| n + held_out),
            test: part.test,
            seed,
        };
        let split = load_named(&part.set, self.args.data.as_deref(), &options)?;
        let Definition {
            model, features, ..
        } = self.definition;
        let split = featured(&model.name, features, hold_out(split, held_out))?;
        let split = Arc::new(split);
        self.split = Some((seed, Arc::clone(&split)));
        Ok(split)
    }

    /// The trials that are recorded.
    fn finished(&self) -> Result<Vec<String>> {
        let records = self.run.records()?;
        Ok(records.into_iter().map(|record| record.trial).collect())
    }

    /// Budgets and seeds of the definition that the flags leave.
    fn chosen(&self) -> Result<Vec<(f64, u64)>> {
        let definition = self.definition;
        let budgets = narrowed(
            "--epsilons",
            &definition.privacy.epsilons,
            &self.args.epsilons,
        )?;
        let seeds = narrowed("--seeds", &definition.trials.seeds, &self.args.seeds)?;
        let each = budgets
            .iter()
            .flat_map(|e| seeds.iter().map(move |s| (*e, *s)));
        Ok(each.collect())
    }

    /// Trains one cell, from its checkpoint if it has one.
    fn train(&self, job: &Job, label: &str) -> Result<Trained> {
        let folder = self.run.work(&job.config.trial_id())?;
        let randomness = Randomness::new(job.config.seed);
        let saving = Saving::new(&folder, None, &randomness);
        let mut begun = job.begin(&folder.join("ledger.jsonl"), saving, &randomness)?;
        environment::reset_peak_rss();
        let mut steps = Steps(Progress::new(self.out, label, job.config.steps));
        let trained = match job.config.engine {
            Engine::Clear => job.train_local(&randomness, &mut begun, &mut steps),
            Engine::Packed => {
                let server = self.server()?;
                job.train_packed(&server, None, &randomness, &mut begun, &mut steps)
            }
            Engine::Paper => {
                let server = self.server()?;
                job.train_paper(&server, &randomness, &mut begun, &mut steps)
            }
        };
        steps.0.finish();
        trained
    }

    /// Writes a record down, with the labels of the definition.
    fn append(&self, mut record: Record) -> Result<()> {
        record.labels.extend(self.definition.labels.clone());
        self.run.append(&record)
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
        self.out.object(&json!({
            "experiment": self.definition.name,
            "trials": records.len(),
            "figures": paths,
            "run_dir": self.run.path().display().to_string(),
        }));
        Ok(())
    }
}

/// The values that are `wanted`, in the order of the definition; all if none are named.
fn narrowed<T: Copy + PartialEq + std::fmt::Debug>(
    flag: &'static str,
    all: &[T],
    wanted: &Option<Vec<T>>,
) -> Result<Vec<T>> {
    let Some(wanted) = wanted else {
        return Ok(all.to_vec());
    };
    match wanted.iter().find(|value| !all.contains(value)) {
        Some(stranger) => Err(UsageError::flag(
            flag,
            format!("{stranger:?} is not in the definition, which has {all:?}"),
        )),
        None => Ok(all.iter().copied().filter(|v| wanted.contains(v)).collect()),
    }
}

/// Shows the steps of one cell.
struct Steps(Progress);

impl Watch for Steps {
    fn step(
        &mut self,
        sample: &StepSample,
        _: Option<&Arc<sphinx_protocol::model::FrozenReplica>>,
    ) -> Result<()> {
        let facts = crate::commands::facts(sample);
        self.0.advance(sample.report.step + 1, &facts);
        Ok(())
    }
}

/// A cell in a few words.
fn cell_name(config: &Config) -> String {
    let budget = config.epsilon.map_or("inf".to_owned(), |e| e.to_string());
    format!("epsilon {budget}, seed {}", config.public_seed())
}
