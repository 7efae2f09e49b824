//! A public matrix times a vector of slots.
//!
//! With `diag_k[j] = M[j][j + k]`, columns counted modulo the dimension `d`, and `rot_k` the
//! rotation by `k` to the left, `M x = sum_k diag_k . rot_k(x)`. Writing `k = g B + b`,
//! `M x = sum_g rot_gB(sum_(b < B) rot_-gB(diag_(gB + b)) . rot_b(x))`: `B` rotations of one
//! ciphertext, which share their digits, and `d / B` of sums. Diagonals of zeros cost nothing.
//!
//! Source: Halevi and Shoup, *Algorithms in HElib*, ePrint 2014/106, section 4.3; baby and giant
//! steps with hoisting, Halevi and Shoup, ePrint 2018/244, sections 3 and 4.

use std::collections::BTreeMap;

use crate::ckks::{Ciphertext, Complex64, Encoder, Evaluator, Form, Level, Plaintext, Scale};
use crate::error::Error;
use crate::ring::{Eval, Poly};
use crate::rlwe::{GaloisKeys, Workspace};

/// A square matrix, its diagonals encoded for one level.
#[derive(Debug, Clone)]
pub struct DiagonalMatrix {
    dimension: usize,
    baby: usize,
    level: Level,
    scale: Scale,
    /// For each multiple `gB`, the diagonals `(b, rot_-gB(diag_(gB + b)))` that are not zero.
    giants: BTreeMap<usize, Vec<(usize, Plaintext)>>,
}

impl DiagonalMatrix {
    /// Encodes the matrix with these entries, `entry(row, column)`, for ciphertexts of `dimension`
    /// slots at `level`. `dimension` is a power of two up to `N/2`.
    ///
    /// A product has the scale of the vector times `scale`; the last prime of the level as scale
    /// gives the vector's back after a rescale.
    ///
    /// # Errors
    /// [`Error::BadSlotCount`], and those of [`Encoder::encode_into`].
    pub fn new(
        encoder: &Encoder,
        dimension: usize,
        level: Level,
        scale: Scale,
        entry: impl Fn(usize, usize) -> Complex64,
    ) -> Result<Self, Error> {
        if !dimension.is_power_of_two() || dimension > encoder.slots() {
            let (got, max) = (dimension, encoder.slots());
            return Err(Error::BadSlotCount {
                op: "matrix",
                got,
                max,
            });
        }
        // rotations of digits already there cost about half of those of sums
        let baby = 1usize << (dimension.ilog2() + 1).div_ceil(2);
        let baby = baby.min(dimension);
        let mut giants = BTreeMap::<usize, Vec<_>>::new();
        for k in 0..dimension {
            let giant = k / baby * baby;
            let diagonal = |j: usize| {
                // slot j of rot_-giant is slot j - giant
                let row = (j + dimension - giant) % dimension;
                entry(row, (row + k) % dimension)
            };
            let values: Vec<Complex64> = (0..dimension).map(diagonal).collect();
            if values.iter().any(|z| *z != Complex64::ZERO) {
                let plain = encoder.encode_sparse(&values, dimension, level, scale)?;
                giants.entry(giant).or_default().push((k - giant, plain));
            }
        }
        Ok(Self {
            dimension,
            baby,
            level,
            scale,
            giants,
        })
    }

    /// Number of rows and columns.
    #[must_use]
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// The rotations that [`Self::mul`] needs.
    #[must_use]
    pub fn steps(&self) -> Vec<i64> {
        let babies = self.babies().map(|b| b as i64);
        let giants = self.giants.keys().map(|&g| g as i64);
        let mut steps: Vec<i64> = babies.chain(giants).filter(|&k| k != 0).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// The small rotations in use.
    fn babies(&self) -> impl Iterator<Item = usize> {
        let used = |b: &usize| self.giants.values().flatten().any(|(k, _)| k == b);
        (0..self.baby).filter(used)
    }

    /// `M x`: (0, 0) to (1, 0), the scales multiply, a rescale is due.
    ///
    /// Cost: one decomposition, as many rotations as [`Self::steps`] names, and one product per
    /// diagonal, summed with one reduction.
    ///
    /// # Errors
    /// [`Error::LevelMismatch`], [`Error::FormMismatch`], [`Error::BadSlotCount`] where the vector
    /// has more slots than the matrix, [`Error::NoGaloisKey`], and those of a rotation.
    pub fn mul(
        &self,
        evaluator: &Evaluator,
        x: &Ciphertext,
        keys: &GaloisKeys,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let op = "matrix product";
        evaluator.check_home(op, &x.parameters)?;
        Evaluator::check_level(op, x.level(), self.level)?;
        Evaluator::check_form(op, x.form, Form::FRESH)?;
        if x.slots > self.dimension {
            let (got, max) = (x.slots, self.dimension);
            return Err(Error::BadSlotCount { op, got, max });
        }
        let turned = self.turn(evaluator, x, keys, workspace)?;
        let mut sum = evaluator.empty(x.level(), 1);
        sum.scale = x.scale.times(op, self.scale.value())?;
        sum.form.rescale_pending = true;
        sum.slots = self.dimension;
        let (mut part, mut moved) = (sum.clone(), sum.clone());
        for (&giant, diagonals) in &self.giants {
            let target = if giant == 0 { &mut sum } else { &mut part };
            target.polys.iter_mut().for_each(Poly::clear);
            for i in 0..2 {
                let terms: Vec<(&Poly<Eval>, &Poly<Eval>)> = diagonals
                    .iter()
                    .filter_map(|(b, plain)| turned.get(b).map(|c| (&c.polys[i], &plain.poly)))
                    .collect();
                target.polys[i].add_dot(&terms)?;
            }
            if giant != 0 {
                let key = keys.rotation(op, giant as i64)?;
                evaluator.apply_galois_into(&mut moved, &part, key, workspace)?;
                evaluator.add_assign(&mut sum, &moved)?;
            }
        }
        Ok(sum)
    }

    /// The small rotations of `x`.
    fn turn(
        &self,
        evaluator: &Evaluator,
        x: &Ciphertext,
        keys: &GaloisKeys,
        workspace: &mut Workspace,
    ) -> Result<BTreeMap<usize, Ciphertext>, Error> {
        let op = "matrix product";
        let (mut turned, mut hoisted) = (BTreeMap::new(), None);
        for b in self.babies() {
            if b == 0 {
                turned.insert(0, x.clone());
                continue;
            }
            let key = keys.rotation(op, b as i64)?;
            if hoisted.is_none() {
                hoisted = Some(evaluator.hoist(x, key, workspace)?);
            }
            if let Some(hoisted) = &hoisted {
                turned.insert(b, evaluator.apply_galois_hoisted(hoisted, key, workspace)?);
            }
        }
        Ok(turned)
    }
}
