//! `sphinx demo`: the main job, once, with everything beside it that makes it believable.
//!
//! 1. A server process is started; it will never see a pixel, a label or a bias.
//! 2. The network is trained on its ciphertexts, with a privacy budget, while private requests are
//!    answered by the model in training.
//! 3. The same training with the same seeds runs in the clear on the integer grid: the weights must
//!    be the same, bit for bit.
//! 4. The float engine trains without privacy, for the price of privacy in accuracy; and with it,
//!    for the price of the client that trains alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use sphinx_figures::figures;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::{FrozenReplica, Replica};
use sphinx_protocol::shared::ModelFeed;

use self::requests::Meanwhile;
use self::tell::{Results, introduction};
use crate::child::Server;
use crate::cli::DemoArgs;
use crate::config::{Config, Engine, load_split};
use crate::inference::Answers;
use crate::job::{Job, Randomness, StepSample, Trained, Unwatched, Watch};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::{self, Summary};
use crate::run_dir::{RunDir, STATEMENT};
use crate::saved_model::SavedModel;
use crate::work_ratio::Opponent;

mod requests;
mod tell;

/// Records of the procedural set; of files, all are used.
const TRAIN: usize = 60_000;
const TEST: usize = 2_000;
/// Learning rate of the run without clipping, whose gradients are longer.
const NON_PRIVATE_LR: f64 = 0.3;

pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let job = prepare(args)?;
    let run = RunDir::create(args.run_dir.as_deref(), "demo", "packed")?;
    run.write_config(&job.config)?;
    let seed = (!args.secret_randomness).then_some(args.seed);
    let randomness = Randomness::new(seed);
    let mut ledger = job.terms.ledger(Some(&run.ledger()))?;
    let server = Server::obtain(None, &run.path().join("server.log"))?;
    out.say(introduction(&job, &server, seed));

    let (trained, while_training) = train(&job, &server, &randomness, &mut ledger, out)?;
    let statement = job.terms.statement(&ledger, &job.config)?;
    run.write(STATEMENT, &format!("{statement}\n"))?;
    let replica = trained
        .model
        .replica()
        .context("the packed engine leaves a model")?;
    SavedModel::new(replica, trained.id).write(&run)?;
    let idle = requests::idle(&server, &trained, &job)?;
    drop(server);

    out.remark("training again in the clear, with the same seeds, on the same integers");
    let clear = in_the_clear(&job, &randomness)?;
    let identical =
        clear.model.replica().map(|r| r.public().version()) == Some(replica.public().version());
    out.remark("training without privacy, and alone");
    let (free_job, free) = not_private(&job, &randomness)?;
    let opponent = Opponent::measure(&job)?;
    let alone = &trained.history.steps[1.min(trained.history.steps.len())..];
    let alone = &alone[..alone.len().min(requests::ALONE as usize - 1)];
    let summary = Summary::new(&trained.history, alone, &opponent)?;

    let security = report::security(&job);
    run.append(&report::training_record(
        "demo",
        &job,
        &trained,
        Some(&summary),
    ))?;
    run.append(&report::training_record(
        "demo",
        &job.with(clear_config(&job))?,
        &clear,
        None,
    ))?;
    run.append(&report::training_record("demo", &free_job, &free, None))?;
    for (series, answers) in [("while training", &while_training), ("idle server", &idle)] {
        if answers.asked() > 0 {
            let record = report::inference_record("demo", &job.config, security, series, answers);
            run.append(&record)?;
        }
    }
    let results = Results {
        job: &job,
        trained: &trained,
        clear: &clear,
        free: &free,
        summary,
        opponent,
        while_training,
        idle,
        statement,
        identical,
        seeded: seed.is_some(),
        figures: draw(&run, args)?,
        run: &run,
    };
    results.tell(out);
    Ok(())
}

/// Data and configuration of the demo.
fn prepare(args: &DemoArgs) -> Result<Job> {
    let mut data = args.data.clone();
    data.test_size = data.test_size.or(Some(TEST));
    if data.dataset == crate::cli::Dataset::SynthDigits {
        data.train_size = data.train_size.or(Some(TRAIN));
    }
    let split = load_split(&data, args.seed)?;
    let config = Config {
        dataset: data.dataset.name().to_owned(),
        data: data.data,
        train_size: split.train.len(),
        test_size: split.test.len(),
        steps: args.steps,
        seed: Some(args.seed),
        ..Config::default()
    };
    config.check()?;
    Job::new(config, Arc::new(split))
}

/// Trains at the server while requests are answered.
fn train(
    job: &Job,
    server: &Server,
    randomness: &Randomness,
    ledger: &mut sphinx_dp::Ledger,
    out: Output,
) -> Result<(Trained, Answers)> {
    let id = ModelId(rand::random());
    let feed = ModelFeed::new(Replica::initial(job.plan()?).freeze());
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let meanwhile = Meanwhile {
        server,
        id,
        job,
        feed: feed.clone(),
        done: &done,
        stop: &stop,
    };
    thread::scope(|scope| {
        let asking = scope.spawn(|| meanwhile.ask());
        let progress = Progress::new(out, "training", job.config.steps);
        let mut live = Live {
            progress,
            feed,
            done: &done,
        };
        let trained = job.train_packed(server, Some(id), randomness, ledger, &mut live);
        stop.store(true, Ordering::SeqCst);
        live.progress.finish();
        let answers = match asking.join() {
            Ok(answers) => answers,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((
            trained?,
            answers.context("private requests during training")?,
        ))
    })
}

/// Publishes every version to the requests beside the training, and shows the step.
struct Live<'a> {
    progress: Progress,
    feed: ModelFeed,
    done: &'a AtomicU64,
}

impl Watch for Live<'_> {
    fn step(&mut self, sample: &StepSample, model: Option<&Arc<FrozenReplica>>) -> Result<()> {
        if let Some(model) = model {
            self.feed.publish(Arc::clone(model));
        }
        let done = sample.report.step + 1;
        self.done.store(done, Ordering::SeqCst);
        self.progress.advance(done, &super::train::facts(sample));
        Ok(())
    }
}

fn clear_config(job: &Job) -> Config {
    Config {
        engine: Engine::Clear,
        ..job.config.clone()
    }
}

/// The same releases again, computed by the client itself. They go nowhere, so their ledger does
/// not need a file.
fn in_the_clear(job: &Job, randomness: &Randomness) -> Result<Trained> {
    let mut ledger = job.terms.ledger(None)?;
    job.with(clear_config(job))?
        .train_local(randomness, &mut ledger, &mut Unwatched)
}

/// Same steps and batches in floating point, without noise and clipping.
fn not_private(job: &Job, randomness: &Randomness) -> Result<(Job, Trained)> {
    let free = job.with(Config {
        grid: false,
        private: false,
        epsilon: None,
        clip: None,
        lr: NON_PRIVATE_LR,
        ..clear_config(job)
    })?;
    let mut ledger = free.terms.ledger(None)?;
    let trained = free.train_local(randomness, &mut ledger, &mut Unwatched)?;
    Ok((free, trained))
}

fn draw(run: &RunDir, args: &DemoArgs) -> Result<Vec<PathBuf>> {
    let folder = args
        .figures
        .clone()
        .unwrap_or_else(|| run.path().join("figures"));
    figures::render_all(&run.records()?, &folder).context("drawing the figures")
}
