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
    let mut clipper = Clipper {
        bound,
        layers: Vec::with_capacity(pending.len()),
    };
    for UnclippedLayer { layer, x, d } in pending {
        clipper.layers.push(Rounding {
            x_norms: input_norms(plan, layer, &x),
            d_shift: gradient_shift - plan.formats()[layer].x_shift,
            rounded: ClippedLayer {
                layer,
                d: Integers::zeros(rows, d.columns()),
                x,
            },
            real: d,
        });
    }
    let norms = (0..rows).map(|row| clipper.clip_row(row)).collect();
    (
        clipper
            .layers
            .into_iter()
            .map(|layer| layer.rounded)
            .collect(),
        norms,
    )
}

/// One layer on its way from real to clipped integers.
struct Rounding {
    real: Tensor,
    x_norms: Vec<u64>,
    d_shift: u32,
    rounded: ClippedLayer,
}

struct Clipper {
    bound: ClipBound,
    layers: Vec<Rounding>,
}

impl Clipper {
    /// Clips one row and gives its squared norm; the same work whatever the row holds.
    fn clip_row(&mut self, row: usize) -> u128 {
        let (limit, length) = (self.bound.get() as f64, self.real_norm(row));
        let mut factor = if length > limit { limit / length } else { 1.0 };
        let mut norm = self.round_row(row, factor);
        for _ in 0..TRIPS {
            let too_long = norm > self.bound.squared();
            factor *= if too_long { 1.0 - 1.0 / 64.0 } else { 1.0 };
            norm = self.round_row(row, factor);
        }
        let keep = if norm > self.bound.squared() {
            0.0
        } else {
            factor
        };
        self.round_row(row, keep)
    }

    /// Norm of one row's unclipped gradient in grid units; broken values count as zero.
    fn real_norm(&self, row: usize) -> f64 {
        let mut sum = 0.0;
        for layer in &self.layers {
            let unit = f64::from(layer.d_shift).exp2();
            let finite = layer.real.row(row).iter().filter(|v| v.is_finite());
            let d: f64 = finite.map(|&v| (f64::from(v) * unit).powi(2)).sum();
            sum += d * layer.x_norms[row] as f64;
        }
        sum.sqrt()
    }

    /// Rounds one row scaled by `factor` and gives its squared norm, exactly.
    fn round_row(&mut self, row: usize, factor: f64) -> u128 {
        let mut norm = 0_u128;
        for layer in &mut self.layers {
            let mut d_norm = 0_u128;
            let values = layer
                .rounded
                .d
                .row_mut(row)
                .iter_mut()
                .zip(layer.real.row(row));
            for (out, &v) in values {
                let scaled = if v.is_finite() {
                    f64::from(v) * factor
                } else {
                    0.0
                };
                *out = quantise(scaled as f32, layer.d_shift, i32::MAX >> 4);
                d_norm += u128::from(out.unsigned_abs()).pow(2);
            }
            norm += d_norm * u128::from(layer.x_norms[row]);
        }
        norm
    }
}

#[cfg(test)]
mod tests;
