//! The kernels of encoding and decoding: floating-point numbers to residues and back.
//!
//! Every back end does the same roundings in the same order, so results agree to the bit.

#![cfg_attr(
    not(target_arch = "x86_64"),
    expect(unsafe_code, reason = "complex numbers are seen as pairs of floats")
)]

use rustfft::num_complex::Complex64;

#[cfg(target_arch = "x86_64")]
use super::{Backend, avx512};
use super::{Kernels, scalar};
use crate::zq::Modulus;

/// Below this, a rounded number is a signed word that [`Kernels::signed_residues`] takes.
pub const SIGNED_LIMIT: f64 = (1u64 << 62) as f64;

/// Complex numbers as real and imaginary parts in turn.
#[must_use]
pub fn parts(values: &[Complex64]) -> &[f64] {
    // SAFETY: a complex number is `repr(C)` with two `f64` and nothing else
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), 2 * values.len()) }
}

/// As [`parts`], to be written.
#[must_use]
pub fn parts_mut(values: &mut [Complex64]) -> &mut [f64] {
    // SAFETY: a complex number is `repr(C)` with two `f64` and nothing else
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), 2 * values.len()) }
}

/// Calls the kernel, whatever the modulus.
macro_rules! either {
    ($self:ident, $name:ident($($argument:expr),*)) => {
        match $self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels are made only where the back end's instructions were found
            Backend::Avx512 => unsafe { avx512::$name($($argument),*) },
            _ => scalar::$name($($argument),*),
        }
    };
}

impl Kernels {
    /// `out = a + b`.
    pub fn add(self, q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
        debug_assert!(out.len() == a.len() && a.len() == b.len());
        either!(self, add(q, out, a, b));
    }

    /// `out = values mod q` for signed words.
    pub fn signed_residues(self, q: &Modulus, out: &mut [u64], values: &[i64]) {
        debug_assert_eq!(out.len(), values.len());
        dispatch!(self, signed_residues(q, out, values), long);
    }

    /// Complex numbers `x` and `w`, real parts at even places, become `x conj(w) factor`: its real
    /// parts in `real`, its imaginary parts in `imaginary`.
    pub fn untwist(
        self,
        real: &mut [f64],
        imaginary: &mut [f64],
        x: &[f64],
        w: &[f64],
        factor: f64,
    ) {
        debug_assert!(real.len() == imaginary.len() && x.len() == 2 * real.len());
        debug_assert_eq!(x.len(), w.len());
        either!(self, untwist(real, imaginary, x, w, factor));
    }

    /// The complex numbers `(real + i imaginary) factor w`, real parts at even places.
    pub fn twist(self, out: &mut [f64], real: &[f64], imaginary: &[f64], w: &[f64], factor: f64) {
        debug_assert!(real.len() == imaginary.len() && out.len() == 2 * real.len());
        debug_assert_eq!(out.len(), w.len());
        either!(self, twist(out, real, imaginary, w, factor));
    }

    /// Rounds to nearest, ties to even; whether every magnitude is below `limit`, at most
    /// [`SIGNED_LIMIT`]. Where it is not, `out` is undefined.
    #[must_use]
    pub fn round(self, out: &mut [i64], values: &[f64], limit: f64) -> bool {
        debug_assert!(out.len() == values.len() && limit <= SIGNED_LIMIT);
        either!(self, round(out, values, limit))
    }

    /// `out = out factor + [a]`, where the residues `a` stand for their centred representatives;
    /// two roundings.
    pub fn add_centred(self, q: &Modulus, out: &mut [f64], factor: f64, a: &[u64]) {
        debug_assert_eq!(out.len(), a.len());
        either!(self, add_centred(q, out, factor, a));
    }
}
