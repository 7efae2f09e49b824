//! Layers through memory: `2^K` registers are loaded, go through `K` layers, and are stored.

use std::arch::x86_64::*;

use super::Root;
use crate::simd::avx512::{Factor, Field, Lanes, load, reduce_once, splat, store};
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
        for (w, &[value, quotient]) in out[width..].iter_mut().zip(from) {
            *w = Factor {
                value: splat(value),
                quotient: splat(quotient),
            };
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
    pub(super) fn forward_pass<const NARROW: bool>(
        &self,
        layers: u32,
        part: &mut [Lanes],
        roots: &[Root],
        node: usize,
    ) {
        match layers {
            1 => self.forward_pass_of::<2, 4, NARROW>(part, roots, node),
            2 => self.forward_pass_of::<4, 4, NARROW>(part, roots, node),
            _ => self.forward_pass_of::<8, 2, NARROW>(part, roots, node),
        }
    }

    /// `U` columns of `W` registers at a time.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_pass_of<const W: usize, const U: usize, const NARROW: bool>(
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
                self.forward_layer::<W, U, NARROW>(&mut x, [&w; U], W >> (layer + 1));
            }
            for i in 0..W {
                for u in 0..U {
                    store(&mut rows[i][j][u], x[u][i]);
                }
            }
        }
    }

    /// The last `layers` layers of a part, one to three. Narrow: values below `4q`, again below `4q`
    /// after it. Where `LAST`, with the factors of the last layer and the final reduction.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn inverse_pass<const NARROW: bool, const LAST: bool>(
        &self,
        layers: u32,
        part: &mut [Lanes],
        roots: &[Root],
        node: usize,
        last: [Shoup; 2],
    ) {
        match layers {
            1 => self.inverse_pass_of::<2, 4, NARROW, LAST>(part, roots, node, last),
            2 => self.inverse_pass_of::<4, 4, NARROW, LAST>(part, roots, node, last),
            _ => self.inverse_pass_of::<8, 2, NARROW, LAST>(part, roots, node, last),
        }
    }

    /// `U` columns of `W` registers at a time; where `LAST`, with the factors of the last layer.
    ///
    /// Narrow: at the end those registers are reduced that went through sums alone in the last two
    /// layers, or in the only one.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_pass_of<const W: usize, const U: usize, const NARROW: bool, const LAST: bool>(
        &self,
        part: &mut [Lanes],
        roots: &[Root],
        node: usize,
        last: [Shoup; 2],
    ) {
        let w = roots_below::<W>(roots, node);
        let last = [Factor::new(last[0]), Factor::new(last[1])];
        let [_, _, bounds @ ..] = self.bounds::<NARROW>();
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
            for layer in 0..W.trailing_zeros() - u32::from(LAST) {
                let bound = bounds[layer as usize];
                self.inverse_layer::<W, U, NARROW>(&mut x, [&w; U], 1 << layer, bound);
            }
            if LAST {
                let bound = bounds[W.trailing_zeros() as usize - 1];
                self.inverse_end(&mut x, bound, last);
            } else {
                self.reduce_some::<W, U, NARROW>(&mut x, W.div_ceil(4));
            }
            for i in 0..W {
                for u in 0..U {
                    store(&mut rows[i][j][u], x[u][i]);
                }
            }
        }
    }

    /// The last layer of all on values below `bound`, with `1/N` and the final reduction.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_end<const W: usize, const U: usize>(
        &self,
        x: &mut [[__m512i; W]; U],
        bound: __m512i,
        [scale, scaled_root]: [Factor; 2],
    ) {
        for x in x {
            for i in 0..W / 2 {
                let (a, b) = (x[i], x[i + W / 2]);
                let sum = _mm512_add_epi64(a, b);
                let difference = _mm512_sub_epi64(_mm512_add_epi64(a, bound), b);
                x[i] = reduce_once(self.scale_lazy(sum, scale), self.q);
                x[i + W / 2] = reduce_once(self.scale_lazy(difference, scaled_root), self.q);
            }
        }
    }
}
