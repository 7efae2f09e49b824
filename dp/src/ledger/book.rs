//! The ledger itself: filter, charge, receipt.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::file::{Book, Header};
use super::{FixedPlan, LedgerError};
use crate::accountant::{Accountant, AccountantKind, NotFinite, Spent};
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

/// Into how many parts a fixed plan is cut, at whose ends it is priced.
const PRICES: u64 = 64;

/// The delta at which [`Ledger::spent`] reports when there is no budget to take it from.
const REPORT_DELTA: f64 = 1e-5;

/// Into how many parts a doubling of the count is cut before these parts are finer than [`PRICES`].
const OCTAVE: u64 = 4;

/// The settings of a new ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LedgerBuilder {
    budget: Option<Budget>,
    adjacency: Adjacency,
    fixed_order: Option<f64>,
    /// A plan, and what all of it costs.
    plan: Option<(FixedPlan, Spent)>,
}

impl LedgerBuilder {
    /// A ledger that refuses what exceeds `budget` (nothing if `None`).
    #[must_use]
    pub const fn new(budget: Option<Budget>, adjacency: Adjacency) -> Self {
        Self {
            budget,
            adjacency,
            fixed_order: None,
            plan: None,
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

    /// Charges the steps of `plan` and nothing else, priced as a whole by its accountant.
    ///
    /// # Errors
    /// [`LedgerError::PlanTooDear`] if all steps together exceed the budget;
    /// [`LedgerError::Account`] if the accountant has no bound for them.
    pub fn fixed_plan(mut self, plan: FixedPlan) -> Result<Self, LedgerError> {
        let delta = self
            .budget
            .map_or(REPORT_DELTA, |budget| budget.delta.get());
        let total = plan.spent(self.adjacency, plan.steps, Delta::new(delta)?)?;
        if let Some(Budget { epsilon, .. }) = self.budget
            && total.epsilon > epsilon.get()
        {
            let (would_be, epsilon) = (total.epsilon, epsilon.get());
            return Err(LedgerError::PlanTooDear {
                plan,
                would_be,
                epsilon,
            });
        }
        self.plan = Some((plan, total));
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
            priced: Mutex::new(None),
        }
    }

    /// A ledger with a new file.
    ///
    /// # Errors
    /// [`LedgerError::Exists`] rather than overwriting; otherwise what the system says.
    pub fn create(self, path: impl AsRef<Path>) -> Result<Ledger, LedgerError> {
        let mut header = Header::new(self.budget, self.adjacency, self.fixed_order);
        header.plan = self.plan.map(|(plan, _)| plan);
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
    /// The last price of a part of a plan: so many steps, and what they cost.
    priced: Mutex<Option<(u64, Spent)>>,
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
        if let Some(plan) = found.header.plan {
            settings = settings.fixed_plan(plan)?;
        }
        let mut ledger = settings.in_memory();
        for entry in found.entries {
            ledger.accountant.compose(&entry.event, 1)?;
            ledger.follows_plan(entry.step, &entry.event)?;
            ledger.entries.push(entry);
        }
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
        self.follows_plan(step, event)?;
        let spent = self.price(&next, self.entries.len() as u64 + 1)?;
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
        self.price(&self.accountant, self.entries.len() as u64)
    }

    /// Refuses what the fixed plan, if there is one, does not cover.
    fn follows_plan(&self, step: u64, event: &DpEvent) -> Result<(), LedgerError> {
        let Some((plan, _)) = self.settings.plan else {
            return Ok(());
        };
        if !plan.covers(event) {
            let (planned, event) = (Box::new(plan.step()), Box::new(event.clone()));
            return Err(LedgerError::OffPlan { planned, event });
        }
        if self.entries.len() as u64 >= plan.steps {
            let steps = plan.steps;
            return Err(LedgerError::PlanExhausted { step, steps });
        }
        Ok(())
    }

    /// The delta at which [`spent`](Self::spent) is measured.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.settings
            .budget
            .map_or(REPORT_DELTA, |budget| budget.delta.get())
    }

    /// What `charges` entries cost, composed in `accountant`.
    fn price(&self, accountant: &RdpAccountant, charges: u64) -> Result<Spent, NotFinite> {
        let not_finite = |order| NotFinite {
            delta: self.delta(),
            order,
        };
        if let Some(plan) = self.settings.plan {
            return self.planned(accountant, charges, plan);
        }
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

    /// What the first `charges` steps of the plan cost: the least of what all of them cost, of the
    /// Renyi bound and of the plan's accountant for as many steps or a few more (see [`priced_at`]).
    fn planned(
        &self,
        accountant: &RdpAccountant,
        charges: u64,
        (plan, total): (FixedPlan, Spent),
    ) -> Result<Spent, NotFinite> {
        if charges >= plan.steps {
            return Ok(total);
        }
        let delta = Delta::new(self.delta()).map_err(|_| NotFinite {
            delta: self.delta(),
            order: total.order,
        })?;
        let renyi = accountant.epsilon(delta).ok();
        let own = self.priced_part(&plan, charges, delta);
        let known = renyi.into_iter().chain(own);
        Ok(known.fold(total, |least, spent| {
            if spent.epsilon < least.epsilon {
                spent
            } else {
                least
            }
        }))
    }

    /// What the plan's accountant asks for `charges` steps or a few more, if it has an answer.
    fn priced_part(&self, plan: &FixedPlan, charges: u64, delta: Delta) -> Option<Spent> {
        let count = priced_at(charges, plan.steps);
        let mut priced = self.priced.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, spent)) = priced.filter(|(of, _)| *of == count) {
            return Some(spent);
        }
        let spent = plan.spent(self.settings.adjacency, count, delta).ok()?;
        *priced = Some((count, spent));
        Some(spent)
    }

    /// Whether the filter would refuse this event (also if it cannot be priced).
    #[must_use]
    pub fn would_exceed(&self, event: &DpEvent) -> bool {
        if self.settings.plan.is_some() {
            // All steps of the plan together fit into the budget.
            return self.follows_plan(0, event).is_err();
        }
        let mut next = self.accountant.clone();
        if next.compose(event, 1).is_err() {
            return true;
        }
        let charges = self.entries.len() as u64 + 1;
        match (self.price(&next, charges), self.settings.budget) {
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

    /// The plan that this ledger keeps to, if it was fixed.
    #[must_use]
    pub fn fixed_plan(&self) -> Option<FixedPlan> {
        self.settings.plan.map(|(plan, _)| plan)
    }

    /// Which accountant prices this ledger.
    #[must_use]
    pub fn priced_by(&self) -> AccountantKind {
        self.fixed_plan()
            .map_or(AccountantKind::Rdp, |plan| plan.accountant)
    }

    /// The Renyi accountant with everything composed.
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

/// The count at which the first `charges` of `steps` steps are priced: the next of a series that
/// begins with every count, is cut into [`OCTAVE`] parts per doubling, and into [`PRICES`] in all once that
/// is finer. Pricing every step anew would cost more than taking it.
///
/// It never falls as `charges` rise: before a power of two the parts divide it, and they change there only.
pub(super) fn priced_at(charges: u64, steps: u64) -> u64 {
    let octave = 1 << charges.max(1).ilog2();
    let part = (octave / OCTAVE).min(steps.div_ceil(PRICES)).max(1);
    charges.next_multiple_of(part).min(steps)
}
