//! AVX-512 with the 52-bit multiply-add instructions (IFMA).
//!
//! Eight residues to a register; a ragged end of a row goes through the scalar code. Moduli below
//! `2^50` use the 52-bit products, longer ones whole words ([`long`]): a constant `LONG` says which, so
//! that a kernel is written once ([`pointwise`], [`sums`]). The instructions multiply the low 52 bits of their operands and add the low or the high 52 bits of
//! the product, so every argument of [`crate::zq`] carries over with `2^52` for `2^64`: the
//! constants here are its constants shifted right by 12 (the floor of a floor). `-q` is kept as
//! `2^52 - q`, which makes a subtraction of a multiple of `q` a multiply-add; what spills above bit
//! 52 is masked off, or ignored where the next step is a product.
//!
//! The functions require the features they name, which [`available`] tests; the only other unsafe
//! steps are the loads and stores of eight words.

#![expect(
    unsafe_code,
    reason = "vector loads and stores take pointers; each of them is handed an array of 8 words"
)]

use std::arch::x86_64::*;

use super::scalar;
use crate::zq::{Modulus, Shoup};

mod blocks;
mod long;
mod ntt;
mod pointwise;
mod slots;
mod sums;
mod switch;
mod tails;

pub(super) use blocks::*;
pub(crate) use ntt::Roots;
pub(super) use pointwise::*;
pub(super) use slots::*;
pub(super) use sums::*;
pub(super) use switch::*;
pub(super) use tails::*;

/// Largest modulus of 52-bit products, in bits: `4q` must fit in 52 bits.
pub(super) const MAX_BITS: u32 = 50;

/// The low 52 bits.
const MASK: u64 = (1 << 52) - 1;

/// The words of one register.
type Lanes = [u64; 8];

/// Whether this processor has what the functions here need.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512ifma")
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn load(words: &Lanes) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes; the instruction asks for no alignment
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn store(words: &mut Lanes, x: __m512i) {
    // SAFETY: the reference is to 64 writable bytes; the instruction asks for no alignment
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), x) }
}

/// Half `i` of the words, twice.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn load_half(words: &Lanes, i: usize) -> __m512i {
    let half = &words.as_chunks::<4>().0[i];
    // SAFETY: the reference is to 32 readable bytes; the instruction asks for no alignment
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(half.as_ptr().cast()) })
}

/// Quarter `i` of the words, four times.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn load_quarter(words: &Lanes, i: usize) -> __m512i {
    let quarter = &words.as_chunks::<2>().0[i];
    // SAFETY: the reference is to 16 readable bytes; the instruction asks for no alignment
    _mm512_broadcast_i64x2(unsafe { _mm_loadu_si128(quarter.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn splat(word: u64) -> __m512i {
    _mm512_set1_epi64(word as i64)
}

/// `x - bound` if that does not wrap, else `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn reduce_once(x: __m512i, bound: __m512i) -> __m512i {
    _mm512_min_epu64(x, _mm512_sub_epi64(x, bound))
}

/// `acc` plus the low half of the product.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn add_low(acc: __m512i, x: __m512i, y: __m512i) -> __m512i {
    _mm512_madd52lo_epu64(acc, x, y)
}

/// The high half of the product.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn high(x: __m512i, y: __m512i) -> __m512i {
    _mm512_madd52hi_epu64(_mm512_setzero_si512(), x, y)
}

/// A constant factor and `floor(value 2^52 / q)`.
#[derive(Clone, Copy)]
struct Factor {
    value: __m512i,
    quotient: __m512i,
}

impl Factor {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(w: Shoup) -> Self {
        Self::from_root([w.value, w.quotient >> 12])
    }

    /// From its value and its quotient.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn from_root([value, quotient]: [u64; 2]) -> Self {
        Self {
            value: splat(value),
            quotient: splat(quotient),
        }
    }
}

/// The constants of a modulus, one to a register. A word has 52 bits here, 64 for a long modulus,
/// for which `minus_q` and `mask` mean nothing.
#[derive(Clone, Copy)]
struct Field {
    q: __m512i,
    two_q: __m512i,
    /// `2^52 - q`.
    minus_q: __m512i,
    mask: __m512i,
    /// The word divided by `q`, rounded down.
    word_ratio: __m512i,
    /// `floor(2^(bits of the word - 1 + bits) / q)`.
    ratio: __m512i,
    /// Bits of the word less those of `q`.
    shift: __m512i,
}

