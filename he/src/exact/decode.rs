//! From residues of the phase to integers, and the type that keeps them at home.

use num_bigint::{BigInt, Sign};
use num_traits::ToPrimitive;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Encoding;
use crate::rns::Basis;
use crate::zq::Shoup;

/// Decrypted values. They cannot be serialised or printed, and are erased when dropped; a caller
/// takes them out by [`Self::keep_local`], whose name says where they must stay.
pub struct Decrypted<T: Zeroize> {
    values: Vec<T>,
}

impl<T: Zeroize> Decrypted<T> {
    pub(crate) const fn new(values: Vec<T>) -> Self {
        Self { values }
    }

    /// The values, for use on the machine that holds the secret.
    #[must_use]
    pub fn keep_local(mut self) -> Vec<T> {
        std::mem::take(&mut self.values)
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl<T: Zeroize> std::fmt::Debug for Decrypted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decrypted")
            .field("len", &self.values.len())
            .finish_non_exhaustive()
    }
}

impl<T: Zeroize> Drop for Decrypted<T> {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

impl<T: Zeroize> ZeroizeOnDrop for Decrypted<T> {}

/// Decodes the residues of one coefficient at a time.
pub(super) struct Decoder<'a> {
    basis: &'a Basis,
    level: usize,
    encoding: Encoding,
    /// `1 / (Q / q_i) mod q_i`.
    weights: Vec<Shoup>,
    /// Integers per unit of the phase, where a single prime carries scaled integers.
    per_unit: Option<f64>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(basis: &'a Basis, level: usize, encoding: Encoding) -> Self {
        let weight = |i: usize| {
            let q = &basis.moduli()[i];
            let others = (0..=level).filter(|&j| j != i);
            q.shoup(others.fold(1, |x, j| q.mul_shoup(x, basis.inverse(j, i))))
        };
        let weights = (0..=level).map(weight).collect();
        Self {
            basis,
            level,
            encoding,
            weights,
            per_unit: per_unit(basis, level, encoding),
        }
    }

    /// The integer of one residue of the only prime: nearest in floating point, where that is
    /// surely the nearest; exactly otherwise.
    pub(super) fn decode_one(&self, residue: u64) -> i64 {
        if let Some(per_unit) = self.per_unit {
            let q = self.basis.moduli()[0].value();
            let centred = residue as i64 - if residue > q / 2 { q as i64 } else { 0 };
            let value = centred as f64 * per_unit;
            let nearest = value.round_ties_even();
            if (value - nearest).abs() < 0.499 {
                return nearest as i64;
            }
        }
        self.decode(&[residue])
    }

    pub(super) fn decode(&self, residues: &[u64]) -> i64 {
        match self.encoding {
            Encoding::Scaled {
                numerator,
                denominator,
            } => self.decode_scaled(residues, numerator, denominator),
            Encoding::Modular { log_t } => self.decode_modular(residues, log_t),
        }
    }

