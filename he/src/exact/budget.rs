//! Failure bounds: how surely a decoded coefficient is the exact integer.
//!
//! Every result is a [`Margin`]: the standard deviation of the decoding error in units of one
//! integer step, and the room left below half the modulus. Fresh errors have variance `sigma^2`.
//! Rounding errors are taken as uniform and independent, the usual heuristic; conditional on the
//! secret, a coefficient of `delta_0 + delta_1 s + delta_2 s^2` with `delta` uniform on
//! `(-1/2, 1/2)` has variance `(1 + ||s||^2 + ||s^2||^2) / 12`. The term in `s^2` dominates every
//! other after a drop.
//!
//! The sums have thousands of independent terms; their tail is taken as Gaussian, and a coefficient
//! decodes wrongly where the error exceeds half a step:
//! `P = 2 Q(1 / (2 std_dev)) = erfc(1 / (2 sqrt(2) std_dev))`.
//! A bound free of the Gaussian heuristic takes Hoeffding's proxy variance 1/4 for each rounding
//! in place of 1/12: less than one more bit of scale.
//!
//! Tested by observed failure rates at scaled-up noise.
//!
//! ```
//! use sphinx_he::exact::budget;
//! use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security, SecretNorms};
//! let parameters = Parameters::new(&ParametersLiteral {
//!     log_n: 12,
//!     log_q: vec![47, 42],
//!     log_p: vec![],
//!     error_std_dev: 3.2,
//!     security: Security::Classical128,
//! })?;
//! let worst = SecretNorms::largest(4096);
//! // 4096 samples of 8 by 12 bits, scale 2^58 / 2^42 = 2^16 after the drop
//! let (x, d) = (4096.0 * 127f64.powi(2), 4096.0 * 2047f64.powi(2));
//! let sum = 4096.0 * 127.0 * 2047.0; // a hundredth below 2^30, which would not fit
//! let margin = budget::product(&parameters, worst, 1 << 28, 1 << 30, x, d, 1.0, sum, 1)?;
//! assert!(margin.holds(2f64.powi(40), -128.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod tail;

use super::{Encoding, Truncation};
use crate::error::Error;
use crate::rlwe::{Parameters, SecretNorms};

/// Standard deviations by which the largest sum is extended before it is compared with half the
/// modulus: `sqrt(2 ln 2 (129 + 40))`, a failure of `2^-128` over `2^40` coefficients.
const TAIL: f64 = 15.31;

/// How far a decoded coefficient is from failing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// Standard deviation of the decoding error, in units of one integer step.
    pub std_dev: f64,
    /// `log2((Q/2) / (largest scaled sum + tail))`, the smallest over all levels passed; must be
    /// positive. Infinite for `Modular`, where wrapping around is the arithmetic wanted.
    pub log2_headroom: f64,
    /// One integer step in units of the phase, after all drops.
    pub step: f64,
}

impl Margin {
    /// Probability that one coefficient decodes wrongly for its error; 0 where it is below the
    /// range of `f64`.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        self.log2_failure(1.0).exp2()
    }

    /// log2 of the union bound over `coefficients`, computed in logarithms; at most that of
    /// `coefficients`, minus infinity for no error at all.
    #[must_use]
    pub fn log2_failure(&self, coefficients: f64) -> f64 {
        let steps = 1.0 / (2.0 * std::f64::consts::SQRT_2 * self.std_dev);
        coefficients.log2() + tail::ln_erfc(steps) * std::f64::consts::LOG2_E
    }

    /// The margin of a download at level 0, of degree 1 or 2, whose low bits are cut off.
    ///
    /// Cutting `t` bits off a uniform residue and putting `2^(t-1)` in their place leaves an error
    /// between `-2^(t-1)` and `2^(t-1) - 1`, of mean square `(4^t + 2) / 12`; those of `c1` and
    /// `c2` are multiplied by `s` and `s^2`.
    #[must_use]
    pub fn truncated(
        self,
        parameters: &Parameters,
        norms: SecretNorms,
        degree: usize,
        truncation: Truncation,
    ) -> Self {
        let square = |bits: u32| match bits {
            0 => 0.0,
            _ => ((2.0 * f64::from(bits)).exp2() + 2.0) / 12.0,
        };
        let secret = norms.s_squared + if degree == 2 { norms.s2_squared } else { 0.0 };
        let added = square(truncation.c0) + square(truncation.masks) * secret;
        let before = self.std_dev * self.step;
        let half = parameters.log2_q(0) - 1.0;
        let used = (half - self.log2_headroom).exp2() + TAIL * added.sqrt();
        Self {
            std_dev: (before * before + added).sqrt() / self.step,
            log2_headroom: if self.log2_headroom.is_finite() {
                self.log2_headroom.min(half - used.log2())
            } else {
                self.log2_headroom
            },
            step: self.step,
        }
    }

    /// Whether sums fit and the union bound over `coefficients` is at most `2^log2_target`.
    #[must_use]
    pub fn holds(&self, coefficients: f64, log2_target: f64) -> bool {
        self.log2_headroom > 0.0 && self.log2_failure(coefficients) <= log2_target
    }
}

