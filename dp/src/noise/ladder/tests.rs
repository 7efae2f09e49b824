//! The sums of the proof, recomputed in high precision by other means; the repairs.

use num_bigint::BigUint;
use num_traits::{One, ToPrimitive};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::noise::table::square;

/// Bits after the point in this file.
const BITS: u64 = 384;

/// `exp(-n / (2 d))` for `n <= 2 d`: the plain alternating series, no enclosures.
fn exp_of_half(n: &BigUint, d: &BigUint) -> BigUint {
    let x = (n << BITS) / (d * 2u32);
    let (mut plus, mut minus) = (BigUint::one() << BITS, BigUint::ZERO);
    let mut term = plus.clone();
    for k in 1u32..200 {
        term = ((&term * &x) >> BITS) / k;
        if k % 2 == 1 {
            minus += &term;
        } else {
            plus += &term;
        }
    }
    plus - minus
}

/// `exp(-m^2 / (2 v))` for m from zero to `reach`, by the recurrence with factor `g^(2m+1)`.
fn weights(variance: &(BigUint, BigUint), divisor: u128, reach: usize) -> Vec<BigUint> {
    let g = exp_of_half(&(&variance.1 * divisor), &variance.0);
    let square_of_g = (&g * &g) >> BITS;
    let (mut weight, mut factor) = (BigUint::one() << BITS, g);
    let mut all = Vec::with_capacity(reach + 1);
    for _ in 0..=reach {
        all.push(weight.clone());
        weight = (&weight * &factor) >> BITS;
        factor = (&factor * &square_of_g) >> BITS;
    }
    all
}

/// Folded probabilities in units of `2^-BITS`.
fn folded(weights: &[BigUint]) -> Vec<BigUint> {
    let total: BigUint = &weights[0] + weights[1..].iter().sum::<BigUint>() * 2u32;
    let fold = |m: usize| &weights[m] * if m == 0 { 1u32 } else { 2 };
    (0..weights.len())
        .map(|m| (fold(m) << BITS) / &total)
        .collect()
}

/// The base-two logarithm of the total variation distance, both in units of `2^-BITS`.
fn log2_distance(a: &[BigUint], b: &[BigUint]) -> f64 {
    let zero = BigUint::ZERO;
    let twice: BigUint = (0..a.len().max(b.len()))
        .map(|i| {
            let (x, y) = (a.get(i).unwrap_or(&zero), b.get(i).unwrap_or(&zero));
            if x > y { x - y } else { y - x }
        })
        .sum();
    let shift = twice.bits().saturating_sub(60);
    (&twice >> shift).to_f64().unwrap().log2() + shift as f64 - 1.0 - BITS as f64
}

const STD_DEVS: [f64; 11] = [
    1e-3,
    0.3,
    1.0,
    7.5,
    64.0,
    100.3,
    1000.0,
    65_537.25,
    1_048_576.0,
    68_719_476_736.0,
    1_099_511_627_776.0,
];

/// What the tables draw, exactly, against a pmf computed otherwise: within the claimed bound.
#[test]
fn narrow_draws_are_within_their_bound() {
    for std_dev in STD_DEVS {
        let gaussian = LadderGaussian::new(std_dev).unwrap();
        let drawn: Vec<BigUint> = gaussian.tables.drawn();
        let total: BigUint = drawn.iter().sum();
        assert_eq!(total, BigUint::one() << 158u32, "std_dev {std_dev}");
        let drawn: Vec<_> = drawn.iter().map(|p| p << (BITS - 158)).collect();
        let variance = square(std_dev);
        if std_dev < 0.1 {
            // Every other magnitude is below 2^-112 of the whole.
            assert_eq!(drawn.len(), 1);
            continue;
        }
        let reach = drawn.len() * 2;
        let exact = folded(&weights(&variance, gaussian.rungs.sum_of_squares(), reach));
        let distance = log2_distance(&exact, &drawn);
        let claimed = gaussian.tables.log2_distance();
        println!("std_dev {std_dev}: narrow {distance:.1}, claimed {claimed:.1}");
        assert!(distance <= claimed, "std_dev {std_dev}");
        // The claim is not idle: the tail alone comes near it.
        assert!(
            (-130.0..-111.9).contains(&claimed) && distance > claimed - 12.0,
            "std_dev {std_dev}"
        );
    }
}

/// Every term summed, for every size of parameter.
#[test]
fn the_sum_of_the_terms_is_below_the_bound() {
    let mut log = -9.9f64;
    while log <= 40.0 {
        let std_dev = log.exp2();
        let gaussian = LadderGaussian::new(std_dev).unwrap();
        let n = gaussian.rungs.len() as f64;
        let block = gaussian.rungs.len() * BLOCK;
        let overflow = log2_overflow(block as f64, gaussian.tables.rest(), gaussian.repairs);
        let sum = gaussian.rungs.log2_distance().exp2()
            + n * gaussian.tables.log2_distance().exp2()
            + overflow.exp2();
        assert!(sum <= DISTANCE && sum.log2() <= gaussian.log2_distance() + 1e-6);
        assert!(gaussian.repairs >= 2 && gaussian.repairs < 12);
        // The multipliers and the narrow parameter make the parameter asked for.
        let squares = gaussian.rungs.sum_of_squares() as f64;
        let base = gaussian.rungs.base(std_dev);
        assert!((base * squares.sqrt() / std_dev - 1.0).abs() < 1e-12);
        log += 3.7;
    }
    assert!((DISTANCE.log2() + 100.0).abs() < 1e-12);
}

