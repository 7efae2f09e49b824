//! AVX2, for the transform and the kernels without products.
//!
//! There is no 64-bit product in AVX2, and building one from 32-bit halves takes more instructions
//! than the scalar unit needs. The transform multiplies in double precision instead ([`ntt`]). Sums,
//! differences, negations and counts are the scalar loops, compiled for 256-bit registers.

#![expect(
    unsafe_code,
    reason = "vector loads and stores take pointers; each of them is handed an array of 4 words"
)]

use std::arch::x86_64::*;

use super::scalar;
use crate::zq::Modulus;

mod ntt;

pub(crate) use ntt::Roots;

/// The words of one register.
type Lanes = [u64; 4];

/// Whether this processor has what the functions here need.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(words: &Lanes) -> __m256d {
    // SAFETY: the reference is to 32 readable bytes; the instruction asks for no alignment
    unsafe { _mm256_loadu_pd(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store(words: &mut Lanes, x: __m256d) {
    // SAFETY: the reference is to 32 writable bytes; the instruction asks for no alignment
    unsafe { _mm256_storeu_pd(words.as_mut_ptr().cast(), x) }
}

/// `a += b`.
#[target_feature(enable = "avx2")]
pub(super) fn add_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.add(*x, y);
    }
}

/// `a -= b`.
#[target_feature(enable = "avx2")]
pub(super) fn sub_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.sub(*x, y);
    }
}

/// `a = -a`.
#[target_feature(enable = "avx2")]
pub(super) fn neg_assign(q: &Modulus, a: &mut [u64]) {
    for x in a {
        *x = q.neg(*x);
    }
}

/// For each word the number of `tails` above its upper 63 bits, with the sign of its lowest bit.
#[target_feature(enable = "avx2")]
pub(super) fn count_tails(tails: &[u64], words: &[u64], out: &mut [i64]) {
    scalar::count_tails(tails, words, out);
}
