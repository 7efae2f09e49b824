//! Kernels entry by entry: products, scalings, divisions, residues of signed words.
//!
//! Each is written once; `LONG` says whether the modulus has more than 50 bits. A *lazy* residue is
//! below `2^52` for a short modulus, and canonical for a long one.

use std::arch::x86_64::*;

use super::{
    Factor, Field, MASK, MAX_BITS, load, map, map_to, reduce_once, splat, store, zip, zip3,
};
use crate::simd::scalar;
use crate::zq::{Modulus, Shoup};

/// The factor as [`Field::scale`] takes it.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn factor<const LONG: bool>(w: Shoup) -> Factor {
    if LONG {
        Factor::long(w)
    } else {
        Factor::new(w)
    }
}

impl Field {
    /// `a b` in `0..q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn product<const LONG: bool>(&self, a: __m512i, b: __m512i) -> __m512i {
        self.settle(if LONG {
            self.mul_lazy_long(a, b)
        } else {
            self.mul_lazy(a, b)
        })
    }

    /// `acc + a b` in `0..q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn product_added<const LONG: bool>(&self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        if LONG {
            self.settle_long(_mm512_add_epi64(acc, self.mul_lazy_long(a, b)))
        } else {
            self.settle(_mm512_add_epi64(acc, self.mul_lazy(a, b)))
        }
    }

    /// `x w` in `0..q`, of any word if long, else of its low 52 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn scale<const LONG: bool>(&self, x: __m512i, w: Factor) -> __m512i {
        if LONG {
            self.settle(self.scale_long(x, w))
        } else {
            reduce_once(self.scale_lazy(x, w), self.q)
        }
    }

    /// `(a - b) w` in `0..q` for a residue `a` and a lazy `b`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn sub_scale<const LONG: bool>(&self, a: __m512i, b: __m512i, w: Factor) -> __m512i {
        let (above, b) = if LONG {
            (_mm512_add_epi64(a, self.q), b)
        } else {
            (_mm512_add_epi64(a, self.two_q), self.reduce_lazy(b))
        };
        self.scale::<LONG>(_mm512_sub_epi64(above, b), w)
    }
}

/// `a = a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul_assign<const LONG: bool>(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let field = Field::new(q);
    let (a, b) = zip(a, b, |x, y| field.product::<LONG>(x, y));
    scalar::mul_assign(q, a, b);
}

/// A kernel on three rows, entry by entry.
type ThreeRows = fn(&Modulus, &mut [u64], &[u64], &[u64]);

/// `out = f(out, a, b)` over whole registers, and `rest` on what is left over.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn three_rows(
    q: &Modulus,
    [a, b]: [&[u64]; 2],
    out: &mut [u64],
    f: impl Fn(&Field, __m512i, __m512i, __m512i) -> __m512i,
    rest: ThreeRows,
) {
    let field = Field::new(q);
    let (out, a, b) = zip3(out, a, b, |x, y, z| f(&field, x, y, z));
    rest(q, out, a, b);
}

/// `out = a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul<const LONG: bool>(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    let step = |field: &Field, _, x, y| field.product::<LONG>(x, y);
    three_rows(q, [a, b], out, step, scalar::mul);
}

/// `acc += a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul_add_assign<const LONG: bool>(
    q: &Modulus,
    acc: &mut [u64],
    a: &[u64],
    b: &[u64],
) {
    let step = |field: &Field, sum, x, y| field.product_added::<LONG>(sum, x, y);
    three_rows(q, [a, b], acc, step, scalar::mul_add_assign);
}

/// `acc -= a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn mul_sub_assign<const LONG: bool>(
    q: &Modulus,
    acc: &mut [u64],
    a: &[u64],
    b: &[u64],
) {
    let step = |field: &Field, sum, x, y| field.sub(sum, field.product::<LONG>(x, y));
    three_rows(q, [a, b], acc, step, scalar::mul_sub_assign);
}

/// `a = a w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn scale_assign<const LONG: bool>(q: &Modulus, a: &mut [u64], w: Shoup) {
    let (field, factor) = (Field::new(q), factor::<LONG>(w));
    let rest = map(a, |x| field.scale::<LONG>(x, factor));
    scalar::scale_assign(q, rest, w);
}

/// `out = a w`; `a` is lazy.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn scale<const LONG: bool>(q: &Modulus, out: &mut [u64], a: &[u64], w: Shoup) {
    let (field, factor) = (Field::new(q), factor::<LONG>(w));
    let (out, a) = map_to(out, a, |x| field.scale::<LONG>(x, factor));
    scalar::scale(q, out, a, w);
}

/// `a = (a - b) w`, of residues.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale_assign<const LONG: bool>(
    q: &Modulus,
    a: &mut [u64],
    b: &[u64],
    w: Shoup,
) {
    let (field, factor) = (Field::new(q), factor::<LONG>(w));
    let (a, b) = zip(a, b, |x, y| {
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, field.q), y);
        field.scale::<LONG>(difference, factor)
    });
    scalar::sub_scale_assign(q, a, b, w);
}

