//! Poisson batches of a fixed public capacity.
//!
//! Each record enters a batch independently: one uniform 64-bit integer per record, taken when it
//! is below the threshold of the [`SamplingRate`]. The sampler is part of the mechanism, so it asks
//! for a cryptographic generator and uses no shortcut (no geometric skips) whose rounding would
//! have to be accounted. A batch above capacity is cut to a uniformly drawn subset; its price
//! is the term of [`crate::capacity`] in delta.
//!
//! Membership and size of a batch are secrets of the client. Time depends on the size of the
//! batch; run it where only the client can see it.
//!
//! ```
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! use sphinx_dp::{PoissonSampler, SamplingRate};
//!
//! let sampler = PoissonSampler::new(SamplingRate::new(0.1)?, 150);
//! let batch = sampler.draw(1000, &mut ChaCha20Rng::seed_from_u64(7));
//! assert!(batch.len() <= 150 && batch.is_sorted());
//! # Ok::<(), sphinx_dp::RangeError>(())
//! ```

use rand_core::CryptoRng;

use crate::quantity::SamplingRate;

/// Draws Poisson batches of at most a fixed number of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoissonSampler {
    rate: SamplingRate,
    capacity: u64,
}

impl PoissonSampler {
    /// A sampler at `rate` whose batches never exceed `capacity` records.
    #[must_use]
    pub const fn new(rate: SamplingRate, capacity: u64) -> Self {
        Self { rate, capacity }
    }

    /// The sampling rate.
    #[must_use]
    pub const fn rate(&self) -> SamplingRate {
        self.rate
    }

    /// The largest batch.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Draws one batch: record numbers below `population`, in ascending order, without repeats.
    ///
    /// Consumes exactly one 64-bit integer per record, and a few more only when the batch must be
    /// cut. Records from 2^32 on have no number of this width and never enter.
    pub fn draw<R: CryptoRng + ?Sized>(&self, population: usize, rng: &mut R) -> Vec<u32> {
        let threshold = self.rate.threshold();
        let end = u32::try_from(population).unwrap_or(u32::MAX);
        let mut batch: Vec<u32> = (0..end)
            .filter(|_| u128::from(rng.next_u64()) < threshold)
            .collect();
        let capacity = usize::try_from(self.capacity).unwrap_or(usize::MAX);
        if batch.len() > capacity {
            keep_uniform(&mut batch, capacity, rng);
        }
        batch
    }
}

/// Keeps a uniform subset of `capacity` elements, in ascending order (partial Fisher-Yates).
fn keep_uniform<R: CryptoRng + ?Sized>(batch: &mut Vec<u32>, capacity: usize, rng: &mut R) {
    for i in 0..capacity {
        let rest = (batch.len() - i) as u64;
        batch.swap(i, i + below(rest, rng) as usize);
    }
    batch.truncate(capacity);
    batch.sort_unstable();
}

/// A uniform integer below `bound` (not zero), by rejection of the biased remainder.
pub(crate) fn below<R: CryptoRng + ?Sized>(bound: u64, rng: &mut R) -> u64 {
    let biased = (u64::MAX % bound + 1) % bound;
    loop {
        let draw = rng.next_u64();
        if draw <= u64::MAX - biased {
            return draw % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn rate_one_takes_everyone() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let batch = PoissonSampler::new(SamplingRate::FULL, 100).draw(100, &mut rng);
        assert_eq!(batch, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn each_record_at_its_rate() {
        let rate = SamplingRate::new(0.05).unwrap();
        let sampler = PoissonSampler::new(rate, u64::MAX);
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (records, rounds) = (200usize, 4000);
        let mut counts = vec![0u32; records];
        let mut sizes_squared = 0.0;
        for _ in 0..rounds {
            let batch = sampler.draw(records, &mut rng);
            sizes_squared += (batch.len() as f64 - 10.0).powi(2);
            for i in batch {
                counts[i as usize] += 1;
            }
        }
        let expected = 0.05 * f64::from(rounds);
        let spread = (expected * 0.95).sqrt();
        let chi: f64 = counts
            .iter()
            .map(|&c| ((f64::from(c) - expected) / spread).powi(2))
            .sum();
        assert!((chi - 200.0).abs() < 5.0 * 20.0, "chi-square {chi}");
        // Independence across records: the size has the binomial variance n q (1 - q) = 9.5.
        let variance = sizes_squared / f64::from(rounds);
        assert!((variance - 9.5).abs() < 1.1, "variance {variance}");
    }

    #[test]
    fn truncation_is_uniform() {
        let sampler = PoissonSampler::new(SamplingRate::FULL, 3);
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut counts = [0u32; 10];
        for _ in 0..20_000 {
            let batch = sampler.draw(10, &mut rng);
            assert_eq!(batch.len(), 3);
            assert!(batch.is_sorted_by(|a, b| a < b));
            batch.iter().for_each(|&i| counts[i as usize] += 1);
        }
        let chi: f64 = counts
            .iter()
            .map(|&c| (f64::from(c) - 6000.0).powi(2) / 6000.0)
            .sum();
        assert!(chi < 30.0, "chi-square {chi}");
    }
}
