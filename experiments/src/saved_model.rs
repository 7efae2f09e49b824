//! The trained model at rest: `model.json` of a run directory.
//!
//! It holds the plan, the weights and the **biases in the clear**: whoever has the file can query
//! the model alone. It is written for its owner only and never sent anywhere.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::{PrivateModel, Replica};
use sphinx_protocol::plan::{Limits, Plan, PlanLiteral};

use crate::run_dir::{MODEL, RunDir};
use crate::usage::{OrUsage, UsageError};

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedModel {
    /// A warning to whoever opens the file.
    note: String,
    /// The first digits of the model's version, for people.
    version: String,
    /// The model's name at the server, if it has one.
    id: Option<[u8; 16]>,
    /// The plan, as people write it.
    plan: PlanLiteral,
    /// Weights, biases, velocities.
    model: PrivateModel,
}

const NOTE: &str = "private: holds the biases in the clear; keep this file to yourself";

impl SavedModel {
    /// What has to be kept of `replica`.
    #[must_use]
    pub fn new(replica: &Replica, id: Option<ModelId>) -> Self {
        Self {
            note: NOTE.to_owned(),
            version: replica.public().version().to_string(),
            id: id.map(|id| id.0),
            plan: replica.public().plan().literal().clone(),
            model: replica.export_private(),
        }
    }

    /// Writes it, readable by its owner only.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, run: &RunDir) -> Result<()> {
        run.replace(
            MODEL,
            &serde_json::to_vec(self).context("writing the model")?,
        )
    }

    /// Reads it from a run directory.
    ///
    /// # Errors
    /// [`UsageError`] if it is missing, malformed or inconsistent.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join(MODEL);
        if !path.exists() {
            let problem = format!(
                "{} is not there; runs of the packed engine, and of clear with --grid, leave one",
                path.display()
            );
            return Err(UsageError::flag("--run", problem));
        }
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).or_usage(format!("reading {}", path.display()))
    }

    /// The name at the server.
    #[must_use]
    pub fn id(&self) -> Option<ModelId> {
        self.id.map(ModelId)
    }

    /// The checked model.
    ///
    /// # Errors
    /// [`UsageError`] for a plan or weights that do not pass the checks.
    pub fn replica(&self) -> Result<Replica> {
        let plan = Plan::new(&self.plan, &Limits::default()).or_usage("the plan of the model")?;
        Replica::import_private(&plan, &self.model).or_usage("the weights of the model")
    }
}
