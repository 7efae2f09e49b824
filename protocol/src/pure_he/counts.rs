//! What a step of the baseline does, counted and by formula.

use serde::Serialize;
use sphinx_nn::network::Network;

use super::Style;
use crate::paper::Products;
use crate::plan::Phase;

/// Operations and traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Products of two ciphertexts.
    pub products: u64,
    /// Relinearisations.
    pub relinearisations: u64,
    /// Divisions by a prime.
    pub rescales: u64,
    /// Rotations.
    pub rotations: u64,
    /// Ciphertexts up.
    pub uploads: u64,
    /// Ciphertexts down.
    pub downloads: u64,
    /// Bytes up, without frames.
    pub bytes_up: u64,
    /// Bytes down, without frames.
    pub bytes_down: u64,
}

/// Wall seconds by kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// Products and sums; in the eager style with relinearisation and rescaling.
    pub products: f64,
    /// Relinearisation and rescaling of sums.
    pub switching: f64,
    /// Sums over slots.
    pub rotations: f64,
    /// Encryption and decryption.
    pub client: f64,
}

impl Counts {
    /// `sums` sums of `terms` products in all.
    pub(super) const fn add_sums(&mut self, style: Style, sums: u64, terms: u64) {
        let switched = match style {
            Style::Eager => terms,
            Style::Lazy => sums,
        };
        self.products += terms;
        self.relinearisations += switched;
        self.rescales += switched;
    }

    /// The operations of one step without a refresh, by formula; bytes are left zero.
    #[must_use]
    pub fn of_step(network: &Network, style: Style, slots: usize) -> Self {
        let mut counts = Self::default();
        for (layer, shape) in network.linears().iter().enumerate() {
            let products = Products::new(*shape);
            let forward = products.counts(true);
            let terms = forward.products;
            counts.add_sums(style, shape.outputs as u64, terms);
            counts.uploads += (shape.inputs + shape.outputs) as u64;
            counts.downloads += shape.outputs as u64;
            if layer > 0 {
                counts.add_sums(style, products.results(Phase::Backward) as u64, terms);
                counts.downloads += shape.inputs as u64;
            }
            let weights = products.results(Phase::Gradient) as u64;
            counts.add_sums(style, weights, terms);
            let biases = network.layout()[layer].biases.len() as u64;
            counts.rotations += (weights + biases) * u64::from(slots.trailing_zeros());
        }
        counts
    }
}
