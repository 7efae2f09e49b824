//! The negacyclic transform with 52-bit products.
//!
//! The same network and the same order as [`crate::ntt`]: three layers to a pass, eight registers
//! at a time, and the three innermost layers on two registers whose lanes are shuffled. Two ways
//! to keep values below `2^52`:
//!
//! - *narrow*, `(2 log2 N + 1) q <= 2^52` and `q < 2^47`: nothing is reduced between the layers of
//!   the forward transform, whose values grow by `2q` a layer; the inverse, whose sums double,
//!   reduces them once a pass of three layers (from below `16q`). Bits above 52 are not masked off:
//!   products do not see them, and neither sums nor differences carry downwards.
//! - *wide*, `q < 2^50`: Harvey's butterflies, values below `4q` forward and `2q` inverse.

use std::arch::x86_64::*;

use super::{Factor, Field, Lanes, MAX_BITS, add_low, high, load, reduce_once, splat, store};
use crate::zq::{Modulus, Shoup};

/// Roots of the three innermost layers (distances 4, 2, 1) for two registers: factors, quotients.
type Tail = [[Lanes; 2]; 3];

/// The roots of one direction.
#[derive(Clone, Debug)]
struct Direction {
    /// Factors and quotients in the order of [`crate::ntt::NttTable`].
    roots: Vec<[u64; 2]>,
    tails: Vec<Tail>,
}

/// The tables of one modulus and degree. There is one only where the processor has the
/// instructions.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    modulus: Modulus,
    narrow: bool,
    forward: Direction,
    inverse: Direction,
    /// `1/N` and `1/N` times the root of the last inverse layer.
    last: (Shoup, Shoup),
}

impl Direction {
    fn new(roots: &[Shoup]) -> Self {
        let n = roots.len();
        // the root of each lane, as the shuffles below arrange the blocks of a layer
        let lanes: [(usize, Lanes); 3] = [
            (n / 8, [0, 0, 0, 0, 1, 1, 1, 1]),
            (n / 4, [0, 0, 2, 2, 1, 1, 3, 3]),
            (n / 2, [0, 1, 4, 5, 2, 3, 6, 7]),
        ];
        let tail = |group: usize| {
            lanes.map(|(blocks, lanes)| {
                let first = blocks + group * (blocks / (n / 16));
                let of = |lane: u64| roots[first + lane as usize];
                [
                    lanes.map(|lane| of(lane).value),
                    lanes.map(|lane| of(lane).quotient >> 12),
                ]
            })
        };
        Self {
            roots: roots.iter().map(|w| [w.value, w.quotient >> 12]).collect(),
            tails: (0..n / 16).map(tail).collect(),
        }
    }
}

impl Roots {
    /// Tables for these roots, as [`crate::ntt::NttTable`] orders them; none where the processor
    /// lacks the instructions, the modulus is too large or `N < 16`.
    pub(crate) fn new(
        modulus: Modulus,
        forward: &[Shoup],
        inverse: &[Shoup],
        last: (Shoup, Shoup),
    ) -> Option<Self> {
        let n = forward.len();
        if !super::available() || modulus.bits() > MAX_BITS || n < 16 {
            return None;
        }
        let growth = 2 * u64::from(n.trailing_zeros()) + 1;
        Some(Self {
            modulus,
            narrow: modulus.bits() <= 47 && growth * modulus.value() <= 1 << 52,
            forward: Direction::new(forward),
            inverse: Direction::new(inverse),
            last,
        })
    }

    /// Coefficients to evaluations.
    pub(crate) fn forward(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that both functions require
        unsafe {
            if self.narrow {
                self.forward_as::<true>(row);
            } else {
                self.forward_as::<false>(row);
            }
        }
    }

