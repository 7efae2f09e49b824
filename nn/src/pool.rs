//! Pooling: each window of an image becomes its largest or its mean value, channel by channel.
//!
//! Windows are squares of side `size` moved by `stride`; windows may overlap (`stride < size`) or
//! leave gaps. They lie inside the image: rows and columns left over at the far edge are dropped.
//! Maximum pooling remembers where each maximum stood, the first in reading order on a tie, so that
//! the backward pass is exact; mean pooling needs to remember nothing.
//!
//! ```
//! use sphinx_nn::{ImageShape, Tensor, pool::{PoolKind, PoolShape}};
//!
//! let input = ImageShape { channels: 1, height: 2, width: 4 };
//! let shape = PoolShape::new(PoolKind::Max, input, 2, 2).unwrap();
//! let x = Tensor::from_vec(1, 8, vec![1.0, 5.0, 0.0, 0.0, 2.0, 3.0, 0.0, 7.0]).unwrap();
//! let (y, positions) = shape.forward(&x);
//! assert_eq!(y.as_slice(), [5.0, 7.0]);
//! let d = Tensor::from_vec(1, 2, vec![0.1, 0.2]).unwrap();
//! let dx = shape.backward(&d, &positions);
//! assert_eq!(dx.as_slice(), [0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2]);
//! ```

use crate::network::ImageShape;
use crate::tensor::Tensor;
use rayon::prelude::*;

/// What becomes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Its largest value.
    Max,
    /// Its mean.
    Mean,
}

/// The geometry of a pooling step; exists only if it fits its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    kind: PoolKind,
    input: ImageShape,
    output: ImageShape,
    size: usize,
    stride: usize,
}

/// Where the maxima stood: per output value its place in the sample's input. Empty for means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions(Vec<u32>);

impl PoolShape {
    /// Windows of side `size` moved by `stride` over images of shape `input`.
    ///
    /// `None` unless `2 <= size`, the window fits into the image, `stride >= 1`, and places in an
    /// image fit 32 bits.
    pub fn new(kind: PoolKind, input: ImageShape, size: usize, stride: usize) -> Option<Self> {
        u32::try_from(input.values()?).ok()?;
        if size < 2 || stride == 0 || input.channels == 0 {
            return None;
        }
        let windows = |length: usize| Some(length.checked_sub(size)? / stride + 1);
        let output = ImageShape {
            channels: input.channels,
            height: windows(input.height)?,
            width: windows(input.width)?,
        };
        Some(Self {
            kind,
            input,
            output,
            size,
            stride,
        })
    }

    /// What becomes of a window.
    pub const fn kind(&self) -> PoolKind {
        self.kind
    }

    /// Shape of the images that come in.
    pub const fn input(&self) -> ImageShape {
        self.input
    }

    /// Shape of the images that go out.
    pub const fn output(&self) -> ImageShape {
        self.output
    }

    /// Side of a window.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// By how much windows are apart.
    pub const fn stride(&self) -> usize {
        self.stride
    }

    const fn inputs(&self) -> usize {
        self.input.channels * self.input.height * self.input.width
    }

    const fn outputs(&self) -> usize {
        self.output.channels * self.output.height * self.output.width
    }

    /// The first place of each window, in the order of the outputs.
    fn corners(&self) -> impl Iterator<Item = usize> {
        let (input, output, stride) = (self.input, self.output, self.stride);
        (0..output.channels).flat_map(move |c| {
            (0..output.height).flat_map(move |i| {
                let line = (c * input.height + i * stride) * input.width;
                (0..output.width).map(move |j| line + j * stride)
            })
        })
    }

    /// The pooled images (rows x outputs), and what `backward` needs.
    ///
    /// # Panics
    /// If `x` has other columns than the input shape has values.
    pub fn forward(&self, x: &Tensor) -> (Tensor, Positions) {
        assert_eq!(x.columns(), self.inputs(), "pooling: columns of x");
        let mut y = Tensor::zeros(x.rows(), self.outputs());
        let inputs = x.as_slice().par_chunks(self.inputs());
        let outputs = y.as_mut_slice().par_chunks_mut(self.outputs());
        let mut places = Vec::new();
        match self.kind {
            PoolKind::Mean => outputs.zip(inputs).for_each(|(y, x)| self.means(x, y)),
            PoolKind::Max => {
                places.resize(x.rows() * self.outputs(), 0);
                outputs
                    .zip(inputs)
                    .zip(places.par_chunks_mut(self.outputs()))
                    .for_each(|((y, x), places)| self.maxima(x, y, places));
            }
        }
        (y, Positions(places))
    }

    fn maxima(&self, x: &[f32], y: &mut [f32], places: &mut [u32]) {
        let width = self.input.width;
        for ((y, place), corner) in y.iter_mut().zip(places).zip(self.corners()) {
            let (mut best, mut at) = (x[corner], corner);
            for start in (0..self.size).map(|line| corner + line * width) {
                for (i, v) in x[start..start + self.size].iter().enumerate() {
                    if *v > best {
                        (best, at) = (*v, start + i);
                    }
                }
            }
            (*y, *place) = (best, at as u32);
        }
    }

    /// What a value of a window counts in its mean.
    fn share(&self) -> f32 {
        1.0 / (self.size * self.size) as f32
    }

