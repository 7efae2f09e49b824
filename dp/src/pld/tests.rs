//! The reference grid, laws and corners of the privacy-loss accountant.

use std::num::NonZeroU64;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::Accountant as _;
use crate::accountant::{AccountError, AccountantKind, Reason};
use crate::calibrate::{Budget, Calibrator};
use crate::event::DpEvent;
use crate::flat::Step;
use crate::gaussian;
use crate::quantity::{
    Adjacency, Delta, Epsilon, LaplaceScale, NoiseMultiplier, SamplingRate, StdDev,
};
use crate::rdp::RdpAccountant;

fn delta(value: f64) -> Delta {
    Delta::new(value).unwrap()
}

fn gauss(z: f64) -> DpEvent {
    DpEvent::gaussian(NoiseMultiplier::new(z).unwrap())
}

fn step(q: f64, z: f64) -> DpEvent {
    let z = NoiseMultiplier::new(z).unwrap();
    DpEvent::poisson_gaussian(SamplingRate::new(q).unwrap(), z)
}

fn composed(events: &[(DpEvent, u64)], at: f64) -> Result<Bracket, AccountError> {
    let mut accountant = PldAccountant::new(Adjacency::AddRemove);
    for (event, count) in events {
        accountant.compose(event, *count).unwrap();
    }
    accountant.bracket(delta(at))
}

fn bracket(q: f64, z: f64, steps: u64, at: f64) -> Result<Bracket, AccountError> {
    composed(&[(step(q, z), steps)], at)
}

/// The data lines of a reference table; says so and is empty if absent.
fn table(name: &str) -> Vec<Vec<String>> {
    let root = std::env::var_os("SPHINX_REFERENCE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference"),
        PathBuf::from,
    );
    let path = root.join("dp").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("SKIPPED: no {}; set SPHINX_REFERENCE", path.display());
        return Vec::new();
    };
    let fields = |line: &str| line.split(',').map(str::to_owned).collect();
    text.lines().skip(1).map(fields).collect()
}

/// The accepted distance of both bounds from a reference value, which is itself known to 3e-6.
fn accept(b: &Bracket, reference: f64, what: &str) -> bool {
    accept_within(b, reference, 3e-6, what)
}

fn accept_within(b: &Bracket, reference: f64, known: f64, what: &str) -> bool {
    let ok = b.upper >= reference * (1.0 - known) - 1e-6
        && b.upper <= reference * (1.0 + 1e-4) + 1e-4
        && b.lower <= reference
        && b.lower >= reference * (1.0 - 1e-4) - 1e-4
        && b.lower <= b.estimate
        && b.estimate <= b.upper;
    if !ok {
        println!("{what}: {b:?} against {reference}");
    }
    ok
}

#[test]
fn epsilon_reference() {
    let mut bad = 0;
    for row in table("epsilon.csv") {
        let x = |i: usize| row[i].parse::<f64>().unwrap();
        let b = bracket(x(1), x(2), x(3) as u64, x(4)).unwrap();
        bad += i32::from(!accept(&b, x(5), &row[..5].join(" ")));
    }
    assert_eq!(bad, 0);
}

#[test]
fn mixed_phases_reference() {
    let mut bad = 0;
    for row in table("heterogeneous.csv") {
        let events: Vec<(DpEvent, u64)> = row[0]
            .split(';')
            .map(|phase| {
                let x: Vec<f64> = phase.split(':').map(|x| x.parse().unwrap()).collect();
                (step(x[0], x[1]), x[2] as u64)
            })
            .collect();
        let b = composed(&events, row[1].parse().unwrap()).unwrap();
        bad += i32::from(!accept(&b, row[2].parse().unwrap(), &row[..2].join(" ")));
    }
    assert_eq!(bad, 0);
}

