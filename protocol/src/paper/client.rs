//! The client of the engine `paper`: encrypt over zeros made ahead, send, receive, decrypt, round.

use std::sync::Arc;
use std::time::Instant;

use rand_core::CryptoRng;
use rayon::prelude::*;
use sphinx_dp::mechanism::Noised;
use sphinx_he::ckks::{
    Ciphertext, Complex64, Decryptor, Encoder, EncoderScratch, Form, Level, Plaintext, Scale,
    SeededCiphertext, largest_slot_squared,
};
use sphinx_he::rlwe::{Parameters, SecretKey};

use super::exactness::largest_slot;
use super::products::Products;
use super::{PaperPlan, TOP, biases};
use crate::error::Error;
use crate::format::Integers;
use crate::grid::{ClippedLayer, Forward, Frozen, Multiplier};
use crate::link::{Link, unexpected};
use crate::message::{Place, Returned, Sealed, ToClient, ToServer};
use crate::model::Replica;
use crate::packed::PhaseTimes;
use crate::plan::{GridPlan, Phase};
use crate::work::{StepCounts, Work};
use crate::zeros::Zeros;

/// Bytes of encryptions of zero that are kept ready, at most.
const ZEROS: usize = 1 << 30;
/// Ciphertexts that are encrypted or decrypted in parallel before the wire is looked at again.
const BATCH: usize = 64;

/// A multiplier whose products the server computes in slots, as the paper does.
pub struct Paper {
    link: Link,
    plan: PaperPlan,
    secret: Arc<SecretKey>,
    sealer: Sealer,
    replica: Replica,
    times: PhaseTimes,
    /// The layer whose output gradients the server has.
    sent: Option<usize>,
    /// Steps since the biases were encrypted.
    taken: u64,
}

impl std::fmt::Debug for Paper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paper")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// A result with its place, decrypted.
type Opened = (Place, Vec<i32>);

/// Memory of one thread that encodes or decodes.
struct Desk {
    scratch: EncoderScratch,
    plaintext: Plaintext,
    slots: Vec<Complex64>,
}

/// Encodes integers and adds them to encryptions of zero.
struct Sealer {
    plan: PaperPlan,
    encoder: Encoder,
    zeros: Zeros,
}

impl Sealer {
    fn desk(&self) -> Result<Desk, Error> {
        Ok(Desk {
            scratch: self.encoder.scratch(),
            plaintext: Plaintext::zero(self.plan.parameters(), TOP)?,
            slots: vec![Complex64::ZERO; self.encoder.slots()],
        })
    }

    fn seal(
        &self,
        desk: &mut Result<Desk, Error>,
        scale: Scale,
        values: impl Iterator<Item = f64>,
    ) -> Result<Sealed, Error> {
        let Desk {
            scratch,
            plaintext,
            slots,
        } = desk.as_mut().map_err(|_| broken_desk())?;
        slots.fill(Complex64::ZERO);
        for (slot, value) in slots.iter_mut().zip(values) {
            *slot = value.into();
        }
        let encoder = &self.encoder;
        encoder.encode_into(plaintext, slots, slots.len(), TOP, scale, scratch)?;
        let sealed = SeededCiphertext::from_zero(self.zeros.take_or_make()?, plaintext)?;
        Ok(Sealed::slots(&sealed))
    }

