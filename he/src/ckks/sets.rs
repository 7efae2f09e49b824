//! Parameter sets that are measured and recommended.
//!
//! All sets have 128 bits of security by the table of [`crate::rlwe::Security`], special primes
//! included. Most primes are below `2^50`, where rows run in vectors of 52-bit products; those of 60
//! bits take two to three times as long to transform ([`crate::simd`]).
//!
//! The sets stand beside those with which other libraries are commonly measured: `{60, 40}`,
//! `{60, 40, 40}`, `{60, 40 x 7}` and `{60, 50 x 14}` with one special prime of 60 bits. Degree,
//! scale, depth, the number of rows and the size of every rescaled prime are the same, so is the
//! error of each operation, and neither ciphertexts nor keys are larger. What differs:
//!
//! - `A1`, `A3` and `B` have a last prime of 50 bits instead of 60: at the lowest level values up
//!   to `2^9` fit beside the scale of `2^40`, not `2^19`. [`A1_WIDE`], [`A3_WIDE`] and [`B_WIDE`]
//!   have the 60 bits.
//! - [`C_50`] stands beside the sets of 50 bits throughout.
//! - `B` and `C` have two special primes and digits of two primes: about half the digits, and keys
//!   of little more than half the size. The prime of 60 bits is a digit by itself, so that no digit
//!   exceeds the special primes and the error of a key switch stays below a rounding.
//!
//! ```
//! use sphinx_he::ckks::sets;
//! use sphinx_he::rlwe::Parameters;
//! for set in sets::ALL {
//!     let parameters = Parameters::new(&set.literal())?;
//!     assert_eq!(parameters.security().name(), "classical-128");
//! }
//! # Ok::<(), sphinx_he::ParameterError>(())
//! ```

use super::{Level, Scale};
use crate::rlwe::{ParametersLiteral, Security};

/// Sizes of primes and a scale that fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// The name.
    pub name: &'static str,
    /// log2 of the degree.
    pub log_n: u32,
    /// Bits of the primes of `Q`, the one kept longest first.
    pub log_q: &'static [u32],
    /// Bits of the special primes.
    pub log_p: &'static [u32],
    /// log2 of the scale of fresh plaintexts.
    pub log_scale: u8,
}

/// Degree `2^13`, one product.
pub const A1: Set = Set {
    name: "A1",
    log_n: 13,
    log_q: &[50, 40],
    log_p: &[50],
    log_scale: 40,
};

/// Degree `2^13`, two products.
pub const A3: Set = Set {
    name: "A3",
    log_n: 13,
    log_q: &[50, 40, 40],
    log_p: &[50],
    log_scale: 40,
};

/// Degree `2^14`, seven products.
pub const B: Set = Set {
    name: "B",
    log_n: 14,
    log_q: &[50, 40, 40, 40, 40, 40, 40, 40],
    log_p: &[46, 46],
    log_scale: 40,
};

/// Degree `2^15`, fourteen products.
pub const C: Set = Set {
    name: "C",
    log_n: 15,
    log_q: &[60, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50],
    log_p: &[50, 50],
    log_scale: 50,
};

/// [`C`] with a last prime of 50 bits: at the lowest level no values above one half fit beside the
/// scale.
pub const C_50: Set = Set {
    name: "C-50",
    log_q: &[50; 15],
    ..C
};

/// [`A1`] with ten bits more for the values at the lowest level.
pub const A1_WIDE: Set = Set {
    name: "A1-wide",
    log_q: &[60, 40],
    log_p: &[60],
    ..A1
};

/// [`A3`] with ten bits more for the values at the lowest level.
pub const A3_WIDE: Set = Set {
    name: "A3-wide",
    log_q: &[60, 40, 40],
    log_p: &[60],
    ..A3
};

/// [`B`] with ten bits more for the values at the lowest level.
pub const B_WIDE: Set = Set {
    name: "B-wide",
    log_q: &[60, 40, 40, 40, 40, 40, 40, 40],
    log_p: &[45, 45],
    ..B
};

/// All of them.
pub const ALL: [Set; 8] = [A1, A3, B, C, C_50, A1_WIDE, A3_WIDE, B_WIDE];

impl Set {
    /// The literal to build [`crate::rlwe::Parameters`] from.
    #[must_use]
    pub fn literal(&self) -> ParametersLiteral {
        ParametersLiteral {
            log_n: self.log_n,
            log_q: self.log_q.to_vec(),
            log_p: self.log_p.to_vec(),
            error_std_dev: 3.2,
            security: Security::Classical128,
        }
    }

    /// The scale of fresh plaintexts.
    #[must_use]
    pub fn scale(&self) -> Scale {
        Scale::power_of_two(self.log_scale)
    }

    /// The highest level.
    #[must_use]
    pub const fn top(&self) -> Level {
        Level(self.log_q.len() - 1)
    }

    /// Products that fit one after the other.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.top().0
    }
}
