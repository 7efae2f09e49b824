//! What was asked, resolved: every default filled in, epochs turned into steps, nothing implied.
//!
//! A [`Config`] is written into the run directory as `config.toml`, and its hash names the trial:
//! same configuration, same trial. [`load_split`] reads the data it names, [`load_for`] those of a
//! configuration.
//!
//! ```
//! use sphinx_experiments::config::{Config, Engine};
//!
//! let config = Config { steps: 40, engine: Engine::Clear, grid: true, ..Config::default() };
//! let text = toml::to_string(&config)?;
//! assert_eq!(toml::from_str::<Config>(&text)?, config);
//! assert_eq!(config.trial_id().len(), 12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sphinx_dp::{AccountantKind, BiasRule};
use sphinx_nn::data::{self, LoadOptions, Split};
use sphinx_nn::{Architecture, ImageShape, architectures, features};
use sphinx_protocol::pure_he::Style;

use crate::cli::{BiasName, DataArgs, EngineName, TrainingArgs};
pub use crate::inputs::Inputs;
use crate::layouts::Layouts;
pub use crate::learning::Learning;
pub use crate::start::Start;
use crate::usage::{OrUsage, UsageError};

/// Epsilon when nothing else is said.
pub const DEFAULT_EPSILON: f64 = 8.0;
/// Steps when nothing else is said.
pub const DEFAULT_STEPS: u64 = 80;
/// Momentum when nothing else is said, but by `pure-he`, which keeps none.
pub const DEFAULT_MOMENTUM: f64 = 0.8;
/// Clip bound when nothing else is said.
pub const DEFAULT_CLIP: f64 = 1.0;

/// The engines of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// At the client.
    Clear,
    /// At the server, on packed ciphertexts.
    Packed,
    /// At the server, one ciphertext per feature: the published protocol.
    Paper,
    /// At the server, weights encrypted as well: the baseline, without privacy of the model.
    PureHe,
}

impl Engine {
    /// The name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Packed => "packed",
            Self::Paper => "paper",
            Self::PureHe => "pure-he",
        }
    }

    /// Whether a server computes.
    #[must_use]
    pub const fn has_server(self) -> bool {
        !matches!(self, Self::Clear)
    }

    /// Whether a server computes on exact ciphertexts, and so on the integer grid.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Packed | Self::Paper)
    }
}

/// A training run, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who computes the linear layers.
    pub engine: Engine,
    /// Integer arithmetic; always true for the engines at a server.
    pub grid: bool,
    /// Name of the data set.
    pub dataset: String,
    /// Folder of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Training records.
    pub train_size: usize,
    /// Test records.
    pub test_size: usize,
    /// Test on so many training records, held out from training, and not on the test set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Name of the network.
    pub model: String,
    /// The features of a network that takes features.
    #[serde(default, skip_serializing_if = "Inputs::is_plain")]
    pub features: Inputs,
    /// Where the first weights come from.
    #[serde(default, skip_serializing_if = "Start::is_drawn")]
    pub start: Start,
    /// Whether noise is added.
    pub private: bool,
    /// The budget, unless the noise was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// The noise multiplier, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
    /// The delta at which epsilon is measured.
    pub delta: f64,
    /// Who prices the run.
    #[serde(default = "renyi", skip_serializing_if = "is_renyi")]
    pub accountant: AccountantKind,
    /// Spend at one Renyi order fixed in advance, which also covers steps chosen as the run goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renyi_filter: bool,
    /// The clip bound; without one the float engine does not clip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Mean batch size, also the divisor of gradient sums.
    pub batch: f64,
    /// Training steps.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// Schedule, Nesterov, averages.
    #[serde(default, skip_serializing_if = "Learning::is_plain")]
    pub learning: Learning,
    /// Seed of a repeatable run; without one, batches and noise are secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Inference tickets that are prepared at once.
    pub tickets: usize,
    /// Clip the finished gradient of every record and not its factors; always true for
    /// [`Engine::Paper`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clip_samples: bool,
    /// How biases learn: noised with the weights, or by the published rule, for which no epsilon is proven.
    #[serde(default = "noised", skip_serializing_if = "is_noised")]
    pub bias: BiasRule,
    /// With [`Engine::Packed`]: how layouts are chosen.
    #[serde(default, skip_serializing_if = "Layouts::is_plain")]
    pub layouts: Layouts,
    /// With [`Engine::PureHe`]: when products are relinearised and rescaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
    /// With [`Engine::Packed`]: check every product that the server returns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify: bool,
    /// With [`Engine::Packed`]: encryptions of zero kept ready; without a number, as many as pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zeros: Option<usize>,
}