    /// Encrypts and sends a matrix column by column, block by block.
    fn send_columns(
        &self,
        (layer, kind): (usize, Phase),
        values: &Integers,
        send: &mut dyn FnMut(&ToServer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (message, scale): (fn(Place, Sealed) -> ToServer, _) = match kind {
            Phase::Forward => (ToServer::Activation, self.plan.input_scale()),
            _ => (ToServer::OutputGradient, self.plan.gradient_scale()),
        };
        let columns: Vec<u32> = (0..values.columns() as u32).collect();
        for block in 0..self.plan.blocks() {
            for columns in columns.chunks(BATCH) {
                let sealed = columns
                    .par_iter()
                    .map_init(
                        || self.desk(),
                        |desk, &column| {
                            let rows = self.plan.rows(block);
                            let column =
                                rows.map(|row| f64::from(values.row(row)[column as usize]));
                            self.seal(desk, scale, column)
                        },
                    )
                    .collect::<Result<Vec<_>, _>>()?;
                for (&tile, sealed) in columns.iter().zip(sealed) {
                    let place = Place {
                        layer: layer as u16,
                        chunk: block as u32,
                        tile,
                    };
                    send(&message(place, sealed))?;
                }
            }
        }
        Ok(())
    }

    /// Decrypts a result, takes `offset` off its slots and rounds them; the values stay with the client.
    fn open(
        &self,
        result: &Returned,
        secret: &SecretKey,
        (expected, offset): (Expected, f64),
        desk: &mut Result<Desk, Error>,
    ) -> Result<Vec<i32>, Error> {
        let desk = desk.as_mut().map_err(|_| broken_desk())?;
        let ciphertext = result.open_slots(secret.parameters())?;
        expected.check(&ciphertext)?;
        Decryptor::new(secret).decrypt_into(&mut desk.plaintext, &ciphertext)?;
        self.encoder
            .decode_into(&mut desk.slots, &desk.plaintext, &mut desk.scratch)?;
        let slots = desk.slots.iter();
        Ok(slots.map(|z| (z.re - offset).round() as i32).collect())
    }
}

/// What a result must be: the server does not choose how we decode.
#[derive(Clone, Copy, Debug)]
struct Expected {
    phase: Phase,
    scale: f64,
}

impl Expected {
    fn check(&self, ciphertext: &Ciphertext) -> Result<(), Error> {
        let form = Form {
            rescale_pending: false,
            quadratic: self.phase == Phase::Gradient,
        };
        let (level, scale) = (ciphertext.level(), ciphertext.scale().value());
        let near = (scale / self.scale - 1.0).abs() < 1e-12;
        if level == Level(0) && ciphertext.form() == form && near {
            return Ok(());
        }
        let flags = ciphertext.form().flags();
        Err(Error::Unexpected {
            expected: format!(
                "a result at level 0, {:?}, scale {}",
                form.flags(),
                self.scale
            ),
            got: format!("{level:?}, {flags:?}, {scale}"),
        })
    }
}

impl Paper {
    /// Opens a model at the server, brings it to where `replica` stands, and fills the pool of
    /// zeros.
    ///
    /// `rng` draws the secret key and seeds all encryption; give it operating-system randomness.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::VersionMismatch`] if the server holds other weights, or
    /// [`Error::OtherGrids`] if `replica` is not of this plan.
    pub fn open<R: CryptoRng + ?Sized>(
        mut link: Link,
        plan: &PaperPlan,
        replica: Replica,
        rng: &mut R,
    ) -> Result<Self, Error> {
        if replica.public().plan() != plan.grid() {
            return Err(Error::OtherGrids);
        }
        let replica = match (plan.published_steps(), replica.published()) {
            (Some(_), None) => replica.publishing_biases()?,
            (None, Some(_)) => return Err(Error::OtherBiases),
            _ => replica,
        };
        let standing = link.open_paper(plan)?;
        if standing.version != replica.public().version() {
            link.send(&ToServer::LoadModel(replica.public().export()))?;
            link.standing()?;
        }
        let secret = Arc::new(secret(plan.parameters(), rng)?);
        if plan.published_steps().is_some() {
            let keys = biases::keys(&secret, plan, rng)?;
            link.send(&ToServer::Rotations(keys))?;
        }
        let each = SeededCiphertext::wire_size(plan.parameters(), TOP.0).max(1);
        let wanted = Self::counts_of(plan).uploads.min((ZEROS / each) as u64);
        let mut zeros = Zeros::new(&secret, TOP, wanted as usize, rng);
        zeros.fill(BATCH, || false)?;
        zeros.keep_full()?;
        let sealer = Sealer {
            plan: plan.clone(),
            encoder: Encoder::new(plan.parameters()),
            zeros,
        };
        let mut paper = Self {
            plan: plan.clone(),
            link,
            secret,
            sealer,
            replica,
            times: PhaseTimes::default(),
            sent: None,
            taken: 0,
        };
        let biases = match paper.replica.published() {
            Some(published) => paper.all_layers(|layer| published.in_products(layer)),
            None => paper.biases().into_iter().map(f64::from).collect(),
        };
        paper.send_biases(&biases)?;
        paper.link.confirm(paper.replica.public().version())?;
        Ok(paper)
    }

