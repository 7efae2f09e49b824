//! CIFAR-10 in its binary version.
//!
//! Six files, `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, of records of 3073
//! bytes: a label, then 32 x 32 red, green and blue bytes, each plane row by row. Plain, `.gz` or
//! `.xz`, in the folder named or in `cifar10` or `cifar-10-batches-bin` inside it. Source:
//! Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and the page of the set.
//!
//! Nothing is believed before it is checked: at most [`MAX_RECORDS`] records are read of a file,
//! whole ones, with labels below ten. Five training files and the test file are recognised by
//! SHA-256 (a copy whose pixels are lossless but for 111 images; the published archive may differ),
//! so that one in the place of another is named. Fewer records than the published ten thousand
//! are accepted.

use super::archive::{self, dataset};
use super::{DataError, LoadOptions, Notes, Split};
use crate::network::ImageShape;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most records in one file.
pub const MAX_RECORDS: usize = 60_000;

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};
const PIXELS: usize = 3 * 32 * 32;
const RECORD: usize = 1 + PIXELS;
const WHAT: &str = "CIFAR-10 records";
const FOLDERS: [&str; 2] = ["cifar10", "cifar-10-batches-bin"];
const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];
const ROLES: [&str; 6] = [
    "training batch 1 of cifar10",
    "training batch 2 of cifar10",
    "training batch 3 of cifar10",
    "training batch 4 of cifar10",
    "training batch 5 of cifar10",
    "the test batch of cifar10",
];
const KNOWN: [(u64, &str); 6] = [
    (0x0def_081c_4104_89f9, ROLES[0]),
    (0x391e_2957_5970_440c, ROLES[1]),
    (0x1210_76ec_0d3c_7be3, ROLES[2]),
    (0xff25_1e0c_ad6f_9022, ROLES[3]),
    (0xfac1_f564_13e3_2aee, ROLES[4]),
    (0x3f70_10f5_8554_23b8, ROLES[5]),
];

/// Loads the six files, or as many of the training files as the records asked for need.
///
/// # Errors
/// [`DataError`], naming the file and what was expected of it.
pub fn load(dir: &Path, options: &LoadOptions) -> Result<Split, DataError> {
    load_noting(dir, options, &mut Notes::default())
}

pub(super) fn load_noting(
    dir: &Path,
    options: &LoadOptions,
    notes: &mut Notes,
) -> Result<Split, DataError> {
    Ok(Split {
        train: part(dir, 0..5, options.train, notes)?,
        test: part(dir, 5..6, options.test, notes)?,
    })
}

/// The first `limit` records of some of the files.
fn part(
    dir: &Path,
    files: std::ops::Range<usize>,
    limit: Option<usize>,
    notes: &mut Notes,
) -> Result<super::Dataset, DataError> {
    let (mut labels, mut images) = (Vec::new(), Vec::new());
    let mut last = dir.to_owned();
    for file in files {
        if limit.is_some_and(|limit| labels.len() >= limit) {
            break;
        }
        last = find(dir, FILES[file])?;
        let bytes = read(&last)?;
        if !archive::identify(&last, ROLES[file], &[&bytes], &KNOWN)? {
            notes.unknown.push(last.clone());
        }
        for (record, bytes) in bytes.chunks_exact(RECORD).enumerate() {
            if bytes[0] >= 10 {
                return Err(DataError::Label {
                    path: last,
                    record,
                    label: bytes[0],
                    classes: 10,
                });
            }
            labels.push(bytes[0]);
            images.extend_from_slice(&bytes[1..]);
        }
    }
    let count = limit.unwrap_or(labels.len());
    if count > labels.len() {
        return Err(DataError::TooFew {
            path: last,
            asked: count,
            available: labels.len(),
        });
    }
    labels.truncate(count);
    images.truncate(count * PIXELS);
    Ok(dataset("cifar10", SHAPE, &images, labels))
}

fn find(dir: &Path, name: &str) -> Result<PathBuf, DataError> {
    let folders = std::iter::once(dir.to_owned()).chain(FOLDERS.map(|f| dir.join(f)));
    for folder in folders {
        for ending in ["", ".gz", ".xz"] {
            let path = folder.join(format!("{name}{ending}"));
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    Err(DataError::Missing {
        folder: dir.to_owned(),
        what: WHAT,
        names: name.to_owned(),
        subfolder: FOLDERS.join(" or "),
    })
}

/// Unpacks a file of whole records.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let failed = |source| DataError::Read {
        path: path.to_owned(),
        what: WHAT,
        source,
    };
    let limit = (MAX_RECORDS * RECORD) as u64;
    let mut bytes = Vec::new();
    let reader = archive::open(path).map_err(failed)?;
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.is_empty() || bytes.len() as u64 > limit || bytes.len() % RECORD != 0 {
        return Err(DataError::WholeRecords {
            path: path.to_owned(),
            found: bytes.len() as u64,
            record: RECORD,
            limit: MAX_RECORDS,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
