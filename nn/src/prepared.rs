//! A network prepared for speed: the whole step, sample by sample, while the data is in the cache.
//!
//! [`crate::pass`] goes layer by layer over the whole batch, as it must where layers are computed
//! elsewhere; every activation of the batch then travels to memory and back. Here each task takes
//! a few samples (a *tile*) through the whole network, forward and backward, and clips and adds
//! their gradients at once: no per-sample gradient outlives its sample, and nothing is allocated
//! after the first step. Channels lie side by side in memory and every product reads its left
//! matrix through tables of places, so that no patches are copied.
//!
//! [`crate::Clear`] uses it where it is asked for a whole pass; the layer-by-layer engine is its
//! slow twin in the tests.
//!
//! # Determinism
//!
//! The same bits for every number of threads and every processor: products are fixed chains of
//! fused multiply-adds, samples are split into blocks by their number and the network alone, sums
//! within a block follow the order of the samples, and the blocks are added in order.
//!
//! # Inference
//!
//! [`Predictor`] is a network with its parameters packed, for requests that come one by one:
//!
//! ```
//! use sphinx_nn::{ImageShape, Network, architectures, init, prepared::Predictor};
//!
//! let input = ImageShape { channels: 1, height: 28, width: 28 };
//! let network = Network::new(&architectures::by_name("minionn-mnist", input, 10).unwrap()).unwrap();
//! let mut predictor = Predictor::new(&network, &init::glorot(&network, 1)).unwrap();
//! let logits = predictor.logits(&[0.5; 784]).unwrap(); // allocates nothing
//! assert_eq!(logits.len(), 10);
//! assert!(predictor.logits(&[0.5; 783]).is_err());
//! ```

use crate::gemm::{Rows as PlaceRows, Step, Steps};
use crate::loss::Loss;
use crate::network::{Network, ParameterSpan};
use std::ops::Range;

mod after;
mod backward;
mod batch;
mod canvas;
mod forward;
mod layer;
mod normalise;
mod pack;
mod predictor;
mod workspace;

pub(crate) use batch::{Batch, Results};
use layer::Layer;
pub(crate) use pack::Packed;
pub use predictor::{Predictor, PredictorError};

/// What a tile of samples may occupy: about half of a second-level cache.
const TILE_BYTES: usize = 400 << 10;
/// Most samples of a tile.
pub(crate) const MAX_TILE: usize = 24;

/// How gradients are clipped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bounds<'a> {
    /// Not at all.
    None,
    /// The norm over all parameters.
    Joint(f64),
    /// One bound per linear layer.
    PerLayer(&'a [f64]),
}

/// What a block of samples leaves, one value per sample.
pub(crate) struct Rows<'a> {
    pub(crate) losses: &'a mut [f64],
    pub(crate) hits: &'a mut [bool],
    pub(crate) norms: &'a mut [f64],
}

/// The tables of a whole network.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    layers: Vec<Layer>,
    layout: Vec<ParameterSpan>,
    inputs: usize,
    classes: usize,
    parameters: usize,
    /// From this layer on, layers are joined.
    joined_from: usize,
    /// Tables over the samples of a tile, for layers with one position.
    joints: Vec<Option<Joint>>,
    /// Where each layer's sum lies: weights as its kind has them, then padded biases,
    /// scales and shifts.
    sums: Vec<Range<usize>>,
    /// Length of the sums of the layers that are not joined; they come first.
    explicit_len: usize,
    /// Samples per tile.
    tile: usize,
}

/// Tables over the samples of a tile.
#[derive(Clone, Debug)]
struct Joint {
    /// Where each sample's input begins, and its output.
    inputs: PlaceRows,
    outputs: PlaceRows,
    /// For the gradient: the outputs as rows, the samples as steps.
    rows: PlaceRows,
    samples: Steps,
}

impl Joint {
    fn new(layer: &Layer, tile: usize) -> Option<Self> {
        let place = |place: usize| u32::try_from(place).ok();
        let every = |stride: usize| {
            let places = (0..tile).map(|s| place(s * stride));
            places.collect::<Option<_>>().map(PlaceRows::new)
        };
        let (width, inputs) = (layer.width, layer.x.len());
        let sample = |s| {
            Some(Step {
                x: place(s * width)?,
                b: place(s * inputs)?,
            })
        };
        Some(Self {
            inputs: every(inputs)?,
            outputs: every(width)?,
            rows: PlaceRows::new((0..layer.outputs).map(place).collect::<Option<_>>()?),
            samples: Steps::new((0..tile).map(sample).collect::<Option<_>>()?),
        })
    }
}

impl Prepared {
    /// The tables of `network`; `None` for one so large that a table of 32-bit places cannot hold
    /// it. With `joined`, the dense layers at the end never form a sample's gradient. A tile has at
    /// most `most` samples.
    pub(crate) fn new(network: &Network, joined: bool, most: usize) -> Option<Self> {
        let mut input = network.architecture().input;
        let mut layers: Vec<Layer> = Vec::new();
        for index in 0..network.linears().len() {
            let layer = Layer::new(network, index, input)?;
            input = layer.next_input();
            layers.push(layer);
        }
        let dense = layers.iter().rev().take_while(|layer| layer.can_join());
        let joined_from = match joined {
            true => layers.len() - dense.count(),
            false => layers.len(),
        };
        let bytes: usize = layers.iter().map(|l| 4 * (l.x.len() + l.y.len())).sum();
        let tile = (TILE_BYTES / bytes).clamp(1, most);
        let joint = |layer: &Layer| match layer.is_single() {
            true => Joint::new(layer, tile).map(Some),
            false => Some(None),
        };
        let joints = layers.iter().map(joint).collect::<Option<_>>()?;
        let mut end = 0;
        let mut explicit_len = 0;
        let mut sums = Vec::new();
        for (l, layer) in layers.iter().enumerate() {
            let weights = match l < joined_from {
                true => layer.gradient_len(),
                false => layer.outputs * layer.x.len(),
            };
            let length = weights + layer.width + layer.affine_len();
            sums.push(end..end + length);
            end += length;
            if l < joined_from {
                explicit_len = end;
            }
        }
        Some(Self {
            layers,
            layout: network.layout().to_vec(),
            inputs: network.inputs(),
            classes: network.classes(),
            parameters: network.parameter_count(),
            joined_from,
            joints,
            sums,
            explicit_len,
            tile,
        })
    }

    fn is_joined(&self, layer: usize) -> bool {
        layer >= self.joined_from
    }

    fn sum_len(&self) -> usize {
        self.sums.last().map_or(0, |last| last.end)
    }

    /// Multiplications of a forward pass.
    fn work(&self) -> usize {
        let work = |l: &Layer| l.positions.len() * l.width * l.order.len();
        self.layers.iter().map(work).sum()
    }

    /// Forward, backward, clip and add: one tile of samples.
    fn tile_step(
        &self,
        packed: &Packed,
        w: &mut workspace::Workspace,
        (images, labels): (&[f32], &[Option<u8>]),
        (loss, bounds): (Loss, Bounds<'_>),
        rows: &mut Rows<'_>,
        sum: &mut [f32],
    ) {
        let count = self.forward(packed, w, images, false);
        self.losses(w, loss, labels, rows);
        self.back_joined(packed, w, count);
        for s in 0..count {
            self.back_one(packed, w, s);
            rows.norms[s] = self.clip(w, bounds, s);
            self.add_one(w, s, sum);
        }
        self.add_joined(w, count, sum);
    }
}

#[cfg(test)]
mod tests;
