//! The random streams of a run, and noise that was drawn ahead of its step.
//!
//! Noise is drawn before the data of its step are touched; while an engine waits for its server to take
//! an update, that of the next step can be drawn as well. The draws keep their order, so a seeded run is
//! the same, bit for bit, whether its noise was drawn ahead or not; and a checkpoint says where the stream stood
//! *before* noise that no release has used, so a run that goes on draws it again, or, from secret
//! streams, draws other noise. Noise is kept in memory only and wiped when it is dropped.

use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sphinx_dp::mechanism::GaussianMechanism;
use sphinx_dp::noise::PreparedNoise;

/// Where the streams of a seeded run stand, in words drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPosition {
    pub(super) sampling: u128,
    pub(super) noise: u128,
}

/// The random streams of one run. Same streams, same batches, same noise.
#[derive(Debug)]
pub struct Streams {
    pub(super) sampling: ChaCha20Rng,
    noise: ChaCha20Rng,
    seeded: bool,
}

impl Streams {
    /// Streams from one generator; give it operating-system randomness to protect data.
    pub fn secret<R: rand_core::CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self {
            sampling: ChaCha20Rng::from_rng(rng),
            noise: ChaCha20Rng::from_rng(rng),
            seeded: false,
        }
    }

    /// Reproducible streams for experiments and tests. Noise from a known seed protects nothing,
    /// and the privacy statement says so.
    #[must_use]
    pub fn seeded_for_experiments(seed: u64) -> Self {
        let mut root = ChaCha20Rng::seed_from_u64(seed ^ 0x5350_4849_4e58);
        Self {
            seeded: true,
            ..Self::secret(&mut root)
        }
    }

    /// The streams of [`Self::seeded_for_experiments`] where they stood.
    #[must_use]
    pub fn resume_seeded(seed: u64, position: &StreamPosition) -> Self {
        let mut streams = Self::seeded_for_experiments(seed);
        streams.sampling.set_word_pos(position.sampling);
        streams.noise.set_word_pos(position.noise);
        streams
    }

    /// Where the streams stand, if their seed is known. Secret streams have no position: nobody
    /// may go on with them.
    #[must_use]
    pub fn position(&self) -> Option<StreamPosition> {
        self.seeded.then(|| StreamPosition {
            sampling: self.sampling.get_word_pos(),
            noise: self.noise.get_word_pos(),
        })
    }

    /// The noise of one release; from a known seed it is marked as such in the ledger.
    pub(super) fn noise(&mut self, mechanism: &GaussianMechanism, len: usize) -> PreparedNoise {
        if !self.seeded {
            return mechanism.prepare(len, &mut self.noise);
        }
        let mut seed = [0; 32];
        self.noise.fill_bytes(&mut seed);
        mechanism.prepare_seeded(len, seed)
    }

    /// Whether the streams come from a known seed.
    #[must_use]
    pub const fn is_seeded(&self) -> bool {
        self.seeded
    }
}

/// The noise of the next step, if it has been drawn.
#[derive(Debug, Default)]
pub(super) struct Ahead(Option<Drawn>);

#[derive(Debug)]
struct Drawn {
    noise: PreparedNoise,
    /// Where the streams stood before it was drawn.
    before: Option<StreamPosition>,
}

impl Ahead {
    /// The noise, for one use.
    pub(super) fn take(&mut self) -> Option<PreparedNoise> {
        self.0.take().map(|drawn| drawn.noise)
    }

    /// Where a run that goes on from here finds its streams: before noise that nothing has used.
    pub(super) fn position(&self, streams: &Streams) -> Option<StreamPosition> {
        let now = streams.position()?;
        Some(match &self.0 {
            Some(Drawn {
                before: Some(before),
                ..
            }) => StreamPosition {
                noise: before.noise,
                ..now
            },
            _ => now,
        })
    }
}

impl Streams {
    /// Draws the noise of the next step while `work` runs on this thread: the noise, the seconds of
    /// drawing it, and what `work` gave. Without a thread to be had there is no noise.
    pub(super) fn noise_meanwhile<T>(
        &mut self,
        mechanism: &GaussianMechanism,
        len: usize,
        work: impl FnOnce() -> T,
    ) -> (Ahead, f64, T) {
        let before = self.position();
        std::thread::scope(|scope| {
            let draw = move || {
                let start = Instant::now();
                let noise = self.noise(mechanism, len);
                (noise, start.elapsed().as_secs_f64())
            };
            let thread = std::thread::Builder::new().name("sphinx-noise".into());
            let drawer = thread.spawn_scoped(scope, draw);
            let done = work();
            match drawer.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok((noise, seconds))) => (Ahead(Some(Drawn { noise, before })), seconds, done),
                _ => (Ahead::default(), 0.0, done),
            }
        })
    }
}

#[cfg(test)]
mod tests;
