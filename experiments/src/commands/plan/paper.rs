//! The plan of the engine `paper`, in words.

use serde_json::{Value, json};
use sphinx_he::ckks::{Level, SeededCiphertext};
use sphinx_protocol::model::PublishedBiases;
use sphinx_protocol::paper::{Paper, PaperPlan};
use sphinx_protocol::plan::{Exactness, Phase};

use super::modulus_bits;
use crate::config::Config;
use crate::privacy::Terms;
use crate::table::Table;

/// Standard deviations in a step at which a rounding fails once in 2^128, see `sphinx_protocol::paper`.
const ALLOWED: u32 = 31;

/// Bytes up and down in one step: ciphertexts alone, and the released update.
fn bytes(plan: &PaperPlan) -> (u64, u64) {
    let (parameters, counts) = (plan.parameters(), Paper::counts_of(plan));
    let up = SeededCiphertext::wire_size(parameters, 1) as u64;
    let down = |degree| sphinx_he::ckks::Ciphertext::wire_size(parameters, 0, degree) as u64;
    let gradients = (plan.grid().weight_count() * plan.blocks()) as u64;
    let plain = counts.downloads - gradients;
    let update = 4 * plan.grid().weight_count() as u64;
    (
        counts.uploads * up + update,
        plain * down(1) + gradients * down(2),
    )
}

pub(super) fn overview(
    config: &Config,
    terms: &Terms,
    plan: &PaperPlan,
    epsilon: Option<f64>,
) -> Table {
    let (bits, bound) = modulus_bits(plan.parameters());
    let (up, down) = bytes(plan);
    let parameters = plan.parameters();
    let mut table = Table::new(["plan", "paper"]);
    let bound = bound.map_or("none".to_owned(), |b| b.to_string());
    let phases = [Phase::Forward, Phase::Backward, Phase::Gradient];
    let scales = phases.map(|phase| format!("{:.1}", plan.result_scale(phase).log2()));
    let bit_sizes = parameters.moduli().iter().map(|q| q.bits().to_string());
    for (name, value) in [
        ("security", parameters.security().name().to_owned()),
        (
            "ring degree / slots",
            format!("{} / {}", parameters.degree(), plan.slots()),
        ),
        (
            "primes, the last is dropped",
            bit_sizes.collect::<Vec<_>>().join(" + "),
        ),
        (
            "modulus bits / largest allowed",
            format!("{bits:.1} / {bound}"),
        ),
        ("log2 scale down: W x, W^T d, d x", scales.join(", ")),
        (
            "network",
            format!(
                "{}, {} parameters",
                config.model,
                plan.network().parameter_count()
            ),
        ),
        (
            "mean batch / capacity / blocks",
            format!("{} / {} / {}", config.batch, terms.capacity, plan.blocks()),
        ),
        (
            "MB up / down per step",
            format!("{:.1} / {:.1}", up as f64 / 1e6, down as f64 / 1e6),
        ),
        (
            "MB per image of the mean batch",
            format!("{:.2}", (up + down) as f64 / 1e6 / config.batch),
        ),
        (
            "epsilon",
            epsilon.map_or("none".into(), |e| {
                format!("{e:.4} at delta {}", config.delta)
            }),
        ),
        ("bias rule", bias_rule(config, plan)),
    ] {
        table.row(name, [value]);
    }
    for (name, reason) in reasons(plan) {
        table.row(name, [reason]);
    }
    table
}

