//! Products that the client keeps to itself.
//!
//! Outsourcing is the point of the protocol, and by default every product is outsourced. But the
//! client knows `W`, the inputs and the output gradients, so that it can compute any of them, and
//! in small layers that costs it less than the ciphertexts do. Which ones is a public part of the
//! plan: the server sees no uploads for them, and otherwise nothing else than before.

use serde::{Deserialize, Serialize};

use super::{Choice, Phase};
use crate::error::Error;
use crate::packed::Upload;

/// One product of a layer, computed by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPhase {
    /// Forward, backward or gradient.
    pub phase: Phase,
    /// Index of the linear layer.
    pub layer: usize,
}

/// The product that such uploads are made for.
pub(super) const fn phase(upload: Upload) -> Phase {
    match upload {
        Upload::Activation => Phase::Forward,
        Upload::OutputGradient => Phase::Backward,
        Upload::ClippedGradient => Phase::Gradient,
    }
}

/// Every product exists, and none is named twice.
pub(super) fn check(local: &[LocalPhase], layers: usize) -> Result<(), Error> {
    for (at, &LocalPhase { phase, layer }) in local.iter().enumerate() {
        let exists = match phase {
            Phase::Forward | Phase::Gradient => layer < layers,
            Phase::Backward => (1..layers).contains(&layer),
            _ => false,
        };
        if !exists || local[..at].contains(&local[at]) {
            return Err(Error::LocalPhase {
                phase,
                layer,
                layers,
            });
        }
    }
    Ok(())
}

/// What the choices of all layers keep, layer by layer.
pub(super) fn of(choices: &[Choice]) -> Vec<LocalPhase> {
    let layers = choices.iter().enumerate();
    layers
        .flat_map(|(layer, choice)| {
            let local = choice.local.iter();
            local.map(move |&phase| LocalPhase { phase, layer })
        })
        .collect()
}

#[cfg(test)]
mod tests;
