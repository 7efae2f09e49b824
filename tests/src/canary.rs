//! Canaries for the one-run audit of [`sphinx_dp::audit`], on any engine that trains.
//!
//! A canary is a record that lights a block of pixels of its own, so that its clipped gradient has
//! coordinates of its own in the first layer. Which canaries are in the data is tossed by
//! [`sphinx_dp::audit::run`]; how much each one's margin (the logit of its label above the mean logit) grew from the
//! model before training to the released one is its score. The scores need the two models and nothing
//! else of the engine, so every engine is audited in the same way; what is audited includes its
//! sampler, clipping and noise.
//!
//! # Example
//!
//! ```
//! use sphinx_dp::audit::Subject;
//! use sphinx_nn::clear::{Clear, ClearConfig};
//! use sphinx_nn::network::Network;
//! use sphinx_tests::canary::{Audited, Canaries};
//! use sphinx_tests::fixture::{architecture, random_data};
//!
//! let canaries = Canaries { count: 20, pixels: 2, classes: 10 };
//! let network = Network::new(&architecture(canaries.inputs(4), &[], 10))?;
//! // A "training" that copies the records into the weights: every score betrays its canary.
//! let model = |weights| Clear::new(&network, weights, ClearConfig::default());
//! let copy = |data: &sphinx_nn::data::Dataset| {
//!     let mut weights = vec![0.0; network.parameter_count()];
//!     let before = model(weights.clone())?;
//!     for (row, label) in data.labels.iter().enumerate() {
//!         let to = usize::from(*label) * network.inputs();
//!         for (w, x) in weights[to..].iter_mut().zip(data.images.row(row)) {
//!             *w += x;
//!         }
//!     }
//!     Ok((before, model(weights)?))
//! };
//! let mut subject = Audited { canaries, network: &network, base: random_data(5, 4, 10, 1), train: copy };
//! let included: Vec<bool> = (0..20).map(|i| i % 3 == 0).collect();
//! let scores = subject.scores(&included)?;
//! assert!(scores.iter().zip(&included).all(|(score, included)| (*score > 0.5) == *included));
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```

use sphinx_dp::audit::Subject;
use sphinx_nn::data::Dataset;
use sphinx_nn::engine::Infer;
use sphinx_nn::network::{ImageShape, Network};
use sphinx_nn::pass;
use sphinx_nn::tensor::Tensor;

/// Whatever stops a training run or its audit.
pub type Stop = Box<dyn std::error::Error + Send + Sync>;

/// So many records, each with pixels of its own beside those of the base data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canaries {
    /// How many canaries there are, included or not.
    pub count: usize,
    /// Pixels that one canary lights. The more, the less of its gradient is in the shared biases.
    pub pixels: usize,
    /// Number of classes; canary `i` has label `i % classes`.
    pub classes: usize,
}

impl Canaries {
    /// Inputs of a network that sees `base` pixels and every canary's own.
    #[must_use]
    pub const fn inputs(&self, base: usize) -> usize {
        base + self.count * self.pixels
    }

    fn label(&self, canary: usize) -> u8 {
        (canary % self.classes) as u8
    }

    fn light(&self, canary: usize, base: usize, row: &mut [f32]) {
        let first = base + canary * self.pixels;
        row[first..first + self.pixels].fill(1.0);
    }

    /// The base data, widened by dark pixels, and the canaries that are included.
    ///
    /// # Panics
    /// Never: the shape is right by construction.
    #[must_use]
    pub fn insert(&self, included: &[bool], base: &Dataset) -> Dataset {
        let (old, width) = (base.images.columns(), self.inputs(base.images.columns()));
        let chosen: Vec<usize> = (0..self.count.min(included.len()))
            .filter(|&i| included[i])
            .collect();
        let rows = base.len() + chosen.len();
        let mut pixels = vec![0.0; rows * width];
        let mut each = pixels.chunks_exact_mut(width);
        for (i, row) in each.by_ref().take(base.len()).enumerate() {
            row[..old].copy_from_slice(base.images.row(i));
        }
        for (&canary, row) in chosen.iter().zip(each) {
            self.light(canary, old, row);
        }
        let labels = chosen.iter().map(|&canary| self.label(canary));
        Dataset {
            name: format!("{} with canaries", base.name),
            shape: flat(width),
            classes: base.classes.max(self.classes),
            images: Tensor::from_vec(rows, width, pixels).expect("rows of this width"),
            labels: base.labels.iter().copied().chain(labels).collect(),
        }
    }

    /// By how much the model prefers each canary's label to the mean of all.
    ///
    /// # Errors
    /// Whatever keeps the engine from inferring.
    ///
    /// # Panics
    /// Never: the shape is right by construction.
    pub fn margins<E: Infer>(
        &self,
        engine: &mut E,
        network: &Network,
    ) -> Result<Vec<f64>, E::Error> {
        let width = network.inputs();
        let mut pixels = vec![0.0; self.count * width];
        for (canary, row) in pixels.chunks_exact_mut(width).enumerate() {
            self.light(canary, width - self.count * self.pixels, row);
        }
        let x = Tensor::from_vec(self.count, width, pixels).expect("rows of this width");
        let logits = pass::infer(engine, network, &x)?;
        Ok((0..self.count)
            .map(|canary| {
                let row = logits.row(canary);
                let mean = row.iter().map(|&y| f64::from(y)).sum::<f64>() / row.len() as f64;
                f64::from(row[usize::from(self.label(canary))]) - mean
            })
            .collect())
    }
}

fn flat(width: usize) -> ImageShape {
    ImageShape {
        channels: 1,
        height: 1,
        width,
    }
}

/// A way to train, to be audited: from data to the models before and after.
#[derive(Debug)]
pub struct Audited<'a, F> {
    /// The canaries.
    pub canaries: Canaries,
    /// The network; its inputs are [`Canaries::inputs`] of the base data's.
    pub network: &'a Network,
    /// The data beside the canaries.
    pub base: Dataset,
    /// Trains on the data and gives the model that it began with, and the one that it released.
    pub train: F,
}

impl<E: Infer, F: FnMut(&Dataset) -> Result<(E, E), Stop>> Subject for Audited<'_, F> {
    type Error = Stop;

    fn scores(&mut self, included: &[bool]) -> Result<Vec<f64>, Stop> {
        let data = self.canaries.insert(included, &self.base);
        let (mut before, mut after) = (self.train)(&data)?;
        let before = self.canaries.margins(&mut before, self.network)?;
        let after = self.canaries.margins(&mut after, self.network)?;
        Ok(after.iter().zip(before).map(|(a, b)| a - b).collect())
    }
}
