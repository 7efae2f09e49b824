//! The file behind a ledger: JSON lines, locked, synced, recovered.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Entry, FixedPlan};
use crate::accountant::{AccountError, NotFinite, Unsupported};
use crate::calibrate::Budget;
use crate::event::DpEvent;
use crate::quantity::{Adjacency, RangeError};

/// The format that this crate writes and reads.
const VERSION: u32 = 1;

/// The ledger refused a charge or could not keep its book.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The filter: the step does not fit into the budget. Nothing was charged.
    #[error(
        "step {step} would raise epsilon to {would_be}, above the budget of {epsilon} at delta \
         {delta}: stop here, or start anew with a larger budget"
    )]
    BudgetExhausted {
        /// The refused step.
        step: u64,
        /// Epsilon if it had been charged.
        would_be: f64,
        /// The budget's epsilon.
        epsilon: f64,
        /// The budget's delta.
        delta: f64,
    },
    /// All steps of a fixed plan are charged. Nothing was charged.
    #[error(
        "step {step} would be one more than the {steps} steps of the fixed plan, for which \
         epsilon was accounted: stop here, or plan a new run"
    )]
    PlanExhausted {
        /// The refused step.
        step: u64,
        /// The steps of the plan.
        steps: u64,
    },
    /// A release that the fixed plan does not cover. Nothing was charged.
    #[error(
        "the fixed plan is {planned}; it does not cover {event}: release only what was planned, or plan a new run"
    )]
    OffPlan {
        /// The step that was planned.
        planned: Box<DpEvent>,
        /// What was to be charged.
        event: Box<DpEvent>,
    },
    /// The fixed plan cannot be kept within the budget, or not priced at all.
    #[error(
        "the fixed plan {plan} costs epsilon {would_be}, above the budget of {epsilon}: plan fewer steps or more noise"
    )]
    PlanTooDear {
        /// The plan.
        plan: FixedPlan,
        /// What all its steps cost.
        would_be: f64,
        /// The budget's epsilon.
        epsilon: f64,
    },
    /// The accountant of a fixed plan has no answer.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The event cannot be priced.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The accountant's arithmetic overflowed.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// A parameter of the ledger was out of range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The file exists already; a ledger is never overwritten.
    #[error("{path} exists already: open it to go on with it, or choose another path")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// Another process holds the ledger.
    #[error("{path} is held by another process: two runs must not share one ledger")]
    Locked {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("could not {action} the ledger {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The reason given.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("line {line} of the ledger {path} is damaged: {source}; restore it from a backup")]
    Damaged {
        /// The path.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The header was never completed, so nothing was ever charged.
    #[error("the ledger {path} has no complete header: nothing was charged; delete it")]
    NoHeader {
        /// The path.
        path: PathBuf,
    },
    /// The file is of another version of the format.
    #[error(
        "the ledger {path} has format {found}, this build reads format {VERSION}: use the version that wrote it"
    )]
    Version {
        /// The path.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// Entries are not numbered one after the other: lines are missing or repeated.
    #[error(
        "entry {found} of the ledger {path} stands where entry {expected} belongs: restore it from a backup"
    )]
    Sequence {
        /// The path.
        path: PathBuf,
        /// The number that belongs there.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// Charges for real noise cannot be taken back.
    #[error(
        "entry {sequence} of the ledger {path} was charged for noise from no test seed: it stays \
         charged"
    )]
    NotRewindable {
        /// The path.
        path: PathBuf,
        /// The entry.
        sequence: u64,
    },
    /// An earlier write failed, so the file may hold a charge that was never confirmed.
    #[error("an earlier write to this ledger failed: open it again before going on")]
    Broken,
}

/// The first line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    sphinx_ledger: u32,
    pub(super) budget: Option<Budget>,
    pub(super) adjacency: Adjacency,
    #[serde(default)]
    pub(super) fixed_order: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plan: Option<FixedPlan>,
}

impl Header {
    pub(super) const fn new(
        budget: Option<Budget>,
        adjacency: Adjacency,
        fixed_order: Option<f64>,
    ) -> Self {
        Self {
            sphinx_ledger: VERSION,
            budget,
            adjacency,
            fixed_order,
            plan: None,
        }
    }
}

/// An open, locked ledger file, positioned at its end.
#[derive(Debug)]
pub(super) struct Book {
    file: File,
    path: PathBuf,
}

