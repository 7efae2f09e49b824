//! Per-sample clipping on the integer grid, without per-sample gradients.
//!
//! A dense layer's gradient for sample `j` is `d_j (x_j, 1)^T`, so its squared norm is
//! `||d_j||^2 (||x_j||^2 + 1)` ("ghost norm", Goodfellow 2015, arXiv:1510.01799). The factor
//! `c_j = min(1, C / ||g_j||)` is found in floating point from the quantised inputs, `c_j d_j` is
//! rounded to the grid, and the norm is checked again **in integers**: rounding can lengthen a
//! gradient. Whatever is still too long is shrunk in a fixed number of trips and zeroed if that
//! was not enough, so that no row can fail and the work does not depend on the data.

use sphinx_dp::mechanism::ClipBound;
use sphinx_nn::tensor::Tensor;

use crate::format::{Integers, quantise};
use crate::plan::Plan;

/// Shrinking trips after rounding; each takes 1/64 off the factor.
const TRIPS: u32 = 4;

/// One layer's factors of the gradient, before clipping.
#[derive(Debug)]
pub struct UnclippedLayer {
    /// Index of the linear layer.
    pub layer: usize,
    /// Quantised inputs, one row per sample.
    pub x: Integers,
    /// Real output gradients, one row per sample.
    pub d: Tensor,
}

/// One layer's factors, clipped: every sample's gradient over all layers is within the bound.
#[derive(Clone, Debug)]
pub struct ClippedLayer {
    /// Index of the linear layer.
    pub layer: usize,
    /// Quantised inputs.
    pub x: Integers,
    /// Clipped, quantised output gradients on the grid `2^-(gradient_shift - x_shift)`.
    pub d: Integers,
}

impl ClippedLayer {
    /// Adds the bias gradient `sum_j d_j`, on the gradient grid.
    pub fn add_bias_sum(&self, plan: &Plan, sum: &mut [i64]) {
        let one = i64::from(one(plan, self.layer));
        for j in 0..self.d.rows() {
            for (out, &d) in sum.iter_mut().zip(self.d.row(j)) {
                *out += i64::from(d) * one;
            }
        }
    }
}

/// The number one on the input grid of a layer: what the bias is multiplied with.
fn one(plan: &Plan, layer: usize) -> i32 {
    1 << plan.formats()[layer].x_shift
}

/// `||x_j||^2 + 1` in units of the input grid, for every row of one layer.
fn input_norms(plan: &Plan, layer: usize, x: &Integers) -> Vec<u64> {
    let one = i64::from(one(plan, layer));
    let square = |v: &i32| (i64::from(*v) * i64::from(*v)) as u64;
    (0..x.rows())
        .map(|j| x.row(j).iter().map(square).sum::<u64>() + (one * one) as u64)
        .collect()
}

/// Clips all layers jointly to `bound` and gives, per row, the squared norm on the gradient grid.
#[must_use]
pub fn clip(
    plan: &Plan,
    pending: Vec<UnclippedLayer>,
    bound: ClipBound,
    gradient_shift: u32,
) -> (Vec<ClippedLayer>, Vec<u128>) {
    let rows = plan.capacity();
    let x_norms: Vec<Vec<u64>> = pending
        .iter()
        .map(|l| input_norms(plan, l.layer, &l.x))
        .collect();
    let mut layers: Vec<ClippedLayer> = pending
        .iter()
        .map(|l| ClippedLayer {
            layer: l.layer,
            x: l.x.clone(),
            d: Integers::zeros(rows, l.d.columns()),
        })
        .collect();
    let mut norms = vec![0_u128; rows];
    for (row, norm) in norms.iter_mut().enumerate() {
        *norm = clip_row(
            plan,
            &pending,
            &x_norms,
            &mut layers,
            row,
            bound,
            gradient_shift,
        );
    }
    (layers, norms)
}

fn clip_row(
    plan: &Plan,
    pending: &[UnclippedLayer],
    x_norms: &[Vec<u64>],
    layers: &mut [ClippedLayer],
    row: usize,
    bound: ClipBound,
    gradient_shift: u32,
) -> u128 {
    let limit = bound.get() as f64;
    let length = real_norm(plan, pending, x_norms, row, gradient_shift);
    let mut factor = if length > limit { limit / length } else { 1.0 };
    let mut norm = round_row(plan, pending, x_norms, layers, row, factor, gradient_shift);
    for _ in 0..TRIPS {
        let too_long = norm > bound.squared();
        factor *= if too_long { 1.0 - 1.0 / 64.0 } else { 1.0 };
        norm = round_row(plan, pending, x_norms, layers, row, factor, gradient_shift);
    }
    if norm > bound.squared() {
        norm = round_row(plan, pending, x_norms, layers, row, 0.0, gradient_shift);
    }
    norm
}

/// Norm of one row's unclipped gradient in units of the gradient grid; broken values count zero.
fn real_norm(
    plan: &Plan,
    pending: &[UnclippedLayer],
    x_norms: &[Vec<u64>],
    row: usize,
    gradient_shift: u32,
) -> f64 {
    let mut sum = 0.0;
    for (layer, x_norms) in pending.iter().zip(x_norms) {
        let d_unit = f64::from(gradient_shift - plan.formats()[layer.layer].x_shift).exp2();
        let finite = |v: &&f32| v.is_finite();
        let d: f64 = layer
            .d
            .row(row)
            .iter()
            .filter(finite)
            .map(|&v| (f64::from(v) * d_unit).powi(2))
            .sum();
        sum += d * x_norms[row] as f64;
    }
    sum.sqrt()
}

/// Rounds one row scaled by `factor` and gives its squared norm, exactly.
fn round_row(
    plan: &Plan,
    pending: &[UnclippedLayer],
    x_norms: &[Vec<u64>],
    layers: &mut [ClippedLayer],
    row: usize,
    factor: f64,
    gradient_shift: u32,
) -> u128 {
    let mut norm = 0_u128;
    for ((from, to), x_norms) in pending.iter().zip(layers).zip(x_norms) {
        let d_shift = gradient_shift - plan.formats()[from.layer].x_shift;
        let mut d_norm = 0_u128;
        for (out, &v) in to.d.row_mut(row).iter_mut().zip(from.d.row(row)) {
            let v = if v.is_finite() {
                f64::from(v) * factor
            } else {
                0.0
            };
            *out = quantise(v as f32, d_shift, i32::MAX >> 4);
            d_norm += u128::from(out.unsigned_abs()).pow(2);
        }
        norm += d_norm * u128::from(x_norms[row]);
    }
    norm
}

#[cfg(test)]
mod tests;
