//! Where the integers of a linear layer sit in the coefficients of a polynomial.
//!
//! A tile holds `inputs_per_tile` (n_c) input channels, `outputs_per_tile` (m_c) output channels and
//! `samples_per_chunk` (B0) samples; the ring is `Z_q[Y]/(Y^N + 1)`. For a convolution of an
//! `H x W` image with kernel side `k` and padding `p`, write `Ws = W + p` for the stride between
//! rows, `S = (H + p) Ws` between images (the margins are shared by neighbours), `P = B0 S`
//! between channels, `H_o = H + 2p - k + 1`, `pi(j, u, v) = j S + u Ws + v`, `lag(a, e) = a Ws + e`,
//! `L = lag(k-1, k-1)`, `off = lag(p, p)` and `last = pi(B0-1, H_o-1, W_o-1)`. The tile fits if
//! `n_c m_c P <= N`.
//!
//! | | polynomial | results |
//! |---|---|---|
//! | inputs | `X = sum x[j,c,u,v] Y^(c P + pi(j,u,v))` | |
//! | output gradients | `D = sum d[j,m,i,l] Y^(m n_c P + last - pi(j,i,l))` | |
//! | gradient | `D X` | `m n_c P + c P + last + lag(a,e) - off` holds the sum over `j` and all positions |
//! | forward | `Kf = sum K[m,c,a,e] Y^(m n_c P + (n_c-1-c) P + L - lag(a,e))`, `Kf X` | `m n_c P + (n_c-1) P + L - off + pi(j,i,l)` holds `y[j,m,i,l]` |
//! | backward | `Kb = sum K[m,c,a,e] Y^((m_c-1-m) n_c P + c P + L - lag(a,e))`, `Kb D` | `(m_c-1) n_c P + c P + last + L - off - pi(j,u,v)` holds `dx[j,c,u,v]` |
//!
//! A kernel's exponents may pass `N`; they wrap with a change of sign and miss all results. A
//! **dense** layer is the convolution of `1 x 1` images with a `1 x 1` kernel: `P = B0`, every
//! `lag` is zero. A stride `s` uses every `s`-th place of the results of stride one, and zeros
//! elsewhere in `D`.
//!
//! The same `X` serves forward and gradient, the same layout of `D` backward and gradient.
//! Exactness, wrap-around included, is a property test against plain products in the schoolbook
//! ring.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sphinx_nn::network::{LinearKind, LinearShape};

use crate::format::Integers;

mod cost;

pub use cost::Held;
pub(crate) use cost::WEIGHTS_AT_ONCE;

/// The free choices of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiling {
    /// n_c: inputs (of a convolution: input channels) in one polynomial.
    pub inputs_per_tile: usize,
    /// m_c: outputs (of a convolution: output channels) in one polynomial.
    pub outputs_per_tile: usize,
    /// B0: samples in one polynomial.
    pub samples_per_chunk: usize,
}

/// Channels and images of a layer; a dense layer has images of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    inputs: usize,
    outputs: usize,
    /// Height and width of an input image.
    image: (usize, usize),
    /// Height and width of an output image.
    result: (usize, usize),
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Geometry {
    fn new(shape: &LinearShape) -> Self {
        match shape.kind {
            LinearKind::Dense => Self {
                inputs: shape.inputs,
                outputs: shape.outputs,
                image: (1, 1),
                result: (1, 1),
                kernel: 1,
                stride: 1,
                padding: 0,
            },
            LinearKind::Conv(conv) => Self {
                inputs: conv.input().channels,
                outputs: conv.output().channels,
                image: (conv.input().height, conv.input().width),
                result: (conv.output().height, conv.output().width),
                kernel: conv.kernel(),
                stride: conv.stride(),
                padding: conv.padding(),
            },
        }
    }

    const fn pixels(&self) -> usize {
        self.image.0 * self.image.1
    }

    const fn positions(&self) -> usize {
        self.result.0 * self.result.1
    }

    const fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Ws
    const fn row(&self) -> usize {
        self.image.1 + self.padding
    }

    /// S
    const fn space(&self) -> usize {
        (self.image.0 + self.padding) * self.row()
    }

    /// `lag(a, e)` of a tap.
    const fn lag(&self, tap: usize) -> usize {
        tap / self.kernel * self.row() + tap % self.kernel
    }

    /// L
    const fn longest(&self) -> usize {
        (self.kernel - 1) * (self.row() + 1)
    }

    /// off
    const fn offset(&self) -> usize {
        self.padding * (self.row() + 1)
    }

    /// `pi(0, H_o-1, W_o-1)`, for stride one.
    const fn end(&self) -> usize {
        let (height, width) = self.image;
        let framed = 2 * self.padding + 1;
        (height + framed - self.kernel - 1) * self.row() + width + framed - self.kernel - 1
    }

    /// `pi(0, u, v)` of an input pixel.
    const fn pixel(&self, pixel: usize) -> usize {
        pixel / self.image.1 * self.row() + pixel % self.image.1
    }

    /// `pi(0, i, l)` of an output position, on the grid of stride one.
    const fn position(&self, position: usize) -> usize {
        let (i, l) = (position / self.result.1, position % self.result.1);
        self.stride * (i * self.row() + l)
    }
}

