//! One list of laws for every accountant.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::calibrate::{Budget, Calibrator, TOLERANCE};
use crate::gaussian;
use crate::quantity::Epsilon;

const ADD: Adjacency = Adjacency::AddRemove;

fn rate(q: f64) -> SamplingRate {
    SamplingRate::new(q).unwrap()
}

fn noise(z: f64) -> NoiseMultiplier {
    NoiseMultiplier::new(z).unwrap()
}

fn step(q: f64, z: f64) -> DpEvent {
    DpEvent::poisson_gaussian(rate(q), noise(z))
}

fn at(delta: f64) -> Delta {
    Delta::new(delta).unwrap()
}

fn composed(kind: AccountantKind, events: &[(DpEvent, u64)]) -> Box<dyn Accountant> {
    let mut accountant = kind.accountant(ADD);
    for (event, count) in events {
        accountant.compose(event, *count).unwrap();
    }
    accountant
}

/// The value that an accountant stands for: its bound, or its estimate where it has no bound.
fn epsilon(kind: AccountantKind, events: &[(DpEvent, u64)], delta: f64) -> f64 {
    let answer = composed(kind, events).epsilon_at(at(delta)).unwrap();
    answer.upper.or(answer.estimate).unwrap()
}

/// How far an accountant's value may be from what it would be without rounding or smoothing.
fn stated(kind: AccountantKind, epsilon: f64) -> f64 {
    match kind {
        AccountantKind::Pld => 1e-4 * (1.0 + epsilon),
        _ => 1e-8 * (1.0 + epsilon),
    }
}

/// Any kind, a step and a delta in the range that training uses.
fn run() -> impl Strategy<Value = (AccountantKind, f64, f64, u64, f64)> {
    let kind = prop::sample::select(AccountantKind::ALL.to_vec());
    let ln_q = -7.0f64..-0.7;
    let ln_delta = -28.0f64..-4.0;
    (kind, ln_q, 0.6f64..6.0, 1u64..4000, ln_delta)
        .prop_map(|(kind, q, z, steps, delta)| (kind, q.exp(), z, steps, delta.exp()))
}

#[test]
fn nothing_costs_nothing_and_unprotected_costs_all() {
    for kind in AccountantKind::ALL {
        let nothing = [(DpEvent::NoOp, 9), (step(0.1, 1.0), 0)];
        assert_eq!(epsilon(kind, &nothing, 1e-5), 0.0, "{kind}");
        let open = [(step(0.1, 1.0), 3), (DpEvent::NonPrivate, 1)];
        assert_eq!(epsilon(kind, &open, 1e-5), f64::INFINITY, "{kind}");
    }
}

