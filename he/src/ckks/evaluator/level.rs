//! Rescaling and dropping primes.

use super::Evaluator;
use crate::ckks::{Ciphertext, Form, Level, Scale};
use crate::error::Error;
use crate::ring::Poly;
use crate::rlwe::Workspace;
use crate::simd::{self, Kernels};

impl Evaluator {
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
            slots: a.slots,
            polys,
        })
    }

    /// As [`Self::rescale`], into `out`, which must not be `a`. Allocates nothing where `out` has
    /// the right shape.
    ///
    /// # Errors
    /// As [`Self::rescale`].
    pub fn rescale_into(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let op = "rescale";
        self.check_home(op, &a.parameters)?;
        self.check_home(op, workspace.parameters())?;
        let form = Form {
            rescale_pending: false,
            ..a.form
        };
        let pending = Form {
            rescale_pending: true,
            ..a.form
        };
        Self::check_form(op, a.form, pending)?;
        let level = self.check_depth(op, a)?;
        let (ring, kernels) = (self.parameters.ring(), Kernels::active());
        let [last, remainder] = &mut workspace.switch.buffer;
        let from = &ring.moduli()[level];
        let scale = a.scale.times(op, 1.0 / from.value() as f64)?;
        self.shape(out, Level(level - 1), a.degree());
        (out.scale, out.form, out.slots) = (scale, form, a.slots);
        for (c, x) in out.polys.iter_mut().zip(&a.polys) {
            last.copy_from_slice(x.row(level));
            ring.tables()[level].inverse(last);
            for (i, q) in ring.moduli()[..level].iter().enumerate() {
                simd::centred_to(from, q, remainder, last);
                ring.tables()[i].forward_lazy_with(kernels, remainder);
                let inverse = ring.basis().inverse(level, i);
                kernels.sub_scale(q, c.row_mut(i), x.row(i), remainder, inverse);
            }
        }
        Ok(())
    }

    /// Forgets primes until `level` is reached: the same slots, scale and flags.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`] where `a` is below `level` already.
    pub fn drop_to(&self, mut a: Ciphertext, level: Level) -> Result<Ciphertext, Error> {
        let op = "drop_to";
        self.check_home(op, &a.parameters)?;
        let (left, right) = (a.level().0, level.0);
        if left < right {
            return Err(Error::LevelMismatch { op, left, right });
        }
        a.polys.iter_mut().for_each(|poly| poly.truncate(right));
        Ok(a)
    }

    /// `factor a` at a lower level and another scale, by one product and one rescale: what brings
    /// two operands together whose scales differ.
    ///
    /// The factor is rounded to a multiple of about the last scale over the prime, so that `scale`
    /// should not be much smaller than that of `a`.
    ///
    /// # Errors
    /// [`Error::LevelMismatch`] unless `a` is above `level`, and those of
    /// [`Evaluator::mul_scalar`].
    pub fn adjust(
        &self,
        a: &Ciphertext,
        factor: f64,
        level: Level,
        scale: Scale,
    ) -> Result<Ciphertext, Error> {
        let op = "adjust";
        self.check_home(op, &a.parameters)?;
        let (left, right) = (a.level().0, level.0);
        if left <= right {
            return Err(Error::LevelMismatch { op, left, right });
        }
        let above = Level(right + 1);
        let a = self.drop_to(a.clone(), above)?;
        let prime = self.parameters.moduli()[above.0].value() as f64;
        let by = scale.times(op, prime / a.scale.value())?;
        self.rescale(self.mul_scalar(&a, factor, by)?)
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

    pub(crate) fn check_depth(&self, op: &'static str, a: &Ciphertext) -> Result<usize, Error> {
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
