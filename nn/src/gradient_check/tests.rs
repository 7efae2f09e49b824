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
    let stacks: [&[LayerSpec]; 6] = [
        &[],
        &[tanh],
        &[relu],
        &[tanh, tanh],
        &[relu, tanh],
        &[tanh, relu, relu],
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
