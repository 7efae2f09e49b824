//! Group normalisation on one sample, channels side by side; see [`crate::norm`] for the formulas.

use super::canvas::Canvas;
use crate::gemm::Vectorise;
use crate::norm::{EPSILON, GroupShape};

/// Values per channel that both ways need as working space.
pub(super) const SPARE: usize = 3;

/// From the linear map's output to the normalised one, in place.
pub(super) struct Normalise<'a> {
    pub(super) shape: GroupShape,
    pub(super) canvas: Canvas,
    pub(super) y: &'a mut [f32],
    /// The normalised values before scale and shift, for the way back.
    pub(super) h: &'a mut [f32],
    /// Per channel one over the root of its group's variance plus epsilon.
    pub(super) inverse: &'a mut [f32],
    pub(super) scales: &'a [f32],
    pub(super) shifts: &'a [f32],
    pub(super) spare: &'a mut [f64],
}

impl Vectorise for Normalise<'_> {
    #[inline(always)]
    fn run(self) {
        let lane = self.canvas.lane();
        let (sums, rest) = self.spare.split_at_mut(lane);
        let means = &mut rest[..lane];
        sums.fill(0.0);
        for place in self.y.chunks_exact(lane) {
            for (sum, v) in sums.iter_mut().zip(place) {
                *sum += f64::from(*v);
            }
        }
        over_groups(self.shape, sums, means);
        sums.fill(0.0);
        for place in self.y.chunks_exact(lane) {
            for ((sum, v), mean) in sums.iter_mut().zip(place).zip(means.iter()) {
                let distance = f64::from(*v) - mean;
                *sum += distance * distance;
            }
        }
        let inverses = &mut rest[lane..2 * lane];
        over_groups(self.shape, sums, inverses);
        for inverse in inverses.iter_mut().take(self.shape.image().channels) {
            *inverse = 1.0 / (*inverse + EPSILON).sqrt();
        }
        let (means, inverses) = rest.split_at(lane);
        for (to, inverse) in self.inverse.iter_mut().zip(inverses) {
            *to = *inverse as f32;
        }
        let places = self
            .y
            .chunks_exact_mut(lane)
            .zip(self.h.chunks_exact_mut(lane));
        for (y, h) in places {
            for (c, (y, h)) in y.iter_mut().zip(h).enumerate() {
                *h = ((f64::from(*y) - means[c]) * inverses[c]) as f32;
                *y = self.scales[c] * *h + self.shifts[c];
            }
        }
    }
}

/// From the gradient behind the normalisation to that before it, in place; writes the gradients of
/// scales and shifts.
pub(super) struct NormaliseBack<'a> {
    pub(super) shape: GroupShape,
    /// The canvas of `d`, and that of `h`.
    pub(super) canvas: Canvas,
    pub(super) bare: Canvas,
    pub(super) d: &'a mut [f32],
    pub(super) h: &'a [f32],
    pub(super) inverse: &'a [f32],
    pub(super) scales: &'a [f32],
    /// Gradients of the scales, then of the shifts; empty if there are none.
    pub(super) gradient: &'a mut [f32],
    pub(super) spare: &'a mut [f64],
}

impl Vectorise for NormaliseBack<'_> {
    #[inline(always)]
    fn run(self) {
        let lane = self.canvas.lane();
        let (along, rest) = self.spare.split_at_mut(lane);
        let (sums, means) = rest.split_at_mut(lane);
        along.fill(0.0);
        sums.fill(0.0);
        for i in 0..self.canvas.image().height {
            let d = self.d[self.canvas.row(i)].chunks_exact(lane);
            let h = self.h[self.bare.row(i)].chunks_exact(lane);
            for (d, h) in d.zip(h) {
                for (c, (d, h)) in d.iter().zip(h).enumerate() {
                    along[c] += f64::from(*d) * f64::from(*h);
                    sums[c] += f64::from(*d);
                }
            }
        }
        if !self.gradient.is_empty() {
            let (scales, shifts) = self.gradient.split_at_mut(lane);
            for c in 0..lane {
                (scales[c], shifts[c]) = (along[c] as f32, sums[c] as f32);
            }
        }
        for (c, scale) in self.scales.iter().enumerate().take(lane) {
            along[c] *= f64::from(*scale);
            sums[c] *= f64::from(*scale);
        }
        over_groups(self.shape, sums, means);
        over_groups(self.shape, along, sums);
        let along = sums;
        for i in 0..self.canvas.image().height {
            let d = self.d[self.canvas.row(i)].chunks_exact_mut(lane);
            let h = self.h[self.bare.row(i)].chunks_exact(lane);
            for (d, h) in d.zip(h) {
                for (c, (d, h)) in d.iter_mut().zip(h).enumerate() {
                    let centred = self.scales[c] * *d - means[c] as f32 - h * along[c] as f32;
                    *d = self.inverse[c] * centred;
                }
            }
        }
    }
}

/// Per channel, the mean over its group; zero for padding.
#[inline(always)]
fn over_groups(shape: GroupShape, sums: &[f64], to: &mut [f64]) {
    let channels = shape.group_channels();
    let n = shape.group_values() as f64;
    to.fill(0.0);
    for group in 0..shape.groups() {
        let range = group * channels..(group + 1) * channels;
        let mean = sums[range.clone()].iter().sum::<f64>() / n;
        to[range].fill(mean);
    }
}
