//! From finished runs to records, JSON objects and rows of tables.
//!
//! A record keeps every timing sample, under the names that the figures read; what is printed is
//! computed from the same values, so a number on the screen can be found again in `trials.jsonl`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_dp::{BiasRule, PrivacyStatement};
use sphinx_figures::record::{Record, label, metric, sample};
use sphinx_figures::stats;
use sphinx_nn::Network;
use sphinx_protocol::model::PublicModel;
use sphinx_protocol::packed::transforms::step_counts;
use sphinx_protocol::packed::{PhaseWork, Upload};
use sphinx_protocol::paper::{Paper, StepCounts};
use sphinx_protocol::plan::{LocalPhase, Plan};
use sphinx_protocol::pure_he::PureHePlan;

use crate::config::{Config, Engine};
use crate::environment;
use crate::inference::Answers;
use crate::job::{History, Job, StepSample, Trained, design, design_paper, design_pure_he};
use crate::output::number;
use crate::privacy::{self, Terms};
use crate::run_dir::utc_now;
use crate::work_ratio::{self, Opponent};

/// The figures of one training run that are printed and recorded.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Median wall seconds per step after the first.
    pub seconds_per_step: f64,
    /// Client CPU per step over that of the client that trains alone.
    pub client_work_ratio: f64,
    /// CPU seconds of a step of the client that trains alone.
    pub alone_cpu_s: f64,
    /// Wall seconds of a step of the client that trains alone.
    pub alone_seconds: f64,
    /// Largest resident set of this process, 10^6 bytes.
    pub peak_rss_mb: Option<f64>,
    /// The same of the server, where it is a process of ours.
    pub server_peak_rss_mb: Option<f64>,
}

impl Summary {
    /// Sums a run up; the ratio is taken over `steps`, which should have the machine to
    /// themselves.
    ///
    /// # Errors
    /// If the run has no steps.
    pub fn new(history: &History, steps: &[StepSample], opponent: &Opponent) -> Result<Self> {
        let cpu: Vec<f64> = steps.iter().map(|s| s.cpu_s).collect();
        let peak_rss_mb = environment::peak_rss_mb();
        Ok(Self {
            seconds_per_step: stats::median(&walls(history))?,
            client_work_ratio: stats::median(&cpu)? / opponent.cpu_s,
            alone_cpu_s: opponent.cpu_s,
            alone_seconds: opponent.seconds,
            peak_rss_mb,
            server_peak_rss_mb: None,
        })
    }
}

/// The labels that are written here; nobody else may write them.
pub const LABELS: [&str; 11] = [
    label::PRIVATE,
    label::MACHINE,
    label::COMMAND,
    label::VERSION,
    label::FINISHED,
    label::ACCOUNTANT,
    label::NOISE,
    ARITHMETIC,
    TESTED_ON,
    START,
    BIAS,
];
/// Integers or floating point.
const ARITHMETIC: &str = "arithmetic";
/// How biases learn, where it is not the default rule.
const BIAS: &str = "bias";
/// First weights that were not drawn.
const START: &str = "start";
/// How the metrics begin that count the operations of one step.
pub const OPERATIONS: &str = "operations.";
/// Records that are not the test set.
const TESTED_ON: &str = "tested-on";

/// Wall seconds of the steady steps.
fn walls(history: &History) -> Vec<f64> {
    history.steady().iter().map(|s| s.report.seconds).collect()
}

