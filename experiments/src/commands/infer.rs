//! `sphinx infer`: private predictions from a trained model.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_figures::load::CONFIG;
use sphinx_nn::data::Dataset;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::Replica;
use sphinx_protocol::plan::Plan;
use sphinx_protocol::shared::ModelFeed;

use crate::child::Server;
use crate::cli::InferArgs;
use crate::config::{Config, load_test};
use crate::inference::{Answers, Asker, load_if_absent};
use crate::output::Output;
use crate::progress::Progress;
use crate::report;
use crate::run_dir::RunDir;
use crate::saved_model::SavedModel;
use crate::table::{Table, bytes, percent, seconds};
use crate::usage::{OrUsage, UsageError};

pub(super) fn run(args: &InferArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    if args.requests == 0 {
        return Err(UsageError::flag("--requests", "must be at least 1"));
    }
    let saved = SavedModel::read(&args.run)?;
    let (plan, replica) = (saved.plan()?, saved.replica()?);
    let config = read_config(args)?;
    let test = load_test(&config, args.data.as_deref())?;
    let run = RunDir::create(args.run_dir.as_deref(), "infer", "shared")?;
    run.write_config(&config)?;
    let server = Server::obtain(args.connect.as_deref(), &run.path().join("server.log"))?;
    let id = saved.id().unwrap_or_else(|| ModelId(rand::random()));
    let loading = load_if_absent(&server, id, &plan, &replica)?;
    let answers = ask(&server, id, (&plan, &replica), &test, args.requests, out)?;
    let security = plan.parameters().security().name();
    run.append(&report::inference_record(
        "infer",
        &config,
        security,
        "idle server",
        &answers,
    ))?;
    out.say(table(&answers));
    out.say(format_args!("run directory: {}", run.path().display()));
    let mut object = object(&answers);
    object["run_dir"] = run.path().display().to_string().into();
    object["security"] = security.into();
    object["bytes_up"] = (loading.sent + answers.traffic.sent).into();
    object["bytes_down"] = (loading.received + answers.traffic.received).into();
    out.object(&object);
    Ok(())
}

fn read_config(args: &InferArgs) -> Result<Config> {
    let path = args.run.join(CONFIG);
    let text = fs::read_to_string(&path).or_usage(format!("reading {}", path.display()))?;
    toml::from_str(&text).or_usage(format!("reading {}", path.display()))
}

fn ask(
    server: &Server,
    id: ModelId,
    (plan, replica): (&Plan, &Replica),
    test: &Dataset,
    requests: usize,
    out: Output,
) -> Result<Answers> {
    let feed = ModelFeed::new(replica.freeze());
    let mut asker = Asker::attach(server, id, plan, feed, test, false)?;
    let mut progress = Progress::new(out, "requests", requests as u64);
    for index in 0..requests {
        asker.ask(index)?;
        progress.advance(index as u64 + 1, "");
    }
    progress.finish();
    asker.finish()
}

fn table(answers: &Answers) -> Table {
    let asked = answers.asked() as f64;
    let latency = |q| answers.latency(q).map_or_else(String::new, seconds);
    let mut table = Table::new(["private requests", ""]);
    table.row("requests", [asked.to_string()]);
    table.row("accuracy", [percent(answers.share(answers.correct))]);
    table.row(
        "equal to the local prediction",
        [percent(answers.share(answers.agreed))],
    );
    table.row("online latency, median", [latency(0.5)]);
    table.row("online latency, p99", [latency(0.99)]);
    table.row(
        "online bytes up per request",
        [bytes(answers.online_up as f64 / asked)],
    );
    table.row(
        "online bytes down per request",
        [bytes(answers.online_down as f64 / asked)],
    );
    table.row(
        "preparation per ticket",
        [seconds(answers.preparation_per_ticket())],
    );
    let prepared = answers.tickets.max(1) as f64;
    table.row(
        "preparation bytes per ticket",
        [bytes(answers.offline_bytes as f64 / prepared)],
    );
    table.row(
        "client CPU per request and its ticket",
        [seconds(answers.cpu_per_request())],
    );
    table
}

fn object(answers: &Answers) -> Value {
    let asked = answers.asked().max(1) as f64;
    let milliseconds = |q| answers.latency(q).map(|s| 1e3 * s);
    json!({
        "requests": answers.asked(),
        "accuracy": answers.share(answers.correct),
        "agreement": answers.share(answers.agreed),
        "online_latency_ms_p50": milliseconds(0.5),
        "online_latency_ms_p99": milliseconds(0.99),
        "bytes_up_per_request": answers.online_up as f64 / asked,
        "bytes_down_per_request": answers.online_down as f64 / asked,
        "offline_seconds": answers.preparations.iter().sum::<f64>(),
        "offline_seconds_per_ticket": answers.preparation_per_ticket(),
        "offline_bytes": answers.offline_bytes,
        "tickets": answers.tickets,
        "client_cpu_s_per_request": answers.cpu_per_request(),
    })
}
