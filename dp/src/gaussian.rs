//! The Gaussian mechanism without sampling, exactly, and the central-limit estimate with sampling.
//!
//! Unsampled Gaussian releases of noise multipliers `z_1, z_2, ...` together are one release whose
//! neighbouring outputs are `mu = sqrt(sum 1 / z_i^2)` standard deviations apart. Its privacy
//! profile is known in closed form (Balle, Wang 2018, *Improving the Gaussian Mechanism for
//! Differential Privacy*, arXiv:1805.06530, Theorem 8): with `Phi` the normal distribution function,
//!
//! ```text
//! delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu).
//! ```
//!
//! Both terms are written as a density times a Mills ratio, whose density is common, so that
//! nothing overflows or underflows and the difference keeps its digits.
//!
//! [`clt_mu`] is the central-limit theorem of Gaussian differential privacy for sampled steps (Bu,
//! Dong, Long, Su 2020, *Deep Learning with Gaussian Differential Privacy*, arXiv:1911.11607,
//! Corollary 5.4). It is an **estimate**: it is a limit, not a bound, and it usually promises too
//! much. Nothing in this crate calibrates noise with it.
//!
//! What must be true: relative error of delta below 1e-11 for `mu` above 1e-3, tested against the
//! defining integral; [`epsilon`] is the upper end of a bracket closed to 1e-12.
//!
//! ```
//! use sphinx_dp::{Delta, gaussian};
//!
//! let one = gaussian::epsilon(1.0, Delta::new(1e-5)?);
//! assert!((one - 4.377178).abs() < 1e-6);
//! // Four releases at half the distance cost the same.
//! assert_eq!(gaussian::epsilon((4.0 * 0.25f64).sqrt(), Delta::new(1e-5)?), one);
//! # Ok::<(), sphinx_dp::RangeError>(())
//! ```

use std::f64::consts::TAU;

use crate::quantity::Delta;
use crate::special::legendre;

/// `(1 - Phi(z)) / phi(z)` for `z >= 0`, the integral of `exp(-z t - t^2 / 2)` over `t >= 0`.
fn mills_right(z: f64) -> f64 {
    // Beyond this the integrand is below e^-42.
    let end = 84.0 / (z + z.mul_add(z, 84.0).sqrt());
    legendre(0.0, end, 16, |t| (-t * 0.5f64.mul_add(t, z)).exp())
}

/// The natural logarithm of the normal density.
fn ln_density(z: f64) -> f64 {
    (-0.5 * z).mul_add(z, -0.5 * TAU.ln())
}

/// `R(z1) - R(z2)` for Mills ratios `R` and `0 <= z1 < z2`, without cancellation.
fn mills_drop(z1: f64, z2: f64) -> f64 {
    if z2 - z1 > 0.5 {
        return mills_right(z1) - mills_right(z2);
    }
    let width = z2 - z1;
    let end = 84.0 / (z1 + z1.mul_add(z1, 84.0).sqrt());
    legendre(0.0, end, 16, |t| {
        (-t * 0.5f64.mul_add(t, z1)).exp() * -(-width * t).exp_m1()
    })
}

/// [`mills_right`] by a series or a continued fraction, which are faster.
fn mills_fast(z: f64) -> f64 {
    if z < 2.0 {
        // Phi(z) - 1/2 = phi(z) (z + z^3 / 3 + z^5 / (3 5) + ..)
        let (mut term, mut sum, mut odd) = (z, z, 1.0);
        while term > 1e-17 * sum {
            odd += 2.0;
            term *= z * z / odd;
            sum += term;
        }
        return 0.5 * (-ln_density(z)).exp() - sum;
    }
    // 1 / (z + 1 / (z + 2 / (z + ..))); what is left falls like e^(-2 z sqrt(2 n)).
    let terms = 6 + (180.0 / (z * z)) as u32;
    let below = (1..=terms)
        .rev()
        .fold(z, |below, k| z + f64::from(k) / below);
    below.recip()
}

/// The logarithm of the probability that a standard normal is above `z`, also far out.
pub(crate) fn ln_above(z: f64) -> f64 {
    if z >= 0.0 {
        ln_density(z) + mills_fast(z).ln()
    } else if z > -9.5 {
        (-(ln_density(z).exp() * mills_fast(-z))).ln_1p()
    } else {
        0.0
    }
}

/// How fast [`ln_above`] falls at `z`.
pub(crate) fn hazard(z: f64) -> f64 {
    (ln_density(z) - ln_above(z)).exp()
}

