//! The three products of a dense layer: forward, backward, gradient.
//!
//! Weights are `[outputs][inputs]`, row-major; samples are rows. With `X` the inputs and `D`
//! the gradients of the loss at the outputs, per sample:
//!
//! | product | formula | shape |
//! |---|---|---|
//! | [`forward`] | `X W^T + b` | rows x outputs |
//! | [`backward`] | `D W` | rows x inputs |
//! | [`gradient`] | `D^T X` and column sums of `D` | outputs x inputs, outputs |
//!
//! Each is split into row blocks whose size depends on the number of rows alone and the partial
//! sums of `gradient` are added in block order, so no result depends on the number of threads.
//!
//! ```
//! use sphinx_nn::{LinearShape, Tensor, dense};
//!
//! let shape = LinearShape::dense(2, 1);
//! let x = Tensor::from_vec(1, 2, vec![3.0, 4.0]).unwrap();
//! let y = dense::forward(shape, &[10.0, 1.0], &[0.5], &x);
//! assert_eq!(y.as_slice(), [34.5]);
//! ```

use crate::gemm::{View, multiply};
use crate::network::LinearShape;
use crate::tensor::Tensor;
use rayon::prelude::*;

/// Rows per task: enough to pay for packing the weights, few enough to feed several cores.
const ROW_BLOCK: usize = 128;

/// At most this many partial gradients exist at once.
const MAX_PARTIALS: usize = 16;

/// `X W^T + b`: rows x outputs.
///
/// # Panics
/// If the lengths do not match `shape`.
pub fn forward(shape: LinearShape, weights: &[f32], biases: &[f32], x: &Tensor) -> Tensor {
    assert_eq!(x.columns(), shape.inputs, "dense forward: columns of x");
    assert_eq!(biases.len(), shape.outputs, "dense forward: biases");
    let w = View::new(weights, shape.outputs, shape.inputs).transposed();
    let mut y = Tensor::zeros(x.rows(), shape.outputs);
    let inputs = x.as_slice().par_chunks(ROW_BLOCK * shape.inputs);
    y.as_mut_slice()
        .par_chunks_mut(ROW_BLOCK * shape.outputs)
        .zip(inputs)
        .for_each(|(y, x)| {
            for row in y.chunks_exact_mut(shape.outputs) {
                row.copy_from_slice(biases);
            }
            multiply(
                View::new(x, x.len() / shape.inputs, shape.inputs),
                w,
                1.0,
                y,
            );
        });
    y
}

/// `D W`: rows x inputs, the gradient of the loss at the layer's inputs.
///
/// # Panics
/// If the lengths do not match `shape`.
pub fn backward(shape: LinearShape, weights: &[f32], d: &Tensor) -> Tensor {
    assert_eq!(d.columns(), shape.outputs, "dense backward: columns of d");
    let w = View::new(weights, shape.outputs, shape.inputs);
    let mut dx = Tensor::zeros(d.rows(), shape.inputs);
    let outputs = d.as_slice().par_chunks(ROW_BLOCK * shape.outputs);
    dx.as_mut_slice()
        .par_chunks_mut(ROW_BLOCK * shape.inputs)
        .zip(outputs)
        .for_each(|(dx, d)| {
            multiply(
                View::new(d, d.len() / shape.outputs, shape.outputs),
                w,
                0.0,
                dx,
            );
        });
    dx
}

/// `D^T X` into `weights` and the column sums of `D` into `biases`: the gradient summed over
/// the rows. What the slices held before is overwritten.
///
/// # Panics
/// If the lengths do not match `shape`, or `x` and `d` differ in rows.
pub fn gradient(
    shape: LinearShape,
    d: &Tensor,
    x: &Tensor,
    weights: &mut [f32],
    biases: &mut [f32],
) {
    assert_eq!(x.rows(), d.rows(), "dense gradient: rows");
    assert_eq!(x.columns(), shape.inputs, "dense gradient: columns of x");
    assert_eq!(d.columns(), shape.outputs, "dense gradient: columns of d");
    assert_eq!(biases.len(), shape.outputs, "dense gradient: biases");
    let block = ROW_BLOCK.max(x.rows().div_ceil(MAX_PARTIALS));
    let partials: Vec<Vec<f32>> = d
        .as_slice()
        .par_chunks(block * shape.outputs)
        .zip(x.as_slice().par_chunks(block * shape.inputs))
        .map(|(d, x)| partial_gradient(shape, d, x))
        .collect();
    weights.fill(0.0);
    for partial in &partials {
        add(weights, partial);
    }
    biases.fill(0.0);
    for row in d.as_slice().chunks_exact(shape.outputs) {
        add(biases, row);
    }
}

fn partial_gradient(shape: LinearShape, d: &[f32], x: &[f32]) -> Vec<f32> {
    let rows = d.len() / shape.outputs;
    let mut partial = vec![0.0; shape.outputs * shape.inputs];
    let d = View::new(d, rows, shape.outputs).transposed();
    multiply(d, View::new(x, rows, shape.inputs), 0.0, &mut partial);
    partial
}

fn add(to: &mut [f32], from: &[f32]) {
    assert_eq!(to.len(), from.len(), "adding slices of equal length");
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values in (-1, 1) that look random.
    fn tensor(rows: usize, columns: usize, seed: u32) -> Tensor {
        let value = |i: usize| {
            let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761);
            (mixed ^ mixed >> 15) as f32 / 2_147_483_648.0 - 1.0
        };
        Tensor::from_vec(rows, columns, (0..rows * columns).map(value).collect()).unwrap()
    }

    /// All three products against loops over samples in `f64`, across block borders.
    #[test]
    fn products_agree_with_plain_loops() {
        let shape = LinearShape::dense(17, 5);
        for rows in [0, 1, 127, 128, 129, 300, 2500] {
            let (x, d) = (tensor(rows, 17, 1), tensor(rows, 5, 2));
            let (w, b) = (tensor(5, 17, 3), tensor(1, 5, 4));
            let y = forward(shape, w.as_slice(), b.as_slice(), &x);
            let dx = backward(shape, w.as_slice(), &d);
            let (mut gw, mut gb) = (vec![9.0; 85], vec![9.0; 5]);
            gradient(shape, &d, &x, &mut gw, &mut gb);
            let (mut want_w, mut want_b) = (vec![0.0; 85], [0.0; 5]);
            for j in 0..rows {
                for o in 0..5 {
                    let row = (0..17).map(|i| product(w.row(o)[i], x.row(j)[i]));
                    let want = f64::from(b.row(0)[o]) + row.sum::<f64>();
                    assert!((f64::from(y.row(j)[o]) - want).abs() < 1e-5);
                    want_b[o] += f64::from(d.row(j)[o]);
                    for i in 0..17 {
                        want_w[o * 17 + i] += product(d.row(j)[o], x.row(j)[i]);
                    }
                }
                for i in 0..17 {
                    let want: f64 = (0..5).map(|o| product(w.row(o)[i], d.row(j)[o])).sum();
                    assert!((f64::from(dx.row(j)[i]) - want).abs() < 1e-5);
                }
            }
            let close = |got: &f32, want: &f64| (f64::from(*got) - want).abs() < 1e-3;
            assert!(
                gw.iter().zip(&want_w).all(|(got, want)| close(got, want)),
                "{rows} rows"
            );
            assert!(
                gb.iter().zip(&want_b).all(|(got, want)| close(got, want)),
                "{rows} rows"
            );
        }
    }

    fn product(a: f32, b: f32) -> f64 {
        f64::from(a) * f64::from(b)
    }
}
