//! Against another framework: what PyTorch computes for every kind of layer, both losses and the
//! networks that are measured everywhere, see `golden/README.md`.

use serde::Deserialize;
use sphinx_nn::loss::Loss;
use sphinx_nn::matching::{Distance, gradient_matching};
use sphinx_nn::{Architecture, Clear, ClearConfig, LayerSpec, Network, Tensor, Train, pass};

/// How closely single precision must agree, relative to the largest entry.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    architecture: Architecture,
    rows: usize,
    loss: String,
    logits: Vec<f64>,
    total_loss: f64,
    gradients: Vec<Summary>,
    sample_norms: Vec<f64>,
    matching_distance: f64,
    matching_pull: Summary,
}

#[derive(Deserialize)]
struct Summary {
    length: usize,
    norm: f64,
    sum: f64,
    largest: f64,
    entries: Vec<(usize, f64)>,
}

/// Values in [-1, 1): a multiplicative hash of the position, as in `make.py`.
fn noise(length: usize, seed: u32) -> impl Iterator<Item = f64> {
    let seed = seed.wrapping_mul(0x9e37_79b9);
    (0..length as u32).map(move |i| {
        let x = (i ^ seed).wrapping_mul(2_654_435_761);
        f64::from(x ^ (x >> 15)) / 2_147_483_648.0 - 1.0
    })
}

fn drawn(length: usize, seed: u32, scale: f64, shift: f64) -> Vec<f32> {
    noise(length, seed)
        .map(|v| (v * scale + shift) as f32)
        .collect()
}

/// The flat parameters, and the length of every tensor in them.
fn parameters(network: &Network) -> (Vec<f32>, Vec<usize>) {
    let (mut flat, mut lengths, mut seed) = (Vec::new(), Vec::new(), 100);
    let mut draw = |length: usize, scale: f64, shift: f64| {
        seed += 1;
        if length > 0 {
            flat.extend(drawn(length, seed, scale, shift));
            lengths.push(length);
        } else {
            seed -= 1;
        }
    };
    for (linear, span) in network.linears().iter().zip(network.layout()) {
        let fan_in = linear.weights() / linear.biases();
        let power = (fan_in as f64).sqrt().log2().round() as i32;
        draw(span.weights.len(), 2.0_f64.powi(-power), 0.0);
        draw(span.biases.len(), 0.0625, 0.0);
        draw(span.scales.len(), 0.25, 1.0);
        draw(span.shifts.len(), 0.25, 0.0);
    }
    (flat, lengths)
}

fn near(what: &str, got: f64, want: f64, unit: f64) {
    assert!(
        (got - want).abs() <= TOLERANCE * unit,
        "{what}: {got}, PyTorch says {want}"
    );
}

fn check(what: &str, got: &[f64], want: &Summary) {
    assert_eq!(got.len(), want.length, "{what}: length");
    let norm = got.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sum: f64 = got.iter().sum();
    near(&format!("{what}: norm"), norm, want.norm, want.norm);
    near(
        &format!("{what}: sum"),
        sum,
        want.sum,
        want.norm * (got.len() as f64).sqrt(),
    );
    for (place, value) in &want.entries {
        near(
            &format!("{what} at {place}"),
            got[*place],
            *value,
            want.largest,
        );
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// One case, by the prepared engine or layer by layer.
fn run(case: &Case, layer_by_layer: bool) {
    let name = format!(
        "{} ({}, layer by layer: {layer_by_layer})",
        case.name, case.loss
    );
    let loss = match case.loss.as_str() {
        "cross-entropy" => Loss::CrossEntropy,
        _ => Loss::SquaredError,
    };
    let network = Network::new(&case.architecture).unwrap();
    let (flat, lengths) = parameters(&network);
    let x = drawn(case.rows * network.inputs(), 7, 1.0, 0.0);
    let x = Tensor::from_vec(case.rows, network.inputs(), x).unwrap();
    let labels: Vec<u8> = (0..case.rows)
        .map(|i| ((3 * i + 1) % network.classes()) as u8)
        .collect();
    let real: Vec<_> = labels.iter().copied().map(Some).collect();

    let config = ClearConfig {
        shift: 40,
        ..ClearConfig::default()
    };
    let mut engine = Clear::new(&network, flat.clone(), config).unwrap();
    if layer_by_layer {
        engine.go_layer_by_layer();
    }
    let logits = doubles(pass::infer(&mut engine, &network, &x).unwrap().as_slice());
    let largest = case.logits.iter().fold(1.0_f64, |m, z| m.max(z.abs()));
    for (got, want) in logits.iter().zip(&case.logits) {
        near(&format!("{name}: logit"), *got, *want, largest);
    }
    engine.begin(0, case.rows).unwrap();
    let pass = pass::gradients_of(loss, &mut engine, &network, &x, &real).unwrap();
    near(
        &format!("{name}: loss"),
        pass.loss * case.rows as f64,
        case.total_loss,
        case.total_loss,
    );
    let sum = engine.collect(pass.pending).unwrap();
    let unit = 2.0_f64.powi(-40);
    for (got, want) in sum.norms_squared.iter().zip(&case.sample_norms) {
        near(
            &format!("{name}: norm of a sample"),
            (*got as f64).sqrt() * unit,
            *want,
            *want,
        );
    }
    let mut rest: Vec<f64> = sum.values.iter().map(|v| *v as f64 * unit).collect();
    assert_eq!(lengths.len(), case.gradients.len());
    for (i, (length, want)) in lengths.iter().zip(&case.gradients).enumerate() {
        let others = rest.split_off(*length);
        check(&format!("{name}: gradient of tensor {i}"), &rest, want);
        rest = others;
    }
    if !layer_by_layer {
        let target = drawn(network.parameter_count(), 13, 0.125, 0.0);
        let distance = Distance::Squared;
        let got = gradient_matching(&network, &flat, &x, &labels, &target, distance, loss).unwrap();
        near(
            &format!("{name}: distance"),
            got.distance,
            case.matching_distance,
            case.matching_distance,
        );
        let pull = doubles(got.by_input.as_slice());
        check(&format!("{name}: pull"), &pull, &case.matching_pull);
    }
}

#[test]
fn another_framework_computes_the_same() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/vectors.json")).unwrap();
    assert_eq!(cases.len(), 28);
    let kinds =
        |kind: fn(&LayerSpec) -> bool| cases.iter().any(|c| c.architecture.layers.iter().any(kind));
    assert!(kinds(|l| matches!(
        l,
        LayerSpec::GroupNorm { affine: true, .. }
    )));
    assert!(
        kinds(|l| matches!(l, LayerSpec::MaxPool { .. }))
            && kinds(|l| matches!(l, LayerSpec::AvgPool { .. }))
    );
    for case in &cases {
        run(case, false);
        run(case, true);
    }
}
