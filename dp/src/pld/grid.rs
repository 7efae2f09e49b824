//! The privacy profile on a grid of losses: for few steps, for losses with atoms, and for pairs whose
//! characteristic function is not known to fall.
//!
//! Two discrete pairs enclose the pair of a release. Above: every outcome is split over the two points
//! of the grid around its loss so that its mass is kept under both distributions; merging would give
//! the outcome back, so this is no processing but the reverse of one, and only raises delta
//! (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, arXiv:2207.04380, section 4). Below: outcomes are
//! merged at random into the points around them, which is a processing, and the losses of the merged
//! outcomes, a little off the grid, are lowered to it. Both errors fall with the square of the spacing.
//!
//! Masses are tilted, `e^(tilt loss)`, before they are transformed, so that what matters at epsilon is
//! of the size of one; composition is a power of the transform. Both enclosing pairs go through one
//! complex transform.

use std::cell::RefCell;
use std::f64::consts::PI;

use rustfft::FftPlanner;
use rustfft::num_complex::Complex64;

use super::contour::ln_or_nothing;
use super::outcomes::{Cuts, Outcomes};
use super::target::Target;
use super::{Direction, PldError};
use crate::flat::{Piece, Step};
use crate::gaussian::ln_tilted_tail;
use crate::special::search;

/// The most points of a transform.
const MOST_POINTS: f64 = 2_097_152.0;

/// What may be tilted into the window from outside of it.
const OUTSIDE: f64 = 1e-14;

/// The tilts that are tried.
const TILTS: (f64, f64) = (1e-5, 2e4);

/// Errors in `ln delta` above which an answer is refused.
const REFUSED: f64 = 0.3;

/// Everything that is composed.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    /// Kinds of releases and their numbers.
    pub(super) pieces: Vec<(Piece, u64)>,
}

impl Steps {
    /// Pieces, and the sum of `1 / z^2` of unsampled Gaussians at their sensitivity.
    pub(super) fn new(pieces: &[(Piece, u64)], precision: f64) -> Self {
        let mut pieces = pieces.to_vec();
        if precision > 0.0 {
            let step = Step {
                rate: 1.0,
                noise_multiplier: precision.sqrt().recip() * (1.0 - 1e-15),
            };
            pieces.push((Piece::Gaussian(step), 1));
        }
        Self { pieces }
    }

    /// The composed loss under a tilt.
    fn middle(&self, direction: Direction, tilt: f64) -> Result<Middle, PldError> {
        let mut all = Middle {
            tilt,
            k: 0.0,
            mean: 0.0,
            variance: 0.0,
        };
        for (piece, count) in &self.pieces {
            let outcomes = Outcomes::new(*piece, direction, tilt, Cuts::NONE);
            let tilted = outcomes.ok_or(PldError::TooWide)?.tilted(tilt);
            let count = *count as f64;
            all.k += count * tilted.k;
            all.mean += count * tilted.mean;
            all.variance += count * tilted.variance;
        }
        Ok(all)
    }

    /// The tilt under which the target lies in the middle of the composed loss, with the deviation and
    /// the mean there; none if no tilt reaches it.
    fn tilt(&self, direction: Direction, target: Target) -> Result<Option<Middle>, PldError> {
        let off = |ln_tilt: f64| {
            let tilt = ln_tilt.exp();
            let middle = self.middle(direction, tilt)?;
            let deviation = middle.variance.sqrt().max(1e-150);
            let tail = ln_tilted_tail(tilt, deviation);
            let crowded = (0.2 / (tilt * deviation)).ln().min(0.2 - tilt);
            Ok(crowded.max(match target {
                Target::LnDelta(wanted) => middle.k - tilt * middle.mean + tail - wanted,
                Target::Epsilon(wanted) => wanted - middle.mean,
            }))
        };
        let ends = (TILTS.0.ln(), TILTS.1.ln());
        // The lower end: where the mean jumps, because another outcome takes over, the one below.
        match search(off, 1.0, 1.0, ends, 0.02)? {
            Some((low, _)) => self.middle(direction, low.exp()).map(Some),
            None => Ok(None),
        }
    }

