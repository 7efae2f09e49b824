//! Residue number systems: one integer as its residues modulo several primes.
//!
//! Sits above the transform's tables and below the ring. A [`Basis`] is an ordered list of
//! distinct primes; *level* `l` means the first `l + 1` of them, so the last prime of a level is
//! the first to be dropped. It rebuilds integers from residues (Garner's mixed radix digits, in
//! 128-bit integers while the modulus allows) and divides by the last prime with rounding. An
//! [`Extension`] carries residues from some primes to others.
//!
//! Source: Garner, *The residue number system*, 1959; the division with rounding is the rescaling
//! of Cheon, Han, Kim, Kim and Song (*A full RNS variant of approximate homomorphic encryption*,
//! ePrint 2018/931, section 3.3), here with the centred remainder, so that it rounds to nearest.
//!
//! ```
//! use sphinx_he::{rns::Basis, zq::Modulus};
//! let basis = Basis::new(vec![Modulus::new(97)?, Modulus::new(101)?])?;
//! assert_eq!(basis.centred_i128(1, &[97 - 5, 101 - 5]), Some(-5));
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

use num_bigint::{BigInt, BigUint};

mod extension;

pub use extension::Extension;

use crate::error::ParameterError;
use crate::simd;
use crate::zq::{Modulus, Shoup};

/// Bits of a product of primes up to which [`Basis::centred_i128`] answers.
const WORD_BITS: f64 = 126.0;

/// An ordered list of distinct primes with the constants of its conversions.
#[derive(Clone, Debug)]
pub struct Basis {
    moduli: Vec<Modulus>,
    /// `inverses[j][i] = 1 / q_i mod q_j` for `i != j`, and 1 on the diagonal.
    inverses: Vec<Vec<Shoup>>,
    /// Sum of logarithms of the first `l + 1` primes.
    log2: Vec<f64>,
}

impl Basis {
    /// Prepares the constants; the primes must be distinct and at least one.
    ///
    /// # Errors
    /// [`ParameterError::PrimeCount`] for none, [`ParameterError::NoRoot`] where two moduli share
    /// a factor.
    pub fn new(moduli: Vec<Modulus>) -> Result<Self, ParameterError> {
        if moduli.is_empty() {
            return Err(ParameterError::PrimeCount {
                which: "basis",
                got: 0,
                min: 1,
                max: 64,
            });
        }
        let inverse = |j: usize, i: usize| {
            let (to, from) = (&moduli[j], moduli[i].value());
            if i == j {
                return Ok(to.shoup(1));
            }
            let refused = ParameterError::NoRoot {
                modulus: to.value(),
                two_n: from,
            };
            to.inv(from).map(|x| to.shoup(x)).ok_or(refused)
        };
        let inverses = (0..moduli.len())
            .map(|j| (0..moduli.len()).map(|i| inverse(j, i)).collect())
            .collect::<Result<_, _>>()?;
        let log2 = moduli
            .iter()
            .scan(0.0, |sum, q| {
                *sum += q.log2();
                Some(*sum)
            })
            .collect();
        Ok(Self {
            moduli,
            inverses,
            log2,
        })
    }

    /// The primes, the one kept longest first.
    #[must_use]
    pub fn moduli(&self) -> &[Modulus] {
        &self.moduli
    }

    /// The index of the last prime.
    #[must_use]
    pub fn max_level(&self) -> usize {
        self.moduli.len() - 1
    }

    /// log2 of the product of the first `level + 1` primes.
    #[must_use]
    pub fn log2(&self, level: usize) -> f64 {
        self.log2[level]
    }

    /// The product of the first `level + 1` primes.
    #[must_use]
    pub fn product(&self, level: usize) -> BigUint {
        self.moduli[..=level]
            .iter()
            .map(|q| BigUint::from(q.value()))
            .product()
    }

    /// `1 / q_i mod q_j`.
    #[must_use]
    pub fn inverse(&self, i: usize, j: usize) -> Shoup {
        self.inverses[j][i]
    }

    /// Mixed radix digits: `x = v_0 + v_1 q_0 + v_2 q_0 q_1 + ...`, `v_j < q_j`.
    fn digit(&self, j: usize, digits: &[u64], residue: u64) -> u64 {
        let q = &self.moduli[j];
        digits[..j]
            .iter()
            .enumerate()
            .fold(residue, |x, (i, &digit)| {
                q.mul_shoup(q.sub(x, q.reduce(digit)), self.inverses[j][i])
            })
    }

