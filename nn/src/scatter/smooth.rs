//! Smoothing and subsampling along one side, as a small matrix.
//!
//! `out[o] = sum_u m[o][u] x[u]`, where row `o` is the smoothing Gaussian around sample `o + 1` of the
//! subsampled side: the first and last sample lie in the frame and are dropped.

use super::Side;
use super::filters;
use std::f64::consts::TAU;

/// The matrix for maps that were already subsampled by `2^level`.
#[derive(Clone, Debug)]
pub(super) struct Smooth {
    /// Length that comes out.
    pub(super) outputs: usize,
    inputs: usize,
    /// `[outputs][inputs]`, and the other way round.
    weights: Vec<f32>,
    transposed: Vec<f32>,
}

impl Smooth {
    pub(super) fn new(side: Side, level: usize, scales: usize) -> Self {
        let spectrum = filters::cut_side(&filters::smoothing(side.padded, scales), level);
        let inputs = spectrum.len();
        let step = 1 << (scales - level);
        let outputs = inputs / step - 2;
        let mut weights = vec![0.0; inputs * outputs];
        let mut transposed = weights.clone();
        for u in 0..inputs {
            for o in 0..outputs {
                let place = ((o + 1) * step + inputs - u) % inputs;
                let wave = |k: usize| (TAU * (k * place % inputs) as f64 / inputs as f64).cos();
                let sum: f64 = spectrum.iter().enumerate().map(|(k, s)| s * wave(k)).sum();
                let weight = (sum / inputs as f64) as f32;
                weights[o * inputs + u] = weight;
                transposed[u * outputs + o] = weight;
            }
        }
        Self {
            outputs,
            inputs,
            weights,
            transposed,
        }
    }

    /// What each input adds to output `o`.
    #[inline(always)]
    pub(super) fn row(&self, o: usize) -> &[f32] {
        &self.weights[o * self.inputs..(o + 1) * self.inputs]
    }

    /// What input `u` adds to each output.
    #[inline(always)]
    pub(super) fn column(&self, u: usize) -> &[f32] {
        &self.transposed[u * self.outputs..(u + 1) * self.outputs]
    }
}
