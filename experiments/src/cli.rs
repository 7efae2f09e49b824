//! The command line: what can be asked, in the words of its help.
//!
//! Flags are a contract with scripts: they are added, not changed. Values are checked where they
//! are used, so that a message can name the file or the budget; clap checks spelling and types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod accounting;
mod experiments;
mod training;

pub use accounting::{AccountArgs, AccountantName, AdjacencyName, CalibrateArgs};
pub use experiments::{BenchArgs, ReportArgs, RunArgs};
pub use training::{
    BiasName, DataArgs, Dataset, EngineName, PlanArgs, StyleName, TrainArgs, TrainingArgs,
};

const EXAMPLES: &str = "\
Examples:
  sphinx demo                             the whole story in half a minute
  sphinx train --epsilon 2 --steps 100    private training under encryption
  sphinx train --engine clear --grid --epsilon 2 --steps 100
                                          the same integers without encryption
  sphinx infer --run runs/2026-01-31T12-00-00Z-train-packed
  sphinx run experiments/definitions/mnist-scatter.toml --data DIR
  sphinx account --sampling-rate 0.01 --noise-multiplier 1.1 --steps 3000 --delta 1e-5

Exit codes: 0 success, 2 bad usage or input, 1 failure.";

/// Train and query a neural network at a server that must not see the data.
#[derive(Debug, Parser)]
#[command(name = "sphinx", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train under encryption, answer private requests meanwhile, compare with training in the clear
    Demo(DemoArgs),
    /// Train a network with differential privacy
    Train(TrainArgs),
    /// Ask a trained network for private predictions
    Infer(InferArgs),
    /// Be the server
    Serve(ServeArgs),
    /// Print what a training run would do, without running it
    Plan(PlanArgs),
    /// Price a run of DP-SGD: epsilon from noise
    Account(AccountArgs),
    /// Find the noise multiplier (or steps, or sampling rate) that fits a budget
    Calibrate(CalibrateArgs),
    /// Carry out an experiment from its definition, or what is left of it
    Run(RunArgs),
    /// Print tables of accuracies from the records of run directories
    Report(ReportArgs),
    /// Draw all figures that the records of run directories allow
    Figures(FiguresArgs),
    /// Measure this machine: transform, steps, a request, accountants, beside their slow twins
    Bench(BenchArgs),
}

/// How results are told.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// Print exactly one JSON object on standard output; everything else goes to standard error
    #[arg(long)]
    pub json: bool,
    /// No progress and no remarks
    #[arg(long, short)]
    pub quiet: bool,
}

/// `sphinx demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx demo
  sphinx demo --json > demo.json
  sphinx demo --dataset mnist --data ~/data/mnist --steps 80

Starts a server of its own on this machine. The noise is seeded so that the demo can be repeated;
seeded noise protects nothing: use --secret-randomness for data that matters.")]
pub struct DemoArgs {
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Training steps
    #[arg(long, value_name = "N", default_value_t = 80)]
    pub steps: u64,
    /// Who prices the run
    #[arg(long, value_enum, default_value = "rdp")]
    pub accountant: AccountantName,
    /// Seed of data, initial weights, batches and noise
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Draw batches and noise from the operating system instead of the seed
    #[arg(long)]
    pub secret_randomness: bool,
    /// Where figures go; without it, `figures` in the run directory
    #[arg(long, value_name = "DIR")]
    pub figures: Option<PathBuf>,
    /// Where the run is kept; must not exist
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sphinx infer`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx infer --run runs/2026-01-31T12-00-00Z-train-packed
  sphinx infer --run my-run --requests 1000 --connect 127.0.0.1:7878 --json")]
pub struct InferArgs {
    /// The run directory of a training run on the integer grid
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// The server; without it one is started on this machine for the occasion
    #[arg(long, value_name = "ADDR")]
    pub connect: Option<String>,
    /// How many test images to ask about, one by one
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub requests: usize,
    /// The folder of the data files, if it has moved since training
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the records are kept; must not exist
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sphinx serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx serve
  sphinx serve --listen 127.0.0.1:0 --json

This version has no TLS. Ciphertexts hide the data, but anyone on the path could change them, so
an address that other machines can reach is refused unless --plain-network accepts that.")]
pub struct ServeArgs {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7878")]
    pub listen: String,
    /// Allow an address that other machines can reach, without TLS
    #[arg(long)]
    pub plain_network: bool,
    /// Memory for ciphertexts and prepared weights of all models in use; more are refused
    #[arg(long, value_name = "GIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub memory: u32,
    /// Leave when standard input ends: the parent process is gone
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sphinx figures`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  sphinx figures runs/2026-01-31T12-00-00Z-demo-packed --out figures")]
pub struct FiguresArgs {
    /// Run directories; their records are drawn together
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Where figures go; without it, `figures` in the (only) run directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
