//! Experiment definitions: one TOML file says everything that a series of trials depends on.
//!
//! ```toml
//! name = "synth-quick"
//! about = "a definition of a few seconds, for tests"
//! kind = "accuracy"
//!
//! [data]
//! set = "synth-digits"
//! train = 2000
//! test = 500
//!
//! [model]
//! name = "linear"
//!
//! [engine]
//! name = "clear"
//!
//! [optimiser]
//! batch = 64.0
//! steps = 30
//! lr = 1.0
//! momentum = 0.5
//! clip = 1.0
//!
//! [privacy]
//! epsilons = [2.0, inf]
//! delta = 1e-5
//! accountant = "rdp"
//!
//! [trials]
//! seeds = [1, 2]
//! ```
//!
//! Cells run in the order written: all seeds of the first budget, then the next. Each cell is a
//! [`Config`], and its hash names the trial; the folder of the data files is not part of it, so that
//! a trial has one name on every machine. An unknown, missing or impossible field is refused by name.
//!
//! ```
//! use sphinx_experiments::definition::Definition;
//!
//! let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/definitions/synth-quick.toml"))?;
//! let definition = Definition::parse("synth-quick.toml", &text)?;
//! let cells = definition.cells(2000, 500)?;
//! assert_eq!(cells.len(), definition.privacy.epsilons.len() * definition.trials.seeds.len());
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sphinx_dp::{AccountantKind, BiasRule};

use crate::config::{Config, Engine, is_noised, noised};
use crate::inputs::Inputs;
use crate::learning::{Augmentation, Clipping, Learning};
use crate::report;
use crate::start::Start;
use crate::usage::{OrUsage, UsageError};

/// What kind of experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Test accuracy, one trial per budget and seed.
    #[default]
    Accuracy,
    /// Online latency of private requests, one trial per network.
    Latency,
}

/// A whole definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Definition {
    /// Name of the experiment, in records and folders.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub about: String,
    /// What is measured.
    #[serde(default)]
    pub kind: Kind,
    /// The records.
    pub data: DataPart,
    /// The network.
    pub model: ModelPart,
    /// What a network on features is given.
    #[serde(default, skip_serializing_if = "Inputs::is_plain")]
    pub features: Inputs,
    /// Where the first weights come from.
    #[serde(default, skip_serializing_if = "Start::is_drawn")]
    pub start: Start,
    /// Who computes.
    pub engine: EnginePart,
    /// How it learns.
    pub optimiser: OptimiserPart,
    /// What it may cost.
    pub privacy: PrivacyPart,
    /// Which repetitions.
    pub trials: TrialsPart,
    /// For latencies: what is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestsPart>,
    /// Labels of its records: what tells its series from another definition's in a figure. They are
    /// not part of a trial's configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The records of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataPart {
    /// Name of the data set.
    pub set: String,
    /// Training records; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Test records; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
    /// Test on so many held-out training records instead, to choose hyper-parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
}

/// The network of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelPart {
    /// Name of the network; some take fixed features instead of images.
    pub name: String,
}

/// The engine of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnginePart {
    /// Its name.
    pub name: Engine,
    /// With `clear`: integers, exactly the trajectory of the encrypted engine.
    #[serde(default)]
    pub grid: bool,
    /// With `clear` and `paper`: how biases learn; by the published rule no epsilon is proven.
    #[serde(default = "noised", skip_serializing_if = "is_noised")]
    pub bias: BiasRule,
}

/// How an experiment learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OptimiserPart {
    /// Mean batch size.
    pub batch: f64,
    /// Passes over the data; or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Training steps; or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Learning rate.
    pub lr: f64,
    /// Learning rates for small budgets: the first entry whose epsilon is not below the cell's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lr_up_to: Vec<RateUpTo>,
    /// Momentum.
    pub momentum: f64,
    /// Bound on the norm of one record's gradient.
    pub clip: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warm_up: u64,
    /// What the learning rate does then.
    #[serde(default)]
    pub schedule: sphinx_protocol::train::Shape,
    /// Nesterov's momentum.
    #[serde(default)]
    pub nesterov: bool,
    /// Which average of the weights is the model.
    #[serde(default)]
    pub averaging: sphinx_protocol::train::Averaging,
    /// What is clipped to the bound.
    #[serde(default)]
    pub clipping: Clipping,
    /// Views of each record; for networks on images.
    #[serde(default)]
    pub augmentation: Augmentation,
}