/// Why these parameters and no smaller ones, from the inequality that decides.
fn reasons(plan: &PaperPlan) -> Vec<(&'static str, String)> {
    let parameters = plan.parameters();
    let gradients = plan.exactness().iter();
    let gradients = gradients.filter(|row| row.phase == Phase::Gradient);
    let room = gradients.clone().map(|row| row.log2_headroom);
    let room = room.fold(f64::INFINITY, f64::min);
    let error = gradients.map(|row| row.std_dev).fold(0.0, f64::max);
    let [kept, dropped] = [0, 1].map(|i| parameters.moduli().get(i).map_or(0, |q| q.bits()));
    let scale = plan.result_scale(Phase::Gradient).log2();
    let mut reasons = vec![
        (
            "why the prime that stays",
            format!(
                "a gradient, its sign and its scale of 2^{scale:.0} fill {kept} bits but for {room:.1}"
            ),
        ),
        (
            "why the prime that is dropped",
            format!(
                "{dropped} bits leave 2^{scale:.0}: an error of 1/{:.0} of a step, 1/{ALLOWED} may be",
                1.0 / error
            ),
        ),
        (
            "why this degree",
            format!(
                "the smallest at which security allows {:.0} bits",
                modulus_bits(plan.parameters()).0
            ),
        ),
    ];
    if let Some(p) = parameters.special_moduli().first() {
        let reason = match parameters.log_n() {
            12 => "what security leaves; the errors of rotations are borne for the steps above",
            _ => {
                "rotations cost less than uploads; with fewer bits they did not last for the steps"
            }
        };
        reasons.push((
            "why the special prime",
            format!("{} bits: {reason}", p.bits()),
        ));
    }
    reasons
}

/// The rule of biases; by the published one, how long it stays exact and at which rates.
fn bias_rule(config: &Config, plan: &PaperPlan) -> String {
    let Some((steps, most)) = plan.published_steps() else {
        return "private: noised with the weights, sent encrypted".to_owned();
    };
    let rates = rates(config, plan).unwrap_or_default().into_iter();
    let rates: Vec<String> = rates.map(|rate| format!("{rate:.4}")).collect();
    format!(
        "paper: exact sums by rotations, NO epsilon; {steps} steps of {most} that decode exactly, lr {}",
        rates.join(", ")
    )
}

/// The learning rates of biases that take effect under the published rule, layer by layer.
fn rates(config: &Config, plan: &PaperPlan) -> Option<Vec<f64>> {
    plan.published_steps()?;
    let layers = 0..plan.network().linears().len();
    let rates = layers.filter_map(|layer| PublishedBiases::rate(plan.grid(), layer).ok());
    Some(rates.map(|rate| rate * config.batch).collect())
}

pub(super) fn operations(plan: &PaperPlan) -> Table {
    let counts = Paper::counts_of(plan);
    let mut table = Table::new(["operation", "per step"]);
    for (name, count) in [
        ("ciphertext x integer", counts.plain_products),
        ("ciphertext x ciphertext", counts.products),
        ("relinearisations", counts.relinearisations),
        ("rotations", counts.rotations),
        ("divisions by a prime", counts.rescales),
        ("transforms of a row at the server", counts.transforms),
        ("ciphertexts up", counts.uploads),
        ("ciphertexts down", counts.downloads),
    ] {
        table.row(name, [count.to_string()]);
    }
    table
}

pub(super) fn exactness(rows: &[Exactness]) -> Table {
    let mut table = Table::new([
        "layer",
        "product",
        "error (steps)",
        "headroom",
        "log2 failure",
    ]);
    for row in rows {
        table.row(
            row.layer.to_string(),
            [
                row.phase.to_string(),
                format!("{:.5}", row.std_dev),
                format!("{:.1} bits", row.log2_headroom),
                format!("{:.0}", row.log2_failure),
            ],
        );
    }
    table
}

pub(super) fn object(
    config: &Config,
    terms: &Terms,
    plan: &PaperPlan,
    epsilon: Option<f64>,
) -> Value {
    let (bits, bound) = modulus_bits(plan.parameters());
    let (up, down) = bytes(plan);
    json!({
        "config": config,
        "security": plan.parameters().security().name(),
        "degree": plan.parameters().degree(),
        "level": Level(1).0,
        "modulus_bits": bits,
        "modulus_bits_allowed": bound,
        "parameters": plan.network().parameter_count(),
        "capacity": terms.capacity,
        "blocks": plan.blocks(),
        "noise_multiplier": terms.noise.map(sphinx_dp::NoiseMultiplier::get),
        "epsilon": epsilon,
        "bytes_up_per_step": up,
        "bytes_down_per_step": down,
        "operations_per_step": Paper::counts_of(plan),
        "bias_rule": config.bias,
        "bias_steps_exact": plan.published_steps().map(|(_, most)| most),
        "bias_rates": rates(config, plan),
        "exactness": plan.exactness(),
        "plan": plan.literal(),
    })
}
