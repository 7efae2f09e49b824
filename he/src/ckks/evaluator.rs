//! Slot arithmetic at the server.
//!
//! Sums, differences and products here, levels in `level`, what needs a key in `switch`. Operations
//! ending in `_into` write to a ciphertext that they reshape where needed, and allocate nothing
//! where it has the right shape; those ending in `_assign` never allocate.

mod level;
mod switch;

pub use switch::HoistedCiphertext;

use super::{Ciphertext, Complex64, Form, Level, Plaintext, Scale};
use crate::error::Error;
use crate::ring::Poly;
use crate::rlwe::Parameters;
use crate::simd::Kernels;

/// Computes on ciphertexts of one parameter set; needs no key.
#[derive(Debug, Clone)]
pub struct Evaluator {
    pub(crate) parameters: Parameters,
}

impl Evaluator {
    /// The evaluator of these parameters.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        Self {
            parameters: parameters.clone(),
        }
    }

    /// A ciphertext of this shape to write into.
    #[must_use]
    pub fn empty(&self, level: Level, degree: usize) -> Ciphertext {
        let level = Level(level.0.min(self.parameters.max_level()));
        Ciphertext::empty(&self.parameters, level, degree)
    }

    /// Gives `out` this shape; its words are undefined then. Allocates only where it differs.
    pub(crate) fn shape(&self, out: &mut Ciphertext, level: Level, degree: usize) {
        if out.parameters != self.parameters || out.level() != level || out.degree() != degree {
            *out = self.empty(level, degree);
        }
    }

    pub(crate) fn check_home(
        &self,
        op: &'static str,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        if self.parameters == *parameters {
            Ok(())
        } else {
            Err(Error::ForeignParameters { op })
        }
    }

    pub(crate) fn check_level(op: &'static str, left: Level, right: Level) -> Result<(), Error> {
        let (left, right) = (left.0, right.0);
        if left == right {
            Ok(())
        } else {
            Err(Error::LevelMismatch { op, left, right })
        }
    }

    pub(crate) fn check_scale(op: &'static str, left: Scale, right: Scale) -> Result<(), Error> {
        if left.matches(right) {
            return Ok(());
        }
        Err(Error::ScaleMismatch {
            op,
            left: left.value(),
            right: right.value(),
        })
    }

    pub(crate) fn check_form(op: &'static str, left: Form, right: Form) -> Result<(), Error> {
        if left == right {
            return Ok(());
        }
        Err(Error::FormMismatch {
            op,
            left: left.flags(),
            right: right.flags(),
        })
    }

    pub(crate) fn check_pair(
        &self,
        op: &'static str,
        a: &Ciphertext,
        b: &Ciphertext,
    ) -> Result<(), Error> {
        self.check_home(op, &a.parameters)?;
        self.check_home(op, &b.parameters)?;
        Self::check_level(op, a.level(), b.level())
    }

    pub(crate) fn check_plain(
        &self,
        op: &'static str,
        a: &Ciphertext,
        b: &Plaintext,
    ) -> Result<(), Error> {
        self.check_home(op, &a.parameters)?;
        self.check_home(op, &b.parameters)?;
        Self::check_level(op, a.level(), b.level())
    }

    /// `a += b`; flags, levels and scales must be equal.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::FormMismatch`],
    /// [`Error::ScaleMismatch`].
    pub fn add_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<(), Error> {
        let op = "add";
        self.check_pair(op, a, b)?;
        Self::check_form(op, a.form, b.form)?;
        Self::check_scale(op, a.scale, b.scale)?;
        a.slots = a.slots.max(b.slots);
        a.polys
            .iter_mut()
            .zip(&b.polys)
            .try_for_each(|(x, y)| x.add_assign(y))
    }

    /// `a + b`.
    ///
    /// # Errors
    /// As [`Self::add_assign`].
    pub fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, Error> {
        let mut out = a.clone();
        self.add_assign(&mut out, b)?;
        Ok(out)
    }

    /// `a + b` into `out`.
    ///
    /// # Errors
    /// As [`Self::add_assign`].
    pub fn add_into(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        b: &Ciphertext,
    ) -> Result<(), Error> {
        let op = "add";
        self.check_pair(op, a, b)?;
        Self::check_form(op, a.form, b.form)?;
        Self::check_scale(op, a.scale, b.scale)?;
        self.shape(out, a.level(), a.degree());
        (out.scale, out.form, out.slots) = (a.scale, a.form, a.slots.max(b.slots));
        let kernels = Kernels::active();
        for ((out, x), y) in out.polys.iter_mut().zip(&a.polys).zip(&b.polys) {
            for (i, q) in self.parameters.moduli()[..=a.level().0].iter().enumerate() {
                kernels.add(q, out.row_mut(i), x.row(i), y.row(i));
            }
        }
        Ok(())
    }

    /// `a - b`.
    ///
    /// # Errors
    /// As [`Self::add_assign`].
    pub fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, Error> {
        let op = "sub";
        self.check_pair(op, a, b)?;
        Self::check_form(op, a.form, b.form)?;
        Self::check_scale(op, a.scale, b.scale)?;
        let mut out = a.clone();
        out.slots = a.slots.max(b.slots);
        out.polys
            .iter_mut()
            .zip(&b.polys)
            .try_for_each(|(x, y)| x.sub_assign(y))?;
        Ok(out)
    }

    /// `-a`.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn neg(&self, a: &Ciphertext) -> Result<Ciphertext, Error> {
        self.check_home("neg", &a.parameters)?;
        let mut out = a.clone();
        out.polys.iter_mut().for_each(Poly::neg_assign);
        Ok(out)
    }

    /// `a + b` for a plaintext of the same level and scale.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::ScaleMismatch`].
    pub fn add_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext, Error> {
        let op = "add_plain";
        self.check_plain(op, a, b)?;
        Self::check_scale(op, a.scale, b.scale)?;
        let mut out = a.clone();
        out.slots = a.slots.max(b.slots);
        out.polys[0].add_assign(&b.poly)?;
        Ok(out)
    }

    /// Flags of a product: no factor may have a rescale pending.
    fn product_form(op: &'static str, form: Form) -> Result<Form, Error> {
        let ready = Form {
            rescale_pending: false,
            ..form
        };
        Self::check_form(op, form, ready)?;
        Ok(Form {
            rescale_pending: true,
            ..form
        })
    }

    /// `a b`, slot by slot: (0, L) to (1, L), the scales multiply.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::FormMismatch`] where a
    /// rescale is pending, [`Error::InvalidScale`].
    pub fn mul_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext, Error> {
        let op = "mul_plain";
        self.check_plain(op, a, b)?;
        let form = Self::product_form(op, a.form)?;
        let scale = a.scale.times(op, b.scale.value())?;
        let mut out = a.clone();
        out.slots = a.slots.max(b.slots);
        out.polys
            .iter_mut()
            .try_for_each(|x| x.mul_assign(&b.poly))?;
        Ok(Ciphertext { form, scale, ..out })
    }

    /// As [`Self::mul_plain`], into `out`.
    ///
    /// # Errors
    /// As [`Self::mul_plain`].
    pub fn mul_plain_into(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        b: &Plaintext,
    ) -> Result<(), Error> {
        let op = "mul_plain";
        self.check_plain(op, a, b)?;
        let form = Self::product_form(op, a.form)?;
        let scale = a.scale.times(op, b.scale.value())?;
        self.shape(out, a.level(), a.degree());
        (out.scale, out.form, out.slots) = (scale, form, a.slots.max(b.slots));
        let kernels = Kernels::active();
        for (i, q) in self.parameters.moduli()[..=a.level().0].iter().enumerate() {
            for (out, x) in out.polys.iter_mut().zip(&a.polys) {
                kernels.mul(q, out.row_mut(i), x.row(i), b.poly.row(i));
            }
        }
        Ok(())
    }

    /// `x a` for one real number, carried as `round(x scale)`: (0, L) to (1, L).
    ///
    /// The product is exact but for that rounding, `1 / (2 scale)` of `a`. No transform.
    ///
    /// # Errors
    /// As [`Self::mul_plain`], and [`Error::NotFinite`], or [`Error::ValueTooLarge`] where
    /// `x scale` needs more than 62 bits.
    pub fn mul_scalar(&self, a: &Ciphertext, x: f64, scale: Scale) -> Result<Ciphertext, Error> {
        let op = "mul_scalar";
        self.check_home(op, &a.parameters)?;
        let form = Self::product_form(op, a.form)?;
        if !x.is_finite() {
            return Err(Error::NotFinite { op, index: 0 });
        }
        let rounded = (x * scale.value()).round();
        if rounded.abs() >= 2f64.powi(62) {
            return Err(Error::ValueTooLarge {
                op,
                index: 0,
                limit_bits: 62,
            });
        }
        let scale = a.scale.times(op, scale.value())?;
        let mut out = a.clone();
        out.polys
            .iter_mut()
            .for_each(|poly| poly.scale_assign(rounded as i64));
        Ok(Ciphertext { form, scale, ..out })
    }

    /// The scale of a product of two ciphertexts whose flags allow one.
    fn product_scale(op: &'static str, a: &Ciphertext, b: &Ciphertext) -> Result<Scale, Error> {
        if a.form != Form::FRESH || b.form != Form::FRESH {
            return Err(Error::FormMismatch {
                op,
                left: a.form.flags(),
                right: b.form.flags(),
            });
        }
        a.scale.times(op, b.scale.value())
    }

    /// `a b`, slot by slot: (0, 0) and (0, 0) to (1, 1), the scales multiply. Not relinearised.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::FormMismatch`] unless both
    /// are (0, 0), [`Error::InvalidScale`].
    pub fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, Error> {
        let mut out = self.empty(a.level(), 2);
        self.mul_into(&mut out, a, b)?;
        Ok(out)
    }

    /// As [`Self::mul`], into `out`.
    ///
    /// # Errors
    /// As [`Self::mul`].
    pub fn mul_into(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        b: &Ciphertext,
    ) -> Result<(), Error> {
        let op = "mul";
        self.check_pair(op, a, b)?;
        let scale = Self::product_scale(op, a, b)?;
        self.shape(out, a.level(), 2);
        let kernels = Kernels::active();
        for (i, q) in self.parameters.moduli()[..=a.level().0].iter().enumerate() {
            let (a0, a1) = (a.polys[0].row(i), a.polys[1].row(i));
            let (b0, b1) = (b.polys[0].row(i), b.polys[1].row(i));
            kernels.mul(q, out.polys[0].row_mut(i), a0, b0);
            kernels.mul(q, out.polys[1].row_mut(i), a0, b1);
            kernels.mul_add_assign(q, out.polys[1].row_mut(i), a1, b0);
            kernels.mul(q, out.polys[2].row_mut(i), a1, b1);
        }
        out.scale = scale;
        out.slots = a.slots.max(b.slots);
        out.form = Form {
            rescale_pending: true,
            quadratic: true,
        };
        Ok(())
    }

    /// `a^2`, as [`Self::mul`] of equal factors with one product less.
    ///
    /// # Errors
    /// As [`Self::mul`].
    pub fn square(&self, a: &Ciphertext) -> Result<Ciphertext, Error> {
        let op = "square";
        self.check_home(op, &a.parameters)?;
        let scale = Self::product_scale(op, a, a)?;
        let mut out = self.empty(a.level(), 2);
        let kernels = Kernels::active();
        for (i, q) in self.parameters.moduli()[..=a.level().0].iter().enumerate() {
            let (a0, a1) = (a.polys[0].row(i), a.polys[1].row(i));
            kernels.mul(q, out.polys[0].row_mut(i), a0, a0);
            kernels.mul(q, out.polys[1].row_mut(i), a0, a1);
            kernels.scale_assign(q, out.polys[1].row_mut(i), q.shoup(2));
            kernels.mul(q, out.polys[2].row_mut(i), a1, a1);
        }
        out.scale = scale;
        out.slots = a.slots;
        out.form = Form {
            rescale_pending: true,
            quadratic: true,
        };
        Ok(out)
    }

    /// `a + x` for one complex number, at the scale of `a`. No transform: a real constant is the
    /// same in every evaluation, and `Y^(N/2)` is `i` in every slot.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::NotFinite`], [`Error::ValueTooLarge`] where
    /// `x scale` needs more than 120 bits or half the modulus.
    pub fn add_scalar(&self, a: &Ciphertext, x: Complex64) -> Result<Ciphertext, Error> {
        let mut out = a.clone();
        self.add_scalar_assign(&mut out, x)?;
        Ok(out)
    }

    /// `a += x`, as [`Self::add_scalar`].
    ///
    /// # Errors
    /// As [`Self::add_scalar`].
    pub fn add_scalar_assign(&self, a: &mut Ciphertext, x: Complex64) -> Result<(), Error> {
        let op = "add_scalar";
        self.check_home(op, &a.parameters)?;
        if !x.is_finite() {
            return Err(Error::NotFinite { op, index: 0 });
        }
        let (level, n) = (a.level().0, self.parameters.degree());
        let bits = (self.parameters.log2_q(level) - 1.0).min(120.0);
        let [re, im] = [x.re, x.im].map(|x| (x * a.scale.value()).round());
        if re.abs().max(im.abs()) >= bits.exp2() {
            let limit_bits = bits as u32;
            return Err(Error::ValueTooLarge {
                op,
                index: 0,
                limit_bits,
            });
        }
        for i in 0..=level {
            let q = self.parameters.moduli()[i];
            let unit = self.unit(i);
            let (re, im) = (
                q.reduce_i128(re as i128),
                q.mul(unit, q.reduce_i128(im as i128)),
            );
            let (low, high) = a.polys[0].row_mut(i).split_at_mut(n / 2);
            let (plus, minus) = (q.add(re, im), q.sub(re, im));
            low.iter_mut().for_each(|x| *x = q.add(*x, plus));
            high.iter_mut().for_each(|x| *x = q.add(*x, minus));
        }
        Ok(())
    }

    /// `psi^(N/2)` modulo prime `i`: the value of `Y^(N/2)` in the first half of the evaluations,
    /// and minus its value in the second. A square root of -1.
    fn unit(&self, i: usize) -> u64 {
        let table = &self.parameters.ring().tables()[i];
        table
            .modulus()
            .pow(table.root(), self.parameters.degree() as u64 / 2)
    }

    /// `i a`: the polynomial times `Y^(N/2)`. Exact; level, scale and flags stay.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn mul_i(&self, a: &Ciphertext) -> Result<Ciphertext, Error> {
        self.check_home("mul_i", &a.parameters)?;
        let (mut out, n) = (a.clone(), self.parameters.degree());
        for i in 0..=a.level().0 {
            let (q, unit) = (self.parameters.moduli()[i], self.unit(i));
            for poly in &mut out.polys {
                let (low, high) = poly.row_mut(i).split_at_mut(n / 2);
                Kernels::active().scale_assign(&q, low, q.shoup(unit));
                Kernels::active().scale_assign(&q, high, q.shoup(q.neg(unit)));
            }
        }
        Ok(out)
    }
}