/// One step has a closed form (amplification by sampling, Balle et al. 2018): with
/// `e^eps' = 1 + (e^eps - 1) / q`, delta is `q` times that of the whole at `eps'`.
#[test]
fn one_step_at_tiny_deltas() {
    for (q, z) in [(0.01, 1.0), (0.2, 2.0), (0.001, 0.7)] {
        for at in [1e-4, 1e-9, 1e-15, 1e-40] {
            let whole = gaussian::epsilon(1.0 / z, delta(at / q));
            let exact = (q * whole.exp_m1()).ln_1p();
            let b = bracket(q, z, 1, at).unwrap();
            let what = format!("{q} {z} {at}");
            assert!(accept_within(&b, exact, 2e-6, &what));
            // And inversion, of this step beside a release that hardly says anything.
            let tiny = gauss(1e6);
            let b = composed(&[(step(q, z), 1), (tiny, 1)], at).unwrap();
            if b.upper - b.lower > 1e-3 {
                assert!(at <= 1e-9, "{what}: {b:?}");
                assert!(b.lower <= exact && exact <= b.upper, "{what}: {b:?}");
            } else {
                assert!(accept_within(&b, exact, 3e-6, &what));
            }
        }
    }
}

/// The root of the reference epsilon: never below it by more than the reference's own error.
#[test]
fn calibration_reference() {
    let mut bad = 0;
    for row in table("calibration.csv") {
        let x = |i: usize| row[i].parse::<f64>().unwrap();
        let calibrator = Calibrator {
            accountant: AccountantKind::Pld,
            budget: Budget {
                epsilon: Epsilon::new(x(4)).unwrap(),
                delta: delta(x(3)),
            },
            adjacency: Adjacency::AddRemove,
        };
        let z = calibrator.noise_multiplier(SamplingRate::new(x(1)).unwrap(), x(2) as u64);
        let off = z.unwrap().get() / x(5) - 1.0;
        bad += i32::from(!(-1e-5..=1e-3).contains(&off));
    }
    assert_eq!(bad, 0);
}

/// One composition answers at other deltas, and delta is the inverse of epsilon.
#[test]
fn one_composition_many_questions() {
    let mut kept = PldAccountant::new(Adjacency::AddRemove);
    kept.compose(&step(0.01, 1.0), 2000).unwrap();
    for at in [1e-5, 3e-6, 4e-5, 1e-6, 1e-9] {
        let fresh = bracket(0.01, 1.0, 2000, at).unwrap();
        let again = kept.clone().bracket(delta(at)).unwrap();
        let b = kept.bracket(delta(at)).unwrap();
        assert!(
            (b.upper - fresh.upper).abs() < 1e-7 * fresh.upper,
            "{b:?} {fresh:?}"
        );
        assert_eq!(again, b);
        let [lower, _, upper] = kept.delta_bracket(b.estimate).unwrap();
        assert!(
            lower <= at * (1.0 + 1e-6) && at <= upper * (1.0 + 1e-6),
            "{lower} {at} {upper}"
        );
        assert!(upper < lower * (1.0 + 1e-4));
    }
}

#[test]
fn corners() {
    // Nothing, nothing to protect, and what is refused.
    assert_eq!(composed(&[], 1e-5).unwrap().upper, 0.0);
    let open = composed(&[(DpEvent::NonPrivate, 1)], 1e-5).unwrap();
    assert!(open.lower.is_infinite());
    assert_eq!(bracket(1e-9, 5.0, 1, 1e-5).unwrap().lower, 0.0);
    // Where the work or the rounding would be too large the Renyi bound stands in, and the bracket says so.
    for (q, z, steps) in [(0.01, 1e-4, 10), (0.01, 1.0, u64::MAX)] {
        let wide = bracket(q, z, steps, 1e-5).unwrap();
        let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
        renyi.compose(&step(q, z), steps).unwrap();
        assert_eq!(wide.upper, renyi.epsilon(delta(1e-5)).unwrap().epsilon);
        assert!(wide.lower < 0.9 * wide.upper, "{wide:?}");
    }
    let mut replace = PldAccountant::new(Adjacency::ReplaceOne);
    let fixed = gauss(1.0).without_replacement(NonZeroU64::MIN, NonZeroU64::new(9).unwrap());
    let refused = replace.compose(&fixed, 2).unwrap_err();
    assert_eq!(refused.reason, Reason::FixedSizeLoss);
    replace.compose(&gauss(1.0), 1).unwrap();
    let twice = replace.bracket(delta(1e-5)).unwrap().upper;
    assert!((twice - 9.997_256_158).abs() < 1e-6);
}

