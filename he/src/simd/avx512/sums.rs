//! Sums of products, in parts that are added up over all terms and reduced once.
//!
//! The instructions give halves of 52 bits, so that a sum of products is kept in two words, of weights
//! 1 and `2^52` ([`halves`]); words of up to 60 bits have a part above the 52 bits, and their products
//! a third word, of weight `2^104` ([`thirds`], [`mixed`]). What adds and reduces is a [`Way`]; the
//! inner products and changes of basis take any.

use std::arch::x86_64::*;

use super::{Factor, Field, Lanes, MAX_BITS, add_low, load, reduce_once, splat, store};
use crate::simd::scalar;
use crate::zq::Modulus;

/// Terms whose halves of 52 bits fit in one word beside a residue, with room to spare.
pub(super) const DOT_ROOM: usize = 1 << 11;

/// `acc += sum_t a_t b_t`: the halves of the products are summed apart, and reduced once.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn dot_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], &[u64])]) {
    let rest = Sums::new(q).add_all(acc, terms, registers, |b: &[Lanes], k| load(&b[k]));
    for (a, b) in terms {
        scalar::mul_add_assign(q, &mut acc[rest..], &a[rest..], &b[rest..]);
    }
}

/// `acc += sum_t w_t a_t`, as [`dot_add_assign`] with one word in the place of a row.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn weigh_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], u64)]) {
    let rest = Sums::new(q).add_all(acc, terms, |w, _, _| splat(w), |w, _| w);
    for (a, w) in terms {
        for (x, &y) in acc[rest..].iter_mut().zip(&a[rest..]) {
            *x = q.mul_add(*x, y, *w);
        }
    }
}

/// The registers of a row from a word on, for `count` words.
#[inline]
fn registers(row: &[u64], from: usize, count: usize) -> &[Lanes] {
    row[from..][..count].as_chunks().0
}

/// The reduction of a sum of products: `low + 2^52 high`.
pub(super) struct Sums {
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
    pub(super) fn new(q: &Modulus) -> Self {
        let word = q.reduce(1 << 52);
        Self {
            field: Field::new(q),
            four_q: splat(4 * q.value()),
            word: Factor::new(q.shoup(word)),
            square: Factor::new(q.shoup(q.mul(word, word))),
        }
    }

