use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use tempfile::TempDir;

const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

fn header(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn images(count: u32) -> Vec<u8> {
    let mut bytes = header(&[0x803, count, 28, 28]);
    bytes.extend((0..count * 784).map(|i| (i % 251) as u8));
    bytes
}

fn labels(count: u32) -> Vec<u8> {
    let mut bytes = header(&[0x801, count]);
    bytes.extend((0..count).map(|i| (i * 3 % 10) as u8));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A sound little set: 7 training and 4 test records.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in NAMES
        .iter()
        .zip([images(7), labels(7), images(4), labels(4)])
    {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn load_all(dir: &Path) -> Result<Split, DataError> {
    load("mnist", dir, &LoadOptions::default())
}

/// The error after one file of a sound set has been replaced.
fn error_with(name: &str, bytes: &[u8]) -> DataError {
    let dir = folder();
    fs::write(dir.path().join(name), bytes).unwrap();
    let error = load_all(dir.path()).unwrap_err();
    assert!(error.to_string().contains(name), "{error} names {name}");
    error
}

#[test]
fn sound_files_load_plain_gzipped_dotted_and_in_a_subfolder() {
    let plain = load_all(folder().path()).unwrap();
    assert_eq!((plain.train.len(), plain.test.len()), (7, 4));
    assert_eq!(plain.train.labels, [0, 3, 6, 9, 2, 5, 8]);
    assert_eq!(plain.train.images.row(1)[0], (784 % 251) as f32 / 255.0);
    assert_eq!(
        (plain.train.classes, plain.train.name.as_str()),
        (10, "mnist")
    );

    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("mnist");
    fs::create_dir(&inner).unwrap();
    for (name, bytes) in NAMES
        .iter()
        .zip([images(7), labels(7), images(4), labels(4)])
    {
        fs::write(
            inner.join(format!("{}.gz", name.replace("-idx", ".idx"))),
            gzip(&bytes),
        )
        .unwrap();
    }
    assert_eq!(load_all(dir.path()).unwrap(), plain);
    assert_eq!(load_all(&inner).unwrap(), plain);
}

#[test]
fn the_first_records_are_taken_and_no_more_than_there_are() {
    let dir = folder();
    let options = LoadOptions {
        train: Some(3),
        test: Some(0),
        seed: 9,
    };
    let split = load("mnist", dir.path(), &options).unwrap();
    assert_eq!(
        (split.train.labels.as_slice(), split.test.len()),
        (&[0, 3, 6][..], 0)
    );
    let options = LoadOptions {
        train: Some(8),
        ..options
    };
    let error = load("mnist", dir.path(), &options).unwrap_err();
    assert!(matches!(
        error,
        DataError::TooFew {
            asked: 8,
            available: 7,
            ..
        }
    ));
}

#[test]
fn missing_files_are_named() {
    for name in NAMES {
        let dir = folder();
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = load_all(dir.path()).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }) && error.to_string().contains(name));
    }
}

#[test]
fn wrong_magic_swapped_kinds_and_empty_files() {
    let error = error_with(NAMES[0], &labels(7));
    assert!(matches!(
        error,
        DataError::Magic {
            found: 0x801,
            expected: 0x803,
            ..
        }
    ));
    assert!(error.to_string().contains("swapped"));
    let error = error_with(NAMES[1], &images(7));
    assert!(matches!(
        error,
        DataError::Magic {
            found: 0x803,
            expected: 0x801,
            ..
        }
    ));
    let error = error_with(NAMES[2], b"PK\x03\x04 some archive");
    assert!(matches!(
        error,
        DataError::Magic {
            hint: ": not an IDX file of bytes",
            ..
        }
    ));
    for cut in 0..16 {
        let error = error_with(NAMES[0], &images(7)[..cut]);
        assert!(
            matches!(error, DataError::Read { .. }),
            "{cut} bytes: {error}"
        );
    }
}

#[test]
fn lengths_must_match_the_header() {
    let whole = images(7);
    let error = error_with(NAMES[0], &whole[..whole.len() - 1]);
    assert!(matches!(
        error,
        DataError::Length {
            found: 5487,
            expected: 5488,
            ..
        }
    ));
    assert!(
        error
            .to_string()
            .contains("truncated to 5487 bytes, expected 5488"),
        "{error}"
    );
    let mut long = labels(7);
    long.push(0);
    let error = error_with(NAMES[1], &long);
    assert!(matches!(
        error,
        DataError::Length {
            found: 8,
            expected: 7,
            ..
        }
    ));
}

#[test]
fn headers_are_not_believed() {
    for count in [0, MAX_RECORDS + 1, u32::MAX] {
        let error = error_with(NAMES[0], &header(&[0x803, count, 28, 28]));
        assert!(matches!(error, DataError::Count { .. }), "{error}");
    }
    // Within the limit, but nothing behind it: memory must grow with the file, not the promise.
    let error = error_with(NAMES[0], &header(&[0x803, MAX_RECORDS, 28, 28]));
    assert!(
        matches!(error, DataError::Length { found: 0, .. }),
        "{error}"
    );
    for (height, width) in [(0, 28), (28, 29), (u32::MAX, u32::MAX)] {
        let error = error_with(NAMES[0], &header(&[0x803, 1, height, width]));
        assert!(matches!(error, DataError::ImageSize { .. }), "{error}");
    }
}

#[test]
fn labels_and_counts_are_checked() {
    assert!(matches!(
        error_with(NAMES[1], &labels(6)),
        DataError::Unequal {
            image_count: 7,
            label_count: 6,
            ..
        }
    ));
    let mut bad = labels(7);
    bad[8 + 5] = 10;
    assert!(matches!(
        error_with(NAMES[1], &bad),
        DataError::Label {
            record: 5,
            label: 10,
            ..
        }
    ));
}

#[test]
fn bad_gzip_is_an_error_and_bombs_are_cut_off() {
    let whole = gzip(&images(7));
    assert!(matches!(
        error_with(NAMES[0], &whole[..whole.len() / 2]),
        DataError::Read { .. }
    ));
    let mut flipped = whole.clone();
    let last = flipped.len() - 6; // in the checksum
    flipped[last] ^= 1;
    assert!(matches!(
        error_with(NAMES[0], &flipped),
        DataError::Read { .. }
    ));
    let mut bomb = images(7);
    bomb.resize(64 << 20, 0);
    let error = error_with(NAMES[0], &gzip(&bomb));
    assert!(
        matches!(
            error,
            DataError::Length {
                found: 5489,
                expected: 5488,
                ..
            }
        ),
        "{error}"
    );
}
