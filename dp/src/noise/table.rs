//! The discrete Gaussian by rejection from a table, exact and fast.
//!
//! The magnitudes are cut into 1024 blocks of a power of two of integers, which reach past 16
//! standard deviations. A 64-bit integer picks a block with an integer weight that is at least
//! the (scaled) target at the block's start. A second one gives sign, a point in the block, and the
//! leading bits of a uniform number that accepts the point with the exact ratio of target to
//! weight. Some ninety-seven times in a hundred that is settled by a stored lower bound, nearly
//! always else by a float exponential with a margin, and in the remaining cases exactly, by
//! [`super::decide`], which draws more bits as needed. Magnitudes past the table live in
//! blocks that double in size, so the whole line is covered.
//!
//! **Deviation** from Canonne, Kamath, Steinke 2020, Algorithm 3: same distribution, other
//! algorithm, a hundred times faster; their algorithm is kept as the slow twin.

use num_bigint::BigUint;
use num_traits::FromPrimitive;
use rand_core::CryptoRng;

use super::{cks, decide};
use crate::quantity::{RangeError, require};

const LOG_BLOCKS: u32 = 10;
const BLOCKS: usize = 1 << LOG_BLOCKS;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// How far a float decision must be from the boundary to count.
const FLOAT_MARGIN: f64 = 1e-11;

/// The discrete Gaussian on the integers: `Pr[x]` proportional to `exp(-x^2 / (2 s^2))`.
///
/// The parameter s is the float that was given, exactly (a rational number); for s above one, the
/// standard deviation equals s to within `exp(-19)` relatively, and to within rounding above two.
///
/// Draws are exact given uniform random bits, with one exception: a magnitude of 2^17 or more times
/// 16 s is never returned, whose probability is below `2^-(10^11)`.
#[derive(Debug, Clone)]
pub struct DiscreteGaussian {
    std_dev: f64,
    /// s^2 as a fraction of integers.
    variance: (BigUint, BigUint),
    log_block: u32,
    /// How many bits of a draw are left for acceptance: `63 - log_block`.
    unit_bits: u32,
    /// `-1 / (2 s^2)`, rounded.
    exponent: f64,
    /// The integer S: weights and target are compared at this scale.
    scale: BigUint,
    /// Running sums of the block weights.
    ends: Box<[u64]>,
    blocks: Box<[Block]>,
    /// For the top bits of a pick, the first block that it can mean.
    guide: Box<[u16]>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    /// An integer that is at least S times the target at the start of the block.
    weight: u64,
    /// S over the weight, rounded.
    ratio: f64,
    /// Leading bits of the uniform number below this surely accept.
    sure: u64,
}

impl DiscreteGaussian {
    /// The discrete Gaussian with parameter `std_dev`, taken exactly.
    ///
    /// # Errors
    /// [`RangeError`] unless `1e-3 <= std_dev <= 2^40`.
    pub fn new(std_dev: f64) -> Result<Self, RangeError> {
        let ok = (1e-3..=1_099_511_627_776.0).contains(&std_dev);
        require(
            ok,
            "discrete Gaussian std_dev",
            std_dev,
            "between 1e-3 and 2^40",
        )?;
        let log_block = (std_dev / 64.0).log2().ceil().max(0.0) as u32;
        let width = f64::from(log_block).exp2();
        let unit_bits = 63 - log_block;
        let exponent = -0.5 / (std_dev * std_dev);
        let target = |magnitude: f64| (magnitude * magnitude * exponent).exp();

        let mass: f64 = (0..BLOCKS).map(|k| target(k as f64 * width)).sum();
        // An integer: floats of this size have no fraction. Room is left for rounding up.
        let scale = (TWO_64 * (1.0 - 1e-9) / mass).floor();
        let unit = f64::from(unit_bits).exp2();
        let mut ends = Vec::with_capacity(BLOCKS);
        let mut blocks = Vec::with_capacity(BLOCKS);
        let mut end = 0u64;
        for k in 0..BLOCKS {
            let start = k as f64 * width;
            let weight = (scale * target(start) * (1.0 + 1e-10)) as u64 + 1;
            let ratio = scale / weight as f64;
            let least = ratio * target(start + width - 1.0) - FLOAT_MARGIN;
            blocks.push(Block {
                weight,
                ratio,
                sure: (least.max(0.0) * unit) as u64,
            });
            end = end.saturating_add(weight);
            ends.push(end);
        }
        let guide = (0..BLOCKS as u64)
            .map(|top| ends.partition_point(|&end| end <= top << (64 - LOG_BLOCKS)) as u16)
            .collect();
        Ok(Self {
            std_dev,
            variance: square(std_dev),
            log_block,
            unit_bits,
            exponent,
            scale: BigUint::from_f64(scale).unwrap_or_default(),
            ends: ends.into(),
            blocks: blocks.into(),
            guide,
        })
    }