/// The phase as it goes down the levels: variance of its error and size of one step.
struct Track<'a> {
    parameters: &'a Parameters,
    level: usize,
    variance: f64,
    step: f64,
    sum_bound: f64,
    headroom: f64,
}

impl Track<'_> {
    /// PACKING's conditions `R Delta + E < Q/2`, before and after each drop.
    fn measure_headroom(&mut self) {
        let largest = self.sum_bound * self.step + TAIL * self.variance.sqrt();
        let headroom = self.parameters.log2_q(self.level) - 1.0 - largest.log2();
        self.headroom = self.headroom.min(headroom);
    }

    /// Divides by the last prime; `rounding` is the variance that the rounding adds.
    fn drop_prime(&mut self, rounding: f64) {
        let q = self.parameters.moduli()[self.level].value() as f64;
        self.variance = self.variance / (q * q) + rounding;
        self.step /= q;
        self.level -= 1;
        self.measure_headroom();
    }

    fn finish(mut self, drops: usize, rounding: f64) -> Margin {
        self.measure_headroom();
        for _ in 0..drops {
            self.drop_prime(rounding);
        }
        Margin {
            std_dev: self.variance.sqrt() / self.step,
            log2_headroom: self.headroom,
            step: self.step,
        }
    }
}

fn check(op: &'static str, quantities: &[(&'static str, f64)]) -> Result<(), Error> {
    match quantities
        .iter()
        .find(|(_, value)| value.is_nan() || *value < 0.0)
    {
        Some(&(quantity, value)) => Err(Error::BadBound {
            op,
            quantity,
            value,
        }),
        None => Ok(()),
    }
}

fn check_level(
    op: &'static str,
    parameters: &Parameters,
    level: usize,
    drops: usize,
) -> Result<(), Error> {
    let max = parameters.max_level();
    if level > max {
        return Err(Error::NoSuchLevel {
            op,
            got: level,
            max,
        });
    }
    if drops > level {
        return Err(Error::DepthExhausted {
            op,
            level,
            needed: drops,
        });
    }
    Ok(())
}

/// A sum over `chunks` products `X_t D_t` at the highest level, then `drops` primes dropped.
///
/// `dx`, `dd`: scales. `x_norm_squared`, `d_norm_squared`: bounds on `sum_t ||X_t||^2` and
/// `sum_t ||D_t||^2`, of the integers before scaling. `sum_bound`: bound on the magnitude of any
/// coefficient of the sum that is decoded or not. See [`product_at`].
///
/// # Errors
/// [`Error::DepthExhausted`] for more drops than levels, [`Error::InvalidEncoding`] for a zero
/// scale, [`Error::BadBound`].
#[expect(
    clippy::too_many_arguments,
    reason = "the quantities of one formula, each named"
)]
pub fn product(
    parameters: &Parameters,
    norms: SecretNorms,
    dx: u128,
    dd: u128,
    x_norm_squared: f64,
    d_norm_squared: f64,
    chunks: f64,
    sum_bound: f64,
    drops: usize,
) -> Result<Margin, Error> {
    let terms = ProductTerms {
        dx,
        dd,
        x_norm_squared,
        d_norm_squared,
        chunks,
        sum_bound,
    };
    product_at(parameters, norms, parameters.max_level(), &terms, drops)
}

/// What is multiplied, for [`product_at`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProductTerms {
    /// Scale of the first factors.
    pub dx: u128,
    /// Scale of the second factors.
    pub dd: u128,
    /// Bound on `sum_t ||X_t||^2`.
    pub x_norm_squared: f64,
    /// Bound on `sum_t ||D_t||^2`.
    pub d_norm_squared: f64,
    /// Number of products summed.
    pub chunks: f64,
    /// Bound on the magnitude of any coefficient of the sum.
    pub sum_bound: f64,
}

