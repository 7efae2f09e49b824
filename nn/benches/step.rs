//! A DP-SGD step of the 784-32-10 network at batch 512, and its parts; steps and inference of the
//! convolutional networks.
//!
//! `cargo bench -p sphinx-nn --bench step`; set `RAYON_NUM_THREADS=1` for one core.

use criterion::{Criterion, criterion_group, criterion_main};
use rayon::prelude::*;
use sphinx_nn::data::synth_digits;
use sphinx_nn::prepared::Predictor;
use sphinx_nn::{Clear, ClearConfig, ImageShape, LinearShape, Network, Tensor, Train};
use sphinx_nn::{architectures, dense, ghost, init, pass};
use std::hint::black_box;

const BATCH: usize = 512;
const FIRST: LinearShape = LinearShape::dense(784, 32);

/// The best we know in safe code: a dot product in sixteen lanes that the compiler vectorises.
/// Why the product is left to a kernel library all the same.
fn loops(weights: &[f32], x: &Tensor) -> Tensor {
    let mut y = Tensor::zeros(x.rows(), FIRST.outputs);
    let rows = x.as_slice().par_chunks(FIRST.inputs);
    y.as_mut_slice()
        .par_chunks_mut(FIRST.outputs)
        .zip(rows)
        .for_each(|(y, x)| {
            for (y, w) in y.iter_mut().zip(weights.chunks_exact(FIRST.inputs)) {
                let mut lanes = [0.0_f32; 16];
                for (w, x) in w.chunks_exact(16).zip(x.chunks_exact(16)) {
                    for (lane, (w, x)) in lanes.iter_mut().zip(w.iter().zip(x)) {
                        *lane += w * x;
                    }
                }
                *y = lanes.iter().sum();
            }
        });
    y
}

fn step(criterion: &mut Criterion) {
    let set = synth_digits::generate(1, BATCH);
    let labels: Vec<_> = set.labels.iter().copied().map(Some).collect();
    let Some(architecture) = architectures::by_name("mlp", set.shape, set.classes) else {
        return;
    };
    let Ok(network) = Network::new(&architecture) else {
        return;
    };
    let config = ClearConfig {
        clip_bound: Some(1.0),
        learning_rate: 0.01,
        momentum: 0.9,
        divisor: BATCH as f64,
        shift: 20,
    };
    let parameters = init::glorot(&network, 1);
    let weights = parameters[network.layout()[0].weights.clone()].to_vec();
    let Ok(mut engine) = Clear::new(&network, parameters, config) else {
        return;
    };

    criterion.bench_function("dp step 784-32-10, batch 512", |b| {
        b.iter(|| -> Result<(), sphinx_nn::clear::ClearError> {
            engine.begin(0, BATCH)?;
            let pass = pass::gradients(&mut engine, &network, &set.images, &labels)?;
            let sum = engine.collect(pass.pending)?;
            engine.apply(&sum.values, sum.shift)
        });
    });
    criterion.bench_function("inference 784-32-10, batch 512", |b| {
        b.iter(|| pass::infer(&mut engine, &network, black_box(&set.images)));
    });
    let (x, d) = (&set.images, Tensor::zeros(BATCH, FIRST.outputs));
    criterion.bench_function("dense forward 784-32", |b| {
        b.iter(|| dense::forward(FIRST, black_box(&weights), &[0.0; 32], x));
    });
    criterion.bench_function("dense forward 784-32, safe code", |b| {
        b.iter(|| loops(black_box(&weights), x));
    });
    criterion.bench_function("ghost norms 784-32", |b| {
        b.iter(|| ghost::add_dense(black_box(&mut [0.0; BATCH]), &d, x));
    });
    criterion.bench_function("synth-digits, 1000 records", |b| {
        b.iter(|| synth_digits::generate(black_box(2), 1000));
    });
}

/// The names behind the ids of one network.
struct Case<'a> {
    name: &'a str,
    input: ImageShape,
    layers: &'a str,
    rows: usize,
}

/// One step of a network, with per-sample clipping and without, batch inference, and one image's.
fn network(criterion: &mut Criterion, case: &Case<'_>) {
    let (rows, name) = (case.rows, case.name);
    let Some(architecture) = architectures::by_name(case.layers, case.input, 10) else {
        return;
    };
    let Ok(network) = Network::new(&architecture) else {
        return;
    };
    let pixels = (0..rows * network.inputs()).map(|i| (i * 31 % 256) as f32 / 255.0);
    let Ok(x) = Tensor::from_vec(rows, network.inputs(), pixels.collect()) else {
        return;
    };
    let labels: Vec<_> = (0..rows).map(|i| Some((i % 10) as u8)).collect();
    let parameters = init::glorot(&network, 1);
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    for (what, clip_bound) in [("dp", Some(1.0)), ("plain", None)] {
        let config = ClearConfig {
            clip_bound,
            learning_rate: 1e-3,
            momentum: 0.9,
            divisor: rows as f64,
            shift: 20,
        };
        let Ok(mut engine) = Clear::new(&network, parameters.clone(), config) else {
            return;
        };
        group.bench_function(format!("{what} step, batch {rows}"), |b| {
            b.iter(|| -> Result<(), sphinx_nn::clear::ClearError> {
                engine.begin(0, rows)?;
                let pass = pass::gradients(&mut engine, &network, &x, &labels)?;
                let sum = engine.collect(pass.pending)?;
                engine.apply(&sum.values, sum.shift)
            });
        });
        if clip_bound.is_none() {
            group.bench_function(format!("inference, batch {rows}"), |b| {
                b.iter(|| pass::infer(&mut engine, &network, black_box(&x)));
            });
        }
    }
    let Ok(mut predictor) = Predictor::new(&network, &parameters) else {
        return;
    };
    group.bench_function("inference of one image", |b| {
        b.iter(|| {
            predictor
                .logits(black_box(x.row(0)))
                .map(|logits| logits[0])
        });
    });
    group.finish();
}

fn networks(criterion: &mut Criterion) {
    let image = |channels, side| ImageShape {
        channels,
        height: side,
        width: side,
    };
    let case = |name, input, rows| Case {
        name,
        input,
        layers: name,
        rows,
    };
    network(criterion, &case("minionn-mnist", image(1, 28), 500));
    network(criterion, &case("minionn-cifar10", image(3, 32), 200));
    let features = ImageShape {
        channels: 3969,
        height: 1,
        width: 1,
    };
    let linear = Case {
        name: "linear 3969-10",
        input: features,
        layers: "linear",
        rows: 8192,
    };
    network(criterion, &linear);
}

criterion_group!(benches, step, networks);
criterion_main!(benches);
