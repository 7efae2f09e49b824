//! Where a run's first weights come from: drawn, or drawn and then trained on procedural images.
//!
//! Training on images that a program draws, before the first private step, costs no privacy and
//! uses no record of anybody (after Tang, Panda, Sehwag and Mittal, *Differentially Private Image
//! Classification by Learning Priors from Random Processes*, NeurIPS 2023). It is not training from
//! nothing: whoever wrote the program knew what digits look like. Runs that do it say so in
//! their configuration, and their records in the label `start`.
//!
//! Part of a [`Config`] and of a definition. The default leaves no trace in files, so that trials
//! from before keep their names.
//!
//! ```
//! use sphinx_experiments::start::Start;
//!
//! let start: Start = toml::from_str("procedural-epochs = 5.0")?;
//! assert!(!start.is_drawn() && start.check("mnist").is_ok());
//! assert!(start.check("synth-digits").is_err(), "procedural itself");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sphinx_nn::data::{LoadOptions, Split};
use sphinx_protocol::train::Averaging;

use crate::config::{Config, Engine, featured, load_named};
use crate::job::{Begun, Job, Model, Randomness, Unwatched};
use crate::learning::Learning;
use crate::usage::UsageError;

/// Most epochs.
const MAX_EPOCHS: f64 = 1000.0;
/// Images drawn.
const IMAGES: usize = 60_000;
/// Drawn images that are not learned from.
const HELD_OUT: usize = 1000;
/// Told apart from every seed that somebody might give a data set.
const STREAM: u64 = 0x5f1a_7e00_0000_0000;

/// How the first weights are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Start {
    /// Passes over 60,000 procedural images before the first step; 0 for drawn weights as they are.
    pub procedural_epochs: f64,
}

impl Start {
    /// Whether the weights are drawn and nothing more.
    #[must_use]
    pub fn is_drawn(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the number, for a data set of this name.
    ///
    /// # Errors
    /// [`UsageError`], naming the field.
    pub fn check(&self, dataset: &str) -> Result<()> {
        let problem = match (self.is_drawn(), kind(dataset)) {
            (true, _) => return Ok(()),
            (false, None) => format!("{dataset} is procedural itself: train on more of it"),
            _ if self.procedural_epochs > 0.0 && self.procedural_epochs <= MAX_EPOCHS => {
                return Ok(());
            }
            _ => format!("must be from 0 to {MAX_EPOCHS}"),
        };
        Err(UsageError::Definition {
            field: "start.procedural-epochs (--procedural-start)".to_owned(),
            problem,
        }
        .into())
    }

    /// What a run begins with.
    ///
    /// # Errors
    /// Whatever stops the training.
    pub fn find(&self, config: &Config) -> Result<Found> {
        let start = Instant::now();
        let parameters = self.parameters(config)?.map(Arc::new);
        let seconds = start.elapsed().as_secs_f64();
        Ok(Found {
            parameters,
            seconds,
        })
    }

    /// The parameters after training on procedural images; `None` for drawn ones. The same on every
    /// machine for one seed.
    ///
    /// # Errors
    /// Whatever stops the training.
    pub fn parameters(&self, config: &Config) -> Result<Option<Vec<f32>>> {
        let Some(set) = kind(&config.dataset).filter(|_| !self.is_drawn()) else {
            return Ok(None);
        };
        let options = LoadOptions {
            train: Some(IMAGES),
            test: Some(HELD_OUT),
            seed: STREAM ^ config.public_seed(),
        };
        let split: Split = load_named(set, None, &options)?;
        let split = featured(&config.model, &config.features, split)?;
        let before = Self::training(self.procedural_epochs, set, config);
        let randomness = Randomness::new(before.seed);
        let job = Job::new(before, Arc::new(split))?;
        let mut begun = Begun::unkept(job.terms.ledger(None)?);
        let trained = job.train_local(&randomness, &mut begun, &mut Unwatched)?;
        Ok(match trained.model {
            Model::Float(engine) => Some(engine.parameters().to_vec()),
            Model::Grid(_) => None,
        })
    }

    /// How procedural images are learned: in floating point, without noise.
    fn training(epochs: f64, set: &str, config: &Config) -> Config {
        let batch = 256.0;
        Config {
            engine: Engine::Clear,
            grid: false,
            dataset: set.to_owned(),
            train_size: IMAGES,
            test_size: HELD_OUT,
            model: config.model.clone(),
            features: config.features,
            private: false,
            epsilon: None,
            noise_multiplier: None,
            clip: None,
            batch,
            steps: (epochs * IMAGES as f64 / batch).ceil() as u64,
            lr: 0.05,
            momentum: 0.9,
            learning: Learning {
                averaging: Averaging::Tail { share: 0.1 },
                ..Learning::default()
            },
            seed: Some(config.public_seed()),
            ..Config::default()
        }
    }
}

/// First parameters and what it took to find them.
#[derive(Clone, Debug)]
pub struct Found {
    /// The parameters; nothing for the drawn ones.
    pub parameters: Option<Arc<Vec<f32>>>,
    /// Wall seconds of the training on procedural images.
    pub seconds: f64,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_drawn() {
            return f.write_str("drawn");
        }
        write!(f, "procedural images, {} epochs", self.procedural_epochs)
    }
}

/// The procedural images of the same shape.
fn kind(dataset: &str) -> Option<&'static str> {
    match dataset {
        "mnist" | "fashion-mnist" => Some("synth-digits"),
        "cifar10" => Some("synth-shapes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        for epochs in [-1.0, f64::NAN, f64::INFINITY, 1001.0] {
            let start = Start {
                procedural_epochs: epochs,
            };
            let error = start.check("mnist").unwrap_err().to_string();
            assert!(error.contains("procedural-epochs"), "{error}");
        }
    }

    /// A fraction of an epoch teaches, and the same seed teaches the same.
    #[test]
    fn procedural_images_teach() {
        let start = Start {
            procedural_epochs: 0.1,
        };
        let config = Config {
            dataset: "mnist".to_owned(),
            model: "linear".to_owned(),
            seed: Some(3),
            start,
            ..Config::default()
        };
        let first = start.parameters(&config).unwrap().unwrap();
        assert_eq!(start.parameters(&config).unwrap().unwrap(), first);
        let other = Config {
            seed: Some(4),
            ..config
        };
        assert_ne!(start.parameters(&other).unwrap().unwrap(), first);
    }
}
