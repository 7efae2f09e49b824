//! `sphinx account`: what a run of Poisson-sampled Gaussian steps costs.

mod over_steps;

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_dp::rdp::{MAX_ORDER, MIN_ORDER};
use sphinx_dp::{
    Accountant, AccountantKind, Adjacency, Answer, Delta, DpEvent, NoiseMultiplier, RdpAccountant,
    SamplingRate,
};

use crate::cli::AccountArgs;
use crate::output::{Output, number};
use crate::usage::{OrUsage, UsageError};

pub(super) fn run(args: &AccountArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let adjacency = args.adjacency.into();
    let rate = SamplingRate::new(args.sampling_rate).or_usage("--sampling-rate")?;
    let z = NoiseMultiplier::new(args.noise_multiplier).or_usage("--noise-multiplier")?;
    let delta = Delta::new(args.delta).or_usage("--delta")?;
    if args.steps == 0 {
        return Err(UsageError::flag(
            "--steps",
            "0 is out of range: must be at least 1",
        ));
    }
    let event = DpEvent::poisson_gaussian(rate, z);
    let (accountant, answer) = match args.accountant {
        Some(name) => ask(name.into(), adjacency, &event, args.steps, delta)?,
        None => ask(AccountantKind::Pld, adjacency, &event, args.steps, delta).or_else(|why| {
            out.remark(format_args!("no answer by pld, so by rdp: {why:#}"));
            ask(AccountantKind::Rdp, adjacency, &event, args.steps, delta)
        })?,
    };
    let kind = accountant.kind();
    if let Some(folder) = &args.over_steps {
        over_steps::write(folder, args, adjacency, &event, delta)?;
        out.remark(format_args!("wrote {}", folder.display()));
    }
    let step = args
        .order
        .map(|order| one_step(adjacency, &event, order))
        .transpose()?;

    tell(out, args, accountant.as_ref(), &event, &answer);
    let mut object = json!({
        "epsilon": optional(answer.upper),
        "lower": optional(answer.lower),
        "estimate": optional(answer.estimate),
        "order": optional(answer.order),
        "accountant": kind.name(),
    });
    if let (Some(rdp), Some(order)) = (step, args.order) {
        out.say(format_args!(
            "  one step at order {order}: Renyi divergence {rdp:.6e}"
        ));
        object["rdp"] = number(rdp);
    }
    out.object(&object);
    Ok(())
}

/// One accountant with the whole run composed, and its answer.
fn ask(
    kind: AccountantKind,
    adjacency: Adjacency,
    event: &DpEvent,
    steps: u64,
    delta: Delta,
) -> Result<(Box<dyn Accountant>, Answer)> {
    let mut accountant = kind.accountant(adjacency);
    let refused = || format!("--accountant {kind}");
    accountant.compose(event, steps).or_usage(refused())?;
    let answer = accountant.epsilon_at(delta).or_usage(refused())?;
    Ok((accountant, answer))
}

fn optional(value: Option<f64>) -> Value {
    value.map_or(Value::Null, number)
}

fn tell(
    out: Output,
    args: &AccountArgs,
    accountant: &dyn Accountant,
    event: &DpEvent,
    answer: &Answer,
) {
    let shown = answer.upper.or(answer.estimate).unwrap_or(f64::NAN);
    let about = if answer.upper.is_some() { "" } else { "about " };
    out.say(format_args!(
        "epsilon {about}{shown:.6} at delta {} after {} steps of {event}",
        args.delta, args.steps
    ));
    let what = match (answer.upper, answer.lower) {
        (Some(_), Some(lower)) => format!("an upper bound (and {lower:.6} a lower one)"),
        (Some(_), None) => "an upper bound".to_owned(),
        (None, _) => "an ESTIMATE, no bound,".to_owned(),
    };
    let order = answer
        .order
        .map_or_else(String::new, |order| format!(", order {order:.4}"));
    out.say(format_args!(
        "  {what} by the accountant {}{order}, neighbours {}",
        accountant.name(),
        accountant.adjacency()
    ));
    if answer.at_edge {
        out.remark("  the best order is the last one tried: another accountant may say less");
    }
}

/// The Renyi divergence of one step.
fn one_step(adjacency: Adjacency, event: &DpEvent, order: f64) -> Result<f64> {
    if !(MIN_ORDER..=MAX_ORDER).contains(&order) {
        let problem = format!("{order} is out of range: expected {MIN_ORDER} to {MAX_ORDER}");
        return Err(UsageError::flag("--order", problem));
    }
    let mut accountant = RdpAccountant::new(adjacency);
    accountant.compose(event, 1).or_usage("--order")?;
    Ok(accountant.rdp(order))
}
