//! Secret and public keys.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::Parameters;
use super::encryption::draw_errors;
use super::switching::Wide;
use crate::error::{DecodeError, ParameterError};
use crate::ntt::NttTable;
use crate::ring::{Coeff, Eval, Poly};
use crate::sample::{SEED_BYTES, Stream, ternary, uniform_row};
use crate::wire::{Header, Kind, Reader};

/// How much longer than the mean a secret and its square may be.
const NORM_SLACK: f64 = 1.05;

/// Squared lengths of the secret and of its negacyclic square, which the failure bounds need.
///
/// They say little about the secret: a key that is used was drawn until both norms are at most
/// 1.05 times their root mean squares, which two norms of uniform secrets nearly always are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SecretNorms {
    /// `||s||^2`.
    pub s_squared: f64,
    /// `||s * s||^2`.
    pub s2_squared: f64,
}

impl SecretNorms {
    /// The expected squared norms of a uniform ternary secret of degree `n`: `2n/3` and
    /// `(8n^2 - 6n)/9`.
    ///
    /// A coefficient of `s * s` is a signed sum of `2 s_i s_j` over unordered pairs, of variance
    /// `4 (2/3)^2` each, `n (n-1) / 2` pairs in all; each even coefficient adds the difference of
    /// two squares, of mean square `4/9`, `n/2` of them.
    #[must_use]
    pub fn expected(n: usize) -> Self {
        let n = n as f64;
        Self {
            s_squared: 2.0 * n / 3.0,
            s2_squared: (8.0 * n * n - 6.0 * n) / 9.0,
        }
    }

    /// The largest squared norms that a key is allowed to have: `1.05^2` times the expected ones.
    /// A bound that uses them holds for every key.
    #[must_use]
    pub fn largest(n: usize) -> Self {
        let mean = Self::expected(n);
        let slack = NORM_SLACK * NORM_SLACK;
        Self {
            s_squared: slack * mean.s_squared,
            s2_squared: slack * mean.s2_squared,
        }
    }

    fn within(&self, bound: &Self) -> bool {
        self.s_squared <= bound.s_squared && self.s2_squared <= bound.s2_squared
    }
}

/// A ternary secret. Erased when dropped; it cannot be printed, cloned or serialised by accident.
pub struct SecretKey {
    parameters: Parameters,
    coefficients: Zeroizing<Vec<i8>>,
    /// `s` and `s^2` in evaluation form at the highest level.
    s: Zeroizing<Poly<Eval>>,
    s2: Zeroizing<Poly<Eval>>,
    norms: SecretNorms,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl zeroize::ZeroizeOnDrop for SecretKey {}

impl SecretKey {
    /// Draws a uniform ternary secret, again where `||s||` or `||s * s||` exceeds 1.05 times its
    /// root mean square.
    ///
    /// Cost: about `log2 N` row products per draw; a few per cent of draws are refused at
    /// `N = 4096`, so the key loses a fraction of a bit of entropy.
    pub fn generate<R: CryptoRng + ?Sized>(parameters: &Parameters, rng: &mut R) -> Self {
        let largest = SecretNorms::largest(parameters.degree());
        loop {
            let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
            rng.fill_bytes(&mut *seed);
            let mut coefficients = Zeroizing::new(vec![0i8; parameters.degree()]);
            ternary(
                &mut Stream::new("secret", &parameters.digest(), &seed),
                &mut coefficients,
            );
            let candidate = Self::from_coefficients(parameters, coefficients);
            if candidate.norms.within(&largest) {
                return candidate;
            }
        }
    }

    fn from_coefficients(parameters: &Parameters, coefficients: Zeroizing<Vec<i8>>) -> Self {
        let ring = parameters.ring();
        let mut s = Poly::<Coeff>::zero_unchecked(ring, parameters.max_level());
        let wide = Zeroizing::new(
            coefficients
                .iter()
                .map(|&x| i64::from(x))
                .collect::<Vec<_>>(),
        );
        for (i, q) in ring.moduli().iter().enumerate() {
            crate::simd::add_signed_assign(q, s.row_mut(i), &wide);
        }
        let s = Zeroizing::new(s.into_eval());
        let mut s2 = Zeroizing::new((*s).clone());
        for (i, q) in ring.moduli().iter().enumerate() {
            crate::simd::mul_assign(q, s2.row_mut(i), s.row(i));
        }
        let norms = measure(parameters, &wide, s2.row(0));
        Self {
            parameters: parameters.clone(),
            coefficients,
            s,
            s2,
            norms,
        }
    }

    /// The parameters it was drawn for.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Squared lengths of the secret and of its square.
    #[must_use]
    pub const fn norms(&self) -> SecretNorms {
        self.norms
    }

    pub(crate) fn s(&self) -> &Poly<Eval> {
        &self.s
    }

