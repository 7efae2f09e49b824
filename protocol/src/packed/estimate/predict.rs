//! From the time of each kind of work to the time of a step.
//!
//! In an exchange client and server work at once, and the cores of one machine are busy, except
//! while results are read: that is the work of one thread, and the server sends the results of a
//! group before it takes more uploads. On two machines, the slowest of client, server and the two directions of the wire decides,
//! after the first group has been encrypted and has arrived.

use serde::{Deserialize, Serialize};

use super::{Calibration, PhaseCounts, PhaseTime};
use crate::packed::Upload;
use crate::plan::Plan;

/// Seconds of drawing the noise of one parameter, while the server takes the update before, and of
/// adding it: as recorded runs have it.
const NOISE: f64 = 40e-9;
const ADDING: f64 = 6e-9;

/// Where the parties are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "parties")]
pub enum Hosts {
    /// On one machine, whose cores they share.
    Shared {
        /// Its cores.
        cores: usize,
    },
    /// Each on a machine of its own.
    Apart {
        /// Cores of each.
        cores: usize,
        /// Bits per second of the wire, each way.
        bits_per_second: f64,
        /// Seconds of one round trip.
        round_trip: f64,
    },
}

/// Wall seconds of a step, phase by phase, as a run measures them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSeconds {
    /// Exchanges of inputs for `W x`.
    pub forward: f64,
    /// Exchanges of output gradients for `W^T d`.
    pub backward: f64,
    /// Exchanges of clipped output gradients for sums of gradients.
    pub gradient: f64,
    /// Sending the released update until the server confirms it.
    pub update: f64,
    /// Noise.
    pub release: f64,
    /// The client alone: activations, loss, norms, clipping.
    pub rest: f64,
}

impl StepSeconds {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.forward + self.backward + self.gradient + self.update + self.release + self.rest
    }

    fn of_mut(&mut self, upload: Upload) -> &mut f64 {
        match upload {
            Upload::Activation => &mut self.forward,
            Upload::OutputGradient => &mut self.backward,
            Upload::ClippedGradient => &mut self.gradient,
        }
    }
}

/// One phase of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseForecast {
    /// What is counted.
    pub counts: PhaseCounts,
    /// Processor seconds of both parties.
    pub cpu: PhaseTime,
    /// Wall seconds.
    pub seconds: f64,
}

/// What a step will take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Where the parties are.
    pub hosts: Hosts,
    /// Every phase of every layer, in the order of the script.
    pub phases: Vec<PhaseForecast>,
    /// Wall seconds.
    pub seconds: StepSeconds,
    /// Processor seconds of the client.
    pub client_cpu: f64,
    /// Processor seconds of the server.
    pub server_cpu: f64,
}

impl Prediction {
    /// Of a step of `plan`, whose phases are `counts`.
    #[must_use]
    pub fn new(plan: &Plan, counts: &[PhaseCounts], machine: &Calibration, hosts: Hosts) -> Self {
        let mut seconds = StepSeconds::default();
        let mut all = PhaseTime::default();
        let mut phases = Vec::with_capacity(counts.len());
        for (at, counts) in counts.iter().enumerate() {
            let mut cpu = machine.of(at, counts);
            let mut wall = 0.0;
            if counts.uploads > 0 {
                wall = exchange(counts, cpu, (machine, at), hosts);
            }
            if counts.local {
                let own = machine.own.product(counts.upload, counts.layer);
                (cpu.client, wall) = (cpu.client + own.cpu, wall + own.seconds);
            }
            *seconds.of_mut(counts.upload) += wall;
            all += cpu;
            phases.push(PhaseForecast {
                counts: *counts,
                cpu,
                seconds: wall,
            });
        }
        let parameters = plan.network().parameter_count() as f64;
        seconds.release = ADDING * parameters;
        // Where others use the machine too, the clock on the wall says more than the work takes.
        seconds.rest = machine.own.rest.seconds.min(machine.own.rest.cpu);
        let update = update(plan, machine);
        let drawing = NOISE * parameters;
        seconds.update = update.client + hosts.both(update.server + hosts.round_trip(), drawing);
        all += update;
        Self {
            hosts,
            phases,
            seconds,
            client_cpu: all.client + machine.own.rest.cpu + seconds.release + drawing,
            server_cpu: all.server,
        }
    }
}

impl Hosts {
    /// Seconds of two pieces of work of one thread each, one at either party, at the same time.
    const fn both(self, server: f64, client: f64) -> f64 {
        match self {
            Self::Shared { cores: 1 } => server + client,
            _ => server.max(client),
        }
    }

    const fn round_trip(self) -> f64 {
        match self {
            Self::Shared { .. } => 0.0,
            Self::Apart { round_trip, .. } => round_trip,
        }
    }
}

/// The released update and the biases.
fn update(plan: &Plan, machine: &Calibration) -> PhaseTime {
    let units = &machine.units;
    let (parts, bytes) = (plan.bias_parts() as f64, 4.0 * plan.weight_count() as f64);
    PhaseTime {
        server: parts * units.take[1] + bytes * units.byte[1],
        client: parts * units.encrypt[1] + bytes * units.byte[0],
    }
}

/// Wall seconds of one exchange.
fn exchange(
    counts: &PhaseCounts,
    cpu: PhaseTime,
    (machine, at): (&Calibration, usize),
    hosts: Hosts,
) -> f64 {
    let opening = machine.units.opening(counts, machine.each(at, counts));
    // One thread reads all results, one after the other.
    let reading = counts.downloads as f64 * opening;
    let tail = counts.last as f64 * opening;
    match hosts {
        Hosts::Shared { cores } => {
            // The server sends the results of a group before it takes more uploads.
            (cpu.client + cpu.server - reading).max(0.0) / cores as f64 + reading
        }
        Hosts::Apart {
            cores,
            bits_per_second,
            round_trip,
        } => {
            let cores = cores as f64;
            let wire = |bytes: usize| 8.0 * bytes as f64 / bits_per_second;
            let slowest = (cpu.client / cores)
                .max(cpu.server / cores)
                .max(wire(counts.bytes_up))
                .max(wire(counts.bytes_down));
            // The first group goes up before anything is computed, the last comes down after.
            let share = counts.last as f64 / counts.downloads.max(1) as f64;
            let ends = share.min(0.5) * (wire(counts.bytes_up) + wire(counts.bytes_down));
            slowest.max(reading) + tail + ends.min(slowest) + round_trip
        }
    }
}