    /// A bound on the composed loss, where there is one.
    pub(super) fn bound(&self, direction: Direction) -> Option<f64> {
        let one = |(piece, count): &(Piece, u64)| {
            Some(*count as f64 * Outcomes::bound(*piece, direction)?)
        };
        let all: Option<f64> = self.pieces.iter().map(one).sum();
        Some(all? * (1.0 + 1e-14))
    }

    /// The largest loss and its probability, where all losses are bounded.
    pub(super) fn largest(&self, direction: Direction) -> Option<(f64, f64)> {
        let (mut loss, mut ln_mass) = (0.0, 0.0);
        for (piece, count) in &self.pieces {
            let (one, mass) = Outcomes::largest(*piece, direction)?;
            loss += *count as f64 * one;
            ln_mass += *count as f64 * mass.ln();
        }
        Some((loss * (1.0 + 1e-14), ln_mass))
    }
}

struct Middle {
    tilt: f64,
    k: f64,
    mean: f64,
    variance: f64,
}

/// One of the two enclosing pairs of a kind of release, tilted.
#[derive(Debug, Clone, Default)]
struct Side {
    /// Tilted masses at consecutive points; they add up to one.
    mass: Vec<f64>,
    /// Logarithm of the moment.
    k: f64,
    /// The least that merged losses lie below their points.
    lowered: f64,
}

/// Both enclosing pairs of one kind of release.
struct Enclosed {
    /// The number of the first point.
    first: i64,
    /// What is added to every loss.
    offset: f64,
    above: Side,
    below: Side,
}

impl Enclosed {
    const fn upper(&self) -> &Side {
        &self.above
    }

    const fn lower(&self) -> &Side {
        &self.below
    }

    fn new(piece: Piece, direction: Direction, tilt: f64, width: f64) -> Result<Self, PldError> {
        let at = |offset: f64| {
            // Also halfway between the points, where merged outcomes meet.
            let half = 0.5 * width;
            let outcomes = Outcomes::new(
                piece,
                direction,
                tilt,
                Cuts {
                    width: half,
                    offset,
                },
            );
            let cuts = Cuts { width, offset };
            Self::split(&outcomes.ok_or(PldError::TooWide)?, tilt, cuts)
        };
        // Once more, with the grid laid through the loss of the largest merged outcome.
        let (_, offset) = at(match piece {
            Piece::Discrete { .. } => {
                let one = Outcomes::new(piece, direction, tilt, Cuts::NONE);
                let one = one.ok_or(PldError::TooWide)?;
                one.loss[one.loss.len() / 2]
            }
            _ => 0.0,
        })?;
        Ok(at(offset)?.0)
    }

    /// Splits and merges; also says which offset would put the largest merged outcome on the grid.
    fn split(outcomes: &Outcomes, tilt: f64, cuts: Cuts) -> Result<(Self, f64), PldError> {
        let Cuts { width, offset } = cuts;
        let place = |loss: f64| ((loss - offset) / width).floor() as i64;
        let ends = outcomes.loss.iter().copied();
        let (low, high) = (
            ends.clone().fold(f64::INFINITY, f64::min),
            ends.fold(f64::NEG_INFINITY, f64::max),
        );
        let (first, last) = (place(low), place(high) + 1);
        let count = last.saturating_sub(first) as f64 + 1.0;
        if count.is_nan() || count > MOST_POINTS {
            return Err(PldError::TooWide);
        }
        let n = count as usize;
        let pairs = || outcomes.ln_mass.iter().zip(&outcomes.loss);
        let top = pairs()
            .map(|(ln, loss)| tilt.mul_add(*loss, *ln))
            .fold(f64::NEG_INFINITY, f64::max);
        let mut above = vec![0.0; n];
        // Masses under both distributions, the second times e^point, both tilted.
        let (mut merged, mut other) = (vec![0.0; n], vec![0.0; n]);
        let full = -(-width).exp_m1();
        let (up_tilt, up_point) = ((tilt * width).exp(), width.exp());
        for (ln, loss) in pairs() {
            let j = place(*loss);
            let over = (j as f64).mul_add(-width, loss - offset).clamp(0.0, width);
            let mass = (tilt.mul_add(loss - over, *ln) - top).exp();
            let share = (-(-over).exp_m1() / full).min(1.0);
            let i = (j - first) as usize;
            above[i] += mass * (1.0 - share);
            above[i + 1] += mass * share * up_tilt;
            let down = (-over).exp();
            if over < 0.5 * width {
                merged[i] += mass;
                other[i] += mass * down;
            } else {
                merged[i + 1] += mass * up_tilt;
                other[i + 1] += mass * up_tilt * down * up_point;
            }
        }
        let above = Side::new(above, top, 0.0);
        let (lowered, off) = lower(&mut merged, &other, width, up_tilt);
        let below = Side::new(merged, top, lowered);
        let this = Self {
            first,
            offset,
            above,
            below,
        };
        Ok((this, offset + off))
    }
}

