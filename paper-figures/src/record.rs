//! The record of one trial: the only schema that experiments write and figures read.
//!
//! **Where it sits.** The runner appends one [`Record`] per finished trial to `trials.jsonl`;
//! [`crate::load`] reads a whole run directory and [`crate::figures`] draws from the records.
//! Nothing else in the workspace may define a second form of the same facts.
//!
//! **What must be true.** A file holds one JSON object per line, in UTF-8, each ending in a
//! newline. Every number is finite (JSON has no infinity: a run without privacy says so by the
//! label [`label::PRIVATE`] = `"no"` and has no [`metric::EPSILON`]). Unknown fields, another
//! schema version, a half-written last line and an empty line are errors that name file and line.
//!
//! **Where it is from.** One object per line with every sample kept is the habit of benchmark
//! tools such as rebar and hyperfine; the format is JSON Lines (jsonlines.org).
//!
//! ```
//! use sphinx_figures::record::{self, Record, metric, sample};
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("trials.jsonl");
//! let trial = Record::new("latency", "7f3a", "shared", "minionn-mnist", "synth-digits", 1)
//!     .with_security("classical-128")
//!     .with_label("private", "yes")
//!     .with_metric(metric::ACCURACY, 0.94)
//!     .with_samples(sample::ONLINE_LATENCY_S, vec![0.012, 0.013]);
//! record::append(&path, &trial)?;
//! assert_eq!(record::read(&path)?, vec![trial]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::LoadError;

/// The version of the schema that this crate writes, and the only one that it reads.
pub const SCHEMA: u32 = 1;

/// Names of the entries of [`Record::metrics`] that figures read; others may be added freely.
pub mod metric {
    /// Test accuracy of the last iterate, a fraction in `0..=1`.
    pub const ACCURACY: &str = "accuracy";
    /// Privacy loss spent by the whole run; absent where the run is not private.
    pub const EPSILON: &str = "epsilon";
    /// The delta at which [`EPSILON`] holds.
    pub const DELTA: &str = "delta";
}

/// Names of the entries of [`Record::samples`] that figures read; others may be added freely.
pub mod sample {
    /// Online latency of one inference request, seconds, one entry per request.
    pub const ONLINE_LATENCY_S: &str = "online_latency_s";
    /// Wall time of one training step in steady state, seconds, one entry per step.
    pub const STEP_S: &str = "step_s";
    /// Every sample series of one phase is called `phase.<name>_s`, seconds per step.
    pub const PHASE_PREFIX: &str = "phase.";
    /// The suffix of a series in seconds.
    pub const SECONDS_SUFFIX: &str = "_s";
    /// Step numbers at which the other `curve.*` series were taken, ascending, equally long.
    pub const CURVE_STEP: &str = "curve.step";
    /// Training loss at each of [`CURVE_STEP`]; known to the client alone.
    pub const CURVE_LOSS: &str = "curve.loss";
    /// Accuracy (fraction) at each of [`CURVE_STEP`].
    pub const CURVE_ACCURACY: &str = "curve.accuracy";
    /// Epsilon spent so far at each of [`CURVE_STEP`].
    pub const CURVE_EPSILON: &str = "curve.epsilon";
    /// Numbers of steps at which an accountant was asked, ascending.
    pub const ACCOUNT_STEPS: &str = "account.steps";
    /// Widths of a layer, ascending.
    pub const WIDTHS: &str = "outsourcing.width";
    /// The client's work with a server over its work without, at each of [`WIDTHS`].
    pub const WIDTH_RATIOS: &str = "outsourcing.ratio";
    /// Its epsilon at each of [`ACCOUNT_STEPS`].
    pub const ACCOUNT_EPSILON: &str = "account.epsilon";
}

/// Names of the entries of [`Record::labels`] that figures read; others may be added freely.
pub mod label {
    /// `"yes"` for a differentially private run, `"no"` for one without a bound.
    pub const PRIVATE: &str = "private";
    /// The machine in a few words, for captions; the full description is the environment's.
    pub const MACHINE: &str = "machine";
    /// The command that ran the trial.
    pub const COMMAND: &str = "command";
    /// Version, commit and compiler of the program.
    pub const VERSION: &str = "version";
    /// When the record was written, in UTC.
    pub const FINISHED: &str = "finished";
    /// Who priced the run.
    pub const ACCOUNTANT: &str = "accountant";
    /// Where the noise came from.
    pub const NOISE: &str = "noise";
    /// [`TIME`] for a run that was measured for its time and traffic, too short to say anything by
    /// its accuracy: figures of accuracy leave it out.
    pub const PURPOSE: &str = "purpose";
    /// The value of [`PURPOSE`] for such a run.
    pub const TIME: &str = "time";
    /// Labels that say where a number comes from; they do not tell series apart.
    pub const PROVENANCE: [&str; 5] = [MACHINE, COMMAND, VERSION, FINISHED, NOISE];
    /// [`MEASURED`], or how the values of a record came about instead.
    pub const BASIS: &str = "basis";
    /// The value of [`BASIS`] where every value was measured.
    pub const MEASURED: &str = "measured";
    /// A name that splits runs of one engine and model into series, such as `"loopback"`.
    pub const SERIES: &str = "series";
}

