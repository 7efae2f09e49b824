//! Private requests, one by one: tickets prepared ahead, answers checked against the replica.
//!
//! [`Asker`] wraps a requester and keeps count. Every answer is compared, bit for bit, with what
//! the owner's replica gives for the same image; during training the ticket may have been brought
//! to a version published just before or just after, so both are tried.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use sphinx_figures::stats;
use sphinx_nn::data::Dataset;
use sphinx_nn::{Network, Tensor, metrics, pass};
use sphinx_protocol::grid::{Engine, Frozen};
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::{FrozenReplica, Replica};
use sphinx_protocol::packed::Packed;
use sphinx_protocol::plan::Plan;
use sphinx_protocol::shared::{ModelFeed, Requester};
use sphinx_protocol::transport::Traffic;

use crate::child::Server;

/// Tickets kept in reserve while the model changes, because a stale one costs another.
const RESERVE: usize = 4;

/// What came of a series of requests.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Online seconds of every request.
    pub latencies: Vec<f64>,
    /// Answers that are the label.
    pub correct: usize,
    /// Answers equal, bit for bit, to the replica's.
    pub agreed: usize,
    /// Bytes of all online phases, up.
    pub online_up: u64,
    /// Bytes of all online phases, down.
    pub online_down: u64,
    /// Seconds of every preparation of a batch of tickets.
    pub preparations: Vec<f64>,
    /// Tickets prepared.
    pub tickets: usize,
    /// Bytes of all preparations, both ways.
    pub offline_bytes: u64,
    /// CPU seconds of the client in all online phases.
    pub online_cpu_s: f64,
    /// CPU seconds of the client in all preparations.
    pub offline_cpu_s: f64,
    /// Everything on the connection of the requests, its opening and end included.
    pub traffic: Traffic,
}

impl Answers {
    /// Requests answered.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.latencies.len()
    }

    /// A count as a share of the requests.
    #[must_use]
    pub fn share(&self, count: usize) -> f64 {
        if self.asked() == 0 {
            0.0
        } else {
            count as f64 / self.asked() as f64
        }
    }

    /// Seconds of preparation per ticket.
    #[must_use]
    pub fn preparation_per_ticket(&self) -> f64 {
        let total: f64 = self.preparations.iter().sum();
        if self.tickets == 0 {
            0.0
        } else {
            total / self.tickets as f64
        }
    }

    /// CPU seconds of the client per request: online, and for its ticket.
    #[must_use]
    pub fn cpu_per_request(&self) -> f64 {
        let share = |total: f64, count: usize| total / count.max(1) as f64;
        share(self.online_cpu_s, self.asked()) + share(self.offline_cpu_s, self.tickets)
    }

    /// Quantile of the latencies, interpolated; `None` without requests.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Option<f64> {
        stats::quantile(&self.latencies, quantile).ok()
    }
}

/// Asks for predictions on test images.
#[derive(Debug)]
pub struct Asker<'a> {
    requester: Requester,
    feed: ModelFeed,
    plan: Plan,
    test: &'a Dataset,
    reserve: usize,
    answers: Answers,
}

impl<'a> Asker<'a> {
    /// Joins the model `id`; `changing` says whether it is being trained meanwhile.
    ///
    /// # Errors
    /// If the server is gone or has no such model.
    pub fn attach(
        server: &Server,
        id: ModelId,
        plan: &Plan,
        feed: ModelFeed,
        test: &'a Dataset,
        changing: bool,
    ) -> Result<Self> {
        let requester = Requester::attach(server.link()?, id, plan, feed.clone(), &mut rand::rng())
            .context("joining the model for inference")?;
        let most = plan.literal().tickets;
        let reserve = if changing { RESERVE.min(most) } else { 1 };
        let (plan, answers) = (plan.clone(), Answers::default());
        Ok(Self {
            requester,
            feed,
            plan,
            test,
            reserve,
            answers,
        })
    }

    /// Prepares tickets if fewer than the reserve are left.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn prepare(&mut self) -> Result<()> {
        if self.requester.tickets() >= self.reserve {
            return Ok(());
        }
        let (start, before) = (Instant::now(), self.requester.link().meter().read());
        let cpu = ProcessTime::now();
        self.requester
            .prepare()
            .context("preparing inference tickets")?;
        let after = self.requester.link().meter().read();
        self.answers
            .preparations
            .push(start.elapsed().as_secs_f64());
        self.answers.offline_cpu_s += cpu.elapsed().as_secs_f64();
        self.answers.tickets += self.plan.literal().tickets;
        self.answers.offline_bytes += after.sent + after.received - before.sent - before.received;
        Ok(())
    }

    /// Asks about test image `index`, counted around the end.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn ask(&mut self, index: usize) -> Result<()> {
        self.prepare()?;
        let index = index % self.test.len();
        let x = self.test.images.gather(&[index as u32], 1);
        let earlier = self.feed.latest();
        let before = self.requester.link().meter().read();
        let (start, cpu) = (Instant::now(), ProcessTime::now());
        let logits = self.requester.infer(&x).context("a private request")?;
        self.answers.latencies.push(start.elapsed().as_secs_f64());
        self.answers.online_cpu_s += cpu.elapsed().as_secs_f64();
        let after = self.requester.link().meter().read();
        self.answers.online_up += after.sent - before.sent;
        self.answers.online_down += after.received - before.received;
        let later = self.feed.latest();
        let hit = metrics::argmax(logits.row(0)) == usize::from(self.test.labels[index]);
        self.answers.correct += usize::from(hit);
        let agrees = self.gives(earlier, &x, &logits)? || self.gives(later, &x, &logits)?;
        self.answers.agreed += usize::from(agrees);
        Ok(())
    }

    /// Whether this version of the model gives exactly these logits.
    fn gives(
        &self,
        model: Option<Arc<FrozenReplica>>,
        x: &Tensor,
        logits: &Tensor,
    ) -> Result<bool> {
        let Some(model) = model else { return Ok(false) };
        let network: &Network = self.plan.network();
        let mut local = Engine::new(Frozen::new(self.plan.grid().clone(), model));
        Ok(pass::infer(&mut local, network, x)? == *logits)
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn finish(self) -> Result<Answers> {
        let meter = self.requester.link().meter().clone();
        self.requester.close().context("ending the requests")?;
        let mut answers = self.answers;
        answers.traffic = meter.read();
        Ok(answers)
    }
}

/// Gives the model to a server that does not have it: released weights, and the biases encrypted. Returns the
/// bytes that this took.
///
/// # Errors
/// If the server is gone or refuses the model.
pub fn load_if_absent(
    server: &Server,
    id: ModelId,
    plan: &Plan,
    replica: &Replica,
) -> Result<Traffic> {
    let mut link = server.link()?;
    let asking = link.meter().clone();
    if link.attach(id, plan).is_ok() {
        return Ok(asking.read());
    }
    drop(link);
    let packed = Packed::open(server.link()?, id, plan, replica.clone(), &mut rand::rng())
        .context("loading the model at the server")?;
    let loading = packed.link().meter().clone();
    packed.close().context("loading the model at the server")?;
    let (asked, loaded) = (asking.read(), loading.read());
    Ok(Traffic {
        sent: asked.sent + loaded.sent,
        received: asked.received + loaded.received,
        frames: asked.frames + loaded.frames,
    })
}