/// A two-rung ladder folded out in high precision: its distance from the discrete Gaussian lies
/// under the bound, and not far under it, for a good ladder and for bad ones.
#[test]
fn a_ladder_is_as_far_off_as_the_bound_says() {
    for (std_dev, radix) in [(12.0, 2), (18.0, 3), (9.0, 3), (30.0, 5)] {
        let rungs = Rungs::from_radices(&[radix], std_dev);
        let variance = square(std_dev);
        let reach = (26.0 * rungs.base(std_dev)) as i64;
        let narrow = weights(&variance, rungs.sum_of_squares(), reach as usize);
        let wide_reach = reach * (radix + 1);
        let joined: Vec<BigUint> = (0..=wide_reach)
            .map(|x| {
                (-reach..=reach)
                    .filter(|w| (x - radix * w).abs() <= reach)
                    .map(|w| {
                        let rest = (x - radix * w).unsigned_abs() as usize;
                        (&narrow[rest] * &narrow[w.unsigned_abs() as usize]) >> BITS
                    })
                    .sum()
            })
            .collect();
        let exact = weights(&variance, 1, wide_reach as usize);
        let distance = log2_distance(&folded(&joined), &folded(&exact));
        let bound = rungs.log2_distance();
        println!("std_dev {std_dev}, radix {radix}: {distance:.2}, bound {bound:.2}");
        assert!(distance <= bound && distance > bound - 3.0);
    }
}

/// With coarse probabilities of 9 bits a good part of all narrow draws goes through the repairs.
#[test]
fn repairs_complete_the_distribution() {
    let std_dev = 40.0;
    let rungs = Rungs::from_radices(&[2], std_dev);
    let tables = Tables::with_resolution(&square(std_dev), rungs.sum_of_squares(), 9);
    assert!(tables.rest() > 0.02);
    let gaussian = LadderGaussian::assemble(std_dev, rungs, tables);
    assert!(gaussian.repairs > 50);
    let mut out = vec![0; 60_000];
    gaussian.fill(&mut out, &mut ChaCha20Rng::seed_from_u64(1));
    let surprise = crate::noise::tests::judge(&out, std_dev);
    assert!(surprise < 5.0, "{surprise}");
    // Without them the draws are far too narrow.
    let lame = LadderGaussian {
        repairs: 0,
        ..gaussian
    };
    lame.fill(&mut out, &mut ChaCha20Rng::seed_from_u64(1));
    assert!(crate::noise::tests::judge(&out, std_dev) > 20.0);
}

#[test]
fn a_repair_completes_the_first_and_only_it() {
    let mut block = Block::new();
    let multipliers = [1, 7, 49];
    block.open[3] = 0b110;
    block.open[900] = 0b001;
    for (value, at, sum, open) in [
        (-5, 3, -35, 0b100),
        (2, 3, 63, 0),
        (11, 900, 11, 0),
        (13, 0, 0, 0),
    ] {
        block.repair(&multipliers, value);
        assert_eq!((block.sums[at], block.open[at]), (sum, open));
    }
    assert_eq!(block.sums.iter().filter(|&&sum| sum != 0).count(), 2);
    assert!(block.open.iter().all(|&open| open == 0));
}

/// The scan against a search of the same table, at and around every threshold.
#[test]
fn the_scan_finds_what_a_search_finds() {
    let gaussian = LadderGaussian::new(1_048_576.0).unwrap();
    let coarse = gaussian.tables.coarse();
    assert!(coarse.is_sorted_by(|a, b| a < b) && coarse.len() > 20);
    let words: Vec<u32> = coarse
        .iter()
        .flat_map(|&end| [end - 1, end, end + 1])
        .chain([0, i32::MAX])
        .flat_map(|uniform| [(uniform as u32) << 1, (uniform as u32) << 1 | 1])
        .collect();
    for part in words.chunks(BLOCK) {
        let mut block = Block::new();
        for (draw, word) in part.iter().enumerate() {
            block.bytes[4 * draw..][..4].copy_from_slice(&word.to_le_bytes());
        }
        block.add_rung(gaussian.tables.groups(), coarse.len() as i32, 2, 1000);
        for (draw, &word) in part.iter().enumerate() {
            let magnitude = coarse.partition_point(|&end| end <= (word >> 1) as i32);
            let lost = magnitude == coarse.len();
            assert_eq!(block.open[draw], u32::from(lost) << 2);
            let value = if lost { 0 } else { 1000 * magnitude as i64 };
            let sign = if word & 1 == 1 { -1 } else { 1 };
            assert_eq!(block.sums[draw], sign * value);
        }
    }
}

/// The vector kernels and the plain loops draw the same numbers.
#[test]
fn kernels_agree() {
    let fast = LadderGaussian::new(5000.0).unwrap();
    let mut block = Block::new();
    let mut plain = Block::new();
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    fast.draw(&mut block, &mut rng);
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    for (rung, &multiplier) in fast.multipliers().iter().enumerate() {
        rand_core::Rng::fill_bytes(&mut rng, plain.bytes.as_mut_slice());
        let tables = &fast.tables;
        plain.add_rung(
            tables.groups(),
            tables.magnitudes(),
            rung as u32,
            multiplier,
        );
    }
    assert_eq!(block.sums, plain.sums);
}
