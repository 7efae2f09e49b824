//! The privacy profile by numerical inversion of the characteristic function: for many steps.
//!
//! With `K(s)` the logarithm of `E[e^(s loss)]` of all steps together,
//! `delta(epsilon) = 1/(2 pi i) integral of e^(K(s) - s epsilon) / (s (s + 1)) ds` along any line
//! `Re s = tilt > 0`. The trapezoidal rule with spacing `2 pi / length` gives exactly
//! `sum over j of e^(tilt j length) delta(epsilon + j length)`: the wanted value and others of
//! either sign of `j`, all of them positive and small.
//!
//! Where `K` falls too slowly along the line (few steps at a low rate leave the loss rough), a
//! Gaussian release of a tiny distance `mu` is composed on top. That can only raise delta, by at
//! most `mu^2 (1 + mu) e^(mu^2 / 8)` times the density of the loss at epsilon, which is computed as
//! well: a bound from both sides. See the proof in [`crate::pld`].

mod decay;
mod nodes;
mod transform;

use std::f64::consts::PI;

use self::decay::Decay;
use self::nodes::Nodes;
pub(super) use self::nodes::{Part, Slice};
use super::target::Target;
use super::{Direction, PldError};
use crate::gaussian::ln_tilted_tail;
use crate::special::search;

/// Everything that is composed: sampled steps with their numbers, and the sum of `1 / z^2` of the
/// unsampled ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Composed<'a> {
    pub(super) steps: &'a [(Slice, u64)],
    pub(super) precision: f64,
}

/// What is left out may be this much of the result.
const LEFT_OUT: f64 = 1e-9;

/// What smoothing may add to epsilon, relative to one plus epsilon.
const SMOOTHED: f64 = 4e-6;

/// The largest square of the distance of the Gaussian on top: what it adds is bounded well up to here.
const MOST_SMOOTHED: f64 = 0.25;

/// More frequencies than this are refused, at first and at last.
const MOST: (f64, f64) = (16_384.0, 262_144.0);

/// Errors in `ln delta` above which an answer is refused.
const REFUSED: f64 = 1e-2;

/// One way to compose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Multiplies the tilt.
    stretch: f64,
    /// Multiplies what is left out.
    closer: f64,
    /// Multiplies what smoothing may add.
    smoother: f64,
    /// How wide a bracket on epsilon is accepted, in units of `SMOOTHED (1 + epsilon)`.
    wide: f64,
    /// Smoothing is for a profile that falls at least this fast.
    steep: f64,
    /// More frequencies than this are refused.
    most: f64,
}

impl Way {
    /// For a part of a profile that falls at this rate as a whole.
    pub(super) const fn part(steep: f64) -> Self {
        Self {
            steep,
            ..way(1.0, 1e-2, 1.0, 8.0)
        }
    }
}

const fn way(stretch: f64, closer: f64, smoother: f64, wide: f64) -> Way {
    Way {
        stretch,
        closer,
        smoother,
        wide,
        steep: 0.0,
        most: MOST.1,
    }
}

/// The ways that are tried, one after the other: with few steps of two very different outcomes the
/// middle of the tilted loss may be far from the target.
pub(super) const WAYS: [Way; 7] = [
    Way {
        most: MOST.0,
        ..way(1.0, 1.0, 1.0, 8.0)
    },
    way(0.8, 1e-5, 0.1, 8.0),
    way(1.25, 1e-3, 0.1, 8.0),
    way(1.0, 1e-3, 1.0, 40.0),
    way(0.6, 1e-5, 1.0, 40.0),
    way(1.6, 1e-5, 1.0, 40.0),
    way(2.4, 1e-5, 1.0, 40.0),
];

/// The tilts that are tried.
const TILTS: (f64, f64) = (1e-6, 1e7);

/// Nodes of this spacing, in units of the scale on which the density varies, serve the bounds on
/// the decay.
const FINE: f64 = 0.125;

/// `K` and its first two derivatives at a real tilt.
pub(super) struct Cumulants {
    k: f64,
    mean: f64,
    pub(super) variance: f64,
}

