//! Where the integers of a linear layer sit in the coefficients of a polynomial.
//!
//! A tile holds `inputs_per_tile` (n_c) input channels and `outputs_per_tile` (m_c) output channels
//! of one **chunk** of the batch; the ring is `Z_q[Y]/(Y^N + 1)`. For a convolution of an `H x W`
//! image with kernel side `k` and padding `p`, write `Ws = W + p` for the stride between rows,
//! `S = (H + p) Ws` between images (the margins are shared by neighbours), `H_o = H + 2p - k + 1`,
//! `lag(a, e) = a Ws + e`, `L = lag(k-1, k-1)` and `off = lag(p, p)`. All images of the batch are
//! one sequence: pixel `(u, v)` of sample `j` is its element `s = j S + u Ws + v`, an output
//! position `(i, l)` stands at `t = j S + i Ws + l`, and
//! `y[t] = sum K[a,e] x[t + lag(a,e) - off]`, where margins are zeros.
//!
//! Chunk `b` begins at element `b A` of the sequence. Write `s' = s - b A` and
//! `t' = t + L - off - b A`; channels are `P` coefficients apart.
//!
//! | | polynomial | results |
//! |---|---|---|
//! | inputs | `X = sum x[c,s] Y^(c P + s')` | |
//! | output gradients | `D = sum d[m,t] Y^(m n_c P + E - t')` | |
//! | gradient | `D X` | `m n_c P + c P + E - L + lag(a,e)` holds the sum over all pairs `(s, t)` of the chunk |
//! | forward | `Kf = sum K[m,c,a,e] Y^(m n_c P + (n_c-1-c) P + L - lag(a,e))`, `Kf X` | `m n_c P + (n_c-1) P + t'` holds what the chunk adds to `y[m,t]` |
//! | backward | `Kb = sum K[m,c,a,e] Y^((m_c-1-m) n_c P + c P + L - lag(a,e))`, `Kb D` | `(m_c-1) n_c P + c P + E - s'` holds `dx[c,s]` |
//!
//! There are three kinds of chunks ([`Tiling`]).
//!
//! **Whole** samples, B0 of them: `A = P = B0 S`, `n_c m_c P <= N`, and
//! `E = pi(B0-1, H_o-1, W_o-1) + L - off` with `pi(j, i, l) = j S + i Ws + l`, the last place of an
//! output. Samples meet nothing but zeros at their ends, so that every result is complete.
//!
//! A **stream** cuts the sequence wherever a polynomial is full, through rows and images: see
//! [`stream`].
//!
//! **Scalar**: every pixel and every output position is a channel of its own, as if the layer were
//! dense with most weights absent, and `A = P = N` samples fill a polynomial. Weights are then
//! integers, and the server's products need no transform.
//!
//! A kernel's exponents may pass `N`; they wrap with a change of sign and miss all results. A
//! **dense** layer is the convolution of `1 x 1` images with a `1 x 1` kernel: `P = B0`, every
//! `lag` is zero. A stride `z` uses every `z`-th place of the results of stride one, and zeros
//! elsewhere in `D`.
//!
//! The same `X` serves forward and gradient, the same layout of `D` backward and gradient.
//! Exactness, wrap-around included, is a property test against plain products in the schoolbook
//! ring.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sphinx_nn::network::{LinearKind, LinearShape};

use crate::format::Integers;
use crate::paper::Products;

mod cost;
pub mod stream;

pub use cost::Held;
pub(crate) use cost::{SUMS_AT_ONCE, WEIGHTS_AT_ONCE};

/// The free choices of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tiling {
    /// Chunks of whole samples.
    Whole {
        /// n_c: inputs (of a convolution: input channels) in one polynomial.
        inputs_per_tile: usize,
        /// m_c: outputs (of a convolution: output channels) in one polynomial.
        outputs_per_tile: usize,
        /// B0: samples in one polynomial.
        samples_per_chunk: usize,
    },
    /// Chunks as long as a polynomial has room for.
    Stream {
        /// n_c: input channels in one polynomial.
        inputs_per_tile: usize,
        /// m_c: output channels in one polynomial.
        outputs_per_tile: usize,
    },
    /// One input or output of N samples in a polynomial, pixel by pixel: weights are integers.
    /// Only where no gradient is asked for: of masks, of `W^T d`, of `W x` where the client keeps
    /// the gradient.
    Scalar,
}

