//! The bytes that a run reports are the bytes on the socket, for every engine.
//!
//! A relay between the parties counts what passes through it, as a packet capture would count payloads. Beside it, for
//! a quiet machine, the counters of the loopback interface themselves, headers taken off:
//!
//! ```text
//! SPHINX_QUIET=1 cargo test -p sphinx-experiments --test capture -- --test-threads 1
//! ```
//!
//! Training by `packed` and `paper` (by both rules of biases), and inference by `shared`, always; `pure-he` with `SPHINX_SLOW=1`. The engine
//! `clear` has no socket.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::Value;

/// How far reported and observed bytes may lie apart.
const TOLERANCE: f64 = 0.01;
/// Ethernet, IP and TCP headers (with time stamps) of a packet on the loopback interface.
const HEADERS: u64 = 14 + 20 + 32;

/// What every run has: a few records, a small network.
const SMALL: [&str; 10] = [
    "--train-size",
    "300",
    "--test-size",
    "20",
    "--batch",
    "16",
    "--model",
    "linear",
    "--seed",
    "1",
];

/// A server of its own process, killed when it is dropped.
struct Served(Child, String);

impl Served {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sphinx"))
            .args(["serve", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("where it listens");
        let address = said["listening"].as_str().expect("an address").to_owned();
        Self(child, address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes that passed, up and down.
#[derive(Default)]
struct Passed([AtomicU64; 2]);

impl Passed {
    fn take(&self) -> [u64; 2] {
        [0, 1].map(|i| self.0[i].swap(0, Ordering::SeqCst))
    }
}

/// Listens, and passes every connection on to `server`; gives its own address.
fn relay(server: &str, passed: &Arc<Passed>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let (server, passed) = (server.to_owned(), Arc::clone(passed));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&server) else {
                continue;
            };
            let ends = [(&client, &server, 0), (&server, &client, 1)];
            for (from, to, direction) in ends {
                let pair = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let passed = Arc::clone(&passed);
                thread::spawn(move || pass(pair, &passed.0[direction]));
            }
        }
    });
    address
}

fn pass((mut from, mut to): (TcpStream, TcpStream), count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        // Counted first, so that whoever has read a byte finds it counted.
        count.fetch_add(got as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn object(arguments: &[&str], folder: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_sphinx"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("one JSON object, nothing else")
}

fn train(engine: &[&str], name: &str, address: &str, folder: &Path) -> Value {
    let connect = ["--connect", address];
    let run = name.replace(", ", "-").replace(' ', "-");
    let arguments = [
        &["train", "--json", "--run-dir", &run][..],
        &SMALL,
        engine,
        &connect,
    ];
    object(&arguments.concat(), folder)
}

fn near(what: &str, reported: &Value, observed: u64) {
    let reported = reported.as_f64().expect("a number");
    let gap = (observed as f64 / reported - 1.0).abs();
    assert!(
        gap < TOLERANCE && reported > 10_000.0,
        "{what}: reported {reported}, observed {observed}"
    );
}

/// Engines at a server.
const ENGINES: [(&str, &[&str]); 4] = [
    ("packed", &["--engine", "packed", "--steps", "2"]),
    ("paper", &["--engine", "paper", "--steps", "2"]),
    (
        "paper, published biases",
        &["--engine", "paper", "--bias", "paper", "--steps", "2"],
    ),
    ("pure-he", &["--engine", "pure-he", "--steps", "1"]),
];

/// Those of every day: 7,850 encrypted parameters are 4 GB and a step of them a minute, so the baseline waits for
/// `SPHINX_SLOW`, and makes one step.
fn engines() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let slow = std::env::var_os("SPHINX_SLOW").is_some();
    let wanted = move |name: &str| slow || name != "pure-he";
    ENGINES.into_iter().filter(move |(name, _)| wanted(name))
}

#[test]
fn reported_bytes_are_those_on_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start();
    let passed = Arc::new(Passed::default());
    let address = relay(&served.1, &passed);
    for (name, engine) in engines() {
        passed.take();
        let trained = train(engine, name, &address, folder.path());
        let [up, down] = passed.take();
        near(&format!("{name}, up"), &trained["bytes_up"], up);
        near(&format!("{name}, down"), &trained["bytes_down"], down);
        if name == "pure-he" {
            says_what_it_is(&trained, &folder.path().join(name));
        }
    }
    let asked = infer(&address, folder.path());
    let [up, down] = passed.take();
    near("shared, up", &asked["bytes_up"], up);
    near("shared, down", &asked["bytes_down"], down);
    // The parts are within the whole: what is left is the opening of the connections.
    let parts = REQUESTS * number(&asked["bytes_up_per_request"])
        + REQUESTS * number(&asked["bytes_down_per_request"])
        + number(&asked["offline_bytes"]);
    let whole = (up + down) as f64;
    assert!(parts < whole && parts > 0.9 * whole, "{parts} of {whole}");
}

/// The record of a run with everything encrypted: its operations, and no claim of privacy.
fn says_what_it_is(trained: &Value, run: &Path) {
    let operations = &trained["operations_per_step"];
    for name in ["relinearisations", "rotations", "rescales", "transforms"] {
        assert!(
            operations[name].as_u64() > Some(0),
            "{name} in {operations}"
        );
    }
    assert!(trained["epsilon"].is_null() && trained["proven"] == false);
    assert_eq!(trained["style"], "lazy");
    let statement = fs::read_to_string(run.join("statement.txt")).expect("a statement");
    assert!(statement.contains("NO epsilon") && !statement.contains("noised jointly"));
}

/// Requests of the inference runs.
const REQUESTS: f64 = 40.0;

/// Private requests to the model of the run `packed`.
fn infer(address: &str, folder: &Path) -> Value {
    let requests = REQUESTS.to_string();
    let asked = [
        "infer",
        "--json",
        "--run",
        "packed",
        "--requests",
        &requests,
        "--connect",
        address,
    ];
    object(&asked, folder)
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Bytes and packets that the loopback interface has carried.
fn interface() -> Option<[u64; 2]> {
    let text = fs::read_to_string("/proc/net/dev").ok()?;
    let line = text.lines().find_map(|l| l.trim().strip_prefix("lo:"))?;
    let mut fields = line.split_whitespace().map(str::parse);
    Some([fields.next()?.ok()?, fields.next()?.ok()?])
}

/// Other traffic on the loopback interface is counted as well: only where somebody says that there is none.
#[test]
fn reported_bytes_are_those_of_the_interface() {
    if std::env::var_os("SPHINX_QUIET").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start();
    let observe = |name: &str, run: &dyn Fn() -> Value| {
        let before = interface().expect("the counters of the loopback interface");
        let said = run();
        let after = interface().expect("the counters of the loopback interface");
        let (bytes, packets) = (after[0] - before[0], after[1] - before[1]);
        let reported = number(&said["bytes_up"]) + number(&said["bytes_down"]);
        let payload = bytes - HEADERS * packets;
        eprintln!("{name}: reported {reported}, payload on the interface {payload}");
        near(name, &reported.into(), payload);
    };
    for (name, engine) in engines() {
        observe(name, &|| train(engine, name, &served.1, folder.path()));
    }
    observe("shared", &|| infer(&served.1, folder.path()));
}
