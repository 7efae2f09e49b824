//! The three products of a convolution on integers, one sample at a time.
//!
//! Sample by sample the image is spread into its patches `P` (`in_channels kernel^2` rows, one
//! column per output position); the products are `W P`, `W^T D` summed back into the image, and
//! `D P^T`, as in [`sphinx_nn::conv`]. They are computed in double precision, which is exact: a
//! [`GridPlan`](crate::plan::GridPlan) is refused unless every sum stays below 2^53.

use sphinx_nn::conv::ConvShape;

/// Patches of one image, and working space that is kept from sample to sample.
#[derive(Default)]
pub(super) struct Patches {
    values: Vec<f64>,
    line: Vec<f64>,
}

impl Patches {
    /// Spreads an image; zeros where a patch leaves it.
    pub(super) fn spread(&mut self, shape: ConvShape, x: &[i32]) {
        self.values.clear();
        self.values.resize(shape.patch() * shape.positions(), 0.0);
        let values = &mut self.values;
        visit(shape, |row, position, pixel| {
            values[row * shape.positions() + position] = f64::from(x[pixel]);
        });
    }

    /// `W P + b` of the image that was spread, on the grid of the products.
    pub(super) fn forward(
        &mut self,
        shape: ConvShape,
        weights: &[i32],
        biases: &[i32],
        y: &mut [i32],
    ) {
        let planes = y.chunks_exact_mut(shape.positions());
        let kernels = weights.chunks_exact(shape.patch());
        for ((plane, kernel), &bias) in planes.zip(kernels).zip(biases) {
            self.line.clear();
            self.line.resize(shape.positions(), f64::from(bias));
            let rows = self.values.chunks_exact(shape.positions());
            for (&w, row) in kernel.iter().zip(rows) {
                add_scaled(&mut self.line, f64::from(w), row);
            }
            for (out, &sum) in plane.iter_mut().zip(&self.line) {
                *out = sum as i32;
            }
        }
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
        let planes = d.chunks_exact(shape.positions());
        for (kernel, plane) in weights.chunks_exact(shape.patch()).zip(planes) {
            self.line.clear();
            self.line.extend(plane.iter().map(|&d| f64::from(d)));
            let rows = self.values.chunks_exact_mut(shape.positions());
            for (&w, row) in kernel.iter().zip(rows) {
                add_scaled(row, f64::from(w), &self.line);
            }
        }
        let values = &self.values;
        visit(shape, |row, position, pixel| {
            dx[pixel] += values[row * shape.positions() + position] as i32;
        });
    }

    /// `D P^T` of the image that was spread: the gradient of the weights, `[out][in][a][e]`.
    ///
    /// Exact if `d` holds integers; with real `d` the only use is a norm to clip by.
    pub(super) fn gradient(&self, shape: ConvShape, d: &[f64], gradient: &mut [f64]) {
        let planes = d.chunks_exact(shape.positions());
        for (kernel, plane) in gradient.chunks_exact_mut(shape.patch()).zip(planes) {
            let rows = self.values.chunks_exact(shape.positions());
            for (out, row) in kernel.iter_mut().zip(rows) {
                *out = dot(plane, row);
            }
        }
    }
}

/// Calls `visit(patch row, output position, pixel)` for every place of a patch inside the image.
pub(super) fn visit(shape: ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (input, output, kernel) = (shape.input(), shape.output(), shape.kernel());
    let place = |o: usize, k: usize, length: usize| {
        let inside = (o * shape.stride() + k).checked_sub(shape.padding())?;
        (inside < length).then_some(inside)
    };
    for row in 0..shape.patch() {
        let (channel, a, e) = (row / (kernel * kernel), row / kernel % kernel, row % kernel);
        for i in 0..output.height {
            let Some(line) = place(i, a, input.height) else {
                continue;
            };
            for j in 0..output.width {
                if let Some(column) = place(j, e, input.width) {
                    let pixel = (channel * input.height + line) * input.width + column;
                    visit(row, i * output.width + j, pixel);
                }
            }
        }
    }
}

fn add_scaled(sum: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, &v) in sum.iter_mut().zip(values) {
        *sum += factor * v;
    }
}

/// A dot product in eight partial sums, so that it is computed in vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    rest + sums.iter().sum::<f64>()
}

#[cfg(test)]
mod tests;
