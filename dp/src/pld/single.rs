//! One step alone: the closed form of amplification by sampling.
//!
//! With `P` the mixture `(1 - q) B + q A` of two Gaussians and `D(a, b) = sup (a A - b B)` over
//! events (their hockey stick), removing gives `P - e^eps B = q (A - k B)` with
//! `k = 1 + (e^eps - 1) / q`, and adding gives `B - e^eps P = (1 - e^eps (1 - q)) (B - k A)` with
//! `k = q e^eps / (1 - e^eps (1 - q))` (Balle, Barthe, Gaboardi 2018, arXiv:1807.01647, Theorem 2;
//! directly for these two). Both brackets are a Gaussian's profile at `ln k`.

use super::Direction;
use crate::flat::Step;
use crate::gaussian::ln_delta;
use crate::special::{ln_expm1, search, softplus};

/// `ln delta(epsilon)` of one sampled step.
pub(super) fn ln_delta_of(step: Step, direction: Direction, epsilon: f64) -> f64 {
    let (q, mu) = (step.rate, step.noise_multiplier.recip());
    match direction {
        Direction::Remove | Direction::Replace => {
            // ln (1 + (e^eps - 1) / q), also where e^eps overflows.
            let at = if epsilon > 0.0 {
                softplus(ln_expm1(epsilon) - q.ln())
            } else {
                0.0
            };
            q.ln() + ln_delta(mu, at)
        }
        Direction::Add => {
            // 1 - e^eps (1 - q)
            let rest = -(epsilon + (-q).ln_1p()).exp_m1();
            if rest <= 0.0 {
                return f64::NEG_INFINITY;
            }
            let at = (q.ln() + epsilon - rest.ln()).max(0.0);
            rest.ln() + ln_delta(mu, at)
        }
    }
}

/// The smallest epsilon of one sampled step at this logarithm of delta, rounded up a little.
pub(super) fn epsilon_of(step: Step, direction: Direction, ln_delta: f64) -> f64 {
    let off = |epsilon: f64| Ok::<_, ()>(ln_delta_of(step, direction, epsilon) - ln_delta);
    // The Gaussian without sampling costs more.
    let mu = step.noise_multiplier.recip();
    let most = mu * (0.5 * mu + (-2.0 * ln_delta).sqrt() + 1e-6);
    let found = search(off, 0.0, 0.01 * most, (0.0, most), 1e-11 * most);
    found.ok().flatten().map_or(most, |(_, high)| high)
}
