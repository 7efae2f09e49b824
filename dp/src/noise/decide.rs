//! Exact comparison of a uniform real number, revealed bit by bit, with an exponential.
//!
//! The real number `U` in [0, 1) is known to its first bits; `exp(-x)` is enclosed between two
//! integers over a power of two. If the enclosures do not settle the comparison, 64 more bits of
//! `U` are drawn and the exponential is enclosed more narrowly. This is exact: no decision is
//! ever made on a rounded value.

use num_bigint::BigUint;
use num_traits::{One, Zero};
use rand_core::CryptoRng;

/// Lower and upper bounds on `exp(-numerator / denominator)`, as multiples of `2^-bits`, at most
/// three units apart.
pub(super) fn enclose_exp(
    numerator: &BigUint,
    denominator: &BigUint,
    bits: u64,
) -> (BigUint, BigUint) {
    // Divide the argument by 2^halvings to bring it below one half, then square back.
    let halvings = (numerator.bits() + 2).saturating_sub(denominator.bits());
    let work = bits + 2 * halvings + 16;
    let low = (numerator << work) / (denominator << halvings);
    let (sum_low, sum_high) = exp_series(&low, work);
    let one_squared = BigUint::one() << (2 * work);
    let mut below = &one_squared / sum_high;
    let mut above = one_squared / sum_low + 1u32;
    for _ in 0..halvings {
        below = (&below * &below) >> work;
        above = ((&above * &above) >> work) + 1u32;
    }
    (below >> (work - bits), (above >> (work - bits)) + 1u32)
}

/// Bounds on the exponential of any number in `[low, low + 1]` (units of `2^-work`, below about one
/// half), by the Taylor series rounded down and up.
fn exp_series(low: &BigUint, work: u64) -> (BigUint, BigUint) {
    let high = low + 1u32;
    let one = BigUint::one() << work;
    let (mut term_low, mut term_high) = (one.clone(), one.clone());
    let (mut sum_low, mut sum_high) = (one.clone(), one);
    let mut k = 1u32;
    while !term_low.is_zero() {
        term_low = ((term_low * low) >> work) / k;
        term_high = (((term_high * &high) >> work) + 1u32) / k + 1u32;
        sum_low += &term_low;
        sum_high += &term_high;
        k += 1;
    }
    // From here on every term is at most half of the one before.
    (sum_low, sum_high + term_high + 1u32)
}

/// Whether `U * weight < scale * 2^shift * exp(-numerator / denominator)`, where `first` are the
/// known leading bits of `U` and their number. Draws further bits only where these do not settle
/// it.
pub(super) fn below_exp<R: CryptoRng + ?Sized>(
    first: (u64, u32),
    weight: u64,
    scale: &BigUint,
    shift: u64,
    exponent: (&BigUint, &BigUint),
    rng: &mut R,
) -> bool {
    let mut known = BigUint::from(first.0);
    let mut known_bits = u64::from(first.1);
    loop {
        let bits = known_bits + 384;
        let (low, high) = enclose_exp(exponent.0, exponent.1, bits);
        let left = (&known * weight) << bits;
        let left_end = ((&known + 1u32) * weight) << bits;
        if left_end <= ((low * scale) << (known_bits + shift)) {
            return true;
        }
        if left >= ((high * scale) << (known_bits + shift)) {
            return false;
        }
        known = (known << 64u32) + rng.next_u64();
        known_bits += 64;
    }
}

#[cfg(test)]
mod tests {
    use num_traits::ToPrimitive;

    use super::*;

    #[test]
    fn enclosures_are_tight_and_hold() {
        for (n, d) in [
            (0u64, 1u64),
            (1, 1_000_000),
            (1, 2),
            (1, 1),
            (7, 3),
            (345, 10),
            (84, 1),
        ] {
            let (low, high) = enclose_exp(&n.into(), &d.into(), 200);
            assert!(
                low <= high && &high - &low <= BigUint::from(3u32),
                "{n}/{d}"
            );
            let value = low.to_f64().unwrap() / 2f64.powi(200);
            let expected = (-(n as f64) / d as f64).exp();
            assert!(
                (value / expected - 1.0).abs() < 1e-13,
                "{n}/{d}: {value} {expected}"
            );
        }
    }

    #[test]
    fn enclosure_of_one_over_e_to_fifty_digits() {
        // exp(-1) = 0.36787944117144232159552377016146086744581113103176...
        let digits = "36787944117144232159552377016146086744581113103176";
        let expected: BigUint = digits.parse().unwrap();
        let (low, high) = enclose_exp(&BigUint::one(), &BigUint::one(), 300);
        let ten = BigUint::from(10u32).pow(50);
        assert_eq!((low * &ten) >> 300u32, expected);
        assert_eq!((high * &ten) >> 300u32, expected);
    }

    #[test]
    fn undecided_bits_are_drawn() {
        use rand_core::SeedableRng;
        // The first 64 bits of exp(-1): undecided, so further bits must decide, both ways.
        let (low, _) = enclose_exp(&BigUint::one(), &BigUint::one(), 64);
        let first = low.to_u64().unwrap();
        let one = BigUint::one();
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(5);
        let mut hits = 0;
        for _ in 0..4000 {
            hits += u32::from(below_exp((first, 64), 1, &one, 0, (&one, &one), &mut rng));
        }
        let (next, _) = enclose_exp(&BigUint::one(), &BigUint::one(), 96);
        let share = (next & BigUint::from(u32::MAX)).to_f64().unwrap() / 2f64.powi(32);
        assert!(
            (f64::from(hits) / 4000.0 - share).abs() < 0.04,
            "{hits} of 4000, share {share}"
        );
        assert!(below_exp(
            (first - 2, 64),
            1,
            &one,
            0,
            (&one, &one),
            &mut rng
        ));
        assert!(!below_exp(
            (first + 2, 64),
            1,
            &one,
            0,
            (&one, &one),
            &mut rng
        ));
    }
}
