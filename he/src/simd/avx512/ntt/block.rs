//! The six innermost layers, on 64 values in eight registers.
//!
//! Three layers pair whole registers; after a transposition of the 8 by 8 values the other three do
//! as well, with a root for each lane; a second transposition restores the order.

use std::arch::x86_64::*;
use std::slice::ChunksExact;

use super::inverse::{COLUMNS, LANES};
use super::rows::roots_of_rows;
use super::{Block, Kind, LEAN, LOG_BLOCK, LONG, NARROW, Root, WIDE, root};
use crate::simd::avx512::{Factor, Field, Lanes, load, reduce_once, splat, store};
use crate::zq::Shoup;

/// The roots of the layers of whole registers of a block; entry `2^l + b` is that of part `b` in
/// layer `l`.
pub(super) type Outer = [Root; 8];

/// A word for each lane of a register, on a cache line: lane `i` is for the values `8i..8i + 8`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) Lanes);

/// The roots of all blocks, pair by pair, in the order in which they are read.
///
/// Tables of the *lean* kind keep the quotients `v = floor(w 2^52 / q)` of inner roots alone, and `w` is
/// `floor(v q / 2^52) + 1`, one instruction: `v q = w 2^52 - e` with `0 < e < q < 2^52`, as `q` is odd and
/// does not divide `w`. So a long row and its roots fit a cache on whatever pages they lie.
#[derive(Clone, Debug)]
pub(super) struct BlockRoots {
    outer: Vec<[Outer; 2]>,
    /// Of the layers after the transposition, for each block its entries `2^l + b - 1`, numbered as in
    /// [`Outer`]: the quotient, and unless lean the root after it.
    inner: Vec<Line>,
}

/// Lines of [`BlockRoots::inner`] for a block.
const fn inner_lines(kind: Kind) -> usize {
    if kind == LEAN { 7 } else { 14 }
}

impl BlockRoots {
    /// From the roots of a whole transform.
    pub(super) fn new(roots: &[Shoup], kind: Kind) -> Self {
        let count = roots.len() >> LOG_BLOCK;
        // entry 2^l + b, counted below `node`
        let below = |node: usize, entry: usize| {
            let layer = entry.ilog2();
            root(kind, &roots[(node << layer) + entry - (1 << layer)])
        };
        let outer = |block: usize| std::array::from_fn(|entry| below(count + block, entry.max(1)));
        let line = |block: usize, entry: usize, word: usize| {
            Line(std::array::from_fn(|lane| {
                below(8 * (count + block) + lane, entry)[word]
            }))
        };
        let mut inner = Vec::with_capacity(count * inner_lines(kind));
        for block in 0..count {
            for entry in 1..8 {
                inner.push(line(block, entry, 1));
                if kind != LEAN {
                    inner.push(line(block, entry, 0));
                }
            }
        }
        let pairs = (0..count).step_by(2);
        Self {
            outer: pairs.map(|i| [outer(i), outer(i + 1)]).collect(),
            inner,
        }
    }

    /// The same, inner ones in the order of [`roots_of_rows`].
    pub(super) fn in_rows(roots: &[Shoup], kind: Kind) -> Self {
        let inner = roots_of_rows(roots, kind);
        Self {
            inner,
            ..Self::new(roots, kind)
        }
    }

    /// Of the pairs from `first` on.
    pub(super) fn outer(&self, first: usize) -> &[[Outer; 2]] {
        &self.outer[first..]
    }

