//! Training at a server, on ciphertexts.

use std::time::Instant;

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use rand::Rng;
use sphinx_protocol::grid::Engine;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::packed::Packed;
use sphinx_protocol::paper::Paper;

use super::{Begun, Job, Model, Randomness, Trained, Watch, drive};
use crate::child::Server;
use crate::run_dir;

/// A fresh name for a model, which is also the right to use it.
#[must_use]
pub(super) fn new_id() -> ModelId {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    ModelId(id)
}

impl Job {
    /// Trains at `server`. Encryption randomness is always the operating system's; `randomness`
    /// is that of batches and noise.
    ///
    /// `id` names the model at the server; by default a fresh name. A run that goes on loads its
    /// released weights under a fresh name as well, with a fresh key.
    ///
    /// # Errors
    /// Whatever stops the run, above all a server that is gone.
    pub fn train_packed(
        &self,
        server: &Server,
        id: Option<ModelId>,
        randomness: &Randomness,
        begun: &mut Begun,
        watch: &mut dyn Watch,
    ) -> Result<Trained> {
        let plan = self.plan()?;
        let replica = self.replica(plan.grid(), begun)?;
        let before = server.cpu_seconds()?;
        let (start, cpu) = (Instant::now(), ProcessTime::now());
        let id = id.unwrap_or_else(new_id);
        let packed = Packed::open(server.link()?, id, plan, replica, &mut rand::rng())
            .context("opening the model at the server")?;
        let packed = match self.config.verify {
            true => packed.verifying(),
            false => packed,
        };
        let packed = match self.config.zeros {
            Some(most) => packed.preparing(most),
            None => packed.preparing_if_idle(),
        };
        let packed = match &begun.saving {
            Some(saving) => {
                let folder = saving.folder().to_owned();
                packed.marking(move |failed| {
                    // What cannot be written now is tried again when the run ends, and told then.
                    let _ = run_dir::mark_stopped(&folder, &failed.to_string());
                })
            }
            None => packed,
        };
        let (offline_seconds, offline_cpu) =
            (start.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        let (engine, history) = drive::drive(self, Engine::new(packed), randomness, begun, watch)?;
        let mut packed = engine.into_multiplier();
        let work = packed.phase_work().context("asking the server")?;
        let prepared_seconds = packed.offline_seconds();
        let meter = packed.link().meter().clone();
        let (after, replica) = packed
            .close()
            .context("ending the training at the server")?;
        let model = Model::Grid(Box::new(replica));
        Ok(Trained {
            accuracy: self.accuracy(&model)?,
            // What was made while waiting is part of the steps' seconds already.
            offline_seconds: offline_seconds + prepared_seconds + history.offline_seconds(),
            seconds: offline_seconds + history.seconds(),
            traffic: meter.read(),
            client_cpu_s: offline_cpu + history.cpu_s(),
            server_cpu_s: after - before,
            id: Some(id),
            work,
            history,
            model,
        })
    }

    /// Trains at `server` by the published protocol; the model lives there as long as the
    /// connection.
    ///
    /// # Errors
    /// Whatever stops the run, above all a server that is gone.
    pub fn train_paper(
        &self,
        server: &Server,
        randomness: &Randomness,
        begun: &mut Begun,
        watch: &mut dyn Watch,
    ) -> Result<Trained> {
        let plan = self.paper.as_ref().context("this run has no slots")?;
        let replica = self.replica(plan.grid(), begun)?;
        let before = server.cpu_seconds()?;
        let (start, cpu) = (Instant::now(), ProcessTime::now());
        let paper = Paper::open(server.link()?, plan, replica, &mut rand::rng())
            .context("opening the model at the server")?;
        let (offline_seconds, offline_cpu) =
            (start.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        let (engine, history) = drive::drive(self, Engine::new(paper), randomness, begun, watch)?;
        let paper = engine.into_multiplier();
        let meter = paper.link().meter().clone();
        let (after, replica) = paper.close().context("ending the training at the server")?;
        let model = Model::Grid(Box::new(replica));
        Ok(Trained {
            accuracy: self.accuracy(&model)?,
            offline_seconds: offline_seconds + history.offline_seconds(),
            seconds: offline_seconds + history.seconds(),
            traffic: meter.read(),
            client_cpu_s: offline_cpu + history.cpu_s(),
            server_cpu_s: after - before,
            id: None,
            work: Vec::new(),
            history,
            model,
        })
    }
}
