//! Clipping, release and charge.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::calibrate::{self, Budget};
use crate::event::DpEvent;
use crate::ledger::{Ledger, LedgerError};
use crate::noise::{NoiseKind, PreparedNoise};
use crate::quantity::{Adjacency, Delta, Epsilon, NoiseMultiplier, SamplingRate};

fn bound(units: u64) -> ClipBound {
    ClipBound::new(units).unwrap()
}

fn rate() -> SamplingRate {
    SamplingRate::new(0.01).unwrap()
}

fn mechanism(units: u64, z: f64) -> GaussianMechanism {
    GaussianMechanism::new(bound(units), Some(NoiseMultiplier::new(z).unwrap()), rate()).unwrap()
}

#[test]
fn rows_beyond_the_bound_are_refused() {
    let b = bound(5);
    assert!(Clipped::check(vec![3, 4], &[25], b).is_ok());
    let error = Clipped::check(vec![3, 4], &[25, 26], b).unwrap_err();
    assert_eq!(
        error,
        ClipError::RowTooLong {
            row: 1,
            norm_squared: 26,
            bound: 5
        }
    );
    let error = Clipped::check(vec![0, -11], &[25, 25], b).unwrap_err();
    assert_eq!(
        error,
        ClipError::SumTooLarge {
            coordinate: 1,
            value: -11,
            rows: 2,
            bound: 5
        }
    );
    assert!(Clipped::check(vec![i64::MIN], &[25], b).is_err());
    // An empty batch is a sum of zeros, and nothing else.
    assert!(Clipped::check(vec![0, 0], &[], b).is_ok());
    assert!(Clipped::check(vec![0, 1], &[], b).is_err());
    let widest = bound(1 << 40);
    assert!(Clipped::check(vec![1 << 40], &[widest.squared()], widest).is_ok());
    assert!(ClipBound::new(0).is_err() && ClipBound::new((1 << 40) + 1).is_err());
}

#[test]
fn coarse_grids_are_refused() {
    let z = NoiseMultiplier::new(0.5).unwrap();
    let error = GaussianMechanism::new(bound(127), Some(z), rate()).unwrap_err();
    assert!(matches!(
        error,
        MechanismError::GridTooCoarse { bound: 127, .. }
    ));
    assert!(GaussianMechanism::new(bound(128), Some(z), rate()).is_ok());
    assert!(GaussianMechanism::new(bound(1), None, rate()).is_ok());
}

#[test]
fn less_is_accounted_than_is_drawn() {
    let m = mechanism(100, 0.8);
    let accounted = m.accounted().unwrap().get();
    assert!((accounted - (6400.0f64 - 16.0).sqrt() / 100.0).abs() < 1e-12);
    assert!((accounted * 100.0).powi(2) + 16.0 <= m.std_dev().powi(2));
    assert_eq!(
        m.event(),
        DpEvent::poisson_gaussian(rate(), m.accounted().unwrap())
    );

    let z = NoiseMultiplier::new(0.8).unwrap();
    let m = GaussianMechanism::accounted_as(bound(100), z, rate()).unwrap();
    assert_eq!(m.accounted(), Some(z));
    assert!(m.std_dev().powi(2) >= 80.0f64.powi(2) + 16.0);
}

#[test]
fn release_adds_the_noise_and_charges_once() {
    let m = mechanism(1 << 16, 1.0);
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    let sum = Clipped::check(vec![7, -9, 0], &[130], bound(1 << 16)).unwrap();
    let noised = m
        .release(41, sum, m.prepare_seeded(3, [1; 32]), &mut ledger)
        .unwrap();
    let mut expected = vec![7, -9, 0];
    m.prepare_seeded(3, [1; 32]).add_to(&mut expected);
    assert_eq!(noised.values(), expected);
    assert_eq!(noised.noise(), NoiseKind::SeededTest);
    let receipt = noised.receipt();
    assert_eq!(
        (receipt.step(), receipt.sequence(), receipt.durable()),
        (41, 0, false)
    );
    let entry = &ledger.entries()[0];
    assert_eq!(
        (entry.noise, entry.coordinates),
        (Some(NoiseKind::SeededTest), Some(3))
    );
    assert_eq!(entry.event, m.event());
}

#[test]
fn parts_that_do_not_fit_are_refused_uncharged() {
    let m = mechanism(1000, 1.0);
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    let sum = |len: usize, units| Clipped::check(vec![0; len], &[], bound(units)).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let noise = m.prepare(3, &mut rng);
    let error = m.release(0, sum(2, 1000), noise, &mut ledger).unwrap_err();
    assert!(matches!(
        error,
        ReleaseError::LengthMismatch { sum: 2, noise: 3 }
    ));
    let noise = m.prepare(2, &mut rng);
    let error = m.release(0, sum(2, 999), noise, &mut ledger).unwrap_err();
    assert!(matches!(
        error,
        ReleaseError::BoundMismatch {
            sum: 999,
            mechanism: 1000
        }
    ));
    // Above all: no noise where noise is due.
    let error = m
        .release(0, sum(2, 1000), PreparedNoise::none(2), &mut ledger)
        .unwrap_err();
    assert!(matches!(error, ReleaseError::NoiseMismatch { .. }));
    // A ledger of other neighbours than those that the noise is for.
    let scheme = crate::Scheme::poisson(Adjacency::ReplaceOne, SamplingRate::FULL);
    let z = NoiseMultiplier::new(1.0).unwrap();
    let other = GaussianMechanism::for_scheme(&scheme, bound(1000), z).unwrap();
    let noise = other.prepare(2, &mut rng);
    let error = other
        .release(0, sum(2, 1000), noise, &mut ledger)
        .unwrap_err();
    assert!(matches!(error, ReleaseError::AdjacencyMismatch { .. }));
    assert!(ledger.entries().is_empty());
}

