//! `sphinx bench`: a quick measurement of this machine, each figure beside its plain reference.
//!
//! Medians of a few repetitions, in one process after the other: enough to see whether a machine or a
//! build is what one thinks it is, not more. Nothing measured here is private or released.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sphinx_dp::{AccountantKind, Adjacency, Delta, DpEvent, NoiseMultiplier, SamplingRate};
use sphinx_figures::stats;
use sphinx_he::ntt::{NttTable, reference};
use sphinx_he::zq::Modulus;
use sphinx_nn::pass;
use sphinx_protocol::grid::{Engine as Integers, Frozen};
use sphinx_protocol::message::ModelId;
use sphinx_protocol::shared::ModelFeed;

use crate::child::Server;
use crate::cli::BenchArgs;
use crate::config::{Config, Engine, load_for};
use crate::environment;
use crate::inference::{Asker, load_if_absent};
use crate::job::{Begun, Job, Randomness, Trained, Unwatched};
use crate::output::Output;
use crate::table::{Table, seconds};
use crate::usage::OrUsage;

mod ablation;
mod full_slots;
mod pure_he;
mod widths;

/// Steps of each kind, the first of which does not count.
const STEPS: u64 = 4;
/// Requests that are timed.
const REQUESTS: usize = 100;

/// One line: what was measured, and what it is compared with.
struct Line {
    name: &'static str,
    seconds: f64,
    twin: &'static str,
    twin_seconds: Option<f64>,
}

impl Line {
    fn ratio(&self) -> Option<f64> {
        self.twin_seconds.map(|twin| twin / self.seconds)
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    if args.pure_he {
        return pure_he::run(out, args.from.as_deref());
    }
    if args.ablation {
        return ablation::run(out, args.from.as_deref());
    }
    if args.full_slots {
        return full_slots::run(out, args.from.as_deref());
    }
    if args.widths {
        return widths::run(out, args);
    }
    out.remark("measuring; about ten seconds");
    let config = Config {
        train_size: 4000,
        test_size: 200,
        batch: 256.0,
        steps: STEPS,
        seed: Some(1),
        ..Config::default()
    };
    let split = load_for(&config, None)?;
    let job = Job::new(config, split)?;
    let mut lines = vec![transform(&job)?];
    lines.extend(steps_and_request(&job)?);
    lines.extend(accountants()?);
    out.say(table(&lines));
    out.object(&json!({
        "machine": environment::capture().machine(),
        "measured": lines.iter().map(object).collect::<Vec<_>>(),
    }));
    Ok(())
}

/// What `from` holds of an earlier run; without it what `measure` finds now, after saying what it takes.
fn kept_or<T: DeserializeOwned>(
    out: Output,
    from: Option<&Path>,
    takes: &str,
    measure: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(path) = from else {
        out.remark(takes);
        return measure();
    };
    let context = || format!("reading {}", path.display());
    let text = fs::read_to_string(path).or_usage(context())?;
    serde_json::from_str(&text).or_usage(context())
}

/// Says what memory was needed so far, here and at a server of ours.
fn remark_memory(out: Output, server: Option<&Server>) {
    let told = |peak: Option<f64>| peak.map_or("unknown".to_owned(), |mb| format!("{mb:.0} MB"));
    let here = told(environment::peak_rss_mb());
    match server {
        Some(server) => {
            let there = told(server.peak_rss_mb());
            out.remark(format_args!(
                "memory: {here} at most here, {there} at the server"
            ));
        }
        None => out.remark(format_args!("memory: {here} at most")),
    }
}

/// Median seconds of `times` calls after one that does not count.
fn median(times: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    call()?;
    let mut samples = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        call()?;
        samples.push(start.elapsed().as_secs_f64());
    }
    Ok(stats::median(&samples)?)
}

/// The transform of the shipped ring, and its definition evaluated term by term.
fn transform(job: &Job) -> Result<Line> {
    let parameters = job.plan()?.parameters();
    let q = parameters.moduli().first().context("a modulus")?.value();
    let table = NttTable::new(Modulus::new(q)?, parameters.log_n())?;
    let mut row: Vec<u64> = (0..parameters.degree() as u64).map(|i| i * i % q).collect();
    let fast = median(200, || {
        table.forward(&mut row);
        Ok(())
    })?;
    let start = Instant::now();
    let slow = reference::transform(q, table.root(), &row);
    let twin = start.elapsed().as_secs_f64();
    anyhow::ensure!(slow.len() == row.len(), "the reference lost coefficients");
    Ok(Line {
        name: "transform, N = 4096",
        seconds: fast,
        twin: "by definition",
        twin_seconds: Some(twin),
    })
}

