//! Where the integers of a dense layer sit in the coefficients of a polynomial.
//!
//! A tile holds `inputs_per_tile` (n_w) inputs, `outputs_per_tile` (m_w) outputs and
//! `samples_per_chunk` (B0) samples, with `n_w m_w B0 <= N`; the ring is `Z_q[Y]/(Y^N + 1)`.
//!
//! | | polynomial | coefficient |
//! |---|---|---|
//! | inputs | `X = sum x[j][k] Y^(k B0 + B0-1-j)` | |
//! | output gradients | `D = sum d[j][i] Y^(i n_w B0 + j)` | |
//! | gradient | `D X` | `i n_w B0 + k B0 + B0-1` holds `sum_j d[j][i] x[j][k]` |
//! | forward | `Wf = sum W[i][k] Y^(i n_w B0 + (n_w-1-k) B0)`, `Wf X` | `i n_w B0 + (n_w-1) B0 + B0-1-j` holds `(W x_j)[i]` |
//! | backward | `Wb = sum W[i][k] Y^((m_w-1-i) n_w B0 + k B0)`, `Wb D` | `(m_w-1) n_w B0 + k B0 + j` holds `(W^T d_j)[k]` |
//!
//! The same `X` serves forward and gradient, the same layout of `D` backward and gradient.
//! Exactness, wrap-around included, is a property test against plain products in the schoolbook
//! ring.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::format::Integers;

/// The free choices of a dense layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiling {
    /// n_w: inputs in one polynomial.
    pub inputs_per_tile: usize,
    /// m_w: outputs in one polynomial.
    pub outputs_per_tile: usize,
    /// B0: samples in one polynomial.
    pub samples_per_chunk: usize,
}

/// A dense layer laid out in polynomials of degree bound `degree` for `capacity` samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseLayout {
    inputs: usize,
    outputs: usize,
    capacity: usize,
    tiling: Tiling,
}

impl DenseLayout {
    /// A layout, or nothing if the tile does not fit into `degree` coefficients.
    #[must_use]
    pub fn new(
        degree: usize,
        inputs: usize,
        outputs: usize,
        capacity: usize,
        tiling: Tiling,
    ) -> Option<Self> {
        let Tiling {
            inputs_per_tile,
            outputs_per_tile,
            samples_per_chunk,
        } = tiling;
        let size = inputs_per_tile
            .checked_mul(outputs_per_tile)?
            .checked_mul(samples_per_chunk)?;
        let fits = size > 0 && size <= degree && inputs > 0 && outputs > 0 && capacity > 0;
        fits.then_some(Self {
            inputs,
            outputs,
            capacity,
            tiling,
        })
    }

    /// Number of polynomials across the inputs.
    #[must_use]
    pub const fn input_tiles(&self) -> usize {
        self.inputs.div_ceil(self.tiling.inputs_per_tile)
    }

    /// Number of polynomials across the outputs.
    #[must_use]
    pub const fn output_tiles(&self) -> usize {
        self.outputs.div_ceil(self.tiling.outputs_per_tile)
    }

