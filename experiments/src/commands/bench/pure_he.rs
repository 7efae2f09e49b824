//! `sphinx bench --pure-he`: steps of the baseline with encrypted weights, in both styles.
//!
//! A small network is measured in full. For `minionn-mnist`, whose encrypted weights alone would take 17 GB, the
//! operations are counted by the formulas that the tests check, and its seconds are **extrapolated** from
//! those of the small one, operation by operation; they are labelled so. Its bytes are exact.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sphinx_he::ckks::{Ciphertext, SeededCiphertext};
use sphinx_he::rlwe::Parameters;
use sphinx_nn::engine::Train;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::{Network, Tensor, architectures, init, pass};
use sphinx_protocol::pure_he::{Counts, PureHe, Style, Times, standard_parameters};

use crate::environment;
use crate::output::Output;
use crate::table::{Table, bytes, seconds};

/// Rows of the batch; the time does not depend on them up to 4096.
const ROWS: usize = 500;
/// The style and its name.
const STYLES: [(Style, &str); 2] = [(Style::Eager, "eager"), (Style::Lazy, "lazy")];

/// One of the counts.
type Count = fn(&Counts) -> u64;

/// One measured step.
struct Measured {
    seconds: f64,
    offline: f64,
    counts: Counts,
    times: Times,
}

pub(super) fn run(out: Output) -> Result<()> {
    out.remark("measuring a step of each style; about a minute");
    let small = small()?;
    let input = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let large =
        architectures::by_name("minionn-mnist", input, 10).context("the paper's network")?;
    let large = Network::new(&large)?;
    let parameters = Parameters::new(&standard_parameters())?;
    let mut table = Table::new([
        "training step, everything encrypted",
        "measured",
        "minionn-mnist",
    ]);
    let mut objects = Vec::new();
    for (style, name) in STYLES {
        let measured = measure(&small, style)?;
        let counts = of_large(&large, style, &parameters);
        let extrapolated = extrapolate(&measured, &counts, style);
        rows(&mut table, name, &measured, &counts, extrapolated);
        objects.push(object(name, &measured, &counts, extrapolated));
    }
    out.say(table);
    out.say(format_args!(
        "measured: 64 -> 16 -> 10, {ROWS} rows, N = 8192, L = 3; minionn-mnist: seconds extrapolated \
         from it operation by operation, counts and bytes by formula"
    ));
    out.object(&json!({
        "machine": environment::capture().machine(),
        "network": "64-16-10",
        "rows": ROWS,
        "security": parameters.security().name(),
        "styles": objects,
    }));
    Ok(())
}

fn small() -> Result<Network> {
    let architecture = Architecture {
        name: "64-16-10".to_owned(),
        input: ImageShape {
            channels: 1,
            height: 8,
            width: 8,
        },
        layers: vec![
            LayerSpec::Dense { outputs: 16 },
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 10 },
        ],
    };
    Ok(Network::new(&architecture)?)
}

fn measure(network: &Network, style: Style) -> Result<Measured> {
    let columns = network.inputs();
    let value = |i: usize| ((i * 37 + 11) % 101) as f32 / 101.0;
    let x = Tensor::from_vec(ROWS, columns, (0..ROWS * columns).map(value).collect())?;
    let labels: Vec<Option<u8>> = (0..ROWS).map(|j| Some((j % 10) as u8)).collect();
    let start = Instant::now();
    let values = init::glorot(network, 1);
    let (literal, size) = (standard_parameters(), 1.0 / ROWS as f64);
    let mut engine = PureHe::new(network, &values, &literal, style, size, &mut rand::rng())?;
    let offline = start.elapsed().as_secs_f64();
    engine.take_counts();
    engine.take_times();
    let start = Instant::now();
    engine.begin(0, ROWS)?;
    let pass = pass::gradients(&mut engine, network, &x, &labels)?;
    engine.collect(pass.pending)?;
    Ok(Measured {
        seconds: start.elapsed().as_secs_f64(),
        offline,
        counts: engine.take_counts(),
        times: engine.take_times(),
    })
}

/// Counts of a step by formula, with their bytes.
fn of_large(network: &Network, style: Style, parameters: &Parameters) -> Counts {
    let counts = Counts::of_step(network, style, parameters.degree() / 2);
    let up = SeededCiphertext::wire_size(parameters, parameters.max_level()) as u64;
    let down = Ciphertext::wire_size(parameters, 0, 1) as u64;
    Counts {
        bytes_up: counts.uploads * up,
        bytes_down: counts.downloads * down,
        ..counts
    }
}

/// Seconds of each kind of operation, times its number.
fn extrapolate(measured: &Measured, counts: &Counts, style: Style) -> f64 {
    let (from, times) = (&measured.counts, &measured.times);
    let scaled = |seconds: f64, of: u64, to: u64| seconds * to as f64 / of.max(1) as f64;
    let switching = match style {
        Style::Eager => 0.0, // part of the products
        Style::Lazy => scaled(times.switching, from.rescales, counts.rescales),
    };
    let messages = |counts: &Counts| counts.uploads + counts.downloads;
    scaled(times.products, from.products, counts.products)
        + switching
        + scaled(times.rotations, from.rotations, counts.rotations)
        + scaled(times.client, messages(from), messages(counts))
}

fn rows(table: &mut Table, name: &str, measured: &Measured, counts: &Counts, extrapolated: f64) {
    let label = format!("{name}: seconds (minionn-mnist extrapolated)");
    table.row(label, [seconds(measured.seconds), seconds(extrapolated)]);
    let pairs: [(&str, Count); 4] = [
        ("products", |c| c.products),
        ("relinearisations", |c| c.relinearisations),
        ("rescales", |c| c.rescales),
        ("rotations", |c| c.rotations),
    ];
    for (what, count) in pairs {
        let both = [&measured.counts, counts].map(|c| count(c).to_string());
        table.row(format!("{name}: {what}"), both);
    }
    for (what, count) in [
        ("up", (|c: &Counts| c.bytes_up) as Count),
        ("down", |c: &Counts| c.bytes_down),
    ] {
        let both = [&measured.counts, counts].map(|c| bytes(count(c) as f64));
        table.row(format!("{name}: {what}"), both);
    }
}

fn object(name: &str, measured: &Measured, counts: &Counts, extrapolated: f64) -> Value {
    json!({
        "style": name,
        "seconds_per_step": measured.seconds,
        "offline_seconds": measured.offline,
        "phase_seconds": measured.times,
        "operations_per_step": measured.counts,
        "minionn_mnist": {
            "seconds_per_step_extrapolated": extrapolated,
            "operations_per_step": counts,
        },
    })
}
