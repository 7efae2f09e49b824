//! IDX files: the format of MNIST and Fashion-MNIST.
//!
//! Big-endian. Images: magic `0x00000803`, count, rows, columns, then one byte per pixel, row
//! by row. Labels: magic `0x00000801`, count, one byte per label. Source: LeCun, Cortes, Burges,
//! "The MNIST database of handwritten digits" (its page on file formats). A file may be gzipped;
//! that is told by its first two bytes, not by its name.
//!
//! Nothing is believed before it is checked: the shape must be the expected one, counts are
//! bounded, memory grows with the bytes that really arrive, and decompression stops one byte
//! after what the header promised.
//!
//! The eight files of MNIST and Fashion-MNIST are recognised by SHA-256, so that one in the place
//! of another is named as such. Other content of the right form is accepted: a subset, or
//! another set in the same format.

use super::archive;
use super::{DataError, Dataset, LoadOptions, Notes, Split};
use crate::network::ImageShape;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 28,
    width: 28,
};
const CLASSES: usize = 10;
const IMAGES: Kind = Kind {
    what: "IDX images",
    magic: 0x0803,
    dimensions: 3,
};
const LABELS: Kind = Kind {
    what: "IDX labels",
    magic: 0x0801,
    dimensions: 1,
};
/// Most records a header may promise; ten times the largest set of this format known to us.
const MAX_RECORDS: u32 = 10_000_000;
/// The decompressed files of the two sets, by the first eight bytes of their SHA-256.
const KNOWN: [(u64, &str); 8] = [
    (0xba89_1046_e650_5d7a, "the training images of mnist"),
    (0x65a5_0cbb_f4e9_06d7, "the training labels of mnist"),
    (0x0fa7_898d_5092_79e4, "the test images of mnist"),
    (0xff7b_cfd4_16de_3373, "the test labels of mnist"),
    (
        0xc59f_468a_2f67_2dc8,
        "the training images of fashion-mnist",
    ),
    (
        0xbad3_541b_69d9_1243,
        "the training labels of fashion-mnist",
    ),
    (0x5b41_41f0_afba_d91e, "the test images of fashion-mnist"),
    (0x0402_a96d_92fd_2663, "the test labels of fashion-mnist"),
];

/// One of the two kinds of file.
#[derive(Clone, Copy)]
struct Kind {
    what: &'static str,
    magic: u32,
    dimensions: usize,
}

/// A checked file: where it was, how many records, and their bytes.
struct Records {
    path: PathBuf,
    count: usize,
    bytes: Vec<u8>,
    /// Whether the content is one of the published files.
    known: bool,
}

/// Loads the four files of `name` from `dir`, or from the folder `name` inside it.
///
/// # Errors
/// [`DataError`], naming the file and what was expected of it.
pub fn load(name: &str, dir: &Path, options: &LoadOptions) -> Result<Split, DataError> {
    load_noting(name, dir, options, &mut Notes::default())
}

pub(super) fn load_noting(
    name: &str,
    dir: &Path,
    options: &LoadOptions,
    notes: &mut Notes,
) -> Result<Split, DataError> {
    Ok(Split {
        train: part(name, dir, ("train", "training"), options.train, notes)?,
        test: part(name, dir, ("t10k", "test"), options.test, notes)?,
    })
}

/// One part of the set: its images and labels, the first `limit` records.
fn part(
    name: &str,
    dir: &Path,
    (prefix, role): (&str, &str),
    limit: Option<usize>,
    notes: &mut Notes,
) -> Result<Dataset, DataError> {
    let mut read = |kind: Kind, stem: &str, of: &str| {
        let path = find(name, dir, kind, &format!("{prefix}-{stem}"))?;
        let records = read_records(&path, kind, &format!("the {role} {of} of {name}"))?;
        if !records.known {
            notes.unknown.push(path);
        }
        Ok(records)
    };
    let images = read(IMAGES, "images-idx3-ubyte", "images")?;
    let labels = read(LABELS, "labels-idx1-ubyte", "labels")?;
    if images.count != labels.count {
        return Err(DataError::Unequal {
            images: images.path,
            image_count: images.count,
            labels: labels.path,
            label_count: labels.count,
        });
    }
    let wrong = labels
        .bytes
        .iter()
        .enumerate()
        .find(|(_, l)| usize::from(**l) >= CLASSES);
    if let Some((record, &label)) = wrong {
        return Err(DataError::Label {
            path: labels.path,
            record,
            label,
            classes: CLASSES,
        });
    }
    let count = limit.unwrap_or(images.count);
    if count > images.count {
        return Err(DataError::TooFew {
            path: images.path,
            asked: count,
            available: images.count,
        });
    }
    let pixels = SHAPE.height * SHAPE.width;
    let labels = labels.bytes[..count].to_vec();
    Ok(archive::dataset(
        name,
        SHAPE,
        &images.bytes[..count * pixels],
        labels,
    ))
}

