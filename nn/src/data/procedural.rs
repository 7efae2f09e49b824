//! What the procedural sets share: records by number, in parallel; training and test streams.

use super::{Dataset, LoadOptions, Split, pixels};
use crate::network::ImageShape;
use crate::tensor::Tensor;
use rayon::prelude::*;

/// Set in the stream numbers of test records.
const TEST_STREAM: u64 = 1 << 63;

/// A set whose record is a function of `(seed, number)`.
pub(super) struct Procedure<B> {
    pub(super) name: &'static str,
    pub(super) shape: ImageShape,
    pub(super) classes: usize,
    /// Training and test records when none are asked for.
    pub(super) sizes: (usize, usize),
    /// Bytes and class of one record.
    pub(super) record: fn(u64, u64) -> (B, u8),
}

impl<B: AsRef<[u8]>> Procedure<B> {
    /// The first `count` training records of `seed`.
    pub(super) fn generate(&self, seed: u64, count: usize) -> Dataset {
        self.records(seed, 0, count)
    }

    /// The first records of both parts.
    pub(super) fn split(&self, options: &LoadOptions) -> Split {
        let (train, test) = self.sizes;
        let seed = options.seed;
        Split {
            train: self.records(seed, 0, options.train.unwrap_or(train)),
            test: self.records(seed, TEST_STREAM, options.test.unwrap_or(test)),
        }
    }

    fn records(&self, seed: u64, first: u64, count: usize) -> Dataset {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        let values = channels * height * width;
        let mut images = Tensor::zeros(count, values);
        let mut labels = vec![0; count];
        let rows = images.as_mut_slice().par_chunks_exact_mut(values);
        rows.zip(&mut labels)
            .enumerate()
            .for_each(|(i, (row, label))| {
                let (bytes, class) = (self.record)(seed, first | i as u64);
                row.copy_from_slice(&pixels(bytes.as_ref()));
                *label = class;
            });
        Dataset {
            name: self.name.to_owned(),
            shape: self.shape,
            classes: self.classes,
            images,
            labels,
        }
    }
}
