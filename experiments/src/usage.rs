//! Whose fault it is: errors of usage or input end with exit code 2, all others with 1.
//!
//! Commands return [`anyhow::Result`] with contexts. Where the person at the keyboard can set it
//! right (a flag, a missing folder, a budget out of reach), the chain holds a [`UsageError`].
//!
//! ```
//! use sphinx_experiments::usage::{OrUsage, exit_code};
//!
//! let error = "twelve".parse::<u32>().or_usage("--steps").unwrap_err();
//! assert_eq!(exit_code(&error), 2);
//! assert_eq!(exit_code(&anyhow::anyhow!("the server is gone")), 1);
//! ```

use std::error::Error;

/// An error that the person at the keyboard can set right.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Something the command line knows by name but this version cannot do.
    #[error("{what} is not in this version; available: {available}")]
    NotInThisVersion {
        /// What was asked for.
        what: String,
        /// What can be had instead.
        available: &'static str,
    },
    /// A flag with an unusable value, or flags that do not go together.
    #[error("{flag}: {problem}")]
    Flag {
        /// The flag or flags.
        flag: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A field of a definition or configuration with an unusable value.
    #[error("{field}: {problem}")]
    Definition {
        /// The field, with the table it stands in.
        field: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A lower layer refused the input.
    #[error("{context}")]
    Rejected {
        /// What was being done with which input.
        context: String,
        /// The refusal.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl UsageError {
    /// A [`UsageError::Flag`] as an [`anyhow::Error`].
    pub fn flag(flag: &'static str, problem: impl Into<String>) -> anyhow::Error {
        Self::Flag {
            flag,
            problem: problem.into(),
        }
        .into()
    }
}

/// Marks an error as one of usage.
pub trait OrUsage<T> {
    /// Wraps the error into [`UsageError::Rejected`].
    ///
    /// # Errors
    /// The wrapped error, if there was one.
    fn or_usage(self, context: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Error + Send + Sync + 'static> OrUsage<T> for Result<T, E> {
    fn or_usage(self, context: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|source| {
            UsageError::Rejected {
                context: context.into(),
                source: Box::new(source),
            }
            .into()
        })
    }
}

/// The exit code that an error ends the process with.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error
        .chain()
        .any(|cause| cause.downcast_ref::<UsageError>().is_some());
    if usage { 2 } else { 1 }
}

/// The error and its causes in one line; a cause that its effect already tells is left out.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn context_around_a_usage_error_keeps_its_exit_code() {
        let inner: anyhow::Result<()> = Err(UsageError::flag("--steps", "must be at least 1"));
        let error = inner.context("preparing the run").unwrap_err();
        assert_eq!(exit_code(&error), 2);
        assert_eq!(
            format!("{error:#}"),
            "preparing the run: --steps: must be at least 1"
        );
    }

    #[test]
    fn a_cause_is_told_once() {
        let refused = std::io::Error::other("nobody listens");
        let error = anyhow::Error::new(sphinx_protocol::Error::from(refused));
        let told = explain(&error.context("connecting to 127.0.0.1:1"));
        assert_eq!(
            told,
            "connecting to 127.0.0.1:1: connection: nobody listens"
        );
    }
}