#[test]
fn only_the_central_limit_has_no_bound() {
    for kind in AccountantKind::ALL {
        let accountant = composed(kind, &[(step(0.01, 1.0), 500)]);
        let answer = accountant.epsilon_at(at(1e-5)).unwrap();
        assert_eq!(answer.upper.is_some(), kind.is_bound(), "{kind}");
        assert_eq!(accountant.epsilon(at(1e-5)).is_ok(), kind.is_bound());
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!("prv".parse::<AccountantKind>().is_err());
}

#[test]
fn refused_events_are_named_and_leave_no_trace() {
    for kind in AccountantKind::ALL {
        let mut accountant = kind.accountant(ADD);
        let nested = DpEvent::PoissonSampled {
            rate: rate(0.1),
            event: Box::new(step(0.2, 1.0)),
        };
        let tree = DpEvent::Composed(vec![DpEvent::gaussian(noise(1.0)), nested.clone()]);
        let error = accountant.compose(&tree, 1).unwrap_err();
        assert_eq!(
            (*error.event, error.reason),
            (nested, Reason::NestedSampling)
        );
        let answer = accountant.epsilon_at(at(0.5)).unwrap();
        assert_eq!(answer.upper.or(answer.estimate), Some(0.0), "{kind}");
    }
}

/// The 2016 accountant's published values, and the Renyi one's never above it.
#[test]
fn moments_reference() {
    let root = std::env::var_os("SPHINX_REFERENCE").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference"),
        std::path::PathBuf::from,
    );
    let path = root.join("dp/epsilon.csv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("SKIPPED: no {}; set SPHINX_REFERENCE", path.display());
        return;
    };
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let columns = lines.next().unwrap();
    let of = |name: &str| columns.iter().position(|c| *c == name).unwrap();
    let (moments, order, limit) = (
        of("eps_ma_lambda32"),
        of("ma_lambda32_order"),
        of("eps_gdp_clt"),
    );
    for row in lines {
        let x = |i: usize| row[i].parse::<f64>().unwrap();
        let events = [(step(x(1), x(2)), x(3) as u64)];
        let ours = composed(AccountantKind::Moments, &events)
            .epsilon_at(at(x(4)))
            .unwrap();
        let what = row[..5].join(" ");
        let off = ours.upper.unwrap() / x(moments) - 1.0;
        assert!(off.abs() < 1e-6, "{what}: {off:e}");
        assert_eq!(ours.order, Some(x(order)), "{what}");
        assert!(epsilon(AccountantKind::Rdp, &events, x(4)) <= ours.upper.unwrap() * (1.0 + 1e-9));
        if let Ok(limit) = row[limit].parse::<f64>() {
            let ours = epsilon(AccountantKind::Gdp, &events, x(4));
            assert!(
                (ours - limit).abs() <= 1e-5 * (1.0 + limit),
                "{what}: {ours} {limit}"
            );
        }
    }
}

