use super::*;
use crate::clear::{Clear, ClearConfig, ClearError};
use crate::engine::{GradientSum, Infer};
use crate::init;
use crate::network::{Architecture, ImageShape, LayerSpec};

fn network(hidden: &[LayerSpec]) -> Network {
    let mut layers = Vec::new();
    for (i, activation) in hidden.iter().enumerate() {
        layers.extend([LayerSpec::Dense { outputs: 5 + i }, *activation]);
    }
    layers.push(LayerSpec::Dense { outputs: 4 });
    let input = ImageShape {
        channels: 2,
        height: 1,
        width: 3,
    };
    Network::new(&Architecture {
        name: "checked".into(),
        input,
        layers,
    })
    .unwrap()
}

fn batch() -> (Tensor, Vec<Option<u8>>) {
    let values = (0..42_u32)
        .map(|i| (i * 37 % 41) as f32 / 20.0 - 1.0)
        .collect();
    let labels = vec![Some(0), Some(3), None, Some(1), Some(2), Some(1), None];
    (Tensor::from_vec(7, 6, values).unwrap(), labels)
}

fn engine(network: &Network, seed: u64) -> (Clear, Vec<f32>) {
    let mut parameters = init::glorot(network, seed);
    for (i, p) in parameters.iter_mut().enumerate() {
        *p += (i % 7) as f32 * 0.01; // biases too
    }
    let config = ClearConfig {
        shift: 40,
        ..ClearConfig::default()
    };
    (
        Clear::new(network, parameters.clone(), config).unwrap(),
        parameters,
    )
}

#[test]
fn every_layer_type_passes() {
    let (relu, tanh) = (LayerSpec::Relu, LayerSpec::Tanh);
    let (sigmoid, square) = (LayerSpec::Sigmoid, LayerSpec::Square);
    let stacks: [&[LayerSpec]; 10] = [
        &[],
        &[tanh],
        &[relu],
        &[tanh, tanh],
        &[relu, tanh],
        &[tanh, relu, relu],
        &[sigmoid],
        &[square],
        &[square, sigmoid],
        &[relu, square, tanh],
    ];
    let (x, labels) = batch();
    for hidden in stacks {
        let network = network(hidden);
        for seed in 0..3 {
            let (mut engine, parameters) = engine(&network, seed);
            let report = check(&mut engine, &network, &parameters, &x, &labels).unwrap();
            assert_eq!(report.len(), hidden.len() + 1);
            for layer in report {
                assert!(
                    layer.weights < 5e-6 && layer.biases < 5e-6,
                    "{hidden:?}: {layer:?}"
                );
            }
        }
    }
}

/// A convolution on two channels of 7 x 6, then the given layers, then a dense end.
fn conv_network(layers: &[LayerSpec]) -> Network {
    let mut layers = layers.to_vec();
    layers.push(LayerSpec::Dense { outputs: 4 });
    let input = ImageShape {
        channels: 2,
        height: 7,
        width: 6,
    };
    Network::new(&Architecture {
        name: "checked".into(),
        input,
        layers,
    })
    .unwrap()
}

/// Stride, padding, channels, both poolings (side by side, overlapping, with gaps), pointwise
/// kernels, and stacks of all of them.
pub(crate) fn conv_stacks() -> Vec<Vec<LayerSpec>> {
    let conv = |channels, kernel, stride, padding| LayerSpec::Conv {
        channels,
        kernel,
        stride,
        padding,
    };
    let max = |size, stride| LayerSpec::MaxPool { size, stride };
    let norm = |groups, affine| LayerSpec::GroupNorm { groups, affine };
    let avg = |size, stride| LayerSpec::AvgPool { size, stride };
    let (relu, tanh) = (LayerSpec::Relu, LayerSpec::Tanh);
    let (sigmoid, square) = (LayerSpec::Sigmoid, LayerSpec::Square);
    vec![
        vec![conv(3, 3, 1, 0), tanh],
        vec![conv(3, 3, 1, 2), relu],
        vec![conv(2, 3, 2, 1), sigmoid],
        vec![conv(3, 1, 1, 0), square],
        vec![conv(3, 2, 3, 0), tanh],
        vec![conv(3, 1, 2, 0), tanh],
        vec![conv(3, 3, 1, 1), tanh, max(2, 2)],
        vec![conv(2, 3, 1, 1), tanh, max(3, 1)],
        vec![conv(3, 3, 1, 1), relu, avg(2, 2)],
        vec![conv(2, 3, 1, 1), square, avg(3, 2)],
        vec![conv(2, 3, 1, 0), tanh, avg(2, 3)],
        vec![conv(4, 3, 1, 1), norm(2, true), tanh, max(2, 2)],
        vec![conv(3, 3, 2, 0), norm(1, true), relu, avg(2, 1)],
        vec![conv(3, 3, 1, 1), norm(3, false), sigmoid],
        vec![
            conv(2, 3, 1, 1),
            norm(1, true),
            square,
            LayerSpec::Dense { outputs: 6 },
            norm(3, true),
            tanh,
            LayerSpec::Dense { outputs: 5 },
            relu,
        ],
        vec![conv(3, 3, 1, 1), tanh, max(2, 1), conv(4, 3, 2, 2), relu],
        vec![conv(3, 3, 1, 1), relu, avg(2, 2), conv(4, 1, 1, 0), tanh],
        vec![
            conv(3, 3, 1, 1),
            sigmoid,
            max(2, 2),
            conv(2, 2, 1, 1),
            square,
            avg(2, 1),
            LayerSpec::Dense { outputs: 5 },
            tanh,
        ],
    ]
}

