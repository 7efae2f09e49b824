//! A block of draws, and the passes over it. Every loop runs over all of its array.

use zeroize::Zeroize;

/// Draws per block.
pub(super) const BLOCK: usize = 1024;
/// Draws that one pass over the table serves.
const LANES: usize = 64;

/// Draws in the making. Wiped by [`Block::zeroize`].
pub(super) struct Block {
    /// The random bytes of one rung, four for each draw.
    pub(super) bytes: Box<[u8; 4 * BLOCK]>,
    /// What the draws add up to so far.
    pub(super) sums: Box<[i64; BLOCK]>,
    /// For each draw a bit per rung: set where the narrow draw fell into the rest and is missing.
    pub(super) open: Box<[u32; BLOCK]>,
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            bytes: Box::new([0; 4 * BLOCK]),
            sums: Box::new([0; BLOCK]),
            open: Box::new([0; BLOCK]),
        }
    }

    /// Adds `multiplier` times a narrow draw to every sum.
    #[inline(always)]
    pub(super) fn add_rung(&mut self, coarse: &[i32], rung: u32, multiplier: i64) {
        let words = self.bytes.as_chunks::<{ 4 * LANES }>().0.iter();
        let sums = self.sums.as_chunks_mut::<LANES>().0.iter_mut();
        let open = self.open.as_chunks_mut::<LANES>().0.iter_mut();
        for ((bytes, sums), open) in words.zip(sums).zip(open) {
            let (values, missing) = narrow(bytes, coarse);
            for lane in 0..LANES {
                sums[lane] += multiplier * i64::from(values[lane]);
                open[lane] |= missing[lane] << rung;
            }
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

/// Narrow draws, zero where missing, and which are missing.
#[inline(always)]
fn narrow(bytes: &[u8; 4 * LANES], coarse: &[i32]) -> ([i32; LANES], [u32; LANES]) {
    let words = bytes.as_chunks::<4>().0;
    let mut uniform = [0i32; LANES];
    for lane in 0..LANES {
        uniform[lane] = (u32::from_le_bytes(words[lane]) >> 1) as i32;
    }
    let mut counts = [0i32; LANES];
    for &end in coarse {
        for lane in 0..LANES {
            counts[lane] += i32::from(uniform[lane] >= end);
        }
    }
    let (mut values, mut missing) = ([0; LANES], [0; LANES]);
    let all = coarse.len() as i32;
    for lane in 0..LANES {
        let lost = i32::from(counts[lane] == all);
        let sign = -i32::from(words[lane][0] & 1);
        let magnitude = counts[lane] & (lost - 1);
        values[lane] = (magnitude ^ sign) - sign;
        missing[lane] = lost as u32;
    }
    (values, missing)
}

impl Zeroize for Block {
    fn zeroize(&mut self) {
        self.bytes.zeroize();
        self.sums.zeroize();
        self.open.zeroize();
    }
}
