//! The moment generating function of one step's loss, on the real axis and off it.

use std::f64::consts::{PI, TAU};

use crate::flat::Step;
use crate::gaussian::{hazard, ln_above};
use crate::pld::Direction;

/// How far the integral runs beyond the outermost peaks, in standard deviations.
const REACH: f64 = 9.5;

/// The trapezoidal rule is made exact up to the exponential of minus this.
const EXACT: f64 = 37.0;

/// Nodes this far below the largest, as a logarithm, are left out.
const NEGLIGIBLE: f64 = 45.0;

/// More nodes than this are refused.
const MOST: f64 = 1_000_000.0;

/// Which outputs of a step count, smoothly, so that everything stays analytic: an output `x` with the
/// probability that a normal variable of mean `from` and deviation `width` is below it, times that of
/// one of mean `to` being above it. Infinite ends are none.
#[derive(Debug, Clone, Copy)]
pub(in crate::pld) struct Part {
    pub(in crate::pld) from: f64,
    pub(in crate::pld) to: f64,
    pub(in crate::pld) width: f64,
}

impl Part {
    /// All outputs.
    pub(in crate::pld) const WHOLE: Self = Self {
        from: f64::NEG_INFINITY,
        to: f64::INFINITY,
        width: f64::INFINITY,
    };

    pub(super) const fn is_whole(self) -> bool {
        self.width.is_infinite()
    }

    /// The logarithm of the share of the output `x` that counts, and how fast it rises.
    fn ln_share(self, x: f64) -> (f64, f64) {
        let (mut ln, mut rise) = (0.0, 0.0);
        for (end, sign) in [(self.from, 1.0), (self.to, -1.0)] {
            if end.is_finite() {
                let u = sign * (end - x) / self.width;
                ln += ln_above(u);
                rise += sign * hazard(u) / self.width;
            }
        }
        (ln, rise)
    }

    /// How many cuts there are.
    fn cuts(self) -> f64 {
        f64::from(u8::from(self.from.is_finite()) + u8::from(self.to.is_finite()))
    }
}

/// A step, or the part of it with these outputs.
#[derive(Debug, Clone, Copy)]
pub(in crate::pld) struct Slice {
    pub(in crate::pld) step: Step,
    pub(in crate::pld) part: Part,
}

/// One step's privacy loss under a tilt, as weighted nodes in ascending order of the output.
pub(super) struct Nodes {
    /// Losses.
    pub(super) loss: Vec<f64>,
    /// Probabilities under the tilted measure; they add up to one.
    pub(super) mass: Vec<f64>,
    /// `|d loss / d x|` there.
    pub(super) slope: Vec<f64>,
    /// How fast the logarithm of the mass rises, per unit of the output.
    pub(super) steepness: Vec<f64>,
    /// How fast the logarithm of the density of the loss rises, per unit of the output.
    pub(super) bend: Vec<f64>,
    /// Spacing in units of the output.
    pub(super) spacing: f64,
    /// Logarithm of the moment generating function at the tilt.
    pub(super) ln_moment: f64,
    /// The largest intermediate that was added up in an exponent.
    pub(super) magnitude: f64,
}

/// Mean and variance of the tilted loss.
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

/// The node spacing at which the moment generating function is exact to rounding at
/// `tilt + i t` for all `|t| <= frequency`, and on half of whose strip the integrand is analytic.
///
/// At height `b` off the real axis, `b < pi z^2`, the ratio `r` turns by at most `b / z^2` and keeps
/// `cos(b / (2 z^2))` of its modulus, so the integrand grows by at most
/// `exp(b^2 / (2 z^2) + t b / z^2)`, times `cos(b / (2 z^2))^-tilt` when adding, and times
/// `exp(b^2 / (2 w^2))` for every cut of width `w`.
fn spacing(slice: Slice, direction: Direction, tilt: f64, frequency: f64) -> f64 {
    let (z, width) = (slice.step.noise_multiplier, slice.part.width);
    let square = z * z;
    let widest = (0.95 * PI * square).min(8.6 * z).min(16.0 * width);
    let mut best: f64 = 0.0;
    for part in [1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02, 0.005] {
        let b = part * widest;
        let turn = b / square;
        let shrunk = match direction {
            Direction::Remove | Direction::Replace => 0.0,
            Direction::Add => -tilt * (0.5 * turn).cos().ln(),
        };
        let cut = 0.5 * slice.part.cuts() * (b / width) * (b / width);
        let turned = turned(slice, tilt, frequency * turn);
        let growth = 0.5 * b * turn + turned + shrunk + cut;
        best = best.max(TAU * b / (growth + EXACT));
    }
    best
}

