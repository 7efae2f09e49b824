//! Cutting a ledger back, where nothing was protected in the first place.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::{Entry, Ledger, LedgerError};
use crate::noise::NoiseKind;

impl Ledger {
    /// Opens a ledger as it was after its first `charges` charges: for a **seeded test run** that
    /// goes on from a checkpoint and will make the very same releases again.
    ///
    /// The file is replaced at once (written beside it, synced, renamed).
    ///
    /// # Errors
    /// As [`Self::open`]; [`LedgerError::NotRewindable`], with the file as it was, if one of the later
    /// charges was not for a release whose noise came from a test seed (or that had none).
    pub fn rewind(path: impl AsRef<Path>, charges: u64) -> Result<Self, LedgerError> {
        let path = path.as_ref();
        let ledger = Self::open(path)?;
        let keep = usize::try_from(charges).unwrap_or(usize::MAX);
        if ledger.entries().len() <= keep {
            return Ok(ledger);
        }
        let repeatable =
            |entry: &Entry| matches!(entry.noise, Some(NoiseKind::SeededTest | NoiseKind::None));
        if let Some(entry) = ledger.entries()[keep..].iter().find(|e| !repeatable(e)) {
            let (path, sequence) = (path.to_owned(), entry.sequence);
            return Err(LedgerError::NotRewindable { path, sequence });
        }
        let io = |action| {
            let path = path.to_owned();
            move |source| LedgerError::Io {
                action,
                path,
                source,
            }
        };
        // The header and the first entries, byte for byte; the lock is on the old file until then.
        let bytes = fs::read(path).map_err(io("read"))?;
        let kept: Vec<u8> = bytes
            .split_inclusive(|&b| b == b'\n')
            .take(keep.saturating_add(1))
            .flatten()
            .copied()
            .collect();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = path.with_file_name(name);
        let mut file = File::create(&new).map_err(io("create"))?;
        file.write_all(&kept)
            .and_then(|()| file.sync_all())
            .map_err(io("write to"))?;
        fs::rename(&new, path).map_err(io("replace"))?;
        drop(ledger);
        Self::open(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adjacency, ClipBound, Clipped, GaussianMechanism, NoiseMultiplier, SamplingRate};

    fn release(ledger: &mut Ledger, step: u64, seeded: bool) {
        let bound = ClipBound::new(1000).unwrap();
        let z = NoiseMultiplier::new(1.0).unwrap();
        let mechanism = GaussianMechanism::new(bound, Some(z), SamplingRate::FULL).unwrap();
        let noise = if seeded {
            mechanism.prepare_seeded(1, [7; 32])
        } else {
            let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(1);
            mechanism.prepare(1, &mut rng)
        };
        let sum = Clipped::check(vec![0], &[0], bound).unwrap();
        mechanism.release(step, sum, noise, ledger).unwrap();
    }

    #[test]
    fn a_repeated_seeded_run_leaves_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let mut ledger = Ledger::create(&path, None, Adjacency::AddRemove).unwrap();
        (0..5).for_each(|step| release(&mut ledger, step, true));
        drop(ledger);
        let whole = fs::read(&path).unwrap();
        for keep in [5, 3, 0] {
            let mut again = Ledger::rewind(&path, keep).unwrap();
            assert_eq!(again.entries().len() as u64, keep);
            (keep..5).for_each(|step| release(&mut again, step, true));
            drop(again);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn real_noise_is_never_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let mut ledger = Ledger::create(&path, None, Adjacency::AddRemove).unwrap();
        release(&mut ledger, 0, false);
        release(&mut ledger, 1, true);
        drop(ledger);
        assert_eq!(Ledger::rewind(&path, 1).unwrap().entries().len(), 1);
        let error = Ledger::rewind(&path, 0).unwrap_err();
        assert!(
            matches!(error, LedgerError::NotRewindable { sequence: 0, .. }),
            "{error}"
        );
        assert_eq!(Ledger::open(&path).unwrap().entries().len(), 1);
    }
}