/// The accountant when nothing else is said; left out of files, where it was before it had a name.
const fn renyi() -> AccountantKind {
    AccountantKind::Rdp
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_renyi(kind: &AccountantKind) -> bool {
    *kind == renyi()
}

/// The rule of biases when nothing else is said; left out of files.
pub(crate) const fn noised() -> BiasRule {
    BiasRule::Private
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
pub(crate) fn is_noised(rule: &BiasRule) -> bool {
    *rule == noised()
}

/// Hyper-parameters were chosen for the network `mlp` on synth-digits of seeds 11 to 13, at epsilon
/// 2 and 8, within a range found on seed 1.
impl Default for Config {
    fn default() -> Self {
        Self {
            engine: Engine::Packed,
            grid: true,
            dataset: "synth-digits".to_owned(),
            data: None,
            train_size: 60_000,
            test_size: 10_000,
            validation: None,
            model: "mlp".to_owned(),
            features: Inputs::default(),
            start: Start::default(),
            private: true,
            epsilon: Some(DEFAULT_EPSILON),
            noise_multiplier: None,
            delta: 1e-5,
            accountant: renyi(),
            renyi_filter: false,
            clip: Some(DEFAULT_CLIP),
            batch: 512.0,
            steps: DEFAULT_STEPS,
            lr: 4.0,
            momentum: 0.8,
            learning: Learning::default(),
            seed: None,
            tickets: 32,
            clip_samples: false,
            bias: noised(),
            layouts: Layouts::default(),
            style: None,
            verify: false,
            zeros: None,
        }
    }
}

impl Config {
    /// Fills in what the flags leave open, for data of these sizes.
    ///
    /// # Errors
    /// [`UsageError`] for engines of other versions and for impossible combinations.
    pub fn resolve(args: &TrainingArgs, train_size: usize, test_size: usize) -> Result<Self> {
        let engine = Engine::from(args.engine);
        let published = args.bias == BiasName::Paper;
        let grid = args.grid || engine.is_encrypted();
        let private = private(args, engine)?;
        let epsilon = match (private, args.noise_multiplier) {
            (true, None) => Some(args.epsilon.unwrap_or(DEFAULT_EPSILON)),
            _ => None,
        };
        let config = Self {
            engine,
            grid,
            dataset: args.data.dataset.name().to_owned(),
            data: args.data.data.clone(),
            train_size,
            test_size,
            validation: None,
            model: args.model.clone(),
            features: args.inputs(),
            start: Start {
                procedural_epochs: args.procedural_start,
            },
            private,
            epsilon,
            noise_multiplier: args.noise_multiplier,
            delta: args.delta,
            accountant: args.accountant.into(),
            renyi_filter: args.renyi_filter,
            clip: args.clip.or((private || grid).then_some(DEFAULT_CLIP)),
            batch: args.batch,
            steps: steps(args, train_size)?,
            lr: args.lr,
            momentum: args.momentum.unwrap_or(match engine {
                Engine::PureHe => 0.0,
                _ => DEFAULT_MOMENTUM,
            }),
            learning: args.learning(),
            seed: args.seed,
            tickets: args.tickets,
            clip_samples: args.clip_samples || engine == Engine::Paper || (published && grid),
            bias: args.bias.into(),
            layouts: args.layouts.layouts(),
            style: (engine == Engine::PureHe).then_some(args.style.into()),
            verify: args.verify,
            zeros: args.zeros.number(),
        };
        config.check()?;
        Ok(config)
    }

    /// Checks every number that no lower layer checks.
    ///
    /// # Errors
    /// [`UsageError`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let checks = [
            ("--steps", self.steps > 0, "must be at least 1"),
            ("--train-size", self.train_size > 0, "must be at least 1"),
            ("--test-size", self.test_size > 0, "must be at least 1"),
            ("--tickets", self.tickets > 0, "must be at least 1"),
            (
                "--lr",
                self.lr > 0.0 && self.lr.is_finite(),
                "must be a positive number",
            ),
            (
                "--momentum",
                (0.0..1.0).contains(&self.momentum),
                "must be in 0..1",
            ),
            (
                "--clip",
                self.clip.is_none_or(|c| c > 0.0 && c.is_finite()),
                "must be positive",
            ),
            (
                "--renyi-filter",
                !self.renyi_filter || self.accountant == AccountantKind::Rdp,
                "is a filter of the accountant rdp",
            ),
            (
                "--accountant",
                !self.private || self.accountant.is_bound(),
                "gdp is an estimate that may lie below the truth; a run is priced by rdp, pld or \
                 moments",
            ),
        ];
        let mut checks = checks.into_iter().chain(self.engine_checks());
        let failed = checks.find(|(_, holds, _)| !holds);
        match failed {
            Some((flag, _, problem)) => Err(UsageError::flag(flag, problem)),
            None if !architectures::list().contains(&self.model.as_str()) => {
                Err(self.unknown_model())
            }
            None => {
                self.features.check(&self.model)?;
                self.start.check(&self.dataset)?;
                if self.learning.augmentation.views > 0 && features::of_model(&self.model).is_some()
                {
                    let field = "optimiser.augmentation".to_owned();
                    let problem = format!("views are of images; {} is given features", self.model);
                    return Err(UsageError::Definition { field, problem }.into());
                }
                match self.grid {
                    true => self.learning.check_integer(),
                    false => self.learning.check("optimiser"),
                }
            }
        }
    }

    /// What only some engines can do: the flag, whether it is used as it can be, and what is wrong else.
    fn engine_checks(&self) -> [(&'static str, bool, &'static str); 11] {
        let published = self.bias == BiasRule::Paper;
        [
            (
                "--bias paper",
                !published || self.engine != Engine::Packed,
                "packed keeps biases at the client, and its server never has the output gradients of single records \
                 in slots to sum; the published rule is that of --engine paper, and of clear, its twin",
            ),
            (
                "--bias paper",
                !published || self.engine != Engine::PureHe,
                "pure-he updates encrypted weights and biases alike, without noise: there are no two rules; the \
                 published one is that of --engine paper, and of clear, its twin",
            ),
            (
                "--bias paper",
                !published || self.learning.augmentation.views == 0,
                "sums the gradients of records as they are; it knows no --views",
            ),
            (
                "--clip-samples",
                !self.clip_samples || (self.grid && self.engine != Engine::Packed),
                "is what the engine paper does, and clear with --grid if asked; packed clips factors",
            ),
            (
                "--momentum",
                self.engine != Engine::PureHe || self.momentum == 0.0,
                "pure-he keeps no velocities under encryption; leave it out, or say 0",
            ),
            (
                "--clip",
                self.engine != Engine::PureHe || self.clip.is_none(),
                "pure-he cannot clip: the server adds gradients that nobody decrypts",
            ),
            (
                "--grid",
                self.engine != Engine::PureHe || !self.grid,
                "pure-he computes approximately, near the float engine and not on the grid",
            ),
            (
                "--verify",
                !self.verify || self.engine == Engine::Packed,
                "checks the products of the engine packed; no other has checks",
            ),
            (
                "--local, --network and --ring",
                self.layouts.is_plain() || self.engine == Engine::Packed,
                "are about the ciphertexts of the engine packed",
            ),
            (
                "--zeros",
                self.zeros.unwrap_or(0) == 0 || self.engine == Engine::Packed,
                "are made ahead for the uploads of packed; paper always makes them ahead",
            ),
            (
                "--zeros",
                self.zeros.unwrap_or(0) <= 1 << 14,
                "may be 16384 at most: a gigabyte",
            ),
        ]
    }

    fn unknown_model(&self) -> anyhow::Error {
        let known = architectures::list().join(", ");
        let problem = format!("unknown network {:?}; known: {known}", self.model);
        UsageError::flag("--model", problem)
    }

    /// The network for images of this shape.
    ///
    /// # Errors
    /// [`UsageError`] for an unknown name.
    pub fn architecture(&self, input: ImageShape, classes: usize) -> Result<Architecture> {
        architectures::by_name(&self.model, input, classes).ok_or_else(|| self.unknown_model())
    }

    /// Seed of the public initial weights and of procedural data.
    #[must_use]
    pub fn public_seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// `float` or `grid`.
    #[must_use]
    pub const fn arithmetic(&self) -> &'static str {
        if self.grid { "grid" } else { "float" }
    }

    /// Names the trial: twelve hexadecimal digits of the hash of everything above.
    #[must_use]
    pub fn trial_id(&self) -> String {
        // A struct of plain fields always has a text.
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&text)[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Clear => Self::Clear,
            EngineName::Packed => Self::Packed,
            EngineName::Paper => Self::Paper,
            EngineName::PureHe => Self::PureHe,
        }
    }
}

