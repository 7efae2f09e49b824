//! Seconds of one core for each kind of work, and what they make of a phase.

use serde::{Deserialize, Serialize};

use super::PhaseCounts;
use crate::packed::Upload;

/// Degree of the ring in which [`UnitTimes::STANDARD`] was measured.
const MEASURED_DEGREE: usize = 4096;

/// Seconds of one core for each kind of work while the other cores do the same, at each level or
/// degree where they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitTimes {
    /// Client: an upload at level 0 and at level 1.
    pub encrypt: [f64; 2],
    /// Client: a number put into its place.
    pub pack: f64,
    /// Client: a result of degree 1 and of degree 2, without the numbers in it.
    pub decrypt: [f64; 2],
    /// Client: a number read from a result.
    pub read: f64,
    /// Server: taking an upload at level 0 and at level 1.
    pub take: [f64; 2],
    /// Server: a product with weights at level 0 and at level 1.
    pub weigh: [f64; 2],
    /// Server: a product of an integer and a ciphertext at level 0 and at level 1.
    pub scale: [f64; 2],
    /// Server: a product of two ciphertexts.
    pub multiply: f64,
    /// Server: a weight polynomial at level 0 and at level 1.
    pub prepare: [f64; 2],
    /// Server: a result of degree 1 from level 0 and from level 1, and of degree 2, without the
    /// numbers in it.
    pub finish: [f64; 3],
    /// Server: a number selected from a result.
    pub select: f64,
    /// A byte of a message written to a socket, and one read from it.
    pub byte: [f64; 2],
    /// Client: a multiplication of a product that it keeps to itself.
    pub own: f64,
}

/// Seconds of one core for the kinds of work that depend on the layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseUnits {
    /// Server: a product.
    pub product: f64,
    /// Client: a number put into its place.
    pub pack: f64,
    /// Client: a number read from a result.
    pub read: f64,
    /// Server: a number selected from a result.
    pub select: f64,
}

/// Seconds of one core that a phase takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// At the server.
    pub server: f64,
    /// At the client, without its own arithmetic.
    pub client: f64,
}

impl std::ops::AddAssign for PhaseTime {
    fn add_assign(&mut self, other: Self) {
        self.server += other.server;
        self.client += other.client;
    }
}

impl UnitTimes {
    /// Rounded from calibrations of one machine (AMD EPYC, AVX-512, 2 cores; N = 4096; what a sum
    /// costs besides its products counted with `finish`, room for an upload with `take`): the prices
    /// by which layouts are chosen unless another machine's are given. Constants, so that equal
    /// choices give equal plans everywhere.
    pub const STANDARD: Self = Self {
        encrypt: [35e-6, 70e-6],
        pack: 2e-9,
        decrypt: [17e-6, 28e-6],
        read: 8e-9,
        take: [30e-6, 150e-6],
        weigh: [0.6e-6, 1.2e-6],
        scale: [0.6e-6, 1.2e-6],
        multiply: 4e-6,
        prepare: [8e-6, 21e-6],
        finish: [20e-6, 36e-6, 60e-6],
        select: 4e-9,
        byte: [0.11e-9, 0.3e-9],
        own: 0.15e-9,
    };

    /// These times in a ring of another degree than 4096: transforms grow by `N log N`, what is
    /// counted by numbers or bytes does not change.
    #[must_use]
    pub fn at_degree(&self, degree: usize) -> Self {
        let longer = degree as f64 / MEASURED_DEGREE as f64;
        let transforms = longer * (degree as f64).log2() / (MEASURED_DEGREE as f64).log2();
        Self {
            encrypt: self.encrypt.map(|t| t * transforms),
            decrypt: self.decrypt.map(|t| t * transforms),
            take: self.take.map(|t| t * transforms),
            weigh: self.weigh.map(|t| t * longer),
            scale: self.scale.map(|t| t * longer),
            multiply: self.multiply * longer,
            prepare: self.prepare.map(|t| t * transforms),
            finish: self.finish.map(|t| t * transforms),
            ..*self
        }
    }

    /// Seconds of one product of a phase.
    #[must_use]
    pub const fn product(&self, phase: &PhaseCounts) -> f64 {
        match phase.upload {
            Upload::ClippedGradient => self.multiply,
            _ if phase.scalar => self.scale[phase.level],
            _ => self.weigh[phase.level],
        }
    }

    /// The time of one phase.
    #[must_use]
    pub fn of(&self, phase: &PhaseCounts) -> PhaseTime {
        self.with(phase, self.each(phase))
    }

    /// What depends on the layer, as it is on average.
    pub(super) const fn each(&self, phase: &PhaseCounts) -> PhaseUnits {
        PhaseUnits {
            product: self.product(phase),
            pack: self.pack,
            read: self.read,
            select: self.select,
        }
    }

    /// The time of one phase.
    pub(super) fn with(&self, phase: &PhaseCounts, each: PhaseUnits) -> PhaseTime {
        let level = phase.level;
        let (finish, decrypt) = match phase.upload {
            Upload::ClippedGradient => (self.finish[2], self.decrypt[1]),
            _ => (self.finish[level], self.decrypt[0]),
        };
        let [uploads, downloads] = [phase.uploads, phase.downloads].map(|n| n as f64);
        let [up, down] = [phase.bytes_up, phase.bytes_down].map(|n| n as f64);
        let [packed, read] = [phase.values_up, phase.values_down].map(|n| n as f64);
        let [sent, received] = self.byte;
        PhaseTime {
            server: uploads * self.take[level]
                + up * received
                + phase.weights as f64 * self.prepare[level]
                + phase.products as f64 * each.product
                + downloads * finish
                + read * each.select
                + down * sent,
            client: uploads * self.encrypt[level]
                + packed * each.pack
                + up * sent
                + down * received
                + downloads * decrypt
                + read * each.read,
        }
    }

    /// Client seconds from the arrival of one result to its last number.
    pub(super) fn opening(&self, phase: &PhaseCounts, each: PhaseUnits) -> f64 {
        let decrypt = self.decrypt[usize::from(phase.upload == Upload::ClippedGradient)];
        let [down, read] = [phase.bytes_down, phase.values_down].map(|n| n as f64);
        decrypt + (down * self.byte[1] + read * each.read) / phase.downloads.max(1) as f64
    }
}
