//! The layers of the twin, straight from their definitions, on one sample in `f64`.

use crate::activation::Activation;
use crate::conv::ConvShape;
use crate::network::ImageShape;
use crate::norm::{EPSILON, GroupShape};
use crate::pool::{PoolKind, PoolShape};

/// Every place of an image: channel, row, column.
fn places(shape: ImageShape) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..shape.channels).flat_map(move |c| {
        (0..shape.height).flat_map(move |i| (0..shape.width).map(move |j| (c, i, j)))
    })
}

/// The value at a place, and zero outside.
fn at(x: &[f64], shape: ImageShape, c: usize, i: i64, j: i64) -> f64 {
    match (usize::try_from(i), usize::try_from(j)) {
        (Ok(i), Ok(j)) if i < shape.height && j < shape.width => {
            x[(c * shape.height + i) * shape.width + j]
        }
        _ => 0.0,
    }
}

pub(super) fn dense(weights: &[f64], biases: &[f64], x: &[f64]) -> Vec<f64> {
    let rows = weights.chunks_exact(x.len());
    let sum = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    rows.zip(biases).map(|(row, b)| b + sum(row)).collect()
}

pub(super) fn conv(shape: ConvShape, weights: &[f64], biases: &[f64], x: &[f64]) -> Vec<f64> {
    let (input, k) = (shape.input(), shape.kernel());
    let value = |(o, i, j): (usize, usize, usize)| {
        let mut sum = biases[o];
        for c in 0..input.channels {
            for a in 0..k {
                for e in 0..k {
                    let row = (i * shape.stride() + a) as i64 - shape.padding() as i64;
                    let column = (j * shape.stride() + e) as i64 - shape.padding() as i64;
                    let w = weights[((o * input.channels + c) * k + a) * k + e];
                    sum += w * at(x, input, c, row, column);
                }
            }
        }
        sum
    };
    places(shape.output()).map(value).collect()
}

pub(super) fn normalise(shape: GroupShape, affine: Option<(&[f64], &[f64])>, x: &mut [f64]) {
    let image = shape.image();
    let plane = image.height * image.width;
    for group in 0..shape.groups() {
        let start = group * shape.group_values();
        let values = &mut x[start..start + shape.group_values()];
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / n - mean * mean;
        for (i, v) in values.iter_mut().enumerate() {
            let c = (start + i) / plane;
            let h = (*v - mean) / (variance + EPSILON).sqrt();
            *v = affine.map_or(h, |(scales, shifts)| scales[c] * h + shifts[c]);
        }
    }
}

pub(super) fn activation(activation: Activation, y: f64) -> f64 {
    match activation {
        Activation::Identity => y,
        Activation::Relu => y.max(0.0),
        Activation::Tanh => y.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-y).exp()),
        Activation::Square => y * y,
    }
}

pub(super) fn pool(shape: PoolShape, x: &[f64]) -> Vec<f64> {
    let (size, stride) = (shape.size(), shape.stride());
    let value = |(c, i, j): (usize, usize, usize)| {
        let window = (0..size * size).map(|n| {
            let (a, e) = (i * stride + n / size, j * stride + n % size);
            at(x, shape.input(), c, a as i64, e as i64)
        });
        match shape.kind() {
            PoolKind::Max => window.fold(f64::NEG_INFINITY, f64::max),
            PoolKind::Mean => window.sum::<f64>() / (size * size) as f64,
        }
    };
    places(shape.output()).map(value).collect()
}
