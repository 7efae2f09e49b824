//! Online latency of private requests, by network.

use anyhow::{Context, Result};
use clap::Parser;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::shared::ModelFeed;

use super::{Config, Engine, Job, Progress, Randomness, Sweep, SweepArgs, Unwatched, report};
use crate::inference::{Answers, Asker, load_if_absent};
use crate::usage::UsageError;

/// Trains each network briefly, asks an idle server for predictions, records and draws latencies.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "\
Example:
  latency --out runs/latency --models linear,mlp,mlp-64 --requests 1000

Client and server run on this machine, over the loopback interface: add the round-trip time of
a real network once per linear layer."
)]
pub struct LatencyArgs {
    /// Networks, with commas between them
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "linear,mlp,mlp-64",
        value_name = "M,M,.."
    )]
    pub models: Vec<String>,
    /// Requests per network
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub requests: usize,
    /// Seed of data and weights
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// What both experiments share.
    #[command(flatten)]
    pub sweep: SweepArgs,
}

/// Runs the experiment.
///
/// # Errors
/// Whatever stops a trial; finished trials stay recorded.
pub fn latency(args: &LatencyArgs) -> Result<()> {
    if args.requests == 0 {
        return Err(UsageError::flag("--requests", "must be at least 1"));
    }
    let sweep = Sweep::new("latency", &args.sweep)?;
    let finished = sweep.finished()?;
    let split = sweep.split(args.seed)?;
    let mut progress = Progress::new(sweep.out, "networks", args.models.len() as u64);
    for (done, model) in (1..).zip(&args.models) {
        let config = Config {
            model: model.clone(),
            ..sweep.config(&split, args.seed)
        };
        config.check()?;
        if done == 1 {
            sweep.run.write_config(&config)?;
        }
        let job = Job::new(config, split.clone())?;
        let security = job.plan()?.parameters().security().name();
        let empty = Answers::default();
        let of = |answers| {
            report::inference_record(sweep.name, &job.config, security, "idle server", answers)
        };
        if finished.contains(&of(&empty).trial) {
            progress.advance(done, "recorded already");
            continue;
        }
        let answers = ask(&sweep, &job, args.requests).context(format!("network {model}"))?;
        sweep.run.append(&of(&answers))?;
        let p50 = answers.latency(0.5).unwrap_or(f64::NAN);
        progress.advance(
            done,
            &format!("{model}: p50 {}", crate::table::seconds(p50)),
        );
    }
    progress.finish();
    sweep.finish()
}

/// Trains, loads the model at a fresh server, asks.
fn ask(sweep: &Sweep<'_>, job: &Job, requests: usize) -> Result<Answers> {
    let trained = match job.config.engine {
        Engine::Packed => sweep.train(job)?,
        // What is asked does not depend on who trained it, and nothing of this run is released.
        Engine::Clear => {
            let mut ledger = job.terms.ledger(None)?;
            job.train_local(
                &Randomness::new(job.config.seed),
                &mut ledger,
                &mut Unwatched,
            )?
        }
    };
    let replica = trained
        .model
        .replica()
        .context("requests need a model on the grid")?;
    let server = sweep.server()?;
    let id = ModelId(rand::random());
    load_if_absent(&server, id, job.plan()?, replica)?;
    let feed = ModelFeed::new(replica.freeze());
    let mut asker = Asker::attach(&server, id, job.plan()?, feed, &job.split.test, false)?;
    for index in 0..requests {
        asker.ask(index)?;
    }
    asker.finish()
}
