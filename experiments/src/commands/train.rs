//! `sphinx train`: one private training run, with everything that is kept of it.

use std::sync::Arc;

use anyhow::{Context, Result};
use sphinx_figures::figures;
use sphinx_protocol::model::FrozenReplica;

use crate::child::Server;
use crate::cli::TrainArgs;
use crate::config::{Config, Engine, load_split};
use crate::job::{Job, Randomness, StepSample, Trained, Watch};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::{self, Summary};
use crate::run_dir::{RunDir, STATEMENT};
use crate::saved_model::SavedModel;
use crate::table::{Table, bytes, percent, seconds};
use crate::usage::UsageError;
use crate::work_ratio::Opponent;

pub(super) fn run(args: &TrainArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let job = prepare(args)?;
    let engine = job.config.engine;
    if args.connect.is_some() && engine != Engine::Packed {
        return Err(UsageError::flag(
            "--connect",
            "the engine clear needs no server",
        ));
    }
    let run = RunDir::create(args.run_dir.as_deref(), "train", engine.name())?;
    run.write_config(&job.config)?;
    let mut ledger = job.terms.ledger(Some(&run.ledger()))?;
    let randomness = Randomness::new(job.config.seed);
    let mut bar = Bar::new(out, &job);
    let trained = if engine == Engine::Packed {
        let log = run.path().join("server.log");
        let server = Server::obtain(args.connect.as_deref(), &log)?;
        job.train_packed(&server, None, &randomness, &mut ledger, &mut bar)?
    } else {
        job.train_local(&randomness, &mut ledger, &mut bar)?
    };
    bar.finish();
    if let Some(replica) = trained.model.replica() {
        SavedModel::new(replica, job.plan.as_ref(), trained.id).write(&run)?;
    }
    let statement = job.terms.statement(&ledger, &job.config)?;
    run.write(STATEMENT, &format!("{statement}\n"))?;
    let opponent = Opponent::measure(&job)?;
    let summary = Summary::new(&trained.history, trained.history.steady(), &opponent)?;
    run.append(&report::training_record(
        "train",
        &job,
        &trained,
        Some(&summary),
    ))?;
    if args.figures {
        figures::render_all(&run.records()?, &run.path().join("figures"))
            .context("drawing the figures")?;
    }
    let mut object = report::training_object(&job, &trained, &summary, &statement);
    object["run_dir"] = run.path().display().to_string().into();
    out.say(table(&job, &trained, &summary, &opponent));
    out.say(&statement);
    out.say(format_args!("run directory: {}", run.path().display()));
    out.object(&object);
    Ok(())
}

/// Loads the data and checks the run against it.
fn prepare(args: &TrainArgs) -> Result<Job> {
    let training = &args.training;
    // The flags are checked on likely sizes first: data takes a while to read or make.
    let likely = Config::default();
    let size = training.data.train_size.unwrap_or(likely.train_size);
    Config::resolve(training, size, likely.test_size)?;
    let split = load_split(&training.data, training.seed.unwrap_or(0))?;
    let config = Config::resolve(training, split.train.len(), split.test.len())?;
    Job::new(config, Arc::new(split))
}

/// Shows each step on a progress bar.
struct Bar {
    progress: Progress,
}

impl Bar {
    fn new(out: Output, job: &Job) -> Self {
        Self {
            progress: Progress::new(out, "training", job.config.steps),
        }
    }

    fn finish(&self) {
        self.progress.finish();
    }
}

impl Watch for Bar {
    fn step(&mut self, sample: &StepSample, _: Option<&Arc<FrozenReplica>>) -> Result<()> {
        self.progress
            .advance(sample.report.step + 1, &facts(sample));
        Ok(())
    }
}

/// Loss and epsilon so far, in words.
pub(super) fn facts(sample: &StepSample) -> String {
    let loss = sample.report.loss;
    if sample.epsilon.is_finite() {
        format!("loss {loss:.3} (private)  epsilon {:.3}", sample.epsilon)
    } else {
        format!("loss {loss:.3}  not private")
    }
}

fn table(job: &Job, trained: &Trained, summary: &Summary, opponent: &Opponent) -> Table {
    let (config, steps) = (&job.config, trained.history.steps.len() as f64);
    let name = format!("{} ({})", config.engine.name(), config.arithmetic());
    let mut table = Table::new([config.dataset.clone(), name]);
    table.row("test accuracy", [percent(trained.accuracy)]);
    table.row("steps", [steps.to_string()]);
    table.row(
        "mean batch / capacity",
        [format!("{} / {}", config.batch, job.terms.capacity)],
    );
    table.row(
        "seconds per step (median)",
        [seconds(summary.seconds_per_step)],
    );
    table.row(
        "seconds before the first step",
        [seconds(trained.offline_seconds)],
    );
    table.row("up per step", [bytes(trained.traffic.sent as f64 / steps)]);
    table.row(
        "down per step",
        [bytes(trained.traffic.received as f64 / steps)],
    );
    table.row(
        "client CPU per step",
        [seconds(trained.client_cpu_s / steps)],
    );
    table.row(
        "server CPU per step",
        [seconds(trained.server_cpu_s / steps)],
    );
    table.row("CPU per step, client alone", [seconds(opponent.cpu_s)]);
    table.row(
        "client-work ratio",
        [format!("{:.1}", summary.client_work_ratio)],
    );
    table
}
