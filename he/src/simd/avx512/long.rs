//! Whole words: moduli of 51 to 60 bits, which 52-bit products cannot hold.
//!
//! There is no instruction for the upper word of a product of words; it is made of four products of
//! 32-bit halves. For a product by a constant three will do: without the lowest, and the carries of
//! the middle ones, the quotient is up to 2 smaller than Shoup's, and the product is in `0..4q` in
//! place of `0..2q` (Harvey, theorem 1, with the estimate 3 too small at most), which fits as
//! `16q <= 2^64`.

use std::arch::x86_64::*;

use super::{Factor, Field, reduce_once, splat};
use crate::zq::Shoup;

/// The upper word of the products.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn high_word(x: __m512i, y: __m512i) -> __m512i {
    let (x1, y1) = (_mm512_srli_epi64::<32>(x), _mm512_srli_epi64::<32>(y));
    let low = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x, y));
    let middle = _mm512_add_epi64(_mm512_mul_epu32(x1, y), low);
    let half = _mm512_and_si512(middle, splat(u64::from(u32::MAX)));
    let other = _mm512_add_epi64(_mm512_mul_epu32(x, y1), half);
    let carries = _mm512_add_epi64(
        _mm512_srli_epi64::<32>(middle),
        _mm512_srli_epi64::<32>(other),
    );
    _mm512_add_epi64(_mm512_mul_epu32(x1, y1), carries)
}

/// The upper word of the products, up to 2 too small.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn high_word_lazy(x: __m512i, y: __m512i) -> __m512i {
    let (x1, y1) = (_mm512_srli_epi64::<32>(x), _mm512_srli_epi64::<32>(y));
    let one = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x1, y));
    let other = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x, y1));
    _mm512_add_epi64(_mm512_mul_epu32(x1, y1), _mm512_add_epi64(one, other))
}

impl Factor {
    /// With the quotient by a whole word.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn long(w: Shoup) -> Self {
        Self::from_root([w.value, w.quotient])
    }
}

impl Field {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn four_q(&self) -> __m512i {
        _mm512_slli_epi64::<2>(self.q)
    }

    /// Any word times a factor that has its quotient by a whole word, in `0..4q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn scale_long(&self, x: __m512i, w: Factor) -> __m512i {
        let estimate = high_word_lazy(x, w.quotient);
        _mm512_sub_epi64(
            _mm512_mullo_epi64(x, w.value),
            _mm512_mullo_epi64(estimate, self.q),
        )
    }

    /// From `0..8q` to `0..q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn settle_long(&self, x: __m512i) -> __m512i {
        self.settle(reduce_once(x, self.four_q()))
    }

    /// `a b` in `0..4q`: the scalar product, step by step.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn mul_lazy_long(&self, a: __m512i, b: __m512i) -> __m512i {
        let h = high_word(a, _mm512_sllv_epi64(b, self.shift));
        let estimate = high_word(_mm512_add_epi64(h, h), self.ratio);
        _mm512_sub_epi64(
            _mm512_mullo_epi64(a, b),
            _mm512_mullo_epi64(estimate, self.q),
        )
    }

    /// Any word, in `0..2q`; the ratio is below `2^32`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn reduce_lazy_long(&self, x: __m512i) -> __m512i {
        let upper = _mm512_mul_epu32(_mm512_srli_epi64::<32>(x), self.word_ratio);
        let lower = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x, self.word_ratio));
        let estimate = _mm512_srli_epi64::<32>(_mm512_add_epi64(upper, lower));
        _mm512_sub_epi64(x, _mm512_mullo_epi64(estimate, self.q))
    }
}
