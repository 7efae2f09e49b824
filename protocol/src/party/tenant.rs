//! What the server does for inference: prepare tickets, remember which were used, answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sphinx_he::exact::{Ciphertext, SeededCiphertext};

use crate::error::Error;
use crate::grid::product;
use crate::message::{Masked, Place, Sealed, TicketId, ToClient};
use crate::model::ModelVersion;
use crate::packed::{Prepared, mask_products, numbered, open, tile_places};
use crate::plan::Plan;

/// Ticket batches remembered per model; older ones can no longer be used.
const BATCHES: usize = 256;

/// Which tickets exist and which were used.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    unused: HashMap<[u8; 16], Vec<bool>>,
    order: VecDeque<[u8; 16]>,
}

impl Tickets {
    /// Registers a batch of unused tickets.
    pub(super) fn register(&mut self, batch: [u8; 16], count: usize) -> Result<(), Error> {
        if self.unused.contains_key(&batch) {
            return Err(Error::Unexpected {
                expected: "a new batch of tickets".into(),
                got: "a batch name used before".into(),
            });
        }
        self.unused.insert(batch, vec![true; count]);
        self.order.push_back(batch);
        if self.order.len() > BATCHES
            && let Some(oldest) = self.order.pop_front()
        {
            self.unused.remove(&oldest);
        }
        Ok(())
    }

    /// Marks a ticket as used; each works once.
    pub(super) fn spend(&mut self, ticket: TicketId) -> Result<(), String> {
        let batch = self
            .unused
            .get_mut(&ticket.batch)
            .ok_or("no such batch of tickets here")?;
        let unused = batch
            .get_mut(ticket.index as usize)
            .ok_or("no such ticket in its batch")?;
        if std::mem::replace(unused, false) {
            Ok(())
        } else {
            Err("the ticket was used before; every ticket hides one request only".into())
        }
    }
}

/// Parses a bias change.
pub(super) fn open_bias(plan: &Plan, sealed: &Sealed) -> Result<Ciphertext, Error> {
    Ok(open(plan.parameters(), sealed, plan.bias_encoding())?.expand())
}

/// A batch of tickets being prepared.
#[derive(Debug)]
pub(super) struct Preparation {
    batch: [u8; 16],
    plan: Plan,
    weights: Arc<Prepared>,
    script: VecDeque<Place>,
    held: Vec<SeededCiphertext>,
}

impl Preparation {
    pub(super) fn new(plan: &Plan, weights: Arc<Prepared>, batch: [u8; 16]) -> Self {
        let script = plan
            .ticket_layouts()
            .iter()
            .enumerate()
            .flat_map(|(layer, l)| tile_places(layer, l.chunks(), l.input_tiles()))
            .collect();
        Self {
            batch,
            plan: plan.clone(),
            weights,
            script,
            held: Vec::new(),
        }
    }

    /// The name under which the tickets will be registered.
    pub(super) const fn batch(&self) -> [u8; 16] {
        self.batch
    }

    pub(super) fn expects(&self) -> Option<Place> {
        self.script.front().copied()
    }

    /// Takes the next mask tile; gives the rest of the preparation, or nothing when it is done.
    pub(super) fn take(
        mut self,
        place: Place,
        sealed: &Sealed,
    ) -> Result<(Option<Self>, Vec<ToClient>), Error> {
        if self.script.pop_front() != Some(place) {
            return Err(Error::Unexpected {
                expected: "the next mask tile in order".into(),
                got: format!("the tile at {place:?}"),
            });
        }
        self.held.push(open(
            self.plan.parameters(),
            sealed,
            self.plan.mask_encoding(),
        )?);
        let layer = usize::from(place.layer);
        let layout = &self.plan.ticket_layouts()[layer];
        let mut replies = Vec::new();
        if self.held.len() == layout.input_tiles() {
            let held = std::mem::take(&mut self.held);
            let results = mask_products(&self.weights, layer, held, place.chunk as usize)?;
            replies = numbered(place, results, ToClient::MaskProduct);
        }
        let done = self.script.is_empty();
        Ok(((!done).then_some(self), replies))
    }
}

/// A request being answered, layer by layer, with the weights it began with.
#[derive(Debug)]
pub(super) struct Query {
    plan: Plan,
    weights: Arc<Prepared>,
    ticket: TicketId,
    layer: usize,
}

impl Query {
    pub(super) fn new(plan: &Plan, weights: Arc<Prepared>, ticket: TicketId) -> Self {
        Self {
            plan: plan.clone(),
            weights,
            ticket,
            layer: 0,
        }
    }

    pub(super) const fn expects(&self) -> usize {
        self.layer
    }

    pub(super) fn continues(&self, ticket: TicketId, version: ModelVersion, layer: u16) -> bool {
        ticket == self.ticket
            && version == self.weights.snapshot().version()
            && usize::from(layer) == self.layer
    }

    /// `W (x - r)` modulo `2^mask_bits`; gives the rest of the query, or nothing when it is done.
    pub(super) fn take(mut self, masked: &Masked) -> Result<(Option<Self>, ToClient), Error> {
        let layer = self.layer;
        let shape = &self.plan.network().linears()[layer];
        let inputs = shape.inputs;
        if masked.values().len() != inputs {
            let got = masked.values().len();
            return Err(Error::Columns {
                layer,
                expected: inputs,
                got,
            });
        }
        let modulus = (1_u32 << self.plan.literal().mask_bits) - 1;
        let weights = self.weights.snapshot().layer(layer);
        let mut values = product(shape, weights, masked.values());
        values.iter_mut().for_each(|v| *v &= modulus);
        let reply = ToClient::Answer {
            layer: layer as u16,
            masked: Masked(values),
        };
        self.layer += 1;
        let done = self.layer == self.plan.network().linears().len();
        Ok(((!done).then_some(self), reply))
    }
}
