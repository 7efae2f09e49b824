//! `W x` modulo 2^32, for inputs that are masked.
//!
//! A modulus `2^k` with `k <= 32` divides 2^32, so wrapping arithmetic is exact for it.

use pulp::NullaryFnOnce;
use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::{LinearKind, LinearShape};

use super::conv::runs;

/// `W x` of one sample, wrapping.
pub(crate) fn product(shape: &LinearShape, weights: &[i32], x: &[u32]) -> Vec<u32> {
    pulp::Arch::new().dispatch(Product { shape, weights, x })
}

struct Product<'a> {
    shape: &'a LinearShape,
    weights: &'a [i32],
    x: &'a [u32],
}

impl NullaryFnOnce for Product<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn call(self) -> Vec<u32> {
        match self.shape.kind {
            LinearKind::Dense => {
                let rows = self.weights.chunks_exact(self.shape.inputs);
                rows.map(|row| dot(row, self.x)).collect()
            }
            LinearKind::Conv(conv) => convolve(conv, self.weights, self.x),
        }
    }
}

#[inline(always)]
fn dot(weights: &[i32], x: &[u32]) -> u32 {
    let terms = weights.iter().zip(x);
    terms.fold(0, |sum, (&w, &x)| {
        sum.wrapping_add((w as u32).wrapping_mul(x))
    })
}

#[inline(always)]
fn convolve(conv: ConvShape, weights: &[i32], x: &[u32]) -> Vec<u32> {
    let positions = conv.positions();
    let mut patches = vec![0; conv.patch() * positions];
    runs(conv, |run| {
        let start = run.row * positions + run.position;
        let out = patches[start..start + run.length].iter_mut();
        for (out, &x) in out.zip(x[run.pixel..].iter().step_by(conv.stride())) {
            *out = x;
        }
    });
    let mut y = vec![0_u32; conv.output().channels * positions];
    let kernels = weights.chunks_exact(conv.patch());
    for (plane, kernel) in y.chunks_exact_mut(positions).zip(kernels) {
        for (&w, row) in kernel.iter().zip(patches.chunks_exact(positions)) {
            for (y, &x) in plane.iter_mut().zip(row) {
                *y = y.wrapping_add((w as u32).wrapping_mul(x));
            }
        }
    }
    y
}
