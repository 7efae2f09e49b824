//! Masks for as many requests as a polynomial has coefficients.
//!
//! With a request in every coefficient a layer's input is one ciphertext for each feature, and
//! `W r` a matrix of integers times that column ([`Scalars`]): four products of words for a weight,
//! two polynomials at two primes, serve all `N` requests. Uploads and downloads have no coefficient
//! to spare. A convolution counts as the sparse matrix that it is.
//!
//! Gradients are sums over samples, which lie in one polynomial here: a product of ciphertexts
//! would give one useful coefficient, and a download each. So training has other layouts.

use rayon::prelude::*;
use sphinx_he::exact::{Features, Products, Scalars, SeededCiphertext};
use sphinx_he::rlwe::Parameters;
use sphinx_nn::network::{LinearKind, LinearShape};

use super::layout::{Layout, SUMS_AT_ONCE};
use super::server::{TOP, compute, expanded, finish};
use crate::error::Error;
use crate::message::Returned;
use crate::paper;
use crate::plan::Return;

/// Outputs in the order in which they are computed: those that meet the same inputs one after the
/// other, which find them in the cache.
fn order(shape: &LinearShape) -> Vec<usize> {
    let positions = match shape.kind {
        LinearKind::Dense => 1,
        LinearKind::Conv(conv) => conv.positions(),
    };
    let firsts = 0..positions;
    firsts
        .flat_map(|first| (first..shape.outputs).step_by(positions))
        .collect()
}

/// The weights of a layer, a row for each output in the order of computing.
pub(super) fn matrix(
    parameters: &Parameters,
    shape: &LinearShape,
    weights: &[i32],
) -> Result<Scalars, Error> {
    let products = paper::Products::new(*shape);
    let rows = order(shape).into_iter();
    let rows = rows.map(|output| products.forward(weights, output as u32));
    Ok(Scalars::new(parameters, TOP, shape.inputs, rows)?)
}

/// `W r` of one chunk of masks: one result per output.
pub(super) fn products(
    (layout, shape): (&Layout, &LinearShape),
    matrix: &Scalars,
    mut masks: Vec<SeededCiphertext>,
    chunk: usize,
    form: Return,
) -> Result<Vec<Returned>, Error> {
    let Some(first) = masks.first() else {
        return Ok(Vec::new());
    };
    let (parameters, encoding) = (first.parameters().clone(), first.encoding());
    let masks = expanded(&mut masks);
    let mut features = Features::new(&parameters, TOP, encoding, masks.len())?;
    masks.iter().try_for_each(|mask| features.check(mask))?;
    let parts: Vec<_> = features.parts_mut().collect();
    parts.into_par_iter().for_each(|mut part| {
        for (at, mask) in masks.iter().enumerate() {
            part.put(at, 0, mask);
        }
    });
    drop(masks);
    let order = order(shape);
    let mut results = vec![None; order.len()];
    let mut room = None;
    for (at, outputs) in order.chunks(SUMS_AT_ONCE).enumerate() {
        let rows = at * SUMS_AT_ONCE..at * SUMS_AT_ONCE + outputs.len();
        let sums = compute(&Products::scaled(matrix, rows, &features)?, room.take());
        let finished = outputs.par_iter().enumerate().map(|(at, &output)| {
            let positions = layout.forward_positions(output, chunk);
            finish(sums.ciphertext(at), &positions, form)
        });
        let finished = finished.collect::<Result<Vec<_>, _>>()?;
        for (&output, result) in outputs.iter().zip(finished) {
            results[output] = Some(result);
        }
        room = Some(sums);
    }
    Ok(results.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests;
