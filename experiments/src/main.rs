//! The `sphinx` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sphinx_experiments::commands::main()
}
