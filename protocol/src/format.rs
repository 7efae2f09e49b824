//! Fixed point: the public grids on which every engine computes the same integers.
//!
//! A real `v` on a grid of shift `k` is the integer nearest to `v * 2^k`, held within a public
//! limit: values saturate instead of failing, because a failure that depends on data would be
//! visible. All shifts and limits are public constants of the plan.
//!
//! ```
//! use sphinx_protocol::format::quantise;
//! assert_eq!(quantise(0.5, 7, 128), 64);
//! assert_eq!(quantise(9.0, 7, 128), 128); // saturates
//! assert_eq!(quantise(f32::NAN, 7, 128), 0); // a broken value counts as nothing
//! ```

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sphinx_nn::Activation;
use sphinx_nn::network::{LinearKind, Network};
use sphinx_nn::tensor::Tensor;

/// Fraction bits of the stored ("master") weights and biases.
pub const MASTER_SHIFT: u32 = 24;

/// Where the clipped output gradients of dense layers saturate: far beyond any clip bound in use.
const WIDE: i32 = i32::MAX >> 4;

/// Values that one thread quantises at a time.
const QUANTISED_AT_ONCE: usize = 1 << 14;

/// The grids of one linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFormat {
    /// Fraction bits of the layer's inputs `x`.
    pub x_shift: u32,
    /// Largest |x| in grid units.
    pub x_limit: i32,
    /// Fraction bits of the weights used in products.
    pub w_shift: u32,
    /// Largest |W| in grid units.
    pub w_limit: i32,
    /// Fraction bits of the output gradients sent backward.
    pub d_shift: u32,
    /// Largest |d| in grid units.
    pub d_limit: i32,
    /// Largest |clipped d| in units of `2^-(gradient_shift - x_shift)`.
    pub g_limit: i32,
}

impl LayerFormat {
    /// The grid of a layer fed by `source`: 8-bit inputs for values in [-1, 1], and for ReLU and the
    /// square (unbounded above) a range up to 8 with two bits less.
    ///
    /// A convolution's output gradients are smaller, position by position, than a dense layer's: its grid
    /// for them is twice as fine, and the clipped ones get 13 bits.
    #[must_use]
    pub fn after(source: Activation, kind: LinearKind) -> Self {
        let (x_shift, x_limit) = match source {
            Activation::Relu | Activation::Square => (5, 255),
            _ => (7, 128),
        };
        let (d_shift, g_limit) = match kind {
            LinearKind::Dense => (10, WIDE),
            LinearKind::Conv(_) => (11, 4095),
        };
        Self {
            x_shift,
            x_limit,
            w_shift: 7,
            w_limit: 511,
            d_shift,
            d_limit: 2047,
            g_limit,
        }
    }

    /// Fraction bits of `W x` and of the bias that is added to it.
    #[must_use]
    pub const fn y_shift(&self) -> u32 {
        self.x_shift + self.w_shift
    }

    /// Fraction bits of `W^T d`.
    #[must_use]
    pub const fn back_shift(&self) -> u32 {
        self.d_shift + self.w_shift
    }

    /// Largest |master weight| whose rounded value stays within `w_limit`.
    #[must_use]
    pub fn master_limit(&self) -> i64 {
        i64::from(self.w_limit) << (MASTER_SHIFT - self.w_shift)
    }
}

/// The default grids of a network, one per linear layer.
#[must_use]
pub fn formats(network: &Network) -> Vec<LayerFormat> {
    let linears = network.linears().iter().enumerate();
    linears
        .map(|(layer, shape)| {
            let source = match layer {
                0 => Activation::Identity,
                _ => network.activation_after(layer - 1),
            };
            LayerFormat::after(source, shape.kind)
        })
        .collect()
}

/// A row-major matrix of grid integers, one sample per row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integers {
    rows: usize,
    columns: usize,
    values: Vec<i32>,
}