    /// Evaluations to coefficients.
    pub(crate) fn inverse(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that both functions require
        unsafe {
            if self.narrow {
                self.inverse_as::<true>(row);
            } else {
                self.inverse_as::<false>(row);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_as<const NARROW: bool>(&self, row: &mut [u64]) {
        let (row, _) = row.as_chunks_mut();
        let (field, roots) = (Field::new(&self.modulus), &self.forward.roots);
        let mut blocks = 1;
        match row.len().trailing_zeros() % 3 {
            1 => {
                field.forward_pass::<1, 2, NARROW>(row, roots, blocks);
                blocks = 2;
            }
            2 => {
                field.forward_pass::<2, 4, NARROW>(row, roots, blocks);
                blocks = 4;
            }
            _ => {}
        }
        while blocks < row.len() {
            field.forward_pass::<3, 8, NARROW>(row, roots, blocks);
            blocks *= 8;
        }
        field.forward_tail::<NARROW>(row, &self.forward.tails);
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_as<const NARROW: bool>(&self, row: &mut [u64]) {
        let (row, _) = row.as_chunks_mut();
        let (field, roots) = (Field::new(&self.modulus), &self.inverse.roots);
        field.inverse_tail::<NARROW>(row, &self.inverse.tails);
        let mut blocks = row.len();
        while blocks > 8 {
            blocks /= 8;
            field.inverse_pass::<3, 8, NARROW>(row, roots, blocks, None);
        }
        let last = Some((Factor::new(self.last.0), Factor::new(self.last.1)));
        match blocks {
            2 => field.inverse_pass::<1, 2, NARROW>(row, roots, 1, last),
            4 => field.inverse_pass::<2, 4, NARROW>(row, roots, 1, last),
            _ => field.inverse_pass::<3, 8, NARROW>(row, roots, 1, last),
        }
    }
}

/// The roots of `W` interleaved blocks: entry `2^l + b` is that of block `b` in layer `l`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn pass_roots<const K: usize, const W: usize>(roots: &[[u64; 2]], block: usize) -> [Factor; W] {
    let zero = _mm512_setzero_si512();
    let mut out = [Factor {
        value: zero,
        quotient: zero,
    }; W];
    for layer in 0..K {
        let width = 1 << layer;
        let from = &roots[block << layer..][..width];
        for (w, &[value, quotient]) in out[width..].iter_mut().zip(from) {
            *w = Factor {
                value: splat(value),
                quotient: splat(quotient),
            };
        }
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn tail_root(words: &[Lanes; 2]) -> Factor {
    Factor {
        value: load(&words[0]),
        quotient: load(&words[1]),
    }
}

/// Lanes of two registers, the second numbered from 8.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn pick(a: __m512i, b: __m512i, lanes: &Lanes) -> __m512i {
    _mm512_permutex2var_epi64(a, load(lanes), b)
}

impl Field {
    /// Narrow: both results are `2q` above `x` at most. Wide: `x, y < 4q`, results below `4q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_butterfly<const NARROW: bool>(
        &self,
        x: __m512i,
        y: __m512i,
        w: Factor,
    ) -> (__m512i, __m512i) {
        if NARROW {
            let estimate = high(y, w.quotient);
            let sum = add_low(add_low(x, y, w.value), estimate, self.minus_q);
            let twice = _mm512_add_epi64(x, _mm512_add_epi64(x, self.two_q));
            (sum, _mm512_sub_epi64(twice, sum))
        } else {
            let x = reduce_once(x, self.two_q);
            let t = self.scale_lazy(y, w);
            let difference = _mm512_sub_epi64(_mm512_add_epi64(x, self.two_q), t);
            (_mm512_add_epi64(x, t), difference)
        }
    }

    /// `x, y < bound`, a multiple of `q`: the sum, and the product of the difference below `2q`.
    /// Wide: `bound = 2q`, both results below.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_butterfly<const NARROW: bool>(
        &self,
        x: __m512i,
        y: __m512i,
        w: Factor,
        bound: __m512i,
    ) -> (__m512i, __m512i) {
        let sum = _mm512_add_epi64(x, y);
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, bound), y);
        if NARROW {
            let product = add_low(_mm512_setzero_si512(), difference, w.value);
            let estimate = high(difference, w.quotient);
            (sum, add_low(product, estimate, self.minus_q))
        } else {
            (reduce_once(sum, self.two_q), self.scale_lazy(difference, w))
        }
    }