impl Cumulants {
    /// A frequency at which nothing has fallen far yet, and how much may be left out of the tilted
    /// result.
    fn scales(&self, tilt: f64, closer: f64) -> (f64, f64) {
        let deviation = self.variance.sqrt();
        let size = ln_tilted_tail(tilt, deviation);
        (2.0 / deviation, (size + (LEFT_OUT * closer).ln()).exp())
    }
}

impl Composed<'_> {
    pub(super) fn cumulants(&self, direction: Direction, tilt: f64) -> Result<Cumulants, PldError> {
        let p = self.precision;
        let mut all = Cumulants {
            k: 0.5 * p * tilt * (tilt + 1.0),
            mean: p * (tilt + 0.5),
            variance: p,
        };
        for (step, count) in self.steps {
            let nodes = Nodes::new(*step, direction, tilt, 0.0, f64::INFINITY);
            let nodes = nodes.ok_or(PldError::TooWide)?;
            let (count, moments) = (*count as f64, nodes.moments());
            all.k += count * nodes.ln_moment;
            all.mean += count * moments.mean;
            all.variance += count * moments.variance;
        }
        Ok(all)
    }

    /// The logarithm of the probability of the outcomes that count.
    pub(super) fn ln_mass(&self, direction: Direction) -> Result<f64, PldError> {
        let whole = |(slice, _): &(Slice, u64)| slice.part.is_whole();
        if self.steps.iter().all(whole) {
            return Ok(0.0);
        }
        Ok(self.cumulants(direction, 0.0)?.k + 1e-9)
    }

    /// A bound on `ln delta(epsilon)` of the outcomes that count, by Chernoff's inequality at a few tilts
    /// around this one.
    pub(super) fn ln_chernoff(&self, direction: Direction, epsilon: f64, tilt: f64) -> (f64, f64) {
        let mut best = (0.0, tilt);
        for k in 0..8 {
            let tilt = tilt * f64::from(k).exp2();
            let Ok(here) = self.cumulants(direction, tilt) else {
                break;
            };
            let ln = ln_peak(tilt) + here.k - tilt * epsilon;
            if ln < best.0 {
                best = (ln, tilt);
            } else if k > 0 && here.mean > epsilon {
                break;
            }
        }
        best
    }

    /// Bounds on the decay of every kind of step under a tilt.
    fn decays(&self, direction: Direction, tilt: f64) -> Result<Vec<Decay>, PldError> {
        let one = |(step, count): &(Slice, u64)| {
            let nodes = Nodes::new(*step, direction, tilt, 0.0, FINE).ok_or(PldError::TooWide)?;
            Ok(Decay::new(&nodes, *count as f64))
        };
        self.steps.iter().map(one).collect()
    }

    /// The tilt under which the target lies in the middle of the composed loss.
    fn tilt(&self, direction: Direction, target: Target) -> Result<f64, PldError> {
        let off = |ln_tilt: f64| {
            let tilt = ln_tilt.exp();
            let c = self.cumulants(direction, tilt)?;
            let deviation = c.variance.sqrt();
            let ln_delta = c.k - tilt * c.mean + ln_tilted_tail(tilt, deviation);
            // Far below one deviation the line would run too close to the pole at zero.
            let crowded = (0.4 / (tilt * deviation)).ln();
            Ok(crowded.max(match target {
                Target::LnDelta(wanted) => ln_delta - wanted,
                Target::Epsilon(wanted) => wanted - c.mean,
            }))
        };
        let ends = (TILTS.0.ln(), TILTS.1.ln());
        let found = search(off, 1.0, 1.0, ends, 0.02)?;
        found.map_or(Err(PldError::Precision), |(_, high)| Ok(high.exp()))
    }
}

/// The logarithm, minus infinity where nothing is left: no lower bound then.
pub(super) fn ln_or_nothing(x: f64) -> f64 {
    if x > 0.0 { x.ln() } else { f64::NEG_INFINITY }
}

/// `ln` of the largest `(1 - e^-y)+ e^(-tilt y)`.
fn ln_peak(tilt: f64) -> f64 {
    tilt * tilt.ln() - (tilt + 1.0) * (tilt + 1.0).ln()
}