/// `ln E[(1 - e^-y)+ e^(-tilt y)]` over a centred normal `y` of standard deviation `deviation`.
pub(crate) fn ln_tilted_tail(tilt: f64, deviation: f64) -> f64 {
    mills_drop(tilt * deviation, (tilt + 1.0) * deviation).ln() - 0.5 * TAU.ln()
}

/// The logarithm of the smallest delta at which a Gaussian release at distance `mu > 0` is
/// (`epsilon`, delta)-private.
#[must_use]
pub fn ln_delta(mu: f64, epsilon: f64) -> f64 {
    let low = epsilon / mu - 0.5 * mu;
    let high = epsilon / mu + 0.5 * mu;
    if low >= 0.0 {
        return ln_density(low) + mills_drop(low, high).ln();
    }
    if mu < 1.0 {
        return direct(mu, epsilon);
    }
    let other = mills_right(-low) + mills_right(high);
    (-(ln_density(low).exp() * other)).ln_1p()
}

/// The defining integral `E[(1 - e^(epsilon - loss))+]`, for small distances and losses.
fn direct(mu: f64, epsilon: f64) -> f64 {
    let start = epsilon / mu - 0.5 * mu;
    legendre(start, start.max(0.0) + 9.5, 24, |x| {
        ln_density(x).exp() * -(-mu * (x - start)).exp_m1()
    })
    .ln()
}

/// The smallest epsilon at which a Gaussian release at distance `mu` is (epsilon, `delta`)-private,
/// rounded up by at most 1e-12 relatively; zero for `mu = 0`.
#[must_use]
pub fn epsilon(mu: f64, delta: Delta) -> f64 {
    let target = delta.get().ln();
    if mu <= 0.0 || ln_delta(mu, 0.0) <= target {
        return 0.0;
    }
    // delta <= 1 - Phi(low) <= exp(-low^2 / 2).
    let (mut low, mut high) = (
        0.0,
        mu * (0.5f64.mul_add(mu, (-2.0 * target).sqrt()) + 1e-6),
    );
    while high - low > 5e-13 * high {
        let middle = 0.5 * (low + high);
        if ln_delta(mu, middle) <= target {
            high = middle;
        } else {
            low = middle;
        }
    }
    high * (1.0 + 4e-13)
}

/// The distance `q sqrt(T (e^(1/z^2) - 1))` that `steps` sampled steps approach: an **estimate**
/// without a direction, never a bound. At `rate` one it is exact: `sqrt(T) / z`.
#[must_use]
pub fn clt_mu(rate: f64, noise_multiplier: f64, steps: u64) -> f64 {
    let precision = (noise_multiplier * noise_multiplier).recip();
    let one = if rate >= 1.0 {
        precision
    } else {
        rate * rate * precision.exp_m1()
    };
    (one * steps as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simpson's rule on the defining integral, slow.
    fn slow(mu: f64, epsilon: f64) -> f64 {
        let (n, start) = (200_000, epsilon / mu - 0.5 * mu);
        let width = (start.max(0.0) + 12.0 - start) / f64::from(n);
        let f = |i: i32| {
            let y = f64::from(i) * width;
            let x = start + y;
            (-0.5 * x * x).exp() * -(-mu * y).exp_m1()
        };
        let sum: f64 = (0..n / 2)
            .map(|i| f(2 * i) + 4.0 * f(2 * i + 1) + f(2 * i + 2))
            .sum();
        sum * width / 3.0 / TAU.sqrt()
    }

    #[test]
    fn tails_by_integral_and_series() {
        for i in 0..400 {
            let z = 0.05 * f64::from(i);
            let (slow, fast) = (mills_right(z), mills_fast(z));
            assert!((fast / slow - 1.0).abs() < 3e-14, "{z}: {fast} {slow}");
            let both = ln_above(z).exp() + ln_above(-z).exp();
            assert!((both - 1.0).abs() < 1e-15, "{z}: {both}");
        }
        // By its derivative.
        for z in [-3.0, -0.4, 1.1, 6.0, 40.0] {
            let fall = (ln_above(z - 1e-5) - ln_above(z + 1e-5)) / 2e-5;
            assert!((hazard(z) - fall).abs() < 1e-6 * (1.0 + fall), "{z}");
        }
    }

    #[test]
    fn profile_is_its_integral() {
        for mu in [1e-3, 0.1, 0.7, 1.0, 3.0, 20.0] {
            for x in [-2.0, -0.4, 0.0, 0.3, 2.0, 6.0] {
                let epsilon: f64 = mu * (0.5 * mu + x);
                if epsilon < 0.0 {
                    continue;
                }
                let (fast, slow) = (ln_delta(mu, epsilon), slow(mu, epsilon).ln());
                assert!((fast - slow).abs() < 2e-11, "{mu} {x}: {fast} {slow}");
            }
        }
    }
}
