//! Workspace tests, and the fixtures and strategies that others may reuse.

pub mod fixture;