#[test]
fn convolutions_and_pooling_pass() {
    let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    let x = Tensor::from_vec(4, 84, (0..336).map(value).collect()).unwrap();
    let labels = [Some(0), Some(3), None, Some(1)];
    for layers in conv_stacks() {
        let network = conv_network(&layers);
        for seed in 0..2 {
            let (mut engine, parameters) = engine(&network, seed);
            let mut report = check(&mut engine, &network, &parameters, &x, &labels).unwrap();
            assert_eq!(report.len(), network.linears().len());
            let squared = Loss::SquaredError;
            report.extend(
                check_of(squared, &mut engine, &network, &parameters, &x, &labels).unwrap(),
            );
            engine.go_layer_by_layer();
            report.extend(check(&mut engine, &network, &parameters, &x, &labels).unwrap());
            for layer in report {
                assert!(
                    layer.weights < 5e-6 && layer.biases < 5e-6 && layer.affine < 5e-6,
                    "{layers:?}: {layer:?}"
                );
            }
            // The twin's loss, too: the forward passes agree.
            engine.begin(0, 4).unwrap();
            let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
            let parameters: Vec<f64> = parameters.iter().map(|p| f64::from(*p)).collect();
            let twin = summed_loss(&network, &parameters, &x, &labels) / 3.0;
            assert!((pass.loss - twin).abs() < 1e-6, "{layers:?}");
        }
    }
}

/// An engine whose backward pass forgets half of the transpose: the check must see it.
struct Wrong(Clear);

impl Infer for Wrong {
    type Error = ClearError;
    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, ClearError> {
        self.0.forward(layer, x)
    }
}

impl Train for Wrong {
    type Held = <Clear as Train>::Held;
    type Pending = <Clear as Train>::Pending;
    fn begin(&mut self, step: u64, capacity: usize) -> Result<(), ClearError> {
        self.0.begin(step, capacity)
    }
    fn forward_held(
        &mut self,
        layer: usize,
        x: &Tensor,
    ) -> Result<(Tensor, Self::Held), ClearError> {
        self.0.forward_held(layer, x)
    }
    fn backward(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: &Self::Held,
    ) -> Result<Tensor, ClearError> {
        let mut dx = self.0.backward(layer, d, held)?;
        dx.as_mut_slice()[0] *= 0.99;
        Ok(dx)
    }
    fn submit_gradient(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: Self::Held,
    ) -> Result<Self::Pending, ClearError> {
        self.0.submit_gradient(layer, d, held)
    }
    fn collect(&mut self, pending: Vec<Self::Pending>) -> Result<GradientSum, ClearError> {
        self.0.collect(pending)
    }
}

#[test]
fn a_wrong_engine_fails() {
    let network = network(&[LayerSpec::Tanh]);
    let (x, labels) = batch();
    let (engine, parameters) = engine(&network, 0);
    let report = check(&mut Wrong(engine), &network, &parameters, &x, &labels).unwrap();
    assert!(report[0].weights > 1e-4, "{report:?}");
    assert!(report[1].weights < 5e-6, "{report:?}");
    // And behind a convolution: the 0.99 reaches the first layer through the pooling.
    let layers = conv_stacks().pop().unwrap();
    let network = conv_network(&layers);
    let x = Tensor::from_vec(
        1,
        84,
        (0..84).map(|i| (i % 13) as f32 / 9.0 - 0.6).collect(),
    );
    let (engine, parameters) = self::engine(&network, 0);
    let report = check(
        &mut Wrong(engine),
        &network,
        &parameters,
        &x.unwrap(),
        &[Some(1)],
    )
    .unwrap();
    assert!(report[1].weights > 2e-5, "{report:?}");
}

#[test]
fn loss_of_the_twin_is_the_loss_of_the_pass() {
    let network = network(&[LayerSpec::Tanh, LayerSpec::Relu]);
    let (x, labels) = batch();
    let (mut engine, parameters) = engine(&network, 1);
    engine.begin(0, 7).unwrap();
    let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
    let parameters: Vec<f64> = parameters.iter().map(|p| f64::from(*p)).collect();
    let twin = summed_loss(&network, &parameters, &x, &labels) / 5.0;
    assert!((pass.loss - twin).abs() < 1e-6, "{} {twin}", pass.loss);
    let logits = pass::infer(&mut engine, &network, &x).unwrap();
    assert_eq!(crate::metrics::correct(&logits, &labels), pass.correct);
}
