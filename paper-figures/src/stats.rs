//! The few statistics that the figures quote.
//!
//! **Where it sits.** Between records and figures: plain functions over slices of finite numbers.
//!
//! **What must be true.** Results depend on the samples and the stated seed alone, never on their
//! order, the machine or the time. Nothing is silently dropped: an empty slice or a number that is
//! not finite is an error.
//!
//! **Where it is from.** Quantiles are type 7 of Hyndman and Fan, *Sample Quantiles in
//! Statistical Packages*, The American Statistician 50(4), 1996 (the default of R and NumPy). The
//! interval is Efron's percentile bootstrap (*Bootstrap Methods: Another Look at the Jackknife*,
//! Annals of Statistics 7(1), 1979). Random numbers are SplitMix64 (Steele, Lea, Flood, *Fast
//! Splittable Pseudorandom Number Generators*, OOPSLA 2014).
//!
//! ```
//! use sphinx_figures::stats;
//!
//! let seconds = [0.9, 1.1, 1.0, 5.0];
//! assert_eq!(stats::median(&seconds)?, 1.05);
//! assert_eq!(stats::quantile(&seconds, 1.0)?, 5.0);
//! let interval = stats::bootstrap(&seconds, stats::median, 0.95, 1000, 7)?;
//! assert!(interval.low <= 1.05 && 1.05 <= interval.high);
//! # Ok::<(), stats::StatsError>(())
//! ```

/// Why a statistic has no value.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// There are no samples.
    #[error("{operation} of no samples: record at least one")]
    Empty {
        /// The statistic.
        operation: &'static str,
    },
    /// A sample is NaN or infinite.
    #[error("{operation}: sample {index} is not finite")]
    NotFinite {
        /// The statistic.
        operation: &'static str,
        /// Position of the sample, counted from 0.
        index: usize,
    },
    /// A probability lies outside its range.
    #[error("{operation}: probability {value} is outside the range from 0 to 1")]
    Probability {
        /// The statistic.
        operation: &'static str,
        /// The probability.
        value: f64,
    },
    /// A bootstrap without resamples was asked for.
    #[error("bootstrap with no resamples: ask for at least one, better 1000")]
    NoResamples,
}

/// A closed interval, in the unit of the samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The median: the mean of the two middle samples where their number is even.
///
/// # Errors
/// [`StatsError`] if there are no samples or one is not finite.
pub fn median(samples: &[f64]) -> Result<f64, StatsError> {
    Ok(quantile_of_sorted(&sorted("median", samples)?, 0.5))
}

/// The quantile at `p`, type 7 of Hyndman and Fan: with the samples sorted as `x[0..n]` and
/// `h = (n - 1) p`, linear interpolation between `x[floor h]` and `x[floor h + 1]`.
///
/// # Errors
/// [`StatsError`] if there are no samples, one is not finite, or `p` is not in `0..=1`.
pub fn quantile(samples: &[f64], p: f64) -> Result<f64, StatsError> {
    if !(0.0..=1.0).contains(&p) {
        return Err(StatsError::Probability {
            operation: "quantile",
            value: p,
        });
    }
    Ok(quantile_of_sorted(&sorted("quantile", samples)?, p))
}

/// The smallest and the largest sample.
///
/// # Errors
/// [`StatsError`] if there are no samples or one is not finite.
pub fn range(samples: &[f64]) -> Result<Interval, StatsError> {
    let sorted = sorted("range", samples)?;
    Ok(Interval {
        low: sorted[0],
        high: sorted[sorted.len() - 1],
    })
}

/// The percentile bootstrap interval of `statistic` at `confidence` (such as 0.95).
///
/// `resamples` samples of the same size are drawn with replacement by a generator started at
/// `seed`; the interval runs between the `(1 - confidence) / 2` quantile of the statistic over
/// them and its mirror. Cost: `resamples` calls of `statistic`.
///
/// Its coverage is poor for fewer than about ten samples; figures over five seeds show the range
/// instead.
///
/// # Errors
/// [`StatsError`] if there are no samples, one is not finite, `confidence` is not in `0..=1`, or
/// `resamples` is 0; and whatever `statistic` reports.
pub fn bootstrap(
    samples: &[f64],
    statistic: impl Fn(&[f64]) -> Result<f64, StatsError>,
    confidence: f64,
    resamples: usize,
    seed: u64,
) -> Result<Interval, StatsError> {
    if !(0.0..=1.0).contains(&confidence) {
        return Err(StatsError::Probability {
            operation: "bootstrap",
            value: confidence,
        });
    }
    if resamples == 0 {
        return Err(StatsError::NoResamples);
    }
    let sorted_samples = sorted("bootstrap", samples)?;
    let mut generator = SplitMix64(seed);
    let mut drawn = vec![0.0; sorted_samples.len()];
    let mut statistics = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        for value in &mut drawn {
            *value = sorted_samples[generator.below(sorted_samples.len())];
        }
        statistics.push(statistic(&drawn)?);
    }
    let statistics = sorted("bootstrap", &statistics)?;
    let tail = (1.0 - confidence) / 2.0;
    Ok(Interval {
        low: quantile_of_sorted(&statistics, tail),
        high: quantile_of_sorted(&statistics, 1.0 - tail),
    })
}

fn sorted(operation: &'static str, samples: &[f64]) -> Result<Vec<f64>, StatsError> {
    if samples.is_empty() {
        return Err(StatsError::Empty { operation });
    }
    if let Some(index) = samples.iter().position(|v| !v.is_finite()) {
        return Err(StatsError::NotFinite { operation, index });
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(sorted)
}

fn quantile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let last = sorted.len() - 1;
    let h = p * last as f64;
    let below = (h.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let fraction = h - below as f64;
    // This form cannot overflow for samples of opposite sign and is exact at both ends; between
    // them rounding could step outside.
    let value = sorted[below] * (1.0 - fraction) + sorted[above] * fraction;
    value.clamp(sorted[below], sorted[above])
}

struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; the bias of the multiplication is below `n / 2^64`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests;
