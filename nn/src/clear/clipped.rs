//! The clipped sum over a batch: norms of all layers jointly, factors, one sum.
//!
//! A dense layer gives its norms without its gradients ([`crate::ghost`]). For a convolution the
//! cheapest exact norm is that of the gradient itself: a sum over positions does not factor, and
//! the ghost form (Bu, Mao, Xu, "Scalable and Efficient Training of Large Convolutional Neural
//! Networks with Differential Privacy", NeurIPS 2022) costs a product quadratic in the number of
//! positions. So a sample's convolution gradients are formed, measured, scaled and added, one
//! sample at a time: no more than one sample's gradient per task is ever held.
//!
//! Samples are split into blocks by their number alone, and the sums of the blocks are added in
//! order, so that the result does not depend on the number of threads.

use super::LayerPart;
use crate::conv::{self, ConvShape};
use crate::network::{LinearKind, Network};
use crate::prepared::Bounds;
use crate::{dense, ghost};
use rayon::prelude::*;

/// At most this many partial sums exist at once.
const MAX_PARTIALS: usize = 16;

/// Whether biases count in norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Biases {
    /// Clipped jointly with the weights.
    Clipped,
    /// Left out: neither measured nor, in the sum, of any meaning.
    LeftOut,
}

/// One convolution's part of the work, and where its gradient goes.
struct ConvPart<'a> {
    shape: ConvShape,
    pending: &'a LayerPart,
    /// Where its weights start in the flat vector.
    target: usize,
}

impl ConvPart<'_> {
    const fn parameters(&self) -> usize {
        self.shape.weights() + self.shape.output().channels
    }
}

/// The sum over the rows, laid out as the network, and every row's squared norm after clipping.
///
/// `pending` holds each linear layer once, in order, all of the same rows.
pub(super) fn sum(
    network: &Network,
    bounds: Bounds<'_>,
    biases: Biases,
    pending: Vec<LayerPart>,
) -> (Vec<f32>, Vec<f64>) {
    let mut sum = vec![0.0; network.parameter_count()];
    let mut norms = vec![0.0; pending.first().map_or(0, |p| p.d.rows())];
    match bounds {
        Bounds::None => add(network, (None, biases), pending, &mut norms, &mut sum),
        Bounds::Joint(bound) => {
            add(
                network,
                (Some(bound), biases),
                pending,
                &mut norms,
                &mut sum,
            );
        }
        Bounds::PerLayer(bounds) => {
            for (part, bound) in pending.into_iter().zip(bounds) {
                let bound = (Some(*bound), biases);
                add(network, bound, vec![part], &mut norms, &mut sum);
            }
        }
    }
    (sum, norms)
}

/// Clips the gradients of these layers jointly, writes their sums, and adds to every row's
/// squared norm.
fn add(
    network: &Network,
    (bound, biases): (Option<f64>, Biases),
    mut pending: Vec<LayerPart>,
    total: &mut [f64],
    sum: &mut [f32],
) {
    let shape = |layer: &LayerPart| network.linears()[layer.layer];
    let mut norms = vec![0.0; total.len()];
    for layer in pending
        .iter()
        .filter(|l| shape(l).kind == LinearKind::Dense)
    {
        match biases {
            Biases::Clipped => ghost::add_dense(&mut norms, &layer.d, &layer.x),
            Biases::LeftOut => ghost::add_dense_weights(&mut norms, &layer.d, &layer.x),
        }
    }
    for affine in pending.iter().filter_map(|l| l.affine.as_ref()) {
        for (j, norm) in norms.iter_mut().enumerate() {
            *norm += ghost::squared_norm(affine.row(j));
        }
    }
    let factors = add_convolutions(network, (bound, biases), &pending, &mut norms, sum);
    add_affine(network, &pending, &factors, sum);
    for (j, factor) in factors.into_iter().enumerate() {
        total[j] += ghost::scaled_norm(norms[j], factor);
        if factor < 1.0 {
            for layer in &mut pending {
                if shape(layer).kind == LinearKind::Dense {
                    layer.scale(j, factor);
                }
            }
        }
    }
    for layer in pending
        .iter()
        .filter(|l| shape(l).kind == LinearKind::Dense)
    {
        let span = &network.layout()[layer.layer];
        let (weights, biases) =
            sum[span.weights.start..span.biases.end].split_at_mut(span.weights.len());
        dense::gradient(shape(layer), &layer.d, &layer.x, weights, biases);
    }
}

