//! The workspace tests: one binary.

mod agreement;