/// Whether a run adds noise. The baseline never does, and says so to whoever asks for a budget.
fn private(args: &TrainingArgs, engine: Engine) -> Result<bool> {
    let asked = args.epsilon.is_some() || args.noise_multiplier.is_some();
    if engine == Engine::PureHe && asked {
        let problem = "pure-he releases nothing, so there is nothing to add noise to: its model has no \
                       privacy guarantee; leave the budget out";
        return Err(UsageError::flag("--epsilon, --noise-multiplier", problem));
    }
    Ok(!args.non_private && engine != Engine::PureHe)
}

fn steps(args: &TrainingArgs, train_size: usize) -> Result<u64> {
    let Some(epochs) = args.epochs else {
        return Ok(args.steps.unwrap_or(DEFAULT_STEPS));
    };
    let steps = (epochs * train_size as f64 / args.batch).ceil();
    if (1.0..=1e9).contains(&steps) {
        Ok(steps as u64)
    } else {
        let problem = format!(
            "{epochs} epochs of batches of {} are {steps} steps",
            args.batch
        );
        Err(UsageError::flag("--epochs", problem))
    }
}

/// Loads the data that the flags name.
///
/// # Errors
/// [`UsageError`], naming folder and files, if they are missing or malformed.
pub fn load_split(args: &DataArgs, seed: u64) -> Result<Split> {
    let options = LoadOptions {
        train: args.train_size,
        test: args.test_size,
        seed,
    };
    load_named(args.dataset.name(), args.data.as_deref(), &options)
}

