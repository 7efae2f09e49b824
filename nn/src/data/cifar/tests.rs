use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use tempfile::TempDir;

/// Three records a file, all bytes told apart by file and place.
fn content(file: usize) -> Vec<u8> {
    let record = |r: usize| {
        let label = ((file * 3 + r) % 10) as u8;
        let pixels = (0..PIXELS).map(move |i| ((i * 7 + r + 50 * file) % 256) as u8);
        std::iter::once(label).chain(pixels)
    };
    (0..3).flat_map(record).collect()
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, name) in FILES.iter().enumerate() {
        fs::write(dir.path().join(name), content(file)).unwrap();
    }
    dir
}

#[test]
fn plain_and_packed_files_load_also_from_subfolders() {
    let dir = folder();
    let mut notes = Notes::default();
    let plain = load_noting(dir.path(), &LoadOptions::default(), &mut notes).unwrap();
    assert_eq!(notes.unknown.len(), 6);
    assert_eq!((plain.train.len(), plain.test.len()), (15, 3));
    assert_eq!((plain.train.shape, plain.train.classes), (SHAPE, 10));
    assert_eq!(plain.train.labels[..5], [0, 1, 2, 3, 4]);
    // Record 1 of file 2: green, second row, third pixel is value 1024 + 34.
    let want = ((1058 * 7 + 1 + 50) % 256) as f32 / 255.0;
    assert_eq!(plain.train.images.row(4)[1058], want);

    let packed = tempfile::tempdir().unwrap();
    let inner = packed.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    for (file, name) in FILES.iter().enumerate() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&content(file)).unwrap();
        fs::write(inner.join(format!("{name}.gz")), encoder.finish().unwrap()).unwrap();
    }
    assert_eq!(load(packed.path(), &LoadOptions::default()).unwrap(), plain);
}

#[test]
fn only_the_files_needed_are_read() {
    let dir = folder();
    for name in &FILES[2..5] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let options = LoadOptions {
        train: Some(5),
        test: Some(2),
        seed: 0,
    };
    let split = load(dir.path(), &options).unwrap();
    assert_eq!(
        (split.train.labels, split.test.len()),
        (vec![0, 1, 2, 3, 4], 2)
    );
    let error = load(dir.path(), &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("data_batch_3.bin"), "{error}");
    let dir = folder();
    let options = LoadOptions {
        train: Some(16),
        ..options
    };
    let error = load(dir.path(), &options).unwrap_err();
    assert!(matches!(
        error,
        DataError::TooFew {
            asked: 16,
            available: 15,
            ..
        }
    ));
}

#[test]
fn truncated_foreign_and_broken_files_are_named() {
    let with = |bytes: &[u8]| {
        let dir = folder();
        fs::write(dir.path().join(FILES[1]), bytes).unwrap();
        let error = load(dir.path(), &LoadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("data_batch_2.bin"), "{error}");
        error
    };
    let sound = content(1);
    for bytes in [&sound[..sound.len() - 1], &[]] {
        assert!(matches!(with(bytes), DataError::WholeRecords { .. }));
    }
    let mut label = sound;
    label[RECORD] = 10;
    assert!(matches!(
        with(&label),
        DataError::Label {
            record: 1,
            label: 10,
            ..
        }
    ));
    // Begins like xz and like gzip, and is neither.
    assert!(matches!(with(b"\xfd7zXZ\0rubbish"), DataError::Read { .. }));
    assert!(matches!(with(b"\x1f\x8brubbish"), DataError::Read { .. }));
}
