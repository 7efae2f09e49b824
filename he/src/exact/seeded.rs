//! Uploads: half a ciphertext and the seed of the other half.

use rand_core::CryptoRng;

use super::{Ciphertext, Encoding, Plaintext};
use crate::ckks::SeededZero;
use crate::error::{DecodeError, Error};
use crate::ring::{Eval, Poly};
use crate::rlwe::{Parameters, SecretKey, encrypt_symmetric, expand_mask};
use crate::sample::SEED_BYTES;
use crate::wire::{Header, Kind, Reader, rows_len, write_poly};

/// A fresh encryption: `c0` in evaluation form and the 32-byte seed of `c1`.
#[derive(Clone, Debug)]
pub struct SeededCiphertext {
    parameters: Parameters,
    encoding: Encoding,
    seed: [u8; SEED_BYTES],
    c0: Poly<Eval>,
}

/// Bytes before the residues: header, level, encoding, seed.
const PREFIX: usize = Header::BYTES + 1 + Encoding::BYTES + SEED_BYTES;

impl SeededCiphertext {
    /// Encrypts at the plaintext's level. The generator gives two 32-byte seeds: the mask's, which
    /// is sent, and the error's, which is erased.
    ///
    /// Cost at two primes: two transforms, two mask rows, one error row, one allocation of each.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`] where plaintext and secret belong to different sets.
    pub fn encrypt<R: CryptoRng + ?Sized>(
        plaintext: &Plaintext,
        secret: &SecretKey,
        rng: &mut R,
    ) -> Result<Self, Error> {
        if plaintext.parameters != *secret.parameters() {
            return Err(Error::ForeignParameters { op: "encrypt" });
        }
        let (c0, seed) = encrypt_symmetric(plaintext.poly.clone(), secret, rng);
        let parameters = plaintext.parameters.clone();
        Ok(Self {
            parameters,
            encoding: plaintext.encoding,
            seed,
            c0,
        })
    }

    /// The encryption of `plaintext` over an encryption of zero made ahead.
    ///
    /// Cost: one transform per prime. The zero took as many, where [`Self::encrypt`] takes one for
    /// message and error together: what is made ahead costs more in all.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`]; the zero is lost then.
    pub fn from_zero(zero: SeededZero, plaintext: &Plaintext) -> Result<Self, Error> {
        let (parameters, seed, zero) = zero.into_parts();
        if parameters != plaintext.parameters {
            let op = "encrypt over zero";
            return Err(Error::ForeignParameters { op });
        }
        let mut c0 = plaintext.poly.clone().into_eval();
        c0.add_assign(&zero)?;
        Ok(Self {
            parameters,
            encoding: plaintext.encoding,
            seed,
            c0,
        })
    }

    /// Expands the seed: a full ciphertext of degree 1.
    #[must_use]
    pub fn expand(self) -> Ciphertext {
        let c1 = expand_mask(&self.parameters, self.c0.level(), &self.seed);
        Ciphertext::from_parts(self.parameters, self.encoding, self.c0, c1)
    }

    /// How the integers are carried.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> usize {
        self.c0.level()
    }

    /// The parameters.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Exact length of [`Self::to_bytes`]; it depends on nothing but the parameters and the level.
    ///
    /// # Panics
    /// If `level` is above the parameters' highest.
    #[must_use]
    pub fn wire_size(parameters: &Parameters, level: usize) -> usize {
        PREFIX + rows_len(parameters, level, parameters.degree())
    }

    /// Header, level, encoding, seed, and the rows of `c0` packed to each prime's length.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // room for the word by which packing overshoots
        let mut out = Vec::with_capacity(Self::wire_size(&self.parameters, self.level()) + 8);
        Header {
            kind: Kind::Seeded,
            digest: self.parameters.digest(),
        }
        .write(&mut out);
        out.push(self.level() as u8);
        self.encoding.write(&mut out);
        out.extend_from_slice(&self.seed);
        write_poly(&mut out, &self.c0);
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; anything else is refused.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(bytes, Kind::Seeded, parameters)?;
        let level = reader.level(parameters)?;
        let encoding = Encoding::read(&mut reader)?;
        reader.expect_total(Self::wire_size(parameters, level))?;
        let seed = reader.array()?;
        let c0 = reader.poly(parameters, level)?;
        Ok(Self {
            parameters: parameters.clone(),
            encoding,
            seed,
            c0,
        })
    }
}
