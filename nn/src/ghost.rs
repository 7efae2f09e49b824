//! Per-sample gradient norms without per-sample gradients.
//!
//! In a dense layer sample `j`'s weight gradient is the outer product `d_j x_j^T` and its bias
//! gradient is `d_j`, so over weights and biases jointly
//!
//! `|| (d_j x_j^T, d_j) ||^2 = ||d_j||^2 (||x_j||^2 + 1)`,
//!
//! which needs two row norms instead of an `outputs x inputs` matrix per sample. Source:
//! Goodfellow, "Efficient Per-Example Gradient Computations", arXiv:1510.01799 (2015); the
//! clipped sum then takes one more product with rescaled rows (Li, Tramer, Liang, Hashimoto,
//! "Large Language Models Can Be Strong Differentially Private Learners", ICLR 2022, section 4,
//! who call it ghost clipping).
//!
//! Norms are summed in `f64`, in fixed lanes, so they do not depend on threads.
//!
//! ```
//! use sphinx_nn::{Tensor, ghost};
//! let x = Tensor::from_vec(1, 2, vec![1.0, 2.0]).unwrap();
//! let d = Tensor::from_vec(1, 1, vec![3.0]).unwrap();
//! let mut norms = vec![0.0];
//! ghost::add_dense(&mut norms, &d, &x); // gradient (3, 6) and bias 3: 9 + 36 + 9
//! assert_eq!(norms, [54.0]);
//! assert!((ghost::factor(54.0, 54.0_f64.sqrt() / 2.0) - 0.5).abs() < ghost::MARGIN);
//! ```

use crate::tensor::Tensor;
use rayon::prelude::*;

/// Clipped rows aim this share below the bound, so that rounding in `f32` (at most a few
/// `2^-24` relative) cannot carry them over it.
pub const MARGIN: f64 = 1.0 / (1 << 20) as f64;

/// Partial sums of a norm: enough to hide the latency of an addition behind vectors.
const LANES: usize = 32;

/// Rows per task.
const ROW_BLOCK: usize = 64;

/// `sum v^2` in `f64`.
#[inline(always)]
pub fn squared_norm(values: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f64 = chunks
        .remainder()
        .iter()
        .map(|v| f64::from(*v) * f64::from(*v))
        .sum();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*v) * f64::from(*v);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Adds to `norms[j]` the squared norm of sample `j`'s gradient in a dense layer, weights and
/// biases jointly, from the gradients at its outputs `d` and its inputs `x`.
///
/// # Panics
/// If `norms`, `d` and `x` differ in rows.
pub fn add_dense(norms: &mut [f64], d: &Tensor, x: &Tensor) {
    add_products(norms, d, x, 1.0);
}

/// As [`add_dense`] for the weights alone: `||d_j||^2 ||x_j||^2`.
///
/// # Panics
/// As [`add_dense`].
pub fn add_dense_weights(norms: &mut [f64], d: &Tensor, x: &Tensor) {
    add_products(norms, d, x, 0.0);
}

fn add_products(norms: &mut [f64], d: &Tensor, x: &Tensor, bias: f64) {
    assert_eq!(norms.len(), d.rows(), "ghost norms: rows of d");
    assert_eq!(norms.len(), x.rows(), "ghost norms: rows of x");
    norms
        .par_chunks_mut(ROW_BLOCK)
        .enumerate()
        .for_each(|(block, norms)| {
            for (i, norm) in norms.iter_mut().enumerate() {
                let j = block * ROW_BLOCK + i;
                *norm += squared_norm(d.row(j)) * (squared_norm(x.row(j)) + bias);
            }
        });
}

/// By what a gradient of that squared norm is multiplied to come under `bound`: 1 if it is
/// already there, 0 if its norm is not a finite number.
pub fn factor(norm_squared: f64, bound: f64) -> f64 {
    if !norm_squared.is_finite() {
        return 0.0;
    }
    if norm_squared <= bound * bound * (1.0 - 2.0 * MARGIN) {
        return 1.0;
    }
    bound * (1.0 - MARGIN) / norm_squared.sqrt()
}

/// An upper bound on the squared norm after scaling in `f32`, where each product may have been
/// rounded up by `2^-24`; as it is if the factor is 1, zero if it is 0.
pub(crate) fn scaled_norm(norm_squared: f64, factor: f32) -> f64 {
    if factor == 0.0 {
        return 0.0;
    }
    if factor == 1.0 {
        return norm_squared;
    }
    let factor = f64::from(factor);
    norm_squared * factor * factor * (1.0 + 0.25 * MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The explicit twin: forms every sample's gradient and takes its norm.
    fn explicit(d: &[f32], x: &[f32]) -> f64 {
        let mut sum = 0.0;
        for d in d {
            for x in x {
                sum += (f64::from(*d) * f64::from(*x)).powi(2);
            }
            sum += f64::from(*d).powi(2);
        }
        sum
    }

    proptest! {
        #[test]
        fn ghost_norms_are_the_norms_of_explicit_gradients(
            rows in 0_usize..70, outputs in 1_usize..6, inputs in 1_usize..20,
            values in proptest::collection::vec(-3.0_f32..3.0, 70 * 26),
        ) {
            let (d, x) = values.split_at(70 * 6);
            let d = Tensor::from_vec(rows, outputs, d[..rows * outputs].to_vec()).unwrap();
            let x = Tensor::from_vec(rows, inputs, x[..rows * inputs].to_vec()).unwrap();
            let mut norms = vec![1.0; rows];
            add_dense(&mut norms, &d, &x);
            for (j, norm) in norms.iter().enumerate() {
                let want = 1.0 + explicit(d.row(j), x.row(j));
                prop_assert!((norm - want).abs() < 1e-12 * want, "{norm} {want}");
            }
        }

        #[test]
        fn factors_bring_norms_under_the_bound(norm in 0.0_f64..1e12, bound in 1e-6_f64..1e6) {
            let factor = factor(norm, bound);
            prop_assert!((0.0..=1.0).contains(&factor));
            prop_assert!(norm * factor * factor <= bound * bound);
            // Not more than needed: either untouched or within the margin of the bound.
            prop_assert!(factor == 1.0 || norm.sqrt() * factor > bound * (1.0 - 1.1 * MARGIN));
        }
    }

    #[test]
    fn norms_that_are_no_numbers_give_factor_zero() {
        assert_eq!(factor(f64::NAN, 1.0), 0.0);
        assert_eq!(factor(f64::INFINITY, 1.0), 0.0);
        assert_eq!(factor(0.0, 1.0), 1.0);
    }
}
