//! Matrix products: the one module of this crate that calls `unsafe` code.
//!
//! [`multiply`] checks that every index a strided [`View`] can produce lies inside its slice,
//! then calls `matrixmultiply::sgemm` on one thread. Callers split work over row blocks.
//!
//! Why not a safe loop: measured in `benches/step.rs`; the run-time-dispatched AVX-512 kernel
//! is several times faster than what the compiler makes of three nested loops.
#![expect(
    unsafe_code,
    reason = "matrixmultiply's interface takes raw pointers; checked here"
)]

/// A read-only matrix laid over a slice by two strides (in elements).
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// A contiguous row-major matrix.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(
            rows.checked_mul(columns),
            Some(values.len()),
            "a view covers its slice"
        );
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The same values with rows and columns exchanged; nothing is copied.
    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `c = a b + beta c`, with `c` row-major and contiguous.
///
/// The additions behind one element of `c` happen in an order that depends on the inner
/// dimension alone, so splitting the rows of `a` over several calls changes nothing.
pub(crate) fn multiply(a: View<'_>, b: View<'_>, beta: f32, c: &mut [f32]) {
    assert_eq!(a.columns, b.rows, "inner dimensions agree");
    assert_eq!(
        a.rows.checked_mul(b.columns),
        Some(c.len()),
        "the output has the product's shape"
    );
    // SAFETY: a View covers its slice exactly (checked in `new`, kept by `transposed`), so all
    // indices i * row_stride + j * column_stride with i < rows and j < columns are in bounds;
    // `c` holds a.rows x b.columns elements, is contiguous, and borrowed mutably, so it aliases
    // neither input. Strides fit isize because slices are at most isize::MAX bytes long.
    unsafe {
        matrixmultiply::sgemm(
            a.rows,
            a.columns,
            b.columns,
            1.0,
            a.values.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.values.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            beta,
            c.as_mut_ptr(),
            b.columns as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slow twin: three loops, in `f64`.
    fn plain(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k)
                    .map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j]))
                    .sum();
            }
        }
        c
    }

    fn transpose(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let mut t = vec![0.0; a.len()];
        for i in 0..rows {
            for j in 0..columns {
                t[j * rows + i] = a[i * columns + j];
            }
        }
        t
    }

    proptest! {
        #[test]
        fn agrees_with_three_loops(m in 0_usize..20, k in 0_usize..40, n in 0_usize..20, seed in any::<u32>()) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 32768.0 - 1.0;
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 1000)).collect();
            let want = plain(&a, &b, m, k, n);
            let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
            let pairs = [
                (View::new(&a, m, k), View::new(&b, k, n)),
                (View::new(&at, k, m).transposed(), View::new(&bt, n, k).transposed()),
            ];
            for (a, b) in pairs {
                let mut c = vec![1.0; m * n];
                multiply(a, b, 0.5, &mut c);
                for (got, want) in c.iter().zip(&want) {
                    prop_assert!((f64::from(*got) - want - 0.5).abs() < 1e-5, "{got} {want}");
                }
            }
        }
    }
}
