//! The built binary, as a script or a person meets it.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sphinx(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_sphinx");
    Command::new(binary)
        .args(arguments)
        .env_remove("SPHINX_DATA")
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Standard output as exactly one JSON object.
fn object(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    let value: Value = serde_json::from_str(&stdout(output)).expect("one JSON value, nothing else");
    assert!(value.is_object(), "{value}");
    value
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

/// Exit code 2, nothing on standard output, and all of `words` in the message.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = sphinx(arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert_eq!(stdout(&output), "", "{arguments:?}");
    for word in words {
        assert!(
            message.contains(word),
            "{arguments:?}: no {word:?} in: {message}"
        );
    }
}

/// The run of the paper's headline: MNIST, 500 of 60,000 records per step, 3000 steps.
const RUN: [&str; 6] = [
    "--sampling-rate",
    "0.008333333333333333",
    "--steps",
    "3000",
    "--delta",
    "1e-5",
];

#[test]
fn account_prices_a_known_run() {
    let output = sphinx(
        &[
            &["account", "--noise-multiplier", "1.224", "--json"][..],
            &["--accountant", "rdp"][..],
            &RUN[..],
        ]
        .concat(),
    );
    let value = object(&output);
    let all = ["accountant", "epsilon", "estimate", "lower", "order"];
    assert_eq!(keys(&value), all);
    assert_eq!(value["accountant"], "rdp");
    // The value of two published accountants for this run, by Renyi divergence.
    assert!(
        (value["epsilon"].as_f64().unwrap() - 2.0).abs() < 2e-3,
        "{value}"
    );
    assert!(value["lower"].is_null() && value["estimate"].is_null());
    assert!((5.0..15.0).contains(&value["order"].as_f64().unwrap()));
}

#[test]
fn account_at_rate_one_and_an_order_has_a_closed_form() {
    let output = sphinx(&[
        "account",
        "--sampling-rate",
        "1",
        "--noise-multiplier",
        "2",
        "--steps",
        "1",
        "--delta",
        "1e-5",
        "--order",
        "4",
        "--json",
    ]);
    // order / (2 z^2)
    assert!((object(&output)["rdp"].as_f64().unwrap() - 0.5).abs() < 1e-9);
}

#[test]
fn calibrate_inverts_account() {
    // By privacy loss where nothing is said, and by Renyi divergence.
    for (flags, low, high) in [
        (&[][..], 1.157_539, 1.157_6),
        (&["--accountant", "rdp"][..], 1.223_9, 1.224_2),
    ] {
        let budget = ["calibrate", "--epsilon", "2", "--json"];
        let value = object(&sphinx(&[&budget[..], flags, &RUN[..]].concat()));
        assert_eq!(keys(&value), ["accountant", "noise_multiplier"]);
        let z = value["noise_multiplier"].as_f64().unwrap();
        assert!((low..high).contains(&z), "{z}");
        let z = z.to_string();
        let account = ["account", "--noise-multiplier", &z, "--json"];
        let value = object(&sphinx(&[&account[..], flags, &RUN[..]].concat()));
        let epsilon = value["epsilon"].as_f64().unwrap();
        assert!(epsilon <= 2.0 && epsilon > 1.9999, "{epsilon}");
    }
}

#[test]
fn replaced_records_are_priced_by_both_accountants() {
    let epsilon = |accountant: &[&str]| {
        let flags = [
            "--noise-multiplier",
            "1",
            "--adjacency",
            "replace",
            "--json",
        ];
        let output = sphinx(&[&["account"], &flags[..], accountant, &RUN[..]].concat());
        let value = object(&output);
        let name = value["accountant"].as_str().unwrap().to_owned();
        (name, value["epsilon"].as_f64().unwrap())
    };
    let (by_default, tight) = epsilon(&[]);
    let (_, renyi) = epsilon(&["--accountant", "rdp"]);
    assert_eq!(by_default, "pld");
    assert!(tight < renyi && tight > 0.5 * renyi, "{tight} {renyi}");
}

#[test]
fn accountants_over_steps_become_a_figure() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run").display().to_string();
    let flags = [
        "account",
        "--noise-multiplier",
        "1",
        "--over-steps",
        &run,
        "--json",
    ];
    object(&sphinx(&[&flags[..], &RUN[..]].concat()));
    let drawn = object(&sphinx(&["figures", &run, "--json"]));
    let files = drawn["figures"].as_array().unwrap();
    assert_eq!(files.len(), 3, "{drawn}");
    assert!(
        files
            .iter()
            .all(|f| f.as_str().unwrap().contains("epsilon_over_steps"))
    );
}