impl Tiling {
    /// Tile, stream or scalar.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Whole { .. } => "tile",
            Self::Stream { .. } => "stream",
            Self::Scalar => "scalar",
        }
    }

    /// n_c: inputs (of a convolution: input channels) in one polynomial.
    #[must_use]
    pub const fn inputs_per_tile(self) -> usize {
        match self {
            Self::Whole {
                inputs_per_tile, ..
            }
            | Self::Stream {
                inputs_per_tile, ..
            } => inputs_per_tile,
            Self::Scalar => 1,
        }
    }

    /// m_c: outputs (of a convolution: output channels) in one polynomial.
    #[must_use]
    pub const fn outputs_per_tile(self) -> usize {
        match self {
            Self::Whole {
                outputs_per_tile, ..
            }
            | Self::Stream {
                outputs_per_tile, ..
            } => outputs_per_tile,
            Self::Scalar => 1,
        }
    }
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

    /// `pi(0, H-1, W-1)`, the last pixel of an image.
    const fn last_pixel(&self) -> usize {
        (self.image.0 - 1) * self.row() + self.image.1 - 1
    }
}

/// The two things an image is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plane {
    /// Of the inputs.
    Pixels,
    /// Of the outputs.
    Positions,
}

/// Neighbours in one row of an image that lie in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    sample: usize,
    /// Index of the first of them in its image.
    first: usize,
    length: usize,
    /// `s'` or `t'` of the first of them.
    place: usize,
}