    fn means(&self, x: &[f32], y: &mut [f32]) {
        let (width, share) = (self.input.width, self.share());
        for (y, corner) in y.iter_mut().zip(self.corners()) {
            let lines = (0..self.size).map(|line| corner + line * width);
            let sum: f32 = lines
                .map(|start| x[start..start + self.size].iter().sum::<f32>())
                .sum();
            *y = sum * share;
        }
    }

    /// The gradient of the loss at the inputs (rows x inputs), from the one at the outputs.
    ///
    /// # Panics
    /// If `d` does not fit the shape, or `positions` come from another call.
    pub fn backward(&self, d: &Tensor, positions: &Positions) -> Tensor {
        assert_eq!(d.columns(), self.outputs(), "pooling: columns of d");
        let mut dx = Tensor::zeros(d.rows(), self.inputs());
        let outputs = d.as_slice().par_chunks(self.outputs());
        let inputs = dx.as_mut_slice().par_chunks_mut(self.inputs());
        match self.kind {
            PoolKind::Mean => inputs.zip(outputs).for_each(|(dx, d)| self.spread(d, dx)),
            PoolKind::Max => {
                let places = &positions.0;
                assert_eq!(places.len(), d.as_slice().len(), "pooling: positions");
                inputs
                    .zip(outputs)
                    .zip(places.par_chunks(self.outputs()))
                    .for_each(|((dx, d), places)| {
                        for (d, place) in d.iter().zip(places) {
                            dx[*place as usize] += d;
                        }
                    });
            }
        }
        dx
    }

    /// Pools `x` by the choices made for another batch of the same rows: the values at the
    /// positions of its maxima, or the means.
    pub(crate) fn pick(&self, x: &Tensor, positions: &Positions) -> Tensor {
        if self.kind == PoolKind::Mean {
            return self.forward(x).0;
        }
        let mut y = Tensor::zeros(x.rows(), self.outputs());
        let inputs = x.as_slice().chunks_exact(self.inputs());
        let outputs = y.as_mut_slice().chunks_exact_mut(self.outputs());
        let places = positions.0.chunks_exact(self.outputs());
        for ((x, y), places) in inputs.zip(outputs).zip(places) {
            for (y, place) in y.iter_mut().zip(places) {
                *y = x[*place as usize];
            }
        }
        y
    }

    fn spread(&self, d: &[f32], dx: &mut [f32]) {
        let (width, share) = (self.input.width, self.share());
        for (d, corner) in d.iter().zip(self.corners()) {
            for start in (0..self.size).map(|line| corner + line * width) {
                for dx in &mut dx[start..start + self.size] {
                    *dx += d * share;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: ImageShape = ImageShape {
        channels: 2,
        height: 3,
        width: 3,
    };

    /// Two channels: 1..9 in reading order, and the same negated.
    fn images() -> Tensor {
        let values = (1..=9).map(|v| v as f32);
        let both = values.clone().chain(values.map(|v| -v)).collect();
        Tensor::from_vec(1, 18, both).unwrap()
    }

    #[test]
    fn overlapping_windows_by_hand() {
        // Windows of side 2, stride 1: maxima 5, 6, 8, 9 and -1, -2, -4, -5; means are those of
        // the corners, 3, 4, 6, 7 and their negatives.
        let max = PoolShape::new(PoolKind::Max, INPUT, 2, 1).unwrap();
        let (y, places) = max.forward(&images());
        assert_eq!(y.as_slice(), [5.0, 6.0, 8.0, 9.0, -1.0, -2.0, -4.0, -5.0]);
        assert_eq!(places.0, [4, 5, 7, 8, 9, 10, 12, 13]);
        let mean = PoolShape::new(PoolKind::Mean, INPUT, 2, 1).unwrap();
        let (y, places) = mean.forward(&images());
        assert_eq!(y.as_slice(), [3.0, 4.0, 6.0, 7.0, -3.0, -4.0, -6.0, -7.0]);
        let ones = Tensor::from_vec(1, 8, vec![4.0; 8]).unwrap();
        // How many windows hold each place: 1 2 1, 2 4 2, 1 2 1.
        let counts = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0];
        assert_eq!(
            mean.backward(&ones, &places).as_slice(),
            [counts, counts].concat()
        );
    }

    #[test]
    fn a_tie_goes_to_the_first_and_shared_maxima_add_up() {
        let shape = PoolShape::new(PoolKind::Max, INPUT, 2, 1).unwrap();
        let (_, places) = shape.forward(&Tensor::zeros(1, 18));
        assert_eq!(places.0[..4], [0, 1, 3, 4]);
        let mut x = Tensor::zeros(1, 18);
        x.row_mut(0)[4] = 1.0; // the centre belongs to all four windows
        let (_, places) = shape.forward(&x);
        let d = Tensor::from_vec(1, 8, vec![1.0; 8]).unwrap();
        assert_eq!(shape.backward(&d, &places).row(0)[4], 4.0);
    }

    #[test]
    fn left_over_rows_are_dropped() {
        let shape = PoolShape::new(PoolKind::Max, INPUT, 2, 2).unwrap();
        assert_eq!((shape.output().height, shape.output().width), (1, 1));
        assert_eq!(shape.forward(&images()).0.as_slice(), [5.0, -1.0]);
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        for (size, stride) in [(1, 1), (4, 1), (2, 0), (usize::MAX, 1)] {
            assert_eq!(PoolShape::new(PoolKind::Max, INPUT, size, stride), None);
        }
    }
}
