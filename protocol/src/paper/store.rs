//! Uploads of a step as they came: in memory, or in a temporary file where they are many.
//!
//! An upload at two primes takes 42.6 kB as it came and 131 kB expanded; `minionn-mnist` brings 13,000 in a step,
//! `minionn-cifar10` 290,000. The file has no name any more when the first byte is written, so nothing is left
//! behind; it holds what crossed the wire and nothing else.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use rand_core::Rng;
use rayon::prelude::*;
use sphinx_he::ckks::{Bank, Ciphertext, Scale, SeededCiphertext};
use sphinx_he::rlwe::Parameters;

use super::TOP;
use crate::error::Error;
use crate::message::Sealed;

/// Bytes that are kept in memory; a step that uploads more uses a file.
pub(super) const MEMORY: usize = 1 << 30;
/// Uploads that are expanded at a time on their way into a bank.
const BATCH: usize = 256;

/// What an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A layer's inputs.
    Inputs,
    /// A layer's output gradients.
    Outputs,
}

/// One run of uploads: a layer's inputs or output gradients in one block of samples.
pub(super) type Key = (Part, usize, usize);

#[derive(Debug)]
enum Backing {
    Memory(BTreeMap<Key, Vec<Sealed>>),
    /// Records of one length; runs begin where they say.
    Disk {
        file: File,
        runs: BTreeMap<Key, (u64, usize)>,
        end: u64,
    },
}

/// The uploads of one step.
#[derive(Debug)]
pub(super) struct Store {
    parameters: Parameters,
    backing: Backing,
    length: usize,
}

impl Store {
    /// For a step of `uploads` ciphertexts.
    ///
    /// # Errors
    /// [`Error::Transport`] if the temporary file cannot be made.
    pub(super) fn new(parameters: &Parameters, uploads: usize) -> Result<Self, Error> {
        let length = SeededCiphertext::wire_size(parameters, TOP.0);
        Self::with_memory(parameters, uploads.saturating_mul(length) <= MEMORY)
    }

    /// In memory, or in a file.
    pub(super) fn with_memory(parameters: &Parameters, memory: bool) -> Result<Self, Error> {
        let backing = if memory {
            Backing::Memory(BTreeMap::new())
        } else {
            Backing::Disk {
                file: nameless_file()?,
                runs: BTreeMap::new(),
                end: 0,
            }
        };
        Ok(Self {
            parameters: parameters.clone(),
            backing,
            length: SeededCiphertext::wire_size(parameters, TOP.0),
        })
    }

    /// Takes the next upload of a run; runs come one after the other.
    pub(super) fn push(&mut self, key: Key, sealed: Sealed) -> Result<(), Error> {
        let got = sealed.bytes().len();
        if got != self.length {
            return Err(Error::Unexpected {
                expected: format!("an upload of {} bytes", self.length),
                got: format!("{got} bytes"),
            });
        }
        match &mut self.backing {
            Backing::Memory(runs) => runs.entry(key).or_default().push(sealed),
            Backing::Disk { file, runs, end } => {
                let run = runs.entry(key).or_insert((*end, 0));
                file.seek(SeekFrom::Start(*end))?;
                file.write_all(sealed.bytes())?;
                run.1 += 1;
                *end += self.length as u64;
            }
        }
        Ok(())
    }

    /// Forgets a run. A file is used again from its start once everything is forgotten.
    pub(super) fn forget(&mut self, key: Key) {
        match &mut self.backing {
            Backing::Memory(runs) => {
                runs.remove(&key);
            }
            Backing::Disk { runs, end, .. } => {
                runs.remove(&key);
                if runs.is_empty() {
                    *end = 0;
                }
            }
        }
    }

    /// Expands the uploads of a run at `indices` into a bank, in this order.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] for bytes that are no ciphertext, [`Error::He`] for one of another
    /// level or scale, [`Error::Unexpected`] for one that never came.
    pub(super) fn expand(
        &mut self,
        key: Key,
        indices: &[u32],
        scale: Scale,
    ) -> Result<Bank, Error> {
        let mut bank = Bank::new(&self.parameters, TOP, scale, indices.len())?;
        for (at, indices) in indices.chunks(BATCH).enumerate() {
            let sealed = self.read(key, indices)?;
            let expanded = sealed
                .par_iter()
                .map(|sealed| Ok(sealed.open_slots(&self.parameters)?.expand()))
                .collect::<Result<Vec<Ciphertext>, Error>>()?;
            expanded.iter().try_for_each(|c| bank.admit(c))?;
            let mut parts: Vec<_> = bank.parts_mut().collect();
            parts
                .par_iter_mut()
                .for_each(|part| part.put(at * BATCH, &expanded));
        }
        Ok(bank)
    }

    /// The uploads of a run at `indices`, as they came.
    ///
    /// # Errors
    /// [`Error::Unexpected`] for one that never came.
    pub(super) fn read(&mut self, key: Key, indices: &[u32]) -> Result<Vec<Sealed>, Error> {
        let missing = || Error::Unexpected {
            expected: "an upload of this step".into(),
            got: format!("none for {key:?}"),
        };
        match &mut self.backing {
            Backing::Memory(runs) => {
                let run = runs.get(&key).ok_or_else(missing)?;
                let at = |&i: &u32| run.get(i as usize).cloned().ok_or_else(missing);
                indices.iter().map(at).collect()
            }
            Backing::Disk { file, runs, .. } => {
                let &(start, count) = runs.get(&key).ok_or_else(missing)?;
                let mut sealed = Vec::with_capacity(indices.len());
                for &i in indices {
                    if i as usize >= count {
                        return Err(missing());
                    }
                    let mut bytes = vec![0; self.length];
                    file.seek(SeekFrom::Start(start + u64::from(i) * self.length as u64))?;
                    file.read_exact(&mut bytes)?;
                    sealed.push(Sealed::received(bytes));
                }
                Ok(sealed)
            }
        }
    }
}

/// A file that vanishes with its handle.
fn nameless_file() -> Result<File, Error> {
    let mut name = [0; 8];
    rand::rng().fill_bytes(&mut name);
    let path =
        std::env::temp_dir().join(format!("sphinx-uploads-{:016x}", u64::from_le_bytes(name)));
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
