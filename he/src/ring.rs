//! Polynomials of `Z_Q[Y]/(Y^N + 1)` as rows of residues.
//!
//! Sits above `rns` and `ntt`. A [`Poly`] has one row of `N` residues per prime, all rows in one
//! allocation that starts on a cache line, and its type says which form the rows are in: [`Coeff`] (coefficients) or [`Eval`]
//! (values at the roots of unity, in the transform's order). Only `Poly<Eval>` multiplies, so a
//! product of coefficient rows does not compile. Operands of one operation share the ring and the
//! number of rows; that is checked, not assumed.
//!
//! ```
//! use sphinx_he::ring::{Coeff, Poly, Ring};
//! use sphinx_he::zq::Modulus;
//! let ring = Ring::new(3, vec![Modulus::new(97)?, Modulus::new(113)?])?;
//! let y4 = Poly::<Coeff>::from_signed(&ring, 1, &[0, 0, 0, 0, 1])?.into_eval();
//! let square = y4.mul(&y4)?.into_coeff();
//! assert_eq!(square.row(0)[0], 96); // Y^8 = -1
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```compile_fail
//! # use sphinx_he::ring::{Coeff, Poly};
//! fn product(a: Poly<Coeff>, b: Poly<Coeff>) { a.mul(&b); }
//! ```

mod aligned;
mod automorphism;

pub use aligned::Aligned;
pub use automorphism::Automorphism;

use std::marker::PhantomData;
use std::sync::Arc;

use zeroize::Zeroize;

use crate::error::{Error, ParameterError};
use crate::ntt::NttTable;
use crate::rns::Basis;
use crate::simd;
use crate::zq::Modulus;

/// Coefficient form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coeff {}

/// Evaluation form: values at the odd powers of the root of unity, in bit-reversed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eval {}

/// The ring: a degree, a basis of primes, and a transform for each prime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    degree: usize,
    basis: Basis,
    tables: Vec<NttTable>,
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.degree == other.0.degree && self.moduli() == other.moduli())
    }
}

impl Ring {
    /// The ring of degree `2^log_n` over these primes.
    ///
    /// # Errors
    /// Whatever [`Basis::new`] and [`NttTable::new`] refuse.
    pub fn new(log_n: u32, moduli: Vec<Modulus>) -> Result<Self, ParameterError> {
        let tables = moduli
            .iter()
            .map(|&q| NttTable::new(q, log_n))
            .collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Inner {
            degree: 1 << log_n,
            basis: Basis::new(moduli)?,
            tables,
        })))
    }

    /// `N`.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.0.degree
    }

    /// The primes.
    #[must_use]
    pub fn moduli(&self) -> &[Modulus] {
        self.0.basis.moduli()
    }

    /// The primes with the constants of their conversions.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.0.basis
    }

    /// The transforms, one per prime.
    #[must_use]
    pub fn tables(&self) -> &[NttTable] {
        &self.0.tables
    }

    fn check_level(&self, op: &'static str, level: usize) -> Result<(), Error> {
        let max = self.0.basis.max_level();
        if level > max {
            Err(Error::NoSuchLevel {
                op,
                got: level,
                max,
            })
        } else {
            Ok(())
        }
    }
}

/// A polynomial with one row of residues per prime of its level.
#[derive(Clone)]
pub struct Poly<Form> {
    ring: Ring,
    data: Aligned,
    form: PhantomData<Form>,
}

impl<Form> Zeroize for Poly<Form> {
    fn zeroize(&mut self) {
        self.data.zeroize();
    }
}

impl<Form> PartialEq for Poly<Form> {
    fn eq(&self, other: &Self) -> bool {
        self.ring == other.ring && self.data == other.data
    }
}

impl<Form> std::fmt::Debug for Poly<Form> {
    /// Sizes only: a polynomial may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poly")
            .field("degree", &self.ring.degree())
            .field("rows", &(self.data.len() / self.ring.degree()))
            .finish_non_exhaustive()
    }
}

