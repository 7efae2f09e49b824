//! The way back for one tile of samples: gradients, their norms, and the clipped sum.
//!
//! The dense layers at the end of the network are *joined*: their norms come from
//! [`crate::ghost`], and their gradient is one product over the samples of the tile, after the rows
//! of `D` were scaled. For all layers before them one sample's gradient at a time is formed,
//! measured, scaled and added, while it is in the cache; a sum over positions does not factor, and
//! the ghost form of a convolution (Bu, Mao, Xu, "Scalable and Efficient Training of Large
//! Convolutional Neural Networks with Differential Privacy", NeurIPS 2022) costs a product that is
//! quadratic in the number of positions.

use super::after::Backward;
use super::canvas::Canvas;
use super::layer::{Back, BackKind, Layer};
use super::normalise::{NormaliseBack, SPARE};
use super::pack::Packed;
use super::workspace::{PATCH_ROWS, Workspace};
use super::{Bounds, Prepared, Rows};
use crate::gemm::{Left, Start, Vectorise, multiply_at, vectorised};
use crate::ghost;
use crate::loss::Loss;
use crate::metrics::argmax;

impl Prepared {
    /// Losses and the gradients at the logits, after [`Self::forward`]; clears the norms.
    pub(super) fn losses(
        &self,
        w: &mut Workspace,
        loss: Loss,
        labels: &[Option<u8>],
        rows: &mut Rows<'_>,
    ) {
        let classes = self.classes;
        let Some(last) = self.layers.last() else {
            return;
        };
        let logits = w.slope[self.layers.len() - 1].chunks_exact(last.y.len());
        let tops = w.top.chunks_exact_mut(last.width);
        for (s, ((z, top), label)) in logits.zip(tops).zip(labels).enumerate() {
            let z = &z[..classes];
            rows.losses[s] = loss.row(z, *label, &mut top[..classes]);
            rows.hits[s] = label.is_some_and(|label| argmax(z) == usize::from(label));
        }
        w.norms.fill(0.0);
    }

    /// The way back through the joined layers: leaves each one's `d` and norms, and, if there is a
    /// layer before them, the gradients at the first one's input in `joined`.
    pub(super) fn back_joined(&self, packed: &Packed, w: &mut Workspace, count: usize) {
        let layers = self.layers.len();
        let tile = self.tile_of(w);
        for l in (self.joined_from..layers).rev() {
            let layer = &self.layers[l];
            if l + 1 == layers {
                let values = count * layer.width;
                w.d[l][..values].copy_from_slice(&w.top[..values]);
            }
            vectorised(JoinedNorms {
                d: &w.d[l][..count * layer.width],
                x: &w.x[l],
                width: layer.width,
                inputs: layer.x.len(),
                norms: &mut w.norms[l * tile..],
            });
            let (Some(back), Some(joint)) = (&layer.back, &self.joints[l]) else {
                continue;
            };
            let left = Left {
                range: (0, count),
                ..Left::all(&w.d[l], &joint.outputs, &back.steps)
            };
            let to = &mut w.joined[..count * back.width];
            multiply_at(left, &packed.back[l], back.width, Start::Zero, to);
            if l > self.joined_from {
                self.back_between(l - 1, layer.x, w, count);
            }
        }
    }

    /// From the gradients at the input of layer `l + 1` to those at the output of joined layer `l`.
    fn back_between(&self, l: usize, from: Canvas, w: &mut Workspace, count: usize) {
        let layer = &self.layers[l];
        for s in 0..count {
            vectorised(Backward {
                layer,
                from,
                t: &w.joined[s * from.len()..][..from.len()],
                slope: &w.slope[l][s * layer.y.len()..][..layer.y.len()],
                chosen: &[],
                d: &mut w.d[l][s * layer.width..][..layer.width],
            });
        }
    }

    /// Sample `s` on its way back through the layers that are not joined: its gradient is left in
    /// `gradient`, its norms in `norms`.
    pub(super) fn back_one(&self, packed: &Packed, w: &mut Workspace, s: usize) {
        let tile = self.tile_of(w);
        for l in (0..self.joined_from).rev() {
            let layer = &self.layers[l];
            self.pull_to_output(l, w, s);
            let x = &w.x[l][s * layer.x.len()..][..layer.x.len()];
            let gradient = &mut w.gradient[self.sums[l].clone()];
            let (weights, biases) = gradient.split_at_mut(layer.gradient_len());
            let (biases, affine) = biases.split_at_mut(layer.width);
            if let Some(shape) = layer.norm {
                vectorised(NormaliseBack {
                    shape,
                    canvas: layer.d,
                    bare: layer.y,
                    d: &mut w.d[l],
                    h: &w.normal[l][s * layer.y.len()..][..layer.y.len()],
                    inverse: &w.inverse[l][s * layer.width..][..layer.width],
                    scales: &packed.scales[l],
                    gradient: affine,
                    spare: &mut w.moments[..SPARE * layer.width],
                });
            }
            let left = Left::all(x, &layer.tap_rows, &layer.position_steps);
            multiply_at(left, &w.d[l], layer.width, Start::Zero, weights);
            biases.fill(0.0);
            vectorised(AddPlaces {
                canvas: layer.d,
                d: &w.d[l],
                to: biases,
            });
            vectorised(SquaredNorm {
                values: gradient,
                to: &mut w.norms[l * tile + s],
            });
            if let Some(back) = &layer.back {
                back_linear(
                    layer,
                    back,
                    &packed.back[l],
                    &w.d[l],
                    &mut w.one,
                    &mut w.patches,
                );
            }
        }
    }

