//! Sums of products whose operands lie block by block.
//!
//! A *place* holds a block of each polynomial of one operand, back to back: one block for a plain
//! factor, two (of `c0` and `c1`) for a ciphertext. Operands of one sum follow each other, so that
//! a sum reads two or three streams; two sums that share an operand are computed at once, so that
//! products, not loads, take the time. All arguments are canonical residues, and so are results.

use super::Kernels;
#[cfg(target_arch = "x86_64")]
use super::{Backend, avx512};
use crate::zq::Modulus;

/// Words of a block for which there is vector code; blocks of any length are right.
pub const BLOCK: usize = 16;

impl Kernels {
    /// Every `block` words of `from` to the beginning of another `pitch` words of `out`: past the cache, which
    /// has no use for them soon and would fetch the lines first.
    pub fn cut(self, out: &mut [u64], pitch: usize, from: &[u64], block: usize) {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Backend::Avx512 && block.is_multiple_of(8) && pitch.is_multiple_of(8) {
            // SAFETY: kernels are made only where the back end's instructions were found
            return unsafe { avx512::cut(out, pitch, from, block) };
        }
        for (out, from) in out.chunks_mut(pitch).zip(from.chunks_exact(block)) {
            out[..block].copy_from_slice(from);
        }
    }

    /// `out += sum_k w_k x_k` for both blocks of `x`. `w` has one block to a place, `x` two at the
    /// beginning of every `pitch` words.
    pub fn weigh_block(self, q: &Modulus, out: &mut [u64], w: &[u64], x: &[u64], pitch: usize) {
        let block = out.len() / 2;
        for (part, out) in out.chunks_exact_mut(block).enumerate() {
            let terms = w.chunks_exact(block).zip(x.chunks(pitch));
            let terms = terms.map(|(w, x)| (w, &x[part * block..(part + 1) * block]));
            self.dot_add_assign(q, out, &terms.collect::<Vec<_>>());
        }
    }

    /// [`Self::weigh_block`] for two rows of factors; `out` holds one result after the other.
    pub fn weigh_block_pair(
        self,
        q: &Modulus,
        out: &mut [u64],
        w: [&[u64]; 2],
        x: &[u64],
        pitch: usize,
    ) {
        debug_assert_eq!(w[0].len(), w[1].len());
        #[cfg(target_arch = "x86_64")]
        if self.is_wide(q, out.len() / 4) {
            // SAFETY: kernels are made only where the back end's instructions were found
            return unsafe { avx512::weigh_block_pair(q, out, w, x, pitch) };
        }
        let half = out.len() / 2;
        for (out, w) in out.chunks_exact_mut(half).zip(w) {
            self.weigh_block(q, out, w, x, pitch);
        }
    }

    /// `out += sum_t x_t d_t`, ciphertexts: the three blocks of `x0 d0`, `x0 d1 + x1 d0`, `x1 d1`.
    pub fn multiply_block(self, q: &Modulus, out: &mut [u64], x: &[u64], d: &[u64]) {
        let block = out.len() / 3;
        let mut terms: [Vec<(&[u64], &[u64])>; 3] = Default::default();
        for (x, d) in x.chunks_exact(2 * block).zip(d.chunks_exact(2 * block)) {
            let ((x0, x1), (d0, d1)) = (x.split_at(block), d.split_at(block));
            terms[0].push((x0, d0));
            terms[1].extend([(x0, d1), (x1, d0)]);
            terms[2].push((x1, d1));
        }
        for (out, terms) in out.chunks_exact_mut(block).zip(&terms) {
            self.dot_add_assign(q, out, terms);
        }
    }

    /// [`Self::multiply_block`] for two rows `x`; `out` holds one result after the other.
    pub fn multiply_block_pair(self, q: &Modulus, out: &mut [u64], x: [&[u64]; 2], d: &[u64]) {
        debug_assert!(x[0].len() == d.len() && x[1].len() == d.len());
        #[cfg(target_arch = "x86_64")]
        if self.is_wide(q, out.len() / 6) {
            // SAFETY: kernels are made only where the back end's instructions were found
            return unsafe { avx512::multiply_block_pair(q, out, x, d) };
        }
        let half = out.len() / 2;
        for (out, x) in out.chunks_exact_mut(half).zip(x) {
            self.multiply_block(q, out, x, d);
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_wide(self, q: &Modulus, block: usize) -> bool {
        self.0 == Backend::Avx512 && q.bits() <= avx512::MAX_BITS && block == BLOCK
    }
}
