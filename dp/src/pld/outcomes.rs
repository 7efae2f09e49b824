//! One release as a list of outcomes with their masses and losses, cut at the points of a grid.
//!
//! For the pairs that dominate a release: a mixture against its base (a record is removed), the base
//! against the mixture (added), or mixtures to either side (replaced). Between two cuts the densities
//! are analytic, and a Gauss-Legendre rule on panels narrow against the distance of the nearest
//! singularity, `pi z^2`, is exact to rounding.

use std::f64::consts::{LN_2, TAU};

use super::Direction;
use crate::flat::{Piece, Step};
use crate::special::legendre_nodes;

/// How far the tilted density is followed beyond its outermost peaks, in standard deviations: what is
/// left out is below 1e-19 of it.
const REACH: f64 = 9.5;

/// More outcomes than this are refused.
const MOST: usize = 6_000_000;

/// Outcomes under the first distribution of the pair.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Logarithms of their probabilities.
    pub(super) ln_mass: Vec<f64>,
    /// Their losses.
    pub(super) loss: Vec<f64>,
}

/// Mean and variance of the loss under a tilt, and the logarithm of the moment.
pub(super) struct Tilted {
    pub(super) k: f64,
    pub(super) mean: f64,
    pub(super) variance: f64,
}

/// The cuts: multiples of `width` from `offset`; an infinite width is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuts {
    pub(super) width: f64,
    pub(super) offset: f64,
}

impl Cuts {
    pub(super) const NONE: Self = Self {
        width: f64::INFINITY,
        offset: 0.0,
    };
}

/// `ln (1 - q + q e^t)`.
pub(super) fn ln_mixture(q: f64, t: f64) -> f64 {
    if q >= 1.0 {
        t
    } else if t > 600.0 {
        t + q.ln() + ((1.0 - q) / q * (-t).exp()).ln_1p()
    } else {
        (q * t.exp_m1()).ln_1p()
    }
}

/// The `t` at which `ln (1 - q + q e^t)` is `l`; minus infinity where it is nowhere.
pub(super) fn unmixed(q: f64, l: f64) -> f64 {
    if q >= 1.0 {
        return l;
    }
    if l > 600.0 {
        return l - q.ln();
    }
    let u = l.exp_m1() / q;
    if u <= -1.0 {
        f64::NEG_INFINITY
    } else {
        u.ln_1p()
    }
}

impl Outcomes {
    /// The outcomes of one release, where a tilt leaves mass; none if they are too many.
    pub(super) fn new(piece: Piece, direction: Direction, tilt: f64, cuts: Cuts) -> Option<Self> {
        let mut all = Self::default();
        match piece {
            Piece::Gaussian(step) => all.gaussian(step, direction, tilt, cuts)?,
            Piece::Laplace { rate, scale } => all.laplace((rate, scale), direction, tilt, cuts)?,
            Piece::Discrete {
                rate,
                std_dev,
                bound,
                ..
            } => all.discrete((rate, std_dev, bound), direction, tilt)?,
            Piece::Fixed(_) => return None,
        }
        Some(all)
    }

    /// The largest loss and its probability, where losses are bounded.
    pub(super) fn largest(piece: Piece, direction: Direction) -> Option<(f64, f64)> {
        let Piece::Laplace { rate: q, scale: b } = piece else {
            return None;
        };
        let (up, down) = (ln_mixture(q, 1.0 / b), ln_mixture(q, -1.0 / b));
        // Half the base lies beyond each kink of the density around it, less beyond the next one.
        let far = 0.5 * (-1.0 / b).exp();
        Some(match direction {
            Direction::Remove => (up, far * up.exp()),
            Direction::Add => (-down, 0.5),
            Direction::Replace => (up - down, far * up.exp()),
        })
    }

    /// A bound on the loss, where there is one.
    pub(super) fn bound(piece: Piece, direction: Direction) -> Option<f64> {
        match piece {
            Piece::Gaussian(step) if direction == Direction::Add && step.rate < 1.0 => {
                Some(-(-step.rate).ln_1p() * (1.0 + 1e-15))
            }
            _ => Self::largest(piece, direction).map(|(loss, _)| loss),
        }
    }

