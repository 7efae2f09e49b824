//! Parameters: a literal for people, a judged value for the code.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Down, Security};
use crate::error::ParameterError;
use crate::ring::Ring;
use crate::sample::ErrorSampler;
use crate::zq::{MAX_MODULUS_BITS, Modulus, prime};

const SECURE_STD_DEV: f64 = 3.2;
const TOY_STD_DEVS: (f64, f64) = (0.5, 1024.0);
const LOG_DEGREES: (u32, u32) = (3, 16);
const MIN_PRIME_BITS: u32 = 20;
/// Most primes of `Q`, and of `P`.
pub(crate) const MAX_PRIMES: usize = 48;

/// What people write. [`Parameters::new`] judges it.
///
/// ```
/// use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security};
/// let parameters = Parameters::new(&ParametersLiteral {
///     log_n: 12,
///     log_q: vec![47, 42], // kept longest first
///     log_p: vec![],
///     error_std_dev: 3.2,
///     security: Security::Classical128,
/// })?;
/// assert_eq!(parameters.degree(), 4096);
/// assert_eq!(parameters.max_level(), 1);
/// # Ok::<(), sphinx_he::ParameterError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParametersLiteral {
    /// log2 of the degree `N`.
    pub log_n: u32,
    /// Bit lengths of the primes of `Q`, the one kept longest first.
    pub log_q: Vec<u32>,
    /// Bit lengths of the special primes `P`, for key switching. They count towards security.
    #[serde(default)]
    pub log_p: Vec<u32>,
    /// Standard deviation of the error: 3.2 in every secure set.
    pub error_std_dev: f64,
    /// The security that the set must have.
    pub security: Security,
}

/// Judged parameters with everything precomputed. Cheap to clone, shared between threads, equal
/// when their digests are.
#[derive(Clone)]
pub struct Parameters(Arc<Inner>);

struct Inner {
    literal: ParametersLiteral,
    ring: Ring,
    special: Vec<Modulus>,
    switching: Option<Down>,
    errors: ErrorSampler,
    digest: [u8; 32],
}

impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.digest == other.0.digest
    }
}

impl Eq for Parameters {}

impl std::fmt::Debug for Parameters {
    /// Begins with the security, so that a toy set is seen first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameters")
            .field("security", &self.security().name())
            .field("log_n", &self.log_n())
            .field("log_q", &self.0.literal.log_q)
            .field("log_p", &self.0.literal.log_p)
            .field("error_std_dev", &self.error_std_dev())
            .finish_non_exhaustive()
    }
}

impl Parameters {
    /// Judges the literal and prepares primes, transforms and samplers.
    ///
    /// The primes of each size are the largest ones that are 1 modulo `2N`, in the order of the
    /// literal, so both parties derive the same set.
    ///
    /// # Errors
    /// [`ParameterError`]: the degree is outside `2^3..=2^16`, a prime size outside 20..=60 bits,
    /// there are no primes of `Q` or too many, not enough primes exist, `error_std_dev` is not 3.2
    /// (0.5 to 1024 for `Toy`), or `log2(QP)` exceeds [`Security::max_log_qp`]. The modulus is
    /// measured by its bit lengths, which bound it from above.
    pub fn new(literal: &ParametersLiteral) -> Result<Self, ParameterError> {
        check_shape(literal)?;
        check_width(literal)?;
        check_security(literal)?;
        let mut taken = Vec::new();
        let moduli = choose(&literal.log_q, literal.log_n, &mut taken)?;
        let special = choose(&literal.log_p, literal.log_n, &mut taken)?;
        let digest = digest(literal, &moduli, &special);
        let down = |ring: &Ring| Down::new(ring, Ring::new(literal.log_n, special.clone())?);
        let ring = Ring::new(literal.log_n, moduli)?;
        let switching = (!special.is_empty()).then(|| down(&ring)).transpose()?;
        Ok(Self(Arc::new(Inner {
            ring,
            special,
            switching,
            errors: ErrorSampler::new(literal.error_std_dev),
            digest,
            literal: literal.clone(),
        })))
    }

