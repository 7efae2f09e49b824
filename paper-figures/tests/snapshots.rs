//! The figures of a small fixed set of records, byte for byte.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may what it calls"
)]

use std::fs;
use std::path::{Path, PathBuf};

use sphinx_figures::figures::{self, FigureError, Options};
use sphinx_figures::record::{self, Record};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn illustrative() -> Vec<Record> {
    record::read(&folder("fixtures").join("illustrative.jsonl")).unwrap()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap()
}

fn ends_in(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|found| found == end)
}

/// Pictures go to `$SPHINX_FIGURES_OUT` where a person wants to look at them.
fn out() -> (Option<tempfile::TempDir>, PathBuf) {
    if let Some(path) = std::env::var_os("SPHINX_FIGURES_OUT") {
        return (None, path.into());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_path_buf();
    (Some(directory), path)
}

/// What a picture of this kind is about, in the names of its files.
fn subject(kind: &str) -> &'static str {
    if kind == "training_curve" {
        "mnist-minionn-mnist"
    } else {
        "mnist"
    }
}

#[test]
fn every_figure_matches_its_snapshot() {
    let (_kept, out) = out();
    let written = figures::render_all(&illustrative(), &out).unwrap();
    let names: Vec<&str> = written.iter().map(|p| name(p)).collect();
    let kinds = [
        "accuracy_vs_epsilon",
        "training_curve",
        "time_per_phase",
        "latency",
    ];
    let expected: Vec<String> = kinds
        .iter()
        .flat_map(|kind| ["svg", "png", "csv"].map(|end| format!("{kind}-{}.{end}", subject(kind))))
        .collect();
    assert_eq!(names, expected);
    let update = std::env::var_os("SPHINX_UPDATE_SNAPSHOTS").is_some();
    for path in written.iter().filter(|p| !ends_in(p, "png")) {
        let snapshot = folder("snapshots").join(name(path));
        if update {
            fs::copy(path, &snapshot).unwrap();
        }
        let (found, kept) = (fs::read(path).unwrap(), fs::read(&snapshot).unwrap());
        assert!(found == kept, "{} differs from its snapshot", name(path));
    }
}

/// The same records in another order, on another day: the same bytes, pixels included.
#[test]
fn the_order_of_records_does_not_matter() {
    let one = tempfile::tempdir().unwrap();
    let two = tempfile::tempdir().unwrap();
    let mut records = illustrative();
    let first = figures::render_all(&records, one.path()).unwrap();
    records.reverse();
    records.rotate_left(17);
    let second = figures::render_all(&records, two.path()).unwrap();
    for (a, b) in first.iter().zip(&second) {
        assert!(
            fs::read(a).unwrap() == fs::read(b).unwrap(),
            "{} differs",
            name(a)
        );
    }
}

#[test]
fn pictures_are_png_of_1600_pixels_and_not_blank() {
    let out = tempfile::tempdir().unwrap();
    for path in figures::render_all(&illustrative(), out.path()).unwrap() {
        if ends_in(&path, "png") {
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
            assert_eq!(bytes[16..20], 1600_u32.to_be_bytes());
            assert!(
                bytes.len() > 20_000,
                "{} has {} bytes",
                name(&path),
                bytes.len()
            );
        }
    }
}

#[test]
fn no_records_give_no_figures() {
    let out = tempfile::tempdir().unwrap();
    assert_eq!(
        figures::render_all(&[], out.path()).unwrap(),
        Vec::<PathBuf>::new()
    );
    assert!(matches!(
        figures::latency::render(&[], out.path()),
        Err(FigureError::NothingToDraw { .. })
    ));
}

#[test]
fn toy_records_are_mixed_only_under_a_title_that_says_so() {
    let out = tempfile::tempdir().unwrap();
    let mut records = illustrative();
    let toy: Vec<Record> = records
        .iter()
        .filter(|r| r.engine == "packed")
        .map(|r| {
            Record {
                trial: format!("toy {}", r.trial),
                ..r.clone()
            }
            .with_security("toy")
        })
        .collect();
    // Toy beside records without encryption is a toy figure, and its title says so unasked.
    let clear = records.iter().filter(|r| r.engine == "clear").cloned();
    let alone: Vec<Record> = toy.iter().cloned().chain(clear).collect();
    let written = figures::render_all(&alone, out.path()).unwrap();
    for path in written.iter().filter(|p| ends_in(p, "svg")) {
        assert!(
            fs::read_to_string(path)
                .unwrap()
                .contains("(toy parameters)"),
            "{}",
            name(path)
        );
    }
    records.extend(toy);
    let refused = figures::render_all(&records, out.path());
    assert!(matches!(refused, Err(FigureError::MixedSecurity { .. })));
    let unsaid = Options {
        note: Some("draft".into()),
    };
    assert!(figures::render_all_with(&records, out.path(), &unsaid).is_err());
    let said = Options {
        note: Some("draft with toy parameters".into()),
    };
    for path in figures::render_all_with(&records, out.path(), &said).unwrap() {
        if ends_in(&path, "svg") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                text.contains("(draft with toy parameters)"),
                "{}",
                name(&path)
            );
        }
    }
}

/// Every number of a picture is in its table: as many marks as rows.
#[test]
fn tables_hold_the_points_that_are_drawn() {
    let out = tempfile::tempdir().unwrap();
    let written = figures::render_all(&illustrative(), out.path()).unwrap();
    let count = |figure: &str, start: &str| {
        let path = written
            .iter()
            .find(|p| name(p) == format!("{figure}-{}.csv", subject(figure)))
            .unwrap();
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .filter(|l| l.starts_with(start))
            .count()
    };
    assert_eq!(count("accuracy_vs_epsilon", "median,"), 11);
    assert_eq!(count("accuracy_vs_epsilon", "seed,"), 55);
    assert_eq!(count("accuracy_vs_epsilon", "published,"), 6);
    assert_eq!(count("accuracy_vs_epsilon", "median,clear,inf,"), 1);
    assert_eq!(count("time_per_phase", "gradient,"), 2);
    assert_eq!(count("latency", "ecdf,"), 320);
    assert_eq!(count("training_curve", "loss,"), 42);
}
