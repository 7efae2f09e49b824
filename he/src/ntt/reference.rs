//! Slow twins of the transform and of the product, straight from their definitions.
//!
//! Used by tests as the judge of the fast code; quadratic, over `u128` remainders, sharing no
//! kernel with it.
//!
//! ```
//! // (1 + Y)^2 in Z_97[Y]/(Y^2 + 1) is 2Y
//! assert_eq!(sphinx_he::ntt::reference::negacyclic_product(97, &[1, 1], &[1, 1]), [0, 2]);
//! ```

fn mul(q: u64, a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(q)) as u64
}

/// `a b` in `Z_q[Y]/(Y^N + 1)` by the schoolbook sum; `a` and `b` have the same length `N`.
#[must_use]
pub fn negacyclic_product(q: u64, a: &[u64], b: &[u64]) -> Vec<u64> {
    let n = a.len();
    let mut out = vec![0u64; n];
    for (i, &x) in a.iter().enumerate() {
        for (j, &y) in b.iter().enumerate() {
            let product = mul(q, x, y);
            let term = if i + j < n {
                product
            } else {
                (q - product) % q
            };
            let sum = u128::from(out[(i + j) % n]) + u128::from(term);
            out[(i + j) % n] = (sum % u128::from(q)) as u64;
        }
    }
    out
}

/// Evaluations of `a` at `psi^(2 bitrev(k) + 1)` for `k < N`, by Horner's rule.
#[must_use]
pub fn transform(q: u64, psi: u64, a: &[u64]) -> Vec<u64> {
    let log_n = a.len().trailing_zeros();
    (0..a.len())
        .map(|k| {
            let reversed = k.reverse_bits() >> (usize::BITS - log_n);
            let point = (0..2 * reversed + 1).fold(1, |power, _| mul(q, power, psi));
            a.iter().rev().fold(0, |value, &coefficient| {
                let next = u128::from(mul(q, value, point)) + u128::from(coefficient);
                (next % u128::from(q)) as u64
            })
        })
        .collect()
}