/// The first that exists of the usual spellings, plain before gzip.
fn find(name: &str, dir: &Path, kind: Kind, stem: &str) -> Result<PathBuf, DataError> {
    let dotted = stem.replace("-idx", ".idx");
    let names = [
        stem.to_owned(),
        format!("{stem}.gz"),
        dotted.clone(),
        format!("{dotted}.gz"),
    ];
    for folder in [dir.to_owned(), dir.join(name)] {
        if let Some(path) = names
            .iter()
            .map(|n| folder.join(n))
            .find(|path| path.is_file())
        {
            return Ok(path);
        }
    }
    Err(DataError::Missing {
        folder: dir.to_owned(),
        what: kind.what,
        names: format!("{stem} or {dotted}"),
        subfolder: name.to_owned(),
    })
}

/// Opens, decompresses if needed, and reads a whole file.
fn read_records(path: &Path, kind: Kind, expected: &str) -> Result<Records, DataError> {
    let failed = |source| DataError::Read {
        path: path.to_owned(),
        what: kind.what,
        source,
    };
    let mut source = archive::open(path).map_err(failed)?;
    read_plain(path, kind, expected, &mut source)
}

/// Reads header and records from plain bytes.
fn read_plain(
    path: &Path,
    kind: Kind,
    expected: &str,
    source: &mut dyn Read,
) -> Result<Records, DataError> {
    let failed = |source| DataError::Read {
        path: path.to_owned(),
        what: kind.what,
        source,
    };
    let header = read_header(path, kind, source)?;
    let (count, size) = check_header(path, kind, &header)?;
    let promised = u64::from(count) * size;
    let mut bytes = Vec::new();
    source
        .take(promised + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 != promised {
        return Err(DataError::Length {
            path: path.to_owned(),
            what: kind.what,
            found: bytes.len() as u64,
            expected: promised,
        });
    }
    let known = archive::identify(path, expected, &[&header, &bytes], &KNOWN)?;
    Ok(Records {
        known,
        path: path.to_owned(),
        count: count as usize,
        bytes,
    })
}

fn read_header(path: &Path, kind: Kind, source: &mut dyn Read) -> Result<Vec<u8>, DataError> {
    let length = 4 + 4 * kind.dimensions;
    let mut header = Vec::with_capacity(length);
    source
        .take(length as u64)
        .read_to_end(&mut header)
        .map_err(|source| DataError::Read {
            path: path.to_owned(),
            what: kind.what,
            source,
        })?;
    if header.len() >= 4 {
        check_magic(path, kind, word(&header, 0))?;
    }
    if header.len() < length {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends in its header");
        return Err(DataError::Read {
            path: path.to_owned(),
            what: kind.what,
            source,
        });
    }
    Ok(header)
}

fn check_magic(path: &Path, kind: Kind, found: u32) -> Result<(), DataError> {
    if found == kind.magic {
        return Ok(());
    }
    let hint = match found {
        0x0803 => ": these are images; are images and labels swapped?",
        0x0801 => ": these are labels; are images and labels swapped?",
        _ => ": not an IDX file of bytes",
    };
    let (path, what, expected) = (path.to_owned(), kind.what, kind.magic);
    Err(DataError::Magic {
        path,
        what,
        found,
        expected,
        hint,
    })
}

/// Records and bytes per record.
fn check_header(path: &Path, kind: Kind, header: &[u8]) -> Result<(u32, u64), DataError> {
    let count = word(header, 1);
    if count == 0 || count > MAX_RECORDS {
        return Err(DataError::Count {
            path: path.to_owned(),
            count,
            limit: MAX_RECORDS,
        });
    }
    if kind.dimensions == 1 {
        return Ok((count, 1));
    }
    let (height, width) = (word(header, 2), word(header, 3));
    if (height as usize, width as usize) != (SHAPE.height, SHAPE.width) {
        return Err(DataError::ImageSize {
            path: path.to_owned(),
            height,
            width,
            expected_height: SHAPE.height,
            expected_width: SHAPE.width,
        });
    }
    Ok((count, u64::from(height) * u64::from(width)))
}

/// The `i`-th big-endian 32-bit word.
fn word(bytes: &[u8], i: usize) -> u32 {
    bytes[4 * i..4 * i + 4]
        .iter()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests;
