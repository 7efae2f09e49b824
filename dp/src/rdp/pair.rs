//! Renyi divergences of pairs other than the Poisson-sampled Gaussian under add-or-remove.
//!
//! All are `ln A / (a - 1)` with `A = E[(1 + u)^a]`, `E[u] = 0`, so that `A - 1` is again the sum of
//! the non-negative `(1 + u)^a - 1 - a u`; nothing cancels. For the replacement of a record, sampled,
//! the pair is `(1 - q) N(0) + q N(1)` against `(1 - q) N(0) + q N(-1)`, which dominates all others
//! (proof in [`crate::rdp`]).

use std::f64::consts::{PI, TAU};

use super::divergence::{MARGIN, MAX_NODES, REACH, ln_convex_gap};
use crate::special::{LogSum, legendre_nodes, softplus};

/// `ln A` of the sampled Gaussian when one record is replaced: at unit distances on both sides.
pub(super) fn replaced_gaussian(q: f64, z: f64, order: f64) -> f64 {
    let lambda = order - 1.0;
    // The unsampled pair is at distance two.
    let plain = 2.0 * order / (z * z) * lambda;
    if q >= 1.0 {
        return plain;
    }
    let Some(h) = replaced_width(z, order) else {
        return convex(q, plain).min(plain);
    };
    let (low, high) = (-REACH, (2.0 * order - 1.0) / z + REACH);
    let mut sum = LogSum::new();
    for i in (low / h).floor() as i64..=(high / h).ceil() as i64 {
        let y = i as f64 * h;
        sum.add((-0.5 * y).mul_add(y, replaced_gap(order, q, y / z, 0.5 / (z * z))));
    }
    let value = softplus(sum.ln() + (h / TAU.sqrt()).ln());
    value.min(convex(q, plain)).min(plain)
}

/// Joint convexity: `A <= 1 - q + q A_plain`.
fn convex(q: f64, ln_plain: f64) -> f64 {
    if ln_plain > 600.0 {
        (ln_plain + q.ln()).max(0.0) + (-ln_plain - q.ln()).exp() + 1e-15
    } else {
        (q * ln_plain.exp_m1()).ln_1p()
    }
}

/// The spacing, in units of z, at which the trapezoidal rule is exact to `exp(-55)`: at height `b`
/// both mixtures turn by at most `b / z` and keep `cos(b / (2 z))` of their modulus. None if there
/// would be too many nodes.
fn replaced_width(z: f64, order: f64) -> Option<f64> {
    let widest = (0.95 * PI * z).min(10.0);
    let mut best = 0.0f64;
    for part in [1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02] {
        let b = part * widest;
        let grown = 0.5 * b * b - (order - 1.0) * (0.5 * b / z).cos().ln();
        best = best.max(TAU * b / (grown + 55.0));
    }
    let count = (2.0 * REACH + (2.0 * order - 1.0) / z) / best;
    (count <= MAX_NODES).then_some(best)
}

/// `ln` of `m_- ((1 + u)^a - 1 - a u)` for `1 + u = m_+ / m_-`, where `m_+-` is the ratio of each mixture
/// to the common base at `t = x / z^2`, `c = 1 / (2 z^2)`.
fn replaced_gap(order: f64, q: f64, t: f64, c: f64) -> f64 {
    // ln m = ln (1 - q + q e^(+-t - c)), where it is large without overflow.
    let ln_mixture = |e: f64| {
        if e > 600.0 {
            e + q.ln() + ((1.0 - q) / q * (-e).exp()).ln_1p()
        } else {
            (q * e.exp_m1()).ln_1p()
        }
    };
    let (above, below) = (ln_mixture(t - c), ln_mixture(-t - c));
    // u = q e^-c (e^t - e^-t) / m_-
    let u = if t.abs() > 300.0 {
        (above - below).exp_m1()
    } else {
        2.0 * q * (-c).exp() * t.sinh() * (-below).exp()
    };
    if u == 0.0 {
        return f64::NEG_INFINITY;
    }
    below + gap_of(order, u, above - below)
}

/// `ln ((1 + u)^a - 1 - a u)` where `u` and `ln (1 + u)` are both known well.
fn gap_of(order: f64, u: f64, ln_ratio: f64) -> f64 {
    super::divergence::ln_gap(order, u, ln_ratio)
}