    pub(crate) fn s2(&self) -> &Poly<Eval> {
        &self.s2
    }

    /// The secret modulo the primes of `level` and the special primes.
    pub(crate) fn wide(&self, level: usize) -> Result<Zeroizing<Wide>, ParameterError> {
        let down = self.parameters.switching()?;
        let mut out = Zeroizing::new(Wide::zero(down, level));
        let values = self.coefficients.iter().map(|&x| i64::from(x));
        let values = Zeroizing::new(values.collect::<Vec<_>>());
        for (r, row) in out.rows_mut().enumerate() {
            if r <= level {
                row.copy_from_slice(self.s.row(r));
            } else {
                let (q, table) = down.table(level, r);
                crate::simd::add_signed_assign(q, row, &values);
                table.forward(row);
            }
        }
        Ok(out)
    }

    /// The secret as bytes, to be kept under the owner's own protection: the header of this
    /// crate's objects, then `s_i + 1` in two bits each.
    #[must_use]
    pub fn export_secret(&self) -> Zeroizing<Vec<u8>> {
        let header = Header {
            kind: Kind::Secret,
            digest: self.parameters.digest(),
        };
        let mut out = Zeroizing::new(Vec::with_capacity(
            Header::BYTES + self.coefficients.len() / 4,
        ));
        header.write(&mut out);
        for four in self.coefficients.chunks_exact(4) {
            let byte = four
                .iter()
                .rev()
                .fold(0u8, |byte, &x| (byte << 2) | (x + 1) as u8);
            out.push(byte);
        }
        out
    }

    /// Reads what [`Self::export_secret`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]; [`DecodeError::BadSecret`] where a value is not ternary or the norms are
    /// above the bound of [`Self::generate`].
    pub fn import_secret(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(bytes, Kind::Secret, parameters)?;
        reader.expect_total(Header::BYTES + parameters.degree() / 4)?;
        let packed = reader.take(parameters.degree() / 4)?;
        let mut coefficients = Zeroizing::new(Vec::with_capacity(parameters.degree()));
        let mut valid = true;
        for &byte in packed {
            for shift in [0, 2, 4, 6] {
                let digit = (byte >> shift) & 3;
                valid &= digit < 3;
                coefficients.push(digit as i8 - 1);
            }
        }
        if !valid {
            return Err(DecodeError::BadSecret);
        }
        let key = Self::from_coefficients(parameters, coefficients);
        if key.norms.within(&SecretNorms::largest(parameters.degree())) {
            Ok(key)
        } else {
            Err(DecodeError::BadSecret)
        }
    }
}

/// Norms from the coefficients and the first row of the square: a coefficient of `s * s` is at
/// most `N <= 2^16` in magnitude, less than half of any prime.
fn measure(parameters: &Parameters, s: &[i64], square: &[u64]) -> SecretNorms {
    let q = &parameters.moduli()[0];
    let mut row = Zeroizing::new(square.to_vec());
    parameters.ring().tables()[0].inverse(&mut row);
    let norm = |values: &mut dyn Iterator<Item = i64>| values.map(|x| x * x).sum::<i64>() as f64;
    SecretNorms {
        s_squared: norm(&mut s.iter().copied()),
        s2_squared: norm(&mut row.iter().map(|&x| q.centre(x))),
    }
}

/// A public key: an encryption of zero modulo all primes, the special ones included.
#[derive(Clone)]
pub struct PublicKey {
    pub(crate) parameters: Parameters,
    pub(crate) seed: [u8; SEED_BYTES],
    /// `-a s + e`.
    pub(crate) b: Wide,
    /// The mask.
    pub(crate) a: Wide,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// All moduli with their transforms, the special ones last.
pub(crate) fn wide_tables(parameters: &Parameters) -> impl Iterator<Item = &NttTable> {
    let special = parameters
        .switching()
        .ok()
        .map(|down| down.special().tables());
    parameters
        .ring()
        .tables()
        .iter()
        .chain(special.into_iter().flatten())
}

/// The mask of a public key: row `r` is sub-stream `r` of the seed.
pub(crate) fn expand_public(parameters: &Parameters, seed: &[u8; SEED_BYTES]) -> Wide {
    let special = parameters.special_moduli().len();
    let mut mask = Wide::with_rows(parameters.degree(), parameters.moduli().len(), special);
    let mut stream = Stream::new("public mask", &parameters.digest(), seed);
    for ((r, row), table) in (0..).zip(mask.rows_mut()).zip(wide_tables(parameters)) {
        uniform_row(&mut stream, r, &table.modulus(), row);
    }
    mask
}

impl PublicKey {
    /// Makes a public key of this secret.
    pub fn generate<R: CryptoRng + ?Sized>(secret: &SecretKey, rng: &mut R) -> Self {
        let parameters = secret.parameters().clone();
        let mut seed = [0; SEED_BYTES];
        rng.fill_bytes(&mut seed);
        let a = expand_public(&parameters, &seed);
        let mut b = Wide::with_rows(
            parameters.degree(),
            parameters.moduli().len(),
            parameters.special_moduli().len(),
        );
        let errors = draw_errors(&parameters, rng);
        let values = secret.coefficients.iter().map(|&x| i64::from(x));
        let values = Zeroizing::new(values.collect::<Vec<_>>());
        let mut s = Zeroizing::new(vec![0; parameters.degree()]);
        for ((row, mask), table) in b.rows_mut().zip(a.rows()).zip(wide_tables(&parameters)) {
            let q = table.modulus();
            s.fill(0);
            crate::simd::add_signed_assign(&q, &mut s, &values);
            table.forward(&mut s);
            crate::simd::add_signed_assign(&q, row, &errors);
            table.forward(row);
            crate::simd::mul_sub_assign(&q, row, mask, &s);
        }
        Self {
            parameters,
            seed,
            b,
            a,
        }
    }

