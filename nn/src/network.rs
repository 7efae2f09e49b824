//! A network described once ([`Architecture`]) and checked when built ([`Network`]).
//!
//! People write an `Architecture`, in code or in TOML; engines and passes take a [`Network`],
//! which exists only if the layers fit together. The checks: every activation follows a dense
//! layer, two dense layers never meet (their product would be one), the last layer is dense, and
//! all sizes are within the limits below, so that no later product of sizes can overflow.
//!
//! The flat parameter vector, and every gradient and update, is laid out layer by layer, weights
//! `[outputs][inputs]` row-major, then biases: see [`Network::layout`].
//!
//! ```
//! use sphinx_nn::{Activation, Architecture, ImageShape, LayerSpec, Network};
//!
//! let network = Network::new(&Architecture {
//!     name: "small".into(),
//!     input: ImageShape { channels: 1, height: 2, width: 2 },
//!     layers: vec![LayerSpec::Dense { outputs: 3 }, LayerSpec::Tanh, LayerSpec::Dense { outputs: 2 }],
//! })
//! .unwrap();
//! assert_eq!(network.parameter_count(), 4 * 3 + 3 + 3 * 2 + 2);
//! assert_eq!(network.layout()[1].biases, 21..23);
//! assert_eq!(network.activation_after(0), Activation::Tanh);
//! ```

use crate::activation::Activation;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use thiserror::Error;

/// Most inputs or outputs a layer may have.
pub const MAX_WIDTH: usize = 1 << 20;
/// Most classes: labels are one byte.
pub const MAX_CLASSES: usize = 256;
/// Most parameters a network may have.
pub const MAX_PARAMETERS: usize = 1 << 28;
/// Most layers a description may list.
pub const MAX_LAYERS: usize = 64;

/// Shape of one image; its values are stored channel by channel, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageShape {
    /// Colour channels.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl ImageShape {
    /// Values per image; `None` if the product overflows.
    pub fn values(self) -> Option<usize> {
        self.channels
            .checked_mul(self.height)?
            .checked_mul(self.width)
    }
}

/// What a network should look like; may be nonsense until [`Network::new`] has checked it.
///
/// In TOML: `name`, an `[input]` table, and one `[[layers]]` table per layer with a `kind` of
/// `dense` (with `outputs`), `relu` or `tanh`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// A name for records and messages.
    pub name: String,
    /// Shape of one input image.
    pub input: ImageShape,
    /// The layers, from input to logits.
    pub layers: Vec<LayerSpec>,
}

/// One layer of an [`Architecture`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerSpec {
    /// A linear layer with a bias per output.
    Dense {
        /// Number of outputs.
        outputs: usize,
    },
    /// `max(0, x)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// Sizes of one linear layer; weights are `[outputs][inputs]`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearShape {
    /// Values in, per sample.
    pub inputs: usize,
    /// Values out, per sample.
    pub outputs: usize,
}

/// Where one linear layer's parameters lie in the flat vector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParameterSpan {
    /// `outputs * inputs` weights, row-major.
    pub weights: Range<usize>,
    /// `outputs` biases, right behind the weights.
    pub biases: Range<usize>,
}

/// Why a description is not a network.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ArchitectureError {
    /// The input has no pixels or too many.
    #[error("input {0:?}: the number of values must be between 1 and {MAX_WIDTH}")]
    Input(ImageShape),
    /// No layer, or no dense one.
    #[error("the network has no dense layer; it needs at least one")]
    NoDense,
    /// The list is too long.
    #[error("{found} layers; at most {MAX_LAYERS} are allowed")]
    TooManyLayers {
        /// Layers listed.
        found: usize,
    },
    /// An activation does not follow a dense layer.
    #[error(
        "layer {layer}: {found:?} must follow a dense layer; remove it or put a dense layer before it"
    )]
    MisplacedActivation {
        /// Position in the list, from 0.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// Two dense layers meet.
    #[error(
        "layer {layer}: a dense layer directly after a dense layer is one linear map; put an activation between them"
    )]
    AdjacentDense {
        /// Position of the second in the list, from 0.
        layer: usize,
    },
    /// The list does not end in a dense layer.
    #[error(
        "layer {layer}: the last layer is {found:?}; a network ends in a dense layer, its logits"
    )]
    NotDenseAtEnd {
        /// Position in the list, from 0.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// A width of zero or beyond the limit.
    #[error("layer {layer}: {outputs} outputs; must be between 1 and {limit}")]
    Outputs {
        /// Position in the list, from 0.
        layer: usize,
        /// Outputs asked for.
        outputs: usize,
        /// Most allowed there.
        limit: usize,
    },
    /// Too many parameters up to and including a layer.
    #[error(
        "layer {layer}: {parameters} parameters up to here; at most {MAX_PARAMETERS} are allowed"
    )]
    TooManyParameters {
        /// Position in the list, from 0.
        layer: usize,
        /// Parameters so far.
        parameters: usize,
    },
}