/// `ln A` of Laplace noise of scale `b` on a number that moves by one (by one to either side when a
/// record is replaced), sampled at rate `q`.
pub(super) fn laplace(q: f64, b: f64, order: f64, replace: bool) -> f64 {
    if q >= 1.0 {
        let distance = if replace { 2.0 / b } else { 1.0 / b };
        return plain_laplace(distance, order);
    }
    let mut sum = LogSum::new();
    let mut add = |x: f64, ln_weight: f64| {
        // Logarithms of the densities around 1 and -1 over that around 0.
        let up = (x.abs() - (x - 1.0).abs()) / b;
        let down = (x.abs() - (x + 1.0).abs()) / b;
        let gap = if replace {
            mixed_gap(order, q, up, down)
        } else {
            ln_convex_gap(order, q, up)
        };
        sum.add(ln_weight + gap);
    };
    // Beyond the outermost kinks nothing changes: two atoms.
    let low = if replace { -1.0 } else { 0.0 };
    add(low, low / b - std::f64::consts::LN_2);
    add(1.0, -1.0 / b - std::f64::consts::LN_2);
    let panels = (8.0 + 2.0 * order / b).min(4e4) as u32;
    for start in if replace { [-1.0, 0.0] } else { [0.0, 0.5] } {
        let width = if replace { 1.0 } else { 0.5 } / f64::from(panels);
        for panel in 0..panels {
            let left = width.mul_add(f64::from(panel), start);
            legendre_nodes(left, left + width, |x, weight| {
                add(x, weight.ln() - x.abs() / b - (2.0 * b).ln());
            });
        }
    }
    softplus(sum.ln())
}

/// As [`replaced_gap`], for given logarithms of the two ratios to the base.
fn mixed_gap(order: f64, q: f64, up: f64, down: f64) -> f64 {
    let above = (q * up.min(600.0).exp_m1()).ln_1p();
    let below = (q * down.min(600.0).exp_m1()).ln_1p();
    let u = q * down.exp() * (up - down).exp_m1() * (-below).exp();
    if u == 0.0 {
        return f64::NEG_INFINITY;
    }
    below + gap_of(order, u, above - below)
}

/// `ln A` of two Laplace distributions `distance` scales apart: Mironov 2017, Proposition 6, with the
/// first-order terms, which cancel, left out.
fn plain_laplace(distance: f64, order: f64) -> f64 {
    let rest = |x: f64| {
        if x.abs() < 0.5 {
            let (mut term, mut sum) = (0.5 * x * x, 0.0);
            for k in 3..30 {
                sum += term;
                term *= x / f64::from(k);
            }
            sum + term
        } else {
            x.exp_m1() - x
        }
    };
    let (a, lambda) = (order, order - 1.0);
    let forward = lambda * distance;
    if forward > 600.0 {
        return forward + (a / (2.0 * a - 1.0)).ln() + 1e-15;
    }
    ((a * rest(forward) + lambda * rest(-a * distance)) / (2.0 * a - 1.0)).ln_1p()
}

/// `ln A` of discrete Gaussian noise on one integer that moves by `bound`, sampled at rate `q`.
pub(super) fn discrete(q: f64, s: f64, bound: f64, order: f64, replace: bool) -> f64 {
    let precision = bound * bound / (s * s);
    let distance = if replace { 4.0 } else { 1.0 };
    // Canonne, Kamath, Steinke 2020, Theorem 14 (any number of coordinates).
    let plain = 0.5 * distance * order * (order - 1.0) * precision;
    if q >= 1.0 {
        return plain;
    }
    let reach = 12.0 * s + 2.0;
    let far = if replace { 2.0 * order } else { order };
    if far * bound + reach > 2e5 {
        return plain.min(convex(q, plain));
    }
    let (mut sum, mut whole) = (LogSum::new(), LogSum::new());
    for x in (-reach - bound) as i64..=(bound.mul_add(far, reach)) as i64 {
        let x = x as f64;
        let ln = -0.5 * (x / s) * (x / s);
        whole.add(ln);
        let ratio = |sign: f64| (sign * x * bound - 0.5 * bound * bound) / (s * s);
        let gap = if replace {
            mixed_gap_wide(order, q, ratio(1.0), ratio(-1.0))
        } else {
            ln_convex_gap(order, q, ratio(1.0))
        };
        sum.add(ln + gap);
    }
    softplus(sum.ln() - whole.ln()).min(plain) * (1.0 + MARGIN)
}

/// As [`mixed_gap`], also where a ratio overflows.
fn mixed_gap_wide(order: f64, q: f64, up: f64, down: f64) -> f64 {
    let (t, c) = (0.5 * (up - down), -0.5 * (up + down));
    replaced_gap(order, q, t, c)
}
