//! The flags that describe a training run, shared by `train` and `plan`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use sphinx_dp::BiasRule;
use sphinx_nn::ImageShape;

use sphinx_protocol::pure_he::Style;
use sphinx_protocol::train::{Averaging, Shape};

use super::{AccountantName, OutputArgs};
use crate::inputs::Inputs;
use crate::layouts::LayoutArgs;
use crate::learning::{Augmentation, Clipping, Learning};

/// Data sets by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dataset {
    /// Procedural digits, no files needed
    SynthDigits,
    /// Handwritten digits, from IDX files
    Mnist,
    /// Articles of clothing, from IDX files
    FashionMnist,
    /// Small colour photographs, from the binary batches, plain, gzip or xz
    Cifar10,
    /// Procedural colour shapes of 32 x 32 pixels, no files needed
    SynthShapes,
}

impl Dataset {
    /// The name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynthDigits => "synth-digits",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
            Self::SynthShapes => "synth-shapes",
        }
    }

    /// Shape of its images.
    #[must_use]
    pub const fn shape(self) -> ImageShape {
        let (channels, side) = match self {
            Self::SynthDigits | Self::Mnist | Self::FashionMnist => (1, 28),
            Self::Cifar10 | Self::SynthShapes => (3, 32),
        };
        ImageShape {
            channels,
            height: side,
            width: side,
        }
    }
}

/// Engines by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// At the client, nothing encrypted
    Clear,
    /// At the server, on packed ciphertexts
    Packed,
    /// The published protocol: at the server, in slots
    Paper,
    /// The baseline: at the server, weights encrypted as well; no privacy budget, networks of a few
    /// thousand weights
    PureHe,
}

/// When the engine pure-he relinearises and rescales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StyleName {
    /// After every product
    Eager,
    /// Once per sum of products
    Lazy,
}

impl From<StyleName> for Style {
    fn from(name: StyleName) -> Self {
        match name {
            StyleName::Eager => Self::Eager,
            StyleName::Lazy => Self::Lazy,
        }
    }
}

/// How biases learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BiasName {
    /// Noised together with the weights, sent encrypted
    Private,
    /// By exact sums of output gradients, as published: no epsilon is proven (engines paper and clear)
    Paper,
}

impl From<BiasName> for BiasRule {
    fn from(name: BiasName) -> Self {
        match name {
            BiasName::Private => Self::Private,
            BiasName::Paper => Self::Paper,
        }
    }
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleName {
    /// Not at all
    Constant,
    /// Along a line to zero
    Linear,
    /// Along half a cosine to zero
    Cosine,
}

/// Where the data comes from.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Which data set
    #[arg(long, value_enum, default_value = "synth-digits")]
    pub dataset: Dataset,
    /// The folder with the data files (not for synth-digits and synth-shapes)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Use only the first N training records
    #[arg(long, value_name = "N")]
    pub train_size: Option<usize>,
    /// Use only the first N test records
    #[arg(long, value_name = "N")]
    pub test_size: Option<usize>,
}

