//! Plain 64-bit integer code, on every machine: what the other back ends must agree with.

use crate::zq::{Modulus, Shoup};

mod slots;
mod switch;

pub(super) use slots::*;
pub(super) use switch::*;

/// `a += b`.
pub(super) fn add_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.add(*x, y);
    }
}

/// `a -= b`.
pub(super) fn sub_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.sub(*x, y);
    }
}

/// `a = -a`.
pub(super) fn neg_assign(q: &Modulus, a: &mut [u64]) {
    for x in a {
        *x = q.neg(*x);
    }
}

/// `a = a b`, entry by entry.
pub(super) fn mul_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.mul(*x, y);
    }
}

/// `out = a b`, entry by entry.
pub(super) fn mul(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    debug_assert!(out.len() == a.len() && a.len() == b.len());
    for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
        *x = q.mul(y, z);
    }
}

/// `acc += a b`, entry by entry.
pub(super) fn mul_add_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    debug_assert!(acc.len() == a.len() && a.len() == b.len());
    for ((x, &y), &z) in acc.iter_mut().zip(a).zip(b) {
        *x = q.mul_add(*x, y, z);
    }
}

/// Entries that [`dot_add_assign`] sums at a time: their accumulators stay in the first cache.
const DOT_BLOCK: usize = 64;

/// `acc += sum_t a_t b_t`, entry by entry, with one reduction for as many terms as 128 bits hold.
///
/// A product is below `2^(2 bits)`, so `2^(127 - 2 bits)` of them fit beside a residue: 128 for
/// primes of 60 bits, more than `2^32` for 47.
pub(super) fn dot_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], &[u64])]) {
    debug_assert!(
        terms
            .iter()
            .all(|(a, b)| a.len() == acc.len() && b.len() == acc.len())
    );
    let room = 1usize << (127 - 2 * q.bits()).min(usize::BITS - 2);
    for terms in terms.chunks(room) {
        for (i, block) in acc.chunks_mut(DOT_BLOCK).enumerate() {
            let range = i * DOT_BLOCK..i * DOT_BLOCK + block.len();
            let mut sums = [0u128; DOT_BLOCK];
            sums.iter_mut()
                .zip(block.iter())
                .for_each(|(sum, &x)| *sum = x.into());
            for (a, b) in terms {
                let entries = a[range.clone()].iter().zip(&b[range.clone()]);
                for (sum, (&x, &y)) in sums.iter_mut().zip(entries) {
                    *sum = sum.wrapping_add(u128::from(x) * u128::from(y));
                }
            }
            block
                .iter_mut()
                .zip(&sums)
                .for_each(|(x, &sum)| *x = q.reduce_u128(sum));
        }
    }
}

/// `acc += sum_t w_t a_t`, `w_t` a residue each, as [`dot_add_assign`].
pub(super) fn weigh_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], u64)]) {
    debug_assert!(terms.iter().all(|(a, _)| a.len() == acc.len()));
    let room = 1usize << (127 - 2 * q.bits()).min(usize::BITS - 2);
    for terms in terms.chunks(room) {
        for (i, block) in acc.chunks_mut(DOT_BLOCK).enumerate() {
            let range = i * DOT_BLOCK..i * DOT_BLOCK + block.len();
            let mut sums = [0u128; DOT_BLOCK];
            sums.iter_mut()
                .zip(block.iter())
                .for_each(|(sum, &x)| *sum = x.into());
            for (a, w) in terms {
                for (sum, &x) in sums.iter_mut().zip(&a[range.clone()]) {
                    *sum = sum.wrapping_add(u128::from(x) * u128::from(*w));
                }
            }
            block
                .iter_mut()
                .zip(&sums)
                .for_each(|(x, &sum)| *x = q.reduce_u128(sum));
        }
    }
}

/// `acc -= a b`, entry by entry.
pub(super) fn mul_sub_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    debug_assert!(acc.len() == a.len() && a.len() == b.len());
    for ((x, &y), &z) in acc.iter_mut().zip(a).zip(b) {
        *x = q.sub(*x, q.mul(y, z));
    }
}

/// `a = a w` for one constant.
pub(super) fn scale_assign(q: &Modulus, a: &mut [u64], w: Shoup) {
    for x in a {
        *x = q.mul_shoup(*x, w);
    }
}

/// `a = (a - b) w` for one constant: the last step of a division by a prime.
pub(super) fn sub_scale_assign(q: &Modulus, a: &mut [u64], b: &[u64], w: Shoup) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.mul_shoup(q.sub(*x, y), w);
    }
}

/// `a += value mod q` for signed words.
pub(super) fn add_signed_assign(q: &Modulus, a: &mut [u64], values: &[i64]) {
    debug_assert_eq!(a.len(), values.len());
    for (x, &value) in a.iter_mut().zip(values) {
        *x = q.add(*x, q.reduce_i64(value));
    }
}

/// `out = [a] mod to`, where the residues `a` of `from` stand for their centred representatives.
pub(super) fn centred_to(from: &Modulus, to: &Modulus, out: &mut [u64], a: &[u64]) {
    debug_assert_eq!(out.len(), a.len());
    for (x, &y) in out.iter_mut().zip(a) {
        *x = to.reduce_i64(from.centre(y));
    }
}

/// For each word the number of `tails` above its upper 63 bits, with the sign of its lowest bit.
#[inline(always)]
pub(super) fn count_tails(tails: &[u64], words: &[u64], out: &mut [i64]) {
    // so many draws at a time that the counts stay in registers
    for (values, words) in out.chunks_mut(16).zip(words.chunks(16)) {
        let (mut halves, mut counts) = ([0u64; 16], [0u64; 16]);
        for (half, word) in halves.iter_mut().zip(words) {
            *half = word >> 1;
        }
        for &tail in tails {
            for (count, half) in counts.iter_mut().zip(&halves) {
                // both are below 2^63: the top bit of the difference says half < tail
                *count = count.wrapping_add(half.wrapping_sub(tail) >> 63);
            }
        }
        for ((value, &count), &word) in values.iter_mut().zip(&counts).zip(words) {
            let sign = ((word & 1) as i64).wrapping_neg();
            *value = (count as i64 ^ sign).wrapping_sub(sign);
        }
    }
}