/// A linear layer laid out in polynomials of `degree` coefficients for `capacity` samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    degree: usize,
    shape: LinearShape,
    geometry: Geometry,
    capacity: usize,
    tiling: Tiling,
    /// P, the stride between input channels.
    block: usize,
    /// A, the stride between chunks.
    advance: usize,
    /// E, the place of the last output position of a chunk.
    end: usize,
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
        let geometry = Geometry::new(&match tiling {
            Tiling::Scalar => LinearShape::dense(shape.inputs, shape.outputs),
            _ => *shape,
        });
        let channels = (tiling.inputs_per_tile()).checked_mul(tiling.outputs_per_tile())?;
        let usable = channels > 0
            && shape.inputs > 0
            && shape.outputs > 0
            && capacity > 0
            && geometry.longest() < degree
            && Self::exists_for(shape);
        if !usable {
            return None;
        }
        let (block, advance, end) = match tiling {
            Tiling::Whole {
                samples_per_chunk, ..
            } => {
                let block = samples_per_chunk.checked_mul(geometry.space())?;
                let last = block.checked_sub(geometry.space())? + geometry.end();
                // Results at negative exponents would need a sign: images so small, with so large
                // a frame, take another tiling.
                let end = last.checked_sub(geometry.offset())? + geometry.longest();
                (block, block, end)
            }
            Tiling::Stream { .. } => {
                let block = degree / channels;
                let advance = block.checked_sub(geometry.longest())?;
                (block, advance, block.checked_sub(1)?)
            }
            Tiling::Scalar => (degree, degree, degree - 1),
        };
        let fits = advance > 0 && channels.checked_mul(block)? <= degree;
        fits.then_some(Self {
            degree,
            shape: *shape,
            geometry,
            capacity,
            tiling,
            block,
            advance,
            end,
        })
    }

    /// Number of polynomials across the inputs.
    #[must_use]
    pub const fn input_tiles(&self) -> usize {
        self.geometry.inputs.div_ceil(self.tiling.inputs_per_tile())
    }

    /// Number of polynomials across the outputs.
    #[must_use]
    pub const fn output_tiles(&self) -> usize {
        self.geometry
            .outputs
            .div_ceil(self.tiling.outputs_per_tile())
    }

    /// Number of polynomials across the samples.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        let last = (self.capacity - 1) * self.geometry.space() + self.geometry.last_pixel();
        last / self.advance + 1
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
        self.shape.weights()
    }

    /// The free choices.
    #[must_use]
    pub const fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// Inputs (input channels) of one tile.
    #[must_use]
    pub fn input_range(&self, tile: usize) -> Range<usize> {
        range(tile, self.tiling.inputs_per_tile(), self.geometry.inputs)
    }

    /// Outputs (output channels) of one tile.
    #[must_use]
    pub fn output_range(&self, tile: usize) -> Range<usize> {
        range(tile, self.tiling.outputs_per_tile(), self.geometry.outputs)
    }

    /// `n_c P`, the stride between output channels.
    const fn stride(&self) -> usize {
        self.tiling.inputs_per_tile() * self.block
    }

    /// Samples of one element lie side by side in a chunk: which ones.
    fn singles(&self, chunk: usize) -> Option<Range<usize>> {
        (self.geometry.space() == 1).then(|| range(chunk, self.advance, self.capacity))
    }

    /// What lies in one chunk, in the order of the batch.
    fn lines(&self, chunk: usize, plane: Plane) -> Vec<Line> {
        let geometry = &self.geometry;
        let complete = !matches!(self.tiling, Tiling::Stream { .. });
        let shift = geometry.longest() - geometry.offset();
        // Of `s'` or `t'`: what is added to a place of the sequence, and the window of the chunk.
        let ((height, width), step, added, window) = match plane {
            Plane::Pixels => (geometry.image, 1, 0, 0..self.advance),
            Plane::Positions if complete => (
                geometry.result,
                geometry.stride,
                shift,
                shift..shift + self.advance,
            ),
            Plane::Positions => (geometry.result, geometry.stride, shift, 0..self.block),
        };
        let start = chunk * self.advance;
        let from = (start + window.start).saturating_sub(added);
        let to = (start + window.end).saturating_sub(added);
        let samples = from / geometry.space()..to.div_ceil(geometry.space()).min(self.capacity);
        let rows = samples.flat_map(|sample| (0..height).map(move |row| (sample, row)));
        rows.filter_map(|(sample, row)| {
            let at = sample * geometry.space() + step * row * geometry.row();
            let first = from.saturating_sub(at).div_ceil(step);
            let end = to.saturating_sub(at).div_ceil(step).min(width);
            (first < end).then(|| Line {
                sample,
                first: row * width + first,
                length: end - first,
                place: added + at + step * first - start,
            })
        })
        .collect()
    }

    /// Places between neighbours of a line.
    const fn step(&self, plane: Plane) -> usize {
        match plane {
            Plane::Pixels => 1,
            Plane::Positions => self.geometry.stride,
        }
    }

    /// `X` of one chunk and input tile.
    #[must_use]
    pub fn pack_inputs(&self, x: &Integers, chunk: usize, tile: usize) -> Vec<i64> {
        let (pixels, channels) = (self.geometry.pixels(), self.input_range(tile));
        let mut poly = vec![0; self.stride()];
        if let Some(samples) = self.singles(chunk) {
            for (j, row) in samples.enumerate() {
                for (c, &v) in x.row(row)[channels.clone()].iter().enumerate() {
                    poly[c * self.block + j] = i64::from(v);
                }
            }
            return poly;
        }
        for line in self.lines(chunk, Plane::Pixels) {
            for (c, channel) in channels.clone().enumerate() {
                let start = channel * pixels + line.first;
                let values = &x.row(line.sample)[start..start + line.length];
                let at = c * self.block + line.place;
                for (out, &v) in poly[at..at + line.length].iter_mut().zip(values) {
                    *out = i64::from(v);
                }
            }
        }
        poly
    }

    /// `D` of one chunk and output tile.
    #[must_use]
    pub fn pack_gradients(&self, d: &Integers, chunk: usize, tile: usize) -> Vec<i64> {
        let (positions, channels) = (self.geometry.positions(), self.output_range(tile));
        let step = self.step(Plane::Positions);
        let mut poly = vec![0; self.stride() * self.tiling.outputs_per_tile()];
        if let Some(samples) = self.singles(chunk) {
            for (j, row) in samples.enumerate() {
                for (m, &v) in d.row(row)[channels.clone()].iter().enumerate() {
                    poly[m * self.stride() + self.end - j] = i64::from(v);
                }
            }
            return poly;
        }
        for line in self.lines(chunk, Plane::Positions) {
            for (m, channel) in channels.clone().enumerate() {
                let start = channel * positions + line.first;
                let values = &d.row(line.sample)[start..start + line.length];
                let end = m * self.stride() + self.end - line.place;
                for (at, &v) in values.iter().enumerate() {
                    poly[end - at * step] = i64::from(v);
                }
            }
        }
        poly
    }

    /// `Kf` of one pair of tiles; `weights` is row-major `[out][in][tap]`.
    #[must_use]
    pub fn forward_weights(&self, weights: &[i32], output: usize, input: usize) -> Vec<i64> {
        let n_c = self.tiling.inputs_per_tile();
        self.place(weights, output, input, |m, c| {
            m * self.stride() + (n_c - 1 - c) * self.block
        })
    }

    /// `Kb` of one pair of tiles.
    #[must_use]
    pub fn backward_weights(&self, weights: &[i32], output: usize, input: usize) -> Vec<i64> {
        let m_c = self.tiling.outputs_per_tile();
        self.place(weights, output, input, |m, c| {
            (m_c - 1 - m) * self.stride() + c * self.block
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
                if self.tiling == Tiling::Scalar {
                    poly[0] = self.meeting(weights, out, channel);
                    continue;
                }
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

    /// The weight between an input and an output, pixel by pixel.
    fn meeting(&self, weights: &[i32], output: usize, input: usize) -> i64 {
        let terms = Products::new(self.shape).forward(weights, output as u32);
        let meets = terms.iter().find(|(at, _)| *at as usize == input);
        meets.map_or(0, |&(_, w)| w)
    }

    /// Coefficients of `Kf X` that carry results: outputs of the tile, samples of the chunk,
    /// positions.
    #[must_use]
    pub fn forward_positions(&self, output: usize, chunk: usize) -> Vec<usize> {
        let first = (self.tiling.inputs_per_tile() - 1) * self.block;
        let channels = self.output_range(output).len();
        self.in_lines(channels, chunk, Plane::Positions, |m, place| {
            first + m * self.stride() + place
        })
    }

    /// Coefficients of `Kb D` that carry results: inputs of the tile, samples of the chunk,
    /// pixels.
    #[must_use]
    pub fn backward_positions(&self, input: usize, chunk: usize) -> Vec<usize> {
        let first = (self.tiling.outputs_per_tile() - 1) * self.stride() + self.end;
        let channels = self.input_range(input).len();
        self.in_lines(channels, chunk, Plane::Pixels, |c, place| {
            first + c * self.block - place
        })
    }

    /// One coefficient for every channel and everything that lies in the chunk.
    fn in_lines(
        &self,
        channels: usize,
        chunk: usize,
        plane: Plane,
        at: impl Fn(usize, usize) -> usize,
    ) -> Vec<usize> {
        if let Some(samples) = self.singles(chunk) {
            let mut positions = Vec::with_capacity(channels * samples.len());
            for channel in 0..channels {
                positions.extend((0..samples.len()).map(|place| at(channel, place)));
            }
            return positions;
        }
        let (lines, step) = (self.lines(chunk, plane), self.step(plane));
        let each: usize = lines.iter().map(|line| line.length).sum();
        let mut positions = Vec::with_capacity(channels * each);
        for channel in 0..channels {
            for line in &lines {
                let places = (0..line.length).map(|i| line.place + i * step);
                positions.extend(places.map(|place| at(channel, place)));
            }
        }
        positions
    }

    /// Coefficients of `D X` that carry results: outputs of the tile, inputs of the tile, taps.
    #[must_use]
    pub fn gradient_positions(&self, output: usize, input: usize) -> Vec<usize> {
        let geometry = &self.geometry;
        let first = self.end - geometry.longest();
        let (outputs, inputs) = (
            self.output_range(output).len(),
            self.input_range(input).len(),
        );
        (0..outputs)
            .flat_map(|m| (0..inputs).map(move |c| (m, c)))
            .flat_map(|(m, c)| (0..geometry.taps()).map(move |tap| (m, c, tap)))
            .map(|(m, c, tap)| first + m * self.stride() + c * self.block + geometry.lag(tap))
            .collect()
    }

    /// Adds forward results of one tile and chunk to the batch, which began at zero: in a stream
    /// two chunks and more have a part in one output. Modulo 2^32, for masks.
    pub fn place_forward(&self, y: &mut Integers, values: &[i64], output: usize, chunk: usize) {
        let (channels, places) = (self.output_range(output), self.geometry.positions());
        self.place_lines(y, values, channels, (chunk, Plane::Positions), places);
    }

    /// Adds backward results of one tile and chunk to the batch, which began at zero.
    pub fn place_backward(&self, dx: &mut Integers, values: &[i64], input: usize, chunk: usize) {
        let (channels, places) = (self.input_range(input), self.geometry.pixels());
        self.place_lines(dx, values, channels, (chunk, Plane::Pixels), places);
    }

    fn place_lines(
        &self,
        batch: &mut Integers,
        values: &[i64],
        channels: Range<usize>,
        (chunk, plane): (usize, Plane),
        places: usize,
    ) {
        if let Some(samples) = self.singles(chunk) {
            let mut values = values.iter();
            for channel in channels {
                for (row, &v) in samples.clone().zip(&mut values) {
                    let out = &mut batch.row_mut(row)[channel];
                    *out = out.wrapping_add(saturate(v));
                }
            }
            return;
        }
        let lines = self.lines(chunk, plane);
        let mut values = values;
        for channel in channels {
            for line in &lines {
                let start = channel * places + line.first;
                let out = &mut batch.row_mut(line.sample)[start..start + line.length];
                let (mine, rest) = values.split_at(line.length.min(values.len()));
                for (out, &v) in out.iter_mut().zip(mine) {
                    *out = out.wrapping_add(saturate(v));
                }
                values = rest;
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
        self.tiling.inputs_per_tile() * self.geometry.pixels()
    }

    /// Entries of the layer's output gradients that one output tile carries in all its chunks, or
    /// a bound: in a stream, up to `L` of a channel and chunk stand in an earlier one as well.
    #[must_use]
    pub const fn outputs_in_chunks(&self) -> usize {
        let halos = match self.tiling {
            Tiling::Whole { .. } | Tiling::Scalar => 0,
            Tiling::Stream { .. } => self.chunks() * self.geometry.longest(),
        };
        let entries = self.capacity * self.geometry.positions() + halos;
        self.tiling.outputs_per_tile() * entries
    }

    /// Weights that meet in one forward result polynomial, over all input tiles.
    #[must_use]
    pub const fn forward_weight_count(&self) -> usize {
        if matches!(self.tiling, Tiling::Scalar) {
            return self.shape.fans().0;
        }
        self.geometry.inputs * self.tiling.outputs_per_tile() * self.geometry.taps()
    }

    /// Weights that meet in one backward result polynomial, over all output tiles.
    #[must_use]
    pub const fn backward_weight_count(&self) -> usize {
        if matches!(self.tiling, Tiling::Scalar) {
            return self.shape.fans().1;
        }
        self.geometry.outputs * self.tiling.inputs_per_tile() * self.geometry.taps()
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
