//! Operations that need a key: relinearisation, rotation, conjugation.

use super::Evaluator;
use crate::ckks::{Ciphertext, Form};
use crate::error::Error;
use crate::rlwe::{Down, GaloisKey, Hoisted, RelinearizationKey, SwitchingKey, Workspace};
use crate::simd::Kernels;

/// A ciphertext whose digits are there, for many rotations.
#[derive(Debug)]
pub struct HoistedCiphertext<'c> {
    ciphertext: &'c Ciphertext,
    digits: Hoisted,
}

impl HoistedCiphertext<'_> {
    /// The ciphertext.
    #[must_use]
    pub const fn ciphertext(&self) -> &Ciphertext {
        self.ciphertext
    }
}

impl Evaluator {
    pub(crate) fn down(&self, op: &'static str) -> Result<&Down, Error> {
        self.parameters
            .switching()
            .map_err(|_| Error::ForeignParameters { op })
    }

    pub(crate) fn check_key(
        &self,
        op: &'static str,
        a: &Ciphertext,
        key: &SwitchingKey,
        workspace: &Workspace,
    ) -> Result<usize, Error> {
        self.check_home(op, &a.parameters)?;
        self.check_home(op, &key.parameters)?;
        self.check_home(op, workspace.parameters())?;
        let (level, key) = (a.level().0, key.level);
        if level > key {
            return Err(Error::KeyTooLow { op, level, key });
        }
        Ok(level)
    }

    pub(crate) fn check_linear(op: &'static str, a: &Ciphertext) -> Result<(), Error> {
        match a.degree() {
            1 => Ok(()),
            got => Err(Error::NotLinear { op, got }),
        }
    }

    /// Degree two to degree one: (R, 1) to (R, 0).
    ///
    /// The error grows by that of one key switch,
    /// see `NoiseModel`. A ciphertext of degree one is left as it
    /// is. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::KeyTooLow`].
    pub fn relinearize_assign(
        &self,
        a: &mut Ciphertext,
        key: &RelinearizationKey,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let op = "relinearize";
        let level = self.check_key(op, a, &key.key, workspace)?;
        let [c0, c1, c2] = &mut a.polys[..] else {
            return Ok(());
        };
        let (down, kernels, memory) = (self.down(op)?, Kernels::active(), &mut workspace.switch);
        memory.switch(down, &key.key, level, c2.words());
        for (sum, c) in memory.sums.iter_mut().zip([c0, c1]) {
            down.divide(level, sum, &mut memory.buffer[0], |row| {
                let out = c.row_mut(row.index);
                kernels.sub_scale_add_assign(row.modulus, out, row.sum, row.remainder, row.inverse);
            });
        }
        a.polys.truncate(2);
        a.form.quadratic = false;
        Ok(())
    }

    /// As [`Self::relinearize_assign`], into `out`, which is reshaped where needed.
    ///
    /// # Errors
    /// As [`Self::relinearize_assign`].
    pub fn relinearize_into(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        key: &RelinearizationKey,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let op = "relinearize";
        let level = self.check_key(op, a, &key.key, workspace)?;
        self.shape(out, a.level(), 1);
        (out.scale, out.slots) = (a.scale, a.slots);
        out.form = Form {
            quadratic: false,
            ..a.form
        };
        for (c, x) in out.polys.iter_mut().zip(&a.polys) {
            c.copy_from(x);
        }
        let Some(c2) = a.polys.get(2) else {
            return Ok(());
        };
        let (down, kernels, memory) = (self.down(op)?, Kernels::active(), &mut workspace.switch);
        memory.switch(down, &key.key, level, c2.words());
        for (sum, c) in memory.sums.iter_mut().zip(&mut out.polys) {
            down.divide(level, sum, &mut memory.buffer[0], |row| {
                let out = c.row_mut(row.index);
                kernels.sub_scale_add_assign(row.modulus, out, row.sum, row.remainder, row.inverse);
            });
        }
        Ok(())
    }

    /// As [`Self::relinearize_into`], into a new ciphertext.
    ///
    /// # Errors
    /// As [`Self::relinearize_assign`].
    pub fn relinearize(
        &self,
        a: &Ciphertext,
        key: &RelinearizationKey,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let mut out = self.empty(a.level(), 1);
        self.relinearize_into(&mut out, a, key, workspace)?;
        Ok(out)
    }

