//! Encryptions of zero, prepared ahead and refilled in the background.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cpu_time::ThreadTime;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use rayon::prelude::*;
use sphinx_he::ckks::SeededZero;
use sphinx_he::rlwe::SecretKey;

use super::TOP;
use crate::error::Error;

/// A pool of encryptions of zero under one key.
///
/// [`Self::fill`] makes all of them before the first step; a thread makes one for each that is taken. Whoever finds
/// the pool empty makes one on the spot, which [`Self::made_on_the_spot`] counts.
#[derive(Debug)]
pub struct Zeros {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    secret: Arc<SecretKey>,
    ready: Mutex<Vec<SeededZero>>,
    taken: Condvar,
    wanted: usize,
    stop: AtomicBool,
    seeds: Mutex<ChaCha20Rng>,
    spot: AtomicU64,
    background_ns: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn make(&self) -> Result<SeededZero, Error> {
        let mut seed = [0; 32];
        lock(&self.seeds).fill_bytes(&mut seed);
        let mut rng = ChaCha20Rng::from_seed(seed);
        Ok(SeededZero::new(&self.secret, TOP, &mut rng)?)
    }

    /// Refills until told to stop.
    fn refill(&self) {
        loop {
            let ready = lock(&self.ready);
            // Looked at under the lock, so that the end's wake-up cannot come before the wait.
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if ready.len() >= self.wanted {
                // Woken by whoever takes one, or by the end.
                drop(self.taken.wait(ready));
                continue;
            }
            drop(ready);
            let start = ThreadTime::now();
            let Ok(zero) = self.make() else { return };
            lock(&self.ready).push(zero);
            let spent = start.elapsed().as_nanos() as u64;
            self.background_ns.fetch_add(spent, Ordering::Relaxed);
        }
    }
}

impl Zeros {
    /// An empty pool of up to `wanted`.
    #[must_use]
    pub fn new<R: CryptoRng + ?Sized>(secret: &Arc<SecretKey>, wanted: usize, rng: &mut R) -> Self {
        let shared = Arc::new(Shared {
            secret: Arc::clone(secret),
            ready: Mutex::new(Vec::with_capacity(wanted)),
            taken: Condvar::new(),
            wanted,
            stop: AtomicBool::new(false),
            seeds: Mutex::new(ChaCha20Rng::from_rng(rng)),
            spot: AtomicU64::new(0),
            background_ns: AtomicU64::new(0),
        });
        Self {
            shared,
            worker: None,
        }
    }

    /// Makes all that are wanted, on all cores, then starts the thread that refills.
    ///
    /// # Errors
    /// [`Error::Transport`] if there is no thread to be had.
    pub fn fill(&mut self) -> Result<(), Error> {
        let missing = self
            .shared
            .wanted
            .saturating_sub(lock(&self.shared.ready).len());
        let made = (0..missing)
            .into_par_iter()
            .map(|_| self.shared.make())
            .collect::<Result<Vec<_>, _>>()?;
        lock(&self.shared.ready).extend(made);
        if self.worker.is_none() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("sphinx-zeros".into());
            self.worker = Some(thread.spawn(move || shared.refill())?);
        }
        Ok(())
    }

    /// One encryption of zero; made on the spot if none is ready.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn take(&self) -> Result<SeededZero, Error> {
        let ready = lock(&self.shared.ready).pop();
        self.shared.taken.notify_one();
        if let Some(zero) = ready {
            return Ok(zero);
        }
        self.shared.spot.fetch_add(1, Ordering::Relaxed);
        self.shared.make()
    }

    /// How many are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        lock(&self.shared.ready).len()
    }

    /// How many were not ready when they were wanted.
    #[must_use]
    pub fn made_on_the_spot(&self) -> u64 {
        self.shared.spot.load(Ordering::Relaxed)
    }

    /// CPU seconds of the thread that refills: offline work, part of the client's CPU time all the
    /// same.
    #[must_use]
    pub fn background_cpu_seconds(&self) -> f64 {
        self.shared.background_ns.load(Ordering::Relaxed) as f64 * 1e-9
    }
}

impl Drop for Zeros {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Once the lock was had, the thread waits or will see the flag.
        drop(lock(&self.shared.ready));
        self.shared.taken.notify_all();
        if let Some(worker) = self.worker.take() {
            // A panic in the thread has been printed.
            let _ = worker.join();
        }
    }
}