/// What a file held.
pub(super) struct Recovered {
    pub(super) book: Book,
    pub(super) header: Header,
    pub(super) entries: Vec<Entry>,
    /// Bytes of a torn last line that were cut off.
    pub(super) dropped: usize,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io {
        action,
        path,
        source,
    }
}

fn lock(file: &File, path: &Path) -> Result<(), LedgerError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", path)(source)),
    }
}

impl Book {
    /// Makes a new file with its header, synced together with its directory entry.
    pub(super) fn create(path: &Path, header: &Header) -> Result<Self, LedgerError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => LedgerError::Exists {
                    path: path.to_owned(),
                },
                _ => io_error("create", path)(source),
            })?;
        lock(&file, path)?;
        let mut book = Self {
            file,
            path: path.to_owned(),
        };
        book.append(header)?;
        sync_directory(path).map_err(io_error("sync the directory of", path))?;
        Ok(book)
    }

    /// Reads a file, repairs a torn end, and leaves it ready for the next charge.
    pub(super) fn open(path: &Path) -> Result<Recovered, LedgerError> {
        let file = OpenOptions::new().read(true).append(true).open(path);
        let file = file.map_err(io_error("open", path))?;
        lock(&file, path)?;
        let mut book = Self {
            file,
            path: path.to_owned(),
        };
        let mut bytes = Vec::new();
        book.file
            .read_to_end(&mut bytes)
            .map_err(io_error("read", path))?;
        let Some(header_end) = bytes.iter().position(|&byte| byte == b'\n') else {
            return Err(LedgerError::NoHeader {
                path: path.to_owned(),
            });
        };
        let header = book.parse_header(&bytes[..header_end])?;
        let (entries, whole) = book.parse_entries(&bytes, header_end + 1)?;
        let dropped = bytes.len() - whole.min(bytes.len());
        book.repair(whole, bytes.len())?;
        Ok(Recovered {
            book,
            header,
            entries,
            dropped,
        })
    }

    /// A book on the device that refuses every write.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn at_full_device() -> io::Result<Self> {
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(Self { file, path })
    }

    fn parse_header(&self, line: &[u8]) -> Result<Header, LedgerError> {
        let damaged = |source| LedgerError::Damaged {
            path: self.path.clone(),
            line: 1,
            source,
        };
        let header: Header = serde_json::from_slice(line).map_err(damaged)?;
        if header.sphinx_ledger != VERSION {
            let found = header.sphinx_ledger;
            return Err(LedgerError::Version {
                path: self.path.clone(),
                found,
            });
        }
        Ok(header)
    }

    /// All entries, and the length of the file up to the last whole one, its line break included
    /// even where the break itself was torn off.
    fn parse_entries(
        &self,
        bytes: &[u8],
        start: usize,
    ) -> Result<(Vec<Entry>, usize), LedgerError> {
        let mut entries = Vec::new();
        let mut at = start;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let line = &rest[..end.unwrap_or(rest.len())];
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) => {
                    let expected = entries.len() as u64;
                    if entry.sequence != expected {
                        let (path, found) = (self.path.clone(), entry.sequence);
                        return Err(LedgerError::Sequence {
                            path,
                            expected,
                            found,
                        });
                    }
                    entries.push(entry);
                    at += line.len() + 1;
                }
                Err(_) if end.is_none() => break,
                Err(source) => {
                    let line = entries.len() + 2;
                    return Err(LedgerError::Damaged {
                        path: self.path.clone(),
                        line,
                        source,
                    });
                }
            }
        }
        Ok((entries, at))
    }

    /// Cuts a torn line off, or completes a whole one whose line break is missing.
    fn repair(&mut self, whole: usize, found: usize) -> Result<(), LedgerError> {
        let fixed = match whole.cmp(&found) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less => self.file.set_len(whole as u64),
            std::cmp::Ordering::Greater => self.file.write_all(b"\n"),
        };
        fixed
            .and_then(|()| self.file.sync_all())
            .map_err(io_error("repair", &self.path))?;
        let end = self.file.seek(SeekFrom::End(0));
        end.map(|_| ()).map_err(io_error("repair", &self.path))
    }

    /// Writes one line and syncs it to the disk.
    pub(super) fn append(&mut self, value: &impl Serialize) -> Result<(), LedgerError> {
        let path = &self.path;
        let line = serde_json::to_vec(value).map_err(io::Error::from);
        let mut line = line.map_err(io_error("encode an entry of", path))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(io_error("write to", path))?;
        self.file.sync_all().map_err(io_error("sync", path))
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
