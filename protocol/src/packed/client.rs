//! The client's half: encrypt, send, receive, decrypt; and the model's replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use rayon::prelude::*;
use sphinx_dp::mechanism::Noised;
use sphinx_he::ckks::SeededZero;
use sphinx_he::exact::{Encoding, Plaintext, SeededCiphertext};
use sphinx_he::rlwe::{Parameters, SecretKey};

use super::layout::Layout;
use super::offline::Ahead;
use super::pace::{PhaseWork, Stopwatch, phases};
use super::verify::{Linear, Verifier};
use super::{Upload, places, script, tile_places, transposed};
use crate::error::Error;
use crate::format::Integers;
use crate::grid::{ClippedLayer, Forward, Multiplier, layer_sum, pull_back};
use crate::link::{Link, unexpected};
use crate::message::{ModelId, Place, Returned, Sealed, ToClient, ToServer};
use crate::model::{Change, Replica, Snapshot};
use crate::plan::{GridPlan, Phase, Plan, Return, Tightness};
use crate::zeros::Zeros;

/// The level at which everything is uploaded: both primes.
pub(super) const TOP: usize = 1;

/// Wall seconds of the last step, phase by phase, as the client sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseTimes {
    /// Encrypting inputs, the server's `W x`, decrypting; all overlapped.
    pub forward: f64,
    /// The same for `W^T d`.
    pub backward: f64,
    /// The same for the clipped gradient sums.
    pub gradient: f64,
    /// Sending the noised update and the encrypted biases, until the server confirms.
    pub update: f64,
    /// Checking what the server returned, if it is checked; in none of the others.
    pub verify: f64,
}

/// A multiplier whose products the server computes on ciphertexts.
pub struct Packed {
    link: Link,
    plan: Plan,
    /// None once a check has failed.
    secrets: Option<Secrets>,
    replica: Replica,
    verifier: Option<Verifier<ChaCha20Rng>>,
    zeros: Ahead,
    mark: Option<Mark>,
    /// The weights of this step.
    weights: Arc<Snapshot>,
    /// Of the weights of this step.
    tightness: Vec<Tightness>,
    times: PhaseTimes,
    /// In the order of the script.
    work: Vec<PhaseWork>,
}

/// Keeps a record of a failed check.
type Mark = Box<dyn FnOnce(&Error) + Send>;

