//! Softmax cross-entropy.
//!
//! For logits `z` and label `l`: `loss = log(sum exp(z)) - z_l`, gradient `softmax(z) - e_l`.
//! The largest logit is subtracted first, so nothing overflows. The gradient is *per sample*:
//! it is not divided by the batch size, because DP-SGD clips per sample and divides by a public
//! constant later. Each row of the gradient has norm at most `sqrt(2)`.
//!
//! ```
//! use sphinx_nn::{Tensor, loss::loss_and_gradient};
//! let logits = Tensor::from_vec(2, 2, vec![1.0, 1.0, 9.0, -9.0]).unwrap();
//! let (loss, d) = loss_and_gradient(&logits, &[Some(0), None]);
//! assert!((loss - 2.0_f64.ln()).abs() < 1e-7);
//! assert_eq!(d.as_slice(), [-0.5, 0.5, 0.0, 0.0]);
//! ```

use crate::elementary::exp;
use crate::tensor::Tensor;

/// Mean loss over the rows that have a label (0 if none has) and the per-row gradient
/// (rows x classes), zero for rows without a label.
///
/// Logits that are not finite give a zero gradient in their row: a diverged row must not poison
/// a sum, nor become visible by an abort.
///
/// # Panics
/// If the number of labels is not the number of rows, or a label is not below the columns.
pub fn loss_and_gradient(logits: &Tensor, labels: &[Option<u8>]) -> (f64, Tensor) {
    assert_eq!(labels.len(), logits.rows(), "one label per row");
    let mut d = Tensor::zeros(logits.rows(), logits.columns());
    let (mut total, mut real) = (0.0, 0_u32);
    for (i, label) in labels.iter().enumerate() {
        // A padding row does the work of a real one; then its results count for nothing.
        let weight = if label.is_some() { 1.0 } else { 0.0 };
        let row = row_loss(logits.row(i), usize::from(label.unwrap_or(0)), d.row_mut(i));
        // Adding zero makes a negative zero positive.
        d.row_mut(i).iter_mut().for_each(|v| *v = *v * weight + 0.0);
        total += if label.is_some() { row } else { 0.0 };
        real += u32::from(label.is_some());
    }
    (
        if real == 0 {
            0.0
        } else {
            total / f64::from(real)
        },
        d,
    )
}

/// Writes `softmax(z) - e_label` and returns the loss of one row.
fn row_loss(z: &[f32], label: usize, d: &mut [f32]) -> f64 {
    assert!(label < z.len(), "label {label} with {} classes", z.len());
    let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0_f32;
    for (d, z) in d.iter_mut().zip(z) {
        *d = exp(z - top);
        sum += *d;
    }
    if !sum.is_finite() || !z.iter().all(|z| z.is_finite()) {
        d.fill(0.0);
        return f64::INFINITY;
    }
    for d in d.iter_mut() {
        *d /= sum;
    }
    d[label] -= 1.0;
    f64::from(sum).ln() + f64::from(top) - f64::from(z[label])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_value() {
        // z = (ln 1, ln 2, ln 5): softmax = (1/8, 2/8, 5/8), loss for label 1 = ln 4.
        let z: Vec<f32> = [1.0_f64, 2.0, 5.0].iter().map(|v| v.ln() as f32).collect();
        let (loss, d) = loss_and_gradient(&Tensor::from_vec(1, 3, z).unwrap(), &[Some(1)]);
        assert!((loss - 4.0_f64.ln()).abs() < 1e-6);
        for (got, want) in d.as_slice().iter().zip([0.125, -0.75, 0.625]) {
            assert!((got - want).abs() < 1e-6);
        }
    }

    #[test]
    fn diverged_rows_are_silent() {
        let z = Tensor::from_vec(2, 2, vec![f32::NAN, 0.0, f32::INFINITY, 0.0]).unwrap();
        let (loss, d) = loss_and_gradient(&z, &[Some(0), Some(1)]);
        assert_eq!(d.as_slice(), [0.0; 4]);
        assert!(loss.is_infinite());
        assert_eq!(loss_and_gradient(&z, &[None, None]).0, 0.0);
    }

    proptest! {
        #[test]
        fn rows_sum_to_zero_and_norms_are_bounded(
            z in proptest::collection::vec(-80.0_f32..80.0, 5), label in 0_u8..5,
        ) {
            let (loss, d) = loss_and_gradient(&Tensor::from_vec(1, 5, z).unwrap(), &[Some(label)]);
            let sum: f32 = d.as_slice().iter().sum();
            let norm: f32 = d.as_slice().iter().map(|d| d * d).sum();
            prop_assert!(sum.abs() < 1e-6 && norm <= 2.000_001 && loss > -1e-5);
        }
    }
}
