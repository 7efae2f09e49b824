//! Polynomials of a ciphertext.
//!
//! After Paterson and Stockmeyer (*On the number of nonscalar multiplications necessary to evaluate
//! polynomials*, 1973): with the powers up to `k` and the squares `x^k, x^2k, x^4k, ...` a
//! polynomial is split as `p = q x^(2^i k) + r` until the parts have degree below `k`, which are sums
//! of powers with constant factors. The Chebyshev basis is split alike, with
//! `T_(a+b) = 2 T_a T_b - T_(a-b)` (Han and Ki, ePrint 2019/688, section 4; Chen, Chillotti and
//! Song, *Improved bootstrapping for approximate homomorphic encryption*, ePrint 2018/1043).
//!
//! Scales are planned from the end: a part that is to come out at some level and scale is computed
//! with constant factors at the scale that leads there after its rescales, so that every sum is of
//! equal scales, and the result has the scale of the argument (Bossuat, Mouchet, Troncoso-Pastoriza
//! and Hubaux, ePrint 2020/1203, section 3).

use std::collections::BTreeMap;

use crate::ckks::{Ciphertext, Complex64, Evaluator, Level, Scale};
use crate::error::Error;
use crate::rlwe::{RelinearizationKey, Workspace};

/// What the coefficients of a polynomial multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// `x^j`.
    Power,
    /// `T_j(x)`, for arguments in `[-1, 1]`.
    Chebyshev,
}

/// A real polynomial.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomial {
    basis: Basis,
    coefficients: Vec<f64>,
}

impl Polynomial {
    /// The polynomial with these coefficients, the constant one first; leading zeros are dropped.
    #[must_use]
    pub fn new(basis: Basis, coefficients: &[f64]) -> Self {
        let length = coefficients
            .iter()
            .rposition(|&c| c != 0.0)
            .map_or(1, |top| top + 1);
        let mut coefficients = coefficients.to_vec();
        coefficients.resize(length, 0.0);
        Self {
            basis,
            coefficients,
        }
    }

    /// The Chebyshev interpolant of this degree of a function on `[-1, 1]`.
    #[must_use]
    pub fn interpolate(degree: usize, f: impl Fn(f64) -> f64) -> Self {
        let n = degree + 1;
        let angle = |i: usize| std::f64::consts::PI * (i as f64 + 0.5) / n as f64;
        let values: Vec<f64> = (0..n).map(|i| f(angle(i).cos())).collect();
        let coefficient = |j: usize| {
            let terms = values
                .iter()
                .enumerate()
                .map(|(i, y)| y * (j as f64 * angle(i)).cos());
            terms.sum::<f64>() * if j == 0 { 1.0 } else { 2.0 } / n as f64
        };
        Self::new(
            Basis::Chebyshev,
            &(0..n).map(coefficient).collect::<Vec<_>>(),
        )
    }

    /// The degree.
    #[must_use]
    pub const fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// The levels that [`Self::evaluate`] takes: none for a constant, `floor(log2 degree) + 1` up to
    /// degree 3, one more above it.
    #[must_use]
    pub const fn depth(&self) -> usize {
        match self.degree() {
            0 => 0,
            degree @ 1..=3 => (degree.ilog2() + 1) as usize,
            degree => (degree.ilog2() + 2) as usize,
        }
    }

    /// The value at a number: what [`Self::evaluate`] approximates.
    #[must_use]
    pub fn value(&self, x: Complex64) -> Complex64 {
        let step = match self.basis {
            Basis::Power => {
                return self
                    .coefficients
                    .iter()
                    .rev()
                    .fold(Complex64::ZERO, |y, &c| y * x + c);
            }
            Basis::Chebyshev => x * 2.0,
        };
        // Clenshaw's recurrence
        let (mut b1, mut b2) = (Complex64::ZERO, Complex64::ZERO);
        for &c in self.coefficients[1..].iter().rev() {
            (b1, b2) = (step * b1 - b2 + c, b1);
        }
        x * b1 - b2 + self.coefficients[0]
    }

    /// `p(x)` in every slot, [`Self::depth`] levels down, at the scale of `x`; flags (0, 0) to
    /// (0, 0).
    ///
    /// Cost: about `2 sqrt(degree) + log2 degree` products of ciphertexts.
    ///
    /// # Errors
    /// [`Error::DepthExhausted`], [`Error::FormMismatch`] unless `x` is (0, 0), and those of
    /// products.
    pub fn evaluate(
        &self,
        evaluator: &Evaluator,
        x: &Ciphertext,
        key: &RelinearizationKey,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let op = "polynomial";
        evaluator.check_home(op, &x.parameters)?;
        Evaluator::check_form(op, x.form, crate::ckks::Form::FRESH)?;
        let (level, needed) = (x.level().0, self.depth());
        let Some(target) = level.checked_sub(needed) else {
            return Err(Error::DepthExhausted { op, level, needed });
        };
        // about as many powers as parts
        let log_baby = (self.degree().max(1).ilog2() + 1).div_ceil(2);
        let mut run = Run {
            evaluator,
            key,
            workspace,
            basis: self.basis,
            log_baby,
            powers: BTreeMap::from([(1, x.clone())]),
        };
        run.part(&self.coefficients, Level(target), x.scale)
    }
}

