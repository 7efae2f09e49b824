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
//! All randomness comes from AES-256 in counter mode keyed by `SHA-256(label, parameter digest,
//! 32-byte seed)`, so streams of different purposes or parameters never meet: block `j` of
//! sub-stream `i` is `AES(j, i)`, both as little-endian words. As a permutation never repeats a
//! block, `n` blocks of one key are told from random ones with an advantage of `n^2 / 2^129` at
//! most; a stream has fewer than `2^20`. AES and not ChaCha20 because it takes a sixth of the time
//! where the processor has its instructions (`BENCHMARKS.md`); elsewhere the `aes` crate runs a
//! constant-time bit-sliced one. The round keys are erased when the stream is dropped, temporaries
//! in registers are not. The words do not depend on the back end.
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

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Block};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::simd::Kernels;
use crate::zq::Modulus;

/// Length of a seed in bytes.
pub const SEED_BYTES: usize = 32;

/// Words drawn from the generator at a time.
const CHUNK: usize = 512;

/// A stream of words, determined by a label, a parameter digest and a seed.
pub struct Stream {
    cipher: Aes256,
    /// The sub-stream, and the number of its next block.
    index: u64,
    block: u64,
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
            .chain_update(b"sphinx-he stream 2\0")
            .chain_update((label.len() as u64).to_le_bytes())
            .chain_update(label)
            .chain_update(digest)
            .chain_update(seed)
            .finalize();
        let mut key: [u8; 32] = hash.into();
        let cipher = Aes256::new(&key.into());
        key.zeroize();
        Self {
            cipher,
            index: 0,
            block: 0,
        }
    }

    /// Restarts at the beginning of sub-stream `index`; sub-streams never overlap.
    pub const fn select(&mut self, index: u64) {
        self.index = index;
        self.block = 0;
    }

    fn words(&mut self, words: &mut [u64; CHUNK]) {
        let mut blocks = [Block::default(); CHUNK / 2];
        for block in &mut blocks {
            let (counter, index) = block.split_at_mut(8);
            counter.copy_from_slice(&self.block.to_le_bytes());
            index.copy_from_slice(&self.index.to_le_bytes());
            self.block = self.block.wrapping_add(1);
        }
        self.cipher.encrypt_blocks(&mut blocks);
        for (pair, block) in words.as_chunks_mut::<2>().0.iter_mut().zip(&mut blocks) {
            let (halves, _) = block.as_chunks::<8>();
            for (word, half) in pair.iter_mut().zip(halves) {
                *word = u64::from_le_bytes(*half);
            }
            block.zeroize();
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
        for eight in words.as_chunks::<8>().0 {
            let candidates = eight.map(|word| word & mask);
            // the top bit of any difference: one of the eight is not below q
            let refused = candidates
                .iter()
                .fold(0, |any, x| any | (q.value() - 1).wrapping_sub(*x));
            if refused >> 63 == 0 && row.len() - filled >= 8 {
                row[filled..filled + 8].copy_from_slice(&candidates);
                filled += 8;
                continue;
            }
            for candidate in candidates {
                if candidate < q.value() && filled < row.len() {
                    row[filled] = candidate;
                    filled += 1;
                }
            }
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
        Kernels::active().count_tails(&self.tails, words, out);
    }
}

#[cfg(test)]
mod tests;
