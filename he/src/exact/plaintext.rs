//! Integers as polynomials: messages to encrypt, and public factors.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Encoding;
use crate::error::Error;
use crate::ring::{Coeff, Eval, Poly};
use crate::rlwe::Parameters;
use crate::simd;
use crate::zq::Modulus;

/// Magnitudes are computed in 128 bits; larger moduli allow no larger values.
const LARGEST_BITS: u32 = 126;

/// `values * scale`, if all of it fits 63 bits. Erased when dropped.
fn scaled_words(values: &[i64], scale: u128) -> Option<Zeroizing<Vec<i64>>> {
    let highest = values.iter().fold(0, |bits, v| bits | v.unsigned_abs());
    let product = u128::from(highest).checked_mul(scale)?;
    let scale = i64::try_from(scale).ok().filter(|_| product < 1 << 62)?;
    Some(Zeroizing::new(values.iter().map(|v| v * scale).collect()))
}

/// Encoded integers, ready to be encrypted. Erased when dropped.
pub struct Plaintext {
    pub(super) parameters: Parameters,
    pub(super) encoding: Encoding,
    pub(super) poly: Poly<Coeff>,
}

impl std::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plaintext")
            .field("encoding", &self.encoding)
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
    /// Encodes up to `N` integers as the lowest coefficients; the rest is zero.
    ///
    /// `Modular` takes values modulo `2^log_t`. `Scaled` rounds `m numerator / denominator` to
    /// nearest.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::NoSuchLevel`], [`Error::InvalidEncoding`],
    /// [`Error::ValueTooLarge`] where a scaled value exceeds half the modulus of the level (or
    /// `2^126`).
    pub fn encode(
        parameters: &Parameters,
        level: usize,
        values: &[i64],
        encoding: Encoding,
    ) -> Result<Self, Error> {
        let op = "encode";
        encoding.check(op)?;
        let (got, limit) = (values.len(), parameters.degree());
        if got > limit {
            return Err(Error::TooManyValues { op, got, limit });
        }
        let poly = Poly::zero(parameters.ring(), level)?;
        let mut out = Self {
            parameters: parameters.clone(),
            encoding,
            poly,
        };
        match encoding {
            Encoding::Scaled {
                numerator,
                denominator: 1,
            } => out.fill_scaled(values, numerator)?,
            Encoding::Scaled {
                numerator,
                denominator,
            } => {
                out.fill_fraction(values, numerator, denominator)?;
            }
            Encoding::Modular { log_t } => out.fill_modular(values, log_t),
        }
        Ok(out)
    }

    /// How the integers are carried.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The level it is encoded at.
    #[must_use]
    pub fn level(&self) -> usize {
        self.poly.level()
    }

    fn moduli(&self) -> Vec<Modulus> {
        self.parameters.moduli()[..=self.level()].to_vec()
    }

    /// The largest magnitude allowed and its length in bits.
    fn limit(&self) -> (u128, u32) {
        let bits = self.parameters.log2_q(self.level());
        if bits >= f64::from(LARGEST_BITS) {
            return (1 << LARGEST_BITS, LARGEST_BITS);
        }
        let product: u128 = self
            .moduli()
            .iter()
            .map(|q| u128::from(q.value()))
            .product();
        (product / 2, bits as u32)
    }

    fn too_large(&self, index: usize) -> Error {
        Error::ValueTooLarge {
            op: "encode",
            index,
            limit_bits: self.limit().1,
        }
    }

    /// `m scale`: one reduction per residue where it fits a word, else also a constant product.
    fn fill_scaled(&mut self, values: &[i64], scale: u128) -> Result<(), Error> {
        let largest = self.limit().0 / scale;
        if let Some(i) = values
            .iter()
            .position(|v| u128::from(v.unsigned_abs()) > largest)
        {
            return Err(self.too_large(i));
        }
        if let Some(scaled) = scaled_words(values, scale) {
            for (i, q) in self.moduli().iter().enumerate() {
                simd::add_signed_assign(q, &mut self.poly.row_mut(i)[..values.len()], &scaled);
            }
            return Ok(());
        }
        for (i, q) in self.moduli().iter().enumerate() {
            let factor = q.shoup(q.reduce_u128(scale));
            for (x, &value) in self.poly.row_mut(i).iter_mut().zip(values) {
                *x = q.mul_shoup(q.reduce_i64(value), factor);
            }
        }
        Ok(())
    }

    /// `round(m numerator / denominator)` in 128-bit integers.
    fn fill_fraction(
        &mut self,
        values: &[i64],
        numerator: u128,
        denominator: u128,
    ) -> Result<(), Error> {
        let (largest, moduli) = (self.limit().0, self.moduli());
        for (k, &value) in values.iter().enumerate() {
            let magnitude = u128::from(value.unsigned_abs())
                .checked_mul(numerator)
                .and_then(|product| product.checked_add(denominator / 2))
                .map(|sum| sum / denominator)
                .filter(|&magnitude| magnitude <= largest)
                .ok_or_else(|| self.too_large(k))?;
            let scaled = magnitude as i128 * i128::from(value.signum());
            for (i, q) in moduli.iter().enumerate() {
                self.poly.row_mut(i)[k] = q.reduce_i128(scaled);
            }
        }
        Ok(())
    }

    /// `round(Q r / 2^t)`. With `w` the centred remainder of `Q r` modulo `2^t` this is
    /// `(Q r - w) / 2^t`, which modulo each prime of `Q` is `-w / 2^t`.
    fn fill_modular(&mut self, values: &[i64], log_t: u32) {
        let moduli = self.moduli();
        let q_mod_word = moduli
            .iter()
            .fold(1u64, |product, q| product.wrapping_mul(q.value()));
        let shift = 64 - log_t;
        for (i, q) in moduli.iter().enumerate() {
            // odd moduli: a power of two is always invertible
            let inverse = q.inv(q.reduce(1 << log_t)).unwrap_or_default();
            let factor = q.shoup(q.neg(inverse));
            for (x, &value) in self.poly.row_mut(i).iter_mut().zip(values) {
                let product = q_mod_word.wrapping_mul(value as u64);
                let remainder = ((product << shift) as i64) >> shift;
                *x = q.mul_shoup(q.reduce_i64(remainder), factor);
            }
        }
    }
}

