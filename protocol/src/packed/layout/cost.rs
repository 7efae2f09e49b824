//! The layouts of a layer that are worth pricing, and what a server holds for one.

use sphinx_nn::network::LinearShape;

use super::{Geometry, Layout, Tiling};
use crate::packed::Upload;

/// Primes of everything that is counted as a polynomial here.
const PRIMES: usize = 2;
/// Most chunks or output tiles whose sums are computed at once, and most bytes of their uploads.
const GROUP: usize = 16;
const GROUP_BYTES: usize = 256 << 20;
/// Weight polynomials transformed before they are laid out.
pub(crate) const WEIGHTS_AT_ONCE: usize = 512;

/// Sums of a scalar product that are computed at once.
pub(crate) const SUMS_AT_ONCE: usize = 256;
/// Bytes of a term of a scalar product: a column and a residue for each prime.
const TERM_BYTES: usize = size_of::<u32>() + PRIMES * size_of::<u64>();
/// Most bytes that a server is asked to hold for a scalar layout that nobody asked for.
const SCALAR_BYTES: usize = 2 << 30;

/// Polynomials, of both primes, that a server holds for one layer at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// As long as the step or the batch of tickets lasts: weights prepared for products, and the
    /// inputs that the gradient needs.
    pub kept: usize,
    /// While one group of uploads is taken: ciphertexts expanded and laid out, and weights on
    /// their way into their place.
    pub uploads: usize,
    /// The sums of a group and their results; the memory of sums serves the next group too.
    pub sums: usize,
}

impl Held {
    /// Bytes for all layers: what is kept of each, and the largest of what passes.
    #[must_use]
    pub fn bytes(layers: impl IntoIterator<Item = Self>, degree: usize) -> usize {
        let (mut kept, mut uploads, mut sums) = (0_usize, 0, 0);
        for layer in layers {
            kept = kept.saturating_add(layer.kept);
            uploads = uploads.max(layer.uploads);
            sums = sums.max(layer.sums);
        }
        let polynomials = kept.saturating_add(uploads).saturating_add(sums);
        polynomials.saturating_mul(PRIMES * size_of::<u64>() * degree)
    }
}

/// The largest of some numbers of ciphertexts, each of so many polynomials.
fn largest(of: [(usize, usize); 3]) -> usize {
    let polynomials = of.map(|(count, each)| count.saturating_mul(each));
    polynomials.into_iter().fold(0, usize::max)
}

/// Weight polynomials that wait for their place: whole rows of `k` or `i` of them.
fn made_at_once(k: usize, i: usize) -> usize {
    k.saturating_mul(i).min(WEIGHTS_AT_ONCE.max(k).max(i))
}

impl Layout {
    /// Another layout of the same batch.
    pub(crate) fn with(&self, tiling: Tiling) -> Option<Self> {
        Self::new(self.degree, &self.shape, self.capacity, tiling)
    }

    /// How many chunks or output tiles, of `each` ciphertexts, a server takes at once.
    pub(crate) fn group(&self, each: usize) -> usize {
        if self.tiling == Tiling::Scalar {
            return 1;
        }
        let bytes = each.saturating_mul(2 * PRIMES * size_of::<u64>() * self.degree);
        (GROUP_BYTES / bytes.max(1)).clamp(1, GROUP)
    }

    /// Results that the last group of uploads of one kind gives.
    pub(crate) fn last_group(&self, upload: Upload) -> usize {
        let (k, i, c) = (self.input_tiles(), self.output_tiles(), self.chunks());
        let (each, all, results) = match upload {
            Upload::Activation => (k, c, i),
            Upload::OutputGradient => (i, c, k),
            Upload::ClippedGradient => (c, i, k),
        };
        let size = self.group(each);
        ((all - 1) % size + 1) * results
    }

    /// What a server holds for this layer in a training step.
    #[must_use]
    pub fn held(&self) -> Held {
        if self.tiling == Tiling::Scalar {
            return self.held_for_tickets();
        }
        let (k, i, c) = (self.input_tiles(), self.output_tiles(), self.chunks());
        // Members of a group of the forward, backward and gradient product, and its ciphertexts.
        let members = [(k, c), (i, c), (c, i)].map(|(each, all)| (self.group(each).min(all), each));
        let uploads = members.map(|(group, each)| group.saturating_mul(each));
        // Inputs are laid out among those that are kept, other uploads beside them.
        let uploads = [(uploads[0], 2), (uploads[1], 4), (uploads[2], 4)];
        // Sums have two primes, their results one: two polynomials and half as much, three and half.
        let sums = [
            (members[0].0.saturating_mul(i), 3),
            (members[1].0.saturating_mul(k), 3),
            (members[2].0.saturating_mul(k), 5),
        ];
        Held {
            kept: (k.saturating_mul(c))
                .saturating_add(k.saturating_mul(i))
                .saturating_mul(2),
            uploads: largest(uploads).saturating_add(made_at_once(k, i)),
            sums: largest(sums),
        }
    }