/// What decrypts: gone with the first failed check.
struct Secrets {
    /// Shared with the pool of encryptions of zero alone.
    key: Arc<SecretKey>,
    seeds: ChaCha20Rng,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Packed {
    /// Opens the model at the server and brings it to where `replica` stands.
    ///
    /// `rng` draws the secret key and seeds all encryption; give it operating-system randomness.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::VersionMismatch`] if the server holds other weights, or
    /// [`Error::OtherGrids`] if `replica` is not of this plan.
    pub fn open<R: CryptoRng + ?Sized>(
        mut link: Link,
        id: ModelId,
        plan: &Plan,
        replica: Replica,
        rng: &mut R,
    ) -> Result<Self, Error> {
        if replica.public().plan() != plan.grid() {
            return Err(Error::OtherGrids);
        }
        let plan = plan.clone();
        let mut standing = link.open(id, &plan)?;
        if let Some((step, gradient)) = replica.last_update()
            && standing.step == step
        {
            // The connection was lost between our update and the server's: the same bytes again.
            link.send(&ToServer::Update { step, gradient })?;
            standing = link.standing()?;
        }
        // A fresh model there: ours is further, or began at other weights.
        if standing.step == 0 && standing.version != replica.public().version() {
            link.send(&ToServer::LoadModel(replica.public().export()))?;
            standing = link.standing()?;
        }
        let ours = replica.public().version();
        if standing.version != ours {
            return Err(Error::VersionMismatch {
                ours,
                theirs: standing.version,
            });
        }
        super::keep_freed_memory();
        let work = phases(&plan).into_iter();
        let work = work.map(|(u, layer)| PhaseWork::new(u, layer)).collect();
        let secrets = Secrets {
            key: Arc::new(SecretKey::generate(plan.parameters(), rng)),
            seeds: ChaCha20Rng::from_rng(rng),
        };
        let mut packed = Self {
            link,
            plan,
            secrets: Some(secrets),
            verifier: None,
            zeros: Ahead::None,
            mark: None,
            weights: replica.public().snapshot(),
            replica,
            tightness: Vec::new(),
            times: PhaseTimes::default(),
            work,
        };
        packed.send_biases(&packed.replica.master_biases())?;
        packed.link.confirm(packed.replica.public().version())?;
        Ok(packed)
    }

    /// Checks every product from here on ([the checks](super#checks)); their randomness is the
    /// operating system's.
    ///
    /// A failed check ends the run for good: the key is destroyed, the connection closed without
    /// another word, and every call from then on gives [`Error::Stopped`].
    #[must_use]
    pub fn verifying(mut self) -> Self {
        self.verifier = Some(Verifier::new(ChaCha20Rng::from_rng(&mut rand::rng())));
        self
    }

    /// Calls `mark` if a check fails, before anything else is done: before the connection is closed
    /// and the key erased, so before anyone can see that it failed. What `mark` has written durably then
    /// outlives the process, whenever it is killed.
    #[must_use]
    pub fn marking(mut self, mark: impl FnOnce(&Error) + Send + 'static) -> Self {
        self.mark = Some(Box::new(mark));
        self
    }

    /// Makes up to `most` encryptions of zero while it waits for the server, for uploads to come.
    #[must_use]
    pub fn preparing(mut self, most: usize) -> Self {
        if let Some(Secrets { key, seeds }) = &mut self.secrets {
            self.zeros = Ahead::of(most, key, seeds);
        }
        self
    }

    /// As [`Self::preparing`], if it pays: the server must be on another machine, whose work leaves the
    /// cores of this one idle, and the waiting measured in the first two steps must be longer
    /// than it takes to prepare all uploads of a step. Then so many are kept ready, in 64 MiB at most.
    #[must_use]
    pub fn preparing_if_idle(mut self) -> Self {
        if !self.link.is_beside() {
            self.zeros = Ahead::Undecided;
        }
        self
    }

    /// Encryptions of zero that are kept ready.
    #[must_use]
    pub fn prepares(&self) -> usize {
        self.zeros.pool().map_or(0, Zeros::most)
    }

    /// Seconds spent making encryptions of zero while waiting.
    #[must_use]
    pub fn offline_seconds(&self) -> f64 {
        self.zeros.pool().map_or(0.0, Zeros::seconds)
    }

    /// Decides about encryptions of zero once two steps have shown how long the client waits.
    fn weigh_waiting(&mut self) -> Result<(), Error> {
        let steps = self.work.iter().map(|w| w.steps).min().unwrap_or(0);
        if !matches!(self.zeros, Ahead::Undecided) || steps < 2 {
            return Ok(());
        }
        let waited: f64 = self.work.iter().map(PhaseWork::waited_s).sum();
        // Those that would go over an encryption of zero in a step like the last.
        let over_zero = |(upload, at): &(Upload, Place)| {
            let layer = usize::from(at.layer);
            let passage = self.plan.passage(*upload, layer, self.tightness[layer]);
            passage.level == TOP
        };
        let uploads = script(&self.plan).into_iter().filter(over_zero).count();
        let Secrets { key, seeds } = self.secrets.as_mut().ok_or(Error::Stopped)?;
        self.zeros = Ahead::weigh(waited / steps as f64, uploads, key, seeds)?;
        Ok(())
    }

    /// Whether a check has failed, so that nothing more can be done.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.secrets.is_none()
    }

    fn stop(&mut self, error: Error) -> Error {
        // The record first: whatever happens next can be seen from outside.
        if let Some(mark) = self.mark.take() {
            mark(&error);
        }
        // The key is erased when dropped, by the last who holds it. A generator has no such manners: it is written over.
        self.zeros = Ahead::None;
        if let Some(mut secrets) = self.secrets.take() {
            secrets.seeds = ChaCha20Rng::from_seed([0; 32]);
            std::hint::black_box(&secrets.seeds);
        }
        self.verifier = None;
        self.link.abandon();
        error
    }

