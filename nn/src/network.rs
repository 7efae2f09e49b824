//! A network described once ([`Architecture`]) and checked when built ([`Network`]).
//!
//! People write an `Architecture`, in code or in TOML; engines and passes take a [`Network`],
//! which exists only if the layers fit together. The checks: every *linear* layer (dense or
//! convolution) but the last is followed by at most one group normalisation, one activation and
//! then at most one pooling, the last layer is dense, kernels and windows fit into the images they meet, and all sizes are within the
//! limits below, so that no later product of sizes can overflow.
//!
//! Images flow between layers as flat rows, channel by channel; a dense layer takes such a row as
//! it is. The flat parameter vector, and every gradient and update, is laid out layer by layer:
//! weights, `[outputs][inputs]` for a dense layer and `[out_channels][in_channels][kernel][kernel]`
//! for a convolution, then biases, one per output or output channel, then the scales and shifts of an
//! affine normalisation, one per channel: see [`Network::layout`].
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
use crate::between::Between;
use crate::conv::ConvShape;
use crate::norm::GroupShape;
use crate::pool::{PoolKind, PoolShape};
use serde::{Deserialize, Serialize};
use std::ops::Range;

mod error;
mod order;

pub use error::ArchitectureError;

/// Most inputs or outputs a layer may have.
pub const MAX_WIDTH: usize = 1 << 20;
/// Most values the patches of one image may have in a convolution: 64 MiB of scratch per thread.
pub const MAX_PATCHES: usize = 1 << 24;
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
/// `dense` (with `outputs`), `conv` (with `channels`, `kernel`, `stride`, `padding`), `max-pool` or
/// `avg-pool` (with `size`, `stride`), `group-norm` (with `groups`, `affine`), `relu`, `tanh`,
/// `sigmoid` or `square`.
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
    /// A convolution with a square kernel and a bias per output channel.
    Conv {
        /// Number of output channels.
        channels: usize,
        /// Side of the kernel.
        kernel: usize,
        /// By how much the kernel moves.
        stride: usize,
        /// Zeros put around the image on each side.
        padding: usize,
    },
    /// The largest value of each square window.
    MaxPool {
        /// Side of a window, at least 2.
        size: usize,
        /// By how much windows are apart; `size` for windows side by side.
        stride: usize,
    },
    /// The mean of each square window.
    AvgPool {
        /// Side of a window, at least 2.
        size: usize,
        /// By how much windows are apart; `size` for windows side by side.
        stride: usize,
    },
    /// Group normalisation of the linear layer before it, see [`crate::norm`].
    GroupNorm {
        /// Into how many groups of neighbouring channels.
        groups: usize,
        /// Whether every channel has a learned scale and shift.
        affine: bool,
    },
    /// Batch normalisation: known by name to be refused with the reason.
    BatchNorm,
    /// `max(0, x)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x^2`.
    Square,
}

/// One linear layer: how wide it is, and what kind of map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearShape {
    /// Values in, per sample.
    pub inputs: usize,
    /// Values out, per sample.
    pub outputs: usize,
    /// Which linear map.
    pub kind: LinearKind,
}

/// The kinds of linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinearKind {
    /// Every output sees every input; weights are `[outputs][inputs]`, row-major.
    Dense,
    /// Weights are `[out_channels][in_channels][kernel][kernel]`, row-major.
    Conv(ConvShape),
}

impl LinearShape {
    /// A dense layer.
    pub const fn dense(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            kind: LinearKind::Dense,
        }
    }

    /// A convolution.
    pub const fn conv(shape: ConvShape) -> Self {
        let (input, output) = (shape.input(), shape.output());
        Self {
            inputs: input.channels * input.height * input.width,
            outputs: output.channels * output.height * output.width,
            kind: LinearKind::Conv(shape),
        }
    }

    /// Number of weights.
    pub const fn weights(&self) -> usize {
        match self.kind {
            LinearKind::Dense => self.inputs * self.outputs,
            LinearKind::Conv(conv) => conv.weights(),
        }
    }

    /// Number of biases.
    pub const fn biases(&self) -> usize {
        match self.kind {
            LinearKind::Dense => self.outputs,
            LinearKind::Conv(conv) => conv.output().channels,
        }
    }

    /// Multiplications per sample in a forward pass, those with the zeros of a frame included.
    pub const fn multiplications(&self) -> usize {
        match self.kind {
            LinearKind::Dense => self.weights(),
            LinearKind::Conv(conv) => conv.weights() * conv.positions(),
        }
    }

    /// How many inputs an output sees, and how many outputs an input reaches through the weights
    /// of one place: what initialisation scales by.
    pub const fn fans(&self) -> (usize, usize) {
        match self.kind {
            LinearKind::Dense => (self.inputs, self.outputs),
            LinearKind::Conv(conv) => {
                let kernel = conv.kernel() * conv.kernel();
                (conv.patch(), conv.output().channels * kernel)
            }
        }
    }
}

