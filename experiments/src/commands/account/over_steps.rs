//! Epsilon against the number of steps, by every accountant, as records.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_dp::{AccountantKind, Adjacency, Answer, Delta, DpEvent};
use sphinx_figures::record::{Record, label, metric, sample};

use crate::cli::AccountArgs;
use crate::environment;
use crate::run_dir::RunDir;

/// Numbers of steps per factor of ten.
const PER_DECADE: f64 = 8.0;

/// The curves: an accountant, the side of its answer, and how the curve is called.
type Side = fn(&Answer) -> Option<f64>;
const CURVES: [(AccountantKind, &str, Side); 5] = [
    (
        AccountantKind::Moments,
        "moments (2016), upper bound",
        |a| a.upper,
    ),
    (AccountantKind::Rdp, "Renyi, upper bound", |a| a.upper),
    (AccountantKind::Pld, "privacy loss, upper bound", |a| {
        a.upper
    }),
    (AccountantKind::Pld, "privacy loss, lower bound", |a| {
        a.lower
    }),
    (
        AccountantKind::Gdp,
        "central limit (GDP), estimate only",
        |a| a.estimate,
    ),
];

/// Writes one record per curve into a new run directory.
pub(super) fn write(
    folder: &Path,
    args: &AccountArgs,
    adjacency: Adjacency,
    event: &DpEvent,
    delta: Delta,
) -> Result<()> {
    let run = RunDir::create(Some(folder), "account", "account")?;
    let config = json!({
        "sampling_rate": args.sampling_rate,
        "noise_multiplier": args.noise_multiplier,
        "steps": args.steps,
        "delta": args.delta,
    });
    run.write_config(&config)?;
    for (i, (kind, name, side)) in CURVES.into_iter().enumerate() {
        let (mut at, mut epsilons) = (Vec::new(), Vec::new());
        for steps in steps(args.steps) {
            // Where an accountant has no answer, its curve has a gap.
            let mut accountant = kind.accountant(adjacency);
            let answer = accountant.compose(event, steps).ok();
            let answer = answer.and_then(|()| accountant.epsilon_at(delta).ok());
            let epsilon = answer.as_ref().and_then(side);
            if let Some(epsilon) = epsilon.filter(|e| e.is_finite() && *e > 0.0) {
                at.push(steps as f64);
                epsilons.push(epsilon);
            }
        }
        let engine = kind.name();
        let mut record = Record::new(
            "account",
            format!("curve-{i}"),
            engine,
            "dp-sgd",
            "accountants",
            0,
        )
        .with_security("none")
        .with_label(label::MACHINE, environment::capture().machine())
        .with_label(label::SERIES, name)
        .with_metric(metric::DELTA, delta.get())
        .with_metric("sampling_rate", args.sampling_rate)
        .with_metric("noise_multiplier", args.noise_multiplier)
        .with_samples(sample::ACCOUNT_STEPS, at)
        .with_samples(sample::ACCOUNT_EPSILON, epsilons);
        if let Value::Object(fields) = &config {
            record.config = fields.clone().into_iter().collect();
        }
        run.append(&record)?;
    }
    Ok(())
}

/// About evenly spaced in the logarithm, from one to `last`.
fn steps(last: u64) -> Vec<u64> {
    let decades = (last as f64).log10();
    let count = (decades * PER_DECADE).ceil().max(1.0) as u32;
    let at = |i: u32| {
        10f64
            .powf(decades * f64::from(i) / f64::from(count))
            .round() as u64
    };
    let mut all: Vec<u64> = (0..count).map(at).chain([last]).collect();
    all.dedup();
    all
}
