//! Primes for the transform.
//!
//! Sits beside the modulus; used once, when parameters are built. A prime `q` with
//! `q = 1 (mod 2N)` has a primitive `2N`-th root of unity, which the negacyclic transform needs.
//! Primality is decided by Miller and Rabin's test with the first twelve primes as bases, exact
//! below 3.3 * 10^24 (Sorenson and Webster, *Strong pseudoprimes to twelve prime bases*,
//! Math. Comp. 86, 2017).
//!
//! ```
//! use sphinx_he::zq::prime::{is_prime, transform_primes};
//! let primes = transform_primes(47, 12, 2, &[])?;
//! assert!(primes.iter().all(|&q| is_prime(q) && q % 8192 == 1 && q >> 46 == 1));
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

use super::Modulus;
use crate::error::ParameterError;

const WITNESSES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];

/// Greatest common divisor.
#[must_use]
pub const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Whether `n < 2^60` is prime; larger numbers are reported as composite.
#[must_use]
pub fn is_prime(n: u64) -> bool {
    if WITNESSES.contains(&n) {
        return true;
    }
    if n < 2 || WITNESSES.iter().any(|&p| n.is_multiple_of(p)) {
        return false;
    }
    let Ok(modulus) = Modulus::new(n) else {
        return false;
    };
    let twos = (n - 1).trailing_zeros();
    let odd = (n - 1) >> twos;
    WITNESSES.iter().all(|&base| {
        let mut power = modulus.pow(base, odd);
        if power == 1 || power == n - 1 {
            return true;
        }
        for _ in 1..twos {
            power = modulus.mul(power, power);
            if power == n - 1 {
                return true;
            }
        }
        false
    })
}

/// The `count` largest primes of exactly `bits` bits that are 1 modulo `2^(log_n + 1)` and not in
/// `taken`, largest first.
///
/// # Errors
/// [`ParameterError::NoPrime`] if there are fewer.
pub fn transform_primes(
    bits: u32,
    log_n: u32,
    count: usize,
    taken: &[u64],
) -> Result<Vec<u64>, ParameterError> {
    let refused = ParameterError::NoPrime {
        bits,
        log_two_n: log_n + 1,
    };
    if !(2..=super::MAX_MODULUS_BITS).contains(&bits) || log_n + 1 >= bits {
        return Err(refused);
    }
    let step = 1u64 << (log_n + 1);
    let floor = 1u64 << (bits - 1);
    let mut found = Vec::with_capacity(count);
    let mut candidate = (1u64 << bits) - step + 1;
    while found.len() < count && candidate > floor {
        if !taken.contains(&candidate) && is_prime(candidate) {
            found.push(candidate);
        }
        candidate -= step;
    }
    if found.len() < count {
        Err(refused)
    } else {
        Ok(found)
    }
}

/// A primitive `2^(log_n + 1)`-th root of unity: the first one found from the bases 2, 3, ...
///
/// # Errors
/// [`ParameterError::NoRoot`] if the modulus is not a prime with such a root.
pub fn primitive_root(modulus: &Modulus, log_n: u32) -> Result<u64, ParameterError> {
    let (q, two_n) = (modulus.value(), 1u64 << (log_n + 1));
    let refused = ParameterError::NoRoot { modulus: q, two_n };
    if q % two_n != 1 || !is_prime(q) {
        return Err(refused);
    }
    (2..q)
        .map(|base| modulus.pow(base, (q - 1) / two_n))
        .find(|&root| modulus.pow(root, two_n / 2) == q - 1)
        .ok_or(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_trial_division() {
        for n in 0..20_000u64 {
            let slow = n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
            assert_eq!(is_prime(n), slow, "{n}");
        }
    }

    #[test]
    fn strong_pseudoprimes_are_composite() {
        // OEIS A014233: strong pseudoprimes to the first k prime bases.
        for n in [
            2047,
            1_373_653,
            25_326_001,
            3_215_031_751,
            3_474_749_660_383,
            341_550_071_728_321,
        ] {
            assert!(!is_prime(n));
        }
        assert!(is_prime((1 << 59) - 55)); // largest prime below 2^59
    }

    #[test]
    fn primes_are_distinct_sized_and_largest_first() {
        let first = transform_primes(30, 10, 4, &[]).unwrap();
        assert!(first.is_sorted_by(|a, b| a > b));
        let more = transform_primes(30, 10, 4, &first).unwrap();
        assert!(more.iter().all(|q| !first.contains(q) && q >> 29 == 1));
        assert!(transform_primes(20, 16, 50, &[]).is_err());
        assert!(transform_primes(17, 16, 1, &[]).is_err());
    }

    #[test]
    fn roots_have_the_exact_order() {
        for log_n in [3, 10, 16] {
            let q = Modulus::new(transform_primes(45, log_n, 1, &[]).unwrap()[0]).unwrap();
            let root = primitive_root(&q, log_n).unwrap();
            assert_eq!(q.pow(root, 1 << log_n), q.value() - 1);
        }
        assert!(primitive_root(&Modulus::new(65539).unwrap(), 3).is_err());
    }
}
