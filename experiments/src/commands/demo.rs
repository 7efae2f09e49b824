//! `sphinx demo`: the main job, once, with everything beside it that makes it believable.
//!
//! 1. A server process is started; it will never see a pixel, a label or a bias.
//! 2. The network is trained on its ciphertexts, with a privacy budget, while private requests are
//!    answered by the model in training.
//! 3. The same training with the same seeds runs in the clear on the integer grid: the weights must
//!    be the same, bit for bit.
//! 4. The same under smaller budgets, and the float engine without privacy: what privacy costs in
//!    accuracy. The float engine with privacy: what a client that trains alone would pay.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use sphinx_figures::figures;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::{FrozenReplica, Replica};
use sphinx_protocol::shared::ModelFeed;

use self::compare::Comparisons;
use self::requests::Meanwhile;
use self::tell::{Results, introduction};
use crate::child::Server;
use crate::cli::DemoArgs;
use crate::config::{Config, load_split};
use crate::inference::Answers;
use crate::job::{Begun, Job, Randomness, StepSample, Trained, Watch};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::{self, Summary};
use crate::run_dir::{RunDir, STATEMENT};
use crate::saved_model::SavedModel;
use crate::work_ratio::Opponent;

mod compare;
mod requests;
mod tell;

/// Records of the procedural set; of files, all are used.
const TRAIN: usize = 60_000;
const TEST: usize = 10_000;
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let job = prepare(args)?;
    let run = RunDir::create(args.run_dir.as_deref(), "demo", "packed")?;
    run.write_config(&job.config)?;
    let randomness = Randomness::new(job.config.seed);
    let mut begun = Begun::unkept(job.terms.ledger(Some(&run.ledger()))?);
    let server = Server::obtain(None, &run.path().join("server.log"))?;
    out.say(introduction(&job, &server));

    let (trained, while_training) = train(&job, &server, &randomness, &mut begun, out)?;
    let statement = job.terms.statement(&begun.ledger, &job.config)?;
    run.write(STATEMENT, &format!("{statement}\n"))?;
    let replica = trained
        .model
        .replica()
        .context("the packed engine leaves a model")?;
    SavedModel::new(replica, job.plan.as_ref(), trained.id).write(&run)?;
    let idle = requests::idle(&server, &trained, &job)?;
    drop(server);

    out.remark("the same in the clear, under smaller budgets, and without privacy");
    let comparisons = Comparisons::run(&job, &randomness)?;
    let opponent = Opponent::measure(&job)?;
    let alone = trained.history.steady();
    let alone = &alone[..alone.len().min(requests::ALONE as usize - 1)];
    let summary = Summary::new(&trained.history, alone, &opponent)?;
    run.append(&report::training_record(
        "demo",
        &job,
        &trained,
        Some(&summary),
    ))?;
    for record in comparisons.records() {
        run.append(&record)?;
    }
    append_requests(
        &run,
        &job,
        [("while training", &while_training), ("idle server", &idle)],
    )?;
    let results = Results {
        identical: comparisons.identical_to(replica)?,
        figures: draw(&run, args)?,
        job: &job,
        trained: &trained,
        comparisons: &comparisons,
        summary,
        opponent,
        while_training,
        idle,
        statement,
        run: &run,
    };
    results.tell(out);
    Ok(())
}

fn append_requests(run: &RunDir, job: &Job, series: [(&str, &Answers); 2]) -> Result<()> {
    let security = report::security(job);
    for (name, answers) in series
        .into_iter()
        .filter(|(_, answers)| answers.asked() > 0)
    {
        run.append(&report::inference_record(
            "demo",
            &job.config,
            security,
            name,
            answers,
        ))?;
    }
    Ok(())
}

/// Data and configuration of the demo.
fn prepare(args: &DemoArgs) -> Result<Job> {
    let mut data = args.data.clone();
    data.test_size = data.test_size.or(Some(TEST));
    if data.dataset == crate::cli::Dataset::SynthDigits {
        data.train_size = data.train_size.or(Some(TRAIN));
    }
    let seed = (!args.secret_randomness).then_some(args.seed);
    let split = load_split(&data, seed.unwrap_or(0))?;
    let config = Config {
        dataset: data.dataset.name().to_owned(),
        data: data.data,
        train_size: split.train.len(),
        test_size: split.test.len(),
        steps: args.steps,
        accountant: args.accountant.into(),
        seed,
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
    begun: &mut Begun,
    out: Output,
) -> Result<(Trained, Answers)> {
    let id = ModelId(rand::random());
    let feed = ModelFeed::new(Replica::initial(job.plan()?.grid()).freeze());
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
        let trained = job.train_packed(server, Some(id), randomness, begun, &mut live);
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

fn draw(run: &RunDir, args: &DemoArgs) -> Result<Vec<PathBuf>> {
    let folder = args
        .figures
        .clone()
        .unwrap_or_else(|| run.path().join("figures"));
    figures::render_all(&run.records()?, &folder).context("drawing the figures")
}
