//! Checked quantities: epsilon, delta, noise multiplier, sampling rate, adjacency.
//!
//! These are the only numbers the rest of the crate accepts. A value of one of these types is
//! known to be finite and inside its range, so formulas further down need no checks of their own.
//! Reading them from a file goes through the same checks as building them.
//!
//! ```
//! use sphinx_dp::{Epsilon, SamplingRate};
//!
//! assert!(Epsilon::new(f64::NAN).is_err());
//! let rate = SamplingRate::from_mean(500.0, 60_000)?;
//! // What is accounted is never below what is drawn.
//! assert!(rate.get() >= rate.threshold() as f64 / 2f64.powi(64));
//! # Ok::<(), sphinx_dp::RangeError>(())
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A number was outside the range of its parameter.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("{parameter} = {value} is out of range: expected {range}")]
pub struct RangeError {
    /// The parameter, in words.
    pub parameter: &'static str,
    /// The refused value.
    pub value: f64,
    /// The range that was expected.
    pub range: &'static str,
}

/// Checks `ok` and names the parameter if it does not hold.
pub(crate) fn require(
    ok: bool,
    parameter: &'static str,
    value: f64,
    range: &'static str,
) -> Result<(), RangeError> {
    if ok {
        Ok(())
    } else {
        Err(RangeError {
            parameter,
            value,
            range,
        })
    }
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $parameter:literal, $range:literal, |$x:ident| $ok:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            #[doc = concat!("Checks that the value is ", $range, ".")]
            ///
            /// # Errors
            /// [`RangeError`] outside that range; NaN is always refused.
            pub fn new($x: f64) -> Result<Self, RangeError> {
                require($ok, $parameter, $x, $range)?;
                Ok(Self($x))
            }

            /// The value as a plain number.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = RangeError;
            fn try_from(value: f64) -> Result<Self, RangeError> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

quantity!(
    /// A privacy-loss target: the epsilon of (epsilon, delta)-differential privacy.
    Epsilon, "epsilon", "a finite number above 0", |x| x > 0.0 && x.is_finite()
);
quantity!(
    /// The delta of (epsilon, delta)-differential privacy.
    Delta, "delta", "strictly between 0 and 1", |x| x > 0.0 && x < 1.0
);
quantity!(
    /// The noise multiplier z: noise standard deviation divided by the clip bound.
    NoiseMultiplier, "noise multiplier", "between 1e-6 and 1e9", |x| (1e-6..=1e9).contains(&x)
);

quantity!(
    /// The scale of Laplace noise (its mean absolute value) divided by the clip bound.
    LaplaceScale, "Laplace scale", "between 1e-6 and 1e9", |x| (1e-6..=1e9).contains(&x)
);
quantity!(
    /// The parameter of discrete Gaussian noise, close to its standard deviation, in grid units.
    StdDev, "standard deviation", "between 0.01 and 1e18", |x| (0.01..=1e18).contains(&x)
);

/// 2^64 as a float, exact.
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// The probability with which each record enters a batch, as a 64-bit threshold.
///
/// A record is taken exactly when a uniform 64-bit integer is below [`threshold`](Self::threshold),
/// so the true rate is `threshold / 2^64`. The threshold is the requested rate rounded up, and
/// [`get`](Self::get) rounds up again to the next float: the rate that is accounted is never below
/// the rate that is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SamplingRate {
    /// In `1..=2^64`.
    threshold: u128,
}

impl SamplingRate {
    /// Every record in every batch.
    pub const FULL: Self = Self { threshold: 1 << 64 };

    /// The rate `q`, rounded up to a multiple of 2^-64.
    ///
    /// # Errors
    /// [`RangeError`] unless `0 < q <= 1`.
    pub fn new(q: f64) -> Result<Self, RangeError> {
        require(
            q > 0.0 && q <= 1.0,
            "sampling rate",
            q,
            "above 0 and at most 1",
        )?;
        // Scaling by a power of two and rounding up are both exact here.
        let threshold = (q * TWO_64).ceil() as u128;
        Ok(Self {
            threshold: threshold.max(1),
        })
    }

