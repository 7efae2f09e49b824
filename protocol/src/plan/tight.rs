//! Products with weights that are shorter than they might be.
//!
//! The worst case of the exactness inequality is a layer whose every weight is at its limit; real
//! weights are far from it. Where the weights that meet in one result are at most [`SHORT`] long,
//! the result and its error are bounded by Cauchy and Schwarz: fewer bits come back, and the
//! output gradients of the backward product fit a single prime. Both parties measure the same
//! released weights, so that which of the two forms a step uses is public and agreed; weights
//! that grow longer cost bytes, never exactness.

use sphinx_nn::network::{LinearKind, LinearShape};

use super::Return;
use crate::format::LayerFormat;
use crate::model::Snapshot;

/// The length, as a real number, up to which the weights of one result are called short. Fresh
/// weights of a layer as wide as it is high have a length of about 1.4.
const SHORT: u32 = 4;

/// [`SHORT`] on the grid of a layer's weights.
pub(super) fn longest(format: &LayerFormat) -> f64 {
    f64::from(SHORT) * f64::from(format.w_shift).exp2()
}

/// Whether the weights of every result of a product are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tightness {
    /// Of the results of `W x`: the rows.
    pub forward: bool,
    /// Of the results of `W^T d`: the columns.
    pub backward: bool,
}

impl Tightness {
    /// Measures the weights of one layer.
    pub(super) fn of(shape: &LinearShape, format: &LayerFormat, weights: &[i32]) -> Self {
        let (inputs, outputs) = match shape.kind {
            LinearKind::Dense => (shape.inputs, shape.outputs),
            LinearKind::Conv(conv) => (conv.input().channels, conv.output().channels),
        };
        let taps = weights.len() / (inputs * outputs);
        let (mut rows, mut columns) = (vec![0_u64; outputs], vec![0_u64; inputs]);
        for (at, kernel) in weights.chunks_exact(taps).enumerate() {
            let square = |w: &i32| u64::from(w.unsigned_abs()).pow(2);
            let length: u64 = kernel.iter().map(square).sum();
            rows[at / inputs] += length;
            columns[at % inputs] += length;
        }
        let limit = longest(format).powi(2) as u64;
        let short = |lengths: &[u64]| lengths.iter().all(|&length| length <= limit);
        Self {
            forward: short(&rows),
            backward: short(&columns),
        }
    }

    /// Of every layer.
    pub(super) fn of_all(
        shapes: &[LinearShape],
        formats: &[LayerFormat],
        weights: &Snapshot,
    ) -> Vec<Self> {
        let layers = shapes.iter().zip(formats).enumerate();
        layers
            .map(|(layer, (shape, format))| Self::of(shape, format, weights.layer(layer)))
            .collect()
    }
}

/// How one kind of product travels: what goes up, and what comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passage {
    /// The level of the uploads.
    pub level: usize,
    /// Their encoding.
    pub encoding: sphinx_he::exact::Encoding,
    /// The results.
    pub returned: Return,
}

#[cfg(test)]
mod tests {
    use sphinx_nn::Activation;

    use super::*;

    #[test]
    fn rows_and_columns_are_measured() {
        let shape = LinearShape::dense(2, 3);
        let format = LayerFormat::after(Activation::Tanh, LinearKind::Dense);
        let limit = longest(&format) as i32;
        let of = |weights: [i32; 6]| Tightness::of(&shape, &format, &weights);
        let tight = |forward, backward| Tightness { forward, backward };
        assert_eq!(of([limit, 0, 0, 0, 0, limit]), tight(true, true));
        assert_eq!(of([limit, 1, 0, 0, 0, 0]), tight(false, true));
        assert_eq!(of([limit, 0, -1, 0, 0, 0]), tight(true, false));
        assert_eq!(of([-limit - 1, 0, 0, 0, 0, 0]), tight(false, false));
    }
}
