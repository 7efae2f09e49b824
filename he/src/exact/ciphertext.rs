//! Ciphertexts at the server: sums and products.

use super::{Encoding, IntegerPoly, SelectedCiphertext, Truncation};
use crate::error::Error;
use crate::ring::{Coeff, Eval, Poly};
use crate::rlwe::Parameters;

/// A ciphertext of degree 1 or 2 in the secret, in evaluation form.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    pub(super) parameters: Parameters,
    pub(super) encoding: Encoding,
    pub(super) c0: Poly<Eval>,
    pub(super) c1: Poly<Eval>,
    pub(super) c2: Option<Poly<Eval>>,
}

impl Ciphertext {
    pub(super) const fn from_parts(
        parameters: Parameters,
        encoding: Encoding,
        c0: Poly<Eval>,
        c1: Poly<Eval>,
    ) -> Self {
        Self {
            parameters,
            encoding,
            c0,
            c1,
            c2: None,
        }
    }

    /// The transparent zero: an accumulator. It hides nothing.
    ///
    /// # Panics
    /// If `level` is above the parameters' highest or `degree` is neither 1 nor 2.
    #[must_use]
    pub fn zero(parameters: &Parameters, level: usize, degree: usize, encoding: Encoding) -> Self {
        assert!(
            level <= parameters.max_level(),
            "level {level} does not exist"
        );
        assert!(
            matches!(degree, 1 | 2),
            "a ciphertext has degree 1 or 2, not {degree}"
        );
        let zero = || Poly::zero_unchecked(parameters.ring(), level);
        let c2 = (degree == 2).then(zero);
        Self {
            parameters: parameters.clone(),
            encoding,
            c0: zero(),
            c1: zero(),
            c2,
        }
    }

    /// Degree in the secret: 1, or 2 after a product.
    #[must_use]
    pub const fn degree(&self) -> usize {
        if self.c2.is_some() { 2 } else { 1 }
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> usize {
        self.c0.level()
    }

    /// How the integers are carried.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The parameters.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn check_same(&self, op: &'static str, other: &Self) -> Result<(), Error> {
        if self.parameters != other.parameters {
            return Err(Error::ForeignParameters { op });
        }
        if self.level() != other.level() {
            return Err(Error::LevelMismatch {
                op,
                left: self.level(),
                right: other.level(),
            });
        }
        Ok(())
    }

    fn check_encoding(&self, op: &'static str, right: Encoding) -> Result<(), Error> {
        if self.encoding == right {
            return Ok(());
        }
        Err(Error::EncodingMismatch {
            op,
            left: self.encoding,
            right,
        })
    }

    fn check_degree(&self, op: &'static str, right: usize) -> Result<(), Error> {
        if right <= self.degree() {
            return Ok(());
        }
        Err(Error::DegreeMismatch {
            op,
            left: self.degree(),
            right,
        })
    }

    fn check_plain(&self, op: &'static str, w: &IntegerPoly) -> Result<Encoding, Error> {
        if self.parameters != w.parameters {
            return Err(Error::ForeignParameters { op });
        }
        if w.level() < self.level() {
            return Err(Error::LevelMismatch {
                op,
                left: self.level(),
                right: w.level(),
            });
        }
        self.encoding.times_factor(op, w.factor)
    }

    /// `self += other`. A term of degree 1 may be added to a sum of degree 2, not the other way.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::EncodingMismatch`],
    /// [`Error::DegreeMismatch`].
    pub fn add_assign(&mut self, other: &Self) -> Result<(), Error> {
        let op = "ciphertext sum";
        self.check_same(op, other)?;
        self.check_encoding(op, other.encoding)?;
        self.check_degree(op, other.degree())?;
        self.c0.add_assign(&other.c0)?;
        self.c1.add_assign(&other.c1)?;
        if let (Some(left), Some(right)) = (&mut self.c2, &other.c2) {
            left.add_assign(right)?;
        }
        Ok(())
    }

    /// `w self`; the integers are multiplied as polynomials, the scale by the factor of `w`.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`] where `w` has fewer primes,
    /// [`Error::UnsupportedEncoding`] for a factor on `Modular`, [`Error::ScaleOverflow`].
    pub fn mul_plain(&self, w: &IntegerPoly) -> Result<Self, Error> {
        let encoding = self.check_plain("plain product", w)?;
        let mut out = Self::zero(&self.parameters, self.level(), self.degree(), encoding);
        out.accumulate_plain(self, w)?;
        Ok(out)
    }

    /// `self += w a`. Does not allocate.
    ///
    /// # Errors
    /// As [`Self::mul_plain`] and [`Self::add_assign`].
    pub fn add_mul_plain(&mut self, a: &Self, w: &IntegerPoly) -> Result<(), Error> {
        let op = "sum of plain products";
        self.check_same(op, a)?;
        self.check_encoding(op, a.check_plain(op, w)?)?;
        self.check_degree(op, a.degree())?;
        self.accumulate_plain(a, w)
    }