    /// Goes on only if `accepts`, or if nothing is checked.
    fn check(
        &mut self,
        (layer, phase): (usize, Phase),
        accepts: impl FnOnce(&mut Verifier<ChaCha20Rng>, &Linear<'_>, i32) -> bool,
    ) -> Result<(), Error> {
        let Some(verifier) = &mut self.verifier else {
            return Ok(());
        };
        let start = Instant::now();
        let format = &self.plan.formats()[layer];
        let linear = Linear {
            shape: self.plan.network().linears()[layer],
            weights: self.weights.layer(layer),
            limit: format.w_limit,
        };
        let accepted = accepts(verifier, &linear, format.x_limit);
        self.times.verify += start.elapsed().as_secs_f64();
        if accepted {
            return Ok(());
        }
        Err(self.stop(Error::WrongProduct { layer, phase }))
    }

    /// Times of the last step.
    #[must_use]
    pub const fn times(&self) -> PhaseTimes {
        self.times
    }

    /// What every phase of every layer took at both ends, over the steps done so far, in the order of
    /// the script. Asks the server, between steps.
    ///
    /// # Errors
    /// The errors of the wire, [`Error::Stopped`].
    pub fn phase_work(&mut self) -> Result<Vec<PhaseWork>, Error> {
        if self.is_stopped() {
            return Err(Error::Stopped);
        }
        self.link.send(&ToServer::FetchPhases)?;
        let mut work = self.work.clone();
        match self.link.receive()? {
            // Before its first step the server has nothing to say.
            ToClient::Phases(server) if server.len() == work.len() || server.is_empty() => {
                for (work, server) in work.iter_mut().zip(server) {
                    work.server_cpu_s = server.cpu;
                    work.server_busy_s = server.busy;
                }
                Ok(work)
            }
            other => Err(unexpected("the time of every phase", &other)),
        }
    }

    /// The connection.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Ends training; gives the CPU seconds of the server and the replica.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn close(self) -> Result<(f64, Replica), Error> {
        if self.is_stopped() {
            return Err(Error::Stopped);
        }
        Ok((self.link.close()?, self.replica))
    }

    /// Decrypts the server's backup of the biases: the sum of all encrypted changes.
    ///
    /// # Errors
    /// The errors of the wire, or of a backup that does not decode; if products are checked,
    /// [`Error::WrongBackup`] for a backup that is not the biases.
    pub fn fetch_biases(&mut self) -> Result<Vec<i64>, Error> {
        let secret = &self.secrets.as_ref().ok_or(Error::Stopped)?.key;
        self.link.send(&ToServer::FetchBiases)?;
        let mut biases = Vec::with_capacity(self.plan.bias_count());
        for expected in 0..self.plan.bias_parts() as u32 {
            match self.link.receive()? {
                ToClient::Biases { part, backup } if part == expected => {
                    let positions = self.plan.bias_positions(part);
                    let form = self.plan.backup_return();
                    biases.extend(open_result(&backup, &positions, form, secret)?);
                }
                other => return Err(unexpected("the next part of the biases", &other)),
            }
        }
        if self.verifier.is_some() && biases != self.replica.master_biases() {
            return Err(self.stop(Error::WrongBackup));
        }
        Ok(biases)
    }

    fn send_biases(&mut self, changes: &[i64]) -> Result<(), Error> {
        let degree = self.plan.parameters().degree();
        let Secrets { key, seeds } = self.secrets.as_mut().ok_or(Error::Stopped)?;
        for (part, values) in changes.chunks(degree).enumerate() {
            let seed = seed(seeds);
            let encoding = self.plan.bias_encoding();
            let change = encrypt(self.plan.parameters(), key, values, encoding, seed)?;
            self.link.send(&ToServer::BiasUpdate {
                part: part as u32,
                change,
            })?;
        }
        Ok(())
    }

