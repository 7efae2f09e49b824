//! Clipping on integers, against the gradients written out in full.

use proptest::prelude::*;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};

use super::*;
use crate::plan::{Limits, PlanChoices, PlanLiteral};
use sphinx_he::rlwe::{ParametersLiteral, Security};

const ROWS: usize = 4;

fn plan(clip_bound: f64) -> Plan {
    let architecture = Architecture {
        name: "clip".into(),
        input: ImageShape {
            channels: 1,
            height: 1,
            width: 5,
        },
        layers: vec![
            LayerSpec::Dense { outputs: 3 },
            LayerSpec::Relu,
            LayerSpec::Dense { outputs: 2 },
        ],
    };
    let choices = PlanChoices {
        architecture,
        capacity: ROWS,
        clip_bound,
        learning_rate: 1.0,
        momentum: 0.0,
        divisor: 4.0,
        init_seed: 1,
        tickets: 1,
    };
    let he = ParametersLiteral {
        log_n: 7,
        log_q: vec![47, 42],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    };
    let literal = PlanLiteral::design_with(&choices, he).unwrap();
    Plan::new(&literal, &Limits::default()).unwrap()
}

fn pending(plan: &Plan, values: &[f32]) -> Vec<UnclippedLayer> {
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
fn explicit(plan: &Plan, layers: &[ClippedLayer], row: usize) -> u128 {
    let mut norm = 0_u128;
    for layer in layers {
        let one = 1_i64 << plan.formats()[layer.layer].x_shift;
        for &d in layer.d.row(row) {
            for x in layer.x.row(row).iter().map(|&x| i64::from(x)).chain([one]) {
                norm += u128::from((i64::from(d) * x).unsigned_abs()).pow(2);
            }
        }
    }
    norm
}

fn clipped(plan: &Plan, values: &[f32]) -> (Vec<ClippedLayer>, Vec<u128>) {
    let bound = ClipBound::new(plan.literal().clip_bound).unwrap();
    clip(
        plan,
        pending(plan, values),
        bound,
        plan.literal().gradient_shift,
    )
}

const COUNT: usize = ROWS * (5 + 3 + 3 + 2);

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
