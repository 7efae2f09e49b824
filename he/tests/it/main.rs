//! Tests of the crate from outside: hostile bytes, and times that must not tell secrets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod decode;
mod leakage;