/// A linear layer laid out in polynomials of `degree` coefficients for `capacity` samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    degree: usize,
    geometry: Geometry,
    capacity: usize,
    tiling: Tiling,
}

impl Layout {
    /// Whether this kind of layer can be laid out at all: a convolution must not be padded by half
    /// its kernel or more, or neighbouring images would meet, and its kernel must not be wider than
    /// the image and one margin, or two of its places would.
    #[must_use]
    pub fn exists_for(shape: &LinearShape) -> bool {
        let geometry = Geometry::new(shape);
        let narrow = geometry.image.0.min(geometry.image.1) + geometry.padding;
        2 * geometry.padding < geometry.kernel && geometry.kernel <= narrow
    }

    /// A layout, or nothing if the tile does not fit into `degree` coefficients.
    #[must_use]
    pub fn new(
        degree: usize,
        shape: &LinearShape,
        capacity: usize,
        tiling: Tiling,
    ) -> Option<Self> {
        let geometry = Geometry::new(shape);
        let size = tiling
            .inputs_per_tile
            .checked_mul(tiling.outputs_per_tile)?
            .checked_mul(tiling.samples_per_chunk)?
            .checked_mul(geometry.space())?;
        let layout = Self {
            degree,
            geometry,
            capacity,
            tiling,
        };
        let fits = size > 0
            && size <= degree
            && shape.inputs > 0
            && shape.outputs > 0
            && capacity > 0
            && geometry.longest() < degree
            && Self::exists_for(shape);
        // Results at negative exponents would need a sign: images so small, with so large a frame,
        // take another tiling.
        (fits && layout.last() >= geometry.offset()).then_some(layout)
    }

    /// Number of polynomials across the inputs.
    #[must_use]
    pub const fn input_tiles(&self) -> usize {
        self.geometry.inputs.div_ceil(self.tiling.inputs_per_tile)
    }

    /// Number of polynomials across the outputs.
    #[must_use]
    pub const fn output_tiles(&self) -> usize {
        self.geometry.outputs.div_ceil(self.tiling.outputs_per_tile)
    }

