//! Layers through memory: `2^K` registers are loaded, go through `K` layers, and are stored.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over indices unroll into registers, iterators over vectors do not"
)]

use std::arch::x86_64::*;

use super::inverse::{LEFT, RIGHT, Sides};
use super::{Kind, Root, root};
use crate::simd::avx512::{Factor, Field, Lanes, load, store};
use crate::zq::Shoup;

/// The roots of `W` registers below `node`: entry `2^l + b` is that of block `b` in layer `l`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn roots_below<const W: usize>(roots: &[Root], node: usize) -> [Factor; W] {
    let zero = _mm512_setzero_si512();
    let mut out = [Factor {
        value: zero,
        quotient: zero,
    }; W];
    for layer in 0..W.trailing_zeros() {
        let width = 1 << layer;
        let from = &roots[node << layer..][..width];
        for (w, &root) in out[width..].iter_mut().zip(from) {
            *w = Factor::from_root(root);
        }
    }
    out
}

/// `W` parts of equal length.
#[inline]
fn split<const W: usize, T>(part: &mut [T]) -> [&mut [T]; W] {
    let stride = part.len() / W;
    let mut parts = part.chunks_exact_mut(stride.max(1));
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

impl Field {
    /// The first `layers` layers of a part, one to three.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn forward_pass<const KIND: Kind>(
        &self,
        layers: u32,
        part: &mut [Lanes],
        roots: &[Root],
        node: usize,
    ) {
        match layers {
            1 => self.forward_pass_of::<2, 4, KIND>(part, roots, node),
            2 => self.forward_pass_of::<4, 4, KIND>(part, roots, node),
            _ => self.forward_pass_of::<8, 2, KIND>(part, roots, node),
        }
    }

    /// `U` columns of `W` registers at a time.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_pass_of<const W: usize, const U: usize, const KIND: Kind>(
        &self,
        part: &mut [Lanes],
        roots: &[Root],
        node: usize,
    ) {
        let w = roots_below::<W>(roots, node);
        let (part, _) = part.as_chunks_mut::<U>();
        let stride = part.len() / W;
        let rows = split::<W, _>(part);
        if rows.iter().any(|row| row.len() != stride) {
            return; // never: this tells the compiler that indices are in range
        }
        for j in 0..stride {
            let mut x = [[_mm512_setzero_si512(); W]; U];
            for i in 0..W {
                for u in 0..U {
                    x[u][i] = load(&rows[i][j][u]);
                }
            }
            for layer in 0..W.trailing_zeros() {
                let half = W >> (layer + 1);
                self.forward_layer::<W, U, KIND, false>(&mut x, [&w; U], half);
            }
            for i in 0..W {
                for u in 0..U {
                    store(&mut rows[i][j][u], x[u][i]);
                }
            }
        }
    }

    /// The last `layers` layers of a part, one to three. Where `LAST`, with the factors of the last
    /// layer and the final reduction.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_pass<const KIND: Kind, const LAST: bool>(
        &self,
        layers: u32,
        part: &mut [Lanes],
        roots: &[Root],
        node: usize,
        last: [Shoup; 2],
    ) {
        match (layers, node % 2) {
            (1, 0) => self.inverse_pass_of::<2, 4, KIND, LAST, LEFT>(part, roots, node, last),
            (2, 0) => self.inverse_pass_of::<4, 4, KIND, LAST, LEFT>(part, roots, node, last),
            (_, 0) => self.inverse_pass_of::<8, 1, KIND, LAST, LEFT>(part, roots, node, last),
            (1, _) => self.inverse_pass_of::<2, 4, KIND, LAST, RIGHT>(part, roots, node, last),
            (2, _) => self.inverse_pass_of::<4, 4, KIND, LAST, RIGHT>(part, roots, node, last),
            (_, _) => self.inverse_pass_of::<8, 1, KIND, LAST, RIGHT>(part, roots, node, last),
        }
    }

    /// `U` columns of `W` registers at a time; where `LAST`, with the
    /// factors of the last layer.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_pass_of<
        const W: usize,
        const U: usize,
        const KIND: Kind,
        const LAST: bool,
        const SIDE: Sides,
    >(
        &self,
        part: &mut [Lanes],
        roots: &[Root],
        node: usize,
        last: [Shoup; 2],
    ) {
        let w = roots_below::<W>(roots, node);
        let last = last.map(|w| Factor::from_root(root(KIND, &w)));
        let (part, _) = part.as_chunks_mut::<U>();
        let stride = part.len() / W;
        let rows = split::<W, _>(part);
        if rows.iter().any(|row| row.len() != stride) {
            return; // never: this tells the compiler that indices are in range
        }
        for j in 0..stride {
            let mut x = [[_mm512_setzero_si512(); W]; U];
            for i in 0..W {
                for u in 0..U {
                    x[u][i] = load(&rows[i][j][u]);
                }
            }
            if LAST {
                self.inverse_end::<W, U, KIND>(&mut x, &w, last);
            } else {
                self.inverse_layers::<W, U, KIND, false, SIDE>(&mut x, [&w; U]);
            }
            for i in 0..W {
                for u in 0..U {
                    store(&mut rows[i][j][u], x[u][i]);
                }
            }
        }
    }
}
