//! Counting right answers.
//!
//! ```
//! use sphinx_nn::{Tensor, metrics::accuracy};
//! let logits = Tensor::from_vec(2, 2, vec![0.1, 0.9, 0.8, 0.2]).unwrap();
//! assert_eq!(accuracy(&logits, &[1, 1]), 0.5);
//! ```

use crate::tensor::Tensor;

/// Position of the largest value; the first of equals; 0 for an empty row.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    best
}

/// Rows with a label whose largest logit is that label.
///
/// # Panics
/// If the number of labels is not the number of rows.
pub fn correct(logits: &Tensor, labels: &[Option<u8>]) -> usize {
    assert_eq!(labels.len(), logits.rows(), "one label per row");
    let hit = |(i, label): (usize, &Option<u8>)| {
        label.is_some_and(|label| argmax(logits.row(i)) == usize::from(label))
    };
    labels.iter().enumerate().filter(|row| hit(*row)).count()
}

/// Share of rows, between 0 and 1, whose largest logit is the label; 0 without rows.
///
/// # Panics
/// If the number of labels is not the number of rows.
pub fn accuracy(logits: &Tensor, labels: &[u8]) -> f64 {
    if labels.is_empty() {
        assert_eq!(logits.rows(), 0, "one label per row");
        return 0.0;
    }
    let labels: Vec<_> = labels.iter().copied().map(Some).collect();
    correct(logits, &labels) as f64 / labels.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_rows_and_ties() {
        let logits = Tensor::from_vec(3, 2, vec![1.0, 1.0, 0.0, 2.0, 0.0, 2.0]).unwrap();
        assert_eq!(correct(&logits, &[Some(0), Some(1), None]), 2);
        assert_eq!(accuracy(&Tensor::zeros(0, 2), &[]), 0.0);
    }
}
