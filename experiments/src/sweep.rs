//! The experiments under names of their own: a definition from flags, or from a file, and the same
//! runner as `sphinx run`.
//!
//! Without a file, hyper-parameters are those of [`Config::default`], chosen on procedural data of
//! seeds 11 to 13 and kept for all budgets and data sets; all seeds asked for are reported.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, ValueEnum};
use sphinx_dp::AccountantKind;

use crate::cli::{DataArgs, OutputArgs};
use crate::config::{Config, Engine};
use crate::definition::{
    DataPart, Definition, EnginePart, Kind, ModelPart, OptimiserPart, PrivacyPart, RequestsPart,
    TrialsPart,
};
use crate::runner::{self, RunnerArgs};

/// The flags that both experiments share.
#[derive(Clone, Debug, Args)]
pub struct SweepArgs {
    /// The run directory; trials that are recorded there are not run again
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// A definition; what it says is not asked of the other flags
    #[arg(long, value_name = "FILE")]
    pub definition: Option<PathBuf>,
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Who computes the linear layers during training
    #[arg(long, value_enum, default_value = "clear")]
    pub engine: SweepEngine,
    /// Training steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Fewer records and steps: to see that everything works, not for results
    #[arg(long)]
    pub quick: bool,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The engines an experiment can be run on. `clear` computes on the integer grid and gives exactly
/// the trajectory of `packed`, in a fraction of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SweepEngine {
    /// At the client, on the integer grid
    Clear,
    /// At the server, on packed ciphertexts
    Packed,
    /// At the server, by the published protocol
    Paper,
}

impl From<SweepEngine> for Engine {
    fn from(engine: SweepEngine) -> Self {
        match engine {
            SweepEngine::Clear => Self::Clear,
            SweepEngine::Packed => Self::Packed,
            SweepEngine::Paper => Self::Paper,
        }
    }
}

/// Trains once per epsilon and seed; records and draws accuracy against epsilon.
///
/// The default engine computes in the clear on the integer grid: it gives exactly the trajectory
/// of the encrypted engine, in a fraction of the time.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  accuracy-vs-epsilon --out runs/accuracy --epsilons 0.5,1,2,4,8,inf --seeds 1,2,3
  accuracy-vs-epsilon --out runs/mnist --dataset mnist --data ~/data/mnist --engine packed
  accuracy-vs-epsilon --out runs/scatter --definition experiments/definitions/mnist-scatter.toml --data ~/data

Every seed is reported. Trials that are in the run directory already are not run again, and an
interrupted one goes on from its checkpoint."
)]
pub struct AccuracyArgs {
    /// Budgets, with commas between them; `inf` trains without noise
    /// [default: 0.5,1,2,4,8,inf, or those of the definition]
    #[arg(long, value_delimiter = ',', value_name = "E,E,..")]
    pub epsilons: Option<Vec<f64>>,
    /// Seeds, with commas between them [default: 1,2,3, or those of the definition]
    #[arg(long, value_delimiter = ',', value_name = "S,S,..")]
    pub seeds: Option<Vec<u64>>,
    /// The network
    #[arg(long, value_name = "NAME", default_value = "mlp")]
    pub model: String,
    /// What both experiments share.
    #[command(flatten)]
    pub sweep: SweepArgs,
}

/// Trains each network briefly, asks an idle server for predictions, records and draws latencies.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "\
Example:
  latency --out runs/latency --models linear,mlp,mlp-64 --requests 1000

Client and server run on this machine, over the loopback interface: add the round-trip time of
a real network once per linear layer."
)]
pub struct LatencyArgs {
    /// Networks, with commas between them
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "linear,mlp,mlp-64",
        value_name = "M,M,.."
    )]
    pub models: Vec<String>,
    /// Requests per network
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub requests: usize,
    /// Seed of data and weights
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// What both experiments share.
    #[command(flatten)]
    pub sweep: SweepArgs,
}

