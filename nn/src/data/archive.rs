//! Opening a data file, plain or packed.
//!
//! Gzip and xz are told by their first bytes, not by the name. Unpacking is streamed: a reader
//! that stops reading stops the unpacking, and xz may ask for at most [`XZ_MEMORY`] of memory.

use super::{DataError, Dataset};
use crate::network::ImageShape;
use crate::tensor::Tensor;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Most memory for unpacking xz, in KiB: the dictionary of its highest preset, and its tables.
const XZ_MEMORY: u32 = 80 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// A reader of the unpacked content.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::new(File::open(path)?);
    let start = file.fill_buf()?;
    Ok(if start.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(file))
    } else if start.starts_with(&XZ) {
        Box::new(XzReader::new_mem_limit(file, true, XZ_MEMORY))
    } else {
        Box::new(file)
    })
}

/// Compares content with known files, each given by the first eight bytes of its SHA-256.
///
/// Returns whether it is a known file; other content is accepted, since it may be a subset or
/// another set in the same format.
///
/// # Errors
/// [`DataError::Swapped`] if it is a known file but not the one expected.
pub(super) fn identify(
    path: &Path,
    expected: &str,
    parts: &[&[u8]],
    known: &[(u64, &'static str)],
) -> Result<bool, DataError> {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    let digest = hasher.finalize();
    let prefix = digest
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    match known.iter().find(|(known, _)| *known == prefix) {
        Some((_, found)) if *found != expected => Err(DataError::Swapped {
            path: path.to_owned(),
            expected: expected.to_owned(),
            found,
        }),
        found => Ok(found.is_some()),
    }
}

/// A data set from bytes: images of `shape`, one label each.
pub(super) fn dataset(name: &str, shape: ImageShape, images: &[u8], labels: Vec<u8>) -> Dataset {
    let columns = images.len() / labels.len().max(1);
    let mut tensor = Tensor::zeros(labels.len(), columns);
    for (pixel, byte) in tensor.as_mut_slice().iter_mut().zip(images) {
        *pixel = f32::from(*byte) / 255.0;
    }
    Dataset {
        name: name.to_owned(),
        shape,
        classes: 10,
        images: tensor,
        labels,
    }
}
