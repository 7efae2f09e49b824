//! The `sphinx` command.

use std::process::ExitCode;

/// Thousands of ciphertexts come and go in every step; the system's allocator gives their pages
/// back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sphinx_experiments::commands::main()
}
