//! Roots of unity in the order in which the transform reads them.

use std::sync::OnceLock;

use crate::error::ParameterError;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Backend, Kernels, avx2, avx512::Roots};
use crate::zq::{Modulus, Shoup, prime};

/// Roots of unity with their Shoup quotients, as the scalar code reads them.
#[derive(Clone, Debug)]
struct Powers {
    /// Entry `i` is `psi^bitrev(i)`; a layer of `b` blocks reads entries `b..2b`.
    forward: Vec<Shoup>,
    /// Entry `i` is `psi^-bitrev(i)`.
    inverse: Vec<Shoup>,
}

/// The transform of one modulus and degree.
///
/// Tables are made at the first transform, those of the back end that asks; others take no memory.
#[derive(Clone, Debug)]
pub struct NttTable {
    modulus: Modulus,
    log_n: u32,
    /// `psi` and its inverse.
    roots: [u64; 2],
    scalar: OnceLock<Powers>,
    /// `1/N`.
    scale: Shoup,
    /// `1/N` times the root of the last inverse layer.
    scaled_root: Shoup,
    /// The same roots for vectors; none where vectors do not apply.
    #[cfg(target_arch = "x86_64")]
    vector: OnceLock<Option<Roots>>,
    /// And for vectors of doubles.
    #[cfg(target_arch = "x86_64")]
    double: OnceLock<Option<avx2::Roots>>,
}

/// Powers `base^bitrev(i)` for `i < 2^log_n`.
fn reversed_powers(modulus: &Modulus, base: u64, log_n: u32) -> Vec<Shoup> {
    let mut powers = vec![modulus.shoup(1); 1 << log_n];
    let mut power = 1;
    for i in 0..1usize << log_n {
        let reversed = i.reverse_bits() >> (usize::BITS - log_n);
        powers[reversed] = modulus.shoup(power);
        power = modulus.mul(power, base);
    }
    powers
}

impl NttTable {
    /// Builds the table for degree `2^log_n`, `1 <= log_n <= 20`.
    ///
    /// # Errors
    /// [`ParameterError::DegreeOutOfRange`], or [`ParameterError::NoRoot`] unless the modulus is
    /// a prime that is 1 modulo `2N`.
    pub fn new(modulus: Modulus, log_n: u32) -> Result<Self, ParameterError> {
        if !(1..=20).contains(&log_n) {
            return Err(ParameterError::DegreeOutOfRange {
                log_n,
                min: 1,
                max: 20,
            });
        }
        let two_n = 2u64 << log_n;
        let refused = ParameterError::NoRoot {
            modulus: modulus.value(),
            two_n,
        };
        let root = prime::primitive_root(&modulus, log_n)?;
        let inverse_root = modulus.inv(root).ok_or(refused.clone())?;
        let scale = modulus.inv(two_n / 2).ok_or(refused)?;
        // entry 1 of the inverse roots: psi^-bitrev(1)
        let last_root = modulus.pow(inverse_root, two_n / 4);
        let scaled_root = modulus.shoup(modulus.mul(scale, last_root));
        Ok(Self {
            modulus,
            log_n,
            roots: [root, inverse_root],
            scalar: OnceLock::new(),
            scale: modulus.shoup(scale),
            scaled_root,
            #[cfg(target_arch = "x86_64")]
            vector: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            double: OnceLock::new(),
        })
    }

    /// The modulus.
    #[must_use]
    pub const fn modulus(&self) -> Modulus {
        self.modulus
    }

    /// `N`.
    #[must_use]
    pub const fn degree(&self) -> usize {
        1 << self.log_n
    }

    /// `log2 N`.
    #[must_use]
    pub const fn log_n(&self) -> u32 {
        self.log_n
    }

    /// The primitive `2N`-th root of unity `psi` that the table is built on.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.roots[0]
    }

    fn powers(&self) -> Powers {
        let [forward, inverse] = self
            .roots
            .map(|root| reversed_powers(&self.modulus, root, self.log_n));
        Powers { forward, inverse }
    }

    pub(super) fn forward_roots(&self) -> &[Shoup] {
        &self.scalar.get_or_init(|| self.powers()).forward
    }

    pub(super) fn inverse_roots(&self) -> &[Shoup] {
        &self.scalar.get_or_init(|| self.powers()).inverse
    }

    /// The roots for vectors, if these kernels have a transform for this modulus and degree.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn vector_roots(&self, kernels: Kernels) -> Option<&Roots> {
        if kernels.backend() != Backend::Avx512 {
            return None;
        }
        let make = || {
            let (last, powers) = ([self.scale, self.scaled_root], self.powers());
            Roots::new(self.modulus, &powers.forward, &powers.inverse, last)
        };
        self.vector.get_or_init(make).as_ref()
    }

    /// The roots as doubles, if these kernels have such a transform for this modulus and degree.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn double_roots(&self, kernels: Kernels) -> Option<&avx2::Roots> {
        if kernels.backend() != Backend::Avx2 {
            return None;
        }
        let make = || {
            let (last, powers) = ([self.scale, self.scaled_root], self.powers());
            avx2::Roots::new(self.modulus, &powers.forward, &powers.inverse, last)
        };
        self.double.get_or_init(make).as_ref()
    }

    pub(super) const fn last_layer(&self) -> (Shoup, Shoup) {
        (self.scale, self.scaled_root)
    }
}
