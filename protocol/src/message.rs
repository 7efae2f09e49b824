//! What crosses the wire: one variant, one struct, one line on **what it reveals**.
//!
//! A sender cannot build the payload types from arbitrary data. An upload is [`Sealed`]: it comes
//! from a ciphertext. A weight update is [`Released`]: it comes from a noised, ledgered sum. A masked
//! vector comes from a one-use ticket. Decrypted values have no message at all. What a *receiver*
//! decodes from bytes is whatever the peer sent: the types protect the sender's data, and a server
//! cannot check what a client did at home.

use std::fmt;

use sphinx_dp::mechanism::Noised;
use sphinx_he::ckks;
use sphinx_he::exact::{SeededCiphertext, SelectedCiphertext};
use sphinx_he::rlwe::{GaloisKeys, Parameters, RelinearizationKey};

use crate::error::Error;
use crate::model::{ModelVersion, ReleasedModel};
use crate::packed::ServerSeconds;
use crate::work::Work;

/// Version of the wire format.
pub const WIRE_VERSION: u16 = 4;

/// Names a model at a server; drawn at random by the client, so it is also the right to use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModelId(pub [u8; 16]);

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelId(..)")
    }
}

/// Names one inference ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TicketId {
    /// The batch in which it was prepared, drawn at random by the client.
    pub batch: [u8; 16],
    /// Its row in that batch.
    pub index: u32,
}

/// Where a polynomial belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Index of the linear layer.
    pub layer: u16,
    /// Index of the chunk of samples.
    pub chunk: u32,
    /// Index of the tile of inputs or outputs.
    pub tile: u32,
}

/// A freshly encrypted polynomial on its way up.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Serialises a ciphertext.
    #[must_use]
    pub fn new(ciphertext: &SeededCiphertext) -> Self {
        Self(ciphertext.to_bytes())
    }

    /// Serialises a ciphertext of slots.
    #[must_use]
    pub fn slots(ciphertext: &ckks::SeededCiphertext) -> Self {
        Self(ciphertext.to_bytes())
    }

    /// Parses a ciphertext of slots.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] names what is wrong with the bytes.
    pub fn open_slots(&self, parameters: &Parameters) -> Result<ckks::SeededCiphertext, Error> {
        Ok(ckks::SeededCiphertext::from_bytes(&self.0, parameters)?)
    }

    /// Parses the ciphertext.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] names what is wrong with the bytes.
    pub fn open(&self, parameters: &Parameters) -> Result<SeededCiphertext, Error> {
        Ok(SeededCiphertext::from_bytes(&self.0, parameters)?)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) const fn received(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Keys with which the server relinearises or rotates, on their way up: encryptions of functions of the
/// secret under itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKeys(Vec<u8>);

impl SealedKeys {
    /// Serialises a key of relinearisation.
    #[must_use]
    pub fn relinearization(key: &RelinearizationKey) -> Self {
        Self(key.to_bytes())
    }

    /// Serialises keys of rotations.
    #[must_use]
    pub fn rotations(keys: &GaloisKeys) -> Self {
        Self(keys.to_bytes())
    }

    /// Parses a key of relinearisation.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] names what is wrong with the bytes.
    pub fn open_relinearization(
        &self,
        parameters: &Parameters,
    ) -> Result<RelinearizationKey, Error> {
        Ok(RelinearizationKey::from_bytes(&self.0, parameters)?)
    }

    /// Parses keys of rotations.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] names what is wrong with the bytes.
    pub fn open_rotations(&self, parameters: &Parameters) -> Result<GaloisKeys, Error> {
        Ok(GaloisKeys::from_bytes(&self.0, parameters)?)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) const fn received(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SealedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedKeys({} bytes)", self.0.len())
    }
}

/// A result ciphertext on its way down: the coefficients that the plan names, or all slots.
#[derive(Clone, PartialEq, Eq)]
pub struct Returned(Vec<u8>);

impl Returned {
    /// Serialises a result.
    #[must_use]
    pub fn new(ciphertext: &SelectedCiphertext) -> Self {
        Self(ciphertext.to_bytes_bare())
    }

    /// Serialises a result in slots, whole.
    #[must_use]
    pub fn slots(ciphertext: &ckks::Ciphertext) -> Self {
        Self(ciphertext.to_bytes())
    }

    /// Parses a result in slots.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] names what is wrong with the bytes.
    pub fn open_slots(&self, parameters: &Parameters) -> Result<ckks::Ciphertext, Error> {
        Ok(ckks::Ciphertext::from_bytes(&self.0, parameters)?)
    }

    /// Parses the result, which must carry the coefficients at `positions`.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] names what is wrong with the bytes.
    pub fn open(
        &self,
        parameters: &Parameters,
        positions: &[usize],
    ) -> Result<SelectedCiphertext, Error> {
        Ok(SelectedCiphertext::from_bytes_at(
            &self.0, parameters, positions,
        )?)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) const fn received(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Returned({} bytes)", self.0.len())
    }
}

/// Noised weight gradients: clipped, noised and charged to the ledger before they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released(Vec<i32>);

impl Released {
    /// The coordinates of `noised` at `positions`, saturated to 32 bits (post-processing).
    pub(crate) fn from_noised(noised: &Noised, positions: impl Iterator<Item = usize>) -> Self {
        let limit = i64::from(i32::MAX);
        Self(
            positions
                .map(|i| noised.values()[i].clamp(-limit, limit) as i32)
                .collect(),
        )
    }

    /// The released values.
    #[must_use]
    pub fn values(&self) -> &[i32] {
        &self.0
    }

    pub(crate) const fn received(values: Vec<i32>) -> Self {
        Self(values)
    }
}

/// A vector hidden by a one-time mask, uniform modulo 2^mask_bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked(pub(crate) Vec<u32>);

impl Masked {
    /// The masked residues.
    #[must_use]
    pub fn values(&self) -> &[u32] {
        &self.0
    }
}

/// What a message tells its receiver beyond the public plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reveals {
    /// Public constants: shapes, sizes, versions, order.
    PublicConstants,
    /// A ciphertext under the client's key.
    Ciphertext,
    /// Values hidden by a one-time mask.
    Masked,
    /// Differentially private values, charged to the ledger.
    Released,
}

