use super::*;
use crate::gradient_check::summed_loss_of;
use crate::gradient_check::tests::conv_stacks;
use crate::init;
use crate::network::{Architecture, ImageShape, LayerSpec};

fn network(layers: &[LayerSpec]) -> Network {
    let mut layers = layers.to_vec();
    layers.push(LayerSpec::Dense { outputs: 4 });
    let input = ImageShape {
        channels: 2,
        height: 7,
        width: 6,
    };
    let name = "matched".into();
    Network::new(&Architecture {
        name,
        input,
        layers,
    })
    .unwrap()
}

fn values(length: usize, seed: u32, size: f32) -> Vec<f32> {
    let value = |i: usize| {
        let mixed = (i as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(2_654_435_761);
        ((mixed ^ mixed >> 15) as f32 / 2_147_483_648.0 - 1.0) * size
    };
    (0..length).map(value).collect()
}

fn parameters(network: &Network) -> Vec<f32> {
    let mut parameters = init::glorot(network, 3);
    for (p, v) in parameters
        .iter_mut()
        .zip(values(network.parameter_count(), 5, 0.05))
    {
        *p += v;
    }
    parameters
}

/// The mixed second difference of the plain network in `f64`, by input `i` and along `direction`.
fn mixed_difference(
    network: &Network,
    parameters: &[f32],
    direction: &[f32],
    x: &Tensor,
    i: usize,
    (labels, loss): (&[Option<u8>], Loss),
) -> f64 {
    let e = 1e-4;
    let moved = |sign: f64| -> Vec<f64> {
        let pairs = parameters.iter().zip(direction);
        pairs
            .map(|(p, v)| f64::from(*p) + sign * e * f64::from(*v))
            .collect()
    };
    let (above, below) = (moved(1.0), moved(-1.0));
    let at = |step: f32| {
        let mut x = x.clone();
        x.as_mut_slice()[i] += step;
        let difference = summed_loss_of(loss, network, &above, &x, labels)
            - summed_loss_of(loss, network, &below, &x, labels);
        (f64::from(x.as_slice()[i]), difference / (2.0 * e))
    };
    let ((high, f), (low, g)) = (at(1e-3), at(-1e-3));
    (f - g) / (high - low)
}

/// Every kind of layer, both losses: against second differences of the plain network.
#[test]
fn mixed_products_are_mixed_second_differences() {
    let labels = [Some(2), Some(0)];
    for (n, layers) in conv_stacks().iter().enumerate() {
        let network = network(layers);
        let parameters = parameters(&network);
        let direction = values(network.parameter_count(), 9, 1.0);
        let x = Tensor::from_vec(2, 84, values(168, 2 + n as u32, 1.0)).unwrap();
        for loss in [Loss::CrossEntropy, Loss::SquaredError] {
            let got = mixed_product(&network, &parameters, &x, &[2, 0], &direction, loss).unwrap();
            let largest = got.as_slice().iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            for i in (0..168).step_by(5) {
                let want =
                    mixed_difference(&network, &parameters, &direction, &x, i, (&labels, loss));
                let got = f64::from(got.as_slice()[i]);
                let off = (got - want).abs() / f64::from(largest.max(0.1));
                assert!(off < 1e-3, "{layers:?} {loss:?} at {i}: {got} {want}");
            }
        }
    }
}

/// The whole of `gradient_matching` against differences of its own distance.
#[test]
fn pulls_are_derivatives_of_the_distance() {
    let conv = LayerSpec::Conv {
        channels: 3,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    let norm = LayerSpec::GroupNorm {
        groups: 3,
        affine: true,
    };
    let network = network(&[
        conv,
        norm,
        LayerSpec::Tanh,
        LayerSpec::AvgPool { size: 2, stride: 2 },
    ]);
    let parameters = parameters(&network);
    let x = Tensor::from_vec(2, 84, values(168, 4, 1.0)).unwrap();
    let target = values(network.parameter_count(), 11, 0.3);
    for distance in [Distance::Squared, Distance::Cosine] {
        let at = |x: &Tensor| {
            let loss = Loss::CrossEntropy;
            gradient_matching(&network, &parameters, x, &[1, 3], &target, distance, loss).unwrap()
        };
        let got = at(&x);
        let largest = got
            .by_input
            .as_slice()
            .iter()
            .fold(0.0_f32, |m, v| m.max(v.abs()));
        for i in (0..168).step_by(7) {
            let moved = |step: f32| {
                let mut x = x.clone();
                x.as_mut_slice()[i] += step;
                at(&x).distance
            };
            let want = (moved(0.015_625) - moved(-0.015_625)) / 0.031_25;
            let got = f64::from(got.by_input.as_slice()[i]);
            let off = (got - want).abs() / f64::from(largest);
            assert!(off < 1e-2, "{distance:?} at {i}: {got} {want}");
        }
    }
}

#[test]
fn the_true_input_is_at_distance_zero() {
    let network = network(&[LayerSpec::Dense { outputs: 5 }, LayerSpec::Tanh]);
    let parameters = parameters(&network);
    let x = Tensor::from_vec(1, 84, values(84, 4, 1.0)).unwrap();
    let engine = Clear::new(&network, parameters.clone(), ClearConfig::default()).unwrap();
    let seen = engine
        .sample_gradients(&x, &[Some(3)], Loss::CrossEntropy)
        .unwrap();
    for distance in [Distance::Squared, Distance::Cosine] {
        let loss = Loss::CrossEntropy;
        let got = gradient_matching(&network, &parameters, &x, &[3], seen.row(0), distance, loss);
        let got = got.unwrap();
        assert!(got.distance.abs() < 1e-12, "{}", got.distance);
        assert!(got.by_input.as_slice().iter().all(|v| v.abs() < 1e-6));
    }
}

#[test]
fn misfits_are_named() {
    let network = network(&[LayerSpec::Dense { outputs: 5 }, LayerSpec::Tanh]);
    let p = parameters(&network);
    let x = Tensor::zeros(1, 84);
    let product = |p: &[f32], x: &Tensor, labels: &[u8], v: &[f32]| {
        mixed_product(&network, p, x, labels, v, Loss::CrossEntropy).unwrap_err()
    };
    assert!(matches!(
        product(&p[1..], &x, &[0], &p),
        MatchingError::Parameters {
            what: "parameters",
            ..
        }
    ));
    assert!(matches!(
        product(&p, &x, &[0], &p[1..]),
        MatchingError::Parameters {
            what: "direction",
            ..
        }
    ));
    assert!(matches!(
        product(&p, &x, &[], &p),
        MatchingError::Labels {
            found: 0,
            expected: 1
        }
    ));
    assert!(matches!(
        product(&p, &x, &[4], &p),
        MatchingError::Label {
            label: 4,
            classes: 4
        }
    ));
    assert!(matches!(
        product(&p, &Tensor::zeros(1, 3), &[0], &p),
        MatchingError::Engine(_)
    ));
}
