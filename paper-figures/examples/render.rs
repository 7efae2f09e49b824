//! Renders every figure of a record file or a run directory.
//!
//! ```text
//! cargo run -p sphinx-figures --example render -- RUN_DIRECTORY|TRIALS.jsonl OUT_DIRECTORY
//! ```

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use sphinx_figures::{figures, load, record};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        eprintln!("usage: render RUN_DIRECTORY|TRIALS.jsonl OUT_DIRECTORY");
        return ExitCode::from(2);
    };
    match render(Path::new(from), Path::new(to)) {
        Ok(written) => {
            eprintln!("{written} files written to {to}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn render(from: &Path, to: &Path) -> Result<usize, Box<dyn Error>> {
    let records = if from.is_dir() {
        load::load(from)?.into_records()
    } else {
        record::read(from)?
    };
    Ok(figures::render_all(&records, to)?.len())
}
