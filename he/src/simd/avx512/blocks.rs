//! Sums of products over blocks of two registers, two sums at a time.

use std::arch::x86_64::*;

use super::super::blocks::BLOCK;
use super::{DOT_ROOM, Lanes, Sums, add_low, load, store};
use crate::zq::Modulus;

/// See [`super::super::Kernels::cut`]; `block` and `pitch` are multiples of eight words.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn cut(out: &mut [u64], pitch: usize, from: &[u64], block: usize) {
    let aligned = out.as_ptr().addr().is_multiple_of(size_of::<Lanes>());
    for (out, from) in out.chunks_mut(pitch).zip(from.chunks_exact(block)) {
        let (lines, from) = (out.as_chunks_mut().0, from.as_chunks().0);
        for (line, from) in lines.iter_mut().zip(from) {
            if aligned {
                // SAFETY: a line is eight words, at a multiple of 64 bytes
                unsafe { _mm512_stream_si512(line.as_mut_ptr().cast(), load(from)) };
            } else {
                store(line, load(from));
            }
        }
    }
    // Such stores are in no order with others: whoever is told that they are done must see them.
    _mm_sfence();
}

/// Registers of a place of two blocks.
const PLACE: usize = BLOCK / 4;

/// Both blocks of a place, a register at a time; nothing for a place cut short.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn place(words: &[u64]) -> Option<[__m512i; PLACE]> {
    let lanes = words.as_chunks().0.first_chunk::<PLACE>()?;
    Some([
        load(&lanes[0]),
        load(&lanes[1]),
        load(&lanes[2]),
        load(&lanes[3]),
    ])
}

/// `R` unreduced sums.
struct Unreduced<const R: usize> {
    low: [__m512i; R],
    top: [__m512i; R],
}

impl<const R: usize> Unreduced<R> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn from(out: &[Lanes]) -> Self {
        let zero = [_mm512_setzero_si512(); R];
        let (mut low, top) = (zero, zero);
        for (sum, x) in low.iter_mut().zip(out) {
            *sum = load(x);
        }
        Self { low, top }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn add(&mut self, at: usize, x: __m512i, y: __m512i) {
        self.low[at] = add_low(self.low[at], x, y);
        self.top[at] = _mm512_madd52hi_epu64(self.top[at], x, y);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce(self, sums: &Sums, out: &mut [Lanes]) {
        for ((x, &low), &top) in out.iter_mut().zip(&self.low).zip(&self.top) {
            store(x, sums.reduce(low, top));
        }
    }
}

/// See [`super::super::Kernels::weigh_block_pair`]; blocks are of [`BLOCK`] words.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn weigh_block_pair(
    q: &Modulus,
    out: &mut [u64],
    w: [&[u64]; 2],
    x: &[u64],
    pitch: usize,
) {
    let sums = Sums::new(q);
    let (out, _) = out.as_chunks_mut();
    let room = DOT_ROOM * BLOCK;
    let factors = w[0].chunks(room).zip(w[1].chunks(room));
    for ((first, second), x) in factors.zip(x.chunks(DOT_ROOM * pitch)) {
        let mut sum = Unreduced::<8>::from(out);
        let rows = first.as_chunks::<BLOCK>().0.iter();
        let rows = rows.zip(second.as_chunks::<BLOCK>().0);
        for ((first, second), x) in rows.zip(x.chunks(pitch)) {
            let Some(x) = place(x) else { break };
            for (row, w) in [first, second].into_iter().enumerate() {
                let (w, _) = w.as_chunks();
                let w = [load(&w[0]), load(&w[1])];
                for k in 0..PLACE {
                    sum.add(PLACE * row + k, x[k], w[k % 2]);
                }
            }
        }
        sum.reduce(&sums, out);
    }
}

/// See [`super::super::Kernels::multiply_block_pair`]; blocks are of [`BLOCK`] words.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn multiply_block_pair(q: &Modulus, out: &mut [u64], x: [&[u64]; 2], d: &[u64]) {
    let sums = Sums::new(q);
    let (out, _) = out.as_chunks_mut();
    // The middle part takes two products a term.
    let room = DOT_ROOM / 2 * 2 * BLOCK;
    let factors = x[0].chunks(room).zip(x[1].chunks(room));
    for ((first, second), d) in factors.zip(d.chunks(room)) {
        let mut sum = Unreduced::<12>::from(out);
        let rows = first
            .chunks_exact(2 * BLOCK)
            .zip(second.chunks_exact(2 * BLOCK));
        for ((first, second), d) in rows.zip(d.chunks_exact(2 * BLOCK)) {
            let Some(d) = place(d) else { break };
            for (row, x) in [first, second].into_iter().enumerate() {
                let Some(x) = place(x) else { break };
                for k in 0..2 {
                    let at = 6 * row + k;
                    sum.add(at, x[k], d[k]);
                    sum.add(at + 2, x[k], d[k + 2]);
                    sum.add(at + 2, x[k + 2], d[k]);
                    sum.add(at + 4, x[k + 2], d[k + 2]);
                }
            }
        }
        sum.reduce(&sums, out);
    }
}
