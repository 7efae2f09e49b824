//! One forward and one backward pass in which every value carries its tangent.
//!
//! A [`Pair`] holds a value and its derivative along a fixed direction of the parameters. Linear
//! maps send the tangent `x'` to `W x' + V x + v`, where `V` and `v` are the direction's weights and
//! biases; what is not linear is differentiated once more by hand.

use crate::activation::Activation;
use crate::loss::Loss;
use crate::network::{LinearKind, LinearShape, Network, ParameterSpan};
use crate::norm::{Affine, GroupShape, TangentNorm};
use crate::pool::Positions;
use crate::tensor::Tensor;
use crate::{conv, dense};

/// A batch and its tangent.
struct Pair {
    value: Tensor,
    tangent: Tensor,
}

/// What the way back needs of one layer.
struct Kept {
    /// Behind the linear map and its normalisation.
    y: Pair,
    norms: Vec<TangentNorm>,
    positions: Option<Positions>,
}

/// Parameters and the direction in which they move.
struct Moving<'a> {
    network: &'a Network,
    parameters: &'a [f32],
    direction: &'a [f32],
}

/// The tangent of the gradient of the summed loss by the input.
pub(super) fn input_tangent(
    network: &Network,
    parameters: &[f32],
    direction: &[f32],
    input: &Tensor,
    labels: &[u8],
    loss: Loss,
) -> Tensor {
    let moving = Moving {
        network,
        parameters,
        direction,
    };
    let mut current = Pair {
        value: input.clone(),
        tangent: Tensor::zeros(input.rows(), input.columns()),
    };
    let layers = network.linears().len();
    let mut held = Vec::with_capacity(layers);
    for layer in 0..layers {
        let (next, kept) = moving.forward(layer, &current);
        held.push(kept);
        current = next;
    }
    let mut d = loss_pair(loss, &current, labels);
    while let Some(kept) = held.pop() {
        d = moving.backward(held.len(), d, &kept);
    }
    d.tangent
}

/// The gradient at the logits.
fn loss_pair(loss: Loss, logits: &Pair, labels: &[u8]) -> Pair {
    let labels: Vec<_> = labels.iter().copied().map(Some).collect();
    let (_, d) = loss.and_gradient(&logits.value, &labels);
    let mut tangent = logits.tangent.clone();
    if loss == Loss::CrossEntropy {
        for (j, label) in labels.iter().flatten().enumerate() {
            // The gradient is p - e; the tangent of the softmax p is p (z' - <p, z'>).
            let mut p = d.row(j).to_vec();
            p[usize::from(*label)] += 1.0;
            let row = tangent.row_mut(j);
            let mean: f32 = p.iter().zip(row.iter()).map(|(p, z)| p * z).sum();
            for (z, p) in row.iter_mut().zip(p) {
                *z = p * (*z - mean);
            }
        }
    }
    Pair { value: d, tangent }
}

fn weights<'a>(all: &'a [f32], span: &ParameterSpan) -> &'a [f32] {
    &all[span.weights.clone()]
}

fn forward(shape: LinearShape, weights: &[f32], biases: &[f32], x: &Tensor) -> Tensor {
    match shape.kind {
        LinearKind::Dense => dense::forward(shape, weights, biases, x),
        LinearKind::Conv(conv) => conv::forward(conv, weights, biases, x),
    }
}

fn backward(shape: LinearShape, weights: &[f32], d: &Tensor) -> Tensor {
    match shape.kind {
        LinearKind::Dense => dense::backward(shape, weights, d),
        LinearKind::Conv(conv) => conv::backward(conv, weights, d),
    }
}

fn add(to: &mut Tensor, from: &Tensor) {
    let values = to.as_mut_slice().iter_mut().zip(from.as_slice());
    values.for_each(|(to, v)| *to += v);
}

