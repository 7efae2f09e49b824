//! Operands of sums, and batches as columns.

use rayon::prelude::*;
use sphinx_he::ckks::{Bank, Ciphertext};
use sphinx_nn::tensor::Tensor;

use crate::error::Error;

/// Terms of one sum of products: places in two lists of ciphertexts.
pub(super) type Terms = Vec<(u32, u32)>;

/// The operand at a place.
pub(super) fn at(all: &[Ciphertext], index: u32) -> Result<&Ciphertext, Error> {
    all.get(index as usize).ok_or_else(|| missing(index))
}

pub(super) fn missing(index: u32) -> Error {
    Error::Unexpected {
        expected: format!("operand {index} of a sum"),
        got: "none".into(),
    }
}

/// All ciphertexts of a list, side by side.
pub(super) fn bank(all: &[Ciphertext]) -> Result<Bank, Error> {
    let first = all.first().ok_or_else(|| missing(0))?;
    let mut bank = Bank::new(first.parameters(), first.level(), first.scale(), all.len())?;
    all.iter()
        .try_for_each(|ciphertext| bank.admit(ciphertext))?;
    let mut parts: Vec<_> = bank.parts_mut().collect();
    parts.par_iter_mut().for_each(|part| part.put(0, all));
    drop(parts);
    Ok(bank)
}

/// The columns of a batch, times a factor.
pub(super) fn columns(x: &Tensor, factor: f64) -> Vec<Vec<f64>> {
    let column = |k| {
        let values = (0..x.rows()).map(|row| f64::from(x.row(row)[k]) * factor);
        values.collect()
    };
    (0..x.columns()).map(column).collect()
}

/// Results, one per column, as a batch.
pub(super) fn batch(results: &[Vec<f64>], rows: usize, factor: f64) -> Tensor {
    let mut out = Tensor::zeros(rows, results.len());
    for (k, column) in results.iter().enumerate() {
        for (row, value) in column.iter().enumerate().take(rows) {
            out.as_mut_slice()[row * results.len() + k] = (value * factor) as f32;
        }
    }
    out
}