    /// The parameter s.
    #[must_use]
    pub const fn std_dev(&self) -> f64 {
        self.std_dev
    }

    /// One draw. The time it takes depends on the value: draw ahead of the data.
    pub fn sample_vartime<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i64 {
        loop {
            let pick = rng.next_u64();
            let point = rng.next_u64();
            if let Some(value) = self.propose(pick, point, rng) {
                return value;
            }
        }
    }

    /// One draw by the slow twin (Canonne, Kamath, Steinke 2020, Algorithm 3), for checking.
    pub fn sample_reference_vartime<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i64 {
        cks::discrete_gaussian(&self.variance.0, &self.variance.1, rng)
    }

    /// One proposal: a block by `pick`; sign, point and acceptance by `point`.
    #[inline]
    fn propose<R: CryptoRng + ?Sized>(&self, pick: u64, point: u64, rng: &mut R) -> Option<i64> {
        let mut k = usize::from(self.guide[(pick >> (64 - LOG_BLOCKS)) as usize]);
        while k < BLOCKS && pick >= self.ends[k] {
            k += 1;
        }
        if k == BLOCKS {
            return self.propose_far(pick, point, rng);
        }
        let offset = (point >> 1) & ((1 << self.log_block) - 1);
        let magnitude = ((k as u64) << self.log_block) + offset;
        let negative = point & 1 == 1;
        if negative && magnitude == 0 {
            return None;
        }
        let block = &self.blocks[k];
        let uniform = point >> (64 - self.unit_bits);
        if uniform >= block.sure && !self.accept(uniform, magnitude, block, rng) {
            return None;
        }
        let value = magnitude as i64;
        Some(if negative { -value } else { value })
    }

    /// Whether the number that starts with `uniform` is below `S exp(-m^2 / (2 s^2)) / weight`.
    #[cold]
    fn accept<R: CryptoRng + ?Sized>(
        &self,
        uniform: u64,
        magnitude: u64,
        block: &Block,
        rng: &mut R,
    ) -> bool {
        let m = magnitude as f64;
        let unit = (-f64::from(self.unit_bits)).exp2();
        let target = block.ratio * (m * m * self.exponent).exp();
        let gap = target - uniform as f64 * unit;
        if gap < -FLOAT_MARGIN {
            return false;
        }
        if gap > FLOAT_MARGIN + unit {
            return true;
        }
        self.decide((uniform, self.unit_bits), magnitude, block.weight, 0, rng)
    }

    fn decide<R: CryptoRng + ?Sized>(
        &self,
        uniform: (u64, u32),
        magnitude: u64,
        weight: u64,
        shift: u64,
        rng: &mut R,
    ) -> bool {
        let square = BigUint::from(magnitude) * magnitude;
        let numerator = square * &self.variance.1;
        let denominator = &self.variance.0 * 2u32;
        decide::below_exp(
            uniform,
            weight,
            &self.scale,
            shift,
            (&numerator, &denominator),
            rng,
        )
    }

    /// Magnitudes past the table: block j holds `[T 2^j, T 2^(j+1))` and is proposed with weight
    /// `1024 / 2^(j+1)`, so a point is accepted with probability `S rho 2^(2j+1)`, below 2^-100.
    #[cold]
    fn propose_far<R: CryptoRng + ?Sized>(
        &self,
        pick: u64,
        point: u64,
        rng: &mut R,
    ) -> Option<i64> {
        let past = pick - self.ends[BLOCKS - 1];
        let j = (rng.next_u64() | 1 << 63).trailing_zeros();
        if past >= BLOCKS as u64 || rng.next_u64() != 0 || j > 16 {
            return None;
        }
        let log_size = self.log_block + LOG_BLOCKS + j;
        let magnitude = (1 << log_size) + ((point >> 1) & ((1 << log_size) - 1));
        let accepted = self.decide((0, 64), magnitude, 1, u64::from(2 * j + 1), rng);
        let value = magnitude as i64;
        accepted.then_some(if point & 1 == 1 { -value } else { value })
    }
}

