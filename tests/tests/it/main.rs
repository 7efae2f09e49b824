//! The workspace tests: one binary.

mod agreement;
mod exactness;
mod hostile;
mod inference;
mod tidy;
mod transcript;
