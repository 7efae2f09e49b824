//! Clipping of finished per-sample gradients, as the published protocol does it.
//!
//! The client holds the gradient of every sample, on the grid of its layer (`x` times `d`), finds its norm over
//! all `(W, b)`, scales it to the common gradient grid by `c_j = min(1, C / ||g_j||)` and rounds **toward
//! zero**: a component can only become shorter, so the norm stays within the bound. It is checked
//! in integers all the same; what floating point should leave above the bound is shrunk in a
//! fixed number of trips and then zeroed, so that the work does not depend on the data.
//!
//! So that every component fits the engines that compute it, an output gradient is limited row by row: over
//! the positions of one channel the sum of `|d|` is at most [`SAMPLE_LIMIT`] over the largest
//! input. Beyond that the channel is scaled down, toward zero; cross-entropy gives sums of a few
//! units where the limit is above 26.
//!
//! **Deviation** from the paper, which clips real numbers: all of this is on integers, so that an
//! encrypted run can be compared with a clear one bit for bit.

use rayon::prelude::*;
use sphinx_dp::mechanism::ClipBound;
use sphinx_nn::network::{LinearKind, LinearShape};
use sphinx_nn::tensor::Tensor;

use crate::error::Error;
use crate::format::Integers;
use crate::plan::GridPlan;

/// Largest |component| of one sample's gradient, in units of its layer's grid.
pub const SAMPLE_LIMIT: i32 = 14_000_000;
/// Shrinking trips after rounding; each takes 2^-20 off the factor.
const TRIPS: u32 = 2;
/// Rows that are worked on at a time.
const ROWS: usize = 64;

/// The gradients of all samples of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleGradients {
    /// Index of the linear layer.
    pub layer: usize,
    /// `[parameter][row]`: the weights, row-major `[out][in]`, then the biases, unless those are left out.
    values: Vec<i32>,
}

impl SampleGradients {
    /// Adds the gradients of the biases, `sum of d` over the positions of a channel, to those of
    /// the weights.
    ///
    /// # Errors
    /// [`Error::UpdateLength`] for another number of weights.
    pub fn new(
        plan: &GridPlan,
        layer: usize,
        weights: Vec<i32>,
        d: &Integers,
    ) -> Result<Self, Error> {
        let Self { mut values, .. } = Self::of_weights(plan, layer, weights, d.rows())?;
        let one = 1 << plan.formats()[layer].x_shift;
        let positions = positions(&plan.network().linears()[layer]);
        for channel in 0..d.columns() / positions {
            let places = channel * positions..(channel + 1) * positions;
            let sum = |row| d.row(row)[places.clone()].iter().sum::<i32>() * one;
            values.extend((0..d.rows()).map(sum));
        }
        Ok(Self { layer, values })
    }

    /// The gradients of the weights alone: those of the biases count as zero.
    ///
    /// # Errors
    /// [`Error::UpdateLength`] for another number of weights.
    pub fn of_weights(
        plan: &GridPlan,
        layer: usize,
        weights: Vec<i32>,
        rows: usize,
    ) -> Result<Self, Error> {
        let (expected, got) = (
            plan.network().linears()[layer].weights() * rows,
            weights.len(),
        );
        if expected != got {
            return Err(Error::UpdateLength { expected, got });
        }
        let values = weights;
        Ok(Self { layer, values })
    }
}

/// Output positions of one channel.
fn positions(shape: &LinearShape) -> usize {
    match shape.kind {
        LinearKind::Dense => 1,
        LinearKind::Conv(conv) => conv.positions(),
    }
}

/// Largest sum of |d| over the positions of one channel, and with it of every component.
pub(crate) fn channel_limit(x_limit: i32) -> i32 {
    SAMPLE_LIMIT / x_limit.max(1)
}

/// The output gradients of a layer on their grid, limited so that no component of a sample's
/// gradient exceeds [`SAMPLE_LIMIT`].
#[must_use]
pub fn output_gradients(plan: &GridPlan, layer: usize, d: &Tensor) -> Integers {
    let format = &plan.formats()[layer];
    let mut d = Integers::quantised(d, format.d_shift, format.d_limit);
    let positions = positions(&plan.network().linears()[layer]);
    let limit = i64::from(channel_limit(format.x_limit));
    d.par_rows_mut().for_each(|row| {
        for channel in row.chunks_exact_mut(positions) {
            limit_channel(channel, limit);
        }
    });
    d
}

/// Scales a channel down, toward zero, where its sum of |d| exceeds the limit; the same work where
/// it does not.
fn limit_channel(channel: &mut [i32], limit: i64) {
    let sum: i64 = channel.iter().map(|&d| i64::from(d).abs()).sum();
    let over = sum.max(limit).max(1);
    let allowed = if sum > limit { limit } else { over };
    for d in channel {
        *d = (i64::from(*d) * allowed / over) as i32;
    }
}