    pub(super) fn tilted(&self, tilt: f64) -> Tilted {
        let pairs = || self.ln_mass.iter().zip(&self.loss);
        let top = pairs()
            .map(|(ln, loss)| tilt.mul_add(*loss, *ln))
            .fold(f64::NEG_INFINITY, f64::max);
        let (mut m0, mut m1) = (0.0, 0.0);
        let weights: Vec<f64> = pairs()
            .map(|(ln, loss)| (tilt.mul_add(*loss, *ln) - top).exp())
            .collect();
        for (weight, loss) in weights.iter().zip(&self.loss) {
            m0 += weight;
            m1 += weight * loss;
        }
        let mean = m1 / m0;
        let squares = weights.iter().zip(&self.loss);
        let m2: f64 = squares.map(|(w, l)| w * (l - mean) * (l - mean)).sum();
        Tilted {
            k: top + m0.ln(),
            mean,
            variance: m2 / m0,
        }
    }

    fn push(&mut self, ln_mass: f64, loss: f64) {
        self.ln_mass.push(ln_mass);
        self.loss.push(loss);
    }

    /// Nodes between `low` and `high`, cut where the loss, which rises, crosses the grid; `inverse`
    /// says where, `panel` how wide a panel may be, `at` gives the logarithm of the density and the loss.
    fn fill(
        &mut self,
        (low, high): (f64, f64),
        cuts: Cuts,
        inverse: impl Fn(f64) -> f64,
        panel: impl Fn(f64) -> f64,
        at: impl Fn(f64) -> (f64, f64),
    ) -> Option<()> {
        let Cuts { width, offset } = cuts;
        let mut left = low;
        let mut cell = if width.is_finite() {
            ((at(low).1 - offset) / width).floor() + 1.0
        } else {
            f64::INFINITY
        };
        while left < high {
            let cut = if cell.is_finite() {
                inverse(cell.mul_add(width, offset))
            } else {
                high
            };
            let end = cut.clamp(left, high);
            while left < end {
                let right = (left + panel(left)).min(end);
                let wide = right - left > 0.06 * panel(left);
                self.panel(left, right, wide, &at);
                if self.loss.len() > MOST || right <= left {
                    return None;
                }
                left = right;
            }
            cell += 1.0;
            if !(cell.is_finite() || left >= high) {
                break;
            }
        }
        Some(())
    }

    fn panel(&mut self, left: f64, right: f64, wide: bool, at: &impl Fn(f64) -> (f64, f64)) {
        let mut add = |x: f64, weight: f64| {
            let (ln, loss) = at(x);
            self.push(ln + weight.ln(), loss);
        };
        if wide {
            legendre_nodes(left, right, add);
        } else {
            // Four points.
            let (middle, half) = (0.5 * (left + right), 0.5 * (right - left));
            for (node, weight) in [
                (0.339_981_043_584_856_3, 0.652_145_154_862_546_1),
                (0.861_136_311_594_052_6, 0.347_854_845_137_453_9),
            ] {
                add(half.mul_add(-node, middle), weight * half);
                add(half.mul_add(node, middle), weight * half);
            }
        }
    }

