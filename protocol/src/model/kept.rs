//! The client's model at rest: what a saved model and a checkpoint are made of.

use serde::{Deserialize, Serialize};

use super::ReleasedModel;

/// The client's model at rest. Holds the biases in the clear: keep the file private.
#[derive(Clone, Serialize, Deserialize)]
pub struct PrivateModel {
    /// Step, weights and their velocities.
    pub(super) released: ReleasedModel,
    /// Master biases.
    pub(super) biases: Vec<i32>,
    /// Their velocities.
    pub(super) bias_velocity: Vec<i64>,
}

impl PrivateModel {
    /// A model from its parts, unchecked: [`Replica::import_private`](super::Replica::import_private) checks them.
    #[must_use]
    pub const fn from_parts(
        step: u64,
        master: Vec<i32>,
        velocity: Vec<i64>,
        biases: Vec<i32>,
        bias_velocity: Vec<i64>,
    ) -> Self {
        Self {
            released: ReleasedModel {
                step,
                master,
                velocity,
            },
            biases,
            bias_velocity,
        }
    }

    /// Master weights, layer by layer.
    #[must_use]
    pub fn weights(&self) -> &[i32] {
        &self.released.master
    }

    /// Their velocities.
    #[must_use]
    pub fn velocity(&self) -> &[i64] {
        &self.released.velocity
    }

    /// Master biases, layer by layer.
    #[must_use]
    pub fn biases(&self) -> &[i32] {
        &self.biases
    }

    /// Their velocities.
    #[must_use]
    pub fn bias_velocity(&self) -> &[i64] {
        &self.bias_velocity
    }
}
