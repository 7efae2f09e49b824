//! Residues modulo some primes, carried to others.
//!
//! With `F` the product of the primes `f_i` that are left and `x` an integer in `(-F/2, F/2)` known
//! by its residues, `x = sum_i y_i F / f_i - v F` where `y_i = x (F / f_i)^-1 mod f_i` and
//! `v = round(sum_i y_i / f_i)`; the right side is then reduced modulo each new prime. The quotient
//! `v` is computed in floating point: each `y_i / f_i` is off by less than `2^-52`, so `v` is exact
//! unless `x / F` is within `(k + 1) 2^-52` of one half, `k` primes in all; there the result may be
//! `x + F` or `x - F`, a representative as good as `x` for a division with rounding or a digit.
//!
//! Source: Halevi, Polyakov and Shoup, *An improved RNS variant of the BFV homomorphic encryption
//! scheme*, ePrint 2018/117, section 2.2.

use crate::error::ParameterError;
use crate::simd::{self, Kernels};
use crate::zq::{Modulus, Shoup};

/// The constants of a conversion from some primes to others.
///
/// ```
/// use sphinx_he::{rns::Extension, zq::Modulus};
/// let (a, b, c) = (Modulus::new(97)?, Modulus::new(101)?, Modulus::new(113)?);
/// let extension = Extension::new(&[a, b], &[c])?;
/// let mut rows = [[97 - 5; 16], [101 - 5; 16], [0; 16]].concat(); // -5 in each column
/// extension.prepare(&mut rows);
/// let mut out = [0; 16];
/// extension.row(0, &mut out, &rows);
/// assert_eq!(out, [113 - 5; 16]);
/// # Ok::<(), sphinx_he::ParameterError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Extension {
    from: Vec<Modulus>,
    to: Vec<Modulus>,
    /// `1 / (F / f_i) mod f_i`.
    lift: Vec<Shoup>,
    /// For each new prime: `F / f_i` for each `i`, then `-F`.
    matrix: Vec<Vec<u64>>,
    /// Length of the longest prime that is left.
    bits: u32,
}

impl Extension {
    /// Prepares the constants. The primes that are left must be distinct.
    ///
    /// # Errors
    /// [`ParameterError::NoRoot`] where two of them share a factor.
    pub fn new(from: &[Modulus], to: &[Modulus]) -> Result<Self, ParameterError> {
        let hat = |i: usize, q: &Modulus| {
            let others = from.iter().enumerate().filter(|&(j, _)| j != i);
            others.fold(1, |product, (_, f)| q.mul(product, q.reduce(f.value())))
        };
        let lift = |(i, q): (usize, &Modulus)| {
            let inverse = q.inv(hat(i, q)).ok_or(ParameterError::NoRoot {
                modulus: q.value(),
                two_n: q.value(),
            })?;
            Ok(q.shoup(inverse))
        };
        let column = |q: &Modulus| {
            let product = q.mul(hat(0, q), q.reduce(from[0].value()));
            (0..from.len())
                .map(|i| hat(i, q))
                .chain([q.neg(product)])
                .collect()
        };
        Ok(Self {
            lift: from
                .iter()
                .enumerate()
                .map(lift)
                .collect::<Result<_, _>>()?,
            matrix: to.iter().map(column).collect(),
            bits: from.iter().map(Modulus::bits).max().unwrap_or(0),
            from: from.to_vec(),
            to: to.to_vec(),
        })
    }

    /// The primes that are left.
    #[must_use]
    pub fn from(&self) -> &[Modulus] {
        &self.from
    }

    /// The primes that are reached.
    #[must_use]
    pub fn to(&self) -> &[Modulus] {
        &self.to
    }

    /// Rows of `N` words that a conversion works on: the residues, and one of quotients unless
    /// there is a single prime.
    #[must_use]
    pub fn width(&self) -> usize {
        self.from.len() + usize::from(self.from.len() > 1)
    }

    /// Turns the residues of `x` into the `y_i`, in place, and writes the quotients `v` behind.
    ///
    /// `rows` holds [`Self::width`] rows, one after the other, the first of which are canonical
    /// residues, one row for each prime that is left. With a single prime nothing is done:
    /// [`Self::row`] centres it.
    pub fn prepare(&self, rows: &mut [u64]) {
        let primes = self.from.len();
        if primes == 1 {
            return;
        }
        let n = rows.len() / (primes + 1);
        let (residues, quotients) = rows.split_at_mut(primes * n);
        for ((q, &lift), row) in
            (self.from.iter().zip(&self.lift)).zip(residues.chunks_exact_mut(n))
        {
            simd::scale_assign(q, row, lift);
        }
        Kernels::active().quotients(&self.from, quotients, residues);
    }

    /// The row of new prime `index`, canonical; `rows` as [`Self::prepare`] left them.
    pub fn row(&self, index: usize, out: &mut [u64], rows: &[u64]) {
        let to = &self.to[index];
        if let [from] = &self.from[..] {
            return simd::centred_to(from, to, out, rows);
        }
        Kernels::active().convert(to, out, rows, &self.matrix[index], self.bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zq::prime::transform_primes;
    use num_bigint::{BigInt, BigUint};
    use proptest::prelude::*;

    fn moduli(sizes: &[u32], taken: &mut Vec<u64>) -> Vec<Modulus> {
        let mut out = Vec::new();
        for &bits in sizes {
            let prime = transform_primes(bits, 5, 1, taken).unwrap()[0];
            taken.push(prime);
            out.push(Modulus::new(prime).unwrap());
        }
        out
    }

    fn residue(x: &BigInt, q: &Modulus) -> u64 {
        let q = BigInt::from(q.value());
        u64::try_from(((x % &q) + &q) % &q).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn agrees_with_big_integers(
            from in prop::collection::vec(20u32..=60, 1..5),
            to in prop::collection::vec(20u32..=60, 1..4),
            words in prop::collection::vec(any::<[u64; 4]>(), 16),
        ) {
            let mut taken = Vec::new();
            let (from, to) = (moduli(&from, &mut taken), moduli(&to, &mut taken));
            let product: BigUint = from.iter().map(|q| BigUint::from(q.value())).product();
            let half = BigInt::from(&product / 2u32);
            let values: Vec<BigInt> = words
                .iter()
                .map(|w| BigInt::from(w.iter().fold(BigUint::ZERO, |x, w| (x << 64) + *w) % &product) - &half)
                .collect();
            let extension = Extension::new(&from, &to).unwrap();
            let n = values.len();
            let mut rows = vec![0; n * extension.width()];
            for (q, row) in from.iter().zip(rows.chunks_exact_mut(n)) {
                row.iter_mut().zip(&values).for_each(|(x, value)| *x = residue(value, q));
            }
            extension.prepare(&mut rows);
            for (index, q) in to.iter().enumerate() {
                let mut out = vec![0; n];
                extension.row(index, &mut out, &rows);
                let expected: Vec<u64> = values.iter().map(|x| residue(x, q)).collect();
                prop_assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn refuses_common_factors() {
        let q = Modulus::new(97).unwrap();
        assert!(Extension::new(&[q, q], &[q]).is_err());
    }
}