    /// Of the pairs from `first` on.
    pub(super) fn inner<const KIND: Kind>(&self, first: usize) -> ChunksExact<'_, Line> {
        let lines = 2 * inner_lines(KIND);
        self.inner[lines * first..].chunks_exact(lines)
    }

    /// Of the pairs from `first` on, unless lean.
    pub(super) fn inner_from(&self, first: usize) -> &[Line] {
        &self.inner[2 * inner_lines(WIDE) * first..]
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn no_factors() -> [Factor; 8] {
    [Factor {
        value: _mm512_setzero_si512(),
        quotient: _mm512_setzero_si512(),
    }; 8]
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn outer_factors(roots: &Outer) -> [Factor; 8] {
    let mut out = no_factors();
    for i in 1..8 {
        out[i] = Factor::from_root(roots[i]);
    }
    out
}

/// Lane `j` of register `i` to lane `i` of register `j`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn transpose(x: &mut [__m512i; 8]) {
    let mut y = [_mm512_setzero_si512(); 8];
    for h in 0..2 {
        // even and odd columns of two registers, then two columns of four
        let (a, b) = (x[4 * h], x[4 * h + 1]);
        let (c, d) = (x[4 * h + 2], x[4 * h + 3]);
        let (even, even2) = (_mm512_unpacklo_epi64(a, b), _mm512_unpacklo_epi64(c, d));
        let (odd, odd2) = (_mm512_unpackhi_epi64(a, b), _mm512_unpackhi_epi64(c, d));
        y[4 * h] = _mm512_shuffle_i64x2::<0x88>(even, even2);
        y[4 * h + 1] = _mm512_shuffle_i64x2::<0x88>(odd, odd2);
        y[4 * h + 2] = _mm512_shuffle_i64x2::<0xDD>(even, even2);
        y[4 * h + 3] = _mm512_shuffle_i64x2::<0xDD>(odd, odd2);
    }
    for c in 0..4 {
        x[c] = _mm512_shuffle_i64x2::<0x88>(y[c], y[c + 4]);
        x[c + 4] = _mm512_shuffle_i64x2::<0xDD>(y[c], y[c + 4]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn load_block(block: &Block) -> [__m512i; 8] {
    let mut x = [_mm512_setzero_si512(); 8];
    for (x, words) in x.iter_mut().zip(block) {
        *x = load(words);
    }
    x
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn store_block(block: &mut Block, x: &[__m512i; 8]) {
    for (words, &x) in block.iter_mut().zip(x) {
        store(words, x);
    }
}

impl Field {
    /// The factors of block `u` of a pair.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inner_factors<const KIND: Kind>(&self, roots: &[Line], u: usize) -> [Factor; 8] {
        let (one, mut out) = (splat(1), no_factors());
        let (first, step) = (u * inner_lines(KIND), inner_lines(KIND) / 7);
        for i in 0..7 {
            let quotient = load(&roots[first + step * i].0);
            let value = if KIND == LEAN {
                _mm512_madd52hi_epu64(one, quotient, self.q)
            } else {
                load(&roots[first + step * i + 1].0)
            };
            out[i + 1] = Factor { value, quotient };
        }
        out
    }

    /// The layers of distance 32 to 8.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn forward_outer<const KIND: Kind>(
        &self,
        blocks: &mut [Block; 2],
        roots: &[Outer; 2],
    ) {
        let mut x = [load_block(&blocks[0]), load_block(&blocks[1])];
        let w = [outer_factors(&roots[0]), outer_factors(&roots[1])];
        for half in [4, 2, 1] {
            self.forward_layer::<8, 2, KIND, false>(&mut x, [&w[0], &w[1]], half);
        }
        for (block, x) in blocks.iter_mut().zip(&x) {
            store_block(block, x);
        }
    }

    /// The layers of distance 4 to 1, and the final reduction unless lazy.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn forward_inner<const KIND: Kind, const LAZY: bool>(
        &self,
        blocks: &mut [Block; 2],
        roots: &[Line],
    ) {
        let mut x = [load_block(&blocks[0]), load_block(&blocks[1])];
        transpose(&mut x[0]);
        transpose(&mut x[1]);
        let w = [
            self.inner_factors::<KIND>(roots, 0),
            self.inner_factors::<KIND>(roots, 1),
        ];
        for half in [4, 2] {
            self.forward_layer::<8, 2, KIND, false>(&mut x, [&w[0], &w[1]], half);
        }
        if LAZY {
            self.forward_layer::<8, 2, KIND, false>(&mut x, [&w[0], &w[1]], 1);
        } else {
            self.forward_layer::<8, 2, KIND, true>(&mut x, [&w[0], &w[1]], 1);
        }
        for (i, x) in x.as_flattened_mut().iter_mut().enumerate() {
            *x = match (KIND, LAZY) {
                (LONG, _) => self.settle(reduce_once(*x, self.four_q())),
                (NARROW, true) => _mm512_and_si512(*x, self.mask),
                (NARROW, false) => reduce_once(self.reduce_lazy(*x), self.q),
                (_, true) => *x,
                (_, false) if i % 2 == 0 => self.settle(*x),
                (_, false) => reduce_once(self.lift(*x), self.q),
            };
        }
        for (block, x) in blocks.iter_mut().zip(&mut x) {
            transpose(x);
            store_block(block, x);
        }
    }

    /// The layers of distance 1 to 4 on residues, wide.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_inner(&self, pairs: &mut [[Block; 2]], roots: &[Line]) {
        let roots = roots.chunks_exact(2 * inner_lines(WIDE));
        for (blocks, roots) in pairs.iter_mut().zip(roots) {
            let mut x = [load_block(&blocks[0]), load_block(&blocks[1])];
            transpose(&mut x[0]);
            transpose(&mut x[1]);
            let w = [
                self.inner_factors::<WIDE>(roots, 0),
                self.inner_factors::<WIDE>(roots, 1),
            ];
            self.inverse_layers::<8, 2, WIDE, true, LANES>(&mut x, [&w[0], &w[1]]);
            for (block, x) in blocks.iter_mut().zip(&mut x) {
                transpose(x);
                store_block(block, x);
            }
        }
    }

    /// The layers of distance 8 to 32 of left and right children in turn, wide or long.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_outer<const KIND: Kind>(
        &self,
        pairs: &mut [[Block; 2]],
        roots: &[[Outer; 2]],
    ) {
        for (blocks, roots) in pairs.iter_mut().zip(roots) {
            let mut x = [load_block(&blocks[0]), load_block(&blocks[1])];
            let w = [outer_factors(&roots[0]), outer_factors(&roots[1])];
            self.inverse_layers::<8, 2, KIND, false, COLUMNS>(&mut x, [&w[0], &w[1]]);
            for (block, x) in blocks.iter_mut().zip(&x) {
                store_block(block, x);
            }
        }
    }
}
