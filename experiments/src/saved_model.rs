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
use sphinx_protocol::plan::{GridLiteral, GridPlan, Limits, Plan, PlanLiteral};

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
    /// The grids it was trained on.
    grid: GridLiteral,
    /// The layouts for encrypted products, unless its layers have none.
    plan: Option<PlanLiteral>,
    /// Weights, biases, velocities.
    model: PrivateModel,
}

const NOTE: &str = "private: holds the biases in the clear; keep this file to yourself";

impl SavedModel {
    /// What has to be kept of `replica`.
    #[must_use]
    pub fn new(replica: &Replica, plan: Option<&Plan>, id: Option<ModelId>) -> Self {
        Self {
            note: NOTE.to_owned(),
            version: replica.public().version().to_string(),
            id: id.map(|id| id.0),
            grid: replica.public().plan().literal().clone(),
            plan: plan.map(|plan| plan.literal().clone()),
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

    /// The checked plan, for products by a server.
    ///
    /// # Errors
    /// [`UsageError`] for a model without layouts, or a plan that does not pass the checks.
    pub fn plan(&self) -> Result<Plan> {
        let Some(literal) = &self.plan else {
            let problem = "this model has layers without a ciphertext layout, so no server can \
                           answer requests with it yet; train a network of dense layers";
            return Err(UsageError::flag("--run", problem));
        };
        Plan::new(literal, &Limits::default()).or_usage("the plan of the model")
    }

    /// The checked model.
    ///
    /// # Errors
    /// [`UsageError`] for grids or weights that do not pass the checks.
    pub fn replica(&self) -> Result<Replica> {
        let grid =
            GridPlan::new(&self.grid, &Limits::default()).or_usage("the grids of the model")?;
        Replica::import_private(&grid, &self.model).or_usage("the weights of the model")
    }
}
