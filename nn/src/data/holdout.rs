//! Splitting a training set: some records to train on, the others to choose hyper-parameters by.
//!
//! The records held out are the first of a seeded permutation of all (Fisher and Yates), or, if
//! `stratified`, of each class, so that every class loses the same share. Within each part records
//! keep their order. The same set, seed and numbers give the same split on every platform.
//!
//! A split is a function of public settings and, if stratified, of labels: it decides who is
//! trained on, so a privacy statement for the training set covers the records kept, and choosing
//! by the others is not covered by it.
//!
//! ```
//! use sphinx_nn::data::{holdout, synth_digits};
//! let set = synth_digits::generate(1, 100);
//! let (kept, held_out) = holdout::split(&set, 20, 7, holdout::Strata::Ignored).unwrap();
//! assert_eq!((kept.len(), held_out.len()), (80, 20));
//! ```

use super::Dataset;
use crate::init::stream;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use thiserror::Error;

/// Whether classes are held out in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strata {
    /// Records are drawn whatever their class.
    Ignored,
    /// The same share of every class, rounded down, and the rest from all.
    Classes,
}

/// More records to hold out than there are.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("holding out {held_out} of {records} records; at most all but one can be held out")]
pub struct HoldOutError {
    /// Records asked for.
    pub held_out: usize,
    /// Records there are.
    pub records: usize,
}

/// Records to train on, and `held_out` records to judge by.
///
/// # Errors
/// [`HoldOutError`] if nothing would be left to train on.
pub fn split(
    set: &Dataset,
    held_out: usize,
    seed: u64,
    strata: Strata,
) -> Result<(Dataset, Dataset), HoldOutError> {
    let records = set.len();
    if held_out >= records {
        return Err(HoldOutError { held_out, records });
    }
    let order = permutation(records, seed);
    let mut out = vec![false; records];
    let mut left = held_out;
    if strata == Strata::Classes {
        for class in 0..set.classes {
            let of_class = || {
                order
                    .iter()
                    .filter(|i| usize::from(set.labels[**i]) == class)
            };
            let share = of_class().count() * held_out / records;
            of_class().take(share).for_each(|i| out[*i] = true);
            left -= share;
        }
    }
    for i in order {
        if left > 0 && !out[i] {
            out[i] = true;
            left -= 1;
        }
    }
    let part = |wanted: bool| {
        let rows: Vec<u32> = (0..records)
            .filter(|i| out[*i] == wanted)
            .map(|i| i as u32)
            .collect();
        Dataset {
            name: set.name.clone(),
            shape: set.shape,
            classes: set.classes,
            images: set.images.gather(&rows, rows.len()),
            labels: rows.iter().map(|i| set.labels[*i as usize]).collect(),
        }
    };
    Ok((part(false), part(true)))
}

fn permutation(count: usize, seed: u64) -> Vec<usize> {
    let mut rng: ChaCha8Rng = stream(*b"sphinx holdout\0\0\0\0\0\0\0\0\0\0", seed);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        // A bias of at most count / 2^64.
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synth_digits;

    #[test]
    fn every_record_is_in_one_part() {
        let set = synth_digits::generate(2, 300);
        for strata in [Strata::Ignored, Strata::Classes] {
            let (kept, out) = split(&set, 70, 5, strata).unwrap();
            assert_eq!((kept.len(), out.len()), (230, 70));
            let mut next = (0, 0);
            for i in 0..300 {
                let row = set.images.row(i);
                if next.0 < 230 && kept.images.row(next.0) == row {
                    assert_eq!(kept.labels[next.0], set.labels[i]);
                    next.0 += 1;
                } else {
                    assert_eq!(out.images.row(next.1), row);
                    assert_eq!(out.labels[next.1], set.labels[i]);
                    next.1 += 1;
                }
            }
            assert_eq!(split(&set, 70, 5, strata).unwrap(), (kept.clone(), out));
            assert_ne!(split(&set, 70, 6, strata).unwrap().0, kept);
        }
        let error = split(&set, 300, 1, Strata::Ignored).unwrap_err();
        assert_eq!((error.held_out, error.records), (300, 300));
    }

    #[test]
    fn classes_are_held_out_in_proportion() {
        let set = synth_digits::generate(2, 1000);
        let (_, out) = split(&set, 500, 5, Strata::Classes).unwrap();
        for class in 0..10 {
            let count = |s: &Dataset| s.labels.iter().filter(|l| **l == class).count();
            assert!(count(&out).abs_diff(count(&set) / 2) <= 10);
        }
    }
}
