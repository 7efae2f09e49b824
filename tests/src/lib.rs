//! Workspace tests, the fixtures and strategies that others may reuse, and the book as doctests.
//!
//! The tests proper are in `tests/it`. `book` includes every chapter of the book, so that
//! `cargo test` compiles and runs what readers are told to type.

#[cfg(doctest)]
mod book;
#[expect(clippy::expect_used, reason = "shapes are right by construction")]
pub mod canary;
#[expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a setting that does not hold should stop the test that made it"
)]
pub mod fixture;
