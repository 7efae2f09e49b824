//! Per-sample clipping on the integer grid.
//!
//! A dense layer's gradient for sample `j` is `d_j (x_j, 1)^T`, so its squared norm is
//! `||d_j||^2 (||x_j||^2 + 1)` without forming it ("ghost norm", Goodfellow 2015, arXiv:1510.01799); a
//! convolution's is formed, one sample at a time. The factor `c_j = min(1, C / ||g_j||)` is found
//! in floating point from the quantised inputs, `c_j d_j` is rounded to the grid, and the norm is
//! checked again **in integers**: rounding can lengthen a gradient. Whatever is still too long is
//! shrunk in a fixed number of trips and zeroed if that was not enough, so that no row can fail
//! and the work does not depend on the data.

use rayon::prelude::*;
use sphinx_dp::mechanism::ClipBound;
use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::LinearKind;
use sphinx_nn::tensor::Tensor;

use super::conv::{Patches, ShortPatches};
use crate::format::{Integers, Quantiser};
use crate::plan::GridPlan;

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
    /// Adds the bias gradient, `sum_j d_j` (over all positions of a channel), on the gradient grid.
    pub fn add_bias_sum(&self, plan: &GridPlan, sum: &mut [i64]) {
        let one = i64::from(one(plan, self.layer));
        let positions = self.d.columns() / sum.len();
        for j in 0..self.d.rows() {
            for (out, d) in sum.iter_mut().zip(self.d.row(j).chunks_exact(positions)) {
                *out += d.iter().map(|&d| i64::from(d)).sum::<i64>() * one;
            }
        }
    }
}

/// The number one on the input grid of a layer: what the bias is multiplied with.
fn one(plan: &GridPlan, layer: usize) -> i32 {
    1 << plan.formats()[layer].x_shift
}

/// Clips all layers jointly to `bound` and gives, per row, the squared norm on the gradient grid.
#[must_use]
pub fn clip(
    plan: &GridPlan,
    pending: Vec<UnclippedLayer>,
    bound: ClipBound,
    gradient_shift: u32,
) -> (Vec<ClippedLayer>, Vec<u128>) {
    let layers: Vec<Layer> = pending
        .into_iter()
        .map(|layer| Layer::new(plan, layer, gradient_shift))
        .collect();
    let rows: Vec<(Vec<Vec<i32>>, u128)> = (0..plan.capacity())
        .into_par_iter()
        .map_init(
            || layers.iter().map(|_| Scratch::default()).collect(),
            |scratch: &mut Vec<Scratch>, row| clip_row(&layers, bound, row, scratch),
        )
        .collect();
    let clipped = layers.into_iter().enumerate().map(|(at, layer)| {
        let mut d = Integers::zeros(rows.len(), layer.d.columns());
        for (row, (values, _)) in rows.iter().enumerate() {
            d.row_mut(row).copy_from_slice(&values[at]);
        }
        let (layer, x) = (layer.layer, layer.x);
        ClippedLayer { layer, x, d }
    });
    (
        clipped.collect(),
        rows.iter().map(|(_, norm)| *norm).collect(),
    )
}

/// Clips one row and gives it with its squared norm; the same work whatever the row holds.
fn clip_row(
    layers: &[Layer],
    bound: ClipBound,
    row: usize,
    scratch: &mut [Scratch],
) -> (Vec<Vec<i32>>, u128) {
    let mut length = 0.0;
    for (layer, scratch) in layers.iter().zip(scratch.iter_mut()) {
        layer.begin(row, scratch);
        length += layer.real_norm(row, scratch);
    }
    let (limit, length) = (bound.get() as f64, length.sqrt());
    let mut factor = if length > limit { limit / length } else { 1.0 };
    let mut norm = 0;
    for trip in 0..=TRIPS {
        let too_long = trip > 0 && norm > bound.squared();
        factor *= if too_long { 1.0 - 1.0 / 64.0 } else { 1.0 };
        let rounded = layers.iter().zip(scratch.iter_mut());
        norm = rounded
            .map(|(layer, scratch)| layer.round(row, factor, scratch))
            .sum();
    }
    let keep = i32::from(norm <= bound.squared());
    let values = scratch
        .iter()
        .map(|scratch| scratch.rounded.iter().map(|d| d * keep).collect());
    (values.collect(), norm * u128::from(keep.unsigned_abs()))
}

/// How a layer's norm is found.
enum Norm {
    /// From `||x_j||^2 + 1` in units of the input grid, per row.
    Ghost(Vec<u64>),
    /// From the gradient itself; the rounded one in short integers if they hold it.
    Explicit { shape: ConvShape, short: bool },
}

/// One layer on its way from real to clipped integers.
struct Layer {
    layer: usize,
    x: Integers,
    d: Tensor,
    d_shift: u32,
    d_limit: i32,
    one: i32,
    norm: Norm,
    arch: pulp::Arch,
}

/// What one row needs while it is being clipped.
#[derive(Default)]
struct Scratch {
    patches: Patches,
    short: ShortPatches,
    /// The row's `d`, scaled and rounded.
    rounded: Vec<i32>,
    d: Vec<f64>,
    gradient: Vec<f64>,
}