/// A checked network: what passes and engines work from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    architecture: Architecture,
    inputs: usize,
    linears: Vec<LinearShape>,
    activations: Vec<Activation>,
    layout: Vec<ParameterSpan>,
    parameter_count: usize,
}

impl Network {
    /// Checks a description.
    ///
    /// # Errors
    /// [`ArchitectureError`], naming the position of the layer at fault.
    pub fn new(architecture: &Architecture) -> Result<Self, ArchitectureError> {
        let inputs = architecture
            .input
            .values()
            .filter(|values| (1..=MAX_WIDTH).contains(values))
            .ok_or(ArchitectureError::Input(architecture.input))?;
        check_order(&architecture.layers)?;
        let mut network = Self {
            architecture: architecture.clone(),
            inputs,
            linears: Vec::new(),
            activations: Vec::new(),
            layout: Vec::new(),
            parameter_count: 0,
        };
        for (layer, spec) in architecture.layers.iter().enumerate() {
            match *spec {
                LayerSpec::Dense { outputs } => network.push_dense(layer, outputs)?,
                LayerSpec::Relu => network.follow_with(Activation::Relu),
                LayerSpec::Tanh => network.follow_with(Activation::Tanh),
            }
        }
        Ok(network)
    }

    fn push_dense(&mut self, layer: usize, outputs: usize) -> Result<(), ArchitectureError> {
        let last = layer + 1 == self.architecture.layers.len();
        let limit = if last { MAX_CLASSES } else { MAX_WIDTH };
        if !(1..=limit).contains(&outputs) {
            return Err(ArchitectureError::Outputs {
                layer,
                outputs,
                limit,
            });
        }
        let inputs = self
            .linears
            .last()
            .map_or(self.inputs, |previous| previous.outputs);
        // Both widths are at most 2^20 and the count so far at most 2^28: no overflow in 64 bits.
        let start = self.parameter_count;
        let (bias, end) = (start + outputs * inputs, start + outputs * inputs + outputs);
        if end > MAX_PARAMETERS {
            return Err(ArchitectureError::TooManyParameters {
                layer,
                parameters: end,
            });
        }
        self.linears.push(LinearShape { inputs, outputs });
        self.activations.push(Activation::Identity);
        self.layout.push(ParameterSpan {
            weights: start..bias,
            biases: bias..end,
        });
        self.parameter_count = end;
        Ok(())
    }

    fn follow_with(&mut self, activation: Activation) {
        if let Some(last) = self.activations.last_mut() {
            *last = activation;
        }
    }

    /// The description this was built from.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The linear layers, first to last. An engine's `layer` is a position in this list.
    pub fn linears(&self) -> &[LinearShape] {
        &self.linears
    }

    /// What is applied to the output of a linear layer: `Identity` after the last.
    ///
    /// # Panics
    /// If `linear` is not a position in [`Self::linears`].
    pub fn activation_after(&self, linear: usize) -> Activation {
        self.activations[linear]
    }

    /// Values per input sample.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.linears.last().map_or(0, |last| last.outputs)
    }

    /// Length of the flat parameter vector.
    pub fn parameter_count(&self) -> usize {
        self.parameter_count
    }

    /// Where each linear layer's parameters lie in the flat vector.
    pub fn layout(&self) -> &[ParameterSpan] {
        &self.layout
    }
}

/// Checks that activations and dense layers alternate and that the list ends in a dense one.
fn check_order(layers: &[LayerSpec]) -> Result<(), ArchitectureError> {
    if layers.len() > MAX_LAYERS {
        return Err(ArchitectureError::TooManyLayers {
            found: layers.len(),
        });
    }
    let is_dense = |spec: &LayerSpec| matches!(spec, LayerSpec::Dense { .. });
    if !layers.iter().any(is_dense) {
        return Err(ArchitectureError::NoDense);
    }
    let mut after_dense = false;
    for (layer, spec) in layers.iter().enumerate() {
        match (after_dense, is_dense(spec)) {
            (true, true) => return Err(ArchitectureError::AdjacentDense { layer }),
            (false, false) => {
                return Err(ArchitectureError::MisplacedActivation {
                    layer,
                    found: *spec,
                });
            }
            _ => after_dense = !after_dense,
        }
    }
    match layers.last() {
        Some(found) if !is_dense(found) => Err(ArchitectureError::NotDenseAtEnd {
            layer: layers.len() - 1,
            found: *found,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
