//! The privacy loss of one step: at quadrature nodes for planning, on a grid for composing.
//!
//! With base N(0, z^2) and ratio `r(x) = 1 - q + q exp((2x - 1) / (2 z^2))`, removing a record has
//! loss `ln r` under the density `phi r`, adding one has loss `-ln r` under `phi`.

use std::f64::consts::TAU;

use crate::pld::PldError;
use crate::rdp::Step;
use crate::special::legendre_nodes;

/// Which neighbour is the real data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The record is in the data set: mixture against base.
    Remove,
    /// The record is not: base against mixture.
    Add,
}

/// One step's privacy loss, not discretised: nodes `(loss, ln mass)` of a quadrature.
pub(super) type Nodes = Vec<(f64, f64)>;

/// The privacy loss of one step on a grid of spacing `h`.
pub(super) struct Grid {
    /// Index of the first entry: entry `i` is a loss of `(first + i) h`.
    pub(super) first: i64,
    /// Probabilities.
    pub(super) mass: Vec<f64>,
}

/// Both discretisations of one step.
pub(super) struct Pair {
    /// Spread to the grid points on both sides: dominates the step.
    pub(super) above: Grid,
    /// Merged and rounded down on the grid of even points (spacing `2 h`): dominated by the step
    /// after every loss is lowered by `shift`.
    pub(super) below: Grid,
    /// How much every loss of `below` has to be lowered.
    pub(super) shift: f64,
}

/// The largest loss of one step that is accepted; `exp` must not overflow.
const LARGEST_LOSS: f64 = 600.0;

/// A step with its range cut where the tails are negligible.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    q: f64,
    z: f64,
    low: f64,
    high: f64,
    /// The probability outside on either side, under both densities, is below this.
    pub(super) tail: f64,
}

impl Cut {
    /// Cuts so that either tail is below `exp(ln_tail)`.
    pub(super) fn new(step: Step, ln_tail: f64) -> Result<Self, PldError> {
        let (q, z) = (step.rate, step.noise_multiplier);
        // Mills: the tail is below phi(t) / t.
        let ln_mills = |t: f64| -0.5 * t * t - 0.5 * TAU.ln() - t.ln();
        let mut t = 1.0;
        while ln_mills(t) > ln_tail {
            t += 0.0625;
        }
        let cut = Self {
            q,
            z,
            low: -t * z,
            high: t.mul_add(z, 1.0),
            tail: ln_mills(t).exp(),
        };
        if (2.0 * cut.high - 1.0) / (2.0 * z * z) > LARGEST_LOSS {
            return Err(PldError::TooLittleNoise {
                noise_multiplier: z,
            });
        }
        Ok(cut)
    }

    fn odds(&self, x: f64) -> f64 {
        ((2.0 * x - 1.0) / (2.0 * self.z * self.z)).exp()
    }

    fn density(&self, x: f64) -> f64 {
        let u = x / self.z;
        (-0.5 * u * u).exp() / (TAU.sqrt() * self.z)
    }

    /// `ln r(x)`.
    fn loss(&self, x: f64) -> f64 {
        if self.q >= 1.0 {
            (2.0 * x - 1.0) / (2.0 * self.z * self.z)
        } else {
            (self.q * ((2.0 * x - 1.0) / (2.0 * self.z * self.z)).exp_m1()).ln_1p()
        }
    }

    /// Panels no wider than the functions vary.
    fn scale(&self) -> f64 {
        self.z.min(self.z * self.z)
    }

    /// The range of losses, for choosing a grid.
    pub(super) fn loss_range(&self) -> f64 {
        self.loss(self.high) - self.loss(self.low)
    }

    pub(super) fn nodes(&self, direction: Direction) -> Nodes {
        let mut nodes = Vec::new();
        let panels = ((self.high - self.low) / (0.5 * self.scale())).ceil();
        let width = (self.high - self.low) / panels;
        for i in 0..panels as u64 {
            let start = width.mul_add(i as f64, self.low);
            legendre_nodes(start, start + width, |x, weight| {
                let loss = self.loss(x);
                let ln_base = (weight * self.density(x)).ln();
                nodes.push(match direction {
                    Direction::Remove => (loss, ln_base + loss),
                    Direction::Add => (-loss, ln_base),
                });
            });
        }
        nodes
    }

    /// How many cells a grid of spacing `h` needs.
    pub(super) fn cells(&self, h: f64) -> f64 {
        self.loss_range() / h + 4.0
    }

    /// Discretises with spacing `h`; the lower side is made best near `tilt`.
    pub(super) fn discretise(
        &self,
        direction: Direction,
        h: f64,
        tilt: f64,
    ) -> Result<Pair, PldError> {
        // An even start keeps the coarse grid a part of the fine one.
        let first = 2 * (self.loss(self.low) / (2.0 * h)).floor() as i64;
        let last = 2 * (self.loss(self.high) / (2.0 * h)).floor() as i64 + 2;
        let cells = self.split_cells(direction, h, first, last);
        let total: f64 = cells.iter().map(|(a, b)| a + b).sum();
        if (total - 1.0).abs() > 2.0 * self.tail + 1e-12 {
            return Err(PldError::Quadrature { total });
        }
        let n = cells.len();
        let (first, cells) = match direction {
            Direction::Remove => (first, cells),
            Direction::Add => (
                -last,
                cells.into_iter().rev().map(|(a, b)| (b, a)).collect(),
            ),
        };
        let mut mass = vec![0.0; n + 1];
        // What was cut on the side of small losses is rounded up into the grid.
        mass[2] += self.tail;
        for (i, (a, b)) in cells.iter().enumerate() {
            mass[i] += a;
            mass[i + 1] += b;
        }
        let above = Grid { first, mass };
        Ok(merge(&cells, above, h, tilt))
    }

