//! The folder that a run leaves behind, and from which every number can be made again.
//!
//! | file | what |
//! |---|---|
//! | `config.toml` | the resolved configuration |
//! | `environment.json` | machine and build |
//! | `ledger.jsonl` | every release, charged before it left |
//! | `checkpoint.safetensors` | where an interrupted run goes on, readable by its owner only |
//! | `trials.jsonl` | one record per trial, every timing sample kept |
//! | `model.json` | the trained model with its **biases in the clear**, readable by its owner only |
//! | `work/` | what trials of a series leave behind while they run |
//! | `statement.txt` | the privacy statement |
//! | `server.log` | what a server started for the run said |
//! | `figures/` | drawn from the records |
//! | `stopped.txt` | why the run has stopped for good, if a check of the server's results failed |
//!
//! An existing folder is refused: nothing is ever overwritten. An interrupted run goes on in its own
//! folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;
use sphinx_figures::load::{CONFIG, ENVIRONMENT, Environment, TRIALS};
use sphinx_figures::record::{self, Record};

use crate::environment;
use crate::usage::UsageError;

/// File name of the trained model.
pub const MODEL: &str = "model.json";
/// File name of the privacy statement.
pub const STATEMENT: &str = "statement.txt";

/// File name of the reason why a run may never go on.
pub const STOPPED: &str = "stopped.txt";

/// A run directory that this process may write into.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a new folder: `path`, or `runs/<time>-<command>-<engine>`; writes its environment.
    ///
    /// # Errors
    /// [`UsageError`] if `path` exists; otherwise what the system says.
    pub fn create(path: Option<&Path>, command: &str, engine: &str) -> Result<Self> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => unused(&format!("runs/{}-{command}-{engine}", file_time())),
        };
        if path.exists() {
            let problem = format!("{} exists already; nothing is overwritten", path.display());
            return Err(UsageError::flag("--run-dir", problem));
        }
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        environment::capture().write(&path)?;
        Ok(Self { path })
    }

    /// Goes on in an existing run directory, or makes it. A record that was cut short is removed.
    ///
    /// # Errors
    /// [`UsageError`] if it [stopped for good](Self::stop), or what the system says.
    pub fn reopen(path: &Path) -> Result<Self> {
        refuse_stopped(path)?;
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        // Absent, or cut short by a crash.
        let known = fs::read_to_string(path.join(ENVIRONMENT)).unwrap_or_default();
        if serde_json::from_str::<Environment>(&known).is_err() {
            environment::capture().write(path)?;
        }
        let trials = path.join(TRIALS);
        if trials.exists() {
            record::repair(&trials)?;
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Goes on in the run directory of an interrupted run.
    ///
    /// # Errors
    /// [`UsageError`] if there is no run, or what the system says.
    pub fn resume(path: &Path) -> Result<Self> {
        if !path.join(CONFIG).exists() {
            let problem = format!("{} holds no run to go on with", path.display());
            return Err(UsageError::flag("--resume", problem));
        }
        Self::reopen(path)
    }

    /// Marks the run as one that must never go on, durably.
    ///
    /// # Errors
    /// What the system says.
    pub fn stop(&self, reason: &str) -> Result<()> {
        mark_stopped(&self.path, reason)
    }

    /// Whether it is marked so.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.path.join(STOPPED).exists()
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The privacy ledger of a run with one trial.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger.jsonl")
    }

    /// A folder for one of several trials while it runs; made if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn work(&self, trial: &str) -> Result<PathBuf> {
        let path = self.path.join("work").join(trial);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(path)
    }

    /// Removes the folder of a trial that is recorded, and of all if it was the last.
    ///
    /// # Errors
    /// What the system says.
    pub fn clear_work(&self, trial: &str) -> Result<()> {
        let all = self.path.join("work");
        let path = all.join(trial);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        // Not empty, or gone already: either is well.
        let _ = fs::remove_dir(all);
        Ok(())
    }

    /// Writes the resolved configuration.
    ///
    /// # Errors
    /// What the serialiser or the system says.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        let text = toml::to_string_pretty(config).context("writing the configuration")?;
        self.replace(CONFIG, text.as_bytes())
    }

    /// Puts a file in the place of an older one, durably and all at once, for its owner only.
    ///
    /// # Errors
    /// What the system says.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(sphinx_protocol::train::replace(
            &self.path.join(name),
            bytes,
        )?)
    }

    /// Writes a text file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Appends one record.
    ///
    /// # Errors
    /// As [`record::append`].
    pub fn append(&self, record: &Record) -> Result<()> {
        Ok(record::append(&self.path.join(TRIALS), record)?)
    }

    /// The records so far; none if there is no file yet.
    ///
    /// # Errors
    /// As [`record::read`].
    pub fn records(&self) -> Result<Vec<Record>> {
        let path = self.path.join(TRIALS);
        if path.exists() {
            Ok(record::read(&path)?)
        } else {
            Ok(Vec::new())
        }
    }
}

