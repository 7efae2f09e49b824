//! The fixed public capacity of a Poisson batch.
//!
//! A Poisson batch has a random size that must stay secret, so every batch is padded to a public
//! capacity. [`capacity`] finds the smallest one that some batch of the run exceeds with
//! probability at most `delta_cap`; batches beyond it are truncated uniformly by
//! [`crate::sampler`], and the price is a term in delta.
//!
//! ```
//! use sphinx_dp::{SamplingRate, capacity::capacity};
//!
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! assert_eq!(capacity(60_000, rate, 1000, 2f64.powi(-40))?, 688);
//! # Ok::<(), sphinx_dp::RangeError>(())
//! ```
#![doc = include_str!("../proofs/capacity_truncation.md")]

use crate::quantity::{RangeError, SamplingRate, require};
use crate::special::ln_choose;

/// The smallest c with `steps * Pr[Bin(population, rate) >= c] <= delta_cap`, at most `population`.
///
/// Then `steps * Pr[Bin(population, rate) > c] <= delta_cap` holds with one record to spare, which
/// is the record that the other side of the adjacency may have more: `Bin(n + 1, q) > c` needs
/// `Bin(n, q) >= c`. Where the answer is `population` itself (rate one, for instance), `population`
/// must be the public upper bound on both sides. The tail is summed in log space and enlarged by a
/// bound on its rounding error, so the answer is never too small. Cost: about thirty tails of some
/// standard deviations each.
///
/// # Errors
/// [`RangeError`] unless `0 < delta_cap < 1` and `population <= 2^40`.
pub fn capacity(
    population: u64,
    rate: SamplingRate,
    steps: u64,
    delta_cap: f64,
) -> Result<u64, RangeError> {
    require(
        delta_cap > 0.0 && delta_cap < 1.0,
        "delta_cap",
        delta_cap,
        "strictly between 0 and 1",
    )?;
    let fits = population <= 1 << 40;
    require(
        fits,
        "population",
        population as f64,
        "at most 2^40 records",
    )?;
    if steps == 0 {
        return Ok(0);
    }
    let target = delta_cap.ln() - (steps as f64).ln();
    let (mut low, mut high) = (0, population);
    while low < high {
        let middle = low + (high - low) / 2;
        if ln_tail(population, rate.get(), middle) <= target {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    // `low` is the smallest c with the strict tail in range.
    Ok((low + 1).min(population))
}

/// An upper bound on `ln Pr[Bin(n, q) > c]`, tight to rounding above the mean; zero (a
/// probability of one) at or below the mean.
#[must_use]
pub fn ln_tail(n: u64, q: f64, c: u64) -> f64 {
    if c >= n {
        return f64::NEG_INFINITY;
    }
    if q >= 1.0 || (c as f64) <= n as f64 * q {
        return 0.0;
    }
    let odds = q / (1.0 - q);
    let (mut sum, mut term) = (1.0f64, 1.0f64);
    let mut k = c + 1;
    while k < n {
        let ratio = (n - k) as f64 / (k + 1) as f64 * odds;
        term *= ratio;
        sum += term;
        k += 1;
        // Ratios only fall, so the rest is below a geometric series.
        if term * ratio < (1.0 - ratio) * 1e-17 * sum {
            sum += term * ratio / (1.0 - ratio);
            break;
        }
    }
    let first = (c + 1) as f64;
    let parts = [
        ln_choose(n, c + 1),
        first * q.ln(),
        (n - c - 1) as f64 * (-q).ln_1p(),
    ];
    // Each part carries a few roundings of its largest intermediate, at most n ln n; so does the
    // sum.
    let magnitude = n as f64 * (n as f64).ln().max(1.0);
    let rounding = f64::EPSILON.mul_add(8.0 * magnitude, 1e-15 * (k - c) as f64 + 1e-13);
    (parts.iter().sum::<f64>() + sum.ln() + rounding).min(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The slow twin: the exact tail of a small binomial, summed from the far end.
    fn plain_tail(n: u64, q: f64, c: u64) -> f64 {
        let mut pmf = vec![1.0f64];
        for _ in 0..n {
            let mut next = vec![0.0; pmf.len() + 1];
            for (k, p) in pmf.iter().enumerate() {
                next[k] += p * (1.0 - q);
                next[k + 1] += p * q;
            }
            pmf = next;
        }
        pmf.iter().skip(c as usize + 1).rev().sum()
    }

    #[test]
    fn known_values() {
        for (mean, expected) in [(500.0, 688), (2048.0, 2412), (8192.0, 8869)] {
            let rate = SamplingRate::from_mean(mean, 60_000).unwrap();
            assert_eq!(
                capacity(60_000, rate, 1000, 2f64.powi(-40)).unwrap(),
                expected
            );
            // One record more, as on the other side of the adjacency, changes nothing here.
            assert_eq!(
                capacity(60_001, rate, 1000, 2f64.powi(-40)).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn edges() {
        assert_eq!(capacity(77, SamplingRate::FULL, 5, 1e-9).unwrap(), 77);
        assert_eq!(capacity(0, SamplingRate::FULL, 5, 1e-9).unwrap(), 0);
        assert!(capacity(10, SamplingRate::FULL, 5, 0.0).is_err());
        assert!(capacity(u64::MAX, SamplingRate::FULL, 5, 0.5).is_err());
    }

    proptest! {
        #![proptest_config(crate::laws(64))]

        #[test]
        fn tail_against_convolution(n in 1u64..120, q in 0.001f64..0.999, part in 0.0f64..1.0) {
            let c = (part * n as f64) as u64;
            let plain = plain_tail(n, q, c);
            let bound = ln_tail(n, q, c).exp();
            prop_assert!(bound >= plain * (1.0 - 1e-12));
            if c as f64 > n as f64 * q {
                prop_assert!(bound <= plain * (1.0 + 1e-9), "{bound} {plain}");
            }
        }
    }
}