    fn accumulate_plain(&mut self, a: &Self, w: &IntegerPoly) -> Result<(), Error> {
        self.c0.add_mul(&a.c0, &w.poly)?;
        self.c1.add_mul(&a.c1, &w.poly)?;
        if let (Some(left), Some(right)) = (&mut self.c2, &a.c2) {
            left.add_mul(right, &w.poly)?;
        }
        Ok(())
    }

    /// `self other`, of degree 2: `(a0 b0, a0 b1 + a1 b0, a1 b1)`. The scales multiply.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::DegreeMismatch`] unless
    /// both have degree 1, [`Error::UnsupportedEncoding`] unless both are `Scaled`,
    /// [`Error::ScaleOverflow`].
    pub fn mul(&self, other: &Self) -> Result<Self, Error> {
        let encoding = self.encoding.times("product", other.encoding)?;
        let mut out = Self::zero(&self.parameters, self.level(), 2, encoding);
        out.add_mul(self, other)?;
        Ok(out)
    }

    /// `self += a b`; `self` has degree 2. Does not allocate.
    ///
    /// # Errors
    /// As [`Self::mul`] and [`Self::add_assign`].
    pub fn add_mul(&mut self, a: &Self, b: &Self) -> Result<(), Error> {
        let op = "sum of products";
        a.check_same(op, b)?;
        self.check_same(op, a)?;
        self.check_encoding(op, a.encoding.times(op, b.encoding)?)?;
        let (left, right) = (a.degree(), b.degree());
        let Some(c2) = self.c2.as_mut().filter(|_| left == 1 && right == 1) else {
            return Err(Error::DegreeMismatch { op, left, right });
        };
        self.c0.add_mul(&a.c0, &b.c0)?;
        self.c1.add_mul(&a.c0, &b.c1)?;
        self.c1.add_mul(&a.c1, &b.c0)?;
        c2.add_mul(&a.c1, &b.c1)
    }

    /// `self += sum_t a_t b_t`: the same as [`Self::add_mul`] term by term, several times faster,
    /// since the products are reduced once at the end. Allocates only lists of references.
    ///
    /// # Errors
    /// As [`Self::add_mul`]; `self` is unchanged then.
    pub fn add_dot(&mut self, terms: &[(&Self, &Self)]) -> Result<(), Error> {
        let op = "dot product";
        for (a, b) in terms {
            a.check_same(op, b)?;
            self.check_same(op, a)?;
            self.check_encoding(op, a.encoding.times(op, b.encoding)?)?;
            let (left, right) = (a.degree(), b.degree());
            if (self.degree(), left, right) != (2, 1, 1) {
                return Err(Error::DegreeMismatch { op, left, right });
            }
        }
        let list = |f: fn(&Self) -> &Poly<Eval>, g: fn(&Self) -> &Poly<Eval>| {
            terms.iter().map(move |&(a, b)| (f(a), g(b)))
        };
        self.c0
            .add_dot(&list(|c| &c.c0, |c| &c.c0).collect::<Vec<_>>())?;
        let cross = list(|c| &c.c0, |c| &c.c1).chain(list(|c| &c.c1, |c| &c.c0));
        self.c1.add_dot(&cross.collect::<Vec<_>>())?;
        match &mut self.c2 {
            Some(c2) => c2.add_dot(&list(|c| &c.c1, |c| &c.c1).collect::<Vec<_>>()),
            None => Ok(()),
        }
    }

    /// `self += sum_t w_t a_t`: the same as [`Self::add_mul_plain`] term by term, several times
    /// faster. Terms have degree 1.
    ///
    /// # Errors
    /// As [`Self::add_mul_plain`], and [`Error::DegreeMismatch`] for terms of degree 2; `self` is
    /// unchanged then.
    pub fn add_dot_plain(&mut self, terms: &[(&Self, &IntegerPoly)]) -> Result<(), Error> {
        let op = "plain dot product";
        for (a, w) in terms {
            self.check_same(op, a)?;
            self.check_encoding(op, a.check_plain(op, w)?)?;
            if a.degree() != 1 {
                return Err(Error::DegreeMismatch {
                    op,
                    left: self.degree(),
                    right: a.degree(),
                });
            }
        }
        let list = |f: fn(&Self) -> &Poly<Eval>| {
            terms
                .iter()
                .map(|&(a, w)| (f(a), &w.poly))
                .collect::<Vec<_>>()
        };
        self.c0.add_dot(&list(|c| &c.c0))?;
        self.c1.add_dot(&list(|c| &c.c1))
    }

