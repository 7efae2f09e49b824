//! What a server computed: operations counted where they happen, and the time they took.
//!
//! The servers of [`crate::paper`] and [`crate::pure_he`] keep a [`Tally`]; a client asks for it with
//! [`crate::link::Link::work`] and compares it with the formulas of the plan. Nothing of it depends on data: the
//! operations follow from the public plan, and the message says so.
//!
//! Transforms are not observed one by one: each operation that is counted adds the number of rows
//! that its definition transforms ([`key_switch_transforms`], [`division_transforms`]).
//!
//! ```
//! use sphinx_protocol::work::{StepCounts, Tally};
//!
//! let tally = Tally::default();
//! tally.add(&StepCounts { products: 3, ..StepCounts::default() });
//! assert_eq!(tally.take().counts.products, 3);
//! assert_eq!(tally.take().counts.products, 0);
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Operations of one training step: by formula, or as a server counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    /// Products of a ciphertext with an integer.
    pub plain_products: u64,
    /// Products of two ciphertexts.
    pub products: u64,
    /// Divisions of a ciphertext by a prime.
    pub rescales: u64,
    /// Relinearisations.
    pub relinearisations: u64,
    /// Rotations.
    pub rotations: u64,
    /// Transforms of one row of residues at the server.
    pub transforms: u64,
    /// Ciphertexts up.
    pub uploads: u64,
    /// Ciphertexts down.
    pub downloads: u64,
}

impl StepCounts {
    /// All fields in the order of their declaration.
    #[must_use]
    pub const fn to_array(&self) -> [u64; 8] {
        [
            self.plain_products,
            self.products,
            self.rescales,
            self.relinearisations,
            self.rotations,
            self.transforms,
            self.uploads,
            self.downloads,
        ]
    }

    /// As [`Self::to_array`] gives them.
    #[must_use]
    pub const fn from_array(fields: [u64; 8]) -> Self {
        let [
            plain_products,
            products,
            rescales,
            relinearisations,
            rotations,
            transforms,
            uploads,
            downloads,
        ] = fields;
        Self {
            plain_products,
            products,
            rescales,
            relinearisations,
            rotations,
            transforms,
            uploads,
            downloads,
        }
    }
}

impl std::ops::AddAssign for StepCounts {
    fn add_assign(&mut self, other: Self) {
        let (mine, theirs) = (self.to_array(), other.to_array());
        *self = Self::from_array(std::array::from_fn(|i| mine[i].saturating_add(theirs[i])));
    }
}

/// Seconds that the server's threads spent, by kind of work, added up over the threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Products and sums of ciphertexts; with [`crate::pure_he::Style::Eager`] with their
    /// relinearisations and rescales.
    pub products: f64,
    /// Relinearisations and rescales of sums.
    pub switching: f64,
    /// Sums over slots.
    pub rotations: f64,
}

/// What a server did since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The operations.
    pub counts: StepCounts,
    /// Their time.
    pub seconds: Seconds,
}

/// A kind of work whose time is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Products,
    Switching,
    Rotations,
}

/// Counts from many threads.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Work>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds operations.
    pub fn add(&self, counts: &StepCounts) {
        self.lock().counts += *counts;
    }

    /// Adds time of one thread.
    pub(crate) fn spend(&self, kind: Kind, time: Duration) {
        let mut work = self.lock();
        let seconds = &mut work.seconds;
        *match kind {
            Kind::Products => &mut seconds.products,
            Kind::Switching => &mut seconds.switching,
            Kind::Rotations => &mut seconds.rotations,
        } += time.as_secs_f64();
    }

    /// Everything since the last call.
    #[must_use]
    pub fn take(&self) -> Work {
        std::mem::take(&mut *self.lock())
    }
}

/// Rows that one key switch at `level` transforms, with one prime to a digit and `special` special primes:
/// a relinearisation, a rotation, or a product relinearised and rescaled in one division.
///
/// `R = level + 1 + special` rows are in play. Each of the `level + 1` digits is taken back from its own row (one
/// inverse transform) and carried to the `R - 1` others; each of the two sums goes through a division by
/// the special primes: every row but those divided by is transformed once, those once back, `R` in all.
#[must_use]
pub const fn key_switch_transforms(level: u64, special: u64) -> u64 {
    (level + 1 + 2) * (level + 1 + special)
}

/// Rows that dividing a ciphertext of `parts` polynomials at `level` by its last prime transforms: one back,
/// `level` forward, each.
#[must_use]
pub const fn division_transforms(level: u64, parts: u64) -> u64 {
    parts * (level + 1)
}