/// What is trained, how, and under which budget.
#[derive(Clone, Debug, Args)]
pub struct TrainingArgs {
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// The network: linear, mlp, mlp-64, mlp-relu, minionn-mnist, minionn-mnist-tanh, minionn-cifar10,
    /// minionn-cifar10-tanh, papernot-tanh, scatter-linear; an engine that cannot carry one says so
    #[arg(long, value_name = "NAME", default_value = "mlp")]
    pub model: String,
    /// For scatter-linear: how far features are decorrelated by procedural images; 0.5 whitens
    #[arg(long, value_name = "POWER", default_value_t = 0.0)]
    pub decorrelation: f64,
    /// For scatter-linear: average the features of an image and of its mirror image
    #[arg(long)]
    pub mirror: bool,
    /// Train on procedural images first, for so many epochs of 60,000: costs no privacy, since no
    /// record is read (not for a procedural data set)
    #[arg(long, value_name = "EPOCHS", default_value_t = 0.0)]
    pub procedural_start: f64,
    /// Who computes the linear layers
    #[arg(long, value_enum, default_value = "packed")]
    pub engine: EngineName,
    /// With --engine pure-he: when products are relinearised and rescaled
    #[arg(long, value_enum, default_value = "lazy")]
    pub style: StyleName,
    /// How biases learn
    #[arg(long, value_enum, default_value = "private")]
    pub bias: BiasName,
    /// With --engine clear: integers, exactly the trajectory of the encrypted engine
    #[arg(long)]
    pub grid: bool,
    /// The largest epsilon of the whole run [default: 8]
    #[arg(long, allow_negative_numbers = true, value_name = "E", conflicts_with_all = ["noise_multiplier", "non_private"])]
    pub epsilon: Option<f64>,
    /// The noise multiplier, instead of an epsilon
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "Z",
        conflicts_with = "non_private"
    )]
    pub noise_multiplier: Option<f64>,
    /// No noise and no guarantee; the float engine does not clip either unless --clip is given
    #[arg(long)]
    pub non_private: bool,
    /// The delta at which epsilon is measured
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "D",
        default_value_t = 1e-5
    )]
    pub delta: f64,
    /// Who prices the run: rdp at every step; pld and moments a plan fixed before the first; gdp gives no bound and is refused
    #[arg(long, value_enum, default_value = "rdp")]
    pub accountant: AccountantName,
    /// With rdp: spend at one order fixed in advance, a filter that covers adaptive runs as well
    #[arg(long)]
    pub renyi_filter: bool,
    /// Bound on the norm of one sample's gradient [default: 1]
    #[arg(long, allow_negative_numbers = true, value_name = "C")]
    pub clip: Option<f64>,
    /// Mean batch size; batches are Poisson samples, padded to a larger public capacity
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "MEAN",
        default_value_t = 512.0
    )]
    pub batch: f64,
    /// Passes over the data, rounded up to whole steps
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        conflicts_with = "steps"
    )]
    pub epochs: Option<f64>,
    /// Training steps [default: 80]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Learning rate
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "L",
        default_value_t = 4.0
    )]
    pub lr: f64,
    /// Momentum, from 0 up to but not including 1 [default: 0.8; none with pure-he]
    #[arg(long, allow_negative_numbers = true, value_name = "M")]
    pub momentum: Option<f64>,
    /// Steps of linear warm-up of the learning rate (float engine)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warm_up: u64,
    /// How the learning rate falls after that (float engine)
    #[arg(long, value_enum, default_value = "constant")]
    pub schedule: ScheduleName,
    /// Nesterov's momentum (float engine)
    #[arg(long)]
    pub nesterov: bool,
    /// The model is the exponential average of the weights with this decay (float engine)
    #[arg(long, value_name = "DECAY", conflicts_with = "tail_average")]
    pub ema: Option<f64>,
    /// The model is the mean of the weights over this last share of the steps (float engine)
    #[arg(long, value_name = "SHARE")]
    pub tail_average: Option<f64>,
    /// With --engine clear --grid: clip the finished gradient of every record, as the engine paper does
    #[arg(long)]
    pub clip_samples: bool,
    /// Clip each layer by itself, to the bound over the root of their number (float engine)
    #[arg(long)]
    pub clip_per_layer: bool,
    /// Learn from so many shifted views of each record, clipping their mean gradient (float engine)
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub views: usize,
    /// Pixels by which a view may be shifted each way
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub view_shift: usize,
    /// Half of the views are mirror images
    #[arg(long)]
    pub view_mirror: bool,
    /// Repeatable data, weights, batches and noise; a known seed protects nothing
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Inference tickets that are prepared at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub tickets: usize,
    /// With --engine packed: check every product that the server returns; the first wrong one ends the run
    /// for good
    #[arg(long)]
    pub verify: bool,
    /// With --engine packed: encryptions of zero kept ready, made while waiting for the server; auto makes
    /// them (in 64 MiB at most) if the server is on another machine and the waiting, measured in two steps, is long
    /// enough
    #[arg(long, value_name = "N|auto", default_value_t = Zeros::Auto)]
    pub zeros: Zeros,
    /// How layouts are chosen.
    #[command(flatten)]
    pub layouts: LayoutArgs,
}

/// Encryptions of zero that are kept ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// As many as pay.
    Auto,
    /// So many.
    Most(usize),
}

impl Zeros {
    /// The number that was asked for.
    #[must_use]
    pub const fn number(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Most(most) => Some(most),
        }
    }
}

impl FromStr for Zeros {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number = text.parse();
        number
            .map(Self::Most)
            .map_err(|_| format!("`{text}`: expected auto or a number"))
    }
}

impl fmt::Display for Zeros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Most(most) => most.fmt(f),
        }
    }
}

