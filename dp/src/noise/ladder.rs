//! A discrete Gaussian in constant time: a ladder of narrow samplers, each a full table scan.
//!
//! A draw is `x_0 + K_1 x_1 + ... + K_(n-1) x_(n-1)` with independent narrow draws `x_i` of one
//! parameter `s_0 = s / sqrt(1 + K_1^2 + ...)`. A narrow draw takes 32 random bits: 31 are compared
//! with *every* entry of a cumulative table, one is the sign. The table holds the probabilities
//! rounded down to multiples of 2^-31; in the small rest (some 2^-24) the draw is taken
//! from a second table of 2^-127 resolution, again compared with every entry. Such repairs are made
//! at the end of each block of 1024 draws, always the same number of them, and each is written by
//! passing over the whole block, so that it shows neither whether there was one nor where.
//!
//! **What depends on what.** The sequence of instructions and of addresses depends on the parameter
//! (public) and on how many draws are asked for (public), on nothing else: there is no branch and no
//! index that depends on a random word or a drawn value, no rejection, no division, no floating
//! point. Random words reach only additions, multiplications, comparisons whose results are used as
//! numbers, and bit operations. Comparisons of 128-bit integers are compare-and-borrow
//! chains. This holds for the source; Rust makes no promise about its compiler, so a build for
//! a hostile machine should be looked at.
//!
//! The distance from the exact distribution is below [`DISTANCE`] per draw in total variation; the
//! proof follows, and [`LadderGaussian::log2_distance`] is its sum for the parameter at hand.
//! [`crate::statement`] adds it to delta.
//!
//! The scans are plain loops over fixed arrays. `pulp` compiles them a second and third time
//! for AVX2 and AVX-512 and chooses at run time, which keeps `unsafe` out of this crate; without
//! either they run as SSE2 or scalar code, several times slower.
#![doc = include_str!("../../proofs/ladder.md")]

use std::hint::black_box;

use rand_core::CryptoRng;
use zeroize::Zeroize;

mod rungs;
mod scan;
mod tables;

use crate::quantity::{RangeError, require};
use rungs::Rungs;
use scan::{AddRung, BLOCK, Block, Repair};
use tables::Tables;

/// The bound on the total variation distance per draw between [`LadderGaussian`] and the exact
/// discrete Gaussian: 2^-100.
pub const DISTANCE: f64 = 1.0 / (1u128 << 100) as f64;

/// The discrete Gaussian to within [`DISTANCE`] per draw, in constant time and in bulk.
///
/// ```
/// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
/// use sphinx_dp::LadderGaussian;
///
/// let gaussian = LadderGaussian::new(1000.0)?;
/// let mut draws = vec![0; 4000];
/// gaussian.fill(&mut draws, &mut ChaCha20Rng::seed_from_u64(1));
/// let mean_square = draws.iter().map(|x| (x * x) as f64).sum::<f64>() / 4000.0;
/// assert!((mean_square.sqrt() - 1000.0).abs() < 50.0);
/// assert!(gaussian.log2_distance() < -100.0);
/// # Ok::<(), sphinx_dp::RangeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LadderGaussian {
    std_dev: f64,
    rungs: Rungs,
    tables: Tables,
    /// Repairs made in every block.
    repairs: u32,
    log2_distance: f64,
    arch: pulp::Arch,
}

impl LadderGaussian {
    /// The discrete Gaussian with parameter `std_dev`, taken exactly. Takes some milliseconds.
    ///
    /// # Errors
    /// [`RangeError`] unless `1e-3 <= std_dev <= 2^40`.
    pub fn new(std_dev: f64) -> Result<Self, RangeError> {
        let name = "discrete Gaussian std_dev";
        let range = "between 1e-3 and 2^40";
        let ok = (1e-3..=1_099_511_627_776.0).contains(&std_dev);
        require(ok, name, std_dev, range)?;
        let rungs = Rungs::choose(std_dev);
        let tables = Tables::new(&super::table::square(std_dev), rungs.sum_of_squares());
        let gaussian = Self::assemble(std_dev, rungs, tables);
        require(gaussian.log2_distance < -100.0, name, std_dev, range)?;
        Ok(gaussian)
    }

