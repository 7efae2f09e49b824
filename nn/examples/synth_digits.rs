//! Writes a contact sheet of synth-digits as a PGM file and trains the reference networks on it.
//!
//! `cargo run --release -p sphinx-nn --example synth_digits [SHEET.pgm]`

use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::data::{self, LoadOptions, Split};
use sphinx_nn::{Network, Tensor, Train, architectures, init, metrics, pass};
use std::error::Error;
use std::io::Write;
use std::time::Instant;

/// Images along one side of the sheet.
const SHEET: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let options = LoadOptions {
        train: Some(20_000),
        test: Some(10_000),
        seed: 1,
    };
    let split = data::load("synth-digits", None, &options)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "30,000 images in {:.2?}", start.elapsed())?;
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(&path, sheet(&split.train.images))?;
        writeln!(out, "contact sheet: {path}")?;
    }
    for (name, batch, steps, rate) in [
        ("mlp", 512, 60, 0.4),
        ("linear", 128, 8000, 0.03),
        ("mlp-64", 128, 3000, 0.1),
    ] {
        let start = Instant::now();
        let accuracy = train(name, &split, batch, steps, rate)?;
        let seconds = start.elapsed().as_secs_f64();
        writeln!(
            out,
            "{name}: {steps} steps of {batch}: {accuracy:.4} in {seconds:.1} s"
        )?;
    }
    Ok(())
}

/// The first images, side by side, as a binary grey map.
fn sheet(images: &Tensor) -> Vec<u8> {
    let side = SHEET * 28;
    let mut bytes = format!("P5 {side} {side} 255\n").into_bytes();
    for y in 0..side {
        for x in 0..side {
            let image = images.row(y / 28 * SHEET + x / 28);
            bytes.push((image[y % 28 * 28 + x % 28] * 255.0) as u8);
        }
    }
    bytes
}

/// Plain SGD with momentum 0.9; the test accuracy of the last iterate.
fn train(
    name: &str,
    split: &Split,
    batch: usize,
    steps: usize,
    rate: f64,
) -> Result<f64, Box<dyn Error>> {
    let set = &split.train;
    let architecture =
        architectures::by_name(name, set.shape, set.classes).ok_or("unknown name")?;
    let network = Network::new(&architecture)?;
    let config = ClearConfig {
        clip_bound: None,
        learning_rate: rate,
        momentum: 0.9,
        divisor: batch as f64,
        shift: 24,
    };
    let mut engine = Clear::new(&network, init::glorot(&network, 1), config)?;
    for step in 0..steps {
        // Records of the set are independent, so running through it in order is sampling.
        let at = |i: usize| (step * batch + i) % set.len();
        let rows: Vec<u32> = (0..batch).map(|i| at(i) as u32).collect();
        let labels: Vec<_> = (0..batch).map(|i| Some(set.labels[at(i)])).collect();
        engine.begin(step as u64, batch)?;
        let x = set.images.gather(&rows, batch);
        let pass = pass::gradients(&mut engine, &network, &x, &labels)?;
        let sum = engine.collect(pass.pending)?;
        engine.apply(&sum.values, sum.shift)?;
    }
    let logits = pass::infer(&mut engine, &network, &split.test.images)?;
    Ok(metrics::accuracy(&logits, &split.test.labels))
}
