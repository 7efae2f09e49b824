//! `sphinx figures`: from run directories to pictures and their points.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use sphinx_figures::{figures, load};

use crate::cli::FiguresArgs;
use crate::output::Output;
use crate::usage::{OrUsage, UsageError};

pub(super) fn run(args: &FiguresArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let directory = match (&args.out, args.runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [only]) => only.join("figures"),
        _ => {
            return Err(UsageError::flag(
                "--out",
                "name a folder for figures of several runs",
            ));
        }
    };
    let mut records = Vec::new();
    for run in &args.runs {
        let loaded = load::load(run).or_usage(format!("reading the run {}", run.display()))?;
        records.extend(loaded.records);
    }
    let written = figures::render_all(&records, &directory).context("drawing the figures")?;
    if written.is_empty() {
        out.warn("no record has what a figure needs");
    }
    for path in &written {
        out.say(path.display());
    }
    out.object(&json!({ "figures": paths(&written) }));
    Ok(())
}

/// Paths as text.
pub(super) fn paths(written: &[PathBuf]) -> Vec<String> {
    written
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}