/// Where one linear layer's parameters lie in the flat vector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParameterSpan {
    /// [`LinearShape::weights`] weights, row-major.
    pub weights: Range<usize>,
    /// [`LinearShape::biases`] biases, right behind the weights.
    pub biases: Range<usize>,
    /// Scales of an affine normalisation, one per channel, behind the biases; else empty.
    pub scales: Range<usize>,
    /// Its shifts, behind the scales.
    pub shifts: Range<usize>,
}

impl ParameterSpan {
    /// All parameters of the layer.
    pub const fn all(&self) -> Range<usize> {
        self.weights.start..self.shifts.end
    }
}

/// A checked network: what passes and engines work from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    architecture: Architecture,
    inputs: usize,
    linears: Vec<LinearShape>,
    norms: Vec<Option<GroupShape>>,
    between: Vec<Between>,
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
        order::check(&architecture.layers)?;
        let mut network = Self {
            architecture: architecture.clone(),
            inputs,
            linears: Vec::new(),
            norms: Vec::new(),
            between: Vec::new(),
            layout: Vec::new(),
            parameter_count: 0,
        };
        let mut image = architecture.input;
        for (layer, spec) in architecture.layers.iter().enumerate() {
            image = network.push(layer, *spec, image)?;
        }
        Ok(network)
    }

    /// Adds one layer fed by images of shape `image`; returns the shape it hands on.
    fn push(
        &mut self,
        layer: usize,
        spec: LayerSpec,
        image: ImageShape,
    ) -> Result<ImageShape, ArchitectureError> {
        match spec {
            LayerSpec::Dense { outputs } => self.push_dense(layer, outputs, image),
            LayerSpec::Conv {
                channels,
                kernel,
                stride,
                padding,
            } => {
                check_outputs(layer, channels, MAX_WIDTH)?;
                let conv = ConvShape::new(image, channels, kernel, stride, padding);
                let misfit = ArchitectureError::Conv {
                    layer,
                    kernel,
                    stride,
                    padding,
                    image,
                };
                self.push_conv(layer, conv.ok_or(misfit)?)
            }
            LayerSpec::MaxPool { size, stride } => {
                self.pool(layer, PoolKind::Max, (size, stride), image)
            }
            LayerSpec::AvgPool { size, stride } => {
                self.pool(layer, PoolKind::Mean, (size, stride), image)
            }
            LayerSpec::GroupNorm { groups, affine } => {
                self.push_norm(layer, (groups, affine), image)
            }
            LayerSpec::BatchNorm => Err(ArchitectureError::BatchNorm { layer }),
            LayerSpec::Relu => Ok(self.follow_with(Activation::Relu, image)),
            LayerSpec::Tanh => Ok(self.follow_with(Activation::Tanh, image)),
            LayerSpec::Sigmoid => Ok(self.follow_with(Activation::Sigmoid, image)),
            LayerSpec::Square => Ok(self.follow_with(Activation::Square, image)),
        }
    }

    fn push_dense(
        &mut self,
        layer: usize,
        outputs: usize,
        image: ImageShape,
    ) -> Result<ImageShape, ArchitectureError> {
        let last = layer + 1 == self.architecture.layers.len();
        let limit = if last { MAX_CLASSES } else { MAX_WIDTH };
        check_outputs(layer, outputs, limit)?;
        let shape = LinearShape::dense(values(image), outputs);
        self.push_linear(layer, shape)?;
        Ok(ImageShape {
            channels: outputs,
            height: 1,
            width: 1,
        })
    }

    fn push_conv(
        &mut self,
        layer: usize,
        conv: ConvShape,
    ) -> Result<ImageShape, ArchitectureError> {
        check_outputs(layer, values(conv.output()), MAX_WIDTH)?;
        let patches = conv.patch() * conv.positions();
        if patches > MAX_PATCHES {
            return Err(ArchitectureError::Patches { layer, patches });
        }
        self.push_linear(layer, LinearShape::conv(conv))?;
        Ok(conv.output())
    }

    fn push_linear(&mut self, layer: usize, shape: LinearShape) -> Result<(), ArchitectureError> {
        // A layer's widths are at most 2^20, a kernel has at most 2^12 places and the count so far
        // is at most 2^28: no overflow in 64 bits.
        let start = self.parameter_count;
        let bias = start + shape.weights();
        let end = bias + shape.biases();
        self.check_parameters(layer, end)?;
        self.linears.push(shape);
        self.norms.push(None);
        self.between.push(Between::NOTHING);
        self.layout.push(ParameterSpan {
            weights: start..bias,
            biases: bias..end,
            scales: end..end,
            shifts: end..end,
        });
        self.parameter_count = end;
        Ok(())
    }

    const fn check_parameters(
        &self,
        layer: usize,
        parameters: usize,
    ) -> Result<(), ArchitectureError> {
        if parameters > MAX_PARAMETERS {
            return Err(ArchitectureError::TooManyParameters { layer, parameters });
        }
        Ok(())
    }

    fn push_norm(
        &mut self,
        layer: usize,
        (groups, affine): (usize, bool),
        image: ImageShape,
    ) -> Result<ImageShape, ArchitectureError> {
        let channels = image.channels;
        let misfit = ArchitectureError::Groups {
            layer,
            groups,
            channels,
        };
        let shape = GroupShape::new(image, groups).ok_or(misfit)?;
        let start = self.parameter_count;
        let (scales, shifts) = match affine {
            true => (
                start..start + channels,
                start + channels..start + 2 * channels,
            ),
            false => (start..start, start..start),
        };
        self.check_parameters(layer, shifts.end)?;
        self.parameter_count = shifts.end;
        if let (Some(norm), Some(span)) = (self.norms.last_mut(), self.layout.last_mut()) {
            *norm = Some(shape);
            (span.scales, span.shifts) = (scales, shifts);
        }
        Ok(image)
    }

    fn follow_with(&mut self, activation: Activation, image: ImageShape) -> ImageShape {
        if let Some(last) = self.between.last_mut() {
            last.activation = activation;
        }
        image
    }

    fn pool(
        &mut self,
        layer: usize,
        kind: PoolKind,
        (size, stride): (usize, usize),
        image: ImageShape,
    ) -> Result<ImageShape, ArchitectureError> {
        let shape = PoolShape::new(kind, image, size, stride).ok_or(ArchitectureError::Pool {
            layer,
            size,
            stride,
            image,
        })?;
        if let Some(last) = self.between.last_mut() {
            last.pool = Some(shape);
        }
        Ok(shape.output())
    }

    /// The description this was built from.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The linear layers, first to last. An engine's `layer` is a position in this list.
    pub fn linears(&self) -> &[LinearShape] {
        &self.linears
    }

    /// The normalisation of a linear layer's output, before the activation. It is the engine's
    /// work, as part of the layer: its scales and shifts are parameters.
    ///
    /// # Panics
    /// If `linear` is not a position in [`Self::linears`].
    pub fn norm_after(&self, linear: usize) -> Option<GroupShape> {
        self.norms[linear]
    }

    /// What is applied to the output of a linear layer: `Identity` after the last.
    ///
    /// # Panics
    /// If `linear` is not a position in [`Self::linears`].
    pub fn activation_after(&self, linear: usize) -> Activation {
        self.between[linear].activation
    }

    /// All that happens to the output of a linear layer before it is the next one's input.
    ///
    /// # Panics
    /// If `linear` is not a position in [`Self::linears`].
    pub fn between(&self, linear: usize) -> &Between {
        &self.between[linear]
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

/// Values of an image whose size was checked.
const fn values(image: ImageShape) -> usize {
    image.channels * image.height * image.width
}

fn check_outputs(layer: usize, outputs: usize, limit: usize) -> Result<(), ArchitectureError> {
    if (1..=limit).contains(&outputs) {
        return Ok(());
    }
    Err(ArchitectureError::Outputs {
        layer,
        outputs,
        limit,
    })
}

#[cfg(test)]
mod tests;
