//! Seeded encryptions of zero made ahead, and how long a secret's slots are.

use rand_core::CryptoRng;

use super::{Complex64, Encoder, Level, Plaintext, Scale, SeededCiphertext};
use crate::error::Error;
use crate::ring::{Eval, Poly};
use crate::rlwe::{Parameters, SecretKey, encrypt_symmetric};
use crate::sample::SEED_BYTES;

/// A seeded encryption of zero, to be used once: what [`crate::rlwe::ZeroEncryption`] is, with the seed of its
/// mask in the place of the mask, so that what is made of it travels at half the size.
///
/// Two messages over one zero would differ by their difference in the clear; so it is moved, never
/// cloned.
///
/// ```compile_fail
/// # use sphinx_he::ckks::SeededZero;
/// fn twice(zero: SeededZero) -> (SeededZero, SeededZero) { (zero.clone(), zero) }
/// ```
#[derive(Debug)]
pub struct SeededZero {
    parameters: Parameters,
    seed: [u8; SEED_BYTES],
    c0: Poly<Eval>,
}

impl SeededZero {
    /// Encrypts zero under the secret.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn new<R: CryptoRng + ?Sized>(
        secret: &SecretKey,
        level: Level,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let parameters = secret.parameters();
        let zero = Poly::zero(parameters.ring(), level.0)?;
        let (c0, seed) = encrypt_symmetric(zero, secret, rng);
        Ok(Self {
            parameters: parameters.clone(),
            seed,
            c0,
        })
    }

    /// Parameters, the mask's seed, and the half that carries the message.
    pub(crate) fn into_parts(self) -> (Parameters, [u8; SEED_BYTES], Poly<Eval>) {
        (self.parameters, self.seed, self.c0)
    }
}

impl SeededCiphertext {
    /// The encryption of `plaintext` over an encryption of zero made ahead: one addition.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`]; the zero is lost then.
    pub fn from_zero(zero: SeededZero, plaintext: &Plaintext) -> Result<Self, Error> {
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
            slots: plaintext.slots,
            seed: zero.seed,
            c0,
        })
    }
}

/// `max_j |s(zeta^(5^j))|^2`, the largest squared slot of a secret: by so much, and by its square, the
/// rounding of `c1` and `c2` is amplified in the worst slot. The mean is `2N/3`; for uniform ternary
/// secrets a slot is close to a complex Gaussian, so that `k` times the mean is exceeded somewhere with
/// probability about `N/2 exp(-k)`.
///
/// # Errors
/// None that a secret can cause.
pub fn largest_slot_squared(secret: &SecretKey) -> Result<f64, Error> {
    let parameters = secret.parameters();
    let encoder = Encoder::new(parameters);
    let mut slots = vec![Complex64::ZERO; encoder.slots()];
    let plaintext = Plaintext {
        parameters: parameters.clone(),
        scale: Scale::power_of_two(0),
        slots: encoder.slots(),
        poly: secret.s().clone(),
    };
    encoder.decode_into(&mut slots, &plaintext, &mut encoder.scratch())?;
    let largest = slots.iter().map(|z| z.norm_sqr()).fold(0.0, f64::max);
    slots.fill(Complex64::ZERO);
    std::hint::black_box(&slots);
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::rlwe::{ParametersLiteral, Security};

    #[test]
    fn slots_of_a_secret_follow_their_law() {
        let parameters = Parameters::new(&ParametersLiteral {
            log_n: 10,
            log_q: vec![40, 30],
            log_p: vec![],
            error_std_dev: 3.2,
            security: Security::Toy,
        })
        .unwrap();
        let mean = 2.0 * 1024.0 / 3.0;
        for seed in 0..4 {
            let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(seed);
            let secret = SecretKey::generate(&parameters, &mut rng);
            let ratio = largest_slot_squared(&secret).unwrap() / mean;
            // the largest of 512 exponentials is about ln 512 = 6.2
            assert!((3.5..14.0).contains(&ratio), "{ratio}");
        }
    }
}
