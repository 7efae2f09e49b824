//! Parameters in the orders in which the products read them, and gradients back again.

use super::Prepared;
use super::layer::{Back, BackKind, Layer};
use crate::network::ParameterSpan;

/// The parameters of a network, ready for the products.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    /// Per layer `[tap][output]`.
    pub(super) forward: Vec<Vec<f32>>,
    /// Per layer, padded with zeros.
    pub(super) biases: Vec<Vec<f32>>,
    /// Per layer, padded with zeros; ones and zeros where nothing was learned.
    pub(super) scales: Vec<Vec<f32>>,
    pub(super) shifts: Vec<Vec<f32>>,
    /// Per layer as its [`Back`] says; empty for the first.
    pub(super) back: Vec<Vec<f32>>,
}

impl Packed {
    /// Packs a flat parameter vector; what was allocated before is used again.
    pub(super) fn fill(&mut self, prepared: &Prepared, parameters: &[f32]) {
        let layers = prepared.layers.len();
        self.forward.resize(layers, Vec::new());
        self.biases.resize(layers, Vec::new());
        self.back.resize(layers, Vec::new());
        self.scales.resize(layers, Vec::new());
        self.shifts.resize(layers, Vec::new());
        for (index, (layer, span)) in prepared.layers.iter().zip(&prepared.layout).enumerate() {
            let weights = &parameters[span.weights.clone()];
            pack_forward(layer, weights, &mut self.forward[index]);
            if let Some(back) = &layer.back {
                pack_back(layer, back, weights, &mut self.back[index]);
            }
            let pad = |to: &mut Vec<f32>, from: &[f32]| {
                to.clear();
                to.extend_from_slice(from);
                to.resize(layer.width, 0.0);
            };
            pad(&mut self.biases[index], &parameters[span.biases.clone()]);
            if layer.affine {
                pad(&mut self.scales[index], &parameters[span.scales.clone()]);
                pad(&mut self.shifts[index], &parameters[span.shifts.clone()]);
            } else {
                pad(&mut self.scales[index], &[]);
                pad(&mut self.shifts[index], &[]);
                self.scales[index][..layer.outputs].fill(1.0);
            }
        }
    }
}

fn pack_forward(layer: &Layer, weights: &[f32], to: &mut Vec<f32>) {
    to.resize(layer.gradient_len(), 0.0);
    let taps = layer.order.len();
    for (row, tap) in to.chunks_exact_mut(layer.width).zip(&layer.order) {
        let column = weights[*tap as usize..].iter().step_by(taps);
        row.iter_mut().zip(column).for_each(|(to, w)| *to = *w);
    }
}

fn pack_back(layer: &Layer, back: &Back, weights: &[f32], to: &mut Vec<f32>) {
    let (taps, channels) = (layer.order.len(), layer.x.image().channels);
    // Taps run place by place, channels innermost.
    let places = taps / channels;
    match back.kind {
        BackKind::Direct => {
            to.resize(taps / channels * layer.outputs * back.width, 0.0);
            for (n, row) in to.chunks_exact_mut(back.width).enumerate() {
                // The kernel is mirrored: step (place, output) meets the place from the far end.
                let (place, o) = (places - 1 - n / layer.outputs, n % layer.outputs);
                let order = &layer.order[place * channels..][..channels];
                for (to, tap) in row.iter_mut().zip(order) {
                    *to = weights[o * taps + *tap as usize];
                }
            }
        }
        BackKind::Scattered { .. } => {
            to.resize(layer.outputs * back.width, 0.0);
            let lane = layer.x.lane();
            for (row, weights) in to
                .chunks_exact_mut(back.width)
                .zip(weights.chunks_exact(taps))
            {
                for (place, order) in row.chunks_exact_mut(lane).zip(layer.order.chunks(channels)) {
                    for (to, tap) in place.iter_mut().zip(order) {
                        *to = weights[*tap as usize];
                    }
                }
            }
        }
    }
}

/// Writes a layer's gradient, `[tap][output]` with padded outputs, where the network wants it.
pub(super) fn unpack(layer: &Layer, span: &ParameterSpan, from: &[f32], to: &mut [f32]) {
    let (weights, biases) = from.split_at(layer.gradient_len());
    let taps = layer.order.len();
    let to_weights = &mut to[span.weights.clone()];
    for (row, tap) in weights.chunks_exact(layer.width).zip(&layer.order) {
        let column = to_weights[*tap as usize..].iter_mut().step_by(taps);
        column.zip(row).for_each(|(to, v)| *to = *v);
    }
    let (biases, affine) = biases.split_at(layer.width);
    to[span.biases.clone()].copy_from_slice(&biases[..layer.outputs]);
    if layer.affine {
        let (scales, shifts) = affine.split_at(layer.width);
        to[span.scales.clone()].copy_from_slice(&scales[..layer.outputs]);
        to[span.shifts.clone()].copy_from_slice(&shifts[..layer.outputs]);
    }
}

/// The same for a layer whose gradient was summed over rows: `[output][place of the input]`.
pub(super) fn unpack_joined(layer: &Layer, span: &ParameterSpan, from: &[f32], to: &mut [f32]) {
    let (weights, biases) = from.split_at(layer.outputs * layer.x.len());
    let (taps, channels, lane) = (layer.order.len(), layer.x.image().channels, layer.x.lane());
    let to_weights = to[span.weights.clone()].chunks_exact_mut(taps);
    for (to, from) in to_weights.zip(weights.chunks_exact(layer.x.len())) {
        for (place, order) in from.chunks(lane).zip(layer.order.chunks(channels)) {
            for (v, tap) in place.iter().zip(order) {
                to[*tap as usize] = *v;
            }
        }
    }
    to[span.biases.clone()].copy_from_slice(&biases[..layer.outputs]);
}
