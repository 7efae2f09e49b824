//! Checks of every product that the server returns, before anything derived from it is sent.
//!
//! What is checked, why a wrong product is caught and what a failure tells stand in the
//! [checks](super#checks) of the engine, which [`super::client`] runs.

use rand_core::CryptoRng;
use rayon::prelude::*;
use sphinx_nn::network::{LinearKind, LinearShape};

use crate::format::Integers;

mod field;

pub(crate) use field::Linear;
use field::{Element, Vector, dot, response};

/// Entries of gradient sums are below this; the differences of two of them are below the prime.
const LARGEST_SUM: u64 = 1 << 60;

/// Draws a fresh vector for every check.
pub(crate) struct Verifier<R> {
    random: R,
}

impl<R: CryptoRng> Verifier<R> {
    /// `random` must be unknown to the server: seeded by the operating system.
    pub(crate) const fn new(random: R) -> Self {
        Self { random }
    }

    /// Whether every row of `y` is `A` times that of `x`.
    pub(crate) fn forward(&mut self, layer: &Linear<'_>, x: &Integers, y: &Integers) -> bool {
        let v = Vector::random(layer.shape.outputs, &mut self.random);
        let vector = layer.transposed(&v);
        rows_agree((&v, y), (&vector, x))
    }

    /// Whether every row of `dx` is `A^T` times that of `d`.
    pub(crate) fn backward(&mut self, layer: &Linear<'_>, d: &Integers, dx: &Integers) -> bool {
        let v = Vector::random(layer.shape.inputs, &mut self.random);
        let vector = layer.applied(&v);
        rows_agree((&v, dx), (&vector, d))
    }

    /// Whether `sum`, row-major `[out][in]`, is the sum of the samples' gradients; `limit` bounds `x`.
    pub(crate) fn gradient(
        &mut self,
        shape: &LinearShape,
        (x, limit): (&Integers, i32),
        d: &Integers,
        sum: &[i64],
    ) -> bool {
        let channels = match shape.kind {
            LinearKind::Dense => shape.outputs,
            LinearKind::Conv(conv) => conv.output().channels,
        };
        let width = sum.len() / channels;
        let u = Vector::random(width, &mut self.random);
        let expected = responses(shape, &u, (x, limit), d, channels);
        let rows = sum.chunks_exact(width).zip(expected);
        let mut agrees = true;
        for (row, expected) in rows {
            let terms = row.iter().zip(u.elements());
            let got = terms.fold(Element::default(), |sum, (&g, u)| {
                sum.plus(u.times_integer(g))
            });
            agrees &= got == expected && row.iter().all(|g| g.unsigned_abs() < LARGEST_SUM);
        }
        agrees
    }
}

/// Whether `v . y_j = w . x_j` for every row.
fn rows_agree((v, y): (&Vector, &Integers), (w, x): (&Vector, &Integers)) -> bool {
    let agree = |j: usize| v.dot(y.row(j)) == w.dot(x.row(j));
    y.rows() == x.rows() && (0..y.rows()).into_par_iter().all(agree)
}

/// `sum_j sum_s d_js (P_js . u)` of every output channel.
fn responses(
    shape: &LinearShape,
    u: &Vector,
    (x, limit): (&Integers, i32),
    d: &Integers,
    channels: usize,
) -> Vec<Element> {
    let halves = u.halves();
    let zero = || vec![Element::default(); channels];
    let add = |mut sums: Vec<Element>, part: &[Element]| {
        for (sum, &part) in sums.iter_mut().zip(part) {
            *sum = sum.plus(part);
        }
        sums
    };
    (0..x.rows())
        .into_par_iter()
        .fold(zero, |mut sums, j| {
            match shape.kind {
                LinearKind::Dense => {
                    let s = u.dot(x.row(j));
                    for (sum, &d) in sums.iter_mut().zip(d.row(j)) {
                        *sum = sum.plus(s.times_integer(i64::from(d)));
                    }
                }
                LinearKind::Conv(conv) => {
                    let s = response(conv, &halves, x.row(j), limit);
                    let planes = d.row(j).chunks_exact(conv.positions());
                    for (sum, plane) in sums.iter_mut().zip(planes) {
                        *sum = sum.plus(dot(&s, plane));
                    }
                }
            }
            sums
        })
        .reduce(zero, |sums, part| add(sums, &part))
}

#[cfg(test)]
mod tests;
