//! Runs that are killed and go on: nothing is lost in a seeded run, nothing is free in a secret one.
//!
//! Child processes are killed with SIGKILL through their handles, at times drawn from a fixed
//! sequence; where exactly that hits them differs from machine to machine, and must not matter.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use sphinx_figures::load;
use sphinx_figures::record::{Record, read};

const QUICK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/definitions/synth-quick.toml");

fn sphinx(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sphinx"));
    command.args(arguments).current_dir(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(arguments: &[&str], folder: &Path) -> Output {
    sphinx(arguments, folder).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A fixed sequence of times (SplitMix64), in milliseconds.
struct Times(u64);

impl Times {
    fn next(&mut self, most: u64) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Duration::from_millis(1 + (z >> 40) % most)
    }
}

/// Starts the command and kills it after a while; the exit code if it was faster.
fn kill_after(arguments: &[&str], folder: &Path, time: Duration) -> Option<i32> {
    let mut child = sphinx(arguments, folder).spawn().expect("the binary runs");
    sleep(time);
    if let Some(status) = child.try_wait().expect("a child of ours") {
        return status.code();
    }
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours").code()
}

const RUN: [&str; 16] = [
    "--train-size",
    "1500",
    "--test-size",
    "100",
    "--batch",
    "200",
    "--lr",
    "1",
    "--model",
    "linear",
    "--steps",
    "60",
    "--epsilon",
    "3",
    "--checkpoint-every",
    "4",
];

fn start<'a>(name: &'a str, engine: &[&'a str]) -> Vec<&'a str> {
    [&["train", "--quiet", "--run-dir", name], &RUN[..], engine].concat()
}

/// Kills the run `times` times, going on each time, and then lets it end.
fn interrupted(folder: &Path, engine: &[&str], times: u64, most: u64, mut seen: impl FnMut(&Path)) {
    let run = folder.join("killed");
    let mut clock = Times(times);
    for _ in 0..times {
        next(folder, engine, |arguments| {
            kill_after(arguments, folder, clock.next(most));
        });
        seen(&run);
    }
    for _ in 0..2 {
        if run.join("trials.jsonl").exists() {
            return;
        }
        next(folder, engine, |arguments| {
            let output = finish(arguments, folder);
            assert!(output.status.success(), "{}", text(&output.stderr));
        });
        seen(&run);
    }
}

/// Starts the run, or goes on with it; nothing if it is finished.
fn next(folder: &Path, engine: &[&str], mut go: impl FnMut(&[&str])) {
    let run = folder.join("killed");
    if run.join("trials.jsonl").exists() {
        return;
    }
    if run.join("config.toml").exists() {
        let every = ["--checkpoint-every", "4"];
        let resume = ["train", "--quiet", "--run-dir", "killed", "--resume"];
        go(&[&resume[..], &every].concat());
    } else {
        // Killed before anything was decided: the folder says nothing yet.
        if run.exists() {
            fs::remove_dir_all(&run).unwrap();
        }
        go(&start("killed", engine));
    }
}

fn only_record(run: &Path) -> Record {
    let mut records = load::load(run).unwrap().records;
    assert_eq!(records.len(), 1);
    records.remove(0)
}

/// What a record says beside times and provenance.
fn result(record: &Record) -> (Value, BTreeMap<String, Vec<f64>>) {
    let metrics: BTreeMap<_, _> = record
        .metrics
        .iter()
        .filter(|(name, _)| ["accuracy", "epsilon", "steps", "capacity"].contains(&name.as_str()))
        .collect();
    let samples = record.samples.iter();
    let curve = samples.filter(|(name, _)| name.starts_with("curve."));
    (
        serde_json::to_value((metrics, &record.trial)).unwrap(),
        curve.map(|(n, v)| (n.clone(), v.clone())).collect(),
    )
}

/// Model, ledger, statement, accuracy, curve and epsilon of a killed seeded run are those of one
/// that was left alone.
fn seeded_run_is_unharmed(engine: &[&str], times: u64, most: u64, model: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let engine = [engine, &["--seed", "5"]].concat();
    let output = finish(&start("whole", &engine), folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    interrupted(folder.path(), &engine, times, most, |_| {});
    same_end(folder.path(), model);
}

/// The folders `whole` and `killed` hold one result.
fn same_end(folder: &Path, model: Option<&str>) {
    let (whole, killed) = (folder.join("whole"), folder.join("killed"));
    for file in ["ledger.jsonl", "statement.txt"].into_iter().chain(model) {
        assert!(
            fs::read(whole.join(file)).unwrap() == fs::read(killed.join(file)).unwrap(),
            "{file} differs"
        );
    }
    assert_eq!(result(&only_record(&whole)), result(&only_record(&killed)));
}

#[test]
fn a_killed_float_run_ends_bit_for_bit() {
    let engine = [
        "--engine",
        "clear",
        "--warm-up",
        "5",
        "--schedule",
        "cosine",
        "--nesterov",
        "--ema",
        "0.9",
    ];
    seeded_run_is_unharmed(&engine, 6, 250, Some("model.safetensors"));
}

#[test]
fn a_killed_integer_run_ends_bit_for_bit() {
    seeded_run_is_unharmed(&["--engine", "clear", "--grid"], 5, 400, Some("model.json"));
}

#[test]
fn a_killed_encrypted_run_ends_bit_for_bit() {
    // The model's name at the server is new each time, and stands in its file.
    seeded_run_is_unharmed(&["--engine", "packed"], 2, 3000, None);
}

/// A server of its own, and where it listens.
fn serve(folder: &Path) -> (Child, String) {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--json"];
    let mut server = sphinx(&arguments, folder).spawn().expect("the binary runs");
    let mut line = String::new();
    let output = server.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let said: Value = serde_json::from_str(&line).expect("one object");
    (
        server,
        said["listening"].as_str().expect("where").to_owned(),
    )
}

/// The server is killed in the middle of the run, three times; the client says so and goes on at another.
#[test]
fn a_run_whose_server_is_killed_ends_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let engine = ["--engine", "packed", "--seed", "5"];
    let output = finish(&start("whole", &engine), folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut clock = Times(3);
    let mut lost = 0;
    for last in [false, false, false, true, true] {
        let (mut server, address) = serve(folder.path());
        let engine = [&engine[..], &["--connect", &address]].concat();
        next(folder.path(), &engine, |arguments| {
            let resumed = arguments.contains(&"--resume");
            let connect = ["--connect", &address];
            let more: &[&str] = if resumed { &connect } else { &[] };
            let client = sphinx(&[arguments, more].concat(), folder.path())
                .spawn()
                .expect("the binary runs");
            if !last {
                sleep(clock.next(1500));
                server.kill().expect("a child of ours");
            }
            let output = client.wait_with_output().expect("a child of ours");
            if last {
                assert!(output.status.success(), "{}", text(&output.stderr));
            } else if !output.status.success() {
                assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
                lost += 1;
            }
        });
        server.kill().ok();
        server.wait().expect("a child of ours");
    }
    assert!(lost > 0, "no server was killed in time");
    same_end(folder.path(), None);
}

#[test]
fn a_killed_secret_run_pays_for_every_step_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = Vec::new();
    interrupted(folder.path(), &["--engine", "clear"], 5, 250, |run| {
        let after = fs::read(run.join("ledger.jsonl")).unwrap_or_default();
        // A torn last line was never confirmed; whole lines are never taken back.
        let whole = before.len() - before.iter().rev().take_while(|b| **b != b'\n').count();
        assert!(
            after.starts_with(&before[..whole]),
            "charges were taken back"
        );
        before = after;
    });
    let run = folder.path().join("killed");
    let ledger = text(&fs::read(run.join("ledger.jsonl")).unwrap());
    let record = only_record(&run);
    let (charges, steps) = (ledger.lines().count() - 1, record.metrics["steps"]);
    assert!(
        charges as f64 >= steps && steps <= 60.0,
        "{charges} {steps}"
    );
    assert!(record.metrics["epsilon"] <= 3.0);
    assert!(ledger.contains("\"ladder\"") && !ledger.contains("seeded"));
    assert!(text(&fs::read(run.join("statement.txt")).unwrap()).contains("NO GUARANTEE"));
}

#[test]
fn what_cannot_go_on_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = finish(arguments, folder.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        for word in words {
            assert!(
                text(&output.stderr).contains(word),
                "{}",
                text(&output.stderr)
            );
        }
    };
    refused(&["train", "--resume"], &["--run-dir"]);
    refused(
        &["train", "--resume", "--run-dir", "none"],
        &["holds no run"],
    );
    let resume = ["train", "--resume", "--run-dir", "run"];
    refused(&[&resume[..], &["--lr", "2"]].concat(), &["--lr"]);
    let engine = ["--engine", "clear", "--seed", "1", "--steps", "8"];
    let arguments: Vec<&str> = start("run", &engine);
    let arguments: Vec<&str> = [&arguments[..14], &arguments[16..]].concat();
    let output = finish(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    refused(&resume, &["is finished"]);
    // A ledger that is gone may have held charges: starting a new one would forget them.
    fs::remove_file(folder.path().join("run/trials.jsonl")).unwrap();
    fs::rename(
        folder.path().join("run/ledger.jsonl"),
        folder.path().join("kept"),
    )
    .unwrap();
    refused(&resume, &["ledger.jsonl", "gone"]);
    fs::rename(
        folder.path().join("kept"),
        folder.path().join("run/ledger.jsonl"),
    )
    .unwrap();
    fs::write(folder.path().join("run/checkpoint.safetensors"), b"torn").unwrap();
    let output = finish(&resume, folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("not a checkpoint"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_killed_definition_does_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let all = |out| ["run", QUICK, "--out", out, "--quiet"];
    let whole = finish(&all("whole"), folder.path());
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let mut clock = Times(9);
    for _ in 0..5 {
        kill_after(&all("killed"), folder.path(), clock.next(200));
    }
    let last = finish(&all("killed"), folder.path());
    assert!(last.status.success(), "{}", text(&last.stderr));
    let records = |name: &str| read(&folder.path().join(name).join("trials.jsonl")).unwrap();
    let (whole, killed) = (records("whole"), records("killed"));
    assert_eq!((whole.len(), killed.len()), (4, 4));
    for (a, b) in whole.iter().zip(&killed) {
        assert_eq!(result(a), result(b));
    }
    assert!(!folder.path().join("killed/work").exists());
    for name in [
        "command",
        "version",
        "machine",
        "accountant",
        "noise",
        "finished",
    ] {
        assert!(killed[0].labels.contains_key(name), "{name}");
    }
    for name in [
        "seconds",
        "capacity",
        "delta",
        "sampling_rate",
        "peak_rss_mb",
    ] {
        assert!(killed[0].metrics.contains_key(name), "{name}");
    }
    // Another definition does not get into the same folder.
    let other = fs::read_to_string(QUICK)
        .unwrap()
        .replace("lr = 1.0", "lr = 2.0");
    fs::write(folder.path().join("other.toml"), other).unwrap();
    let refused = finish(&["run", "other.toml", "--out", "killed"], folder.path());
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("another definition"));
}

#[test]
fn reports_and_validation_from_a_definition() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let output = finish(&[&["run", QUICK, "--json"], more].concat(), folder.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("one object")
    };
    assert_eq!(run(&["--dry-run"])["trials"].as_array().unwrap().len(), 4);
    let some = run(&["--out", "run", "--epsilons", "4"]);
    assert_eq!(some["trials"], 2);
    let held_out = [
        "--out",
        "held",
        "--validate",
        "300",
        "--epsilons",
        "4",
        "--seeds",
        "2",
    ];
    run(&held_out);
    let records = read(&folder.path().join("held/trials.jsonl")).unwrap();
    assert_eq!(records[0].config["validation"], 300);
    assert_eq!(records[0].labels["tested-on"], "held-out training records");
    let output = finish(&["report", "run", "--json"], folder.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &report["rows"][0];
    assert_eq!(row["seeds"], serde_json::json!([1, 2]));
    let (mean, least, most) = (
        row["accuracy_mean"].as_f64().unwrap(),
        row["accuracy_min"].as_f64().unwrap(),
        row["accuracy_max"].as_f64().unwrap(),
    );
    assert!(least <= mean && mean <= most && least > 0.3, "{row}");
    let refused = finish(
        &["run", QUICK, "--epsilons", "7", "--out", "x"],
        folder.path(),
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("not in the definition"));
}

#[test]
fn a_bench_is_one_object_with_ratios() {
    let folder = tempfile::tempdir().unwrap();
    let output = finish(&["bench", "--json"], folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measured = value["measured"].as_array().unwrap();
    assert!(measured.len() >= 6);
    for line in measured {
        assert!(line["seconds"].as_f64().unwrap() > 0.0, "{line}");
    }
    assert!(
        measured[0]["ratio"].as_f64().unwrap() > 10.0,
        "{}",
        measured[0]
    );
}
