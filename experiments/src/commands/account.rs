//! `sphinx account`: what a run of Poisson-sampled Gaussian steps costs.

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_dp::rdp::{MAX_ORDER, MIN_ORDER};
use sphinx_dp::{
    Accountant, Adjacency, Delta, DpEvent, NoiseMultiplier, RdpAccountant, SamplingRate,
};

use crate::cli::{AccountArgs, AccountantName, AdjacencyName};
use crate::output::{Output, number};
use crate::usage::{OrUsage, UsageError};

pub(super) fn run(args: &AccountArgs) -> Result<()> {
    only_rdp(args.accountant)?;
    let out = Output::new(args.output.json, args.output.quiet);
    let adjacency = adjacency(args.adjacency);
    let rate = SamplingRate::new(args.sampling_rate).or_usage("--sampling-rate")?;
    let z = NoiseMultiplier::new(args.noise_multiplier).or_usage("--noise-multiplier")?;
    let delta = Delta::new(args.delta).or_usage("--delta")?;
    if args.steps == 0 {
        return Err(UsageError::flag("--steps", "must be at least 1"));
    }
    let event = DpEvent::poisson_gaussian(rate, z);
    let mut accountant = RdpAccountant::new(adjacency);
    accountant.compose(&event, args.steps)?;
    let spent = accountant.epsilon(delta)?;
    let step = args
        .order
        .map(|order| one_step(adjacency, &event, order))
        .transpose()?;

    out.say(format_args!(
        "epsilon {:.6} at delta {} after {} steps of {event}",
        spent.epsilon, args.delta, args.steps
    ));
    out.say(format_args!(
        "  an upper bound by the accountant {}, order {:.4}, neighbours {adjacency}",
        accountant.name(),
        spent.order
    ));
    let mut object = json!({
        "epsilon": number(spent.epsilon),
        "lower": Value::Null,
        "estimate": Value::Null,
        "order": spent.order,
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

/// The Renyi divergence of one step.
fn one_step(adjacency: Adjacency, event: &DpEvent, order: f64) -> Result<f64> {
    if !(MIN_ORDER..=MAX_ORDER).contains(&order) {
        let problem = format!("{order} is out of range: expected {MIN_ORDER} to {MAX_ORDER}");
        return Err(UsageError::flag("--order", problem));
    }
    let mut accountant = RdpAccountant::new(adjacency);
    accountant.compose(event, 1)?;
    Ok(accountant.rdp(order))
}

/// Refuses the accountants that this version does not have.
pub(super) fn only_rdp(name: AccountantName) -> Result<()> {
    let what = match name {
        AccountantName::Rdp => return Ok(()),
        AccountantName::Moments => "the accountant moments",
        AccountantName::Pld => "the accountant pld",
        AccountantName::Gdp => "the accountant gdp",
    };
    Err(UsageError::NotInThisVersion {
        what: what.to_owned(),
        available: "rdp",
    }
    .into())
}

pub(super) const fn adjacency(name: AdjacencyName) -> Adjacency {
    match name {
        AdjacencyName::AddRemove => Adjacency::AddRemove,
        AdjacencyName::Replace => Adjacency::ReplaceOne,
    }
}
