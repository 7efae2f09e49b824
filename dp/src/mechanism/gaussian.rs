//! The Gaussian mechanism on the integer grid.

use rand::rngs::{SysError, SysRng};
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use thiserror::Error;

use super::{ClipBound, Clipped};
use crate::event::DpEvent;
use crate::ledger::{Ledger, LedgerError, Receipt};
use crate::noise::{DiscreteGaussian, LadderGaussian, NoiseKind, PreparedNoise};
use crate::quantity::{Adjacency, NoiseMultiplier, RangeError, SamplingRate};
use crate::scheme::Scheme;

/// The smallest standard deviation of the noise in grid units.
pub const MIN_STD_DEV: f64 = 64.0;

/// The t of the transfer from the discrete to the continuous Gaussian: the release is accounted
/// with variance `s^2 - t^2`, up to `exp(-2 pi^2 t^2)` per coordinate.
pub const GRID_TRANSFER: f64 = 4.0;

/// A mechanism could not be set up.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum MechanismError {
    /// The grid is too coarse for the noise.
    #[error(
        "noise of {std_dev} grid units (multiplier {noise_multiplier} times bound {bound}) is \
         below {MIN_STD_DEV}: use a finer grid, so that the clip bound has more units"
    )]
    GridTooCoarse {
        /// The standard deviation in grid units.
        std_dev: f64,
        /// The noise multiplier.
        noise_multiplier: f64,
        /// The clip bound in grid units.
        bound: u64,
    },
    /// There is no sampler for batches of fixed size.
    #[error(
        "the mechanism releases sums of Poisson batches; batches of fixed size are accounted only: draw Poisson batches"
    )]
    FixedSize,
    /// A derived quantity was out of range.
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// A release did not happen; nothing was charged unless the ledger says so.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Sum and noise have different lengths.
    #[error("releasing a sum of {sum} coordinates with noise for {noise}: prepare matching noise")]
    LengthMismatch {
        /// Coordinates of the sum.
        sum: usize,
        /// Values of noise.
        noise: usize,
    },
    /// The sum was clipped to another bound.
    #[error(
        "the sum was clipped to {sum} grid units, the mechanism is for {mechanism}: give both the same bound"
    )]
    BoundMismatch {
        /// The bound of the sum.
        sum: u64,
        /// The bound of the mechanism.
        mechanism: u64,
    },
    /// The ledger protects other neighbours than the mechanism was made for.
    #[error(
        "the mechanism is for adjacency `{mechanism}`, the ledger charges for `{ledger}`: open both with the same"
    )]
    AdjacencyMismatch {
        /// The neighbours of the mechanism.
        mechanism: Adjacency,
        /// The neighbours of the ledger.
        ledger: Adjacency,
    },
    /// The noise was drawn for another standard deviation.
    #[error(
        "the noise has standard deviation {noise}, the mechanism is for {mechanism}: prepare it with this mechanism"
    )]
    NoiseMismatch {
        /// Standard deviation of the noise.
        noise: f64,
        /// Standard deviation of the mechanism.
        mechanism: f64,
    },
    /// The ledger refused or could not write the charge.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The operating system gave no randomness, so no noise was drawn.
#[derive(Debug, Error)]
#[error("the operating system gave no randomness for the noise ({0}): nothing may be released")]
pub struct NoEntropy(SysError);

/// Clip bound, noise and sampling rate of a run: one value that both releases and is accounted.
#[derive(Debug, Clone)]
pub struct GaussianMechanism {
    bound: ClipBound,
    rate: SamplingRate,
    /// The neighbours that it was made for; without them the ledger decides.
    adjacency: Option<Adjacency>,
    /// Absent in non-private runs.
    private: Option<Private>,
}

#[derive(Debug, Clone)]
struct Private {
    sampler: Sampler,
    accounted: NoiseMultiplier,
}

/// Which sampler draws the noise of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoiseSampler {
    /// [`LadderGaussian`]: constant time, and 2^-100 per coordinate added to delta.
    #[default]
    ConstantTime,
    /// [`DiscreteGaussian`]: exact, in a time that depends on the draws.
    ExactVartime,
}

#[derive(Debug, Clone)]
enum Sampler {
    Ladder(LadderGaussian),
    Table(DiscreteGaussian),
}

impl Sampler {
    fn new(choice: NoiseSampler, std_dev: f64) -> Result<Self, RangeError> {
        Ok(match choice {
            NoiseSampler::ConstantTime => Self::Ladder(LadderGaussian::new(std_dev)?),
            NoiseSampler::ExactVartime => Self::Table(DiscreteGaussian::new(std_dev)?),
        })
    }