    /// For every cell of `ln r` between two grid points, the masses that go to its lower and upper
    /// end so that the masses under both densities are kept.
    fn split_cells(&self, direction: Direction, h: f64, first: i64, last: i64) -> Vec<(f64, f64)> {
        let (q, z2, scale) = (self.q, self.z * self.z, self.scale());
        let shrink = -(-h).exp_m1();
        let point = |j: i64| {
            let loss = h * j as f64;
            let odds = if q >= 1.0 {
                loss.exp()
            } else {
                1.0 + loss.exp_m1() / q
            };
            let x = if odds > 0.0 {
                z2.mul_add(odds.ln(), 0.5)
            } else {
                f64::NEG_INFINITY
            };
            (x.clamp(self.low, self.high), odds, x)
        };
        let mut low = point(first);
        (first..last)
            .map(|j| {
                let high = point(j + 1);
                let floor = (h * j as f64).exp();
                let (mut a, mut b) = (0.0, 0.0);
                let mut visit = |x: f64, weight: f64| {
                    let (odds, over) = if low.1 > 0.0 {
                        let growth = ((x - low.2) / z2).exp_m1();
                        (low.1 * (1.0 + growth), q * low.1 * growth)
                    } else {
                        let odds = self.odds(x);
                        (odds, q * (odds - low.1))
                    };
                    let base = weight * self.density(x);
                    let ratio = (1.0 - q) + q * odds;
                    let (mass, share) = match direction {
                        Direction::Remove => (base * ratio, over / (ratio * shrink)),
                        Direction::Add => (base, over * (1.0 - shrink) / (floor * shrink)),
                    };
                    let share = share.clamp(0.0, 1.0);
                    a += mass * (1.0 - share);
                    b += mass * share;
                };
                integrate(low.0, high.0, scale, &mut visit);
                low = high;
                (a, b)
            })
            .collect()
    }
}

/// Two nodes for narrow intervals, eight per panel for others.
fn integrate(low: f64, high: f64, scale: f64, visit: &mut impl FnMut(f64, f64)) {
    const NODE: f64 = 0.577_350_269_189_625_8;
    let width = high - low;
    if width <= 0.0 {
        return;
    }
    if width < 3e-3 * scale {
        let (middle, half) = (0.5 * (low + high), 0.5 * width);
        visit(half.mul_add(-NODE, middle), half);
        visit(half.mul_add(NODE, middle), half);
        return;
    }
    let panels = (width / (0.25 * scale)).ceil();
    for i in 0..panels as u64 {
        let start = (width / panels).mul_add(i as f64, low);
        legendre_nodes(start, start + width / panels, &mut *visit);
    }
}

/// Merges pairs of cells into one point each, whose loss is `ln` of the ratio of both masses, then
/// lowers it to the even grid point in their middle or, if it is lower than that by more than the
/// shift, to the one before.
fn merge(cells: &[(f64, f64)], above: Grid, h: f64, tilt: f64) -> Pair {
    let (up, down) = (-(-h).exp_m1(), h.exp_m1());
    // Cells i - 1 and i around the even point first + i, plus one cell alone at either end.
    let cell = |i: usize| cells.get(i).copied().unwrap_or_default();
    let merged: Vec<(f64, f64)> = (0..=cells.len() / 2)
        .map(|k| {
            let left = if k == 0 { (0.0, 0.0) } else { cell(2 * k - 1) };
            let right = cell(2 * k);
            let mass = left.0 + left.1 + right.0 + right.1;
            // The mass minus e^loss times the other mass, at the loss of the middle.
            let excess = right.1 * up - left.0 * down;
            let offset = (excess / (mass - excess)).ln_1p();
            (mass, if mass > 0.0 { offset } else { 0.0 })
        })
        .collect();
    let exponent = |k: usize, mass: f64| (tilt * h).mul_add((2 * k) as f64, mass.ln());
    let top = merged
        .iter()
        .enumerate()
        .map(|(k, (mass, _))| exponent(k, *mass))
        .fold(f64::NEG_INFINITY, f64::max);
    let tilted: Vec<f64> = merged
        .iter()
        .enumerate()
        .map(|(k, (mass, _))| (exponent(k, *mass) - top).exp())
        .collect();
    let total: f64 = tilted.iter().sum();
    let shift = best_shift(&merged, &tilted, h, total);
    let mut mass = vec![0.0; merged.len() + 1];
    for (k, (m, offset)) in merged.iter().enumerate() {
        mass[if *offset >= -shift { k + 1 } else { k }] += m;
    }
    Pair {
        below: Grid {
            first: above.first / 2 - 1,
            mass,
        },
        above,
        shift,
    }
}

/// The shift that costs least together with what lies further below its grid point than that.
fn best_shift(merged: &[(f64, f64)], tilted: &[f64], h: f64, total: f64) -> f64 {
    // far[b]: tilted mass at offsets of about -h 2^(-b / 2).
    const BINS: usize = 48;
    let mut far = [0.0; BINS];
    for ((_, offset), weight) in merged.iter().zip(tilted) {
        if *offset < 0.0 {
            let bin = (2.0 * (h / -offset).log2())
                .floor()
                .clamp(0.0, (BINS - 1) as f64);
            far[bin as usize] += weight / total;
        }
    }
    let (mut best, mut beyond) = ((f64::INFINITY, 0.0), 0.0);
    for (bin, mass) in far.iter().enumerate() {
        // All offsets in this bin and those closer are within this shift.
        let shift = h * (-0.5 * bin as f64).exp2();
        let cost = 2.0f64.mul_add(beyond * h, shift);
        if cost < best.0 {
            best = (cost, shift);
        }
        beyond += mass;
    }
    best.1
}