/// The record of one training run. `summary` is absent where nobody measured the opponent.
#[must_use]
pub fn training_record(
    experiment: &str,
    job: &Job,
    trained: &Trained,
    summary: Option<&Summary>,
) -> Record {
    let config = &job.config;
    let mut record = record(experiment, config, config.engine.name(), config.trial_id())
        .with_security(security(job))
        .with_label(label::PRIVATE, if config.private { "yes" } else { "no" })
        .with_label(ARITHMETIC, config.arithmetic())
        .with_label(label::ACCOUNTANT, config.accountant.to_string())
        .with_label(label::NOISE, noise(config))
        .with_metric(metric::ACCURACY, trained.accuracy)
        .with_metric(metric::DELTA, config.delta);
    // Rounded up it is still a bound, and runs to one budget stand at one place in a figure.
    let last = trained.history.steps.last();
    let last = last.map(|s| (s.epsilon * 1e4).ceil() / 1e4);
    let last = last.filter(|epsilon| epsilon.is_finite());
    if let Some(epsilon) = last {
        record = record.with_metric(metric::EPSILON, epsilon);
    }
    let mut metrics = vec![
        ("steps", trained.history.steps.len() as f64),
        ("capacity", job.terms.capacity as f64),
        ("seconds", trained.seconds),
        ("offline_seconds", trained.offline_seconds),
        ("bytes_up", trained.traffic.sent as f64),
        ("bytes_down", trained.traffic.received as f64),
        ("client_cpu_s", trained.client_cpu_s),
        ("server_cpu_s", trained.server_cpu_s),
    ];
    let found = job.found().filter(|found| found.parameters.is_some());
    metrics.extend(found.map(|found| ("start_seconds", found.seconds)));
    metrics.extend(job.terms.noise.map(|z| ("noise_multiplier", z.get())));
    metrics.push(("sampling_rate", job.terms.rate.get()));
    if summary.is_none() {
        let step = stats::median(&walls(&trained.history)).ok();
        metrics.extend(step.map(|seconds| ("seconds_per_step", seconds)));
        metrics.extend(environment::peak_rss_mb().map(|mb| ("peak_rss_mb", mb)));
    }
    if let Some(summary) = summary {
        metrics.push(("seconds_per_step", summary.seconds_per_step));
        metrics.push(("client_work_ratio", summary.client_work_ratio));
        metrics.push(("alone_cpu_s", summary.alone_cpu_s));
        metrics.push(("alone_seconds", summary.alone_seconds));
        metrics.extend(summary.peak_rss_mb.map(|mb| ("peak_rss_mb", mb)));
        let server = summary.server_peak_rss_mb;
        metrics.extend(server.map(|mb| ("server_peak_rss_mb", mb)));
    }
    if let Ok(Value::Object(operations)) = serde_json::to_value(counts(job)) {
        for (name, count) in operations {
            let count = count.as_f64().unwrap_or_default();
            record = record.with_metric(format!("{OPERATIONS}{name}"), count);
        }
    }
    for (name, value) in metrics {
        record = record.with_metric(name, value);
    }
    record.samples = samples(&trained.history);
    record
}

/// A record with what all kinds of trials have in common.
fn record(experiment: &str, config: &Config, engine: &str, trial: String) -> Record {
    let seed = config.seed.unwrap_or(0);
    let (model, dataset) = (config.model.as_str(), config.dataset.as_str());
    let environment = environment::capture();
    let mut record = Record::new(experiment, trial, engine, model, dataset, seed)
        .with_label(label::MACHINE, environment.machine())
        .with_label(label::COMMAND, environment::command_line())
        .with_label(label::VERSION, environment::version(&environment))
        .with_label(label::FINISHED, utc_now());
    if config.validation.is_some() {
        record = record.with_label(TESTED_ON, "held-out training records");
    }
    if config.bias == BiasRule::Paper {
        record = record.with_label(BIAS, bias_rule(config));
    }
    if !config.start.is_drawn() {
        record = record.with_label(START, config.start.to_string());
    }
    if let Ok(Value::Object(fields)) = serde_json::to_value(config) {
        record.config = fields.into_iter().collect();
    }
    record
}

/// Where the noise of a run comes from.
const fn noise(config: &Config) -> &'static str {
    match (config.private, config.seed) {
        (false, _) => "none",
        (true, Some(_)) => "discrete Gaussian, from a seed",
        (true, None) => "discrete Gaussian",
    }
}

/// The security level of a job's encryption.
#[must_use]
pub fn security(job: &Job) -> &'static str {
    match (&job.plan, job.config.engine) {
        (Some(plan), Engine::Packed) => plan.parameters().security().name(),
        (_, Engine::Paper) => job
            .paper
            .as_ref()
            .map_or("none", |plan| plan.parameters().security().name()),
        (_, Engine::PureHe) => job
            .pure_he
            .as_ref()
            .map_or("none", |plan| plan.parameters().security().name()),
        _ => "none",
    }
}

/// The products that the client kept to itself.
#[must_use]
pub fn local(job: &Job) -> &[LocalPhase] {
    match (&job.plan, job.config.engine) {
        (Some(plan), Engine::Packed) => &plan.literal().local,
        _ => &[],
    }
}