#[test]
fn people_get_text_without_json() {
    let output = sphinx(&[&["account", "--noise-multiplier", "1.224"], &RUN[..]].concat());
    assert!(
        stdout(&output).starts_with("epsilon 1."),
        "{}",
        stdout(&output)
    );
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "demo",
        "train",
        "infer",
        "serve",
        "plan",
        "account",
        "calibrate",
        "figures",
    ] {
        let output = sphinx(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
        assert!(stdout(&output).contains("Example"), "{command}");
        assert!(stdout(&output).contains("--json"), "{command}");
    }
    assert!(stdout(&sphinx(&["--help"])).contains("Exit codes"));
}

#[test]
fn bad_flags_are_refused_with_advice() {
    let train = [
        "train",
        "--train-size",
        "300",
        "--test-size",
        "50",
        "--batch",
        "16",
    ];
    let with = |more: &[&'static str]| [&train[..], more].concat();
    refused(&["trian"], &["train"]);
    refused(
        &with(&["--engine", "pure-he", "--epsilon", "2"]),
        &["pure-he releases nothing", "--epsilon"],
    );
    refused(
        &with(&["--engine", "pure-he", "--momentum", "0.5"]),
        &["--momentum", "velocities"],
    );
    refused(
        &["train", "--engine", "pure-he", "--model", "mlp"],
        &["bytes held by the server"],
    );
    refused(
        &with(&["--engine", "packed", "--bias", "paper"]),
        &["--bias paper", "--engine paper", "clear"],
    );
    refused(
        &with(&["--engine", "pure-he", "--bias", "paper"]),
        &["--bias paper", "without noise", "--engine paper"],
    );
    refused(
        &with(&["--engine", "paper", "--bias", "paper", "--lr", "1e-9"]),
        &["published rule", "learning rate"],
    );
    refused(&with(&["--clip-samples"]), &["--clip-samples"]);
    refused(&with(&["--model", "resnet"]), &["resnet", "mlp-64"]);
    refused(&with(&["--epsilon", "-1"]), &["epsilon"]);
    refused(&with(&["--epsilon", "nan"]), &["epsilon"]);
    refused(
        &with(&["--epsilon", "2", "--non-private"]),
        &["--non-private"],
    );
    refused(&with(&["--steps", "0"]), &["--steps"]);
    refused(&with(&["--momentum", "1"]), &["--momentum"]);
    refused(&with(&["--clip", "0"]), &["--clip"]);
    refused(
        &["train", "--train-size", "10", "--batch", "50"],
        &["--batch"],
    );
    refused(
        &["train", "--dataset", "cifar100"],
        &["synth-digits", "fashion-mnist"],
    );
    refused(&["account", "--sampling-rate", "2"], &["--delta"]);
}

fn account(name: &str) -> Value {
    let flags = [
        "account",
        "--noise-multiplier",
        "1",
        "--json",
        "--accountant",
    ];
    object(&sphinx(&[&flags[..], &[name], &RUN[..]].concat()))
}

/// The true value is 2.6052511; published accountants say 2.874688 by Renyi divergence, 3.353157 by
/// moments and 2.437 by the central limit.
#[test]
fn every_accountant_answers_in_its_own_way() {
    let loss = account("pld");
    let side = |key: &str| loss[key].as_f64().unwrap();
    assert!((2.605_25..2.605_61).contains(&side("epsilon")), "{loss}");
    assert!(
        side("lower") <= 2.605_251_2 && side("lower") > 2.58,
        "{loss}"
    );
    assert!(side("lower") <= side("estimate") && side("estimate") <= side("epsilon"));
    let moments = account("moments");
    assert!((moments["epsilon"].as_f64().unwrap() - 3.353_157).abs() < 1e-5);
    assert!(
        moments["lower"].is_null() && moments["order"].is_f64(),
        "{moments}"
    );
    let limit = account("gdp");
    assert!(limit["epsilon"].is_null(), "no bound: {limit}");
    assert!((limit["estimate"].as_f64().unwrap() - 2.437).abs() < 1e-3);
}

#[test]
fn every_accountant_calibrates() {
    for (name, low, high) in [
        ("rdp", 1.223, 1.2241),
        ("moments", 1.368, 1.3687),
        ("pld", 1.157_53, 1.158_6),
        ("gdp", 1.123, 1.127),
    ] {
        let flags = [
            "calibrate",
            "--epsilon",
            "2",
            "--json",
            "--accountant",
            name,
        ];
        let value = object(&sphinx(&[&flags[..], &RUN[..]].concat()));
        let z = value["noise_multiplier"].as_f64().unwrap();
        assert!((low..high).contains(&z), "{name}: {z}");
    }
}

#[test]
fn any_two_of_rate_steps_and_noise_give_the_third() {
    let flags = [
        "calibrate",
        "--accountant",
        "pld",
        "--epsilon",
        "2",
        "--delta",
        "1e-5",
        "--json",
    ];
    let with = |more: &[&'static str]| object(&sphinx(&[&flags[..], more].concat()));
    let (rate, steps, z) = ("0.008333333333333333", "3000", "1.1576");
    let found = with(&["--sampling-rate", rate, "--noise-multiplier", z]);
    assert!(
        (3000..3005).contains(&found["steps"].as_u64().unwrap()),
        "{found}"
    );
    let found = with(&["--steps", steps, "--noise-multiplier", z]);
    assert!(
        (found["sampling_rate"].as_f64().unwrap() * 120.0 - 1.0).abs() < 1e-3,
        "{found}"
    );
    let all = [
        "--steps",
        steps,
        "--noise-multiplier",
        z,
        "--sampling-rate",
        rate,
    ];
    refused(&[&flags[..], &all].concat(), &["exactly two"]);
    refused(
        &[&flags[..], &["--steps", steps]].concat(),
        &["exactly two"],
    );
}

#[test]
fn numbers_out_of_range_are_named_with_their_range() {
    for name in ["rdp", "moments", "pld", "gdp"] {
        let with = |changed: usize, value: &'static str| {
            let mut flags = vec!["account", "--accountant", name];
            let good = [
                ("--sampling-rate", "0.01"),
                ("--noise-multiplier", "1"),
                ("--steps", "10"),
                ("--delta", "1e-5"),
            ];
            for (i, (flag, default)) in good.into_iter().enumerate() {
                flags.extend([flag, if i == changed { value } else { default }]);
            }
            flags
        };
        for bad in ["0", "-1", "1.5", "nan", "inf"] {
            refused(&with(0, bad), &["--sampling-rate", "above 0 and at most 1"]);
            if bad != "1.5" {
                refused(
                    &with(1, bad),
                    &["--noise-multiplier", "between 1e-6 and 1e9"],
                );
            }
            refused(&with(3, bad), &["--delta", "strictly between 0 and 1"]);
        }
        refused(&with(2, "0"), &["--steps", "at least 1"]);
    }
    refused(
        &["train", "--accountant", "gdp"],
        &["--accountant", "estimate"],
    );
    refused(
        &["plan", "--accountant", "gdp"],
        &["--accountant", "estimate"],
    );
}

#[test]
fn a_run_planned_by_privacy_loss_needs_less_noise() {
    let noise = |name| {
        let output = sphinx(&["plan", "--model", "linear", "--accountant", name, "--json"]);
        let value = object(&output);
        assert!(
            (value["epsilon"].as_f64().unwrap() - 8.0).abs() < 1e-2,
            "{value}"
        );
        value["noise_multiplier"].as_f64().unwrap()
    };
    let (loss, renyi) = (noise("pld"), noise("rdp"));
    assert!(loss < 0.97 * renyi, "{loss} {renyi}");
}

#[test]
fn missing_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    refused(&["train", "--dataset", "mnist"], &["--data"]);
    refused(
        &["train", "--dataset", "mnist", "--data", &path],
        &[&path, "train-images", "gz"],
    );
    let missing = folder.path().join("nowhere").display().to_string();
    refused(
        &["train", "--dataset", "mnist", "--data", &missing],
        &[&missing],
    );
}

