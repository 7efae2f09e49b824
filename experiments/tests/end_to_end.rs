//! Small whole runs of the built binaries: training, inference, the demo, the experiments.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use sphinx_figures::load;

/// A run that takes a moment: 7,850 parameters, batches of 16.
const SMALL: [&str; 10] = [
    "--train-size",
    "300",
    "--test-size",
    "50",
    "--batch",
    "16",
    "--steps",
    "2",
    "--model",
    "linear",
];

fn run(binary: &str, arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new(binary)
        .args(arguments)
        .current_dir(folder)
        .output();
    output.expect("the binary runs")
}

fn object(arguments: &[&str], folder: &Path) -> Value {
    let output = run(env!("CARGO_BIN_EXE_sphinx"), arguments, folder);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("one JSON object, nothing else")
}

fn train(engine: &[&str], name: &str, folder: &Path) -> Value {
    let arguments = [
        &["train", "--json", "--seed", "1", "--run-dir", name],
        &SMALL[..],
        engine,
    ]
    .concat();
    object(&arguments, folder)
}

#[test]
fn an_encrypted_run_is_kept_whole_and_can_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let packed = train(
        &["--engine", "packed", "--figures"],
        "packed",
        folder.path(),
    );
    let clear = train(&["--engine", "clear", "--grid"], "clear", folder.path());
    for key in [
        "engine",
        "model",
        "dataset",
        "accuracy",
        "epsilon",
        "delta",
        "accountant",
        "noise_multiplier",
        "steps",
        "batch",
        "capacity",
        "seconds",
        "seconds_per_step",
        "offline_seconds",
        "bytes_up",
        "bytes_down",
        "client_cpu_s",
        "server_cpu_s",
        "client_work_ratio",
        "peak_rss_mb",
        "run_dir",
        "security",
        "bias_rule",
        "protection",
        "client_alone_seconds_per_step",
        "client_alone_cpu_s_per_step",
        "server_peak_rss_mb",
    ] {
        assert!(packed.get(key).is_some(), "no {key} in {packed}");
    }
    for operation in ["relinearisations", "rotations", "rescales", "transforms"] {
        let of = |run: &Value| run["operations_per_step"][operation].as_u64();
        let keyless = ["relinearisations", "rotations"].contains(&operation);
        assert_eq!(
            of(&packed).map(|count| count == 0),
            Some(keyless),
            "{operation}"
        );
        assert_eq!(of(&clear), Some(0), "{operation} in the clear");
    }
    assert_eq!(packed["security"], "classical-128");
    assert!(
        packed["bytes_up"].as_u64().unwrap() > 0 && packed["server_cpu_s"].as_f64() > Some(0.0)
    );
    // Same seeds, same integers: the same weights, hence the same accuracy.
    assert_eq!(
        model_version(&folder.path().join("packed")),
        model_version(&folder.path().join("clear"))
    );
    assert_eq!(packed["accuracy"], clear["accuracy"]);
    // A seeded run must not call itself private.
    assert_eq!(packed["proven"], false);

    let run = load::load(&folder.path().join("packed")).unwrap();
    assert_eq!(run.records.len(), 1);
    assert_eq!(run.records[0].samples["phase.forward_s"].len(), 1);
    for name in ["ledger.jsonl", "statement.txt", "server.log", "figures"] {
        assert!(folder.path().join("packed").join(name).exists(), "{name}");
    }
    #[cfg(unix)]
    is_private(&folder.path().join("packed"));

    let infer = [
        "infer",
        "--run",
        "packed",
        "--requests",
        "40",
        "--json",
        "--run-dir",
        "asked",
    ];
    let answers = object(&infer, folder.path());
    assert_eq!(answers["requests"], 40);
    assert_eq!(answers["agreement"], 1.0);
    assert!(load::load(&folder.path().join("asked")).is_ok());
}

