//! The two tables of a narrow draw, computed in integers.

use num_bigint::BigUint;
use num_traits::{ToPrimitive, Zero};

use super::scan::GROUP;
use crate::noise::decide::enclose_exp;

/// Probabilities are held as multiples of 2^-PRECISION.
const PRECISION: u64 = 192;
/// Resolution of the coarse table.
const COARSE: u64 = 31;
/// Resolution of the fine table.
const FINE: u64 = 127;

/// Cumulative tables of the folded narrow Gaussian: zero, plus or minus one, plus or minus two...
///
/// A magnitude m of probability `p(m)` comes with `c(m) 2^-31` from the coarse table, and from the
/// fine table with the rest, `p(m) - c(m) 2^-31`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tables {
    /// Running sums of c: a 31-bit number below entry m and not below the one before is magnitude
    /// m; one that is below no entry falls into the rest.
    coarse: Box<[i32]>,
    /// The largest number of each magnitude, one less than its running sum, in groups; filled up
    /// with a number that none is above.
    groups: Box<[[i32; GROUP]]>,
    /// Running shares of the rest, in units of 2^-127; the last magnitude has no entry.
    fine: Box<[u128]>,
    rest: f64,
    log2_distance: f64,
}

impl Tables {
    /// Tables for the variance parameter `(numerator / denominator) / divisor`.
    pub(super) fn new(variance: &(BigUint, BigUint), divisor: u128) -> Self {
        Self::with_resolution(variance, divisor, COARSE)
    }

    /// As [`new`](Self::new), with coarse probabilities rounded to multiples of 2^-resolution: a
    /// large rest, for tests of the repairs.
    pub(super) fn with_resolution(
        variance: &(BigUint, BigUint),
        divisor: u128,
        resolution: u64,
    ) -> Self {
        let (weights, beyond) = weights(variance, divisor);
        let total: BigUint = weights.iter().sum::<BigUint>() + &beyond;
        let (unit, dropped) = (PRECISION - COARSE, PRECISION - resolution);
        let (mut coarse, mut shares) = (Vec::new(), Vec::new());
        let (mut end, mut rest) = (0u64, BigUint::zero());
        for weight in &weights {
            let probability = (weight << PRECISION) / &total;
            let c = (&probability >> dropped) << (dropped - unit);
            rest += probability - (&c << unit);
            shares.push(rest.clone());
            // Zeros come only at the far end, as weights fall.
            if let Some(c) = c.to_u64().filter(|c| *c > 0) {
                end += c;
                coarse.push(i32::try_from(end).unwrap_or(i32::MAX));
            }
        }
        shares.pop();
        let fine = shares
            .iter()
            .map(|share| ((share << FINE) / &rest).to_u128().unwrap_or(u128::MAX))
            .collect();
        let open = (1u64 << COARSE) - end;
        let rest = open as f64 / (1u64 << COARSE) as f64;
        // In units of the probabilities: what lies beyond the table, one unit of rounding in each
        // enclosure and quotient, and the fine table's rounding, weighted by the rest.
        let ratio = beyond.to_f64().unwrap_or(1.0) / total.to_f64().unwrap_or(1.0);
        let entries = weights.len() as f64;
        let rounding = entries * (8.0 * (-(PRECISION as f64)).exp2());
        let fine_rounding = rest * entries * (-(FINE as f64)).exp2();
        Self {
            groups: groups(&coarse),
            coarse: coarse.into(),
            fine,
            rest,
            log2_distance: (ratio + rounding + fine_rounding).log2() + 1e-9,
        }
    }

    /// The running sums of the coarse table.
    #[cfg(test)]
    pub(super) fn coarse(&self) -> &[i32] {
        &self.coarse
    }

    /// The coarse table as it is scanned.
    pub(super) fn groups(&self) -> &[[i32; GROUP]] {
        &self.groups
    }

    /// How many magnitudes the coarse table has.
    pub(super) const fn magnitudes(&self) -> i32 {
        self.coarse.len() as i32
    }

    /// The probability of the rest.
    pub(super) const fn rest(&self) -> f64 {
        self.rest
    }

    /// Bound on the total variation distance of one narrow draw, repairs included.
    pub(super) const fn log2_distance(&self) -> f64 {
        self.log2_distance
    }

    /// A draw from the rest: sign by the lowest bit, magnitude by the others.
    pub(super) fn draw_rest(&self, word: u128) -> i64 {
        let uniform = word >> 1;
        let magnitude: i64 = self.fine.iter().map(|&end| i64::from(uniform >= end)).sum();
        let sign = -((word & 1) as i64);
        (magnitude ^ sign) - sign
    }

    /// The probability of each magnitude as this table draws it, exactly, in units of
    /// 2^-(31 + 127).
    #[cfg(test)]
    pub(super) fn drawn(&self) -> Vec<BigUint> {
        let open = (1u64 << COARSE) - self.coarse[self.coarse.len() - 1] as u64;
        let (mut below, mut ended) = (0, 0u128);
        (0..=self.fine.len())
            .map(|m| {
                let end = self.coarse.get(m).map_or(below, |&end| end);
                let share = self.fine.get(m).map_or(1 << FINE, |&end| end);
                let p = (BigUint::from((end - below) as u64) << FINE)
                    + BigUint::from(share - ended) * open;
                (below, ended) = (end, share);
                p
            })
            .collect()
    }
}

fn groups(coarse: &[i32]) -> Box<[[i32; GROUP]]> {
    let group = |ends: &[i32]| {
        let mut last = [i32::MAX; GROUP];
        for (last, end) in last.iter_mut().zip(ends) {
            *last = end - 1;
        }
        last
    };
    coarse.chunks(GROUP).map(group).collect()
}

/// Folded weights of the magnitudes in units of 2^-PRECISION, rounded down, and a bound on the
/// weight of all magnitudes past the last, which is below 2^-112 of the whole.
fn weights(variance: &(BigUint, BigUint), divisor: u128) -> (Vec<BigUint>, BigUint) {
    let denominator = &variance.0 * 2u32;
    let step = &variance.1 * divisor;
    let weight = |m: u64| enclose_exp(&(BigUint::from(m) * m * &step), &denominator, PRECISION);
    let mut weights = vec![weight(0).0];
    let mut m = 1;
    loop {
        let (low, high) = weight(m);
        // Past m each weight is at most this one times a power of r = rho(m + 1) / rho(m) and so
        // of exp(-m / s^2): the sum is below high / (1 - r), and 1/(1 - r) below 1 + s^2 / m.
        let reach = &high + (&high * &denominator) / (BigUint::from(2 * m) * &step) + 1u32;
        let beyond = reach * 2u32;
        if (&beyond << 112u32) < weights[0] {
            return (weights, beyond);
        }
        weights.push(low * 2u32);
        m += 1;
    }
}
