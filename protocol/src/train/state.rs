//! What an engine keeps between steps, as named tensors in one file.
//!
//! The format is safetensors: a JSON header with names, types, shapes and offsets, then the
//! little-endian values; numbers and texts go into its metadata under the one key `sphinx`. Other
//! tools can read the weights without this crate. Reading checks names, types and lengths before
//! anything is used.
//!
//! The file holds the **biases in the clear** and the client's velocities: it stays with the client.
//!
//! ```
//! use sphinx_protocol::train::State;
//!
//! let mut state = State::new(7);
//! state.f32("weights", &[0.5, -1.0]);
//! let read = State::from_bytes(&state.to_bytes()?)?;
//! assert_eq!((read.step(), read.read_f32("weights", 2)?), (7, vec![0.5, -1.0]));
//! assert!(read.read_f32("velocity", 2).is_err());
//! # Ok::<(), sphinx_protocol::train::KeptError>(())
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::grid::{Engine, Multiplier};
use crate::model::{PrivateModel, Replica};

/// The metadata key under which everything but tensors stands.
const KEY: &str = "sphinx";
/// The tensor of biases that follow the published rule, in their own units.
const PUBLISHED: &str = "published_biases";
/// The version that this crate writes and reads.
const FORMAT: u32 = 1;

/// A state or checkpoint that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeptError {
    /// The bytes are not a safetensors file.
    #[error("not a checkpoint: {0}; restore it from a backup or start the run again")]
    Tensors(#[from] safetensors::SafeTensorError),
    /// The metadata is not ours.
    #[error(
        "the checkpoint's metadata is damaged: {0}; restore it from a backup or start the run again"
    )]
    Metadata(#[from] serde_json::Error),
    /// Another version of the format.
    #[error(
        "the checkpoint has format {found}, this build reads {FORMAT}; use the version that wrote it"
    )]
    Format {
        /// The version found.
        found: u32,
    },
    /// Something the engine needs is not in it.
    #[error(
        "the checkpoint has no `{name}`: it belongs to another engine or optimiser; use those of the run"
    )]
    Missing {
        /// What is missing.
        name: &'static str,
    },
    /// A tensor of another type or length.
    #[error(
        "`{name}` in the checkpoint holds {found} values of {kind}, expected {expected}: it \
             belongs to another network; use that of the run"
    )]
    Shape {
        /// The tensor.
        name: &'static str,
        /// Values found.
        found: usize,
        /// Their type.
        kind: String,
        /// Values expected.
        expected: usize,
    },
    /// The model refused what was kept.
    #[error("the model in the checkpoint: {0}")]
    Model(#[from] Box<crate::Error>),
    /// The operating system refused.
    #[error("{path}: could not {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason given.
        source: std::io::Error,
    },
}

/// The values of a tensor.
#[derive(Clone, Debug, PartialEq)]
struct Values {
    kind: Dtype,
    bytes: Vec<u8>,
}

/// Step, tensors, numbers and texts of one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    head: Head,
    tensors: BTreeMap<String, Values>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    step: u64,
    numbers: BTreeMap<String, u64>,
    texts: BTreeMap<String, String>,
}

macro_rules! tensors {
    ($($write:ident, $read:ident, $type:ty, $kind:ident;)*) => {$(
        #[doc = concat!("Keeps a vector of `", stringify!($type), "`.")]
        pub fn $write(&mut self, name: &str, values: &[$type]) {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            self.tensors.insert(name.to_owned(), Values { kind: Dtype::$kind, bytes });
        }

        #[doc = concat!("A vector of exactly `len` values of `", stringify!($type), "`.")]
        ///
        /// # Errors
        /// [`KeptError::Missing`] or [`KeptError::Shape`].
        pub fn $read(&self, name: &'static str, len: usize) -> Result<Vec<$type>, KeptError> {
            const SIZE: usize = size_of::<$type>();
            let values = self.tensors.get(name).ok_or(KeptError::Missing { name })?;
            if values.kind != Dtype::$kind || values.bytes.len() != len.saturating_mul(SIZE) {
                let (kind, size) = (format!("{:?}", values.kind), values.kind.bitsize() / 8);
                let found = values.bytes.len() / size.max(1);
                return Err(KeptError::Shape { name, found, kind, expected: len });
            }
            let number = |bytes: &[u8; SIZE]| <$type>::from_le_bytes(*bytes);
            Ok(values.bytes.as_chunks::<SIZE>().0.iter().map(number).collect())
        }
    )*};
}

