//! A run whose server is caught lying: it stops for good, and its folder refuses to go on.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use sphinx_protocol::serve::{ServeOptions, Service};

/// First byte of the frame of a forward product.
const FORWARD: u8 = 0x91;

fn sphinx(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sphinx"));
    command.args(arguments).current_dir(folder);
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut content = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut content).ok()?;
    Some([&length[..], &content].concat())
}

/// Passes connections on to `server`; of each it changes the `lie`-th forward product, in bytes that
/// hold coefficients of its mask. When the client of one that was changed hangs up, it says whether the file
/// `mark` was there at that moment.
fn relay(server: SocketAddr, lie: usize, mark: PathBuf) -> (SocketAddr, Receiver<bool>) {
    let (hung_up, marked) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut inner = TcpStream::connect(server).expect("the server listens");
            let (mut up, mut to_server) = (client.try_clone().unwrap(), inner.try_clone().unwrap());
            let told = Arc::new(AtomicBool::new(false));
            let (lied, hung_up, mark) = (Arc::clone(&told), hung_up.clone(), mark.clone());
            std::thread::spawn(move || {
                // Ends with either side.
                let _ = std::io::copy(&mut up, &mut to_server);
                if lied.load(Ordering::SeqCst) {
                    let _ = hung_up.send(mark.exists());
                }
                let _ = to_server.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut products = 0;
                while let Some(mut frame) = frame(&mut inner) {
                    if frame[4] == FORWARD {
                        products += 1;
                        if products == lie {
                            let place = frame.len() * 3 / 4;
                            frame[place..place + 8].iter_mut().for_each(|b| *b ^= 0x55);
                            told.store(true, Ordering::SeqCst);
                        }
                    }
                    if client.write_all(&frame).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, marked)
}

const RUN: [&str; 16] = [
    "train",
    "--quiet",
    "--json",
    "--verify",
    "--model",
    "linear",
    "--train-size",
    "400",
    "--test-size",
    "50",
    "--batch",
    "64",
    "--steps",
    "3",
    "--seed",
    "4",
];

#[test]
fn a_run_with_a_lying_server_stops_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start("127.0.0.1:0", ServeOptions::default(), |_| {}).unwrap();
    let honest = service.address().to_string();
    let go = |address: &str, name: &str| {
        let place = ["--connect", address, "--run-dir", name];
        sphinx(&[&RUN[..], &place].concat(), folder.path())
    };
    // With nobody between: three steps, and the record says that they were checked.
    let output = go(&honest, "honest");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["verify"], true);
    assert!(object["phase_seconds"]["verify"].as_f64().unwrap() > 0.0);
    // One layer has a forward product and a gradient, each with its work at both ends and alone.
    let layers = object["layers"].as_array().unwrap();
    let phases: Vec<_> = layers
        .iter()
        .map(|l| l["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["forward", "gradient"]);
    for key in ["seconds", "client_busy_s", "server_busy_s", "alone_cpu_s"] {
        for layer in layers {
            assert!(layer[key].as_f64().unwrap() > 0.0, "{key} of {layer}");
        }
    }
    let path = folder.path().join("caught/stopped.txt");
    let (liar, marked) = relay(service.address(), 1, path);
    let output = go(&liar.to_string(), "caught");
    assert!(marked.recv().unwrap(), "the mark came after the hang-up");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("stopped for good"), "{said}");
    assert!(said.contains("layer 0: the forward product"), "{said}");
    assert!(!said.contains("goes on with it"), "{said}");
    let mark = fs::read_to_string(folder.path().join("caught/stopped.txt")).unwrap();
    assert!(mark.contains("layer 0: the forward product"), "{mark}");
    // Nothing was released: the ledger holds no charge.
    let ledger = fs::read_to_string(folder.path().join("caught/ledger.jsonl")).unwrap();
    assert_eq!(ledger.lines().count(), 1, "{ledger}");
    // Not even with an honest server.
    let resume = ["train", "--resume", "--run-dir", "caught"];
    let output = sphinx(
        &[&resume[..], &["--connect", &honest]].concat(),
        folder.path(),
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("stopped for good"));
}

/// The server sees that a check failed when the client hangs up. Killed at that moment, the run is marked.
#[test]
fn a_client_killed_after_a_failed_check_has_left_its_mark() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start("127.0.0.1:0", ServeOptions::default(), |_| {}).unwrap();
    let path = folder.path().join("killed/stopped.txt");
    let (liar, marked) = relay(service.address(), 1, path.clone());
    let mut child = Command::new(env!("CARGO_BIN_EXE_sphinx"))
        .args(RUN)
        .args(["--connect", &liar.to_string(), "--run-dir", "killed"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let marked = marked.recv_timeout(Duration::from_secs(100));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(marked.unwrap(), "the mark came after the hang-up");
    assert!(
        fs::read_to_string(path)
            .unwrap()
            .contains("forward product")
    );
    let honest = service.address().to_string();
    let resume = [
        "train",
        "--resume",
        "--run-dir",
        "killed",
        "--connect",
        &honest,
    ];
    let output = sphinx(&resume, folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("stopped for good"));
}

#[test]
fn only_packed_has_checks() {
    let folder = tempfile::tempdir().unwrap();
    let run = ["train", "--verify", "--engine", "clear", "--steps", "1"];
    let output = sphinx(&run, folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--verify"));
}
