//! Division of accumulated polynomials by the special primes, with rounding.
//!
//! Sits below the switching keys. An accumulator has the rows of the primes of a level, then those
//! of the special primes, then a spare row, back to back, in evaluation form. Dividing by
//! `D = P`, or by `D = P q_l` where a rescale is merged into it, takes the centred remainder modulo
//! `D` off and multiplies by `1 / D`: the result is the nearest integer, so a coefficient is off by
//! at most one half (Cheon, Kim, Kim and Song, ePrint 2016/421, lemma 2, bounds what that does to a
//! ciphertext; the residue form is that of Cheon, Han, Kim, Kim and Song, ePrint 2018/931, section
//! 3.2, with exact conversion of the remainder).

use std::ops::Range;

use crate::error::ParameterError;
use crate::ntt::NttTable;
use crate::ring::Ring;
use crate::rns::Extension;
use crate::simd::{self, Kernels};
use crate::zq::{Modulus, Shoup};

/// The ring of the special primes with the constants of divisions by them.
#[derive(Clone, Debug)]
pub(crate) struct Down {
    ring: Ring,
    special: Ring,
    plain: Divisor,
    /// Entry `l - 1` divides by `P q_l` at level `l`.
    merged: Vec<Divisor>,
    /// `P` modulo each prime of `Q`.
    factor: Vec<Shoup>,
}

#[derive(Clone, Debug)]
struct Divisor {
    extension: Extension,
    /// `1 / D` modulo each prime that stays.
    inverse: Vec<Shoup>,
}

impl Divisor {
    fn new(from: &[Modulus], to: &[Modulus]) -> Result<Self, ParameterError> {
        let inverse = |q: &Modulus| {
            let product = from.iter().fold(1, |x, f| q.mul(x, q.reduce(f.value())));
            let refused = ParameterError::NoRoot {
                modulus: q.value(),
                two_n: q.value(),
            };
            q.inv(product).map(|x| q.shoup(x)).ok_or(refused)
        };
        Ok(Self {
            extension: Extension::new(from, to)?,
            inverse: to.iter().map(inverse).collect::<Result<_, _>>()?,
        })
    }
}

/// One row on its way through a division.
pub(crate) struct Quotient<'a> {
    /// Index of its prime.
    pub(crate) index: usize,
    pub(crate) modulus: &'a Modulus,
    /// The accumulated row `a`.
    pub(crate) sum: &'a mut [u64],
    /// The remainder `r`, in evaluation form, lazy.
    pub(crate) remainder: &'a mut [u64],
    /// `1 / D`: the row of the quotient is `(a - r) / D`.
    pub(crate) inverse: Shoup,
}

impl Down {
    pub(crate) fn new(ring: &Ring, special: Ring) -> Result<Self, ParameterError> {
        let (moduli, primes) = (ring.moduli(), special.moduli());
        let merged = |level: usize| {
            let from: Vec<Modulus> = moduli[level..=level]
                .iter()
                .chain(primes)
                .copied()
                .collect();
            Divisor::new(&from, &moduli[..level])
        };
        let factor =
            |q: &Modulus| q.shoup(primes.iter().fold(1, |x, p| q.mul(x, q.reduce(p.value()))));
        Ok(Self {
            plain: Divisor::new(primes, moduli)?,
            merged: (1..moduli.len()).map(merged).collect::<Result<_, _>>()?,
            factor: moduli.iter().map(factor).collect(),
            ring: ring.clone(),
            special,
        })
    }

    /// The ring over the special primes.
    pub(crate) const fn special(&self) -> &Ring {
        &self.special
    }

    /// `P` modulo prime `i` of `Q`.
    pub(crate) fn factor(&self, i: usize) -> Shoup {
        self.factor[i]
    }

    /// The modulus and the transform of row `row` of an accumulator at `level`.
    pub(crate) fn table(&self, level: usize, row: usize) -> (&Modulus, &NttTable) {
        let (ring, index) = if row <= level {
            (&self.ring, row)
        } else {
            (&self.special, row - level - 1)
        };
        (&ring.moduli()[index], &ring.tables()[index])
    }

    /// Rows of an accumulator at `level`, the spare one left out.
    pub(crate) fn rows(&self, level: usize) -> Range<usize> {
        0..level + 1 + self.special.moduli().len()
    }

    /// Words of an accumulator at `level`.
    pub(crate) fn words(&self, level: usize) -> usize {
        (self.rows(level).end + 1) * self.ring.degree()
    }

    /// Divides by `P`; every row of the level goes through `finish`. `buffer` is one row.
    pub(crate) fn divide(
        &self,
        level: usize,
        accumulator: &mut [u64],
        buffer: &mut [u64],
        finish: impl FnMut(Quotient<'_>),
    ) {
        let tables = self.special.tables().iter();
        self.run(
            &self.plain,
            level + 1,
            tables,
            accumulator,
            None,
            buffer,
            finish,
        );
    }

    /// As [`Self::divide`], of the accumulator plus a polynomial of small coefficients, which are
    /// negated on the way.
    pub(crate) fn divide_noisy(
        &self,
        level: usize,
        accumulator: &mut [u64],
        errors: &mut [i64],
        buffer: &mut [u64],
        finish: impl FnMut(Quotient<'_>),
    ) {
        let (tables, errors) = (self.special.tables().iter(), Some(errors));
        self.run(
            &self.plain,
            level + 1,
            tables,
            accumulator,
            errors,
            buffer,
            finish,
        );
    }

    /// Divides by `P q_level`, `level` at least 1; every row below it goes through `finish`.
    pub(crate) fn divide_and_rescale(
        &self,
        level: usize,
        accumulator: &mut [u64],
        buffer: &mut [u64],
        finish: impl FnMut(Quotient<'_>),
    ) {
        let tables = self.ring.tables()[level..=level]
            .iter()
            .chain(self.special.tables());
        self.run(
            &self.merged[level - 1],
            level,
            tables,
            accumulator,
            None,
            buffer,
            finish,
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one loop behind three entry points"
    )]
    fn run<'a>(
        &self,
        divisor: &Divisor,
        kept: usize,
        tables: impl Iterator<Item = &'a NttTable>,
        accumulator: &mut [u64],
        mut errors: Option<&mut [i64]>,
        buffer: &mut [u64],
        mut finish: impl FnMut(Quotient<'_>),
    ) {
        let n = self.ring.degree();
        let (rows, rest) = accumulator.split_at_mut(kept * n);
        let rest = &mut rest[..divisor.extension.width() * n];
        for (table, row) in tables.zip(rest.chunks_exact_mut(n)) {
            table.inverse(row);
            if let Some(errors) = &errors {
                simd::add_signed_assign(&table.modulus(), row, errors);
            }
        }
        // the remainder is taken off, the errors are added
        errors
            .iter_mut()
            .for_each(|e| e.iter_mut().for_each(|x| *x = -*x));
        divisor.extension.prepare(rest);
        for (index, sum) in rows.chunks_exact_mut(n).enumerate() {
            divisor.extension.row(index, buffer, rest);
            if let Some(errors) = &errors {
                simd::add_signed_assign(&self.ring.moduli()[index], buffer, errors);
            }
            self.ring.tables()[index].forward_lazy_with(Kernels::active(), buffer);
            finish(Quotient {
                index,
                modulus: &self.ring.moduli()[index],
                sum,
                remainder: buffer,
                inverse: divisor.inverse[index],
            });
        }
    }
}