    fn gaussian(&mut self, step: Step, direction: Direction, tilt: f64, cuts: Cuts) -> Option<()> {
        let (q, z) = (step.rate, step.noise_multiplier);
        let square = z * z;
        let constant = -(TAU.sqrt() * z).ln();
        let base = |x: f64| (-0.5 * (x / z)).mul_add(x / z, constant);
        // In y, along which the loss rises: x itself, or -x when adding.
        let up = |x: f64| ln_mixture(q, (x - 0.5) / square);
        let pulled = match direction {
            Direction::Remove => 1.0 + tilt,
            Direction::Add => 0.0,
            Direction::Replace => 2.0f64.mul_add(tilt, 1.0),
        };
        // A mixture turns from one part into the other within a few z^2 around here.
        let turn = 0.5 + square * ((1.0 - q).max(1e-300) / q).ln();
        let narrow = move |x: f64| {
            let near = |turn: f64| x > turn - 40.0 * square - z && x < turn + 40.0 * square;
            let turning = match direction {
                Direction::Remove => near(turn),
                Direction::Add => near(-turn),
                Direction::Replace => near(turn) || near(-turn),
            };
            0.25 * if turning && q < 1.0 { z.min(square) } else { z }
        };
        let low = REACH * -z;
        match direction {
            Direction::Remove => self.fill(
                (low, REACH.mul_add(z, pulled)),
                cuts,
                |l| square.mul_add(unmixed(q, l), 0.5),
                narrow,
                |x| (base(x) + up(x), up(x)),
            ),
            Direction::Add => {
                let (from, to) = added_peak(step, tilt);
                self.fill(
                    (REACH.mul_add(-z, from), REACH.mul_add(z, to)),
                    cuts,
                    |l| -square.mul_add(unmixed(q, -l), 0.5),
                    narrow,
                    |y| (base(y), -up(-y)),
                )
            }
            Direction::Replace => self.fill(
                (low, REACH.mul_add(z, pulled)),
                cuts,
                |l| replaced_inverse(q, square, l),
                narrow,
                |x| (base(x) + up(x), up(x) - up(-x)),
            ),
        }
    }

    fn laplace(
        &mut self,
        (q, b): (f64, f64),
        direction: Direction,
        tilt: f64,
        cuts: Cuts,
    ) -> Option<()> {
        let base = |x: f64| -x.abs() / b - (2.0 * b).ln();
        let up = |x: f64| ln_mixture(q, (x.abs() - (x - 1.0).abs()) / b);
        let down = |x: f64| ln_mixture(q, (x.abs() - (x + 1.0).abs()) / b);
        let width = 0.25f64.min(0.5 * b / (1.0 + tilt));
        let panel = |_: f64| width;
        match direction {
            Direction::Remove => {
                let at = |x: f64| (base(x) + up(x), up(x));
                self.push(up(0.0) - LN_2, up(0.0));
                let inverse = |l: f64| 0.5 * b.mul_add(unmixed(q, l), 1.0);
                self.fill((0.0, 1.0), cuts, inverse, panel, at)?;
                self.push(up(1.0) - LN_2 - 1.0 / b, up(1.0));
            }
            Direction::Add => {
                let at = |y: f64| (base(y), -up(-y));
                self.push(-LN_2 - 1.0 / b, -up(1.0));
                let inverse = |l: f64| -0.5 * b.mul_add(unmixed(q, -l), 1.0);
                self.fill((-1.0, 0.0), cuts, inverse, panel, at)?;
                self.push(-LN_2, -up(0.0));
            }
            Direction::Replace => {
                let at = |x: f64| (base(x) + up(x), up(x) - down(x));
                let (first, last) = (at(-1.0).1, at(1.0).1);
                self.push(up(-1.0) - LN_2 - 1.0 / b, first);
                // One of the two mixtures is constant on either side of zero.
                let constant = ln_mixture(q, -1.0 / b);
                let left = |l: f64| -0.5 * b.mul_add(unmixed(q, constant - l), 1.0);
                let right = |l: f64| 0.5 * b.mul_add(unmixed(q, constant + l), 1.0);
                self.fill((-1.0, 0.0), cuts, left, panel, at)?;
                self.fill((0.0, 1.0), cuts, right, panel, at)?;
                self.push(up(1.0) - LN_2 - 1.0 / b, last);
            }
        }
        Some(())
    }

