//! The slow twin of the encoder: the canonical embedding from its definition.
//!
//! Slot `j` of a polynomial `m` is `m(zeta^(5^j))` with `zeta = exp(i pi / N)`. Quadratic; used by
//! tests to judge the transform, and to be read.
//!
//! ```
//! use sphinx_he::ckks::reference::{coefficients, slots};
//! let m = coefficients(&slots(&[1.0, 2.0, 3.0, 4.0]));
//! assert!((m[2] - 3.0).abs() < 1e-12);
//! ```

use std::f64::consts::PI;

use super::Complex64;

/// `zeta^exponent`, the exponent reduced first so that the angle is exact.
fn root(n: usize, exponent: usize) -> Complex64 {
    Complex64::cis(PI * (exponent % (2 * n)) as f64 / n as f64)
}

/// `5^j mod 2N` for `j < N/2`: every unit modulo `2N` is one of these or the negative of one.
fn exponents(n: usize) -> Vec<usize> {
    std::iter::successors(Some(1), |e| Some(5 * e % (2 * n)))
        .take(n / 2)
        .collect()
}

/// The `N/2` slots of a polynomial with `N` real coefficients.
#[must_use]
pub fn slots(coefficients: &[f64]) -> Vec<Complex64> {
    let n = coefficients.len();
    let value = |e: usize| {
        coefficients
            .iter()
            .enumerate()
            .map(|(i, m)| root(n, e * i) * m)
            .sum()
    };
    exponents(n).into_iter().map(value).collect()
}

/// The polynomial with these slots: `m_i = 2/N Re(sum_j z_j zeta^(-i 5^j))`.
#[must_use]
pub fn coefficients(slots: &[Complex64]) -> Vec<f64> {
    let n = 2 * slots.len();
    let exponents = exponents(n);
    let coefficient = |i: usize| {
        let terms = slots.iter().zip(&exponents);
        let sum: f64 = terms.map(|(z, e)| (z * root(n, e * i).conj()).re).sum();
        2.0 * sum / n as f64
    };
    (0..n).map(coefficient).collect()
}
