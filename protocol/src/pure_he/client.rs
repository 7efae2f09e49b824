//! The client of the baseline: encrypts inputs and gradients, decrypts results, keeps the levels.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use rayon::prelude::*;
use sphinx_dp::mechanism::{ClipBound, Noised};
use sphinx_he::ckks::circuit::sum_steps;
use sphinx_he::ckks::{
    Ciphertext, Complex64, Decryptor, Encoder, Form, Level, Scale, SeededCiphertext,
};
use sphinx_he::rlwe::{KeyGenerator, SecretKey};
use sphinx_nn::engine::{GradientSum, Infer, Train};
use sphinx_nn::tensor::Tensor;

use super::operands::{batch, columns};
use super::server::parameter_place;
use super::{LOG2_SCALE, PureHePlan};
use crate::error::Error;
use crate::link::{Link, unexpected};
use crate::message::{Place, Returned, Sealed, SealedKeys, ToClient, ToServer};
use crate::packed::PhaseTimes;
use crate::plan::Phase;
use crate::train::Learn;
use crate::work::Work;

/// Ciphertexts that are encrypted or decrypted in parallel before the wire is looked at again.
const BATCH: usize = 64;

/// An engine whose server knows neither data nor weights.
pub struct PureHe {
    link: Link,
    plan: PureHePlan,
    sealer: Sealer,
    /// `-lr / batch`: what output gradients are multiplied with before they are encrypted.
    factor: f64,
    /// Products that are left before the parameters have to be encrypted afresh.
    level: usize,
    rows: usize,
    steps: u64,
    /// The layer whose output gradients the server has.
    sent: Option<usize>,
    times: PhaseTimes,
}

impl std::fmt::Debug for PureHe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PureHe")
            .field("style", &self.plan.style())
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// A result with its place, decrypted.
type Opened = (Place, Vec<f64>);

struct Sealer {
    secret: SecretKey,
    encoder: Encoder,
    slots: usize,
    seeds: Mutex<ChaCha20Rng>,
}

impl Sealer {
    fn scale() -> Scale {
        Scale::power_of_two(LOG2_SCALE)
    }

    /// Encrypts columns, at full seeded size.
    fn seal(&self, columns: &[Vec<f64>], level: usize, scale: Scale) -> Result<Vec<Sealed>, Error> {
        let mut seeds = vec![[0; 32]; columns.len()];
        let mut root = self.seeds.lock().unwrap_or_else(PoisonError::into_inner);
        seeds.iter_mut().for_each(|seed| root.fill_bytes(seed));
        drop(root);
        let (encoder, secret, slots) = (&self.encoder, &self.secret, self.slots);
        columns
            .par_iter()
            .zip(seeds)
            .map(|(values, seed)| {
                let values: Vec<Complex64> = values.iter().map(|&v| v.into()).collect();
                let plain = encoder.encode_sparse(&values, slots, Level(level), scale)?;
                let mut rng = ChaCha20Rng::from_seed(seed);
                let sealed = SeededCiphertext::encrypt(&plain, secret, &mut rng)?;
                Ok(Sealed::slots(&sealed))
            })
            .collect()
    }

    /// The slots of results; they stay with the client.
    fn open(&self, waiting: &[(Place, Returned)]) -> Result<Vec<Opened>, Error> {
        let (encoder, secret) = (&self.encoder, &self.secret);
        waiting
            .par_iter()
            .map(|(place, result)| {
                let ciphertext = result.open_slots(secret.parameters())?;
                check(&ciphertext)?;
                let plain = Decryptor::new(secret).decrypt(&ciphertext)?;
                Ok((*place, encoder.decode_real(&plain)?))
            })
            .collect()
    }
}

/// A result must be at the lowest level, linear, rescaled and near our scale: the server does not choose
/// how we decode.
fn check(ciphertext: &Ciphertext) -> Result<(), Error> {
    let (level, scale) = (ciphertext.level(), ciphertext.scale().value());
    let near = (scale / Sealer::scale().value() - 1.0).abs() < 0.01;
    if level == Level(0) && ciphertext.form() == Form::FRESH && near {
        return Ok(());
    }
    Err(Error::Unexpected {
        expected: format!("a result at level 0, scale about 2^{LOG2_SCALE}"),
        got: format!("{level:?}, {:?}, {scale}", ciphertext.form().flags()),
    })
}

