//! Composing by Fourier transform under a tilt, with every error bounded.

use std::cell::RefCell;

use rustfft::FftPlanner;
use rustfft::num_complex::Complex64;

use crate::pld::PldError;
use crate::pld::plan::Plan;
use crate::pld::step::Grid;

/// Relative error of every discretised, tilted mass: quadrature, exponentials, sums.
const MASS_ERROR: f64 = 2e-12;

/// Relative error, in the Euclidean norm, of a transform of length `n`, per `log2 n`.
const FFT_ERROR: f64 = 8.0 * f64::EPSILON;

/// The composed profile may be this uncertain, relatively, before the answer is refused.
const REFUSED: f64 = 1e-2;

thread_local! {
    static PLANNER: RefCell<FftPlanner<f64>> = RefCell::new(FftPlanner::new());
}

/// A composed privacy profile in a window of losses, with its error.
pub(super) struct Profile {
    h: f64,
    first: i64,
    tilt: f64,
    /// `ln` of the composed moment generating function at the tilt.
    pub(super) ln_moment: f64,
    /// `E[(1 - e^(eps - loss))+ e^(-tilt (loss - eps))]` under the tilted measure at every grid point.
    tail: Vec<f64>,
    /// What has to be added to, and taken from, any entry of `tail`.
    error: (f64, f64),
    /// Relative error of everything.
    relative: f64,
}

/// `ln E[e^(tilt loss)]` of one step from the logarithms of its masses.
fn ln_mgf(ln_mass: &[f64], first: i64, h: f64, tilt: f64) -> f64 {
    let at = |i: usize| (tilt * h).mul_add((first + i as i64) as f64, ln_mass[i]);
    let top = (0..ln_mass.len()).map(at).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..ln_mass.len()).map(|i| (at(i) - top).exp()).sum();
    top + sum.ln()
}

/// `x^n` for a complex number, by squaring.
fn power(mut x: Complex64, mut n: u64) -> Complex64 {
    let mut result = Complex64::new(1.0, 0.0);
    loop {
        if n & 1 == 1 {
            result *= x;
        }
        n >>= 1;
        if n == 0 {
            return result;
        }
        x *= x;
    }
}

/// The product of transforms, and the squared norm of its error over the spectrum.
struct Spectrum {
    values: Vec<Complex64>,
    error: f64,
}

impl Spectrum {
    fn one(len: usize) -> Self {
        Self {
            values: vec![Complex64::new(1.0, 0.0); len / 2 + 1],
            error: 0.0,
        }
    }

    /// Multiplies by the `count`-th power of the transform of `mass`, placed at `first` modulo the
    /// length.
    fn multiply(&mut self, mass: &[f64], first: i64, len: usize, count: u64) {
        let mut data = vec![Complex64::new(0.0, 0.0); len];
        for (i, m) in mass.iter().enumerate() {
            let at = (first + i as i64).rem_euclid(len as i64) as usize;
            data[at].re += m;
        }
        PLANNER.with_borrow_mut(|planner| planner.plan_fft_forward(len).process(&mut data));
        let norm = data.iter().map(Complex64::norm_sqr).sum::<f64>().sqrt();
        // The norm of all errors bounds each.
        let absolute = FFT_ERROR * (len as f64).log2() * norm;
        let times = count as f64;
        let mut spread = 0.0;
        for (value, x) in self.values.iter_mut().zip(&data) {
            let raised = power(*x, count);
            let size = x.norm_sqr().sqrt();
            // A bound on (size + absolute)^(count - 1).
            let kept = if size > 100.0 * times * absolute {
                1.02 * raised.norm_sqr().sqrt() / size
            } else {
                ((size + absolute).min(1.0 + absolute).ln() * (times - 1.0)).exp()
            };
            // All factors are at most one, so their errors add up.
            let each = times * kept * (absolute + 8.0 * f64::EPSILON * size);
            spread += 2.0 * each * each;
            *value *= raised;
        }
        self.error = (self.error.sqrt() + spread.sqrt()).powi(2);
    }

    /// Back to masses at `first..first + len`, with the Euclidean norm of their error.
    fn masses(self, first: i64, len: usize) -> (Vec<f64>, f64) {
        let mut data = self.values;
        for k in 1..len / 2 {
            data.push(data[len / 2 - k].conj());
        }
        let norm = data.iter().map(Complex64::norm_sqr).sum::<f64>().sqrt();
        PLANNER.with_borrow_mut(|planner| planner.plan_fft_inverse(len).process(&mut data));
        let scale = (len as f64).recip();
        let error = (self.error.sqrt() + FFT_ERROR * (len as f64).log2() * norm) * scale.sqrt();
        let start = first.rem_euclid(len as i64) as usize;
        let masses = (0..len).map(|i| data[(start + i) % len].re * scale);
        (masses.collect(), error)
    }
}

