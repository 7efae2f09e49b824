//! Encryptions of zero, made while the client waits for the server, for uploads to come.
//!
//! An upload costs the client a mask, an error, and transforms of both; all of that is there before
//! the message is. Once a phase's last upload is sent, the thread that encrypted has nothing to do
//! until the last result is decrypted: meanwhile it fills a pool of bounded size, and the next phases
//! add their messages to what is in it. Each is used once; what is left is dropped with the engine.
//!
//! It does not pay on cores that both parties share: message and
//! error are then transformed apart, which takes the client's CPU per step of `minionn-mnist` with
//! batches of 500 from 0.79 s to 0.83 s, and the step is no shorter. So, unless a number was asked for
//! ([`super::Packed::preparing`]), nothing is made ahead for a server on the same machine, nor where the
//! client waits for less time than it takes to prepare the uploads of a step.
//!
//! What a result decodes to does not depend on how its operands were encrypted, so neither does the
//! trajectory. The engine `paper` has [a pool of its own](crate::paper::Zeros), with a thread that refills it all the time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;
use sphinx_he::ckks::{Level, SeededZero};
use sphinx_he::rlwe::{Parameters, SecretKey};

use super::client::{BATCH, TOP, seed};
use crate::error::Error;

/// Memory that encryptions of zero may take where nobody said how many.
const MOST_BYTES: usize = 64 << 20;

/// Whether encryptions of zero are made ahead.
#[derive(Default)]
pub(super) enum Ahead {
    /// No.
    #[default]
    None,
    /// Not yet: it is to be seen how long the client waits.
    Undecided,
    /// Yes.
    Pool(Zeros),
}

impl Ahead {
    /// Up to so many.
    pub(super) fn of(most: usize) -> Self {
        match most {
            0 => Self::None,
            most => Self::Pool(Zeros::new(most)),
        }
    }

    /// The pool, if there is one.
    pub(super) const fn pool(&self) -> Option<&Zeros> {
        match self {
            Self::Pool(zeros) => Some(zeros),
            Self::None | Self::Undecided => None,
        }
    }

    /// All `uploads` of a step, if they can be prepared in `waited` seconds; some are, to know how
    /// long one takes.
    pub(super) fn weigh(
        waited: f64,
        uploads: usize,
        secret: &SecretKey,
        mut seeds: ChaCha20Rng,
    ) -> Result<Self, Error> {
        let zeros = Zeros::new(most(uploads, secret.parameters()));
        let enough = || zeros.lock().ready.len() >= BATCH.min(zeros.most);
        zeros.fill(secret, &mut seeds, enough)?;
        let made = zeros.lock().ready.len().max(1) as f64;
        let needed = zeros.seconds() * uploads as f64 / made;
        Ok(if uploads > 0 && needed < waited {
            Self::Pool(zeros)
        } else {
            Self::None
        })
    }
}

/// How many of `uploads` fit into [`MOST_BYTES`]: of each the one polynomial that is not a seed.
fn most(uploads: usize, parameters: &Parameters) -> usize {
    let bytes = parameters.degree() * (TOP + 1) * size_of::<u64>();
    uploads.min(MOST_BYTES / bytes.max(1))
}

/// A bounded pool of encryptions of zero at the highest level.
pub(super) struct Zeros {
    most: usize,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    ready: Vec<SeededZero>,
    seconds: f64,
}

impl Zeros {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            pool: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there may be.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// One, if there is one.
    pub(super) fn take(&self) -> Option<SeededZero> {
        self.lock().ready.pop()
    }

    /// Makes some at a time until the pool is full or `stop` says so.
    pub(super) fn fill(
        &self,
        secret: &SecretKey,
        seeds: &mut ChaCha20Rng,
        stop: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let start = Instant::now();
        while !stop() && self.lock().ready.len() < self.most {
            let seeds: Vec<[u8; 32]> = (0..BATCH).map(|_| seed(seeds)).collect();
            let made = seeds.into_par_iter().map(|seed| {
                let mut rng = ChaCha20Rng::from_seed(seed);
                SeededZero::new(secret, Level(TOP), &mut rng)
            });
            let made = made.collect::<Result<Vec<_>, _>>()?;
            self.lock().ready.extend(made);
        }
        self.lock().seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Seconds spent filling so far.
    pub(super) fn seconds(&self) -> f64 {
        self.lock().seconds
    }
}
