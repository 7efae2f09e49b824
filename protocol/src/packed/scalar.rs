//! Products with integers, for batches of as many samples as a polynomial has coefficients.
//!
//! With a sample in every coefficient a layer's input is one ciphertext for each feature, and
//! `W x` a matrix of integers times that column ([`Scalars`]): four products of words for a weight,
//! two polynomials at two primes, serve all `N` samples. Uploads and downloads have no coefficient
//! to spare, and no weight is transformed. `W^T d` is the same with the transposed matrix. A
//! convolution counts as the sparse matrix that it is.
//!
//! Gradients are sums over samples, which lie in one polynomial here: a product of ciphertexts
//! would give one useful coefficient, and a download each. So tickets may be made so, and in
//! training `W^T d`, whose uploads serve nothing else, and `W x` where the client keeps the
//! gradient.

use rayon::prelude::*;
use sphinx_he::exact::{Ciphertext, Encoding, Features, Products, Scalars};
use sphinx_he::rlwe::Parameters;
use sphinx_nn::network::{LinearKind, LinearShape};

use super::Upload;
use super::layout::{Layout, SUMS_AT_ONCE};
use super::server::{compute, finish};
use crate::error::Error;
use crate::message::Returned;
use crate::paper;
use crate::plan::Return;

/// Results in the order in which they are computed: those that meet the same uploads one after the
/// other, which find them in the cache.
fn order(shape: &LinearShape, upload: Upload) -> Vec<usize> {
    let (count, places) = match (upload, shape.kind) {
        (Upload::OutputGradient, LinearKind::Dense) => (shape.inputs, 1),
        (Upload::OutputGradient, LinearKind::Conv(conv)) => {
            (shape.inputs, conv.input().height * conv.input().width)
        }
        (_, LinearKind::Dense) => (shape.outputs, 1),
        (_, LinearKind::Conv(conv)) => (shape.outputs, conv.positions()),
    };
    let firsts = 0..places;
    firsts
        .flat_map(|first| (first..count).step_by(places))
        .collect()
}

/// The weights of a layer, times a factor: a row for each result of such uploads, in the order of
/// computing.
pub(super) fn matrix(
    parameters: &Parameters,
    (level, factor): (usize, u64),
    upload: Upload,
    (shape, weights): (&LinearShape, &[i32]),
) -> Result<Scalars, Error> {
    let products = paper::Products::new(*shape);
    let rows = order(shape, upload).into_iter().map(|result| {
        let mut terms = match upload {
            Upload::OutputGradient => products.backward(weights, result as u32),
            _ => products.forward(weights, result as u32),
        };
        terms.iter_mut().for_each(|(_, w)| *w *= factor as i64);
        terms
    });
    let columns = match upload {
        Upload::OutputGradient => shape.outputs,
        _ => shape.inputs,
    };
    Ok(Scalars::new(parameters, level, columns, rows)?)
}

/// `x` as a product with weights that carry the factor is encoded.
fn carried(encoding: Encoding, factor: u64) -> Encoding {
    match encoding {
        Encoding::Scaled {
            numerator,
            denominator,
        } => Encoding::Scaled {
            numerator: numerator * u128::from(factor),
            denominator,
        },
        other => other,
    }
}

/// The results of one chunk of uploads: one for each output of `W x`, or input of `W^T d`.
pub(super) fn products(
    (layout, shape): (&Layout, &LinearShape),
    matrix: &Scalars,
    (upload, chunk): (Upload, usize),
    held: Vec<Ciphertext>,
    form: Return,
) -> Result<Vec<Returned>, Error> {
    let Some(first) = held.first() else {
        return Ok(Vec::new());
    };
    let (parameters, level) = (first.parameters().clone(), first.level());
    let encoding = first.encoding();
    Features::new(&parameters, level, encoding, 0)
        .and_then(|features| held.iter().try_for_each(|c| features.check(c)))?;
    let encoding = carried(encoding, form.factor);
    let mut features = Features::new(&parameters, level, encoding, held.len())?;
    let parts: Vec<_> = features.parts_mut().collect();
    parts.into_par_iter().for_each(|mut part| {
        for (at, ciphertext) in held.iter().enumerate() {
            part.put(at, 0, ciphertext);
        }
    });
    drop(held);
    let order = order(shape, upload);
    let mut results = vec![None; order.len()];
    let mut room = None;
    for (at, members) in order.chunks(SUMS_AT_ONCE).enumerate() {
        let rows = at * SUMS_AT_ONCE..at * SUMS_AT_ONCE + members.len();
        let sums = compute(&Products::scaled(matrix, rows, &features)?, room.take());
        let finished = members.par_iter().enumerate().map(|(at, &result)| {
            let positions = match upload {
                Upload::OutputGradient => layout.backward_positions(result, chunk),
                _ => layout.forward_positions(result, chunk),
            };
            finish(sums.ciphertext(at), &positions, form)
        });
        let finished = finished.collect::<Result<Vec<_>, _>>()?;
        for (&result, finished) in members.iter().zip(finished) {
            results[result] = Some(finished);
        }
        room = Some(sums);
    }
    Ok(results.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests;
