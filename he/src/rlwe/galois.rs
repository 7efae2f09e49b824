//! Keys for rotations and conjugation.
//!
//! Sits above the switching keys. The map `Y -> Y^g` permutes the slots: `g = 5^k mod 2N` brings
//! slot `j + k` to slot `j`, `g = 2N - 1` conjugates. A [`GaloisKey`] switches from `s` to
//! `s(Y^(1/g))`: the map is applied to the result, not to the argument, so that many rotations
//! share the digits of one ciphertext and each permutes two polynomials only.
//!
//! Source: Halevi and Shoup, *Faster homomorphic linear transformations in HElib*, ePrint 2018/244,
//! section 4.1; the order of operations as in Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux,
//! *Efficient bootstrapping for approximate homomorphic encryption with non-sparse keys*, ePrint
//! 2020/1203, section 4.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::gadget::{Gadget, default_groups};
use super::switching::{SwitchingKey, Wide};
use super::{Parameters, PublicKey, SecretKey};
use crate::error::{Error, ParameterError};
use crate::ring::{Automorphism, Eval, Poly};

/// The exponent of the map that rotates slots by `steps` to the left: `5^steps mod 2N`.
///
/// Rotations count modulo `N/2`.
#[must_use]
pub fn rotation_exponent(degree: usize, steps: i64) -> u64 {
    let (slots, two_n) = ((degree / 2) as i64, 2 * degree as u64);
    let mut steps = steps.rem_euclid(slots.max(1));
    let (mut square, mut result) = (5 % two_n, 1);
    while steps > 0 {
        if steps & 1 == 1 {
            result = result * square % two_n;
        }
        square = square * square % two_n;
        steps >>= 1;
    }
    result
}

/// The exponent of the map that conjugates slots: `2N - 1`.
#[must_use]
pub const fn conjugation_exponent(degree: usize) -> u64 {
    2 * degree as u64 - 1
}

/// `1 / g mod 2N` for an odd `g`.
const fn inverse_exponent(degree: usize, g: u64) -> u64 {
    let mask = 2 * degree as u64 - 1;
    // Newton's iteration doubles the correct bits: g g = 1 mod 8
    let mut x = g;
    let mut round = 0;
    while round < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(x)));
        round += 1;
    }
    x & mask
}

/// A key from `s^2` to `s`.
#[derive(Clone, Debug)]
pub struct RelinearizationKey {
    pub(crate) key: SwitchingKey,
}

impl RelinearizationKey {
    /// The switching key.
    #[must_use]
    pub const fn switching(&self) -> &SwitchingKey {
        &self.key
    }
}

/// A key for one map `Y -> Y^g`.
#[derive(Clone, Debug)]
pub struct GaloisKey {
    pub(crate) key: SwitchingKey,
    pub(crate) map: Automorphism,
}

impl GaloisKey {
    /// `g`.
    #[must_use]
    pub const fn exponent(&self) -> u64 {
        self.map.exponent()
    }

    /// The switching key.
    #[must_use]
    pub const fn switching(&self) -> &SwitchingKey {
        &self.key
    }

    pub(crate) fn new(key: SwitchingKey, exponent: u64) -> Result<Self, ParameterError> {
        let map = Automorphism::new(key.parameters.log_n(), exponent)?;
        Ok(Self { key, map })
    }
}

/// Keys for a chosen set of maps.
#[derive(Clone, Debug)]
pub struct GaloisKeys {
    pub(crate) parameters: Parameters,
    pub(crate) keys: BTreeMap<u64, GaloisKey>,
}

impl GaloisKeys {
    /// The parameters.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The exponents that there are keys for, in rising order.
    pub fn exponents(&self) -> impl Iterator<Item = u64> {
        self.keys.keys().copied()
    }

    /// The key of one map.
    #[must_use]
    pub fn get(&self, exponent: u64) -> Option<&GaloisKey> {
        self.keys.get(&exponent)
    }

    /// The key of a rotation by `steps` to the left.
    ///
    /// # Errors
    /// [`Error::NoGaloisKey`].
    pub fn rotation(&self, op: &'static str, steps: i64) -> Result<&GaloisKey, Error> {
        self.find(op, rotation_exponent(self.parameters.degree(), steps))
    }

    pub(crate) fn find(&self, op: &'static str, exponent: u64) -> Result<&GaloisKey, Error> {
        self.keys
            .get(&exponent)
            .ok_or(Error::NoGaloisKey { op, exponent })
    }

    /// Bytes of all residues in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.keys.values().map(|k| k.key.memory()).sum()
    }
}

/// Makes the public keys of one secret.
///
/// ```
/// use sphinx_he::rlwe::{KeyGenerator, Parameters, ParametersLiteral, SecretKey, Security};
/// use rand::SeedableRng;
/// let parameters = Parameters::new(&ParametersLiteral {
///     log_n: 12,
///     log_q: vec![36, 34],
///     log_p: vec![36],
///     error_std_dev: 3.2,
///     security: Security::Classical128,
/// })?;
/// let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
/// let secret = SecretKey::generate(&parameters, &mut rng);
/// let generator = KeyGenerator::new(&secret)?;
/// assert_eq!(generator.groups(), [1, 1]);
/// let keys = generator.rotations(&[1, -1, 8], &mut rng)?;
/// assert_eq!(keys.exponents().count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyGenerator<'s> {
    secret: &'s SecretKey,
    gadget: Arc<Gadget>,
    level: usize,
}