    const fn std_dev(&self) -> f64 {
        match self {
            Self::Ladder(gaussian) => gaussian.std_dev(),
            Self::Table(gaussian) => gaussian.std_dev(),
        }
    }

    fn draw<R: CryptoRng + ?Sized>(&self, len: usize, rng: &mut R) -> PreparedNoise {
        match self {
            Self::Ladder(gaussian) => PreparedNoise::draw(gaussian, len, rng),
            Self::Table(gaussian) => PreparedNoise::draw_vartime(gaussian, len, rng),
        }
    }
}

impl GaussianMechanism {
    /// Noise of standard deviation `z * bound` grid units; `None` releases without noise, as
    /// [`DpEvent::NonPrivate`].
    ///
    /// What is accounted is slightly less than `z`: see [`event`](Self::event), and
    /// [`accounted_as`](Self::accounted_as) for the other way round.
    ///
    /// # Errors
    /// [`MechanismError`] if the noise is below [`MIN_STD_DEV`] or out of range.
    pub fn new(
        bound: ClipBound,
        z: Option<NoiseMultiplier>,
        rate: SamplingRate,
    ) -> Result<Self, MechanismError> {
        let Some(z) = z else {
            return Ok(Self {
                bound,
                rate,
                adjacency: None,
                private: None,
            });
        };
        let std_dev = z.get() * bound.get() as f64;
        let s = checked(std_dev, z, bound)?;
        // s^2 - t^2 as a product, then rounded down: the accounted noise is never above the real.
        let rest = ((s - GRID_TRANSFER) * (s + GRID_TRANSFER)).sqrt();
        let accounted = NoiseMultiplier::new(rest / bound.get() as f64 * (1.0 - 1e-15))?;
        Self::build(bound, rate, s, accounted)
    }