    /// `a b`, relinearised and rescaled: one division by `P q_l` instead of two.
    ///
    /// One level down; the same flags (0, 0) as the factors. The error is that of the three steps,
    /// with one rounding less. Allocates nothing where `out` has the right shape.
    ///
    /// # Errors
    /// As [`Self::mul`], [`Self::relinearize_assign`] and [`Self::rescale`].
    pub fn mul_relin_rescale_into(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        b: &Ciphertext,
        key: &RelinearizationKey,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let op = "mul_relin_rescale";
        self.check_pair(op, a, b)?;
        let scale = Self::product_scale(op, a, b)?;
        let level = self.check_key(op, a, &key.key, workspace)?;
        self.check_depth(op, a)?;
        let (down, kernels) = (self.down(op)?, Kernels::active());
        let (n, ring) = (self.parameters.degree(), self.parameters.ring());
        let moduli = ring.moduli();
        let [p0, p1, p2] = &mut workspace.product;
        for (i, q) in moduli[..=level].iter().enumerate() {
            let range = i * n..(i + 1) * n;
            let (a, b) = (
                [a.polys[0].row(i), a.polys[1].row(i)],
                [b.polys[0].row(i), b.polys[1].row(i)],
            );
            kernels.mul(q, &mut p0[range.clone()], a[0], b[0]);
            kernels.mul(q, &mut p1[range.clone()], a[0], b[1]);
            kernels.mul_add_assign(q, &mut p1[range.clone()], a[1], b[0]);
            kernels.mul(q, &mut p2[range], a[1], b[1]);
        }
        let memory = &mut workspace.switch;
        memory.switch(down, &key.key, level, &p2[..(level + 1) * n]);
        self.shape(out, crate::ckks::Level(level - 1), 1);
        let last = level * n..(level + 1) * n;
        for ((sum, product), c) in memory.sums.iter_mut().zip([p0, p1]).zip(&mut out.polys) {
            let q = &moduli[level];
            kernels.scale_assign(q, &mut product[last.clone()], down.factor(level));
            kernels.add_assign(q, &mut sum[last.clone()], &product[last.clone()]);
            down.divide_and_rescale(level, sum, &mut memory.buffer[0], |row| {
                let (q, out) = (row.modulus, c.row_mut(row.index));
                let product = &product[row.index * n..(row.index + 1) * n];
                kernels.scale(q, out, product, ring.basis().inverse(level, row.index));
                kernels.sub_scale_add_assign(q, out, row.sum, row.remainder, row.inverse);
            });
        }
        out.scale = scale.times(op, 1.0 / moduli[level].value() as f64)?;
        (out.form, out.slots) = (Form::FRESH, a.slots.max(b.slots));
        Ok(())
    }

    /// As [`Self::mul_relin_rescale_into`], into a new ciphertext.
    ///
    /// # Errors
    /// As [`Self::mul_relin_rescale_into`].
    pub fn mul_relin_rescale(
        &self,
        a: &Ciphertext,
        b: &Ciphertext,
        key: &RelinearizationKey,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let level = crate::ckks::Level(self.check_depth("mul_relin_rescale", a)? - 1);
        let mut out = self.empty(level, 1);
        self.mul_relin_rescale_into(&mut out, a, b, key, workspace)?;
        Ok(out)
    }

    /// The image of `a` under the key's map `Y -> Y^g`: a rotation of the slots, or their
    /// conjugates. Level, scale and flags stay; the error grows by that of one key switch.
    /// Allocates nothing where `out` has the right shape.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::KeyTooLow`], [`Error::NotLinear`] for a ciphertext of
    /// degree two.
    pub fn apply_galois_into(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        key: &GaloisKey,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let op = "rotate";
        let level = self.check_key(op, a, &key.key, workspace)?;
        Self::check_linear(op, a)?;
        workspace
            .switch
            .switch(self.down(op)?, &key.key, level, a.polys[1].words());
        self.finish_rotation(out, a, key, workspace)
    }