impl Integers {
    /// A matrix of zeros.
    #[must_use]
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            values: vec![0; rows * columns],
        }
    }

    /// Quantises every entry of `tensor`.
    #[must_use]
    pub fn quantised(tensor: &Tensor, shift: u32, limit: i32) -> Self {
        let quantiser = Quantiser::new(shift, limit);
        let mut values = vec![0; tensor.as_slice().len()];
        let parts = values.par_chunks_mut(QUANTISED_AT_ONCE);
        let parts = parts.zip(tensor.as_slice().par_chunks(QUANTISED_AT_ONCE));
        let arch = pulp::Arch::new();
        parts.for_each(|(out, values)| {
            arch.dispatch(|| {
                for (out, &v) in out.iter_mut().zip(values) {
                    *out = quantiser.of(v);
                }
            });
        });
        Self {
            rows: tensor.rows(),
            columns: tensor.columns(),
            values,
        }
    }

    /// Number of samples.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of features.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// One sample.
    #[must_use]
    pub fn row(&self, i: usize) -> &[i32] {
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// One sample, to be written.
    pub fn row_mut(&mut self, i: usize) -> &mut [i32] {
        &mut self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// All samples, to be written in parallel.
    pub fn par_rows_mut(&mut self) -> impl IndexedParallelIterator<Item = &mut [i32]> {
        self.values.par_chunks_mut(self.columns.max(1))
    }

    /// The real numbers meant, rounded once to `f32`.
    #[must_use]
    pub fn to_tensor(&self, shift: u32) -> Tensor {
        let unit = (-f64::from(shift)).exp2();
        let mut tensor = Tensor::zeros(self.rows, self.columns);
        for (out, &v) in tensor.as_mut_slice().iter_mut().zip(&self.values) {
            *out = (f64::from(v) * unit) as f32;
        }
        tensor
    }
}

/// The integer nearest to `value * 2^shift`, halves away from zero, within `±limit`; zero for NaN.
#[must_use]
pub fn quantise(value: f32, shift: u32, limit: i32) -> i32 {
    Quantiser::new(shift, limit).of(value)
}

/// [`quantise`] for many values on one grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantiser {
    unit: f64,
    limit: f64,
}

impl Quantiser {
    pub(crate) fn new(shift: u32, limit: i32) -> Self {
        Self {
            unit: f64::from(shift).exp2(),
            limit: f64::from(limit),
        }
    }

    /// No call and no branch, so that loops over it become vector code. The product is exact, and
    /// adding a half to a number of 24 bits is exact wherever it matters.
    #[inline(always)]
    pub(crate) fn of(self, value: f32) -> i32 {
        let scaled = f64::from(value) * self.unit;
        let shifted = scaled + 0.5_f64.copysign(scaled);
        // A saturating float-to-integer cast cuts towards zero and maps NaN to zero.
        shifted.clamp(-self.limit, self.limit) as i32
    }
}

/// `value / 2^shift` rounded to the nearest integer, halves away from minus infinity.
#[must_use]
pub const fn shift_round(value: i128, shift: u32) -> i128 {
    if shift == 0 {
        value
    } else {
        (value + (1 << (shift - 1))) >> shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest() {
        assert_eq!(shift_round(5, 1), 3);
        assert_eq!(shift_round(-5, 1), -2);
        assert_eq!(shift_round(-7, 2), -2);
        assert_eq!(shift_round(9, 0), 9);
    }

    #[test]
    fn quantising_is_rounding() {
        let mut values = vec![
            0.0,
            -0.0,
            0.5,
            -0.5,
            1.5,
            -2.5,
            f32::NAN,
            f32::INFINITY,
            -1e30,
        ];
        let below_half = f32::from_bits(0.5_f32.to_bits() - 1);
        values.extend([
            below_half,
            -below_half,
            f32::MIN_POSITIVE,
            8_388_607.5,
            127.49,
            127.5,
        ]);
        values.extend((0..4000).map(|i| (i as f32).sin() * (i as f32 * 0.01).exp2()));
        for (shift, limit) in [(0, 127), (7, 128), (20, i32::MAX >> 4)] {
            for &v in &values {
                let scaled = f64::from(v) * f64::from(shift).exp2();
                let expected = scaled.round().clamp(-f64::from(limit), f64::from(limit)) as i32;
                assert_eq!(quantise(v, shift, limit), expected, "{v} at 2^-{shift}");
            }
        }
    }

    #[test]
    fn a_quantised_tensor_comes_back_within_half_a_unit() {
        let tensor = Tensor::from_vec(1, 4, vec![0.1, -0.77, 1.0, 0.0]).unwrap();
        let back = Integers::quantised(&tensor, 7, 128).to_tensor(7);
        for (a, b) in tensor.as_slice().iter().zip(back.as_slice()) {
            assert!((a - b).abs() <= 0.5 / 128.0);
        }
    }
}