/// Puts merged outcomes on the grid, from masses under both distributions (the second times
/// `e^point`): those far below their points move to the next lower one, all others are lowered by the
/// same, such that both together cost least. Says how much that is, and how far off its point the
/// largest is.
fn lower(merged: &mut [f64], other: &[f64], width: f64, up_tilt: f64) -> (f64, f64) {
    let total: f64 = merged.iter().sum();
    // What hardly counts is dropped.
    let most = merged.iter().copied().fold(0.0, f64::max);
    merged
        .iter_mut()
        .filter(|m| **m < 1e-14 * most)
        .for_each(|m| *m = 0.0);
    let off = |mass: f64, other: f64| if mass > 0.0 { (mass / other).ln() } else { 0.0 };
    let offs: Vec<f64> = merged.iter().zip(other).map(|(m, o)| off(*m, *o)).collect();
    let mut best = (f64::INFINITY, width);
    for halvings in 0..40 {
        let same = width * 0.5f64.powi(halvings);
        let far = offs.iter().zip(&*merged).filter(|(off, _)| -**off > same);
        let moved: f64 = far.map(|(_, mass)| mass).sum();
        let cost = width.mul_add(moved / total, same);
        if cost < best.0 {
            best = (cost, same);
        }
    }
    let mut largest = (0.0, 0.0);
    for i in 0..merged.len() {
        if merged[i] > largest.0 {
            largest = (merged[i], offs[i]);
        }
        if -offs[i] > best.1 {
            let mass = std::mem::take(&mut merged[i]);
            if i > 0 {
                merged[i - 1] += mass / up_tilt;
            }
        }
    }
    (best.1.min(width) + 1e-15, largest.1)
}

impl Side {
    fn new(mut mass: Vec<f64>, top: f64, lowered: f64) -> Self {
        let sum: f64 = mass.iter().sum();
        mass.iter_mut().for_each(|mass| *mass /= sum);
        Self {
            mass,
            k: top + sum.ln(),
            lowered,
        }
    }

    /// `ln E[e^(by (loss - middle))]`, in units of points.
    fn ln_moment(&self, by: f64, first: i64, middle: f64) -> f64 {
        let start = first as f64 - middle;
        let exponents = || (0..self.mass.len()).map(|i| by * (start + i as f64));
        let largest = exponents()
            .zip(&self.mass)
            .filter(|(_, mass)| **mass > 0.0)
            .map(|(e, mass)| e + mass.ln())
            .fold(f64::NEG_INFINITY, f64::max);
        let terms = exponents().zip(&self.mass);
        let sum: f64 = terms
            .filter(|(_, mass)| **mass > 0.0)
            .map(|(e, mass)| (e + mass.ln() - largest).exp())
            .sum();
        largest + sum.ln()
    }

    fn mean(&self, first: i64) -> f64 {
        let places = self.mass.iter().enumerate();
        let sum: f64 = places.map(|(i, mass)| i as f64 * mass).sum();
        first as f64 + sum
    }
}

/// One enclosing profile of the whole run.
#[derive(Debug, Clone)]
struct Profile {
    k: f64,
    /// From each point on: tilted masses times `e^(-tilt (loss - point))`, and with one more tilt.
    tails: Vec<(f64, f64)>,
    lowered: f64,
}

/// The composed loss of one direction on a grid, ready to be asked about epsilons near its middle.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) tilt: f64,
    width: f64,
    /// The loss of the first point.
    start: f64,
    mean: f64,
    deviation: f64,
    above: Profile,
    below: Profile,
    /// Tilted mass from outside of the window.
    outside: f64,
    /// Rounding of each point.
    rounding: f64,
    /// Relative error of the moments.
    relative: f64,
}

thread_local! {
    static PLANNER: RefCell<FftPlanner<f64>> = RefCell::new(FftPlanner::new());
}