#[test]
fn a_run_directory_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let arguments = [
        "train",
        "--engine",
        "clear",
        "--train-size",
        "300",
        "--test-size",
        "50",
        "--batch",
        "16",
        "--steps",
        "1",
        "--run-dir",
        &path,
    ];
    refused(&arguments, &[&path, "overwritten"]);
}

#[test]
fn the_server_keeps_to_this_machine() {
    refused(
        &["serve", "--listen", "0.0.0.0:0"],
        &["--plain-network", "TLS"],
    );
    refused(&["serve", "--listen", "nonsense"], &["nonsense"]);
}

#[test]
fn a_server_that_is_not_there_is_a_failure_not_a_misuse() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run").display().to_string();
    let output = sphinx(&[
        "train",
        "--train-size",
        "300",
        "--test-size",
        "50",
        "--batch",
        "16",
        "--steps",
        "1",
        "--model",
        "linear",
        "--connect",
        "127.0.0.1:1",
        "--run-dir",
        &run,
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("127.0.0.1:1"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn plan_says_what_a_run_would_do() {
    let output = sphinx(&["plan", "--model", "linear", "--steps", "100", "--json"]);
    let value = object(&output);
    assert_eq!(value["security"], "classical-128");
    assert!(value["modulus_bits"].as_f64() < value["modulus_bits_allowed"].as_f64());
    assert!((value["epsilon"].as_f64().unwrap() - 8.0).abs() < 1e-3);
    for row in value["exactness"].as_array().unwrap() {
        assert!(row["log2_failure"].as_f64().unwrap() < -128.0, "{row}");
    }
}

#[test]
fn figures_need_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    refused(&["figures", &path], &["config.toml"]);
    assert!(Path::new(&path).exists());
}

#[test]
fn a_back_end_that_does_not_exist_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_sphinx"))
        .args([&["account", "--noise-multiplier", "1"], &RUN[..]].concat())
        .env("SPHINX_BACKEND", "abacus")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("SPHINX_BACKEND") && told.contains("abacus"),
        "{told}"
    );
}
