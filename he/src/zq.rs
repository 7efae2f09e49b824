//! Arithmetic modulo one word-sized odd number.
//!
//! Bottom layer of the crate. A [`Modulus`] carries the constants of its reductions; every
//! operation takes and returns canonical residues in `0..q` unless its name says `lazy`. No
//! operation branches on its operands, so residues may be secret.
//!
//! Sources: the reduction is Barrett's (*Implementing the Rivest Shamir and Adleman public key
//! encryption algorithm on a standard digital signal processor*, CRYPTO 1986), the
//! multiplication by a constant is Shoup's, analysed by Harvey (*Faster arithmetic for
//! number-theoretic transforms*, 2014, arXiv:1205.2926v2, section 2).
//!
//! ```
//! use sphinx_he::zq::Modulus;
//! let q = Modulus::new(65537)?;
//! assert_eq!(q.mul(65536, 65536), 1); // (-1)^2
//! assert_eq!(q.mul(3, q.inv(3).unwrap()), 1);
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

use crate::error::ParameterError;

pub mod prime;

/// Largest size of a modulus, in bits: the transform needs room for `4q` and more in a word.
pub const MAX_MODULUS_BITS: u32 = 60;

/// An odd modulus `3 <= q < 2^60` with the constants of its reductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Modulus {
    value: u64,
    bits: u32,
    /// floor(2^(63 + bits) / q), a full 64-bit word: the constant for products.
    ratio: u64,
    /// floor(2^64 / q): the constant for single words.
    word_ratio: u64,
    /// 2^64 mod q.
    word: u64,
}

/// A constant factor below `q` together with `floor(value * 2^64 / q)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shoup {
    /// The factor.
    pub value: u64,
    /// Its precomputed quotient.
    pub quotient: u64,
}

/// Upper word of a product.
#[inline(always)]
const fn mul_high(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 64) as u64
}

/// `x - bound` if that does not wrap, else `x`, without a branch; `x < 2^63 + bound`.
#[inline(always)]
pub(crate) const fn reduce_once(x: u64, bound: u64) -> u64 {
    let reduced = x.wrapping_sub(bound);
    let borrow = (reduced >> 63).wrapping_neg();
    reduced.wrapping_add(bound & borrow)
}

impl Modulus {
    /// Checks the modulus and prepares its constants.
    ///
    /// # Errors
    /// [`ParameterError::ModulusOutOfRange`] unless `q` is odd, at least 3 and below `2^60`.
    pub fn new(value: u64) -> Result<Self, ParameterError> {
        let bits = u64::BITS - value.leading_zeros();
        if value < 3 || value.is_multiple_of(2) || bits > MAX_MODULUS_BITS {
            return Err(ParameterError::ModulusOutOfRange {
                value,
                max_bits: MAX_MODULUS_BITS,
            });
        }
        let wide = u128::from(value);
        Ok(Self {
            value,
            bits,
            ratio: ((1u128 << (63 + bits)) / wide) as u64,
            word_ratio: ((1u128 << 64) / wide) as u64,
            word: ((1u128 << 64) % wide) as u64,
        })
    }

