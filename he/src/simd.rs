//! Kernels on whole rows.
//!
//! Sits just above [`crate::zq`]: every inner loop of the crate but the transform's lives here, so
//! that a vector back end has one place to go. All rows have equal length and hold canonical
//! residues; nothing allocates and nothing branches on the data.
//!
//! The back end is picked by the environment variable `SPHINX_BACKEND`. This build has one,
//! `scalar`; [`Backend::from_environment`] refuses any other name, and the kernels, which need no
//! choice, never read the environment themselves.
//!
//! ```
//! use sphinx_he::{simd, zq::Modulus};
//! let q = Modulus::new(97)?;
//! let mut row = [1, 2, 96];
//! simd::mul_add_assign(&q, &mut row, &[10, 10, 10], &[10, 0, 1]);
//! assert_eq!(row, [4, 2, 9]);
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

use crate::zq::{Modulus, Shoup};

/// The name of the environment variable that picks a back end.
pub const BACKEND_VARIABLE: &str = "SPHINX_BACKEND";

/// An implementation of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// Plain 64-bit integer code, on every machine.
    #[default]
    Scalar,
}

/// A back end was asked for that this build does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SPHINX_BACKEND={name:?} is not built in; unset it or use one of: scalar")]
pub struct UnknownBackend {
    /// The name asked for.
    pub name: std::ffi::OsString,
}

impl Backend {
    /// The back end with this name.
    ///
    /// # Errors
    /// [`UnknownBackend`] for any name but `scalar`.
    pub fn from_name(name: &str) -> Result<Self, UnknownBackend> {
        match name {
            "scalar" => Ok(Self::Scalar),
            _ => Err(UnknownBackend { name: name.into() }),
        }
    }

    /// The back end that `SPHINX_BACKEND` names, or the best one where it is unset or empty.
    ///
    /// # Errors
    /// [`UnknownBackend`] where the variable names something else.
    pub fn from_environment() -> Result<Self, UnknownBackend> {
        let Some(name) = std::env::var_os(BACKEND_VARIABLE).filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        name.to_str().map_or_else(
            || Err(UnknownBackend { name: name.clone() }),
            Self::from_name,
        )
    }
}

/// `a += b`.
pub fn add_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.add(*x, y);
    }
}

/// `a -= b`.
pub fn sub_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.sub(*x, y);
    }
}

/// `a = -a`.
pub fn neg_assign(q: &Modulus, a: &mut [u64]) {
    for x in a {
        *x = q.neg(*x);
    }
}

/// `a = a b`, entry by entry.
pub fn mul_assign(q: &Modulus, a: &mut [u64], b: &[u64]) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.mul(*x, y);
    }
}

/// `out = a b`, entry by entry.
pub fn mul(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    debug_assert!(out.len() == a.len() && a.len() == b.len());
    for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
        *x = q.mul(y, z);
    }
}

/// `acc += a b`, entry by entry.
pub fn mul_add_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    debug_assert!(acc.len() == a.len() && a.len() == b.len());
    for ((x, &y), &z) in acc.iter_mut().zip(a).zip(b) {
        *x = q.mul_add(*x, y, z);
    }
}

/// Entries that [`dot_add_assign`] sums at a time: their accumulators stay in the first cache.
const DOT_BLOCK: usize = 64;

/// `acc += sum_t a_t b_t`, entry by entry, with one reduction for as many terms as 128 bits hold.
///
/// A product is below `2^(2 bits)`, so `2^(127 - 2 bits)` of them fit beside a residue: 128 for
/// primes of 60 bits, more than `2^32` for 47.
pub fn dot_add_assign(q: &Modulus, acc: &mut [u64], terms: &[(&[u64], &[u64])]) {
    debug_assert!(
        terms
            .iter()
            .all(|(a, b)| a.len() == acc.len() && b.len() == acc.len())
    );
    let room = 1usize << (127 - 2 * q.bits()).min(usize::BITS - 2);
    for terms in terms.chunks(room) {
        for (i, block) in acc.chunks_mut(DOT_BLOCK).enumerate() {
            let range = i * DOT_BLOCK..i * DOT_BLOCK + block.len();
            let mut sums = [0u128; DOT_BLOCK];
            sums.iter_mut()
                .zip(block.iter())
                .for_each(|(sum, &x)| *sum = x.into());
            for (a, b) in terms {
                let entries = a[range.clone()].iter().zip(&b[range.clone()]);
                for (sum, (&x, &y)) in sums.iter_mut().zip(entries) {
                    *sum = sum.wrapping_add(u128::from(x) * u128::from(y));
                }
            }
            block
                .iter_mut()
                .zip(&sums)
                .for_each(|(x, &sum)| *x = q.reduce_u128(sum));
        }
    }
}