    fn discrete(
        &mut self,
        (q, s, bound): (f64, f64, f64),
        direction: Direction,
        tilt: f64,
    ) -> Option<()> {
        let reach = 12.0f64.mul_add(s, 2.0);
        let far = bound.mul_add(2.0f64.mul_add(tilt, 2.0), reach).ceil();
        if far > MOST as f64 / 2.0 {
            return None;
        }
        let far = far as i64;
        let exponent = |x: f64| -0.5 * (x / s) * (x / s);
        let range = 14.0f64.mul_add(s, 3.0).ceil() as i64;
        let whole: f64 = (-range..=range).map(|x| exponent(x as f64).exp()).sum();
        let ln_whole = whole.ln();
        let ratio =
            |x: f64, sign: f64| ln_mixture(q, (sign * x * bound - 0.5 * bound * bound) / (s * s));
        for x in -far..=far {
            let x = x as f64;
            let (up, base) = (ratio(x, 1.0), exponent(x) - ln_whole);
            match direction {
                Direction::Remove => self.push(base + up, up),
                Direction::Add => self.push(base, -up),
                Direction::Replace => self.push(base + up, up - ratio(x, -1.0)),
            }
        }
        Some(())
    }
}

/// Where the mirrored output peaks under a tilt when adding: between the two.
fn added_peak(step: Step, tilt: f64) -> (f64, f64) {
    let square = step.noise_multiplier * step.noise_multiplier;
    let q = step.rate;
    // The peak of the tilted density at x = -y solves -x = tilt share(x).
    let share = |x: f64| {
        let t = (x - 0.5) / square;
        (t + q.ln() - ln_mixture(q, t)).exp()
    };
    let (mut low, mut high) = (0.0, tilt);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if tilt * share(-middle) > middle {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

/// Where the loss `ln m_+ - ln m_-` of a replaced record is `l`: the positive root of a quadratic
/// equation in `e^(x / z^2)`.
fn replaced_inverse(q: f64, square: f64, l: f64) -> f64 {
    if q >= 1.0 {
        return 0.5 * square * l;
    }
    // By symmetry for positive losses; divided by e^(l/2), b = (1 - q) sinh(l / 2) / (q c).
    let (a, sign) = (0.5 * l.abs(), l.signum());
    let ln_b = {
        let ln_sinh = if a > 20.0 { a - LN_2 } else { a.sinh().ln() };
        (-q).ln_1p() - q.ln() + 0.5 / square + ln_sinh
    };
    let asinh = if ln_b > 300.0 {
        ln_b + LN_2
    } else {
        ln_b.exp().asinh()
    };
    sign * square * (a + asinh)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: [Piece; 6] = [
        Piece::Gaussian(Step {
            rate: 0.01,
            noise_multiplier: 0.8,
        }),
        Piece::Gaussian(Step {
            rate: 1.0,
            noise_multiplier: 2.0,
        }),
        Piece::Gaussian(Step {
            rate: 0.2,
            noise_multiplier: 0.05,
        }),
        Piece::Laplace {
            rate: 0.3,
            scale: 0.7,
        },
        Piece::Laplace {
            rate: 1.0,
            scale: 4.0,
        },
        Piece::Discrete {
            rate: 0.2,
            std_dev: 1.5,
            bound: 2.0,
            single: true,
        },
    ];

    /// Both distributions of every pair have mass one, and cuts are where they should be.
    #[test]
    fn masses_and_cuts() {
        for piece in PIECES {
            for direction in [Direction::Remove, Direction::Add, Direction::Replace] {
                for width in [f64::INFINITY, 0.1, 0.013] {
                    let cuts = Cuts {
                        width,
                        offset: 0.003,
                    };
                    let all = Outcomes::new(piece, direction, 1.0, cuts).unwrap();
                    let what = format!("{piece:?} {direction:?} {width}");
                    let whole = all.tilted(0.0).k;
                    assert!(whole.abs() < 1e-12, "{what}: {whole:e}");
                    // Where the record is absent and the noise is small, the other lies out of reach.
                    let reached = !matches!(
                        piece,
                        Piece::Gaussian(step) if step.noise_multiplier < 0.1
                    );
                    let other = all.tilted(-1.0).k;
                    assert!(!reached || other.abs() < 1e-9, "{what}: {other:e}");
                }
            }
        }
    }
}
