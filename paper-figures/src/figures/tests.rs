use super::*;
use crate::plot::Shape;
use crate::plot::text;
use crate::record::{label, metric, sample};
use proptest::prelude::*;

const BUILDS: [Build; 4] = [
    accuracy_vs_epsilon::build,
    training_curve::build,
    time_per_phase::build,
    latency::build,
];

/// A record that belongs to every figure.
fn full(trial: &str, engine: &str, dataset: &str, seed: u64) -> Record {
    Record::new("e", trial, engine, "m", dataset, seed)
        .with_metric(metric::ACCURACY, 0.9)
        .with_metric(metric::EPSILON, 2.0)
        .with_metric(metric::DELTA, 1e-5)
        .with_samples(sample::CURVE_STEP, vec![1.0, 2.0, 3.0])
        .with_samples(sample::CURVE_LOSS, vec![2.0, 1.5, 1.25])
        .with_samples(sample::CURVE_ACCURACY, vec![0.1, 0.5, 0.9])
        .with_samples(sample::CURVE_EPSILON, vec![0.5, 1.0, 2.0])
        .with_samples("phase.forward_s", vec![0.25, 0.5, 0.125])
        .with_samples(sample::ONLINE_LATENCY_S, vec![0.01, 0.02, 0.04])
}

fn build_all(records: &[Record]) -> Vec<Figure> {
    let built = BUILDS
        .iter()
        .map(|build| build(records, &Options::default()).unwrap());
    built.flatten().collect()
}

/// The law of `frame`: texts lie on the canvas and none meets another.
fn readable(figure: &Figure) -> Result<(), String> {
    let scene = &figure.scene;
    let areas: Vec<_> = scene.texts.iter().map(|t| (t, t.area())).collect();
    for (i, (one, area)) in areas.iter().enumerate() {
        let inside = area.left >= 0.0
            && area.top >= 0.0
            && area.right <= scene.width
            && area.bottom <= scene.height;
        if !inside {
            return Err(format!(
                "{}: {:?} leaves the canvas: {area:?}",
                figure.kind, one.text
            ));
        }
        if let Some((other, _)) = areas[..i].iter().find(|(_, other)| area.meets(other)) {
            return Err(format!(
                "{}: {:?} meets {:?}",
                figure.kind, one.text, other.text
            ));
        }
    }
    Ok(())
}

fn on_canvas(figure: &Figure) -> bool {
    let scene = &figure.scene;
    let inside = |(x, y): &(f64, f64)| {
        (-1e-6..=scene.width + 1e-6).contains(x) && (-1e-6..=scene.height + 1e-6).contains(y)
    };
    scene.shapes.iter().all(|shape| match shape {
        Shape::Path { points, .. } | Shape::Polygon { points, .. } => points.iter().all(inside),
    })
}

#[test]
fn overlap_and_overflow_are_seen() {
    let mut figure = build_all(&[full("t", "clear", "d", 1)]).remove(0);
    assert_eq!(readable(&figure), Ok(()));
    let mut moved = figure.scene.texts[0].clone();
    moved.at.0 += 3.0;
    figure.scene.texts.push(moved);
    assert!(readable(&figure).unwrap_err().contains("meets"));
    figure.scene.texts.truncate(1);
    figure.scene.texts[0].at.0 = 700.0;
    assert!(readable(&figure).unwrap_err().contains("leaves"));
}

