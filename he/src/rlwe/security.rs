//! How large a modulus may be.

use serde::{Deserialize, Serialize};

/// The security that a parameter set must have against classical attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// 128 bits.
    Classical128,
    /// 192 bits.
    Classical192,
    /// 256 bits.
    Classical256,
    /// None at all: for tests and teaching. Print the name with every result.
    Toy,
}

/// (log2 N, bound) for 128 bits.
const BOUNDS_128: &[(u32, u32)] = &[
    (10, 26),
    (11, 53),
    (12, 106),
    (13, 214),
    (14, 430),
    (15, 868),
    (16, 1747),
];
/// (log2 N, bound) for 192 bits.
const BOUNDS_192: &[(u32, u32)] = &[
    (11, 36),
    (12, 73),
    (13, 147),
    (14, 297),
    (15, 597),
    (16, 1199),
];
/// (log2 N, bound) for 256 bits.
const BOUNDS_256: &[(u32, u32)] = &[
    (11, 27),
    (12, 56),
    (13, 114),
    (14, 230),
    (15, 462),
    (16, 929),
];

impl Security {
    /// The largest `log2(QP)` for degree `2^log_n`, or none where the table has no entry.
    ///
    /// Uniform ternary secret, error of standard deviation 3.2, special primes included. Bossuat
    /// et al., *Security guidelines for implementing homomorphic encryption*, ePrint 2024/463,
    /// classical ternary columns; those for 192 and 256 bits as published from the guidelines'
    /// script (SparseLWEkit, security tables). Every entry is at most that of the 2018 standard (Albrecht et
    /// al., *Homomorphic encryption standard*, table 1), which a test checks. `Toy` is unbounded.
    ///
    /// ```
    /// use sphinx_he::rlwe::Security;
    /// assert_eq!(Security::Classical128.max_log_qp(12), Some(106));
    /// assert_eq!(Security::Classical128.max_log_qp(9), None);
    /// ```
    #[must_use]
    pub fn max_log_qp(self, log_n: u32) -> Option<u32> {
        let table = match self {
            Self::Classical128 => BOUNDS_128,
            Self::Classical192 => BOUNDS_192,
            Self::Classical256 => BOUNDS_256,
            Self::Toy => return Some(u32::MAX),
        };
        table
            .iter()
            .find(|&&(degree, _)| degree == log_n)
            .map(|&(_, bound)| bound)
    }

    /// The name, as in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classical128 => "classical-128",
            Self::Classical192 => "classical-192",
            Self::Classical256 => "classical-256",
            Self::Toy => "TOY (no security)",
        }
    }
}

impl std::fmt::Display for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 2018 standard's table for ternary secrets, classical attacks.
    const STANDARD_2018: [(Security, [u32; 6]); 3] = [
        (Security::Classical128, [27, 54, 109, 218, 438, 881]),
        (Security::Classical192, [19, 37, 75, 152, 305, 611]),
        (Security::Classical256, [14, 29, 58, 118, 237, 476]),
    ];

    #[test]
    fn no_bound_exceeds_the_earlier_standard() {
        for (security, bounds) in STANDARD_2018 {
            for (log_n, bound) in (10..).zip(bounds) {
                if let Some(ours) = security.max_log_qp(log_n) {
                    assert!(ours <= bound && bound <= ours + 14, "{security} {log_n}");
                }
            }
        }
    }

    #[test]
    fn bounds_fall_with_the_level_and_rise_with_the_degree() {
        let levels = [
            Security::Classical128,
            Security::Classical192,
            Security::Classical256,
        ];
        for log_n in 11..=16 {
            let bounds = levels.map(|level| level.max_log_qp(log_n).unwrap());
            assert!(bounds[0] > bounds[1] && bounds[1] > bounds[2]);
            for level in levels {
                // a doubled degree allows a little more than a doubled modulus
                if let Some(below) = level.max_log_qp(log_n - 1) {
                    let here = level.max_log_qp(log_n).unwrap();
                    assert!(here >= 2 * below && here <= 2 * below + 20);
                }
            }
        }
    }
}
