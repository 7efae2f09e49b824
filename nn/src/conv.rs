//! The three products of a convolution: forward, backward, and one sample's gradient.
//!
//! Weights are `[out_channels][in_channels][kernel][kernel]`, one bias per output channel, images
//! channel by channel. What deep learning calls a convolution is the cross-correlation
//!
//! `y[o][i][j] = b[o] + sum over c, a, e of w[o][c][a][e] x[c][i s + a - p][j s + e - p]`
//!
//! with stride `s`, and zeros where the index leaves the image. Each sample's image is spread into
//! its *patches* `P`, a matrix of `in_channels kernel^2` rows and one column per output position;
//! then the products are `W P`, `W^T D` (summed back into the image) and `D P^T`. Source:
//! Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks for Document
//! Processing", IWFHR 2006.
//!
//! Work is split by samples and every sample is computed alone, so no result depends on the number
//! of threads. Rows and columns that a stride leaves over at the far edge are not looked at.
//!
//! ```
//! use sphinx_nn::{ImageShape, Tensor, conv::{self, ConvShape}};
//!
//! let input = ImageShape { channels: 1, height: 2, width: 3 };
//! let shape = ConvShape::new(input, 1, 2, 1, 0).unwrap();
//! let x = Tensor::from_vec(1, 6, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
//! let y = conv::forward(shape, &[1.0, 0.0, 0.0, -1.0], &[10.0], &x);
//! assert_eq!(y.as_slice(), [6.0, 6.0]); // 10 + 1 - 5, 10 + 2 - 6
//! ```

use crate::gemm::{View, multiply};
use crate::network::ImageShape;
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// Largest kernel side.
pub const MAX_KERNEL: usize = 64;