/// `out = (a - b) w`; `b` is lazy.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale<const LONG: bool>(
    q: &Modulus,
    out: &mut [u64],
    a: &[u64],
    b: &[u64],
    w: Shoup,
) {
    let (field, factor) = (Field::new(q), factor::<LONG>(w));
    let (out, a, b) = zip3(out, a, b, |_, x, y| field.sub_scale::<LONG>(x, y, factor));
    scalar::sub_scale(q, out, a, b, w);
}

/// `acc += (a - b) w`; `b` is lazy.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale_add_assign<const LONG: bool>(
    q: &Modulus,
    acc: &mut [u64],
    a: &[u64],
    b: &[u64],
    w: Shoup,
) {
    let (field, factor) = (Field::new(q), factor::<LONG>(w));
    let (acc, a, b) = zip3(acc, a, b, |acc, x, y| {
        let quotient = field.sub_scale::<LONG>(x, y, factor);
        reduce_once(_mm512_add_epi64(acc, quotient), field.q)
    });
    scalar::sub_scale_add_assign(q, acc, a, b, w);
}

/// Reduces signed words.
struct Signed<const LONG: bool> {
    field: Field,
    /// `2^52`, of a short modulus.
    word: Option<Factor>,
}

impl<const LONG: bool> Signed<LONG> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        let field = Field::new(q);
        let word = (!LONG).then(|| Factor::new(q.shoup(q.reduce(1 << 52))));
        Self { field, word }
    }

    /// The residues; a short modulus takes the magnitude as a word of 52 bits and twelve bits above.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn residue(&self, values: &[i64; 8]) -> __m512i {
        let value = load(&values.map(|v| v as u64));
        let (field, magnitude) = (&self.field, _mm512_abs_epi64(value));
        let residue = if let Some(word) = self.word {
            let low = field.reduce_lazy(_mm512_and_si512(magnitude, splat(MASK)));
            let high = field.scale_lazy(_mm512_srli_epi64::<52>(magnitude), word);
            field.settle(_mm512_add_epi64(low, high))
        } else {
            reduce_once(field.reduce_lazy_long(magnitude), field.q)
        };
        let negative = _mm512_movepi64_mask(value);
        let signed = _mm512_mask_sub_epi64(residue, negative, _mm512_setzero_si512(), residue);
        // a negative word wraps to above q unless q is added
        _mm512_min_epu64(signed, _mm512_add_epi64(signed, field.q))
    }
}

/// `out = values mod q`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn signed_residues<const LONG: bool>(
    q: &Modulus,
    out: &mut [u64],
    values: &[i64],
) {
    let signed = Signed::<LONG>::new(q);
    let ((out, out_rest), (values, rest)) = (out.as_chunks_mut::<8>(), values.as_chunks::<8>());
    for (x, values) in out.iter_mut().zip(values) {
        store(x, signed.residue(values));
    }
    scalar::signed_residues(q, out_rest, rest);
}

/// `a += values mod q`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn add_signed_assign<const LONG: bool>(
    q: &Modulus,
    a: &mut [u64],
    values: &[i64],
) {
    let signed = Signed::<LONG>::new(q);
    let ((a, a_rest), (values, rest)) = (a.as_chunks_mut::<8>(), values.as_chunks::<8>());
    for (x, values) in a.iter_mut().zip(values) {
        let sum = _mm512_add_epi64(load(x), signed.residue(values));
        store(x, reduce_once(sum, signed.field.q));
    }
    scalar::add_signed_assign(q, a_rest, rest);
}

/// `out = [a] mod to`, centred.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn centred_to(from: &Modulus, to: &Modulus, out: &mut [u64], a: &[u64]) {
    let field = Field::new(to);
    if to.bits() > MAX_BITS {
        centred_by(from, to, out, a, |x| field.reduce_lazy_long(x));
    } else if from.bits() > MAX_BITS {
        let word = Factor::new(to.shoup(to.reduce(1 << 52)));
        centred_by(from, to, out, a, |x| {
            let top = field.scale_lazy(_mm512_srli_epi64::<52>(x), word);
            reduce_once(_mm512_add_epi64(field.reduce_lazy(x), top), field.two_q)
        });
    } else {
        centred_by(from, to, out, a, |x| field.reduce_lazy(x));
    }
}

/// [`centred_to`] by the residue in `0..2q`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn centred_by(
    from: &Modulus,
    to: &Modulus,
    out: &mut [u64],
    a: &[u64],
    reduce_lazy: impl Fn(__m512i) -> __m512i,
) {
    let field = Field::new(to);
    let half = splat(from.value() / 2);
    let minus_from = splat(to.neg(to.reduce(from.value())));
    let (out, a) = map_to(out, a, |x| {
        let (upper, residue) = (_mm512_cmpgt_epu64_mask(x, half), reduce_lazy(x));
        field.settle(_mm512_mask_add_epi64(residue, upper, residue, minus_from))
    });
    scalar::centred_to(from, to, out, a);
}