    /// Times of the last step.
    #[must_use]
    pub const fn times(&self) -> PhaseTimes {
        self.times
    }

    /// The pool of zeros.
    #[must_use]
    pub const fn zeros(&self) -> &Zeros {
        &self.sealer.zeros
    }

    /// The operations of one step of this plan.
    #[must_use]
    pub fn counts_of(plan: &PaperPlan) -> StepCounts {
        let mut counts = StepCounts::default();
        for (layer, shape) in plan.network().linears().iter().enumerate() {
            for _ in 0..plan.blocks() {
                counts += Products::new(*shape).counts(layer == 0);
            }
        }
        if plan.published_steps().is_some() {
            counts += biases::counts(plan);
        } else {
            counts.uploads += plan.grid().bias_count() as u64;
        }
        counts
    }

    /// Where the server's biases stand, in units of each layer's products, with their encryption errors: fetched and
    /// decrypted. Under the published rule they follow [`Replica::published`] without being told; between steps.
    ///
    /// # Errors
    /// The errors of the wire; [`Error::Refused`] under the default rule.
    pub fn biases_at_server(&mut self) -> Result<Vec<f64>, Error> {
        self.link.send(&ToServer::FetchBiases)?;
        let decryptor = Decryptor::new(&self.secret);
        let mut values = Vec::with_capacity(self.plan.grid().bias_count());
        for expected in 0..self.plan.grid().bias_count() as u32 {
            let backup = match self.link.receive()? {
                ToClient::Biases { part, backup } if part == expected => backup,
                other => return Err(unexpected("the next bias", &other)),
            };
            let ciphertext = backup.open_slots(self.plan.parameters())?;
            super::server::check_scale(&ciphertext, self.plan.bias_scale())?;
            let slots = self
                .sealer
                .encoder
                .decode_real(&decryptor.decrypt(&ciphertext)?)?;
            values.push(slots.first().copied().unwrap_or(f64::NAN));
        }
        Ok(values)
    }

    /// The connection.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    #[cfg(test)]
    pub(super) const fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    /// What the server computed since the last question; between steps.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn work(&mut self) -> Result<Work, Error> {
        self.link.work()
    }

