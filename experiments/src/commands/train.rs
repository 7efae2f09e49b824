//! `sphinx train`: one private training run, with everything that is kept of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use sphinx_dp::PrivacyStatement;
use sphinx_figures::figures;
use sphinx_figures::load::CONFIG;
use sphinx_protocol::model::FrozenReplica;
use sphinx_protocol::train::State;

use crate::child::Server;
use crate::cli::TrainArgs;
use crate::config::{Config, Engine, featured, load_for, load_split};
use crate::job::{Begun, Job, Model, Randomness, Saving, StepSample, Trained, Watch};
use crate::output::Output;
use crate::privacy;
use crate::progress::Progress;
use crate::report::{self, Summary};
use crate::run_dir::{RunDir, STATEMENT};
use crate::saved_model::SavedModel;
use crate::table::{Table, bytes, percent, seconds};
use crate::usage::{OrUsage, UsageError};
use crate::work_ratio::Opponent;

/// File name of a float run's model.
const FLOAT_MODEL: &str = "model.safetensors";

pub(super) fn run(args: &TrainArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let (job, run) = if args.resume {
        resume(args)?
    } else {
        start(args)?
    };
    let engine = job.config.engine;
    let randomness = Randomness::new(job.config.seed);
    let saving = Saving::new(run.path(), args.checkpoint_every, &randomness);
    let mut begun = job.begin(&run.ledger(), saving, &randomness)?;
    if args.resume {
        out.remark(standing(&begun));
    }
    let mut bar = Bar::new(out, &job);
    let server = engine
        .has_server()
        .then(|| Server::obtain(args.connect.as_deref(), &run.path().join("server.log")))
        .transpose()?;
    let trained = match &server {
        Some(server) if engine == Engine::Packed => {
            job.train_packed(server, None, &randomness, &mut begun, &mut bar)
        }
        Some(server) if engine == Engine::PureHe => {
            job.train_pure_he(server, &randomness, &mut begun, &mut bar)
        }
        Some(server) => job.train_paper(server, &randomness, &mut begun, &mut bar),
        None => job.train_local(&randomness, &mut begun, &mut bar),
    };
    let trained = trained.or_else(|error| stopped(&run, error))?;
    let server_peak_rss_mb = server.as_ref().and_then(Server::peak_rss_mb);
    drop(server);
    bar.finish();
    keep_model(&job, &trained, &run)?;
    let statement = job.terms.statement(&begun.ledger, &job.config)?;
    let told = told(&job, &statement);
    run.write(STATEMENT, &format!("{told}\n"))?;
    let opponent = Opponent::measure(&job)?;
    let summary = Summary {
        server_peak_rss_mb,
        ..Summary::new(&trained.history, trained.history.steady(), &opponent)?
    };
    let mut record = report::training_record("train", &job, &trained, Some(&summary));
    record.labels.extend(args.labels.iter().cloned());
    run.append(&record)?;
    if args.figures {
        figures::render_all(&run.records()?, &run.path().join("figures"))
            .context("drawing the figures")?;
    }
    let mut object = report::training_object(&job, &trained, &summary, &statement);
    object["layers"] = report::layer_work(&job, &trained)?;
    object["run_dir"] = run.path().display().to_string().into();
    out.say(table(&job, &trained, &summary, &opponent));
    out.say(told);
    out.say(format_args!("run directory: {}", run.path().display()));
    out.object(&object);
    Ok(())
}

/// What is said of a run that failed. One whose server was caught never goes on: its folder says so.
fn stopped(run: &RunDir, error: anyhow::Error) -> Result<Trained> {
    let folder = run.path().display();
    let caught = error.chain().find(|cause| {
        let cause = cause.downcast_ref::<sphinx_protocol::Error>();
        cause.is_some_and(sphinx_protocol::Error::ends_the_run)
    });
    let said = match caught.map(ToString::to_string) {
        Some(cause) => {
            // The engine has marked it before it did anything else, if it could.
            if !run.is_stopped() {
                run.stop(&cause)?;
            }
            format!("the run in {folder} has stopped for good")
        }
        None => {
            format!("the run stopped; `sphinx train --run-dir {folder} --resume` goes on with it")
        }
    };
    Err(error.context(said))
}

