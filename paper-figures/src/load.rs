//! Reads a run directory: the definition as it was run, the machine, and every trial.
//!
//! **Where it sits.** The runner writes `config.toml`, `environment.json` and `trials.jsonl` into
//! one directory per run; [`load`] reads the three back and is the only way from files to figures.
//!
//! **What must be true.** All three files exist and parse strictly, and no trial with the same
//! identity and seed is recorded twice (a resumed run must skip what it has already).
//!
//! **Where it is from.** The chain definition -> trials -> figure, each step re-runnable alone,
//! follows rebar's separation of measuring and reporting.
//!
//! ```
//! use sphinx_figures::load::{self, Environment};
//! use sphinx_figures::record::{self, Record};
//!
//! let run = tempfile::tempdir()?;
//! std::fs::write(run.path().join(load::CONFIG), "engine = \"packed\"\n")?;
//! let machine = Environment { cpu: "example CPU".into(), cores: 2, ..Environment::default() };
//! machine.write(run.path())?;
//! record::append(
//!     &run.path().join(load::TRIALS),
//!     &Record::new("latency", "7f3a", "shared", "mlp", "synth-digits", 1),
//! )?;
//! let run = load::load(run.path())?;
//! assert_eq!((run.records.len(), run.environment.cores), (1, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::{self, Malformed, Record, label};

/// File name of the definition, copied as it was run.
pub const CONFIG: &str = "config.toml";
/// File name of the [`Environment`].
pub const ENVIRONMENT: &str = "environment.json";
/// File name of the records.
pub const TRIALS: &str = "trials.jsonl";

/// The machine and the build that a run was made on and with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Commit of the source tree, or empty where it is not known.
    pub commit: String,
    /// Whether the source tree differed from that commit.
    pub dirty: bool,
    /// Compiler and its version.
    pub compiler: String,
    /// Model of the processor.
    pub cpu: String,
    /// Logical cores available to the run.
    pub cores: usize,
    /// Kernel backend chosen at run time: `scalar`, `avx2` or `avx512`.
    pub backend: String,
    /// Operating system and its version.
    pub os: String,
    /// Worker threads used per party.
    pub threads: usize,
    /// When the run started, RFC 3339 in UTC.
    pub started: String,
}

impl Environment {
    /// The machine in a few words, for a caption: processor, cores, threads, backend.
    #[must_use]
    pub fn machine(&self) -> String {
        format!(
            "{}, {} cores, {} threads, {}",
            self.cpu, self.cores, self.threads, self.backend
        )
    }

    /// Writes `environment.json` into the run directory.
    ///
    /// # Errors
    /// [`LoadError::Io`] or [`LoadError::Json`] naming the file.
    pub fn write(&self, directory: &Path) -> Result<(), LoadError> {
        let path = directory.join(ENVIRONMENT);
        let mut text = serde_json::to_string_pretty(self).map_err(|source| LoadError::Json {
            path: path.clone(),
            line: 0,
            source,
        })?;
        text.push('\n');
        fs::write(&path, text).map_err(|source| LoadError::Io { path, source })
    }
}

/// A run directory, read whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The definition as it was run.
    pub config: toml::Table,
    /// The machine and the build.
    pub environment: Environment,
    /// Every trial, in the order in which they were recorded.
    pub records: Vec<Record>,
}

impl Run {
    /// The records, each with its machine named for captions: a record without the label
    /// [`label::MACHINE`] gets [`Environment::machine`].
    #[must_use]
    pub fn into_records(self) -> Vec<Record> {
        let machine = self.environment.machine();
        let mut records = self.records;
        for record in &mut records {
            record
                .labels
                .entry(label::MACHINE.into())
                .or_insert_with(|| machine.clone());
        }
        records
    }
}

