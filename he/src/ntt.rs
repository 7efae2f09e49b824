//! The negacyclic number-theoretic transform.
//!
//! Sits above the row kernels. [`NttTable::forward`] evaluates a polynomial of
//! `Z_q[Y]/(Y^N + 1)` at the odd powers of a primitive `2N`-th root of unity, in bit-reversed
//! order; [`NttTable::inverse`] interpolates. Between the two, products are entry by entry. Rows
//! hold `N` canonical residues on entry and on return. The instruction stream does not depend on
//! the data. Where the modulus is below `2^50` the same network runs in vectors, of 52-bit products or
//! of doubles as the processor allows (see [`crate::simd`]); the words are the same.
//!
//! Sources: the merged negacyclic transform of Longa and Naehrig (*Speeding up the number
//! theoretic transform for faster ideal lattice-based cryptography*, ePrint 2016/504, algorithms 1
//! and 2) with the lazy butterflies of Harvey (arXiv:1205.2926v2, algorithms 2 and 3).
//! [`reference`](mod@reference) holds the slow twin.
//!
//! ```
//! use sphinx_he::{ntt::NttTable, zq::Modulus};
//! let q = Modulus::new(97)?;
//! let table = NttTable::new(q, 3)?;
//! let mut row = [0, 0, 0, 0, 1, 0, 0, 0]; // Y^4
//! table.forward(&mut row);
//! for x in &mut row { *x = q.mul(*x, *x); }
//! table.inverse(&mut row);
//! assert_eq!(row, [96, 0, 0, 0, 0, 0, 0, 0]); // Y^8 = -1
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

pub mod reference;
mod table;

pub use table::NttTable;

use crate::simd::Kernels;
use crate::zq::{Modulus, Shoup, reduce_once};

/// Harvey's forward butterfly: `x < 4q`, any `y`; both results below `4q`.
#[inline(always)]
fn forward_butterfly(q: &Modulus, x: u64, y: u64, w: Shoup) -> (u64, u64) {
    let two_q = 2 * q.value();
    let x = reduce_once(x, two_q);
    let t = q.mul_shoup_lazy(y, w);
    (x.wrapping_add(t), x.wrapping_sub(t).wrapping_add(two_q))
}

/// Harvey's inverse butterfly: `x, y < 2q`; both results below `2q`.
#[inline(always)]
fn inverse_butterfly(q: &Modulus, x: u64, y: u64, w: Shoup) -> (u64, u64) {
    let two_q = 2 * q.value();
    let sum = reduce_once(x.wrapping_add(y), two_q);
    (
        sum,
        q.mul_shoup_lazy(x.wrapping_sub(y).wrapping_add(two_q), w),
    )
}

impl NttTable {
    /// Coefficients to evaluations, in place; `row` has `N` canonical residues.
    ///
    /// Cost: `N/2 log2 N` butterflies, two layers to a pass, or three in vectors.
    pub fn forward(&self, row: &mut [u64]) {
        self.forward_with(Kernels::active(), row);
    }

    /// As [`Self::forward`], by these kernels.
    pub fn forward_with(&self, kernels: Kernels, row: &mut [u64]) {
        debug_assert_eq!(row.len(), self.degree());
        #[cfg(target_arch = "x86_64")]
        if let Some(roots) = self.vector_roots(kernels) {
            return roots.forward(row);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(roots) = self.double_roots(kernels) {
            return roots.forward(row);
        }
        let _ = kernels;
        self.forward_scalar(row);
    }

    /// As [`Self::forward_with`], but leaves lazy residues: any representative below `2^52` where
    /// the modulus has at most 50 bits, the canonical one otherwise. What follows must be a kernel
    /// that takes them ([`Kernels::dot_pair`], [`Kernels::sub_scale`]).
    pub fn forward_lazy_with(&self, kernels: Kernels, row: &mut [u64]) {
        debug_assert_eq!(row.len(), self.degree());
        #[cfg(target_arch = "x86_64")]
        if let Some(roots) = self.vector_roots(kernels) {
            return roots.forward_lazy(row);
        }
        self.forward_with(kernels, row);
    }

    fn forward_scalar(&self, row: &mut [u64]) {
        let q = self.modulus();
        let (mut blocks, mut half) = (1, row.len() / 2);
        if !self.log_n().is_multiple_of(2) {
            self.forward_layer(row, blocks, half);
            (blocks, half) = (2, half / 2);
        }
        while half >= 2 {
            self.forward_pair(row, blocks, half / 2);
            (blocks, half) = (4 * blocks, half / 4);
        }
        for x in row {
            *x = reduce_once(reduce_once(*x, 2 * q.value()), q.value());
        }
    }

    /// One layer: `blocks` blocks of `2 half` entries.
    fn forward_layer(&self, row: &mut [u64], blocks: usize, half: usize) {
        let q = self.modulus();
        let roots = &self.forward_roots()[blocks..2 * blocks];
        for (block, &w) in row.chunks_exact_mut(2 * half).zip(roots) {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                (*x, *y) = forward_butterfly(&q, *x, *y, w);
            }
        }
    }

