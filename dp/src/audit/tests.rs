//! Values computed elsewhere; a right mechanism, and a planted wrong one.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::ledger::Ledger;
use crate::mechanism::{ClipBound, Clipped, GaussianMechanism};
use crate::quantity::{Adjacency, NoiseMultiplier, SamplingRate};

#[test]
fn values_computed_elsewhere() {
    let rows = include_str!("../../vectors/audit.csv").lines().skip(1);
    let mut count = 0;
    for row in rows {
        let cell: Vec<f64> = row.split(',').map(|x| x.parse().unwrap()).collect();
        let guesses = Guesses::new(cell[0] as u64, cell[1] as u64, cell[2] as u64).unwrap();
        let p = guesses.p_value(cell[3], cell[4]).unwrap();
        assert!(
            (p / cell[5] - 1.0).abs() < 1e-9 && p >= cell[5] * (1.0 - 1e-12),
            "{row}: {p}"
        );
        let bound = guesses.epsilon_at_least(cell[4], cell[6]).unwrap();
        assert!((bound - cell[7]).abs() < 1e-9, "{row}: {bound}");
        count += 1;
    }
    assert_eq!(count, 11);
}

/// Everything revealed with probability delta, and each coin reported truly with probability q
/// otherwise: (epsilon, delta)-private. Whether guesses are right is then known exactly.
#[test]
fn revealing_mechanisms_are_as_likely_as_that() {
    for (m, epsilon, delta) in [
        (1, 0.0, 0.3),
        (2, 0.0, 0.1),
        (3, 0.7, 0.02),
        (9, 1.5, 0.004),
    ] {
        for v in 0..=m {
            let guesses = Guesses::new(m, m, v).unwrap();
            let blind = guesses.p_value(epsilon, 0.0).unwrap();
            let truth = delta + (1.0 - delta) * blind;
            let bound = guesses.p_value(epsilon, delta).unwrap();
            assert!(truth <= bound * (1.0 + 1e-12), "{m} {v}: {truth} {bound}");
            // Of one and two canaries, all right: the bound is what happens.
            if m <= 2 && v == m {
                assert!((truth - bound).abs() < 1e-12, "{m}: {truth} {bound}");
            }
        }
    }
}

/// A mechanism that reveals one coin where that decides: two canaries; the first is answered at random, the
/// second is revealed with probability 2 delta if the first answer was right. At epsilon 0 the change of
/// either coin moves a mass of at most delta.
#[test]
fn a_mechanism_that_reveals_where_it_matters() {
    let delta = 0.05;
    // Pr[both right]: first right 1/2; then revealed, or at random.
    let both = 0.5 * (2.0 * delta + (1.0 - 2.0 * delta) * 0.5);
    let guesses = Guesses::new(2, 2, 2).unwrap();
    assert!(both <= guesses.p_value(0.0, delta).unwrap());
    assert!(both > guesses.p_value(0.0, 0.0).unwrap());
}

proptest! {
    #![proptest_config(crate::laws(48))]

    /// Better guesses raise the bound; more canaries, more delta and more confidence lower it.
    #[test]
    fn the_bound_moves_the_right_way(
        guesses in 1u64..200, part in 0.4f64..1.0, more in 0u64..500, delta in 0.0f64..1e-3,
    ) {
        let correct = (part * guesses as f64) as u64;
        let bound = |canaries: u64, correct: u64, delta: f64, confidence: f64| {
            let guesses = Guesses::new(canaries, guesses, correct).unwrap();
            guesses.epsilon_at_least(delta, confidence).unwrap()
        };
        let here = bound(guesses, correct, delta, 0.95);
        let slack = 1e-9;
        prop_assert!(bound(guesses, (correct + 1).min(guesses), delta, 0.95) >= here - slack);
        prop_assert!(bound(guesses + more, correct, delta, 0.95) <= here + slack);
        prop_assert!(bound(guesses, correct, delta * 2.0, 0.95) <= here + slack);
        prop_assert!(bound(guesses, correct, delta, 0.99) <= here + slack);
    }
}

