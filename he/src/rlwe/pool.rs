//! Encryptions of zero, made ahead.
//!
//! An encryption of `m` is an encryption of zero plus `m`, so the costly part can be done before
//! `m` is known. Each may hide one message only: two messages over the same zero differ by their
//! difference in the clear. A [`ZeroEncryption`] is therefore neither cloned nor borrowed into a
//! ciphertext: it is moved.
//!
//! ```compile_fail
//! # use sphinx_he::rlwe::ZeroEncryption;
//! fn twice(zero: ZeroEncryption) -> (ZeroEncryption, ZeroEncryption) { (zero.clone(), zero) }
//! ```

use rand_core::CryptoRng;

use super::{EncryptionMemory, Parameters, PublicKey, SecretKey};
use super::{encrypt_public_into, encrypt_symmetric_into};
use crate::error::Error;
use crate::ring::{Eval, Poly};

/// A fresh encryption of zero, to be used once.
#[derive(Debug)]
pub struct ZeroEncryption {
    pub(crate) parameters: Parameters,
    pub(crate) c0: Poly<Eval>,
    pub(crate) c1: Poly<Eval>,
}

impl ZeroEncryption {
    fn blank(parameters: &Parameters, level: usize) -> Result<Self, Error> {
        let zero = || Poly::zero(parameters.ring(), level);
        Ok(Self {
            parameters: parameters.clone(),
            c0: zero()?,
            c1: zero()?,
        })
    }

    /// Under a secret key.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn symmetric<R: CryptoRng + ?Sized>(
        secret: &SecretKey,
        level: usize,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let mut out = Self::blank(secret.parameters(), level)?;
        let mut memory = EncryptionMemory::new(secret.parameters());
        encrypt_symmetric_into(&mut out.c0, &mut out.c1, None, secret, rng, &mut memory);
        Ok(out)
    }

    /// Under a public key.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn public<R: CryptoRng + ?Sized>(
        key: &PublicKey,
        level: usize,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let mut out = Self::blank(key.parameters(), level)?;
        let mut memory = EncryptionMemory::new(key.parameters());
        encrypt_public_into(&mut out.c0, &mut out.c1, None, key, rng, &mut memory);
        Ok(out)
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> usize {
        self.c0.level()
    }
}

/// Encryptions of zero of one key and level.
#[derive(Debug, Default)]
pub struct ZeroPool {
    zeros: Vec<ZeroEncryption>,
}

impl ZeroPool {
    /// An empty pool.
    #[must_use]
    pub const fn new() -> Self {
        Self { zeros: Vec::new() }
    }

    /// Adds one.
    pub fn put(&mut self, zero: ZeroEncryption) {
        self.zeros.push(zero);
    }

    /// Takes one out, the last put in; none where the pool is empty.
    pub fn take(&mut self) -> Option<ZeroEncryption> {
        self.zeros.pop()
    }

    /// How many are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.zeros.len()
    }

    /// Whether none is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.zeros.is_empty()
    }
}