    /// Two layers in one pass over memory: `blocks` blocks of four quarters.
    fn forward_pair(&self, row: &mut [u64], blocks: usize, quarter: usize) {
        let q = self.modulus();
        let roots = self.forward_roots();
        let outer = &roots[blocks..2 * blocks];
        let inner = roots[2 * blocks..4 * blocks].chunks_exact(2);
        for ((block, &w), pair) in row.chunks_exact_mut(4 * quarter).zip(outer).zip(inner) {
            let (u, v) = (pair[0], pair[1]);
            let (low, high) = block.split_at_mut(2 * quarter);
            let (a, b) = low.split_at_mut(quarter);
            let (c, d) = high.split_at_mut(quarter);
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (a1, c1) = forward_butterfly(&q, *a, *c, w);
                let (b1, d1) = forward_butterfly(&q, *b, *d, w);
                (*a, *b) = forward_butterfly(&q, a1, b1, u);
                (*c, *d) = forward_butterfly(&q, c1, d1, v);
            }
        }
    }

    /// Evaluations to coefficients, in place; `row` has `N` canonical residues.
    ///
    /// The factor `1/N` is folded into the last layer. Cost as [`Self::forward`].
    pub fn inverse(&self, row: &mut [u64]) {
        self.inverse_with(Kernels::active(), row);
    }

    /// As [`Self::inverse`], by these kernels.
    pub fn inverse_with(&self, kernels: Kernels, row: &mut [u64]) {
        debug_assert_eq!(row.len(), self.degree());
        #[cfg(target_arch = "x86_64")]
        if let Some(roots) = self.vector_roots(kernels) {
            return roots.inverse(row);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(roots) = self.double_roots(kernels) {
            return roots.inverse(row);
        }
        let _ = kernels;
        self.inverse_scalar(row);
    }

    fn inverse_scalar(&self, row: &mut [u64]) {
        let (mut blocks, mut half) = (row.len() / 2, 1);
        if self.log_n().is_multiple_of(2) {
            self.inverse_layer(row, blocks, half);
            (blocks, half) = (blocks / 2, 2);
        }
        while blocks >= 4 {
            self.inverse_pair(row, blocks / 2, half);
            (blocks, half) = (blocks / 4, 4 * half);
        }
        self.inverse_last(row, half);
    }

    /// One layer: `blocks` blocks of `2 half` entries.
    fn inverse_layer(&self, row: &mut [u64], blocks: usize, half: usize) {
        let q = self.modulus();
        let roots = &self.inverse_roots()[blocks..2 * blocks];
        for (block, &w) in row.chunks_exact_mut(2 * half).zip(roots) {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                (*x, *y) = inverse_butterfly(&q, *x, *y, w);
            }
        }
    }

    /// Two layers in one pass: `blocks` blocks of four quarters.
    fn inverse_pair(&self, row: &mut [u64], blocks: usize, quarter: usize) {
        let q = self.modulus();
        let roots = self.inverse_roots();
        let outer = &roots[blocks..2 * blocks];
        let inner = roots[2 * blocks..4 * blocks].chunks_exact(2);
        for ((block, &w), pair) in row.chunks_exact_mut(4 * quarter).zip(outer).zip(inner) {
            let (u, v) = (pair[0], pair[1]);
            let (low, high) = block.split_at_mut(2 * quarter);
            let (a, b) = low.split_at_mut(quarter);
            let (c, d) = high.split_at_mut(quarter);
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (a1, b1) = inverse_butterfly(&q, *a, *b, u);
                let (c1, d1) = inverse_butterfly(&q, *c, *d, v);
                (*a, *c) = inverse_butterfly(&q, a1, c1, w);
                (*b, *d) = inverse_butterfly(&q, b1, d1, w);
            }
        }
    }

    /// The last layer with `1/N` and the final reduction.
    fn inverse_last(&self, row: &mut [u64], half: usize) {
        let q = self.modulus();
        let (scale, scaled_root) = self.last_layer();
        let (low, high) = row.split_at_mut(half);
        for (x, y) in low.iter_mut().zip(high) {
            let sum = x.wrapping_add(*y);
            let difference = x.wrapping_sub(*y).wrapping_add(2 * q.value());
            *x = q.mul_shoup(sum, scale);
            *y = q.mul_shoup(difference, scaled_root);
        }
    }
}

#[cfg(test)]
mod tests;
