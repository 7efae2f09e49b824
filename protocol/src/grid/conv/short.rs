//! The gradient of a convolution's weights where 16 bits hold its factors and 32 bits its sums.
//!
//! Clipping forms every sample's gradient again after each rounding; in these short integers that
//! takes a fraction of the time of [`Patches::gradient`](super::Patches::gradient), and gives the
//! same integers. Whether they are short enough is a question to the public grids alone.

use pulp::NullaryFnOnce;
use sphinx_nn::conv::ConvShape;

use super::runs;

/// Elements in a row are a multiple of this, so that there is nothing left over.
const LANES: usize = 32;
/// Planes that stay in the cache while the rows of the patches pass by.
const PLANES: usize = 8;

/// Patches and output gradients of one sample, and working space kept from sample to sample.
pub(in crate::grid) struct ShortPatches {
    arch: pulp::Arch,
    patches: Vec<i16>,
    planes: Vec<i16>,
    gradient: Vec<i32>,
}

impl Default for ShortPatches {
    fn default() -> Self {
        Self {
            arch: pulp::Arch::new(),
            patches: Vec::new(),
            planes: Vec::new(),
            gradient: Vec::new(),
        }
    }
}

/// Elements from one row to the next.
const fn pitch(shape: ConvShape) -> usize {
    shape.positions().next_multiple_of(LANES)
}

impl ShortPatches {
    /// Whether products of values within these limits, summed over all positions, fit.
    pub(in crate::grid) fn fit(shape: ConvShape, x_limit: i32, d_limit: i32) -> bool {
        let short = i32::from(i16::MAX);
        let largest = i64::from(x_limit) * i64::from(d_limit);
        x_limit <= short
            && d_limit <= short
            && largest.saturating_mul(shape.positions() as i64) <= i64::from(i32::MAX)
    }

    /// Spreads an image whose values are within the limit.
    pub(in crate::grid) fn spread(&mut self, shape: ConvShape, x: &[i32]) {
        self.patches.clear();
        self.patches.resize(shape.patch() * pitch(shape), 0);
        let patches = &mut self.patches;
        self.arch.dispatch(Spread { shape, x, patches });
    }

    /// `D P^T` of the image that was spread, `[out][in][a][e]`; `d` is within its limit.
    pub(in crate::grid) fn gradient(&mut self, shape: ConvShape, d: &[i32]) -> &[i32] {
        self.planes.clear();
        self.planes
            .resize(d.len() / shape.positions() * pitch(shape), 0);
        self.gradient.resize(shape.weights(), 0);
        let (patches, planes) = (&self.patches, &mut self.planes);
        let gradient = &mut self.gradient;
        self.arch.dispatch(Gradient {
            shape,
            d,
            patches,
            planes,
            gradient,
        });
        &self.gradient
    }
}

struct Spread<'a> {
    shape: ConvShape,
    x: &'a [i32],
    patches: &'a mut [i16],
}

impl NullaryFnOnce for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (pitch, stride) = (pitch(self.shape), self.shape.stride());
        runs(self.shape, |run| {
            let start = run.row * pitch + run.position;
            let out = &mut self.patches[start..start + run.length];
            let pixels = &self.x[run.pixel..];
            if stride == 1 {
                shorten(out, pixels.iter());
            } else {
                shorten(out, pixels.iter().step_by(stride));
            }
        });
    }
}

struct Gradient<'a> {
    shape: ConvShape,
    d: &'a [i32],
    patches: &'a [i16],
    planes: &'a mut [i16],
    gradient: &'a mut [i32],
}

impl NullaryFnOnce for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (pitch, patch) = (pitch(self.shape), self.shape.patch());
        let planes = self.planes.chunks_exact_mut(pitch);
        for (out, plane) in planes.zip(self.d.chunks_exact(self.shape.positions())) {
            shorten(out, plane.iter());
        }
        let kernels = self.gradient.chunks_mut(PLANES * patch);
        for (kernels, planes) in kernels.zip(self.planes.chunks(PLANES * pitch)) {
            for (at, row) in self.patches.chunks_exact(pitch).enumerate() {
                let kernels = kernels.chunks_exact_mut(patch);
                for (kernel, plane) in kernels.zip(planes.chunks_exact(pitch)) {
                    kernel[at] = dot(plane, row);
                }
            }
        }
    }
}

#[inline(always)]
fn shorten<'a>(out: &mut [i16], values: impl Iterator<Item = &'a i32>) {
    for (out, &v) in out.iter_mut().zip(values) {
        *out = v as i16;
    }
}

#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    let products = a.iter().zip(b);
    let products = products.map(|(&a, &b)| i32::from(a).wrapping_mul(i32::from(b)));
    products.fold(0, i32::wrapping_add)
}
