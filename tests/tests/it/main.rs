//! The workspace tests: one binary.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "functions beside the tests are tests as well: they fail by panicking, and print"
)]

mod agreement;
mod audit;
mod exactness;
mod grid;
mod hostile;
mod inference;
mod paper;
mod pipeline;
mod published;
mod recovery;
mod tidy;
mod transcript;
mod verify;