impl<'s> KeyGenerator<'s> {
    /// A generator whose digits are the largest consecutive groups of primes not above `P`.
    ///
    /// # Errors
    /// [`ParameterError::NoSpecialPrime`].
    pub fn new(secret: &'s SecretKey) -> Result<Self, ParameterError> {
        Self::with_groups(secret, &default_groups(secret.parameters()))
    }

    /// A generator with these group sizes. Fewer digits make smaller and faster keys; a group
    /// larger than `P` makes the error of each switch larger by the ratio.
    ///
    /// # Errors
    /// [`ParameterError::NoSpecialPrime`], [`ParameterError::DigitGroups`].
    pub fn with_groups(secret: &'s SecretKey, groups: &[usize]) -> Result<Self, ParameterError> {
        let parameters = secret.parameters();
        Ok(Self {
            secret,
            gadget: Arc::new(Gadget::new(parameters, groups)?),
            level: parameters.max_level(),
        })
    }

    /// Keys for ciphertexts at `level` and below only: fewer digits and shorter rows.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn at_level(mut self, level: usize) -> Result<Self, Error> {
        let max = self.secret.parameters().max_level();
        if level > max {
            let op = "key generator";
            return Err(Error::NoSuchLevel {
                op,
                got: level,
                max,
            });
        }
        self.level = level;
        Ok(self)
    }

    /// Sizes of the groups of primes that are the digits.
    #[must_use]
    pub fn groups(&self) -> Vec<usize> {
        self.gadget.groups()
    }

    fn switching<R: CryptoRng + ?Sized>(
        &self,
        hidden: &Poly<Eval>,
        under: &Wide,
        rng: &mut R,
    ) -> Result<SwitchingKey, ParameterError> {
        let parameters = self.secret.parameters();
        SwitchingKey::generate(parameters, &self.gadget, self.level, hidden, under, rng)
    }

    /// The key of relinearisation.
    ///
    /// # Errors
    /// None for a generator that was made; the type says so for the special primes' sake.
    pub fn relinearization<R: CryptoRng + ?Sized>(
        &self,
        rng: &mut R,
    ) -> Result<RelinearizationKey, ParameterError> {
        let under = self.secret.wide(self.level)?;
        let key = self.switching(self.secret.s2(), &under, rng)?;
        Ok(RelinearizationKey { key })
    }

    /// The key of `Y -> Y^exponent`.
    ///
    /// # Errors
    /// [`ParameterError::EvenExponent`].
    pub fn galois<R: CryptoRng + ?Sized>(
        &self,
        exponent: u64,
        rng: &mut R,
    ) -> Result<GaloisKey, ParameterError> {
        let parameters = self.secret.parameters();
        let degree = parameters.degree();
        if exponent.is_multiple_of(2) {
            return Err(ParameterError::EvenExponent { exponent });
        }
        let backwards = Automorphism::new(parameters.log_n(), inverse_exponent(degree, exponent))?;
        let secret = self.secret.wide(self.level)?;
        let mut under = Zeroizing::new(Wide::zero(parameters.switching()?, self.level));
        for (out, row) in under.rows_mut().zip(secret.rows()) {
            backwards.apply_row(out, row);
        }
        GaloisKey::new(self.switching(self.secret.s(), &under, rng)?, exponent)
    }

    /// Keys of these maps.
    ///
    /// # Errors
    /// As [`Self::galois`].
    pub fn galois_set<R: CryptoRng + ?Sized>(
        &self,
        exponents: impl IntoIterator<Item = u64>,
        rng: &mut R,
    ) -> Result<GaloisKeys, ParameterError> {
        let parameters = self.secret.parameters().clone();
        let mut keys = BTreeMap::new();
        for exponent in exponents {
            let exponent = exponent % (2 * parameters.degree() as u64);
            if !keys.contains_key(&exponent) {
                keys.insert(exponent, self.galois(exponent, rng)?);
            }
        }
        Ok(GaloisKeys { parameters, keys })
    }

    /// Keys of rotations by these steps to the left.
    ///
    /// # Errors
    /// As [`Self::galois`].
    pub fn rotations<R: CryptoRng + ?Sized>(
        &self,
        steps: &[i64],
        rng: &mut R,
    ) -> Result<GaloisKeys, ParameterError> {
        let degree = self.secret.parameters().degree();
        self.galois_set(steps.iter().map(|&k| rotation_exponent(degree, k)), rng)
    }

    /// The key of encryption.
    pub fn public<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> PublicKey {
        PublicKey::generate(self.secret, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_powers_of_five_and_invert() {
        for log_n in 3..=10 {
            let n = 1usize << log_n;
            let two_n = 2 * n as u64;
            let mut power = 1;
            for k in 0..n as i64 / 2 {
                let g = rotation_exponent(n, k);
                assert_eq!(g, power);
                assert_eq!(rotation_exponent(n, k - n as i64), g);
                assert_eq!(g * inverse_exponent(n, g) % two_n, 1);
                power = power * 5 % two_n;
            }
            assert_eq!(power, 1);
            let c = conjugation_exponent(n);
            assert_eq!((c, inverse_exponent(n, c)), (two_n - 1, two_n - 1));
        }
    }
}
