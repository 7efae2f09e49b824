//! Published figures of others, as hollow markers beside ours.
//!
//! **Where it sits.** The figures look here for marks on their data set; nothing else in the
//! workspace may hold a copy of these numbers.
//!
//! **What must be true.** Every number names its citation and how surely it is known. A mark
//! appears only in figures over the data set that it was published for.
//!
//! **Where it is from.** `claims.toml` beside this crate's manifest, embedded when it is built.
//!
//! ```
//! use sphinx_figures::claims::{self, Source};
//!
//! let claims = claims::published()?;
//! let sphinx = claims.accuracy.iter().find(|c| c.label == "Sphinx (2022)");
//! assert_eq!(sphinx.map(|c| (c.epsilon, c.accuracy)), Some((2.0, 0.96)));
//! assert_eq!(sphinx.map(|c| c.source), Some(Source::Abstract));
//! # Ok::<(), claims::ClaimsError>(())
//! ```

use std::fmt;

use serde::Deserialize;

/// How surely a published number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Source {
    /// Printed in the abstract of the cited work.
    #[serde(rename = "abstract")]
    Abstract,
    /// Quoted by others, or remembered; not read off the work's own pages here.
    #[serde(rename = "second hand")]
    SecondHand,
    /// Worked out from other published numbers.
    #[serde(rename = "inferred")]
    Inferred,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Abstract => "abstract",
            Self::SecondHand => "second hand",
            Self::Inferred => "inferred",
        })
    }
}

/// A published test accuracy under differential privacy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyClaim {
    /// Short name for legends.
    pub label: String,
    /// Data set.
    pub dataset: String,
    /// Privacy loss, above zero.
    pub epsilon: f64,
    /// The delta at which it holds.
    pub delta: f64,
    /// Test accuracy, a fraction in `0..=1`.
    pub accuracy: f64,
    /// How surely the number is known.
    pub source: Source,
    /// Where it is printed.
    pub citation: String,
}

/// A published online latency of one inference.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyClaim {
    /// Short name for legends.
    pub label: String,
    /// Data set.
    pub dataset: String,
    /// Latency in seconds, above zero; which statistic it is was not stated.
    pub seconds: f64,
    /// How surely the number is known.
    pub source: Source,
    /// Where it is printed.
    pub citation: String,
}

/// A published training step.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepClaim {
    /// Short name for tables.
    pub label: String,
    /// Network, as inferred here from published traffic.
    pub model: String,
    /// Data set.
    pub dataset: String,
    /// Records in a batch, above zero.
    pub batch: f64,
    /// Wall seconds, above zero.
    pub seconds: f64,
    /// Bytes per image, both ways, above zero.
    pub bytes_per_image: f64,
    /// The machines, in a few words.
    pub machine: String,
    /// How surely the numbers are known.
    pub source: Source,
    /// Where they are printed.
    pub citation: String,
}

/// Everything in `claims.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Published accuracies.
    #[serde(default)]
    pub accuracy: Vec<AccuracyClaim>,
    /// Published latencies.
    #[serde(default)]
    pub latency: Vec<LatencyClaim>,
    /// Published training steps.
    #[serde(default)]
    pub step: Vec<StepClaim>,
}

/// Why a file of claims cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClaimsError {
    /// The text is not the TOML that is expected.
    #[error("claims.toml: {0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// A number cannot be drawn.
    #[error("claims.toml: {quantity} = {value} of `{label}` is outside its range")]
    Range {
        /// The claim.
        label: String,
        /// The quantity.
        quantity: &'static str,
        /// Its value.
        value: f64,
    },
}

/// The claims that this crate was built with.
///
/// # Errors
/// [`ClaimsError`] if the embedded file is damaged, which a test rules out.
pub fn published() -> Result<Claims, ClaimsError> {
    parse(include_str!("../claims.toml"))
}

/// Reads claims from TOML and checks that each can be drawn.
///
/// # Errors
/// [`ClaimsError`] naming the claim or the line.
pub fn parse(text: &str) -> Result<Claims, ClaimsError> {
    let claims: Claims = toml::from_str(text).map_err(Box::new)?;
    for claim in &claims.accuracy {
        check(&claim.label, "epsilon", claim.epsilon, claim.epsilon > 0.0)?;
        check(
            &claim.label,
            "delta",
            claim.delta,
            (0.0..1.0).contains(&claim.delta),
        )?;
        check(
            &claim.label,
            "accuracy",
            claim.accuracy,
            (0.0..=1.0).contains(&claim.accuracy),
        )?;
    }
    for claim in &claims.latency {
        check(&claim.label, "seconds", claim.seconds, claim.seconds > 0.0)?;
    }
    for claim in &claims.step {
        for (quantity, value) in [
            ("batch", claim.batch),
            ("seconds", claim.seconds),
            ("bytes_per_image", claim.bytes_per_image),
        ] {
            check(&claim.label, quantity, value, value > 0.0)?;
        }
    }
    Ok(claims)
}

fn check(label: &str, quantity: &'static str, value: f64, holds: bool) -> Result<(), ClaimsError> {
    if holds && value.is_finite() {
        return Ok(());
    }
    Err(ClaimsError::Range {
        label: label.into(),
        quantity,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_claim_is_cited() {
        let claims = published().unwrap();
        let citations = claims.accuracy.iter().map(|c| &c.citation);
        let others = claims.latency.iter().map(|c| &c.citation);
        let steps = claims.step.iter().map(|c| &c.citation);
        for citation in citations.chain(others).chain(steps) {
            assert!(
                citation.contains("arXiv") || citation.contains("DOI"),
                "{citation}"
            );
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        let claim = |epsilon: &str| {
            format!(
                "[[accuracy]]\nlabel = \"a\"\ndataset = \"d\"\nepsilon = {epsilon}\ndelta = 1e-5\n\
                 accuracy = 0.5\nsource = \"inferred\"\ncitation = \"c\"\n"
            )
        };
        assert!(parse(&claim("1.0")).is_ok());
        for bad in ["0.0", "-1.0", "inf", "nan"] {
            let error = parse(&claim(bad)).unwrap_err();
            assert!(
                matches!(
                    error,
                    ClaimsError::Range {
                        quantity: "epsilon",
                        ..
                    }
                ),
                "{error}"
            );
        }
        assert!(matches!(
            parse(&claim("\"one\"")),
            Err(ClaimsError::Toml(_))
        ));
    }
}
