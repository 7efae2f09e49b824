//! The exact discrete Gaussian for any rational variance, in integers only.
//!
//! Algorithms 1 to 3 of Canonne, Kamath, Steinke 2020 (*The Discrete Gaussian for Differential
//! Privacy*, arXiv:2004.00010), with every comparison of a uniform real number made on its first 64
//! bits where those settle it. Where they do not (once in some 2^58 comparisons), more bits are
//! drawn and the comparison is made on exact fractions. No floating point takes part.
//!
//! Everything here runs in a time that depends on what is drawn.

use num_bigint::BigUint;
use num_traits::{ToPrimitive, Zero};
use rand_core::CryptoRng;

use super::cks;
use crate::quantity::{RangeError, require};
use crate::sampler::below;

/// The discrete Gaussian `Pr[x]` proportional to `exp(-x^2 d / (2 n))`, for the variance parameter
/// `n / d`: exact given uniform random bits, whatever the fraction.
///
/// ```
/// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
/// use sphinx_dp::RationalGaussian;
///
/// // Variance 10/3.
/// let gaussian = RationalGaussian::new(10u32.into(), 3u32.into())?;
/// let mut rng = ChaCha20Rng::seed_from_u64(1);
/// let draws: Vec<i64> = (0..3000).map(|_| gaussian.sample_vartime(&mut rng)).collect();
/// let mean_square = draws.iter().map(|x| (x * x) as f64).sum::<f64>() / 3000.0;
/// assert!((mean_square - 10.0 / 3.0).abs() < 0.5);
/// # Ok::<(), sphinx_dp::RangeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RationalGaussian {
    numerator: BigUint,
    denominator: BigUint,
    /// The scale of the Laplace proposal, `floor(sigma) + 1`.
    t: u64,
    /// `floor(2^64 variance / t)`: where the proposal touches the target.
    centre: u128,
    /// `floor(2^scale / (2 variance))`, of 61 or 62 bits.
    inverse: u64,
    scale: i64,
}

/// What 64 bits know of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Below,
    NotBelow,
    Open,
}

impl RationalGaussian {
    /// The discrete Gaussian with variance parameter `numerator / denominator`.
    ///
    /// # Errors
    /// [`RangeError`] unless both are positive, the variance is at most 2^80, and neither number
    /// has more than 4096 bits.
    pub fn new(numerator: BigUint, denominator: BigUint) -> Result<Self, RangeError> {
        let positive = !numerator.is_zero() && !denominator.is_zero();
        let short = numerator.bits().max(denominator.bits()) <= 4096;
        let ok = positive && short && numerator <= (&denominator << 80u32);
        let shown = numerator.to_f64().unwrap_or(f64::INFINITY)
            / denominator.to_f64().unwrap_or(f64::INFINITY);
        let range = "above 0 and at most 2^80, as a fraction of numbers of at most 4096 bits";
        require(ok, "discrete Gaussian variance", shown, range)?;
        let t = (&numerator / &denominator).sqrt() + 1u32;
        let centre = (&numerator << 64u32) / (&denominator * &t);
        let twice = &numerator * 2u32;
        // The quotient of an (a + 61)-bit and an a-bit number has 61 or 62 bits.
        let scale = twice.bits() as i64 - denominator.bits() as i64 + 61;
        let inverse = if scale >= 0 {
            (&denominator << scale as u64) / &twice
        } else {
            &denominator / (&twice << scale.unsigned_abs())
        };
        let out_of_range = RangeError {
            parameter: "discrete Gaussian variance",
            value: shown,
            range,
        };
        Ok(Self {
            t: t.to_u64().ok_or(out_of_range)?,
            centre: centre.to_u128().ok_or(out_of_range)?,
            inverse: inverse.to_u64().ok_or(out_of_range)?,
            scale,
            numerator,
            denominator,
        })
    }

    /// The variance parameter as a fraction.
    #[must_use]
    pub const fn variance(&self) -> (&BigUint, &BigUint) {
        (&self.numerator, &self.denominator)
    }

    /// One draw. The time it takes depends on the value: draw ahead of the data.
    ///
    /// A magnitude of 2^62 or more is never returned; it has a probability below `2^-(10^12)`.
    pub fn sample_vartime<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i64 {
        loop {
            let (magnitude, negative) = laplace(self.t, rng);
            if magnitude < 1 << 62 && self.accept(magnitude, rng) {
                let value = magnitude as i64;
                return if negative { -value } else { value };
            }
        }
    }