/// Marks the run in a folder as one that must never go on, durably.
///
/// # Errors
/// What the system says.
pub fn mark_stopped(folder: &Path, reason: &str) -> Result<()> {
    let text = format!("{}: {reason}\n", utc_now());
    sphinx_protocol::train::replace(&folder.join(STOPPED), text.as_bytes())
        .context("marking the run as stopped for good; do not resume it")
}

/// Refuses a folder whose run is marked so.
///
/// # Errors
/// [`UsageError`], or what the system says of a mark that cannot be read.
pub fn refuse_stopped(path: &Path) -> Result<()> {
    match fs::read_to_string(path.join(STOPPED)) {
        Ok(reason) => {
            let problem = format!(
                "the run in {} has stopped for good and cannot go on; begin a new one ({})",
                path.display(),
                reason.trim()
            );
            Err(UsageError::flag("--resume", problem))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // A mark that cannot be read is a mark.
        Err(error) => Err(error).with_context(|| format!("reading {STOPPED}")),
    }
}

/// The first of `name`, `name-2`, `name-3` and so on that does not exist.
fn unused(name: &str) -> PathBuf {
    let mut path = PathBuf::from(name);
    let mut number = 2;
    while path.exists() {
        path = PathBuf::from(format!("{name}-{number}"));
        number += 1;
    }
    path
}

/// The time now, to be part of a file name.
fn file_time() -> String {
    utc_now().replace(':', "-")
}

/// The day in UTC, to be part of a file name.
#[must_use]
pub fn file_date() -> String {
    utc_now().chars().take(10).collect()
}

/// The time now in UTC, as RFC 3339 to the second.
#[must_use]
pub fn utc_now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    utc(since.as_secs())
}

/// A Unix time as RFC 3339, by counting days from the first of March of the year 0, so that leap
/// days come last in their year.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + 400 * era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn an_existing_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = RunDir::create(Some(folder.path()), "train", "packed").unwrap_err();
        assert_eq!(crate::usage::exit_code(&error), 2);
        assert!(
            error.to_string().contains("nothing is overwritten"),
            "{error}"
        );
    }

    #[test]
    fn a_private_file_is_private_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(&folder.path().join("run")), "train", "packed").unwrap();
        for content in [&b"{}"[..], b"[]"] {
            run.replace(MODEL, content).unwrap();
            assert_eq!(fs::read(run.path().join(MODEL)).unwrap(), content);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(run.path().join(MODEL))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_run_that_stopped_for_good_cannot_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(&folder.path().join("run")), "train", "packed").unwrap();
        run.write(CONFIG, "").unwrap();
        RunDir::resume(run.path()).unwrap();
        run.stop("layer 1: the forward product is wrong").unwrap();
        for error in [RunDir::resume(run.path()), RunDir::reopen(run.path())] {
            let error = error.unwrap_err();
            assert_eq!(crate::usage::exit_code(&error), 2);
            let told = error.to_string();
            assert!(
                told.contains("for good") && told.contains("layer 1"),
                "{told}"
            );
        }
    }

    #[test]
    fn only_a_run_can_be_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let error = RunDir::resume(folder.path()).unwrap_err();
        assert_eq!(crate::usage::exit_code(&error), 2);
    }
}