fn step_seconds(trained: &Trained) -> Result<f64> {
    let steps = trained.history.steady().iter();
    Ok(stats::median(
        &steps.map(|s| s.report.seconds).collect::<Vec<_>>(),
    )?)
}

/// The same private step three times, and requests to the model it gives.
fn steps_and_request(job: &Job) -> Result<Vec<Line>> {
    let local = |grid| -> Result<Trained> {
        let job = job.with(Config {
            engine: Engine::Clear,
            grid,
            ..job.config.clone()
        })?;
        let mut begun = Begun::unkept(job.terms.ledger(None)?);
        job.train_local(&Randomness::Seeded(1), &mut begun, &mut Unwatched)
    };
    let (float, integer) = (step_seconds(&local(false)?)?, step_seconds(&local(true)?)?);
    let log = std::env::temp_dir().join(format!("sphinx-bench-{}.log", std::process::id()));
    let server = Server::obtain(None, &log)?;
    let mut begun = Begun::unkept(job.terms.ledger(None)?);
    let randomness = Randomness::Seeded(1);
    let trained = job.train_packed(&server, None, &randomness, &mut begun, &mut Unwatched)?;
    let encrypted = step_seconds(&trained)?;
    let (request, twin) = request(job, &server, &trained)?;
    drop(server);
    fs::remove_file(&log).or_usage("removing the server's log")?;
    Ok(vec![
        Line {
            name: "private step in floating point",
            seconds: float,
            twin: "on integers",
            twin_seconds: Some(integer),
        },
        Line {
            name: "private step under encryption",
            seconds: encrypted,
            twin: "on integers, in the clear",
            twin_seconds: Some(integer),
        },
        Line {
            name: "private request, online",
            seconds: request,
            twin: "on integers, in the clear",
            twin_seconds: Some(twin),
        },
    ])
}

/// Median seconds of a private request, and of the same answer computed by the client alone.
fn request(job: &Job, server: &Server, trained: &Trained) -> Result<(f64, f64)> {
    let replica = trained.model.replica().context("a model on the grid")?;
    let id = ModelId(rand::random());
    load_if_absent(server, id, job.plan()?, replica)?;
    let model = replica.freeze();
    let grid = job.grid.clone().context("a model on the grid")?;
    let mut alone = Integers::new(Frozen::new(grid, Arc::clone(&model)));
    let image = job.split.test.images.gather(&[0], 1);
    let twin = median(REQUESTS, || {
        pass::infer(&mut alone, &job.network, &image)?;
        Ok(())
    })?;
    let feed = ModelFeed::new(model);
    let mut asker = Asker::attach(server, id, job.plan()?, feed, &job.split.test, false)?;
    for index in 0..REQUESTS {
        asker.ask(index)?;
    }
    let answers = asker.finish()?;
    let online = answers.latency(0.5).context("no request was answered")?;
    Ok((online, twin))
}

/// A run of 3000 steps at rate 1/120, priced by each accountant that has a bound.
fn accountants() -> Result<Vec<Line>> {
    let event = DpEvent::poisson_gaussian(
        SamplingRate::from_mean(500.0, 60_000)?,
        NoiseMultiplier::new(1.2)?,
    );
    let delta = Delta::new(1e-5)?;
    let time = |kind: AccountantKind, times| {
        median(times, || {
            let mut accountant = kind.accountant(Adjacency::AddRemove);
            accountant.compose(&event, 3000)?;
            accountant.epsilon(delta)?;
            Ok(())
        })
    };
    let rdp = time(AccountantKind::Rdp, 20)?;
    Ok(vec![
        Line {
            name: "pricing 3000 steps, rdp",
            seconds: rdp,
            twin: "",
            twin_seconds: None,
        },
        Line {
            name: "pricing 3000 steps, pld",
            seconds: time(AccountantKind::Pld, 3)?,
            twin: "rdp",
            twin_seconds: Some(rdp),
        },
    ])
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(["median", "time", "beside", "its time", "ratio"]);
    for line in lines {
        let ratio = line.ratio().map(|ratio| format!("{ratio:.3}"));
        table.row(
            line.name,
            [
                seconds(line.seconds),
                line.twin.to_owned(),
                line.twin_seconds.map_or_else(String::new, seconds),
                ratio.unwrap_or_default(),
            ],
        );
    }
    table
}

fn object(line: &Line) -> Value {
    json!({
        "name": line.name,
        "seconds": line.seconds,
        "beside": line.twin,
        "beside_seconds": line.twin_seconds,
        "ratio": line.ratio(),
    })
}