    /// Number of polynomials across the samples.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.capacity.div_ceil(self.tiling.samples_per_chunk)
    }

    /// Rows of the batch, and entries of a row of inputs and of outputs.
    pub(crate) const fn batch(&self) -> (usize, (usize, usize)) {
        let (inputs, outputs) = (self.geometry.inputs, self.geometry.outputs);
        let wide = (
            inputs * self.geometry.pixels(),
            outputs * self.geometry.positions(),
        );
        (self.capacity, wide)
    }

    /// Weights of the layer.
    pub(crate) const fn weights(&self) -> usize {
        self.geometry.inputs * self.geometry.outputs * self.geometry.taps()
    }

    /// The free choices.
    #[must_use]
    pub const fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// Samples of one chunk.
    #[must_use]
    pub fn samples(&self, chunk: usize) -> Range<usize> {
        range(chunk, self.tiling.samples_per_chunk, self.capacity)
    }

    /// Inputs (input channels) of one tile.
    #[must_use]
    pub fn input_range(&self, tile: usize) -> Range<usize> {
        range(tile, self.tiling.inputs_per_tile, self.geometry.inputs)
    }

    /// Outputs (output channels) of one tile.
    #[must_use]
    pub fn output_range(&self, tile: usize) -> Range<usize> {
        range(tile, self.tiling.outputs_per_tile, self.geometry.outputs)
    }

    /// P, the stride between input channels.
    const fn block(&self) -> usize {
        self.tiling.samples_per_chunk * self.geometry.space()
    }

    /// `n_c P`, the stride between output channels.
    const fn stride(&self) -> usize {
        self.tiling.inputs_per_tile * self.block()
    }

    /// `last`, the place of the last output position of the last sample.
    const fn last(&self) -> usize {
        (self.tiling.samples_per_chunk - 1) * self.geometry.space() + self.geometry.end()
    }

    /// `X` of one chunk and input tile.
    #[must_use]
    pub fn pack_inputs(&self, x: &Integers, chunk: usize, tile: usize) -> Vec<i64> {
        let geometry = &self.geometry;
        let mut poly = vec![0; self.stride()];
        for (j, row) in self.samples(chunk).enumerate() {
            let images = x.row(row).chunks_exact(geometry.pixels());
            let mine = images.skip(self.input_range(tile).start);
            for (c, image) in mine.take(self.input_range(tile).len()).enumerate() {
                let start = c * self.block() + j * geometry.space();
                for (pixel, &v) in image.iter().enumerate() {
                    poly[start + geometry.pixel(pixel)] = i64::from(v);
                }
            }
        }
        poly
    }

    /// `D` of one chunk and output tile.
    #[must_use]
    pub fn pack_gradients(&self, d: &Integers, chunk: usize, tile: usize) -> Vec<i64> {
        let geometry = &self.geometry;
        let mut poly = vec![0; self.stride() * self.tiling.outputs_per_tile];
        for (j, row) in self.samples(chunk).enumerate() {
            let images = d.row(row).chunks_exact(geometry.positions());
            let mine = images.skip(self.output_range(tile).start);
            for (m, image) in mine.take(self.output_range(tile).len()).enumerate() {
                let end = m * self.stride() + self.last() - j * geometry.space();
                for (position, &v) in image.iter().enumerate() {
                    poly[end - geometry.position(position)] = i64::from(v);
                }
            }
        }
        poly
    }

    /// `Kf` of one pair of tiles; `weights` is row-major `[out][in][tap]`.
    #[must_use]
    pub fn forward_weights(&self, weights: &[i32], output: usize, input: usize) -> Vec<i64> {
        let n_c = self.tiling.inputs_per_tile;
        self.place(weights, output, input, |m, c| {
            m * self.stride() + (n_c - 1 - c) * self.block()
        })
    }

    /// `Kb` of one pair of tiles.
    #[must_use]
    pub fn backward_weights(&self, weights: &[i32], output: usize, input: usize) -> Vec<i64> {
        let m_c = self.tiling.outputs_per_tile;
        self.place(weights, output, input, |m, c| {
            (m_c - 1 - m) * self.stride() + c * self.block()
        })
    }

    fn place(
        &self,
        weights: &[i32],
        output: usize,
        input: usize,
        start: impl Fn(usize, usize) -> usize,
    ) -> Vec<i64> {
        let geometry = &self.geometry;
        let mut poly = vec![0; self.degree];
        for (m, out) in self.output_range(output).enumerate() {
            for (c, channel) in self.input_range(input).enumerate() {
                let kernel = (out * geometry.inputs + channel) * geometry.taps();
                let taps = &weights[kernel..kernel + geometry.taps()];
                for (tap, &w) in taps.iter().enumerate() {
                    let at = start(m, c) + geometry.longest() - geometry.lag(tap);
                    if at < self.degree {
                        poly[at] += i64::from(w);
                    } else {
                        poly[at - self.degree] -= i64::from(w);
                    }
                }
            }
        }
        poly
    }

    /// Coefficients of `Kf X` that carry results: outputs of the tile, samples of the chunk,
    /// positions.
    #[must_use]
    pub fn forward_positions(&self, output: usize, chunk: usize) -> Vec<usize> {
        let geometry = &self.geometry;
        let first = (self.tiling.inputs_per_tile - 1) * self.block() + geometry.longest()
            - geometry.offset();
        let outputs = self.output_range(output).len();
        self.in_images(outputs, chunk, geometry.positions(), |m, j, position| {
            first + m * self.stride() + j * geometry.space() + geometry.position(position)
        })
    }

    /// Coefficients of `Kb D` that carry results: inputs of the tile, samples of the chunk,
    /// pixels.
    #[must_use]
    pub fn backward_positions(&self, input: usize, chunk: usize) -> Vec<usize> {
        let geometry = &self.geometry;
        let first =
            (self.tiling.outputs_per_tile - 1) * self.stride() + self.last() + geometry.longest()
                - geometry.offset();
        let inputs = self.input_range(input).len();
        self.in_images(inputs, chunk, geometry.pixels(), |c, j, pixel| {
            first + c * self.block() - j * geometry.space() - geometry.pixel(pixel)
        })
    }

    /// One coefficient for every channel, sample of the chunk and place of an image.
    fn in_images(
        &self,
        channels: usize,
        chunk: usize,
        places: usize,
        at: impl Fn(usize, usize, usize) -> usize,
    ) -> Vec<usize> {
        let samples = self.samples(chunk).len();
        let mut positions = Vec::with_capacity(channels * samples * places);
        for channel in 0..channels {
            for j in 0..samples {
                positions.extend((0..places).map(|place| at(channel, j, place)));
            }
        }
        positions
    }

    /// Coefficients of `D X` that carry results: outputs of the tile, inputs of the tile, taps.
    #[must_use]
    pub fn gradient_positions(&self, output: usize, input: usize) -> Vec<usize> {
        let geometry = &self.geometry;
        let first = self.last() - geometry.offset();
        let (outputs, inputs) = (
            self.output_range(output).len(),
            self.input_range(input).len(),
        );
        (0..outputs)
            .flat_map(|m| (0..inputs).map(move |c| (m, c)))
            .flat_map(|(m, c)| (0..geometry.taps()).map(move |tap| (m, c, tap)))
            .map(|(m, c, tap)| first + m * self.stride() + c * self.block() + geometry.lag(tap))
            .collect()
    }

    /// Writes forward results of one tile and chunk into the batch.
    pub fn place_forward(&self, y: &mut Integers, values: &[i64], output: usize, chunk: usize) {
        let (channels, places) = (self.output_range(output), self.geometry.positions());
        self.place_images(y, values, channels, chunk, places);
    }

    /// Writes backward results of one tile and chunk into the batch.
    pub fn place_backward(&self, dx: &mut Integers, values: &[i64], input: usize, chunk: usize) {
        let (channels, places) = (self.input_range(input), self.geometry.pixels());
        self.place_images(dx, values, channels, chunk, places);
    }

    fn place_images(
        &self,
        batch: &mut Integers,
        values: &[i64],
        channels: Range<usize>,
        chunk: usize,
        places: usize,
    ) {
        let mut images = values.chunks_exact(places);
        for channel in channels {
            for (row, image) in self.samples(chunk).zip(&mut images) {
                let start = channel * places;
                let out = &mut batch.row_mut(row)[start..start + places];
                for (out, &v) in out.iter_mut().zip(image) {
                    *out = saturate(v);
                }
            }
        }
    }

    /// Writes gradient results of one pair of tiles into the layer's row-major `[out][in][tap]` sum.
    pub fn place_gradient(&self, sum: &mut [i64], values: &[i64], output: usize, input: usize) {
        let (inputs, taps) = (self.input_range(input), self.geometry.taps());
        let width = inputs.len() * taps;
        for (out, row) in self.output_range(output).zip(values.chunks_exact(width)) {
            let start = (out * self.geometry.inputs + inputs.start) * taps;
            sum[start..start + width].copy_from_slice(row);
        }
    }

    /// Entries of the layer's inputs that one polynomial carries for one sample.
    #[must_use]
    pub const fn inputs_in_tile(&self) -> usize {
        self.tiling.inputs_per_tile * self.geometry.pixels()
    }

    /// Entries of the layer's output gradients that one polynomial carries for one sample.
    #[must_use]
    pub const fn outputs_in_tile(&self) -> usize {
        self.tiling.outputs_per_tile * self.geometry.positions()
    }

    /// Weights that meet in one forward result polynomial, over all input tiles.
    #[must_use]
    pub const fn forward_weight_count(&self) -> usize {
        self.geometry.inputs * self.tiling.outputs_per_tile * self.geometry.taps()
    }

    /// Weights that meet in one backward result polynomial, over all output tiles.
    #[must_use]
    pub const fn backward_weight_count(&self) -> usize {
        self.geometry.outputs * self.tiling.inputs_per_tile * self.geometry.taps()
    }
}

fn range(tile: usize, size: usize, end: usize) -> Range<usize> {
    (tile * size).min(end)..((tile + 1) * size).min(end)
}

/// Exact results fit 32 bits, because the plan says so; a dishonest server's may not.
fn saturate(v: i64) -> i32 {
    v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests;
