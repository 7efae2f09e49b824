//! The experiment behind the figure of online latency.

use std::process::ExitCode;

use clap::Parser;
use sphinx_experiments::commands::finish;
use sphinx_experiments::sweep::{LatencyArgs, latency};

fn main() -> ExitCode {
    finish(latency(&LatencyArgs::parse()))
}