    /// `N`.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.0.ring.degree()
    }

    /// `log2 N`.
    #[must_use]
    pub fn log_n(&self) -> u32 {
        self.0.literal.log_n
    }

    /// The primes of `Q`. Level `l` uses the first `l + 1`; the last of a level is dropped first.
    #[must_use]
    pub fn moduli(&self) -> &[Modulus] {
        self.0.ring.moduli()
    }

    /// The special primes `P`.
    #[must_use]
    pub fn special_moduli(&self) -> &[Modulus] {
        &self.0.special
    }

    /// Number of primes of `Q`, less one.
    #[must_use]
    pub fn max_level(&self) -> usize {
        self.moduli().len() - 1
    }

    /// log2 of the modulus at `level`.
    ///
    /// # Panics
    /// If `level` exceeds [`Self::max_level`].
    #[must_use]
    pub fn log2_q(&self, level: usize) -> f64 {
        self.0.ring.basis().log2(level)
    }

    /// log2 of the product of the special primes; 0 where there are none.
    #[must_use]
    pub fn log2_p(&self) -> f64 {
        self.0.special.iter().map(Modulus::log2).sum()
    }

    /// SHA-256 over everything that both parties must agree on.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest
    }

    /// The security that the set was judged to have.
    #[must_use]
    pub fn security(&self) -> Security {
        self.0.literal.security
    }

    /// The literal it was built from.
    #[must_use]
    pub fn literal(&self) -> &ParametersLiteral {
        &self.0.literal
    }

    /// Standard deviation of fresh errors.
    #[must_use]
    pub fn error_std_dev(&self) -> f64 {
        self.0.literal.error_std_dev
    }

    /// The ring over the primes of `Q`.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// What key switching needs of the special primes, where there are any.
    pub(crate) fn switching(&self) -> Result<&Down, ParameterError> {
        self.0
            .switching
            .as_ref()
            .ok_or(ParameterError::NoSpecialPrime)
    }

    pub(crate) fn errors(&self) -> &ErrorSampler {
        &self.0.errors
    }
}

fn check_shape(literal: &ParametersLiteral) -> Result<(), ParameterError> {
    let (min, max) = LOG_DEGREES;
    if !(min..=max).contains(&literal.log_n) {
        return Err(ParameterError::DegreeOutOfRange {
            log_n: literal.log_n,
            min,
            max,
        });
    }
    for (which, sizes, min) in [("log_q", &literal.log_q, 1), ("log_p", &literal.log_p, 0)] {
        if !(min..=MAX_PRIMES).contains(&sizes.len()) {
            let got = sizes.len();
            return Err(ParameterError::PrimeCount {
                which,
                got,
                min,
                max: MAX_PRIMES,
            });
        }
    }
    let range = MIN_PRIME_BITS..=MAX_MODULUS_BITS;
    match literal
        .log_q
        .iter()
        .chain(&literal.log_p)
        .find(|bits| !range.contains(bits))
    {
        Some(&bits) => Err(ParameterError::PrimeSizeOutOfRange {
            bits,
            min: MIN_PRIME_BITS,
            max: MAX_MODULUS_BITS,
        }),
        None => Ok(()),
    }
}

fn check_width(literal: &ParametersLiteral) -> Result<(), ParameterError> {
    let (min, max) = TOY_STD_DEVS;
    let got = literal.error_std_dev;
    let fits = match literal.security {
        Security::Toy => (min..=max).contains(&got),
        _ => got == SECURE_STD_DEV,
    };
    if fits {
        Ok(())
    } else {
        Err(ParameterError::ErrorWidth {
            got,
            expected: SECURE_STD_DEV,
            min,
            max,
        })
    }
}

fn check_security(literal: &ParametersLiteral) -> Result<(), ParameterError> {
    let log_qp = literal.log_q.iter().chain(&literal.log_p).sum();
    let limit = literal.security.max_log_qp(literal.log_n).unwrap_or(0);
    if log_qp <= limit {
        return Ok(());
    }
    let security = literal.security.name();
    Err(ParameterError::Insecure {
        log_qp,
        log_n: literal.log_n,
        limit,
        security,
    })
}

fn choose(sizes: &[u32], log_n: u32, taken: &mut Vec<u64>) -> Result<Vec<Modulus>, ParameterError> {
    let mut chosen = Vec::with_capacity(sizes.len());
    for &bits in sizes {
        for prime in prime::transform_primes(bits, log_n, 1, taken)? {
            taken.push(prime);
            chosen.push(Modulus::new(prime)?);
        }
    }
    Ok(chosen)
}

