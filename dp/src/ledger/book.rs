//! The ledger itself: filter, charge, receipt.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::LedgerError;
use super::file::{Book, Header};
use crate::accountant::{Accountant, NotFinite, Spent};
use crate::calibrate::Budget;
use crate::event::DpEvent;
use crate::noise::NoiseKind;
use crate::quantity::{Adjacency, Delta, require};
use crate::rdp::{MAX_ORDER, MIN_ORDER, RdpAccountant, convert};

/// One charge, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from zero, without gaps.
    pub sequence: u64,
    /// The step it belongs to, as the caller counts them; a step charged twice appears twice.
    pub step: u64,
    /// What was released.
    pub event: DpEvent,
    /// Where the noise came from, for charges made by a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseKind>,
    /// How many coordinates were released, for charges made by a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<u64>,
}

/// Proof that a charge is in the ledger, durably if the ledger has a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    sequence: u64,
    step: u64,
    noise: Option<NoiseKind>,
    spent: Spent,
    durable: bool,
}

impl Receipt {
    /// The number of the entry.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The step that was charged.
    #[must_use]
    pub const fn step(&self) -> u64 {
        self.step
    }

    /// Where the noise came from, for a release.
    #[must_use]
    pub const fn noise(&self) -> Option<NoiseKind> {
        self.noise
    }

    /// What is spent with this charge included.
    #[must_use]
    pub const fn spent(&self) -> Spent {
        self.spent
    }

    /// Whether the charge is on disk (false for a ledger in memory).
    #[must_use]
    pub const fn durable(&self) -> bool {
        self.durable
    }
}

/// The delta at which [`Ledger::spent`] reports when there is no budget to take it from.
const REPORT_DELTA: f64 = 1e-5;

/// The settings of a new ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LedgerBuilder {
    budget: Option<Budget>,
    adjacency: Adjacency,
    fixed_order: Option<f64>,
}

impl LedgerBuilder {
    /// A ledger that refuses what exceeds `budget` (nothing if `None`).
    #[must_use]
    pub const fn new(budget: Option<Budget>, adjacency: Adjacency) -> Self {
        Self {
            budget,
            adjacency,
            fixed_order: None,
        }
    }

    /// Spends at one Renyi order only, chosen now: valid even if later steps choose their noise
    /// and rate in view of earlier outputs.
    ///
    /// # Errors
    /// [`LedgerError::Range`] unless `1.005 <= order <= 2001`.
    pub fn fixed_order(mut self, order: f64) -> Result<Self, LedgerError> {
        let ok = (MIN_ORDER..=MAX_ORDER).contains(&order);
        require(ok, "fixed Renyi order", order, "between 1.005 and 2001")?;
        self.fixed_order = Some(order);
        Ok(self)
    }

    /// A ledger without a file.
    #[must_use]
    pub const fn in_memory(self) -> Ledger {
        Ledger {
            settings: self,
            accountant: RdpAccountant::new(self.adjacency),
            entries: Vec::new(),
            book: None,
            broken: false,
            dropped: 0,
        }
    }

    /// A ledger with a new file.
    ///
    /// # Errors
    /// [`LedgerError::Exists`] rather than overwriting; otherwise what the system says.
    pub fn create(self, path: impl AsRef<Path>) -> Result<Ledger, LedgerError> {
        let header = Header::new(self.budget, self.adjacency, self.fixed_order);
        let book = Book::create(path.as_ref(), &header)?;
        Ok(Ledger {
            book: Some(book),
            ..self.in_memory()
        })
    }
}

/// The record of all charges, and the filter in front of them.
#[derive(Debug)]
pub struct Ledger {
    settings: LedgerBuilder,
    accountant: RdpAccountant,
    entries: Vec<Entry>,
    book: Option<Book>,
    broken: bool,
    dropped: usize,
}

impl Ledger {
    /// A ledger without a file: for tests, and for runs whose loss costs nothing.
    #[must_use]
    pub const fn in_memory(budget: Option<Budget>, adjacency: Adjacency) -> Self {
        LedgerBuilder::new(budget, adjacency).in_memory()
    }