/// A tilt to one side, for Chernoff's inequality: the difference of tilts and of `K`.
#[derive(Debug, Clone, Copy)]
struct Aside {
    tilt: f64,
    by: f64,
    k: f64,
}

/// The composed loss of one direction, ready to be asked about many epsilons near its middle.
#[derive(Debug, Clone)]
pub(super) struct Contour {
    pub(super) tilt: f64,
    k: f64,
    middle: f64,
    deviation: f64,
    /// Spacing of the frequencies.
    dt: f64,
    /// The transform at `tilt + i k dt`, with all factors; real and imaginary parts.
    terms: Vec<(f64, f64)>,
    /// Rounding and what was left out, of the tilted value.
    absolute: f64,
    /// Error of `k`.
    relative: f64,
    above: Aside,
    below: Aside,
    /// Logarithm of the mass of the outcomes that count.
    ln_mass: f64,
    /// The square of the distance of the Gaussian release on top.
    smoothing: f64,
    /// How wide a bracket is accepted.
    wide: f64,
}

impl Contour {
    /// Composes for the neighbourhood of a target, with the tilt stretched and errors reduced.
    ///
    /// # Errors
    /// [`PldError`] where this would take too long or where rounding errors are too large.
    pub(super) fn new(
        composed: Composed<'_>,
        direction: Direction,
        target: Target,
        way: Way,
    ) -> Result<Self, PldError> {
        let tilt = way.stretch * composed.tilt(direction, target)?;
        let decays = composed.decays(direction, tilt)?;
        let here = composed.cumulants(direction, tilt)?;
        let (start, enough) = here.scales(tilt, way.closer);
        let allowed = way.smoother * SMOOTHED * (1.0 + here.mean.max(0.0));
        let steep = tilt.max(way.steep) + 1.0;
        let most = MOST_SMOOTHED.min(0.5 / (steep * steep));
        let smoothing = (2.0 * allowed / steep).min(most);
        // Where the Gaussian on top alone would end.
        let latest = 7.0 / smoothing.sqrt();
        if let Some(end) = decay::end(&decays, composed.precision, start, latest, enough) {
            return Self::along(composed, direction, tilt, &here, end, (0.0, way));
        }
        let composed = Composed {
            precision: composed.precision + smoothing,
            ..composed
        };
        let here = composed.cumulants(direction, tilt)?;
        let (start, enough) = here.scales(tilt, way.closer);
        let end = decay::end(&decays, composed.precision, start, f64::INFINITY, enough);
        let end = end.ok_or(PldError::TooWide)?;
        Self::along(composed, direction, tilt, &here, end, (smoothing, way))
    }

    /// Composes along the line at `tilt`, up to the given frequency, beyond which the given rest
    /// lies.
    fn along(
        composed: Composed<'_>,
        direction: Direction,
        tilt: f64,
        here: &Cumulants,
        (end, rest): (f64, f64),
        (smoothing, way): (f64, Way),
    ) -> Result<Self, PldError> {
        let deviation = here.variance.sqrt();
        let size = ln_tilted_tail(tilt, deviation);
        let left_out = size + (LEFT_OUT * way.closer).ln();
        let aside = |sign: f64| -> Result<(f64, Aside), PldError> {
            let nothing = Aside {
                tilt,
                by: sign,
                k: f64::INFINITY,
            };
            let mut best = (f64::INFINITY, nothing);
            let scales = [0.7, 1.5, 3.0, 5.0, 7.0, 10.0].map(|multiple| multiple / deviation);
            // Where a little more tilt reaches another outcome, only small steps help.
            let shares = [0.1, 0.25].map(|share| share * tilt);
            let far = scales[0] > 0.5 * tilt;
            for by in scales.into_iter().chain(shares.into_iter().filter(|_| far)) {
                let by = sign * by;
                if tilt + by < 0.02 * tilt {
                    continue;
                }
                let k = composed.cumulants(direction, tilt + by)?.k - here.k;
                let reach = (ln_peak(tilt + by) + k - by * here.mean - left_out) / by.abs();
                if reach < best.0 {
                    let tilt = tilt + by;
                    best = (reach, Aside { tilt, by, k });
                }
            }
            Ok(best)
        };
        let (above, below) = (aside(1.0)?, aside(-1.0)?);
        // Delta is at most all the mass: another bound on the values below.
        let ln_mass = composed.ln_mass(direction)?;
        let certain = (tilt * here.mean - here.k + ln_mass - left_out) / tilt;
        let length = 1.1 * above.0.max(below.0.min(certain)) + 0.1 * deviation;
        let dt = 2.0 * PI / length;
        let count = (end / dt).ceil() + 1.0;
        if !(dt > 0.0 && count < way.most) {
            return Err(PldError::TooWide);
        }
        let mut contour = Self {
            tilt,
            k: here.k,
            middle: here.mean,
            deviation,
            dt,
            terms: Vec::new(),
            absolute: rest * (1.0 + 6.0 * dt / end),
            relative: 0.0,
            above: above.1,
            below: below.1,
            ln_mass,
            smoothing,
            wide: way.wide,
        };
        contour.fill(composed, direction, count as usize)?;
        Ok(contour)
    }

