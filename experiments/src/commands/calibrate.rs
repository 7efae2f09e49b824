//! `sphinx calibrate`: the noise multiplier that a budget needs.

use anyhow::Result;
use serde_json::json;
use sphinx_dp::{Budget, Delta, Epsilon, SamplingRate, calibrate};

use super::account::{adjacency, only_rdp};
use crate::cli::CalibrateArgs;
use crate::output::Output;
use crate::usage::OrUsage;

pub(super) fn run(args: &CalibrateArgs) -> Result<()> {
    only_rdp(args.accountant)?;
    let out = Output::new(args.output.json, args.output.quiet);
    let budget = Budget {
        epsilon: Epsilon::new(args.epsilon).or_usage("--epsilon")?,
        delta: Delta::new(args.delta).or_usage("--delta")?,
    };
    let rate = SamplingRate::new(args.sampling_rate).or_usage("--sampling-rate")?;
    let z = calibrate::noise_multiplier(budget, rate, args.steps, adjacency(args.adjacency))
        .or_usage("calibrating the noise")?;
    out.say(format_args!(
        "noise multiplier {:.6}: {} steps at rate {} stay within epsilon {} at delta {} (Renyi)",
        z.get(),
        args.steps,
        args.sampling_rate,
        args.epsilon,
        args.delta
    ));
    out.object(&json!({ "noise_multiplier": z.get() }));
    Ok(())
}
