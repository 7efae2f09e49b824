//! One module per command, and the way from a command line to an exit code.

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::output::Output;
use crate::usage::{OrUsage, exit_code, explain};

mod account;
mod bench;
mod calibrate;
mod demo;
mod figures;
mod infer;
mod plan;
mod report;
mod run;
mod serve;
mod train;

pub(crate) use train::facts;

/// Parses the command line, runs the command, reports an error on standard error.
#[must_use]
pub fn main() -> ExitCode {
    finish(run(Cli::parse()))
}

/// The exit code of a finished command, with its error reported.
#[must_use]
pub fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Output::new(true, false).warn(format_args!("error: {}", explain(&error)));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    // The kernels would fall back in silence; a person who names a back end wants that one.
    sphinx_he::simd::Backend::from_environment().or_usage("SPHINX_BACKEND")?;
    match cli.command {
        Command::Account(args) => account::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Figures(args) => figures::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Infer(args) => infer::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Plan(args) => plan::run(&args),
    }
}