    /// Evaluates the transform at `count` frequencies.
    fn fill(
        &mut self,
        composed: Composed<'_>,
        direction: Direction,
        count: usize,
    ) -> Result<(), PldError> {
        let (dt, tilt, p) = (self.dt, self.tilt, composed.precision);
        let frequency = |k: usize| k as f64 * dt;
        let gauss = |k: usize| {
            let t = frequency(k);
            (-0.5 * p * t * t, p * (tilt + 0.5) * t)
        };
        // Logarithm of the modulus, angle, and relative error.
        let mut logs: Vec<(f64, f64)> = (0..count).map(gauss).collect();
        let mut errors = vec![0.0; count];
        self.k = 0.5 * p * tilt * (tilt + 1.0);
        for (step, times) in composed.steps {
            let nodes = Nodes::new(*step, direction, tilt, frequency(count), f64::INFINITY);
            let (nodes, times) = (nodes.ok_or(PldError::TooWide)?, *times as f64);
            self.k += times * nodes.ln_moment;
            let rounding = 4.0 * f64::EPSILON * (nodes.magnitude + 20.0);
            self.relative += times * rounding;
            let pairs = nodes.mass.iter().zip(&nodes.loss);
            let spread: f64 = pairs.map(|(mass, loss)| mass * loss.abs()).sum();
            let values = transform::characteristic(&nodes, dt, count);
            for (k, (re, im)) in values.values.into_iter().enumerate() {
                let turned = 4.0 * f64::EPSILON * (frequency(k) * spread + 40.0) + values.error;
                let modulus = re.hypot(im) + f64::MIN_POSITIVE;
                logs[k].0 += times * modulus.ln();
                logs[k].1 += times * im.atan2(re);
                errors[k] += times * ((rounding + turned) / modulus).ln_1p();
            }
        }
        self.relative += 4.0 * f64::EPSILON * self.k.abs();
        self.terms = Vec::with_capacity(count);
        for (k, ((ln, angle), error)) in logs.into_iter().zip(errors).enumerate() {
            let t = frequency(k);
            let weight = if k == 0 { 0.5 } else { 1.0 } * dt / PI;
            let (re, im) = self.pole(t);
            let norm = re.mul_add(re, im * im);
            let size = weight * ln.exp();
            let (sin, cos) = angle.sin_cos();
            let term = (
                size * (cos * re + sin * im) / norm,
                size * (sin * re - cos * im) / norm,
            );
            self.absolute += weight * (ln + error).exp() * -(-error).exp_m1() / norm.sqrt();
            self.terms.push(term);
        }
        if !self.absolute.is_finite() || self.relative > REFUSED {
            return Err(PldError::Precision);
        }
        Ok(())
    }