impl Grid {
    /// Composes for the neighbourhood of a target, with the tilt stretched and a grid that many times as
    /// fine as it should have to be; none if no tilt reaches the target.
    ///
    /// # Errors
    /// [`PldError::TooWide`] where this would take too long.
    pub(super) fn new(
        steps: &Steps,
        direction: Direction,
        target: Target,
        (stretch, finer): (f64, f64),
    ) -> Result<Option<Self>, PldError> {
        let Some(mut middle) = steps.tilt(direction, target)? else {
            return Ok(None);
        };
        if stretch != 1.0 {
            middle = steps.middle(direction, stretch * middle.tilt)?;
        }
        let width = steps.width(&middle, finer);
        let mut enclosed = Vec::with_capacity(steps.pieces.len());
        for (piece, count) in &steps.pieces {
            let one = Enclosed::new(*piece, direction, middle.tilt, width)?;
            enclosed.push((one, *count));
        }
        let deviation = middle.variance.sqrt();
        // Where both composed pairs have their means, in points.
        let sum = |side: fn(&Enclosed) -> &Side| -> f64 {
            let one = |(e, count): &(Enclosed, u64)| *count as f64 * side(e).mean(e.first);
            enclosed.iter().map(one).sum()
        };
        let centre = sum(Enclosed::upper);
        let spread = (deviation / width).max(1.0);
        let mut reach = [0.0f64; 2];
        for side in [Enclosed::upper, Enclosed::lower] {
            for (reach, sign) in reach.iter_mut().zip([1.0, -1.0]) {
                *reach = reach.max(furthest(&enclosed, side, sign, spread));
            }
        }
        let apart = (sum(Enclosed::lower) - centre).abs();
        let length = reach[0] + reach[1] + 2.0 * apart + 16.0;
        if length.is_nan() || length > MOST_POINTS {
            return Err(PldError::TooWide);
        }
        let n = (length as usize).next_power_of_two();
        let spare = 0.5 * (n as f64 - length);
        let first = (centre - reach[1] - apart - spare).floor();
        let offsets = enclosed.iter().map(|(e, count)| *count as f64 * e.offset);
        let start = first.mul_add(width, offsets.sum());
        Ok(Some(Self::compose(
            &enclosed,
            &middle,
            (n, first),
            (width, start),
        )))
    }

    fn compose(
        enclosed: &[(Enclosed, u64)],
        middle: &Middle,
        (n, first): (usize, f64),
        (width, start): (f64, f64),
    ) -> Self {
        let (values, rounding) = transformed(enclosed, n);
        let begin = (first as i64).rem_euclid(n as i64) as usize;
        let points = |part: fn(&Complex64) -> f64| -> Vec<f64> {
            let order = (begin..n).chain(0..begin);
            order.map(|i| part(&values[i]) / n as f64).collect()
        };
        let total: f64 = enclosed.iter().map(|(_, count)| *count as f64).sum();
        let profile = |side: fn(&Enclosed) -> &Side, mass: Vec<f64>| {
            let k = enclosed.iter().map(|(e, count)| *count as f64 * side(e).k);
            let lowered = enclosed.iter();
            let lowered = lowered.map(|(e, count)| *count as f64 * side(e).lowered);
            Profile {
                k: k.sum(),
                tails: tails(&mass, middle.tilt, width),
                lowered: lowered.sum(),
            }
        };
        let magnitude: f64 = enclosed
            .iter()
            .map(|(e, count)| *count as f64 * (e.above.k.abs() + 60.0))
            .sum();
        Self {
            tilt: middle.tilt,
            width,
            start,
            mean: middle.mean,
            deviation: middle.variance.sqrt(),
            above: profile(Enclosed::upper, points(|value| value.re)),
            below: profile(Enclosed::lower, points(|value| value.im)),
            outside: 4.0 * OUTSIDE + total * 1e-18,
            rounding,
            relative: f64::EPSILON * 4.0 * (magnitude + middle.tilt * start.abs()),
        }
    }