/// How much the turning of the ratio by at most `most` at all outputs lets the integrand grow: at an
/// output at which the second part of the mixture has the share `S < 1/4` it turns only by a part `2 S`
/// of it, and beyond a cut the density falls.
fn turned(slice: Slice, tilt: f64, most: f64) -> f64 {
    let Part { to, width, .. } = slice.part;
    if !to.is_finite() || most <= 0.0 {
        return most;
    }
    let at = |off: f64| {
        let (ln_ratio, share) = output(slice.step, to + off);
        let part = if share < 0.25 { 2.0 * share } else { 1.0 };
        most * part + (1.0 + tilt) * ln_ratio - 0.5 * (off / width) * (off / width)
    };
    let here = (1.0 + tilt) * output(slice.step, to).0;
    // Where the fall alone is larger than everything else.
    let z = slice.step.noise_multiplier;
    let pull = (1.0 + tilt) * width / (z * z);
    let last = width * (2.0 * most + 4.0 * pull * pull).sqrt().max(1.0);
    let (mut worst, mut off) = (at(0.0), 0.3 * width);
    while off < 1.5 * last {
        worst = worst.max(at(off));
        off *= 1.2;
    }
    // Between the outputs that were tried.
    (1.05 * (worst - here) + 4.0).min(most)
}

/// How far beyond a cut the tilted density lives.
fn beyond(slice: Slice, tilt: f64) -> f64 {
    let Part { to, width, .. } = slice.part;
    let here = output(slice.step, to).0;
    let fall = |off: f64| {
        let gain = (1.0 + tilt) * (output(slice.step, to + off).0 - here);
        gain - 0.5 * (off / width) * (off / width)
    };
    let z = slice.step.noise_multiplier;
    // From here on half the fall is more than the gain, and the other half enough.
    let mut off = (4.0 * (1.0 + tilt) * (width / z) * (width / z)).max(15.0 * width);
    while off > 2.0 * width && fall(off / 1.1) < -NEGLIGIBLE - 5.0 {
        off /= 1.1;
    }
    off
}

/// Where the tilted density of the output lives.
fn range(slice: Slice, direction: Direction, tilt: f64) -> (f64, f64) {
    let (low, high) = whole_range(slice.step, direction, tilt);
    let z = slice.step.noise_multiplier;
    let Part { from, to, width } = slice.part;
    let (mut low, mut high) = (low, high);
    if from.is_finite() {
        let back = REACH + width * from.abs() / (z * z);
        low = low.max(width.mul_add(-back, from));
        high = high.max(REACH.mul_add(z, from));
    }
    if to.is_finite() {
        high = high.min(to + beyond(slice, tilt));
    }
    (low, high)
}