/// Adds the scaled gradients of scales and shifts.
fn add_affine(network: &Network, pending: &[LayerPart], factors: &[f32], sum: &mut [f32]) {
    for layer in pending {
        let Some(affine) = &layer.affine else {
            continue;
        };
        let span = &network.layout()[layer.layer];
        let sum = &mut sum[span.scales.start..span.shifts.end];
        for (j, factor) in factors.iter().enumerate().filter(|(_, f)| **f > 0.0) {
            let row = sum.iter_mut().zip(affine.row(j));
            row.for_each(|(s, g)| *s += factor * g);
        }
    }
}

/// Completes the norms by those of the convolutions, adds the clipped convolution gradients to
/// `sum`, and returns every row's factor. `norms` stay as they were before clipping.
fn add_convolutions(
    network: &Network,
    bound: (Option<f64>, Biases),
    pending: &[LayerPart],
    norms: &mut [f64],
    sum: &mut [f32],
) -> Vec<f32> {
    let parts: Vec<ConvPart<'_>> = pending
        .iter()
        .filter_map(|pending| match network.linears()[pending.layer].kind {
            LinearKind::Dense => None,
            LinearKind::Conv(shape) => Some(ConvPart {
                shape,
                pending,
                target: network.layout()[pending.layer].weights.start,
            }),
        })
        .collect();
    let mut factors = vec![1.0; norms.len()];
    let block = norms.len().div_ceil(MAX_PARTIALS).max(1);
    let partials: Vec<Vec<f32>> = norms
        .par_chunks_mut(block)
        .zip(factors.par_chunks_mut(block))
        .enumerate()
        .map(|(index, (norms, factors))| block_sum(&parts, bound, index * block, norms, factors))
        .collect();
    for partial in &partials {
        let mut rest = partial.as_slice();
        for part in &parts {
            let (values, others) = rest.split_at(part.parameters());
            let target = &mut sum[part.target..part.target + values.len()];
            target.iter_mut().zip(values).for_each(|(t, v)| *t += v);
            rest = others;
        }
    }
    factors
}

/// The clipped sum over the rows from `first` on, all convolutions one after the other.
fn block_sum(
    parts: &[ConvPart<'_>],
    (bound, biases): (Option<f64>, Biases),
    first: usize,
    norms: &mut [f64],
    factors: &mut [f32],
) -> Vec<f32> {
    let length = parts.iter().map(ConvPart::parameters).sum();
    let mut sum = vec![0.0; length];
    let mut gradient = vec![0.0; length];
    let mut scratch = Vec::new();
    for (i, (norm, factor)) in norms.iter_mut().zip(factors).enumerate() {
        let mut rest = gradient.as_mut_slice();
        for part in parts {
            let (values, others) = rest.split_at_mut(part.parameters());
            let (weights, shifts) = values.split_at_mut(part.shape.weights());
            let (d, x) = (&part.pending.d, &part.pending.x);
            let (d, x) = (d.row(first + i), x.row(first + i));
            conv::sample_gradient(part.shape, d, x, &mut scratch, weights, shifts);
            if biases == Biases::LeftOut {
                shifts.fill(0.0);
            }
            rest = others;
        }
        *norm += ghost::squared_norm(&gradient);
        *factor = bound.map_or(1.0, |bound| ghost::factor(*norm, bound) as f32);
        // A value that is not finite times zero is not zero: such a row is left out.
        if *factor > 0.0 {
            let f = *factor;
            sum.iter_mut().zip(&gradient).for_each(|(s, g)| *s += f * g);
        }
    }
    sum
}

#[cfg(test)]
mod tests;
