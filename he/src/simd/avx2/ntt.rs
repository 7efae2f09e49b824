//! The negacyclic transform in double precision, for moduli below `2^50`.
//!
//! AVX2 has no 64-bit product, but a fused multiply-add of doubles: `h = xw` rounded and
//! `l = xw - h` are the product exactly, and `h - bq + l` with `b = round(x (w/q))` is its residue.
//! All of these are integers below `2^53`, so nothing is lost (van der Hoeven, Lecerf and Quintin,
//! *Modular SIMD arithmetic in Mathemagix*, ACM TOMS 43, 2016, section 3.3).
//!
//! Values are signed. Factors are centred, so that the quotient of `|x| <= kq` is at most
//! `kq / 2` and its two roundings cost `k/8` at most: a product is below `(1/2 + k/8) q`. Forward, a
//! layer adds one product; the summands of every second pass are reduced below `q/2`, which keeps all
//! values below `4q` before the last two layers and `6q` after them. Inverse, values are below
//! `2q` before and after each pass of two layers, `8q <= 2^53` inside it: the sum of four is reduced,
//! the sum of two products is `2 (1/2 + 4/8)` at most.
//!
//! The two innermost layers work on 16 values at a time, between two transpositions; the others go
//! through memory two at a time, whole layers at once. The words are those of the scalar code.

use std::arch::x86_64::*;

use super::{Lanes, load, store};
use crate::zq::{Modulus, Shoup};

/// Largest modulus, in bits.
const MAX_BITS: u32 = 50;
/// Largest modulus, in bits, for which the forward transform reduces nothing: `2^53` is `64q`.
const FREE_BITS: u32 = 47;
/// Smallest degree: one block.
const MIN_DEGREE: usize = 16;

/// A centred factor and its quotient by the modulus.
type Root = [f64; 2];

/// The roots of the last two layers of a block: of the outer one, and of its two halves.
#[derive(Clone, Debug)]
struct BlockRoots([[[f64; 4]; 2]; 3]);

/// The roots of one direction.
#[derive(Clone, Debug)]
struct Direction {
    /// As [`crate::ntt::NttTable`] orders them.
    roots: Vec<Root>,
    blocks: Vec<BlockRoots>,
}

/// The tables of one modulus and degree. There is one only where the processor has the
/// instructions.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    modulus: Modulus,
    forward: Direction,
    inverse: Direction,
    /// `1/N` and `1/N` times the root of the last inverse layer.
    last: [Root; 2],
}

fn root(q: &Modulus, w: &Shoup) -> Root {
    let value = q.centre(w.value) as f64;
    [value, value / q.value() as f64]
}

impl Direction {
    fn new(q: &Modulus, roots: &[Shoup]) -> Self {
        let quarter = roots.len() / 4;
        let lanes = |node: [usize; 4]| {
            let roots = node.map(|i| root(q, &roots[i]));
            [0, 1].map(|half| roots.map(|root| root[half]))
        };
        let block = |i: usize| {
            let node = [0, 1, 2, 3].map(|lane| quarter + 4 * i + lane);
            let below = [0, 1].map(|half| lanes(node.map(|node| 2 * node + half)));
            BlockRoots([lanes(node), below[0], below[1]])
        };
        Self {
            roots: roots[..quarter].iter().map(|w| root(q, w)).collect(),
            blocks: (0..roots.len() / MIN_DEGREE).map(block).collect(),
        }
    }
}

impl Roots {
    /// Tables for these roots; none where the processor lacks the instructions, the modulus is too
    /// large or `N < 16`.
    pub(crate) fn new(
        modulus: Modulus,
        forward: &[Shoup],
        inverse: &[Shoup],
        last: [Shoup; 2],
    ) -> Option<Self> {
        if !super::available() || modulus.bits() > MAX_BITS || forward.len() < MIN_DEGREE {
            return None;
        }
        Some(Self {
            modulus,
            forward: Direction::new(&modulus, forward),
            inverse: Direction::new(&modulus, inverse),
            last: last.map(|w| root(&modulus, &w)),
        })
    }

