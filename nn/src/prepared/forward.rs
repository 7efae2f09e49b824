//! The way from images to logits, for one tile of samples.

use super::after::Forward;
use super::normalise::{Normalise, SPARE};
use super::pack::Packed;
use super::workspace::Workspace;
use super::{Layer, Prepared};
use crate::gemm::{Left, Start, multiply_at, vectorised};
use crate::norm::GroupShape;
use rayon::prelude::*;

/// A product is split over threads only if each gets at least this many multiplications.
const SPLIT_WORK: usize = 1 << 20;

impl Prepared {
    /// Logits of `count` images that lie one after the other; they are left in the last layer's
    /// place in `slope`. With `split`, the work of one image is shared by all threads.
    pub(super) fn forward(
        &self,
        packed: &Packed,
        w: &mut Workspace,
        images: &[f32],
        split: bool,
    ) -> usize {
        let first = &self.layers[0];
        let count = images.len() / self.inputs;
        let canvases = w.x[0].chunks_exact_mut(first.x.len());
        for (image, to) in images.chunks_exact(self.inputs).zip(canvases) {
            first.x.put(image, to);
        }
        for (l, layer) in self.layers.iter().enumerate() {
            self.linear(l, packed, w, count, split);
            if let Some(norm) = layer.norm {
                normalise(layer, norm, l, packed, w, count);
            }
            if l + 1 < self.layers.len() {
                self.after(layer, l, w, count);
            }
        }
        count
    }

    /// The linear map of layer `l`.
    fn linear(&self, l: usize, packed: &Packed, w: &mut Workspace, count: usize, split: bool) {
        let layer = &self.layers[l];
        let (x, y) = (&w.x[l], &mut w.slope[l]);
        let start = Start::Row(&packed.biases[l]);
        if let Some(joint) = &self.joints[l] {
            let left = Left {
                range: (0, count),
                ..Left::all(x, &joint.inputs, &layer.taps)
            };
            let y = &mut y[..count * layer.width];
            multiply_at(left, &packed.forward[l], layer.width, start, y);
            return;
        }
        let samples = x.chunks_exact(layer.x.len());
        for (x, y) in samples.zip(y.chunks_exact_mut(layer.y.len())).take(count) {
            let left = Left::all(x, &layer.positions, &layer.taps);
            if split {
                multiply_split(layer, left, &packed.forward[l], start, y);
            } else {
                multiply_at(left, &packed.forward[l], layer.width, start, y);
            }
        }
    }

    /// Activation and pooling after layer `l`, into the next layer's input.
    fn after(&self, layer: &Layer, l: usize, w: &mut Workspace, count: usize) {
        let next = self.layers[l + 1].x;
        let pooled = w.chosen[l].len() / self.tile_of(w);
        let outputs = w.slope[l].chunks_exact_mut(layer.y.len());
        let inputs = w.x[l + 1].chunks_exact_mut(next.len());
        for (s, (y, x)) in outputs.zip(inputs).take(count).enumerate() {
            vectorised(Forward {
                layer,
                y,
                spare: &mut w.spare,
                chosen: &mut w.chosen[l][s * pooled..][..pooled],
                next,
                x,
            });
        }
    }

    /// Samples the workspace has room for.
    pub(super) fn tile_of(&self, w: &Workspace) -> usize {
        w.x[0].len() / self.layers[0].x.len()
    }
}

/// The normalisation of layer `l`, in place.
fn normalise(
    layer: &Layer,
    shape: GroupShape,
    l: usize,
    packed: &Packed,
    w: &mut Workspace,
    count: usize,
) {
    let y = w.slope[l].chunks_exact_mut(layer.y.len());
    let h = w.normal[l].chunks_exact_mut(layer.y.len());
    let inverse = w.inverse[l].chunks_exact_mut(layer.width);
    for ((y, h), inverse) in y.zip(h).zip(inverse).take(count) {
        vectorised(Normalise {
            shape,
            canvas: layer.y,
            y,
            h,
            inverse,
            scales: &packed.scales[l],
            shifts: &packed.shifts[l],
            spare: &mut w.moments[..SPARE * layer.width],
        });
    }
}

/// The rows of the result shared by all threads; the bits do not depend on how.
fn multiply_split(layer: &Layer, left: Left<'_>, b: &[f32], start: Start<'_>, y: &mut [f32]) {
    let (rows, width) = (layer.positions.len(), layer.width);
    let work = rows * width * layer.order.len();
    let parts = (work / SPLIT_WORK).min(rayon::current_num_threads());
    if parts < 2 {
        multiply_at(left, b, width, start, y);
        return;
    }
    let part = rows.div_ceil(parts);
    y.par_chunks_mut(part * width)
        .enumerate()
        .for_each(|(i, y)| {
            let range = (i * part, i * part + y.len() / width);
            multiply_at(Left { range, ..left }, b, width, start, y);
        });
}
