//! Key switching: a change of basis, inner products, divisions, permutations.
//!
//! Products are summed as halves of 52 bits in registers, over all terms, and reduced once.

use std::arch::x86_64::*;

use super::{
    DOT_ROOM, Factor, Field, Lanes, Sums, add_low, load, map_to, reduce_once, splat, store, zip3,
};
use crate::simd::scalar;
use crate::simd::switch::Permutation;
use crate::zq::{Modulus, Shoup};

/// Registers of a row that are summed at a time.
const WIDTH: usize = 8;
/// The same for two rows.
const PAIR_WIDTH: usize = 4;

/// `out = a w`; `a` is below `2^52`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn scale(q: &Modulus, out: &mut [u64], a: &[u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::new(w));
    let (out, a) = map_to(out, a, |x| {
        reduce_once(field.scale_lazy(x, factor), field.q)
    });
    scalar::scale(q, out, a, w);
}

impl Field {
    /// `(a - b) w` in `0..q` for a residue `a` and `b < 2^52`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn sub_scale(&self, a: __m512i, b: __m512i, w: Factor) -> __m512i {
        let above = _mm512_add_epi64(a, self.two_q);
        let difference = _mm512_sub_epi64(above, self.reduce_lazy(b));
        reduce_once(self.scale_lazy(difference, w), self.q)
    }
}

/// `out = (a - b) w`; `b` is below `2^52`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::new(w));
    let (out, a, b) = zip3(out, a, b, |_, a, b| field.sub_scale(a, b, factor));
    scalar::sub_scale(q, out, a, b, w);
}

/// `acc += (a - b) w`; `b` is below `2^52`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn sub_scale_add_assign(
    q: &Modulus,
    acc: &mut [u64],
    a: &[u64],
    b: &[u64],
    w: Shoup,
) {
    let (field, factor) = (Field::new(q), Factor::new(w));
    let (acc, a, b) = zip3(acc, a, b, |acc, a, b| {
        reduce_once(
            _mm512_add_epi64(acc, field.sub_scale(a, b, factor)),
            field.q,
        )
    });
    scalar::sub_scale_add_assign(q, acc, a, b, w);
}

/// The two halves of `V` sums of products.
#[derive(Clone, Copy)]
struct Halves<const V: usize> {
    low: [__m512i; V],
    top: [__m512i; V],
}

impl<const V: usize> Halves<V> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn zero() -> Self {
        let zeros = [_mm512_setzero_si512(); V];
        Self {
            low: zeros,
            top: zeros,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn add(&mut self, k: usize, x: __m512i, y: __m512i) {
        self.low[k] = add_low(self.low[k], x, y);
        self.top[k] = _mm512_madd52hi_epu64(self.top[k], x, y);
    }

    /// What the sums are modulo `q`, as the start of the next ones.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduced(self, sums: &Sums) -> Self {
        let mut out = Self::zero();
        for k in 0..V {
            out.low[k] = sums.reduce(self.low[k], self.top[k]);
        }
        out
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn store(self, sums: &Sums, out: &mut [Lanes]) {
        for (k, out) in out.iter_mut().enumerate().take(V) {
            store(out, sums.reduce(self.low[k], self.top[k]));
        }
    }
}

/// `out0 = sum_t d_t k_t`, `out1 = sum_t d_t l_t`; the `d` are below `2^52`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn dot_pair(
    q: &Modulus,
    out0: &mut [u64],
    out1: &mut [u64],
    terms: &[(&[u64], &[u64], &[u64])],
) {
    let sums = Sums::new(q);
    let ((body0, rest0), (body1, rest1)) = (out0.as_chunks_mut(), out1.as_chunks_mut());
    let wide = body0.len() / PAIR_WIDTH * PAIR_WIDTH;
    let (wide0, narrow0) = body0.split_at_mut(wide);
    let (wide1, narrow1) = body1.split_at_mut(wide);
    dot_blocks::<PAIR_WIDTH>(&sums, wide0, wide1, 0, terms);
    dot_blocks::<1>(&sums, narrow0, narrow1, wide, terms);
    let done = 8 * body0.len();
    rest0.fill(0);
    rest1.fill(0);
    for (d, k, l) in terms {
        for (i, (x, y)) in (done..).zip(rest0.iter_mut().zip(rest1.iter_mut())) {
            let digit = q.reduce(d[i]);
            *x = q.mul_add(*x, digit, k[i]);
            *y = q.mul_add(*y, digit, l[i]);
        }
    }
}

