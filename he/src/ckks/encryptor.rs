//! Encryption under a secret or a public key, and decryption.

use rand_core::CryptoRng;

use super::{Ciphertext, Form, Plaintext, SeededCiphertext};
use crate::error::Error;
use crate::ring::Poly;
use crate::rlwe::{Parameters, PublicKey, SecretKey, encrypt_public, encrypt_symmetric};

#[derive(Debug, Clone, Copy)]
enum Key<'k> {
    Secret(&'k SecretKey),
    Public(&'k PublicKey),
}

/// Encrypts plaintexts of one key.
#[derive(Debug, Clone, Copy)]
pub struct Encryptor<'k> {
    key: Key<'k>,
}

impl<'k> Encryptor<'k> {
    /// Symmetric encryption: one error, of standard deviation `sigma` per coefficient.
    #[must_use]
    pub const fn with_secret(secret: &'k SecretKey) -> Self {
        Self {
            key: Key::Secret(secret),
        }
    }

    /// Public-key encryption: `e u + e0 + e1 s`, of variance `sigma^2 (1 + 4N/3)`.
    #[must_use]
    pub const fn with_public(key: &'k PublicKey) -> Self {
        Self {
            key: Key::Public(key),
        }
    }

    const fn parameters(&self) -> &Parameters {
        match self.key {
            Key::Secret(key) => key.parameters(),
            Key::Public(key) => key.parameters(),
        }
    }

    /// A fresh ciphertext at the plaintext's level.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn encrypt<R: CryptoRng + ?Sized>(
        &self,
        plaintext: &Plaintext,
        rng: &mut R,
    ) -> Result<Ciphertext, Error> {
        match self.key {
            Key::Secret(secret) => Ok(SeededCiphertext::encrypt(plaintext, secret, rng)?.expand()),
            Key::Public(key) => {
                let parameters = self.parameters();
                if plaintext.parameters != *parameters {
                    return Err(Error::ForeignParameters { op: "encrypt" });
                }
                let zero = Poly::zero(parameters.ring(), plaintext.level().0)?;
                let (mut c0, c1) = encrypt_public(zero, key, rng)?;
                c0.add_assign(&plaintext.poly)?;
                Ok(Ciphertext {
                    parameters: parameters.clone(),
                    scale: plaintext.scale,
                    form: Form::FRESH,
                    slots: plaintext.slots,
                    polys: vec![c0, c1],
                })
            }
        }
    }
}

impl SeededCiphertext {
    /// Encrypts under the secret; half the bytes of a full ciphertext.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn encrypt<R: CryptoRng + ?Sized>(
        plaintext: &Plaintext,
        secret: &SecretKey,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let parameters = secret.parameters();
        if plaintext.parameters != *parameters {
            return Err(Error::ForeignParameters { op: "encrypt" });
        }
        let zero = Poly::zero(parameters.ring(), plaintext.level().0)?;
        let (mut c0, seed) = encrypt_symmetric(zero, secret, rng);
        c0.add_assign(&plaintext.poly)?;
        Ok(Self {
            parameters: parameters.clone(),
            scale: plaintext.scale,
            slots: plaintext.slots,
            seed,
            c0,
        })
    }
}

/// Decrypts ciphertexts of degree 1 and 2.
#[derive(Debug, Clone, Copy)]
pub struct Decryptor<'k> {
    secret: &'k SecretKey,
}

impl<'k> Decryptor<'k> {
    /// The decryptor of this secret.
    #[must_use]
    pub const fn new(secret: &'k SecretKey) -> Self {
        Self { secret }
    }

    /// `c0 + c1 s + c2 s^2`: the slots and their error. Keep the result at the client.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Plaintext, Error> {
        if ciphertext.parameters != *self.secret.parameters() {
            return Err(Error::ForeignParameters { op: "decrypt" });
        }
        let powers = [self.secret.s(), self.secret.s2()];
        let mut poly = ciphertext.polys[0].clone();
        for (c, power) in ciphertext.polys[1..].iter().zip(powers) {
            poly.add_mul(c, power)?;
        }
        let parameters = ciphertext.parameters.clone();
        Ok(Plaintext {
            parameters,
            scale: ciphertext.scale,
            slots: ciphertext.slots,
            poly,
        })
    }
}