/// Replacing one record of a sampled batch; the reference is an upper bound on a grid.
#[test]
fn replace_one_reference() {
    let mut bad = 0;
    for row in table("adjacency.csv") {
        let x = |i: usize| row[i].parse::<f64>().unwrap();
        let mut accountant = PldAccountant::new(Adjacency::ReplaceOne);
        accountant.compose(&step(x(1), x(2)), x(3) as u64).unwrap();
        let b = accountant.bracket(delta(1e-5)).unwrap();
        let reference = x(6);
        // The reference is a bound on a coarse grid: up to five per cent too large at small epsilon.
        let ok = b.upper <= reference * (1.0 + 1e-4) + 1e-4
            && b.upper >= 0.94 * reference - f64::from(reference > 700.0)
            && b.lower <= reference
            && b.upper - b.lower <= 5e-4 * (1.0 + reference);
        if !ok {
            println!("{:?}: {b:?}", &row[..4]);
        }
        bad += i32::from(!ok);
        let added = bracket(x(1), x(2), x(3) as u64, 1e-5).unwrap();
        let top = x(4) * (1.0 + 1e-4) + 1e-4;
        let bottom = 0.94 * x(4) - f64::from(x(4) > 700.0);
        assert!((bottom..=top).contains(&added.upper), "{row:?}: {added:?}");
        assert!(b.upper >= added.lower);
    }
    assert_eq!(bad, 0);
}

/// 40-digit values of one release of a discrete Gaussian.
#[test]
fn discrete_gaussian_reference() {
    for row in table("discrete_gaussian_delta.csv") {
        let x = |i: usize| row[i].parse::<f64>().unwrap();
        let one = NonZeroU64::MIN;
        let event = DpEvent::discrete_gaussian(StdDev::new(x(0)).unwrap(), one, one);
        let mut accountant = PldAccountant::new(Adjacency::AddRemove);
        accountant.compose(&event, 1).unwrap();
        let [lower, _, upper] = accountant.delta_bracket(x(1)).unwrap();
        let what = format!("{row:?}: {lower:e} {upper:e}");
        assert!(lower <= x(2) && x(2) <= upper, "{what}");
        assert!(upper <= lower * (1.0 + 1e-8), "{what}");
        // Back again, but for one row: its epsilon ends a stretch on which delta hardly moves.
        if x(1) > 0.0 && x(2) > 1e-300 {
            let b = accountant.bracket(delta(x(2))).unwrap();
            assert!(
                b.upper >= x(1) * (1.0 - 1e-9) && b.lower <= x(1),
                "{what}: {b:?}"
            );
            assert!(b.upper <= x(1) + 3e-6 * (1.0 + x(1)), "{what}: {b:?}");
        }
    }
}

/// Where delta is about the chance of being drawn in two steps: narrow. In ordinary places the same method
/// agrees with inversion.
#[test]
fn two_steps_at_the_edge() {
    let two = bracket(1e-5, 0.5, 2, 1e-5).unwrap();
    assert!(two.upper - two.lower < 8e-5, "{two:?}");
    assert!(two.upper >= bracket(1e-5, 0.5, 1, 1e-5).unwrap().lower);
    // By a sum over cells elsewhere, delta is 1e-5 at about 9.5e-4.
    let two = bracket(1e-5, 0.3, 2, 1e-5).unwrap();
    assert!(
        two.lower > 9.2e-4 && two.upper < 9.9e-4 && two.upper - two.lower < 8e-5,
        "{two:?}"
    );
    for (q, z, at) in [(0.01, 1.0, 1e-5), (0.3, 2.0, 1e-3)] {
        let known = bracket(q, z, 2, at).unwrap();
        let piece = Step {
            rate: q,
            noise_multiplier: z,
        };
        for direction in [Direction::Remove, Direction::Add] {
            let wide = [0.0, 0.0, 2.0 * known.upper + 0.1];
            let found = two::narrowed([piece; 2], direction, at.ln(), wide);
            assert!(
                found[0] <= known.upper * (1.0 + 1e-3),
                "{direction:?}: {found:?} {known:?}"
            );
            if direction == Direction::Remove {
                assert!(found[2] >= known.lower && found[2] <= known.upper * 1.02 + 1e-4);
                assert!(found[0] >= 0.98 * known.lower - 1e-4, "{found:?} {known:?}");
            }
        }
    }
}

