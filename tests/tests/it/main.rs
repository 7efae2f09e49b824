//! The workspace tests: one binary.

mod agreement;
mod exactness;
mod inference;
mod tidy;
mod transcript;
