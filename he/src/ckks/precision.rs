//! How good a result is.
//!
//! ```
//! use sphinx_he::ckks::{Complex64, Precision};
//! let exact = [Complex64::new(1.0, 0.0), Complex64::new(0.0, 1.0)];
//! let got = [Complex64::new(1.0, 0.25), Complex64::new(0.0, 1.0)];
//! let report = Precision::of(&got, exact);
//! assert_eq!((report.worst_bits(), report.mean_bits()), (2.0, 3.0));
//! ```

use super::Complex64;

/// Errors of slots against what they should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Precision {
    /// The largest error of a slot.
    pub worst: f64,
    /// The mean error of a slot.
    pub mean: f64,
    /// The root of the mean square of the errors.
    pub root_mean_square: f64,
    /// The number of slots compared.
    pub slots: usize,
}

impl Precision {
    /// Compares slot by slot; the shorter list decides how many.
    #[must_use]
    pub fn of(got: &[Complex64], exact: impl IntoIterator<Item = Complex64>) -> Self {
        let gaps = got.iter().zip(exact).map(|(a, b)| (a - b).norm());
        let (mut worst, mut sum, mut squares, mut slots) = (0.0f64, 0.0, 0.0, 0);
        for gap in gaps {
            worst = worst.max(gap);
            sum += gap;
            squares += gap * gap;
            slots += 1;
        }
        let count = f64::from(u32::try_from(slots.max(1)).unwrap_or(u32::MAX));
        Self {
            worst,
            mean: sum / count,
            root_mean_square: (squares / count).sqrt(),
            slots,
        }
    }

    /// Bits after the point that are right in every slot: `-log2` of the worst error.
    #[must_use]
    pub fn worst_bits(&self) -> f64 {
        -self.worst.log2()
    }

    /// `-log2` of the mean error.
    #[must_use]
    pub fn mean_bits(&self) -> f64 {
        -self.mean.log2()
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "worst error {:.2e} ({:.1} bits), mean {:.2e} ({:.1} bits), {} slots",
            self.worst,
            self.worst_bits(),
            self.mean,
            self.mean_bits(),
            self.slots
        )
    }
}