    /// Divides the sums by `P`, adds `c0` and applies the map.
    fn finish_rotation(
        &self,
        out: &mut Ciphertext,
        a: &Ciphertext,
        key: &GaloisKey,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let (down, kernels) = (self.down("rotate")?, Kernels::active());
        self.shape(out, a.level(), 1);
        (out.scale, out.form, out.slots) = (a.scale, a.form, a.slots);
        let memory = &mut workspace.switch;
        let c0 = [Some(&a.polys[0]), None];
        let [buffer, turning] = &mut memory.buffer;
        for ((sum, c0), c) in memory.sums.iter_mut().zip(c0).zip(&mut out.polys) {
            down.divide(a.level().0, sum, buffer, |row| {
                let (q, sum, remainder) = (row.modulus, row.sum, row.remainder);
                if let Some(c0) = c0 {
                    turning.copy_from_slice(c0.row(row.index));
                    kernels.sub_scale_add_assign(q, turning, sum, remainder, row.inverse);
                } else {
                    kernels.sub_scale(q, turning, sum, remainder, row.inverse);
                }
                key.map.apply_row(c.row_mut(row.index), turning);
            });
        }
        Ok(())
    }

    /// As [`Self::apply_galois_into`], into a new ciphertext. See
    /// [`crate::rlwe::GaloisKeys::rotation`] for the key of a rotation.
    ///
    /// # Errors
    /// As [`Self::apply_galois_into`].
    pub fn apply_galois(
        &self,
        a: &Ciphertext,
        key: &GaloisKey,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let mut out = self.empty(a.level(), 1);
        self.apply_galois_into(&mut out, a, key, workspace)?;
        Ok(out)
    }

    /// Computes the digits of `a` once, for any number of rotations with keys of the same digits
    /// as `key`.
    ///
    /// # Errors
    /// As [`Self::apply_galois_into`].
    pub fn hoist<'c>(
        &self,
        a: &'c Ciphertext,
        key: &GaloisKey,
        workspace: &mut Workspace,
    ) -> Result<HoistedCiphertext<'c>, Error> {
        let op = "hoist";
        self.check_key(op, a, &key.key, workspace)?;
        Self::check_linear(op, a)?;
        let digits = workspace
            .switch
            .hoist(self.down(op)?, &key.key.gadget, &a.polys[1]);
        Ok(HoistedCiphertext {
            ciphertext: a,
            digits,
        })
    }

    /// Computes the digits again, in place: what [`Self::hoist`] costs without its allocation.
    ///
    /// # Errors
    /// As [`Self::apply_galois_into`], and [`Error::DigitMismatch`] where the key has other digits.
    pub fn hoist_again(
        &self,
        a: &mut HoistedCiphertext<'_>,
        key: &GaloisKey,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let op = "hoist";
        self.check_key(op, a.ciphertext, &key.key, workspace)?;
        if !a.digits.fits(&key.key) {
            return Err(Error::DigitMismatch { op });
        }
        let (down, c1) = (self.down(op)?, &a.ciphertext.polys[1]);
        workspace
            .switch
            .hoist_into(down, &key.key.gadget, c1, &mut a.digits);
        Ok(())
    }

    /// As [`Self::apply_galois_into`], of a ciphertext whose digits are there.
    ///
    /// # Errors
    /// As [`Self::apply_galois_into`], and [`Error::DigitMismatch`] where the key has other digits.
    pub fn apply_galois_hoisted_into(
        &self,
        out: &mut Ciphertext,
        a: &HoistedCiphertext<'_>,
        key: &GaloisKey,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let op = "rotate hoisted";
        self.check_key(op, a.ciphertext, &key.key, workspace)?;
        if !a.digits.fits(&key.key) {
            return Err(Error::DigitMismatch { op });
        }
        workspace
            .switch
            .switch_hoisted(self.down(op)?, &key.key, &a.digits);
        self.finish_rotation(out, a.ciphertext, key, workspace)
    }

    /// As [`Self::apply_galois_hoisted_into`], into a new ciphertext.
    ///
    /// # Errors
    /// As [`Self::apply_galois_hoisted_into`].
    pub fn apply_galois_hoisted(
        &self,
        a: &HoistedCiphertext<'_>,
        key: &GaloisKey,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let mut out = self.empty(a.ciphertext.level(), 1);
        self.apply_galois_hoisted_into(&mut out, a, key, workspace)?;
        Ok(out)
    }
}