    /// The gradient at the output of layer `l`, into its `d`.
    fn pull_to_output(&self, l: usize, w: &mut Workspace, s: usize) {
        let layer = &self.layers[l];
        let Some(next) = self.layers.get(l + 1) else {
            w.d[l][..layer.width].copy_from_slice(&w.top[s * layer.width..][..layer.width]);
            return;
        };
        let (from, t) = match &next.back {
            Some(back) if !self.is_joined(l + 1) => (back.to, w.one.as_slice()),
            _ => (next.x, &w.joined[s * next.x.len()..]),
        };
        let pooled = w.chosen[l].len() / self.tile_of(w);
        vectorised(Backward {
            layer,
            from,
            t: &t[..from.len()],
            slope: &w.slope[l][s * layer.y.len()..][..layer.y.len()],
            chosen: &w.chosen[l][s * pooled..][..pooled],
            d: &mut w.d[l],
        });
    }

    /// From the norms of sample `s` in every layer to its factors there; returns an upper bound on
    /// its squared norm after clipping.
    pub(super) fn clip(&self, w: &mut Workspace, bounds: Bounds<'_>, s: usize) -> f64 {
        let tile = self.tile_of(w);
        let norm = |l: usize| w.norms[l * tile + s];
        let layers = self.layers.len();
        let mut clipped = 0.0;
        match bounds {
            Bounds::PerLayer(bounds) => {
                for (l, bound) in bounds.iter().enumerate().take(layers) {
                    let factor = ghost::factor(norm(l), *bound) as f32;
                    clipped += ghost::scaled_norm(norm(l), factor);
                    w.factors[l * tile + s] = factor;
                }
            }
            Bounds::None | Bounds::Joint(_) => {
                let total = (0..layers).map(norm).sum::<f64>();
                let factor = match bounds {
                    Bounds::Joint(bound) => ghost::factor(total, bound) as f32,
                    _ => 1.0,
                };
                clipped = ghost::scaled_norm(total, factor);
                (0..layers).for_each(|l| w.factors[l * tile + s] = factor);
            }
        }
        clipped
    }

    /// Clips a gradient that was formed as a whole, adds it to `sum`, and returns an upper bound on
    /// its squared norm after clipping. For networks none of whose layers is joined.
    pub(super) fn add_clipped(
        &self,
        w: &mut Workspace,
        gradient: &[f32],
        bounds: Bounds<'_>,
        sum: &mut [f32],
    ) -> f64 {
        let tile = self.tile_of(w);
        for (l, span) in self.sums.iter().enumerate() {
            w.norms[l * tile] = ghost::squared_norm(&gradient[span.clone()]);
        }
        let clipped = self.clip(w, bounds, 0);
        for (l, span) in self.sums.iter().enumerate() {
            let factor = w.factors[l * tile];
            // A value that is not finite times zero is not zero: such a gradient is left out.
            if factor > 0.0 {
                vectorised(AddScaled {
                    sum: &mut sum[span.clone()],
                    values: &gradient[span.clone()],
                    factor,
                });
            }
        }
        clipped
    }

    /// Adds the scaled gradient of sample `s` in the layers that are not joined.
    pub(super) fn add_one(&self, w: &Workspace, s: usize, sum: &mut [f32]) {
        let tile = self.tile_of(w);
        for l in 0..self.joined_from {
            let factor = w.factors[l * tile + s];
            // A value that is not finite times zero is not zero: such a gradient is left out.
            if factor > 0.0 {
                vectorised(AddScaled {
                    sum: &mut sum[self.sums[l].clone()],
                    values: &w.gradient[self.sums[l].clone()],
                    factor,
                });
            }
        }
    }