/// What is asked of the server.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Product(Phase, usize),
    Parameters,
}

impl Asked {
    fn result(self, reply: ToClient) -> Result<(Place, Returned), Error> {
        let here = |layer: usize, at: Place| usize::from(at.layer) == layer && at.chunk == 0;
        match (self, reply) {
            (Self::Product(Phase::Forward, layer), ToClient::ForwardProduct(at, result))
            | (Self::Product(Phase::Backward, layer), ToClient::BackwardProduct(at, result))
                if here(layer, at) =>
            {
                Ok((at, result))
            }
            (Self::Parameters, ToClient::Parameter(at, result)) => Ok((at, result)),
            (_, other) => Err(unexpected("the next result of this phase", &other)),
        }
    }
}

impl PureHe {
    /// Opens a model at the server and uploads keys and encrypted parameters, laid out as
    /// [`sphinx_nn::network::Network::layout`].
    ///
    /// `step_size` is the learning rate over the mean batch. `rng` draws the keys and seeds all encryption; give it
    /// operating-system randomness.
    ///
    /// # Errors
    /// [`Error::UpdateLength`] for another number of parameters, [`Error::Refused`], or the errors
    /// of the wire.
    pub fn open<R: CryptoRng + ?Sized>(
        mut link: Link,
        plan: &PureHePlan,
        values: &[f32],
        step_size: f64,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let (expected, got) = (plan.network().parameter_count(), values.len());
        if expected != got {
            return Err(Error::UpdateLength { expected, got });
        }
        link.open_pure_he(plan)?;
        let secret = SecretKey::generate(plan.parameters(), rng);
        let keys = KeyGenerator::new(&secret)?;
        link.send(&ToServer::Relinearization(SealedKeys::relinearization(
            &keys.relinearization(rng)?,
        )))?;
        // Sums over slots are of results, one level below the highest.
        let below = plan.parameters().max_level() - 1;
        let steps = sum_steps(1, plan.slots());
        let rotations = KeyGenerator::new(&secret)?.at_level(below)?;
        link.send(&ToServer::Rotations(SealedKeys::rotations(
            &rotations.rotations(&steps, rng)?,
        )))?;
        let sealer = Sealer {
            encoder: Encoder::new(plan.parameters()),
            slots: plan.slots(),
            seeds: Mutex::new(ChaCha20Rng::from_rng(rng)),
            secret,
        };
        let mut engine = Self {
            link,
            plan: plan.clone(),
            sealer,
            factor: -step_size,
            level: 0,
            rows: 0,
            steps: 0,
            sent: None,
            times: PhaseTimes::default(),
        };
        engine.upload_parameters(values)?;
        Ok(engine)
    }

