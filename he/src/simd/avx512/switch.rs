//! Key switching: how often a product is to be taken off, and permutations.

use std::arch::x86_64::*;

use super::{load, store};
use crate::simd::switch::Permutation;
use crate::zq::Modulus;

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
