//! The moments accountant of 2016, for parity with published figures.
//!
//! It adds the same Renyi divergences as [`crate::rdp`] (the logarithm of its `alpha(lambda)` is
//! `lambda` times the divergence of order `lambda + 1`) but at integer orders only, lambda up to 32
//! as in its authors' code, and with the older conversion
//! `epsilon = min over orders of D(order) + ln(1 / delta) / (order - 1)`
//! (Abadi et al. 2016, *Deep Learning with Differential Privacy*, arXiv:1607.00133v2, Theorem 2).
//!
//! It is a valid upper bound, some 15 to 40 per cent above the Renyi accountant's. **Deviation**: the
//! divergence is the closed form of the sum over k, not the authors' numerical integral, and only
//! that of the mixture from the base, which is the larger of the two they compute.
//!
//! ```
//! use sphinx_dp::{Accountant, Adjacency, Delta, DpEvent, NoiseMultiplier, SamplingRate};
//! use sphinx_dp::moments::MomentsAccountant;
//!
//! let mut accountant = MomentsAccountant::new(Adjacency::AddRemove);
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! accountant.compose(&DpEvent::poisson_gaussian(rate, NoiseMultiplier::new(1.0)?), 3000)?;
//! let spent = accountant.epsilon(Delta::new(1e-5)?)?;
//! assert!((spent.epsilon - 3.353157).abs() < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::accountant::{
    AccountError, Accountant, AccountantKind, Answer, NotFinite, Unsupported, at_distance,
};
use crate::event::DpEvent;
use crate::flat::Flat;
use crate::quantity::{Adjacency, Delta};

/// The largest lambda; the order is one more.
pub const MAX_LAMBDA: usize = 32;

/// The moments accountant.
#[derive(Debug, Clone)]
pub struct MomentsAccountant {
    adjacency: Adjacency,
    /// The sum of divergences at orders 2, 3, ...
    divergences: [f64; MAX_LAMBDA],
    seen: bool,
    /// See [`crate::RdpAccountant::distance`].
    distance: f64,
}

impl MomentsAccountant {
    /// An accountant that has seen nothing.
    #[must_use]
    pub const fn new(adjacency: Adjacency) -> Self {
        Self {
            adjacency,
            divergences: [0.0; MAX_LAMBDA],
            seen: false,
            distance: 0.0,
        }
    }

    /// The `(lambda, divergence)` with the smallest `at(lambda, divergence)`, and that value.
    fn best(&self, at: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let mut best = (f64::NAN, f64::INFINITY);
        for (i, divergence) in self.divergences.iter().enumerate() {
            let lambda = (i + 1) as f64;
            let value = at(lambda, *divergence);
            if value < best.1 || best.0.is_nan() {
                best = (lambda, value);
            }
        }
        best
    }

    /// Epsilon of the run that is accounted.
    fn ideal(&self, delta: Delta) -> Result<Answer, AccountError> {
        if !self.seen {
            return Ok(self.answer(0.0, MAX_LAMBDA as f64));
        }
        let ln = delta.get().ln();
        let (lambda, epsilon) = self.best(|lambda, divergence| divergence - ln / lambda);
        if epsilon.is_nan() {
            let order = lambda + 1.0;
            let delta = delta.get();
            return Err(NotFinite { delta, order }.into());
        }
        Ok(self.answer(epsilon, lambda))
    }

    fn answer(&self, value: f64, lambda: f64) -> Answer {
        Answer {
            upper: Some(value),
            order: Some(lambda + 1.0),
            at_edge: self.seen && (lambda <= 1.0 || lambda >= MAX_LAMBDA as f64),
            ..Answer::default()
        }
    }
}

impl Accountant for MomentsAccountant {
    fn kind(&self) -> AccountantKind {
        AccountantKind::Moments
    }

    fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        let flat = Flat::new(self.adjacency, event, count)?;
        if flat.unprotected {
            self.divergences = [f64::INFINITY; MAX_LAMBDA];
            self.seen = true;
        }
        self.distance += flat.distance;
        for (piece, count) in flat.pieces {
            self.seen = true;
            for (i, sum) in self.divergences.iter_mut().enumerate() {
                *sum += count as f64 * piece.rdp(self.adjacency, (i + 2) as f64);
            }
        }
        Ok(())
    }

    fn epsilon_at(&self, delta: Delta) -> Result<Answer, AccountError> {
        let bound = |answer: &Answer| answer.upper.unwrap_or(f64::INFINITY);
        at_distance(delta, self.distance, |delta| self.ideal(delta), bound)
    }

    fn delta_at(&self, epsilon: f64) -> Result<Answer, AccountError> {
        if !self.seen {
            return Ok(self.answer(0.0, MAX_LAMBDA as f64));
        }
        let (lambda, ln) = self.best(|lambda, divergence| lambda * (divergence - epsilon));
        let delta = (1.0 + epsilon.exp()).mul_add(self.distance, ln.exp());
        Ok(self.answer(delta.min(1.0), lambda))
    }
}
