//! What a layout costs, counted; and the cheapest layout of a layer.

use serde::{Deserialize, Serialize};
use sphinx_nn::network::LinearShape;

use super::{Geometry, Layout, Tiling};

/// What a layout costs one training step, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Ciphertexts encrypted and sent up.
    pub uploads: usize,
    /// Ciphertexts sent down and decrypted.
    pub downloads: usize,
    /// Plain times ciphertext products at the server.
    pub plain_products: usize,
    /// Ciphertext times ciphertext products at the server.
    pub products: usize,
}

impl Counts {
    /// Rough cost in microseconds (an upload 450, a download 350, a plain product 30, a product
    /// 90). These weights choose a layout and are never reported as times.
    const fn price(&self) -> usize {
        450 * self.uploads + 350 * self.downloads + 30 * self.plain_products + 90 * self.products
    }
}

impl Layout {
    /// Counts of one training step; the first layer of a network needs no backward product.
    #[must_use]
    pub const fn counts(&self, with_backward: bool) -> Counts {
        let (k, i, c) = (self.input_tiles(), self.output_tiles(), self.chunks());
        let backward = with_backward as usize;
        Counts {
            uploads: c * (k + i + backward * i),
            downloads: c * (i + backward * k) + k * i,
            plain_products: c * k * i * (1 + backward),
            products: c * k * i,
        }
    }

    /// Polynomials that a server holds for this layer: its inputs, the output gradients of one
    /// tile or one chunk, ciphertexts of two each; and weights for two products.
    #[must_use]
    pub fn polynomials(&self) -> usize {
        let (k, i, c) = (self.input_tiles(), self.output_tiles(), self.chunks());
        let ciphertexts = k.saturating_mul(c).saturating_add(i.max(c));
        let weights = k.saturating_mul(i);
        ciphertexts.saturating_add(weights).saturating_mul(2)
    }

    /// The cheapest layout of one layer for a whole training step, by [`Counts`]; nothing if no
    /// image fits into `degree` coefficients.
    #[must_use]
    pub fn cheapest(
        degree: usize,
        shape: &LinearShape,
        capacity: usize,
        with_backward: bool,
    ) -> Option<Self> {
        let geometry = Geometry::new(shape);
        let room = degree / geometry.space();
        let mut best: Option<(usize, Self)> = None;
        for inputs_per_tile in sizes(geometry.inputs, room) {
            for outputs_per_tile in sizes(geometry.outputs, room / inputs_per_tile) {
                let most = (room / inputs_per_tile / outputs_per_tile).min(capacity);
                // Chunks of equal size cost no more than a few large ones and a small one.
                let samples = [
                    most,
                    capacity.div_ceil(capacity.div_ceil(most.max(1)).max(1)),
                ];
                for samples_per_chunk in samples {
                    let tiling = Tiling {
                        inputs_per_tile,
                        outputs_per_tile,
                        samples_per_chunk,
                    };
                    let Some(layout) = Self::new(degree, shape, capacity, tiling) else {
                        continue;
                    };
                    let price = layout.counts(with_backward).price();
                    if best.as_ref().is_none_or(|(least, _)| price < *least) {
                        best = Some((price, layout));
                    }
                }
            }
        }
        best.map(|(_, layout)| layout)
    }
}

/// The tile sizes worth trying: the smallest that gives each number of tiles.
fn sizes(channels: usize, room: usize) -> impl Iterator<Item = usize> {
    let most = channels.min(room);
    (1..=most).filter(move |&size| {
        let tiles = channels.div_ceil(size);
        size == channels.div_ceil(tiles)
    })
}
