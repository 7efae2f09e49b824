//! The plan of the engine `paper`, in words.

use serde_json::{Value, json};
use sphinx_he::ckks::{Level, SeededCiphertext};
use sphinx_protocol::paper::{Paper, PaperPlan};
use sphinx_protocol::plan::{Exactness, Phase};

use super::modulus_bits;
use crate::config::Config;
use crate::privacy::Terms;
use crate::table::Table;

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
        (
            "bias rule",
            "private: noised with the weights, sent encrypted".to_owned(),
        ),
    ] {
        table.row(name, [value]);
    }
    table
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
        "exactness": plan.exactness(),
        "plan": plan.literal(),
    })
}