    /// A ledger on a book that was opened elsewhere.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn with_book(book: Book) -> Self {
        let mut ledger = Self::in_memory(None, Adjacency::AddRemove);
        ledger.book = Some(book);
        ledger
    }

    /// A ledger with a new file.
    ///
    /// # Errors
    /// [`LedgerError::Exists`] rather than overwriting; otherwise what the system says.
    pub fn create(
        path: impl AsRef<Path>,
        budget: Option<Budget>,
        adjacency: Adjacency,
    ) -> Result<Self, LedgerError> {
        LedgerBuilder::new(budget, adjacency).create(path)
    }

    /// Goes on with the ledger in a file: everything in it counts as spent.
    ///
    /// # Errors
    /// [`LedgerError`] for a file that is missing, held, of another version or damaged anywhere but
    /// in a torn last line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LedgerError> {
        let found = Book::open(path.as_ref())?;
        let mut settings = LedgerBuilder::new(found.header.budget, found.header.adjacency);
        if let Some(order) = found.header.fixed_order {
            settings = settings.fixed_order(order)?;
        }
        let mut ledger = settings.in_memory();
        for entry in &found.entries {
            ledger.accountant.compose(&entry.event, 1)?;
        }
        ledger.entries = found.entries;
        ledger.book = Some(found.book);
        ledger.dropped = found.dropped;
        Ok(ledger)
    }

    /// Charges one event: checks the budget, writes and syncs, then confirms.
    ///
    /// # Errors
    /// [`LedgerError::BudgetExhausted`] if it does not fit (nothing is charged);
    /// [`LedgerError::Io`] if it could not be written (counted as spent, and the ledger is
    /// [`Broken`](LedgerError::Broken) from then on).
    pub fn charge(&mut self, step: u64, event: &DpEvent) -> Result<Receipt, LedgerError> {
        self.enter(step, event, None, None)
    }

    /// Charges a release, with what only the mechanism knows.
    pub(crate) fn charge_release(
        &mut self,
        step: u64,
        event: &DpEvent,
        noise: NoiseKind,
        coordinates: u64,
    ) -> Result<Receipt, LedgerError> {
        self.enter(step, event, Some(noise), Some(coordinates))
    }

    fn enter(
        &mut self,
        step: u64,
        event: &DpEvent,
        noise: Option<NoiseKind>,
        coordinates: Option<u64>,
    ) -> Result<Receipt, LedgerError> {
        if self.broken {
            return Err(LedgerError::Broken);
        }
        let mut next = self.accountant.clone();
        next.compose(event, 1)?;
        let spent = self.price(&next)?;
        if let Some(Budget { epsilon, delta }) = self.settings.budget
            && spent.epsilon > epsilon.get()
        {
            let (would_be, epsilon, delta) = (spent.epsilon, epsilon.get(), delta.get());
            return Err(LedgerError::BudgetExhausted {
                step,
                would_be,
                epsilon,
                delta,
            });
        }
        let sequence = self.entries.len() as u64;
        let entry = Entry {
            sequence,
            step,
            event: event.clone(),
            noise,
            coordinates,
        };
        let written = self
            .book
            .as_mut()
            .map_or(Ok(()), |book| book.append(&entry));
        // Spent in either case: a failed write may still have reached the disk.
        self.accountant = next;
        self.entries.push(entry);
        if let Err(error) = written {
            self.broken = true;
            return Err(error);
        }
        Ok(Receipt {
            sequence,
            step,
            noise,
            spent,
            durable: self.book.is_some(),
        })
    }

    /// What is spent so far, at the delta of the budget (at 1e-5 without one).
    ///
    /// # Errors
    /// [`NotFinite`] if the accountant's arithmetic overflowed.
    pub fn spent(&self) -> Result<Spent, NotFinite> {
        self.price(&self.accountant)
    }

    /// The delta at which [`spent`](Self::spent) is measured.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.settings
            .budget
            .map_or(REPORT_DELTA, |budget| budget.delta.get())
    }

    fn price(&self, accountant: &RdpAccountant) -> Result<Spent, NotFinite> {
        let not_finite = |order| NotFinite {
            delta: self.delta(),
            order,
        };
        let Some(order) = self.settings.fixed_order else {
            let delta = Delta::new(self.delta()).map_err(|_| not_finite(MIN_ORDER))?;
            return accountant.epsilon(delta);
        };
        let rdp = accountant.rdp(order);
        if rdp.is_nan() {
            return Err(not_finite(order));
        }
        let epsilon = if rdp > 0.0 {
            convert(rdp, order, self.delta()).max(0.0)
        } else {
            0.0
        };
        Ok(Spent {
            epsilon,
            order,
            at_edge: false,
        })
    }

    /// Whether the filter would refuse this event (also if it cannot be priced).
    #[must_use]
    pub fn would_exceed(&self, event: &DpEvent) -> bool {
        let mut next = self.accountant.clone();
        if next.compose(event, 1).is_err() {
            return true;
        }
        match (self.price(&next), self.settings.budget) {
            (Ok(spent), Some(budget)) => spent.epsilon > budget.epsilon.get(),
            (Ok(_), None) => false,
            (Err(_), _) => true,
        }
    }

    /// All charges, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The budget, if there is one.
    #[must_use]
    pub const fn budget(&self) -> Option<Budget> {
        self.settings.budget
    }

    /// The neighbours that are protected.
    #[must_use]
    pub const fn adjacency(&self) -> Adjacency {
        self.settings.adjacency
    }

    /// The one Renyi order at which this ledger spends, if it was fixed.
    #[must_use]
    pub const fn fixed_order(&self) -> Option<f64> {
        self.settings.fixed_order
    }

    /// The accountant with everything composed.
    #[must_use]
    pub const fn accountant(&self) -> &RdpAccountant {
        &self.accountant
    }

    /// How many bytes of a torn last line were dropped when the file was opened: the trace of a
    /// charge that was never confirmed, so nothing was sent for it.
    #[must_use]
    pub const fn dropped_bytes(&self) -> usize {
        self.dropped
    }
}
