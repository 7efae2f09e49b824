//! Private inference by masks: prepared under encryption, answered without it.
//!
//! A [`Ticket`] holds, for every linear layer, a uniform mask `r` and `u = W r + b` modulo
//! `2^mask_bits`. The server computed `W r` on a ciphertext of `r` and saw neither. Online the
//! client sends `x - r`, the server returns `W (x - r)`, and `W (x - r) + u = W x + b`: one round
//! trip per layer, no homomorphic work. A ticket is move-only and serves one request: two requests
//! under one mask would reveal their difference.
//!
//! After a model update the client **refreshes** a ticket without the server: it knows the released
//! change `dW` of the quantised weights and its own `db`, so `u += dW r + db`, exactly.
//!
//! Tickets live in memory only. A process that dies takes its tickets with it, so none can be used
//! again after a restart; the server refuses a used ticket as well.
//!
//! Departure to know: a client that knows `W` could compute `W r` itself. Preparation under
//! encryption is for requesters that do not; the owner uses the same path.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{FrozenReplica, ModelVersion};

mod requester;
mod ticket;

pub use requester::Requester;
pub use ticket::Ticket;

/// Versions that a feed remembers, for tickets whose preparation overlapped with updates.
const REMEMBERED: usize = 8;

/// Where the owner publishes each new version of its model, for the requester beside it.
#[derive(Clone, Debug)]
pub struct ModelFeed(Arc<RwLock<VecDeque<Arc<FrozenReplica>>>>);

impl ModelFeed {
    /// A feed that starts with `model`.
    #[must_use]
    pub fn new(model: Arc<FrozenReplica>) -> Self {
        Self(Arc::new(RwLock::new(VecDeque::from([model]))))
    }

    /// Adds a newer model.
    pub fn publish(&self, model: Arc<FrozenReplica>) {
        let mut recent = self.0.write().unwrap_or_else(PoisonError::into_inner);
        recent.push_front(model);
        recent.truncate(REMEMBERED);
    }

    /// The newest model.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<FrozenReplica>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .front()
            .map(Arc::clone)
    }

    /// A recent model by version.
    #[must_use]
    pub fn find(&self, version: ModelVersion) -> Option<Arc<FrozenReplica>> {
        let recent = self.0.read().unwrap_or_else(PoisonError::into_inner);
        recent
            .iter()
            .find(|m| m.snapshot().version() == version)
            .map(Arc::clone)
    }
}
