//! Gaussian noise on a batch of fixed size, drawn without replacement; one record is replaced.
//!
//! Wang, Balle, Kasiviswanathan 2019, *Subsampled Renyi Differential Privacy and Analytical Moments
//! Accountant* (arXiv:1808.00087v2), Theorem 27: at an integer order `a`, with `e(j) = j (j-1) / (2 s^2)`
//! the logarithm of the unsampled moment at noise `s` over the sensitivity, `A` is at most
//!
//! ```text
//! 1 + sum over j = 2..a of (a over j) q^j min(4 sqrt(B(2 floor(j/2)) B(2 ceil(j/2))), 2 e^e(j)),
//! ```
//!
//! where `B(l)` is the `l`-th central moment of the likelihood ratio. The authors find `B` as an
//! alternating sum. **Deviation**: here it is the integral of a non-negative function, which does not
//! cancel; and between integer orders `ln A`, convex in the order, is interpolated.

use std::f64::consts::TAU;

use super::divergence::{MAX_NODES, REACH, step_width};
use crate::special::{LogSum, ln_choose, ln_expm1, softplus};

/// From this order on the second, simpler form alone is used.
const MOST_CENTRAL: u64 = 257;

/// `ln E[(e^t - 1)^power]` for an even power, `t = (y - 1 / (2 s)) / s`, `y` standard normal.
fn ln_central_moment(s: f64, power: u64) -> f64 {
    let order = power as f64;
    let h = step_width(s);
    let high = order / s + REACH;
    if (high + REACH) / h > MAX_NODES {
        return f64::INFINITY;
    }
    let mut sum = LogSum::new();
    for i in (-REACH / h).floor() as i64..=(high / h).ceil() as i64 {
        let y = i as f64 * h;
        let t = (y - 0.5 / s) / s;
        let ln = if t > 600.0 { t } else { t.exp_m1().abs().ln() };
        sum.add((-0.5 * y).mul_add(y, order * ln));
    }
    sum.ln() + (h / TAU.sqrt()).ln()
}

/// The bound on `ln A` at an integer order; `s` is noise over the sensitivity of a replacement.
fn at_integer(q: f64, s: f64, order: u64) -> f64 {
    if order <= 1 {
        return 0.0;
    }
    let cumulant = |j: u64| {
        let j = j as f64;
        0.5 * j * (j - 1.0) / (s * s)
    };
    let (ln_2, ln_4, ln_q) = (2f64.ln(), 4f64.ln(), q.ln());
    let mut sum = LogSum::new();
    // B(j) at even j; infinite once it is no longer needed.
    let mut central = ln_expm1(cumulant(2));
    for j in 2..=order {
        let plain = ln_2 + cumulant(j);
        let mut term = ln_4 + central;
        if j % 2 == 1 {
            let needed = j < MOST_CENTRAL && term < plain;
            let next = if needed {
                ln_central_moment(s, j + 1)
            } else {
                f64::INFINITY
            };
            term = ln_4 + 0.5 * (central + next);
            central = next;
        }
        sum.add(ln_choose(order, j) + j as f64 * ln_q + term.min(plain));
    }
    softplus(sum.ln())
}

/// `ln A` at any order above one.
pub(super) fn ln_moment(q: f64, s: f64, order: f64) -> f64 {
    let plain = 0.5 * order * (order - 1.0) / (s * s);
    if q >= 1.0 {
        return plain;
    }
    let below = order.floor();
    let part = order - below;
    let mut value = (1.0 - part) * at_integer(q, s, below as u64);
    if part > 0.0 {
        value += part * at_integer(q, s, below as u64 + 1);
    }
    // Joint convexity over whether the record is drawn.
    let convex = if plain > 600.0 {
        plain + q.ln() + 1e-15
    } else {
        (q * plain.exp_m1()).ln_1p()
    };
    value.min(plain).min(convex)
}
