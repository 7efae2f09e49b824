//! The workspace tests: what no crate can check alone.

mod tidy;