    /// True with probability `exp(-(magnitude - variance/t)^2 / (2 variance))`.
    fn accept<R: CryptoRng + ?Sized>(&self, magnitude: u64, rng: &mut R) -> bool {
        let Some((low, high)) = self.exponent(magnitude) else {
            return self.accept_by_fractions(magnitude, rng);
        };
        for _ in 0..low >> 64 {
            if !bernoulli_exp_of_one(rng) {
                return false;
            }
        }
        let whole = (low >> 64) << 64;
        let (low, high) = (low - whole, high - whole);
        let mut k = 1u64;
        loop {
            let word = rng.next_u64();
            let hit = match below_enclosed(word, k, low, high) {
                Known::Below => true,
                Known::NotBelow => false,
                Known::Open => {
                    let (n, d) = self.exact_exponent(magnitude);
                    below_fraction(word, &(n % &d), &(d * k), rng)
                }
            };
            if !hit {
                return k % 2 == 1;
            }
            k += 1;
        }
    }

    /// Bounds on the exponent in units of 2^-64, less than one unit of a 2^-58 part apart; nothing
    /// where they have different integer parts or do not fit.
    fn exponent(&self, magnitude: u64) -> Option<(u128, u128)> {
        let place = u128::from(magnitude) << 64;
        // The touching point lies in [centre, centre + 1] units of 2^-64.
        let (near, far) = if place > self.centre {
            (place - self.centre - 1, place - self.centre)
        } else {
            (self.centre - place, self.centre - place + 1)
        };
        // One shift for both ends, taken from the larger.
        let first = (128 - far.leading_zeros()).saturating_sub(60);
        let (low, high) = (near >> first, (far >> first) + u128::from(first > 0));
        let (low, high) = (low * low, high * high);
        let second = (128 - high.leading_zeros()).saturating_sub(62);
        let (low, high) = (low >> second, (high >> second) + u128::from(second > 0));
        let (low, high) = (
            low * u128::from(self.inverse),
            high * u128::from(self.inverse + 1),
        );
        // Units: 2^(2 first + second - 128 - scale); wanted: 2^-64.
        let right = self.scale + 64 - 2 * i64::from(first) - i64::from(second);
        let (low, high) = match u32::try_from(right) {
            Ok(right) if right < 128 => (low >> right, (high >> right) + 1),
            Ok(_) => (0, 1),
            Err(_) => return None,
        };
        (low >> 64 == high >> 64).then_some((low, high))
    }

    /// The exponent as a fraction: `(magnitude d t - n)^2 / (2 n d t^2)`.
    fn exact_exponent(&self, magnitude: u64) -> (BigUint, BigUint) {
        let dt = &self.denominator * self.t;
        let place = &dt * magnitude;
        let gap = if place > self.numerator {
            place - &self.numerator
        } else {
            &self.numerator - place
        };
        (&gap * &gap, &self.numerator * 2u32 * dt * self.t)
    }

    #[cold]
    fn accept_by_fractions<R: CryptoRng + ?Sized>(&self, magnitude: u64, rng: &mut R) -> bool {
        let (n, d) = self.exact_exponent(magnitude);
        cks::bernoulli_exp(&n, &d, rng)
    }
}

/// Whether the real number whose first 64 bits are `word` is below `x / k`, for an x known to lie
/// in `[low, high]` units of 2^-64.
fn below_enclosed(word: u64, k: u64, low: u128, high: u128) -> Known {
    let scaled = u128::from(word) * u128::from(k);
    if scaled + u128::from(k) <= low {
        Known::Below
    } else if scaled >= high {
        Known::NotBelow
    } else {
        Known::Open
    }
}

/// Whether a uniform real number that starts with `word` is below `n / d`, exactly.
#[cold]
fn below_fraction<R: CryptoRng + ?Sized>(word: u64, n: &BigUint, d: &BigUint, rng: &mut R) -> bool {
    let mut known = BigUint::from(word);
    let mut target = n << 64u32;
    loop {
        if (&known + 1u32) * d <= target {
            return true;
        }
        if &known * d >= target {
            return false;
        }
        known = (known << 64u32) + rng.next_u64();
        target <<= 64u32;
    }
}

/// True with probability `n / d`, for `n < 2^64` and `d < 2^63`.
fn bernoulli<R: CryptoRng + ?Sized>(n: u64, d: u64, rng: &mut R) -> bool {
    let word = rng.next_u64();
    let target = u128::from(n) << 64;
    match below_enclosed(word, d, target, target) {
        Known::Below => true,
        Known::NotBelow => false,
        Known::Open => below_fraction(word, &n.into(), &d.into(), rng),
    }
}

/// True with probability `exp(-n / d)`, for `n <= d < 2^50`: the parity of the first failure among
/// Bernoulli(n / (d k)).
fn bernoulli_exp<R: CryptoRng + ?Sized>(n: u64, d: u64, rng: &mut R) -> bool {
    let mut k = 1;
    while bernoulli(n, d * k, rng) {
        k += 1;
    }
    k % 2 == 1
}