fn digest(literal: &ParametersLiteral, moduli: &[Modulus], special: &[Modulus]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"sphinx-he parameters 1\0");
    hash.update(literal.log_n.to_le_bytes());
    for primes in [moduli, special] {
        hash.update((primes.len() as u64).to_le_bytes());
        for prime in primes {
            hash.update(prime.value().to_le_bytes());
        }
    }
    hash.update(literal.error_std_dev.to_bits().to_le_bytes());
    hash.update(literal.security.name());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(log_n: u32, log_q: &[u32], log_p: &[u32], security: Security) -> ParametersLiteral {
        ParametersLiteral {
            log_n,
            log_q: log_q.to_vec(),
            log_p: log_p.to_vec(),
            error_std_dev: 3.2,
            security,
        }
    }

    #[test]
    fn moduli_at_the_bound_pass_and_one_bit_more_does_not() {
        for (security, log_n, fits) in [
            (Security::Classical128, 11, vec![53]),
            (Security::Classical128, 12, vec![53, 53]),
            (Security::Classical128, 13, vec![54, 54, 53, 53]),
            (Security::Classical192, 12, vec![37, 36]),
            (Security::Classical256, 12, vec![28, 28]),
        ] {
            let good = literal(log_n, &fits, &[], security);
            assert!(Parameters::new(&good).is_ok());
            let mut more = good.clone();
            more.log_q[0] += 1;
            assert!(matches!(
                Parameters::new(&more),
                Err(ParameterError::Insecure { .. })
            ));
            let special = literal(log_n, &fits, &[20], security);
            assert!(matches!(
                Parameters::new(&special),
                Err(ParameterError::Insecure { .. })
            ));
            let toy = ParametersLiteral {
                security: Security::Toy,
                ..more
            };
            let toy = Parameters::new(&toy).unwrap();
            assert!(format!("{toy:?}").starts_with("Parameters { security: \"TOY"));
        }
        assert!(Parameters::new(&literal(9, &[20], &[], Security::Classical128)).is_err());
    }

    #[test]
    fn bad_shapes_and_widths_are_refused() {
        let toy =
            |log_n, log_q: &[u32]| Parameters::new(&literal(log_n, log_q, &[], Security::Toy));
        assert!(matches!(
            toy(2, &[30]),
            Err(ParameterError::DegreeOutOfRange { .. })
        ));
        assert!(matches!(
            toy(17, &[30]),
            Err(ParameterError::DegreeOutOfRange { .. })
        ));
        assert!(matches!(
            toy(5, &[19]),
            Err(ParameterError::PrimeSizeOutOfRange { .. })
        ));
        assert!(matches!(
            toy(5, &[61]),
            Err(ParameterError::PrimeSizeOutOfRange { .. })
        ));
        assert!(matches!(
            toy(5, &[]),
            Err(ParameterError::PrimeCount { .. })
        ));
        assert!(matches!(
            toy(5, &[30; 49]),
            Err(ParameterError::PrimeCount { .. })
        ));
        assert!(matches!(
            toy(16, &[20; 20]),
            Err(ParameterError::NoPrime { .. })
        ));
        for (width, security, ok) in [
            (3.19, Security::Classical128, false),
            (f64::NAN, Security::Classical128, false),
            (f64::NAN, Security::Toy, false),
            (0.4, Security::Toy, false),
            (1025.0, Security::Toy, false),
            (100.0, Security::Toy, true),
        ] {
            let literal = ParametersLiteral {
                error_std_dev: width,
                ..literal(12, &[40], &[], security)
            };
            assert_eq!(Parameters::new(&literal).is_ok(), ok, "{width}");
        }
    }

    #[test]
    fn primes_are_distinct_sized_and_reproducible() {
        let source = literal(12, &[47, 42, 47], &[47], Security::Toy);
        let (a, b) = (
            Parameters::new(&source).unwrap(),
            Parameters::new(&source).unwrap(),
        );
        assert_eq!(a, b);
        let mut all: Vec<u64> = a
            .moduli()
            .iter()
            .chain(a.special_moduli())
            .map(Modulus::value)
            .collect();
        assert_eq!(
            a.moduli().iter().map(Modulus::bits).collect::<Vec<_>>(),
            [47, 42, 47]
        );
        assert!(all.iter().all(|q| q % 8192 == 1));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
        assert_eq!(a.max_level(), 2);
        assert!((a.log2_q(1) - 89.0).abs() < 1e-4);
        for other in [
            literal(12, &[47, 42, 46], &[47], Security::Toy),
            literal(12, &[47, 42, 47], &[], Security::Toy),
            literal(12, &[47, 42], &[47, 47], Security::Toy),
            literal(13, &[47, 42, 47], &[47], Security::Classical128),
        ] {
            assert_ne!(a, Parameters::new(&other).unwrap());
        }
    }
}
