//! Training with everything encrypted: the baseline at a server.
//!
//! The batches are those of the float engine from the same seed. Nothing is released, so nothing is noised; the
//! ledger notes steps without protection, as for any run of `--non-private`. There are no checkpoints: the model is
//! at the server, under a key that lives as long as the run.

use std::time::Instant;

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use sphinx_nn::init;
use sphinx_protocol::pure_he::PureHe;
use sphinx_protocol::train::{Learn, Outcome, Setup, Trainer};

use super::{Begun, History, Job, Model, Randomness, StepSample, Trained, Watch};
use crate::child::Server;

impl Job {
    /// Trains at `server` with encrypted weights; the decrypted model is a float model.
    ///
    /// # Errors
    /// Whatever stops the run, above all a server that is gone.
    pub fn train_pure_he(
        &self,
        server: &Server,
        randomness: &Randomness,
        begun: &mut Begun,
        watch: &mut dyn Watch,
    ) -> Result<Trained> {
        let before = server.cpu_seconds()?;
        let (start, cpu) = (Instant::now(), ProcessTime::now());
        let plan = self.pure_he.as_ref().context("this run has no slots")?;
        let glorot = || init::glorot(&self.network, self.config.public_seed());
        let values = match &self.start()?.parameters {
            Some(start) => start.to_vec(),
            None => glorot(),
        };
        let size = self.config.lr / self.config.batch;
        let engine = PureHe::open(server.link()?, plan, &values, size, &mut rand::rng())
            .context("opening the model at the server")?;
        let (offline_seconds, offline_cpu) =
            (start.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        let (mut engine, history) = self.steps_pure_he(engine, randomness, begun, watch)?;
        let meter = engine.link().meter().clone();
        let end = (Instant::now(), ProcessTime::now());
        let decrypted = engine.parameters().context("fetching the model")?;
        let (last_seconds, last_cpu) = (end.0.elapsed().as_secs_f64(), end.1.elapsed());
        let after = engine.close().context("ending the training")?;
        let mut float = self.float_engine()?.model();
        float.parameters_mut().copy_from_slice(&decrypted);
        let model = Model::Float(Box::new(float));
        Ok(Trained {
            accuracy: self.accuracy(&model)?,
            offline_seconds,
            seconds: offline_seconds + history.seconds() + last_seconds,
            traffic: meter.read(),
            client_cpu_s: offline_cpu + history.cpu_s() + last_cpu.as_secs_f64(),
            server_cpu_s: after - before,
            id: None,
            work: Vec::new(),
            history,
            model,
        })
    }

    fn steps_pure_he(
        &self,
        engine: PureHe,
        randomness: &Randomness,
        begun: &mut Begun,
        watch: &mut dyn Watch,
    ) -> Result<(PureHe, History)> {
        let setup = Setup {
            network: &self.network,
            data: &self.split.train,
            sampler: self.terms.sampler(),
            mechanism: self.terms.mechanism(engine.clip_bound()?)?,
            capacity: self.terms.capacity,
            streams: randomness.streams(None)?,
            ledger: &mut begun.ledger,
            first_step: 0,
        };
        let mut trainer = Trainer::new(engine, setup)?;
        let mut history = History::default();
        for _ in 0..self.config.steps {
            let cpu = ProcessTime::now();
            let Outcome::Done(report) = trainer.step()? else {
                break;
            };
            let sample = StepSample {
                report,
                cpu_s: cpu.elapsed().as_secs_f64(),
                epsilon: report.epsilon,
                phases: Some(trainer.engine().times()),
            };
            watch.step(&sample, None)?;
            history.steps.push(sample);
        }
        Ok((trainer.into_engine(), history))
    }
}
