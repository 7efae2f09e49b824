//! Data sets by name: the procedural synth-digits and synth-shapes, IDX files of MNIST's kin, and
//! CIFAR-10.
//!
//! [`load`] is the one entry: a name, a folder for those that live in files, and how many
//! records. Pixels are bytes divided by 255; labels are below `classes`. Real data sets are not
//! shipped and not downloaded.
//!
//! ```
//! use sphinx_nn::data::{self, LoadOptions};
//! let options = LoadOptions { train: Some(20), test: Some(10), seed: 1 };
//! let split = data::load("synth-digits", None, &options).unwrap();
//! assert_eq!((split.train.labels.len(), split.test.images.rows()), (20, 10));
//! assert!(data::load("mnist", None, &options).is_err()); // needs a folder
//! ```

use crate::network::{ImageShape, Network};
use crate::tensor::Tensor;
use std::path::{Path, PathBuf};
use thiserror::Error;

mod archive;
pub mod cifar;
pub mod holdout;
pub mod idx;
mod procedural;
pub mod synth_digits;
pub mod synth_shapes;

/// Labelled images.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// A name for records and messages.
    pub name: String,
    /// Shape of one image.
    pub shape: ImageShape,
    /// Number of classes; every label is below it.
    pub classes: usize,
    /// One image per row, values in `[0, 1]`, each a byte divided by 255; or features of images,
    /// see [`crate::features`].
    pub images: Tensor,
    /// One label per image.
    pub labels: Vec<u8>,
}

impl Dataset {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Checks that images and labels belong together and to `network`, so that a pass over any
    /// rows of this set cannot panic.
    ///
    /// # Errors
    /// [`MisfitError`], saying which quantity is off.
    pub fn check_fits(&self, network: &Network) -> Result<(), MisfitError> {
        let same = |what, found, expected| {
            let right = found == expected;
            if right {
                Ok(())
            } else {
                Err(MisfitError {
                    what,
                    found,
                    expected,
                })
            }
        };
        same("number of labels", self.labels.len(), self.images.rows())?;
        same("values per image", self.images.columns(), network.inputs())?;
        match self
            .labels
            .iter()
            .find(|label| usize::from(**label) >= network.classes())
        {
            Some(label) => same(
                "classes (one more than a label)",
                usize::from(*label) + 1,
                network.classes(),
            ),
            None => Ok(()),
        }
    }
}

/// A data set that does not fit a network.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the data set does not fit the network: {what} is {found}, expected {expected}")]
pub struct MisfitError {
    /// The quantity that is off.
    pub what: &'static str,
    /// Its value.
    pub found: usize,
    /// What the network or the images ask for.
    pub expected: usize,
}

/// Records to train on and records to test on.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// For training.
    pub train: Dataset,
    /// For testing only.
    pub test: Dataset,
}

/// How much of a data set to load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Training records; `None` for all in a file, 60,000 for a procedural set. Of a file, the
    /// first ones.
    pub train: Option<usize>,
    /// Test records; `None` for all in a file, 10,000 for a procedural set.
    pub test: Option<usize>,
    /// Seed of a procedural set; files do not depend on it.
    pub seed: u64,
}