impl<Form> Poly<Form> {
    /// The zero polynomial at `level`.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn zero(ring: &Ring, level: usize) -> Result<Self, Error> {
        ring.check_level("zero polynomial", level)?;
        Ok(Self::zero_unchecked(ring, level))
    }

    pub(crate) fn zero_unchecked(ring: &Ring, level: usize) -> Self {
        let data = Aligned::zeros(ring.degree() * (level + 1));
        Self {
            ring: ring.clone(),
            data,
            form: PhantomData,
        }
    }

    /// The ring.
    #[must_use]
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Index of the last prime.
    #[must_use]
    pub fn level(&self) -> usize {
        (self.data.len() / self.ring.degree()).saturating_sub(1)
    }

    /// The residues modulo prime `i`.
    ///
    /// # Panics
    /// If `i` is above the level.
    #[must_use]
    pub fn row(&self, i: usize) -> &[u64] {
        let n = self.ring.degree();
        &self.data[i * n..(i + 1) * n]
    }

    pub(crate) fn row_mut(&mut self, i: usize) -> &mut [u64] {
        let n = self.ring.degree();
        &mut self.data[i * n..(i + 1) * n]
    }

    /// Becomes zero.
    pub(crate) fn clear(&mut self) {
        self.data.fill(0);
    }

    /// The words of another polynomial of the same shape.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.data.copy_from_slice(&other.data);
    }

    /// All rows, back to back.
    pub(crate) fn words(&self) -> &[u64] {
        &self.data
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Modulus, &[u64])> {
        self.ring
            .moduli()
            .iter()
            .zip(self.data.chunks_exact(self.ring.degree()))
    }

    fn check(&self, op: &'static str, other: &Self) -> Result<(), Error> {
        if self.ring != other.ring {
            return Err(Error::ForeignParameters { op });
        }
        if self.data.len() != other.data.len() {
            return Err(Error::LevelMismatch {
                op,
                left: self.level(),
                right: other.level(),
            });
        }
        Ok(())
    }

    fn rows_with<'a>(
        &'a mut self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a Modulus, &'a mut [u64], &'a [u64])> {
        let n = self.ring.degree();
        let moduli = self.ring.moduli().iter();
        let rows = self
            .data
            .chunks_exact_mut(n)
            .zip(other.data.chunks_exact(n));
        moduli.zip(rows).map(|(q, (a, b))| (q, a, b))
    }

    /// `self += other`.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`].
    pub fn add_assign(&mut self, other: &Self) -> Result<(), Error> {
        self.check("polynomial sum", other)?;
        self.rows_with(other)
            .for_each(|(q, a, b)| simd::add_assign(q, a, b));
        Ok(())
    }

    /// `self -= other`.
    ///
    /// # Errors
    /// As [`Self::add_assign`].
    pub fn sub_assign(&mut self, other: &Self) -> Result<(), Error> {
        self.check("polynomial difference", other)?;
        self.rows_with(other)
            .for_each(|(q, a, b)| simd::sub_assign(q, a, b));
        Ok(())
    }

    /// `self = -self`.
    pub fn neg_assign(&mut self) {
        let n = self.ring.degree();
        for (q, row) in self.ring.moduli().iter().zip(self.data.chunks_exact_mut(n)) {
            simd::neg_assign(q, row);
        }
    }

    /// `self = factor self` for a public integer.
    pub fn scale_assign(&mut self, factor: i64) {
        let n = self.ring.degree();
        for (q, row) in self.ring.moduli().iter().zip(self.data.chunks_exact_mut(n)) {
            simd::scale_assign(q, row, q.shoup(q.reduce_i64(factor)));
        }
    }

    /// Forgets the rows above `level`: the same polynomial modulo fewer primes.
    pub(crate) fn truncate(&mut self, level: usize) {
        self.data.truncate((level + 1) * self.ring.degree());
    }

    fn transmute<Other>(self) -> Poly<Other> {
        Poly {
            ring: self.ring,
            data: self.data,
            form: PhantomData,
        }
    }
}

impl Poly<Coeff> {
    /// The polynomial with these signed coefficients, the rest zero.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::NoSuchLevel`].
    pub fn from_signed(ring: &Ring, level: usize, values: &[i64]) -> Result<Self, Error> {
        let (got, limit) = (values.len(), ring.degree());
        if got > limit {
            return Err(Error::TooManyValues {
                op: "polynomial from integers",
                got,
                limit,
            });
        }
        let mut out = Self::zero(ring, level)?;
        for (i, q) in ring.moduli()[..=level].iter().enumerate() {
            simd::add_signed_assign(q, &mut out.row_mut(i)[..got], values);
        }
        Ok(out)
    }

    /// To evaluation form; one transform per row, in place.
    #[must_use]
    pub fn into_eval(mut self) -> Poly<Eval> {
        let n = self.ring.degree();
        for (table, row) in self.ring.0.tables.iter().zip(self.data.chunks_exact_mut(n)) {
            table.forward(row);
        }
        self.transmute()
    }