    fn assemble(std_dev: f64, rungs: Rungs, tables: Tables) -> Self {
        let elements = (rungs.len() * BLOCK) as f64;
        let rest = tables.rest();
        // Enough repairs that more are needed with probability below 2^-104 per block.
        let mut repairs = 1;
        while log2_overflow(elements, rest, repairs) > -104.0 {
            repairs += 1;
        }
        let parts = [
            rungs.log2_distance(),
            (rungs.len() as f64).log2() + tables.log2_distance(),
            log2_overflow(elements, rest, repairs),
        ];
        let sum: f64 = parts.iter().map(|part| (part + 100.0).exp2()).sum();
        let log2_distance = sum.log2() - 100.0;
        Self {
            std_dev,
            rungs,
            tables,
            repairs,
            log2_distance,
            arch: pulp::Arch::new(),
        }
    }

    /// The same draws by the instructions that every processor of the target has, as where there is
    /// neither AVX2 nor AVX-512: for measurements, and as the twin of the fast kernels.
    ///
    /// ```
    /// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
    /// use sphinx_dp::LadderGaussian;
    ///
    /// let gaussian = LadderGaussian::new(64.0)?;
    /// let (mut fast, mut slow) = ([0; 100], [0; 100]);
    /// gaussian.fill(&mut fast, &mut ChaCha20Rng::seed_from_u64(1));
    /// gaussian.portable().fill(&mut slow, &mut ChaCha20Rng::seed_from_u64(1));
    /// assert_eq!(fast, slow);
    /// # Ok::<(), sphinx_dp::RangeError>(())
    /// ```
    #[must_use]
    pub const fn portable(mut self) -> Self {
        self.arch = pulp::Arch::Scalar;
        self
    }

    /// The parameter s.
    #[must_use]
    pub const fn std_dev(&self) -> f64 {
        self.std_dev
    }

    /// The base-two logarithm of the proven bound on the distance per draw, below -100.
    #[must_use]
    pub const fn log2_distance(&self) -> f64 {
        self.log2_distance
    }

    /// The multipliers `1, K_1, ...` of the narrow draws.
    #[must_use]
    pub fn multipliers(&self) -> &[i64] {
        self.rungs.multipliers()
    }

    /// The probability of a magnitude in a ladder of one rung, as its tables draw it.
    #[cfg(test)]
    pub(super) fn probability(&self, magnitude: usize) -> Option<f64> {
        use num_traits::ToPrimitive;
        let units = self.tables.drawn().get(magnitude)?.to_f64()?;
        (self.rungs.len() == 1).then_some(units / 158f64.exp2())
    }

    /// Fills `out` with independent draws.
    ///
    /// Works in whole blocks of 1024; of the last block, what is not asked for is thrown away.
    pub fn fill<R: CryptoRng + ?Sized>(&self, out: &mut [i64], rng: &mut R) {
        let mut block = Block::new();
        for part in out.chunks_mut(BLOCK) {
            self.draw(&mut block, rng);
            part.copy_from_slice(&block.sums[..part.len()]);
        }
        black_box(&mut block).zeroize();
    }

    fn draw<R: CryptoRng + ?Sized>(&self, block: &mut Block, rng: &mut R) {
        block.sums.fill(0);
        block.open.fill(0);
        for (rung, &multiplier) in self.rungs.multipliers().iter().enumerate() {
            rng.fill_bytes(block.bytes.as_mut_slice());
            self.arch.dispatch(AddRung {
                block,
                last: self.tables.groups(),
                magnitudes: self.tables.magnitudes(),
                rung: rung as u32,
                multiplier,
            });
        }
        for _ in 0..self.repairs {
            let word = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let value = self.tables.draw_rest(word);
            self.arch.dispatch(Repair {
                block,
                multipliers: self.rungs.multipliers(),
                value,
            });
        }
    }
}

/// The logarithm of a bound on the probability that more than `repairs` of `elements` narrow draws
/// fall into the rest: `C(elements, repairs + 1) rest^(repairs + 1)`.
fn log2_overflow(elements: f64, rest: f64, repairs: u32) -> f64 {
    (0..=repairs)
        .map(|i| (elements * rest / f64::from(i + 1)).log2())
        .sum()
}

#[cfg(test)]
mod tests;