impl Moving<'_> {
    fn affine<'a>(span: &ParameterSpan, all: &'a [f32]) -> Option<Affine<'a>> {
        (!span.scales.is_empty()).then(|| Affine {
            scales: &all[span.scales.clone()],
            shifts: &all[span.shifts.clone()],
        })
    }

    /// Scales and shifts, and how they move.
    fn affine_pair(&self, layer: usize) -> Option<(Affine<'_>, Affine<'_>)> {
        let span = &self.network.layout()[layer];
        let here = Self::affine(span, self.parameters)?;
        Some((here, Self::affine(span, self.direction)?))
    }

    /// A layer and what follows it.
    fn forward(&self, layer: usize, x: &Pair) -> (Pair, Kept) {
        let shape = self.network.linears()[layer];
        let span = &self.network.layout()[layer];
        let biases = |all: &[f32]| all[span.biases.clone()].to_vec();
        let (w, v) = (
            weights(self.parameters, span),
            weights(self.direction, span),
        );
        let none = vec![0.0; span.biases.len()];
        let mut y = Pair {
            value: forward(shape, w, &biases(self.parameters), &x.value),
            tangent: forward(shape, v, &biases(self.direction), &x.value),
        };
        add(&mut y.tangent, &forward(shape, w, &none, &x.tangent));
        let mut norms = Vec::new();
        if let Some(norm) = self.network.norm_after(layer) {
            norms = self.normalise(layer, norm, &mut y);
        }
        let between = self.network.between(layer);
        let mut next = Pair {
            value: y.value.clone(),
            tangent: y.tangent.clone(),
        };
        between.activation.apply(&mut next.value);
        slopes(between.activation, &y.value, &next.value, |i, slope, _| {
            next.tangent.as_mut_slice()[i] *= slope;
        });
        let mut positions = None;
        if let Some(pool) = between.pool {
            let (value, at) = pool.forward(&next.value);
            let tangent = pool.pick(&next.tangent, &at);
            next = Pair { value, tangent };
            positions = Some(at);
        }
        let kept = Kept {
            y,
            norms,
            positions,
        };
        (next, kept)
    }

    fn normalise(&self, layer: usize, norm: GroupShape, y: &mut Pair) -> Vec<TangentNorm> {
        let affine = self.affine_pair(layer);
        let rows = 0..y.value.rows();
        rows.map(|j| norm.tangent_forward(y.value.row_mut(j), y.tangent.row_mut(j), affine))
            .collect()
    }

    /// From the gradient behind a layer and what follows it to that at the layer's input.
    fn backward(&self, layer: usize, mut d: Pair, kept: &Kept) -> Pair {
        let between = self.network.between(layer);
        if let (Some(pool), Some(positions)) = (&between.pool, &kept.positions) {
            d = Pair {
                value: pool.backward(&d.value, positions),
                tangent: pool.backward(&d.tangent, positions),
            };
        }
        let mut output = kept.y.value.clone();
        between.activation.apply(&mut output);
        let moved = kept.y.tangent.as_slice();
        slopes(
            between.activation,
            &kept.y.value,
            &output,
            |i, slope, bend| {
                let here = d.value.as_slice()[i];
                let tangent = &mut d.tangent.as_mut_slice()[i];
                *tangent = *tangent * slope + here * bend * moved[i];
                d.value.as_mut_slice()[i] = here * slope;
            },
        );
        if let Some(norm) = self.network.norm_after(layer) {
            let affine = self.affine_pair(layer);
            for (j, kept) in kept.norms.iter().enumerate() {
                norm.tangent_backward(d.value.row_mut(j), d.tangent.row_mut(j), kept, affine);
            }
        }
        let shape = self.network.linears()[layer];
        let span = &self.network.layout()[layer];
        let w = weights(self.parameters, span);
        let mut tangent = backward(shape, w, &d.tangent);
        add(
            &mut tangent,
            &backward(shape, weights(self.direction, span), &d.value),
        );
        Pair {
            value: backward(shape, w, &d.value),
            tangent,
        }
    }
}

/// Calls `f(place, first derivative, second derivative)` for every value, from the activation's
/// input and output.
fn slopes(
    activation: Activation,
    input: &Tensor,
    output: &Tensor,
    mut f: impl FnMut(usize, f32, f32),
) {
    let values = input.as_slice().iter().zip(output.as_slice());
    for (i, (x, y)) in values.enumerate() {
        let (slope, bend) = match activation {
            Activation::Identity => (1.0, 0.0),
            Activation::Relu => (activation.derivative(*y), 0.0),
            Activation::Tanh => (1.0 - y * y, -2.0 * y * (1.0 - y * y)),
            Activation::Sigmoid => (y * (1.0 - y), y * (1.0 - y) * (1.0 - 2.0 * y)),
            Activation::Square => (2.0 * x, 2.0),
        };
        f(i, slope, bend);
    }
}
