//! Encryptions of zero, made ahead and each used once, for the clients of [`packed`](crate::packed) and
//! [`paper`](crate::paper).
//!
//! An upload costs the client a mask, an error, and transforms of both; all of that can be there before the
//! message is, which is then only added. A [`Zeros`] is a bounded pool of such encryptions under one key and at one
//! level. `paper` fills it before the first step and lets a thread make one for each that is taken
//! ([`Zeros::keep_full`]); `packed` fills it while it waits for the server, until a result arrives
//! (`packed/offline.rs` says when that pays).
//!
//! What must be true: an encryption serves one message. [`SeededZero`] cannot be cloned, [`Zeros::take`] hands it
//! out by value, and its randomness comes from a seed that the pool draws once. What is left is dropped with
//! the pool, whose generator is written over. What a result decodes to does not depend on how its operands were
//! encrypted, so neither does the trajectory.
//!
//! ```
//! # use std::sync::Arc;
//! use sphinx_he::ckks::Level;
//! use sphinx_he::rlwe::{Parameters, SecretKey};
//! use sphinx_protocol::paper::standard_parameters;
//! use sphinx_protocol::zeros::Zeros;
//!
//! let mut rng = rand::rng();
//! let parameters = Parameters::new(&standard_parameters())?;
//! let secret = Arc::new(SecretKey::generate(&parameters, &mut rng));
//! let zeros = Zeros::new(&secret, Level(1), 2, &mut rng);
//! zeros.fill(8, || false)?;
//! assert_eq!(zeros.ready(), 2);
//! assert!(zeros.take().is_some() && zeros.take().is_some() && zeros.take().is_none());
//! assert_eq!((zeros.hits(), zeros.misses()), (2, 1));
//! # Ok::<(), sphinx_protocol::Error>(())
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use cpu_time::ThreadTime;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use rayon::prelude::*;
use sphinx_he::ckks::{Level, SeededZero};
use sphinx_he::rlwe::SecretKey;

use crate::error::Error;

/// A pool of encryptions of zero under one key, at one level.
pub struct Zeros {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

struct Shared {
    secret: Arc<SecretKey>,
    level: Level,
    most: usize,
    pool: Mutex<Pool>,
    /// Told of every taking and of the end.
    taken: Condvar,
}

struct Pool {
    ready: Vec<SeededZero>,
    seeds: ChaCha20Rng,
    stop: bool,
    hits: u64,
    misses: u64,
    seconds: f64,
    background_s: f64,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A generator does not erase itself.
        self.seeds = ChaCha20Rng::from_seed([0; 32]);
        std::hint::black_box(&self.seeds);
    }
}

impl std::fmt::Debug for Zeros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zeros")
            .field("level", &self.shared.level)
            .field("most", &self.shared.most)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> Result<SeededZero, Error> {
        let mut seed = [0; 32];
        self.lock().seeds.fill_bytes(&mut seed);
        let mut rng = ChaCha20Rng::from_seed(seed);
        Ok(SeededZero::new(&self.secret, self.level, &mut rng)?)
    }

    /// Makes one for each that is missing, until told to stop.
    fn refill(&self) {
        let mut pool = self.lock();
        while !pool.stop {
            if pool.ready.len() >= self.most {
                pool = self
                    .taken
                    .wait(pool)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(pool);
            let start = ThreadTime::now();
            let Ok(zero) = self.make() else { return };
            pool = self.lock();
            pool.ready.push(zero);
            pool.background_s += start.elapsed().as_secs_f64();
        }
    }
}

impl Zeros {
    /// An empty pool of up to `most` encryptions at `level`.
    #[must_use]
    pub fn new<R: CryptoRng + ?Sized>(
        secret: &Arc<SecretKey>,
        level: Level,
        most: usize,
        rng: &mut R,
    ) -> Self {
        let pool = Pool {
            ready: Vec::new(),
            seeds: ChaCha20Rng::from_rng(rng),
            stop: false,
            hits: 0,
            misses: 0,
            seconds: 0.0,
            background_s: 0.0,
        };
        let shared = Arc::new(Shared {
            secret: Arc::clone(secret),
            level,
            most,
            pool: Mutex::new(pool),
            taken: Condvar::new(),
        });
        Self {
            shared,
            worker: None,
        }
    }

