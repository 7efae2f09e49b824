//! Workspace tests, and the book's chapters as doctests.
//!
//! The tests proper are in `tests/it`. `book` includes every chapter of the book, so that
//! `cargo test` compiles and runs what readers are told to type.

#[cfg(doctest)]
mod book;