    /// One phase of one layer: encrypt and send every tile, take every result.
    fn phase(
        &mut self,
        upload: Upload,
        layer: usize,
        pack: impl Fn(&Layout, usize, usize) -> Vec<i64> + Sync,
        mut place: impl FnMut(&Layout, &[i64], usize, usize),
    ) -> Result<(), Error> {
        let layout = self.plan.layout(upload, layer);
        let passage = self.plan.passage(upload, layer, self.tightness[layer]);
        let message = match upload {
            Upload::Activation => ToServer::Activation,
            Upload::OutputGradient => ToServer::OutputGradient,
            Upload::ClippedGradient => ToServer::ClippedGradient,
        };
        let uploads = places(&self.plan, upload, layer);
        let Secrets { key, seeds } = self.secrets.as_mut().ok_or(Error::Stopped)?;
        let zeros = self.zeros.pool();
        let seeds: Vec<[u8; 32]> = uploads.iter().map(|_| seed(seeds)).collect();
        let (secret, parameters) = (&**key, self.plan.parameters());
        // Of a product that the client keeps only the uploads are left that another one needs.
        let replies = match self.plan.is_local(upload, layer) {
            true => Vec::new(),
            false => replies(layout, upload, layer),
        };
        let at_level = (passage.level, passage.encoding);
        let mut expected = replies.iter();
        let (watch, done) = (Stopwatch::start(), AtomicBool::new(replies.is_empty()));
        self.link.exchange(
            |send| {
                // Batches keep both cores busy while the first results are already on their way.
                for (batch, seeds) in uploads.chunks(BATCH).zip(seeds.chunks(BATCH)) {
                    let seal = |(at, &seed): (&Place, &[u8; 32])| {
                        let values = pack(layout, at.chunk as usize, at.tile as usize);
                        match zeros.filter(|_| passage.level == TOP).and_then(Zeros::take) {
                            Some(zero) => over_zero(parameters, zero, &values, passage.encoding),
                            None => encrypt_level(parameters, secret, &values, at_level, seed),
                        }
                    };
                    let sealed = batch.par_iter().zip(seeds).map(seal);
                    let sealed = watch.working(|| sealed.collect::<Result<Vec<_>, _>>())?;
                    for (&at, sealed) in batch.iter().zip(sealed) {
                        watch.sending(|| send(&message(at, sealed)))?;
                    }
                }
                match zeros {
                    Some(zeros) => zeros.fill(BATCH, || done.load(Ordering::Relaxed)),
                    None => Ok(()),
                }
            },
            replies.len(),
            |reply| {
                watch.replied();
                let placed = watch.working(|| {
                    let (at, result) = product(upload, reply, expected.next().copied())?;
                    let positions = positions(layout, upload, at);
                    let values = open_result(&result, &positions, passage.returned, secret)?;
                    place(layout, &values, at.tile as usize, at.chunk as usize);
                    Ok(())
                });
                if placed.is_err() || expected.len() == 0 {
                    done.store(true, Ordering::Relaxed);
                }
                placed
            },
        )?;
        let mut work = self.work.iter_mut();
        if let Some(work) = work.find(|w| (w.upload, w.layer) == (upload, layer)) {
            watch.add_to(work);
        }
        Ok(())
    }
}

/// Ciphertexts encrypted in parallel before they are sent.
pub(super) const BATCH: usize = 8;

/// The results one phase brings back, in order.
pub(super) fn replies(layout: &Layout, upload: Upload, layer: usize) -> Vec<Place> {
    let (inputs, outputs, chunks) = (layout.input_tiles(), layout.output_tiles(), layout.chunks());
    match upload {
        Upload::Activation => tile_places(layer, chunks, outputs).collect(),
        Upload::OutputGradient => tile_places(layer, chunks, inputs).collect(),
        // Output tile by output tile; the input tile stands in `chunk`.
        Upload::ClippedGradient => transposed(layer, outputs, inputs).collect(),
    }
}

