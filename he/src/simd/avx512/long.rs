//! Whole words: moduli of 51 to 60 bits, which 52-bit products cannot hold.
//!
//! There is no instruction for the upper word of a product of words; it is made of four products of
//! 32-bit halves. For a product by a constant three will do: without the lowest, and the carries of
//! the middle ones, the quotient is up to 2 smaller than Shoup's, and the product is in `0..4q` in
//! place of `0..2q` (Harvey, theorem 1, with the estimate 3 too small at most), which fits as
//! `16q <= 2^64`. Sums of products are kept in three words of weights 1, `2^52` and `2^104`, by the
//! instructions for 52 bits, and reduced once.

use std::arch::x86_64::*;

use super::{Factor, Field, Lanes, add_low, load, map, map_to, reduce_once, splat};
use super::{store, zip, zip3};
use crate::simd::scalar;
use crate::zq::{Modulus, Shoup};

/// Terms whose parts fit in words beside a residue.
const ROOM: usize = 1 << 10;
/// Registers of a row that are summed at a time.
const WIDTH: usize = 2;

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
    fn long(w: Shoup) -> Self {
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
    fn settle_long(&self, x: __m512i) -> __m512i {
        self.settle(reduce_once(x, self.four_q()))
    }
}

/// The constants of a long modulus.
struct Long {
    field: Field,
    /// `floor(2^(63 + bits) / q)`.
    ratio: __m512i,
    /// `floor(2^64 / q)`, below `2^32`.
    word_ratio: __m512i,
    /// `64 - bits`.
    shift: __m512i,
    /// `2^52` and `2^104`.
    powers: [Factor; 2],
}

impl Long {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        let word = q.reduce(1 << 52);
        Self {
            field: Field::new(q),
            ratio: splat(q.ratio()),
            word_ratio: splat(q.word_ratio()),
            shift: splat(u64::from(64 - q.bits())),
            powers: [word, q.mul(word, word)].map(|x| Factor::long(q.shoup(x))),
        }
    }

    /// `a b` in `0..4q`: the scalar product, step by step.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn mul_lazy(&self, a: __m512i, b: __m512i) -> __m512i {
        let h = high_word(a, _mm512_sllv_epi64(b, self.shift));
        let estimate = high_word(_mm512_add_epi64(h, h), self.ratio);
        _mm512_sub_epi64(
            _mm512_mullo_epi64(a, b),
            _mm512_mullo_epi64(estimate, self.field.q),
        )
    }

    /// Any word, in `0..2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce_lazy(&self, x: __m512i) -> __m512i {
        let upper = _mm512_mul_epu32(_mm512_srli_epi64::<32>(x), self.word_ratio);
        let lower = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x, self.word_ratio));
        let estimate = _mm512_srli_epi64::<32>(_mm512_add_epi64(upper, lower));
        _mm512_sub_epi64(x, _mm512_mullo_epi64(estimate, self.field.q))
    }

    /// Signed words as residues.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn residue(&self, values: &[i64; 8]) -> __m512i {
        let value = load(&values.map(|v| v as u64));
        let residue = self.reduce_lazy(_mm512_abs_epi64(value));
        let residue = reduce_once(residue, self.field.q);
        let negative = _mm512_movepi64_mask(value);
        let signed = _mm512_mask_sub_epi64(residue, negative, _mm512_setzero_si512(), residue);
        _mm512_min_epu64(signed, _mm512_add_epi64(signed, self.field.q))
    }
}

/// `a = a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let long = Long::new(q);
    let (a, b) = zip(a, b, |x, y| long.field.settle(long.mul_lazy(x, y)));
    scalar::mul_assign(q, a, b);
}

/// `out = a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    let long = Long::new(q);
    let (out, a, b) = zip3(out, a, b, |_, x, y| long.field.settle(long.mul_lazy(x, y)));
    scalar::mul(q, out, a, b);
}

/// `acc += a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul_add_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    let long = Long::new(q);
    let (acc, a, b) = zip3(acc, a, b, |sum, x, y| {
        let sum = _mm512_add_epi64(sum, long.mul_lazy(x, y));
        long.field.settle_long(sum)
    });
    scalar::mul_add_assign(q, acc, a, b);
}

