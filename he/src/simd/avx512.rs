//! AVX-512 with the 52-bit multiply-add instructions (IFMA).
//!
//! Eight residues to a register; a ragged end of a row goes through the scalar code. Moduli below
//! `2^50` use the 52-bit products, longer ones whole words ([`long`]). The
//! instructions multiply the low 52 bits of their operands and add the low or the high 52 bits of
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
pub(super) mod long;
mod ntt;
mod slots;
mod switch;
mod tails;

pub(super) use blocks::*;
pub(crate) use ntt::Roots;
pub(super) use slots::*;
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

/// The constants of a modulus, one to a register; of a long one `q` and `two_q` alone mean anything.
#[derive(Clone, Copy)]
struct Field {
    q: __m512i,
    two_q: __m512i,
    /// `2^52 - q`.
    minus_q: __m512i,
    mask: __m512i,
    /// `floor(2^52 / q)`.
    word_ratio: __m512i,
    /// `floor(2^(51 + bits) / q)`.
    ratio: __m512i,
    /// `52 - bits`.
    shift: __m512i,
}

impl Field {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        Self {
            q: splat(q.value()),
            two_q: splat(2 * q.value()),
            minus_q: splat((1u64 << 52).wrapping_sub(q.value())),
            mask: splat(MASK),
            word_ratio: splat(q.word_ratio() >> 12),
            ratio: splat(q.ratio() >> 12),
            shift: splat(u64::from(52u32.saturating_sub(q.bits()))),
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

/// `a = a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn mul_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let field = Field::new(q);
    let (a, b) = zip(a, b, |x, y| field.settle(field.mul_lazy(x, y)));
    scalar::mul_assign(q, a, b);
}

/// `out = a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn mul(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    let field = Field::new(q);
    let (out, a, b) = zip3(out, a, b, |_, x, y| field.settle(field.mul_lazy(x, y)));
    scalar::mul(q, out, a, b);
}

/// `acc += a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn mul_add_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    let field = Field::new(q);
    let (acc, a, b) = zip3(acc, a, b, |sum, x, y| {
        field.settle(_mm512_add_epi64(sum, field.mul_lazy(x, y)))
    });
    scalar::mul_add_assign(q, acc, a, b);
}

/// `acc -= a b`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn mul_sub_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    let field = Field::new(q);
    let (acc, a, b) = zip3(acc, a, b, |sum, x, y| {
        field.sub(sum, field.settle(field.mul_lazy(x, y)))
    });
    scalar::mul_sub_assign(q, acc, a, b);
}

/// `a = a w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn scale_assign(q: &Modulus, a: &mut [u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::new(w));
    let rest = map(a, |x| reduce_once(field.scale_lazy(x, factor), field.q));
    scalar::scale_assign(q, rest, w);
}

/// `a = (a - b) w`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn sub_scale_assign(q: &Modulus, a: &mut [u64], b: &[u64], w: Shoup) {
    let (field, factor) = (Field::new(q), Factor::new(w));
    let (a, b) = zip(a, b, |x, y| {
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, field.q), y);
        reduce_once(field.scale_lazy(difference, factor), field.q)
    });
    scalar::sub_scale_assign(q, a, b, w);
}

/// `out = [a] mod to`, centred; both moduli are below `2^50`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn centred_to(from: &Modulus, to: &Modulus, out: &mut [u64], a: &[u64]) {
    let field = Field::new(to);
    let half = splat(from.value() / 2);
    let minus_from = splat(to.neg(to.reduce(from.value())));
    let (out, a) = map_to(out, a, |x| {
        let upper = _mm512_cmpgt_epu64_mask(x, half);
        let residue = field.reduce_lazy(x);
        field.settle(_mm512_mask_add_epi64(residue, upper, residue, minus_from))
    });
    scalar::centred_to(from, to, out, a);
}

/// Terms whose halves of 52 bits fit in one word beside a residue, with room to spare.
const DOT_ROOM: usize = 1 << 11;

/// `acc += sum_t a_t b_t`: the halves of the products are summed apart, and reduced once.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn dot_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], &[u64])]) {
    let sums = Sums::new(q);
    let whole = acc.len() / 64 * 64;
    for terms in terms.chunks(DOT_ROOM) {
        let (body, end) = acc.split_at_mut(whole);
        let (body, _) = body.as_chunks_mut();
        sums.add::<8>(body, 0, terms);
        let (registers, _) = end.as_chunks_mut();
        sums.add::<1>(registers, whole / 8, terms);
    }
    let vectors = acc.len() / 8 * 8;
    for (a, b) in terms {
        scalar::mul_add_assign(q, &mut acc[vectors..], &a[vectors..], &b[vectors..]);
    }
}

