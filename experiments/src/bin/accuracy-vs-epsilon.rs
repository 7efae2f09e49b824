//! The experiment behind the figure of test accuracy against epsilon.

use std::process::ExitCode;

use clap::Parser;
use sphinx_experiments::commands::finish;
use sphinx_experiments::sweep::{AccuracyArgs, accuracy_vs_epsilon};

fn main() -> ExitCode {
    finish(accuracy_vs_epsilon(&AccuracyArgs::parse()))
}
