//! Noise drawn ahead of the data, for one use.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::DiscreteGaussian;

/// Where the noise of a release came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoiseKind {
    /// Exact discrete Gaussian from the generator that the caller vouches for.
    Exact,
    /// Exact discrete Gaussian from a seed that others may know: for tests, no privacy.
    SeededTest,
    /// No noise.
    None,
}

impl fmt::Display for NoiseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact discrete Gaussian on the integer grid",
            Self::SeededTest => "exact discrete Gaussian from a TEST SEED (no privacy)",
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
    /// Draws `len` values from a cryptographic generator seeded from the operating system.
    ///
    /// Drawing takes a time that depends on the values; do it before the private sum exists.
    pub fn draw_vartime<R: CryptoRng + ?Sized>(
        gaussian: &DiscreteGaussian,
        len: usize,
        rng: &mut R,
    ) -> Self {
        Self::draw(gaussian, len, rng, NoiseKind::Exact)
    }

    /// Draws `len` values from a seed, for reproducible tests. The mark stays with the noise, and
    /// the ledger, the receipt and the privacy statement say that there is no privacy.
    #[must_use]
    pub fn draw_seeded_vartime(gaussian: &DiscreteGaussian, len: usize, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        Self::draw(gaussian, len, &mut rng, NoiseKind::SeededTest)
    }

    fn draw<R: CryptoRng + ?Sized>(
        gaussian: &DiscreteGaussian,
        len: usize,
        rng: &mut R,
        kind: NoiseKind,
    ) -> Self {
        let values = (0..len).map(|_| gaussian.sample_vartime(rng)).collect();
        Self {
            values,
            std_dev: gaussian.std_dev(),
            kind,
        }
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
        if self.kind == NoiseKind::Exact {
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