/// `acc += sum_t w_t a_t`, as [`dot_add_assign`] with one word in the place of a row.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(super) fn weigh_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], u64)]) {
    let sums = Sums::new(q);
    let whole = acc.len() / 64 * 64;
    for terms in terms.chunks(DOT_ROOM) {
        let (body, end) = acc.split_at_mut(whole);
        let (body, _) = body.as_chunks_mut();
        sums.weigh::<8>(body, 0, terms);
        let (registers, _) = end.as_chunks_mut();
        sums.weigh::<1>(registers, whole / 8, terms);
    }
    let vectors = acc.len() / 8 * 8;
    for (a, w) in terms {
        for (x, &y) in acc[vectors..].iter_mut().zip(&a[vectors..]) {
            *x = q.mul_add(*x, y, *w);
        }
    }
}

/// The reduction of a sum of products: `low + 2^52 high`.
struct Sums {
    field: Field,
    four_q: __m512i,
    /// `2^52`.
    word: Factor,
    /// `2^104`.
    square: Factor,
}

impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        let word = q.reduce(1 << 52);
        Self {
            field: Field::new(q),
            four_q: splat(4 * q.value()),
            word: Factor::new(q.shoup(word)),
            square: Factor::new(q.shoup(q.mul(word, word))),
        }
    }

    /// At most [`DOT_ROOM`] terms, `V` registers at a time; register `i` of `acc` belongs to
    /// register `first + i` of the terms.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn add<const V: usize>(&self, acc: &mut [Lanes], first: usize, terms: &[(&[u64], &[u64])]) {
        for (i, block) in acc.chunks_exact_mut(V).enumerate() {
            let (from, to) = ((first + i * V) * 8, (first + (i + 1) * V) * 8);
            let mut low = [_mm512_setzero_si512(); V];
            let mut top = [_mm512_setzero_si512(); V];
            for (sum, x) in low.iter_mut().zip(block.iter()) {
                *sum = load(x);
            }
            for (a, b) in terms {
                let ((a, _), (b, _)) = (a[from..to].as_chunks(), b[from..to].as_chunks());
                for (k, (a, b)) in a.iter().zip(b).enumerate().take(V) {
                    let (x, y) = (load(a), load(b));
                    low[k] = add_low(low[k], x, y);
                    top[k] = _mm512_madd52hi_epu64(top[k], x, y);
                }
            }
            for ((x, &low), &top) in block.iter_mut().zip(&low).zip(&top) {
                store(x, self.reduce(low, top));
            }
        }
    }

    /// As [`Self::add`] with one word for each term.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn weigh<const V: usize>(&self, acc: &mut [Lanes], first: usize, terms: &[(&[u64], u64)]) {
        for (i, block) in acc.chunks_exact_mut(V).enumerate() {
            let (from, to) = ((first + i * V) * 8, (first + (i + 1) * V) * 8);
            let mut low = [_mm512_setzero_si512(); V];
            let mut top = [_mm512_setzero_si512(); V];
            for (sum, x) in low.iter_mut().zip(block.iter()) {
                *sum = load(x);
            }
            for (a, w) in terms {
                let ((a, _), w) = (a[from..to].as_chunks(), splat(*w));
                for (k, a) in a.iter().enumerate().take(V) {
                    let x = load(a);
                    low[k] = add_low(low[k], x, w);
                    top[k] = _mm512_madd52hi_epu64(top[k], x, w);
                }
            }
            for ((x, &low), &top) in block.iter_mut().zip(&low).zip(&top) {
                store(x, self.reduce(low, top));
            }
        }
    }

    /// `low < 2^64`, `top < 2^60`: three terms below `2q` each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce(&self, low: __m512i, top: __m512i) -> __m512i {
        let top = _mm512_add_epi64(top, _mm512_srli_epi64::<52>(low));
        let field = &self.field;
        let square = field.scale_lazy(_mm512_srli_epi64::<52>(top), self.square);
        let word = field.scale_lazy(top, self.word);
        let sum = _mm512_add_epi64(_mm512_add_epi64(square, word), field.reduce_lazy(low));
        field.settle(reduce_once(sum, self.four_q))
    }
}