/// Loads all that a configuration names, turned into its features; `folder` may say where the data
/// files are now.
///
/// # Errors
/// As [`load_split`]; [`UsageError`] for features that do not fit the images.
pub fn load_for(config: &Config, folder: Option<&Path>) -> Result<Arc<Split>> {
    let held_out = config.validation.unwrap_or(0);
    let options = LoadOptions {
        train: Some(config.train_size + held_out),
        test: Some(if held_out > 0 { 1 } else { config.test_size }),
        seed: config.public_seed(),
    };
    let folder = folder.or(config.data.as_deref());
    let split = load_named(&config.dataset, folder, &options)?;
    let split = hold_out(split, held_out);
    Ok(Arc::new(featured(&config.model, &config.features, split)?))
}

/// The split as the network sees it: features in the place of images, for networks on features.
///
/// # Errors
/// [`UsageError`] for images that the features cannot be computed of.
pub fn featured(model: &str, inputs: &Inputs, split: Split) -> Result<Split> {
    match inputs.settings(model) {
        Some(settings) => {
            features::prepare_with(settings, &split).or_usage(format!("the features of {model}"))
        }
        None => Ok(split),
    }
}

/// Loads the test records of a finished run.
///
/// # Errors
/// As [`load_for`].
pub fn load_test(config: &Config, folder: Option<&Path>) -> Result<data::Dataset> {
    // Held-out records are the last of the training set; otherwise one training record will do.
    let train_size = config.validation.map_or(1, |_| config.train_size);
    let least = Config {
        train_size,
        ..config.clone()
    };
    let split = load_for(&least, folder)?;
    Ok(split.test.clone())
}