    /// `floor(phase denominator / numerator + 1/2)`, limited to the range of `i64`.
    fn decode_scaled(&self, residues: &[u64], numerator: u128, denominator: u128) -> i64 {
        let small = self.basis.centred_i128(self.level, residues);
        let quotient = small.and_then(|phase| divide_small(phase, numerator, denominator));
        let value = quotient.unwrap_or_else(|| {
            let phase = self.basis.centred(self.level, residues);
            divide_big(&phase, numerator, denominator)
        });
        value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// `round(2^t phase / Q) mod 2^t`. With `y_i = x_i / (Q / q_i) mod q_i` the fraction
    /// `phase / Q` is `sum_i y_i / q_i` up to an integer; the parts of each term below one step are
    /// added as floats, which moves the rounding point by less than `2^-46` of a step.
    fn decode_modular(&self, residues: &[u64], log_t: u32) -> i64 {
        let moduli = &self.basis.moduli()[..=self.level];
        let (mut whole, mut fraction) = (0u64, 0.0);
        for ((q, &x), &weight) in moduli.iter().zip(residues).zip(&self.weights) {
            let term = u128::from(q.mul_shoup(x, weight)) << log_t;
            let divisor = u128::from(q.value());
            whole = whole.wrapping_add((term / divisor) as u64);
            fraction += (term % divisor) as f64 / q.value() as f64;
        }
        let rounded = whole.wrapping_add((fraction + 0.5) as u64);
        (rounded & ((1 << log_t) - 1)) as i64
    }
}

/// `denominator / numerator`, if quotients by it are below 2^42 for a prime below 2^52: rounded three
/// times, they are off by less than 2^-9.
fn per_unit(basis: &Basis, level: usize, encoding: Encoding) -> Option<f64> {
    let Encoding::Scaled {
        numerator,
        denominator,
    } = encoding
    else {
        return None;
    };
    let (q, ratio) = (
        basis.moduli()[0].value(),
        denominator as f64 / numerator as f64,
    );
    let small = level == 0 && q < 1 << 52 && q as f64 * ratio < 2f64.powi(42);
    small.then_some(ratio)
}

/// The quotient in 128-bit integers, or none where an intermediate value does not fit.
fn divide_small(phase: i128, numerator: u128, denominator: u128) -> Option<i128> {
    let numerator = i128::try_from(numerator).ok()?;
    let product = phase.checked_mul(i128::try_from(denominator).ok()?)?;
    let shifted = product.checked_add(numerator / 2)?;
    if numerator.count_ones() == 1 {
        return Some(shifted >> numerator.trailing_zeros());
    }
    Some(shifted.div_euclid(numerator))
}

/// The quotient in big integers; saturates.
fn divide_big(phase: &BigInt, numerator: u128, denominator: u128) -> i128 {
    let two = BigInt::from(2u32);
    let (top, bottom) = (phase * denominator * &two + numerator, &two * numerator);
    let truncated = &top / &bottom;
    let exact = &truncated * &bottom == top;
    let floor = if top.sign() == Sign::Minus && !exact {
        truncated - 1
    } else {
        truncated
    };
    let saturated = if top.sign() == Sign::Minus {
        i128::MIN
    } else {
        i128::MAX
    };
    floor.to_i128().unwrap_or(saturated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zq::Modulus;
    use crate::zq::prime::transform_primes;
    use proptest::prelude::*;

    fn basis(sizes: &[u32]) -> Basis {
        let mut primes = Vec::new();
        for &bits in sizes {
            let next = transform_primes(bits, 5, 1, &primes).unwrap();
            primes.extend(next);
        }
        Basis::new(primes.iter().map(|&q| Modulus::new(q).unwrap()).collect()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn small_and_big_quotients_agree(phase in -(1i128 << 84)..1i128 << 84, n in 1u128..1 << 70, d in 1u128..1 << 40, shift in 0u32..70) {
            for n in [n, 1 << shift] {
                let small = divide_small(phase, n, d);
                let big = divide_big(&BigInt::from(phase), n, d);
                prop_assert!(small.is_none_or(|small| small == big));
                // |2 (phase d - value n)| <= n
                let error: BigInt = (BigInt::from(phase) * d - BigInt::from(big) * n) * 2;
                prop_assert!(error.magnitude() <= BigInt::from(n).magnitude());
            }
        }

        #[test]
        fn modular_decoding_is_the_rational_rounding(sizes in prop::collection::vec(20u32..=60, 1..4), log_t in 1u32..=62, words: [u64; 3]) {
            let basis = basis(&sizes);
            let level = basis.max_level();
            let product = BigInt::from(basis.product(level));
            let phase = words.iter().fold(BigInt::ZERO, |x, w| (x << 64) + *w) % &product;
            let residues: Vec<u64> = basis.moduli().iter()
                .map(|q| (&phase % q.value()).to_u64().unwrap()).collect();
            let decoder = Decoder::new(&basis, level, Encoding::Modular { log_t });
            let numerator = (&phase << (log_t + 1)) + &product;
            let expected: BigInt = (&numerator / (&product * 2)) % (BigInt::from(1) << log_t);
            // skip the few phases within 2^-40 of a rounding point
            let rest = &numerator % (&product * 2);
            let near = (&rest << 40) < product.clone() || ((&product * 2 - &rest) << 40) < product;
            prop_assert!(near || BigInt::from(decoder.decode(&residues)) == expected);
        }
    }

    proptest! {
        #[test]
        fn one_prime_decodes_as_many_do(bits in 20u32..=50, residue: u64, n in 1u32..60, d in 1u64..1 << 42, near in any::<bool>()) {
            let basis = basis(&[bits]);
            let q = basis.moduli()[0].value();
            let (numerator, denominator) = (1u128 << n, u128::from(d));
            let mut residue = residue % q;
            if near {
                // just beside the middle between two integers
                let middle = (2 * (residue as i128 % 1000) + 1) * numerator as i128 / (2 * denominator as i128);
                residue = (middle + i128::from(residue % 3) - 1).rem_euclid(i128::from(q)) as u64;
            }
            let decoder = Decoder::new(&basis, 0, Encoding::Scaled { numerator, denominator });
            prop_assert_eq!(decoder.decode_one(residue), decoder.decode(&[residue]));
        }
    }

    #[test]
    fn debug_shows_no_values() {
        let text = format!("{:?}", Decrypted::new(vec![12_345i64]));
        assert!(text.contains("len: 1") && !text.contains("12345"));
    }
}
