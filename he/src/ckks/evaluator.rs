//! Slot arithmetic at the server.

use super::{Ciphertext, Form, Level, Plaintext, Scale};
use crate::error::Error;
use crate::ring::Poly;
use crate::rlwe::Parameters;

/// Computes on ciphertexts of one parameter set; needs no key.
#[derive(Debug, Clone)]
pub struct Evaluator {
    parameters: Parameters,
}

impl Evaluator {
    /// The evaluator of these parameters.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        Self {
            parameters: parameters.clone(),
        }
    }

    fn check_home(&self, op: &'static str, parameters: &Parameters) -> Result<(), Error> {
        if self.parameters == *parameters {
            Ok(())
        } else {
            Err(Error::ForeignParameters { op })
        }
    }

    fn check_level(op: &'static str, left: Level, right: Level) -> Result<(), Error> {
        let (left, right) = (left.0, right.0);
        if left == right {
            Ok(())
        } else {
            Err(Error::LevelMismatch { op, left, right })
        }
    }

    fn check_scale(op: &'static str, left: Scale, right: Scale) -> Result<(), Error> {
        if left.matches(right) {
            return Ok(());
        }
        Err(Error::ScaleMismatch {
            op,
            left: left.value(),
            right: right.value(),
        })
    }

    fn check_form(op: &'static str, left: Form, right: Form) -> Result<(), Error> {
        if left == right {
            return Ok(());
        }
        Err(Error::FormMismatch {
            op,
            left: left.flags(),
            right: right.flags(),
        })
    }

    fn check_pair(&self, op: &'static str, a: &Ciphertext, b: &Ciphertext) -> Result<(), Error> {
        self.check_home(op, &a.parameters)?;
        self.check_home(op, &b.parameters)?;
        Self::check_level(op, a.level(), b.level())
    }

    fn check_plain(&self, op: &'static str, a: &Ciphertext, b: &Plaintext) -> Result<(), Error> {
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
        out.polys
            .iter_mut()
            .try_for_each(|x| x.mul_assign(&b.poly))?;
        Ok(Ciphertext { form, scale, ..out })
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

    /// `a b`, slot by slot: (0, 0) and (0, 0) to (1, 1), the scales multiply. Not relinearised.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::FormMismatch`] unless both
    /// are (0, 0), [`Error::InvalidScale`].
    pub fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, Error> {
        let op = "mul";
        self.check_pair(op, a, b)?;
        if a.form != Form::FRESH || b.form != Form::FRESH {
            return Err(Error::FormMismatch {
                op,
                left: a.form.flags(),
                right: b.form.flags(),
            });
        }
        let scale = a.scale.times(op, b.scale.value())?;
        let mut cross = a.polys[0].mul(&b.polys[1])?;
        cross.add_mul(&a.polys[1], &b.polys[0])?;
        let polys = vec![
            a.polys[0].mul(&b.polys[0])?,
            cross,
            a.polys[1].mul(&b.polys[1])?,
        ];
        let form = Form {
            rescale_pending: true,
            quadratic: true,
        };
        Ok(Ciphertext {
            parameters: a.parameters.clone(),
            scale,
            form,
            polys,
        })
    }

    /// Divides by the last prime with rounding: (1, L) to (0, L), one level down, the scale divided
    /// by the prime.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::DepthExhausted`] at level 0,
    /// [`Error::FormMismatch`] where no rescale is pending, [`Error::InvalidScale`].
    pub fn rescale(&self, a: Ciphertext) -> Result<Ciphertext, Error> {
        let op = "rescale";
        self.check_home(op, &a.parameters)?;
        Self::check_form(
            op,
            a.form,
            Form {
                rescale_pending: true,
                ..a.form
            },
        )?;
        let level = self.check_depth(op, &a)?;
        let scale = a
            .scale
            .times(op, 1.0 / self.parameters.moduli()[level].value() as f64)?;
        let form = Form {
            rescale_pending: false,
            ..a.form
        };
        let polys = a
            .polys
            .into_iter()
            .map(Poly::divide_by_last)
            .collect::<Result<_, _>>()?;
        Ok(Ciphertext {
            parameters: a.parameters,
            scale,
            form,
            polys,
        })
    }

    /// Forgets the last prime: one level down, the same slots, scale and flags.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::DepthExhausted`] at level 0.
    pub fn mod_drop(&self, mut a: Ciphertext) -> Result<Ciphertext, Error> {
        let op = "mod_drop";
        self.check_home(op, &a.parameters)?;
        let level = self.check_depth(op, &a)?;
        a.polys.iter_mut().for_each(|poly| poly.truncate(level - 1));
        Ok(a)
    }

    fn check_depth(&self, op: &'static str, a: &Ciphertext) -> Result<usize, Error> {
        match a.level().0 {
            0 => Err(Error::DepthExhausted {
                op,
                level: 0,
                needed: 1,
            }),
            level => Ok(level),
        }
    }
}
