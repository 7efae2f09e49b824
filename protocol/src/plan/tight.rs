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
    use proptest::prelude::*;
    use sphinx_nn::Activation;
    use sphinx_nn::conv::ConvShape;
    use sphinx_nn::network::ImageShape;

    use super::*;
    use crate::packed::layout::{Layout, Tiling};

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

    fn format() -> LayerFormat {
        LayerFormat::after(Activation::Tanh, LinearKind::Dense)
    }

    /// Channels in and out, and weights between two of them.
    fn channels(shape: &LinearShape) -> (usize, usize, usize) {
        let (inputs, outputs) = match shape.kind {
            LinearKind::Dense => (shape.inputs, shape.outputs),
            LinearKind::Conv(conv) => (conv.input().channels, conv.output().channels),
        };
        (inputs, outputs, shape.weights() / (inputs * outputs))
    }

    /// The weights of one row or one column, as the order `[out][in][tap]` has them.
    fn line(shape: &LinearShape, column: bool, at: usize) -> Vec<usize> {
        let (inputs, outputs, taps) = channels(shape);
        let others = if column { outputs } else { inputs };
        let pairs = (0..others).map(|o| if column { (o, at) } else { (at, o) });
        let firsts = pairs.map(|(out, input)| (out * inputs + input) * taps);
        firsts.flat_map(|first| first..first + taps).collect()
    }

    fn squared(weights: &[i32], of: &[usize]) -> i64 {
        of.iter().map(|&at| i64::from(weights[at]).pow(2)).sum()
    }

    fn shapes() -> impl Strategy<Value = LinearShape> {
        let dense = (5_usize..20, 5_usize..20).prop_map(|(i, o)| LinearShape::dense(i, o));
        let conv = (1_usize..4, 1_usize..4).prop_map(|(input, out)| {
            let image = ImageShape {
                channels: input,
                height: 5,
                width: 5,
            };
            LinearShape::conv(ConvShape::new(image, out, 3, 1, 1).unwrap())
        });
        prop_oneof![dense, conv]
    }

    prop_compose! {
        fn weighted()(shape in shapes())
            (weights in prop::collection::vec(-511_i32..=511, shape.weights()),
             kept in prop::collection::vec(0_u8..10, shape.weights()),
             shape in Just(shape)) -> (LinearShape, Vec<i32>) {
            let pairs = weights.into_iter().zip(kept);
            (shape, pairs.map(|(w, k)| if k < 2 { w } else { 0 }).collect())
        }
    }

    proptest! {
        /// Row by row and column by column, in the order of the weights.
        #[test]
        fn lines_are_measured_one_by_one((shape, weights) in weighted()) {
            let limit = longest(&format()) as i64;
            let (inputs, outputs, _) = channels(&shape);
            let short = |column, lines| (0..lines)
                .all(|at| squared(&weights, &line(&shape, column, at)) <= limit * limit);
            let expected = Tightness {
                forward: short(false, outputs),
                backward: short(true, inputs),
            };
            prop_assert_eq!(Tightness::of(&shape, &format(), &weights), expected);
        }

        /// Four weights of half the longest length fill a line exactly; the least that any other
        /// weight of it may have is too much; in a dense layer on that side alone.
        #[test]
        fn the_bound_is_met_exactly(
            shape in shapes(), column: bool, at: prop::sample::Index,
            order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle(), signs: [bool; 5],
        ) {
            let (inputs, outputs, _) = channels(&shape);
            let at = at.index(if column { inputs } else { outputs });
            let line = line(&shape, column, at);
            let half = longest(&format()) as i32 / 2;
            let mut weights = vec![0; shape.weights()];
            for (&place, negative) in order[..4].iter().zip(signs) {
                weights[line[place]] = if negative { -half } else { half };
            }
            prop_assert_eq!(
                Tightness::of(&shape, &format(), &weights),
                Tightness { forward: true, backward: true }
            );
            weights[line[order[4]]] = if signs[4] { -1 } else { 1 };
            let after = Tightness::of(&shape, &format(), &weights);
            let sides = [after.forward, after.backward];
            prop_assert!(!sides[usize::from(column)]);
            prop_assert!(sides[usize::from(!column)] || shape.kind != LinearKind::Dense);
        }

        /// What the exactness inequality takes for the weights of one result polynomial holds for
        /// the polynomials that a layout makes of short weights.
        #[test]
        fn polynomials_of_short_weights_are_short(
            (shape, weights) in weighted(), n in 1_usize..4, m in 1_usize..4,
        ) {
            let tiling = Tiling::Whole { inputs_per_tile: n, outputs_per_tile: m, samples_per_chunk: 1 };
            let layout = Layout::new(1 << 10, &shape, 1, tiling).unwrap();
            let (inputs, outputs, _) = channels(&shape);
            let longest_line = |column, lines: usize| (0..lines)
                .map(|at| squared(&weights, &line(&shape, column, at)))
                .max();
            let length = |poly: Vec<i64>| poly.iter().map(|w| w * w).sum::<i64>();
            for i in 0..layout.output_tiles() {
                let tiles = 0..layout.input_tiles();
                let norm: i64 = tiles.map(|k| length(layout.forward_weights(&weights, i, k))).sum();
                prop_assert!(norm <= m as i64 * longest_line(false, outputs).unwrap());
            }
            for k in 0..layout.input_tiles() {
                let tiles = 0..layout.output_tiles();
                let norm: i64 = tiles.map(|i| length(layout.backward_weights(&weights, i, k))).sum();
                prop_assert!(norm <= n as i64 * longest_line(true, inputs).unwrap());
            }
        }
    }
}
