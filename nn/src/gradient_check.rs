//! Does an engine compute the gradient of the loss? Central differences say.
//!
//! The twin is a plain network in `f64`: nested loops, the platform's `tanh` and `exp`, no
//! code shared with the passes. Differentiating it numerically with step `h = 1e-5` is good to
//! about `h^2 = 1e-10`, so any disagreement beyond an engine's own precision is a wrong gradient.
//! A ReLU whose input lies within `h` of zero, or two values that close in a window of maximum
//! pooling, would be a false alarm; choose seeds accordingly.
//!
//! ```
//! use sphinx_nn::clear::{Clear, ClearConfig};
//! use sphinx_nn::{ImageShape, Network, Tensor, architectures, gradient_check, init};
//!
//! let input = ImageShape { channels: 1, height: 1, width: 3 };
//! let network = Network::new(&architectures::by_name("mlp", input, 2).unwrap()).unwrap();
//! let parameters = init::glorot(&network, 1);
//! let config = ClearConfig { shift: 40, ..ClearConfig::default() };
//! let mut engine = Clear::new(&network, parameters.clone(), config).unwrap();
//! let x = Tensor::from_vec(2, 3, vec![0.1, -0.4, 0.9, 0.5, 0.2, -0.3]).unwrap();
//! let labels = [Some(0), Some(1)];
//! let report = gradient_check::check(&mut engine, &network, &parameters, &x, &labels).unwrap();
//! assert!(report.iter().all(|layer| layer.weights < 1e-5 && layer.biases < 1e-5));
//! ```

use crate::engine::Train;
use crate::loss::Loss;
use crate::network::{LinearKind, Network};
use crate::pass;
use crate::tensor::Tensor;

mod plain;

/// Half the distance between the two points of a central difference.
const STEP: f64 = 1e-5;

/// Largest absolute difference between an engine's gradient and central differences, for one
/// linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerDifference {
    /// Over the layer's weights.
    pub weights: f64,
    /// Over the layer's biases.
    pub biases: f64,
    /// Over the scales and shifts of its normalisation; 0 if it has none.
    pub affine: f64,
}

/// Runs one step of `engine`, which must hold `parameters` and clip nothing, and compares the
/// collected sum with central differences of the *summed* loss, layer by layer.
///
/// Cost: two forward passes in plain loops per parameter; for small networks.
///
/// # Errors
/// Whatever the engine reports.
///
/// # Panics
/// If `parameters`, `x` or `labels` do not fit the network.
pub fn check<E: Train>(
    engine: &mut E,
    network: &Network,
    parameters: &[f32],
    x: &Tensor,
    labels: &[Option<u8>],
) -> Result<Vec<LayerDifference>, E::Error> {
    check_of(Loss::CrossEntropy, engine, network, parameters, x, labels)
}

/// [`check`] for a loss of choice.
///
/// # Errors
/// Whatever the engine reports.
///
/// # Panics
/// As [`check`].
pub fn check_of<E: Train>(
    loss: Loss,
    engine: &mut E,
    network: &Network,
    parameters: &[f32],
    x: &Tensor,
    labels: &[Option<u8>],
) -> Result<Vec<LayerDifference>, E::Error> {
    engine.begin(0, x.rows())?;
    let pending = pass::gradients_of(loss, engine, network, x, labels)?.pending;
    let sum = engine.collect(pending)?;
    let step = (1_u64 << sum.shift) as f64;
    let mut parameters: Vec<f64> = parameters.iter().map(|p| f64::from(*p)).collect();
    let mut difference = |i: usize| {
        let want = central_difference(loss, network, &mut parameters, i, x, labels);
        (sum.values[i] as f64 / step - want).abs()
    };
    let spans = network.layout().iter();
    Ok(spans
        .map(|span| LayerDifference {
            weights: span
                .weights
                .clone()
                .map(&mut difference)
                .fold(0.0, f64::max),
            biases: span.biases.clone().map(&mut difference).fold(0.0, f64::max),
            affine: (span.scales.start..span.shifts.end)
                .map(&mut difference)
                .fold(0.0, f64::max),
        })
        .collect())
}

/// The derivative of the summed loss by parameter `i`.
fn central_difference(
    loss: Loss,
    network: &Network,
    parameters: &mut [f64],
    i: usize,
    x: &Tensor,
    labels: &[Option<u8>],
) -> f64 {
    let kept = parameters[i];
    parameters[i] = kept + STEP;
    let above = summed_loss_of(loss, network, parameters, x, labels);
    parameters[i] = kept - STEP;
    let below = summed_loss_of(loss, network, parameters, x, labels);
    parameters[i] = kept;
    (above - below) / (2.0 * STEP)
}

/// Softmax cross-entropy summed over the labelled rows, all in `f64`.
///
/// # Panics
/// If `parameters`, `x` or `labels` do not fit the network.
pub fn summed_loss(
    network: &Network,
    parameters: &[f64],
    x: &Tensor,
    labels: &[Option<u8>],
) -> f64 {
    summed_loss_of(Loss::CrossEntropy, network, parameters, x, labels)
}

/// The loss of choice summed over the labelled rows, all in `f64`.
///
/// # Panics
/// As [`summed_loss`].
pub fn summed_loss_of(
    loss: Loss,
    network: &Network,
    parameters: &[f64],
    x: &Tensor,
    labels: &[Option<u8>],
) -> f64 {
    assert_eq!(
        parameters.len(),
        network.parameter_count(),
        "parameters fit the network"
    );
    assert_eq!(labels.len(), x.rows(), "one label per row");
    let mut total = 0.0;
    for (j, label) in labels.iter().enumerate() {
        let Some(label) = label else { continue };
        let z = plain_logits(network, parameters, x.row(j));
        let target = usize::from(*label);
        total += match loss {
            Loss::CrossEntropy => z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[target],
            Loss::SquaredError => {
                let aim = |i: usize| if i == target { 1.0 } else { 0.0 };
                let squares = z.iter().enumerate().map(|(i, z)| (z - aim(i)).powi(2));
                0.5 * squares.sum::<f64>()
            }
        };
    }
    total
}

fn plain_logits(network: &Network, parameters: &[f64], x: &[f32]) -> Vec<f64> {
    let mut current: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    for (layer, (shape, span)) in network.linears().iter().zip(network.layout()).enumerate() {
        let weights = &parameters[span.weights.clone()];
        let biases = &parameters[span.biases.clone()];
        current = match shape.kind {
            LinearKind::Dense => plain::dense(weights, biases, &current),
            LinearKind::Conv(conv) => plain::conv(conv, weights, biases, &current),
        };
        if let Some(norm) = network.norm_after(layer) {
            let affine = (!span.scales.is_empty()).then(|| {
                let shifts = &parameters[span.shifts.clone()];
                (&parameters[span.scales.clone()], shifts)
            });
            plain::normalise(norm, affine, &mut current);
        }
        let between = network.between(layer);
        for y in &mut current {
            *y = plain::activation(between.activation, *y);
        }
        if let Some(pool) = between.pool {
            current = plain::pool(pool, &current);
        }
    }
    current
}

#[cfg(test)]
pub(crate) mod tests;