proptest! {
    #![proptest_config(crate::laws(24))]

    #[test]
    fn monotone((kind, q, z, steps, delta) in run()) {
        let here = epsilon(kind, &[(step(q, z), steps)], delta);
        let slack = stated(kind, here);
        let more = [
            epsilon(kind, &[(step(q * 1.2, z), steps)], delta),
            epsilon(kind, &[(step(q, z / 1.1), steps)], delta),
            epsilon(kind, &[(step(q, z), steps + steps.div_ceil(10))], delta),
            epsilon(kind, &[(step(q, z), steps)], delta / 1.5),
        ];
        for (i, more) in more.into_iter().enumerate() {
            prop_assert!(more >= here - slack, "{kind}, change {i}: {more} < {here}");
        }
    }

    #[test]
    fn order_of_composition_is_irrelevant(
        (kind, q, z, steps, delta) in run(), other in 0.8f64..5.0, part in 1u64..4000,
    ) {
        let first = part.min(steps);
        let tail = step(0.02, other).repeated(7);
        let whole = epsilon(kind, &[(step(q, z), steps), (tail.clone(), 1)], delta);
        let tree = DpEvent::Composed(vec![tail, step(q, z).repeated(first)]);
        let parts = epsilon(kind, &[(tree, 1), (step(q, z), steps - first)], delta);
        prop_assert!((whole - parts).abs() <= stated(kind, whole), "{kind}: {whole} {parts}");
    }

    /// Sampling at rate one is the Gaussian, k releases at z are one at z / sqrt(k); the loss and
    /// the limit are exact there, the others bounds.
    #[test]
    fn without_sampling((kind, _, z, steps, delta) in run()) {
        let k = steps % 200 + 1;
        let many = epsilon(kind, &[(step(1.0, z), k)], delta);
        let one = DpEvent::gaussian(noise(z / (k as f64).sqrt()));
        let one = epsilon(kind, &[(one, 1)], delta);
        prop_assert!((many - one).abs() <= 1e-8 * (1.0 + one), "{kind}: {many} {one}");
        let exact = gaussian::epsilon((k as f64).sqrt() / z, at(delta));
        prop_assert!(many >= exact * (1.0 - 1e-9), "{kind}: {many} {exact}");
        if matches!(kind, AccountantKind::Pld | AccountantKind::Gdp) {
            prop_assert!(many <= exact * (1.0 + 1e-9), "{kind}: {many} {exact}");
        }
    }

    /// Asking for the delta of an epsilon gives the delta back.
    #[test]
    fn round_trip((kind, q, z, steps, delta) in run()) {
        let accountant = composed(kind, &[(step(q, z), steps)]);
        let answer = accountant.epsilon_at(at(delta)).unwrap();
        let epsilon = answer.estimate.or(answer.upper).unwrap();
        if epsilon > 1e-3 {
            let back = accountant.delta_at(epsilon).unwrap();
            let found = back.estimate.or(back.upper).unwrap();
            // A little epsilon is a larger share of delta, by the order.
            let order = answer.order.unwrap_or(10.0);
            let close = 1e-6 + 2.0 * order * stated(kind, epsilon);
            prop_assert!((found.ln() - delta.ln()).abs() < close, "{kind}: {found} {delta}");
        }
    }

    /// The loss is the tightest of the bounds, and its own lower bound is below it.
    #[test]
    fn bounds_are_ordered((_, q, z, steps, delta) in run()) {
        let events = [(step(q, z), steps)];
        let loss = composed(AccountantKind::Pld, &events).epsilon_at(at(delta)).unwrap();
        let (lower, upper) = (loss.lower.unwrap(), loss.upper.unwrap());
        let renyi = epsilon(AccountantKind::Rdp, &events, delta);
        let moments = epsilon(AccountantKind::Moments, &events, delta);
        prop_assert!(lower <= loss.estimate.unwrap() && loss.estimate.unwrap() <= upper);
        prop_assert!(upper - lower <= 2.0 * stated(AccountantKind::Pld, upper), "{lower} {upper}");
        prop_assert!(lower <= renyi && upper <= renyi + stated(AccountantKind::Pld, renyi));
        prop_assert!(renyi <= moments * (1.0 + 1e-9));
    }

    #[test]
    fn calibration_is_safe_and_tight(
        (kind, q, z, steps, delta) in run(), target in 0.3f64..8.0,
    ) {
        let budget = Budget { epsilon: Epsilon::new(target).unwrap(), delta: at(delta) };
        let calibrator = Calibrator { accountant: kind, budget, adjacency: ADD };
        let Ok(found) = calibrator.noise_multiplier(rate(q), steps) else {
            // The old conversion alone costs ln(1 / delta) / 32.
            prop_assert!(kind == AccountantKind::Moments && -delta.ln() / 32.0 > 0.9 * target);
            return Ok(());
        };
        let cost = |z: f64| epsilon(kind, &[(step(q, z), steps)], delta);
        prop_assert!(cost(found.get()) <= target);
        prop_assert!(cost(found.get() * (1.0 - 2.0 * TOLERANCE)) > target - stated(kind, target));
        // And the other two unknowns, from the noise of the strategy.
        let Ok(most) = calibrator.steps(rate(q), noise(z)) else { return Ok(()) };
        if most < 1 << 30 {
            let fits = |count| epsilon(kind, &[(step(q, z), count)], delta);
            prop_assert!(fits(most) <= target && fits(most + 1) > target);
        }
        largest_rate(&calibrator, z, steps)?;
    }
}

fn largest_rate(calibrator: &Calibrator, z: f64, steps: u64) -> Result<(), TestCaseError> {
    let (target, delta) = (
        calibrator.budget.epsilon.get(),
        calibrator.budget.delta.get(),
    );
    if let Ok(found) = calibrator.rate(noise(z), steps) {
        let cost = |q: f64| epsilon(calibrator.accountant, &[(step(q, z), steps)], delta);
        prop_assert!(cost(found.get()) <= target);
        if found.get() < 1.0 {
            let more = (found.get() * (1.0 + 1e-4)).min(1.0);
            let slack = stated(calibrator.accountant, target);
            prop_assert!(cost(more) > target - slack, "{found}");
        }
    }
    Ok(())
}
