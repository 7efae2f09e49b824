//! Encryption under a secret or a public key, and decryption.

use rand_core::CryptoRng;

use super::{Ciphertext, Form, Level, Plaintext, SeededCiphertext};
use crate::error::Error;
use crate::ring::Poly;
use crate::rlwe::{
    EncryptionMemory, Parameters, PublicKey, SecretKey, ZeroEncryption, encrypt_public_into,
    encrypt_symmetric, encrypt_symmetric_into,
};
use crate::simd::Kernels;

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

    /// Public-key encryption: `(e u + e0 + e1 s) / P` and a rounding; without special primes
    /// `e u + e0 + e1 s`, of variance `sigma^2 (1 + 4N/3)`.
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
        let parameters = self.parameters();
        let mut out = Ciphertext::empty(parameters, Level(0), 1);
        let mut memory = EncryptionMemory::new(parameters);
        self.encrypt_into(&mut out, plaintext, rng, &mut memory)?;
        Ok(out)
    }

    /// As [`Self::encrypt`], into `out`. Allocates nothing where `out` has the right shape.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn encrypt_into<R: CryptoRng + ?Sized>(
        &self,
        out: &mut Ciphertext,
        plaintext: &Plaintext,
        rng: &mut R,
        memory: &mut EncryptionMemory,
    ) -> Result<(), Error> {
        let parameters = self.parameters();
        if [&plaintext.parameters, memory.parameters()]
            .iter()
            .any(|&p| p != parameters)
        {
            return Err(Error::ForeignParameters { op: "encrypt" });
        }
        let level = plaintext.level();
        if out.parameters != *parameters || out.level() != level || out.degree() != 1 {
            *out = Ciphertext::empty(parameters, level, 1);
        }
        (out.scale, out.form, out.slots) = (plaintext.scale, Form::FRESH, plaintext.slots);
        let [c0, c1] = &mut out.polys[..] else {
            return Err(Error::NotLinear {
                op: "encrypt",
                got: out.degree(),
            });
        };
        let message = Some(&plaintext.poly);
        match self.key {
            Key::Secret(key) => {
                encrypt_symmetric_into(c0, c1, message, key, rng, memory);
            }
            Key::Public(key) => encrypt_public_into(c0, c1, message, key, rng, memory),
        }
        Ok(())
    }
}

impl Ciphertext {
    /// The encryption of `plaintext` over an encryption of zero made ahead: one addition.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`]; the zero is lost then.
    pub fn from_zero(zero: ZeroEncryption, plaintext: &Plaintext) -> Result<Self, Error> {
        if zero.parameters != plaintext.parameters {
            return Err(Error::ForeignParameters {
                op: "encrypt over zero",
            });
        }
        let mut c0 = zero.c0;
        c0.add_assign(&plaintext.poly)?;
        Ok(Self {
            parameters: zero.parameters,
            scale: plaintext.scale,
            form: Form::FRESH,
            slots: plaintext.slots,
            polys: vec![c0, zero.c1],
        })
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
        let mut out = Plaintext::zero(self.secret.parameters(), Level(0))?;
        self.decrypt_into(&mut out, ciphertext)?;
        Ok(out)
    }

    /// As [`Self::decrypt`], into `out`. Allocates nothing where `out` has the right level.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn decrypt_into(&self, out: &mut Plaintext, ciphertext: &Ciphertext) -> Result<(), Error> {
        let parameters = self.secret.parameters();
        if ciphertext.parameters != *parameters {
            return Err(Error::ForeignParameters { op: "decrypt" });
        }
        let level = ciphertext.level();
        if out.parameters != *parameters || out.level() != level {
            out.replace(parameters, Poly::zero(parameters.ring(), level.0)?);
        }
        (out.scale, out.slots) = (ciphertext.scale, ciphertext.slots);
        let (kernels, powers) = (Kernels::active(), [self.secret.s(), self.secret.s2()]);
        for (i, q) in parameters.moduli()[..=level.0].iter().enumerate() {
            let row = out.poly.row_mut(i);
            row.copy_from_slice(ciphertext.polys[0].row(i));
            for (c, power) in ciphertext.polys[1..].iter().zip(powers) {
                kernels.mul_add_assign(q, row, c.row(i), power.row(i));
            }
        }
        Ok(())
    }
}
