//! The privacy ledger: every release is charged before it leaves.
//!
//! An append-only file of JSON lines: a header with budget and adjacency, then one line per charge.
//! A charge is checked against the budget (the filter), written and synced to disk, and only then
//! is a [`Receipt`] returned. After a crash, [`Ledger::open`] reads the file again and composes
//! what it finds: whatever may have been sent was charged.
//!
//! What must be true: a step that would take epsilon above the budget is refused and leaves no
//! trace; a charge that could not be written makes the ledger refuse everything after it; a torn
//! last line (a crash in the middle of a write, before anything was sent) counts if it is whole and
//! is dropped, and reported, if it is not. An older copy of the file that was put back is noticed by
//! who kept a [`LedgerMark`]. One process at a time holds the file (an advisory lock).
//!
//! The budget test composes the events of all steps and asks for the best Renyi order at the end.
//! That is valid for a schedule fixed in advance, also with early stopping at a public time. A run
//! that chooses noise or rate in view of earlier outputs needs a filter at one order fixed at the
//! start (Feldman, Zrnic 2021, *Individual Privacy Accounting via a Renyi Filter*,
//! arXiv:2008.11193): make it with [`LedgerBuilder::fixed_order`]. A run whose steps are all known in
//! advance can be priced as a whole, also by the privacy-loss accountant: make it with
//! [`LedgerBuilder::fixed_plan`]; such a ledger refuses whatever the plan does not cover.
//!
//! ```
//! use sphinx_dp::{Adjacency, Budget, Delta, DpEvent, Epsilon, Ledger, NoiseMultiplier};
//!
//! let budget = Budget { epsilon: Epsilon::new(1.0)?, delta: Delta::new(1e-5)? };
//! let mut ledger = Ledger::in_memory(Some(budget), Adjacency::AddRemove);
//! let event = DpEvent::gaussian(NoiseMultiplier::new(5.0)?);
//! ledger.charge(0, &event)?;
//! assert!(ledger.would_exceed(&event));
//! assert!(ledger.charge(1, &event).is_err());
//! assert_eq!(ledger.entries().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod book;
mod file;
mod mark;
mod plan;
mod rewind;

pub use book::{Entry, Ledger, LedgerBuilder, Receipt};
pub use file::LedgerError;
pub use mark::{LedgerMark, MarkError};
pub use plan::FixedPlan;

#[cfg(test)]
mod tests;
