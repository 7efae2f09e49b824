//! Which fixed features a network on features is given; part of a
//! [`Config`](crate::config::Config) and of a definition.
//!
//! The defaults are those of a plain run and leave no trace in files, so that trials from before keep
//! their names.
//!
//! ```
//! use sphinx_experiments::inputs::Inputs;
//!
//! let inputs: Inputs = toml::from_str("decorrelation = 0.25\nmirror = true")?;
//! assert_eq!((inputs.groups, inputs.mirror), (27, true));
//! assert!(inputs.check("scatter-linear").is_ok() && inputs.check("mlp").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sphinx_nn::features::{FeatureSettings, of_model};

use crate::usage::UsageError;

/// Settings of the features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Inputs {
    /// Groups of maps, per colour channel, that are normalised together.
    pub groups: usize,
    /// How far maps are decorrelated by procedural images: 0 not at all, 0.5 whitens.
    pub decorrelation: f64,
    /// Average over the image and its mirror image.
    pub mirror: bool,
}

impl Default for Inputs {
    fn default() -> Self {
        let FeatureSettings {
            groups,
            mirror,
            decorrelation,
            ..
        } = FeatureSettings::default();
        Self {
            groups,
            decorrelation,
            mirror,
        }
    }
}

impl Inputs {
    /// Nothing was asked for.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What the network of this name is given; none if it takes images as they are.
    #[must_use]
    pub fn settings(&self, model: &str) -> Option<FeatureSettings> {
        of_model(model).map(|settings| FeatureSettings {
            groups: self.groups,
            mirror: self.mirror,
            decorrelation: self.decorrelation,
            ..settings
        })
    }

    /// Checks the settings for the network of this name.
    ///
    /// # Errors
    /// [`UsageError`] for features of a network that takes images, or a power out of range. Groups
    /// are checked against the maps when the features are computed.
    pub fn check(&self, model: &str) -> Result<()> {
        let refuse = |field: &str, problem: String| -> Result<()> {
            let field = field.to_owned();
            Err(UsageError::Definition { field, problem }.into())
        };
        if !self.is_plain() && of_model(model).is_none() {
            let problem =
                format!("{model} takes images as they are; scatter-linear takes features");
            return refuse("features", problem);
        }
        if !(0.0..=1.0).contains(&self.decorrelation) {
            return refuse("features.decorrelation", "must be from 0 to 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_settings_leave_no_trace() {
        assert!(Inputs::default().is_plain());
        let settings = Inputs::default().settings("scatter-linear");
        assert_eq!(settings, Some(FeatureSettings::default()));
        assert_eq!(Inputs::default().settings("linear"), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let inputs: Inputs = toml::from_str("decorrelation = 2.0").unwrap();
        let error = inputs.check("scatter-linear").unwrap_err().to_string();
        assert!(error.contains("features.decorrelation"), "{error}");
        let error = inputs.check("minionn-mnist").unwrap_err().to_string();
        assert!(error.contains("minionn-mnist"), "{error}");
        assert!(toml::from_str::<Inputs>("miror = true").is_err());
    }
}