/// What holds biases in the clear is readable by its owner alone.
#[cfg(unix)]
fn is_private(run: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for name in ["model.json", "checkpoint.safetensors"] {
        let about = std::fs::metadata(run.join(name)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

/// The weights of a run, as their version says.
fn model_version(run: &Path) -> String {
    let text = std::fs::read_to_string(run.join("model.json")).unwrap();
    let model: Value = serde_json::from_str(&text).unwrap();
    model["version"].as_str().unwrap().to_owned()
}

/// Both ends of a socket: biases by the published rule, against the twin in the clear; and nothing is claimed of either.
#[test]
fn the_published_rule_of_biases_is_that_of_clear_and_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rule = ["--bias", "paper"];
    let with = |engine: &[&'static str]| [engine, &rule[..]].concat();
    let paper = train(&with(&["--engine", "paper"]), "paper", folder.path());
    let clear = with(&["--engine", "clear", "--grid"]);
    let clear = train(&clear, "clear", folder.path());
    let model = |name: &str| std::fs::read_to_string(folder.path().join(name).join("model.json"));
    let model = |name: &str| serde_json::from_str::<Value>(&model(name).unwrap()).unwrap();
    let (ours, theirs) = (model("paper"), model("clear"));
    for part in ["version", "model"] {
        assert!(
            ours[part] == theirs[part] && !ours[part].is_null(),
            "{part}"
        );
    }
    // another rule, other biases
    let default = train(&["--engine", "paper"], "default", folder.path());
    assert!(model("default")["model"] != ours["model"]);
    assert_eq!(paper["accuracy"], clear["accuracy"]);
    // ten biases, eleven rotations each
    assert_eq!(paper["operations_per_step"]["rotations"], 110);
    assert_eq!(default["operations_per_step"]["rotations"], 0);
    assert_eq!(paper["security"], "classical-128");
    for run in [&paper, &clear] {
        assert_eq!(run["bias_rule"], "paper");
        assert_eq!(run["proven"], false);
    }
    for name in ["paper", "clear"] {
        let path = folder.path().join(name).join("statement.txt");
        let statement = std::fs::read_to_string(path).unwrap();
        assert!(statement.contains("NO epsilon is proven"), "{statement}");
    }
    // in floating point it is near, and says the same
    let float = train(&with(&["--engine", "clear"]), "float", folder.path());
    assert_eq!(
        (&float["bias_rule"], &float["proven"]),
        (&"paper".into(), &false.into())
    );
    // the plan tells of rotations, rates and how many steps there may be
    let plan = ["plan", "--engine", "paper", "--bias", "paper"];
    let output = run(
        env!("CARGO_BIN_EXE_sphinx"),
        &[&plan[..], &SMALL[..]].concat(),
        folder.path(),
    );
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("NO epsilon") && told.contains("decode exactly"),
        "{told}"
    );
}

#[test]
fn without_privacy_there_is_no_epsilon() {
    let folder = tempfile::tempdir().unwrap();
    let value = train(
        &["--engine", "clear", "--non-private"],
        "free",
        folder.path(),
    );
    assert!(value["epsilon"].is_null() && value["noise_multiplier"].is_null());
    assert_eq!(value["proven"], false);
    assert!(load::load(&folder.path().join("free")).is_ok());
    let output = run(
        env!("CARGO_BIN_EXE_sphinx"),
        &["infer", "--run", "free"],
        folder.path(),
    );
    assert_eq!(
        output.status.code(),
        Some(2),
        "the float engine leaves no model for requests"
    );
}

#[test]
fn a_secret_run_is_proven_and_differs_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = |name| {
        [
            &[
                "train",
                "--json",
                "--engine",
                "clear",
                "--grid",
                "--run-dir",
                name,
            ],
            &SMALL[..],
        ]
        .concat()
    };
    let first = object(&arguments("first"), folder.path());
    assert_eq!(first["proven"], true);
    object(&arguments("second"), folder.path());
    let version = |name: &str| model_version(&folder.path().join(name));
    assert_ne!(version("first"), version("second"));
}

#[test]
fn the_demo_in_small() {
    let folder = tempfile::tempdir().unwrap();
    let value = object(
        &[
            "demo",
            "--json",
            "--steps",
            "2",
            "--train-size",
            "2000",
            "--test-size",
            "100",
            "--run-dir",
            "demo",
            "--figures",
            "pictures",
        ],
        folder.path(),
    );
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "accuracy",
            "accuracy_clear",
            "accuracy_nonprivate",
            "bytes_down",
            "bytes_up",
            "client_work_ratio",
            "delta",
            "epsilon",
            "figures",
            "identical_to_clear",
            "inference_requests",
            "online_latency_ms_p50",
            "online_latency_ms_p99",
            "pure_he_seconds_per_step",
            "run_dir",
            "seconds_per_step",
            "steps",
        ]
    );
    assert_eq!(value["identical_to_clear"], true);
    assert_eq!(value["accuracy"], value["accuracy_clear"]);
    assert!(value["figures"].as_array().unwrap().len() >= 12);
    assert!(
        folder
            .path()
            .join("pictures")
            .join("latency-synth-digits.png")
            .exists()
    );
}

#[test]
fn the_experiments_skip_what_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_accuracy-vs-epsilon");
    let arguments = |seeds| {
        let mut all = vec![
            "--out",
            "run",
            "--epsilons",
            "4,inf",
            "--quick",
            "--steps",
            "2",
        ];
        all.extend([
            "--train-size",
            "500",
            "--test-size",
            "50",
            "--json",
            "--seeds",
            seeds,
        ]);
        all
    };
    for (seeds, trials) in [("1", 2), ("1,2", 4), ("1,2", 4)] {
        let output = run(binary, &arguments(seeds), folder.path());
        let value: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(value["trials"], trials);
    }
    let output = run(
        env!("CARGO_BIN_EXE_latency"),
        &[
            "--out",
            "asked",
            "--models",
            "linear",
            "--requests",
            "5",
            "--quick",
            "--json",
        ],
        folder.path(),
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        folder
            .path()
            .join("asked/figures/latency-synth-digits.svg")
            .exists()
    );
}