    /// The connection.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &PureHePlan {
        &self.plan
    }

    /// Products that are left before the parameters have to be encrypted afresh.
    #[must_use]
    pub const fn level(&self) -> usize {
        self.level
    }

    /// Times of the last step.
    #[must_use]
    pub const fn times(&self) -> PhaseTimes {
        self.times
    }

    /// What the server computed since the last question.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn work(&mut self) -> Result<Work, Error> {
        self.link.work()
    }

    /// All parameters, fetched and decrypted.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn parameters(&mut self) -> Result<Vec<f32>, Error> {
        let all = self.plan.network().parameter_count();
        let mut opened = Vec::with_capacity(all);
        self.link.send(&ToServer::FetchParameters)?;
        self.receive(Asked::Parameters, None, all, &mut |part| {
            opened.extend_from_slice(part);
        })?;
        let parameters = opened.iter().enumerate().map(|(index, (place, slots))| {
            if Some(*place) == parameter_place(&self.plan, index) {
                return Ok(slots.first().copied().unwrap_or(f64::NAN) as f32);
            }
            Err(Error::Unexpected {
                expected: format!("parameter {index}"),
                got: format!("{place:?}"),
            })
        });
        parameters.collect()
    }

    /// Ends the connection; gives the CPU seconds of the server.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn close(self) -> Result<f64, Error> {
        self.link.close()
    }

    /// One ciphertext per parameter, at the highest level.
    fn upload_parameters(&mut self, values: &[f32]) -> Result<(), Error> {
        let level = self.plan.parameters().max_level();
        let slots = self.plan.slots();
        for (start, part) in (0..).step_by(BATCH).zip(values.chunks(BATCH)) {
            let constants: Vec<Vec<f64>> =
                part.iter().map(|&v| vec![f64::from(v); slots]).collect();
            let sealed = self.sealer.seal(&constants, level, Sealer::scale())?;
            for (index, sealed) in (start..).zip(sealed) {
                let place = parameter_place(&self.plan, index).ok_or(Error::UpdateLength {
                    expected: self.plan.network().parameter_count(),
                    got: values.len(),
                })?;
                self.link.send(&ToServer::Parameter(place, sealed))?;
            }
        }
        self.link.standing()?;
        self.level = level;
        Ok(())
    }

    /// Decrypts all parameters and encrypts them at the highest level, if no product is left.
    fn refresh(&mut self) -> Result<(), Error> {
        if self.level > 0 {
            return Ok(());
        }
        let values = self.parameters()?;
        self.upload_parameters(&values)
    }

    /// The scale of inputs at this level: that of the prime which a rescale takes off.
    fn input_scale(&self) -> Result<Scale, Error> {
        let q = self.plan.parameters().moduli()[self.level].value();
        Ok(Scale::new(q as f64)?)
    }

    /// Sends columns, if any, and takes `results` answers.
    fn receive(
        &mut self,
        asked: Asked,
        upload: Option<(&[Vec<f64>], Phase, usize, Scale)>,
        results: usize,
        out: &mut dyn FnMut(&[Opened]),
    ) -> Result<(), Error> {
        let Self {
            link,
            sealer,
            level,
            ..
        } = self;
        let (sealer, level) = (&*sealer, *level);
        let (mut waiting, mut left) = (Vec::with_capacity(BATCH), results);
        link.exchange(
            |send| {
                let Some((columns, kind, layer, scale)) = upload else {
                    return Ok(());
                };
                for (start, part) in (0..).step_by(BATCH).zip(columns.chunks(BATCH)) {
                    for (tile, sealed) in (start..).zip(sealer.seal(part, level, scale)?) {
                        let place = Place {
                            layer: layer as u16,
                            chunk: 0,
                            tile,
                        };
                        send(&match kind {
                            Phase::Forward => ToServer::Activation(place, sealed),
                            _ => ToServer::OutputGradient(place, sealed),
                        })?;
                    }
                }
                Ok(())
            },
            results,
            |reply| {
                waiting.push(asked.result(reply)?);
                left -= 1;
                if waiting.len() == BATCH || left == 0 {
                    out(&sealer.open(&waiting)?);
                    waiting.clear();
                }
                Ok(())
            },
        )
    }

    /// Uploads a batch and takes one result per column of the answer, in order.
    fn product(
        &mut self,
        phase: Phase,
        layer: usize,
        upload: &[Vec<f64>],
        results: usize,
    ) -> Result<Vec<Vec<f64>>, Error> {
        let scale = match phase {
            Phase::Forward => self.input_scale()?,
            _ => Sealer::scale(),
        };
        let mut all: Vec<Vec<f64>> = vec![Vec::new(); results];
        let mut stray = None;
        let asked = Asked::Product(phase, layer);
        self.receive(
            asked,
            Some((upload, phase, layer, scale)),
            results,
            &mut |opened| {
                for (place, slots) in opened {
                    match all.get_mut(place.tile as usize) {
                        Some(column) if column.is_empty() => column.clone_from(slots),
                        _ => stray = Some(*place),
                    }
                }
            },
        )?;
        match stray {
            None => Ok(all),
            Some(place) => Err(Error::Unexpected {
                expected: format!("a new result of layer {layer}, {phase}"),
                got: format!("{place:?}"),
            }),
        }
    }

    fn check_rows(&self, rows: usize) -> Result<(), Error> {
        let expected = self.plan.capacity();
        if rows <= expected {
            return Ok(());
        }
        Err(Error::Capacity {
            expected,
            got: rows,
        })
    }
}

