//! Private requests beside the training, and afterwards.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use sphinx_protocol::message::ModelId;
use sphinx_protocol::shared::ModelFeed;

use crate::child::Server;
use crate::inference::{Answers, Asker};
use crate::job::{Job, Trained};

/// Steps that training has to itself, so that its CPU time can be told from that of the requests.
pub(super) const ALONE: u64 = 8;
/// Pause between two requests: people are slower than servers.
const PAUSE: Duration = Duration::from_millis(100);
/// Requests to the idle server after the training.
const IDLE_REQUESTS: usize = 200;

/// What the requests beside the training need.
pub(super) struct Meanwhile<'a> {
    pub(super) server: &'a Server,
    pub(super) id: ModelId,
    pub(super) job: &'a Job,
    pub(super) feed: ModelFeed,
    /// Training steps done.
    pub(super) done: &'a AtomicU64,
    /// Whether the training has ended.
    pub(super) stop: &'a AtomicBool,
}

impl Meanwhile<'_> {
    /// Asks about one test image after the other until the training ends.
    pub(super) fn ask(&self) -> Result<Answers> {
        let alone = ALONE.min(self.job.config.steps.div_ceil(2));
        while self.done.load(Ordering::SeqCst) < alone {
            if self.stop.load(Ordering::SeqCst) {
                return Ok(Answers::default());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let (plan, test) = (self.job.plan()?, &self.job.split.test);
        let mut asker = Asker::attach(self.server, self.id, plan, self.feed.clone(), test, true)?;
        for index in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            asker.ask(index)?;
            thread::sleep(PAUSE);
        }
        asker.finish()
    }
}

/// Asks the trained model when the server has nothing else to do.
pub(super) fn idle(server: &Server, trained: &Trained, job: &Job) -> Result<Answers> {
    let replica = trained
        .model
        .replica()
        .context("requests need a model on the grid")?;
    let id = trained.id.context("requests need a model at the server")?;
    let feed = ModelFeed::new(replica.freeze());
    let mut asker = Asker::attach(server, id, job.plan()?, feed, &job.split.test, false)?;
    for index in 0..IDLE_REQUESTS {
        asker.ask(index)?;
    }
    asker.finish()
}
