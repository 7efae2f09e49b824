//! The machine and the build, as far as they can be found out; what cannot is left empty.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use sphinx_figures::load::Environment;

use crate::run_dir::utc_now;

/// Describes this machine and this build. The commit is that of the sources when the binary was
/// built, whatever has become of them since.
#[must_use]
pub fn capture() -> Environment {
    static FIRST: OnceLock<Environment> = OnceLock::new();
    FIRST.get_or_init(look).clone()
}

fn look() -> Environment {
    let cores = available_parallelism().map_or(1, usize::from);
    let threads = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|n| n.parse().ok());
    Environment {
        commit: env!("SPHINX_COMMIT").to_owned(),
        dirty: !env!("SPHINX_CHANGED").is_empty(),
        compiler: env!("SPHINX_COMPILER").to_owned(),
        cpu: proc_value("/proc/cpuinfo", "model name").unwrap_or_default(),
        cores,
        backend: backend(),
        os: os(),
        threads: threads.filter(|&n| n > 0).unwrap_or(cores),
        started: utc_now(),
    }
}

/// How this process was called.
#[must_use]
pub fn command_line() -> String {
    let words: Vec<String> = std::env::args().collect();
    let name = words.first().map_or("", String::as_str);
    let name = Path::new(name).file_name().unwrap_or_default();
    let mut line = name.to_string_lossy().into_owned();
    for word in words.iter().skip(1) {
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// Version, commit and compiler in a few words.
#[must_use]
pub fn version(environment: &Environment) -> String {
    let commit = environment.commit.get(..12).unwrap_or("unknown");
    let dirty = if environment.dirty { ", changed" } else { "" };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{version} (commit {commit}{dirty}; {})",
        environment.compiler
    )
}

/// The kernels chosen for this processor.
fn backend() -> String {
    let backend = sphinx_he::simd::Backend::from_environment();
    backend.map_or_else(|_| String::new(), |b| b.to_string())
}

fn os() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim())
        .trim()
        .to_owned()
}

/// The largest resident set of this process so far, in units of 10^6 bytes; `None` where the
/// system does not tell.
#[must_use]
pub fn peak_rss_mb() -> Option<f64> {
    peak_rss_mb_of("self")
}

/// The same of another process, by its number.
#[must_use]
pub fn peak_rss_mb_of(process: &str) -> Option<f64> {
    let text = proc_value(&format!("/proc/{process}/status"), "VmHWM")?;
    let kilobytes: f64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

/// Lets [`peak_rss_mb`] count from now on, where the system can do that.
pub fn reset_peak_rss() {
    // Without the right to it, the peak is that of the whole process.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The value of the first line `name : value` of a file.
fn proc_value(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_always_known_is_there() {
        let environment = capture();
        assert!(environment.cores > 0 && environment.threads > 0);
        assert!(
            environment.compiler.starts_with("rustc"),
            "{}",
            environment.compiler
        );
        if cfg!(target_os = "linux") {
            assert!(peak_rss_mb().is_some_and(|mb| mb > 1.0));
        }
    }
}
