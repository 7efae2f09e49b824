//! Tests of the crate from outside: hostile bytes, and times that must not tell secrets.

mod decode;
mod leakage;