/// One Laplace release: delta is `1 - e^((epsilon - 1/b) / 2)`; many are never above the sum.
#[test]
fn laplace_closed_form() {
    for b in [0.5, 1.0, 3.0, 40.0] {
        let event = DpEvent::laplace(LaplaceScale::new(b).unwrap());
        let mut accountant = PldAccountant::new(Adjacency::AddRemove);
        accountant.compose(&event, 1).unwrap();
        for part in [0.0, 0.3, 0.8, 0.99] {
            let epsilon = part / b;
            let exact = -(0.5 * (epsilon - 1.0 / b)).exp_m1();
            let [lower, _, upper] = accountant.delta_bracket(epsilon).unwrap();
            assert!(
                lower <= exact && exact <= upper,
                "{b} {part}: {lower} {exact} {upper}"
            );
            let bracket = accountant.bracket(delta(exact)).unwrap();
            assert!(
                (bracket.upper - epsilon).abs() < 6e-5 * (1.0 + epsilon),
                "{b}: {bracket:?}"
            );
        }
        assert_eq!(accountant.delta_bracket(1.0 / b).unwrap(), [0.0; 3]);
        let pure = accountant.bracket(delta(1e-300)).unwrap();
        assert!((pure.upper * b - 1.0).abs() < 1e-5 * (1.0 + b), "{pure:?}");
        for steps in [2, 30, 1000] {
            let mut many = PldAccountant::new(Adjacency::AddRemove);
            many.compose(&event, steps).unwrap();
            let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
            renyi.compose(&event, steps).unwrap();
            for at in [0.1, 1e-5, 1e-12] {
                let here = many.bracket(delta(at)).unwrap();
                let most = (steps as f64 / b).min(renyi.epsilon(delta(at)).unwrap().epsilon);
                assert!(
                    here.upper <= most * (1.0 + 1e-4) + 1e-4,
                    "{b} {steps} {at}: {here:?}"
                );
                assert!(
                    here.lower > 0.5 * most - 0.2,
                    "{b} {steps} {at}: {here:?} {most}"
                );
            }
        }
    }
}

/// The corners: few steps, tiny rates, tiny deltas, epsilon in the thousands; both methods agree where
/// both have an answer.
#[test]
fn few_steps_and_tiny_rates() {
    let slow = std::env::var_os("SPHINX_SLOW").is_some();
    let rates: &[f64] = if slow { &[1e-5, 1e-4, 1e-3] } else { &[1e-3] };
    for &q in rates {
        for z in [1.0, 4.0] {
            for (steps, at) in [(2, 1e-5), (2, 1e-9), (200, 1e-9), (30, 1e-15)] {
                let what = format!("{q} {z} {steps} {at}");
                let b = bracket(q, z, steps, at).unwrap();
                let one = bracket(q, z, 1, at).unwrap();
                assert!(b.upper >= one.lower, "{what}: {b:?} {one:?}");
                let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
                renyi.compose(&step(q, z), steps).unwrap();
                let renyi = renyi.epsilon(delta(at)).unwrap().epsilon;
                assert!(b.lower <= renyi, "{what}: {b:?} {renyi}");
                assert!(b.upper <= renyi * 1.001 + 0.01, "{what}: {b:?} {renyi}");
                // Otherwise no tilt is good for both outcomes, and the bracket says so.
                if at >= 1e-9 {
                    assert!(b.upper - b.lower <= 2e-3, "{what}: {b:?}");
                }
            }
        }
    }
    for (q, z, steps) in [
        (0.1, 0.05, 7),
        (0.5, 0.02, 3),
        (1e-3, 0.04, 40),
        (0.01, 0.1, 1000),
    ] {
        let b = bracket(q, z, steps, 1e-10).unwrap();
        assert!(
            b.upper > 100.0 && b.upper - b.lower <= 2e-4 * b.upper,
            "{q} {z}: {b:?}"
        );
    }
}

