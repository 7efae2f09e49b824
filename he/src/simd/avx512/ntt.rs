//! The negacyclic transform with 52-bit products.
//!
//! The same network and the same order as [`crate::ntt`], in another schedule. The six innermost
//! layers work on blocks of 64 values held in eight registers ([`block`]); those before them go
//! through memory in passes of one to three layers ([`pass`]). The schedule is depth first: after a
//! pass each of its parts is finished before the next is begun, so what fits in a cache is
//! fetched into it once. Two ways to keep values below `2^52`:
//!
//! - *narrow*, `(2 log2 N + 1) q <= 2^52` and `q < 2^47`: nothing is reduced between the layers of
//!   the forward transform, whose values grow by `2q` a layer; the inverse, whose sums double,
//!   reduces those above `4q` at the end of a pass. Bits above 52 are not masked off: products do
//!   not see them, and neither sums nor differences carry downwards.
//! - *wide*, `q < 2^50`: Harvey's butterflies, values below `4q` forward and `2q` inverse.

use std::arch::x86_64::*;

use super::{Factor, Field, Lanes, MAX_BITS, add_low, high, reduce_once};
use crate::zq::{Modulus, Shoup};

mod block;
mod pass;

use block::BlockRoots;

/// log2 of the values of a block.
const LOG_BLOCK: u32 = 6;
/// log2 of the smallest degree: one layer before the blocks.
const MIN_LOG_N: u32 = LOG_BLOCK + 1;

/// The values of a block.
type Block = [Lanes; 8];
/// A root and its quotient.
type Root = [u64; 2];

/// The roots of one direction.
#[derive(Clone, Debug)]
struct Direction {
    /// Roots in the order of [`crate::ntt::NttTable`], up to the blocks.
    roots: Vec<Root>,
    blocks: Vec<BlockRoots>,
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
    last: [Shoup; 2],
}

impl Direction {
    fn new(roots: &[Shoup]) -> Self {
        let pair = |w: &Shoup| [w.value, w.quotient >> 12];
        let count = roots.len() >> LOG_BLOCK;
        Self {
            roots: roots[..count].iter().map(pair).collect(),
            blocks: (0..count).map(|i| BlockRoots::new(roots, i)).collect(),
        }
    }
}

/// Layers of the first of the passes that do `layers` layers: three in each, but two in the first
/// one or two where three do not divide them.
const fn first_pass(layers: u32) -> u32 {
    match layers {
        0..=3 => layers,
        _ if layers.is_multiple_of(3) => 3,
        _ => 2,
    }
}

