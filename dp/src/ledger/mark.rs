//! A mark in a ledger: how far a run had come, to be kept outside of the ledger.
//!
//! A ledger file tells by itself when it was torn or damaged. It cannot tell that an older copy of it
//! was put back, or the ledger of another run with other settings: each is a whole ledger. A
//! checkpoint that keeps the [`LedgerMark`] of its last charge can tell, and refuses to go on.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Entry, Ledger};

/// The number of charges in a ledger, and a SHA-256 digest of its settings and of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerMark {
    charges: u64,
    digest: String,
}

impl LedgerMark {
    /// How many charges there were.
    #[must_use]
    pub const fn charges(&self) -> u64 {
        self.charges
    }
}

/// A ledger does not continue the one that was marked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MarkError {
    /// Charges that were made are missing: an older copy of the file was put back.
    #[error(
        "the ledger has {found} charges, but {marked} were made: an older copy was put back; \
         find the newer one, or count everything since as spent"
    )]
    RolledBack {
        /// Charges in the ledger.
        found: u64,
        /// Charges when it was marked.
        marked: u64,
    },
    /// The first charges, or the settings, are not those that were marked.
    #[error(
        "the first {marked} charges or the settings are not those of this run's ledger: put the run's own back"
    )]
    AnotherLedger {
        /// Charges when it was marked.
        marked: u64,
    },
    /// The settings could not be encoded.
    #[error("the ledger could not be encoded for its digest: one of its numbers is not finite")]
    Encoding,
}

impl Ledger {
    /// The mark of this ledger as it is now.
    ///
    /// # Errors
    /// [`MarkError::Encoding`] if an entry cannot be encoded, which no entry of a ledger is known to
    /// do.
    pub fn mark(&self) -> Result<LedgerMark, MarkError> {
        self.mark_of(self.entries())
    }

    /// Checks that this ledger is the marked one, possibly with more charges.
    ///
    /// More charges than marked are as they should be: each is written before its release, so a
    /// crash may leave charges that no checkpoint knows. They stay spent.
    ///
    /// # Errors
    /// [`MarkError`] says how it differs.
    pub fn continues(&self, mark: &LedgerMark) -> Result<(), MarkError> {
        let (found, marked) = (self.entries().len() as u64, mark.charges);
        let first = usize::try_from(marked)
            .ok()
            .and_then(|marked| self.entries().get(..marked))
            .ok_or(MarkError::RolledBack { found, marked })?;
        if self.mark_of(first)? == *mark {
            Ok(())
        } else {
            Err(MarkError::AnotherLedger { marked })
        }
    }

    fn mark_of(&self, entries: &[Entry]) -> Result<LedgerMark, MarkError> {
        let settings = (self.budget(), self.adjacency(), self.fixed_order());
        let settings = match self.fixed_plan() {
            None => serde_json::to_vec(&settings),
            Some(plan) => serde_json::to_vec(&(settings, plan)),
        };
        let settings = settings.map_err(|_| MarkError::Encoding)?;
        let mut hash = Sha256::new();
        // Lengths first, so that no two ledgers are the same bytes.
        hash.update((settings.len() as u64).to_le_bytes());
        hash.update(&settings);
        for entry in entries {
            let line = serde_json::to_vec(entry).map_err(|_| MarkError::Encoding)?;
            hash.update((line.len() as u64).to_le_bytes());
            hash.update(&line);
        }
        let digest = hash
            .finalize()
            .into_iter()
            .map(|byte| format!("{byte:02x}"));
        Ok(LedgerMark {
            charges: entries.len() as u64,
            digest: digest.collect(),
        })
    }
}