#[test]
fn guesses_are_counted_as_made() {
    let scores = [3.0, -1.0, 2.0, 0.0, f64::INFINITY];
    let included = [true, false, false, true, true];
    let guesses = Guesses::by_rank(&scores, &included, 2, 1).unwrap();
    assert_eq!(
        (guesses.canaries(), guesses.guesses(), guesses.correct()),
        (5, 3, 3)
    );
    let all = Guesses::by_rank(&scores, &included, 3, 2).unwrap();
    assert_eq!((all.guesses(), all.correct()), (5, 3));
    assert!(matches!(
        Guesses::by_rank(&scores, &included, 3, 3),
        Err(AuditError::Counts { guesses: 6, .. })
    ));
    assert!(matches!(
        Guesses::by_rank(&scores[..4], &included, 1, 1),
        Err(AuditError::ScoreCount {
            scores: 4,
            canaries: 5
        })
    ));
    assert!(matches!(
        Guesses::by_rank(&[f64::NAN], &[true], 1, 0),
        Err(AuditError::NotANumber { canary: 0 })
    ));
    let some = Guesses::new(10, 10, 9).unwrap();
    assert!(Guesses::new(10, 11, 3).is_err() && Guesses::new(10, 3, 4).is_err());
    assert!(some.p_value(f64::NAN, 0.0).is_err() && some.p_value(1.0, 2.0).is_err());
    assert!(some.epsilon_at_least(0.0, 1.0).is_err());
    assert!(some.epsilon_at_least(-0.1, 0.9).is_err());
}

/// Clipped sums over some steps. Each included canary adds a row of the full length along its own
/// axis to every step; its score is what was released along that axis.
struct ClippedSums {
    /// What the noise is in truth.
    mechanism: GaussianMechanism,
    steps: u64,
    rng: ChaCha20Rng,
}

impl Subject for ClippedSums {
    type Error = AuditError;

    fn scores(&mut self, included: &[bool]) -> Result<Vec<f64>, AuditError> {
        let bound = self.mechanism.bound();
        let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
        let mut scores = vec![0.0; included.len()];
        for step in 0..self.steps {
            let noise = self.mechanism.prepare(included.len(), &mut self.rng);
            let sum = included.iter().map(|&i| i64::from(i) * bound.get() as i64);
            let norms: Vec<u128> = included
                .iter()
                .filter(|&&i| i)
                .map(|_| bound.squared())
                .collect();
            let sum = Clipped::check(sum.collect(), &norms, bound).unwrap();
            let noised = self
                .mechanism
                .release(step, sum, noise, &mut ledger)
                .unwrap();
            for (score, &value) in scores.iter_mut().zip(noised.values()) {
                *score += value as f64;
            }
        }
        Ok(scores)
    }
}

#[test]
fn a_right_mechanism_passes_and_a_broken_one_does_not() {
    let (steps, delta) = (4, 1e-5);
    let bound = ClipBound::new(1 << 12).unwrap();
    let mechanism = |z: f64| {
        let z = NoiseMultiplier::new(z).unwrap();
        GaussianMechanism::new(bound, Some(z), SamplingRate::FULL).unwrap()
    };
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    for step in 0..steps {
        ledger.charge(step, &mechanism(4.0).event()).unwrap();
    }
    let claimed = ledger.spent().unwrap().epsilon;
    assert!((1.8..2.4).contains(&claimed), "{claimed}");
    let setup = Setup {
        canaries: 3000,
        k_plus: 150,
        k_minus: 150,
        delta,
        confidence: 0.99,
    };
    for seed in 0..3 {
        let mut coins = ChaCha20Rng::seed_from_u64(100 + seed);
        let mut audited = |z| {
            let rng = ChaCha20Rng::seed_from_u64(seed);
            let mut subject = ClippedSums {
                mechanism: mechanism(z),
                steps,
                rng,
            };
            run(&mut subject, &setup, &mut coins).unwrap()
        };
        let right = audited(4.0);
        assert!(!right.refutes(claimed) && right.epsilon > 0.1, "{right:?}");
        // The noise divided by four, the claim left as it was.
        let broken = audited(1.0);
        assert!(broken.refutes(claimed), "{broken:?} against {claimed}");
    }
}