impl Roots {
    /// Tables for these roots, as [`crate::ntt::NttTable`] orders them; none where the processor
    /// lacks the instructions, the modulus is too large or `N < 128`.
    pub(crate) fn new(
        modulus: Modulus,
        forward: &[Shoup],
        inverse: &[Shoup],
        last: [Shoup; 2],
    ) -> Option<Self> {
        let n = forward.len();
        if !super::available() || modulus.bits() > MAX_BITS || n < 1 << MIN_LOG_N {
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
                self.forward_as::<true, false>(row);
            } else {
                self.forward_as::<false, false>(row);
            }
        }
    }

    /// Coefficients to evaluations below `2^52`.
    pub(crate) fn forward_lazy(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that both functions require
        unsafe {
            if self.narrow {
                self.forward_as::<true, true>(row);
            } else {
                self.forward_as::<false, true>(row);
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
    fn forward_as<const NARROW: bool, const LAZY: bool>(&self, row: &mut [u64]) {
        let (blocks, _) = row.as_chunks_mut::<8>().0.as_chunks_mut();
        let field = Field::new(&self.modulus);
        field.forward_part::<NARROW, LAZY>(blocks, &self.forward, 1);
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_as<const NARROW: bool>(&self, row: &mut [u64]) {
        let (blocks, _) = row.as_chunks_mut::<8>().0.as_chunks_mut();
        let field = Field::new(&self.modulus);
        field.inverse_part::<NARROW, true>(blocks, &self.inverse, 1, self.last);
    }
}

impl Field {
    /// The layers from `node` on, which is the number of its root: that of its halves are
    /// `2 node` and `2 node + 1`.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_part<const NARROW: bool, const LAZY: bool>(
        &self,
        part: &mut [Block],
        tables: &Direction,
        node: usize,
    ) {
        let layers = first_pass(part.len().trailing_zeros());
        self.forward_pass::<NARROW>(layers, part.as_flattened_mut(), &tables.roots, node);
        let (node, count) = (node << layers, part.len() >> layers);
        if count > 1 {
            for (i, part) in part.chunks_exact_mut(count).enumerate() {
                self.forward_part::<NARROW, LAZY>(part, tables, node + i);
            }
        } else {
            let roots = &tables.blocks[node - tables.blocks.len()..];
            let (pairs, _) = part.as_chunks_mut();
            for (blocks, roots) in pairs.iter_mut().zip(roots.as_chunks().0) {
                self.forward_blocks::<NARROW, LAZY>(blocks, roots);
            }
        }
    }

    /// The layers up to `node`; values below `4q` narrow, `2q` wide, and residues where `LAST`.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_part<const NARROW: bool, const LAST: bool>(
        &self,
        part: &mut [Block],
        tables: &Direction,
        node: usize,
        last: [Shoup; 2],
    ) {
        let layers = first_pass(part.len().trailing_zeros());
        let (below, count) = (node << layers, part.len() >> layers);
        if count > 1 {
            for (i, part) in part.chunks_exact_mut(count).enumerate() {
                self.inverse_part::<NARROW, false>(part, tables, below + i, last);
            }
        } else {
            let roots = &tables.blocks[below - tables.blocks.len()..];
            let (pairs, _) = part.as_chunks_mut();
            for (blocks, roots) in pairs.iter_mut().zip(roots.as_chunks().0) {
                self.inverse_blocks::<NARROW>(blocks, roots);
            }
        }
        let part = part.as_flattened_mut();
        self.inverse_pass::<NARROW, LAST>(layers, part, &tables.roots, node, last);
    }

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
            let twice = _mm512_add_epi64(_mm512_add_epi64(x, x), self.two_q);
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

    /// One layer on `U` times `W` registers, of pairs at distance `half`: the root of block `b` of
    /// the layer with `c` blocks is `w[c + b]`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_layer<const W: usize, const U: usize, const NARROW: bool>(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
        half: usize,
    ) {
        for (x, w) in x.iter_mut().zip(w) {
            for pair in 0..W / 2 {
                let (b, i) = (pair / half, pair % half);
                let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                let root = w[W / (2 * half) + b];
                (x[low], x[top]) = self.forward_butterfly::<NARROW>(x[low], x[top], root);
            }
        }
    }

    /// As [`Self::forward_layer`], on values below `bound`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_layer<const W: usize, const U: usize, const NARROW: bool>(
        &self,
        x: &mut [[__m512i; W]; U],
        w: [&[Factor; W]; U],
        half: usize,
        bound: __m512i,
    ) {
        for (x, w) in x.iter_mut().zip(w) {
            for pair in 0..W / 2 {
                let (b, i) = (pair / half, pair % half);
                let (low, top) = (2 * b * half + i, (2 * b + 1) * half + i);
                let root = w[W / (2 * half) + b];
                (x[low], x[top]) = self.inverse_butterfly::<NARROW>(x[low], x[top], root, bound);
            }
        }
    }

    /// Bounds of values before a layer of the inverse: `q`, `2q` and so on to `16q`; wide, always
    /// `2q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn bounds<const NARROW: bool>(&self) -> [__m512i; 5] {
        if NARROW {
            [
                self.q,
                self.two_q,
                _mm512_slli_epi64::<2>(self.q),
                _mm512_slli_epi64::<3>(self.q),
                _mm512_slli_epi64::<4>(self.q),
            ]
        } else {
            [self.two_q; 5]
        }
    }

    /// Reduces the first `count` registers of each column below `2q`; wide they are.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce_some<const W: usize, const U: usize, const NARROW: bool>(
        &self,
        x: &mut [[__m512i; W]; U],
        count: usize,
    ) {
        if NARROW {
            for x in x {
                for x in &mut x[..count] {
                    *x = self.reduce_lazy(*x);
                }
            }
        }
    }
}
