//! Clipped samples: norms within the bound, short ones untouched, limits kept.

use proptest::prelude::*;
use sphinx_nn::network::LayerSpec;

use super::*;
use crate::fixture::{choices, image};
use crate::plan::{GridLiteral, Limits, PlanChoices};

fn plan(rows: usize, clip_bound: f64, layers: Vec<LayerSpec>) -> GridPlan {
    let choices = PlanChoices {
        clip_bound,
        ..choices(image(1, 6, 6), layers, rows)
    };
    let literal = GridLiteral::design(&choices).unwrap().clipping_samples();
    GridPlan::new(&literal, &Limits::default()).unwrap()
}

fn dense(rows: usize, clip_bound: f64) -> GridPlan {
    plan(rows, clip_bound, vec![LayerSpec::Dense { outputs: 2 }])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_clipped_row_is_longer_than_the_bound(
        values in prop::collection::vec(-SAMPLE_LIMIT..=SAMPLE_LIMIT, 74 * 70),
        clip_bound in 0.01..4.0f64,
    ) {
        let plan = dense(70, clip_bound);
        let bound = ClipBound::new(plan.literal().clip_bound).unwrap();
        let layers = [SampleGradients { layer: 0, values }];
        let (sums, norms) = clip_samples(&plan, &layers, bound);
        prop_assert!(norms.iter().all(|&n| n <= bound.squared()));
        // long rows keep nearly all that the bound allows
        let least = (bound.squared() as f64 * 0.98) as u128;
        prop_assert!(norms.iter().all(|&n| n >= least), "{norms:?}");
        prop_assert_eq!(sums.len(), 74);
    }
}

#[test]
fn short_rows_are_only_brought_to_the_gradient_grid() {
    let plan = dense(3, 1.0);
    let bound = ClipBound::new(plan.literal().clip_bound).unwrap();
    let format = &plan.formats()[0];
    let up = plan.literal().gradient_shift - format.x_shift - format.d_shift;
    let values: Vec<i32> = (0..74 * 3).map(|i| i % 7 - 3).collect();
    let layers = [SampleGradients {
        layer: 0,
        values: values.clone(),
    }];
    let (sums, _) = clip_samples(&plan, &layers, bound);
    for (sum, column) in sums.iter().zip(values.chunks(3)) {
        let expected: i64 = column.iter().map(|&g| i64::from(g) << up).sum();
        assert_eq!(*sum, expected);
    }
}

#[test]
fn channels_are_limited_toward_zero_and_others_are_untouched() {
    let conv = LayerSpec::Conv {
        channels: 2,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    let plan = plan(
        1,
        1.0,
        vec![conv, LayerSpec::Tanh, LayerSpec::Dense { outputs: 2 }],
    );
    let format = &plan.formats()[0];
    let unit = (-f64::from(format.d_shift)).exp2() as f32;
    let small: Vec<f32> = (0..72).map(|i| (i - 36) as f32 * unit).collect();
    let d = Tensor::from_vec(1, 72, small.clone()).unwrap();
    let got = output_gradients(&plan, 0, &d);
    let expected: Vec<i32> = (0..72).map(|i| i - 36).collect();
    assert_eq!(got.row(0), expected);
    // 36 positions cannot reach the limit; the rule is tested on a limit of its own
    assert!(channel_limit(format.x_limit) > 36 * format.d_limit);
    let mut channel = [100, -50, 7, 0];
    limit_channel(&mut channel, 157);
    assert_eq!(channel, [100, -50, 7, 0]);
    limit_channel(&mut channel, 50);
    assert_eq!(channel, [31, -15, 2, 0]);
}
