//! Online latency of private requests, one trial per network.

use anyhow::{Context, Result};
use sphinx_protocol::message::ModelId;
use sphinx_protocol::shared::ModelFeed;

use super::Runner;
use crate::config::{Config, Engine};
use crate::inference::{Answers, Asker, load_if_absent};
use crate::job::{Begun, Job, Randomness, Unwatched};
use crate::progress::Progress;
use crate::report;

/// Trains each network briefly, asks an idle server for predictions.
pub(super) fn run(runner: &mut Runner<'_>) -> Result<()> {
    let Some(requests) = runner.definition.requests.clone() else {
        return Ok(());
    };
    let finished = runner.finished()?;
    let cells = runner.chosen()?;
    let total = cells.len() * requests.models.len();
    let mut progress = Progress::new(runner.out, "networks", total as u64);
    let each = cells
        .iter()
        .flat_map(|cell| requests.models.iter().map(move |m| (*cell, m)));
    for (done, ((epsilon, seed), model)) in (1..).zip(each) {
        let split = runner.split(seed)?;
        let (train, test) = (split.train.len(), split.test.len());
        let config = Config {
            model: model.clone(),
            // What is asked lives on the integer grid, whoever trained it.
            grid: true,
            ..runner.definition.cell(epsilon, seed, train, test)?
        };
        config.check()?;
        let job = Job::new(config, split)?;
        let security = job.plan()?.parameters().security().name();
        let name = &runner.definition.name;
        let of = |answers: &Answers| {
            report::inference_record(name, &job.config, security, "idle server", answers)
        };
        if finished.contains(&of(&Answers::default()).trial) {
            progress.advance(done, "recorded already");
            continue;
        }
        let answers = ask(runner, &job, requests.count).context(format!("network {model}"))?;
        runner.append(of(&answers))?;
        runner.run.clear_work(&job.config.trial_id())?;
        let p50 = answers.latency(0.5).unwrap_or(f64::NAN);
        progress.advance(
            done,
            &format!("{model}: p50 {}", crate::table::seconds(p50)),
        );
    }
    progress.finish();
    Ok(())
}

/// Trains, loads the model at a fresh server, asks.
fn ask(runner: &Runner<'_>, job: &Job, requests: usize) -> Result<Answers> {
    let trained = match job.config.engine {
        Engine::Packed | Engine::Paper => runner.train(job, &job.config.model)?,
        // What is asked does not depend on who trained it, and nothing of this run is released.
        Engine::Clear => {
            let mut begun = Begun::unkept(job.terms.ledger(None)?);
            job.train_local(
                &Randomness::new(job.config.seed),
                &mut begun,
                &mut Unwatched,
            )?
        }
    };
    let replica = trained
        .model
        .replica()
        .context("requests need a model on the grid")?;
    let server = runner.server()?;
    let id = ModelId(rand::random());
    load_if_absent(&server, id, job.plan()?, replica)?;
    let feed = ModelFeed::new(replica.freeze());
    let mut asker = Asker::attach(&server, id, job.plan()?, feed, &job.split.test, false)?;
    for index in 0..requests {
        asker.ask(index)?;
    }
    asker.finish()
}