/// The coefficients that one result carries.
pub(super) fn positions(layout: &Layout, upload: Upload, at: Place) -> Vec<usize> {
    let (tile, chunk) = (at.tile as usize, at.chunk as usize);
    match upload {
        Upload::Activation => layout.forward_positions(tile, chunk),
        Upload::OutputGradient => layout.backward_positions(tile, chunk),
        Upload::ClippedGradient => layout.gradient_positions(tile, chunk),
    }
}

fn product(
    upload: Upload,
    reply: ToClient,
    expected: Option<Place>,
) -> Result<(Place, Returned), Error> {
    match (upload, reply) {
        (Upload::Activation, ToClient::ForwardProduct(at, result))
        | (Upload::OutputGradient, ToClient::BackwardProduct(at, result))
        | (Upload::ClippedGradient, ToClient::GradientProduct(at, result))
            if Some(at) == expected =>
        {
            Ok((at, result))
        }
        (_, other) => Err(unexpected("the next product of this phase", &other)),
    }
}

/// A fresh seed for one encryption.
pub(crate) fn seed(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rand_core::Rng::fill_bytes(rng, &mut seed);
    seed
}

/// Encrypts integers with randomness from `seed`, which must never be used again.
pub(crate) fn encrypt(
    parameters: &Parameters,
    secret: &SecretKey,
    values: &[i64],
    encoding: Encoding,
    seed: [u8; 32],
) -> Result<Sealed, Error> {
    encrypt_level(parameters, secret, values, (TOP, encoding), seed)
}

/// As [`encrypt`], at a level.
pub(crate) fn encrypt_level(
    parameters: &Parameters,
    secret: &SecretKey,
    values: &[i64],
    (level, encoding): (usize, Encoding),
    seed: [u8; 32],
) -> Result<Sealed, Error> {
    let plaintext = Plaintext::encode(parameters, level, values, encoding)?;
    let mut rng = ChaCha20Rng::from_seed(seed);
    Ok(Sealed::new(&SeededCiphertext::encrypt(
        &plaintext, secret, &mut rng,
    )?))
}

/// Encrypts integers over an encryption of zero.
fn over_zero(
    parameters: &Parameters,
    zero: SeededZero,
    values: &[i64],
    encoding: Encoding,
) -> Result<Sealed, Error> {
    let plaintext = Plaintext::encode(parameters, TOP, values, encoding)?;
    Ok(Sealed::new(&SeededCiphertext::from_zero(zero, &plaintext)?))
}

/// Decrypts a result of the form that the plan names; the values stay with the client.
pub(crate) fn open_result(
    result: &Returned,
    positions: &[usize],
    form: Return,
    secret: &SecretKey,
) -> Result<Vec<i64>, Error> {
    let selected = result.open(secret.parameters(), positions)?;
    let got = Return {
        degree: selected.degree(),
        factor: form.factor,
        encoding: selected.encoding(),
        truncation: selected.truncation(),
    };
    if selected.level() != 0 || got != form {
        return Err(Error::Unexpected {
            expected: format!("a result at level 0, {form:?}"),
            got: format!("level {}, {got:?}", selected.level()),
        });
    }
    Ok(selected.decrypt(secret)?.keep_local())
}

impl Forward for Packed {
    fn plan(&self) -> &GridPlan {
        self.plan.grid()
    }

    /// Outside a step the client answers from its replica: the same integers, no traffic.
    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        crate::grid::Frozen::new(self.plan.grid().clone(), self.replica.freeze()).forward(layer, x)
    }
}

impl Multiplier for Packed {
    fn begin(&mut self, step: u64) -> Result<(), Error> {
        if self.is_stopped() {
            return Err(Error::Stopped);
        }
        let expected = self.replica.public().step();
        if step != expected {
            return Err(Error::StepOrder {
                expected,
                got: step,
            });
        }
        self.weigh_waiting()?;
        self.times = PhaseTimes::default();
        self.weights = self.replica.public().snapshot();
        self.tightness = self.plan.tightness(&self.weights);
        self.link.send(&ToServer::BeginStep { step })
    }