    /// The modulus itself.
    #[inline(always)]
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// Its length in bits: `2^(bits-1) < q < 2^bits`.
    #[inline(always)]
    #[must_use]
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// `floor(2^(63 + bits) / q)`: the constant of the reduction of products.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn ratio(&self) -> u64 {
        self.ratio
    }

    /// `floor(2^64 / q)`: the constant of the reduction of words.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn word_ratio(&self) -> u64 {
        self.word_ratio
    }

    /// log2 of the modulus.
    #[must_use]
    pub fn log2(&self) -> f64 {
        (self.value as f64).log2()
    }

    /// `a + b`.
    #[inline(always)]
    #[must_use]
    pub const fn add(&self, a: u64, b: u64) -> u64 {
        reduce_once(a.wrapping_add(b), self.value)
    }

    /// `a - b`.
    #[inline(always)]
    #[must_use]
    pub const fn sub(&self, a: u64, b: u64) -> u64 {
        reduce_once(a.wrapping_add(self.value).wrapping_sub(b), self.value)
    }

    /// `-a`.
    #[inline(always)]
    #[must_use]
    pub const fn neg(&self, a: u64) -> u64 {
        reduce_once(self.value.wrapping_sub(a), self.value)
    }

    /// `a b`, in `0..4q`.
    ///
    /// With `h = floor(ab / 2^bits)` the estimate `floor(2h ratio / 2^64)` of `ab / q` is at most
    /// 4 too small: `h` loses less than `2^bits / q < 2`, `ratio` less than `2h / 2^64 < 1`, the
    /// last floor less than 1. It is never too large.
    #[inline(always)]
    const fn mul_lazy(&self, a: u64, b: u64) -> u64 {
        let high = mul_high(a, b << (64 - self.bits));
        let estimate = mul_high(high << 1, self.ratio);
        a.wrapping_mul(b)
            .wrapping_sub(estimate.wrapping_mul(self.value))
    }

    /// `a b`.
    #[inline(always)]
    #[must_use]
    pub const fn mul(&self, a: u64, b: u64) -> u64 {
        let lazy = self.mul_lazy(a, b);
        reduce_once(reduce_once(lazy, 2 * self.value), self.value)
    }

    /// `acc + a b`.
    #[inline(always)]
    #[must_use]
    pub const fn mul_add(&self, acc: u64, a: u64, b: u64) -> u64 {
        let lazy = reduce_once(self.mul_lazy(a, b), 2 * self.value).wrapping_add(acc);
        reduce_once(reduce_once(lazy, 2 * self.value), self.value)
    }

    /// Any word modulo `q`.
    #[inline(always)]
    #[must_use]
    pub const fn reduce(&self, x: u64) -> u64 {
        let estimate = mul_high(x, self.word_ratio);
        reduce_once(
            x.wrapping_sub(estimate.wrapping_mul(self.value)),
            self.value,
        )
    }

    /// Any double word modulo `q`.
    #[inline(always)]
    #[must_use]
    pub const fn reduce_u128(&self, x: u128) -> u64 {
        let high = self.reduce((x >> 64) as u64);
        self.mul_add(self.reduce(x as u64), high, self.word)
    }

    /// Any signed word modulo `q`.
    #[inline(always)]
    #[must_use]
    pub const fn reduce_i64(&self, x: i64) -> u64 {
        self.negate_if(self.reduce(x.unsigned_abs()), (x >> 63) as u64)
    }

    /// Any signed double word modulo `q`.
    #[inline(always)]
    #[must_use]
    pub const fn reduce_i128(&self, x: i128) -> u64 {
        self.negate_if(self.reduce_u128(x.unsigned_abs()), (x >> 127) as u64)
    }

    /// `-a` where the mask is all ones, `a` where it is zero.
    #[inline(always)]
    const fn negate_if(&self, a: u64, mask: u64) -> u64 {
        (self.neg(a) & mask) | (a & !mask)
    }

    /// The representative in `-q/2..q/2`.
    #[inline(always)]
    #[must_use]
    pub const fn centre(&self, a: u64) -> i64 {
        let mask = ((self.value / 2).wrapping_sub(a) >> 63).wrapping_neg();
        a.wrapping_sub(self.value & mask) as i64
    }

    /// `a^exponent`; the exponent is public.
    #[must_use]
    pub const fn pow(&self, a: u64, mut exponent: u64) -> u64 {
        let (mut square, mut result) = (a, 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = self.mul(result, square);
            }
            square = self.mul(square, square);
            exponent >>= 1;
        }
        result
    }

    /// `1 / a` by Euclid's algorithm for a public `a`; none where `a` and `q` share a factor.
    #[must_use]
    pub fn inv(&self, a: u64) -> Option<u64> {
        let (mut old, mut new) = (i128::from(self.value), i128::from(self.reduce(a)));
        let (mut old_factor, mut new_factor) = (0i128, 1i128);
        while new != 0 {
            let quotient = old / new;
            (old, new) = (new, old - quotient * new);
            (old_factor, new_factor) = (new_factor, old_factor - quotient * new_factor);
        }
        (old == 1).then(|| self.reduce_i128(old_factor))
    }

    /// Prepares a constant factor; `value < q`.
    #[must_use]
    pub const fn shoup(&self, value: u64) -> Shoup {
        let quotient = (((value as u128) << 64) / self.value as u128) as u64;
        Shoup { value, quotient }
    }

    /// `x w` in `0..2q` for any word `x` (Harvey, theorem 1).
    #[inline(always)]
    #[must_use]
    pub const fn mul_shoup_lazy(&self, x: u64, w: Shoup) -> u64 {
        let estimate = mul_high(x, w.quotient);
        x.wrapping_mul(w.value)
            .wrapping_sub(estimate.wrapping_mul(self.value))
    }

    /// `x w` in `0..q` for any word `x`.
    #[inline(always)]
    #[must_use]
    pub const fn mul_shoup(&self, x: u64, w: Shoup) -> u64 {
        reduce_once(self.mul_shoup_lazy(x, w), self.value)
    }
}

#[cfg(test)]
mod tests;