/// Why a data set could not be loaded.
#[derive(Debug, Error)]
pub enum DataError {
    /// No such data set.
    #[error(
        "unknown data set {name:?}; known are synth-digits, synth-shapes, mnist, fashion-mnist, cifar10"
    )]
    UnknownName {
        /// The name asked for.
        name: String,
    },
    /// A data set that lives in files, without a folder.
    #[error("data set {name} is read from files; name the folder that holds them")]
    NoFolder {
        /// The data set.
        name: String,
    },
    /// A file is not there.
    #[error(
        "{folder}: no {what}; looked for {names}, plain, .gz or .xz, also in the folder {subfolder}"
    )]
    Missing {
        /// The folder searched.
        folder: PathBuf,
        /// What the file would hold.
        what: &'static str,
        /// The names looked for.
        names: String,
        /// The folder inside it that was searched too.
        subfolder: String,
    },
    /// The operating system or the decompressor refused.
    #[error("{path}: cannot be read as {what}; put the file there, whole and readable")]
    Read {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Not the kind of IDX file expected.
    #[error("{path}: expected {what} (magic {expected:#010x}), found magic {found:#010x}{hint}")]
    Magic {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The first four bytes, big-endian.
        found: u32,
        /// What they should be.
        expected: u32,
        /// What the file seems to be instead.
        hint: &'static str,
    },
    /// The images have another shape.
    #[error(
        "{path}: images of {height} x {width} pixels, expected {expected_height} x {expected_width}"
    )]
    ImageSize {
        /// The file.
        path: PathBuf,
        /// Rows of pixels by the header.
        height: u32,
        /// Columns of pixels by the header.
        width: u32,
        /// Rows of pixels expected.
        expected_height: usize,
        /// Columns of pixels expected.
        expected_width: usize,
    },
    /// A header that promises nothing, or more than any file of this kind holds.
    #[error("{path}: the header promises {count} records, expected between 1 and {limit}")]
    Count {
        /// The file.
        path: PathBuf,
        /// Records by the header.
        count: u32,
        /// Most that are believed.
        limit: u32,
    },
    /// Fewer or more bytes than the header promises.
    #[error("{path}: {}, expected {expected} bytes of {what} after the header by its promise", found_bytes(*.found, *.expected))]
    Length {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Bytes after the header; counting stops one after the promise.
        found: u64,
        /// Bytes the header promises.
        expected: u64,
    },
    /// A file that is not a number of whole records.
    #[error("{path}: {found} bytes; expected between 1 and {limit} records of {record} bytes each")]
    WholeRecords {
        /// The file.
        path: PathBuf,
        /// Bytes unpacked; counting stops one after the limit.
        found: u64,
        /// Bytes of a record.
        record: usize,
        /// Most records.
        limit: usize,
    },
    /// Images and labels are not of one set.
    #[error(
        "{images} holds {image_count} images but {labels} holds {label_count} labels; they must be of the same part of the set"
    )]
    Unequal {
        /// The image file.
        images: PathBuf,
        /// Its records.
        image_count: usize,
        /// The label file.
        labels: PathBuf,
        /// Its records.
        label_count: usize,
    },
    /// A label beyond the classes.
    #[error("{path}: record {record} has label {label}, expected below {classes}")]
    Label {
        /// The file.
        path: PathBuf,
        /// Position of the record, from 0.
        record: usize,
        /// Its label.
        label: u8,
        /// Classes of the set.
        classes: usize,
    },
    /// A known file in the place of another.
    #[error("{path}: expected {expected}, found {found}; put the files back under their names")]
    Swapped {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: String,
        /// What the content is.
        found: &'static str,
    },
    /// More records asked for than there are.
    #[error("{path}: {asked} records asked for, it holds {available}; ask for no more")]
    TooFew {
        /// The file.
        path: PathBuf,
        /// Records asked for.
        asked: usize,
        /// Records there are.
        available: usize,
    },
}

fn found_bytes(found: u64, expected: u64) -> String {
    if found > expected {
        "more bytes than promised".to_owned()
    } else {
        format!("truncated to {found} bytes")
    }
}

/// What was noticed while loading and is no error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Files of the right form whose content is none of the known ones, by SHA-256: a subset, a
    /// variant, or a file damaged in a way that its form does not show. Worth a warning.
    pub unknown: Vec<PathBuf>,
}

/// Loads a data set: `synth-digits` or `synth-shapes` (no folder); `mnist` or `fashion-mnist` (a
/// folder with the four IDX files under their usual names); `cifar10` (a folder with the six binary
/// files). Files are plain or packed, and may lie in a subfolder of the set's name.
///
/// # Errors
/// [`DataError`], naming the file and what was expected of it.
pub fn load(name: &str, dir: Option<&Path>, options: &LoadOptions) -> Result<Split, DataError> {
    load_noting(name, dir, options).map(|(split, _)| split)
}

/// [`load`], and what was noticed.
///
/// # Errors
/// As [`load`].
pub fn load_noting(
    name: &str,
    dir: Option<&Path>,
    options: &LoadOptions,
) -> Result<(Split, Notes), DataError> {
    let dir = || {
        dir.ok_or_else(|| DataError::NoFolder {
            name: name.to_owned(),
        })
    };
    let mut notes = Notes::default();
    let split = match name {
        "synth-digits" => synth_digits::split(options),
        "synth-shapes" => synth_shapes::split(options),
        "mnist" | "fashion-mnist" => idx::load_noting(name, dir()?, options, &mut notes)?,
        "cifar10" => cifar::load_noting(dir()?, options, &mut notes)?,
        _ => {
            return Err(DataError::UnknownName {
                name: name.to_owned(),
            });
        }
    };
    Ok((split, notes))
}

/// Bytes to pixels in `[0, 1]`.
fn pixels(bytes: &[u8]) -> Vec<f32> {
    bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect()
}

#[cfg(test)]
mod tests;
