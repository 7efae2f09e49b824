//! The flags of `run`, `report` and `bench`.

use std::path::PathBuf;

use clap::Args;

use super::OutputArgs;
use crate::runner::RunnerArgs;

/// `sphinx run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx run experiments/definitions/synth-quick.toml --out runs/quick
  sphinx run experiments/definitions/mnist-scatter.toml --data ~/data --epsilons 2 --seeds 1,2
  sphinx run experiments/definitions/mnist-scatter.toml --dry-run
  sphinx run my.toml --validate 10000                choose hyper-parameters without the test set

Cells (one budget and one seed each) that are recorded in the folder are skipped, an interrupted
one goes on from its checkpoint; the same command again does what is left.")]
pub struct RunArgs {
    /// The definition, a TOML file
    #[arg(value_name = "DEFINITION")]
    pub definition: PathBuf,
    /// The run directory [default: runs/DATE-NAME, after the definition]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Test on the last N training records, held out, instead of the test set
    #[arg(long, value_name = "N")]
    pub validate: Option<usize>,
    /// List the cells and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What everything that runs a definition shares.
    #[command(flatten)]
    pub runner: RunnerArgs,
}

/// `sphinx report`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  sphinx report experiments/recorded/2026-11-22-mnist-scatter

One row per network, engine and budget: mean, worst and best accuracy over the seeds, mean
seconds. Then one column per run at a server: what a step took, beside the client that trains
alone.")]
pub struct ReportArgs {
    /// Run directories; their records are put together
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sphinx bench`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx bench --json
  sphinx bench --pure-he --json > pure-he.json       the baseline beside paper, about a minute
  sphinx bench --pure-he --from pure-he.json         its tables again
  sphinx bench --ablation                            the paper's optimisations, one by one
  sphinx bench --full-slots                          a step of minionn-cifar10 with all slots in use
  sphinx bench --widths --run-dir widths             from which widths on outsourcing pays

About ten seconds. Each line is a median; ratios are against the plain reference of the same
computation, or against the same step in the clear. For careful measurements: cargo bench.")]
pub struct BenchArgs {
    /// Measure training steps with everything encrypted instead, both styles, beside the engine paper
    #[arg(long, group = "what")]
    pub pure_he: bool,
    /// Print the tables of an earlier measurement (its JSON object) and measure nothing
    #[arg(long, value_name = "FILE", requires = "what")]
    pub from: Option<PathBuf>,
    /// Measure what each optimisation of the published protocol saves instead
    #[arg(long, group = "what")]
    pub ablation: bool,
    /// Measure steps of the engine paper on a narrow minionn-cifar10, a batch of 200 and full slots, and extrapolate
    /// to the whole network
    #[arg(long, group = "what")]
    pub full_slots: bool,
    /// Measure and extrapolate from which width of a layer on outsourcing saves the client work instead
    #[arg(long, group = "what", conflicts_with = "from")]
    pub widths: bool,
    /// With --widths: keep records there, for `sphinx figures`; must not exist
    #[arg(long, value_name = "DIR", requires = "widths")]
    pub run_dir: Option<PathBuf>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}
