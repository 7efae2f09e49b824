//! The client of private inference.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use rayon::prelude::*;
use sphinx_he::rlwe::SecretKey;
use sphinx_nn::tensor::Tensor;

use super::ModelFeed;
use super::ticket::{MaskedLayer, Ticket};
use crate::error::Error;
use crate::format::Integers;
use crate::grid::{Engine, Forward};
use crate::link::{Link, unexpected};
use crate::message::{ModelId, Refusal, TicketId, ToClient, ToServer};
use crate::model::{FrozenReplica, ModelVersion};
use crate::packed::{encrypt, open_result, seed, tile_places};
use crate::plan::{GridPlan, Plan};

/// How often a request is tried again after the server has moved on to newer weights.
const ATTEMPTS: usize = 8;
/// How many times 5 ms a refused request waits for the owner to publish a newer version.
const NEWS: usize = 40;
/// How many times 5 ms a preparation waits for the owner to publish the version it was made with.
const PATIENCE: usize = 400;

/// Asks the server for predictions without showing it what about.
pub struct Requester {
    link: Link,
    plan: Plan,
    secret: SecretKey,
    random: ChaCha20Rng,
    feed: ModelFeed,
    pool: VecDeque<Ticket>,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requester")
            .field("tickets", &self.pool.len())
            .finish_non_exhaustive()
    }
}

impl Requester {
    /// Joins a model. `feed` must carry the versions that the server trains to.
    ///
    /// # Errors
    /// [`Error::Refused`] if the server has no such model with this plan.
    pub fn attach<R: CryptoRng + ?Sized>(
        mut link: Link,
        id: ModelId,
        plan: &Plan,
        feed: ModelFeed,
        rng: &mut R,
    ) -> Result<Self, Error> {
        link.attach(id, plan)?;
        Ok(Self {
            link,
            plan: plan.clone(),
            secret: SecretKey::generate(plan.parameters(), rng),
            random: ChaCha20Rng::from_rng(rng),
            feed,
            pool: VecDeque::new(),
        })
    }

    /// The connection.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Tickets left.
    #[must_use]
    pub fn tickets(&self) -> usize {
        self.pool.len()
    }

