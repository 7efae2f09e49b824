//! Encryptions of a plaintext polynomial, and the phase.

use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::{Down, Parameters, PublicKey, SecretKey};
use crate::error::Error;
use crate::ring::{Aligned, Coeff, Eval, Poly};
use crate::sample::{SEED_BYTES, Stream, ternary, uniform_row};
use crate::simd::{self, Kernels};

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
pub(super) fn draw_errors<R: CryptoRng + ?Sized>(
    parameters: &Parameters,
    rng: &mut R,
) -> Zeroizing<Vec<i64>> {
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

/// Memory that encryption works in; made once. Holds secrets of encryptions: erased when dropped.
pub struct EncryptionMemory {
    parameters: Parameters,
    errors: Zeroizing<Vec<i64>>,
    ternary: Zeroizing<Vec<i8>>,
    sums: [Aligned; 2],
    buffer: Aligned,
}

impl std::fmt::Debug for EncryptionMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptionMemory").finish_non_exhaustive()
    }
}

impl Drop for EncryptionMemory {
    fn drop(&mut self) {
        self.sums.iter_mut().for_each(Zeroize::zeroize);
        self.buffer.zeroize();
    }
}

impl zeroize::ZeroizeOnDrop for EncryptionMemory {}

impl EncryptionMemory {
    /// Memory for these parameters.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        let n = parameters.degree();
        let words = |down: &Down| down.words(parameters.max_level());
        let sum = || Aligned::zeros(parameters.switching().map_or(0, words));
        Self {
            errors: Zeroizing::new(vec![0; n]),
            ternary: Zeroizing::new(vec![0; n]),
            sums: [sum(), sum()],
            buffer: Aligned::zeros(n),
            parameters: parameters.clone(),
        }
    }

    /// The parameters it was made for.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn draw_errors<R: CryptoRng + ?Sized>(&mut self, rng: &mut R) {
        let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
        rng.fill_bytes(&mut *seed);
        let mut stream = Stream::new("error", &self.parameters.digest(), &seed);
        self.parameters.errors().fill(&mut stream, &mut self.errors);
    }

    /// A uniform ternary polynomial in place of the errors.
    fn draw_ternary<R: CryptoRng + ?Sized>(&mut self, rng: &mut R) {
        let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
        rng.fill_bytes(&mut *seed);
        let mut stream = Stream::new("ephemeral", &self.parameters.digest(), &seed);
        ternary(&mut stream, &mut self.ternary);
        for (wide, &x) in self.errors.iter_mut().zip(self.ternary.iter()) {
            *wide = x.into();
        }
    }
}

/// `c0 = m + e - c1 s`, `c1` the mask of a fresh seed, at the level of both; the message is added
/// in evaluation form. Allocates nothing.
pub(crate) fn encrypt_symmetric_into<R: CryptoRng + ?Sized>(
    c0: &mut Poly<Eval>,
    c1: &mut Poly<Eval>,
    message: Option<&Poly<Eval>>,
    secret: &SecretKey,
    rng: &mut R,
    memory: &mut EncryptionMemory,
) -> [u8; SEED_BYTES] {
    let parameters = secret.parameters();
    let mut seed = [0u8; SEED_BYTES];
    rng.fill_bytes(&mut seed);
    memory.draw_errors(rng);
    let mut stream = Stream::new(MASK, &parameters.digest(), &seed);
    let tables = parameters.ring().tables();
    for (i, q) in parameters.moduli()[..=c0.level()].iter().enumerate() {
        let (row, mask) = (c0.row_mut(i), c1.row_mut(i));
        Kernels::active().signed_residues(q, row, &memory.errors);
        tables[i].forward(row);
        uniform_row(&mut stream, i as u64, q, mask);
        simd::mul_sub_assign(q, row, mask, secret.s().row(i));
        if let Some(message) = message {
            simd::add_assign(q, row, message.row(i));
        }
    }
    seed
}

/// `(c0, c1) = ((b u + e0) / P + m, (a u + e1) / P)` for a fresh ternary `u`, rounded; without
/// special primes `P = 1`. Allocates nothing.
///
/// The error is `(e u + e0 + e1 s) / P` and the rounding: with special primes little more than that
/// of one rescale. Source: Lyubashevsky, Peikert and Regev, ePrint 2012/230, as in CKKS, ePrint
/// 2016/421, section 3.4.
pub(crate) fn encrypt_public_into<R: CryptoRng + ?Sized>(
    c0: &mut Poly<Eval>,
    c1: &mut Poly<Eval>,
    message: Option<&Poly<Eval>>,
    key: &PublicKey,
    rng: &mut R,
    memory: &mut EncryptionMemory,
) {
    let (parameters, level) = (key.parameters(), c0.level());
    let (ring, n, kernels) = (parameters.ring(), parameters.degree(), Kernels::active());
    memory.draw_ternary(rng);
    if let Ok(down) = parameters.switching() {
        let [sum0, sum1] = &mut memory.sums;
        for (r, range) in down.rows(level).map(|r| (r, r * n..(r + 1) * n)) {
            let (q, table) = down.table(level, r);
            kernels.signed_residues(q, &mut memory.buffer, &memory.errors);
            table.forward(&mut memory.buffer);
            kernels.mul(
                q,
                &mut sum0[range.clone()],
                &memory.buffer,
                key.b.row(level, r),
            );
            kernels.mul(q, &mut sum1[range], &memory.buffer, key.a.row(level, r));
        }
        for (k, c) in [c0, c1].into_iter().enumerate() {
            memory.draw_errors(rng);
            let (errors, sum) = (&mut memory.errors, &mut memory.sums[k]);
            down.divide_noisy(level, sum, errors, &mut memory.buffer, |row| {
                let out = c.row_mut(row.index);
                kernels.sub_scale(row.modulus, out, row.sum, row.remainder, row.inverse);
                if let (0, Some(message)) = (k, message) {
                    kernels.add_assign(row.modulus, out, message.row(row.index));
                }
            });
        }
        return;
    }
    for (i, q) in ring.moduli()[..=level].iter().enumerate() {
        kernels.signed_residues(q, &mut memory.buffer, &memory.errors);
        ring.tables()[i].forward(&mut memory.buffer);
        kernels.mul(q, c0.row_mut(i), &memory.buffer, key.b.row(level, i));
        kernels.mul(q, c1.row_mut(i), &memory.buffer, key.a.row(level, i));
    }
    for (k, c) in [c0, c1].into_iter().enumerate() {
        memory.draw_errors(rng);
        for (i, q) in ring.moduli()[..=level].iter().enumerate() {
            kernels.signed_residues(q, &mut memory.buffer, &memory.errors);
            ring.tables()[i].forward(&mut memory.buffer);
            kernels.add_assign(q, c.row_mut(i), &memory.buffer);
            if let (0, Some(message)) = (k, message) {
                kernels.add_assign(q, c.row_mut(i), message.row(i));
            }
        }
    }
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
