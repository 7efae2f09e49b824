//! Standard output, and the one rule about it: with `--json` it carries exactly one JSON object.
//!
//! Results go through an [`Output`]: to standard output for people, and to standard error when
//! standard output belongs to a script. A closed pipe is no error: whoever listened has enough.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use serde_json::Value;

/// Where a command's words go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    /// `json` reserves standard output for one object; `quiet` drops everything but results.
    #[must_use]
    pub const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether standard output is reserved for one JSON object.
    #[must_use]
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Whether progress and remarks are unwanted.
    #[must_use]
    pub const fn is_quiet(self) -> bool {
        self.quiet
    }

    /// A result, for people.
    pub fn say(self, text: impl Display) {
        if !self.json {
            let _ = writeln!(stdout(), "{text}");
        } else if !self.quiet {
            let _ = writeln!(stderr(), "{text}");
        }
    }

    /// A remark that is no result: always on standard error, dropped when quiet.
    pub fn remark(self, text: impl Display) {
        if !self.quiet {
            let _ = writeln!(stderr(), "{text}");
        }
    }

    /// Something nobody should miss: always on standard error.
    pub fn warn(self, text: impl Display) {
        let _ = writeln!(stderr(), "{text}");
    }

    /// The one object, with `--json`; nothing without.
    pub fn object(self, value: &Value) {
        if self.json {
            let _ = writeln!(stdout(), "{value}");
        }
    }

    /// Makes what was said visible now, for a reader that waits for it.
    pub fn flush(self) {
        let _ = stdout().flush();
    }
}

/// A number for JSON; null where it is not finite, because JSON has no infinity.
#[must_use]
pub fn number(value: f64) -> Value {
    if value.is_finite() {
        value.into()
    } else {
        Value::Null
    }
}
