//! Clipped sums, verified in integers.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroize;

use crate::quantity::{RangeError, require};

/// The L2 bound on one record's contribution, in grid units: an integer in `1..=2^40`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct ClipBound(u64);

impl ClipBound {
    /// A bound in grid units.
    ///
    /// # Errors
    /// [`RangeError`] unless it is in `1..=2^40`.
    pub fn new(bound: u64) -> Result<Self, RangeError> {
        let ok = (1..=1 << 40).contains(&bound);
        require(
            ok,
            "clip bound",
            bound as f64,
            "between 1 and 2^40 grid units",
        )?;
        Ok(Self(bound))
    }

    /// The bound in grid units.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The square of the bound, against which squared norms are compared.
    #[must_use]
    pub fn squared(self) -> u128 {
        u128::from(self.0) * u128::from(self.0)
    }
}

impl TryFrom<u64> for ClipBound {
    type Error = RangeError;
    fn try_from(bound: u64) -> Result<Self, RangeError> {
        Self::new(bound)
    }
}

impl From<ClipBound> for u64 {
    fn from(bound: ClipBound) -> Self {
        bound.0
    }
}

/// A sum was not a sum of clipped rows. The error stays at the client: it depends on the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClipError {
    /// A row is longer than the bound.
    #[error("row {row} has squared norm {norm_squared}, above {bound}^2: clip it again or zero it")]
    RowTooLong {
        /// Which row.
        row: usize,
        /// Its squared norm.
        norm_squared: u128,
        /// The bound.
        bound: u64,
    },
    /// A row has another number of coordinates than the sum.
    #[error("row {row} has {found} coordinates, the sum has {len}: give all rows the same length")]
    RowLength {
        /// Which row.
        row: usize,
        /// Its coordinates.
        found: usize,
        /// The coordinates of the sum.
        len: usize,
    },
    /// A coordinate of the sum is larger than all rows together can make it.
    #[error(
        "coordinate {coordinate} of the sum is {value}, but {rows} rows within {bound} cannot \
         exceed {rows} * {bound}: the norms are not those of the summed rows"
    )]
    SumTooLarge {
        /// Which coordinate.
        coordinate: usize,
        /// Its value.
        value: i64,
        /// Number of rows.
        rows: usize,
        /// The bound.
        bound: u64,
    },
}

/// A sum of rows, each verified to have an L2 norm of at most the bound.
///
/// Not printable, not serialisable, not copyable; wiped when dropped.
pub struct Clipped {
    values: Vec<i64>,
    bound: ClipBound,
}

impl Clipped {
    /// Checks, in integers, that every squared norm is at most the squared bound, and that the sum
    /// is no larger than such rows can make it.
    ///
    /// The caller passes the exact squared norm of every summed row *after* quantisation (in exact
    /// integer arithmetic, or an upper bound on it). An empty batch is a sum of zeros without rows.
    ///
    /// # Errors
    /// [`ClipError`] names the first row or coordinate at fault.
    pub fn check(
        values: Vec<i64>,
        norms_squared: &[u128],
        bound: ClipBound,
    ) -> Result<Self, ClipError> {
        // Wrapped before the checks, so that a refused sum is wiped as well.
        let sum = Self { values, bound };
        let limit = bound.squared();
        for (row, &norm_squared) in norms_squared.iter().enumerate() {
            if norm_squared > limit {
                return Err(ClipError::RowTooLong {
                    row,
                    norm_squared,
                    bound: bound.get(),
                });
            }
        }
        let rows = norms_squared.len();
        let largest = rows as u128 * u128::from(bound.get());
        for (coordinate, &value) in sum.values.iter().enumerate() {
            if u128::from(value.unsigned_abs()) > largest {
                return Err(ClipError::SumTooLarge {
                    coordinate,
                    value,
                    rows,
                    bound: bound.get(),
                });
            }
        }
        Ok(sum)
    }

    /// Sums rows of `len` coordinates, each checked in integers after quantisation.
    ///
    /// # Errors
    /// [`ClipError`] names the first row that is too long or has another number of coordinates.
    pub fn of_rows<R: AsRef<[i64]>>(
        len: usize,
        rows: &[R],
        bound: ClipBound,
    ) -> Result<Self, ClipError> {
        let mut norms = Vec::with_capacity(rows.len());
        for (row, values) in rows.iter().map(AsRef::as_ref).enumerate() {
            if values.len() != len {
                let found = values.len();
                return Err(ClipError::RowLength { row, found, len });
            }
            let squares = values.iter().map(|x| u128::from(x.unsigned_abs()).pow(2));
            norms.push(squares.fold(0, u128::saturating_add));
        }
        // Of rows within the bound no sum saturates below 2^23 rows; of others it is refused.
        let mut sum = vec![0i64; len];
        for values in rows {
            for (sum, value) in sum.iter_mut().zip(values.as_ref()) {
                *sum = sum.saturating_add(*value);
            }
        }
        Self::check(sum, &norms, bound)
    }

    /// The bound that every row meets.
    #[must_use]
    pub const fn bound(&self) -> ClipBound {
        self.bound
    }

    /// Number of coordinates.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no coordinates.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The raw sum, for release only.
    pub(super) fn take(mut self) -> Vec<i64> {
        std::mem::take(&mut self.values)
    }
}

impl Drop for Clipped {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

impl fmt::Debug for Clipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clipped")
            .field("len", &self.values.len())
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}