/// Why a record file or run directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file system refused.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line (or the whole of a file that is one object, counted from its first line) is not the
    /// JSON that is expected there.
    #[error("{}:{line}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser expected.
        source: serde_json::Error,
    },
    /// A line is JSON of the right shape, but not a well-formed record.
    #[error("{}:{line}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        source: Malformed,
    },
    /// The last line has no newline, as after a crash.
    #[error("{}:{line}: half-written last line: call `record::repair` and rerun", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The definition is not valid TOML.
    #[error("{}: {source}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser expected, with the line.
        source: Box<toml::de::Error>,
    },
    /// Two records claim the same trial.
    #[error(
        "{}:{line}: trial `{trial}` with seed {seed} is recorded twice: remove one of the two",
        path.display()
    )]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The line of the second record, counted from 1.
        line: usize,
        /// The trial.
        trial: String,
        /// Its seed.
        seed: u64,
    },
}

/// Reads a run directory.
///
/// # Errors
/// [`LoadError`] naming the file and, for records, the line.
pub fn load(directory: &Path) -> Result<Run, LoadError> {
    let path = directory.join(CONFIG);
    let text = read_text(&path)?;
    let config = toml::from_str(&text).map_err(|source| LoadError::Toml {
        path,
        source: Box::new(source),
    })?;
    let path = directory.join(ENVIRONMENT);
    let environment =
        serde_json::from_str(&read_text(&path)?).map_err(|source| LoadError::Json {
            path: path.clone(),
            line: source.line(),
            source,
        })?;
    let path = directory.join(TRIALS);
    let records = record::read(&path)?;
    let mut seen = BTreeSet::new();
    for (record, line) in records.iter().zip(1..) {
        if !seen.insert((&record.trial, record.seed)) {
            let (trial, seed) = (record.trial.clone(), record.seed);
            return Err(LoadError::Duplicate {
                path,
                line,
                trial,
                seed,
            });
        }
    }
    Ok(Run {
        config,
        environment,
        records,
    })
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|source| LoadError::Io {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CONFIG), "engine = \"packed\"\n").unwrap();
        Environment::default().write(directory.path()).unwrap();
        let trials = directory.path().join(TRIALS);
        record::append(&trials, &Record::new("e", "t", "clear", "m", "d", 1)).unwrap();
        directory
    }

    #[test]
    fn a_run_directory_reads_back() {
        let directory = run_directory();
        let run = load(directory.path()).unwrap();
        assert_eq!(run.config["engine"].as_str(), Some("packed"));
        assert_eq!(run.environment, Environment::default());
        assert_eq!(run.records.len(), 1);
        let named = run.clone().into_records();
        assert_eq!(
            named[0].labels.get(label::MACHINE),
            Some(&run.environment.machine())
        );
        let own = run.records[0].clone().with_label(label::MACHINE, "another");
        let kept = Run {
            records: vec![own.clone()],
            ..run
        }
        .into_records();
        assert_eq!(kept, [own]);
    }

    #[test]
    fn the_same_trial_twice_is_refused_but_another_seed_is_not() {
        let directory = run_directory();
        let trials = directory.path().join(TRIALS);
        record::append(&trials, &Record::new("e", "t", "clear", "m", "d", 2)).unwrap();
        assert_eq!(load(directory.path()).unwrap().records.len(), 2);
        record::append(&trials, &Record::new("e", "t", "clear", "m", "d", 1)).unwrap();
        let error = load(directory.path()).unwrap_err();
        assert!(
            matches!(
                error,
                LoadError::Duplicate {
                    line: 3,
                    seed: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_broken_or_missing_file_is_named() {
        for name in [CONFIG, ENVIRONMENT, TRIALS] {
            let directory = run_directory();
            fs::write(directory.path().join(name), "{ \"commit\": \n").unwrap();
            let message = load(directory.path()).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
            fs::remove_file(directory.path().join(name)).unwrap();
            let message = load(directory.path()).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn an_environment_with_an_unknown_field_is_refused() {
        let directory = run_directory();
        let path = directory.path().join(ENVIRONMENT);
        let text = fs::read_to_string(&path)
            .unwrap()
            .replacen("\"commit\"", "\"comit\"", 1);
        fs::write(&path, text).unwrap();
        assert!(matches!(
            load(directory.path()),
            Err(LoadError::Json { .. })
        ));
    }
}
