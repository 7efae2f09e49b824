//! Checkpoints: how an interrupted run goes on.
//!
//! A [`Checkpoint`] holds the engine's [`State`] and the run's [`Position`]: steps done, charges in
//! the ledger, and, **for seeded runs only**, where the random streams stand. It is written to a
//! temporary file, synced, renamed over the last one, and the directory is synced: a process killed
//! at any moment leaves the old one or the new one.
//!
//! What must be true:
//!
//! - The ledger is charged before a step's update exists, so it is never behind a checkpoint; one
//!   that is, or whose first charges or settings are others, has been replaced, and
//!   [`Position::check`] refuses it by the [`LedgerMark`] of the checkpoint.
//! - A secret run never stores randomness. The steps between checkpoint and crash are done again
//!   with fresh batches and fresh noise and **charged again**: the budget pays for both, and the run
//!   ends that many steps earlier.
//! - A seeded run, which protects nothing, repeats the lost steps with the same batches and the same
//!   noise. They are the same releases: the ledger is cut back to the checkpoint
//!   ([`sphinx_dp::Ledger::rewind`], which refuses if a charge was for real noise), and the result is
//!   that of a run that was never interrupted, bit for bit.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sphinx_dp::ledger::{Ledger, LedgerMark, MarkError};

use super::StreamPosition;
use super::state::{KeptError, State};

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// How far the ledger had come, with a digest of its settings and charges.
    pub ledger: LedgerMark,
    /// Where the streams of a seeded run stand; none for a secret run.
    pub streams: Option<StreamPosition>,
}

impl Position {
    /// How many charges there were.
    #[must_use]
    pub const fn charges(&self) -> u64 {
        self.ledger.charges()
    }

    /// Checks that `ledger` is the one of this position, not behind it and with the same first
    /// charges.
    ///
    /// # Errors
    /// [`MarkError`] says how it differs.
    pub fn check(&self, ledger: &Ledger) -> Result<(), MarkError> {
        ledger.continues(&self.ledger)
    }
}

/// A run, as it can be taken up again.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The engine.
    pub state: State,
    /// The loop.
    pub position: Position,
    /// What the caller wants back: its own JSON.
    pub notes: String,
}

impl Checkpoint {
    /// Writes it durably in the place of the last one, readable by its owner only.
    ///
    /// # Errors
    /// [`KeptError`], from the serialiser or the system.
    pub fn write(&self, path: &Path) -> Result<(), KeptError> {
        let mut state = self.state.clone();
        state.text("position", serde_json::to_string(&self.position)?);
        state.text("notes", self.notes.clone());
        replace(path, &state.to_bytes()?)
    }

    /// Reads the last one; none if there is none yet.
    ///
    /// # Errors
    /// [`KeptError`] for a file that is no checkpoint of this version.
    pub fn read(path: &Path) -> Result<Option<Self>, KeptError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(path, "read it")(error)),
        };
        let state = State::from_bytes(&bytes)?;
        let position = serde_json::from_str(state.read_text("position")?)?;
        let notes = state.read_text("notes")?.to_owned();
        Ok(Some(Self {
            state,
            position,
            notes,
        }))
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> KeptError {
    let path = path.to_owned();
    move |source| KeptError::Io {
        path,
        action,
        source,
    }
}

/// Puts `bytes` in the place of the file, durably and all at once; for its owner only.
///
/// # Errors
/// [`KeptError::Io`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeptError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new).map_err(failed(&new, "create it"))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed(&new, "write it"))?;
    fs::rename(&new, path).map_err(failed(path, "replace it"))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(failed(path, "sync its folder"))
}

#[cfg(test)]
mod tests {
    use sphinx_dp::{Adjacency, DpEvent, LedgerBuilder, NoiseMultiplier};

    use super::*;

    fn ledger_of(charges: u64) -> Ledger {
        let mut ledger = LedgerBuilder::new(None, Adjacency::AddRemove).in_memory();
        for step in 0..charges {
            let noise = NoiseMultiplier::new(1.0 + step as f64).unwrap();
            ledger.charge(step, &DpEvent::gaussian(noise)).unwrap();
        }
        ledger
    }

    #[test]
    fn a_ledger_put_back_or_of_another_run_is_refused() {
        let position = checkpoint(3).position;
        assert_eq!(position.charges(), 4);
        assert!(position.check(&ledger_of(4)).is_ok());
        assert!(position.check(&ledger_of(6)).is_ok());
        let error = position.check(&ledger_of(3)).unwrap_err();
        assert!(matches!(
            error,
            MarkError::RolledBack {
                found: 3,
                marked: 4
            }
        ));
        let mut other = LedgerBuilder::new(None, Adjacency::AddRemove).in_memory();
        for step in 0..4 {
            let noise = NoiseMultiplier::new(2.0).unwrap();
            other.charge(step, &DpEvent::gaussian(noise)).unwrap();
        }
        let error = position.check(&other).unwrap_err();
        assert!(matches!(error, MarkError::AnotherLedger { marked: 4 }));
    }

    fn checkpoint(step: u64) -> Checkpoint {
        let mut state = State::new(step);
        state.f32("weights", &[1.0, f32::NAN, -0.0]);
        state.i64("velocity", &[i64::MIN]);
        Checkpoint {
            state,
            position: Position {
                step,
                ledger: ledger_of(step + 1).mark().unwrap(),
                streams: None,
            },
            notes: "{\"curve\":[]}".to_owned(),
        }
    }

    #[test]
    fn the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        assert!(Checkpoint::read(&path).unwrap().is_none());
        for step in [3, 4] {
            checkpoint(step).write(&path).unwrap();
            let read = Checkpoint::read(&path).unwrap().unwrap();
            assert_eq!(read.position, checkpoint(step).position);
            assert_eq!(read.notes, "{\"curve\":[]}");
            let weights = read.state.read_f32("weights", 3).unwrap();
            assert!(weights[1].is_nan() && weights[2].is_sign_negative());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_half_written_file_beside_it_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        checkpoint(1).write(&path).unwrap();
        fs::write(folder.path().join("c.new"), b"torn").unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap().unwrap().position.step, 1);
        checkpoint(2).write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap().unwrap().position.step, 2);
    }

    #[test]
    fn what_is_no_checkpoint_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        for bytes in [&b""[..], b"{}", &[0xff; 40]] {
            fs::write(&path, bytes).unwrap();
            let error = Checkpoint::read(&path).unwrap_err();
            assert!(matches!(error, KeptError::Tensors(_)), "{error}");
        }
        let mut bytes = checkpoint(1).state.to_bytes().unwrap();
        let at = bytes
            .windows(11)
            .position(|w| w == b"\"format\\\":1" || w == b"format\\\":1,")
            .unwrap();
        let one = bytes[at..].iter().position(|&b| b == b'1').unwrap();
        bytes[at + one] = b'7';
        fs::write(&path, &bytes).unwrap();
        let error = Checkpoint::read(&path).unwrap_err();
        assert!(matches!(error, KeptError::Format { found: 7 }), "{error}");
    }

    #[test]
    fn a_state_of_another_network_is_named() {
        let state = checkpoint(1).state;
        let error = state.read_f32("weights", 4).unwrap_err().to_string();
        assert!(
            error.contains("`weights`") && error.contains('4'),
            "{error}"
        );
        assert!(matches!(
            state.read_i32("velocity", 1),
            Err(KeptError::Shape { .. })
        ));
    }
}