    /// Number of polynomials across the samples.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.capacity.div_ceil(self.tiling.samples_per_chunk)
    }

    /// The free choices.
    #[must_use]
    pub const fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// Samples of one chunk.
    #[must_use]
    pub fn samples(&self, chunk: usize) -> Range<usize> {
        let b0 = self.tiling.samples_per_chunk;
        chunk * b0..((chunk + 1) * b0).min(self.capacity)
    }

    /// Inputs of one tile.
    #[must_use]
    pub fn input_range(&self, tile: usize) -> Range<usize> {
        let n_w = self.tiling.inputs_per_tile;
        tile * n_w..((tile + 1) * n_w).min(self.inputs)
    }

    /// Outputs of one tile.
    #[must_use]
    pub fn output_range(&self, tile: usize) -> Range<usize> {
        let m_w = self.tiling.outputs_per_tile;
        tile * m_w..((tile + 1) * m_w).min(self.outputs)
    }

    /// n_w B0, the stride between outputs.
    const fn stride(&self) -> usize {
        self.tiling.inputs_per_tile * self.tiling.samples_per_chunk
    }

    const fn size(&self) -> usize {
        self.stride() * self.tiling.outputs_per_tile
    }

    /// `X` of one chunk and input tile.
    #[must_use]
    pub fn pack_inputs(&self, x: &Integers, chunk: usize, tile: usize) -> Vec<i64> {
        let b0 = self.tiling.samples_per_chunk;
        let mut poly = vec![0; self.stride()];
        for (j, row) in self.samples(chunk).enumerate() {
            let values = &x.row(row)[self.input_range(tile)];
            for (k, &v) in values.iter().enumerate() {
                poly[k * b0 + b0 - 1 - j] = i64::from(v);
            }
        }
        poly
    }

    /// `D` of one chunk and output tile.
    #[must_use]
    pub fn pack_gradients(&self, d: &Integers, chunk: usize, tile: usize) -> Vec<i64> {
        let mut poly = vec![0; self.size()];
        for (j, row) in self.samples(chunk).enumerate() {
            let values = &d.row(row)[self.output_range(tile)];
            for (i, &v) in values.iter().enumerate() {
                poly[i * self.stride() + j] = i64::from(v);
            }
        }
        poly
    }

    /// `Wf` of one pair of tiles; `weights` is row-major `[out][in]`.
    #[must_use]
    pub fn forward_weights(&self, weights: &[i32], output: usize, input: usize) -> Vec<i64> {
        let (n_w, b0) = (self.tiling.inputs_per_tile, self.tiling.samples_per_chunk);
        self.place(weights, output, input, |i, k| {
            i * self.stride() + (n_w - 1 - k) * b0
        })
    }

    /// `Wb` of one pair of tiles.
    #[must_use]
    pub fn backward_weights(&self, weights: &[i32], output: usize, input: usize) -> Vec<i64> {
        let (m_w, b0) = (self.tiling.outputs_per_tile, self.tiling.samples_per_chunk);
        self.place(weights, output, input, |i, k| {
            (m_w - 1 - i) * self.stride() + k * b0
        })
    }

    fn place(
        &self,
        weights: &[i32],
        output: usize,
        input: usize,
        exponent: impl Fn(usize, usize) -> usize,
    ) -> Vec<i64> {
        let mut poly = vec![0; self.size()];
        for (i, out) in self.output_range(output).enumerate() {
            let row = &weights[out * self.inputs..(out + 1) * self.inputs][self.input_range(input)];
            for (k, &w) in row.iter().enumerate() {
                poly[exponent(i, k)] = i64::from(w);
            }
        }
        poly
    }

    /// Coefficients of `Wf X` that carry results: outputs of the tile, then samples of the chunk.
    #[must_use]
    pub fn forward_positions(&self, output: usize, chunk: usize) -> Vec<usize> {
        let (n_w, b0) = (self.tiling.inputs_per_tile, self.tiling.samples_per_chunk);
        let samples = self.samples(chunk).len();
        (0..self.output_range(output).len())
            .flat_map(|i| (0..samples).map(move |j| (i, j)))
            .map(|(i, j)| i * self.stride() + (n_w - 1) * b0 + b0 - 1 - j)
            .collect()
    }

    /// Coefficients of `Wb D` that carry results: inputs of the tile, then samples of the chunk.
    #[must_use]
    pub fn backward_positions(&self, input: usize, chunk: usize) -> Vec<usize> {
        let (m_w, b0) = (self.tiling.outputs_per_tile, self.tiling.samples_per_chunk);
        let samples = self.samples(chunk).len();
        (0..self.input_range(input).len())
            .flat_map(|k| (0..samples).map(move |j| (k, j)))
            .map(|(k, j)| (m_w - 1) * self.stride() + k * b0 + j)
            .collect()
    }

    /// Coefficients of `D X` that carry results: outputs of the tile, then inputs of the tile.
    #[must_use]
    pub fn gradient_positions(&self, output: usize, input: usize) -> Vec<usize> {
        let b0 = self.tiling.samples_per_chunk;
        let inputs = self.input_range(input).len();
        (0..self.output_range(output).len())
            .flat_map(|i| (0..inputs).map(move |k| (i, k)))
            .map(|(i, k)| i * self.stride() + k * b0 + b0 - 1)
            .collect()
    }

    /// Writes forward results of one tile and chunk into the batch.
    pub fn place_forward(&self, y: &mut Integers, values: &[i64], output: usize, chunk: usize) {
        let samples = self.samples(chunk);
        for (column, of_output) in self.output_range(output).zip(values.chunks(samples.len())) {
            for (row, &v) in samples.clone().zip(of_output) {
                y.row_mut(row)[column] = saturate(v);
            }
        }
    }

    /// Writes backward results of one tile and chunk into the batch.
    pub fn place_backward(&self, dx: &mut Integers, values: &[i64], input: usize, chunk: usize) {
        let samples = self.samples(chunk);
        for (column, of_input) in self.input_range(input).zip(values.chunks(samples.len())) {
            for (row, &v) in samples.clone().zip(of_input) {
                dx.row_mut(row)[column] = saturate(v);
            }
        }
    }

    /// Writes gradient results of one pair of tiles into the layer's row-major `[out][in]` sum.
    pub fn place_gradient(&self, sum: &mut [i64], values: &[i64], output: usize, input: usize) {
        let inputs = self.input_range(input);
        for (out, row) in self.output_range(output).zip(values.chunks(inputs.len())) {
            let start = out * self.inputs;
            sum[start + inputs.start..start + inputs.end].copy_from_slice(row);
        }
    }
}

