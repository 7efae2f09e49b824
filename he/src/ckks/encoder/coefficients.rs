//! Between real coefficients and residues.

use crate::error::Error;
use crate::ring::{Aligned, Eval, Poly};
use crate::rlwe::Parameters;
use crate::rns::Extension;
use crate::simd::{self, Kernels, SIGNED_LIMIT};

/// Scaled coefficients must stay below this power of two.
const LARGEST_BITS: u32 = 120;
/// Rows that [`Reconstruction::rebuild`] needs beside those of the plaintext.
pub(super) const SPARE_ROWS: usize = 4;

/// The first coefficient that does not fit half the modulus, as an error.
fn too_large(op: &'static str, log2_q: f64, coefficients: &[f64]) -> Option<Error> {
    let half = log2_q - 1.0;
    let limit = half.min(f64::from(LARGEST_BITS)).exp2() - 0.5;
    // an overflow of the transform may leave NaN, which compares with nothing
    let within = |x: &f64| x.abs() < limit;
    let index = coefficients.iter().position(|x| !within(x))?;
    let limit_bits = (half as u32).min(LARGEST_BITS);
    Some(Error::ValueTooLarge {
        op,
        index,
        limit_bits,
    })
}

/// Rounds the coefficients of a polynomial in `Y^gap`, `gap = N / coefficients.len()`, writes their
/// residues and transforms them. `integers` is as long.
pub(super) fn write_rows(
    op: &'static str,
    out: &mut Poly<Eval>,
    coefficients: &[f64],
    integers: &mut [i64],
) -> Result<(), Error> {
    let (ring, level, kernels) = (out.ring().clone(), out.level(), Kernels::active());
    let gap = ring.degree() / coefficients.len();
    let log2_q = ring.basis().log2(level);
    let limit = ((log2_q - 1.0).exp2() - 0.5).min(SIGNED_LIMIT);
    let words = kernels.round(integers, coefficients, limit);
    if !words && let Some(refused) = too_large(op, log2_q, coefficients) {
        return Err(refused);
    }
    for (i, q) in ring.moduli()[..=level].iter().enumerate() {
        let row = out.row_mut(i);
        if !words {
            row.fill(0);
            for (x, c) in row.iter_mut().step_by(gap).zip(coefficients) {
                *x = q.reduce_i128(c.round_ties_even() as i128);
            }
        } else if gap == 1 {
            kernels.signed_residues(q, row, integers);
        } else {
            row.fill(0);
            for (x, &c) in row.iter_mut().step_by(gap).zip(&*integers) {
                *x = q.reduce_i64(c);
            }
        }
        ring.tables()[i].forward(row);
    }
    Ok(())
}

/// Rebuilds coefficients as floating-point numbers from their residues.
///
/// In mixed radix with digits centred, `x = v_0 + q_0 (v_1 + q_1 (v_2 + ...))`, `|v_j| < q_j / 2`,
/// every `x` in `(-Q/2, Q/2)` has one representation (all moduli are odd). Summed from the last
/// digit that is not zero, `|v_j| <= q_j |s| / 2` at each step, `s` the sum so far, which is exact
/// while below `2^53`: so the relative error of a step grows by at most a factor
/// `|s| / (|s| - 1/2)` and two roundings of `2^-53`, and after 48 primes is below `2^-45`.
pub(super) struct Reconstruction {
    /// From the first two primes to all, where there are more.
    pair: Option<Extension>,
}

impl Reconstruction {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let moduli = parameters.moduli();
        let pair = || Extension::new(&moduli[..2], moduli).ok();
        Self {
            pair: (moduli.len() > 2).then(pair).flatten(),
        }
    }

    /// The coefficients of a polynomial in `Y^gap`, `gap = N / out.len()`; the others, which are
    /// errors where there should be zeros, are left out. `memory` has the rows of the highest level
    /// and [`SPARE_ROWS`] more.
    pub(super) fn rebuild(&self, poly: &Poly<Eval>, out: &mut [f64], memory: &mut Aligned) {
        let (ring, level) = (poly.ring(), poly.level());
        let (n, count) = (ring.degree(), out.len());
        let (rows, spare) = memory.split_at_mut((level + 1) * n);
        for (i, (table, row)) in ring
            .tables()
            .iter()
            .zip(rows.chunks_exact_mut(n))
            .enumerate()
        {
            row.copy_from_slice(poly.row(i));
            table.inverse(row);
            if count < n {
                (0..count).for_each(|k| row[k] = row[k * (n / count)]);
            }
        }
        let mut rows = Columns {
            words: rows,
            n,
            count,
        };
        if level < 2 || !self.fits_two(level, &rows, spare) {
            (1..=level).for_each(|j| rows.digit(ring.basis(), j, spare));
            rows.horner(ring.moduli(), level, out);
        } else {
            rows.digit(ring.basis(), 1, spare);
            rows.horner(ring.moduli(), 1, out);
        }
    }

    /// Whether the other rows are those of the integers that the first two stand for.
    fn fits_two(&self, level: usize, rows: &Columns<'_>, spare: &mut [u64]) -> bool {
        let Some(pair) = &self.pair else { return false };
        let (count, width) = (rows.count, pair.width());
        let (from, rest) = spare.split_at_mut(width * count);
        let expected = &mut rest[..count];
        for (copy, i) in from.chunks_exact_mut(count).zip(0..2) {
            copy.copy_from_slice(rows.row(i));
        }
        pair.prepare(from);
        (2..=level).all(|i| {
            pair.row(i, expected, from);
            let differ = expected
                .iter()
                .zip(rows.row(i))
                .fold(0, |bits, (a, b)| bits | (a ^ b));
            differ == 0
        })
    }
}

/// Rows of which the first `count` words are used.
struct Columns<'a> {
    words: &'a mut [u64],
    n: usize,
    count: usize,
}

impl Columns<'_> {
    fn row(&self, i: usize) -> &[u64] {
        &self.words[i * self.n..i * self.n + self.count]
    }

    /// Turns row `j` into the digit `v_j`, canonical; the rows before it are digits.
    fn digit(&mut self, basis: &crate::rns::Basis, j: usize, spare: &mut [u64]) {
        let (before, row) = self.words.split_at_mut(j * self.n);
        let (row, carried) = (&mut row[..self.count], &mut spare[..self.count]);
        let q = &basis.moduli()[j];
        for (i, from) in basis.moduli()[..j].iter().enumerate() {
            let digit = &before[i * self.n..i * self.n + self.count];
            simd::centred_to(from, q, carried, digit);
            Kernels::active().sub_scale_assign(q, row, carried, basis.inverse(i, j));
        }
    }

    /// `v_0 + q_0 (v_1 + ...)`, from the digits up to `top`.
    fn horner(&self, moduli: &[crate::zq::Modulus], top: usize, out: &mut [f64]) {
        out.fill(0.0);
        for (i, q) in moduli[..=top].iter().enumerate().rev() {
            Kernels::active().add_centred(q, out, q.value() as f64, self.row(i));
        }
    }
}