    /// Divides by the last prime of the level with rounding, and goes one level down.
    ///
    /// `Scaled` multiplies its denominator by the prime, `Modular` is unchanged. Cost: per
    /// polynomial one inverse transform and one forward transform per remaining prime.
    ///
    /// # Errors
    /// [`Error::DepthExhausted`] at level 0, [`Error::ScaleOverflow`].
    pub fn drop_prime(self) -> Result<Self, Error> {
        let (op, level) = ("drop prime", self.level());
        if level == 0 {
            return Err(Error::DepthExhausted {
                op,
                level,
                needed: 1,
            });
        }
        let encoding = self
            .encoding
            .over(op, self.parameters.moduli()[level].value())?;
        Ok(Self {
            encoding,
            c0: self.c0.divide_by_last()?,
            c1: self.c1.divide_by_last()?,
            c2: self.c2.map(Poly::divide_by_last).transpose()?,
            parameters: self.parameters,
        })
    }

    /// Keeps only these coefficients of `c0`, in this order, and `c1`, `c2` whole: all that is
    /// needed to decrypt them.
    ///
    /// # Errors
    /// [`Error::PositionOutOfRange`], [`Error::DuplicatePosition`].
    pub fn select(self, positions: &[usize]) -> Result<SelectedCiphertext, Error> {
        self.cut_and_select(positions, Truncation::NONE)
    }

    /// [`Self::select`], leaving out the low bits that the receiver does not need.
    ///
    /// # Errors
    /// As [`Self::select`], and [`Error::Truncation`] above level 0 or where the prime has no such
    /// bits.
    pub fn cut_and_select(
        self,
        positions: &[usize],
        truncation: Truncation,
    ) -> Result<SelectedCiphertext, Error> {
        let (parameters, encoding) = (self.parameters, self.encoding);
        let masks = std::iter::once(self.c1).chain(self.c2);
        let masks = masks.map(Poly::into_coeff).collect();
        let parts = Parts {
            parameters,
            encoding,
            c0: self.c0.into_coeff(),
            masks,
        };
        parts.select("select", positions, truncation)
    }

    /// [`Self::drop_prime`] and [`Self::select`] in one, leaving out the low bits that the
    /// receiver does not need; it never returns to evaluation form, so it costs one inverse
    /// transform per prime and polynomial.
    ///
    /// # Errors
    /// As those two, and [`Error::Truncation`] where more than one prime is left or the prime has
    /// no such bits.
    pub fn drop_and_select(
        self,
        positions: &[usize],
        truncation: Truncation,
    ) -> Result<SelectedCiphertext, Error> {
        let (op, level) = ("drop prime and select", self.level());
        let needed = 1;
        if level == 0 {
            return Err(Error::DepthExhausted { op, level, needed });
        }
        let last = self.parameters.moduli()[level].value();
        let encoding = self.encoding.over(op, last)?;
        let masks = std::iter::once(self.c1).chain(self.c2);
        let dropped = |poly: Poly<Eval>| poly.into_coeff().divide_coefficients_by_last();
        let parts = Parts {
            encoding,
            c0: dropped(self.c0)?,
            masks: masks.map(dropped).collect::<Result<_, _>>()?,
            parameters: self.parameters,
        };
        parts.select(op, positions, truncation)
    }
}

/// A ciphertext in coefficient form.
struct Parts {
    parameters: Parameters,
    encoding: Encoding,
    c0: Poly<Coeff>,
    masks: Vec<Poly<Coeff>>,
}

impl Parts {
    fn select(
        self,
        op: &'static str,
        positions: &[usize],
        truncation: Truncation,
    ) -> Result<SelectedCiphertext, Error> {
        let (degree, level) = (self.parameters.degree(), self.c0.level());
        if !truncation.fits(&self.parameters, level) {
            let Truncation { c0, masks } = truncation;
            return Err(Error::Truncation {
                op,
                level,
                c0,
                masks,
            });
        }
        let mut seen = vec![false; degree];
        let mut kept = Vec::with_capacity(positions.len());
        for &position in positions {
            let Some(seen) = seen.get_mut(position) else {
                return Err(Error::PositionOutOfRange {
                    op,
                    position,
                    degree,
                });
            };
            if std::mem::replace(seen, true) {
                return Err(Error::DuplicatePosition { op, position });
            }
            kept.push(position as u32);
        }
        let mut c0 = Vec::with_capacity(kept.len() * (level + 1));
        for (_, row) in self.c0.rows() {
            c0.extend(kept.iter().map(|&k| row[k as usize] >> truncation.c0));
        }
        let cut = |poly: Poly<Coeff>| -> Vec<u64> {
            let mut rows = Vec::with_capacity(degree * (level + 1));
            for (_, row) in poly.rows() {
                rows.extend(row.iter().map(|&x| x >> truncation.masks));
            }
            rows
        };
        Ok(SelectedCiphertext {
            encoding: self.encoding,
            level,
            truncation,
            positions: kept,
            c0,
            masks: self.masks.into_iter().map(cut).collect(),
            parameters: self.parameters,
        })
    }
}