/// Runs the experiment.
///
/// # Errors
/// Whatever stops a trial; finished trials stay recorded.
pub fn accuracy_vs_epsilon(args: &AccuracyArgs) -> Result<()> {
    let mut runner = runner_args(&args.sweep);
    if let Some(path) = &args.sweep.definition {
        (runner.epsilons, runner.seeds) = (args.epsilons.clone(), args.seeds.clone());
        return runner::run(&Definition::read(path)?, &args.sweep.out, &runner);
    }
    let budgets = args.epsilons.clone();
    let definition = Definition {
        privacy: PrivacyPart {
            epsilons: budgets.unwrap_or_else(|| vec![0.5, 1.0, 2.0, 4.0, 8.0, f64::INFINITY]),
            ..privacy()
        },
        trials: TrialsPart {
            seeds: args.seeds.clone().unwrap_or_else(|| vec![1, 2, 3]),
        },
        ..from_flags("accuracy-vs-epsilon", &args.model, &args.sweep)
    };
    definition.check()?;
    runner::run(&definition, &args.sweep.out, &runner)
}

/// Runs the experiment.
///
/// # Errors
/// Whatever stops a trial; finished trials stay recorded.
pub fn latency(args: &LatencyArgs) -> Result<()> {
    let runner = runner_args(&args.sweep);
    if let Some(path) = &args.sweep.definition {
        return runner::run(&Definition::read(path)?, &args.sweep.out, &runner);
    }
    let definition = Definition {
        kind: Kind::Latency,
        trials: TrialsPart {
            seeds: vec![args.seed],
        },
        requests: Some(RequestsPart {
            count: args.requests,
            models: args.models.clone(),
        }),
        ..from_flags("latency", &Config::default().model, &args.sweep)
    };
    definition.check()?;
    runner::run(&definition, &args.sweep.out, &runner)
}

fn runner_args(args: &SweepArgs) -> RunnerArgs {
    RunnerArgs {
        data: args.data.data.clone(),
        epsilons: None,
        seeds: None,
        output: args.output,
    }
}

fn privacy() -> PrivacyPart {
    let default = Config::default();
    PrivacyPart {
        epsilons: vec![default.epsilon.unwrap_or(f64::INFINITY)],
        delta: default.delta,
        accountant: AccountantKind::Rdp,
    }
}

/// The definition that the flags describe.
fn from_flags(name: &str, model: &str, args: &SweepArgs) -> Definition {
    let default = Config::default();
    let size = |given: Option<usize>, quick: usize| given.or(args.quick.then_some(quick));
    let steps = if args.quick { 10 } else { default.steps };
    Definition {
        name: name.to_owned(),
        about: "from the flags of the command".to_owned(),
        kind: Kind::Accuracy,
        data: DataPart {
            set: args.data.dataset.name().to_owned(),
            train: size(args.data.train_size, 4000),
            test: size(args.data.test_size, 500),
            validation: None,
        },
        model: ModelPart {
            name: model.to_owned(),
        },
        features: crate::inputs::Inputs::default(),
        start: crate::start::Start::default(),
        engine: EnginePart {
            name: args.engine.into(),
            grid: true,
            bias: crate::config::noised(),
        },
        optimiser: OptimiserPart {
            batch: if args.quick { 128.0 } else { default.batch },
            epochs: None,
            steps: Some(args.steps.unwrap_or(steps)),
            lr: default.lr,
            lr_up_to: Vec::new(),
            momentum: default.momentum,
            clip: default.clip.unwrap_or(crate::config::DEFAULT_CLIP),
            warm_up: 0,
            schedule: sphinx_protocol::train::Shape::Constant,
            nesterov: false,
            averaging: sphinx_protocol::train::Averaging::None,
            clipping: crate::learning::Clipping::Flat,
            augmentation: crate::learning::Augmentation::default(),
        },
        privacy: privacy(),
        trials: TrialsPart { seeds: vec![1] },
        requests: None,
        labels: BTreeMap::new(),
    }
}
