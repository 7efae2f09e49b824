//! From experiment records to figures.
//!
//! This crate owns the only schema of experiment records ([`record`]) and turns files of them
//! into statistics and figures. It is a leaf: it knows no other crate of the workspace.

pub mod load;
pub mod record;