    /// The tilted value at `epsilon`: `e^(tilt epsilon - K)` times delta, others added. And how
    /// much smoothing may have raised it.
    fn value(&self, epsilon: f64) -> (f64, f64) {
        let (turn_sin, turn_cos) = (-self.dt * epsilon).sin_cos();
        let (mut sum, mut density) = (0.0, 0.0);
        for (block, terms) in self.terms.chunks(32).enumerate() {
            let angle = -self.dt * epsilon * (32 * block) as f64;
            let (mut sin, mut cos) = angle.sin_cos();
            for (i, (re, im)) in terms.iter().enumerate() {
                let (x, y) = (re * cos - im * sin, re * sin + im * cos);
                sum += x;
                if self.smoothing > 0.0 {
                    let t = self.dt * (32 * block + i) as f64;
                    let (s, r) = self.pole(t);
                    density += x * s - y * r;
                }
                (cos, sin) = (
                    cos * turn_cos - sin * turn_sin,
                    sin * turn_cos + cos * turn_sin,
                );
            }
        }
        let bump = self.smoothing * (1.0 + self.smoothing.sqrt()) * (self.smoothing / 8.0).exp();
        (sum, bump * density.max(0.0))
    }

    /// `s (s + 1)` at `s = tilt + i t`.
    fn pole(&self, t: f64) -> (f64, f64) {
        let tilt = self.tilt;
        (tilt.mul_add(tilt + 1.0, -t * t), (2.0 * tilt + 1.0) * t)
    }

    /// What the other values of the periodic sum may add up to at `epsilon`.
    fn others(&self, epsilon: f64) -> f64 {
        let length = 2.0 * PI / self.dt;
        let geometric = |ln: f64, by: f64| {
            let first = (ln - by * length).exp();
            first / -(-by * length).exp_m1()
        };
        let tail = |aside: &Aside| {
            let ln = ln_peak(aside.tilt) + aside.k - aside.by * epsilon;
            geometric(ln, aside.by.abs())
        };
        let certain = geometric(self.tilt * epsilon - self.k + self.ln_mass, self.tilt);
        tail(&self.above) + tail(&self.below).min(certain)
    }

    /// `ln delta(epsilon)` from below, in between and from above.
    pub(super) fn ln_deltas(&self, epsilon: f64) -> [f64; 3] {
        let (value, raised) = self.value(epsilon);
        let rounding = self.absolute + 1e-14 * value.abs();
        // The rest of the density has no denominator, but the small factor.
        let end = self.dt * self.terms.len() as f64;
        let density = self.absolute * self.smoothing * (end * end + (self.tilt + 1.0).powi(2));
        let others = self.others(epsilon) + 2.0 * density;
        let ln = |x: f64| ln_or_nothing(x) + self.k - self.tilt * epsilon;
        [
            ln(value - raised - rounding - others) - self.relative,
            ln(value - 0.5 * raised),
            ln(value + rounding) + self.relative,
        ]
    }

    /// `(lower, estimate, upper)` for delta at `epsilon`; none if they are too far apart.
    pub(super) fn deltas(&self, epsilon: f64) -> Option<[f64; 3]> {
        let ln = self.ln_deltas(epsilon);
        let smoothed = self.wide * SMOOTHED * (self.tilt + 1.0) * (1.0 + epsilon);
        let tolerance = REFUSED + 0.5 * smoothed;
        (ln[2] - ln[0] <= tolerance).then(|| ln.map(|x| x.exp().min(1.0)))
    }

    /// `(lower, estimate, upper)` for epsilon at a logarithm of delta; none if they are too far apart,
    /// because this composition was not made for it.
    pub(super) fn epsilons(&self, ln_delta: f64) -> Option<[f64; 3]> {
        let zero = self.ln_deltas(0.0);
        let mut result = [0.0; 3];
        let guess = self.middle.max(0.0);
        let ends = (0.0, guess + 40.0 * self.deviation);
        let closed = 1e-9 * (1.0 + guess);
        for (i, result) in result.iter_mut().enumerate() {
            // Far below the middle only the upper side is sure.
            if zero[2] <= ln_delta {
                break;
            }
            let off = |epsilon: f64| Ok::<_, PldError>(self.ln_deltas(epsilon)[i] - ln_delta);
            let found = search(off, guess, 0.05 * self.deviation, ends, closed);
            let (low, high) = found.ok().flatten()?;
            *result = if i == 0 { low } else { high };
        }
        let tolerance = self.wide * SMOOTHED * (1.0 + result[2]);
        (result[2] - result[0] <= tolerance).then_some(result)
    }
}