/// From client to server.
#[derive(Clone, Debug, PartialEq)]
pub enum ToServer {
    /// Reveals: the wire version. Opens a connection.
    Hello {
        /// [`WIRE_VERSION`] of the client.
        version: u16,
    },
    /// Reveals: the public plan. Opens a model for training, or continues it.
    OpenModel {
        /// The model.
        id: ModelId,
        /// The plan literal in JSON.
        plan: Vec<u8>,
    },
    /// Reveals: the public plan. Opens a model of the engine `paper` for training.
    OpenPaper {
        /// The plan literal in JSON.
        plan: Vec<u8>,
    },
    /// Reveals: the public plan. Opens a model of the engine `pure-he` for training and inference.
    OpenPureHe {
        /// The plan literal in JSON.
        plan: Vec<u8>,
    },
    /// Reveals: nothing (encrypted key). The key of relinearisation.
    Relinearization(SealedKeys),
    /// Reveals: nothing (encrypted keys). The keys of rotations.
    Rotations(SealedKeys),
    /// Reveals: nothing (ciphertext). One parameter: chunk 0 holds weights, chunk 1 biases.
    Parameter(Place, Sealed),
    /// Reveals: that the client asks for its parameters.
    FetchParameters,
    /// Reveals: that the client asks what was computed.
    FetchWork,
    /// Reveals: released values. Loads a model that was trained before.
    LoadModel(ReleasedModel),
    /// Reveals: that a requester uses this model. Joins a model for inference.
    AttachModel {
        /// The model.
        id: ModelId,
        /// Digest of the plan the client believes in.
        digest: [u8; 32],
    },
    /// Reveals: that a step begins (its moment is not hidden).
    BeginStep {
        /// Index of the step.
        step: u64,
    },
    /// Reveals: nothing (ciphertext). Layer inputs of a chunk.
    Activation(Place, Sealed),
    /// Reveals: nothing (ciphertext). Output gradients of a chunk, for the backward product.
    OutputGradient(Place, Sealed),
    /// Reveals: nothing (ciphertext). Clipped output gradients of a chunk, for the gradient.
    ClippedGradient(Place, Sealed),
    /// Reveals: one differentially private gradient sum, charged to the ledger.
    Update {
        /// Index of the step.
        step: u64,
        /// Noised weight gradients.
        gradient: Released,
    },
    /// Reveals: nothing (ciphertext). The change of the biases, for the encrypted backup.
    BiasUpdate {
        /// Which ciphertext of the backup.
        part: u32,
        /// The change.
        change: Sealed,
    },
    /// Reveals: that the client asks for its backup.
    FetchBiases,
    /// Reveals: that the client asks what its steps took.
    FetchPhases,
    /// Reveals: that tickets are being prepared.
    BeginTickets {
        /// Random name of the batch.
        batch: [u8; 16],
    },
    /// Reveals: nothing (ciphertext of uniform masks).
    Mask(Place, Sealed),
    /// Reveals: a uniform vector (masked layer input), and when a request is made.
    Request {
        /// The ticket whose masks are used.
        ticket: TicketId,
        /// The model version the ticket is good for.
        version: ModelVersion,
        /// Index of the linear layer.
        layer: u16,
        /// `x - r` modulo 2^mask_bits.
        masked: Masked,
    },
    /// Reveals: that the client is done.
    Bye,
}