/// `acc -= a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul_sub_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    let long = Long::new(q);
    let (acc, a, b) = zip3(acc, a, b, |sum, x, y| {
        let product = long.field.settle(long.mul_lazy(x, y));
        long.field.sub(sum, product)
    });
    scalar::mul_sub_assign(q, acc, a, b);
}

/// `a = a w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn scale_assign(q: &Modulus, a: &mut [u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::long(w));
    let rest = map(a, |x| field.settle(field.scale_long(x, factor)));
    scalar::scale_assign(q, rest, w);
}

/// `out = a w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn scale(q: &Modulus, out: &mut [u64], a: &[u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::long(w));
    let (out, a) = map_to(out, a, |x| field.settle(field.scale_long(x, factor)));
    scalar::scale(q, out, a, w);
}

impl Field {
    /// `(a - b) w` in `0..4q`, for residues.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn sub_scale_long(&self, a: __m512i, b: __m512i, w: Factor) -> __m512i {
        let difference = _mm512_sub_epi64(_mm512_add_epi64(a, self.q), b);
        self.scale_long(difference, w)
    }
}

/// `a = (a - b) w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale_assign(q: &Modulus, a: &mut [u64], b: &[u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::long(w));
    let (a, b) = zip(a, b, |x, y| {
        field.settle(field.sub_scale_long(x, y, factor))
    });
    scalar::sub_scale_assign(q, a, b, w);
}

/// `out = (a - b) w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::long(w));
    let (out, a, b) = zip3(out, a, b, |_, x, y| {
        field.settle(field.sub_scale_long(x, y, factor))
    });
    scalar::sub_scale(q, out, a, b, w);
}

/// `acc += (a - b) w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale_add_assign(
    q: &Modulus,
    acc: &mut [u64],
    a: &[u64],
    b: &[u64],
    w: Shoup,
) {
    let (field, factor) = (Field::new(q), Factor::long(w));
    let (acc, a, b) = zip3(acc, a, b, |acc, x, y| {
        field.settle_long(_mm512_add_epi64(acc, field.sub_scale_long(x, y, factor)))
    });
    scalar::sub_scale_add_assign(q, acc, a, b, w);
}

/// `out = values mod q`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn signed_residues(q: &Modulus, out: &mut [u64], values: &[i64]) {
    let long = Long::new(q);
    let ((out, out_rest), (values, rest)) = (out.as_chunks_mut::<8>(), values.as_chunks::<8>());
    for (x, values) in out.iter_mut().zip(values) {
        store(x, long.residue(values));
    }
    scalar::signed_residues(q, out_rest, rest);
}

/// `a += values mod q`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn add_signed_assign(q: &Modulus, a: &mut [u64], values: &[i64]) {
    let long = Long::new(q);
    let ((a, a_rest), (values, rest)) = (a.as_chunks_mut::<8>(), values.as_chunks::<8>());
    for (x, values) in a.iter_mut().zip(values) {
        let sum = _mm512_add_epi64(load(x), long.residue(values));
        store(x, reduce_once(sum, long.field.q));
    }
    scalar::add_signed_assign(q, a_rest, rest);
}

/// `out = [a] mod to`, centred; one of the moduli is long.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn centred_to(from: &Modulus, to: &Modulus, out: &mut [u64], a: &[u64]) {
    let half = splat(from.value() / 2);
    let minus_from = splat(to.neg(to.reduce(from.value())));
    let (field, long) = (Field::new(to), to.bits() > super::MAX_BITS);
    let (out, a) = if long {
        let to = Long::new(to);
        map_to(out, a, |x| {
            let upper = _mm512_cmpgt_epu64_mask(x, half);
            let residue = to.reduce_lazy(x);
            field.settle(_mm512_mask_add_epi64(residue, upper, residue, minus_from))
        })
    } else {
        let word = Factor::new(to.shoup(to.reduce(1 << 52)));
        map_to(out, a, |x| {
            let upper = _mm512_cmpgt_epu64_mask(x, half);
            let top = field.scale_lazy(_mm512_srli_epi64::<52>(x), word);
            let residue = field.settle(_mm512_add_epi64(field.reduce_lazy(x), top));
            let sum = _mm512_mask_add_epi64(residue, upper, residue, minus_from);
            reduce_once(sum, field.q)
        })
    };
    scalar::centred_to(from, to, out, a);
}

