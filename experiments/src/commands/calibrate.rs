//! `sphinx calibrate`: the noise multiplier that a budget needs, or the steps or the sampling rate
//! that it allows.

use anyhow::Result;
use serde_json::json;
use sphinx_dp::{
    AccountantKind, Budget, Calibrator, Delta, Epsilon, NoiseMultiplier, SamplingRate,
};

use crate::cli::CalibrateArgs;
use crate::output::Output;
use crate::usage::{OrUsage, UsageError};

/// What the flags give.
#[derive(Clone, Copy)]
struct Given {
    rate: Option<SamplingRate>,
    steps: Option<u64>,
    z: Option<NoiseMultiplier>,
}

/// A run that keeps the budget, and which part of it was found.
struct Found {
    rate: SamplingRate,
    steps: u64,
    z: NoiseMultiplier,
    by: AccountantKind,
    object: serde_json::Value,
}

pub(super) fn run(args: &CalibrateArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let budget = Budget {
        epsilon: Epsilon::new(args.epsilon).or_usage("--epsilon")?,
        delta: Delta::new(args.delta).or_usage("--delta")?,
    };
    let rate = args.sampling_rate.map(SamplingRate::new).transpose();
    let z = args.noise_multiplier.map(NoiseMultiplier::new).transpose();
    let given = Given {
        rate: rate.or_usage("--sampling-rate")?,
        steps: args.steps,
        z: z.or_usage("--noise-multiplier")?,
    };
    if args.steps == Some(0) {
        let problem = "0 is out of range: must be at least 1";
        return Err(UsageError::flag("--steps", problem));
    }
    let by = |accountant| {
        let calibrator = Calibrator {
            accountant,
            budget,
            adjacency: args.adjacency.into(),
        };
        find(&calibrator, given)
    };
    let found = match args.accountant {
        Some(name) => by(name.into())?,
        None => by(AccountantKind::Pld).or_else(|why| {
            out.remark(format_args!("no answer by pld, so by rdp: {why:#}"));
            by(AccountantKind::Rdp)
        })?,
    };
    tell(out, args, &found);
    Ok(())
}

/// Finds the one of the three that is missing.
fn find(calibrator: &Calibrator, given: Given) -> Result<Found> {
    let by = calibrator.accountant;
    let (rate, steps, z, mut object) = match (given.rate, given.steps, given.z) {
        (Some(rate), Some(steps), None) => {
            let z = calibrator.noise_multiplier(rate, steps);
            let z = z.or_usage("calibrating the noise")?;
            (rate, steps, z, json!({ "noise_multiplier": z.get() }))
        }
        (Some(rate), None, Some(z)) => {
            let steps = calibrator.steps(rate, z);
            let steps = steps.or_usage("calibrating the steps")?;
            (rate, steps, z, json!({ "steps": steps }))
        }
        (None, Some(steps), Some(z)) => {
            let rate = calibrator.rate(z, steps).or_usage("calibrating the rate")?;
            (rate, steps, z, json!({ "sampling_rate": rate.get() }))
        }
        _ => {
            return Err(UsageError::flag(
                "--sampling-rate, --steps, --noise-multiplier",
                "give exactly two of the three; the third is what is calibrated",
            ));
        }
    };
    object["accountant"] = by.name().into();
    Ok(Found {
        rate,
        steps,
        z,
        by,
        object,
    })
}

fn tell(out: Output, args: &CalibrateArgs, found: &Found) {
    let within = if found.by.is_bound() {
        "stay within"
    } else {
        "cost by an ESTIMATE, which promises too much, about"
    };
    out.say(format_args!(
        "noise multiplier {:.6}: {} steps at rate {} {within} epsilon {} at delta {} ({})",
        found.z.get(),
        found.steps,
        found.rate,
        args.epsilon,
        args.delta,
        found.by.title()
    ));
    if !found.by.is_bound() {
        out.warn("warning: gdp is no bound; do not run with this noise");
    }
    out.object(&found.object);
}
