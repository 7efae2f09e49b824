//! The server beside a run: one that is already there, or a child process of our own.
//!
//! A child runs in its own process so that the CPU time of the two parties is measured apart. It
//! listens on a free port of the loopback interface, ends when our end of its standard input
//! closes (also if we are killed), and is stopped by its handle, never by name.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sphinx_protocol::link::Link;
use sphinx_protocol::transport;

/// A server to talk to.
#[derive(Debug)]
pub struct Server {
    address: String,
    child: Option<Child>,
}

/// What `sphinx serve --json` prints once it listens.
#[derive(Deserialize)]
struct Listening {
    listening: String,
}

impl Server {
    /// The server at `connect`, or a new child process that logs into the file `log`.
    ///
    /// # Errors
    /// If the child cannot be started or does not say where it listens.
    pub fn obtain(connect: Option<&str>, log: &Path) -> Result<Self> {
        match connect {
            Some(address) => Ok(Self {
                address: address.to_owned(),
                child: None,
            }),
            None => Self::spawn(log),
        }
    }

    fn spawn(log: &Path) -> Result<Self> {
        let program = program()?;
        let log = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let child = Command::new(&program)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--json",
                "--until-stdin-ends",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {} serve", program.display()))?;
        // From here on, dropping the server stops the child.
        let mut server = Self {
            address: String::new(),
            child: Some(child),
        };
        let Some(stdout) = server.child.as_mut().and_then(|child| child.stdout.take()) else {
            bail!("the server has no standard output");
        };
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("waiting for the server")?;
        let said: Listening = serde_json::from_str(&line)
            .with_context(|| format!("the server did not start; it said {line:?}"))?;
        server.address = said.listening;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it is a child of ours.
    #[must_use]
    pub const fn is_child(&self) -> bool {
        self.child.is_some()
    }

    /// The largest resident set of a child of ours so far, in units of 10^6 bytes.
    #[must_use]
    pub fn peak_rss_mb(&self) -> Option<f64> {
        let child = self.child.as_ref()?;
        crate::environment::peak_rss_mb_of(&child.id().to_string())
    }

    /// A new connection.
    ///
    /// # Errors
    /// If nobody answers, or not in our version.
    pub fn link(&self) -> Result<Link> {
        let wire = transport::connect(self.address.as_str())
            .with_context(|| format!("connecting to {}", self.address))?;
        Link::greet(wire).with_context(|| format!("greeting the server at {}", self.address))
    }

    /// The CPU seconds that the server process has spent so far.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.link()?
            .close()
            .context("asking the server for its CPU time")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way it must be reaped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The `sphinx` binary: ourselves, or the one beside us if we are another of its family.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    let name = format!("sphinx{}", std::env::consts::EXE_SUFFIX);
    if own
        .file_name()
        .is_some_and(|file| file.to_string_lossy() == name.as_str())
    {
        return Ok(own);
    }
    let beside = own.with_file_name(&name);
    if !beside.exists() {
        bail!(
            "{} is not there: build the binary `sphinx` as well",
            beside.display()
        );
    }
    Ok(beside)
}