/// A learning rate for budgets up to some epsilon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateUpTo {
    /// The largest epsilon it is for.
    pub epsilon: f64,
    /// The rate.
    pub lr: f64,
}

/// What an experiment may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacyPart {
    /// The budgets, in the order in which they run; `inf` for no noise.
    pub epsilons: Vec<f64>,
    /// The delta at which they hold.
    pub delta: f64,
    /// Who prices the run.
    pub accountant: AccountantKind,
}

/// The repetitions of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialsPart {
    /// One trial per seed; all are reported.
    pub seeds: Vec<u64>,
}

/// What an experiment on latency asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsPart {
    /// Requests per network.
    pub count: usize,
    /// The networks.
    pub models: Vec<String>,
}

fn refuse(field: &str, problem: impl Into<String>) -> anyhow::Error {
    UsageError::Definition {
        field: field.to_owned(),
        problem: problem.into(),
    }
    .into()
}

impl OptimiserPart {
    /// Checks what no type does.
    fn check(&self) -> Result<()> {
        let positive = |v: f64| v > 0.0 && v.is_finite();
        let above = "must be a number above 0";
        let checks = [
            ("optimiser.batch", positive(self.batch), above),
            ("optimiser.lr", positive(self.lr), above),
            ("optimiser.clip", positive(self.clip), above),
            (
                "optimiser.momentum",
                (0.0..1.0).contains(&self.momentum),
                "must be from 0 up to but not including 1",
            ),
            (
                "optimiser.epochs, optimiser.steps",
                self.epochs.is_some() != self.steps.is_some(),
                "give exactly one of the two",
            ),
            (
                "optimiser.lr-up-to",
                self.lr_up_to
                    .iter()
                    .all(|r| r.epsilon > 0.0 && positive(r.lr)),
                "needs an epsilon and an lr above 0",
            ),
            (
                "optimiser.lr-up-to",
                self.lr_up_to.is_sorted_by(|a, b| a.epsilon < b.epsilon),
                "must be in the order of rising epsilon",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, problem)) => Err(refuse(field, problem)),
            None => Ok(()),
        }
    }
}

