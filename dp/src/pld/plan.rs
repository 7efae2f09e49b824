//! Choosing tilt, grid and window from the undiscretised losses.
//!
//! Nothing here has to be right for the bounds to hold: a bad choice makes them loose, which the
//! caller sees.

use crate::gaussian::ln_tilted_tail;
use crate::pld::PldError;
use crate::pld::step::{Cut, Direction, Nodes};

/// How many entries a grid may have.
const LARGEST: f64 = (1 << 20) as f64;

/// Grids up to this size are used even where coarser ones would seem to do.
const CHEAP: f64 = (1 << 14) as f64;

/// Tilt, spacing and window of one composition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The tilt: masses are multiplied by `exp(tilt loss)`.
    pub(super) tilt: f64,
    /// Logarithm of the composed moment generating function there, before any grid.
    pub(super) ln_moment: f64,
    /// Grid spacing.
    pub(super) h: f64,
    /// First grid index of the window; even.
    pub(super) first: i64,
    /// Window length, a small odd number times a power of two.
    pub(super) len: usize,
    /// Tilt differences whose Chernoff bounds gave the window's lower and upper end.
    pub(super) chernoff: (f64, f64),
}

/// Logarithm of the moment generating function and its first two derivatives, composed.
struct Cumulants {
    k: f64,
    mean: f64,
    variance: f64,
}

fn cumulants(steps: &[(Nodes, f64)], tilt: f64) -> Cumulants {
    let mut all = Cumulants {
        k: 0.0,
        mean: 0.0,
        variance: 0.0,
    };
    for (nodes, count) in steps {
        let top = nodes
            .iter()
            .map(|(loss, ln)| tilt.mul_add(*loss, *ln))
            .fold(f64::NEG_INFINITY, f64::max);
        let (mut s0, mut s1, mut s2) = (0.0, 0.0, 0.0);
        for (loss, ln) in nodes {
            let m = (tilt.mul_add(*loss, *ln) - top).exp();
            s0 += m;
            s1 += m * loss;
            s2 += m * loss * loss;
        }
        let mean = s1 / s0;
        all.k += count * (top + s0.ln());
        all.mean += count * mean;
        all.variance += count * (s2 / s0 - mean * mean).max(mean * mean * 1e-12);
    }
    all
}

/// The bracket of tilts.
const TILTS: (f64, f64) = (1e-3, 1e9);

/// The tilt at whose mean the composed delta is about `ln_delta`, by the saddle point.
fn saddle(steps: &[(Nodes, f64)], ln_delta: f64) -> f64 {
    let (mut low, mut high) = (TILTS.0.ln(), TILTS.1.ln());
    while high - low > 1e-3 {
        let middle = 0.5 * (low + high);
        let tilt = middle.exp();
        let c = cumulants(steps, tilt);
        let ln = c.k - tilt * c.mean + ln_tilted_tail(tilt, c.variance.sqrt());
        if ln > ln_delta {
            low = middle;
        } else {
            high = middle;
        }
    }
    high.exp()
}

/// The next length that transforms fast and whose half is even.
fn length(needed: f64) -> usize {
    let whole = (needed as usize).next_power_of_two();
    let shorter = [whole / 8 * 5, whole / 4 * 3, whole];
    let enough = shorter.into_iter().find(|len| *len as f64 >= needed);
    enough.unwrap_or(whole)
}

/// Plans the composition of `counts[i]` runs of `cuts[i]`; `coarser` multiplies
/// the spacing, `stretch` the tilt of the saddle point.
pub(super) fn plan(
    cuts: &[(Cut, u64)],
    direction: Direction,
    ln_delta: f64,
    coarser: f64,
    stretch: f64,
) -> Result<Plan, PldError> {
    let steps: Vec<(Nodes, f64)> = cuts
        .iter()
        .map(|(cut, count)| (cut.nodes(direction), *count as f64))
        .collect();
    let count: f64 = steps.iter().map(|(_, count)| count).sum();
    let tilt = stretch * saddle(&steps, ln_delta);
    let here = cumulants(&steps, tilt);
    let (epsilon, deviation) = (here.mean, here.variance.sqrt());
    // Spreading adds about count (tilt + 1) h^2 / 12 to epsilon.
    let tolerance = (1e-3 * epsilon).min(3e-5) + 3e-5 * epsilon;
    let wanted = coarser * (12.0 * tolerance / (count * (tilt + 1.0))).sqrt();

    // Beyond the window less than this may lie, under the tilted measure.
    let ln_outside = ln_tilted_tail(tilt, deviation) + 1e-10f64.ln();
    let edge = |sign: f64| {
        (1..=40)
            .map(|i| {
                let theta = sign * 0.35 * f64::from(i) / deviation;
                let there = cumulants(&steps, tilt + theta);
                ((there.k - here.k - ln_outside) / theta, theta)
            })
            .fold((sign * f64::INFINITY, sign), |best, new| {
                if sign * new.0 < sign * best.0 {
                    new
                } else {
                    best
                }
            })
    };
    let (top, up) = edge(1.0);
    let (mut bottom, down) = edge(-1.0);
    if tilt <= 2.0 * TILTS.0 {
        bottom = bottom.min(0.0);
    }
    let cells = cuts
        .iter()
        .map(|(cut, _)| cut.cells(1.0))
        .fold(0.0, f64::max);
    // With few steps that is not all: resolve one step as far as it costs little.
    let widest = cuts
        .iter()
        .map(|(cut, _)| cut.loss_range())
        .fold(top - bottom, f64::max);
    let wanted = wanted.min(coarser * widest / CHEAP);
    let h = wanted.max((top - bottom) / LARGEST).max(cells / LARGEST);
    let needed = ((top - bottom) / h + 8.0).max(2048.0);
    if !needed.is_finite() || needed > 2.0 * LARGEST {
        return Err(PldError::TooWide);
    }
    let len = length(needed);
    // Fill the length: finer for free, as long as there are not more cells than that.
    let fill = (top - bottom) / (len - 8) as f64;
    let h = fill.max(cells / (2 * len) as f64).min(h);
    let first = 2 * (bottom / (2.0 * h)).floor() as i64;
    Ok(Plan {
        tilt,
        ln_moment: here.k,
        h,
        first,
        len,
        chernoff: (down, up),
    })
}
