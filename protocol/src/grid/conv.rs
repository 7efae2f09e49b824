//! The three products of a convolution on integers, one sample at a time.
//!
//! Sample by sample the image is spread into its patches `P` (`in_channels kernel^2` rows, one
//! column per output position); the products are `W P`, `W^T D` summed back into the image, and
//! `D P^T`, as in [`sphinx_nn::conv`]. They are computed in double precision, which is exact: a
//! [`GridPlan`](crate::plan::GridPlan) is refused unless every sum stays below 2^53.

use pulp::{NullaryFnOnce, Simd, WithSimd, bytemuck};
use sphinx_nn::conv::ConvShape;

mod short;

pub(super) use short::ShortPatches;

/// Partial sums of a dot product, whatever the width of a vector: one vector of the widest kind.
const LANES: usize = 8;
/// Planes whose dot products with a row are computed together, so that additions need not wait for
/// each other.
const PLANES: usize = 4;

/// Patches of one image, and working space that is kept from sample to sample.
pub(super) struct Patches {
    arch: pulp::Arch,
    values: Vec<f64>,
    line: Vec<f64>,
}

impl Default for Patches {
    fn default() -> Self {
        Self {
            arch: pulp::Arch::new(),
            values: Vec::new(),
            line: Vec::new(),
        }
    }
}

impl Patches {
    /// Spreads an image; zeros where a patch leaves it.
    pub(super) fn spread(&mut self, shape: ConvShape, x: &[i32]) {
        self.values.clear();
        self.values.resize(shape.patch() * shape.positions(), 0.0);
        let values = &mut self.values;
        self.arch.dispatch(Spread { shape, x, values });
    }

    /// `W P + b` of the image that was spread, on the grid of the products.
    pub(super) fn forward(
        &mut self,
        shape: ConvShape,
        weights: &[i32],
        biases: &[i32],
        y: &mut [i32],
    ) {
        self.line.resize(shape.positions(), 0.0);
        self.arch.dispatch(Products {
            shape,
            weights,
            biases,
            values: &self.values,
            line: &mut self.line,
            y,
        });
    }

    /// `W^T D` summed back into an image. Forgets the image that was spread.
    pub(super) fn backward(
        &mut self,
        shape: ConvShape,
        weights: &[i32],
        d: &[i32],
        dx: &mut [i32],
    ) {
        self.values.clear();
        self.values.resize(shape.patch() * shape.positions(), 0.0);
        self.line.resize(shape.positions(), 0.0);
        self.arch.dispatch(Transposed {
            shape,
            weights,
            d,
            values: &mut self.values,
            line: &mut self.line,
            dx,
        });
    }

    /// `D P^T` of the image that was spread: the gradient of the weights, `[out][in][a][e]`.
    ///
    /// Exact if `d` holds integers; with real `d` the only use is a norm to clip by. Every element
    /// is summed in the same order on every processor.
    pub(super) fn gradient(&self, shape: ConvShape, d: &[f64], gradient: &mut [f64]) {
        let values = &self.values;
        self.arch.dispatch(Gradient {
            shape,
            d,
            values,
            gradient,
        });
    }
}

// What follows is compiled once for every width of vectors; only what is inlined into `call` is.

struct Spread<'a> {
    shape: ConvShape,
    x: &'a [i32],
    values: &'a mut [f64],
}

impl NullaryFnOnce for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (shape, stride) = (self.shape, self.shape.stride());
        runs(shape, |run| {
            let start = run.row * shape.positions() + run.position;
            let out = &mut self.values[start..start + run.length];
            let pixels = &self.x[run.pixel..];
            if stride == 1 {
                copy(out, pixels);
            } else {
                copy_strided(out, pixels, stride);
            }
        });
    }
}

struct Products<'a> {
    shape: ConvShape,
    weights: &'a [i32],
    biases: &'a [i32],
    values: &'a [f64],
    line: &'a mut [f64],
    y: &'a mut [i32],
}

impl NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let positions = self.shape.positions();
        let kernels = self.weights.chunks_exact(self.shape.patch());
        let planes = self.y.chunks_exact_mut(positions);
        for ((plane, kernel), &bias) in planes.zip(kernels).zip(self.biases) {
            self.line.fill(f64::from(bias));
            for (&w, row) in kernel.iter().zip(self.values.chunks_exact(positions)) {
                add_scaled(self.line, f64::from(w), row);
            }
            for (out, &sum) in plane.iter_mut().zip(self.line.iter()) {
                *out = sum as i32;
            }
        }
    }
}

struct Transposed<'a> {
    shape: ConvShape,
    weights: &'a [i32],
    d: &'a [i32],
    values: &'a mut [f64],
    line: &'a mut [f64],
    dx: &'a mut [i32],
}