    /// Ends training; gives the CPU seconds of the server and the replica.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn close(self) -> Result<(f64, Replica), Error> {
        Ok((self.link.close()?, self.replica))
    }

    /// All biases on the grids of their products.
    fn biases(&self) -> Vec<i32> {
        self.all_layers(|layer| self.replica.biases(layer))
    }

    fn all_layers<T>(&self, of_layer: impl Fn(usize) -> Vec<T>) -> Vec<T> {
        let layers = 0..self.plan.network().linears().len();
        layers.flat_map(of_layer).collect()
    }

    /// What the ciphertext of each bias of a layer holds beyond the integer that is added to its product, and how many
    /// products there are to a bias: the client knows it and takes it off.
    fn fractions(&self, layer: usize) -> (Vec<f64>, usize) {
        let outputs = self.plan.network().linears()[layer].outputs;
        let Some(published) = self.replica.published() else {
            return (vec![0.0], outputs);
        };
        let biases = published.in_products(layer).into_iter();
        let rounded = self.replica.biases(layer);
        let fractions: Vec<f64> = biases.zip(rounded).map(|(b, y)| b - f64::from(y)).collect();
        let positions = outputs / fractions.len().max(1);
        (fractions, positions)
    }

    /// One ciphertext per bias: the change, in every slot.
    fn send_biases(&mut self, changes: &[f64]) -> Result<(), Error> {
        let (scale, slots) = (self.plan.bias_scale(), self.plan.slots());
        let sealer = &self.sealer;
        for (start, changes) in (0..).step_by(BATCH).zip(changes.chunks(BATCH)) {
            let sealed = changes
                .par_iter()
                .map_init(
                    || sealer.desk(),
                    |desk, &change| sealer.seal(desk, scale, (0..slots).map(|_| change)),
                )
                .collect::<Result<Vec<_>, _>>()?;
            for (part, change) in (start..).zip(sealed) {
                self.link.send(&ToServer::BiasUpdate { part, change })?;
            }
        }
        Ok(())
    }

    /// Sends a matrix, one ciphertext per column and block, and takes the results of a phase.
    fn exchange(
        &mut self,
        layer: usize,
        upload: Option<(&Integers, Phase)>,
        phase: Phase,
        out: &mut dyn FnMut(&[Opened]),
    ) -> Result<(), Error> {
        let (fractions, positions) = match phase {
            Phase::Forward => self.fractions(layer),
            _ => (vec![0.0], usize::MAX),
        };
        let offset = |tile: u32| {
            let channel = tile as usize / positions.max(1);
            fractions.get(channel).copied().unwrap_or(0.0)
        };
        let Self {
            link,
            plan,
            secret,
            sealer,
            ..
        } = self;
        let (plan, sealer, secret) = (&*plan, &*sealer, &**secret);
        let results = Products::new(plan.network().linears()[layer]).results(phase);
        let expected = Expected {
            phase,
            scale: plan.result_scale(phase),
        };
        let mut seen = vec![false; results * plan.blocks()];
        let mut waiting = Vec::with_capacity(BATCH);
        let mut left = seen.len();
        link.exchange(
            |send| {
                upload.map_or(Ok(()), |(values, kind)| {
                    sealer.send_columns((layer, kind), values, send)
                })
            },
            results * plan.blocks(),
            |reply| {
                let (place, result) = product(phase, layer, reply)?;
                let at = place.chunk as usize * results + place.tile as usize;
                let fresh = (place.tile as usize) < results && seen.get(at) == Some(&false);
                if !fresh {
                    return Err(Error::Unexpected {
                        expected: format!("a new result of layer {layer}, {phase}"),
                        got: format!("{place:?}"),
                    });
                }
                seen[at] = true;
                left -= 1;
                waiting.push((place, result));
                if waiting.len() == BATCH || left == 0 {
                    let rows = |place: &Place| plan.rows(place.chunk as usize).len();
                    let opened = waiting
                        .par_iter()
                        .map_init(
                            || sealer.desk(),
                            |desk, (place, result)| {
                                let expected = (expected, offset(place.tile));
                                let values = sealer.open(result, secret, expected, desk)?;
                                Ok((*place, values[..rows(place)].to_vec()))
                            },
                        )
                        .collect::<Result<Vec<_>, Error>>()?;
                    waiting.clear();
                    out(&opened);
                }
                Ok(())
            },
        )
    }
}

/// A desk is made from parameters that a plan has checked.
fn broken_desk() -> Error {
    Error::Unexpected {
        expected: "memory for slots".into(),
        got: "parameters without levels".into(),
    }
}

/// A secret whose slots are short enough for the plan's bounds.
fn secret<R: CryptoRng + ?Sized>(parameters: &Parameters, rng: &mut R) -> Result<SecretKey, Error> {
    let largest = largest_slot(parameters.degree());
    loop {
        let candidate = SecretKey::generate(parameters, rng);
        if largest_slot_squared(&candidate)? <= largest {
            return Ok(candidate);
        }
    }
}

fn product(phase: Phase, layer: usize, reply: ToClient) -> Result<(Place, Returned), Error> {
    match (phase, reply) {
        (Phase::Forward, ToClient::ForwardProduct(at, result))
        | (Phase::Backward, ToClient::BackwardProduct(at, result))
        | (Phase::Gradient, ToClient::GradientProduct(at, result))
            if usize::from(at.layer) == layer =>
        {
            Ok((at, result))
        }
        (_, other) => Err(unexpected("the next result of this phase", &other)),
    }
}

