//! Tests of the crate from outside: hostile bytes, secrets that must be gone when dropped, and times
//! that must not tell them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod decode;
#[cfg(target_os = "linux")]
mod erased;
mod leakage;
