//! How a run learns beyond a learning rate and a momentum: schedule, Nesterov, averages, clipping.
//!
//! Part of a [`Config`](crate::config::Config) and of a definition. The defaults are those of a plain
//! run and leave no trace in files, so that trials from before keep their names.
//!
//! ```
//! use sphinx_experiments::learning::Learning;
//!
//! let text = "warm-up = 10\nschedule = { shape = \"cosine\", to = 0.1 }\naveraging = { kind = \"ema\", decay = 0.99 }";
//! let learning: Learning = toml::from_str(text)?;
//! assert!(!learning.is_plain() && learning.check("optimiser").is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sphinx_nn::augment::AugmentSettings;
use sphinx_protocol::train::{Averaging, Shape};

use crate::usage::UsageError;

/// Most views: the rows of a batch are as many times more.
const MAX_VIEWS: usize = 64;
/// Farthest shift, in pixels.
const MAX_SHIFT: usize = 16;

/// What is clipped to the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clipping {
    /// The gradient of one record over all layers jointly.
    #[default]
    Flat,
    /// Every layer's part by itself, each to the bound over the root of their number: jointly they
    /// are within the bound (McMahan et al., arXiv:1812.06210, section 3.1).
    PerLayer,
}

/// Which views of each record are learned from in its place, their mean gradient clipped once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Augmentation {
    /// Views per record and step; 0 for the record itself.
    pub views: usize,
    /// Pixels by which a view may be shifted each way.
    pub shift: usize,
    /// Whether half of the views are mirror images.
    pub mirror: bool,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            views: 0,
            shift: 1,
            mirror: false,
        }
    }
}

impl Augmentation {
    /// The settings of the views, if there are any.
    #[must_use]
    pub fn settings(&self) -> Option<AugmentSettings> {
        (self.views > 0).then_some(AugmentSettings {
            multiplicity: self.views,
            padding: self.shift,
            flip: self.mirror,
        })
    }
}

/// Schedule, Nesterov, averages, clipping and augmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Learning {
    /// Steps of linear warm-up.
    pub warm_up: u64,
    /// What the learning rate does after the warm-up.
    pub schedule: Shape,
    /// Nesterov's momentum instead of Polyak's.
    pub nesterov: bool,
    /// Which average of the weights is the model.
    pub averaging: Averaging,
    /// What is clipped.
    pub clipping: Clipping,
    /// Views of each record.
    #[serde(skip_serializing_if = "is_off")]
    pub augmentation: Augmentation,
}

/// Whether records are learned from as they are: left out of files, as before there were views.
fn is_off(augmentation: &Augmentation) -> bool {
    *augmentation == Augmentation::default()
}

impl Learning {
    /// Constant rate, Polyak's momentum, last iterate, flat clipping.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Checks every number; `place` names where they were written.
    ///
    /// # Errors
    /// [`UsageError`], naming the field.
    pub fn check(&self, place: &str) -> Result<()> {
        let refuse = |field: &str, expected: &str| -> Result<()> {
            Err(UsageError::Definition {
                field: format!("{place}.{field}"),
                problem: expected.to_owned(),
            }
            .into())
        };
        let share = |to: f64| (0.0..=1.0).contains(&to);
        if self.augmentation.views > MAX_VIEWS {
            return refuse("augmentation.views", "must be at most 64");
        }
        if self.augmentation.shift > MAX_SHIFT {
            return refuse("augmentation.shift", "must be at most 16 pixels");
        }
        match self.schedule {
            Shape::Linear { to } | Shape::Cosine { to } if !share(to) => {
                return refuse("schedule.to", "must be a share from 0 to 1");
            }
            Shape::Step { every: 0, .. } => {
                return refuse("schedule.every", "must be at least 1 step");
            }
            Shape::Step { factor, .. } if !(factor > 0.0 && factor.is_finite()) => {
                return refuse("schedule.factor", "must be a number above 0");
            }
            _ => {}
        }
        match self.averaging {
            Averaging::Ema { decay } if !(0.0..1.0).contains(&decay) => refuse(
                "averaging.decay",
                "must be from 0 up to but not including 1",
            ),
            Averaging::Tail { share } if !(share > 0.0 && share <= 1.0) => {
                refuse("averaging.share", "must be above 0 and at most 1")
            }
            _ => Ok(()),
        }
    }

    /// The integer engines update both parties' weights by one constant rule.
    ///
    /// # Errors
    /// [`UsageError`] for anything else.
    pub fn check_integer(&self) -> Result<()> {
        if self.is_plain() {
            return Ok(());
        }
        Err(UsageError::Definition {
            field: "schedule, warm-up, nesterov, averaging, clipping, augmentation".to_owned(),
            problem: "only the float engine has them (engine clear without grid); the integer and \
                      encrypted engines keep one learning rate, Polyak's momentum, flat clipping and one view"
                .to_owned(),
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_numbers_are_named_with_their_field() {
        for (text, field) in [
            (
                "schedule = { shape = \"linear\", to = 2.0 }",
                "optimiser.schedule.to",
            ),
            (
                "schedule = { shape = \"step\", every = 0, factor = 0.5 }",
                "optimiser.schedule.every",
            ),
            (
                "averaging = { kind = \"ema\", decay = 1.0 }",
                "optimiser.averaging.decay",
            ),
            (
                "averaging = { kind = \"tail\", share = 0.0 }",
                "optimiser.averaging.share",
            ),
            (
                "augmentation = { views = 1000 }",
                "optimiser.augmentation.views",
            ),
        ] {
            let learning: Learning = toml::from_str(text).unwrap();
            let error = learning.check("optimiser").unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
            assert!(learning.check_integer().is_err());
        }
    }
}