impl Field {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        let cut = if q.bits() > MAX_BITS { 0 } else { 12 };
        Self {
            q: splat(q.value()),
            two_q: splat(2 * q.value()),
            minus_q: splat((1u64 << 52).wrapping_sub(q.value())),
            mask: splat(MASK),
            word_ratio: splat(q.word_ratio() >> cut),
            ratio: splat(q.ratio() >> cut),
            shift: splat(u64::from(64 - cut - q.bits())),
        }
    }

    /// `a b` in `0..3q`.
    ///
    /// As the scalar product, but `h = floor(2ab / 2^bits)` keeps one more bit: it loses less than
    /// `2^bits / 2q < 1` of the quotient, the ratio less than 1, the last floor less than 1.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn mul_lazy(&self, a: __m512i, b: __m512i) -> __m512i {
        let h = high(_mm512_add_epi64(a, a), _mm512_sllv_epi64(b, self.shift));
        let product = add_low(_mm512_setzero_si512(), a, b);
        self.subtract_multiple(product, high(h, self.ratio))
    }

    /// `x - estimate q`, low 52 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn subtract_multiple(&self, x: __m512i, estimate: __m512i) -> __m512i {
        _mm512_and_si512(add_low(x, estimate, self.minus_q), self.mask)
    }

    /// From `0..4q` to `0..q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn settle(&self, x: __m512i) -> __m512i {
        reduce_once(reduce_once(x, self.two_q), self.q)
    }

    /// The low 52 bits of `x`, in `0..2q`: the product by 1.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce_lazy(&self, x: __m512i) -> __m512i {
        self.subtract_multiple(x, high(x, self.word_ratio))
    }

    /// The low 52 bits of `x` times the factor, in `0..2q` (Harvey, theorem 1).
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn scale_lazy(&self, x: __m512i, w: Factor) -> __m512i {
        let product = add_low(_mm512_setzero_si512(), x, w.value);
        self.subtract_multiple(product, high(x, w.quotient))
    }

    /// `x - y` in `0..q`, for residues.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn sub(&self, x: __m512i, y: __m512i) -> __m512i {
        reduce_once(_mm512_sub_epi64(_mm512_add_epi64(x, self.q), y), self.q)
    }
}

/// `a = f(a)` over whole registers; returns what is left over.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn map(a: &mut [u64], f: impl Fn(__m512i) -> __m512i) -> &mut [u64] {
    let (a, rest) = a.as_chunks_mut();
    for x in a {
        store(x, f(load(x)));
    }
    rest
}

/// `out = f(a)` over whole registers; returns what is left over.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn map_to<'a, 'b>(
    out: &'a mut [u64],
    a: &'b [u64],
    f: impl Fn(__m512i) -> __m512i,
) -> (&'a mut [u64], &'b [u64]) {
    let ((out, out_rest), (a, a_rest)) = (out.as_chunks_mut(), a.as_chunks());
    for (x, y) in out.iter_mut().zip(a) {
        store(x, f(load(y)));
    }
    (out_rest, a_rest)
}

/// `a = f(a, b)` over whole registers; returns what is left over.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn zip<'a, 'b>(
    a: &'a mut [u64],
    b: &'b [u64],
    f: impl Fn(__m512i, __m512i) -> __m512i,
) -> (&'a mut [u64], &'b [u64]) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks_mut(), b.as_chunks());
    for (x, y) in a.iter_mut().zip(b) {
        store(x, f(load(x), load(y)));
    }
    (a_rest, b_rest)
}

/// `a = f(a, b, c)` over whole registers; returns what is left over.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn zip3<'a, 'b, 'c>(
    a: &'a mut [u64],
    b: &'b [u64],
    c: &'c [u64],
    f: impl Fn(__m512i, __m512i, __m512i) -> __m512i,
) -> (&'a mut [u64], &'b [u64], &'c [u64]) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks_mut(), b.as_chunks());
    let (c, c_rest) = c.as_chunks();
    for ((x, y), z) in a.iter_mut().zip(b).zip(c) {
        store(x, f(load(x), load(y), load(z)));
    }
    (a_rest, b_rest, c_rest)
}

/// `a += b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn add_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let field = Field::new(q);
    let (a, b) = zip(a, b, |x, y| reduce_once(_mm512_add_epi64(x, y), field.q));
    scalar::add_assign(q, a, b);
}

/// `a -= b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn sub_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let field = Field::new(q);
    let (a, b) = zip(a, b, |x, y| field.sub(x, y));
    scalar::sub_assign(q, a, b);
}

/// `a = -a`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn neg_assign(q: &Modulus, a: &mut [u64]) {
    let field = Field::new(q);
    let rest = map(a, |x| reduce_once(_mm512_sub_epi64(field.q, x), field.q));
    scalar::neg_assign(q, rest);
}