/// A word below `2^60` as products take it: themselves, of which they see 52 bits, and the rest.
#[derive(Clone, Copy)]
struct Parts {
    low: __m512i,
    top: __m512i,
}

impl Parts {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(x: __m512i) -> Self {
        Self {
            low: x,
            top: _mm512_srli_epi64::<52>(x),
        }
    }
}

/// Sums of products, by weight: 1, `2^52`, `2^104`.
#[derive(Clone, Copy)]
struct Thirds([__m512i; 3]);

impl Thirds {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(start: __m512i) -> Self {
        Self([start, _mm512_setzero_si512(), _mm512_setzero_si512()])
    }

    /// Adds the product; each part grows by less than `3 2^52`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn add(&mut self, x: Parts, y: Parts) {
        let Self([low, middle, top]) = self;
        *low = add_low(*low, x.low, y.low);
        *middle = _mm512_madd52hi_epu64(*middle, x.low, y.low);
        *middle = add_low(*middle, x.low, y.top);
        *middle = add_low(*middle, x.top, y.low);
        *top = _mm512_madd52hi_epu64(*top, x.low, y.top);
        *top = _mm512_madd52hi_epu64(*top, x.top, y.low);
        *top = add_low(*top, x.top, y.top);
    }
}

impl Long {
    /// Three terms in `0..2q` and twice `0..4q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce(&self, Thirds([low, middle, top]): Thirds) -> __m512i {
        let field = &self.field;
        let sum = _mm512_add_epi64(
            field.scale_long(middle, self.powers[0]),
            field.scale_long(top, self.powers[1]),
        );
        let sum = _mm512_add_epi64(sum, self.reduce_lazy(low));
        field.settle_long(reduce_once(sum, _mm512_slli_epi64::<3>(field.q)))
    }
}

/// `out0 = sum_t d_t k_t`, `out1 = sum_t d_t l_t`; all are residues.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn dot_pair(
    q: &Modulus,
    out0: &mut [u64],
    out1: &mut [u64],
    terms: &[(&[u64], &[u64], &[u64])],
) {
    let long = Long::new(q);
    let ((body0, rest0), (body1, rest1)) = (out0.as_chunks_mut(), out1.as_chunks_mut());
    let wide = body0.len() / WIDTH * WIDTH;
    let (wide0, narrow0) = body0.split_at_mut(wide);
    let (wide1, narrow1) = body1.split_at_mut(wide);
    dot_blocks::<WIDTH>(&long, wide0, wide1, 0, terms);
    dot_blocks::<1>(&long, narrow0, narrow1, wide, terms);
    let done = 8 * body0.len();
    rest0.fill(0);
    rest1.fill(0);
    for (d, k, l) in terms {
        for (i, (x, y)) in (done..).zip(rest0.iter_mut().zip(rest1.iter_mut())) {
            *x = q.mul_add(*x, d[i], k[i]);
            *y = q.mul_add(*y, d[i], l[i]);
        }
    }
}

