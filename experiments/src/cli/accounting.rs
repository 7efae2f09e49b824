//! The flags of `account` and `calibrate`, and the names of the accountants.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sphinx_dp::{AccountantKind, Adjacency};

use super::OutputArgs;

/// Which accountant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountantName {
    /// Renyi differential privacy: an upper bound
    Rdp,
    /// The moments accountant of Abadi et al. 2016: a looser upper bound, for comparison
    Moments,
    /// Privacy loss distributions: the tightest, bounds from both sides
    Pld,
    /// Gaussian differential privacy: an estimate, usually too small, never a bound
    Gdp,
}

impl From<AccountantName> for AccountantKind {
    fn from(name: AccountantName) -> Self {
        match name {
            AccountantName::Rdp => Self::Rdp,
            AccountantName::Moments => Self::Moments,
            AccountantName::Pld => Self::Pld,
            AccountantName::Gdp => Self::Gdp,
        }
    }
}

/// Which data sets are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AdjacencyName {
    /// One has one record more
    AddRemove,
    /// They differ in one record
    Replace,
}

impl From<AdjacencyName> for Adjacency {
    fn from(name: AdjacencyName) -> Self {
        match name {
            AdjacencyName::AddRemove => Self::AddRemove,
            AdjacencyName::Replace => Self::ReplaceOne,
        }
    }
}

/// `sphinx account`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx account --sampling-rate 0.00833 --noise-multiplier 1.224 --steps 3000 --delta 1e-5
  sphinx account --sampling-rate 0.01 --noise-multiplier 1 --steps 3000 --delta 1e-5 --json
  sphinx account --sampling-rate 0.01 --noise-multiplier 1 --steps 9000 --delta 1e-5 \\
    --over-steps runs/account

With --json: epsilon (an upper bound; null for gdp, which has none), lower and estimate (null
where the accountant has none), order (the Renyi order used, null where there is none),
accountant, and rdp with --order.")]
pub struct AccountArgs {
    /// The probability with which each record joins a batch
    #[arg(long, allow_negative_numbers = true, value_name = "Q")]
    pub sampling_rate: f64,
    /// Noise standard deviation divided by the clip bound
    #[arg(long, allow_negative_numbers = true, value_name = "Z")]
    pub noise_multiplier: f64,
    /// Number of steps
    #[arg(long, value_name = "T")]
    pub steps: u64,
    /// The delta at which epsilon is wanted
    #[arg(long, allow_negative_numbers = true, value_name = "D")]
    pub delta: f64,
    /// Which accountant [default: pld, and rdp where pld has no answer]
    #[arg(long, value_enum)]
    pub accountant: Option<AccountantName>,
    /// Which data sets are neighbours
    #[arg(long, value_enum, default_value = "add-remove")]
    pub adjacency: AdjacencyName,
    /// Also write epsilon against steps, up to --steps, by every accountant, into this new run
    /// directory, from which `sphinx figures` draws
    #[arg(long, value_name = "DIR")]
    pub over_steps: Option<PathBuf>,
    /// Print the Renyi divergence of one step at this order as well
    #[arg(long, allow_negative_numbers = true, value_name = "A")]
    pub order: Option<f64>,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sphinx calibrate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sphinx calibrate --epsilon 2 --delta 1e-5 --sampling-rate 0.00833 --steps 3000
  sphinx calibrate --epsilon 2 --delta 1e-5 --sampling-rate 0.00833 --noise-multiplier 1.3
  sphinx calibrate --epsilon 2 --delta 1e-5 --steps 3000 --noise-multiplier 1.3

Two of sampling rate, steps and noise multiplier are given; the third is found, on the safe side of
the budget to one part in a million.")]
pub struct CalibrateArgs {
    /// The largest epsilon of the whole run
    #[arg(long, allow_negative_numbers = true, value_name = "E")]
    pub epsilon: f64,
    /// The delta at which it is measured
    #[arg(long, allow_negative_numbers = true, value_name = "D")]
    pub delta: f64,
    /// The probability with which each record joins a batch
    #[arg(long, allow_negative_numbers = true, value_name = "Q")]
    pub sampling_rate: Option<f64>,
    /// Number of steps
    #[arg(long, value_name = "T")]
    pub steps: Option<u64>,
    /// Noise standard deviation divided by the clip bound, to find steps or sampling rate
    #[arg(long, allow_negative_numbers = true, value_name = "Z")]
    pub noise_multiplier: Option<f64>,
    /// Which accountant [default: pld, and rdp where pld has no answer]
    #[arg(long, value_enum)]
    pub accountant: Option<AccountantName>,
    /// Which data sets are neighbours
    #[arg(long, value_enum, default_value = "add-remove")]
    pub adjacency: AdjacencyName,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}
