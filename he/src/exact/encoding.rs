//! How a polynomial carries integers.

use crate::error::{DecodeError, Error};
use crate::wire::Reader;

/// How an integer sits in a coefficient of the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `m` is carried as `round(m numerator / denominator)`. Fresh encodings have denominator 1;
    /// products multiply the numerators, dropped primes multiply the denominator.
    Scaled {
        /// Product of the factors' scales.
        numerator: u128,
        /// Product of the primes dropped since.
        denominator: u128,
    },
    /// `r` of `Z_{2^log_t}` is carried as `round(Q r / 2^log_t)`, `Q` the modulus of the level.
    Modular {
        /// log2 of the message modulus, 1 to 62.
        log_t: u32,
    },
}

impl Encoding {
    /// Bytes of an encoding on the wire.
    pub(crate) const BYTES: usize = 33;

    /// Integers times `scale`.
    #[must_use]
    pub const fn scaled(scale: u128) -> Self {
        Self::Scaled {
            numerator: scale,
            denominator: 1,
        }
    }

    /// The distance between neighbouring integers in the phase, for a modulus of `log2_q` bits.
    #[must_use]
    pub fn step(self, log2_q: f64) -> f64 {
        match self {
            Self::Scaled {
                numerator,
                denominator,
            } => numerator as f64 / denominator as f64,
            Self::Modular { log_t } => (log2_q - f64::from(log_t)).exp2(),
        }
    }

    const fn is_valid(self) -> bool {
        match self {
            Self::Scaled {
                numerator,
                denominator,
            } => numerator > 0 && denominator > 0,
            Self::Modular { log_t } => log_t >= 1 && log_t <= 62,
        }
    }

    pub(crate) const fn check(self, op: &'static str) -> Result<(), Error> {
        if self.is_valid() {
            Ok(())
        } else {
            Err(Error::InvalidEncoding { op, encoding: self })
        }
    }

    /// The encoding of a product with `factor` times an integer.
    pub(crate) fn times_factor(self, op: &'static str, factor: u64) -> Result<Self, Error> {
        match self {
            Self::Scaled {
                numerator,
                denominator,
            } => {
                let numerator = numerator.checked_mul(u128::from(factor));
                let overflow = Error::ScaleOverflow { op, encoding: self };
                numerator
                    .map(|numerator| Self::Scaled {
                        numerator,
                        denominator,
                    })
                    .ok_or(overflow)
            }
            Self::Modular { .. } if factor == 1 => Ok(self),
            Self::Modular { .. } => Err(Error::UnsupportedEncoding { op, encoding: self }),
        }
    }

    /// The encoding of a product of two ciphertexts.
    pub(crate) fn times(self, op: &'static str, other: Self) -> Result<Self, Error> {
        let (left, right) = match (self, other) {
            (
                Self::Scaled {
                    numerator: a,
                    denominator: b,
                },
                Self::Scaled {
                    numerator: c,
                    denominator: d,
                },
            ) => ((a, b), (c, d)),
            (Self::Modular { .. }, _) => {
                return Err(Error::UnsupportedEncoding { op, encoding: self });
            }
            _ => {
                return Err(Error::UnsupportedEncoding {
                    op,
                    encoding: other,
                });
            }
        };
        let numerator = left.0.checked_mul(right.0);
        let denominator = left.1.checked_mul(right.1);
        match (numerator, denominator) {
            (Some(numerator), Some(denominator)) => Ok(Self::Scaled {
                numerator,
                denominator,
            }),
            _ => Err(Error::ScaleOverflow { op, encoding: self }),
        }
    }

    /// The encoding after dropping the prime `q`.
    pub(crate) fn over(self, op: &'static str, q: u64) -> Result<Self, Error> {
        match self {
            Self::Scaled {
                numerator,
                denominator,
            } => {
                let denominator = denominator.checked_mul(u128::from(q));
                let overflow = Error::ScaleOverflow { op, encoding: self };
                denominator
                    .map(|denominator| Self::Scaled {
                        numerator,
                        denominator,
                    })
                    .ok_or(overflow)
            }
            Self::Modular { .. } => Ok(self),
        }
    }

    /// A tag and two 16-byte numbers, so that its length depends on nothing.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (tag, first, second) = match self {
            Self::Scaled {
                numerator,
                denominator,
            } => (0, numerator, denominator),
            Self::Modular { log_t } => (1, u128::from(log_t), 0),
        };
        out.push(tag);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&second.to_le_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.byte()?;
        let first = u128::from_le_bytes(reader.array()?);
        let second = u128::from_le_bytes(reader.array()?);
        let encoding = match (tag, u32::try_from(first)) {
            (0, _) => Self::Scaled {
                numerator: first,
                denominator: second,
            },
            (1, Ok(log_t)) if second == 0 => Self::Modular { log_t },
            _ => return Err(DecodeError::BadEncoding),
        };
        if encoding.is_valid() {
            Ok(encoding)
        } else {
            Err(DecodeError::BadEncoding)
        }
    }
}
