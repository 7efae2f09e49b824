//! The multipliers of a ladder, and how far the ladder is from a discrete Gaussian.

use std::f64::consts::PI;

/// The multipliers `1 = K_0, K_1, ...` of the narrow draws.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rungs {
    multipliers: Vec<i64>,
    log2_distance: f64,
}

/// The distance that the ladder may have: two bits and more below the bound.
const LOG2_LIMIT: f64 = -103.0;

/// Comparisons that take as long as 32 random bits (measured, roughly).
const COST_OF_WORD: f64 = 200.0;

impl Rungs {
    /// The cheapest ladder for `std_dev` whose distance is below [`LOG2_LIMIT`].
    pub(super) fn choose(std_dev: f64) -> Self {
        let mut best = Self::from_radices(&[], std_dev);
        let mut least = cost(&best, std_dev);
        for steps in 1..14 {
            for radix in 2..48i64 {
                for larger in 0..steps {
                    let mut radices = vec![radix + 1; larger];
                    radices.resize(steps, radix);
                    let rungs = Self::from_radices(&radices, std_dev);
                    if rungs.log2_distance > LOG2_LIMIT {
                        // A larger radix leaves a narrower, and a worse, base.
                        break;
                    }
                    let price = cost(&rungs, std_dev);
                    if price < least {
                        (best, least) = (rungs, price);
                    }
                }
            }
        }
        best
    }

    pub(super) fn from_radices(radices: &[i64], std_dev: f64) -> Self {
        let mut multipliers = vec![1i64];
        for radix in radices {
            multipliers.push(multipliers[multipliers.len() - 1].saturating_mul(*radix));
        }
        let mut rungs = Self {
            multipliers,
            log2_distance: f64::NEG_INFINITY,
        };
        rungs.log2_distance = rungs.bound(std_dev).log2();
        rungs
    }

    /// The sum over the joints of `e / (1 - e)` with `e = 2.001 exp(-2 pi^2 t^2)`.
    ///
    /// With `w_j` the part of the ladder from rung j up, in units of `K_j`, and `k` its radix:
    /// `w_j = x_j + k w_(j+1)`, of parameters `a = s_0`, `b` and `c = sqrt(a^2 + k^2 b^2)`, and
    /// `t = a b / c`.
    fn bound(&self, std_dev: f64) -> f64 {
        let narrow = self.base(std_dev);
        let mut wide = narrow;
        let mut sum = 0.0;
        for pair in self.multipliers.windows(2).rev() {
            let radix = (pair[1] / pair[0]) as f64;
            let joined = narrow.hypot(radix * wide);
            let t = narrow * wide / joined;
            // A relative error of 1e-12 in t is far more than the roundings above.
            let e = (2.001 * (-2.0 * (PI * t * (1.0 - 1e-12)).powi(2)).exp()).min(0.5);
            sum += e / (1.0 - e) * (1.0 + 1e-9);
            wide = joined;
        }
        sum
    }

    /// The parameter of the narrow draws, rounded.
    pub(super) fn base(&self, std_dev: f64) -> f64 {
        let squares = self.multipliers.iter().map(|&k| (k as f64).powi(2));
        std_dev / squares.sum::<f64>().sqrt()
    }

    pub(super) fn multipliers(&self) -> &[i64] {
        &self.multipliers
    }

    pub(super) const fn len(&self) -> usize {
        self.multipliers.len()
    }

    /// `1 + K_1^2 + ...`, exactly.
    pub(super) fn sum_of_squares(&self) -> u128 {
        let squares = self
            .multipliers
            .iter()
            .map(|&k| u128::from(k.unsigned_abs()).pow(2));
        squares.sum()
    }

    pub(super) const fn log2_distance(&self) -> f64 {
        self.log2_distance
    }
}

/// In comparisons per draw, roughly: the coarse table ends near `6 s_0`.
fn cost(rungs: &Rungs, std_dev: f64) -> f64 {
    rungs.len() as f64 * (COST_OF_WORD + 6.0 * rungs.base(std_dev))
}
