//! Ring learning with errors: judged parameters, keys, encryptions of zero.
//!
//! Sits above the ring and the samplers, below `exact` and `ckks`, which put messages on top.
//! With a ternary secret `s`, a uniform mask `a` and an error `e`, the pair `(-a s + e, a)` is an
//! encryption of zero; a ciphertext `(c0, c1, c2)` has the phase `c0 + c1 s + c2 s^2`.
//!
//! What must be true: one (secret, degree) pair is used with one modulus chain, whose size is
//! bounded by the table in [`Security`]; masks are never reused; a secret never leaves this module
//! but through [`SecretKey::export_secret`].
//!
//! Source: Lyubashevsky, Peikert, Regev, *On ideal lattices and learning with errors over rings*,
//! 2010, ePrint 2012/230; the scheme's form is that of Cheon, Kim, Kim and Song, ePrint 2016/421.
//!
//! ```
//! use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security};
//! let literal = ParametersLiteral {
//!     log_n: 12,
//!     log_q: vec![47, 42],
//!     log_p: vec![],
//!     error_std_dev: 3.2,
//!     security: Security::Classical128,
//! };
//! assert!(Parameters::new(&literal).is_ok());
//! let too_large = ParametersLiteral { log_q: vec![60, 60], ..literal };
//! assert!(Parameters::new(&too_large).is_err());
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

mod bytes;
mod down;
mod encryption;
mod gadget;
mod galois;
mod keys;
mod noise;
mod parameters;
mod pool;
mod security;
mod switching;

pub use encryption::EncryptionMemory;
pub use galois::{
    GaloisKey, GaloisKeys, KeyGenerator, RelinearizationKey, conjugation_exponent,
    rotation_exponent,
};
pub use keys::{PublicKey, SecretKey, SecretNorms};
pub use noise::NoiseModel;
pub use parameters::{Parameters, ParametersLiteral};
pub use pool::{ZeroEncryption, ZeroPool};
pub use security::Security;
pub use switching::{Hoisted, SwitchingKey, Workspace};

pub(crate) use down::Down;
pub(crate) use encryption::{
    encrypt_public_into, encrypt_symmetric, encrypt_symmetric_into, expand_mask, phase_without_c0,
};
