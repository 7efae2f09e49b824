//! One-use masks and what the server returned for them.

use std::sync::Arc;

use sphinx_nn::network::Network;

use crate::error::Error;
use crate::grid::product;
use crate::message::{Masked, TicketId};
use crate::model::FrozenReplica;

/// The right to one private request. Not `Clone`, never written anywhere, and used up layer by
/// layer: taking a layer's mask removes it.
pub struct Ticket {
    pub(super) id: TicketId,
    pub(super) layers: Vec<Option<MaskedLayer>>,
    pub(super) model: Arc<FrozenReplica>,
}

/// `r` and `u = W r + b` of one layer, modulo `2^mask_bits`.
pub(super) struct MaskedLayer {
    pub(super) mask: Mask,
    pub(super) share: Share,
}

/// A uniform mask; hiding a vector consumes it.
pub(super) struct Mask {
    values: Vec<u32>,
    modulus: u32,
}

/// What opens the answer for the mask; opening consumes it.
pub(super) struct Share {
    values: Vec<u32>,
    modulus: u32,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Ticket({}, {:?})",
            self.id.index,
            self.model.snapshot().version()
        )
    }
}

impl MaskedLayer {
    /// From the mask and the server's `W r`; `modulus` is `2^mask_bits - 1`.
    pub(super) fn new(mask: Vec<u32>, product: &[i32], biases: &[i32], modulus: u32) -> Self {
        let positions = product.len() / biases.len();
        let planes = product.chunks_exact(positions).zip(biases);
        let sums = planes.flat_map(|(plane, &b)| {
            let sum = move |&p: &i32| (p as u32).wrapping_add(b as u32) & modulus;
            plane.iter().map(sum)
        });
        let values = sums.collect();
        Self {
            mask: Mask {
                values: mask,
                modulus,
            },
            share: Share { values, modulus },
        }
    }
}

impl Ticket {
    /// The model version the ticket is good for.
    #[must_use]
    pub const fn model(&self) -> &Arc<FrozenReplica> {
        &self.model
    }

    /// Brings the ticket to another version of the same model: `u += dW r + db`, exactly.
    pub fn refresh(&mut self, newer: &Arc<FrozenReplica>, network: &Network) {
        if self.model.snapshot().version() == newer.snapshot().version() {
            return;
        }
        for (layer, pair) in self.layers.iter_mut().enumerate() {
            let Some(MaskedLayer { mask, share }) = pair else {
                continue;
            };
            let (old, new) = (
                self.model.snapshot().layer(layer),
                newer.snapshot().layer(layer),
            );
            let (old_b, new_b) = (self.model.biases(layer), newer.biases(layer));
            let moved: Vec<i32> = new.iter().zip(old).map(|(new, old)| new - old).collect();
            let change = product(&network.linears()[layer], &moved, &mask.values);
            let positions = change.len() / new_b.len();
            for (i, (u, change)) in share.values.iter_mut().zip(change).enumerate() {
                let bias = new_b[i / positions] - old_b[i / positions];
                *u = u.wrapping_add(change).wrapping_add(bias as u32) & share.modulus;
            }
        }
        self.model = Arc::clone(newer);
    }

    /// Takes the masks of one layer out; they cannot be taken again.
    pub(super) fn take(&mut self, layer: usize) -> Result<MaskedLayer, Error> {
        self.layers
            .get_mut(layer)
            .and_then(Option::take)
            .ok_or(Error::NoTicket)
    }
}

impl Mask {
    /// `x - r`.
    pub(super) fn hide(self, layer: usize, x: &[i32]) -> Result<Masked, Error> {
        let (expected, got) = (self.values.len(), x.len());
        if got != expected {
            return Err(Error::Columns {
                layer,
                expected,
                got,
            });
        }
        let hidden = x.iter().zip(&self.values);
        Ok(Masked(
            hidden
                .map(|(&x, &r)| (x as u32).wrapping_sub(r) & self.modulus)
                .collect(),
        ))
    }
}

impl Share {
    /// Number of outputs.
    pub(super) const fn len(&self) -> usize {
        self.values.len()
    }

    /// `W x + b` from the server's `W (x - r)`, as signed integers.
    pub(super) fn open(self, answer: &Masked, y: &mut [i32]) -> Result<(), Error> {
        let (expected, got) = (self.values.len(), answer.values().len());
        if got != expected {
            return Err(Error::UpdateLength { expected, got });
        }
        let half = i64::from(self.modulus / 2);
        for ((y, &a), &u) in y.iter_mut().zip(answer.values()).zip(&self.values) {
            let residue = i64::from(a.wrapping_add(u) & self.modulus);
            let wrap = if residue > half {
                i64::from(self.modulus) + 1
            } else {
                0
            };
            *y = (residue - wrap) as i32;
        }
        Ok(())
    }
}