/// True with probability `exp(-1)`; the first of its trials, of probability one, is left out.
fn bernoulli_exp_of_one<R: CryptoRng + ?Sized>(rng: &mut R) -> bool {
    let mut k = 2;
    while bernoulli(1, k, rng) {
        k += 1;
    }
    k % 2 == 1
}

/// Algorithm 2: magnitude and sign of a discrete Laplace of scale `t`.
fn laplace<R: CryptoRng + ?Sized>(t: u64, rng: &mut R) -> (u64, bool) {
    loop {
        let low = below(t, rng);
        if !bernoulli_exp(low, t, rng) {
            continue;
        }
        let mut high = 0u64;
        while bernoulli_exp_of_one(rng) {
            high += 1;
        }
        let magnitude = t.saturating_mul(high).saturating_add(low);
        let negative = rng.next_u32() & 1 == 1;
        if !(negative && magnitude == 0) {
            return (magnitude, negative);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    proptest! {
        #![proptest_config(crate::laws(300))]

        /// The enclosure holds the exact exponent and is narrow.
        #[test]
        fn the_exponent_is_enclosed(
            n in 1u128.., d in 1u128.., shift in 0u32..128, spread in 0.0f64..40.0,
        ) {
            let (n, d) = (BigUint::from(n), BigUint::from((d >> shift).max(1)));
            let Ok(gaussian) = RationalGaussian::new(n, d) else { return Ok(()) };
            let magnitude = (spread * gaussian.t as f64) as u64;
            let (above, below) = gaussian.exact_exponent(magnitude);
            if let Some((low, high)) = gaussian.exponent(magnitude) {
                let exact = (&above << 64u32) / &below;
                prop_assert!(BigUint::from(low) <= exact && exact < BigUint::from(high) + 1u32);
                prop_assert!(high - low <= 2 + (high >> 56) + (gaussian.t == 1) as u128 * high);
                let twin = (&above + &below) / &below;
                prop_assert_eq!(BigUint::from(low >> 64) + 1u32, twin);
            }
        }

        /// A decision by 64 bits is the decision on fractions.
        #[test]
        fn short_decisions_are_right(word: u64, k in 1u64..100, x: u64, width in 0u64..1 << 20) {
            let (low, high) = (u128::from(x), u128::from(x) + u128::from(width));
            // Words around the boundary.
            let near = (low / u128::from(k)) as u64;
            for word in [word, near, near.saturating_sub(1), near.saturating_add(1)] {
                let scaled = u128::from(word) * u128::from(k);
                match below_enclosed(word, k, low, high) {
                    Known::Below => prop_assert!(scaled + u128::from(k) <= low),
                    Known::NotBelow => prop_assert!(scaled >= high),
                    Known::Open => prop_assert!(scaled + u128::from(k) > low && scaled < high),
                }
            }
        }
    }

    #[test]
    fn open_comparisons_are_settled_in_proportion() {
        // 1/3 in 64 bits is 5555...5 and a third: the next bits decide.
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (one, three) = (BigUint::from(1u32), BigUint::from(3u32));
        let word = u64::MAX / 3;
        let hits = (0..9000)
            .filter(|_| below_fraction(word, &one, &three, &mut rng))
            .count();
        assert!((2850..3150).contains(&hits), "{hits}");
        assert!(below_fraction(word - 1, &one, &three, &mut rng));
        assert!(!below_fraction(word + 1, &one, &three, &mut rng));
    }

    #[test]
    fn bernoulli_trials_at_their_rates() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let n = 100_000;
        let mut share = |mut trial: Box<dyn FnMut(&mut ChaCha20Rng) -> bool>| {
            (0..n).filter(|_| trial(&mut rng)).count() as f64 / f64::from(n)
        };
        assert!((share(Box::new(bernoulli_exp_of_one)) - (-1f64).exp()).abs() < 0.008);
        assert!(
            (share(Box::new(|rng| bernoulli_exp(3, 7, rng))) - (-3f64 / 7.0).exp()).abs() < 0.008
        );
        assert!(share(Box::new(|rng| bernoulli_exp(0, 7, rng))) == 1.0);
        let g = RationalGaussian::new(25u32.into(), 1u32.into()).unwrap();
        for magnitude in [0, 4, 5, 9, 20] {
            let exponent = (magnitude as f64 - 25.0 / 6.0).powi(2) / 50.0;
            let fast = g.clone();
            let slow = g.clone();
            let (a, b) = (
                share(Box::new(move |rng| fast.accept(magnitude, rng))),
                share(Box::new(move |rng| {
                    slow.accept_by_fractions(magnitude, rng)
                })),
            );
            assert!((a - (-exponent).exp()).abs() < 0.008, "{magnitude}: {a}");
            assert!((b - (-exponent).exp()).abs() < 0.008, "{magnitude}: {b}");
        }
        assert!(rng.next_u64() > 0);
    }
}