    /// What a server holds for the backward product of a step, where it has a layout of its own.
    #[must_use]
    pub fn held_backward(&self) -> Held {
        let (k, i) = (self.input_tiles(), self.output_tiles());
        if self.tiling == Tiling::Scalar {
            return self.held_scalar(i, k);
        }
        let members = self.group(i).min(self.chunks());
        let uploads = members.saturating_mul(i).saturating_mul(4);
        Held {
            kept: k.saturating_mul(i),
            uploads: uploads.saturating_add(made_at_once(k, i)),
            sums: members.saturating_mul(k).saturating_mul(3),
        }
    }

    /// What a server holds that multiplies so many uploads with integers for so many results:
    /// uploads as they came, expanded and laid out; some sums at a time, and all results.
    fn held_scalar(&self, uploads: usize, results: usize) -> Held {
        let terms = self.scalar_terms().saturating_mul(TERM_BYTES);
        Held {
            kept: terms / (PRIMES * size_of::<u64>() * self.degree) + 1,
            uploads: uploads.saturating_mul(5),
            sums: results.saturating_add(3 * SUMS_AT_ONCE.min(results)),
        }
    }

    /// What a server holds for this layer while it prepares tickets, chunk by chunk.
    #[must_use]
    pub fn held_for_tickets(&self) -> Held {
        let (k, i) = (self.input_tiles(), self.output_tiles());
        if self.tiling == Tiling::Scalar {
            return self.held_scalar(k, i);
        }
        Held {
            kept: k.saturating_mul(i),
            uploads: k.saturating_mul(4).saturating_add(made_at_once(k, i)),
            sums: i.saturating_mul(3),
        }
    }

    /// Integers in the matrix of a scalar layout, or a few more.
    const fn scalar_terms(&self) -> usize {
        self.shape.outputs.saturating_mul(self.shape.fans().0)
    }

    /// Forward products at the server: of a polynomial, or of an integer, and a ciphertext.
    pub(crate) const fn forward_products(&self) -> usize {
        let each = match self.tiling {
            Tiling::Scalar => self.scalar_terms(),
            _ => self.input_tiles() * self.output_tiles(),
        };
        each * self.chunks()
    }

    /// The scalar layout, where the batch fills polynomials and the server need not hold too much.
    #[must_use]
    pub fn scalar(degree: usize, shape: &LinearShape, rows: usize) -> Option<Self> {
        let scalar = Self::new(degree, shape, rows, Tiling::Scalar);
        scalar.filter(|layout| {
            let held = [layout.held_for_tickets(), layout.held_backward()];
            let bytes = held.map(|held| Held::bytes([held], degree));
            rows >= degree && bytes.iter().all(|&bytes| bytes <= SCALAR_BYTES)
        })
    }

    /// The layouts of one layer that are worth pricing, in a fixed order; none if no image fits into
    /// `degree` coefficients. [Streams](super::stream) come last.
    pub fn candidates(
        degree: usize,
        shape: &LinearShape,
        capacity: usize,
    ) -> impl Iterator<Item = Self> {
        let tilings = wholes(degree, shape, capacity).chain(streams(degree, shape));
        tilings.filter_map(move |tiling| Self::new(degree, shape, capacity, tiling))
    }
}

/// Tilings of whole samples worth trying.
fn wholes(
    degree: usize,
    shape: &LinearShape,
    capacity: usize,
) -> impl Iterator<Item = Tiling> + use<> {
    let geometry = Geometry::new(shape);
    let room = degree / geometry.space();
    let channels = sizes(geometry.inputs, room).flat_map(move |inputs_per_tile| {
        let outputs = sizes(geometry.outputs, room / inputs_per_tile);
        outputs.map(move |outputs_per_tile| (inputs_per_tile, outputs_per_tile))
    });
    channels.flat_map(move |(inputs_per_tile, outputs_per_tile)| {
        let most = (room / inputs_per_tile / outputs_per_tile).min(capacity);
        // Chunks of equal size cost no more than a few large ones and a small one.
        let equal = capacity.div_ceil(capacity.div_ceil(most.max(1)).max(1));
        [most, equal].map(|samples_per_chunk| Tiling::Whole {
            inputs_per_tile,
            outputs_per_tile,
            samples_per_chunk,
        })
    })
}

/// Streams worth trying; samples of one element leave no room that a stream could use.
fn streams(degree: usize, shape: &LinearShape) -> impl Iterator<Item = Tiling> + use<> {
    let geometry = Geometry::new(shape);
    let room = match geometry.space() {
        1 => 0,
        _ => degree / (geometry.longest() + 1),
    };
    sizes(geometry.inputs, room).flat_map(move |inputs_per_tile| {
        let outputs = sizes(geometry.outputs, room / inputs_per_tile);
        outputs.map(move |outputs_per_tile| Tiling::Stream {
            inputs_per_tile,
            outputs_per_tile,
        })
    })
}

/// The tile sizes worth trying: the smallest that gives each number of tiles.
fn sizes(channels: usize, room: usize) -> impl Iterator<Item = usize> {
    let most = channels.min(room);
    (1..=most).filter(move |&size| {
        let tiles = channels.div_ceil(size);
        size == channels.div_ceil(tiles)
    })
}