    /// Makes what is missing on all cores, until the pool is full or `stop` says so, which is asked before every
    /// `batch` of them.
    ///
    /// # Errors
    /// [`Error::He`] if the level is none of the key's.
    pub fn fill(&self, batch: usize, stop: impl Fn() -> bool) -> Result<(), Error> {
        let start = Instant::now();
        while !stop() {
            let missing = self.most().saturating_sub(self.ready());
            if missing == 0 {
                break;
            }
            let made = (0..missing.min(batch.max(1)))
                .into_par_iter()
                .map(|_| self.shared.make())
                .collect::<Result<Vec<_>, _>>()?;
            self.shared.lock().ready.extend(made);
        }
        self.shared.lock().seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Starts a thread that makes one for each that is missing, until the pool is dropped.
    ///
    /// # Errors
    /// [`Error::Transport`] if there is no thread to be had.
    pub fn keep_full(&mut self) -> Result<(), Error> {
        if self.worker.is_none() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("sphinx-zeros".into());
            self.worker = Some(thread.spawn(move || shared.refill())?);
        }
        Ok(())
    }

    /// One, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<SeededZero> {
        let mut pool = self.shared.lock();
        let zero = pool.ready.pop();
        match zero {
            Some(_) => pool.hits += 1,
            None => pool.misses += 1,
        }
        drop(pool);
        self.shared.taken.notify_one();
        zero
    }

    /// One; made on the spot if there is none.
    ///
    /// # Errors
    /// [`Error::He`] if the level is none of the key's.
    pub fn take_or_make(&self) -> Result<SeededZero, Error> {
        self.take().map_or_else(|| self.shared.make(), Ok)
    }

    /// How many there may be.
    #[must_use]
    pub fn most(&self) -> usize {
        self.shared.most
    }

    /// How many are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }

    /// How many were ready when they were wanted.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.shared.lock().hits
    }

    /// How many were not.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.shared.lock().misses
    }

    /// Wall seconds spent in [`Self::fill`].
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.shared.lock().seconds
    }

    /// CPU seconds of the thread that keeps the pool full: offline work, part of the client's CPU time all the
    /// same.
    #[must_use]
    pub fn background_cpu_seconds(&self) -> f64 {
        self.shared.lock().background_s
    }
}

impl Drop for Zeros {
    fn drop(&mut self) {
        // Under the lock, so that the wake-up cannot come between the thread's look at it and its wait.
        self.shared.lock().stop = true;
        self.shared.taken.notify_all();
        if let Some(worker) = self.worker.take() {
            // A panic in the thread has been printed.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sphinx_he::rlwe::Parameters;

    use super::*;
    use crate::fixture::toy;
    use crate::paper::standard_parameters;

    fn pool(level: Level, most: usize, seed: u64) -> Zeros {
        let parameters = Parameters::new(&toy(standard_parameters(), 6)).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = Arc::new(SecretKey::generate(&parameters, &mut rng));
        Zeros::new(&secret, level, most, &mut rng)
    }

    #[test]
    fn zeros_are_refilled_and_made_on_the_spot() {
        let mut zeros = pool(Level(1), 4, 3);
        zeros.take_or_make().unwrap();
        assert_eq!((zeros.ready(), zeros.hits(), zeros.misses()), (0, 0, 1));
        zeros.fill(64, || false).unwrap();
        zeros.keep_full().unwrap();
        assert_eq!(zeros.ready(), 4);
        assert!(zeros.seconds() > 0.0);
        for _ in 0..4 {
            zeros.take_or_make().unwrap();
        }
        while zeros.ready() < 4 {
            std::thread::yield_now();
        }
        assert_eq!(zeros.hits() + zeros.misses(), 5);
    }

    #[test]
    fn filling_stops_when_told_and_never_goes_over_the_bound() {
        let zeros = pool(Level(1), 20, 4);
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) == 2;
        zeros.fill(8, stop).unwrap();
        assert_eq!(zeros.ready(), 16);
        zeros.fill(8, || false).unwrap();
        zeros.fill(8, || false).unwrap();
        assert_eq!(zeros.ready(), 20);
        // A batch of nothing still goes on.
        assert!(zeros.take().is_some());
        zeros.fill(0, || false).unwrap();
        assert_eq!(zeros.ready(), 20);
    }

    #[test]
    fn a_level_that_the_key_lacks_is_an_error() {
        let zeros = pool(Level(9), 2, 5);
        assert!(matches!(zeros.fill(8, || false), Err(Error::He(_))));
        assert!(matches!(zeros.take_or_make(), Err(Error::He(_))));
        assert_eq!(zeros.ready(), 0);
    }
}
