//! Powers of a symmetric positive semi-definite matrix, by Jacobi's rotations.
//!
//! For covariances of a few hundred feature maps: small, dense, computed once. Rotations visit the
//! pairs in a fixed order.
//!
//! Source: Golub, Van Loan, "Matrix Computations", 4th edition, section 8.5 (the cyclic-by-row Jacobi
//! method), which converges quadratically.

/// Sweeps over all pairs; a handful suffice, more are never needed.
const MAX_SWEEPS: usize = 30;
/// Off-diagonal mass, relative to the whole, at which the rotations stop.
const SMALL: f64 = 1e-24;

/// Eigenvalues and, row by row, their eigenvectors.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    /// `size` rows: row `i` belongs to value `i`.
    pub(super) vectors: Vec<f64>,
}

/// The eigenvalues and vectors of a symmetric `size x size` matrix.
pub(super) fn eigen(mut a: Vec<f64>, size: usize) -> Eigen {
    assert_eq!(a.len(), size * size, "a square matrix");
    let mut vectors = vec![0.0; size * size];
    (0..size).for_each(|i| vectors[i * size + i] = 1.0);
    let whole: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..MAX_SWEEPS {
        let off: f64 = (0..size)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i * size + j] * a[i * size + j])
            .sum();
        if off <= SMALL * whole {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut a, &mut vectors, size, (p, q));
            }
        }
    }
    Eigen {
        values: (0..size).map(|i| a[i * size + i]).collect(),
        vectors,
    }
}

/// Makes the element at `(p, q)` zero: `a` becomes `J^T a J`, and the rows of `vectors` turn along.
fn rotate(a: &mut [f64], vectors: &mut [f64], size: usize, (p, q): (usize, usize)) {
    let apq = a[p * size + q];
    if apq == 0.0 {
        return;
    }
    let tau = (a[q * size + q] - a[p * size + p]) / (2.0 * apq);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    rotate_rows(a, size, (p, q), (c, s));
    rotate_rows(vectors, size, (p, q), (c, s));
    for row in a.chunks_exact_mut(size) {
        let (x, y) = (row[p], row[q]);
        row[p] = c * x - s * y;
        row[q] = s * x + c * y;
    }
}

fn rotate_rows(a: &mut [f64], size: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    let (head, tail) = a.split_at_mut(q * size);
    let first = &mut head[p * size..(p + 1) * size];
    for (x, y) in first.iter_mut().zip(&mut tail[..size]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// The matrix to the power `-power`, where eigenvalues below `floor` times the largest count as that.
pub(super) fn inverse_power(a: Vec<f64>, size: usize, power: f64, floor: f64) -> Vec<f64> {
    let Eigen { values, vectors } = eigen(a, size);
    let largest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut result = vec![0.0; size * size];
    for (value, vector) in values.iter().zip(vectors.chunks_exact(size)) {
        let scale = value.max(floor * largest).powf(-power);
        for (row, left) in result.chunks_exact_mut(size).zip(vector) {
            let left = scale * left;
            row.iter_mut()
                .zip(vector)
                .for_each(|(r, right)| *r += left * right);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn product(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
        let mut c = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..size {
                c[i * size + j] = (0..size).map(|k| a[i * size + k] * b[k * size + j]).sum();
            }
        }
        c
    }

    fn transposed(a: &[f64], size: usize) -> Vec<f64> {
        (0..size * size)
            .map(|i| a[(i % size) * size + i / size])
            .collect()
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn vectors_and_values_give_the_matrix_back(
            size in 1_usize..12, values in proptest::collection::vec(-3.0_f64..3.0, 144),
        ) {
            let half = &values[..size * size];
            let a = product(&transposed(half, size), half, size);
            let Eigen { values, vectors } = eigen(a.clone(), size);
            let scaled: Vec<f64> = (0..size * size)
                .map(|i| values[i / size] * vectors[i])
                .collect();
            let back = product(&transposed(&vectors, size), &scaled, size);
            prop_assert!(distance(&back, &a) < 1e-9);
            let one = product(&vectors, &transposed(&vectors, size), size);
            let identity: Vec<f64> = (0..size * size)
                .map(|i| f64::from(u8::from(i / size == i % size)))
                .collect();
            prop_assert!(distance(&one, &identity) < 1e-12);
        }

        #[test]
        fn the_inverse_root_whitens(
            size in 1_usize..8, values in proptest::collection::vec(-2.0_f64..2.0, 64),
        ) {
            let half = &values[..size * size];
            let mut a = product(&transposed(half, size), half, size);
            (0..size).for_each(|i| a[i * size + i] += 1.0);
            let root = inverse_power(a.clone(), size, 0.5, 0.0);
            let white = product(&product(&root, &a, size), &root, size);
            let identity: Vec<f64> = (0..size * size)
                .map(|i| f64::from(u8::from(i / size == i % size)))
                .collect();
            prop_assert!(distance(&white, &identity) < 1e-9);
        }
    }
}