/// As [`product`], at any level.
///
/// Before the drops the error of a coefficient is that of
/// `sum_t Dx X_t e_t + Dd D_t f_t + e_t f_t`, of variance
/// `sigma^2 (Dx^2 sum ||X_t||^2 + Dd^2 sum ||D_t||^2) + sigma^4 T N`; each drop divides it by the
/// prime squared and adds `(1 + ||s||^2 + ||s^2||^2) / 12`.
///
/// # Errors
/// As [`product`], and [`Error::NoSuchLevel`].
pub fn product_at(
    parameters: &Parameters,
    norms: SecretNorms,
    level: usize,
    terms: &ProductTerms,
    drops: usize,
) -> Result<Margin, Error> {
    let op = "product budget";
    check_level(op, parameters, level, drops)?;
    Encoding::scaled(terms.dx).check(op)?;
    Encoding::scaled(terms.dd).check(op)?;
    check(
        op,
        &[
            ("x_norm_squared", terms.x_norm_squared),
            ("d_norm_squared", terms.d_norm_squared),
            ("chunks", terms.chunks),
            ("sum_bound", terms.sum_bound),
        ],
    )?;
    let sigma2 = parameters.error_std_dev().powi(2);
    let (dx, dd) = (terms.dx as f64, terms.dd as f64);
    let crossed = dx * dx * terms.x_norm_squared + dd * dd * terms.d_norm_squared;
    let fresh = sigma2 * sigma2 * terms.chunks * parameters.degree() as f64;
    let track = Track {
        parameters,
        level,
        variance: sigma2 * crossed + fresh,
        step: dx * dd,
        sum_bound: terms.sum_bound,
        headroom: f64::INFINITY,
    };
    Ok(track.finish(drops, (1.0 + norms.s_squared + norms.s2_squared) / 12.0))
}

/// A sum of plain products `W_t X_t` at `level`, then `drops` primes dropped.
///
/// `weight_norm_squared`: bound on `sum_t ||W_t||^2` over all tiles, before `factor`. Variance
/// `(factor sigma)^2 ||W||^2`; each drop divides by the prime squared and adds
/// `(1 + ||s||^2) / 12`. `Modular` adds the rounding of the encoding, `1/12` beside `sigma^2`
/// (uniform for uniform residues), and ignores `sum_bound`.
///
/// # Errors
/// [`Error::NoSuchLevel`], [`Error::DepthExhausted`], [`Error::InvalidEncoding`],
/// [`Error::UnsupportedEncoding`] for a factor on `Modular`, [`Error::BadBound`].
#[expect(
    clippy::too_many_arguments,
    reason = "the quantities of one formula, each named"
)]
pub fn linear(
    parameters: &Parameters,
    norms: SecretNorms,
    level: usize,
    encoding: Encoding,
    factor: u64,
    weight_norm_squared: f64,
    sum_bound: f64,
    drops: usize,
) -> Result<Margin, Error> {
    let op = "linear budget";
    check_level(op, parameters, level, drops)?;
    encoding.check(op)?;
    encoding.times_factor(op, factor)?.check(op)?;
    check(
        op,
        &[
            ("weight_norm_squared", weight_norm_squared),
            ("sum_bound", sum_bound),
        ],
    )?;
    let sigma2 = parameters.error_std_dev().powi(2);
    let scale = factor as f64;
    let exact = matches!(encoding, Encoding::Scaled { denominator: 1, .. });
    let encoding_error = if exact { 0.0 } else { 1.0 / 12.0 };
    let modular = matches!(encoding, Encoding::Modular { .. });
    let mut margin = Track {
        parameters,
        level,
        variance: (sigma2 + encoding_error) * scale * scale * weight_norm_squared,
        step: encoding.step(parameters.log2_q(level)) * scale,
        sum_bound: if modular { 0.0 } else { sum_bound },
        headroom: f64::INFINITY,
    }
    .finish(drops, (1.0 + norms.s_squared) / 12.0);
    if modular {
        margin.log2_headroom = f64::INFINITY;
    }
    Ok(margin)
}

#[cfg(test)]
mod tests;
