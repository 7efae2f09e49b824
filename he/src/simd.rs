//! Kernels on whole rows, for the processor at hand.
//!
//! Sits just above [`crate::zq`]: every inner loop of the crate lives here, but for the scalar
//! transform. All rows have equal length and hold canonical residues; nothing allocates and nothing
//! branches on the data. Every back end gives the same words as the scalar one.
//!
//! The back end is chosen once, at the first kernel: the one that the environment variable
//! `SPHINX_BACKEND` names (`scalar`, `avx2` or `avx512`), or the best that the processor has.
//! [`Backend::from_environment`] refuses a name that is unknown or whose instructions the
//! processor lacks, so that a program can say so; the kernels, which have nobody to tell, fall back
//! to `scalar` then.
//!
//! - `avx512` wants AVX-512 F, DQ, VL and IFMA. Moduli below `2^50` run on 52-bit products, longer
//!   ones on products of 32-bit halves; sums of many products modulo long ones ([`dot_add_assign`])
//!   and transforms with `N < 128` run the scalar code.
//! - `avx2` wants AVX2 and FMA, and covers transforms for moduli below `2^50` (in double precision),
//!   sums, differences and negations, and the scan of the error sampler.
//!
//! ```
//! use sphinx_he::{simd, zq::Modulus};
//! let q = Modulus::new(97)?;
//! let mut row = [1, 2, 96];
//! simd::mul_add_assign(&q, &mut row, &[10, 10, 10], &[10, 0, 1]);
//! assert_eq!(row, [4, 2, 9]);
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "code for instructions that were found may be called only so"
    )
)]

use std::sync::OnceLock;

use crate::zq::{Modulus, Shoup};

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod scalar;

/// The name of the environment variable that picks a back end.
pub const BACKEND_VARIABLE: &str = "SPHINX_BACKEND";

/// An implementation of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// Plain 64-bit integer code, on every machine.
    #[default]
    Scalar,
    /// 256-bit transforms, sums, differences and negations; the rest as `Scalar`.
    Avx2,
    /// 512-bit registers, with 52-bit products for moduli below `2^50`.
    Avx512,
}

/// A back end was asked for that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// There is none with this name.
    #[error("SPHINX_BACKEND={name:?} is not known; unset it or use one of: scalar, avx2, avx512")]
    Unknown {
        /// The name asked for.
        name: std::ffi::OsString,
    },
    /// This processor lacks its instructions.
    #[error(
        "the back end {backend} needs instructions that this processor lacks; unset SPHINX_BACKEND or use scalar"
    )]
    Unavailable {
        /// The back end asked for.
        backend: Backend,
    },
}

impl std::fmt::Display for Backend {
    /// The name that `SPHINX_BACKEND` takes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl Backend {
    /// All back ends, the slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The back end with this name, whether or not this processor can run it.
    ///
    /// # Errors
    /// [`BackendError::Unknown`].
    pub fn from_name(name: &str) -> Result<Self, BackendError> {
        match name {
            "scalar" => Ok(Self::Scalar),
            "avx2" => Ok(Self::Avx2),
            "avx512" => Ok(Self::Avx512),
            _ => Err(BackendError::Unknown { name: name.into() }),
        }
    }

    /// Whether this processor has its instructions.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The best back end that this processor can run.
    #[must_use]
    pub fn best() -> Self {
        let mut available = Self::ALL.into_iter().filter(|b| b.is_available());
        available.next_back().unwrap_or_default()
    }

    /// The back end that `SPHINX_BACKEND` names, or the best one where it is unset or empty.
    ///
    /// # Errors
    /// [`BackendError`] where the variable names something that cannot be had.
    pub fn from_environment() -> Result<Self, BackendError> {
        let Some(name) = std::env::var_os(BACKEND_VARIABLE).filter(|name| !name.is_empty()) else {
            return Ok(Self::best());
        };
        let backend = name.to_str().map_or_else(
            || Err(BackendError::Unknown { name: name.clone() }),
            Self::from_name,
        )?;
        backend.kernels().map(|_| backend)
    }

    /// Its kernels.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`].
    pub fn kernels(self) -> Result<Kernels, BackendError> {
        if self.is_available() {
            Ok(Kernels(self))
        } else {
            Err(BackendError::Unavailable { backend: self })
        }
    }
}

