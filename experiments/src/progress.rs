//! How long work shows itself: a bar on a terminal, a plain line now and then elsewhere.
//!
//! Loss and epsilon so far stand beside the step. The loss is private to the client: it goes to
//! standard error for the person who owns the data, never into a message to the server.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// How often a plain line is written.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of a run of known length.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    out: Output,
    label: String,
    total: u64,
    /// The first step that was told and when: a run that goes on did not begin here.
    first: Option<(u64, Instant)>,
    last: Option<Instant>,
}

impl Progress {
    /// A bar if standard error is a terminal, lines if not, nothing if quiet.
    #[must_use]
    pub fn new(out: Output, label: &str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal() && !out.is_quiet();
        let bar = terminal.then(|| bar(label, total));
        Self {
            bar,
            plain: !terminal && !out.is_quiet(),
            out,
            label: label.to_owned(),
            total,
            first: None,
            last: None,
        }
    }

    /// Step `done` of the total is finished; `facts` are what it brought.
    pub fn advance(&mut self, done: u64, facts: &str) {
        if self.first.is_none() {
            self.first = Some((done, Instant::now()));
            if let Some(bar) = &self.bar {
                bar.reset_eta();
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_message(facts.to_owned());
            bar.set_position(done);
        }
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL);
        if self.plain && (due || done == self.total) {
            self.last = Some(Instant::now());
            let (label, total) = (&self.label, self.total);
            let left = self
                .left(done)
                .map(|left| format!("  about {:.0} s left", left.as_secs_f64()));
            let left = left.unwrap_or_default();
            self.out
                .remark(format_args!("{label}: {done}/{total}  {facts}{left}"));
        }
    }

    /// Estimated time to go, once there are two steps to estimate from.
    fn left(&self, done: u64) -> Option<Duration> {
        let (first, since) = self.first?;
        left(
            done.checked_sub(first)?,
            since.elapsed(),
            self.total.saturating_sub(done),
        )
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_prefix(label.to_owned());
    let template = "{prefix} [{bar:30}] {pos}/{len}  {msg}  ETA {eta}";
    // The template is a constant; should it ever be refused, the plain style shows the same step.
    let style = ProgressStyle::with_template(template);
    bar.set_style(
        style
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> "),
    );
    bar
}

/// How long `rest` steps take if `done` of them took `elapsed`.
fn left(done: u64, elapsed: Duration, rest: u64) -> Option<Duration> {
    (done > 0).then(|| elapsed.mul_f64(rest as f64 / done as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_that_were_seen_count() {
        assert_eq!(left(0, Duration::from_secs(3), 10), None);
        let seconds = left(4, Duration::from_secs(8), 10).map(|d| d.as_secs_f64());
        assert_eq!(seconds, Some(20.0));
    }
}