    /// The parameters of the secret.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntt::reference::negacyclic_product;
    use crate::rlwe::{ParametersLiteral, Security};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn parameters(log_n: u32) -> Parameters {
        let security = if log_n < 10 {
            Security::Toy
        } else {
            Security::Classical128
        };
        let log_q = vec![26];
        let literal = ParametersLiteral {
            log_n,
            log_q,
            log_p: vec![],
            error_std_dev: 3.2,
            security,
        };
        Parameters::new(&literal).unwrap()
    }

    #[test]
    fn norms_are_those_of_the_schoolbook_square() {
        let parameters = parameters(7);
        let q = parameters.moduli()[0];
        for seed in 0..20 {
            let key = SecretKey::generate(&parameters, &mut ChaCha20Rng::seed_from_u64(seed));
            let s: Vec<u64> = key
                .coefficients
                .iter()
                .map(|&x| q.reduce_i64(x.into()))
                .collect();
            let norm = |row: &[u64]| row.iter().map(|&x| q.centre(x).pow(2)).sum::<i64>() as f64;
            let square = negacyclic_product(q.value(), &s, &s);
            assert_eq!(
                key.norms(),
                SecretNorms {
                    s_squared: norm(&s),
                    s2_squared: norm(&square)
                }
            );
            assert!(key.norms().within(&SecretNorms::largest(128)));
        }
    }

    #[test]
    fn expected_norms_are_the_means() {
        let parameters = parameters(6);
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let mut sum = [0.0; 2];
        let draws = 20_000;
        for _ in 0..draws {
            let mut seed = [0; 32];
            rand_core::Rng::fill_bytes(&mut rng, &mut seed);
            let mut coefficients = Zeroizing::new(vec![0; 64]);
            ternary(
                &mut Stream::new("norms", &[0; 32], &seed),
                &mut coefficients,
            );
            let norms = SecretKey::from_coefficients(&parameters, coefficients).norms();
            sum[0] += norms.s_squared / f64::from(draws);
            sum[1] += norms.s2_squared / f64::from(draws);
        }
        let expected = SecretNorms::expected(64);
        assert!(
            (sum[0] / expected.s_squared - 1.0).abs() < 0.005,
            "{sum:?} {expected:?}"
        );
        assert!(
            (sum[1] / expected.s2_squared - 1.0).abs() < 0.02,
            "{sum:?} {expected:?}"
        );
    }

    #[test]
    fn secrets_survive_export_and_bad_bytes_do_not() {
        let parameters = parameters(10);
        let key = SecretKey::generate(&parameters, &mut ChaCha20Rng::seed_from_u64(1));
        let bytes = key.export_secret();
        let back = SecretKey::import_secret(&bytes, &parameters).unwrap();
        assert_eq!(*back.coefficients, *key.coefficients);
        for length in 0..bytes.len() {
            assert!(SecretKey::import_secret(&bytes[..length], &parameters).is_err());
        }
        let mut bad = bytes.to_vec();
        *bad.last_mut().unwrap() |= 3;
        assert!(matches!(
            SecretKey::import_secret(&bad, &parameters),
            Err(DecodeError::BadSecret)
        ));
        let all_ones = [&bytes[..Header::BYTES], &[0b1010_1010; 256]].concat();
        assert!(matches!(
            SecretKey::import_secret(&all_ones, &parameters),
            Err(DecodeError::BadSecret)
        ));
        assert!(!format!("{key:?}").contains("coefficients"));
    }

    #[test]
    fn keys_differ_and_repeat_with_the_generator() {
        let parameters = parameters(10);
        let draw = |seed| SecretKey::generate(&parameters, &mut ChaCha20Rng::seed_from_u64(seed));
        assert_eq!(*draw(1).coefficients, *draw(1).coefficients);
        assert_ne!(*draw(1).coefficients, *draw(2).coefficients);
    }
}