impl State {
    /// An empty state after `step` steps.
    #[must_use]
    pub const fn new(step: u64) -> Self {
        Self {
            head: Head {
                format: FORMAT,
                step,
                numbers: BTreeMap::new(),
                texts: BTreeMap::new(),
            },
            tensors: BTreeMap::new(),
        }
    }

    /// Steps that were learnt from.
    #[must_use]
    pub const fn step(&self) -> u64 {
        self.head.step
    }

    tensors! {
        f32, read_f32, f32, F32;
        f64, read_f64, f64, F64;
        i32, read_i32, i32, I32;
        i64, read_i64, i64, I64;
    }

    /// Keeps a number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.head.numbers.insert(name.to_owned(), value);
    }

    /// A number.
    ///
    /// # Errors
    /// [`KeptError::Missing`].
    pub fn read_number(&self, name: &'static str) -> Result<u64, KeptError> {
        let number = self.head.numbers.get(name).copied();
        number.ok_or(KeptError::Missing { name })
    }

    /// Keeps a text.
    pub fn text(&mut self, name: &str, value: String) {
        self.head.texts.insert(name.to_owned(), value);
    }

    /// A text.
    ///
    /// # Errors
    /// [`KeptError::Missing`].
    pub fn read_text(&self, name: &'static str) -> Result<&str, KeptError> {
        let text = self.head.texts.get(name);
        text.map(String::as_str).ok_or(KeptError::Missing { name })
    }

    /// The file's bytes; equal states give equal bytes.
    ///
    /// # Errors
    /// [`KeptError::Tensors`] from the serialiser.
    pub fn to_bytes(&self) -> Result<Vec<u8>, KeptError> {
        let head = HashMap::from([(KEY.to_owned(), serde_json::to_string(&self.head)?)]);
        let views: Vec<(&str, TensorView<'_>)> = self
            .tensors
            .iter()
            .map(|(name, values)| {
                let len = values.bytes.len() * 8 / values.kind.bitsize();
                let view = TensorView::new(values.kind, vec![len], &values.bytes)?;
                Ok((name.as_str(), view))
            })
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        Ok(safetensors::serialize(views, Some(head))?)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`KeptError`] for bytes of another kind or version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeptError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let file = SafeTensors::deserialize(bytes)?;
        let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let text = text.ok_or(KeptError::Missing { name: KEY })?;
        let version: serde_json::Value = serde_json::from_str(text)?;
        let found = version["format"].as_u64().unwrap_or(0);
        if found != u64::from(FORMAT) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(KeptError::Format { found });
        }
        let tensors = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let values = Values {
                    kind: view.dtype(),
                    bytes: view.data().to_vec(),
                };
                (name, values)
            })
            .collect();
        Ok(Self {
            head: serde_json::from_str(text)?,
            tensors,
        })
    }
}

/// An engine whose state can be kept.
///
/// Keys and encryption randomness are not part of it: who goes on with an encrypted engine opens the
/// model again, with a fresh key, from [`restore_replica`].
pub trait Kept {
    /// Everything that later steps depend on, except randomness.
    fn keep(&self) -> State;
}

/// What has to be kept of a replica.
#[must_use]
pub fn keep_replica(replica: &Replica) -> State {
    let kept = replica.export_private();
    let mut state = State::new(replica.public().step());
    state.i32("weights", kept.weights());
    state.i64("velocity", kept.velocity());
    state.i32("biases", kept.biases());
    state.i64("bias_velocity", kept.bias_velocity());
    if let Some(published) = replica.published() {
        state.i64(PUBLISHED, &published.values());
    }
    state
}

/// The replica that [`keep_replica`] described, by the rule of biases that it followed.
///
/// # Errors
/// [`KeptError`] for the state of another plan.
pub fn restore_replica(plan: &crate::plan::GridPlan, state: &State) -> Result<Replica, KeptError> {
    let (weights, biases) = (plan.weight_count(), plan.bias_count());
    let kept = PrivateModel::from_parts(
        state.step(),
        state.read_i32("weights", weights)?,
        state.read_i64("velocity", weights)?,
        state.read_i32("biases", biases)?,
        state.read_i64("bias_velocity", biases)?,
    );
    let refused = |e| KeptError::Model(Box::new(e));
    let replica = Replica::import_private(plan, &kept).map_err(refused)?;
    if !state.tensors.contains_key(PUBLISHED) {
        return Ok(replica);
    }
    let values = state.read_i64(PUBLISHED, biases)?;
    replica.publishing_biases_from(&values).map_err(refused)
}

impl<M: Multiplier> Kept for Engine<M> {
    fn keep(&self) -> State {
        keep_replica(self.multiplier().replica())
    }
}