impl Profile {
    /// Composes `count` runs of every grid, whose spacing is `h`, in the window of `len` entries
    /// from `first`.
    pub(super) fn compose(
        grids: &[(Grid, u64)],
        plan: &Plan,
        h: f64,
        first: i64,
        len: usize,
    ) -> Result<Self, PldError> {
        let tilt = plan.tilt;
        let mut spectrum = Spectrum::one(len);
        let (mut ln_moment, mut below, mut above, mut steps) = (0.0, 0.0, 0.0, 0.0);
        for (grid, count) in grids {
            let ln_mass: Vec<f64> = grid.mass.iter().map(|m| m.ln()).collect();
            let moment = |tilt| ln_mgf(&ln_mass, grid.first, h, tilt);
            let here = moment(tilt);
            let times = *count as f64;
            steps += times;
            ln_moment += times * here;
            below += times * (moment(tilt + plan.chernoff.0) - here);
            above += times * (moment(tilt + plan.chernoff.1) - here);
            let tilted: Vec<f64> = ln_mass
                .iter()
                .enumerate()
                .map(|(i, ln)| {
                    let loss = h * (grid.first + i as i64) as f64;
                    (tilt.mul_add(loss, *ln) - here).exp()
                })
                .collect();
            spectrum.multiply(&tilted, grid.first, len, *count);
        }
        let (masses, error) = spectrum.masses(first, len);
        let ends = (h * first as f64, h * (first + len as i64) as f64);
        let outside_below = (below - plan.chernoff.0 * ends.0).exp();
        let outside_above = (above - plan.chernoff.1 * ends.1).exp();
        // The largest weight of any loss is below 1 / (tilt + 1); the Euclidean norm of all
        // weights follows from the integral of their squares.
        let weight = (tilt + 1.0).recip();
        let square = (4.0 * tilt * (tilt + 0.5) * (tilt + 1.0) * h).recip() + 2.0 * weight * weight;
        let transform = error * square.sqrt();
        let fraction = steps * MASS_ERROR;
        if fraction >= REFUSED || !(fraction + transform).is_finite() {
            return Err(PldError::Precision);
        }
        Ok(Self {
            h,
            first,
            tilt,
            ln_moment,
            tail: tails(&masses, tilt, h),
            error: (
                transform + outside_above * weight,
                transform + (outside_above + outside_below) * weight,
            ),
            relative: fraction,
        })
    }

    /// The smallest loss with `delta(loss) <= delta` when `sign` times the error is added:
    /// `sign = 1` gives an upper, `-1` a lower bound; never below zero.
    pub(super) fn epsilon(&self, delta: f64, sign: f64) -> Result<f64, PldError> {
        let error = if sign > 0.0 {
            self.error.0
        } else {
            -self.error.1
        };
        let factor = sign.mul_add(self.relative, 1.0);
        let loss = |i: usize| self.h * (self.first + i as i64) as f64;
        // Delta at grid point i, over the target; the moment is common.
        let at = |i: usize| {
            let scaled = (self.tail[i] + error) * factor;
            let ln = self.ln_moment - self.tilt * loss(i) - delta.ln();
            (scaled, scaled * ln.exp())
        };
        let zero = usize::try_from(-self.first).unwrap_or(0);
        let top = self.tail.len() - 1;
        let mut i = top;
        let mut last = at(top).1;
        if last > 1.0 || zero >= top {
            return Err(PldError::Precision);
        }
        while i > zero {
            i -= 1;
            let (scaled, ratio) = at(i);
            if ratio > 1.0 {
                if error.abs() > REFUSED * scaled {
                    return Err(PldError::Precision);
                }
                // Between grid points the profile is linear in e^epsilon.
                let fraction = ((ratio - 1.0) / (ratio - last)).clamp(0.0, 1.0);
                return Ok(loss(i) + (fraction * self.h.exp_m1()).ln_1p());
            }
            last = ratio;
        }
        if self.first <= 0 {
            Ok(0.0)
        } else {
            Err(PldError::Precision)
        }
    }
}

/// Suffix sums: `sum over i > j of m_i w(i - j)` with
/// `w(k) = e^(-tilt k h) (1 - e^(-k h))`, by a recursion of positive terms.
fn tails(masses: &[f64], tilt: f64, h: f64) -> Vec<f64> {
    let (step, shrink) = ((-tilt * h).exp(), -(-h).exp_m1());
    let mut result = vec![0.0; masses.len()];
    let (mut sum, mut tail) = (0.0, 0.0);
    for (slot, mass) in result.iter_mut().zip(masses).rev() {
        // Before: both sums seen from the point above.
        tail = step * (1.0 - shrink).mul_add(tail, shrink * sum);
        *slot = tail;
        sum = step.mul_add(sum, *mass);
    }
    result
}
