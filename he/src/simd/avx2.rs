//! AVX2, for the kernels without products.
//!
//! There is no 64-bit product in AVX2, and building one from 32-bit halves takes more instructions
//! than the scalar unit needs; so only sums, differences, negations and counts are here. They
//! are the scalar loops, compiled for 256-bit registers.

use super::scalar;
use crate::zq::Modulus;

/// Whether this processor has what the functions here need.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
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