impl TrainingArgs {
    /// Features, for a network that takes features.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        Inputs {
            decorrelation: self.decorrelation,
            mirror: self.mirror,
            ..Inputs::default()
        }
    }

    /// Schedule, Nesterov, averages.
    #[must_use]
    pub fn learning(&self) -> Learning {
        Learning {
            warm_up: self.warm_up,
            schedule: match self.schedule {
                ScheduleName::Constant => Shape::Constant,
                ScheduleName::Linear => Shape::Linear { to: 0.0 },
                ScheduleName::Cosine => Shape::Cosine { to: 0.0 },
            },
            nesterov: self.nesterov,
            averaging: match (self.ema, self.tail_average) {
                (Some(decay), _) => Averaging::Ema { decay },
                (_, Some(share)) => Averaging::Tail { share },
                _ => Averaging::None,
            },
            clipping: if self.clip_per_layer {
                Clipping::PerLayer
            } else {
                Clipping::Flat
            },
            augmentation: Augmentation {
                views: self.views,
                shift: self.view_shift,
                mirror: self.view_mirror,
            },
        }
    }
}

/// `sphinx train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx train --epsilon 8 --steps 80
  sphinx train --dataset mnist --data ~/data/mnist --epsilon 2 --epochs 5 --json
  sphinx train --engine clear --grid --seed 1        the oracle of the encrypted engine
  sphinx train --engine paper --steps 3              the published protocol, step by step
  sphinx train --engine paper --bias paper --steps 3 the same, biases as published: no epsilon
  sphinx train --engine pure-he --model linear --batch 64 --train-size 600 --steps 1
  sphinx train --connect 127.0.0.1:7878              with a server started by `sphinx serve`
  sphinx train --engine clear --model scatter-linear --batch 8192 --epochs 60 --lr 8 --clip 0.1
  sphinx train --run-dir my-run --resume             go on with an interrupted run

The run directory holds a checkpoint (safetensors, with the biases in the clear). Going on repeats
the steps since the last one: a run with --seed ends exactly as if it had never stopped; any other
pays for them again from the same budget and ends that many steps earlier.")]
pub struct TrainArgs {
    /// The run.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// The server; without it one is started on this machine for the occasion
    #[arg(long, value_name = "ADDR")]
    pub connect: Option<String>,
    /// Where the run is kept; must not exist [default: a new folder in runs]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Go on with the interrupted run in --run-dir, as it was configured there
    #[arg(long, requires = "run_dir", conflicts_with_all = [
        "dataset", "train_size", "test_size", "model", "decorrelation", "mirror", "procedural_start", "engine", "style", "bias", "grid", "epsilon",
        "noise_multiplier", "non_private", "delta", "clip", "batch", "epochs", "steps", "lr",
        "momentum", "warm_up", "schedule", "nesterov", "ema", "tail_average", "clip_per_layer", "views", "view_shift",
        "view_mirror", "seed",
        "clip_samples",
        "tickets", "accountant", "renyi_filter", "verify", "zeros", "network", "local", "ring",
    ])]
    pub resume: bool,
    /// Steps between checkpoints, 0 for none [default: 1; with --seed 25]
    #[arg(long, value_name = "N")]
    pub checkpoint_every: Option<u64>,
    /// A label for the record, as NAME=VALUE; purpose=time keeps a run that was only to be timed out
    /// of figures of accuracy
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Draw the figures of this run as well
    #[arg(long)]
    pub figures: bool,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A label of a record.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, _)) if crate::report::LABELS.contains(&name) => Err(format!(
            "every record has a label {name}; choose another name"
        )),
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE, such as purpose=time".to_owned()),
    }
}

/// `sphinx plan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx plan --epsilon 2 --model mlp-64 --steps 500
  sphinx plan --model minionn-mnist --batch 500 --clip 0.1 --network wan
  sphinx plan --model minionn-mnist --batch 500 --clip 0.1 --validate 6

Times are predicted from a calibration of a few seconds, so the machine should have nothing else to do.
--validate makes a run of so many steps, at a server of its own, and prints both beside each other.")]
pub struct PlanArgs {
    /// The run.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Choose layouts by what this machine needs for each kind of work, not by constants
    #[arg(long)]
    pub calibrate: bool,
    /// Run N steps as well, on this machine, and compare
    #[arg(long, value_name = "N", conflicts_with = "network")]
    pub validate: Option<u64>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}
