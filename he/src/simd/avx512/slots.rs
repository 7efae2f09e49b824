//! Floating-point numbers to residues and back.

use std::arch::x86_64::*;

use super::{Field, load, reduce_once, splat, store, zip3};
use crate::simd::scalar;
use crate::zq::Modulus;

/// Eight numbers of a register.
type Numbers = [f64; 8];

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn read(numbers: &Numbers) -> __m512d {
    // SAFETY: the reference is to 64 readable bytes; the instruction asks for no alignment
    unsafe { _mm512_loadu_pd(numbers.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn write(numbers: &mut Numbers, x: __m512d) {
    // SAFETY: the reference is to 64 writable bytes; the instruction asks for no alignment
    unsafe { _mm512_storeu_pd(numbers.as_mut_ptr(), x) }
}

/// `out = a + b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn add(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    let field = Field::new(q);
    let (out, a, b) = zip3(out, a, b, |_, x, y| {
        reduce_once(_mm512_add_epi64(x, y), field.q)
    });
    scalar::add(q, out, a, b);
}

/// Real and imaginary parts of eight complex numbers in two registers.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn split(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
    let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    (
        _mm512_permutex2var_pd(a, even, b),
        _mm512_permutex2var_pd(a, odd, b),
    )
}

/// The inverse of [`split`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn join(re: __m512d, im: __m512d) -> (__m512d, __m512d) {
    let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    let high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    (
        _mm512_permutex2var_pd(re, low, im),
        _mm512_permutex2var_pd(re, high, im),
    )
}

/// `x conj(w) factor`, split.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn untwist(
    real: &mut [f64],
    imaginary: &mut [f64],
    x: &[f64],
    w: &[f64],
    factor: f64,
) {
    let scale = _mm512_set1_pd(factor);
    let ((re, re_rest), (im, im_rest)) =
        (real.as_chunks_mut::<8>(), imaginary.as_chunks_mut::<8>());
    let ((x, x_rest), (w, w_rest)) = (x.as_chunks::<16>(), w.as_chunks::<16>());
    for (((x, w), re), im) in x.iter().zip(w).zip(re).zip(im) {
        let ((x, _), (w, _)) = (x.as_chunks::<8>(), w.as_chunks::<8>());
        let (a, b) = split(read(&x[0]), read(&x[1]));
        let (c, s) = split(read(&w[0]), read(&w[1]));
        let real = _mm512_add_pd(_mm512_mul_pd(a, c), _mm512_mul_pd(b, s));
        let imaginary = _mm512_sub_pd(_mm512_mul_pd(b, c), _mm512_mul_pd(a, s));
        write(re, _mm512_mul_pd(real, scale));
        write(im, _mm512_mul_pd(imaginary, scale));
    }
    scalar::untwist(re_rest, im_rest, x_rest, w_rest, factor);
}

/// `(real + i imaginary) factor w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn twist(
    out: &mut [f64],
    real: &[f64],
    imaginary: &[f64],
    w: &[f64],
    factor: f64,
) {
    let scale = _mm512_set1_pd(factor);
    let ((re, re_rest), (im, im_rest)) = (real.as_chunks::<8>(), imaginary.as_chunks::<8>());
    let ((out, out_rest), (w, w_rest)) = (out.as_chunks_mut::<16>(), w.as_chunks::<16>());
    for (((out, w), re), im) in out.iter_mut().zip(w).zip(re).zip(im) {
        let (w, _) = w.as_chunks::<8>();
        let (c, s) = split(read(&w[0]), read(&w[1]));
        let (a, b) = (
            _mm512_mul_pd(read(re), scale),
            _mm512_mul_pd(read(im), scale),
        );
        let real = _mm512_sub_pd(_mm512_mul_pd(a, c), _mm512_mul_pd(b, s));
        let imaginary = _mm512_add_pd(_mm512_mul_pd(b, c), _mm512_mul_pd(a, s));
        let (low, high) = join(real, imaginary);
        let (out, _) = out.as_chunks_mut::<8>();
        write(&mut out[0], low);
        write(&mut out[1], high);
    }
    scalar::twist(out_rest, re_rest, im_rest, w_rest, factor);
}

/// Rounds; whether all magnitudes are below the limit.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn round(out: &mut [i64], values: &[f64], limit: f64) -> bool {
    let bound = _mm512_set1_pd(limit);
    let ((out, out_rest), (values, rest)) = (out.as_chunks_mut::<8>(), values.as_chunks::<8>());
    let mut within = 0xff;
    for (integers, x) in out.iter_mut().zip(values) {
        let x = read(x);
        within &= _mm512_cmp_pd_mask::<_CMP_LT_OQ>(_mm512_abs_pd(x), bound);
        let mut words = [0; 8];
        store(&mut words, _mm512_cvtpd_epi64(x));
        *integers = words.map(|word| word as i64);
    }
    within == 0xff && scalar::round(out_rest, rest, limit)
}

/// `out = out factor + [a]`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn add_centred(q: &Modulus, out: &mut [f64], factor: f64, a: &[u64]) {
    let (scale, modulus, half) = (
        _mm512_set1_pd(factor),
        splat(q.value()),
        splat(q.value() / 2),
    );
    let ((out, out_rest), (a, rest)) = (out.as_chunks_mut::<8>(), a.as_chunks::<8>());
    for (x, a) in out.iter_mut().zip(a) {
        let a = load(a);
        let upper = _mm512_cmpgt_epu64_mask(a, half);
        let centred = _mm512_cvtepi64_pd(_mm512_mask_sub_epi64(a, upper, a, modulus));
        write(x, _mm512_add_pd(_mm512_mul_pd(read(x), scale), centred));
    }
    scalar::add_centred(q, out_rest, factor, rest);
}