    /// Divides by the last prime, rounding each coefficient to nearest, and drops its row.
    ///
    /// # Errors
    /// [`Error::DepthExhausted`] at level 0.
    pub fn divide_coefficients_by_last(mut self) -> Result<Self, Error> {
        self.divide(|_, _| (), |_, _| ())?;
        Ok(self)
    }
}

impl Poly<Eval> {
    /// To coefficient form; one transform per row, in place.
    #[must_use]
    pub fn into_coeff(mut self) -> Poly<Coeff> {
        let n = self.ring.degree();
        for (table, row) in self.ring.0.tables.iter().zip(self.data.chunks_exact_mut(n)) {
            table.inverse(row);
        }
        self.transmute()
    }

    /// `self * other`.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`].
    pub fn mul(&self, other: &Self) -> Result<Self, Error> {
        let mut out = self.clone();
        out.mul_assign(other)?;
        Ok(out)
    }

    /// `self *= other`.
    ///
    /// # Errors
    /// As [`Self::mul`].
    pub fn mul_assign(&mut self, other: &Self) -> Result<(), Error> {
        self.check("polynomial product", other)?;
        self.rows_with(other)
            .for_each(|(q, a, b)| simd::mul_assign(q, a, b));
        Ok(())
    }

    /// `self += a b`; `b` may have more rows than needed. Does not allocate.
    ///
    /// # Errors
    /// As [`Self::mul`].
    pub fn add_mul(&mut self, a: &Self, b: &Self) -> Result<(), Error> {
        let op = "polynomial sum of products";
        self.check(op, a)?;
        if self.ring != b.ring {
            return Err(Error::ForeignParameters { op });
        }
        if b.data.len() < self.data.len() {
            return Err(Error::LevelMismatch {
                op,
                left: self.level(),
                right: b.level(),
            });
        }
        let n = self.ring.degree();
        let factors = b.data.chunks_exact(n);
        self.rows_with(a)
            .zip(factors)
            .for_each(|((q, x, y), z)| simd::mul_add_assign(q, x, y, z));
        Ok(())
    }

    /// `self += sum_t a_t b_t`, with one reduction per row and many terms; factors may have more
    /// rows than needed.
    ///
    /// # Errors
    /// As [`Self::mul`].
    pub fn add_dot(&mut self, terms: &[(&Self, &Self)]) -> Result<(), Error> {
        let op = "polynomial dot product";
        for factor in terms.iter().flat_map(|&(a, b)| [a, b]) {
            if self.ring != factor.ring {
                return Err(Error::ForeignParameters { op });
            }
            if factor.data.len() < self.data.len() {
                return Err(Error::LevelMismatch {
                    op,
                    left: self.level(),
                    right: factor.level(),
                });
            }
        }
        let ring = self.ring.clone();
        let mut rows = Vec::with_capacity(terms.len());
        for (i, q) in ring.moduli()[..=self.level()].iter().enumerate() {
            rows.clear();
            rows.extend(terms.iter().map(|(a, b)| (a.row(i), b.row(i))));
            simd::dot_add_assign(q, self.row_mut(i), &rows);
        }
        Ok(())
    }

    /// Divides by the last prime, rounding each coefficient to nearest, and drops its row.
    ///
    /// Cost: one inverse transform, and one forward transform per row that stays.
    ///
    /// # Errors
    /// [`Error::DepthExhausted`] at level 0.
    pub fn divide_by_last(mut self) -> Result<Self, Error> {
        self.divide(
            |table, row| table.inverse(row),
            |table, row| table.forward(row),
        )?;
        Ok(self)
    }
}

impl<F> Poly<F> {
    /// Divides every row by the last one, which `to_coeff` brings to coefficient form; what is
    /// subtracted from a row goes through `from_coeff` first.
    fn divide(
        &mut self,
        to_coeff: impl Fn(&NttTable, &mut [u64]),
        from_coeff: impl Fn(&NttTable, &mut [u64]),
    ) -> Result<(), Error> {
        let (level, n) = (self.level(), self.ring.degree());
        if level == 0 {
            return Err(Error::DepthExhausted {
                op: "drop prime",
                level,
                needed: 1,
            });
        }
        let (kept, last) = self.data.split_at_mut(level * n);
        let (basis, tables) = (&self.ring.0.basis, &self.ring.0.tables);
        to_coeff(&tables[level], last);
        let mut remainder = vec![0; n];
        for (i, row) in kept.chunks_exact_mut(n).enumerate() {
            basis.centred_remainder(level, i, &mut remainder, last);
            from_coeff(&tables[i], &mut remainder);
            basis.divide_row(level, i, row, &remainder);
        }
        self.truncate(level - 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