    /// `ln delta(epsilon)` from below or above.
    fn ln_delta(&self, epsilon: f64, upper: bool) -> f64 {
        let (tilt, n) = (self.tilt, self.above.tails.len());
        let profile = if upper { &self.above } else { &self.below };
        // Losses of merged outcomes are lower than their points.
        let at = if upper {
            epsilon
        } else {
            epsilon + profile.lowered
        };
        let place = ((at - self.start) / self.width).floor() + 1.0;
        let i = place.clamp(0.0, (n - 1) as f64) as usize;
        let over = (i as f64).mul_add(self.width, self.start) - at;
        let (a, b) = profile.tails[i];
        let inside = if place >= n as f64 {
            0.0
        } else {
            a * (-tilt * over).exp() - b * (-(tilt + 1.0) * over).exp()
        };
        let peak = (tilt * tilt.ln() - (tilt + 1.0) * tilt.ln_1p()).exp();
        // Rounding of all points above, weighted like the points themselves.
        let weights = ((tilt * (tilt + 1.0) * self.width).recip() + peak).min(peak * n as f64);
        let error = self.outside * peak + self.rounding * weights + 1e-15 * (a + b);
        let ln = |x: f64| ln_or_nothing(x) + profile.k - tilt * at;
        if upper {
            ln(inside.max(0.0) + error) + self.relative
        } else {
            ln(inside - error) - self.relative
        }
    }

    /// `(lower, estimate, upper)` for delta at `epsilon`; none if they are far apart.
    pub(super) fn deltas(&self, epsilon: f64) -> Option<[f64; 3]> {
        let (low, high) = (self.ln_delta(epsilon, false), self.ln_delta(epsilon, true));
        (high - low <= REFUSED).then(|| [low, 0.5 * (low + high), high].map(|x| x.exp().min(1.0)))
    }

    /// `(lower, estimate, upper)` for epsilon at a logarithm of delta; none if there is no answer
    /// nearby.
    pub(super) fn epsilons(&self, ln_delta: f64) -> Option<[f64; 3]> {
        let mut ends = [0.0; 2];
        for (end, upper) in ends.iter_mut().zip([false, true]) {
            // Far below the middle only the upper side is sure.
            if self.ln_delta(0.0, true) <= ln_delta {
                break;
            }
            let guess = self.mean.max(0.0);
            let off = |epsilon: f64| Ok::<_, ()>(self.ln_delta(epsilon, upper) - ln_delta);
            let most = guess + 60.0 * self.deviation + 50.0 * self.width;
            let closed = 1e-10 * (1e-3 + guess);
            let stride = 0.1 * self.deviation + self.width;
            let found = search(off, guess, stride, (0.0, most), closed)
                .ok()
                .flatten()?;
            // No lower bound is found where errors outweigh it.
            *end = if upper { found.1 } else { found.0 };
        }
        let [low, high] = ends;
        Some([low.min(high), 0.5 * (low + high), high])
    }
}

impl Steps {
    /// A spacing at which both errors are about 1e-5 of one plus epsilon; a part of that of a lattice,
    /// where there is one.
    fn width(&self, middle: &Middle, finer: f64) -> f64 {
        let total: f64 = self.pieces.iter().map(|(_, count)| *count as f64).sum();
        let (tilt, epsilon) = (middle.tilt, middle.mean.max(0.0));
        let square = 6e-5 * (1.0 + epsilon) / (total * (tilt + 1.0));
        let most = 0.5 / (tilt + 1.0);
        let wanted = square.sqrt().min(most) / finer;
        if let [
            (
                Piece::Discrete {
                    rate,
                    std_dev,
                    bound,
                    ..
                },
                _,
            ),
        ] = self.pieces[..]
            && rate >= 1.0
        {
            let lattice = bound / (std_dev * std_dev);
            return lattice / (lattice / wanted).ceil().clamp(1.0, 64.0);
        }
        wanted
    }
}

/// How far from its mean, in points, the tilted sum has no more than `OUTSIDE`: Chernoff's bound.
fn furthest(
    enclosed: &[(Enclosed, u64)],
    side: fn(&Enclosed) -> &Side,
    sign: f64,
    spread: f64,
) -> f64 {
    let mut best = f64::INFINITY;
    for multiple in [0.5, 1.0, 2.0, 4.0, 7.0, 12.0, 25.0, 60.0] {
        let by = multiple / spread;
        let mut ln = 0.0;
        for (e, count) in enclosed {
            let one = side(e);
            ln += *count as f64 * one.ln_moment(sign * by, e.first, one.mean(e.first));
        }
        best = best.min((ln - OUTSIDE.ln()) / by);
    }
    // No sum lies beyond the sum of the ends.
    let end = |(e, count): &(Enclosed, u64)| {
        let one = side(e);
        let mean = one.mean(e.first);
        let last = if sign > 0.0 {
            e.first as f64 + one.mass.len() as f64 - mean
        } else {
            mean - e.first as f64
        };
        *count as f64 * last
    };
    best.min(enclosed.iter().map(end).sum::<f64>() + 1.0)
}