    /// Ends the conversation; gives the server's CPU seconds.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn close(self) -> Result<f64, Error> {
        self.link.close()
    }

    /// Prepares one batch of tickets: the homomorphic part, ahead of any request.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] if the feed never carries the version that the server used, and
    /// the errors of the wire.
    pub fn prepare(&mut self) -> Result<(), Error> {
        let mut batch = [0; 16];
        self.random.fill_bytes(&mut batch);
        self.link.send(&ToServer::BeginTickets { batch })?;
        let version = match self.link.receive()? {
            ToClient::TicketsBegun { version } => version,
            other => return Err(unexpected("TicketsBegun", &other)),
        };
        // Looked up before the masks travel, because the feed forgets versions while training goes
        // on; waited for afterwards, when the server is ready for whatever comes next.
        let known = self.feed.find(version);
        let masks = self.draw_masks();
        let products = self.exchange_masks(&masks)?;
        let model = known.map_or_else(|| self.model_at(version), Ok)?;
        let modulus = (1_u32 << self.plan.literal().mask_bits) - 1;
        for index in 0..self.plan.literal().tickets {
            let layers = masks
                .iter()
                .zip(&products)
                .enumerate()
                .map(|(layer, (r, wr))| {
                    let mask = r.row(index).iter().map(|&v| v as u32).collect();
                    Some(MaskedLayer::new(
                        mask,
                        wr.row(index),
                        model.biases(layer),
                        modulus,
                    ))
                });
            self.pool.push_back(Ticket {
                id: TicketId {
                    batch,
                    index: index as u32,
                },
                layers: layers.collect(),
                model: Arc::clone(&model),
            });
        }
        Ok(())
    }

    /// Uniform masks for all layers, one row per ticket.
    fn draw_masks(&mut self) -> Vec<Integers> {
        let bits = self.plan.literal().mask_bits;
        let rows = self.plan.literal().tickets;
        let linears = self.plan.network().linears().to_vec();
        let mut draw = |columns| {
            let mut mask = Integers::zeros(rows, columns);
            for row in 0..rows {
                for v in mask.row_mut(row) {
                    *v = (self.random.next_u32() >> (32 - bits)) as i32;
                }
            }
            mask
        };
        linears.iter().map(|shape| draw(shape.inputs)).collect()
    }

    /// Sends encrypted masks, takes `W r` for every layer.
    fn exchange_masks(&mut self, masks: &[Integers]) -> Result<Vec<Integers>, Error> {
        let layouts = self.plan.ticket_layouts();
        let uploads: Vec<_> = layouts
            .iter()
            .enumerate()
            .flat_map(|(layer, l)| tile_places(layer, l.chunks(), l.input_tiles()))
            .collect();
        let mut expected = layouts
            .iter()
            .enumerate()
            .flat_map(|(layer, l)| tile_places(layer, l.chunks(), l.output_tiles()));
        let replies = layouts.iter().map(|l| l.chunks() * l.output_tiles()).sum();
        let seeds: Vec<_> = uploads.iter().map(|_| seed(&mut self.random)).collect();
        let mut products: Vec<Integers> = self
            .plan
            .network()
            .linears()
            .iter()
            .map(|shape| Integers::zeros(self.plan.literal().tickets, shape.outputs))
            .collect();
        let (secret, plan) = (&self.secret, &self.plan);
        let (parameters, encoding) = (plan.parameters(), plan.mask_encoding());
        self.link.exchange(
            |send| {
                let sealed = uploads
                    .par_iter()
                    .zip(&seeds)
                    .map(|(at, &seed)| {
                        let layer = usize::from(at.layer);
                        let (chunk, tile) = (at.chunk as usize, at.tile as usize);
                        let values = layouts[layer].pack_inputs(&masks[layer], chunk, tile);
                        encrypt(parameters, secret, &values, encoding, seed)
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                uploads
                    .iter()
                    .zip(sealed)
                    .try_for_each(|(&at, s)| send(&ToServer::Mask(at, s)))
            },
            replies,
            |reply| match reply {
                ToClient::MaskProduct(at, result) if Some(at) == expected.next() => {
                    let layer = usize::from(at.layer);
                    let (tile, chunk) = (at.tile as usize, at.chunk as usize);
                    let positions = layouts[layer].forward_positions(tile, chunk);
                    let form = plan.returns(layer).mask;
                    let values = open_result(&result, &positions, form, secret)?;
                    layouts[layer].place_forward(&mut products[layer], &values, tile, chunk);
                    Ok(())
                }
                other => Err(unexpected("the next mask product", &other)),
            },
        )?;
        Ok(products)
    }

    /// The model that the server used, as the feed publishes it (the owner may publish a moment
    /// after the server applied the update).
    fn model_at(&self, version: ModelVersion) -> Result<Arc<FrozenReplica>, Error> {
        for _ in 0..PATIENCE {
            if let Some(model) = self.feed.find(version) {
                return Ok(model);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let ours = self
            .feed
            .latest()
            .map_or(version, |m| m.snapshot().version());
        Err(Error::VersionMismatch {
            ours,
            theirs: version,
        })
    }

    /// Logits for one input, `[1, pixels]`.
    ///
    /// # Errors
    /// [`Error::NoTicket`] if none is prepared; [`Error::Refused`] if the server keeps moving on.
    pub fn infer(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        if x.rows() != 1 {
            return Err(Error::RequestRows { got: x.rows() });
        }
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            let Some(mut ticket) = self.pool.pop_front() else {
                return Err(refused.unwrap_or(Error::NoTicket));
            };
            let newest = self.feed.latest();
            if let Some(newest) = &newest {
                ticket.refresh(newest, self.plan.network());
            }
            match self.ask(ticket, x) {
                Err(
                    stale @ Error::Refused {
                        reason: Refusal::Stale,
                        ..
                    },
                ) => {
                    refused = Some(stale);
                    self.await_newer(newest.as_ref());
                }
                done => return done,
            }
        }
        Err(refused.unwrap_or(Error::NoTicket))
    }

    /// One request with one ticket, which is gone afterwards, whatever happens.
    fn ask(&mut self, ticket: Ticket, x: &Tensor) -> Result<Tensor, Error> {
        let network = self.plan.network().clone();
        let conversation = Conversation {
            link: &mut self.link,
            plan: &self.plan,
            ticket,
        };
        sphinx_nn::pass::infer(&mut Engine::new(conversation), &network, x)
    }

    /// Waits, for a bounded time, until the owner has published another version.
    fn await_newer(&self, known: Option<&Arc<FrozenReplica>>) {
        let known = known.map(|m| m.snapshot().version());
        for _ in 0..NEWS {
            if self.feed.latest().map(|m| m.snapshot().version()) != known {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A request under way: the ticket's masks are consumed layer by layer.
struct Conversation<'a> {
    link: &'a mut Link,
    plan: &'a Plan,
    ticket: Ticket,
}

impl Forward for Conversation<'_> {
    fn plan(&self) -> &GridPlan {
        self.plan.grid()
    }

    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        let MaskedLayer { mask, share } = self.ticket.take(layer)?;
        let request = ToServer::Request {
            ticket: self.ticket.id,
            version: self.ticket.model.snapshot().version(),
            layer: layer as u16,
            masked: mask.hide(layer, x.row(0))?,
        };
        self.link.send(&request)?;
        match self.link.receive()? {
            ToClient::Answer { layer: got, masked } if usize::from(got) == layer => {
                let mut y = Integers::zeros(1, share.len());
                share.open(&masked, y.row_mut(0))?;
                Ok(y)
            }
            other => Err(unexpected("the answer for this layer", &other)),
        }
    }
}