    /// `acc += sum_t a_t b_t` over whole registers; returns the words they hold. `part` gives what
    /// `at` needs of `b_t` from a word on, for a number of words: `at` its registers by index.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn add_all<B: Copy, P: Copy>(
        &self,
        acc: &mut [u64],
        terms: &[(&[u64], B)],
        part: impl Fn(B, usize, usize) -> P,
        at: impl Fn(P, usize) -> __m512i,
    ) -> usize {
        let whole = acc.len() / 64 * 64;
        for terms in terms.chunks(DOT_ROOM) {
            let (body, end) = acc.split_at_mut(whole);
            let (body, (registers, _)) = (body.as_chunks_mut().0, end.as_chunks_mut());
            self.add::<8, B, P>(body, 0, terms, &part, &at);
            self.add::<1, B, P>(registers, whole / 8, terms, &part, &at);
        }
        acc.len() / 8 * 8
    }

    /// At most [`DOT_ROOM`] terms, `V` registers at a time; register `i` of `acc` belongs to
    /// register `first + i` of the terms.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn add<const V: usize, B: Copy, P: Copy>(
        &self,
        acc: &mut [Lanes],
        first: usize,
        terms: &[(&[u64], B)],
        part: impl Fn(B, usize, usize) -> P,
        at: impl Fn(P, usize) -> __m512i,
    ) {
        for (i, block) in acc.chunks_exact_mut(V).enumerate() {
            let from = (first + i * V) * 8;
            let mut low = [_mm512_setzero_si512(); V];
            let mut top = [_mm512_setzero_si512(); V];
            for (sum, x) in low.iter_mut().zip(block.iter()) {
                *sum = load(x);
            }
            for (a, b) in terms {
                let ((a, _), b) = (a[from..][..8 * V].as_chunks(), part(*b, from, 8 * V));
                for (k, a) in a.iter().enumerate().take(V) {
                    let (x, y) = (load(a), at(b, k));
                    low[k] = add_low(low[k], x, y);
                    top[k] = _mm512_madd52hi_epu64(top[k], x, y);
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
    pub(super) fn reduce(&self, low: __m512i, top: __m512i) -> __m512i {
        let top = _mm512_add_epi64(top, _mm512_srli_epi64::<52>(low));
        let field = &self.field;
        let square = field.scale_lazy(_mm512_srli_epi64::<52>(top), self.square);
        let word = field.scale_lazy(top, self.word);
        let sum = _mm512_add_epi64(_mm512_add_epi64(square, word), field.reduce_lazy(low));
        field.settle(reduce_once(sum, self.four_q))
    }
}

/// Adds the product of two words to a sum of `K`.
trait Add<const K: usize>: Fn([__m512i; K], __m512i, __m512i) -> [__m512i; K] {}
impl<const K: usize, F: Fn([__m512i; K], __m512i, __m512i) -> [__m512i; K]> Add<K> for F {}

/// What a sum of `K` words is modulo the modulus.
trait Reduce<const K: usize>: Fn([__m512i; K]) -> __m512i {}
impl<const K: usize, F: Fn([__m512i; K]) -> __m512i> Reduce<K> for F {}

/// How sums of products are kept in `K` words.
struct Way<A, R> {
    /// Products that fit beside a residue.
    room: usize,
    add: A,
    reduce: R,
}

/// Two words; factors are below `2^52`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn halves(q: &Modulus) -> Way<impl Add<2>, impl Reduce<2>> {
    let sums = Sums::new(q);
    Way {
        room: DOT_ROOM,
        add: |[low, top]: [__m512i; 2], x: __m512i, y: __m512i| {
            [add_low(low, x, y), _mm512_madd52hi_epu64(top, x, y)]
        },
        reduce: move |[low, top]: [__m512i; 2]| sums.reduce(low, top),
    }
}

/// Adds the product of words below `2^60`; each part grows by less than `3 2^52`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn add_thirds([low, middle, top]: [__m512i; 3], x: __m512i, y: __m512i) -> [__m512i; 3] {
    let (x1, y1) = (_mm512_srli_epi64::<52>(x), _mm512_srli_epi64::<52>(y));
    let low = add_low(low, x, y);
    let middle = _mm512_madd52hi_epu64(middle, x, y);
    let middle = add_low(add_low(middle, x, y1), x1, y);
    let top = _mm512_madd52hi_epu64(top, x, y1);
    let top = _mm512_madd52hi_epu64(top, x1, y);
    [low, middle, add_low(top, x1, y1)]
}

/// Products whose three parts fit.
const THIRDS_ROOM: usize = 1 << 10;

/// Three words, modulo a long modulus.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn thirds(q: &Modulus) -> Way<impl Add<3>, impl Reduce<3>> {
    let (field, word) = (Field::new(q), q.reduce(1 << 52));
    let powers = [word, q.mul(word, word)].map(|x| Factor::long(q.shoup(x)));
    Way {
        room: THIRDS_ROOM,
        add: |sum, x, y| add_thirds(sum, x, y),
        // a term in 0..2q and twice 0..4q
        reduce: move |[low, middle, top]: [__m512i; 3]| {
            let sum = _mm512_add_epi64(
                field.scale_long(middle, powers[0]),
                field.scale_long(top, powers[1]),
            );
            let sum = _mm512_add_epi64(sum, field.reduce_lazy_long(low));
            field.settle_long(reduce_once(sum, _mm512_slli_epi64::<3>(field.q)))
        },
    }
}

/// Three words, modulo a modulus below `2^50`; the last is below `2^51`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn mixed(q: &Modulus) -> Way<impl Add<3>, impl Reduce<3>> {
    let (field, word) = (Field::new(q), q.reduce(1 << 52));
    let powers = [word, q.mul(word, word)].map(|x| Factor::new(q.shoup(x)));
    Way {
        room: THIRDS_ROOM,
        add: |sum, x, y| add_thirds(sum, x, y),
        // three terms in 0..2q
        reduce: move |[low, middle, top]: [__m512i; 3]| {
            let middle = _mm512_add_epi64(middle, _mm512_srli_epi64::<52>(low));
            let top = _mm512_add_epi64(top, _mm512_srli_epi64::<52>(middle));
            let sum = _mm512_add_epi64(
                field.scale_lazy(middle, powers[0]),
                field.scale_lazy(top, powers[1]),
            );
            field.settle_long(_mm512_add_epi64(sum, field.reduce_lazy(low)))
        },
    }
}

/// Digits and both halves of a key.
type Terms<'a> = [(&'a [u64], &'a [u64], &'a [u64])];

/// `out0 = sum_t d_t k_t`, `out1 = sum_t d_t l_t`; the `d` are below `2^52`, or residues of a long
/// modulus.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn dot_pair<const LONG: bool>(
    q: &Modulus,
    out0: &mut [u64],
    out1: &mut [u64],
    terms: &Terms<'_>,
) {
    let ((body0, rest0), (body1, rest1)) = (out0.as_chunks_mut(), out1.as_chunks_mut());
    let done = 8 * body0.len();
    if LONG {
        dot_pair_by::<2, 3>(&thirds(q), body0, body1, terms);
    } else {
        dot_pair_by::<4, 2>(&halves(q), body0, body1, terms);
    }
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

/// [`dot_pair`] for whole registers, `V` of each row at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn dot_pair_by<const V: usize, const K: usize>(
    way: &Way<impl Add<K>, impl Reduce<K>>,
    out0: &mut [Lanes],
    out1: &mut [Lanes],
    terms: &Terms<'_>,
) {
    let wide = out0.len() / V * V;
    let ((wide0, narrow0), (wide1, narrow1)) = (out0.split_at_mut(wide), out1.split_at_mut(wide));
    dot_blocks::<V, K>(way, wide0, wide1, 0, terms);
    dot_blocks::<1, K>(way, narrow0, narrow1, wide, terms);
}