    /// The integer in `(-Q/2, Q/2)` with these residues, if `Q < 2^126`; no allocation.
    #[must_use]
    pub fn centred_i128(&self, level: usize, residues: &[u64]) -> Option<i128> {
        if self.log2[level] >= WORD_BITS {
            return None;
        }
        let mut digits = [0u64; 64];
        let (mut value, mut radix) = (0u128, 1u128);
        for (j, &residue) in residues[..=level].iter().enumerate() {
            digits[j] = self.digit(j, &digits, residue);
            value += u128::from(digits[j]) * radix;
            radix *= u128::from(self.moduli[j].value());
        }
        let negative = u128::from(value > radix / 2).wrapping_neg();
        Some(value.wrapping_sub(radix & negative) as i128)
    }

    /// The integer in `(-Q/2, Q/2)` with these residues, for any `Q`.
    #[must_use]
    pub fn centred(&self, level: usize, residues: &[u64]) -> BigInt {
        let mut digits = vec![0u64; level + 1];
        let (mut value, mut radix) = (BigUint::ZERO, BigUint::from(1u32));
        for (j, &residue) in residues[..=level].iter().enumerate() {
            digits[j] = self.digit(j, &digits, residue);
            value += &radix * digits[j];
            radix *= self.moduli[j].value();
        }
        if &value * 2u32 > radix {
            BigInt::from(value) - BigInt::from(radix)
        } else {
            BigInt::from(value)
        }
    }

    /// Divides by the last prime of `level` with rounding to nearest: row `i` of `lower`, given
    /// modulo `q_i`, becomes `round(x / q_level)` modulo `q_i`. `remainder` must hold
    /// [`Basis::centred_remainder`] for the same row.
    pub fn divide_row(&self, level: usize, i: usize, lower: &mut [u64], remainder: &[u64]) {
        simd::sub_scale_assign(&self.moduli[i], lower, remainder, self.inverses[i][level]);
    }

    /// The residues of the last prime of `level`, centred, modulo `q_i`.
    pub fn centred_remainder(&self, level: usize, i: usize, out: &mut [u64], last: &[u64]) {
        simd::centred_to(&self.moduli[level], &self.moduli[i], out, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn residues(basis: &Basis, x: &BigInt) -> Vec<u64> {
        let reduce = |q: &Modulus| {
            let q = BigInt::from(q.value());
            u64::try_from(((x % &q) + &q) % &q).unwrap()
        };
        basis.moduli().iter().map(reduce).collect()
    }

    fn sizes() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(20u32..=60, 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn rebuilding_agrees_with_big_integers(sizes in sizes(), words: [u64; 5], negative: bool) {
            let basis = basis(&sizes);
            let level = basis.max_level();
            let magnitude = words.iter().fold(BigUint::ZERO, |x, w| (x << 64) + *w) % (basis.product(level) / 2u32);
            let x = if negative { -BigInt::from(magnitude) } else { BigInt::from(magnitude) };
            let residues = residues(&basis, &x);
            prop_assert_eq!(basis.centred(level, &residues), x.clone());
            if let Some(small) = basis.centred_i128(level, &residues) {
                prop_assert_eq!(BigInt::from(small), x);
            } else {
                prop_assert!(basis.log2(level) >= WORD_BITS);
            }
        }

        #[test]
        fn division_rounds_to_nearest(sizes in prop::collection::vec(20u32..=60, 2..5), words: [u64; 5]) {
            let basis = basis(&sizes);
            let level = basis.max_level();
            let x = BigInt::from(words.iter().fold(BigUint::ZERO, |x, w| (x << 64) + *w) % basis.product(level));
            let rows = residues(&basis, &x);
            let q = BigInt::from(basis.moduli()[level].value());
            let quotient: BigInt = (&x * 2 + &q) / (&q * 2); // x is not negative
            let expected = residues(&basis, &quotient);
            for i in 0..level {
                let (mut row, mut remainder) = ([rows[i]], [0]);
                basis.centred_remainder(level, i, &mut remainder, &[rows[level]]);
                basis.divide_row(level, i, &mut row, &remainder);
                prop_assert_eq!(row[0], expected[i]);
            }
        }
    }

    #[test]
    fn refuses_common_factors() {
        let q = Modulus::new(97).unwrap();
        assert!(Basis::new(vec![q, q]).is_err());
        assert!(Basis::new(Vec::new()).is_err());
    }
}