/// The rare large loss, composed again in another way: masses of one step on a grid from its closed form,
/// added up by plain convolution (positive terms only, so that tiny masses keep their digits), rounded up
/// and down.
fn by_convolution(q: f64, z: f64, steps: u32, epsilon: f64) -> [f64; 2] {
    // delta(x) of one step at the points gives the tails of the loss; between them delta is convex.
    let (width, points) = (epsilon / 60.0, 600usize);
    let one = Step {
        rate: q,
        noise_multiplier: z,
    };
    // The survival function of the loss under P, from the outputs that reach it.
    let above = |loss: f64| {
        let t = (loss.exp_m1() / q).ln_1p();
        let x = z * z * t + 0.5;
        let (base, other) = (gaussian::ln_above(x / z), gaussian::ln_above((x - 1.0) / z));
        (1.0 - q) * base.exp() + q * other.exp()
    };
    assert!(single::ln_delta_of(one, Direction::Remove, epsilon) <= above(epsilon).ln());
    let far = above(points as f64 * width);
    // Rounded up: all that lies between two points sits on the upper one; losses below zero on zero.
    let mass = |i: usize| {
        let (low, high) = (i as f64 * width, (i + 1) as f64 * width);
        let start = if i == 0 { 1.0 } else { above(low) };
        start - above(high)
    };
    let up: Vec<f64> = std::iter::once(0.0).chain((0..points).map(mass)).collect();
    let down: Vec<f64> = (0..points).map(mass).collect();
    [(down, 0.0), (up, f64::from(steps) * far)].map(|(one, missing)| {
        let mut all = one.clone();
        for _ in 1..steps {
            let mut next = vec![0.0; all.len() + one.len() - 1];
            for (i, a) in all.iter().enumerate() {
                for (j, b) in one.iter().enumerate() {
                    next[i + j] += a * b;
                }
            }
            all = next;
        }
        let terms = all.iter().enumerate();
        let terms = terms.map(|(i, m)| m * -(epsilon - i as f64 * width).min(0.0).exp_m1());
        terms.sum::<f64>() + missing
    })
}

/// Negative losses are counted as zero there, so only its upper side is a bound; it is tight where one loss
/// is all.
#[test]
fn rare_large_losses_by_convolution() {
    for (q, z, steps, at) in [
        (1e-4, 1.0, 4, 1e-12),
        (1e-3, 2.0, 3, 1e-15),
        (1e-5, 1.0, 5, 1e-14),
        (1e-5, 0.5, 6, 1e-9),
    ] {
        let b = bracket(q, z, u64::from(steps), at).unwrap();
        let what = format!("{q} {z} {steps} {at}: {b:?}");
        assert!(b.upper - b.lower <= 5e-5 * (1.0 + b.upper), "{what}");
        let [_, above] = by_convolution(q, z, steps, b.lower);
        assert!(above >= at, "{what}: {above:e}");
        // A grid point per step further, all is rounded down.
        let off = b.upper * (1.0 + f64::from(steps) / 60.0) + 2.0 * f64::from(steps) * q;
        let [below, _] = by_convolution(q, z, steps, off);
        assert!(below <= at, "{what}: {below:e}");
    }
}

/// The corners in which one tilt is not enough: two methods, tight and in time.
#[test]
fn rare_large_losses() {
    for (q, z, steps, at) in [
        (1e-5, 1.0, 100_000, 1e-9),
        (1e-4, 1.0, 1000, 1e-15),
        (1e-5, 1.0, 10, 1e-15),
        (1e-5, 2.0, 100_000, 1e-15),
        (1e-6, 2.0, 10_000_000, 1e-9),
        (1e-6, 1.0, 1000, 1e-9),
        (1e-6, 1.0, 100_000, 1e-5),
    ] {
        let b = bracket(q, z, steps, at).unwrap();
        let what = format!("{q} {z} {steps} {at}: {b:?}");
        assert!(b.upper - b.lower <= 5e-5 * (1.0 + b.upper), "{what}");
        let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
        renyi.compose(&step(q, z), steps).unwrap();
        assert!(
            b.upper < 0.5 * renyi.epsilon(delta(at)).unwrap().epsilon,
            "{what}"
        );
        // More is never cheaper.
        let alone = bracket(q, z, 1, at).unwrap();
        assert!(b.upper >= alone.lower, "{what}: {alone:?}");
        let more = bracket(q, z, 2 * steps, at).unwrap();
        assert!(more.upper >= b.lower, "{what}: {more:?}");
        // Two kinds that are one.
        let parts = [
            (step(q, z), steps / 2),
            (step(q * (1.0 + 1e-9), z), steps - steps / 2),
        ];
        let two = composed(&parts, at).unwrap();
        assert!(
            two.upper >= b.lower && two.lower <= b.upper * 1.001 + 1e-6,
            "{what}: {two:?}"
        );
        // And delta of that epsilon, where it is more than its error.
        if b.lower < 1e-3 {
            continue;
        }
        let mut accountant = PldAccountant::new(Adjacency::AddRemove);
        accountant.compose(&step(q, z), steps).unwrap();
        let [low, _, high] = accountant.delta_bracket(b.estimate).unwrap();
        assert!(
            low <= 1.3 * at && at <= 1.3 * high,
            "{what}: {low:e} {high:e}"
        );
    }
}