/// One evaluation.
struct Run<'a> {
    evaluator: &'a Evaluator,
    key: &'a RelinearizationKey,
    workspace: &'a mut Workspace,
    basis: Basis,
    /// log2 of the degree from which a part is split.
    log_baby: u32,
    /// Powers, or Chebyshev polynomials, of the argument.
    powers: BTreeMap<usize, Ciphertext>,
}

impl Run<'_> {
    /// Makes power `j`, at the level of the argument less `log2 j` rounded up.
    fn make(&mut self, j: usize) -> Result<(), Error> {
        if self.powers.contains_key(&j) {
            return Ok(());
        }
        let (a, b) = (j.div_ceil(2), j / 2);
        self.make(a)?;
        self.make(b)?;
        let evaluator = self.evaluator;
        let (x, y) = (&self.powers[&a], &self.powers[&b]);
        let level = x.level().min(y.level());
        let (x, y) = (
            evaluator.drop_to(x.clone(), level)?,
            evaluator.drop_to(y.clone(), level)?,
        );
        let mut out = evaluator.mul_relin_rescale(&x, &y, self.key, self.workspace)?;
        if self.basis == Basis::Chebyshev {
            out = evaluator.add(&out, &out)?;
            if a == b {
                evaluator.add_scalar_assign(&mut out, Complex64::new(-1.0, 0.0))?;
            } else {
                let first = evaluator.adjust(&self.powers[&1], 1.0, out.level(), out.scale)?;
                out = evaluator.sub(&out, &first)?;
            }
        }
        self.powers.insert(j, out);
        Ok(())
    }

    /// The polynomial with these coefficients at this level and scale.
    fn part(
        &mut self,
        coefficients: &[f64],
        level: Level,
        scale: Scale,
    ) -> Result<Ciphertext, Error> {
        let degree = coefficients.len() - 1;
        if degree < 1 << self.log_baby {
            return self.sum(coefficients, level, scale);
        }
        let split = 1usize << degree.ilog2();
        let (mut upper, mut lower) = (
            coefficients[split..].to_vec(),
            coefficients[..split].to_vec(),
        );
        if self.basis == Basis::Chebyshev {
            for (k, c) in upper.iter_mut().enumerate().skip(1) {
                lower[split - k] -= *c;
                *c *= 2.0;
            }
        }
        self.make(split)?;
        let above = Level(level.0 + 1);
        let power = self.evaluator.drop_to(self.powers[&split].clone(), above)?;
        let prime = self.evaluator.parameters.moduli()[above.0].value() as f64;
        let factor = Scale::new(scale.value() * prime / power.scale.value())?;
        let evaluator = self.evaluator;
        let product = if let [constant] = upper[..] {
            evaluator.adjust(&power, constant, level, scale)?
        } else {
            let upper = self.part(&upper, above, factor)?;
            evaluator.mul_relin_rescale(&upper, &power, self.key, self.workspace)?
        };
        let lower = self.part(&lower, level, scale)?;
        evaluator.add(&product, &lower)
    }

    /// A sum of powers with constant factors, one rescale for all.
    fn sum(
        &mut self,
        coefficients: &[f64],
        level: Level,
        scale: Scale,
    ) -> Result<Ciphertext, Error> {
        let evaluator = self.evaluator;
        let (above, slots) = (Level(level.0 + 1), self.powers[&1].slots);
        let prime = evaluator
            .parameters
            .moduli()
            .get(above.0)
            .map_or(1.0, |q| q.value() as f64);
        let mut sum: Option<Ciphertext> = None;
        for (j, &c) in coefficients
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, c)| **c != 0.0)
        {
            self.make(j)?;
            let power = evaluator.drop_to(self.powers[&j].clone(), above)?;
            let by = Scale::new(scale.value() * prime / power.scale.value())?;
            let term = evaluator.mul_scalar(&power, c, by)?;
            match &mut sum {
                Some(sum) => evaluator.add_assign(sum, &term)?,
                None => sum = Some(term),
            }
        }
        let mut out = match sum {
            Some(sum) => evaluator.rescale(sum)?,
            None => {
                let mut zero = evaluator.empty(level, 1);
                (zero.scale, zero.slots) = (scale, slots);
                zero
            }
        };
        evaluator.add_scalar_assign(&mut out, Complex64::new(coefficients[0], 0.0))?;
        Ok(out)
    }
}