/// The powers of both transforms, multiplied and transformed back: the composed masses of the pair
/// above as real parts and of the pair below as imaginary parts, up to the factor `n`. And the rounding
/// error of a mass: each transform errs by a few units per level.
fn transformed(enclosed: &[(Enclosed, u64)], n: usize) -> (Vec<Complex64>, f64) {
    let one = Complex64::new(1.0, 0.0);
    let unit = 8.0 * f64::EPSILON * (n as f64).log2().max(1.0);
    let mut product = vec![(one, one, 0.0f64); n / 2 + 1];
    for (e, count) in enclosed {
        let mut cells = vec![Complex64::new(0.0, 0.0); n];
        let begin = e.first.rem_euclid(n as i64) as usize;
        for (i, (above, below)) in e.above.mass.iter().zip(&e.below.mass).enumerate() {
            cells[(begin + i) & (n - 1)] += Complex64::new(*above, *below);
        }
        PLANNER.with_borrow_mut(|planner| planner.plan_fft_forward(n).process(&mut cells));
        for (k, (above, below, error)) in product.iter_mut().enumerate() {
            let (here, there) = (cells[k], cells[(n - k) & (n - 1)].conj());
            let sum = 0.5 * (here + there);
            let difference = 0.5 * (here - there) * Complex64::new(0.0, -1.0);
            *above *= power(sum, *count);
            *below *= power(difference, *count);
            let least = sum.norm().min(difference.norm()).max(1e-300);
            *error += *count as f64 * (unit / least).ln_1p();
        }
    }
    let mut cells = vec![Complex64::new(0.0, 0.0); n];
    let (mut errors, mut sizes) = (0.0, 0.0);
    for (k, (above, below, error)) in product.iter().enumerate() {
        let size = above.norm() + below.norm();
        sizes += 2.0 * size;
        // Where a factor is as small as its error, so is the product.
        errors += 2.0 * (size * error.min(600.0).exp_m1()).min(unit.max(size * error));
        let turned = Complex64::new(0.0, 1.0);
        cells[k] = above + turned * below;
        if k > 0 && k < n - k {
            cells[n - k] = above.conj() + turned * below.conj();
        }
    }
    PLANNER.with_borrow_mut(|planner| planner.plan_fft_inverse(n).process(&mut cells));
    (cells, (errors + unit * sizes) / n as f64)
}

fn power(base: Complex64, count: u64) -> Complex64 {
    if count == 1 {
        return base;
    }
    let n = count as f64;
    let modulus = base.norm();
    if modulus == 0.0 {
        return Complex64::new(0.0, 0.0);
    }
    // The angle is first brought below one turn.
    let angle = (n * (base.arg() / (2.0 * PI))).fract() * 2.0 * PI;
    Complex64::from_polar((n * modulus.ln()).exp(), angle)
}

fn tails(mass: &[f64], tilt: f64, width: f64) -> Vec<(f64, f64)> {
    let (near, far) = ((-tilt * width).exp(), (-(tilt + 1.0) * width).exp());
    let mut all = vec![(0.0, 0.0); mass.len()];
    let (mut a, mut b) = (0.0, 0.0);
    for (tail, mass) in all.iter_mut().zip(mass).rev() {
        a = mass + near * a;
        b = mass + far * b;
        *tail = (a, b);
    }
    all
}

/// Bounded losses at a delta far below the probability of the largest: from below and above.
pub(super) fn at_the_end((loss, ln_mass): (f64, f64), ln_delta: f64) -> Option<[f64; 3]> {
    // delta(epsilon) is at least mass (1 - e^(epsilon - loss)).
    let part = ln_delta - ln_mass;
    if part.exp() > 4e-5 * (1.0 + loss) {
        return None;
    }
    let low = (loss * (1.0 - 1e-13) + (-part.exp()).ln_1p()).max(0.0);
    Some([low, loss, loss])
}