    /// Adds the scaled gradients of the joined layers, summed over the samples of the tile.
    pub(super) fn add_joined(&self, w: &mut Workspace, count: usize, sum: &mut [f32]) {
        let tile = self.tile_of(w);
        for l in self.joined_from..self.layers.len() {
            let layer = &self.layers[l];
            let Some(joint) = &self.joints[l] else {
                continue;
            };
            let (d, x) = (&mut w.d[l], &mut w.x[l]);
            let rows = d
                .chunks_exact_mut(layer.width)
                .zip(x.chunks_exact_mut(layer.x.len()));
            let factors = &w.factors[l * tile..];
            for ((d, x), factor) in rows.zip(factors).take(count) {
                if *factor == 0.0 {
                    d.fill(0.0);
                    x.fill(0.0);
                } else if *factor < 1.0 {
                    d.iter_mut().for_each(|d| *d *= factor);
                }
            }
            let sum = &mut sum[self.sums[l].clone()];
            let (weights, biases) = sum.split_at_mut(layer.outputs * layer.x.len());
            let left = Left {
                depth: count,
                ..Left::all(d, &joint.rows, &joint.samples)
            };
            multiply_at(left, x, layer.x.len(), Start::Keep, weights);
            for d in d.chunks_exact(layer.width).take(count) {
                biases.iter_mut().zip(d).for_each(|(b, d)| *b += d);
            }
        }
    }
}

/// `W^T d` of one sample into `to`, in the canvas that `back` names.
fn back_linear(
    layer: &Layer,
    back: &Back,
    weights: &[f32],
    d: &[f32],
    to: &mut [f32],
    patches: &mut [f32],
) {
    let to = &mut to[..back.to.len()];
    let left = Left::all(d, &back.rows, &back.steps);
    let BackKind::Scattered { runs, run } = back.kind else {
        multiply_at(left, weights, back.width, Start::Zero, to);
        return;
    };
    if layer.is_single() && runs == 1 && run == to.len() {
        multiply_at(left, weights, back.width, Start::Zero, to);
        return;
    }
    to.fill(0.0);
    let positions = layer.positions.places();
    for (block, at) in positions.chunks(PATCH_ROWS).enumerate() {
        let begin = block * PATCH_ROWS;
        let range = (begin, begin + at.len());
        let patches = &mut patches[..at.len() * back.width];
        multiply_at(
            Left { range, ..left },
            weights,
            back.width,
            Start::Zero,
            patches,
        );
        vectorised(AddPatches {
            patches,
            runs,
            run,
            at,
            line: back.to.line(),
            to,
        });
    }
}

/// Adds patches to the image they come from.
struct AddPatches<'a> {
    patches: &'a [f32],
    runs: usize,
    run: usize,
    at: &'a [u32],
    line: usize,
    to: &'a mut [f32],
}

impl Vectorise for AddPatches<'_> {
    #[inline(always)]
    fn run(self) {
        for (patch, at) in self.patches.chunks_exact(self.runs * self.run).zip(self.at) {
            for (i, from) in patch.chunks_exact(self.run).enumerate() {
                let to = &mut self.to[*at as usize + i * self.line..][..self.run];
                to.iter_mut().zip(from).for_each(|(to, v)| *to += v);
            }
        }
    }
}

/// Sums of `d` over all places, channel by channel.
struct AddPlaces<'a> {
    canvas: Canvas,
    d: &'a [f32],
    to: &'a mut [f32],
}

impl Vectorise for AddPlaces<'_> {
    #[inline(always)]
    fn run(self) {
        let lane = self.canvas.lane();
        for i in 0..self.canvas.image().height {
            for place in self.d[self.canvas.row(i)].chunks_exact(lane) {
                let place = &place[..self.to.len()];
                self.to.iter_mut().zip(place).for_each(|(to, d)| *to += d);
            }
        }
    }
}

struct AddScaled<'a> {
    sum: &'a mut [f32],
    values: &'a [f32],
    factor: f32,
}

impl Vectorise for AddScaled<'_> {
    #[inline(always)]
    fn run(self) {
        for (sum, v) in self.sum.iter_mut().zip(self.values) {
            *sum += self.factor * v;
        }
    }
}

struct SquaredNorm<'a> {
    values: &'a [f32],
    to: &'a mut f64,
}

impl Vectorise for SquaredNorm<'_> {
    #[inline(always)]
    fn run(self) {
        *self.to = ghost::squared_norm(self.values);
    }
}

/// The ghost norms of a joined layer.
struct JoinedNorms<'a> {
    d: &'a [f32],
    x: &'a [f32],
    width: usize,
    inputs: usize,
    norms: &'a mut [f64],
}

impl Vectorise for JoinedNorms<'_> {
    #[inline(always)]
    fn run(self) {
        let rows = self
            .d
            .chunks_exact(self.width)
            .zip(self.x.chunks_exact(self.inputs));
        for (norm, (d, x)) in self.norms.iter_mut().zip(rows) {
            *norm = ghost::squared_norm(d) * (ghost::squared_norm(x) + 1.0);
        }
    }
}
