//! Encryptions of a plaintext polynomial, and the phase.

use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::{Parameters, PublicKey, SecretKey};
use crate::error::Error;
use crate::ring::{Coeff, Eval, Poly};
use crate::sample::{SEED_BYTES, Stream, ternary, uniform_row};
use crate::simd;

const MASK: &str = "mask";

/// The mask of this seed: row `i` depends on the seed, the parameters and `i` alone.
pub(crate) fn expand_mask(
    parameters: &Parameters,
    level: usize,
    seed: &[u8; SEED_BYTES],
) -> Poly<Eval> {
    let mut mask = Poly::zero_unchecked(parameters.ring(), level);
    let mut stream = Stream::new(MASK, &parameters.digest(), seed);
    for (i, q) in parameters.moduli()[..=level].iter().enumerate() {
        uniform_row(&mut stream, i as u64, q, mask.row_mut(i));
    }
    mask
}

/// Fresh errors from a fresh secret seed.
pub(super) fn draw_errors<R: CryptoRng + ?Sized>(parameters: &Parameters, rng: &mut R) -> Zeroizing<Vec<i64>> {
    let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
    rng.fill_bytes(&mut *seed);
    let mut errors = Zeroizing::new(vec![0i64; parameters.degree()]);
    let mut stream = Stream::new("error", &parameters.digest(), &seed);
    parameters.errors().fill(&mut stream, &mut errors);
    errors
}

/// `c0 = m + e - a s` for the mask `a` of the seed that is returned.
///
/// `message` must be over the secret's ring. Cost: one transform and one generated row per prime,
/// one error row.
pub(crate) fn encrypt_symmetric<R: CryptoRng + ?Sized>(
    mut message: Poly<Coeff>,
    secret: &SecretKey,
    rng: &mut R,
) -> (Poly<Eval>, [u8; SEED_BYTES]) {
    let parameters = secret.parameters();
    let mut seed = [0u8; SEED_BYTES];
    rng.fill_bytes(&mut seed);
    let errors = draw_errors(parameters, rng);
    let moduli = &parameters.moduli()[..=message.level()];
    for (i, q) in moduli.iter().enumerate() {
        simd::add_signed_assign(q, message.row_mut(i), &errors);
    }
    let mut c0 = message.into_eval();
    let mut mask = vec![0; parameters.degree()];
    let mut stream = Stream::new(MASK, &parameters.digest(), &seed);
    for (i, q) in moduli.iter().enumerate() {
        uniform_row(&mut stream, i as u64, q, &mut mask);
        simd::mul_sub_assign(q, c0.row_mut(i), &mask, secret.s().row(i));
    }
    (c0, seed)
}

/// `(c0, c1) = (b u + e0 + m, a u + e1)` for a fresh ternary `u` (Lyubashevsky, Peikert, Regev,
/// as in CKKS, ePrint 2016/421, section 3.4).
pub(crate) fn encrypt_public<R: CryptoRng + ?Sized>(
    mut message: Poly<Coeff>,
    key: &PublicKey,
    rng: &mut R,
) -> Result<(Poly<Eval>, Poly<Eval>), Error> {
    let parameters = key.parameters();
    let level = message.level();
    let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
    rng.fill_bytes(&mut *seed);
    let mut u = Zeroizing::new(vec![0i8; parameters.degree()]);
    ternary(
        &mut Stream::new("ephemeral", &parameters.digest(), &seed),
        &mut u,
    );
    let u = Zeroizing::new(u.iter().map(|&x| i64::from(x)).collect::<Vec<_>>());
    let mut u = Poly::from_signed(parameters.ring(), level, &u)?.into_eval();
    let (e0, e1) = (draw_errors(parameters, rng), draw_errors(parameters, rng));
    for (i, q) in parameters.moduli()[..=level].iter().enumerate() {
        simd::add_signed_assign(q, message.row_mut(i), &e0);
    }
    let mut c0 = message.into_eval();
    let mut c1 = Poly::from_signed(parameters.ring(), level, &e1)?.into_eval();
    c0.add_mul(&u, &key.b)?;
    c1.add_mul(&u, &key.a)?;
    u.zeroize();
    Ok((c0, c1))
}

/// `c1 s + c2 s^2` in coefficient form; one inverse transform per prime.
pub(crate) fn phase_without_c0(
    secret: &SecretKey,
    c1: &Poly<Eval>,
    c2: Option<&Poly<Eval>>,
) -> Result<Zeroizing<Poly<Coeff>>, Error> {
    let mut phase = Poly::zero_unchecked(c1.ring(), c1.level());
    phase.add_mul(c1, secret.s())?;
    if let Some(c2) = c2 {
        phase.add_mul(c2, secret.s2())?;
    }
    Ok(Zeroizing::new(phase.into_coeff()))
}
