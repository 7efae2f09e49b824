//! The update rule, and what a model refuses: updates beyond the bound, and states that are not of its plan.

use sphinx_nn::network::LayerSpec;

use super::*;
use crate::fixture::{choices, image};
use crate::plan::{GridLiteral, Limits};

fn plan() -> GridPlan {
    let layers = vec![LayerSpec::Dense { outputs: 2 }];
    let literal = GridLiteral::design(&choices(image(1, 1, 3), layers, 4)).unwrap();
    GridPlan::new(&literal, &Limits::default()).unwrap()
}

#[test]
fn the_integer_rule_follows_the_real_one() {
    let rule = StepRule::new(2.0, 0.9, 256.0, 18).unwrap();
    let (mut velocity, mut real_velocity) = (0_i64, 0.0_f64);
    for g in [1000_i64, -250_000, 40_000, 7] {
        let step = rule.advance(&mut velocity, g);
        real_velocity = g as f64 + 0.9 * real_velocity;
        let real = -real_velocity * 2.0 / 256.0 * 64.0;
        assert!(
            (step as f64 - real).abs() < 2.0 + real.abs() * 1e-4,
            "{step} {real}"
        );
    }
}

#[test]
fn impossible_constants_are_refused() {
    assert!(StepRule::new(0.0, 0.9, 256.0, 18).is_err());
    assert!(StepRule::new(1.0, 1.0, 256.0, 18).is_err());
    assert!(StepRule::new(f64::NAN, 0.9, 256.0, 18).is_err());
}

/// The last update within the bound is taken, the next one is not and changes nothing.
#[test]
fn a_model_takes_only_so_many_updates() {
    let plan = plan();
    let mut kept = PublicModel::initial(&plan).export();
    kept.step = LARGEST_STEP - 1;
    let mut model = PublicModel::import(&plan, &kept).unwrap();
    let update = Released::received(vec![1 << 20; plan.weight_count()]);
    model.apply(&update).unwrap();
    let before = (model.step(), model.version());
    assert_eq!(before.0, LARGEST_STEP);
    let refused = model.apply(&update);
    assert!(matches!(refused, Err(Error::TooManySteps { limit, .. }) if limit == LARGEST_STEP));
    assert_eq!((model.step(), model.version()), before);
}

#[test]
fn a_state_of_another_plan_is_refused() {
    let plan = plan();
    let kept = PublicModel::initial(&plan).export();
    assert!(PublicModel::import(&plan, &kept).is_ok());
    let refused = |change: &dyn Fn(&mut ReleasedModel)| {
        let mut kept = kept.clone();
        change(&mut kept);
        PublicModel::import(&plan, &kept).unwrap_err()
    };
    let short = refused(&|kept| kept.master.truncate(5));
    assert!(matches!(
        short,
        Error::UpdateLength {
            expected: 6,
            got: 5
        }
    ));
    let short = refused(&|kept| kept.velocity.truncate(5));
    assert!(matches!(
        short,
        Error::UpdateLength {
            expected: 6,
            got: 5
        }
    ));
    let large = refused(&|kept| kept.master[5] = i32::MIN + 1);
    assert!(matches!(large, Error::WeightOutOfRange { .. }), "{large}");
    let late = refused(&|kept| kept.step = LARGEST_STEP + 1);
    assert!(matches!(late, Error::TooManySteps { .. }), "{late}");
}