/// The kernels of a back end whose instructions were found. The functions of this module are
/// those of [`Kernels::active`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels(Backend);

/// Calls the kernel of the back end, the scalar one where it has none.
macro_rules! dispatch {
    ($self:ident, $name:ident($q:expr $(, $argument:expr)*), sum) => {
        match $self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels are made only where the back end's instructions were found
            Backend::Avx2 => unsafe { avx2::$name($q $(, $argument)*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above
            Backend::Avx512 => unsafe { avx512::$name($q $(, $argument)*) },
            _ => scalar::$name($q $(, $argument)*),
        }
    };
    ($self:ident, $name:ident($q:expr $(, $argument:expr)*), long) => {
        match $self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => {
                let long = $q.bits() > avx512::MAX_BITS;
                // SAFETY: kernels are made only where the back end's instructions were found
                unsafe {
                    if long {
                        avx512::$name::<true>($q $(, $argument)*)
                    } else {
                        avx512::$name::<false>($q $(, $argument)*)
                    }
                }
            }
            _ => scalar::$name($q $(, $argument)*),
        }
    };
    ($self:ident, $name:ident($q:expr $(, $argument:expr)*)) => {
        match $self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 if $q.bits() <= avx512::MAX_BITS => {
                // SAFETY: kernels are made only where the back end's instructions were found
                unsafe { avx512::$name($q $(, $argument)*) }
            }
            _ => scalar::$name($q $(, $argument)*),
        }
    };
}

mod blocks;
mod slots;
mod switch;

pub use blocks::BLOCK;
pub use slots::{SIGNED_LIMIT, parts, parts_mut};
pub use switch::{MAX_ROWS, Permutation};

impl Kernels {
    /// Those chosen for this process, at the first call.
    #[must_use]
    pub fn active() -> Self {
        static ACTIVE: OnceLock<Kernels> = OnceLock::new();
        *ACTIVE.get_or_init(|| Self(Backend::from_environment().unwrap_or_default()))
    }

    /// Whose they are.
    #[must_use]
    pub const fn backend(self) -> Backend {
        self.0
    }

    /// `a += b`.
    pub fn add_assign(self, q: &Modulus, a: &mut [u64], b: &[u64]) {
        debug_assert!(a.len() == b.len());
        dispatch!(self, add_assign(q, a, b), sum);
    }

    /// `a -= b`.
    pub fn sub_assign(self, q: &Modulus, a: &mut [u64], b: &[u64]) {
        debug_assert!(a.len() == b.len());
        dispatch!(self, sub_assign(q, a, b), sum);
    }

    /// `a = -a`.
    pub fn neg_assign(self, q: &Modulus, a: &mut [u64]) {
        dispatch!(self, neg_assign(q, a), sum);
    }

    /// `a = a b`, entry by entry.
    pub fn mul_assign(self, q: &Modulus, a: &mut [u64], b: &[u64]) {
        debug_assert!(a.len() == b.len());
        dispatch!(self, mul_assign(q, a, b), long);
    }

    /// `out = a b`, entry by entry.
    pub fn mul(self, q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
        debug_assert!(out.len() == a.len() && a.len() == b.len());
        dispatch!(self, mul(q, out, a, b), long);
    }

    /// `acc += a b`, entry by entry.
    pub fn mul_add_assign(self, q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
        debug_assert!(acc.len() == a.len() && a.len() == b.len());
        dispatch!(self, mul_add_assign(q, acc, a, b), long);
    }

    /// `acc += sum_t a_t b_t`, entry by entry, with one reduction for many terms.
    pub fn dot_add_assign(self, q: &Modulus, acc: &mut [u64], terms: &[(&[u64], &[u64])]) {
        debug_assert!(
            terms
                .iter()
                .all(|(a, b)| a.len() == acc.len() && b.len() == acc.len())
        );
        dispatch!(self, dot_add_assign(q, acc, terms));
    }

    /// `acc += sum_t w_t a_t`, `w_t` a residue each, with one reduction for many terms.
    pub fn weigh_add_assign(self, q: &Modulus, acc: &mut [u64], terms: &[(&[u64], u64)]) {
        debug_assert!(terms.iter().all(|(a, _)| a.len() == acc.len()));
        dispatch!(self, weigh_add_assign(q, acc, terms));
    }

