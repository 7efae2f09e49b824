//! What is computed on: plaintexts and ciphertexts with level, scale and flags.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::Error;
use crate::ring::{Eval, Poly};
use crate::rlwe::{Parameters, expand_mask};
use crate::sample::SEED_BYTES;

/// Number of primes left, less one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub usize);

/// The factor by which slots are multiplied before rounding: positive and finite.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Scale(f64);

/// Scales that differ by less than this, relatively, count as equal; a sum of such operands is off
/// by at most as much.
const SCALE_TOLERANCE: f64 = 1.0 / (1u64 << 40) as f64;

impl Scale {
    /// A scale.
    ///
    /// # Errors
    /// [`Error::InvalidScale`] unless it is a positive normal number.
    pub fn new(scale: f64) -> Result<Self, Error> {
        if scale.is_normal() && scale > 0.0 {
            Ok(Self(scale))
        } else {
            Err(Error::InvalidScale { op: "scale", scale })
        }
    }

    /// `2^log2`.
    #[must_use]
    pub fn power_of_two(log2: u8) -> Self {
        Self(f64::from(log2).exp2())
    }

    /// The factor.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }

    pub(super) fn matches(self, other: Self) -> bool {
        (self.0 - other.0).abs() <= SCALE_TOLERANCE * self.0.max(other.0)
    }

    pub(super) fn times(self, op: &'static str, factor: f64) -> Result<Self, Error> {
        Self::new(self.0 * factor).map_err(|_| Error::InvalidScale {
            op,
            scale: self.0 * factor,
        })
    }
}

/// The flags (R, L) of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// R: the scale is that of a product, and a rescale is due before the next one.
    pub rescale_pending: bool,
    /// L: the ciphertext has degree two in the secret.
    pub quadratic: bool,
}

impl Form {
    /// (0, 0).
    pub const FRESH: Self = Self {
        rescale_pending: false,
        quadratic: false,
    };

    /// The flags as numbers, as errors print them.
    #[must_use]
    pub const fn flags(self) -> (u8, u8) {
        (self.rescale_pending as u8, self.quadratic as u8)
    }
}

/// Encoded slots, in evaluation form. May hold decrypted values: erased when dropped, not
/// serialised, not printed.
#[derive(Clone)]
pub struct Plaintext {
    pub(super) parameters: Parameters,
    pub(super) scale: Scale,
    /// How many slots differ: the others repeat them.
    pub(super) slots: usize,
    pub(super) poly: Poly<Eval>,
}

impl std::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plaintext")
            .field("level", &self.level())
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.poly.zeroize();
    }
}

impl ZeroizeOnDrop for Plaintext {}

impl Plaintext {
    /// Zeros at `level`, to be encoded into.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn zero(parameters: &Parameters, level: Level) -> Result<Self, Error> {
        Ok(Self {
            parameters: parameters.clone(),
            scale: Scale(1.0),
            slots: parameters.degree() / 2,
            poly: Poly::zero(parameters.ring(), level.0)?,
        })
    }

    /// Other words under other parameters; the old ones are erased.
    pub(super) fn replace(&mut self, parameters: &Parameters, poly: Poly<Eval>) {
        self.poly.zeroize();
        self.poly = poly;
        self.parameters = parameters.clone();
    }

    /// The polynomial.
    #[must_use]
    pub const fn polynomial(&self) -> &Poly<Eval> {
        &self.poly
    }

    /// How many slots differ: the others repeat them.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> Level {
        Level(self.poly.level())
    }

    /// The scale.
    #[must_use]
    pub const fn scale(&self) -> Scale {
        self.scale
    }
}

/// A ciphertext of degree 1 or 2 in the secret, in evaluation form.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    pub(super) parameters: Parameters,
    pub(super) scale: Scale,
    pub(super) form: Form,
    /// How many slots differ: the others repeat them.
    pub(super) slots: usize,
    /// `c0, c1`, and `c2` where the form is quadratic.
    pub(super) polys: Vec<Poly<Eval>>,
}

impl Ciphertext {
    /// Zeros of this shape, to be written into: no encryption of anything.
    pub(super) fn empty(parameters: &Parameters, level: Level, degree: usize) -> Self {
        let poly = || Poly::zero_unchecked(parameters.ring(), level.0);
        Self {
            scale: Scale(1.0),
            form: Form::FRESH,
            slots: parameters.degree() / 2,
            polys: (0..=degree).map(|_| poly()).collect(),
            parameters: parameters.clone(),
        }
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> Level {
        Level(self.polys[0].level())
    }

    /// The scale.
    #[must_use]
    pub const fn scale(&self) -> Scale {
        self.scale
    }

    /// The flags (R, L).
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// How many slots differ: the others repeat them.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// Degree in the secret.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.polys.len() - 1
    }

    /// The parameters.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// A fresh symmetric encryption: `c0` and the seed of `c1`.
#[derive(Clone, Debug)]
pub struct SeededCiphertext {
    pub(super) parameters: Parameters,
    pub(super) scale: Scale,
    pub(super) slots: usize,
    pub(super) seed: [u8; SEED_BYTES],
    pub(super) c0: Poly<Eval>,
}

impl SeededCiphertext {
    /// Expands the seed.
    #[must_use]
    pub fn expand(self) -> Ciphertext {
        let c1 = expand_mask(&self.parameters, self.c0.level(), &self.seed);
        let (parameters, scale, polys) = (self.parameters, self.scale, vec![self.c0, c1]);
        Ciphertext {
            parameters,
            scale,
            form: Form::FRESH,
            slots: self.slots,
            polys,
        }
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> Level {
        Level(self.c0.level())
    }

    /// The scale.
    #[must_use]
    pub const fn scale(&self) -> Scale {
        self.scale
    }
}
