//! The losses: softmax cross-entropy and the squared error.
//!
//! | [`Loss`] | loss of logits `z` and label `l` | gradient |
//! |---|---|---|
//! | `CrossEntropy` | `log(sum exp(z)) - z_l` | `softmax(z) - e_l`, of norm at most `sqrt(2)` |
//! | `SquaredError` | half the squared distance of `z` and the unit vector `e_l` | `z - e_l`, unbounded |
//!
//! In the first the largest logit is subtracted before the exponential, so nothing overflows. The
//! gradient is *per sample*: it is not divided by the batch size, because DP-SGD clips per sample
//! and divides by a public constant later.
//!
//! ```
//! use sphinx_nn::{Tensor, loss::{Loss, loss_and_gradient}};
//! let logits = Tensor::from_vec(2, 2, vec![1.0, 1.0, 9.0, -9.0]).unwrap();
//! let (loss, d) = loss_and_gradient(&logits, &[Some(0), None]);
//! assert!((loss - 2.0_f64.ln()).abs() < 1e-7);
//! assert_eq!(d.as_slice(), [-0.5, 0.5, 0.0, 0.0]);
//! let (loss, d) = Loss::SquaredError.and_gradient(&logits, &[Some(0), None]);
//! assert_eq!(loss, 0.5);
//! assert_eq!(d.as_slice(), [0.0, 1.0, 0.0, 0.0]);
//! ```

use crate::elementary::exp;
use crate::tensor::Tensor;

/// What a training step makes small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Softmax cross-entropy.
    #[default]
    CrossEntropy,
    /// Half the squared distance between the logits and the label's unit vector.
    SquaredError,
}

/// [`Loss::and_gradient`] of the cross-entropy.
///
/// # Panics
/// As [`Loss::and_gradient`].
pub fn loss_and_gradient(logits: &Tensor, labels: &[Option<u8>]) -> (f64, Tensor) {
    Loss::CrossEntropy.and_gradient(logits, labels)
}

impl Loss {
    /// Mean loss over the rows that have a label (0 if none has) and the per-row gradient
    /// (rows x classes), zero for rows without a label.
    ///
    /// Logits that are not finite give a zero gradient in their row: a diverged row must not
    /// poison a sum, nor become visible by an abort.
    ///
    /// # Panics
    /// If the number of labels is not the number of rows, or a label is not below the columns.
    pub fn and_gradient(self, logits: &Tensor, labels: &[Option<u8>]) -> (f64, Tensor) {
        assert_eq!(labels.len(), logits.rows(), "one label per row");
        let mut d = Tensor::zeros(logits.rows(), logits.columns());
        let row = |(i, label): (usize, &Option<u8>)| self.row(logits.row(i), *label, d.row_mut(i));
        let losses: Vec<f64> = labels.iter().enumerate().map(row).collect();
        (mean(&losses, labels), d)
    }

    /// Writes the gradient of one row and returns its loss; both zero without a label, for the
    /// same work.
    pub(crate) fn row(self, z: &[f32], label: Option<u8>, d: &mut [f32]) -> f64 {
        let target = usize::from(label.unwrap_or(0));
        assert!(target < z.len(), "label {target} with {} classes", z.len());
        let loss = match self {
            Self::CrossEntropy => cross_entropy(z, target, d),
            Self::SquaredError => squared_error(z, target, d),
        };
        // A padding row does the work of a real one; then its results count for nothing.
        let weight = if label.is_some() { 1.0 } else { 0.0 };
        // Adding zero makes a negative zero positive.
        d.iter_mut().for_each(|v| *v = *v * weight + 0.0);
        if label.is_some() { loss } else { 0.0 }
    }
}

/// The mean over the rows that have a label; 0 if none has.
pub(crate) fn mean(losses: &[f64], labels: &[Option<u8>]) -> f64 {
    let real = labels.iter().flatten().count();
    match real {
        0 => 0.0,
        _ => losses.iter().sum::<f64>() / real as f64,
    }
}

/// Writes `z - e_label` and returns the loss of one row.
fn squared_error(z: &[f32], label: usize, d: &mut [f32]) -> f64 {
    if !z.iter().all(|z| z.is_finite()) {
        d.fill(0.0);
        return f64::INFINITY;
    }
    d.copy_from_slice(z);
    d[label] -= 1.0;
    0.5 * d.iter().map(|d| f64::from(*d) * f64::from(*d)).sum::<f64>()
}

/// Writes `softmax(z) - e_label` and returns the loss of one row.
fn cross_entropy(z: &[f32], label: usize, d: &mut [f32]) -> f64 {
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