impl Infer for PureHe {
    type Error = Error;

    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, Error> {
        self.check_rows(x.rows())?;
        self.refresh()?;
        let outputs = self.plan.network().linears()[layer].outputs;
        let y = self.product(Phase::Forward, layer, &columns(x, 1.0), outputs)?;
        Ok(batch(&y, x.rows(), 1.0))
    }
}

/// Encrypted inputs of a layer: the server has them.
#[derive(Debug)]
pub struct Inputs {
    layer: usize,
}

impl Train for PureHe {
    type Held = Inputs;
    type Pending = ();

    /// Encrypts the parameters afresh if no level is left.
    fn begin(&mut self, step: u64, capacity: usize) -> Result<(), Error> {
        self.check_rows(capacity)?;
        if step != self.steps {
            return Err(Error::StepOrder {
                expected: self.steps,
                got: step,
            });
        }
        let start = Instant::now();
        self.sent = None;
        self.rows = capacity;
        self.refresh()?;
        self.times = PhaseTimes {
            update: start.elapsed().as_secs_f64(),
            ..PhaseTimes::default()
        };
        self.link.send(&ToServer::BeginStep { step })
    }

    fn forward_held(&mut self, layer: usize, x: &Tensor) -> Result<(Tensor, Inputs), Error> {
        self.check_rows(x.rows())?;
        let start = Instant::now();
        let outputs = self.plan.network().linears()[layer].outputs;
        let y = self.product(Phase::Forward, layer, &columns(x, 1.0), outputs)?;
        self.times.forward += start.elapsed().as_secs_f64();
        Ok((batch(&y, x.rows(), 1.0), Inputs { layer }))
    }

    fn backward(&mut self, layer: usize, d: &Tensor, _held: &Inputs) -> Result<Tensor, Error> {
        let start = Instant::now();
        let inputs = self.plan.network().linears()[layer].inputs;
        let upload = columns(d, self.factor);
        let dx = self.product(Phase::Backward, layer, &upload, inputs)?;
        self.sent = Some(layer);
        self.times.backward += start.elapsed().as_secs_f64();
        Ok(batch(&dx, d.rows(), 1.0 / self.factor))
    }

    fn submit_gradient(&mut self, layer: usize, d: &Tensor, held: Inputs) -> Result<(), Error> {
        if layer != held.layer {
            return Err(Error::HeldLayer {
                expected: held.layer,
                got: layer,
            });
        }
        if self.sent.take() == Some(layer) {
            return Ok(());
        }
        let start = Instant::now();
        let upload = columns(d, self.factor);
        let asked = Asked::Product(Phase::Backward, layer);
        let upload = Some((&upload[..], Phase::Backward, layer, Sealer::scale()));
        self.receive(asked, upload, 0, &mut |_| {})?;
        self.times.gradient += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Waits until the server has updated its parameters. Nothing is released: the sum is zero, whatever the data.
    fn collect(&mut self, _pending: Vec<()>) -> Result<GradientSum, Error> {
        let start = Instant::now();
        self.link.standing()?;
        self.steps += 1;
        self.level -= 1;
        self.times.gradient += start.elapsed().as_secs_f64();
        Ok(GradientSum {
            values: vec![0; self.plan.network().parameter_count()],
            shift: 0,
            norms_squared: vec![0; self.rows],
        })
    }
}

/// There is nothing to clip and nothing to learn: the server has updated `[W]` by itself, and no
/// differential privacy is claimed.
impl Learn for PureHe {
    fn clip_bound(&self) -> Result<ClipBound, Error> {
        Ok(ClipBound::new(1 << 40)?)
    }

    fn learn(&mut self, _noised: &Noised) -> Result<(), Error> {
        Ok(())
    }
}