    /// `acc -= a b`, entry by entry.
    pub fn mul_sub_assign(self, q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
        debug_assert!(acc.len() == a.len() && a.len() == b.len());
        dispatch!(self, mul_sub_assign(q, acc, a, b), long);
    }

    /// `a = a w` for one constant.
    pub fn scale_assign(self, q: &Modulus, a: &mut [u64], w: Shoup) {
        dispatch!(self, scale_assign(q, a, w), long);
    }

    /// `a = (a - b) w` for one constant: the last step of a division by a prime.
    pub fn sub_scale_assign(self, q: &Modulus, a: &mut [u64], b: &[u64], w: Shoup) {
        debug_assert!(a.len() == b.len());
        dispatch!(self, sub_scale_assign(q, a, b, w), long);
    }

    /// `a += value mod q` for signed words.
    pub fn add_signed_assign(self, q: &Modulus, a: &mut [u64], values: &[i64]) {
        debug_assert_eq!(a.len(), values.len());
        dispatch!(self, add_signed_assign(q, a, values), long);
    }

    /// For each word the number of `tails` above its upper 63 bits, with the sign that its lowest
    /// bit says. Reads every tail for every word; tails are below `2^63`.
    pub fn count_tails(self, tails: &[u64], words: &[u64], out: &mut [i64]) {
        debug_assert_eq!(words.len(), out.len());
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels are made only where the back end's instructions were found
            Backend::Avx512 => unsafe { avx512::count_tails(tails, words, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above
            Backend::Avx2 => unsafe { avx2::count_tails(tails, words, out) },
            _ => scalar::count_tails(tails, words, out),
        }
    }

    /// `out = [a] mod to`, where the residues `a` of `from` stand for their centred
    /// representatives.
    pub fn centred_to(self, from: &Modulus, to: &Modulus, out: &mut [u64], a: &[u64]) {
        debug_assert_eq!(out.len(), a.len());
        #[cfg(target_arch = "x86_64")]
        if self.0 == Backend::Avx512 {
            // SAFETY: kernels are made only where the back end's instructions were found
            return unsafe { avx512::centred_to(from, to, out, a) };
        }
        scalar::centred_to(from, to, out, a);
    }
}

/// `a += b`.
pub fn add_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    Kernels::active().add_assign(q, a, b);
}

/// `a -= b`.
pub fn sub_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    Kernels::active().sub_assign(q, a, b);
}

/// `a = -a`.
pub fn neg_assign(q: &Modulus, a: &mut [u64]) {
    Kernels::active().neg_assign(q, a);
}

/// `a = a b`, entry by entry.
pub fn mul_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    Kernels::active().mul_assign(q, a, b);
}

/// `out = a b`, entry by entry.
pub fn mul(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    Kernels::active().mul(q, out, a, b);
}

/// `acc += a b`, entry by entry.
pub fn mul_add_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    Kernels::active().mul_add_assign(q, acc, a, b);
}

/// `acc += sum_t a_t b_t`, entry by entry, with one reduction for many terms.
pub fn dot_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], &[u64])]) {
    Kernels::active().dot_add_assign(q, acc, terms);
}

/// `acc -= a b`, entry by entry.
pub fn mul_sub_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    Kernels::active().mul_sub_assign(q, acc, a, b);
}

/// `a = a w` for one constant.
pub fn scale_assign(q: &Modulus, a: &mut [u64], w: Shoup) {
    Kernels::active().scale_assign(q, a, w);
}

/// `a = (a - b) w` for one constant: the last step of a division by a prime.
pub fn sub_scale_assign(q: &Modulus, a: &mut [u64], b: &[u64], w: Shoup) {
    Kernels::active().sub_scale_assign(q, a, b, w);
}

/// `a += value mod q` for signed words.
pub fn add_signed_assign(q: &Modulus, a: &mut [u64], values: &[i64]) {
    Kernels::active().add_signed_assign(q, a, values);
}

/// `out = [a] mod to`, where the residues `a` of `from` stand for their centred representatives.
pub fn centred_to(from: &Modulus, to: &Modulus, out: &mut [u64], a: &[u64]) {
    Kernels::active().centred_to(from, to, out, a);
}

#[cfg(test)]
mod tests;
