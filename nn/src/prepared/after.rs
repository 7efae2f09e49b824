//! What follows a linear layer, on one sample: activation and pooling, and the way back.
//!
//! On the way out every value of the linear layer's output is replaced by the *derivative* of the
//! activation there, which is all that the way back needs. Channels lie side by side, so every
//! inner loop runs over whole vectors; the code is safe and compiled by
//! [`crate::gemm::vectorised`].

use super::canvas::Canvas;
use super::layer::Layer;
use crate::activation::Activation;
use crate::elementary::{sigmoid, tanh};
use crate::gemm::Vectorise;
use crate::pool::{PoolKind, PoolShape};

/// The way out: from `y` to the next layer's input.
pub(super) struct Forward<'a> {
    pub(super) layer: &'a Layer,
    /// The linear layer's output; afterwards the derivatives.
    pub(super) y: &'a mut [f32],
    /// Working space of the same length.
    pub(super) spare: &'a mut [f32],
    /// Per pooled value which place of its window was the largest; of any length without pooling.
    pub(super) chosen: &'a mut [u32],
    /// The next layer's canvas and its values.
    pub(super) next: Canvas,
    pub(super) x: &'a mut [f32],
}

impl Vectorise for Forward<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            layer, y, next, x, ..
        } = self;
        let Some(pool) = layer.pool else {
            for i in 0..next.image().height {
                let (from, to) = (&mut y[layer.y.row(i)], &mut x[next.row(i)]);
                activate(layer.activation, from, to);
            }
            clear_padding(layer, next, x);
            return;
        };
        let spare = &mut self.spare[..y.len()];
        activate(layer.activation, y, spare);
        for i in 0..pool.output().height {
            for j in 0..pool.output().width {
                let corner = layer.y.place(i * pool.stride(), j * pool.stride());
                let to = &mut x[next.place(i, j)..][..next.lane()];
                let window = Window {
                    pool,
                    line: layer.y.line(),
                    lane: layer.width,
                };
                match pool.kind() {
                    PoolKind::Mean => window.mean(&spare[corner..], to),
                    PoolKind::Max => {
                        let at = (i * pool.output().width + j) * layer.width;
                        window.largest(&spare[corner..], to, &mut self.chosen[at..][..layer.width]);
                    }
                }
            }
        }
        clear_padding(layer, next, x);
    }
}

/// Writes zeros where the logistic function made something of a padding channel's zero.
#[inline(always)]
fn clear_padding(layer: &Layer, next: Canvas, x: &mut [f32]) {
    if layer.activation != Activation::Sigmoid || layer.outputs == layer.width {
        return;
    }
    for place in next.places() {
        x[place + layer.outputs..place + next.lane()].fill(0.0);
    }
}

/// `to = f(y)`, `y = f'(y)`.
#[inline(always)]
fn activate(activation: Activation, y: &mut [f32], to: &mut [f32]) {
    match activation {
        Activation::Identity => each(y, to, |v| (v, 1.0)),
        Activation::Relu => each(y, to, |v| {
            let alive = v > 0.0;
            (if alive { v } else { 0.0 }, if alive { 1.0 } else { 0.0 })
        }),
        Activation::Tanh => each(y, to, |v| {
            let t = tanh(v);
            (t, 1.0 - t * t)
        }),
        Activation::Sigmoid => each(y, to, |v| {
            let s = sigmoid(v);
            (s, s * (1.0 - s))
        }),
        Activation::Square => each(y, to, |v| (v * v, 2.0 * v)),
    }
}

#[inline(always)]
fn each(y: &mut [f32], to: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for (y, to) in y.iter_mut().zip(to) {
        (*to, *y) = f(*y);
    }
}

/// The windows of a pooling in an image with lines `line` apart.
struct Window {
    pool: PoolShape,
    line: usize,
    lane: usize,
}

impl Window {
    /// Where the `n`-th place of a window stands from its corner.
    #[inline(always)]
    fn place(&self, n: usize) -> usize {
        n / self.pool.size() * self.line + n % self.pool.size() * self.lane
    }

    #[inline(always)]
    fn places(&self) -> usize {
        self.pool.size() * self.pool.size()
    }

    #[inline(always)]
    fn largest(&self, x: &[f32], to: &mut [f32], chosen: &mut [u32]) {
        to.copy_from_slice(&x[..to.len()]);
        chosen.fill(0);
        for n in 1..self.places() {
            let x = &x[self.place(n)..][..to.len()];
            for ((to, chosen), v) in to.iter_mut().zip(chosen.iter_mut()).zip(x) {
                let larger = *v > *to;
                *to = if larger { *v } else { *to };
                *chosen = if larger { n as u32 } else { *chosen };
            }
        }
    }

    #[inline(always)]
    fn mean(&self, x: &[f32], to: &mut [f32]) {
        to.copy_from_slice(&x[..to.len()]);
        for n in 1..self.places() {
            let x = &x[self.place(n)..][..to.len()];
            to.iter_mut().zip(x).for_each(|(to, v)| *to += v);
        }
        let share = 1.0 / self.places() as f32;
        to.iter_mut().for_each(|to| *to *= share);
    }
}

/// The way back: from the gradient at the next layer's input to that at the linear layer's output.
pub(super) struct Backward<'a> {
    pub(super) layer: &'a Layer,
    /// The gradient at the next layer's input, and its canvas.
    pub(super) from: Canvas,
    pub(super) t: &'a [f32],
    /// The derivatives that [`Forward`] left.
    pub(super) slope: &'a [f32],
    /// What [`Forward`] chose.
    pub(super) chosen: &'a [u32],
    /// Where the gradient at the output goes, in the layer's canvas `d`; its frame stays as it is.
    pub(super) d: &'a mut [f32],
}

impl Vectorise for Backward<'_> {
    #[inline(always)]
    fn run(self) {
        let (layer, canvas) = (self.layer, self.layer.d);
        let Some(pool) = layer.pool else {
            for i in 0..canvas.image().height {
                let t = &self.t[self.from.row(i)];
                let slope = &self.slope[layer.y.row(i)];
                let d = &mut self.d[canvas.row(i)];
                for ((d, t), slope) in d.iter_mut().zip(t).zip(slope) {
                    *d = t * slope;
                }
            }
            return;
        };
        for i in 0..canvas.image().height {
            self.d[canvas.row(i)].fill(0.0);
        }
        let window = Window {
            pool,
            line: canvas.line(),
            lane: canvas.lane(),
        };
        let share = 1.0 / window.places() as f32;
        for i in 0..pool.output().height {
            for j in 0..pool.output().width {
                let t = &self.t[self.from.place(i, j)..][..layer.width];
                let corner = canvas.place(i * pool.stride(), j * pool.stride());
                let at = (i * pool.output().width + j) * layer.width;
                for n in 0..window.places() {
                    let d = &mut self.d[corner + window.place(n)..][..layer.width];
                    if pool.kind() == PoolKind::Mean {
                        d.iter_mut().zip(t).for_each(|(d, t)| *d += t * share);
                        continue;
                    }
                    let chosen = &self.chosen[at..][..layer.width];
                    for ((d, t), chosen) in d.iter_mut().zip(t).zip(chosen) {
                        *d += if *chosen == n as u32 { *t } else { 0.0 };
                    }
                }
            }
        }
        for i in 0..canvas.image().height {
            let slope = &self.slope[layer.y.row(i)];
            let d = &mut self.d[canvas.row(i)];
            d.iter_mut().zip(slope).for_each(|(d, slope)| *d *= slope);
        }
    }
}