/// Register `i` of the outputs belongs to register `first + i` of the terms.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn dot_blocks<const V: usize, const K: usize>(
    way: &Way<impl Add<K>, impl Reduce<K>>,
    out0: &mut [Lanes],
    out1: &mut [Lanes],
    first: usize,
    terms: &Terms<'_>,
) {
    let zero = [_mm512_setzero_si512(); K];
    let blocks = out0.chunks_exact_mut(V).zip(out1.chunks_exact_mut(V));
    for (i, (out0, out1)) in blocks.enumerate() {
        let (from, to) = ((first + i * V) * 8, (first + (i + 1) * V) * 8);
        let (mut sum0, mut sum1) = ([zero; V], [zero; V]);
        for (c, terms) in terms.chunks(way.room).enumerate() {
            if c > 0 {
                // the sums so far, as the start of the next
                for sum in sum0.iter_mut().chain(&mut sum1) {
                    let start = (way.reduce)(*sum);
                    *sum = zero;
                    sum[0] = start;
                }
            }
            for (d, k, l) in terms {
                let (d, _) = d[from..to].as_chunks();
                let ((k, _), (l, _)) = (k[from..to].as_chunks(), l[from..to].as_chunks());
                for (j, ((d, k), l)) in d.iter().zip(k).zip(l).enumerate().take(V) {
                    let d = load(d);
                    sum0[j] = (way.add)(sum0[j], d, load(k));
                    sum1[j] = (way.add)(sum1[j], d, load(l));
                }
            }
        }
        for ((out, sum0), (other, sum1)) in out0.iter_mut().zip(sum0).zip(out1.iter_mut().zip(sum1))
        {
            store(out, (way.reduce)(sum0));
            store(other, (way.reduce)(sum1));
        }
    }
}

/// `out = sum_i factors_i digits_i mod to`; digits are below `2^digit_bits`, 60 bits at most.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(in crate::simd) fn convert(
    to: &Modulus,
    out: &mut [u64],
    digits: &[u64],
    factors: &[u64],
    digit_bits: u32,
) {
    let n = out.len();
    let (body, rest) = out.as_chunks_mut();
    if to.bits() > MAX_BITS {
        convert_by::<2, 3>(&thirds(to), body, (digits, n), factors);
    } else if digit_bits > 52 {
        convert_by::<2, 3>(&mixed(to), body, (digits, n), factors);
    } else {
        convert_by::<8, 2>(&halves(to), body, (digits, n), factors);
    }
    for (x, i) in rest.iter_mut().zip(n - n % 8..) {
        let terms = digits.iter().skip(i).step_by(n).zip(factors);
        *x = terms.fold(0, |sum, (&x, &w)| to.mul_add(sum, to.reduce(x), w));
    }
}

/// [`convert`] for whole registers, `V` at a time; rows of digits have `n` words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn convert_by<const V: usize, const K: usize>(
    way: &Way<impl Add<K>, impl Reduce<K>>,
    out: &mut [Lanes],
    (digits, n): (&[u64], usize),
    factors: &[u64],
) {
    let wide = out.len() / V * V;
    let (wide_part, narrow_part) = out.split_at_mut(wide);
    convert_blocks::<V, K>(way, wide_part, 0, (digits, n), factors);
    convert_blocks::<1, K>(way, narrow_part, wide, (digits, n), factors);
}

/// Register `i` of the output belongs to register `first + i` of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn convert_blocks<const V: usize, const K: usize>(
    way: &Way<impl Add<K>, impl Reduce<K>>,
    out: &mut [Lanes],
    first: usize,
    (digits, n): (&[u64], usize),
    factors: &[u64],
) {
    for (i, out) in out.chunks_exact_mut(V).enumerate() {
        let from = (first + i * V) * 8;
        let mut sums = [[_mm512_setzero_si512(); K]; V];
        for (row, &factor) in digits.chunks_exact(n).zip(factors) {
            let (row, _) = row[from..from + 8 * V].as_chunks();
            let factor = splat(factor);
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum = (way.add)(*sum, load(x), factor);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            store(out, (way.reduce)(sum));
        }
    }
}