/// Writes results into the columns of a matrix.
fn place_columns(plan: &PaperPlan, out: &mut Integers, opened: &[Opened]) {
    for (place, values) in opened {
        for (row, &value) in plan.rows(place.chunk as usize).zip(values) {
            out.row_mut(row)[place.tile as usize] = value;
        }
    }
}

impl Forward for Paper {
    fn plan(&self) -> &GridPlan {
        self.plan.grid()
    }

    /// Outside a step the client answers from its replica: the same integers, no traffic.
    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        Frozen::new(self.plan.grid().clone(), self.replica.freeze()).forward(layer, x)
    }
}

impl Multiplier for Paper {
    fn begin(&mut self, step: u64) -> Result<(), Error> {
        let expected = self.replica.public().step();
        if step != expected {
            return Err(Error::StepOrder {
                expected,
                got: step,
            });
        }
        if let Some((limit, _)) = self.plan.published_steps()
            && self.taken >= limit
        {
            return Err(Error::TooManySteps { step, limit });
        }
        self.times = PhaseTimes::default();
        self.sent = None;
        self.replica.begin_outputs();
        self.link.send(&ToServer::BeginStep { step })
    }

    fn forward_held(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        let start = Instant::now();
        let plan = self.plan.clone();
        let mut y = Integers::zeros(x.rows(), plan.network().linears()[layer].outputs);
        let upload = Some((x, Phase::Forward));
        self.exchange(layer, upload, Phase::Forward, &mut |opened| {
            place_columns(&plan, &mut y, opened);
        })?;
        self.times.forward += start.elapsed().as_secs_f64();
        Ok(y)
    }

    fn backward(&mut self, layer: usize, d: &Integers) -> Result<Integers, Error> {
        let start = Instant::now();
        let plan = self.plan.clone();
        let mut dx = Integers::zeros(d.rows(), plan.network().linears()[layer].inputs);
        let upload = Some((d, Phase::Backward));
        self.exchange(layer, upload, Phase::Backward, &mut |opened| {
            place_columns(&plan, &mut dx, opened);
        })?;
        self.sent = Some(layer);
        self.times.backward += start.elapsed().as_secs_f64();
        Ok(dx)
    }

    fn sample_gradients(
        &mut self,
        layer: usize,
        _x: &Integers,
        d: &Integers,
    ) -> Result<Vec<i32>, Error> {
        let start = Instant::now();
        self.replica.note_outputs(layer, d);
        let plan = self.plan.clone();
        let rows = plan.capacity();
        let mut gradients = vec![0; plan.network().linears()[layer].weights() * rows];
        let upload = (self.sent != Some(layer)).then_some((d, Phase::Backward));
        self.exchange(layer, upload, Phase::Gradient, &mut |opened| {
            for (place, values) in opened {
                let first = place.tile as usize * rows + plan.rows(place.chunk as usize).start;
                gradients[first..first + values.len()].copy_from_slice(values);
            }
        })?;
        self.times.gradient += start.elapsed().as_secs_f64();
        Ok(gradients)
    }

    /// Samples are clipped here: this engine never asks for the product of clipped factors.
    fn gradients(&mut self, work: &[ClippedLayer]) -> Result<Vec<Vec<i64>>, Error> {
        let layer = work.first().map_or(0, |work| work.layer);
        Err(Error::ClipsSamples { layer })
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), Error> {
        let start = Instant::now();
        let step = self.replica.public().step();
        let before = self.biases();
        let gradient = self.replica.apply(noised)?.weights;
        self.link.send(&ToServer::Update { step, gradient })?;
        if self.replica.published().is_none() {
            let changes = self.biases().into_iter().zip(before);
            let changes: Vec<f64> = changes.map(|(a, b)| f64::from(a - b)).collect();
            self.send_biases(&changes)?;
        }
        self.taken += 1;
        self.link.confirm(self.replica.public().version())?;
        self.times.update += start.elapsed().as_secs_f64();
        Ok(())
    }

    fn replica(&self) -> &Replica {
        &self.replica
    }
}