    /// Coefficients to evaluations.
    pub(crate) fn forward(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that the function requires
        unsafe { self.forward_rows(row) }
    }

    /// Evaluations to coefficients.
    pub(crate) fn inverse(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that the function requires
        unsafe { self.inverse_rows(row) }
    }

    #[target_feature(enable = "avx2,fma")]
    fn forward_rows(&self, row: &mut [u64]) {
        let field = Field::new(&self.modulus);
        let (lanes, _) = row.as_chunks_mut();
        lanes.iter_mut().for_each(|x| store(x, from_words(load(x))));
        let (mut nodes, mut half) = (1, lanes.len() / 2);
        if !lanes.len().ilog2().is_multiple_of(2) {
            field.forward_layer(lanes, Factor::new(self.forward.roots[1]));
            (nodes, half) = (2, half / 2);
        }
        let mut reduce = false;
        while half >= 2 {
            let parts = lanes.chunks_exact_mut(2 * half);
            for (part, node) in parts.zip(nodes..) {
                let w = Factor::three(&self.forward.roots, node);
                if reduce {
                    field.forward_pair::<true>(part, w);
                } else {
                    field.forward_pair::<false>(part, w);
                }
            }
            (nodes, half) = (4 * nodes, half / 4);
            reduce = !reduce && self.modulus.bits() > FREE_BITS;
        }
        let (blocks, _) = lanes.as_chunks_mut();
        for (block, roots) in blocks.iter_mut().zip(&self.forward.blocks) {
            field.forward_block(block, roots);
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn inverse_rows(&self, row: &mut [u64]) {
        let field = Field::new(&self.modulus);
        let last = self.last.map(|w| Factor::new(w));
        let (lanes, _) = row.as_chunks_mut();
        let (blocks, _) = lanes.as_chunks_mut();
        for (block, roots) in blocks.iter_mut().zip(&self.inverse.blocks) {
            field.inverse_block(block, roots);
        }
        let (mut nodes, mut quarter) = (lanes.len() / 4, 1);
        while nodes > 1 {
            let parts = lanes.chunks_exact_mut(4 * quarter);
            for (part, node) in parts.zip(nodes..) {
                field.inverse_pair(part, Factor::three(&self.inverse.roots, node));
            }
            (nodes, quarter) = (nodes / 4, 4 * quarter);
        }
        if nodes == 1 {
            field.inverse_last_pair(lanes, Factor::three(&self.inverse.roots, 1), last);
        } else {
            field.inverse_last_layer(lanes, last);
        }
    }
}

/// Words below `2^52` as doubles.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn from_words(x: __m256d) -> __m256d {
    // 2^52 + x has x for its mantissa
    let two52 = _mm256_set1_pd((1u64 << 52) as f64);
    _mm256_sub_pd(_mm256_or_pd(x, two52), two52)
}

/// Whole numbers in `0..2^52` as words.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn to_words(x: __m256d) -> __m256d {
    let two52 = _mm256_set1_pd((1u64 << 52) as f64);
    _mm256_xor_pd(_mm256_add_pd(x, two52), two52)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn nearest(x: __m256d) -> __m256d {
    _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

/// Lane `j` of register `i` to lane `i` of register `j`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose([a, b, c, d]: [__m256d; 4]) -> [__m256d; 4] {
    let (e, f) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
    let (g, h) = (_mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d));
    [
        _mm256_permute2f128_pd::<0x20>(e, g),
        _mm256_permute2f128_pd::<0x20>(f, h),
        _mm256_permute2f128_pd::<0x31>(e, g),
        _mm256_permute2f128_pd::<0x31>(f, h),
    ]
}

