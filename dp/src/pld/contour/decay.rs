//! How fast a characteristic function falls: what is left out of the inversion is small for certain.
//!
//! Both bounds are on `|f(t)|` for the characteristic function `f` of one step's tilted loss.
//! - `|f(t)| <= V / t` for the total variation `V` of the density of the loss (one integration by
//!   parts): the integral of the modulus of its derivative, which is known in closed form.
//! - `|f(t)|^2 = E cos(t (l - l')) <= 1 - (4 / pi^2) t^2 W`, `W` being the variance within some
//!   interval of length `pi / t` times the square of its probability, as
//!   `1 - cos u >= 2 u^2 / pi^2` for `|u| <= pi`.

use std::f64::consts::PI;

use super::nodes::Nodes;

/// The share of `W` that is relied on: nodes stand for cells, in which the density varies.
const SAFETY: f64 = 0.25;

/// Cells in which the density varies by more than a factor `exp` of this do not count.
const STEEPEST: f64 = 1.2;

/// The bounds for one kind of step.
pub(super) struct Decay {
    loss: Vec<f64>,
    mass: Vec<f64>,
    noise: f64,
    /// The total variation of the density of the loss.
    pub(super) variation: f64,
    /// Number of such steps.
    pub(super) count: f64,
}

impl Decay {
    /// From nodes that resolve the density.
    pub(super) fn new(nodes: &Nodes, count: f64) -> Self {
        let n = nodes.mass.len();
        // The integral of the modulus of the derivative of the density.
        let slopes = nodes.bend.iter().zip(&nodes.slope);
        let slopes = slopes.map(|(bend, slope)| bend.abs() / slope.max(1e-300));
        let variation: f64 = slopes
            .zip(&nodes.mass)
            .map(|(rise, mass)| rise * mass)
            .sum();
        let usable = |i: &usize| nodes.steepness[*i].abs() * nodes.spacing < STEEPEST;
        let mut pairs: Vec<(f64, f64)> = (0..n)
            .filter(usable)
            .map(|i| (nodes.loss[i], nodes.mass[i]))
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let largest = pairs.iter().map(|(l, m)| m * l * l).fold(0.0, f64::max);
        Self {
            loss: pairs.iter().map(|(l, _)| *l).collect(),
            mass: pairs.iter().map(|(_, m)| *m).collect(),
            noise: 1e-13 * largest,
            // At a maximum the modulus of the derivative has a corner.
            variation: 1.1 * variation,
            count,
        }
    }

    /// The largest variance times squared probability within an interval of this length.
    fn concentrated(&self, length: f64) -> f64 {
        let (mut best, mut first) = (0.0f64, 0);
        let (mut m0, mut m1, mut m2) = (0.0f64, 0.0f64, 0.0f64);
        for last in 0..self.loss.len() {
            let (l, m) = (self.loss[last], self.mass[last]);
            m0 += m;
            m1 += m * l;
            m2 += m * l * l;
            while l - self.loss[first] > length {
                let (l, m) = (self.loss[first], self.mass[first]);
                m0 -= m;
                m1 -= m * l;
                m2 -= m * l * l;
                first += 1;
            }
            best = best.max(m0 * m2 - m1 * m1);
        }
        (SAFETY * best - self.noise).max(0.0)
    }

    /// An upper bound on `ln |f(t)|^count` for all `t` in `low..=high`.
    pub(super) fn ln_bound(&self, low: f64, high: f64) -> f64 {
        let square = 4.0 / (PI * PI) * low * low * self.concentrated(PI / high);
        let within = 0.5 * (-square.min(1.0 - 1e-12)).ln_1p();
        let smooth = (self.variation / low).ln();
        self.count * within.min(smooth).min(0.0)
    }
}

/// The frequency from `start` on, at most `latest`, from which everything together is below
/// `enough`, and what it is below; none if there is none.
///
/// What is summed up at frequencies `dt` apart is below the integral times `1 + 6 dt / start`.
pub(super) fn end(
    decays: &[Decay],
    precision: f64,
    start: f64,
    latest: f64,
    enough: f64,
) -> Option<(f64, f64)> {
    const RATIO: f64 = 1.2;
    let enough = enough * PI;
    let widest = decays.iter().map(|d| d.variation).fold(0.0, f64::max);
    // (start of a band, bound on the integral over it)
    let mut bands = Vec::new();
    let mut low = start;
    let mut rest = loop {
        let gauss = -0.5 * precision * low * low;
        let bounds = decays.iter().map(|d| d.ln_bound(low, low * RATIO));
        let bound = (bounds.sum::<f64>() + gauss).exp();
        // Beyond all variations, or where the Gaussian alone suffices, bounds only fall.
        let settled = low > widest || gauss < -60.0;
        if settled && bound / low < 0.1 * enough {
            break bound / low;
        }
        if low > latest {
            return None;
        }
        bands.push((low, bound * (low.recip() - (low * RATIO).recip())));
        low *= RATIO;
    };
    for (start, band) in bands.into_iter().rev() {
        if rest + band > enough {
            break;
        }
        (low, rest) = (start, rest + band);
    }
    (low <= latest).then_some((low, rest / PI))
}
