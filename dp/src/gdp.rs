//! The central-limit accountant: an **estimate**, never a bound.
//!
//! Many sampled steps look like one Gaussian release at distance
//! `mu = sqrt(sum over steps of q^2 (e^(1/z^2) - 1))` (Bu, Dong, Long, Su 2020, *Deep Learning with
//! Gaussian Differential Privacy*, arXiv:1911.11607, Corollary 5.4), and that one has a closed form
//! ([`crate::gaussian`]). The limit has no direction: for realistic runs it promises a few per cent
//! to many times less epsilon than is spent. So [`Answer::upper`] is always absent here, no ledger
//! and no training run takes its word, and noise calibrated with it is too small.
//!
//! ```
//! use sphinx_dp::{Accountant, Adjacency, Delta, DpEvent, GdpAccountant, NoiseMultiplier};
//! use sphinx_dp::SamplingRate;
//!
//! let mut accountant = GdpAccountant::new(Adjacency::AddRemove);
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! accountant.compose(&DpEvent::poisson_gaussian(rate, NoiseMultiplier::new(1.0)?), 3000)?;
//! let answer = accountant.epsilon_at(Delta::new(1e-5)?)?;
//! // The truth is 2.605.
//! assert!((answer.estimate.unwrap() - 2.437).abs() < 1e-3);
//! assert!(answer.upper.is_none() && accountant.epsilon(Delta::new(1e-5)?).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::accountant::{AccountError, Accountant, AccountantKind, Answer, Reason, Unsupported};
use crate::event::DpEvent;
use crate::flat::{Flat, Piece};
use crate::gaussian;
use crate::quantity::{Adjacency, Delta};

/// The central-limit accountant.
#[derive(Debug, Clone)]
pub struct GdpAccountant {
    adjacency: Adjacency,
    /// The square of the distance.
    square: f64,
}

impl GdpAccountant {
    /// An accountant that has seen nothing.
    #[must_use]
    pub const fn new(adjacency: Adjacency) -> Self {
        Self {
            adjacency,
            square: 0.0,
        }
    }

    /// The distance of the Gaussian in the limit; infinite after an unprotected release.
    #[must_use]
    pub fn mu(&self) -> f64 {
        self.square.sqrt()
    }

    fn estimate(value: f64) -> Answer {
        Answer {
            estimate: Some(value),
            ..Answer::default()
        }
    }
}

impl Accountant for GdpAccountant {
    fn kind(&self) -> AccountantKind {
        AccountantKind::Gdp
    }

    fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        let replace = self.adjacency == Adjacency::ReplaceOne;
        let flat = Flat::checked(self.adjacency, event, count, |piece| match piece {
            Piece::Gaussian(step) if !replace || step.rate >= 1.0 => None,
            _ => Some(Reason::NoLimit),
        })?;
        if flat.unprotected {
            self.square = f64::INFINITY;
        }
        for (piece, count) in flat.pieces {
            let Piece::Gaussian(step) = piece else {
                continue;
            };
            let mu = gaussian::clt_mu(step.rate, step.noise_multiplier, count);
            self.square += if replace { 4.0 * mu * mu } else { mu * mu };
        }
        Ok(())
    }

    fn epsilon_at(&self, delta: Delta) -> Result<Answer, AccountError> {
        let mu = self.mu();
        Ok(Self::estimate(if mu.is_finite() {
            gaussian::epsilon(mu, delta)
        } else {
            f64::INFINITY
        }))
    }

    fn delta_at(&self, epsilon: f64) -> Result<Answer, AccountError> {
        let mu = self.mu();
        Ok(Self::estimate(if mu == 0.0 {
            0.0
        } else if mu.is_finite() {
            gaussian::ln_delta(mu, epsilon).exp()
        } else {
            1.0
        }))
    }
}
