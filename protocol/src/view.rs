//! What the server saw: for tests of the guarantee, and for teaching.
//!
//! A [`View`] keeps, per message, its kind, its size and what it reveals. The transcript tests
//! compare the views of runs on different data: kinds, order and sizes must be equal, and no
//! ciphertext may ever be seen twice.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::message::{Returned, Reveals, Sealed, TicketId, ToClient, ToServer};

/// One message as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of the connection.
    pub connection: u64,
    /// Whether the server received it (otherwise it sent it).
    pub received: bool,
    /// Name of the message.
    pub name: &'static str,
    /// What it reveals; the server's own messages are functions of what it saw before.
    pub reveals: Option<Reveals>,
    /// Length of the frame's content in bytes.
    pub bytes: usize,
    /// The content, for messages that are not ciphertexts.
    pub content: Option<Vec<u8>>,
    /// SHA-256 of the ciphertext, for messages that carry one. Its place is left out, so that a
    /// ciphertext sent twice shows wherever it was sent.
    pub digest: Option<[u8; 32]>,
    /// How an uploaded ciphertext begins: its header and the seed of its mask, which must be fresh
    /// even where the ciphertexts differ.
    pub opening: Option<Vec<u8>>,
}

/// A masked vector as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// The ticket whose masks were used.
    pub ticket: TicketId,
    /// Index of the linear layer.
    pub layer: u16,
    /// The masked residues.
    pub masked: Vec<u32>,
}

impl Seen {
    /// Step and released values, if this is an update.
    #[must_use]
    pub fn update(&self) -> Option<(u64, Vec<i32>)> {
        match self.message()? {
            ToServer::Update { step, gradient } => Some((step, gradient.values().to_vec())),
            _ => None,
        }
    }

    /// Ticket, layer and masked vector, if this is a request.
    #[must_use]
    pub fn request(&self) -> Option<SeenRequest> {
        match self.message()? {
            ToServer::Request {
                ticket,
                layer,
                masked,
                ..
            } => Some(SeenRequest {
                ticket,
                layer,
                masked: masked.values().to_vec(),
            }),
            _ => None,
        }
    }

    /// The message, if its content was kept: the server parsed the same bytes.
    fn message(&self) -> Option<ToServer> {
        ToServer::from_bytes(self.content.as_ref()?).ok()
    }
}

/// Bytes kept of an uploaded ciphertext.
const OPENING: usize = 128;

/// A shared record of everything one server saw.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<Mutex<Vec<Seen>>>);

impl View {
    pub(crate) fn saw(&self, connection: u64, message: &ToServer, bytes: &[u8]) {
        let reveals = message.reveals();
        self.push(Seen {
            connection,
            received: true,
            name: message.name(),
            reveals: Some(reveals),
            bytes: bytes.len(),
            content: (reveals != Reveals::Ciphertext).then(|| bytes.to_vec()),
            digest: uploaded(message).map(|sealed| Sha256::digest(sealed.bytes()).into()),
            opening: uploaded(message)
                .map(|sealed| sealed.bytes().iter().copied().take(OPENING).collect()),
        });
    }

    pub(crate) fn said(&self, connection: u64, message: &ToClient, bytes: usize) {
        self.push(Seen {
            connection,
            received: false,
            name: message.name(),
            reveals: None,
            bytes,
            content: None,
            digest: returned(message).map(|result| Sha256::digest(result.bytes()).into()),
            opening: None,
        });
    }

    fn push(&self, seen: Seen) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seen);
    }

    /// Everything so far, in the order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The ciphertext that a message carries up.
const fn uploaded(message: &ToServer) -> Option<&Sealed> {
    match message {
        ToServer::Activation(_, sealed)
        | ToServer::OutputGradient(_, sealed)
        | ToServer::ClippedGradient(_, sealed)
        | ToServer::Mask(_, sealed)
        | ToServer::Parameter(_, sealed)
        | ToServer::BiasUpdate { change: sealed, .. } => Some(sealed),
        _ => None,
    }
}

/// The ciphertext that a message carries down.
const fn returned(message: &ToClient) -> Option<&Returned> {
    match message {
        ToClient::ForwardProduct(_, result)
        | ToClient::BackwardProduct(_, result)
        | ToClient::GradientProduct(_, result)
        | ToClient::MaskProduct(_, result)
        | ToClient::Parameter(_, result)
        | ToClient::Biases { backup: result, .. } => Some(result),
        _ => None,
    }
}
