//! The three innermost layers of the inverse, two rows at a time; and the three after them where narrow.
//!
//! A block is eight rows of eight values. A layer pairs the two registers of a pair of rows; between layers one
//! bit of the place of a value within its row changes places with the bit that tells the registers apart. So
//! four steps of shuffles do what two transpositions do in six, and a root is read for every lane: those that
//! several lanes share are broadcast from memory. With `j` the place in a row and `i` the row, lanes are in the
//! order `j2 j1 i0` in the layer of `j0`, `j0 j2 i0` in that of `j1` and `j1 j0 i0` in that of `j2`.
//!
//! The layers are steps of a pipeline: three half blocks are at work at a time, each in another layer, as the
//! chain of one is longer than the window of the processor.
//!
//! *Narrow*: values are looked at modulo `2^52`, and only differences must be positive, and below `2^52`, which is more
//! than `32q`. So each value has an offset, a multiple of `q`, that depends on its place, above values that
//! span at most `8q`: [`Offsets`] are such that a left child is above its right one in this and in the next two
//! layers. Sums have them from one addition at their leaves, products start from them for nothing.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over indices unroll into registers, iterators over vectors do not"
)]

use std::arch::x86_64::*;

use super::block::{Line, Outer, outer_factors};
use super::{Block, Kind, LOG_BLOCK, NARROW, root};
use crate::simd::avx512::{
    Factor, Field, Lanes, add_low, high, load, load_half, load_quarter, reduce_once, splat, store,
};
use crate::zq::Shoup;

/// Half a block.
type Half = [Lanes; 4];
/// Two pairs of rows.
type Pairs = [[__m512i; 2]; 2];

/// The roots of half a block, quotients before values: two lines for its pairs of rows in the layer of `j0`, a
/// line of halves for both in that of `j1`, quarters in that of `j2`.
const ROOT_LINES: usize = 7;

/// The roots of all half blocks.
pub(super) fn roots_of_rows(roots: &[Shoup], kind: Kind) -> Vec<Line> {
    let rows = roots.len() >> (LOG_BLOCK - 3);
    let mut lines = Vec::with_capacity(rows / 4 * ROOT_LINES);
    for half in 0..rows / 4 {
        // that of `entry`, as the whole transform numbers them, below a row of this half
        let word = |row: usize, entry: usize, word: usize| {
            let node = (rows + 4 * half + row) << entry.ilog2();
            root(kind, &roots[node + entry - (1 << entry.ilog2())])[word]
        };
        for (w, pair) in [(1, 0), (1, 1), (0, 0), (0, 1)] {
            let lane = |lane: usize| word(2 * pair + lane % 2, 4 + lane / 2, w);
            lines.push(Line(std::array::from_fn(lane)));
        }
        for w in [1, 0] {
            let lane = |lane: usize| word(lane / 4 * 2 + lane % 2, 2 + lane / 2 % 2, w);
            lines.push(Line(std::array::from_fn(lane)));
        }
        let lane = |lane: usize| word(lane % 4, 1, 1 - lane / 4);
        lines.push(Line(std::array::from_fn(lane)));
    }
    lines
}

/// What narrow values are above their spans after no layer but the addition that sets it, one, two and three
/// layers, by the pair of rows in a half block, lane by lane; as multiples of `q`.
///
/// With `l` the number of layers done the spans are `2^l q` and the left child is at least as much above the
/// right one, and not more than `(32 - 2^l) q`: `22, 14, 2` against `2` for `j1`, `20, 12, 4` against `4`
/// for `j2`, `8` against `8` for `i0`, `48 - 32` against `16` for `i1`.
struct Offsets {
    leaves: [__m512i; 2],
    one: [__m512i; 2],
    two: [__m512i; 2],
}

