//! Complex numbers in slots, approximately: CKKS.
//!
//! Sits above [`crate::rlwe`]. A polynomial of degree `N` holds `N/2` complex slots, its values at
//! half of the primitive `2N`-th roots of unity ([`Encoder`]); sums and products act slot by slot.
//! Every value carries a [`Scale`], a [`Level`] and two flags ([`Form`]): whether a rescale is
//! pending, and whether the degree in the secret is two. Operations check all of them and name both
//! operands where they differ.
//!
//! | operands | result |
//! |---|---|
//! | fresh | (0, 0) |
//! | ciphertext (0, L) times plaintext or scalar | (1, L) |
//! | ciphertext (0, 0) times ciphertext (0, 0) | (1, 1) |
//! | sum of equal flags | the same |
//! | rescale of (1, L) | (0, L) |
//! | relinearisation of (R, 1) | (R, 0) |
//! | rotation or conjugation of (R, 0) | the same |
//!
//! Results are approximate: the errors stay in them. A decrypted value must not be published,
//! since it says something about the secret (Li and Micciancio, ePrint 2020/1533); where results
//! leave the client use [`crate::exact`].
//!
//! Source: Cheon, Kim, Kim and Song, *Homomorphic encryption for arithmetic of approximate
//! numbers*, ePrint 2016/421, in the residue form of ePrint 2018/931.
//!
//! ```
//! use rand::SeedableRng;
//! use sphinx_he::ckks::{Decryptor, Encoder, Encryptor, Evaluator, Level, Scale};
//! use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security, SecretKey};
//!
//! let parameters = Parameters::new(&ParametersLiteral {
//!     log_n: 12,
//!     log_q: vec![45, 40],
//!     log_p: vec![],
//!     error_std_dev: 3.2,
//!     security: Security::Classical128,
//! })?;
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let secret = SecretKey::generate(&parameters, &mut rng);
//! let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
//! let scale = Scale::power_of_two(40);
//! let x = encoder.encode_real(&[0.5, -2.0], Level(1), scale)?;
//! let x = Encryptor::with_secret(&secret).encrypt(&x, &mut rng)?;
//! let square = evaluator.rescale(evaluator.mul(&x, &x)?)?;
//! let slots = encoder.decode_real(&Decryptor::new(&secret).decrypt(&square)?)?;
//! assert!((slots[0] - 0.25).abs() < 1e-6 && (slots[1] - 4.0).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bank;
mod bytes;
mod ciphertext;
pub mod circuit;
mod encoder;
mod encryptor;
mod estimate;
mod evaluator;
mod precision;
mod prepared;
pub mod reference;
pub mod sets;

pub use bank::{Bank, BankPart};
pub use ciphertext::{Ciphertext, Form, Level, Plaintext, Scale, SeededCiphertext};
pub use encoder::{Encoder, EncoderScratch};
pub use encryptor::{Decryptor, Encryptor};
pub use estimate::{Estimate, TAIL};
pub use evaluator::{Evaluator, HoistedCiphertext};
pub use precision::Precision;
pub use prepared::{SeededZero, largest_slot_squared};
pub use rustfft::num_complex::Complex64;

#[cfg(test)]
mod tests;