/// From server to client.
#[derive(Clone, Debug, PartialEq)]
pub enum ToClient {
    /// The server's wire version.
    Welcome {
        /// [`WIRE_VERSION`] of the server.
        version: u16,
    },
    /// The model is open (or loaded, or attached) at this version.
    ModelReady {
        /// Version of the weights.
        version: ModelVersion,
        /// Number of updates applied.
        step: u64,
    },
    /// `W x` of one chunk and output tile.
    ForwardProduct(Place, Returned),
    /// `W^T d` of one chunk and input tile.
    BackwardProduct(Place, Returned),
    /// `sum d x^T` of one output tile (`tile`) and input tile (`chunk`); by the engine `paper` the
    /// gradients of one weight (`tile`) in one block of samples (`chunk`).
    GradientProduct(Place, Returned),
    /// The update was applied.
    Updated {
        /// Version of the weights now.
        version: ModelVersion,
        /// Number of updates applied.
        step: u64,
    },
    /// One ciphertext of the bias backup.
    Biases {
        /// Which one.
        part: u32,
        /// Its selected coefficients.
        backup: Returned,
    },
    /// What every phase of the script took at the server, in its order, since the model was opened: a
    /// function of the plan, of released weights and of the machine.
    Phases(Vec<ServerSeconds>),
    /// One encrypted parameter, as [`ToServer::Parameter`] places it.
    Parameter(Place, Returned),
    /// What was computed since the last question; a function of the plan and of the machine.
    Worked(Work),
    /// Tickets are being prepared with these weights.
    TicketsBegun {
        /// Version of the weights.
        version: ModelVersion,
    },
    /// `W r` of one chunk and output tile.
    MaskProduct(Place, Returned),
    /// `W (x - r)` modulo 2^mask_bits.
    Answer {
        /// Index of the linear layer.
        layer: u16,
        /// The residues.
        masked: Masked,
    },
    /// The server declines; the text says why and what to do.
    Refused {
        /// Why, for programs.
        reason: Refusal,
        /// Why, for people.
        detail: String,
    },
    /// The last message of a connection.
    Farewell {
        /// CPU seconds that the server process spent since the connection was opened, on all
        /// its connections together.
        cpu_seconds: f64,
    },
}