/// A public polynomial of small integers, ready for products: weights.
///
/// It carries `factor` times the values, which lifts a product to a wanted scale.
#[derive(Clone, Debug)]
pub struct IntegerPoly {
    pub(super) parameters: Parameters,
    pub(super) factor: u64,
    pub(super) poly: Poly<Eval>,
}

impl IntegerPoly {
    /// Encodes up to `N` integers as the lowest coefficients. Usable at `level` and below.
    ///
    /// Cost: one transform per prime.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::NoSuchLevel`], [`Error::InvalidEncoding`] for factor 0.
    pub fn new(
        parameters: &Parameters,
        level: usize,
        values: &[i64],
        factor: u64,
    ) -> Result<Self, Error> {
        let op = "integer polynomial";
        if factor == 0 {
            return Err(Error::InvalidEncoding {
                op,
                encoding: Encoding::scaled(0),
            });
        }
        let mut poly = Poly::<Coeff>::from_signed(parameters.ring(), level, values)?;
        for (i, q) in parameters.moduli()[..=level].iter().enumerate() {
            simd::scale_assign(q, poly.row_mut(i), q.shoup(q.reduce(factor)));
        }
        Ok(Self {
            parameters: parameters.clone(),
            factor,
            poly: poly.into_eval(),
        })
    }

    /// The factor carried.
    #[must_use]
    pub const fn factor(&self) -> u64 {
        self.factor
    }

    /// The highest level it can be used at.
    #[must_use]
    pub fn level(&self) -> usize {
        self.poly.level()
    }
}
