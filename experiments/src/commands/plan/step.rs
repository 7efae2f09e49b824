//! The step of a plan, predicted.

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_protocol::model::PublicModel;
use sphinx_protocol::packed::Upload;
use sphinx_protocol::packed::estimate::{
    Calibration, Hosts, PhaseForecast, Prediction, StepSeconds, UnitTimes, counts,
};
use sphinx_protocol::plan::Plan;

use crate::table::Table;

/// What one training step will take.
pub(super) struct Step {
    pub(super) prediction: Prediction,
    machine: Calibration,
}

/// The phases of a step in their order.
pub(super) fn named(seconds: &StepSeconds) -> [(&'static str, f64); 6] {
    [
        ("forward", seconds.forward),
        ("backward", seconds.backward),
        ("gradient", seconds.gradient),
        ("update", seconds.update),
        ("release", seconds.release),
        ("rest", seconds.rest),
    ]
}

/// What is sent up, in words.
pub(super) const fn upload(upload: Upload) -> &'static str {
    match upload {
        Upload::Activation => "inputs",
        Upload::OutputGradient => "output gradients",
        Upload::ClippedGradient => "clipped gradients",
    }
}

/// The unit times of this machine.
pub(super) fn calibrated(plan: &Plan) -> Result<UnitTimes> {
    let tightness = plan.tightness(&PublicModel::initial(plan.grid()).snapshot());
    Ok(Calibration::measure(plan, &tightness)?.units)
}

impl Step {
    /// For the weights that a run begins with.
    pub(super) fn predict(plan: &Plan, hosts: Hosts) -> Result<Self> {
        let tightness = plan.tightness(&PublicModel::initial(plan.grid()).snapshot());
        let machine = Calibration::measure(plan, &tightness)?;
        let prediction = Prediction::new(plan, &counts(plan, &tightness), &machine, hosts);
        Ok(Self {
            prediction,
            machine,
        })
    }

    fn sum<T: std::iter::Sum>(&self, of: impl Fn(&PhaseForecast) -> T) -> T {
        self.prediction.phases.iter().map(of).sum()
    }

    pub(super) fn bytes(&self) -> (usize, usize) {
        (
            self.sum(|p| p.counts.bytes_up),
            self.sum(|p| p.counts.bytes_down),
        )
    }

    /// What the product of a phase takes a client that computes it itself, in integers.
    fn alone(&self, phase: &PhaseForecast) -> f64 {
        let counts = &phase.counts;
        self.machine.own.product(counts.upload, counts.layer).cpu
    }

    /// The client's work of a step over that of the same step in integers at the client alone.
    fn client_work_ratio(&self) -> f64 {
        let own = &self.machine.own;
        self.prediction.client_cpu / (own.rest.cpu + own.products_cpu())
    }

    /// Where the parties are, in words.
    pub(super) fn place(&self) -> String {
        match self.prediction.hosts {
            Hosts::Shared { cores } => format!("both parties on {cores} cores of this machine"),
            Hosts::Apart {
                cores,
                bits_per_second,
                round_trip,
            } => format!(
                "two machines of {cores} cores like these, {} Mbit/s and {} ms between them",
                bits_per_second / 1e6,
                round_trip * 1e3
            ),
        }
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new([
            "layer", "uploads", "primes", "up", "down", "products", "MB up", "MB down", "server s",
            "client s", "seconds", "alone s", "ratio",
        ]);
        let megabytes = |bytes: usize| format!("{:.1}", bytes as f64 / 1e6);
        let seconds = |seconds: f64| format!("{seconds:.3}");
        for phase in &self.prediction.phases {
            let counts = &phase.counts;
            table.row(
                counts.layer.to_string(),
                [
                    upload(counts.upload).to_owned(),
                    (counts.level + 1).to_string(),
                    counts.uploads.to_string(),
                    counts.downloads.to_string(),
                    counts.products.to_string(),
                    megabytes(counts.bytes_up),
                    megabytes(counts.bytes_down),
                    seconds(phase.cpu.server),
                    seconds(phase.cpu.client),
                    seconds(phase.seconds),
                    seconds(self.alone(phase)),
                    format!("{:.1}", phase.cpu.client / self.alone(phase)),
                ],
            );
        }
        let (up, down) = self.bytes();
        table.row(
            "all",
            [
                String::new(),
                String::new(),
                self.sum(|p| p.counts.uploads).to_string(),
                self.sum(|p| p.counts.downloads).to_string(),
                self.sum(|p| p.counts.products).to_string(),
                megabytes(up),
                megabytes(down),
                seconds(self.sum(|p| p.cpu.server)),
                seconds(self.sum(|p| p.cpu.client)),
                seconds(self.sum(|p| p.seconds)),
                seconds(self.sum(|p| self.alone(p))),
                format!(
                    "{:.1}",
                    self.sum(|p| p.cpu.client) / self.sum(|p| self.alone(p))
                ),
            ],
        );
        table
    }

    /// Wall seconds by phase, and the processor time of both parties.
    pub(super) fn summary(&self) -> Table {
        let mut table = Table::new(["phase", "seconds"]);
        for (name, seconds) in named(&self.prediction.seconds) {
            table.row(name, [format!("{seconds:.3}")]);
        }
        let total = self.prediction.seconds.total();
        table.row("step", [format!("{total:.3}")]);
        table.row("client CPU", [format!("{:.3}", self.prediction.client_cpu)]);
        table.row(
            "client CPU / that of the client alone on the grid",
            [format!("{:.1}", self.client_work_ratio())],
        );
        table.row("server CPU", [format!("{:.3}", self.prediction.server_cpu)]);
        table
    }

    pub(super) fn object(&self) -> Value {
        let phases = self.prediction.phases.iter().map(|phase| {
            json!({
                "counts": phase.counts,
                "seconds": phase.cpu,
                "wall_seconds": phase.seconds,
                "alone_seconds": self.alone(phase),
                "client_work_ratio": phase.cpu.client / self.alone(phase),
            })
        });
        let (bytes_up, bytes_down) = self.bytes();
        let seconds = named(&self.prediction.seconds).into_iter();
        let seconds = seconds.map(|(name, seconds)| (name.to_owned(), seconds.into()));
        json!({
            "hosts": self.prediction.hosts,
            "phases": phases.collect::<Vec<_>>(),
            "unit_seconds": self.machine.units,
            "layer_unit_seconds": self.machine.phases,
            "own_arithmetic": self.machine.own,
            "bytes_up": bytes_up,
            "bytes_down": bytes_down,
            "phase_seconds": seconds.collect::<serde_json::Map<String, Value>>(),
            "seconds_per_step": self.prediction.seconds.total(),
            "server_cpu_s": self.prediction.server_cpu,
            "client_cpu_s": self.prediction.client_cpu,
            "client_work_ratio_on_the_grid": self.client_work_ratio(),
            "client_ciphertexts_cpu_s": self.sum(|p| p.cpu.client),
        })
    }
}