fn whole_range(step: Step, direction: Direction, tilt: f64) -> (f64, f64) {
    let z = step.noise_multiplier;
    match direction {
        Direction::Remove | Direction::Replace => (-REACH * z, REACH.mul_add(z, 1.0 + tilt)),
        Direction::Add => {
            // Log-concave, at least as curved as a Gaussian; the peak solves -x = tilt share(x).
            let (mut low, mut high) = (-tilt, 0.0);
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if -middle - tilt * output(step, middle).1 > 0.0 {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            (REACH.mul_add(-z, low), REACH.mul_add(z, high))
        }
    }
}

/// `ln r(x)` and the share of the mixture's second part in `r(x)`.
fn output(step: Step, x: f64) -> (f64, f64) {
    let (q, z) = (step.rate, step.noise_multiplier);
    let exponent = (x - 0.5) / (z * z);
    if exponent > 600.0 {
        let rest = (1.0 - q) / q * (-exponent).exp();
        return (exponent + q.ln() + rest.ln_1p(), 1.0 / (1.0 + rest));
    }
    let u = q * exponent.exp_m1();
    (u.ln_1p(), (u + q) / (1.0 + u))
}

impl Nodes {
    /// The nodes for `tilt + i t`, `|t| <= frequency`; none if there are too many.
    pub(super) fn new(
        slice: Slice,
        direction: Direction,
        tilt: f64,
        frequency: f64,
        finest: f64,
    ) -> Option<Self> {
        let Slice { step, part } = slice;
        let z = step.noise_multiplier;
        let fine = finest * z.min(z * z).min(part.width);
        let spacing = spacing(slice, direction, tilt, frequency).min(fine);
        let (low, high) = range(slice, direction, tilt);
        let count = (high - low) / spacing;
        if count.is_nan() || count >= MOST {
            return None;
        }
        let constant = (spacing / (TAU.sqrt() * z)).ln();
        let mut all = Vec::with_capacity(((high - low) / spacing) as usize + 2);
        let mut top = f64::NEG_INFINITY;
        for i in (low / spacing).floor() as i64..=(high / spacing).ceil() as i64 {
            let x = i as f64 * spacing;
            let (ln_ratio, share) = output(step, x);
            let (power, loss) = match direction {
                Direction::Remove | Direction::Replace => (1.0 + tilt, ln_ratio),
                Direction::Add => (-tilt, -ln_ratio),
            };
            let base = -0.5 * (x / z) * (x / z);
            let (cut, rise) = part.ln_share(x);
            let ln = power.mul_add(ln_ratio, base + constant) + cut;
            top = top.max(ln);
            let magnitude = base.abs() + (power * ln_ratio).abs() + cut.abs();
            all.push((ln, x, loss, share, magnitude, rise));
        }
        let mut nodes = Self {
            loss: Vec::with_capacity(all.len()),
            mass: Vec::with_capacity(all.len()),
            slope: Vec::with_capacity(all.len()),
            steepness: Vec::with_capacity(all.len()),
            bend: Vec::with_capacity(all.len()),
            spacing,
            ln_moment: 0.0,
            magnitude: 0.0,
        };
        let mut total = 0.0;
        for (ln, x, loss, share, magnitude, rise) in all {
            if ln < top - NEGLIGIBLE {
                continue;
            }
            let mass = (ln - top).exp();
            total += mass;
            let pull = match direction {
                Direction::Remove | Direction::Replace => (1.0 + tilt) * share,
                Direction::Add => -tilt * share,
            };
            nodes.loss.push(loss);
            nodes.mass.push(mass);
            nodes.slope.push(share / (z * z));
            let steepness = (pull - x) / (z * z) + rise;
            nodes.steepness.push(steepness);
            nodes.bend.push(steepness - (1.0 - share) / (z * z));
            if ln > top - 25.0 {
                nodes.magnitude = nodes.magnitude.max(magnitude);
            }
        }
        nodes.ln_moment = top + total.ln();
        let scale = total.recip();
        nodes.mass.iter_mut().for_each(|mass| *mass *= scale);
        nodes.ln_moment.is_finite().then_some(nodes)
    }

    pub(super) fn moments(&self) -> Moments {
        let pairs = || self.mass.iter().zip(&self.loss);
        let mean: f64 = pairs().map(|(m, l)| m * l).sum();
        let variance = pairs().map(|(m, l)| m * (l - mean) * (l - mean)).sum();
        Moments { mean, variance }
    }
}