/// The square of a positive normal float, as a fraction of integers.
pub(super) fn square(x: f64) -> (BigUint, BigUint) {
    let bits = x.to_bits();
    let mantissa = (bits & ((1 << 52) - 1)) | 1 << 52;
    let exponent = (bits >> 52) as i64 - 1075;
    let numerator = BigUint::from(mantissa) * mantissa;
    let one = BigUint::from(1u32);
    if exponent >= 0 {
        (numerator << (2 * exponent) as u64, one)
    } else {
        let trailing = numerator
            .trailing_zeros()
            .unwrap_or(0)
            .min((-2 * exponent) as u64);
        (
            numerator >> trailing,
            one << ((-2 * exponent) as u64 - trailing),
        )
    }
}

#[cfg(test)]
mod tests {
    use num_traits::One;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    const STD_DEVS: [f64; 6] = [1e-3, 0.5, 63.0, 100.3, 262_144.0, 1_099_511_627_776.0];

    /// The premise of the proof, checked exactly: every weight is at least the scaled target at
    /// the start of its block, and the weights fit into 64 bits without saturating.
    #[test]
    fn weights_cover_the_target() {
        for std_dev in STD_DEVS {
            let gaussian = DiscreteGaussian::new(std_dev).unwrap();
            let total: u128 = gaussian.blocks.iter().map(|b| u128::from(b.weight)).sum();
            assert_eq!(total, u128::from(*gaussian.ends.last().unwrap()));
            assert!(total + BLOCKS as u128 <= 1 << 64 && total > (1 << 64) / 1000 * 999);
            let end = (BLOCKS as f64) * f64::from(gaussian.log_block).exp2();
            assert!(end >= 16.0 * std_dev);
            for k in (0..BLOCKS as u64).step_by(37) {
                let start = BigUint::from(k << gaussian.log_block);
                let numerator = &start * &start * &gaussian.variance.1;
                let denominator = &gaussian.variance.0 * 2u32;
                if numerator > &denominator * 1000u32 {
                    break;
                }
                let (_, high) = decide::enclose_exp(&numerator, &denominator, 300);
                let weight = BigUint::from(gaussian.blocks[k as usize].weight) << 300u32;
                assert!(
                    weight >= high * &gaussian.scale,
                    "std_dev {std_dev}, block {k}"
                );
            }
        }
    }

    /// The stored bound, the float and the exact decision agree wherever the first two speak.
    #[test]
    fn shortcuts_agree_with_the_exact_decision() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for std_dev in [0.5, 63.0, 100.3, 262_144.0, 1_099_511_627_776.0] {
            let gaussian = DiscreteGaussian::new(std_dev).unwrap();
            let mut far = 0;
            for _ in 0..300 {
                let k = (rng.next_u64() % 200) as usize;
                let block = gaussian.blocks[k];
                let inside = rng.next_u64() & ((1 << gaussian.log_block) - 1);
                let magnitude = ((k as u64) << gaussian.log_block) + inside;
                // Around the boundary, where a shortcut would go wrong first.
                let edge = block.ratio * ((magnitude as f64).powi(2) * gaussian.exponent).exp();
                let unit = f64::from(gaussian.unit_bits).exp2();
                let jitter = (rng.next_u32() as f64 / 2f64.powi(31) - 1.0) * 2e-10;
                let uniform = ((edge + jitter).clamp(0.0, 0.999_999_999) * unit) as u64;
                let known = (uniform, gaussian.unit_bits);
                let exact = gaussian.decide(known, magnitude, block.weight, 0, &mut rng);
                if (uniform as f64 / unit - edge).abs() > FLOAT_MARGIN + 1.0 / unit {
                    far += 1;
                    assert_eq!(gaussian.accept(uniform, magnitude, &block, &mut rng), exact);
                }
                assert!(
                    uniform >= block.sure || exact,
                    "std_dev {std_dev}, block {k}"
                );
            }
            assert!(far > 0 || gaussian.unit_bits < 33);
        }
    }

    #[test]
    fn picks_beyond_the_table_are_rejected_but_for_a_miracle() {
        let gaussian = DiscreteGaussian::new(100.0).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let last = *gaussian.ends.last().unwrap();
        for past in [0, 5, BLOCKS as u64, u64::MAX - last] {
            assert_eq!(
                gaussian.propose(last + past, rng.next_u64(), &mut rng),
                None
            );
        }
    }

    #[test]
    fn variances_are_exact() {
        assert_eq!(square(0.75), (9u32.into(), 16u32.into()));
        assert_eq!(square(3.0), (9u32.into(), 1u32.into()));
        let (n, d) = square(0.1);
        // The float 0.1 is 3602879701896397 / 2^55.
        assert_eq!(n, BigUint::from(3_602_879_701_896_397u64).pow(2));
        assert_eq!(d, BigUint::one() << 110u32);
    }
}