impl Layer {
    fn new(plan: &GridPlan, unclipped: UnclippedLayer, gradient_shift: u32) -> Self {
        let UnclippedLayer { layer, x, d } = unclipped;
        let (one, format) = (one(plan, layer), plan.formats()[layer]);
        let norm = match plan.network().linears()[layer].kind {
            LinearKind::Dense => Norm::Ghost(input_norms(one, &x)),
            LinearKind::Conv(shape) => Norm::Explicit {
                shape,
                short: ShortPatches::fit(shape, format.x_limit, format.g_limit),
            },
        };
        Self {
            d_shift: gradient_shift - format.x_shift,
            d_limit: format.g_limit,
            layer,
            x,
            d,
            one,
            norm,
            arch: pulp::Arch::new(),
        }
    }

    /// Prepares the scratch for one row.
    fn begin(&self, row: usize, scratch: &mut Scratch) {
        if let Norm::Explicit { shape, short } = self.norm {
            scratch.patches.spread(shape, self.x.row(row));
            if short {
                scratch.short.spread(shape, self.x.row(row));
            }
            scratch.gradient.resize(shape.weights(), 0.0);
        }
    }

    /// Squared norm of one row's unclipped gradient in grid units; broken values count as zero.
    fn real_norm(&self, row: usize, scratch: &mut Scratch) -> f64 {
        let unit = f64::from(self.d_shift).exp2();
        scratch.d.clear();
        let finite = |v: f32| if v.is_finite() { v } else { 0.0 };
        let d = self.d.row(row).iter();
        scratch.d.extend(d.map(|&v| f64::from(finite(v)) * unit));
        match &self.norm {
            Norm::Ghost(inputs) => {
                scratch.d.iter().map(|d| d * d).sum::<f64>() * inputs[row] as f64
            }
            Norm::Explicit { shape, .. } => {
                self.form(*shape, scratch);
                let biases = self.bias_sums(*shape, scratch).map(|b| b * b).sum::<f64>();
                scratch.gradient.iter().map(|g| g * g).sum::<f64>() + biases
            }
        }
    }

    /// Rounds one row scaled by `factor` and gives its squared norm, exactly.
    fn round(&self, row: usize, factor: f64, scratch: &mut Scratch) -> u128 {
        let quantiser = Quantiser::new(self.d_shift, self.d_limit);
        let (d, rounded) = (self.d.row(row), &mut scratch.rounded);
        rounded.resize(d.len(), 0);
        self.arch.dispatch(|| {
            for (out, &v) in rounded.iter_mut().zip(d) {
                let finite = if v.is_finite() { v } else { 0.0 };
                *out = quantiser.of((f64::from(finite) * factor) as f32);
            }
        });
        let square = |v: u64| u128::from(v).pow(2);
        match &self.norm {
            Norm::Ghost(inputs) => {
                let d = scratch.rounded.iter();
                let d: u128 = d.map(|d| square(d.unsigned_abs().into())).sum();
                d * u128::from(inputs[row])
            }
            Norm::Explicit { shape, short: true } => {
                let planes = scratch.rounded.chunks_exact(shape.positions());
                let one = i64::from(self.one);
                let biases = planes.map(|plane| plane.iter().map(|&d| i64::from(d)).sum::<i64>());
                let biases: u128 = biases.map(|b| square((b * one).unsigned_abs())).sum();
                let gradient = scratch.short.gradient(*shape, &scratch.rounded).iter();
                let gradient = gradient.map(|g| square(g.unsigned_abs().into()));
                gradient.sum::<u128>() + biases
            }
            Norm::Explicit { shape, .. } => {
                scratch.d.clear();
                scratch
                    .d
                    .extend(scratch.rounded.iter().map(|&d| f64::from(d)));
                self.form(*shape, scratch);
                let exact = |g: f64| square((g as i64).unsigned_abs());
                let biases: u128 = self.bias_sums(*shape, scratch).map(exact).sum();
                scratch.gradient.iter().map(|&g| exact(g)).sum::<u128>() + biases
            }
        }
    }

    /// The gradient of a convolution's weights, from the `d` in the scratch.
    fn form(&self, shape: ConvShape, scratch: &mut Scratch) {
        let Scratch {
            patches,
            d,
            gradient,
            ..
        } = scratch;
        patches.gradient(shape, d, gradient);
    }

    /// The gradient of a convolution's biases, from the `d` in the scratch.
    fn bias_sums(&self, shape: ConvShape, scratch: &Scratch) -> impl Iterator<Item = f64> {
        let one = f64::from(self.one);
        let planes = scratch.d.chunks_exact(shape.positions());
        planes.map(move |plane| plane.iter().sum::<f64>() * one)
    }
}

/// `||x_j||^2 + 1` in units of the input grid, for every row of one layer.
fn input_norms(one: i32, x: &Integers) -> Vec<u64> {
    let one = i64::from(one);
    let square = |v: &i32| (i64::from(*v) * i64::from(*v)) as u64;
    (0..x.rows())
        .map(|j| x.row(j).iter().map(square).sum::<u64>() + (one * one) as u64)
        .collect()
}

#[cfg(test)]
mod tests;
