//! Row-major `f32` matrices: one row per sample, one column per feature.
//!
//! This is the only number format that crosses the border between the shared code and an
//! engine. Images are flattened into columns (channel, then row, then column of the image);
//! the [network](crate::network) knows the image shape.
//!
//! ```
//! use sphinx_nn::Tensor;
//!
//! let x = Tensor::from_vec(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
//! assert_eq!(x.row(1), [4.0, 5.0, 6.0]);
//! // A batch of fixed capacity 3 holding sample 1 only: the rest are zero rows.
//! let batch = x.gather(&[1], 3);
//! assert_eq!(batch.as_slice(), [4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
//! ```

use std::sync::Arc;
use thiserror::Error;

/// A `rows x columns` matrix of `f32`, row-major and contiguous.
///
/// Cloning is cheap: clones share their values until one of them is written to. An engine that
/// holds on to a layer's input therefore does not copy the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    rows: usize,
    columns: usize,
    values: Arc<Vec<f32>>,
}

/// The values handed to [`Tensor::from_vec`] do not fill the shape.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "building a tensor: {found} values for a shape of {rows} x {columns}; give exactly rows x columns values"
)]
pub struct ShapeError {
    /// Rows asked for.
    pub rows: usize,
    /// Columns asked for.
    pub columns: usize,
    /// Number of values given.
    pub found: usize,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Panics
    /// If `rows * columns` overflows or does not fit in memory.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        let values = Arc::new(vec![0.0; rows.saturating_mul(columns)]);
        Self {
            rows,
            columns,
            values,
        }
    }

    /// Takes `rows * columns` values in row-major order.
    ///
    /// # Errors
    /// [`ShapeError`] when the number of values is another.
    pub fn from_vec(rows: usize, columns: usize, values: Vec<f32>) -> Result<Self, ShapeError> {
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(ShapeError {
                rows,
                columns,
                found: values.len(),
            });
        }
        Ok(Self {
            rows,
            columns,
            values: Arc::new(values),
        })
    }

    /// Number of rows (samples).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (features).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i >= rows()`.
    pub fn row(&self, i: usize) -> &[f32] {
        assert!(i < self.rows, "row {i} of a tensor with {} rows", self.rows);
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// Row `i`, mutable.
    ///
    /// # Panics
    /// If `i >= rows()`.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "row {i} of a tensor with {} rows", self.rows);
        let columns = self.columns;
        &mut self.as_mut_slice()[i * columns..(i + 1) * columns]
    }

    /// All values, row-major.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// All values, row-major, mutable.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        Arc::make_mut(&mut self.values).as_mut_slice()
    }

    /// The values, row-major.
    pub fn into_vec(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.values)
    }

    /// A new tensor of exactly `rows` rows: the named rows in order, then zero rows.
    ///
    /// This is how a Poisson batch of varying size takes a fixed public capacity.
    ///
    /// # Panics
    /// If there are more indices than `rows`, or an index is not below `self.rows()`.
    #[must_use]
    pub fn gather(&self, indices: &[u32], rows: usize) -> Self {
        assert!(
            indices.len() <= rows,
            "{} indices for {rows} rows",
            indices.len()
        );
        let mut values = Vec::with_capacity(rows.saturating_mul(self.columns));
        for &index in indices {
            values.extend_from_slice(self.row(index as usize));
        }
        values.resize(rows * self.columns, 0.0);
        Self {
            rows,
            columns: self.columns,
            values: Arc::new(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_of_values_is_refused() {
        let error = Tensor::from_vec(2, 3, vec![0.0; 5]).unwrap_err();
        assert_eq!(
            error,
            ShapeError {
                rows: 2,
                columns: 3,
                found: 5
            }
        );
        assert!(Tensor::from_vec(usize::MAX, 2, Vec::new()).is_err());
    }

    #[test]
    fn gather_keeps_order_repeats_and_pads_with_zeros() {
        let x = Tensor::from_vec(3, 2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let y = x.gather(&[2, 0, 2], 4);
        assert_eq!(y.as_slice(), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0, 0.0, 0.0]);
        assert_eq!(x.gather(&[], 0).rows(), 0);
    }

    #[test]
    fn clones_part_when_one_is_written() {
        let x = Tensor::zeros(1, 2);
        let mut y = x.clone();
        assert!(std::ptr::eq(x.as_slice(), y.as_slice()));
        y.as_mut_slice()[0] = 1.0;
        assert_eq!(
            (x.into_vec(), y.into_vec()),
            (vec![0.0, 0.0], vec![1.0, 0.0])
        );
    }

    #[test]
    fn rows_can_be_written() {
        let mut x = Tensor::zeros(2, 2);
        x.row_mut(1)[0] = 7.0;
        assert_eq!(x.as_slice(), [0.0, 0.0, 7.0, 0.0]);
    }
}
