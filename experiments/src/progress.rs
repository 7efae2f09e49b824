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
    started: Instant,
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
            started: Instant::now(),
            last: None,
        }
    }

    /// Step `done` of the total is finished; `facts` are what it brought.
    pub fn advance(&mut self, done: u64, facts: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(facts.to_owned());
            bar.set_position(done);
        }
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL);
        if self.plain && (due || done == self.total) {
            self.last = Some(Instant::now());
            let left = self.left(done).round();
            let (label, total) = (&self.label, self.total);
            self.out.remark(format_args!(
                "{label}: {done}/{total}  {facts}  about {left} s left"
            ));
        }
    }

    /// Estimated seconds to go.
    fn left(&self, done: u64) -> f64 {
        let per_step = self.started.elapsed().as_secs_f64() / done.max(1) as f64;
        per_step * self.total.saturating_sub(done) as f64
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
