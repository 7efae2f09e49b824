//! A prediction beside a short run: the same plan, some steps, at a server of its own.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_figures::stats;
use sphinx_protocol::model::FrozenReplica;

use super::step::{Step, named};
use crate::child::Server;
use crate::cli::PlanArgs;
use crate::config::{Config, featured, load_split};
use crate::job::{Begun, Job, Randomness, StepSample, Watch};
use crate::table::Table;

/// One figure, predicted and measured.
struct Line {
    name: &'static str,
    predicted: f64,
    measured: f64,
}

/// What a run measured, per step.
pub(super) struct Validation {
    steps: u64,
    /// Medians of wall seconds in the order of [`named`], and of the whole step.
    phases: [f64; 6],
    step: f64,
    client_cpu: f64,
    /// Median, as the server tells it.
    server_cpu: f64,
    bytes: (f64, f64),
}

/// Asks the server after every step for its processor time.
struct ServerClock<'a> {
    server: &'a Server,
    read: Vec<f64>,
}

impl Watch for ServerClock<'_> {
    fn step(&mut self, _: &StepSample, _: Option<&Arc<FrozenReplica>>) -> Result<()> {
        self.read.push(self.server.cpu_seconds()?);
        Ok(())
    }
}

impl Validation {
    /// Runs `steps` steps after one that does not count.
    pub(super) fn run(args: &PlanArgs, config: Config, steps: u64) -> Result<Self> {
        let seed = args.training.seed.unwrap_or(0);
        let split = load_split(&args.training.data, seed)?;
        let split = featured(&config.model, &config.features, split)?;
        let mut job = Job::new(config, Arc::new(split))?;
        // The terms stay those of the plan: the same capacity and noise, fewer steps.
        job.config.steps = steps + 1;
        let log = std::env::temp_dir().join(format!("sphinx-plan-{}.log", std::process::id()));
        let server = Server::obtain(None, &log)?;
        let mut begun = Begun::unkept(job.terms.ledger(None)?);
        let randomness = Randomness::new(job.config.seed);
        let mut clock = ServerClock {
            server: &server,
            read: Vec::new(),
        };
        let trained = job.train_packed(&server, None, &randomness, &mut begun, &mut clock)?;
        let server_cpu: Vec<f64> = clock.read.windows(2).map(|w| w[1] - w[0]).collect();
        drop(server);
        // The log of a server that did its work says nothing that is worth keeping.
        let _ = std::fs::remove_file(&log);
        let steady = trained.history.steady();
        let median = |of: &dyn Fn(&StepSample) -> f64| {
            stats::median(&steady.iter().map(of).collect::<Vec<_>>())
        };
        let times = |s: &StepSample| s.phases.unwrap_or_default();
        let rest = |s: &StepSample| {
            let t = times(s);
            let known = t.forward + t.backward + t.gradient + t.update + s.report.release_seconds;
            (s.report.seconds - known).max(0.0)
        };
        let count = trained.history.steps.len().max(1) as f64;
        Ok(Self {
            steps,
            phases: [
                median(&|s| times(s).forward)?,
                median(&|s| times(s).backward)?,
                median(&|s| times(s).gradient)?,
                median(&|s| times(s).update)?,
                median(&|s| s.report.release_seconds)?,
                median(&rest)?,
            ],
            step: median(&|s| s.report.seconds)?,
            client_cpu: median(&|s| s.cpu_s)?,
            server_cpu: stats::median(&server_cpu)?,
            bytes: (
                trained.traffic.sent as f64 / count,
                trained.traffic.received as f64 / count,
            ),
        })
    }

    fn lines(&self, step: &Step) -> Vec<Line> {
        let prediction = &step.prediction;
        let line = |name, predicted, measured| Line {
            name,
            predicted,
            measured,
        };
        let phases = named(&prediction.seconds).into_iter().zip(self.phases);
        let mut lines: Vec<Line> = phases
            .map(|((name, predicted), measured)| line(name, predicted, measured))
            .collect();
        let (up, down) = step.bytes();
        lines.extend([
            line("step", prediction.seconds.total(), self.step),
            line("client CPU", prediction.client_cpu, self.client_cpu),
            line("server CPU", prediction.server_cpu, self.server_cpu),
            line("MB up", up as f64 / 1e6, self.bytes.0 / 1e6),
            line("MB down", down as f64 / 1e6, self.bytes.1 / 1e6),
        ]);
        lines
    }

    pub(super) fn table(&self, step: &Step) -> Table {
        let title = format!("{} steps", self.steps);
        let mut table = Table::new([title.as_str(), "predicted", "measured", "ratio"]);
        for line in self.lines(step) {
            let ratio = line.predicted / line.measured;
            table.row(
                line.name,
                [
                    format!("{:.3}", line.predicted),
                    format!("{:.3}", line.measured),
                    format!("{ratio:.2}"),
                ],
            );
        }
        table
    }

    pub(super) fn object(&self, step: &Step) -> Value {
        let lines = self.lines(step).into_iter().map(|line| {
            json!({
                "name": line.name,
                "predicted": line.predicted,
                "measured": line.measured,
                "ratio": line.predicted / line.measured,
            })
        });
        json!({"steps": self.steps, "lines": lines.collect::<Vec<_>>()})
    }
}
