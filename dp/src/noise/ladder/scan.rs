//! A block of draws, and the passes over it. Every loop runs over all of its array.

use pulp::{Simd, WithSimd};
use zeroize::Zeroize;

/// Draws per block.
pub(super) const BLOCK: usize = 1024;
/// Table entries that one pass over the block compares with.
pub(super) const GROUP: usize = 8;

/// Draws in the making. Wiped by [`Block::zeroize`].
pub(super) struct Block {
    /// The random bytes of one rung, four for each draw.
    pub(super) bytes: Box<[u8; 4 * BLOCK]>,
    /// Their upper 31 bits, and the lowest.
    uniform: Box<[i32; BLOCK]>,
    sign: Box<[i32; BLOCK]>,
    /// For each draw the number of table entries that its word is not below.
    counts: Box<[i32; BLOCK]>,
    /// What the draws add up to so far.
    pub(super) sums: Box<[i64; BLOCK]>,
    /// For each draw a bit per rung: set where the narrow draw fell into the rest and is missing.
    pub(super) open: Box<[u32; BLOCK]>,
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            bytes: Box::new([0; 4 * BLOCK]),
            uniform: Box::new([0; BLOCK]),
            sign: Box::new([0; BLOCK]),
            counts: Box::new([0; BLOCK]),
            sums: Box::new([0; BLOCK]),
            open: Box::new([0; BLOCK]),
        }
    }

    /// Adds `multiplier` times a narrow draw to every sum. `last` are the largest 31-bit numbers of
    /// the magnitudes 0, 1, ..., of which there are `magnitudes`; the rest of the groups is padding.
    #[inline(always)]
    pub(super) fn add_rung(
        &mut self,
        last: &[[i32; GROUP]],
        magnitudes: i32,
        rung: u32,
        multiplier: i64,
    ) {
        let words = self.bytes.as_chunks::<4>().0.iter();
        let parts = self.uniform.iter_mut().zip(self.sign.iter_mut());
        for (bytes, (uniform, sign)) in words.zip(parts) {
            let word = u32::from_le_bytes(*bytes);
            (*uniform, *sign) = ((word >> 1) as i32, -((word & 1) as i32));
        }
        self.counts.fill(0);
        for group in last {
            count(&self.uniform, group, &mut self.counts);
        }
        let drawn = self.sign.iter().zip(self.counts.iter());
        let ends = self.sums.iter_mut().zip(self.open.iter_mut());
        for ((&sign, &count), (sum, open)) in drawn.zip(ends) {
            let lost = i32::from(count == magnitudes);
            // Nothing is added where the draw is lost.
            let magnitude = count & (lost - 1);
            *sum += multiplier * i64::from((magnitude ^ sign) - sign);
            *open |= (lost as u32) << rung;
        }
    }

    /// Adds `value`, times the multiplier of its rung, to the first draw that misses one; to none
    /// if none does.
    #[inline(always)]
    pub(super) fn repair(&mut self, multipliers: &[i64], value: i64) {
        let mut first = BLOCK as u32;
        for (draw, &open) in (0u32..).zip(self.open.iter()) {
            // All ones where nothing is missing.
            let whole = u32::from(open != 0).wrapping_sub(1);
            first = first.min(draw | whole);
        }
        let mut bits = 0;
        for (draw, &open) in (0u32..).zip(self.open.iter()) {
            bits |= open & u32::from(draw == first).wrapping_neg();
        }
        let lowest = bits & bits.wrapping_neg();
        let mut added = 0;
        for (rung, &multiplier) in multipliers.iter().enumerate() {
            let chosen = i64::from((lowest >> rung) & 1);
            added |= multiplier & -chosen;
        }
        added *= value;
        let passes = (0u32..).zip(self.sums.iter_mut().zip(self.open.iter_mut()));
        for (draw, (sum, open)) in passes {
            let here = u32::from(draw == first).wrapping_neg();
            *open ^= lowest & here;
            *sum += added & i64::from(here as i32);
        }
    }
}

/// [`Block::add_rung`], compiled for the vectors at hand. A closure would not be.
pub(super) struct AddRung<'a> {
    pub(super) block: &'a mut Block,
    pub(super) last: &'a [[i32; GROUP]],
    pub(super) magnitudes: i32,
    pub(super) rung: u32,
    pub(super) multiplier: i64,
}

impl WithSimd for AddRung<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.block
            .add_rung(self.last, self.magnitudes, self.rung, self.multiplier);
    }
}

/// [`Block::repair`], compiled for the vectors at hand.
pub(super) struct Repair<'a> {
    pub(super) block: &'a mut Block,
    pub(super) multipliers: &'a [i64],
    pub(super) value: i64,
}

impl WithSimd for Repair<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.block.repair(self.multipliers, self.value);
    }
}

/// Adds to each count the number of entries that its number is above.
#[inline(always)]
fn count(uniform: &[i32; BLOCK], entries: &[i32; GROUP], counts: &mut [i32; BLOCK]) {
    let entries = *entries;
    for (count, &uniform) in counts.iter_mut().zip(uniform) {
        let mut above = 0;
        for entry in entries {
            above += i32::from(uniform > entry);
        }
        *count += above;
    }
}

impl Zeroize for Block {
    fn zeroize(&mut self) {
        self.bytes.zeroize();
        self.uniform.zeroize();
        self.sign.zeroize();
        self.counts.zeroize();
        self.sums.zeroize();
        self.open.zeroize();
    }
}
