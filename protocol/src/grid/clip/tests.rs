//! Clipping on integers, against the gradients written out in full.

use proptest::prelude::*;
use sphinx_nn::network::LayerSpec;

use super::*;
use crate::fixture::{choices, image};
use crate::format::quantise;
use crate::plan::{GridLiteral, Limits, PlanChoices};

const ROWS: usize = 4;

fn plan(clip_bound: f64) -> GridPlan {
    let layers = vec![
        LayerSpec::Dense { outputs: 3 },
        LayerSpec::Relu,
        LayerSpec::Dense { outputs: 2 },
    ];
    plan_of((1, 5), layers, clip_bound)
}

/// Two channels of a 3x4 image, then 2x1 pooling and a dense layer.
fn convolutional(clip_bound: f64) -> GridPlan {
    let conv = LayerSpec::Conv {
        channels: 2,
        kernel: 2,
        stride: 1,
        padding: 1,
    };
    let pool = LayerSpec::AvgPool { size: 2, stride: 2 };
    let layers = vec![conv, LayerSpec::Tanh, pool, LayerSpec::Dense { outputs: 2 }];
    plan_of((3, 4), layers, clip_bound)
}

fn plan_of((height, width): (usize, usize), layers: Vec<LayerSpec>, clip_bound: f64) -> GridPlan {
    let choices = PlanChoices {
        clip_bound,
        ..choices(image(1, height, width), layers, ROWS)
    };
    let literal = GridLiteral::design(&choices).unwrap();
    GridPlan::new(&literal, &Limits::default()).unwrap()
}

fn pending(plan: &GridPlan, values: &[f32]) -> Vec<UnclippedLayer> {
    let mut rest = values;
    let mut take = |columns: usize| {
        let (mine, others) = rest.split_at(ROWS * columns);
        rest = others;
        Tensor::from_vec(ROWS, columns, mine.to_vec()).unwrap()
    };
    plan.network()
        .linears()
        .iter()
        .enumerate()
        .map(|(layer, shape)| {
            let format = plan.formats()[layer];
            let x = Integers::quantised(&take(shape.inputs), format.x_shift, format.x_limit);
            UnclippedLayer {
                layer,
                x,
                d: take(shape.outputs),
            }
        })
        .collect()
}

/// Squared norm of one row's gradient over all (W, b), every entry formed.
fn explicit(plan: &GridPlan, layers: &[ClippedLayer], row: usize) -> u128 {
    let square = |g: &i64| u128::from(g.unsigned_abs()).pow(2);
    let mut norm = 0_u128;
    for layer in layers {
        let alone = ClippedLayer {
            layer: layer.layer,
            x: one_row(&layer.x, row),
            d: one_row(&layer.d, row),
        };
        let mut biases = vec![0; plan.network().linears()[layer.layer].biases()];
        alone.add_bias_sum(plan, &mut biases);
        norm += biases.iter().map(square).sum::<u128>();
        let weights = match plan.network().linears()[layer.layer].kind {
            LinearKind::Dense => outer(&alone),
            LinearKind::Conv(shape) => kernel(shape, &alone),
        };
        norm += weights.iter().map(square).sum::<u128>();
    }
    norm
}

fn one_row(all: &Integers, row: usize) -> Integers {
    let mut one = Integers::zeros(1, all.columns());
    one.row_mut(0).copy_from_slice(all.row(row));
    one
}

fn outer(layer: &ClippedLayer) -> Vec<i64> {
    let d = layer.d.row(0).iter().map(|&d| i64::from(d));
    d.flat_map(|d| layer.x.row(0).iter().map(move |&x| d * i64::from(x)))
        .collect()
}

