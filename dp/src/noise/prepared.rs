//! Noise drawn ahead of the data, for one use.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{DiscreteGaussian, LadderGaussian};

/// Where the noise of a release came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoiseKind {
    /// Exact discrete Gaussian from the generator that the caller vouches for, drawn in variable
    /// time.
    Exact,
    /// Discrete Gaussian to within [`super::DISTANCE`] per draw, drawn in constant time.
    Ladder,
    /// Discrete Gaussian from a seed that others may know: for tests, no privacy.
    SeededTest,
    /// No noise.
    None,
}

impl NoiseKind {
    /// Whether noise of this kind protects: drawn for the release, from a generator that the caller
    /// vouches for.
    #[must_use]
    pub const fn protects(self) -> bool {
        matches!(self, Self::Exact | Self::Ladder)
    }

    /// A bound on the total variation distance between one draw and the exact discrete Gaussian.
    #[must_use]
    pub const fn distance(self) -> f64 {
        match self {
            Self::Ladder => super::DISTANCE,
            Self::Exact | Self::SeededTest | Self::None => 0.0,
        }
    }
}

impl fmt::Display for NoiseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact discrete Gaussian on the integer grid, drawn in variable time",
            Self::Ladder => {
                "discrete Gaussian on the integer grid, exact to 2^-100 per draw, drawn in \
                 constant time"
            }
            Self::SeededTest => "discrete Gaussian from a TEST SEED (no privacy)",
            Self::None => "none",
        })
    }
}

/// A vector of noise for one release. Moved, never copied; wiped when dropped; not printable.
pub struct PreparedNoise {
    values: Vec<i64>,
    std_dev: f64,
    kind: NoiseKind,
}

impl PreparedNoise {
    /// Draws `len` values in constant time from a cryptographic generator seeded from the operating
    /// system.
    pub fn draw<R: CryptoRng + ?Sized>(gaussian: &LadderGaussian, len: usize, rng: &mut R) -> Self {
        let mut values = vec![0; len];
        gaussian.fill(&mut values, rng);
        Self {
            values,
            std_dev: gaussian.std_dev(),
            kind: NoiseKind::Ladder,
        }
    }

    /// Draws `len` exact values from a cryptographic generator seeded from the operating system.
    ///
    /// Drawing takes a time that depends on the values; do it before the private sum exists.
    pub fn draw_vartime<R: CryptoRng + ?Sized>(
        gaussian: &DiscreteGaussian,
        len: usize,
        rng: &mut R,
    ) -> Self {
        let values = (0..len).map(|_| gaussian.sample_vartime(rng)).collect();
        Self {
            values,
            std_dev: gaussian.std_dev(),
            kind: NoiseKind::Exact,
        }
    }

    /// Draws `len` values from a seed, for reproducible tests. The mark stays with the noise, and
    /// the ledger, the receipt and the privacy statement say that there is no privacy.
    #[must_use]
    pub fn draw_seeded(gaussian: &LadderGaussian, len: usize, seed: [u8; 32]) -> Self {
        Self::draw(gaussian, len, &mut ChaCha20Rng::from_seed(seed)).marked_as_test()
    }

    /// As [`draw_seeded`](Self::draw_seeded), from the exact sampler.
    #[must_use]
    pub fn draw_seeded_vartime(gaussian: &DiscreteGaussian, len: usize, seed: [u8; 32]) -> Self {
        Self::draw_vartime(gaussian, len, &mut ChaCha20Rng::from_seed(seed)).marked_as_test()
    }

    /// No noise, for non-private runs.
    #[must_use]
    pub fn none(len: usize) -> Self {
        Self {
            values: vec![0; len],
            std_dev: 0.0,
            kind: NoiseKind::None,
        }
    }

    /// Marks noise whose generator was seeded by the caller for a reproducible test.
    #[must_use]
    pub fn marked_as_test(mut self) -> Self {
        if self.kind.protects() {
            self.kind = NoiseKind::SeededTest;
        }
        self
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The standard deviation, in grid units.
    #[must_use]
    pub const fn std_dev(&self) -> f64 {
        self.std_dev
    }

    /// Where the noise came from.
    #[must_use]
    pub const fn kind(&self) -> NoiseKind {
        self.kind
    }

    /// Adds the noise to `values` of the same length, saturating, and is used up.
    pub(crate) fn add_to(self, values: &mut [i64]) {
        for (value, noise) in values.iter_mut().zip(&self.values) {
            *value = value.saturating_add(*noise);
        }
    }
}

impl Drop for PreparedNoise {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

impl fmt::Debug for PreparedNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedNoise")
            .field("len", &self.values.len())
            .field("std_dev", &self.std_dev)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
