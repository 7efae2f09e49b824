//! How a polynomial is cut into digits for key switching.
//!
//! Sits below the switching keys. The primes of `Q` are cut into consecutive groups; the digit of a
//! polynomial `c` in group `d` is `[c]_{Q_d}`, centred, `Q_d` the product of the group, and
//! `c = sum_d [c]_{Q_d} g_d mod Q` where `g_d` is 1 modulo the primes of the group and 0 modulo the
//! others. A digit is multiplied by an encryption of `P g_d s'`, so its error `e_d` enters as
//! `[c]_{Q_d} e_d / P`: groups should not be larger than `P`, the product of the special primes.
//!
//! Sources: Gentry, Halevi and Smart, *Homomorphic evaluation of the AES circuit*, ePrint 2012/099,
//! section 3.1, for the special primes; Han and Ki, *Better bootstrapping for approximate
//! homomorphic encryption*, ePrint 2019/688, section 3, for groups of primes as digits.

use std::ops::Range;

use super::Parameters;
use crate::error::ParameterError;
use crate::rns::Extension;
use crate::zq::Modulus;

/// By how much a digit may exceed `P`, in bits, where groups are chosen here: two primes of equal
/// size differ by far less.
const SLACK_BITS: f64 = 0.5;

/// A grouping of the primes of `Q` with the constants of its conversions.
#[derive(Clone, Debug)]
pub(crate) struct Gadget {
    digits: Vec<Digit>,
}

#[derive(Clone, Debug)]
struct Digit {
    primes: Range<usize>,
    /// Entry `m - 1` carries the first `m` primes of the group to all primes of `Q` and `P`.
    extensions: Vec<Extension>,
}

/// One digit at some level.
#[derive(Clone, Copy)]
pub(crate) struct LevelDigit<'a> {
    /// Index of its first prime.
    pub(crate) first: usize,
    /// Its number of primes at this level.
    pub(crate) count: usize,
    pub(crate) extension: &'a Extension,
}

impl LevelDigit<'_> {
    pub(crate) const fn contains(&self, prime: usize) -> bool {
        self.first <= prime && prime < self.first + self.count
    }
}

/// The sizes of the largest consecutive groups that do not exceed `P`.
pub(crate) fn default_groups(parameters: &Parameters) -> Vec<usize> {
    let limit = parameters.log2_p() + SLACK_BITS;
    let (mut groups, mut bits) = (Vec::<usize>::new(), f64::INFINITY);
    for q in parameters.moduli() {
        bits += q.log2();
        match groups.last_mut() {
            Some(size) if bits <= limit => *size += 1,
            _ => {
                groups.push(1);
                bits = q.log2();
            }
        }
    }
    groups
}

impl Gadget {
    /// The gadget of these group sizes, which must be positive and sum to the number of primes.
    ///
    /// # Errors
    /// [`ParameterError::NoSpecialPrime`], [`ParameterError::DigitGroups`].
    pub(crate) fn new(parameters: &Parameters, groups: &[usize]) -> Result<Self, ParameterError> {
        let moduli = parameters.moduli();
        if parameters.special_moduli().is_empty() {
            return Err(ParameterError::NoSpecialPrime);
        }
        let total = groups
            .iter()
            .try_fold(0usize, |sum, &size| sum.checked_add(size));
        if total != Some(moduli.len()) || groups.contains(&0) {
            return Err(ParameterError::DigitGroups {
                got: groups.to_vec(),
                primes: moduli.len(),
            });
        }
        let to: Vec<Modulus> = moduli
            .iter()
            .chain(parameters.special_moduli())
            .copied()
            .collect();
        let mut first = 0;
        let digits = groups.iter().map(|&size| {
            let primes = first..first + size;
            first += size;
            let extensions = (1..=size)
                .map(|count| Extension::new(&moduli[primes.start..primes.start + count], &to))
                .collect::<Result<_, _>>()?;
            Ok(Digit { primes, extensions })
        });
        Ok(Self {
            digits: digits.collect::<Result<_, _>>()?,
        })
    }

    /// Number of digits at the highest level.
    pub(crate) const fn len(&self) -> usize {
        self.digits.len()
    }

    /// The sizes of the groups.
    pub(crate) fn groups(&self) -> Vec<usize> {
        self.sizes().collect()
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        self.digits.iter().map(|d| d.primes.len())
    }

    /// Whether these are its groups.
    pub(crate) fn has_groups(&self, groups: &[usize]) -> bool {
        self.sizes().eq(groups.iter().copied())
    }

    /// The digits that are there at `level`; the last of them may have lost primes.
    pub(crate) fn at(&self, level: usize) -> impl Iterator<Item = LevelDigit<'_>> {
        self.digits
            .iter()
            .take_while(move |d| d.primes.start <= level)
            .map(move |d| {
                let count = d.primes.end.min(level + 1) - d.primes.start;
                LevelDigit {
                    first: d.primes.start,
                    count,
                    extension: &d.extensions[count - 1],
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlwe::{ParametersLiteral, Security};

    fn parameters(log_q: &[u32], log_p: &[u32]) -> Parameters {
        Parameters::new(&ParametersLiteral {
            log_n: 5,
            log_q: log_q.to_vec(),
            log_p: log_p.to_vec(),
            error_std_dev: 3.2,
            security: Security::Toy,
        })
        .unwrap()
    }

    #[test]
    fn groups_fill_the_special_modulus() {
        for (log_q, log_p, expected) in [
            (&[50, 40][..], &[50][..], &[1, 1][..]),
            (&[50, 40], &[46, 46], &[2]),
            (&[50, 40, 40, 40, 40], &[46, 46], &[2, 2, 1]),
            (&[30, 30, 50, 50, 50], &[50, 50], &[2, 2, 1]),
            (&[60, 40, 40], &[30], &[1, 1, 1]),
            (&[60, 50, 50, 50, 50], &[50, 50], &[1, 2, 2]),
        ] {
            assert_eq!(default_groups(&parameters(log_q, log_p)), expected);
        }
    }

    #[test]
    fn lower_levels_lose_primes_of_the_last_digit() {
        let parameters = parameters(&[30; 5], &[30, 30]);
        let gadget = Gadget::new(&parameters, &[2, 3]).unwrap();
        assert_eq!((gadget.len(), gadget.groups()), (2, vec![2, 3]));
        let at = |level| {
            gadget
                .at(level)
                .map(|d| (d.first, d.count))
                .collect::<Vec<_>>()
        };
        assert_eq!(at(4), [(0, 2), (2, 3)]);
        assert_eq!(at(2), [(0, 2), (2, 1)]);
        assert_eq!(at(1), [(0, 2)]);
        assert_eq!(at(0), [(0, 1)]);
    }

    #[test]
    fn bad_groups_are_refused() {
        let good = parameters(&[30; 4], &[30]);
        for groups in [&[][..], &[4, 0], &[3], &[2, 3], &[usize::MAX, 5]] {
            assert!(matches!(
                Gadget::new(&good, groups),
                Err(ParameterError::DigitGroups { .. })
            ));
        }
        assert!(matches!(
            Gadget::new(&parameters(&[30; 4], &[]), &[1, 1, 1, 1]),
            Err(ParameterError::NoSpecialPrime)
        ));
    }
}