#[test]
fn non_private_releases_are_exact_and_infinite() {
    let m = GaussianMechanism::new(bound(10), None, rate()).unwrap();
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    let sum = Clipped::check(vec![3], &[9], bound(10)).unwrap();
    let noised = m
        .release(0, sum, PreparedNoise::none(1), &mut ledger)
        .unwrap();
    assert_eq!(
        (noised.values(), noised.noise()),
        (&[3][..], NoiseKind::None)
    );
    assert_eq!(ledger.spent().unwrap().epsilon, f64::INFINITY);
    // A budget does not allow it at all.
    let budget = Budget {
        epsilon: Epsilon::new(1e6).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    let mut strict = Ledger::in_memory(Some(budget), Adjacency::AddRemove);
    let sum = Clipped::check(vec![3], &[9], bound(10)).unwrap();
    let error = m
        .release(0, sum, PreparedNoise::none(1), &mut strict)
        .unwrap_err();
    assert!(matches!(
        error,
        ReleaseError::Ledger(LedgerError::BudgetExhausted { .. })
    ));
}

/// A calibrated run gets exactly its steps: the last is allowed, the next is not.
#[test]
fn calibrated_runs_end_on_time() {
    let budget = Budget {
        epsilon: Epsilon::new(1.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    let steps = 60;
    let z = calibrate::noise_multiplier(budget, rate(), steps, Adjacency::AddRemove).unwrap();
    let coarse = GaussianMechanism::accounted_as(bound(100), z, rate()).unwrap();
    let fine = GaussianMechanism::new(bound(1 << 20), Some(z), rate()).unwrap();
    for m in [coarse, fine] {
        let mut ledger = Ledger::in_memory(Some(budget), Adjacency::AddRemove);
        for step in 0..steps {
            let sum = Clipped::check(vec![0], &[], m.bound()).unwrap();
            m.release(step, sum, m.prepare_seeded(1, [9; 32]), &mut ledger)
                .unwrap();
        }
        let sum = Clipped::check(vec![0], &[], m.bound()).unwrap();
        let error = m
            .release(steps, sum, m.prepare_seeded(1, [9; 32]), &mut ledger)
            .unwrap_err();
        assert!(matches!(
            error,
            ReleaseError::Ledger(LedgerError::BudgetExhausted { .. })
        ));
        assert_eq!(ledger.entries().len() as u64, steps);
    }
}

#[test]
fn secrets_do_not_print() {
    let sum = Clipped::check(vec![123_456], &[123_456 * 123_456], bound(200_000)).unwrap();
    assert!(!format!("{sum:?}").contains("123456"));
    let noise = mechanism(1000, 1.0).prepare_seeded(1, [3; 32]);
    let mut value = [0];
    let text = format!("{noise:?}");
    noise.add_to(&mut value);
    assert!(!text.contains(&value[0].to_string()));
}

/// The sum of the weight gradients of `relu(w . x + b)` under the loss `-y`, and of the biases.
fn relu_gradients(records: &[[i64; 2]], w: [i64; 2], b: i64) -> ([i64; 2], i64) {
    let mut sum = ([0, 0], 0);
    for x in records.iter().filter(|x| w[0] * x[0] + w[1] * x[1] + b > 0) {
        // Every row has length one: clipping to C = 1 leaves it alone.
        sum = ([sum.0[0] - x[0], sum.0[1] - x[1]], sum.1 - 1);
    }
    sum
}

/// The counterexample of the bias-gap proof, run: with biases that follow exact gradients, a later
/// sum of weight gradients moves by n C when one record comes or goes, not by C.
#[test]
fn the_bias_gap_is_unbounded() {
    let n = 1000;
    let w = [0, 1];
    let ordinary = vec![[1, 0]; n];
    let mut with_one_more = ordinary.clone();
    with_one_more.push([0, 1]);
    let second_release = |records: &[[i64; 2]]| {
        // Step 1 moves the bias by its exact gradient; the weights are held, as if by released
        // noise.
        let (_, bias_gradient) = relu_gradients(records, w, 0);
        let b = -bias_gradient;
        // Step 2 is what the accountant prices with sensitivity C = 1.
        relu_gradients(records, w, b).0
    };
    let (without, with) = (second_release(&ordinary), second_release(&with_one_more));
    assert_eq!(without, [0, 0]);
    assert_eq!(with, [-(n as i64), -1]);
    // Under the private rule b is public output of step 1, the same on both sides: the sums then
    // differ by one clipped row whatever b is.
    for b in [-1, 0, 1] {
        let [a, c] = [&ordinary, &with_one_more].map(|records| relu_gradients(records, w, b).0);
        assert!((a[0] - c[0]).pow(2) + (a[1] - c[1]).pow(2) <= 1);
    }
}

#[test]
fn either_sampler_serves_and_says_which() {
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    let constant = mechanism(1000, 1.0);
    let exact = constant
        .clone()
        .with_sampler(NoiseSampler::ExactVartime)
        .unwrap();
    assert_eq!(constant.std_dev(), exact.std_dev());
    assert_eq!(constant.event(), exact.event());
    for (m, kind) in [(&constant, NoiseKind::Ladder), (&exact, NoiseKind::Exact)] {
        let noise = m.prepare_from_os(4).unwrap();
        assert_eq!((noise.kind(), noise.len()), (kind, 4));
        let sum = Clipped::check(vec![0; 4], &[], m.bound()).unwrap();
        let noised = m.release(0, sum, noise, &mut ledger).unwrap();
        assert_eq!(noised.noise(), kind);
        assert_eq!(m.prepare_seeded(4, [1; 32]).kind(), NoiseKind::SeededTest);
    }
    // Fresh randomness every time.
    let drawn = |m: &GaussianMechanism| {
        let mut values = vec![0; 8];
        m.prepare_from_os(8).unwrap().add_to(&mut values);
        values
    };
    assert_ne!(drawn(&constant), drawn(&constant));
    let open = GaussianMechanism::new(bound(10), None, rate()).unwrap();
    let open = open.with_sampler(NoiseSampler::ExactVartime).unwrap();
    assert_eq!(open.prepare_from_os(2).unwrap().kind(), NoiseKind::None);
}

/// What was released can be sent again without another charge: the bytes are the same.
#[test]
fn resending_is_free_and_identical() {
    let m = mechanism(1000, 1.0);
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    let sum = Clipped::of_rows(2, &[[600, 800]], m.bound()).unwrap();
    let noised = m
        .release(0, sum, m.prepare_from_os(2).unwrap(), &mut ledger)
        .unwrap();
    let (first, second) = (noised.values().to_vec(), noised.values().to_vec());
    assert_eq!((first, ledger.entries().len()), (second, 1));
}

#[test]
fn rows_are_summed_and_checked() {
    let sum = Clipped::of_rows(2, &[[3, 4], [-5, 0], [0, 0]], bound(5)).unwrap();
    assert_eq!(sum.take(), [-2, 4]);
    assert!(matches!(
        Clipped::of_rows(2, &[[3, 4], [4, 4]], bound(5)),
        Err(ClipError::RowTooLong {
            row: 1,
            norm_squared: 32,
            ..
        })
    ));
    assert!(matches!(
        Clipped::of_rows(2, &[vec![1, 2], vec![1]], bound(5)),
        Err(ClipError::RowLength {
            row: 1,
            found: 1,
            len: 2
        })
    ));
    // Squares that overflow are too long, not zero.
    assert!(Clipped::of_rows(4, &[[i64::MIN; 4]], bound(1 << 40)).is_err());
}

mod quantised {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::laws(400))]

        /// A row scaled to the bound exactly and rounded toward zero passes; rounded to nearest it
        /// passes if and only if its integer norm does; one unit more on a full row never does.
        #[test]
        fn the_norm_is_checked_after_rounding(
            row in prop::collection::vec(-1.0f64..1.0, 1..60), units in 1u64..100_000,
        ) {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            prop_assume!(norm > 1e-6);
            // A hair inside, so that float rounding of the scale cannot lift it over the bound.
            let scale = units as f64 / norm * (1.0 - 1e-12);
            let (len, b) = (row.len(), bound(units));
            let inward: Vec<i64> = row.iter().map(|x| (x * scale).trunc() as i64).collect();
            prop_assert!(Clipped::of_rows(len, &[&inward], b).is_ok());
            let nearest: Vec<i64> = row.iter().map(|x| (x * scale).round() as i64).collect();
            let square: i128 = nearest.iter().map(|&x| i128::from(x).pow(2)).sum();
            let fits = square as u128 <= b.squared();
            prop_assert_eq!(Clipped::of_rows(len, &[&nearest], b).is_ok(), fits);
            let mut outward = vec![0i64; len];
            outward[0] = units as i64 + 1;
            prop_assert!(Clipped::of_rows(len, &[&inward, &outward], b).is_err());
        }

        /// Claimed norms that do not belong to the sum are caught where they can be.
        #[test]
        fn sums_beyond_all_rows_are_refused(rows in 0usize..20, units in 1u64..1000, past in 1i64..9) {
            let norms = vec![bound(units).squared(); rows];
            let most = rows as i64 * units as i64;
            prop_assert!(Clipped::check(vec![most, -most], &norms, bound(units)).is_ok());
            prop_assert!(Clipped::check(vec![0, -most - past], &norms, bound(units)).is_err());
        }
    }
}