impl NullaryFnOnce for Transposed<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (shape, positions) = (self.shape, self.shape.positions());
        let planes = self.d.chunks_exact(positions);
        for (kernel, plane) in self.weights.chunks_exact(shape.patch()).zip(planes) {
            copy(self.line, plane);
            let rows = self.values.chunks_exact_mut(positions);
            for (&w, row) in kernel.iter().zip(rows) {
                add_scaled(row, f64::from(w), self.line);
            }
        }
        runs(shape, |run| {
            let start = run.row * positions + run.position;
            let sums = &self.values[start..start + run.length];
            let pixels = self.dx[run.pixel..].iter_mut().step_by(shape.stride());
            for (pixel, &sum) in pixels.zip(sums) {
                *pixel += sum as i32;
            }
        });
    }
}

struct Gradient<'a> {
    shape: ConvShape,
    d: &'a [f64],
    values: &'a [f64],
    gradient: &'a mut [f64],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (positions, patch) = (self.shape.positions(), self.shape.patch());
        let kernels = self.gradient.chunks_mut(PLANES * patch);
        for (kernels, planes) in kernels.zip(self.d.chunks(PLANES * positions)) {
            for (at, row) in self.values.chunks_exact(positions).enumerate() {
                if planes.len() == PLANES * positions {
                    let planes = std::array::from_fn(|m| &planes[m * positions..][..positions]);
                    let dots: [f64; PLANES] = dots(simd, planes, row);
                    for (kernel, dot) in kernels.chunks_exact_mut(patch).zip(dots) {
                        kernel[at] = dot;
                    }
                } else {
                    let planes = planes.chunks_exact(positions);
                    for (kernel, plane) in kernels.chunks_exact_mut(patch).zip(planes) {
                        [kernel[at]] = dots(simd, [plane], row);
                    }
                }
            }
        }
    }
}

/// Places of a patch row that are one run of an image row.
pub(crate) struct Run {
    /// Row of the patches.
    pub(crate) row: usize,
    /// First output position.
    pub(crate) position: usize,
    /// Its pixel; the following ones are a stride apart.
    pub(crate) pixel: usize,
    /// Positions.
    pub(crate) length: usize,
}

/// Visits every place of a patch inside the image, run by run.
#[inline(always)]
pub(crate) fn runs(shape: ConvShape, mut visit: impl FnMut(Run)) {
    let (input, output, kernel) = (shape.input(), shape.output(), shape.kernel());
    let (stride, padding) = (shape.stride(), shape.padding());
    // Output places whose pixel lies inside a line of `length` pixels.
    let inside = |k: usize, places: usize, length: usize| {
        let first = padding.saturating_sub(k).div_ceil(stride);
        let end = (length + padding).saturating_sub(k).div_ceil(stride);
        first.min(places)..end.min(places)
    };
    for row in 0..shape.patch() {
        let (channel, a, e) = (row / (kernel * kernel), row / kernel % kernel, row % kernel);
        let columns = inside(e, output.width, input.width);
        if columns.is_empty() {
            continue;
        }
        for i in inside(a, output.height, input.height) {
            let line = (channel * input.height + i * stride + a - padding) * input.width;
            visit(Run {
                row,
                position: i * output.width + columns.start,
                pixel: line + columns.start * stride + e - padding,
                length: columns.len(),
            });
        }
    }
}

#[inline(always)]
fn copy(out: &mut [f64], pixels: &[i32]) {
    for (out, &x) in out.iter_mut().zip(pixels) {
        *out = f64::from(x);
    }
}

#[inline(always)]
fn copy_strided(out: &mut [f64], pixels: &[i32], stride: usize) {
    for (out, &x) in out.iter_mut().zip(pixels.iter().step_by(stride)) {
        *out = f64::from(x);
    }
}

#[inline(always)]
fn add_scaled(sum: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, &v) in sum.iter_mut().zip(values) {
        *sum += factor * v;
    }
}

/// The dot products of `M` planes with one row: eight partial sums each, then the elements that
/// are left. No fused multiply-add, so that every processor gives the same bits.
#[inline(always)]
fn dots<S: Simd, const M: usize>(simd: S, planes: [&[f64]; M], row: &[f64]) -> [f64; M] {
    let parts = LANES / S::F64_LANES;
    let whole = row.len() - row.len() % LANES;
    let (row, row_rest) = row.split_at(whole);
    let rest = planes.map(|plane| {
        let pairs = plane[whole..].iter().zip(row_rest);
        pairs.map(|(a, b)| a * b).sum::<f64>()
    });
    let planes = planes.map(|plane| S::as_simd_f64s(&plane[..whole]).0);
    let mut sums = [[simd.splat_f64s(0.0); LANES]; M];
    for (at, b) in S::as_simd_f64s(row).0.chunks_exact(parts).enumerate() {
        for (sums, plane) in sums.iter_mut().zip(planes) {
            let a = &plane[at * parts..(at + 1) * parts];
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum = simd.add_f64s(*sum, simd.mul_f64s(a, b));
            }
        }
    }
    std::array::from_fn(|m| {
        let sums: &[f64] = bytemuck::cast_slice(&sums[m][..parts]);
        rest[m] + sums.iter().sum::<f64>()
    })
}

#[cfg(test)]
mod tests;