/// The geometry of a convolution; exists only if it fits its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    input: ImageShape,
    output: ImageShape,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl ConvShape {
    /// A square kernel of side `kernel` moved by `stride` over an image framed by `padding` zeros.
    ///
    /// `None` unless there is a channel on both sides, `1 <= kernel <= MAX_KERNEL`, `stride >= 1`,
    /// `padding < kernel` (else some outputs would see zeros only), the kernel fits into the
    /// framed image, and no product of the sizes overflows.
    pub fn new(
        input: ImageShape,
        channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Option<Self> {
        let sane = input.values()? > 0
            && channels > 0
            && (1..=MAX_KERNEL).contains(&kernel)
            && stride > 0
            && padding < kernel;
        if !sane {
            return None;
        }
        let positions = |length: usize| {
            let room = length.checked_add(2 * padding)?.checked_sub(kernel)?;
            Some(room / stride + 1)
        };
        let output = ImageShape {
            channels,
            height: positions(input.height)?,
            width: positions(input.width)?,
        };
        output.values()?;
        let patch = input.channels.checked_mul(kernel * kernel)?;
        patch.checked_mul(channels)?;
        patch.checked_mul(output.height * output.width)?;
        Some(Self {
            input,
            output,
            kernel,
            stride,
            padding,
        })
    }

    /// Shape of the images that come in.
    pub const fn input(&self) -> ImageShape {
        self.input
    }

    /// Shape of the images that go out.
    pub const fn output(&self) -> ImageShape {
        self.output
    }

    /// Side of the kernel.
    pub const fn kernel(&self) -> usize {
        self.kernel
    }

    /// By how much the kernel moves.
    pub const fn stride(&self) -> usize {
        self.stride
    }

    /// Zeros around the image.
    pub const fn padding(&self) -> usize {
        self.padding
    }

    /// Values that one output looks at: `in_channels kernel^2`, the rows of the patches.
    pub const fn patch(&self) -> usize {
        self.input.channels * self.kernel * self.kernel
    }

    /// Output positions of one channel, the columns of the patches.
    pub const fn positions(&self) -> usize {
        self.output.height * self.output.width
    }

    /// Number of weights.
    pub const fn weights(&self) -> usize {
        self.output.channels * self.patch()
    }

    const fn input_plane(&self) -> usize {
        self.input.height * self.input.width
    }

    const fn inputs(&self) -> usize {
        self.input.channels * self.input_plane()
    }

    const fn outputs(&self) -> usize {
        self.output.channels * self.positions()
    }

    /// Whether the patches are the image itself.
    const fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1
    }

    /// The outputs, along one axis, that kernel place `k` takes from inside the image.
    fn reach(&self, k: usize, inputs: usize, outputs: usize) -> Range<usize> {
        let end = (inputs + self.padding)
            .saturating_sub(k)
            .div_ceil(self.stride)
            .min(outputs);
        let start = self.padding.saturating_sub(k).div_ceil(self.stride);
        start.min(end)..end
    }

    /// Where in the image output `o`, along one axis, finds kernel place `k`; `o` is in `reach`.
    const fn source(&self, k: usize, o: usize) -> usize {
        o * self.stride + k - self.padding
    }

    /// Calls `run(patch row start, image start, outputs)` for every run of values that lie in one
    /// row of the image and one row of the patches; the image is walked by the stride.
    fn runs(&self, mut run: impl FnMut(usize, usize, usize)) {
        let mut row = 0;
        for channel in 0..self.input.channels {
            for a in 0..self.kernel {
                let lines = self.reach(a, self.input.height, self.output.height);
                for e in 0..self.kernel {
                    let places = self.reach(e, self.input.width, self.output.width);
                    for i in lines.clone().filter(|_| !places.is_empty()) {
                        let line = channel * self.input.height + self.source(a, i);
                        run(
                            row * self.positions() + i * self.output.width + places.start,
                            line * self.input.width + self.source(e, places.start),
                            places.len(),
                        );
                    }
                    row += 1;
                }
            }
        }
    }

    /// Spreads an image into its patches, written to `scratch` unless they are the image.
    fn spread<'a>(&self, x: &'a [f32], scratch: &'a mut Vec<f32>) -> View<'a> {
        let (rows, columns) = (self.patch(), self.positions());
        if self.is_pointwise() {
            return View::new(x, rows, columns);
        }
        scratch.resize(rows * columns, 0.0);
        if self.padding > 0 {
            scratch.fill(0.0); // the frame; without one, every place is written below
        }
        self.runs(|to, from, count| {
            let to = &mut scratch[to..to + count];
            if self.stride == 1 {
                to.copy_from_slice(&x[from..from + count]);
            } else {
                let from = x[from..].iter().step_by(self.stride);
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        });
        View::new(scratch, rows, columns)
    }

    /// The transpose of `spread`: adds patches to the image they come from.
    fn gather(&self, patches: &[f32], x: &mut [f32]) {
        self.runs(|from, to, count| {
            let from = &patches[from..from + count];
            if self.stride == 1 {
                let to = &mut x[to..to + count];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            } else {
                let to = x[to..].iter_mut().step_by(self.stride);
                to.zip(from).for_each(|(to, from)| *to += from);
            }
        });
    }
}

/// `W P + b` for every sample: rows x (out_channels x positions).
///
/// # Panics
/// If the lengths do not match `shape`.
pub fn forward(shape: ConvShape, weights: &[f32], biases: &[f32], x: &Tensor) -> Tensor {
    assert_eq!(x.columns(), shape.inputs(), "conv forward: columns of x");
    assert_eq!(biases.len(), shape.output.channels, "conv forward: biases");
    let w = View::new(weights, shape.output.channels, shape.patch());
    let mut y = Tensor::zeros(x.rows(), shape.outputs());
    y.as_mut_slice()
        .par_chunks_mut(shape.outputs())
        .zip(x.as_slice().par_chunks(shape.inputs()))
        .for_each_init(Vec::new, |scratch, (y, x)| {
            for (plane, bias) in y.chunks_exact_mut(shape.positions()).zip(biases) {
                plane.fill(*bias);
            }
            multiply(w, shape.spread(x, scratch), 1.0, y);
        });
    y
}

/// `W^T D` summed back into images: rows x inputs, the gradient of the loss at the inputs.
///
/// # Panics
/// If the lengths do not match `shape`.
pub fn backward(shape: ConvShape, weights: &[f32], d: &Tensor) -> Tensor {
    assert_eq!(d.columns(), shape.outputs(), "conv backward: columns of d");
    let w = View::new(weights, shape.output.channels, shape.patch()).transposed();
    let mut dx = Tensor::zeros(d.rows(), shape.inputs());
    dx.as_mut_slice()
        .par_chunks_mut(shape.inputs())
        .zip(d.as_slice().par_chunks(shape.outputs()))
        .for_each_init(Vec::new, |scratch, (dx, d)| {
            let d = View::new(d, shape.output.channels, shape.positions());
            if shape.is_pointwise() {
                multiply(w, d, 0.0, dx);
            } else {
                scratch.resize(shape.patch() * shape.positions(), 0.0);
                multiply(w, d, 0.0, scratch);
                shape.gather(scratch, dx);
            }
        });
    dx
}

/// One sample's gradient, `D P^T` and the sums of `D` over positions, from the gradient at its
/// output `d` and its input `x`. What the slices held before is overwritten; `scratch` is working
/// space, worth keeping from call to call.
///
/// # Panics
/// If the lengths do not match `shape`.
pub fn sample_gradient(
    shape: ConvShape,
    d: &[f32],
    x: &[f32],
    scratch: &mut Vec<f32>,
    weights: &mut [f32],
    biases: &mut [f32],
) {
    assert_eq!(x.len(), shape.inputs(), "conv gradient: length of x");
    assert_eq!(biases.len(), shape.output.channels, "conv gradient: biases");
    let patches = shape.spread(x, scratch).transposed();
    let planes = View::new(d, shape.output.channels, shape.positions());
    multiply(planes, patches, 0.0, weights);
    for (bias, plane) in biases.iter_mut().zip(d.chunks_exact(shape.positions())) {
        *bias = plane.iter().sum();
    }
}

#[cfg(test)]
mod tests;
