//! Random polynomials: uniform masks from seeds, ternary secrets, errors.
//!
//! Sits beside the ring. Three samplers, one rule: a sampler of secrets has no branch and no index
//! that depends on what it draws.
//!
//! - **Error**: the discrete Gaussian `P(x) ~ exp(-x^2 / (2 sigma^2))` on the integers, by scanning
//!   a whole table of tail probabilities for every draw ([`ErrorSampler`]). Each probability is
//!   kept to within `2^-63`, or a relative `2^-45` where that is more, and the tail is cut where
//!   less than `2^-63` is left: a Kullback-Leibler divergence below `2^-58` per draw.
//! - **Ternary**: uniform on {-1, 0, 1} up to `2^-63` ([`ternary`]).
//! - **Mask**: exactly uniform residues by rejection from a public seed ([`uniform_row`]). With
//!   `2^(b-1) < q < 2^b`, each `b`-bit word below `q` is equally likely, so what is accepted is
//!   uniform whatever the rejection rate. The time depends on the seed, which is public.
//!
//! All randomness comes from ChaCha20 keyed by `SHA-256(label, parameter digest, 32-byte seed)`,
//! so streams of different purposes or parameters never meet. The generator's own state and
//! temporaries in registers are not erased after use.
//!
//! Sources: table inversion as in Frodo (Bos et al., ePrint 2016/659, section 3.2), with the scan
//! over the whole table; why such a divergence costs nothing: Poeppelmann, Ducas and Gueneysu,
//! *Enhanced lattice-based signatures on reconfigurable hardware*, ePrint 2014/254, section 3.
//!
//! ```
//! use sphinx_he::sample::{ErrorSampler, Stream};
//! let sampler = ErrorSampler::new(3.2);
//! let mut errors = vec![0i64; 4096];
//! sampler.fill(&mut Stream::new("example", &[0; 32], &[7; 32]), &mut errors);
//! let mean_square = errors.iter().map(|e| e * e).sum::<i64>() as f64 / 4096.0;
//! assert!((mean_square - 3.2 * 3.2).abs() < 1.0);
//! ```

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::zq::Modulus;

/// Length of a seed in bytes.
pub const SEED_BYTES: usize = 32;

/// Words drawn from the generator at a time.
const CHUNK: usize = 512;

/// A stream of words, determined by a label, a parameter digest and a seed.
pub struct Stream {
    generator: ChaCha20Rng,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// The stream of this purpose, parameter set and seed.
    #[must_use]
    pub fn new(label: &str, digest: &[u8; 32], seed: &[u8; SEED_BYTES]) -> Self {
        let hash = Sha256::new()
            .chain_update(b"sphinx-he stream 1\0")
            .chain_update((label.len() as u64).to_le_bytes())
            .chain_update(label)
            .chain_update(digest)
            .chain_update(seed)
            .finalize();
        let mut key: [u8; 32] = hash.into();
        let generator = ChaCha20Rng::from_seed(key);
        key.zeroize();
        Self { generator }
    }

    /// Restarts at the beginning of sub-stream `index`; sub-streams never overlap.
    pub fn select(&mut self, index: u64) {
        self.generator.set_stream(index);
        self.generator.set_word_pos(0);
    }

    fn words(&mut self, words: &mut [u64; CHUNK]) {
        let mut bytes = Zeroizing::new([0u8; 8 * CHUNK]);
        self.generator.fill_bytes(&mut *bytes);
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
    }
}

/// Fills `row` with uniform residues of `q`: sub-stream `index` of the stream, as little-endian
/// words cut to the length of `q`, those not below `q` skipped.
///
/// Expected words read: fewer than two per residue, close to one for primes just below a power of
/// two.
pub fn uniform_row(stream: &mut Stream, index: u64, q: &Modulus, row: &mut [u64]) {
    stream.select(index);
    let mask = u64::MAX >> (64 - q.bits());
    let mut words = [0u64; CHUNK];
    let mut filled = 0;
    while filled < row.len() {
        stream.words(&mut words);
        for word in words {
            let candidate = word & mask;
            if filled == row.len() {
                break;
            }
            row[filled] = candidate;
            filled += usize::from(candidate < q.value());
        }
    }
}