/// One layer with what brings its grid to the gradient grid.
struct Layer<'a> {
    values: &'a [i32],
    unit: f64,
}

/// Clips all samples and gives their sum over `(W, b)` in the network's parameter order, with every
/// row's squared norm on the gradient grid.
#[must_use]
pub fn clip_samples(
    plan: &GridPlan,
    layers: &[SampleGradients],
    bound: ClipBound,
) -> (Vec<i64>, Vec<u128>) {
    let rows = plan.capacity();
    let grid = plan.literal().gradient_shift as i32;
    let prepared: Vec<Layer<'_>> = layers
        .iter()
        .map(|layer| {
            let format = &plan.formats()[layer.layer];
            let shift = grid - (format.x_shift + format.d_shift) as i32;
            Layer {
                values: &layer.values,
                unit: f64::from(shift).exp2(),
            }
        })
        .collect();
    let starts: Vec<usize> = (0..rows).step_by(ROWS).collect();
    let clipped: Vec<(Vec<f64>, Vec<u128>)> = starts
        .into_par_iter()
        .map(|start| clip_rows(&prepared, rows, start..(start + ROWS).min(rows), bound))
        .collect();
    let (mut factors, mut norms) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for (some_factors, some_norms) in clipped {
        factors.extend(some_factors);
        norms.extend(some_norms);
    }
    let mut sums = vec![0_i64; plan.network().parameter_count()];
    for (layer, prepared) in layers.iter().zip(&prepared) {
        let span = &plan.network().layout()[layer.layer];
        let all = prepared.sums(&factors);
        let (weights, biases) = all.split_at(span.weights.len());
        sums[span.weights.clone()].copy_from_slice(weights);
        sums[span.biases.clone()][..biases.len()].copy_from_slice(biases);
    }
    (sums, norms)
}

impl Layer<'_> {
    /// The clipped sum over the rows of every parameter.
    fn sums(&self, factors: &[f64]) -> Vec<i64> {
        let scaled: Vec<f64> = factors.iter().map(|f| f * self.unit).collect();
        self.values
            .par_chunks(factors.len().max(1))
            .map(|column| {
                let terms = column.iter().zip(&scaled);
                terms.map(|(&g, &f)| shorten(g, f)).sum()
            })
            .collect()
    }
}

/// A component on the gradient grid, rounded toward zero.
fn shorten(component: i32, factor: f64) -> i64 {
    (f64::from(component) * factor) as i64
}

/// Factors and squared norms of some rows; the same work whatever they hold.
fn clip_rows(
    layers: &[Layer<'_>],
    rows: usize,
    range: std::ops::Range<usize>,
    bound: ClipBound,
) -> (Vec<f64>, Vec<u128>) {
    let mut lengths = vec![0.0; range.len()];
    for layer in layers {
        for column in layer.values.chunks_exact(rows.max(1)) {
            for (length, &g) in lengths.iter_mut().zip(&column[range.clone()]) {
                let real = f64::from(g) * layer.unit;
                *length += real * real;
            }
        }
    }
    let limit = bound.get() as f64;
    let factor = |squared: &f64| {
        let length = squared.sqrt();
        if length > limit { limit / length } else { 1.0 }
    };
    let mut factors: Vec<f64> = lengths.iter().map(factor).collect();
    let mut norms = norms(layers, rows, &range, &factors);
    for _ in 0..TRIPS {
        for (factor, norm) in factors.iter_mut().zip(&norms) {
            let too_long = *norm > bound.squared();
            *factor *= if too_long {
                1.0 - 1.0 / 1_048_576.0
            } else {
                1.0
            };
        }
        norms = self::norms(layers, rows, &range, &factors);
    }
    for (factor, norm) in factors.iter_mut().zip(&mut norms) {
        let keep = *norm <= bound.squared();
        *factor *= f64::from(u8::from(keep));
        *norm *= u128::from(keep);
    }
    (factors, norms)
}

/// Squared norms on the gradient grid, exactly.
fn norms(
    layers: &[Layer<'_>],
    rows: usize,
    range: &std::ops::Range<usize>,
    factors: &[f64],
) -> Vec<u128> {
    let mut norms = vec![0_u128; range.len()];
    for layer in layers {
        let scaled: Vec<f64> = factors.iter().map(|f| f * layer.unit).collect();
        for column in layer.values.chunks_exact(rows.max(1)) {
            let terms = column[range.clone()].iter().zip(&scaled);
            for (norm, (&g, &f)) in norms.iter_mut().zip(terms) {
                let g = shorten(g, f).unsigned_abs();
                *norm += u128::from(g) * u128::from(g);
            }
        }
    }
    norms
}

#[cfg(test)]
mod tests;
