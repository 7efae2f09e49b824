//! Privacy events, accountants, exact noise and the release ledger.
//!
//! This crate knows nothing of networks or encryption. It answers three questions about a mechanism
//! that adds noise to clipped sums: what does it cost, how is it drawn exactly, and was it written
//! down before it was released? From the bottom up:
//!
//! - [`quantity`]: checked numbers; [`event`]: what was released; [`scheme`]: who is protected and how
//!   batches are drawn, for sampler, mechanism and accountant alike.
//! - [`accountant`]: what it cost, by [`rdp`], [`moments`], [`pld`] or, as an estimate, [`gdp`];
//!   [`gaussian`]: the closed form without sampling; [`calibrate`]: how much noise a budget needs.
//! - [`sampler`], [`capacity`]: Poisson batches of a fixed public size.
//! - [`noise`]: discrete Gaussians, exact or in constant time.
//! - [`mechanism`]: clip, then release; [`ledger`]: the book that is charged first, with its filter;
//!   [`odometer`]: what an adaptive run has spent, valid whenever it stops.
//! - [`statement`]: what a run guarantees and what it does not; [`audit`]: what its outputs betray.
//!
//! A whole private run, without a network:
//!
//! ```
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! use sphinx_dp::{
//!     Adjacency, Budget, ClipBound, Clipped, Delta, Epsilon, GaussianMechanism, Ledger,
//!     PoissonSampler, SamplingRate, calibrate, capacity,
//! };
//!
//! let (records, steps) = (1000u64, 20);
//! let rate = SamplingRate::from_mean(50.0, records)?;
//! let budget = Budget { epsilon: Epsilon::new(3.0)?, delta: Delta::new(1e-5)? };
//! let z = calibrate::noise_multiplier(budget, rate, steps, Adjacency::AddRemove)?;
//! let capacity = capacity::capacity(records, rate, steps, 2f64.powi(-40))?;
//!
//! let bound = ClipBound::new(1 << 16)?;
//! let mechanism = GaussianMechanism::accounted_as(bound, z, rate)?;
//! let sampler = PoissonSampler::new(rate, capacity);
//! let mut ledger = Ledger::in_memory(Some(budget), Adjacency::AddRemove);
//! let mut rng = ChaCha20Rng::seed_from_u64(1); // from the operating system in earnest
//! for step in 0..steps {
//!     let noise = mechanism.prepare(1, &mut rng);
//!     let batch = sampler.draw(records as usize, &mut rng);
//!     // Every record contributes the largest value that the bound allows.
//!     let norms = vec![bound.squared(); batch.len()];
//!     let sum = Clipped::check(vec![(batch.len() as i64) << 16], &norms, bound)?;
//!     let noised = mechanism.release(step, sum, noise, &mut ledger)?;
//!     assert!(noised.receipt().spent().epsilon <= 3.0);
//! }
//! assert!(ledger.would_exceed(&mechanism.event()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod accountant;
pub mod audit;
pub mod calibrate;
pub mod capacity;
pub mod event;
mod flat;
pub mod gaussian;
pub mod gdp;
pub mod ledger;
pub mod mechanism;
pub mod moments;
pub mod noise;
pub mod odometer;
pub mod pld;
pub mod quantity;
pub mod rdp;
pub mod sampler;
pub mod scheme;
mod special;
pub mod statement;

pub use accountant::{
    AccountError, Accountant, AccountantKind, Answer, NotFinite, Spent, TooFar, Unsupported,
};
pub use calibrate::{Budget, CalibrateError, Calibrator};
pub use event::{DpEvent, EventPath};
pub use gdp::GdpAccountant;
pub use ledger::{FixedPlan, Ledger, LedgerBuilder, LedgerError, Receipt};
pub use mechanism::{
    ClipBound, ClipError, Clipped, GaussianMechanism, MechanismError, NoiseSampler, Noised,
    ReleaseError,
};
pub use moments::MomentsAccountant;
pub use noise::{
    DiscreteGaussian, IdealisedGaussian, LadderGaussian, NoiseKind, PreparedNoise, RationalGaussian,
};
pub use odometer::{Odometer, OdometerError, OdometerState};
pub use pld::{PldAccountant, PldError};
pub use quantity::{
    Adjacency, Delta, Epsilon, LaplaceScale, NoiseMultiplier, RangeError, SamplingRate, StdDev,
};
pub use rdp::RdpAccountant;
pub use sampler::PoissonSampler;
pub use scheme::{Batches, Scheme, SchemeError};
pub use statement::{BiasRule, PrivacyStatement, RunFacts};

/// The settings of all property tests: a fixed seed, so that a run can be repeated.
#[cfg(test)]
fn laws(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let rng_seed = RngSeed::Fixed(0x5eed);
    Config {
        cases,
        rng_seed,
        failure_persistence: None,
        ..Config::default()
    }
}