/// The split with its last `records` training records in the place of the test records.
#[must_use]
pub fn hold_out(split: Split, records: usize) -> Split {
    if records == 0 {
        return split;
    }
    let all = split.train;
    let cut = all.len().saturating_sub(records);
    let part = |rows: std::ops::Range<usize>| {
        let positions: Vec<u32> = rows.clone().map(|i| i as u32).collect();
        data::Dataset {
            name: all.name.clone(),
            shape: all.shape,
            classes: all.classes,
            images: all.images.gather(&positions, positions.len()),
            labels: all.labels[rows].to_vec(),
        }
    };
    Split {
        train: part(0..cut),
        test: part(cut..all.len()),
    }
}

/// Loads a data set by name; without a folder, files are looked for where the environment variable
/// `SPHINX_DATA` says.
///
/// # Errors
/// As [`load_split`].
pub fn load_named(name: &str, folder: Option<&Path>, options: &LoadOptions) -> Result<Split> {
    let procedural = name.starts_with("synth-");
    let elsewhere = std::env::var_os("SPHINX_DATA").map(PathBuf::from);
    let folder = folder.or(elsewhere.as_deref()).filter(|_| !procedural);
    if !procedural && folder.is_none() {
        let problem = format!(
            "the data set {name} is read from files: name their folder, or set SPHINX_DATA"
        );
        return Err(UsageError::flag("--data", problem));
    }
    if options.train == Some(0) || options.test == Some(0) {
        return Err(UsageError::flag(
            "--train-size, --test-size",
            "must be at least 1",
        ));
    }
    data::load(name, folder, options).or_usage(format!("loading {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_follows_the_configuration() {
        let one = Config::default();
        assert_eq!(one.trial_id(), one.clone().trial_id());
        assert_ne!(
            one.trial_id(),
            Config {
                lr: 0.5,
                ..one.clone()
            }
            .trial_id()
        );
        assert_ne!(
            one.trial_id(),
            Config {
                seed: Some(1),
                ..one.clone()
            }
            .trial_id()
        );
    }

    #[test]
    fn held_out_records_are_the_last_and_in_no_other_part() {
        let options = LoadOptions {
            train: Some(10),
            test: Some(2),
            seed: 3,
        };
        let whole = load_named("synth-digits", None, &options).unwrap();
        let split = hold_out(whole.clone(), 4);
        assert_eq!((split.train.len(), split.test.len()), (6, 4));
        assert_eq!(split.train.images.row(5), whole.train.images.row(5));
        assert_eq!(split.test.images.row(0), whole.train.images.row(6));
        assert_eq!(split.test.labels, whole.train.labels[6..]);
        assert_eq!(hold_out(whole.clone(), 0), whole);
    }

    #[test]
    fn an_unknown_network_names_the_known_ones() {
        let config = Config {
            model: "resnet".into(),
            ..Config::default()
        };
        let shape = ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        };
        let error = config.architecture(shape, 10).unwrap_err().to_string();
        assert!(error.contains("mlp-64"), "{error}");
    }
}
