//! Two sampled steps: the closed form of one, averaged over the outputs of the other.
//!
//! Asked where delta is about the chance that the record is drawn at all, and the general methods give a
//! wide bracket. `delta(eps) = E[delta_1(eps - L)]` over the loss `L` of the first step (Claim 9 of
//! [`crate::pld`]); both `L` and `delta_1` are monotone, so the values at the ends of cells bound the
//! mean over each from both sides, with the masses of cells as differences of normal tails.

use super::Direction;
use super::single::ln_delta_of;
use crate::flat::Step;
use crate::gaussian::ln_above;

/// Cells of the outputs of the first step.
const CELLS: usize = 1 << 13;

/// The outputs beyond this many standard deviations have a probability below 1e-23.
const BEYOND: f64 = 10.0;

/// Halvings of the bracket, on either side.
const HALVINGS: u32 = 14;

/// What the rounding of a mass and of a profile may come to, relative to delta.
const ROUNDING: f64 = 1e-9;

/// The outputs of the first step, cut into cells.
struct Cells {
    /// The loss at the ends of the cells, in one more than there are cells.
    losses: Vec<f64>,
    masses: Vec<f64>,
    second: Step,
    direction: Direction,
}

impl Cells {
    fn new([first, second]: [Step; 2], direction: Direction) -> Self {
        let (q, mu) = (first.rate, first.noise_multiplier.recip());
        let span = 2.0f64.mul_add(BEYOND, mu);
        let ends = (0..=CELLS).map(|i| span.mul_add(i as f64 / CELLS as f64, -BEYOND));
        let ends: Vec<f64> = ends.collect();
        // Of the mixture against the base; the mirror image for an added record.
        let sign = if direction == Direction::Add {
            -1.0
        } else {
            1.0
        };
        let loss = |u: &f64| sign * (q * mu.mul_add(*u, -0.5 * mu * mu).exp_m1()).ln_1p();
        let mass = |cell: &[f64]| match direction {
            Direction::Add => between(cell[0], cell[1]),
            Direction::Remove | Direction::Replace => {
                (1.0 - q) * between(cell[0], cell[1]) + q * between(cell[0] - mu, cell[1] - mu)
            }
        };
        Self {
            losses: ends.iter().map(loss).collect(),
            masses: ends.windows(2).map(mass).collect(),
            second,
            direction,
        }
    }

    /// Bounds on delta at `epsilon`.
    fn deltas(&self, epsilon: f64) -> [f64; 2] {
        let at = |loss: &f64| profile(self.second, self.direction, epsilon - loss);
        let values: Vec<f64> = self.losses.iter().map(at).collect();
        let (mut low, mut high) = (0.0, 2e-23);
        for (ends, mass) in values.windows(2).zip(&self.masses) {
            low += mass * ends[0].min(ends[1]);
            high += mass * ends[0].max(ends[1]);
        }
        [low * (1.0 - ROUNDING), high * (1.0 + ROUNDING)]
    }
}

/// The probability of a standard normal between `a < b`.
fn between(a: f64, b: f64) -> f64 {
    if a + b > 0.0 {
        ln_above(a).exp() - ln_above(b).exp()
    } else {
        ln_above(-b).exp() - ln_above(-a).exp()
    }
}

/// `delta_1` of one step at any epsilon: below zero, `1 - e^t + e^t` times that of the mirror image.
fn profile(step: Step, direction: Direction, epsilon: f64) -> f64 {
    if epsilon.is_infinite() {
        // A loss beyond the doubles.
        return if epsilon > 0.0 { 0.0 } else { 1.0 };
    }
    if epsilon >= 0.0 {
        return ln_delta_of(step, direction, epsilon).exp();
    }
    let mirrored = match direction {
        Direction::Remove => Direction::Add,
        Direction::Add => Direction::Remove,
        Direction::Replace => Direction::Replace,
    };
    let other = (ln_delta_of(step, mirrored, -epsilon) + epsilon).exp();
    other - epsilon.exp_m1()
}

/// The bracket `[lower, estimate, upper]` of two steps under add-or-remove, made narrower.
pub(super) fn narrowed(
    steps: [Step; 2],
    direction: Direction,
    ln_delta: f64,
    [lower, _, upper]: [f64; 3],
) -> [f64; 3] {
    let cells = Cells::new(steps, direction);
    let goal = ln_delta.exp();
    // Below the first end a bound of delta is too large, above the second one it is not.
    let crossing = |which: usize| {
        let (mut low, mut high) = (lower, upper);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if cells.deltas(middle)[which] > goal {
                low = middle;
            } else {
                high = middle;
            }
        }
        (low, high)
    };
    let (low, high) = (crossing(0).0, crossing(1).1);
    [low, f64::midpoint(low, high), high]
}