/// A factor and its quotient by the modulus, in all lanes or one for each.
#[derive(Clone, Copy)]
struct Factor {
    value: __m256d,
    quotient: __m256d,
}

impl Factor {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new([value, quotient]: Root) -> Self {
        Self {
            value: _mm256_set1_pd(value),
            quotient: _mm256_set1_pd(quotient),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn lanes([v, u]: &[[f64; 4]; 2]) -> Self {
        Self {
            value: _mm256_set_pd(v[3], v[2], v[1], v[0]),
            quotient: _mm256_set_pd(u[3], u[2], u[1], u[0]),
        }
    }

    /// The roots of a node and of its halves.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn three(roots: &[Root], node: usize) -> [Self; 3] {
        [node, 2 * node, 2 * node + 1].map(|i| Self::new(roots[i]))
    }
}

/// The modulus and its inverse.
#[derive(Clone, Copy)]
struct Field {
    q: __m256d,
    inverse: __m256d,
}

impl Field {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(q: &Modulus) -> Self {
        Self {
            q: _mm256_set1_pd(q.value() as f64),
            inverse: _mm256_set1_pd(1.0 / q.value() as f64),
        }
    }

    /// `x w`, with the bound of the module's head.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn mul(&self, x: __m256d, w: Factor) -> __m256d {
        let h = _mm256_mul_pd(x, w.value);
        let l = _mm256_fmsub_pd(x, w.value, h);
        let b = nearest(_mm256_mul_pd(x, w.quotient));
        _mm256_add_pd(_mm256_fnmadd_pd(b, self.q, h), l)
    }