/// Register `i` of the outputs belongs to register `first + i` of the terms.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn dot_blocks<const V: usize>(
    sums: &Sums,
    out0: &mut [Lanes],
    out1: &mut [Lanes],
    first: usize,
    terms: &[(&[u64], &[u64], &[u64])],
) {
    let blocks = out0.chunks_exact_mut(V).zip(out1.chunks_exact_mut(V));
    for (i, (out0, out1)) in blocks.enumerate() {
        let (from, to) = ((first + i * V) * 8, (first + (i + 1) * V) * 8);
        let (mut sum0, mut sum1) = (Halves::<V>::zero(), Halves::<V>::zero());
        for (c, terms) in terms.chunks(DOT_ROOM).enumerate() {
            if c > 0 {
                (sum0, sum1) = (sum0.reduced(sums), sum1.reduced(sums));
            }
            for (d, k, l) in terms {
                let (d, _) = d[from..to].as_chunks();
                let ((k, _), (l, _)) = (k[from..to].as_chunks(), l[from..to].as_chunks());
                for (j, ((d, k), l)) in d.iter().zip(k).zip(l).enumerate().take(V) {
                    let d = load(d);
                    sum0.add(j, d, load(k));
                    sum1.add(j, d, load(l));
                }
            }
        }
        sum0.store(sums, out0);
        sum1.store(sums, out1);
    }
}

/// `out = sum_i factors_i digits_i mod to`; digits are below `2^52`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn convert(to: &Modulus, out: &mut [u64], digits: &[u64], factors: &[u64]) {
    let (sums, n) = (Sums::new(to), out.len());
    let (body, rest) = out.as_chunks_mut();
    let wide = body.len() / WIDTH * WIDTH;
    let (wide_part, narrow_part) = body.split_at_mut(wide);
    convert_blocks::<WIDTH>(&sums, wide_part, (0, n), digits, factors);
    convert_blocks::<1>(&sums, narrow_part, (wide, n), digits, factors);
    for (x, i) in rest.iter_mut().zip(n - n % 8..) {
        let terms = digits.iter().skip(i).step_by(n).zip(factors);
        *x = terms.fold(0, |sum, (&x, &w)| to.mul_add(sum, to.reduce(x), w));
    }
}

/// Register `i` of the output belongs to register `first + i` of each row of `n` words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn convert_blocks<const V: usize>(
    sums: &Sums,
    out: &mut [Lanes],
    (first, n): (usize, usize),
    digits: &[u64],
    factors: &[u64],
) {
    for (i, out) in out.chunks_exact_mut(V).enumerate() {
        let from = (first + i * V) * 8;
        let mut sum = Halves::<V>::zero();
        for (row, &factor) in digits.chunks_exact(n).zip(factors) {
            let (row, _) = row[from..from + 8 * V].as_chunks();
            let factor = splat(factor);
            for (j, x) in row.iter().enumerate().take(V) {
                sum.add(j, load(x), factor);
            }
        }
        sum.store(sums, out);
    }
}

/// `out = floor(sum_i x_i / q_i + 1/2)`, the sum from left to right in double precision.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn quotients(moduli: &[Modulus], out: &mut [u64], digits: &[u64]) {
    let n = out.len();
    let (body, rest) = out.as_chunks_mut();
    let done = 8 * body.len();
    for (k, out) in body.iter_mut().enumerate() {
        let mut sum = _mm512_set1_pd(0.5);
        for (row, q) in digits.chunks_exact(n).zip(moduli) {
            let (row, _) = row[8 * k..8 * k + 8].as_chunks();
            let inverse = _mm512_set1_pd(1.0 / q.value() as f64);
            for x in row {
                let x = _mm512_cvtepu64_pd(load(x));
                sum = _mm512_add_pd(sum, _mm512_mul_pd(x, inverse));
            }
        }
        store(out, _mm512_cvttpd_epu64(sum));
    }
    for (k, out) in rest.iter_mut().enumerate() {
        let sum = moduli.iter().enumerate().fold(0.5, |sum, (i, q)| {
            sum + digits[i * n + done + k] as f64 * (1.0 / q.value() as f64)
        });
        *out = sum as u64;
    }
}

/// `out` is `a` permuted.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn permute(out: &mut [u64], a: &[u64], permutation: &Permutation) {
    let ((out, _), (a, _)) = (out.as_chunks_mut(), a.as_chunks());
    for (out, &group) in out.iter_mut().zip(&permutation.groups) {
        let source = load(&a[group as usize / 8]);
        let lanes = load(&permutation.patterns[group as usize % 8]);
        store(out, _mm512_permutexvar_epi64(lanes, source));
    }
}