/// Register `i` of the outputs belongs to register `first + i` of the terms.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn dot_blocks<const V: usize>(
    long: &Long,
    out0: &mut [Lanes],
    out1: &mut [Lanes],
    first: usize,
    terms: &[(&[u64], &[u64], &[u64])],
) {
    let zero = _mm512_setzero_si512();
    let blocks = out0.chunks_exact_mut(V).zip(out1.chunks_exact_mut(V));
    for (i, (out0, out1)) in blocks.enumerate() {
        let (from, to) = ((first + i * V) * 8, (first + (i + 1) * V) * 8);
        let mut sums = [[Thirds::new(zero); 2]; V];
        for (c, terms) in terms.chunks(ROOM).enumerate() {
            if c > 0 {
                for sum in sums.as_flattened_mut() {
                    *sum = Thirds::new(long.reduce(*sum));
                }
            }
            for (d, k, l) in terms {
                let (d, _) = d[from..to].as_chunks();
                let ((k, _), (l, _)) = (k[from..to].as_chunks(), l[from..to].as_chunks());
                for (j, ((d, k), l)) in d.iter().zip(k).zip(l).enumerate().take(V) {
                    let d = Parts::new(load(d));
                    sums[j][0].add(d, Parts::new(load(k)));
                    sums[j][1].add(d, Parts::new(load(l)));
                }
            }
        }
        for ((out0, out1), sums) in out0.iter_mut().zip(out1).zip(sums) {
            store(out0, long.reduce(sums[0]));
            store(out1, long.reduce(sums[1]));
        }
    }
}

/// The reduction of sums modulo a modulus below `2^50`.
struct Short {
    field: Field,
    /// `2^52` and `2^104`.
    powers: [Factor; 2],
}

impl Short {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        let word = q.reduce(1 << 52);
        Self {
            field: Field::new(q),
            powers: [word, q.mul(word, word)].map(|x| Factor::new(q.shoup(x))),
        }
    }

    /// Three terms in `0..2q`; the last part is below `2^51`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce(&self, Thirds([low, middle, top]): Thirds) -> __m512i {
        let middle = _mm512_add_epi64(middle, _mm512_srli_epi64::<52>(low));
        let top = _mm512_add_epi64(top, _mm512_srli_epi64::<52>(middle));
        let field = &self.field;
        let sum = _mm512_add_epi64(
            field.scale_lazy(middle, self.powers[0]),
            field.scale_lazy(top, self.powers[1]),
        );
        field.settle_long(_mm512_add_epi64(sum, field.reduce_lazy(low)))
    }
}

/// `out = sum_i factors_i digits_i mod to`; digits are below `2^60`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn convert(to: &Modulus, out: &mut [u64], digits: &[u64], factors: &[u64]) {
    if to.bits() > super::MAX_BITS {
        let long = Long::new(to);
        convert_by(to, out, digits, factors, |sums| long.reduce(sums));
    } else {
        let short = Short::new(to);
        convert_by(to, out, digits, factors, |sums| short.reduce(sums));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn convert_by(
    to: &Modulus,
    out: &mut [u64],
    digits: &[u64],
    factors: &[u64],
    reduce: impl Fn(Thirds) -> __m512i,
) {
    let n = out.len();
    let (body, rest) = out.as_chunks_mut::<8>();
    let (blocks, single) = body.as_chunks_mut::<WIDTH>();
    let done = WIDTH * blocks.len();
    for (i, out) in blocks.iter_mut().enumerate() {
        convert_block(out, i * WIDTH, (digits, n), factors, &reduce);
    }
    for (i, out) in single.iter_mut().enumerate() {
        let out = std::array::from_mut(out);
        convert_block(out, done + i, (digits, n), factors, &reduce);
    }
    for (x, i) in rest.iter_mut().zip(n - n % 8..) {
        let terms = digits.iter().skip(i).step_by(n).zip(factors);
        *x = terms.fold(0, |sum, (&x, &w)| to.mul_add(sum, to.reduce(x), w));
    }
}

/// Registers of the output, the first of which belongs to register `first` of each row of `n` words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn convert_block<const V: usize>(
    out: &mut [Lanes; V],
    first: usize,
    (digits, n): (&[u64], usize),
    factors: &[u64],
    reduce: impl Fn(Thirds) -> __m512i,
) {
    let from = first * 8;
    let mut sums = [Thirds::new(_mm512_setzero_si512()); V];
    for (row, &factor) in digits.chunks_exact(n).zip(factors) {
        let (row, _) = row[from..from + 8 * V].as_chunks();
        let factor = Parts::new(splat(factor));
        for (sum, x) in sums.iter_mut().zip(row) {
            sum.add(Parts::new(load(x)), factor);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        store(out, reduce(sum));
    }
}