impl Offsets {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(field: &Field) -> Self {
        let times = |lanes: Lanes| _mm512_mullo_epi64(field.q, load(&lanes));
        Self {
            leaves: [
                times([23, 15, 1, 1, 3, 3, 1, 1]),
                times([15, 7, 1, 1, 3, 3, 1, 1]),
            ],
            one: [
                times([24, 16, 4, 4, 24, 16, 4, 4]),
                times([16, 8, 4, 4, 16, 8, 4, 4]),
            ],
            two: [
                times([28, 20, 28, 20, 28, 20, 28, 20]),
                times([20, 12, 20, 12, 20, 12, 20, 12]),
            ],
        }
    }
}

/// The offset of the sum of four rows: `28 + 20` of the left two and `20 + 12` of the right two.
const BLOCK_OFFSET: i64 = 80;

impl Field {
    /// The layers of distance 1 to 4 on residues.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_rows<const KIND: Kind>(&self, blocks: &mut [Block], roots: &[Line]) {
        let offsets = Offsets::new(self);
        let (halves, _) = blocks.as_flattened_mut().as_chunks_mut();
        let (roots, _) = roots.as_chunks();
        let count = halves.len();
        if count < 2 || roots.len() < count {
            return; // never: this tells the compiler that indices are in range
        }
        let roots = &roots[..count];
        let mut one = self.first_layer::<KIND>(&halves[0], &roots[0], &offsets);
        let mut two = self.second_layer::<KIND>(one, &roots[0], &offsets);
        one = self.first_layer::<KIND>(&halves[1], &roots[1], &offsets);
        for i in 2..count {
            self.third_layer::<KIND>(two, &roots[i - 2], &offsets, &mut halves[i - 2]);
            two = self.second_layer::<KIND>(one, &roots[i - 1], &offsets);
            one = self.first_layer::<KIND>(&halves[i], &roots[i], &offsets);
        }
        let (before, last) = (count - 2, count - 1);
        self.third_layer::<KIND>(two, &roots[before], &offsets, &mut halves[before]);
        two = self.second_layer::<KIND>(one, &roots[last], &offsets);
        self.third_layer::<KIND>(two, &roots[last], &offsets, &mut halves[last]);
    }

    /// The layer of `j0`, from rows to lanes `j0 j2 i0` in registers `j1`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn first_layer<const KIND: Kind>(
        &self,
        rows: &Half,
        roots: &[Line; ROOT_LINES],
        offsets: &Offsets,
    ) -> Pairs {
        let mut out = [[_mm512_setzero_si512(); 2]; 2];
        for k in 0..2 {
            let (a, b) = (load(&rows[2 * k]), load(&rows[2 * k + 1]));
            let (mut x, y) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
            if KIND == NARROW {
                x = _mm512_add_epi64(x, offsets.leaves[k]);
            }
            let w = Factor {
                value: load(&roots[2 + k].0),
                quotient: load(&roots[k].0),
            };
            out[k] = chunks(self.row_butterfly::<KIND>([x, y], w, offsets.leaves[k]));
        }
        out
    }

    /// The layer of `j1`, to lanes `j1 j0 i0` in registers `j2`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn second_layer<const KIND: Kind>(
        &self,
        mut pairs: Pairs,
        roots: &[Line; ROOT_LINES],
        offsets: &Offsets,
    ) -> Pairs {
        for k in 0..2 {
            let w = Factor {
                value: load_half(&roots[5].0, k),
                quotient: load_half(&roots[4].0, k),
            };
            pairs[k] = chunks(self.row_butterfly::<KIND>(pairs[k], w, offsets.one[k]));
        }
        pairs
    }

    /// The layer of `j2`, back to rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn third_layer<const KIND: Kind>(
        &self,
        pairs: Pairs,
        roots: &[Line; ROOT_LINES],
        offsets: &Offsets,
        rows: &mut Half,
    ) {
        let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
        let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
        for k in 0..2 {
            let w = Factor {
                value: load_quarter(&roots[6].0, 2 + k),
                quotient: load_quarter(&roots[6].0, k),
            };
            let [x, y] = self.row_butterfly::<KIND>(pairs[k], w, offsets.two[k]);
            store(&mut rows[2 * k], _mm512_permutex2var_epi64(x, even, y));
            store(&mut rows[2 * k + 1], _mm512_permutex2var_epi64(x, odd, y));
        }
    }

    /// Sum, and product of the difference. Long: of values below `4q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn row_butterfly<const KIND: Kind>(
        &self,
        [x, y]: [__m512i; 2],
        w: Factor,
        offset: __m512i,
    ) -> [__m512i; 2] {
        if KIND == NARROW {
            return self.offset_butterfly([x, y], w, offset);
        }
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, self.four_q()), y);
        [
            reduce_once(_mm512_add_epi64(x, y), self.four_q()),
            self.scale_long(difference, w),
        ]
    }

    /// Sum, and product of the difference, which must not be negative: the offset and less than `2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn offset_butterfly(&self, [x, y]: [__m512i; 2], w: Factor, offset: __m512i) -> [__m512i; 2] {
        let difference = _mm512_sub_epi64(x, y);
        let product = add_low(offset, difference, w.value);
        let estimate = high(difference, w.quotient);
        [
            _mm512_add_epi64(x, y),
            add_low(product, estimate, self.minus_q),
        ]
    }

    /// Narrow: the layers of distance 8 to 32 on what [`Self::inverse_rows`] leaves, of left and right children in turn.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_narrow_blocks(&self, pairs: &mut [[Block; 2]], roots: &[[Outer; 2]]) {
        for ([left, right], [left_roots, right_roots]) in pairs.iter_mut().zip(roots) {
            self.inverse_narrow_block::<0>(left, left_roots);
            self.inverse_narrow_block::<1>(right, right_roots);
        }
    }

    /// Of a left or a right child: to `0..4q`, or `-4q..0`.
    ///
    /// Spans are `8q` at first and `16q` after the layer of `i0`; the sum of four rows spans `32q` and is reduced.
    /// Of the other sums one spans `8q` at the end, which is reduced as well.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_narrow_block<const RIGHT: i64>(&self, block: &mut Block, roots: &Outer) {
        let times = |count: i64| _mm512_mullo_epi64(self.q, _mm512_set1_epi64(count));
        let w = outer_factors(roots);
        let mut x = [_mm512_setzero_si512(); 8];
        for i in 0..8 {
            x[i] = load(&block[i]);
        }
        // their sums are at 2 and at -2, spans 4
        let offsets = [2, 0, 0, -2];
        for k in 0..4 {
            let (low, top) = (2 * k, 2 * k + 1);
            [x[low], x[top]] = self.offset_butterfly([x[low], x[top]], w[4 + k], times(offsets[k]));
        }
        for b in 0..2 {
            let offset = if b == 0 { 1 } else { -1 } - 2 * RIGHT;
            for low in [4 * b, 4 * b + 1] {
                let top = low + 2;
                [x[low], x[top]] = self.offset_butterfly([x[low], x[top]], w[2 + b], times(offset));
            }
            let sum = _mm512_sub_epi64(x[4 * b], times(BLOCK_OFFSET));
            x[4 * b] = self.reduce_below(sum, -offset);
        }
        for i in 0..4 {
            [x[i], x[4 + i]] = self.offset_butterfly([x[i], x[4 + i]], w[1], times(-4 * RIGHT));
        }
        x[1] = self.reduce_below(x[1], 4 * RIGHT);
        for i in 0..8 {
            store(&mut block[i], x[i]);
        }
    }

    /// `x < 2^52` reduced to `0..2q`, less `count q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce_below(&self, x: __m512i, count: i64) -> __m512i {
        let count = splat(count.cast_unsigned());
        let estimate = _mm512_madd52hi_epu64(count, x, self.word_ratio);
        add_low(x, estimate, self.minus_q)
    }
}

/// Even quarters of both, and odd ones: the bit of the registers goes to the top of the lanes, the
/// middle bit of the lanes to the registers.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn chunks([x, y]: [__m512i; 2]) -> [__m512i; 2] {
    [
        _mm512_shuffle_i64x2::<0x88>(x, y),
        _mm512_shuffle_i64x2::<0xDD>(x, y),
    ]
}
