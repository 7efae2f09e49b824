//! The scan of the error sampler.

use std::arch::x86_64::*;

use super::{load, splat, store};
use crate::simd::scalar;

/// Registers of counts at a time.
const COUNTS: usize = 4;

/// For each word the number of `tails` above its upper 63 bits, with the sign of its lowest bit.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn count_tails(tails: &[u64], words: &[u64], out: &mut [i64]) {
    let ((words, words_rest), (out, out_rest)) = (
        words.as_chunks::<{ 8 * COUNTS }>(),
        out.as_chunks_mut::<{ 8 * COUNTS }>(),
    );
    for (words, out) in words.iter().zip(out) {
        let (words, _) = words.as_chunks();
        let mut halves = [_mm512_setzero_si512(); COUNTS];
        let mut counts = [_mm512_setzero_si512(); COUNTS];
        for (half, word) in halves.iter_mut().zip(words) {
            *half = _mm512_srli_epi64::<1>(load(word));
        }
        for &tail in tails {
            let tail = splat(tail);
            for i in 0..COUNTS {
                // both are below 2^63: the sign of the difference says half < tail
                let below = _mm512_srli_epi64::<63>(_mm512_sub_epi64(halves[i], tail));
                counts[i] = _mm512_add_epi64(counts[i], below);
            }
        }
        let (out, _) = out.as_chunks_mut::<8>();
        for ((out, word), &count) in out.iter_mut().zip(words).zip(&counts) {
            let sign = _mm512_and_si512(load(word), splat(1));
            let sign = _mm512_sub_epi64(_mm512_setzero_si512(), sign);
            let value = _mm512_sub_epi64(_mm512_xor_si512(count, sign), sign);
            let mut lanes = [0; 8];
            store(&mut lanes, value);
            *out = lanes.map(u64::cast_signed);
        }
    }
    scalar::count_tails(tails, words_rest, out_rest);
}