    /// Noise just large enough that `z` is what is accounted: variance `(z * bound)^2 + t^2`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn accounted_as(
        bound: ClipBound,
        z: NoiseMultiplier,
        rate: SamplingRate,
    ) -> Result<Self, MechanismError> {
        let continuous = z.get() * bound.get() as f64;
        let std_dev = continuous.hypot(GRID_TRANSFER) * (1.0 + 1e-15);
        let s = checked(std_dev, z, bound)?;
        Self::build(bound, rate, s, z)
    }

    fn build(
        bound: ClipBound,
        rate: SamplingRate,
        std_dev: f64,
        accounted: NoiseMultiplier,
    ) -> Result<Self, MechanismError> {
        let sampler = Sampler::new(NoiseSampler::default(), std_dev)?;
        Ok(Self {
            bound,
            rate,
            adjacency: None,
            private: Some(Private { sampler, accounted }),
        })
    }

    /// The same mechanism with its noise from another sampler.
    ///
    /// # Errors
    /// None in practice: both samplers take the same parameters.
    pub fn with_sampler(mut self, choice: NoiseSampler) -> Result<Self, MechanismError> {
        if let Some(private) = &mut self.private {
            private.sampler = Sampler::new(choice, private.sampler.std_dev())?;
        }
        Ok(self)
    }

    /// As [`accounted_as`](Self::accounted_as) for a scheme with Poisson batches: the release refuses a
    /// ledger of other neighbours. The term of a capacity is added by [`crate::statement`], not here.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`MechanismError::FixedSize`] for batches of fixed size.
    pub fn for_scheme(
        scheme: &Scheme,
        bound: ClipBound,
        z: NoiseMultiplier,
    ) -> Result<Self, MechanismError> {
        let rate = scheme.rate().ok_or(MechanismError::FixedSize)?;
        let mut mechanism = Self::accounted_as(bound, z, rate)?;
        mechanism.adjacency = Some(scheme.adjacency());
        Ok(mechanism)
    }

    /// The clip bound.
    #[must_use]
    pub const fn bound(&self) -> ClipBound {
        self.bound
    }

    /// The sampling rate.
    #[must_use]
    pub const fn rate(&self) -> SamplingRate {
        self.rate
    }

    /// The standard deviation of the noise in grid units; zero without noise.
    #[must_use]
    pub fn std_dev(&self) -> f64 {
        self.private
            .as_ref()
            .map_or(0.0, |private| private.sampler.std_dev())
    }

    /// The noise multiplier that is accounted, if there is noise.
    #[must_use]
    pub fn accounted(&self) -> Option<NoiseMultiplier> {
        self.private.as_ref().map(|private| private.accounted)
    }

    /// What one release is to an accountant: a Poisson-sampled Gaussian with the multiplier
    /// `sqrt(s^2 - t^2) / bound`, or an unprotected release.
    #[must_use]
    pub fn event(&self) -> DpEvent {
        match &self.private {
            Some(private) => DpEvent::poisson_gaussian(self.rate, private.accounted),
            None => DpEvent::NonPrivate,
        }
    }

    /// Draws the noise of one release of `len` coordinates, ahead of the data.
    pub fn prepare<R: CryptoRng + ?Sized>(&self, len: usize, rng: &mut R) -> PreparedNoise {
        match &self.private {
            Some(private) => private.sampler.draw(len, rng),
            None => PreparedNoise::none(len),
        }
    }

    /// As [`prepare`](Self::prepare), from a generator that is seeded here from the operating system
    /// and used once.
    ///
    /// # Errors
    /// [`NoEntropy`] if the operating system has no randomness to give.
    pub fn prepare_from_os(&self, len: usize) -> Result<PreparedNoise, NoEntropy> {
        let rng = ChaCha20Rng::try_from_rng(&mut SysRng);
        Ok(self.prepare(len, &mut rng.map_err(NoEntropy)?))
    }

    /// Draws noise from a seed, for reproducible tests; marked as such from here on.
    #[must_use]
    pub fn prepare_seeded(&self, len: usize, seed: [u8; 32]) -> PreparedNoise {
        self.prepare(len, &mut ChaCha20Rng::from_seed(seed))
            .marked_as_test()
    }

    /// Charges the ledger, durably, and then returns the sum with the noise added.
    ///
    /// Values saturate instead of failing. `step` is written into the ledger for the reader.
    ///
    /// # Errors
    /// [`ReleaseError`] for parts that do not belong together (nothing is charged), or from the
    /// ledger, above all when the budget does not allow the step.
    pub fn release(
        &self,
        step: u64,
        sum: Clipped,
        noise: PreparedNoise,
        ledger: &mut Ledger,
    ) -> Result<Noised, ReleaseError> {
        if sum.len() != noise.len() {
            return Err(ReleaseError::LengthMismatch {
                sum: sum.len(),
                noise: noise.len(),
            });
        }
        if sum.bound() != self.bound {
            let (sum, mechanism) = (sum.bound().get(), self.bound.get());
            return Err(ReleaseError::BoundMismatch { sum, mechanism });
        }
        if let Some(mechanism) = self.adjacency
            && mechanism != ledger.adjacency()
        {
            let ledger = ledger.adjacency();
            return Err(ReleaseError::AdjacencyMismatch { mechanism, ledger });
        }
        if noise.std_dev().to_bits() != self.std_dev().to_bits() {
            let (noise, mechanism) = (noise.std_dev(), self.std_dev());
            return Err(ReleaseError::NoiseMismatch { noise, mechanism });
        }
        let receipt = ledger.charge_release(step, &self.event(), noise.kind(), sum.len() as u64)?;
        let mut values = sum.take();
        noise.add_to(&mut values);
        Ok(Noised { values, receipt })
    }
}

fn checked(std_dev: f64, z: NoiseMultiplier, bound: ClipBound) -> Result<f64, MechanismError> {
    if std_dev >= MIN_STD_DEV {
        return Ok(std_dev);
    }
    let (noise_multiplier, bound) = (z.get(), bound.get());
    Err(MechanismError::GridTooCoarse {
        std_dev,
        noise_multiplier,
        bound,
    })
}

/// A released vector with the receipt of its charge. Only [`GaussianMechanism::release`] makes one.
///
/// ```compile_fail
/// // There is no other way to build one.
/// let forged = sphinx_dp::Noised { values: vec![1], receipt: todo!() };
/// ```
#[derive(Debug)]
pub struct Noised {
    values: Vec<i64>,
    receipt: Receipt,
}

impl Noised {
    /// The released values, in grid units.
    #[must_use]
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// The proof of the charge.
    #[must_use]
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Where the noise came from.
    #[must_use]
    pub const fn noise(&self) -> NoiseKind {
        match self.receipt.noise() {
            Some(kind) => kind,
            None => NoiseKind::None,
        }
    }

    /// The values themselves.
    #[must_use]
    pub fn into_values(self) -> Vec<i64> {
        self.values
    }
}