proptest! {
    #![proptest_config(crate::laws(40))]

    #[test]
    fn below_renyi_and_additive(
        ln_q in -7.0f64..-0.7, z in 0.6f64..6.0, first in 1u64..3000, second in 1u64..3000,
        ln_delta in -30.0f64..-4.0,
    ) {
        let (q, at) = (ln_q.exp(), ln_delta.exp());
        let whole = bracket(q, z, first + second, at).unwrap();
        let parts = composed(&[(step(q, z), first), (step(q, z), second)], at).unwrap();
        prop_assert_eq!(whole, parts);
        let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
        renyi.compose(&step(q, z), first + second).unwrap();
        let renyi = renyi.epsilon(delta(at)).unwrap().epsilon;
        prop_assert!(whole.upper <= renyi + 1e-4 * (1.0 + renyi), "{:?} {}", whole, renyi);
        prop_assert!(whole.lower <= whole.estimate && whole.estimate <= whole.upper);
    }

    /// A bound may not fall, by more than both are wide, where the truth rises.
    #[test]
    fn monotone(
        ln_q in -7.0f64..-1.5, z in 0.7f64..5.0, steps in 1u64..3000, ln_delta in -25.0f64..-4.0,
    ) {
        let (q, at) = (ln_q.exp(), ln_delta.exp());
        let here = bracket(q, z, steps, at).unwrap().lower;
        let more = [
            bracket(q * 1.1, z, steps, at),
            bracket(q, z / 1.1, steps, at),
            bracket(q, z, steps + steps.div_ceil(10), at),
            bracket(q, z, steps, at / 2.0),
        ];
        for b in more {
            prop_assert!(b.unwrap().upper >= here);
        }
    }

    /// Rare and tiny: every bracket of the corners is narrow, ordered, below Renyi's and monotone.
    #[test]
    fn corners_are_tight(
        ln_q in -13.8f64..-4.6, z in 0.8f64..50.0, ln_steps in 0.7f64..16.0, ln_delta in -34.5f64..-13.0,
    ) {
        let (q, at, steps) = (ln_q.exp(), ln_delta.exp(), ln_steps.exp() as u64);
        let b = bracket(q, z, steps, at).unwrap();
        prop_assert!(b.lower <= b.estimate && b.estimate <= b.upper, "{:?}", b);
        prop_assert!(b.upper - b.lower <= 1e-3 * (1.0 + b.upper), "{:?}", b);
        let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
        renyi.compose(&step(q, z), steps).unwrap();
        let renyi = renyi.epsilon(delta(at)).unwrap().epsilon;
        prop_assert!(b.lower <= renyi && b.upper <= renyi * 1.0001 + 1e-4, "{:?} {}", b, renyi);
        let more = bracket(q * 1.3, z, steps, at).unwrap();
        prop_assert!(more.upper >= b.lower, "{:?} {:?}", b, more);
        let less = bracket(q, z, steps, at * 3.0).unwrap();
        prop_assert!(less.lower <= b.upper, "{:?} {:?}", b, less);
    }

    /// Sampling with a rate just below one is nearly no sampling, in both bounds; this crosses from
    /// the grid to the closed form.
    #[test]
    fn towards_no_sampling(z in 0.8f64..6.0, steps in 1u64..40, ln_delta in -25.0f64..-4.0) {
        let at = ln_delta.exp();
        let exact = bracket(1.0, z, steps, at).unwrap();
        let near = bracket(1.0 - 1e-9, z, steps, at).unwrap();
        prop_assert!(accept(&near, exact.upper, "rate one"));
        let one = composed(&[(gauss(z / (steps as f64).sqrt()), 1)], at).unwrap();
        prop_assert!((one.upper - exact.upper).abs() <= 1e-9 * (1.0 + exact.upper));
    }
}
