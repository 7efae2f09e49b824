//! One image at a time, without allocation: [`Predictor`].

use super::workspace::Workspace;
use super::{Packed, Prepared};
use crate::network::Network;
use thiserror::Error;

/// A network with its parameters, packed for requests that come one by one.
#[derive(Debug)]
pub struct Predictor {
    prepared: Prepared,
    packed: Packed,
    workspace: Workspace,
    logits: Vec<f32>,
}

/// What a [`Predictor`] refuses.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PredictorError {
    /// The parameter vector does not fit the network.
    #[error(
        "preparing a network of {expected} parameters: {found} given; give one per place in its layout"
    )]
    Parameters {
        /// Length given.
        found: usize,
        /// Length needed.
        expected: usize,
    },
    /// An image of the wrong size.
    #[error("an image of {found} values for a network of {expected} inputs; give one per input")]
    Image {
        /// Length given.
        found: usize,
        /// Length needed.
        expected: usize,
    },
    /// A network beyond the tables.
    #[error(
        "a layer needs more than 2^32 values of working space; use pass::infer, which works without tables"
    )]
    TooLarge,
}

impl Predictor {
    /// Packs `parameters`, laid out as [`Network::layout`]. A change of the parameters needs a new
    /// predictor.
    ///
    /// # Errors
    /// A parameter vector of the wrong length, or a network too large for the tables.
    pub fn new(network: &Network, parameters: &[f32]) -> Result<Self, PredictorError> {
        let (found, expected) = (parameters.len(), network.parameter_count());
        if found != expected {
            return Err(PredictorError::Parameters { found, expected });
        }
        let prepared = Prepared::new(network, true, 1).ok_or(PredictorError::TooLarge)?;
        let mut packed = Packed::default();
        packed.fill(&prepared, parameters);
        Ok(Self {
            workspace: Workspace::new(&prepared, 1),
            packed,
            logits: vec![0.0; prepared.classes],
            prepared,
        })
    }

    /// The logits of one image, `channels x height x width` values. Large layers are shared by all
    /// threads of the current pool; nothing is allocated.
    ///
    /// # Errors
    /// [`PredictorError::Image`] for another number of values.
    pub fn logits(&mut self, image: &[f32]) -> Result<&[f32], PredictorError> {
        let (found, expected) = (image.len(), self.prepared.inputs);
        if found != expected {
            return Err(PredictorError::Image { found, expected });
        }
        self.prepared
            .forward_split(&self.packed, &mut self.workspace, image);
        self.prepared.read_logits(&self.workspace, &mut self.logits);
        Ok(&self.logits)
    }
}
