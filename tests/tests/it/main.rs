//! The workspace tests: one binary.

mod agreement;
mod inference;