    /// The rate that gives batches of `mean` records on average from `population` records.
    ///
    /// # Errors
    /// [`RangeError`] unless `0 < mean <= population`.
    pub fn from_mean(mean: f64, population: u64) -> Result<Self, RangeError> {
        require(
            mean > 0.0 && mean <= population as f64,
            "mean batch size",
            mean,
            "above 0 and at most the population",
        )?;
        Self::new(mean / population as f64)
    }

    /// From a threshold in `1..=2^64`.
    ///
    /// # Errors
    /// [`RangeError`] outside that range.
    pub fn from_threshold(threshold: u128) -> Result<Self, RangeError> {
        let ok = (1..=1 << 64).contains(&threshold);
        require(
            ok,
            "sampling threshold",
            threshold as f64,
            "between 1 and 2^64",
        )?;
        Ok(Self { threshold })
    }

    /// The smallest float that is not below `threshold / 2^64`.
    #[must_use]
    pub fn get(self) -> f64 {
        let nearest = self.threshold as f64;
        let up = if (nearest as u128) < self.threshold {
            nearest.next_up()
        } else {
            nearest
        };
        up / TWO_64
    }

    /// The threshold below which a uniform 64-bit integer takes the record.
    #[must_use]
    pub const fn threshold(self) -> u128 {
        self.threshold
    }
}

impl fmt::Display for SamplingRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

const RATE_SUFFIX: &str = "/2^64";

impl Serialize for SamplingRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{RATE_SUFFIX}", self.threshold))
    }
}

impl<'de> Deserialize<'de> for SamplingRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let threshold = text
            .strip_suffix(RATE_SUFFIX)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| de::Error::custom("sampling rate: expected \"<threshold>/2^64\""))?;
        Self::from_threshold(threshold).map_err(de::Error::custom)
    }
}

/// Which pairs of data sets are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adjacency {
    /// One data set has one record more than the other; a clipped sum moves by at most C.
    AddRemove,
    /// The two differ in one record; a clipped sum moves by at most 2 C.
    ReplaceOne,
}

impl fmt::Display for Adjacency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddRemove => "add or remove one record",
            Self::ReplaceOne => "replace one record",
        })
    }
}

/// A float in JSON that may be infinite: JSON has no infinity, so it is written as a word.
pub(crate) mod extended {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    const WORD: &str = "infinity";

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Word(String),
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature serde asks for"
    )]
    pub(crate) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if x.is_finite() {
            x.serialize(serializer)
        } else {
            serializer.serialize_str(WORD)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Either::deserialize(deserializer)? {
            Either::Number(x) => Ok(x),
            Either::Word(word) if word == WORD => Ok(f64::INFINITY),
            Either::Word(_) => Err(de::Error::custom("expected a number or \"infinity\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_kept() {
        for bad in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert!(Epsilon::new(bad).is_err());
            assert!(Delta::new(bad).is_err());
            assert!(NoiseMultiplier::new(bad).is_err());
            assert!(SamplingRate::new(bad).is_err());
        }
        assert!(Delta::new(1.0).is_err());
        assert!(SamplingRate::new(1.0 + f64::EPSILON).is_err());
        assert_eq!(SamplingRate::new(1.0).unwrap(), SamplingRate::FULL);
        assert_eq!(SamplingRate::FULL.get(), 1.0);
        assert!(SamplingRate::from_mean(3.0, 2).is_err());
        assert!(SamplingRate::from_mean(0.0, 0).is_err());
        assert!(serde_json::from_str::<Delta>("2.0").is_err());
        assert!(serde_json::from_str::<SamplingRate>("\"0/2^64\"").is_err());
        assert!(serde_json::from_str::<SamplingRate>("\"18446744073709551617/2^64\"").is_err());
    }

    proptest! {
        #![proptest_config(crate::laws(256))]

        #[test]
        fn rate_rounds_up_and_survives_json(exponent in -70.0f64..0.0) {
            let q = exponent.exp2();
            let rate = SamplingRate::new(q).unwrap();
            prop_assert!(rate.get() >= q);
            prop_assert!(rate.get() <= q + 2f64.powi(-63));
            if q > 1e-3 {
                prop_assert_eq!(rate.get(), q);
            }
            let text = serde_json::to_string(&rate).unwrap();
            prop_assert_eq!(serde_json::from_str::<SamplingRate>(&text).unwrap(), rate);
        }
    }
}