/// Why a server declines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer speaks another wire version.
    Version,
    /// The plan is not acceptable.
    Plan,
    /// No such model, or it was opened with another plan.
    UnknownModel,
    /// Another connection is training this model.
    Busy,
    /// The weights of that version are no longer kept: refresh the ticket.
    Stale,
    /// The ticket is unknown or was used before.
    Ticket,
    /// A message out of order, or with content that does not fit the plan.
    Protocol,
    /// The server has as many connections or models as it accepts.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "wire version",
            Self::Plan => "plan",
            Self::UnknownModel => "unknown model",
            Self::Busy => "model busy",
            Self::Stale => "stale model version",
            Self::Ticket => "ticket",
            Self::Protocol => "protocol",
            Self::Full => "server full",
        })
    }
}

impl ToServer {
    /// What the server learns from it beyond the public plan.
    #[must_use]
    pub const fn reveals(&self) -> Reveals {
        match self {
            Self::Relinearization(_)
            | Self::Rotations(_)
            | Self::Parameter(..)
            | Self::Activation(..)
            | Self::OutputGradient(..)
            | Self::ClippedGradient(..)
            | Self::BiasUpdate { .. }
            | Self::Mask(..) => Reveals::Ciphertext,
            Self::Update { .. } | Self::LoadModel(_) => Reveals::Released,
            Self::Request { .. } => Reveals::Masked,
            Self::Hello { .. }
            | Self::OpenModel { .. }
            | Self::OpenPaper { .. }
            | Self::OpenPureHe { .. }
            | Self::FetchParameters
            | Self::FetchWork
            | Self::AttachModel { .. }
            | Self::BeginStep { .. }
            | Self::FetchBiases
            | Self::FetchPhases
            | Self::BeginTickets { .. }
            | Self::Bye => Reveals::PublicConstants,
        }
    }

    /// The name of the variant, for errors and transcripts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::OpenModel { .. } => "OpenModel",
            Self::OpenPaper { .. } => "OpenPaper",
            Self::OpenPureHe { .. } => "OpenPureHe",
            Self::Relinearization(_) => "Relinearization",
            Self::Rotations(_) => "Rotations",
            Self::Parameter(..) => "Parameter",
            Self::FetchParameters => "FetchParameters",
            Self::FetchWork => "FetchWork",
            Self::LoadModel(_) => "LoadModel",
            Self::AttachModel { .. } => "AttachModel",
            Self::BeginStep { .. } => "BeginStep",
            Self::Activation(..) => "Activation",
            Self::OutputGradient(..) => "OutputGradient",
            Self::ClippedGradient(..) => "ClippedGradient",
            Self::Update { .. } => "Update",
            Self::BiasUpdate { .. } => "BiasUpdate",
            Self::FetchBiases => "FetchBiases",
            Self::FetchPhases => "FetchPhases",
            Self::BeginTickets { .. } => "BeginTickets",
            Self::Mask(..) => "Mask",
            Self::Request { .. } => "Request",
            Self::Bye => "Bye",
        }
    }
}

impl ToClient {
    /// Length of the frame's content, without copying a ciphertext.
    pub(crate) fn content_length(&self) -> usize {
        /// Kind and place.
        const PLACE: usize = 1 + 2 + 4 + 4;
        match self {
            Self::ForwardProduct(_, result)
            | Self::BackwardProduct(_, result)
            | Self::GradientProduct(_, result)
            | Self::Parameter(_, result)
            | Self::MaskProduct(_, result) => PLACE + result.bytes().len(),
            _ => self.to_bytes().len(),
        }
    }

    /// The name of the variant, for errors and transcripts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "Welcome",
            Self::ModelReady { .. } => "ModelReady",
            Self::ForwardProduct(..) => "ForwardProduct",
            Self::BackwardProduct(..) => "BackwardProduct",
            Self::GradientProduct(..) => "GradientProduct",
            Self::Updated { .. } => "Updated",
            Self::Biases { .. } => "Biases",
            Self::Phases(_) => "Phases",
            Self::Parameter(..) => "Parameter",
            Self::Worked(_) => "Worked",
            Self::TicketsBegun { .. } => "TicketsBegun",
            Self::MaskProduct(..) => "MaskProduct",
            Self::Answer { .. } => "Answer",
            Self::Refused { .. } => "Refused",
            Self::Farewell { .. } => "Farewell",
        }
    }
}
