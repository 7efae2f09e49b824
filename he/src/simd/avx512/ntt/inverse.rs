//! Inverse layers on `W` registers a column: `log2 W` of them in a row.
//!
//! A node of the network takes `x` from its left child and `y` from its right one, and gives `x + y`
//! and `(x - y) w`. What keeps the difference from being negative costs an instruction, unless the
//! children see to it:
//!
//! - *Narrow*: right children give values `4q` lower than left ones, in `-4q..0` modulo `2^52`.
//!   Products start from any multiple of `q` for nothing, so inside a pass, too, the difference of two
//!   products, or of sums of products, is positive by itself. Sums double; the two that grew most are
//!   reduced at the end of a pass. Its first six layers have code of their own ([`super::rows`]).
//! - *Wide*: right children give `-y`, in `0..=2q`: their roots are negated in the table. The sum is
//!   then a difference, between `-2q` and `2q`, which one addition reduces, and the difference a sum
//!   below `4q`.
//! - *Long*: Harvey's butterflies; values below `4q` throughout.

use std::arch::x86_64::*;

use super::{Kind, LONG, NARROW};
use crate::simd::avx512::{Factor, Field, add_low, high, reduce_once, splat};

/// Which child of its parent the node at the end of a column is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    /// The right one in odd lanes.
    Lanes,
}

/// The sides of several columns, as a parameter: each place has code of its own, all of it inlined.
pub(super) type Sides = u8;
pub(super) const LEFT: Sides = 0;
pub(super) const RIGHT: Sides = 1;
/// Right children in odd lanes.
pub(super) const LANES: Sides = 2;
/// Right children in odd columns.
pub(super) const COLUMNS: Sides = 3;
/// Of the root, which is nobody's child.
const ROOT: Sides = 4;

/// The side of column `u`.
const fn side(sides: Sides, u: usize) -> Side {
    match sides {
        RIGHT => Side::Right,
        LANES => Side::Lanes,
        COLUMNS if u % 2 == 1 => Side::Right,
        _ => Side::Left,
    }
}

/// The right one in odd lanes.
const ODD_LANES: __mmask8 = 0xAA;

/// What a narrow node adds to its results, by its side.
struct Ends {
    /// 0, or `-4q`.
    bias: __m512i,
    /// `2q` less.
    less: __m512i,
    /// `-bias / q`.
    count: __m512i,
}

impl Side {
    /// `value` in the lanes that belong to a right child, 0 in others.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn in_right(self, value: __m512i) -> __m512i {
        match self {
            Self::Left => _mm512_setzero_si512(),
            Self::Right => value,
            Self::Lanes => _mm512_maskz_mov_epi64(ODD_LANES, value),
        }
    }
}

impl Field {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn ends(&self, side: Side) -> Ends {
        let minus_four = _mm512_slli_epi64::<2>(_mm512_sub_epi64(_mm512_setzero_si512(), self.q));
        let bias = side.in_right(minus_four);
        Ends {
            bias,
            less: _mm512_sub_epi64(bias, self.two_q),
            count: side.in_right(splat(4)),
        }
    }

    /// All layers of these columns, with the roots `w[2^l + b]` of block `b` in the layer of `2^l`
    /// blocks, the last first. `LEAF`: on residues, wide; else on what these layers leave.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_layers<
        const W: usize,
        const U: usize,
        const KIND: Kind,
        const LEAF: bool,
        const SIDES: Sides,
    >(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
    ) {
        self.inverse_layer::<W, U, KIND, LEAF, SIDES, 0>(x, w);
        if W > 2 {
            self.inverse_layer::<W, U, KIND, LEAF, SIDES, 1>(x, w);
        }
        if W > 4 {
            self.inverse_layer::<W, U, KIND, LEAF, SIDES, 2>(x, w);
        }
    }

    /// One layer of [`Self::inverse_layers`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_layer<
        const W: usize,
        const U: usize,
        const KIND: Kind,
        const LEAF: bool,
        const SIDES: Sides,
        const LAYER: u32,
    >(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
    ) {
        match KIND {
            NARROW => self.inverse_narrow::<W, U, SIDES, LAYER>(x, w),
            LONG => self.inverse_long::<W, U, LAYER>(x, w),
            _ => self.inverse_wide::<W, U, LEAF, SIDES, LAYER>(x, w),
        }
    }

