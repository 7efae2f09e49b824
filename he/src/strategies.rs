//! Strategies for tests by random examples, behind the feature `proptest`.
//!
//! Parameters here are toys, small enough for hundreds of cases. A strategy of polynomials or slots
//! takes the parameters it is for.
//!
//! ```
//! use proptest::prelude::*;
//! use sphinx_he::{rlwe::Parameters, strategies};
//! proptest!(|(literal in strategies::switching_literals())| {
//!     let parameters = Parameters::new(&literal).unwrap();
//!     prop_assert!(!parameters.special_moduli().is_empty());
//! });
//! ```

use proptest::collection::vec;
use proptest::prelude::*;

use crate::ckks::Complex64;
use crate::ring::{Coeff, Poly};
use crate::rlwe::{Parameters, ParametersLiteral, Security};
use crate::sample::{Stream, uniform_row};

/// Toy literals with special primes: degrees `2^4` to `2^7`, one to five primes of 30 to 50 bits.
pub fn switching_literals() -> impl Strategy<Value = ParametersLiteral> {
    let sizes = |count| vec(30u32..=50, count);
    (4u32..=7, sizes(1..6), sizes(1..4)).prop_map(|(log_n, log_q, log_p)| ParametersLiteral {
        log_n,
        log_q,
        log_p,
        error_std_dev: 3.2,
        security: Security::Toy,
    })
}

/// Ways to cut `primes` primes into consecutive digits.
pub fn digit_groups(primes: usize) -> impl Strategy<Value = Vec<usize>> {
    vec(any::<bool>(), primes).prop_map(|ends| {
        let mut groups = vec![0];
        for (i, end) in ends.iter().enumerate() {
            if *end && i > 0 {
                groups.push(0);
            }
            if let Some(last) = groups.last_mut() {
                *last += 1;
            }
        }
        groups
    })
}

/// Uniform polynomials at `level`; smaller seeds do not make smaller polynomials.
pub fn uniform_polynomials(
    parameters: &Parameters,
    level: usize,
) -> impl Strategy<Value = Poly<Coeff>> + use<> {
    let parameters = parameters.clone();
    any::<[u8; 32]>().prop_map(move |seed| {
        let mut poly = Poly::zero_unchecked(parameters.ring(), level);
        let mut stream = Stream::new("strategy", &parameters.digest(), &seed);
        for (i, q) in parameters.moduli()[..=level].iter().enumerate() {
            uniform_row(&mut stream, i as u64, q, poly.row_mut(i));
        }
        poly
    })
}

/// Polynomials with coefficients of magnitude up to `bound`, at the highest level.
pub fn small_polynomials(
    parameters: &Parameters,
    bound: i64,
) -> impl Strategy<Value = Vec<i64>> + use<> {
    vec(-bound..=bound, parameters.degree())
}

/// Lists of `count` slots of magnitude up to `magnitude`.
pub fn slots(count: usize, magnitude: f64) -> impl Strategy<Value = Vec<Complex64>> {
    let slot = (0.0f64..=1.0, -3.15f64..3.15);
    vec(
        slot.prop_map(move |(r, phi)| Complex64::from_polar(r * magnitude, phi)),
        count,
    )
}