    /// The bound on the values before layer `layer` of an inverse pass: they double, or stay.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn bounds<const NARROW: bool>(&self) -> [__m512i; 3] {
        let [two, four] = [self.two_q, _mm512_add_epi64(self.two_q, self.two_q)];
        if NARROW {
            [two, four, _mm512_add_epi64(four, four)]
        } else {
            [two; 3]
        }
    }

    /// `K` layers, the first of `blocks` blocks; `W = 2^K` registers at a time.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_pass<const K: usize, const W: usize, const NARROW: bool>(
        &self,
        row: &mut [Lanes],
        roots: &[[u64; 2]],
        blocks: usize,
    ) {
        let stride = row.len() / (blocks * W);
        for (block, part) in row.chunks_exact_mut(stride * W).enumerate() {
            let w = pass_roots::<K, W>(roots, blocks + block);
            for j in 0..stride {
                let mut x = [_mm512_setzero_si512(); W];
                for (i, x) in x.iter_mut().enumerate() {
                    *x = load(&part[i * stride + j]);
                }
                for layer in 0..K {
                    let half = W >> (layer + 1);
                    for pair in 0..W / 2 {
                        let (b, i) = (pair / half, pair % half);
                        let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                        let root = w[(1 << layer) + b];
                        (x[low], x[top]) = self.forward_butterfly::<NARROW>(x[low], x[top], root);
                    }
                }
                for (i, &x) in x.iter().enumerate() {
                    store(&mut part[i * stride + j], x);
                }
            }
        }
    }

    /// `K` layers, the last of `blocks` blocks; with `last`, the last of all, with `1/N`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_pass<const K: usize, const W: usize, const NARROW: bool>(
        &self,
        row: &mut [Lanes],
        roots: &[[u64; 2]],
        blocks: usize,
        last: Option<(Factor, Factor)>,
    ) {
        let stride = row.len() / (blocks * W);
        let bounds = self.bounds::<NARROW>();
        for (block, part) in row.chunks_exact_mut(stride * W).enumerate() {
            let w = pass_roots::<K, W>(roots, blocks + block);
            for j in 0..stride {
                let mut x = [_mm512_setzero_si512(); W];
                for (i, x) in x.iter_mut().enumerate() {
                    *x = load(&part[i * stride + j]);
                }
                for layer in 0..K - 1 {
                    let half = 1 << layer;
                    for pair in 0..W / 2 {
                        let (b, i) = (pair / half, pair % half);
                        let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                        let root = w[(W >> (layer + 1)) + b];
                        (x[low], x[top]) =
                            self.inverse_butterfly::<NARROW>(x[low], x[top], root, bounds[layer]);
                    }
                }
                for i in 0..W / 2 {
                    let pair = (x[i], x[i + W / 2]);
                    (x[i], x[i + W / 2]) =
                        self.inverse_end::<NARROW>(pair, w[1], bounds[K - 1], last);
                }
                for (i, &x) in x.iter().enumerate() {
                    store(&mut part[i * stride + j], x);
                }
            }
        }
    }

    /// The last layer of a pass: results below `2q`, or residues after the last layer of all.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_end<const NARROW: bool>(
        &self,
        (x, y): (__m512i, __m512i),
        w: Factor,
        bound: __m512i,
        last: Option<(Factor, Factor)>,
    ) -> (__m512i, __m512i) {
        if let Some((scale, scaled_root)) = last {
            let sum = _mm512_add_epi64(x, y);
            let difference = _mm512_sub_epi64(_mm512_add_epi64(x, bound), y);
            (
                reduce_once(self.scale_lazy(sum, scale), self.q),
                reduce_once(self.scale_lazy(difference, scaled_root), self.q),
            )
        } else {
            let (sum, product) = self.inverse_butterfly::<NARROW>(x, y, w, bound);
            (if NARROW { self.reduce_lazy(sum) } else { sum }, product)
        }
    }

    /// The layers of distance 4, 2 and 1 and the final reduction.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_tail<const NARROW: bool>(&self, row: &mut [Lanes], tails: &[Tail]) {
        let (pairs, _) = row.as_chunks_mut();
        for ([first, second], [w4, w2, w1]) in pairs.iter_mut().zip(tails) {
            let (a, b) = (load(first), load(second));
            let x = _mm512_shuffle_i64x2::<0x44>(a, b);
            let y = _mm512_shuffle_i64x2::<0xEE>(a, b);
            let (x, y) = self.forward_butterfly::<NARROW>(x, y, tail_root(w4));
            let low = _mm512_shuffle_i64x2::<0x88>(x, y);
            let top = _mm512_shuffle_i64x2::<0xDD>(x, y);
            let (x, y) = self.forward_butterfly::<NARROW>(low, top, tail_root(w2));
            let even = _mm512_unpacklo_epi64(x, y);
            let odd = _mm512_unpackhi_epi64(x, y);
            let (x, y) = self.forward_butterfly::<NARROW>(even, odd, tail_root(w1));
            let (x, y) = if NARROW {
                let (x, y) = (self.reduce_lazy(x), self.reduce_lazy(y));
                (reduce_once(x, self.q), reduce_once(y, self.q))
            } else {
                (self.settle(x), self.settle(y))
            };
            store(first, pick(x, y, &[0, 8, 1, 9, 4, 12, 5, 13]));
            store(second, pick(x, y, &[2, 10, 3, 11, 6, 14, 7, 15]));
        }
    }

    /// The layers of distance 1, 2 and 4 on residues; results below `2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_tail<const NARROW: bool>(&self, row: &mut [Lanes], tails: &[Tail]) {
        let (pairs, _) = row.as_chunks_mut();
        let [one, two, four] = self.bounds::<NARROW>();
        for ([first, second], [w4, w2, w1]) in pairs.iter_mut().zip(tails) {
            let (a, b) = (load(first), load(second));
            let x = pick(a, b, &[0, 2, 8, 10, 4, 6, 12, 14]);
            let y = pick(a, b, &[1, 3, 9, 11, 5, 7, 13, 15]);
            let (x, y) = self.inverse_butterfly::<NARROW>(x, y, tail_root(w1), one);
            let low = _mm512_unpacklo_epi64(x, y);
            let top = _mm512_unpackhi_epi64(x, y);
            let (x, y) = self.inverse_butterfly::<NARROW>(low, top, tail_root(w2), two);
            let low = pick(x, y, &[0, 1, 8, 9, 2, 3, 10, 11]);
            let top = pick(x, y, &[4, 5, 12, 13, 6, 7, 14, 15]);
            let (x, y) = self.inverse_end::<NARROW>((low, top), tail_root(w4), four, None);
            store(first, _mm512_shuffle_i64x2::<0x44>(x, y));
            store(second, _mm512_shuffle_i64x2::<0xEE>(x, y));
        }
    }
}