/// Median seconds of each phase of the steady steps, for engines that have phases.
fn phase_seconds(steps: &[StepSample]) -> Value {
    let phases = phases(steps).into_iter();
    let medians =
        phases.filter_map(|(name, all)| Some((name.to_owned(), stats::median(&all).ok()?)));
    medians
        .map(|(name, seconds)| (name, json!(seconds)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Seconds per step of every phase of every layer, for the engine packed: at both ends, and of a
/// client that computes the product alone.
///
/// # Errors
/// If the products cannot be computed alone.
pub fn layer_work(job: &Job, trained: &Trained) -> Result<Value> {
    if trained.work.is_empty() {
        return Ok(Value::Null);
    }
    let alone = work_ratio::products_alone(job)?;
    let row = |work: &PhaseWork| {
        let phase = match work.upload {
            Upload::Activation => "forward",
            Upload::OutputGradient => "backward",
            Upload::ClippedGradient => "gradient",
        };
        let own = alone
            .iter()
            .find(|(upload, layer, _)| (*upload, *layer) == (work.upload, work.layer));
        let own = own.map(|(.., cpu_s)| *cpu_s);
        let per_step = |seconds: f64| seconds / work.steps.max(1) as f64;
        let client_cpu_s = per_step(work.client_cpu_s);
        json!({
            "layer": work.layer,
            "phase": phase,
            "seconds": per_step(work.seconds),
            "client_cpu_s": client_cpu_s,
            "client_busy_s": per_step(work.client_busy_s),
            "server_cpu_s": per_step(work.server_cpu_s),
            "server_busy_s": per_step(work.server_busy_s),
            "sending_s": per_step(work.sending_s),
            "both_ways_s": per_step(work.both_ways_s),
            "overlap_s": per_step(work.overlap_s()),
            "alone_cpu_s": own,
            "client_work_ratio": own.map(|own| client_cpu_s / own),
        })
    };
    Ok(trained.work.iter().map(row).collect())
}

/// The operations of one step by formula: none in the clear; for `packed` with the weights that the network begins
/// with, since short weights save a prime.
#[must_use]
pub fn counts(job: &Job) -> StepCounts {
    let counted = match job.config.engine {
        Engine::Clear => None,
        Engine::Packed => job.plan.as_ref().map(of_packed),
        Engine::Paper => job.paper.as_ref().map(Paper::counts_of),
        Engine::PureHe => job.pure_he.as_ref().map(of_pure_he),
    };
    counted.unwrap_or_default()
}

/// The same where there is no data; nothing if no plan exists.
#[must_use]
pub fn counts_of(config: &Config, network: &Network, terms: &Terms) -> Option<StepCounts> {
    match config.engine {
        Engine::Clear => Some(StepCounts::default()),
        Engine::Packed => design(config, network, terms).ok().as_ref().map(of_packed),
        Engine::Paper => {
            let plan = design_paper(config, network, terms).ok();
            plan.as_ref().map(Paper::counts_of)
        }
        Engine::PureHe => {
            let plan = design_pure_he(config, network, terms).ok();
            plan.as_ref().map(of_pure_he)
        }
    }
}

fn of_packed(plan: &Plan) -> StepCounts {
    let weights = PublicModel::initial(plan.grid()).snapshot();
    step_counts(plan, &plan.tightness(&weights))
}

fn of_pure_he(plan: &PureHePlan) -> StepCounts {
    plan.counts(plan.parameters().max_level())
}

/// All samples of a run, under the names of the figures.
fn samples(history: &History) -> BTreeMap<String, Vec<f64>> {
    let mut samples = BTreeMap::from([(sample::STEP_S.to_owned(), walls(history))]);
    let steady = history.steady();
    samples.insert(
        "step_cpu_s".to_owned(),
        steady.iter().map(|s| s.cpu_s).collect(),
    );
    if steady.iter().all(|s| s.phases.is_some()) {
        for (phase, seconds) in phases(steady) {
            let name = format!("{}{phase}{}", sample::PHASE_PREFIX, sample::SECONDS_SUFFIX);
            samples.insert(name, seconds);
        }
    }
    let curve = &history.curve;
    samples.insert(
        sample::CURVE_STEP.to_owned(),
        curve.iter().map(|p| p.step as f64).collect(),
    );
    samples.insert(
        sample::CURVE_LOSS.to_owned(),
        curve.iter().map(|p| p.loss).collect(),
    );
    samples.insert(
        sample::CURVE_ACCURACY.to_owned(),
        curve.iter().map(|p| p.accuracy).collect(),
    );
    if curve.iter().all(|p| p.epsilon.is_finite()) {
        samples.insert(
            sample::CURVE_EPSILON.to_owned(),
            curve.iter().map(|p| p.epsilon).collect(),
        );
    }
    samples
}

/// Seconds by phase; what no phase accounts for (drawing the batch, activations, loss) is `rest`.
fn phases(steps: &[StepSample]) -> BTreeMap<&'static str, Vec<f64>> {
    let mut all: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for step in steps {
        let Some(times) = step.phases else { continue };
        let release = step.report.release_seconds;
        let checked = times.verify;
        let known =
            times.forward + times.backward + times.gradient + times.update + checked + release;
        if checked > 0.0 {
            all.entry("verify").or_default().push(checked);
        }
        for (name, seconds) in [
            ("forward", times.forward),
            ("backward", times.backward),
            ("gradient", times.gradient),
            ("release", release),
            ("update", times.update),
            ("rest", (step.report.seconds - known).max(0.0)),
        ] {
            all.entry(name).or_default().push(seconds);
        }
    }
    all
}

/// The JSON object of a training run.
#[must_use]
pub fn training_object(
    job: &Job,
    trained: &Trained,
    summary: &Summary,
    statement: &PrivacyStatement,
) -> Value {
    let config = &job.config;
    json!({
        "engine": config.engine.name(),
        "grid": config.grid,
        "model": config.model,
        "dataset": config.dataset,
        "accuracy": trained.accuracy,
        "epsilon": number(statement.epsilon),
        "delta": config.delta,
        "delta_total": number(statement.delta),
        "proven": statement.proven,
        "accountant": config.accountant.name(),
        "noise_multiplier": job.terms.noise.map(sphinx_dp::NoiseMultiplier::get),
        "steps": trained.history.steps.len(),
        "batch": config.batch,
        "capacity": job.terms.capacity,
        "seconds": trained.seconds,
        "seconds_per_step": summary.seconds_per_step,
        "offline_seconds": trained.offline_seconds,
        "bytes_up": trained.traffic.sent,
        "bytes_down": trained.traffic.received,
        "client_cpu_s": trained.client_cpu_s,
        "server_cpu_s": trained.server_cpu_s,
        "client_work_ratio": summary.client_work_ratio,
        "client_alone_cpu_s_per_step": summary.alone_cpu_s,
        "client_alone_seconds_per_step": summary.alone_seconds,
        "peak_rss_mb": summary.peak_rss_mb,
        "server_peak_rss_mb": summary.server_peak_rss_mb,
        "security": security(job),
        "local": local(job),
        "bias_rule": bias_rule(config),
        "style": config.style,
        "verify": config.verify,
        "protection": privacy::protection(config),
        "phase_seconds": phase_seconds(trained.history.steady()),
        "operations_per_step": counts(job),
    })
}

/// How biases learn, in a word; without noise both rules release everything.
const fn bias_rule(config: &Config) -> &'static str {
    match (config.bias, config.private) {
        (BiasRule::Paper, _) => "paper",
        (BiasRule::Private, true) => "private",
        (BiasRule::Private, false) => "none",
    }
}

/// The record of a series of private requests; `series` tells several of one run apart.
#[must_use]
pub fn inference_record(
    experiment: &str,
    config: &Config,
    security: &str,
    series: &str,
    answers: &Answers,
) -> Record {
    let trial = format!("{}-{}", config.trial_id(), series.replace(' ', "-"));
    let asked = answers.asked().max(1) as f64;
    record(experiment, config, "shared", trial)
        .with_security(security)
        .with_label(label::SERIES, series)
        .with_metric("requests", answers.asked() as f64)
        .with_metric("request_accuracy", answers.share(answers.correct))
        .with_metric("agreement", answers.share(answers.agreed))
        .with_metric("bytes_up_per_request", answers.online_up as f64 / asked)
        .with_metric("bytes_down_per_request", answers.online_down as f64 / asked)
        .with_metric("preparation_s_per_ticket", answers.preparation_per_ticket())
        .with_samples(sample::ONLINE_LATENCY_S, answers.latencies.clone())
        .with_samples("preparation_s", answers.preparations.clone())
}
