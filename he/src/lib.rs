//! RNS-CKKS from scratch: approximate numbers in slots, and exact integers in coefficients.
//!
//! The layers, lowest first; each uses only those before it:
//!
//! 1. [`zq`]: one word-sized modulus, and primes;
//! 2. [`simd`]: kernels on whole rows;
//! 3. [`ntt`]: the negacyclic transform and its slow twin;
//! 4. [`rns`]: several primes at once;
//! 5. [`ring`]: polynomials whose form is in their type;
//! 6. [`sample`]: masks, secrets, errors;
//! 7. [`rlwe`]: judged parameters, keys, key switching, errors;
//! 8. [`wire`]: canonical bytes;
//! 9. [`exact`]: integers in coefficients, decoded by rounding, with failure bounds;
//!    [`ckks`]: complex numbers in slots, and [`ckks::circuit`] above it.
//!
//! Key switching (relinearisation, rotation, conjugation) needs special primes, which count towards
//! security like all others; without them ciphertexts of degree two are decrypted as they are.
//!
//! ```
//! use sphinx_he::exact::{Encoding, Plaintext, SeededCiphertext};
//! use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security, SecretKey};
//! use rand::SeedableRng;
//!
//! let parameters = Parameters::new(&ParametersLiteral {
//!     log_n: 12,
//!     log_q: vec![47, 42],
//!     log_p: vec![],
//!     error_std_dev: 3.2,
//!     security: Security::Classical128,
//! })?;
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1); // take a fresh one in earnest
//! let secret = SecretKey::generate(&parameters, &mut rng);
//! let upload = |values: &[i64], scale, rng: &mut _| {
//!     let plain = Plaintext::encode(&parameters, 1, values, Encoding::scaled(scale))?;
//!     SeededCiphertext::encrypt(&plain, &secret, rng)
//! };
//! let x = upload(&[1, 2, 3], 1 << 28, &mut rng)?.expand();
//! let d = upload(&[5, -7], 1 << 30, &mut rng)?.expand();
//! let down = x.mul(&d)?.drop_prime()?.select(&[0, 1, 2, 3])?;
//! assert_eq!(down.decrypt(&secret)?.keep_local(), [5, 3, 1, -21]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod ckks;
pub mod error;
pub mod exact;
pub mod ntt;
pub mod ring;
pub mod rlwe;
pub mod rns;
pub mod sample;
pub mod simd;
#[cfg(feature = "proptest")]
pub mod strategies;
pub mod wire;
pub mod zq;

pub use error::{DecodeError, Error, ParameterError};
