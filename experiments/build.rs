//! Hands compiler and commit to the environment record, as they were when this binary was built.

use std::path::Path;
use std::process::Command;

/// What the binary is made of, beside dependencies from elsewhere.
const SOURCES: [&str; 11] = [
    "build.rs",
    "src",
    "Cargo.toml",
    "../Cargo.toml",
    "../Cargo.lock",
    "../he/src",
    "../dp/src",
    "../nn/src",
    "../protocol/src",
    "../paper-figures/src",
    "../paper-figures/claims.toml",
];

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiler = said(Command::new(rustc).arg("--version"));
    tell("SPHINX_COMPILER", compiler.as_deref());
    tell("SPHINX_COMMIT", git(&["rev-parse", "HEAD"]).as_deref());
    let status = git(&["status", "--porcelain"]);
    let changed = status.filter(|changes| !changes.is_empty());
    tell("SPHINX_CHANGED", changed.as_deref().map(|_| "changed"));
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    let watched = SOURCES.into_iter().map(str::to_owned).chain(log);
    for path in watched.filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn tell(name: &str, value: Option<&str>) {
    println!("cargo::rustc-env={name}={}", value.unwrap_or_default());
}

/// What git says about the source tree; nothing if it is no repository.
fn git(arguments: &[&str]) -> Option<String> {
    said(Command::new("git").args(arguments))
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
