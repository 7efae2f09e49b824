//! What every phase of every layer takes at both ends, and how far the ends work at the same time.
//!
//! The two parties share no clock. Each measures the seconds in which it is busy with a phase; what
//! the two together have beyond the phase's length was done at the same time: a lower bound of the
//! overlap that needs no common time. CPU seconds are those of the whole process between the bounds of a phase, of all its
//! threads; a server with other connections counts their work too.
//!
//! ```
//! use sphinx_protocol::packed::{PhaseWork, Upload};
//!
//! let work = PhaseWork {
//!     seconds: 3.0, client_busy_s: 2.0, server_busy_s: 1.5,
//!     ..PhaseWork::new(Upload::Activation, 0)
//! };
//! assert_eq!(work.overlap_s(), 0.5);
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use serde::Serialize;

use super::{Upload, script};
use crate::plan::Plan;

/// The phases of a step in the order of the script.
#[must_use]
pub fn phases(plan: &Plan) -> Vec<(Upload, usize)> {
    let uploads = script(plan).into_iter();
    let mut all: Vec<_> = uploads.map(|(u, p)| (u, usize::from(p.layer))).collect();
    all.dedup();
    all
}

/// What one phase of one layer took, over all steps since the model was opened.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PhaseWork {
    /// Which product, by what is uploaded for it.
    pub upload: Upload,
    /// Index of the linear layer.
    pub layer: usize,
    /// How often.
    pub steps: u64,
    /// Seconds from the first polynomial packed to the last result decoded.
    pub seconds: f64,
    /// CPU seconds of the client's process meanwhile.
    pub client_cpu_s: f64,
    /// Seconds in which the client packed, encrypted or decrypted.
    pub client_busy_s: f64,
    /// Seconds in which the client was handing uploads to the wire, or waiting for it to take them.
    pub sending_s: f64,
    /// Seconds from the first result to the last upload: both directions are in use.
    pub both_ways_s: f64,
    /// CPU seconds of the server's process, as it says.
    pub server_cpu_s: f64,
    /// Seconds in which the server expanded, multiplied or packed, as it says.
    pub server_busy_s: f64,
}

impl PhaseWork {
    /// Nothing yet.
    #[must_use]
    pub const fn new(upload: Upload, layer: usize) -> Self {
        Self {
            upload,
            layer,
            steps: 0,
            seconds: 0.0,
            client_cpu_s: 0.0,
            client_busy_s: 0.0,
            sending_s: 0.0,
            both_ways_s: 0.0,
            server_cpu_s: 0.0,
            server_busy_s: 0.0,
        }
    }

    /// Seconds in which the client neither worked nor was at the wire with an upload.
    #[must_use]
    pub fn waited_s(&self) -> f64 {
        (self.seconds - self.client_busy_s - self.sending_s).max(0.0)
    }

    /// Seconds in which client and server worked at the same time, at least.
    #[must_use]
    pub fn overlap_s(&self) -> f64 {
        (self.client_busy_s + self.server_busy_s - self.seconds).max(0.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client's clock of one phase, shared by the thread that encrypts and the one that decrypts.
pub(super) struct Stopwatch {
    start: Instant,
    cpu: ProcessTime,
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    /// Threads at work, since when, and how long one was before.
    active: u32,
    since: Duration,
    busy: Duration,
    sending: Duration,
    last_upload: Duration,
    first_reply: Option<Duration>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            cpu: ProcessTime::now(),
            marks: Mutex::default(),
        }
    }

    /// Counts what `work` takes as time in which the client is busy.
    pub(super) fn working<T>(&self, work: impl FnOnce() -> T) -> T {
        {
            let mut marks = lock(&self.marks);
            if marks.active == 0 {
                marks.since = self.start.elapsed();
            }
            marks.active += 1;
        }
        let done = work();
        let mut marks = lock(&self.marks);
        marks.active -= 1;
        if marks.active == 0 {
            let since = marks.since;
            marks.busy += self.start.elapsed().saturating_sub(since);
        }
        done
    }

    /// Counts what `send` takes as time at the wire.
    pub(super) fn sending<T>(&self, send: impl FnOnce() -> T) -> T {
        let before = self.start.elapsed();
        let done = send();
        let after = self.start.elapsed();
        let mut marks = lock(&self.marks);
        marks.sending += after.saturating_sub(before);
        marks.last_upload = after;
        done
    }

    /// A result is here.
    pub(super) fn replied(&self) {
        let now = self.start.elapsed();
        lock(&self.marks).first_reply.get_or_insert(now);
    }

    /// The phase is over.
    pub(super) fn add_to(&self, work: &mut PhaseWork) {
        let marks = lock(&self.marks);
        let first = marks.first_reply.unwrap_or(marks.last_upload);
        work.steps += 1;
        work.seconds += self.start.elapsed().as_secs_f64();
        work.client_cpu_s += self.cpu.elapsed().as_secs_f64();
        work.client_busy_s += marks.busy.as_secs_f64();
        work.sending_s += marks.sending.as_secs_f64();
        work.both_ways_s += marks.last_upload.saturating_sub(first).as_secs_f64();
    }
}

/// What the server spent on one phase, over all steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerSeconds {
    /// CPU seconds of its process.
    pub cpu: f64,
    /// Seconds in which the connection's thread computed.
    pub busy: f64,
}

/// The server's clock: a phase lasts from its first upload to that of the next.
#[derive(Debug)]
pub(crate) struct Clock {
    phases: Vec<(Upload, usize)>,
    spent: Vec<ServerSeconds>,
    at: Option<(usize, ProcessTime)>,
}

impl Clock {
    /// Goes on from what was `spent` before.
    pub(crate) fn new(plan: &Plan, mut spent: Vec<ServerSeconds>) -> Self {
        let phases = phases(plan);
        spent.resize(phases.len(), ServerSeconds::default());
        Self {
            phases,
            spent,
            at: None,
        }
    }

    /// Counts `work` on an upload of this phase.
    pub(crate) fn count<T>(&mut self, phase: (Upload, usize), work: impl FnOnce() -> T) -> T {
        if self.at.as_ref().map(|(at, _)| self.phases[*at]) != Some(phase) {
            self.leave();
            let at = self.phases.iter().position(|p| *p == phase);
            self.at = at.map(|at| (at, ProcessTime::now()));
        }
        let start = Instant::now();
        let done = work();
        if let Some((at, _)) = &self.at {
            self.spent[*at].busy += start.elapsed().as_secs_f64();
        }
        done
    }

    fn leave(&mut self) {
        if let Some((at, cpu)) = self.at.take() {
            self.spent[at].cpu += cpu.elapsed().as_secs_f64();
        }
    }

    /// The step is over.
    pub(crate) fn stop(mut self) -> Vec<ServerSeconds> {
        self.leave();
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_work_together_are_busy_once() {
        let watch = Stopwatch::start();
        let nap = || std::thread::sleep(Duration::from_millis(30));
        std::thread::scope(|scope| {
            scope.spawn(|| watch.working(nap));
            watch.working(nap);
        });
        watch.sending(nap);
        let mut work = PhaseWork::new(Upload::Activation, 0);
        watch.add_to(&mut work);
        assert!(
            work.client_busy_s >= 0.03 && work.client_busy_s <= work.seconds - 0.03,
            "{work:?}"
        );
        assert!(work.sending_s >= 0.03, "{work:?}");
        assert_eq!(work.both_ways_s, 0.0);
    }
}
