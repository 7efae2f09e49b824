use super::*;
use proptest::prelude::*;

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trials.jsonl");
    (directory, path)
}

fn small(trial: &str) -> Record {
    Record::new("e", trial, "clear", "m", "d", 1)
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |v| v.is_finite()),
        Just(-0.0),
        Just(5e-324)
    ]
}

fn records() -> impl Strategy<Value = Record> {
    let text = "[ -~\u{e9}\u{2028}\n]{1,12}".prop_filter("not blank", |t| !t.trim().is_empty());
    let labels = proptest::collection::btree_map(text.clone(), "\\PC{0,8}", 0..3);
    let metrics = proptest::collection::btree_map(text.clone(), finite(), 0..4);
    let series = proptest::collection::vec(finite(), 0..6);
    let samples = proptest::collection::btree_map(text.clone(), series, 0..3);
    (text, any::<u64>(), labels, metrics, samples).prop_map(|(trial, seed, labels, m, s)| Record {
        seed,
        labels,
        metrics: m,
        samples: s,
        ..small(&trial)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// What is appended is read back, to the last bit of every number.
    #[test]
    fn append_then_read_is_the_identity(
        written in proptest::collection::vec(records(), 0..4),
    ) {
        let (_directory, path) = file();
        for record in &written {
            append(&path, record).unwrap();
        }
        let found = if written.is_empty() { Vec::new() } else { read(&path).unwrap() };
        for (left, right) in written.iter().zip(&found) {
            let bits = |r: &Record| r.metrics.values().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(left), bits(right));
        }
        prop_assert_eq!(written, found);
    }

    /// Any cut through a file is either a whole number of records or refused as torn.
    #[test]
    fn every_cut_is_whole_or_torn(cut in 0_usize..1000) {
        let (_directory, path) = file();
        append(&path, &small("a")).unwrap();
        append(&path, &small("b")).unwrap();
        let bytes = fs::read(&path).unwrap();
        let cut = cut % (bytes.len() + 1);
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
        match read(&path) {
            Ok(found) => prop_assert_eq!(found.len(), whole),
            Err(LoadError::Torn { line, .. }) => {
                prop_assert_eq!(line, whole + 1);
                let refused = matches!(append(&path, &small("c")), Err(AppendError::Torn { .. }));
                prop_assert!(refused);
                prop_assert!(repair(&path).unwrap() > 0);
                prop_assert_eq!(read(&path).unwrap().len(), whole);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

fn error_of(text: &str) -> String {
    parse(Path::new("run/trials.jsonl"), text.as_bytes())
        .unwrap_err()
        .to_string()
}

fn line_of(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

#[test]
fn errors_name_file_and_line() {
    let good = line_of(&small("a"));
    assert!(error_of(&format!("{good}\nnonsense\n")).starts_with("run/trials.jsonl:2: "));
    assert!(error_of(&format!("{good}\n\n{good}\n")).starts_with("run/trials.jsonl:2: "));
    let unknown = good.replacen("\"seed\"", "\"sed\":1,\"seed\"", 1);
    assert!(error_of(&format!("{good}\n{good}\n{unknown}\n")).contains("jsonl:3: unknown field"));
    let missing = good.replacen("\"seed\":1,", "", 1);
    assert!(error_of(&format!("{missing}\n")).contains("missing field `seed`"));
}

#[test]
fn another_schema_is_named_before_its_fields() {
    let text = "{\"schema\":2,\"renamed\":\"x\"}\n";
    assert!(error_of(text).contains("schema 2, but this program reads schema 1"));
}

#[test]
fn what_json_cannot_hold_is_refused_and_nothing_is_written() {
    let (_directory, path) = file();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let metric = append(&path, &small("a").with_metric("epsilon", value));
        assert!(matches!(metric, Err(AppendError::Malformed { .. })));
        let sample = append(&path, &small("a").with_samples("step_s", vec![1.0, value]));
        assert!(matches!(sample, Err(AppendError::Malformed { .. })));
    }
    assert!(matches!(
        append(&path, &small(" ")),
        Err(AppendError::Malformed { .. })
    ));
    assert!(!path.exists());
    let infinite = line_of(&small("a")).replacen("\"metrics\":{}", "\"metrics\":{\"e\":1e999}", 1);
    assert!(error_of(&format!("{infinite}\n")).starts_with("run/trials.jsonl:1: "));
}

#[test]
fn an_empty_file_holds_no_records_and_a_sound_one_needs_no_repair() {
    let (_directory, path) = file();
    fs::write(&path, b"").unwrap();
    assert_eq!(read(&path).unwrap(), Vec::new());
    append(&path, &small("a")).unwrap();
    assert_eq!(repair(&path).unwrap(), 0);
}