/// The security level of parameters that exist for tests only.
pub const TOY: &str = "toy";

/// One trial: what was run, under which parameters, and every number that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this schema, [`SCHEMA`].
    pub schema: u32,
    /// Name of the experiment definition.
    pub experiment: String,
    /// Identity of the trial: the hash of its resolved configuration, given by the caller.
    pub trial: String,
    /// Engine that ran it: `clear`, `packed`, `paper`, `pure-he` or `shared`.
    pub engine: String,
    /// Network, such as `minionn-mnist`.
    pub model: String,
    /// Data set, such as `synth-digits`.
    pub dataset: String,
    /// Seed of the trial.
    pub seed: u64,
    /// `classical-128` or another stated level, `toy` for test parameters, `none` for no
    /// encryption.
    pub security: String,
    /// Short facts to group by, such as `private` -> `yes`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The resolved configuration, as it was run.
    #[serde(default)]
    pub config: BTreeMap<String, Value>,
    /// Scalars measured once per trial; names in [`metric`].
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Every sample that was taken, in order; timings in seconds; names in [`sample`].
    #[serde(default)]
    pub samples: BTreeMap<String, Vec<f64>>,
}

/// Why a record is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The record is of another version of the schema.
    #[error("schema {found}, but this program reads schema {SCHEMA}: rerun the experiment")]
    Schema {
        /// The version that was found.
        found: u32,
    },
    /// A field that identifies the trial is empty.
    #[error("field `{field}` is empty: give the trial a name there")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A metric or sample is NaN or infinite, which JSON cannot hold.
    #[error("`{name}` holds a value that is not finite: leave it out and say why in a label")]
    NotFinite {
        /// The metric or sample series.
        name: String,
    },
}

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The record itself is not well formed; nothing was written.
    #[error("cannot append trial `{trial}` to {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The trial that was to be written.
        trial: String,
        /// What is wrong with it.
        source: Malformed,
    },
    /// The record could not be turned into JSON; nothing was written.
    #[error("cannot write trial `{trial}` as JSON for {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The trial that was to be written.
        trial: String,
        /// The serialiser's error.
        source: serde_json::Error,
    },
    /// The file ends in the middle of a line, as after a crash.
    #[error(
        "{} ends in a half-written line: call `record::repair` on it and rerun that trial",
        path.display()
    )]
    Torn {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot append to {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Record {
    /// A record of schema [`SCHEMA`] with security `none` and no labels, metrics or samples yet.
    pub fn new(
        experiment: impl Into<String>,
        trial: impl Into<String>,
        engine: impl Into<String>,
        model: impl Into<String>,
        dataset: impl Into<String>,
        seed: u64,
    ) -> Self {
        Self {
            schema: SCHEMA,
            experiment: experiment.into(),
            trial: trial.into(),
            engine: engine.into(),
            model: model.into(),
            dataset: dataset.into(),
            seed,
            security: "none".into(),
            labels: BTreeMap::new(),
            config: BTreeMap::new(),
            metrics: BTreeMap::new(),
            samples: BTreeMap::new(),
        }
    }

    /// The same record with its security level set.
    #[must_use]
    pub fn with_security(mut self, security: impl Into<String>) -> Self {
        self.security = security.into();
        self
    }

    /// The same record with one more label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The same record with one more entry of its configuration.
    #[must_use]
    pub fn with_config(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.config.insert(name.into(), value.into());
        self
    }

    /// The same record with one more metric.
    #[must_use]
    pub fn with_metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }

    /// The same record with one more series of samples.
    #[must_use]
    pub fn with_samples(mut self, name: impl Into<String>, values: Vec<f64>) -> Self {
        self.samples.insert(name.into(), values);
        self
    }

    /// Whether the run was to learn something: its purpose was not [`label::TIME`].
    #[must_use]
    pub fn is_for_accuracy(&self) -> bool {
        self.labels
            .get(label::PURPOSE)
            .is_none_or(|p| p != label::TIME)
    }

    /// Whether the encryption parameters were insecure ones, for tests only.
    #[must_use]
    pub fn is_toy(&self) -> bool {
        self.security == TOY
    }

    /// Checks what the type cannot: version, names and finiteness.
    ///
    /// # Errors
    /// The first thing found wrong, as [`Malformed`].
    pub fn check(&self) -> Result<(), Malformed> {
        if self.schema != SCHEMA {
            return Err(Malformed::Schema { found: self.schema });
        }
        let named = [
            ("experiment", &self.experiment),
            ("trial", &self.trial),
            ("engine", &self.engine),
            ("model", &self.model),
            ("dataset", &self.dataset),
            ("security", &self.security),
        ];
        if let Some((field, _)) = named.into_iter().find(|(_, value)| value.trim().is_empty()) {
            return Err(Malformed::Empty { field });
        }
        let metrics = self
            .metrics
            .iter()
            .map(|(name, value)| (name, std::slice::from_ref(value)));
        let samples = self
            .samples
            .iter()
            .map(|(name, values)| (name, values.as_slice()));
        match metrics
            .chain(samples)
            .find(|(_, values)| values.iter().any(|v| !v.is_finite()))
        {
            Some((name, _)) => Err(Malformed::NotFinite { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// Appends one record as one line to `path` and syncs it; the file is created if it is missing.
///
/// The line is written in one call, so that a crash leaves at most a last line without its
/// newline, which [`read`] and the next `append` refuse and [`repair`] removes.
///
/// # Errors
/// [`AppendError`] if the record is malformed, the file is torn, or the file system refuses.
pub fn append(path: &Path, record: &Record) -> Result<(), AppendError> {
    record.check().map_err(|source| AppendError::Malformed {
        path: path.into(),
        trial: record.trial.clone(),
        source,
    })?;
    let mut line = serde_json::to_vec(record).map_err(|source| AppendError::Json {
        path: path.into(),
        trial: record.trial.clone(),
        source,
    })?;
    line.push(b'\n');
    let io = |source| AppendError::Io {
        path: path.into(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(io)?;
    if file.seek(SeekFrom::End(0)).map_err(io)? > 0 {
        let mut last = [0_u8];
        file.seek(SeekFrom::End(-1)).map_err(io)?;
        file.read_exact(&mut last).map_err(io)?;
        if last != *b"\n" {
            return Err(AppendError::Torn { path: path.into() });
        }
    }
    file.write_all(&line).map_err(io)?;
    file.sync_data().map_err(io)
}

/// Reads every record of a JSON Lines file, in order, strictly.
///
/// # Errors
/// [`LoadError`] with file and line at the first line that is not one well-formed record.
pub fn read(path: &Path) -> Result<Vec<Record>, LoadError> {
    let bytes = fs::read(path).map_err(|source| LoadError::Io {
        path: path.into(),
        source,
    })?;
    parse(path, &bytes)
}

/// Parses the content of a JSON Lines file; `path` is only for error messages.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Record>, LoadError> {
    let Some(body) = bytes.strip_suffix(b"\n") else {
        let line = bytes.split(|b| *b == b'\n').count();
        return if bytes.is_empty() {
            Ok(Vec::new())
        } else {
            Err(LoadError::Torn {
                path: path.into(),
                line,
            })
        };
    };
    let lines = body.split(|b| *b == b'\n').zip(1..);
    lines
        .map(|(text, line)| parse_line(path, line, text))
        .collect()
}

fn parse_line(path: &Path, line: usize, text: &[u8]) -> Result<Record, LoadError> {
    // The version is looked at first: a record of another schema deserves that message, not a
    // complaint about the first field that this version does not know.
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let json = |source| LoadError::Json {
        path: path.into(),
        line,
        source,
    };
    let malformed = |source| LoadError::Malformed {
        path: path.into(),
        line,
        source,
    };
    let version: Version = serde_json::from_slice(text).map_err(json)?;
    if version.schema != SCHEMA {
        return Err(malformed(Malformed::Schema {
            found: version.schema,
        }));
    }
    let record: Record = serde_json::from_slice(text).map_err(json)?;
    record.check().map_err(malformed)?;
    Ok(record)
}

/// Cuts a half-written last line off a record file, as a crash during [`append`] leaves it.
///
/// Returns the number of bytes removed; a file that ends in a newline is left alone.
///
/// # Errors
/// [`AppendError::Io`] if the file cannot be read or shortened.
pub fn repair(path: &Path) -> Result<u64, AppendError> {
    let io = |source| AppendError::Io {
        path: path.into(),
        source,
    };
    let bytes = fs::read(path).map_err(io)?;
    let kept = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let removed = (bytes.len() - kept) as u64;
    if removed > 0 {
        let file = OpenOptions::new().write(true).open(path).map_err(io)?;
        file.set_len(kept as u64).map_err(io)?;
        file.sync_data().map_err(io)?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