/// The statement in words; a run with everything encrypted has its own.
fn told(job: &Job, statement: &PrivacyStatement) -> String {
    if job.config.engine != Engine::PureHe {
        let kept = privacy::kept_statement(report::local(job));
        return [Some(statement.to_string()), kept]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n");
    }
    let style = job.pure_he.as_ref().map_or("none", |p| p.style().name());
    privacy::encrypted_statement(report::security(job), style, statement.charges)
}

/// A new run in a new folder.
fn start(args: &TrainArgs) -> Result<(Job, RunDir)> {
    let job = prepare(args)?;
    let engine = job.config.engine;
    refuse_server(args, engine)?;
    let run = RunDir::create(args.run_dir.as_deref(), "train", engine.name())?;
    run.write_config(&job.config)?;
    Ok((job, run))
}

fn refuse_server(args: &TrainArgs, engine: Engine) -> Result<()> {
    if args.connect.is_some() && !engine.has_server() {
        let problem = "the engine clear needs no server";
        return Err(UsageError::flag("--connect", problem));
    }
    Ok(())
}

/// The run that was interrupted in `--run-dir`.
fn resume(args: &TrainArgs) -> Result<(Job, RunDir)> {
    let folder = args.run_dir.as_deref().unwrap_or(Path::new("."));
    let run = RunDir::resume(folder)?;
    if !run.records()?.is_empty() {
        let problem = format!("the run in {} is finished", folder.display());
        return Err(UsageError::flag("--resume", problem));
    }
    let path = folder.join(CONFIG);
    let text = fs::read_to_string(&path).or_usage(format!("reading {}", path.display()))?;
    let config: Config = toml::from_str(&text).or_usage(format!("reading {}", path.display()))?;
    config.check()?;
    refuse_server(args, config.engine)?;
    let split = load_for(&config, args.training.data.data.as_deref())?;
    Ok((Job::new(config, split)?, run))
}

/// Where a resumed run stands, in words.
fn standing(begun: &Begun) -> String {
    let charges = begun.ledger.entries().len() as u64;
    let Some(position) = begun.from.as_ref().map(|c| &c.position) else {
        return format!("no checkpoint yet: starting again; {charges} steps stay charged");
    };
    let lost = charges - position.charges();
    let mut text = format!("going on after step {}", position.step);
    if lost > 0 {
        text.push_str(&format!(
            "; {lost} steps were charged after the checkpoint and are lost: they stay charged"
        ));
    }
    text
}

/// Keeps the model: with its plan if it is on the grid, as plain tensors if not.
fn keep_model(job: &Job, trained: &Trained, run: &RunDir) -> Result<()> {
    match &trained.model {
        Model::Grid(replica) => SavedModel::new(replica, job.plan.as_ref(), trained.id).write(run),
        Model::Float(model) => {
            let mut state = State::new(trained.history.steps.len() as u64);
            state.f32("weights", model.parameters());
            run.replace(FLOAT_MODEL, &state.to_bytes()?)
        }
    }
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
    let split = featured(&config.model, &config.features, split)?;
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
pub(crate) fn facts(sample: &StepSample) -> String {
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
    let mut table = Table::new([format!("{} {}", config.dataset, config.model), name]);
    table.row("test accuracy", [percent(trained.accuracy)]);
    table.row("steps", [steps.to_string()]);
    let local = report::local(job).iter();
    let local: Vec<String> = local.map(|l| format!("{} {}", l.phase, l.layer)).collect();
    if !local.is_empty() {
        table.row("computed by the client", [local.join(", ")]);
    }
    table.row(
        "mean batch / capacity",
        [format!("{} / {}", config.batch, job.terms.capacity)],
    );
    table.row(
        "seconds per step (median)",
        [seconds(summary.seconds_per_step)],
    );
    table.row(
        "seconds before the first step, and of work prepared while waiting",
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
    let counts = report::counts(job);
    for (name, count) in [
        ("relinearisations per step", counts.relinearisations),
        ("rescales per step", counts.rescales),
        ("rotations per step", counts.rotations),
        ("transforms per step, server", counts.transforms),
    ] {
        table.row(name, [count.to_string()]);
    }
    table
}
