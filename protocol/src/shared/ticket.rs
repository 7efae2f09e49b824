//! One-use masks and what the server returned for them.

use std::sync::Arc;

use crate::error::Error;
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
        let sum = |(&p, &b): (&i32, &i32)| (p as u32).wrapping_add(b as u32) & modulus;
        let values = product.iter().zip(biases).map(sum).collect();
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
    pub fn refresh(&mut self, newer: &Arc<FrozenReplica>) {
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
            let inputs = mask.values.len();
            for (i, u) in share.values.iter_mut().enumerate() {
                let row = i * inputs..(i + 1) * inputs;
                let mut change = (new_b[i] - old_b[i]) as u32;
                let weights = new[row.clone()].iter().zip(&old[row]);
                for ((&new, &old), &r) in weights.zip(&mask.values) {
                    change = change.wrapping_add(((new - old) as u32).wrapping_mul(r));
                }
                *u = u.wrapping_add(change) & share.modulus;
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