impl Definition {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`Self::parse`], or if there is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).or_usage(format!("reading {}", path.display()))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses a definition; `name` is only for messages.
    ///
    /// # Errors
    /// [`UsageError`] with file, field and what was expected.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let definition: Self = toml::from_str(text).or_usage(name)?;
        definition.check().with_context(|| name.to_owned())?;
        Ok(definition)
    }

    /// Checks what no type does.
    ///
    /// # Errors
    /// [`UsageError`] naming the field.
    pub fn check(&self) -> Result<()> {
        let privacy = &self.privacy;
        let named = !self.name.is_empty()
            && (self.name.chars()).all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let checks = [
            (
                "name",
                named,
                "must be letters, digits, `.`, `_` and `-`: it names folders",
            ),
            (
                "privacy.epsilons",
                !privacy.epsilons.is_empty(),
                "names no budget; expected a list such as [2.0, inf]",
            ),
            (
                "privacy.epsilons",
                privacy.epsilons.iter().all(|e| *e > 0.0),
                "must all be above 0; `inf` is without noise",
            ),
            (
                "privacy.delta",
                privacy.delta > 0.0 && privacy.delta < 1.0,
                "must be above 0 and below 1",
            ),
            (
                "trials.seeds",
                !self.trials.seeds.is_empty(),
                "names no seed; expected a list such as [1, 2, 3]",
            ),
            (
                "labels",
                self.labels
                    .keys()
                    .all(|name| !report::LABELS.contains(&name.as_str())),
                "must not be named like a label that every record has, such as `accountant`",
            ),
            (
                "engine.bias",
                is_noised(&self.engine.bias)
                    || matches!(self.engine.name, Engine::Clear | Engine::Paper),
                "by the published rule is for the engines `paper` and `clear`",
            ),
            (
                "requests",
                (self.kind == Kind::Latency) == self.requests.is_some(),
                "belongs to kind = \"latency\", and only there",
            ),
            (
                "requests.count, requests.models",
                self.requests
                    .as_ref()
                    .is_none_or(|r| r.count > 0 && !r.models.is_empty()),
                "must be at least 1",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, problem)) => Err(refuse(field, problem)),
            None => {
                self.optimiser.check()?;
                self.features.check(&self.model.name)?;
                self.start.check(&self.data.set)?;
                self.learning().check("optimiser")
            }
        }
    }

    /// Whether a cell of both, one budget and one seed, would be the same trial: they differ at most
    /// in which budgets and seeds they have.
    #[must_use]
    pub fn has_same_cells(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.about.clone_from(&self.about);
        other.privacy.epsilons.clone_from(&self.privacy.epsilons);
        other.trials.clone_from(&self.trials);
        *self == other
    }

    /// Schedule, Nesterov, averages.
    #[must_use]
    pub const fn learning(&self) -> Learning {
        Learning {
            warm_up: self.optimiser.warm_up,
            schedule: self.optimiser.schedule,
            nesterov: self.optimiser.nesterov,
            averaging: self.optimiser.averaging,
            clipping: self.optimiser.clipping,
            augmentation: self.optimiser.augmentation,
        }
    }

    /// The learning rate at one budget.
    fn lr(&self, epsilon: f64) -> f64 {
        let fitting = self
            .optimiser
            .lr_up_to
            .iter()
            .find(|r| epsilon <= r.epsilon);
        fitting.map_or(self.optimiser.lr, |r| r.lr)
    }

    fn steps(&self, records: usize) -> Result<u64> {
        let Some(epochs) = self.optimiser.epochs else {
            return Ok(self.optimiser.steps.unwrap_or(0));
        };
        let steps = (epochs * records as f64 / self.optimiser.batch).ceil();
        if (1.0..=1e9).contains(&steps) {
            Ok(steps as u64)
        } else {
            Err(refuse(
                "optimiser.epochs",
                format!("give {steps} steps; expected 1 to 10^9"),
            ))
        }
    }

    /// The configuration of one cell, for data of these sizes.
    ///
    /// # Errors
    /// [`UsageError`] for what does not fit together.
    pub fn cell(&self, epsilon: f64, seed: u64, train: usize, test: usize) -> Result<Config> {
        let private = epsilon.is_finite();
        let grid = self.engine.grid || self.engine.name.is_encrypted();
        let published = !is_noised(&self.engine.bias);
        let config = Config {
            engine: self.engine.name,
            grid,
            clip_samples: self.engine.name == Engine::Paper || (published && grid),
            bias: self.engine.bias,
            dataset: self.data.set.clone(),
            data: None,
            train_size: train,
            test_size: test,
            model: self.model.name.clone(),
            features: self.features,
            start: self.start,
            validation: self.data.validation,
            private,
            epsilon: private.then_some(epsilon),
            noise_multiplier: None,
            delta: self.privacy.delta,
            accountant: self.privacy.accountant,
            clip: Some(self.optimiser.clip),
            batch: self.optimiser.batch,
            steps: self.steps(train)?,
            lr: self.lr(epsilon),
            momentum: self.optimiser.momentum,
            learning: self.learning(),
            seed: Some(seed),
            ..Config::default()
        };
        config.check()?;
        Ok(config)
    }

    /// All cells in the order in which they run.
    ///
    /// # Errors
    /// As [`Self::cell`].
    pub fn cells(&self, train: usize, test: usize) -> Result<Vec<Config>> {
        let budgets = self.privacy.epsilons.iter();
        let each = budgets.flat_map(|e| self.trials.seeds.iter().map(move |s| (*e, *s)));
        each.map(|(epsilon, seed)| self.cell(epsilon, seed, train, test))
            .collect()
    }
}

#[cfg(test)]
mod tests;
