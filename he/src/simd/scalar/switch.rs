//! Key switching: a change of basis, inner products, divisions, permutations.

use super::DOT_BLOCK;
use crate::simd::switch::{MAX_ROWS, Permutation};
use crate::zq::{Modulus, Shoup};

/// `out = a w`.
pub(in crate::simd) fn scale(q: &Modulus, out: &mut [u64], a: &[u64], w: Shoup) {
    for (x, &y) in out.iter_mut().zip(a) {
        *x = q.mul_shoup(y, w);
    }
}

/// `out = (a - b) w`; `b` is any word.
pub(in crate::simd) fn sub_scale(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64], w: Shoup) {
    for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
        *x = q.mul_shoup(q.sub(y, q.reduce(z)), w);
    }
}

/// `acc += (a - b) w`; `b` is any word.
pub(in crate::simd) fn sub_scale_add_assign(
    q: &Modulus,
    acc: &mut [u64],
    a: &[u64],
    b: &[u64],
    w: Shoup,
) {
    for ((x, &y), &z) in acc.iter_mut().zip(a).zip(b) {
        *x = q.add(*x, q.mul_shoup(q.sub(y, q.reduce(z)), w));
    }
}

/// `out0 = sum_t d_t k_t`, `out1 = sum_t d_t l_t`.
///
/// A product is below `2^(bits + max(bits, 52))`, so 256 of them fit in 128 bits for any modulus
/// beside a residue; sums are reduced after as many terms.
pub(in crate::simd) fn dot_pair(
    q: &Modulus,
    out0: &mut [u64],
    out1: &mut [u64],
    terms: &[(&[u64], &[u64], &[u64])],
) {
    const ROOM: usize = 128;
    let blocks = out0.chunks_mut(DOT_BLOCK).zip(out1.chunks_mut(DOT_BLOCK));
    for (i, (out0, out1)) in blocks.enumerate() {
        let range = i * DOT_BLOCK..i * DOT_BLOCK + out0.len();
        let (mut sums0, mut sums1) = ([0u128; DOT_BLOCK], [0u128; DOT_BLOCK]);
        let reduce = |sums: &mut [u128]| {
            sums.iter_mut()
                .for_each(|sum| *sum = q.reduce_u128(*sum).into());
        };
        for terms in terms.chunks(ROOM) {
            for (d, k, l) in terms {
                let keys = k[range.clone()].iter().zip(&l[range.clone()]);
                let digits = d[range.clone()].iter().zip(keys);
                let sums = sums0.iter_mut().zip(&mut sums1);
                for ((sum0, sum1), (&d, (&k, &l))) in sums.zip(digits) {
                    *sum0 = sum0.wrapping_add(u128::from(d) * u128::from(k));
                    *sum1 = sum1.wrapping_add(u128::from(d) * u128::from(l));
                }
            }
            reduce(&mut sums0);
            reduce(&mut sums1);
        }
        out0.iter_mut()
            .zip(sums0)
            .for_each(|(x, sum)| *x = sum as u64);
        out1.iter_mut()
            .zip(sums1)
            .for_each(|(x, sum)| *x = sum as u64);
    }
}

/// `out = sum_i factors_i digits_i mod to`: at most [`MAX_ROWS`] products below `2^120`.
pub(in crate::simd) fn convert(to: &Modulus, out: &mut [u64], digits: &[u64], factors: &[u64]) {
    const { assert!(MAX_ROWS <= 128) }
    let n = out.len();
    for (i, block) in out.chunks_mut(DOT_BLOCK).enumerate() {
        let mut sums = [0u128; DOT_BLOCK];
        for (row, &factor) in digits.chunks_exact(n).zip(factors) {
            let row = &row[i * DOT_BLOCK..][..block.len()];
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(u128::from(x) * u128::from(factor));
            }
        }
        block
            .iter_mut()
            .zip(sums)
            .for_each(|(x, sum)| *x = to.reduce_u128(sum));
    }
}

/// `out = floor(sum_i x_i / q_i + 1/2)`, the sum from left to right in double precision.
pub(in crate::simd) fn quotients(moduli: &[Modulus], out: &mut [u64], digits: &[u64]) {
    let n = out.len();
    for (i, block) in out.chunks_mut(DOT_BLOCK).enumerate() {
        let mut sums = [0.5f64; DOT_BLOCK];
        for (row, q) in digits.chunks_exact(n).zip(moduli) {
            let inverse = 1.0 / q.value() as f64;
            let row = &row[i * DOT_BLOCK..][..block.len()];
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x as f64 * inverse;
            }
        }
        block
            .iter_mut()
            .zip(sums)
            .for_each(|(x, sum)| *x = sum as u64);
    }
}

/// `out` is `a` permuted.
pub(in crate::simd) fn permute(out: &mut [u64], a: &[u64], permutation: &Permutation) {
    let ((out, _), (a, _)) = (out.as_chunks_mut::<8>(), a.as_chunks::<8>());
    for (out, &group) in out.iter_mut().zip(&permutation.groups) {
        let source = &a[group as usize / 8];
        let pattern = &permutation.patterns[group as usize % 8];
        *out = pattern.map(|i| source[i as usize % 8]);
    }
}
