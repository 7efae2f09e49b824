//! Integers in the coefficients, decoded to the exact result by rounding.
//!
//! Sits above [`crate::rlwe`]; this is what a protocol with exact results runs on. A client
//! encodes integers, uploads them seeded ([`SeededCiphertext`]), the server multiplies with public
//! integers ([`IntegerPoly`]) or with each other ([`Ciphertext`]; many sums at once: [`Panel`]),
//! drops primes, and sends selected
//! coefficients down ([`SelectedCiphertext`]), which decrypt to the nearest integer.
//!
//! What must be true: the decoding error stays below half a step and the sum below half the
//! modulus. [`budget`] computes how surely both hold; nothing here checks it at run time, because
//! nothing can. A result that is exact with failure probability below `2^-128` leaks nothing of the
//! errors (Li and Micciancio, *On the security of homomorphic encryption on approximate numbers*,
//! ePrint 2020/1533).
//!
//! Two encodings ([`Encoding`]): integers times a scale, and residues modulo a power of two spread
//! over the whole modulus. Every operation checks that its operands agree in parameters, level and
//! encoding.
//!
//! ```
//! use sphinx_he::exact::{Ciphertext, Encoding, IntegerPoly, Plaintext, SeededCiphertext};
//! use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security, SecretKey};
//! use rand::SeedableRng;
//!
//! let parameters = Parameters::new(&ParametersLiteral {
//!     log_n: 11,
//!     log_q: vec![50],
//!     log_p: vec![],
//!     error_std_dev: 3.2,
//!     security: Security::Classical128,
//! })?;
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let secret = SecretKey::generate(&parameters, &mut rng);
//! let mask = Encoding::Modular { log_t: 30 };
//! let r = Plaintext::encode(&parameters, 0, &[3, -1], mask)?;
//! let r = SeededCiphertext::encrypt(&r, &secret, &mut rng)?.expand();
//! let w = IntegerPoly::new(&parameters, 0, &[100], 1)?;
//! let mut sum = Ciphertext::zero(&parameters, 0, 1, mask);
//! sum.add_mul_plain(&r, &w)?;
//! let result = sum.select(&[0, 1])?.decrypt(&secret)?;
//! assert_eq!(result.keep_local(), [300, (1 << 30) - 100]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod budget;
mod ciphertext;
mod decode;
mod encoding;
mod panel;
mod plaintext;
mod seeded;
mod selected;

pub use ciphertext::Ciphertext;
pub use decode::Decrypted;
pub use encoding::Encoding;
pub use panel::{Features, Panel, PanelPart, Products, Scalars, Sums, SumsPart};
pub use panel::{WeightPanel, WeightPart};
pub use plaintext::{IntegerPoly, Plaintext};
pub use seeded::SeededCiphertext;
pub use selected::{SelectedCiphertext, Truncation};

#[cfg(test)]
mod tests;
