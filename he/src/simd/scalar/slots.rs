//! Floating-point numbers to residues and back.

use crate::zq::Modulus;

/// `out = a + b`.
pub(in crate::simd) fn add(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
        *x = q.add(y, z);
    }
}

/// `out = values mod q`.
pub(in crate::simd) fn signed_residues(q: &Modulus, out: &mut [u64], values: &[i64]) {
    for (x, &value) in out.iter_mut().zip(values) {
        *x = q.reduce_i64(value);
    }
}

/// `x conj(w) factor`, split.
pub(in crate::simd) fn untwist(
    real: &mut [f64],
    imaginary: &mut [f64],
    x: &[f64],
    w: &[f64],
    factor: f64,
) {
    let pairs = x.as_chunks::<2>().0.iter().zip(w.as_chunks::<2>().0);
    for (([x, y], [c, s]), (re, im)) in pairs.zip(real.iter_mut().zip(imaginary)) {
        *re = (x * c + y * s) * factor;
        *im = (y * c - x * s) * factor;
    }
}

/// `(real + i imaginary) factor w`.
pub(in crate::simd) fn twist(
    out: &mut [f64],
    real: &[f64],
    imaginary: &[f64],
    w: &[f64],
    factor: f64,
) {
    let pairs = out
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .zip(w.as_chunks::<2>().0);
    for (([x, y], [c, s]), (re, im)) in pairs.zip(real.iter().zip(imaginary)) {
        let (re, im) = (re * factor, im * factor);
        *x = re * c - im * s;
        *y = im * c + re * s;
    }
}

/// Rounds; whether all magnitudes are below the limit.
pub(in crate::simd) fn round(out: &mut [i64], values: &[f64], limit: f64) -> bool {
    let mut within = true;
    for (integer, &x) in out.iter_mut().zip(values) {
        within &= x.abs() < limit;
        *integer = x.round_ties_even() as i64;
    }
    within
}

/// `out = out factor + [a]`.
pub(in crate::simd) fn add_centred(q: &Modulus, out: &mut [f64], factor: f64, a: &[u64]) {
    for (x, &y) in out.iter_mut().zip(a) {
        *x = *x * factor + q.centre(y) as f64;
    }
}