/// Fills `out` with uniform values of {-1, 0, 1}, without branches on them.
pub fn ternary(stream: &mut Stream, out: &mut [i8]) {
    let mut words = Zeroizing::new([0u64; CHUNK]);
    for chunk in out.chunks_mut(CHUNK) {
        stream.words(&mut words);
        for (value, &word) in chunk.iter_mut().zip(words.iter()) {
            *value = ((u128::from(word) * 3) >> 64) as i8 - 1;
        }
    }
}

/// The discrete Gaussian on the integers, by a table of tails that every draw scans whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorSampler {
    std_dev: f64,
    /// Entry `k - 1` is `P(|x| >= k) * 2^63`.
    tails: Vec<u64>,
}

impl ErrorSampler {
    /// The sampler of standard deviation `std_dev`, for widths of 0.5 to 1024 (above 0.5 the
    /// parameter `sigma` and the standard deviation agree to within 8 %, above 1 to `10^-6`).
    ///
    /// A width that is no positive number gives the sampler that always returns 0; parameters
    /// refuse such widths.
    #[must_use]
    pub fn new(std_dev: f64) -> Self {
        let weight = |x: f64| (-x * x / (2.0 * std_dev * std_dev)).exp();
        // exp(-x^2 / 2) < 2^-70 beyond 9.9
        let cut = (9.9 * std_dev).ceil().clamp(0.0, 20_000.0) as usize;
        // tails are summed from the far end, so small ones keep their relative precision
        let mut sums: Vec<f64> = (1..=cut)
            .rev()
            .scan(0.0, |sum, x| {
                *sum += 2.0 * weight(x as f64);
                Some(*sum)
            })
            .collect();
        sums.reverse();
        let total = 1.0 + sums.first().copied().unwrap_or(0.0);
        let scale = 2f64.powi(63) / total;
        let tails = sums
            .iter()
            .map(|sum| (sum * scale) as u64)
            .filter(|&tail| tail > 0)
            .collect();
        Self { std_dev, tails }
    }

    /// The width it was built for.
    #[must_use]
    pub const fn std_dev(&self) -> f64 {
        self.std_dev
    }

    /// The largest magnitude it can return.
    #[must_use]
    pub const fn largest(&self) -> usize {
        self.tails.len()
    }

    /// Fills `out` with draws. One word each: a sign and 63 bits to compare with every tail.
    pub fn fill(&self, stream: &mut Stream, out: &mut [i64]) {
        let mut words = Zeroizing::new([0u64; CHUNK]);
        for chunk in out.chunks_mut(CHUNK) {
            stream.words(&mut words);
            self.invert(&words[..chunk.len()], chunk);
        }
    }

    /// Turns words into draws: the magnitude is the number of tails above the word.
    fn invert(&self, words: &[u64], out: &mut [i64]) {
        // eight draws at a time, so that the counts stay in registers
        for (values, words) in out.chunks_mut(8).zip(words.chunks(8)) {
            let mut halves = [0u64; 8];
            halves
                .iter_mut()
                .zip(words)
                .for_each(|(half, word)| *half = word >> 1);
            let mut counts = [0u64; 8];
            for &tail in &self.tails {
                for (count, half) in counts.iter_mut().zip(&halves) {
                    // both are below 2^63: the top bit of the difference says half < tail
                    *count = count.wrapping_add(half.wrapping_sub(tail) >> 63);
                }
            }
            for ((value, &count), &word) in values.iter_mut().zip(&counts).zip(words) {
                let sign = ((word & 1) as i64).wrapping_neg();
                *value = (count as i64 ^ sign) - sign;
            }
        }
    }
}

#[cfg(test)]
mod tests;
