//! One-use masks and what the server returned for them.

use std::sync::Arc;

use crate::error::Error;
use crate::message::{Masked, TicketId};
use crate::model::FrozenReplica;

/// The right to one private request. Not `Clone`, and never written anywhere.
pub struct Ticket {
    pub(super) id: TicketId,
    pub(super) layers: Vec<MaskedLayer>,
    pub(super) model: Arc<FrozenReplica>,
    pub(super) modulus: u32,
}

/// `r` and `u = W r + b` of one layer, modulo `2^mask_bits`.
pub(super) struct MaskedLayer {
    pub(super) mask: Vec<u32>,
    pub(super) share: Vec<u32>,
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

impl Ticket {
    /// The model version the ticket is good for.
    #[must_use]
    pub fn model(&self) -> &Arc<FrozenReplica> {
        &self.model
    }

    /// Brings the ticket to another version of the same model: `u += dW r + db`, exactly.
    pub fn refresh(&mut self, newer: &Arc<FrozenReplica>) {
        if self.model.snapshot().version() == newer.snapshot().version() {
            return;
        }
        for (layer, pair) in self.layers.iter_mut().enumerate() {
            let (old, new) = (
                self.model.snapshot().layer(layer),
                newer.snapshot().layer(layer),
            );
            let (old_b, new_b) = (self.model.biases(layer), newer.biases(layer));
            let inputs = pair.mask.len();
            for (i, share) in pair.share.iter_mut().enumerate() {
                let row = i * inputs..(i + 1) * inputs;
                let mut change = (new_b[i] - old_b[i]) as u32;
                for ((&new, &old), &r) in new[row.clone()].iter().zip(&old[row]).zip(&pair.mask) {
                    change = change.wrapping_add(((new - old) as u32).wrapping_mul(r));
                }
                *share = share.wrapping_add(change) & self.modulus;
            }
        }
        self.model = Arc::clone(newer);
    }

    /// `x - r` of one layer.
    pub(super) fn hide(&self, layer: usize, x: &[i32]) -> Result<Masked, Error> {
        let mask = &self.layers[layer].mask;
        if x.len() != mask.len() {
            return Err(Error::Columns {
                layer,
                expected: mask.len(),
                got: x.len(),
            });
        }
        let hidden = x
            .iter()
            .zip(mask)
            .map(|(&x, &r)| (x as u32).wrapping_sub(r) & self.modulus);
        Ok(Masked(hidden.collect()))
    }

    /// `W x + b` from the server's `W (x - r)`, as signed integers.
    pub(super) fn open(&self, layer: usize, answer: &Masked, y: &mut [i32]) -> Result<(), Error> {
        let share = &self.layers[layer].share;
        let (expected, got) = (share.len(), answer.values().len());
        if got != expected {
            return Err(Error::UpdateLength { expected, got });
        }
        let half = self.modulus / 2;
        for ((y, &a), &u) in y.iter_mut().zip(answer.values()).zip(share) {
            let residue = a.wrapping_add(u) & self.modulus;
            let wrapped = residue > half;
            *y = (i64::from(residue)
                - if wrapped {
                    i64::from(self.modulus) + 1
                } else {
                    0
                }) as i32;
        }
        Ok(())
    }
}
