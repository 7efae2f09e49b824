//! What is wrong with a description, layer by layer.

use super::{ImageShape, LayerSpec, MAX_LAYERS, MAX_PARAMETERS, MAX_PATCHES, MAX_WIDTH};
use crate::conv::MAX_KERNEL;
use thiserror::Error;

/// Why a description is not a network. Layers are positions in the list, from 0.
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
    /// An activation does not follow a linear layer.
    #[error(
        "layer {layer}: {found:?} must follow a dense layer or a convolution; remove it or put one before it"
    )]
    MisplacedActivation {
        /// Position in the list.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// A pooling does not follow an activation.
    #[error(
        "layer {layer}: {found:?} must follow an activation; write convolution, activation, pooling"
    )]
    MisplacedPooling {
        /// Position in the list.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// A normalisation does not follow a linear layer.
    #[error(
        "layer {layer}: {found:?} must follow a dense layer or a convolution, before its activation; features are normalised as data, by GroupShape::normalise"
    )]
    MisplacedNorm {
        /// Position in the list.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// Groups that do not divide the channels.
    #[error(
        "layer {layer}: {groups} groups of {channels} channels; the number of groups must be at least 1 and divide the channels"
    )]
    Groups {
        /// Position in the list.
        layer: usize,
        /// Groups asked for.
        groups: usize,
        /// Channels there are.
        channels: usize,
    },
    /// Batch normalisation.
    #[error(
        "layer {layer}: batch normalisation mixes the samples of a batch, so that one sample's gradient depends on the others and clipping it bounds nothing; use group-norm, which looks at one sample at a time"
    )]
    BatchNorm {
        /// Position in the list.
        layer: usize,
    },
    /// Two linear layers meet.
    #[error(
        "layer {layer}: two linear layers in a row are one linear map; put an activation before {found:?}"
    )]
    AdjacentLinear {
        /// Position of the second in the list.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// The list does not end in a dense layer.
    #[error(
        "layer {layer}: the last layer is {found:?}; a network ends in a dense layer, its logits"
    )]
    NotDenseAtEnd {
        /// Position in the list.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// A width of zero or beyond the limit; of a convolution, its channels or all its values.
    #[error("layer {layer}: {outputs} outputs; must be between 1 and {limit}")]
    Outputs {
        /// Position in the list.
        layer: usize,
        /// Outputs asked for.
        outputs: usize,
        /// Most allowed there.
        limit: usize,
    },
    /// A convolution does not fit the image it meets.
    #[error(
        "layer {layer}: a convolution with a {kernel} x {kernel} kernel, stride {stride} and padding {padding} on images of {} x {} x {} (channels x height x width); the kernel must be between 1 and {MAX_KERNEL} and fit into the padded image, the stride at least 1, the padding below the kernel",
        image.channels, image.height, image.width
    )]
    Conv {
        /// Position in the list.
        layer: usize,
        /// Side of the kernel.
        kernel: usize,
        /// By how much the kernel moves.
        stride: usize,
        /// Zeros around the image.
        padding: usize,
        /// The image that reaches the layer.
        image: ImageShape,
    },
    /// A convolution that needs too much working space.
    #[error(
        "layer {layer}: the patches of one image have {patches} values; at most {MAX_PATCHES} are allowed: use a smaller kernel or a larger stride"
    )]
    Patches {
        /// Position in the list.
        layer: usize,
        /// Values asked for.
        patches: usize,
    },
    /// A pooling does not fit the image it meets.
    #[error(
        "layer {layer}: pooling {size} x {size} with stride {stride} on images of {} x {} x {} (channels x height x width); the size must be at least 2 and fit into the image, the stride at least 1",
        image.channels, image.height, image.width
    )]
    Pool {
        /// Position in the list.
        layer: usize,
        /// Side of a window.
        size: usize,
        /// By how much windows are apart.
        stride: usize,
        /// The image that reaches the layer.
        image: ImageShape,
    },
    /// Too many parameters up to and including a layer.
    #[error(
        "layer {layer}: {parameters} parameters up to here; at most {MAX_PARAMETERS} are allowed"
    )]
    TooManyParameters {
        /// Position in the list.
        layer: usize,
        /// Parameters so far.
        parameters: usize,
    },
}