    fn forward_held(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        let start = Instant::now();
        let outputs = self.plan.network().linears()[layer].outputs;
        let mut y = Integers::zeros(x.rows(), outputs);
        self.phase(
            Upload::Activation,
            layer,
            |layout, chunk, tile| layout.pack_inputs(x, chunk, tile),
            |layout, values, tile, chunk| layout.place_forward(&mut y, values, tile, chunk),
        )?;
        if self.plan.is_local(Upload::Activation, layer) {
            let y = self.forward(layer, x);
            self.times.forward += start.elapsed().as_secs_f64();
            return y;
        }
        self.times.forward += start.elapsed().as_secs_f64();
        self.check((layer, Phase::Forward), |verifier, linear, _| {
            verifier.forward(linear, x, &y)
        })?;
        let start = Instant::now();
        let biases = self.replica.biases(layer);
        let positions = outputs / biases.len();
        for row in 0..y.rows() {
            for (plane, b) in y.row_mut(row).chunks_exact_mut(positions).zip(&biases) {
                for y in plane {
                    *y = y.saturating_add(*b);
                }
            }
        }
        self.times.forward += start.elapsed().as_secs_f64();
        Ok(y)
    }

    fn backward(&mut self, layer: usize, d: &Integers) -> Result<Integers, Error> {
        let start = Instant::now();
        if self.plan.is_local(Upload::OutputGradient, layer) {
            let dx = pull_back(self.plan.grid(), &self.replica.freeze(), layer, d);
            self.times.backward += start.elapsed().as_secs_f64();
            return Ok(dx);
        }
        let mut dx = Integers::zeros(d.rows(), self.plan.network().linears()[layer].inputs);
        self.phase(
            Upload::OutputGradient,
            layer,
            |layout, chunk, tile| layout.pack_gradients(d, chunk, tile),
            |layout, values, tile, chunk| layout.place_backward(&mut dx, values, tile, chunk),
        )?;
        self.times.backward += start.elapsed().as_secs_f64();
        self.check((layer, Phase::Backward), |verifier, linear, _| {
            verifier.backward(linear, d, &dx)
        })?;
        Ok(dx)
    }

    fn gradients(&mut self, work: &[ClippedLayer]) -> Result<Vec<Vec<i64>>, Error> {
        let mut sums = vec![Vec::new(); work.len()];
        let mut order: Vec<usize> = (0..work.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(work[at].layer));
        for at in order {
            let start = Instant::now();
            let ClippedLayer { layer, x, d } = &work[at];
            if self.plan.is_local(Upload::ClippedGradient, *layer) {
                sums[at] = layer_sum(self.plan.grid(), &work[at]);
                self.times.gradient += start.elapsed().as_secs_f64();
                continue;
            }
            let mut sum = vec![0; self.plan.network().linears()[*layer].weights()];
            self.phase(
                Upload::ClippedGradient,
                *layer,
                |layout, chunk, tile| layout.pack_gradients(d, chunk, tile),
                |layout, values, output, input| {
                    layout.place_gradient(&mut sum, values, output, input);
                },
            )?;
            self.times.gradient += start.elapsed().as_secs_f64();
            self.check((*layer, Phase::Gradient), |verifier, linear, limit| {
                verifier.gradient(&linear.shape, (x, limit), d, &sum)
            })?;
            sums[at] = sum;
        }
        Ok(sums)
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), Error> {
        if self.is_stopped() {
            return Err(Error::Stopped);
        }
        let start = Instant::now();
        let step = self.replica.public().step();
        let Change { weights, biases } = self.replica.apply(noised)?;
        self.link.send(&ToServer::Update {
            step,
            gradient: weights,
        })?;
        self.send_biases(&biases)?;
        self.link.confirm(self.replica.public().version())?;
        self.times.update += start.elapsed().as_secs_f64();
        Ok(())
    }

    fn replica(&self) -> &Replica {
        &self.replica
    }

    fn is_elsewhere(&self) -> bool {
        true
    }
}
