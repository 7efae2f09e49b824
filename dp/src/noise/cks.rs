//! The slow twin: the discrete Gaussian by Canonne, Kamath, Steinke 2020, word for word.
//!
//! Algorithms 1 to 3 of *The Discrete Gaussian for Differential Privacy* (arXiv:2004.00010), on
//! integers and rationals only. It judges the table sampler, and serves nobody else: it takes
//! some microseconds a draw.

use num_bigint::BigUint;
use num_traits::{One, ToPrimitive, Zero};
use rand_core::CryptoRng;

/// A uniform integer below `bound` (not zero), by rejection.
fn uniform_below<R: CryptoRng + ?Sized>(bound: &BigUint, rng: &mut R) -> BigUint {
    let bits = bound.bits();
    let words = bits.div_ceil(64);
    loop {
        let mut draw = BigUint::zero();
        for _ in 0..words {
            draw = (draw << 64u32) + rng.next_u64();
        }
        draw >>= 64 * words - bits;
        if draw < *bound {
            return draw;
        }
    }
}

fn bernoulli<R: CryptoRng + ?Sized>(n: &BigUint, d: &BigUint, rng: &mut R) -> bool {
    uniform_below(d, rng) < *n
}

/// Algorithm 1: true with probability `exp(-n / d)`.
pub(super) fn bernoulli_exp<R: CryptoRng + ?Sized>(n: &BigUint, d: &BigUint, rng: &mut R) -> bool {
    let mut rest = n.clone();
    while rest > *d {
        if !bernoulli_exp_below_one(d, d, rng) {
            return false;
        }
        rest -= d;
    }
    bernoulli_exp_below_one(&rest, d, rng)
}

/// Algorithm 1 for `n <= d`: the parity of the first failure among Bernoulli(n / (d k)).
fn bernoulli_exp_below_one<R: CryptoRng + ?Sized>(n: &BigUint, d: &BigUint, rng: &mut R) -> bool {
    let mut k = 1u32;
    while bernoulli(n, &(d * k), rng) {
        k += 1;
    }
    k % 2 == 1
}

/// Algorithm 2: the magnitude and sign of a discrete Laplace of scale `t`.
fn laplace<R: CryptoRng + ?Sized>(t: &BigUint, rng: &mut R) -> (BigUint, bool) {
    loop {
        let low = uniform_below(t, rng);
        if !bernoulli_exp(&low, t, rng) {
            continue;
        }
        let mut high = 0u64;
        while bernoulli_exp_below_one(&BigUint::one(), &BigUint::one(), rng) {
            high += 1;
        }
        let magnitude = low + t * high;
        let negative = rng.next_u32() & 1 == 1;
        if !(negative && magnitude.is_zero()) {
            return (magnitude, negative);
        }
    }
}

/// Algorithm 3: a discrete Gaussian of variance `n / d`.
pub(super) fn discrete_gaussian<R: CryptoRng + ?Sized>(
    n: &BigUint,
    d: &BigUint,
    rng: &mut R,
) -> i64 {
    let t = (n / d).sqrt() + 1u32;
    let dt = d * &t;
    let denominator = BigUint::from(2u32) * n * &dt * &t;
    loop {
        let (magnitude, negative) = laplace(&t, rng);
        let scaled = &magnitude * &dt;
        let gap = if scaled > *n { scaled - n } else { n - scaled };
        if bernoulli_exp(&(&gap * &gap), &denominator, rng)
            && let Some(value) = magnitude.to_i64()
        {
            return if negative { -value } else { value };
        }
    }
}