/// Exact results fit 32 bits, because the plan says so; a dishonest server's may not.
fn saturate(v: i64) -> i32 {
    v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// What a layout costs one training step, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Ciphertexts encrypted and sent up.
    pub uploads: usize,
    /// Ciphertexts sent down and decrypted.
    pub downloads: usize,
    /// Plain times ciphertext products at the server.
    pub plain_products: usize,
    /// Ciphertext times ciphertext products at the server.
    pub products: usize,
}

impl DenseLayout {
    /// Counts of one training step; the first layer of a network needs no backward product.
    #[must_use]
    pub const fn counts(&self, with_backward: bool) -> Counts {
        let (k, i, c) = (self.input_tiles(), self.output_tiles(), self.chunks());
        let backward = with_backward as usize;
        Counts {
            uploads: c * (k + i + backward * i),
            downloads: c * (i + backward * k) + k * i,
            plain_products: c * k * i * (1 + backward),
            products: c * k * i,
        }
    }

    /// Polynomials that a server holds for this layer: uploads, and weights for two products.
    #[must_use]
    pub fn polynomials(&self) -> usize {
        let (k, i, c) = (self.input_tiles(), self.output_tiles(), self.chunks());
        let uploads = k.saturating_add(i).saturating_mul(c);
        uploads.saturating_add(k.saturating_mul(i).saturating_mul(2))
    }

    /// The cheapest power-of-two tiling of one layer for a whole training step.
    ///
    /// The price is a count of ciphertexts and products weighted by their rough cost in
    /// microseconds (an upload 450, a download 350, a plain product 30, a product 90): these
    /// weights choose a layout and are never reported as times.
    #[must_use]
    pub fn cheapest(
        degree: usize,
        inputs: usize,
        outputs: usize,
        capacity: usize,
        with_backward: bool,
    ) -> Option<Self> {
        let powers = |limit: usize| {
            let top = limit.next_power_of_two();
            (0..=top.trailing_zeros()).map(|e| 1_usize << e)
        };
        let mut best: Option<(usize, Self)> = None;
        for inputs_per_tile in powers(inputs) {
            for outputs_per_tile in powers(outputs) {
                for samples_per_chunk in powers(capacity) {
                    let tiling = Tiling {
                        inputs_per_tile,
                        outputs_per_tile,
                        samples_per_chunk,
                    };
                    let Some(layout) = Self::new(degree, inputs, outputs, capacity, tiling) else {
                        continue;
                    };
                    let n = layout.counts(with_backward);
                    let price = 450 * n.uploads
                        + 350 * n.downloads
                        + 30 * n.plain_products
                        + 90 * n.products;
                    if best.as_ref().is_none_or(|(least, _)| price < *least) {
                        best = Some((price, layout));
                    }
                }
            }
        }
        best.map(|(_, layout)| layout)
    }
}

#[cfg(test)]
mod tests;