/// `acc -= a b`, entry by entry.
pub fn mul_sub_assign(q: &Modulus, acc: &mut [u64], a: &[u64], b: &[u64]) {
    debug_assert!(acc.len() == a.len() && a.len() == b.len());
    for ((x, &y), &z) in acc.iter_mut().zip(a).zip(b) {
        *x = q.sub(*x, q.mul(y, z));
    }
}

/// `a = a w` for one constant.
pub fn scale_assign(q: &Modulus, a: &mut [u64], w: Shoup) {
    for x in a {
        *x = q.mul_shoup(*x, w);
    }
}

/// `a = (a - b) w` for one constant: the last step of a division by a prime.
pub fn sub_scale_assign(q: &Modulus, a: &mut [u64], b: &[u64], w: Shoup) {
    debug_assert_eq!(a.len(), b.len());
    for (x, &y) in a.iter_mut().zip(b) {
        *x = q.mul_shoup(q.sub(*x, y), w);
    }
}

/// `a += value mod q` for signed words.
pub fn add_signed_assign(q: &Modulus, a: &mut [u64], values: &[i64]) {
    debug_assert_eq!(a.len(), values.len());
    for (x, &value) in a.iter_mut().zip(values) {
        *x = q.add(*x, q.reduce_i64(value));
    }
}

/// `out = [a] mod to`, where the residues `a` of `from` stand for their centred representatives.
pub fn centred_to(from: &Modulus, to: &Modulus, out: &mut [u64], a: &[u64]) {
    debug_assert_eq!(out.len(), a.len());
    for (x, &y) in out.iter_mut().zip(a) {
        *x = to.reduce_i64(from.centre(y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_back_ends_are_accepted() {
        assert_eq!(Backend::from_name("scalar"), Ok(Backend::Scalar));
        let error = Backend::from_name("avx1024").unwrap_err();
        assert!(error.to_string().contains("avx1024"));
    }

    #[test]
    fn rows_agree_with_single_operations() {
        let q = Modulus::new((1 << 47) - 115).unwrap();
        let a: Vec<u64> = (0..64).map(|i| q.reduce(u64::MAX / (i + 1))).collect();
        let b: Vec<u64> = (0..64)
            .map(|i| q.reduce(0x9e37_79b9_7f4a_7c15u64.rotate_left(i)))
            .collect();
        let run = |kernel: fn(&Modulus, &mut [u64], &[u64])| {
            let mut row = a.clone();
            kernel(&q, &mut row, &b);
            row
        };
        let expect = |f: &dyn Fn(u64, u64) -> u64| -> Vec<u64> {
            a.iter().zip(&b).map(|(&x, &y)| f(x, y)).collect()
        };
        assert_eq!(run(add_assign), expect(&|x, y| q.add(x, y)));
        assert_eq!(run(sub_assign), expect(&|x, y| q.sub(x, y)));
        assert_eq!(run(mul_assign), expect(&|x, y| q.mul(x, y)));
        assert_eq!(
            run(|q, x, y| mul_add_assign(q, x, y, y)),
            expect(&|x, y| q.mul_add(x, y, y))
        );
        assert_eq!(
            run(|q, x, y| mul_sub_assign(q, x, y, y)),
            expect(&|x, y| q.sub(x, q.mul(y, y)))
        );
        assert_eq!(
            run(|q, x, y| sub_scale_assign(q, x, y, q.shoup(5))),
            expect(&|x, y| q.mul(q.sub(x, y), 5))
        );
    }

    #[test]
    fn sums_of_many_products_do_not_overflow() {
        // 300 terms of the largest residues: more than one chunk for 60 bits, a ragged last block
        for value in [(1 << 60) - 93, (1u64 << 47) - 115, 3] {
            let q = Modulus::new(value).unwrap();
            let top = vec![value - 1; 70];
            let mixed: Vec<u64> = (0..70)
                .map(|i| q.reduce(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i)))
                .collect();
            let mut terms: Vec<(&[u64], &[u64])> = vec![(&top, &top); 300];
            terms.push((&mixed, &top));
            let mut fast = mixed.clone();
            dot_add_assign(&q, &mut fast, &terms);
            let mut slow = mixed.clone();
            terms
                .iter()
                .for_each(|(a, b)| mul_add_assign(&q, &mut slow, a, b));
            assert_eq!(fast, slow);
        }
    }
}
