//! Forward layers on `W` registers a column: `log2 W` of them in a row.
//!
//! *Narrow*: no reductions; a layer adds `2q` at most. *Wide*: values that go into a sum next must be
//! whole words below `4q`, or between `-2q` and `2q` where they were a difference, and are reduced to
//! `0..2q` by one subtraction or addition; those that go into a product next are looked at modulo
//! `2^52` only. So a difference needs no `2q` added in the first case, and a product no mask in the
//! second. *Long*: Harvey's butterflies with the bounds of [`super::super::long`].

use std::arch::x86_64::*;

use super::{Kind, LONG, NARROW};
use crate::simd::avx512::{Factor, Field, add_low, high, reduce_once};

impl Field {
    /// The layer of pairs at distance `half`: the root of block `b` of the layer with `c` blocks is
    /// `w[c + b]`.
    ///
    /// Wide: values below `4q` before the first layer of these columns, and after the last; where
    /// `SIGNED`, its odd registers are left between `-2q` and `2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn forward_layer<
        const W: usize,
        const U: usize,
        const KIND: Kind,
        const SIGNED: bool,
    >(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
        half: usize,
    ) {
        for (x, w) in x.iter_mut().zip(w) {
            for pair in 0..W / 2 {
                let (b, i) = (pair / half, pair % half);
                let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                let root = w[W / (2 * half) + b];
                (x[low], x[top]) = match KIND {
                    NARROW => self.forward_to_products(x[low], x[top], root),
                    LONG => self.forward_long(x[low], x[top], root),
                    _ => self.forward_wide::<SIGNED>([x[low], x[top]], root, half, pair),
                };
            }
        }
    }

    /// `x < 8q`, any `y`; both results below `8q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_long(&self, x: __m512i, y: __m512i, w: Factor) -> (__m512i, __m512i) {
        let x = reduce_once(x, self.four_q());
        let t = self.scale_long(y, w);
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, self.four_q()), t);
        (_mm512_add_epi64(x, t), difference)
    }

    /// Pair `pair` of a wide layer.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_wide<const SIGNED: bool>(
        &self,
        [x, y]: [__m512i; 2],
        root: Factor,
        half: usize,
        pair: usize,
    ) -> (__m512i, __m512i) {
        let was_sum = (pair / half).is_multiple_of(2);
        let x = if was_sum {
            reduce_once(x, self.two_q)
        } else {
            self.lift(x)
        };
        if half > 1 && pair % half >= half / 2 {
            return self.forward_to_products(x, y, root);
        }
        let (sum, difference) = self.forward_to_sums(x, y, root);
        if half == 1 && !SIGNED {
            return (sum, _mm512_add_epi64(difference, self.two_q));
        }
        (sum, difference)
    }

    /// From `-2q..2q` to `0..2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn lift(&self, x: __m512i) -> __m512i {
        _mm512_min_epu64(x, _mm512_add_epi64(x, self.two_q))
    }

    /// `x < 2q`, any `y`: the sum below `4q`, the difference between `-2q` and `2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_to_sums(&self, x: __m512i, y: __m512i, w: Factor) -> (__m512i, __m512i) {
        let t = self.scale_lazy(y, w);
        (_mm512_add_epi64(x, t), _mm512_sub_epi64(x, t))
    }

    /// Both results, modulo `2^52`, are `2q` above `x` at most.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_to_products(&self, x: __m512i, y: __m512i, w: Factor) -> (__m512i, __m512i) {
        let estimate = high(y, w.quotient);
        let sum = add_low(add_low(x, y, w.value), estimate, self.minus_q);
        let twice = _mm512_add_epi64(_mm512_add_epi64(x, x), self.two_q);
        (sum, _mm512_sub_epi64(twice, sum))
    }
}