/// A convolution of stride one written as its definition has it.
fn kernel(shape: ConvShape, layer: &ClippedLayer) -> Vec<i64> {
    let (input, output, k) = (shape.input(), shape.output(), shape.kernel());
    let pixel = |c: usize, u: isize, v: isize| {
        let inside =
            (0..input.height as isize).contains(&u) && (0..input.width as isize).contains(&v);
        let at = (c as isize * input.height as isize + u) * input.width as isize + v;
        if inside {
            i64::from(layer.x.row(0)[at as usize])
        } else {
            0
        }
    };
    let mut gradient = vec![0; shape.weights()];
    for (at, g) in gradient.iter_mut().enumerate() {
        let (e, a, c) = (at % k, at / k % k, at / (k * k) % input.channels);
        let out = at / (k * k * input.channels);
        for (i, j) in (0..output.height).flat_map(|i| (0..output.width).map(move |j| (i, j))) {
            let d = layer.d.row(0)[(out * output.height + i) * output.width + j];
            let (u, v) = ((i + a) as isize, (j + e) as isize);
            let padding = shape.padding() as isize;
            *g += i64::from(d) * pixel(c, u - padding, v - padding);
        }
    }
    gradient
}

fn clipped(plan: &GridPlan, values: &[f32]) -> (Vec<ClippedLayer>, Vec<u128>) {
    let bound = ClipBound::new(plan.literal().clip_bound).unwrap();
    clip(
        plan,
        pending(plan, values),
        bound,
        plan.literal().gradient_shift,
    )
}

const COUNT: usize = ROWS * (5 + 3 + 3 + 2);
/// Inputs of 12, outputs of 2 x 4 x 5, pooled to 2 x 2 x 2, two classes.
const CONV_COUNT: usize = ROWS * (12 + 40 + 8 + 2);

proptest! {
    #[test]
    fn no_row_exceeds_the_bound_and_norms_are_exact(
        values in prop::collection::vec(-3.0_f32..3.0, COUNT),
        clip_bound in prop_oneof![Just(0.05), Just(1.0), Just(20.0)],
    ) {
        let plan = plan(clip_bound);
        let bound = u128::from(plan.literal().clip_bound).pow(2);
        let (layers, norms) = clipped(&plan, &values);
        for (row, &norm) in norms.iter().enumerate() {
            prop_assert!(norm <= bound);
            prop_assert_eq!(norm, explicit(&plan, &layers, row));
        }
    }

    #[test]
    fn convolutions_are_clipped_as_exactly(
        values in prop::collection::vec(-3.0_f32..3.0, CONV_COUNT),
        clip_bound in prop_oneof![Just(0.05), Just(1.0), Just(20.0)],
    ) {
        let plan = convolutional(clip_bound);
        let bound = u128::from(plan.literal().clip_bound).pow(2);
        let (layers, norms) = clipped(&plan, &values);
        for (row, &norm) in norms.iter().enumerate() {
            prop_assert!(norm <= bound);
            prop_assert_eq!(norm, explicit(&plan, &layers, row));
            if clip_bound < 1.0 {
                prop_assert!(norm as f64 > 0.8 * bound as f64, "{norm} of {bound}");
            }
        }
    }

    /// Rows beyond the bound end close to it: clipping takes no more than it must.
    #[test]
    fn long_rows_end_near_the_bound(values in prop::collection::vec(1.0_f32..3.0, COUNT)) {
        let plan = plan(1.0);
        let bound = plan.literal().clip_bound as f64;
        let (_, norms) = clipped(&plan, &values);
        for norm in norms {
            let length = (norm as f64).sqrt();
            prop_assert!(length > 0.93 * bound, "{length} of {bound}");
        }
    }
}

#[test]
fn short_rows_are_only_rounded() {
    let plan = plan(20.0);
    let values = vec![0.01; COUNT];
    let (layers, _) = clipped(&plan, &values);
    for layer in &layers {
        let d_shift = plan.literal().gradient_shift - plan.formats()[layer.layer].x_shift;
        let expected = quantise(0.01, d_shift, i32::MAX >> 4);
        assert!(layer.d.row(0).iter().all(|&d| d == expected));
    }
}

#[test]
fn broken_values_count_as_zero() {
    let plan = plan(1.0);
    let mut values = vec![0.3; COUNT];
    // The first d of layer 0, rows 0 and 1.
    values[ROWS * 5] = f32::NAN;
    values[ROWS * 5 + 3] = f32::INFINITY;
    let (layers, norms) = clipped(&plan, &values);
    assert_eq!((layers[0].d.row(0)[0], layers[0].d.row(1)[0]), (0, 0));
    let bound = u128::from(plan.literal().clip_bound).pow(2);
    assert!(norms.iter().all(|&n| n <= bound));
}
