//! The workspace tests: one binary.

mod agreement;
mod inference;
mod exactness;
mod transcript;