fn any_record() -> impl Strategy<Value = Record> {
    let engine = prop_oneof![
        Just("packed".to_owned()),
        Just("paper".to_owned()),
        "[a-zA-Z \u{e9}<&\"]{1,40}".prop_filter("blank", |s| !s.trim().is_empty()),
    ];
    let dataset = prop_oneof![Just("mnist".to_owned()), Just("cifar10".to_owned())];
    let seconds = || proptest::collection::vec((1.0..10.0, -6..3), 1..12);
    let plain = |v: Vec<(f64, i32)>| v.into_iter().map(|(m, e)| m * 10_f64.powi(e)).collect();
    let phase = "(encrypt|upload|forward|gradient|[a-z_]{1,30})";
    (
        engine,
        dataset,
        0.0..=1.0,
        (0.01..100.0, any::<bool>()),
        (phase, seconds(), seconds()),
        any::<u64>(),
    )
        .prop_map(
            move |(engine, dataset, accuracy, (epsilon, private), (phase, a, b), seed)| {
                let record = full(&format!("{seed}"), &engine, &dataset, seed)
                    .with_metric(metric::ACCURACY, accuracy)
                    .with_label("private", if private { "yes" } else { "no" })
                    .with_samples(format!("phase.{phase}_s"), plain(a))
                    .with_samples(sample::ONLINE_LATENCY_S, plain(b));
                let mut record = record.with_metric(metric::EPSILON, epsilon);
                if !private {
                    record.metrics.remove(metric::EPSILON);
                }
                record
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    /// Whatever the names and magnitudes are, every figure can be read, and nothing is drawn off
    /// the canvas.
    #[test]
    fn figures_stay_readable(records in proptest::collection::vec(any_record(), 1..9)) {
        for figure in build_all(&records) {
            prop_assert_eq!(readable(&figure), Ok(()));
            prop_assert!(on_canvas(&figure), "{}", figure.kind);
        }
    }

    /// Figures are functions of the set of records, not of their order.
    #[test]
    fn order_does_not_matter(records in proptest::collection::vec(any_record(), 1..6)) {
        let mut reversed = records.clone();
        reversed.reverse();
        prop_assert!(build_all(&records) == build_all(&reversed));
    }
}

#[test]
fn each_data_set_has_its_own_files() {
    let records = [
        full("a", "clear", "mnist", 1),
        full("b", "clear", "../up", 1),
        full("c", "clear", "..-up", 1),
    ];
    let out = tempfile::tempdir().unwrap();
    let written = latency::render(&records, out.path()).unwrap();
    let names: Vec<_> = written
        .iter()
        .map(|p| p.strip_prefix(out.path()).unwrap())
        .collect();
    let svgs: Vec<_> = names
        .iter()
        .filter(|n| n.extension().unwrap() == "svg")
        .collect();
    assert_eq!(svgs.len(), 3);
    assert!(
        names.iter().all(|n| n.components().count() == 1),
        "{names:?}"
    );
    assert!(svgs[0].to_str().unwrap() != svgs[1].to_str().unwrap());
}

#[test]
fn series_are_named_by_what_differs() {
    let names = |records: &[Record]| -> Vec<String> {
        let all: Vec<&Record> = records.iter().collect();
        let all = series::series(&all, series::nothing_more, &[]);
        let mut names: Vec<String> = all.into_iter().map(|s| s.name).collect();
        names.sort();
        names
    };
    let base = full("a", "clear", "d", 1)
        .with_label("machine", "one")
        .with_label("x", "1");
    assert_eq!(names(std::slice::from_ref(&base)), ["clear"]);
    let elsewhere = base.clone().with_label("machine", "two");
    assert_eq!(names(&[base.clone(), elsewhere]), ["clear"]);
    let other = base.clone().with_label("x", "2");
    assert_eq!(
        names(&[base.clone(), other]),
        ["clear, x: 1", "clear, x: 2"]
    );
    let model = Record {
        model: "n".into(),
        ..base.clone()
    };
    assert_eq!(
        names(&[base.clone(), model.clone()]),
        ["clear, m", "clear, n"]
    );
    // How it was computed is said only of series that are told apart by it.
    let float = |record: &Record| {
        let record = record.clone().with_label("accountant", "pld");
        record.with_label("arithmetic", "float")
    };
    let grid = base.clone().with_label("accountant", "rdp");
    let grid = grid.with_label("arithmetic", "grid");
    let told = ["clear, m", "clear, n"];
    assert_eq!(names(&[float(&model), grid.clone()]), told);
    let told = [
        "clear, m, float arithmetic",
        "clear, m, grid arithmetic",
        "clear, n",
    ];
    assert_eq!(names(&[float(&model), float(&base), grid]), told);
    let private = |value| base.clone().with_label("private", value);
    let told = ["clear", "clear, not private"];
    assert_eq!(names(&[private("yes"), private("no")]), told);
}

#[test]
fn two_configurations_under_one_seed_are_not_averaged() {
    let records = [full("a", "clear", "d", 1), full("b", "clear", "d", 1)];
    for build in [accuracy_vs_epsilon::build, training_curve::build] {
        let error = build(&records, &Options::default()).unwrap_err();
        assert!(
            matches!(error, FigureError::Ambiguous { seed: 1, .. }),
            "{error}"
        );
    }
    let told = [
        records[0].clone(),
        records[1].clone().with_label("batch", "512"),
    ];
    assert_eq!(build_all(&told).len(), 4);
}

#[test]
fn values_without_a_place_are_named() {
    let cases: [(Record, Build, &str); 7] = [
        (
            full("t", "clear", "d", 1).with_metric("accuracy", 93.0),
            BUILDS[0],
            "accuracy",
        ),
        (
            full("t", "clear", "d", 1).with_metric("epsilon", 0.0),
            BUILDS[0],
            "epsilon",
        ),
        (
            full("t", "clear", "d", 1).with_label("private", "no"),
            BUILDS[0],
            "epsilon",
        ),
        (
            full("t", "clear", "d", 1).with_samples("curve.loss", vec![1.0]),
            BUILDS[1],
            "curve.loss",
        ),
        (
            full("t", "clear", "d", 1).with_samples("curve.step", vec![1.0, 3.0, 3.0]),
            BUILDS[1],
            "curve.step",
        ),
        (
            full("t", "clear", "d", 1).with_samples("phase.x_s", vec![-1.0]),
            BUILDS[2],
            "phase.x_s",
        ),
        (
            full("t", "clear", "d", 1).with_samples("online_latency_s", vec![0.0]),
            BUILDS[3],
            "online_latency_s",
        ),
    ];
    for (record, build, expected) in cases {
        match build(&[record], &Options::default()) {
            Err(FigureError::Value { name, .. }) => assert_eq!(name, expected),
            other => panic!("{expected}: {:?}", other.map(|f| f.len())),
        }
    }
}

#[test]
fn another_delta_is_another_series() {
    let records = [
        full("a", "clear", "d", 1),
        full("b", "clear", "d", 1).with_metric("delta", 1e-6),
    ];
    let figure = accuracy_vs_epsilon::build(&records, &Options::default())
        .unwrap()
        .remove(0);
    let csv = figure.points.to_csv();
    assert!(
        csv.contains("\"clear, delta 1e-5\",2,90") && csv.contains("\"clear, delta 1e-6\",2,90")
    );
}

/// The empirical distribution worked out by hand, and the marks of type 7.
#[test]
fn latency_is_the_empirical_distribution_in_milliseconds() {
    let figure = latency::build(&[full("a", "shared", "d", 1)], &Options::default())
        .unwrap()
        .remove(0);
    let rows: Vec<String> = figure
        .points
        .to_csv()
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect();
    assert!(rows[0].starts_with("p50,shared,20,50,3"), "{rows:?}");
    assert!(
        rows[2].starts_with("ecdf,shared,10,33.33") && rows[4].starts_with("ecdf,shared,40,100")
    );
}

#[test]
fn numbers_are_short() {
    let found = [0.0, 0.001_234, 1.0, 12.34, 123.4, 54_321.0, 1.5e9].map(latency::short);
    assert_eq!(
        found,
        ["0", "0.00123", "1.00", "12.3", "123", "54321", "1.50e9"]
    );
}

#[test]
fn control_characters_do_not_break_the_file() {
    assert_eq!(text::printable("a\u{0}b\nc"), "a b c");
    let record = full("t", "cl\u{1}ear <&>", "d", 1);
    let svg = render::svg(&build_all(&[record])[0].scene).unwrap();
    assert!(svg.contains("cl ear &lt;&amp;&gt;") && !svg.contains('\u{1}'));
}

/// A few steps that were timed say nothing about what can be learned.
#[test]
fn runs_for_time_are_not_drawn_as_accuracy() {
    let whole = full("a", "packed", "d", 1);
    let timed = full("b", "packed", "d", 2).with_label(label::PURPOSE, label::TIME);
    for build in [accuracy_vs_epsilon::build, training_curve::build] {
        let alone = build(std::slice::from_ref(&timed), &Options::default());
        assert!(matches!(alone, Err(FigureError::NothingToDraw { .. })));
        let both = build(&[whole.clone(), timed.clone()], &Options::default()).unwrap();
        assert_eq!(
            both,
            build(std::slice::from_ref(&whole), &Options::default()).unwrap()
        );
    }
    let phases = time_per_phase::build(std::slice::from_ref(&timed), &Options::default());
    assert_eq!(phases.unwrap().len(), 1);
}
