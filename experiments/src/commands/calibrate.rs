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

pub(super) fn run(args: &CalibrateArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let calibrator = Calibrator {
        accountant: args.accountant.into(),
        budget: Budget {
            epsilon: Epsilon::new(args.epsilon).or_usage("--epsilon")?,
            delta: Delta::new(args.delta).or_usage("--delta")?,
        },
        adjacency: args.adjacency.into(),
    };
    let rate = args.sampling_rate.map(SamplingRate::new).transpose();
    let z = args.noise_multiplier.map(NoiseMultiplier::new).transpose();
    let (rate, z) = (
        rate.or_usage("--sampling-rate")?,
        z.or_usage("--noise-multiplier")?,
    );
    if args.steps == Some(0) {
        return Err(UsageError::flag(
            "--steps",
            "0 is out of range: must be at least 1",
        ));
    }
    let (rate, z, steps, object) = match (rate, args.steps, z) {
        (Some(rate), Some(steps), None) => {
            let z = calibrator.noise_multiplier(rate, steps);
            let z = z.or_usage("calibrating the noise")?;
            (rate, z, steps, json!({ "noise_multiplier": z.get() }))
        }
        (Some(rate), None, Some(z)) => {
            let steps = calibrator
                .steps(rate, z)
                .or_usage("calibrating the steps")?;
            (rate, z, steps, json!({ "steps": steps }))
        }
        (None, Some(steps), Some(z)) => {
            let rate = calibrator.rate(z, steps).or_usage("calibrating the rate")?;
            (rate, z, steps, json!({ "sampling_rate": rate.get() }))
        }
        _ => {
            return Err(UsageError::flag(
                "--sampling-rate, --steps, --noise-multiplier",
                "give exactly two of the three; the third is what is calibrated",
            ));
        }
    };
    let within = if calibrator.accountant.is_bound() {
        "stay within"
    } else {
        "cost by an ESTIMATE, which promises too much, about"
    };
    out.say(format_args!(
        "noise multiplier {:.6}: {steps} steps at rate {rate} {within} epsilon {} at delta {} ({})",
        z.get(),
        args.epsilon,
        args.delta,
        calibrator.accountant.title()
    ));
    if calibrator.accountant == AccountantKind::Gdp {
        out.warn("warning: gdp is no bound; do not run with this noise");
    }
    out.object(&object);
    Ok(())
}
