//! Placeholder until the runner is wired.
fn main() {}