    /// To `-q/2..=q/2`.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn reduce(&self, x: __m256d) -> __m256d {
        _mm256_fnmadd_pd(nearest(_mm256_mul_pd(x, self.inverse)), self.q, x)
    }

    /// To the word of the residue.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn settle(&self, x: __m256d) -> __m256d {
        let x = self.reduce(x);
        let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(x, _mm256_setzero_pd());
        to_words(_mm256_add_pd(x, _mm256_and_pd(negative, self.q)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn forward(&self, x: __m256d, y: __m256d, w: Factor) -> (__m256d, __m256d) {
        let t = self.mul(y, w);
        (_mm256_add_pd(x, t), _mm256_sub_pd(x, t))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn inverse(&self, x: __m256d, y: __m256d, w: Factor) -> (__m256d, __m256d) {
        (_mm256_add_pd(x, y), self.mul(_mm256_sub_pd(x, y), w))
    }

    /// Two layers of four values.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn forward_four(&self, [a, b, c, d]: [__m256d; 4], [w, u, v]: [Factor; 3]) -> [__m256d; 4] {
        let (a, c) = self.forward(a, c, w);
        let (b, d) = self.forward(b, d, w);
        let ((a, b), (c, d)) = (self.forward(a, b, u), self.forward(c, d, v));
        [a, b, c, d]
    }

    /// Two layers of four values; their sum is reduced.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn inverse_four(&self, [a, b, c, d]: [__m256d; 4], [w, u, v]: [Factor; 3]) -> [__m256d; 4] {
        let ((a, b), (c, d)) = (self.inverse(a, b, u), self.inverse(c, d, v));
        let (a, c) = self.inverse(a, c, w);
        let (b, d) = self.inverse(b, d, w);
        [self.reduce(a), b, c, d]
    }

    /// The first layer of all.
    #[target_feature(enable = "avx2,fma")]
    fn forward_layer(&self, lanes: &mut [Lanes], w: Factor) {
        let (low, top) = lanes.split_at_mut(lanes.len() / 2);
        for (x, y) in low.iter_mut().zip(top) {
            let (sum, difference) = self.forward(load(x), load(y), w);
            store(x, sum);
            store(y, difference);
        }
    }

    /// Two layers of a part; where `REDUCE`, its lower half is reduced first.
    #[target_feature(enable = "avx2,fma")]
    fn forward_pair<const REDUCE: bool>(&self, part: &mut [Lanes], w: [Factor; 3]) {
        by_quarters(part, |[a, b, c, d]| {
            let lower = if REDUCE {
                [self.reduce(a), self.reduce(b)]
            } else {
                [a, b]
            };
            self.forward_four([lower[0], lower[1], c, d], w)
        });
    }

    /// Two layers of a part.
    #[target_feature(enable = "avx2,fma")]
    fn inverse_pair(&self, part: &mut [Lanes], w: [Factor; 3]) {
        by_quarters(part, |x| self.inverse_four(x, w));
    }

    /// The last two layers of all, with `1/N`.
    #[target_feature(enable = "avx2,fma")]
    fn inverse_last_pair(&self, lanes: &mut [Lanes], [_, u, v]: [Factor; 3], last: [Factor; 2]) {
        by_quarters(lanes, |[a, b, c, d]| {
            let ((x, y), (z, t)) = (self.inverse(a, b, u), self.inverse(c, d, v));
            let ([a, c], [b, d]) = (
                self.inverse_end([x, z], last),
                self.inverse_end([y, t], last),
            );
            [a, b, c, d]
        });
    }

    /// The last layer of all, with `1/N`.
    #[target_feature(enable = "avx2,fma")]
    fn inverse_last_layer(&self, lanes: &mut [Lanes], last: [Factor; 2]) {
        let (low, top) = lanes.split_at_mut(lanes.len() / 2);
        for (a, b) in low.iter_mut().zip(top) {
            let [x, y] = self.inverse_end([load(a), load(b)], last);
            store(a, x);
            store(b, y);
        }
    }

    /// Sum and difference times their factors, as words.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn inverse_end(&self, [x, y]: [__m256d; 2], [sum, difference]: [Factor; 2]) -> [__m256d; 2] {
        [
            self.settle(self.mul(_mm256_add_pd(x, y), sum)),
            self.settle(self.mul(_mm256_sub_pd(x, y), difference)),
        ]
    }

    /// The layers of distance 2 and 1, to words.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn forward_block(&self, block: &mut [Lanes; 4], roots: &BlockRoots) {
        within(block, roots, |x, w| {
            self.forward_four(x, w).map(|x| self.settle(x))
        });
    }

    /// The layers of distance 1 and 2, from words.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn inverse_block(&self, block: &mut [Lanes; 4], roots: &BlockRoots) {
        within(block, roots, |x, w| {
            self.inverse_four(x.map(|x| from_words(x)), w)
        });
    }
}

/// The four quarters of a part, a register of each at a time, through two layers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn by_quarters(part: &mut [Lanes], layers: impl Fn([__m256d; 4]) -> [__m256d; 4]) {
    let [a, b, c, d] = quarters(part);
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        let x = layers([load(a), load(b), load(c), load(d)]);
        store(a, x[0]);
        store(b, x[1]);
        store(c, x[2]);
        store(d, x[3]);
    }
}

/// Two layers within four values, which lie in one lane of four registers, and their roots.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn within(
    block: &mut [Lanes; 4],
    BlockRoots(roots): &BlockRoots,
    layers: impl Fn([__m256d; 4], [Factor; 3]) -> [__m256d; 4],
) {
    let x = transpose([0, 1, 2, 3].map(|i| load(&block[i])));
    let w = [0, 1, 2].map(|i| Factor::lanes(&roots[i]));
    for (words, x) in block.iter_mut().zip(transpose(layers(x, w))) {
        store(words, x);
    }
}

/// Four parts of equal length.
#[inline]
fn quarters(part: &mut [Lanes]) -> [&mut [Lanes]; 4] {
    let (low, top) = part.split_at_mut(part.len() / 2);
    let (a, b) = low.split_at_mut(low.len() / 2);
    let (c, d) = top.split_at_mut(top.len() / 2);
    [a, b, c, d]
}