    /// The last layers of all, with `1/N` and the final reduction; the last of them has the factors
    /// `last` for sums and differences.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_end<const W: usize, const U: usize, const KIND: Kind>(
        &self,
        x: &mut [[__m512i; W]; U],
        w: &[Factor; W],
        [scale, scaled_root]: [Factor; 2],
    ) {
        let end = W.trailing_zeros() - 1;
        if W > 2 {
            self.inverse_layer::<W, U, KIND, false, ROOT, 0>(x, [w; U]);
        }
        if W > 4 {
            self.inverse_layer::<W, U, KIND, false, ROOT, 1>(x, [w; U]);
        }
        for i in 0..W / 2 {
            for x in &mut *x {
                let (a, b) = (x[i], x[i + W / 2]);
                let (sum, difference) = match KIND {
                    NARROW => {
                        let a = self.lifted::<W>(a, end, i);
                        (_mm512_add_epi64(a, b), _mm512_sub_epi64(a, b))
                    }
                    LONG => {
                        let lifted = _mm512_add_epi64(a, self.four_q());
                        (_mm512_add_epi64(a, b), _mm512_sub_epi64(lifted, b))
                    }
                    _ => {
                        let lifted = _mm512_add_epi64(a, self.two_q);
                        (_mm512_sub_epi64(lifted, b), _mm512_add_epi64(a, b))
                    }
                };
                let ends = [(i, sum, scale), (i + W / 2, difference, scaled_root)];
                for (i, value, factor) in ends {
                    x[i] = if KIND == LONG {
                        self.settle(self.scale_long(value, factor))
                    } else {
                        reduce_once(self.scale_lazy(value, factor), self.q)
                    };
                }
            }
        }
    }

    /// `x` and what must be added to it for the difference of pair `i` of a layer to be positive.
    ///
    /// Only registers that were sums all along need it: others start from `product_bias`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn lifted<const W: usize>(&self, x: __m512i, layer: u32, i: usize) -> __m512i {
        match layer {
            _ if i > 0 => x,
            0 if W > 2 => x,
            0 => _mm512_add_epi64(x, _mm512_slli_epi64::<2>(self.q)),
            1 => _mm512_add_epi64(x, _mm512_slli_epi64::<3>(self.q)),
            _ => _mm512_add_epi64(x, _mm512_slli_epi64::<4>(self.q)),
        }
    }

    /// What the product of block `b` of a layer starts from. The sums that these products make in the
    /// layers after it are in order: left ones above right ones.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn product_bias<const W: usize>(&self, layer: u32, b: usize, ends: &Ends) -> __m512i {
        match (W.trailing_zeros() - 1 - layer, b) {
            (0, _) => ends.bias,
            (1, 0) | (2, 1 | 2) => self.two_q,
            (1, _) => ends.less,
            (_, 0) => _mm512_slli_epi64::<2>(self.q),
            (_, _) => _mm512_setzero_si512(),
        }
    }

    /// One layer; `x` of a left child in `0..4q`, `y` of a right one in `-4q..0`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_narrow<const W: usize, const U: usize, const SIDES: Sides, const LAYER: u32>(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
    ) {
        let (half, last) = (1 << LAYER, 2 << LAYER == W);
        for u in 0..U {
            for pair in 0..W / 2 {
                let (b, i) = (pair / half, pair % half);
                let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                let ends = self.ends(side(SIDES, u));
                let (a, c, root) = (x[u][low], x[u][top], w[u][W / (2 * half) + b]);
                let lifted = self.lifted::<W>(a, LAYER, i);
                let difference = _mm512_sub_epi64(lifted, c);
                let sum = _mm512_add_epi64(if last { lifted } else { a }, c);
                let product = self.product_bias::<W>(LAYER, b, &ends);
                let product = add_low(product, difference, root.value);
                let estimate = high(difference, root.quotient);
                x[u][top] = add_low(product, estimate, self.minus_q);
                x[u][low] = if last && i < W.div_ceil(4) {
                    let estimate = _mm512_madd52hi_epu64(ends.count, sum, self.word_ratio);
                    add_low(sum, estimate, self.minus_q)
                } else {
                    sum
                };
            }
        }
    }

    /// One layer; values below `4q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_long<const W: usize, const U: usize, const LAYER: u32>(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
    ) {
        let half = 1 << LAYER;
        for (x, w) in x.iter_mut().zip(w) {
            for pair in 0..W / 2 {
                let (b, i) = (pair / half, pair % half);
                let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                let (a, c) = (x[low], x[top]);
                let difference = _mm512_sub_epi64(_mm512_add_epi64(a, self.four_q()), c);
                x[low] = reduce_once(_mm512_add_epi64(a, c), self.four_q());
                x[top] = self.scale_long(difference, w[W / (2 * half) + b]);
            }
        }
    }

    /// One layer; `x` of a left child in `0..2q`, `-y` of a right one in `0..=2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_wide<
        const W: usize,
        const U: usize,
        const LEAF: bool,
        const SIDES: Sides,
        const LAYER: u32,
    >(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
    ) {
        let (half, last) = (1 << LAYER, 2 << LAYER == W);
        for u in 0..U {
            for pair in 0..W / 2 {
                let (b, i) = (pair / half, pair % half);
                let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                let (a, c, root) = (x[u][low], x[u][top], w[u][W / (2 * half) + b]);
                let side = if last {
                    side(SIDES, u)
                } else {
                    side(COLUMNS, b)
                };
                let (sum, difference) = if LEAF && LAYER == 0 {
                    let sum = _mm512_add_epi64(a, c);
                    let sum = match side {
                        Side::Left => sum,
                        _ => _mm512_sub_epi64(self.two_q, sum),
                    };
                    (sum, _mm512_sub_epi64(_mm512_add_epi64(a, self.q), c))
                } else {
                    (self.lift(negated_sum(a, c, side)), _mm512_add_epi64(a, c))
                };
                x[u][low] = sum;
                x[u][top] = self.scale_lazy(difference, root);
            }
        }
    }
}

/// `x - y` for a left child, `y - x` for a right one.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn negated_sum(x: __m512i, y: __m512i, side: Side) -> __m512i {
    match side {
        Side::Left => _mm512_sub_epi64(x, y),
        Side::Right => _mm512_sub_epi64(y, x),
        Side::Lanes => _mm512_mask_sub_epi64(_mm512_sub_epi64(x, y), ODD_LANES, y, x),
    }
}
