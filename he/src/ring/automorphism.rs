//! The maps `Y -> Y^g` of polynomials in evaluation form.
//!
//! Sits beside the polynomial; rotations of slots are `g = 5^k`, conjugation is `g = 2N - 1`. In
//! evaluation form the map is a permutation of values. Entry `k` of a row is the value at
//! `psi^(2 r(k) + 1)`, `r` the reversal of bits, so entry `k` of the image is entry `k'` of the
//! argument with `2 r(k') + 1 = g (2 r(k) + 1) mod 2N`. Eight entries `8m + j` differ in the top
//! three bits of `r` alone; so do their sources. Hence whole groups of eight map to whole groups,
//! each shuffled by one of eight patterns: a table of `N / 8` words, and every load and store a
//! whole cache line.
//!
//! ```
//! use sphinx_he::ring::{Automorphism, Coeff, Poly, Ring};
//! use sphinx_he::zq::Modulus;
//! let ring = Ring::new(3, vec![Modulus::new(97)?])?;
//! let y = Poly::<Coeff>::from_signed(&ring, 0, &[0, 1])?.into_eval();
//! let cube = Automorphism::new(3, 3)?.apply(&y)?.into_coeff();
//! assert_eq!(cube.row(0), [0, 0, 0, 1, 0, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::{Eval, Poly};
use crate::error::{Error, ParameterError};
use crate::simd::{Kernels, Permutation};

/// `Y -> Y^g` for an odd `g`, on rows in evaluation form of degree `N >= 8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automorphism {
    degree: usize,
    exponent: u64,
    permutation: Permutation,
}

/// The lowest `bits` bits of `x`, reversed.
const fn reverse(x: usize, bits: u32) -> usize {
    if bits == 0 {
        0
    } else {
        x.reverse_bits() >> (usize::BITS - bits)
    }
}

impl Automorphism {
    /// The map for degree `2^log_n`, `3 <= log_n <= 20`; `exponent` counts modulo `2N`.
    ///
    /// # Errors
    /// [`ParameterError::DegreeOutOfRange`], [`ParameterError::EvenExponent`].
    pub fn new(log_n: u32, exponent: u64) -> Result<Self, ParameterError> {
        if !(3..=20).contains(&log_n) {
            let (min, max) = (3, 20);
            return Err(ParameterError::DegreeOutOfRange { log_n, min, max });
        }
        if exponent.is_multiple_of(2) {
            return Err(ParameterError::EvenExponent { exponent });
        }
        let (n, group_bits) = (1usize << log_n, log_n - 3);
        let exponent = exponent % (2 << log_n);
        let g = exponent as usize;
        let source = |group: usize| {
            let reversed = (g * (2 * reverse(group, group_bits) + 1) - 1) / 2 % n;
            let (turn, rest) = (reversed / (n / 8), reversed % (n / 8));
            (reverse(rest, group_bits), turn)
        };
        let lane = |turn: usize, lane: usize| reverse((turn + g * reverse(lane, 3)) % 8, 3) as u64;
        Ok(Self {
            degree: n,
            exponent,
            permutation: Permutation::new((0..n / 8).map(source), lane),
        })
    }

    /// `g`, below `2N`.
    #[must_use]
    pub const fn exponent(&self) -> u64 {
        self.exponent
    }

    /// `N`.
    #[must_use]
    pub const fn degree(&self) -> usize {
        self.degree
    }

    /// The permutation of a row, for the kernel.
    #[must_use]
    pub const fn permutation(&self) -> &Permutation {
        &self.permutation
    }

    /// The image of one row; both have `N` words.
    pub fn apply_row(&self, out: &mut [u64], row: &[u64]) {
        Kernels::active().permute(out, row, &self.permutation);
    }

    /// The image of a polynomial.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`] where the degrees differ.
    pub fn apply(&self, poly: &Poly<Eval>) -> Result<Poly<Eval>, Error> {
        let mut out = Poly::zero(poly.ring(), poly.level())?;
        self.apply_to(&mut out, poly)?;
        Ok(out)
    }

    /// `out` becomes the image of `poly`; does not allocate.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`].
    pub fn apply_to(&self, out: &mut Poly<Eval>, poly: &Poly<Eval>) -> Result<(), Error> {
        let op = "automorphism";
        if poly.ring().degree() != self.degree {
            return Err(Error::ForeignParameters { op });
        }
        out.check(op, poly)?;
        out.rows_with(poly)
            .for_each(|(_, out, row)| self.apply_row(out, row));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use crate::zq::{Modulus, prime::transform_primes};

    #[test]
    fn is_the_substitution_of_a_power() {
        for log_n in 3..=7u32 {
            let n = 1u64 << log_n;
            let q = Modulus::new(transform_primes(40, log_n, 1, &[]).unwrap()[0]).unwrap();
            let ring = Ring::new(log_n, vec![q]).unwrap();
            let values: Vec<i64> = (0..n as i64).map(|i| i * i * 7919 - 40_000).collect();
            let poly = Poly::from_signed(&ring, 0, &values).unwrap().into_eval();
            for g in (1..2 * n).step_by(2) {
                let mut expected = vec![0; n as usize];
                for (i, &x) in (0u64..).zip(&values) {
                    let power = i * g % (2 * n);
                    let sign = if power < n { 1 } else { -1 };
                    expected[(power % n) as usize] = q.reduce_i64(sign * x);
                }
                let map = Automorphism::new(log_n, g).unwrap();
                assert_eq!(map.apply(&poly).unwrap().into_coeff().row(0), expected);
            }
        }
    }

    #[test]
    fn refuses_even_exponents_and_foreign_rings() {
        assert!(matches!(
            Automorphism::new(4, 6),
            Err(ParameterError::EvenExponent { exponent: 6 })
        ));
        assert!(Automorphism::new(2, 3).is_err() && Automorphism::new(21, 3).is_err());
        let ring = Ring::new(3, vec![Modulus::new(97).unwrap()]).unwrap();
        let poly = Poly::zero(&ring, 0).unwrap();
        let map = Automorphism::new(4, 3).unwrap();
        assert!(matches!(
            map.apply(&poly),
            Err(Error::ForeignParameters { .. })
        ));
        assert_eq!(Automorphism::new(3, 3 + 16), Automorphism::new(3, 3));
    }
}
