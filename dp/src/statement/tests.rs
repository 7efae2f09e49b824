//! What statements say, and what they must not leave out.

use super::*;
use crate::event::DpEvent;
use crate::mechanism::{ClipBound, Clipped, GaussianMechanism};
use crate::quantity::{Delta, Epsilon, NoiseMultiplier};

fn facts(bias_rule: BiasRule) -> RunFacts {
    let rate = SamplingRate::from_mean(500.0, 60_000).ok();
    RunFacts {
        rate,
        bias_rule,
        capacity: Some(688),
        delta_cap: 2f64.powi(-40),
    }
}

fn run(seeded: bool) -> Ledger {
    let budget = Budget {
        epsilon: Epsilon::new(2.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    let mut ledger = Ledger::in_memory(Some(budget), Adjacency::AddRemove);
    let bound = ClipBound::new(1 << 10).unwrap();
    let z = NoiseMultiplier::new(1.3).unwrap();
    let rate = SamplingRate::from_mean(500.0, 60_000).unwrap();
    let mechanism = GaussianMechanism::new(bound, Some(z), rate).unwrap();
    let sum = Clipped::check(vec![0; 3], &[], bound).unwrap();
    let noise = if seeded {
        mechanism.prepare_seeded(3, [0; 32])
    } else {
        use rand_core::SeedableRng;
        mechanism.prepare(3, &mut rand_chacha::ChaCha20Rng::seed_from_u64(0))
    };
    mechanism.release(0, sum, noise, &mut ledger).unwrap();
    ledger
}

#[test]
fn delta_is_the_sum_of_its_terms() {
    let statement = PrivacyStatement::new(&run(false), &facts(BiasRule::Private)).unwrap();
    assert!(statement.proven && statement.epsilon <= 2.0);
    let factor = 1.0 + statement.epsilon.exp();
    assert_eq!(statement.delta_gaussian, 1e-5);
    assert!((statement.delta_capacity / (factor * 2f64.powi(-40)) - 1.0).abs() < 1e-12);
    assert!((statement.delta_grid / (3.0 * factor * grid_distance()) - 1.0).abs() < 1e-12);
    assert_eq!(statement.delta_sampler, factor * 3.0 * 2f64.powi(-100));
    assert!(grid_distance() > 0.0 && grid_distance() < 1e-130);
    assert!(statement.delta > 1e-5 && statement.delta < 1.000_001e-5);
    let text = serde_json::to_string(&statement).unwrap();
    assert_eq!(
        serde_json::from_str::<PrivacyStatement>(&text).unwrap(),
        statement
    );
    let text = statement.to_string();
    for part in [
        "Renyi",
        "Proposition 12",
        "add or remove",
        "688",
        "constant time",
        "not covered",
    ] {
        assert!(text.contains(part), "{part} is missing from:\n{text}");
    }
}

#[test]
fn dangers_are_said_aloud() {
    let paper = PrivacyStatement::new(&run(false), &facts(BiasRule::Paper)).unwrap();
    assert!(!paper.proven && paper.to_string().contains("NO GUARANTEE"));
    assert!(paper.to_string().contains("NO epsilon is proven"));
    let seeded = PrivacyStatement::new(&run(true), &facts(BiasRule::Private)).unwrap();
    assert!(!seeded.proven && seeded.to_string().contains("TEST SEED"));
    let mut ledger = Ledger::in_memory(None, Adjacency::ReplaceOne);
    ledger.charge(0, &DpEvent::NonPrivate).unwrap();
    let open = PrivacyStatement::new(&ledger, &facts(BiasRule::Private)).unwrap();
    assert!(!open.proven && open.to_string().contains("NONE"));
    let text = serde_json::to_string(&open).unwrap();
    assert_eq!(
        serde_json::from_str::<PrivacyStatement>(&text).unwrap(),
        open
    );
}
