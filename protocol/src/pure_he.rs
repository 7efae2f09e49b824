//! The baseline that Sphinx is compared with: training with everything encrypted.
//!
//! `[W]` and `[b]` live at the server under the client's key, one ciphertext per parameter, the same number in all
//! slots; inputs and output gradients are packed along the batch as in [`crate::paper`], and activations are
//! the client's. Every product is one of two ciphertexts. The update needs no client: `[d] x [x]` is summed over
//! the slots by rotations and added to `[W]`. There is no differential privacy, since nothing is
//! released.
//!
//! Two styles: [`Style::Eager`] relinearises and rescales after every product, as libraries of
//! encrypted tensors do; [`Style::Lazy`] sums products of degree two first and does both once per sum.
//! As it stands the lazy style saves key switches but holds all sums of a layer at degree two before it relinearises
//! them: on dense layers, whose gradients are sums of one product, that costs more than it saves. Uploads are seeded, results go down at the lowest level: neither is slowed.
//!
//! Levels: with `L = 3` every step costs one; after three the client decrypts the parameters and
//! encrypts them afresh, which is counted. Scales: `[W]`, `[b]` and `[d]` have `2^40`, `[x]` that of the prime that a
//! rescale takes off, so that sums and parameters meet at `2^40` without a product of their own; `[d]`
//! carries the factor `-lr / batch`.
//!
//! Source: the baseline of Tian et al., IEEE S&P 2022, as secondary sources describe it: CKKS, `N = 2^13`,
//! `L >= 3`, activations at the client.
//!
//! [`PureHe`] holds both parties in one process and counts the bytes of what would cross the wire: it is there
//! to be measured beside the engines, through the same passes of `sphinx_nn`.

mod counts;
mod operands;

pub use counts::{Counts, Times};

use std::time::Instant;

use operands::{Terms, at, bank, batch, columns, missing};
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use rayon::prelude::*;
use sphinx_he::ckks::circuit::{sum_slots, sum_steps};
use sphinx_he::ckks::{Ciphertext, Decryptor, Encoder, Evaluator, Level, Scale, SeededCiphertext};
use sphinx_he::rlwe::{
    GaloisKeys, KeyGenerator, Parameters, ParametersLiteral, RelinearizationKey, SecretKey,
    Security, Workspace,
};
use sphinx_nn::engine::{GradientSum, Infer, Train};
use sphinx_nn::network::Network;
use sphinx_nn::tensor::Tensor;

use crate::error::Error;
use crate::paper::Products;
use crate::plan::Phase;

/// log2 of the scale of parameters and output gradients.
const LOG2_SCALE: u8 = 40;
/// Sums that one thread computes at once.
const SUMS: usize = 4;

/// Terms per operand from which operands are laid side by side.
const REUSE: usize = 2;

/// When products are relinearised and rescaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// After every product.
    Eager,
    /// Once per sum of products.
    Lazy,
}

/// `N = 8192`, four primes (`L = 3`) and a special one: 214 of 214 bits.
#[must_use]
pub fn standard_parameters() -> ParametersLiteral {
    ParametersLiteral {
        log_n: 13,
        log_q: vec![50, 40, 40, 40],
        log_p: vec![44],
        error_std_dev: 3.2,
        security: Security::Classical128,
    }
}

/// Both parties of the baseline.
pub struct PureHe {
    network: Network,
    style: Style,
    /// `-lr / batch`: what output gradients are multiplied with before they are encrypted.
    factor: f64,
    client: Client,
    server: Server,
    /// Output gradients that the server has, and of which layer.
    sent: Option<(usize, Vec<Ciphertext>)>,
    counts: Counts,
    times: Times,
}

impl std::fmt::Debug for PureHe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PureHe")
            .field("style", &self.style)
            .field("level", &self.server.level)
            .finish_non_exhaustive()
    }
}

struct Client {
    secret: SecretKey,
    encoder: Encoder,
    seeds: ChaCha20Rng,
}

struct Server {
    evaluator: Evaluator,
    relinearisation: RelinearizationKey,
    rotations: GaloisKeys,
    level: usize,
    /// Of every layer the weights, row-major, and the biases; flags (0, 0), scale `2^40`.
    weights: Vec<Vec<Ciphertext>>,
    biases: Vec<Vec<Ciphertext>>,
}

impl Client {
    fn parameters(&self) -> &Parameters {
        self.secret.parameters()
    }

    /// Encrypts columns, at full seeded size.
    fn encrypt(
        &mut self,
        columns: &[Vec<f64>],
        level: usize,
        scale: Scale,
    ) -> Result<Vec<Ciphertext>, Error> {
        let mut seed = || {
            let mut seed = [0; 32];
            self.seeds.fill_bytes(&mut seed);
            seed
        };
        let seeds: Vec<[u8; 32]> = columns.iter().map(|_| seed()).collect();
        let (encoder, secret) = (&self.encoder, &self.secret);
        columns
            .par_iter()
            .zip(seeds)
            .map(|(values, seed)| {
                let plain = encoder.encode_real(values, Level(level), scale)?;
                let mut rng = ChaCha20Rng::from_seed(seed);
                Ok(SeededCiphertext::encrypt(&plain, secret, &mut rng)?.expand())
            })
            .collect()
    }

    /// The first slots of each.
    fn decrypt(&self, ciphertexts: &[Ciphertext], slots: usize) -> Result<Vec<Vec<f64>>, Error> {
        ciphertexts
            .par_iter()
            .map(|ciphertext| {
                let plain = Decryptor::new(&self.secret).decrypt(ciphertext)?;
                let mut values = self.encoder.decode_real(&plain)?;
                values.truncate(slots);
                Ok(values)
            })
            .collect()
    }
}

impl Server {
    /// For every list the sum of products of `a` and `b`, relinearised and rescaled: one level
    /// down.
    fn sums(
        &self,
        style: Style,
        (a, b): (&[Ciphertext], &[Ciphertext]),
        lists: &[Terms],
        times: &mut Times,
    ) -> Result<Vec<Ciphertext>, Error> {
        match style {
            Style::Eager => self.eager(a, b, lists, times),
            Style::Lazy => self.lazy(a, b, lists, times),
        }
    }

    fn workspace(&self) -> Workspace {
        Workspace::new(self.rotations.parameters())
    }

    fn eager(
        &self,
        a: &[Ciphertext],
        b: &[Ciphertext],
        lists: &[Terms],
        times: &mut Times,
    ) -> Result<Vec<Ciphertext>, Error> {
        let (start, evaluator) = (Instant::now(), &self.evaluator);
        let sums = lists
            .par_iter()
            .map_init(
                || self.workspace(),
                |workspace, list| {
                    let mut sum: Option<Ciphertext> = None;
                    for &(left, right) in list {
                        let (a, b) = (at(a, left)?, at(b, right)?);
                        let key = &self.relinearisation;
                        let term = evaluator.mul_relin_rescale(a, b, key, workspace)?;
                        match &mut sum {
                            Some(sum) => evaluator.add_assign(sum, &term)?,
                            None => sum = Some(term),
                        }
                    }
                    sum.ok_or_else(|| missing(0))
                },
            )
            .collect();
        times.products += start.elapsed().as_secs_f64();
        sums
    }

    fn lazy(
        &self,
        a: &[Ciphertext],
        b: &[Ciphertext],
        lists: &[Terms],
        times: &mut Times,
    ) -> Result<Vec<Ciphertext>, Error> {
        let start = Instant::now();
        let terms: usize = lists.iter().map(Vec::len).sum();
        // Side by side pays where operands are used several times; a dense layer uses a weight once.
        let sums = match terms > REUSE * (a.len() + b.len()) {
            true => self.banked(a, b, lists)?,
            false => self.direct(a, b, lists)?,
        };
        times.products += start.elapsed().as_secs_f64();
        let start = Instant::now();
        let sums = sums
            .into_par_iter()
            .map_init(
                || self.workspace(),
                |workspace, mut sum| {
                    let key = &self.relinearisation;
                    self.evaluator
                        .relinearize_assign(&mut sum, key, workspace)?;
                    Ok(self.evaluator.rescale(sum)?)
                },
            )
            .collect();
        times.switching += start.elapsed().as_secs_f64();
        sums
    }

    /// Sums of products of operands that are laid side by side first.
    fn banked(
        &self,
        a: &[Ciphertext],
        b: &[Ciphertext],
        lists: &[Terms],
    ) -> Result<Vec<Ciphertext>, Error> {
        let (a, b) = (bank(a)?, bank(b)?);
        let sums = lists
            .par_chunks(SUMS)
            .map(|lists| {
                let lists: Vec<&[(u32, u32)]> = lists.iter().map(Vec::as_slice).collect();
                a.product_sums(&b, &lists)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(sums.into_iter().flatten().collect())
    }

    /// Sums of products of operands where they are.
    fn direct(
        &self,
        a: &[Ciphertext],
        b: &[Ciphertext],
        lists: &[Terms],
    ) -> Result<Vec<Ciphertext>, Error> {
        let evaluator = &self.evaluator;
        let product = |sum: &mut Option<Ciphertext>, scratch: &mut Ciphertext, (left, right)| {
            let (a, b) = (at(a, left)?, at(b, right)?);
            match sum {
                Some(sum) => {
                    evaluator.mul_into(scratch, a, b)?;
                    evaluator.add_assign(sum, scratch)?;
                }
                None => *sum = Some(evaluator.mul(a, b)?),
            }
            Ok::<_, Error>(())
        };
        lists
            .par_iter()
            .map_init(
                || evaluator.empty(Level(self.level), 2),
                |scratch, list| {
                    let mut sum = None;
                    for &term in list {
                        product(&mut sum, scratch, term)?;
                    }
                    sum.ok_or_else(|| missing(0))
                },
            )
            .collect()
    }

    /// Every slot becomes the sum of all.
    fn sum_slots(&self, sums: &[Ciphertext], times: &mut Times) -> Result<Vec<Ciphertext>, Error> {
        let start = Instant::now();
        let turned = sums
            .par_iter()
            .map_init(
                || self.workspace(),
                |workspace, sum| {
                    let slots = sum.parameters().degree() / 2;
                    let (evaluator, keys) = (&self.evaluator, &self.rotations);
                    Ok(sum_slots(evaluator, sum, 1, slots, keys, workspace)?)
                },
            )
            .collect();
        times.rotations += start.elapsed().as_secs_f64();
        turned
    }

    fn drop_all(&self, all: &[Ciphertext], level: usize) -> Result<Vec<Ciphertext>, Error> {
        let down = |c: &Ciphertext| Ok(self.evaluator.drop_to(c.clone(), Level(level))?);
        all.iter().map(down).collect()
    }
}

impl PureHe {
    /// Encrypts the parameters of a network, laid out as [`Network::layout`].
    ///
    /// `learning_rate / mean_batch` is the step size. `rng` draws the keys.
    ///
    /// # Errors
    /// [`Error::Parameters`] without a special prime or with a single prime;
    /// [`Error::UpdateLength`] for another number of parameters.
    pub fn new<R: CryptoRng + ?Sized>(
        network: &Network,
        values: &[f32],
        literal: &ParametersLiteral,
        style: Style,
        step_size: f64,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let (expected, got) = (network.parameter_count(), values.len());
        if expected != got {
            return Err(Error::UpdateLength { expected, got });
        }
        let parameters = Parameters::new(literal)?;
        let secret = SecretKey::generate(&parameters, rng);
        let keys = KeyGenerator::new(&secret)?;
        let steps = sum_steps(1, parameters.degree() / 2);
        let server = Server {
            evaluator: Evaluator::new(&parameters),
            relinearisation: keys.relinearization(rng)?,
            rotations: keys.rotations(&steps, rng)?,
            level: 0,
            weights: Vec::new(),
            biases: Vec::new(),
        };
        let client = Client {
            encoder: Encoder::new(&parameters),
            seeds: ChaCha20Rng::from_rng(rng),
            secret,
        };
        let mut engine = Self {
            network: network.clone(),
            style,
            factor: -step_size,
            client,
            server,
            sent: None,
            counts: Counts::default(),
            times: Times::default(),
        };
        engine.upload_parameters(values)?;
        Ok(engine)
    }

    /// Counts since the last call, among them the bytes of the first upload of all parameters.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Wall seconds since the last call, by kind of work.
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// Products that are left before the parameters have to be encrypted afresh.
    #[must_use]
    pub const fn level(&self) -> usize {
        self.server.level
    }

    /// All parameters, decrypted by the client.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn parameters(&self) -> Result<Vec<f32>, Error> {
        let mut values = vec![0.0; self.network.parameter_count()];
        let layers = self.server.weights.iter().zip(&self.server.biases);
        for (span, (weights, biases)) in self.network.layout().iter().zip(layers) {
            for (range, all) in [(&span.weights, weights), (&span.biases, biases)] {
                let decrypted = self.client.decrypt(all, 1)?;
                for (value, slots) in values[range.clone()].iter_mut().zip(decrypted) {
                    *value = slots.first().copied().unwrap_or(f64::NAN) as f32;
                }
            }
        }
        Ok(values)
    }

    fn scale() -> Scale {
        Scale::power_of_two(LOG2_SCALE)
    }

    /// One ciphertext per parameter, at the highest level.
    fn upload_parameters(&mut self, values: &[f32]) -> Result<(), Error> {
        let (level, slots) = (
            self.client.parameters().max_level(),
            self.client.encoder.slots(),
        );
        (self.server.weights, self.server.biases) = (Vec::new(), Vec::new());
        for span in self.network.layout().to_vec() {
            for (range, weights) in [(span.weights, true), (span.biases, false)] {
                let constants: Vec<Vec<f64>> = values[range]
                    .iter()
                    .map(|&v| vec![f64::from(v); slots])
                    .collect();
                let all = self.up(&constants, level, Self::scale())?;
                match weights {
                    true => self.server.weights.push(all),
                    false => self.server.biases.push(all),
                }
            }
        }
        self.server.level = level;
        Ok(())
    }

    /// Client to server.
    fn up(
        &mut self,
        columns: &[Vec<f64>],
        level: usize,
        scale: Scale,
    ) -> Result<Vec<Ciphertext>, Error> {
        let start = Instant::now();
        let each = SeededCiphertext::wire_size(self.client.parameters(), level) as u64;
        self.counts.uploads += columns.len() as u64;
        self.counts.bytes_up += columns.len() as u64 * each;
        let all = self.client.encrypt(columns, level, scale);
        self.times.client += start.elapsed().as_secs_f64();
        all
    }

    /// Server to client, at the lowest level.
    fn down(&mut self, all: &[Ciphertext], slots: usize) -> Result<Vec<Vec<f64>>, Error> {
        let start = Instant::now();
        let lowest = self.server.drop_all(all, 0)?;
        let each = Ciphertext::wire_size(self.client.parameters(), 0, 1) as u64;
        self.counts.downloads += all.len() as u64;
        self.counts.bytes_down += all.len() as u64 * each;
        let values = self.client.decrypt(&lowest, slots);
        self.times.client += start.elapsed().as_secs_f64();
        values
    }

    fn products(&self, layer: usize) -> Products {
        Products::new(self.network.linears()[layer])
    }

    /// The products that make each result of a phase: operand, weight. A weight stands for its own
    /// number.
    fn lists(&self, layer: usize, phase: Phase) -> Vec<Terms> {
        let products = self.products(layer);
        let count = self.network.linears()[layer].weights();
        let places: Vec<i32> = (0..count as i32).collect();
        let terms = |result| match phase {
            Phase::Forward => products.forward(&places, result),
            _ => products.backward(&places, result),
        };
        (0..products.results(phase) as u32)
            .map(|result| terms(result).iter().map(|t| (t.1 as u32, t.0)).collect())
            .collect()
    }

    fn count_sums(&mut self, lists: &[Terms]) {
        let terms = lists.iter().map(|list| list.len() as u64).sum();
        self.counts.add_sums(self.style, lists.len() as u64, terms);
    }

    /// The scale of inputs at this level: that of the prime which a rescale takes off.
    fn input_scale(&self) -> Result<Scale, Error> {
        let q = self.client.parameters().moduli()[self.server.level].value();
        Ok(Scale::new(q as f64)?)
    }

    fn encrypt_outputs(&mut self, d: &Tensor) -> Result<Vec<Ciphertext>, Error> {
        let level = self.server.level;
        self.up(&columns(d, self.factor), level, Self::scale())
    }

    fn linear(&mut self, layer: usize, x: &[Ciphertext]) -> Result<Vec<Ciphertext>, Error> {
        let lists = self.lists(layer, Phase::Forward);
        self.count_sums(&lists);
        let Self {
            server,
            style,
            times,
            ..
        } = self;
        let mut sums = server.sums(*style, (&server.weights[layer], x), &lists, times)?;
        let biases = server.drop_all(&server.biases[layer], server.level - 1)?;
        let positions = sums.len() / biases.len();
        for (sums, bias) in sums.chunks_mut(positions).zip(&biases) {
            for sum in sums {
                server.evaluator.add_assign(sum, bias)?;
            }
        }
        Ok(sums)
    }

    /// Adds the gradients, which carry the step size, to weights and biases.
    fn update(&mut self, layer: usize, x: &[Ciphertext], d: &[Ciphertext]) -> Result<(), Error> {
        let products = self.products(layer);
        let weights = 0..products.results(Phase::Gradient) as u32;
        let lists: Vec<Terms> = weights.map(|w| products.gradient(w)).collect();
        self.count_sums(&lists);
        let Self {
            server,
            style,
            times,
            ..
        } = self;
        let sums = server.sums(*style, (d, x), &lists, times)?;
        let gradients = server.sum_slots(&sums, times)?;
        let below = server.level - 1;
        let channels = server.biases[layer].len();
        let positions = d.len() / channels;
        let mut totals = Vec::with_capacity(channels);
        for outputs in d.chunks(positions) {
            let mut total = server.evaluator.drop_to(outputs[0].clone(), Level(below))?;
            for output in &server.drop_all(&outputs[1..], below)? {
                server.evaluator.add_assign(&mut total, output)?;
            }
            totals.push(total);
        }
        let totals = server.sum_slots(&totals, times)?;
        let mut weights = server.drop_all(&server.weights[layer], below)?;
        let mut biases = server.drop_all(&server.biases[layer], below)?;
        let pairs = weights.iter_mut().zip(&gradients);
        for (parameter, change) in pairs.chain(biases.iter_mut().zip(&totals)) {
            server.evaluator.add_assign(parameter, change)?;
        }
        (server.weights[layer], server.biases[layer]) = (weights, biases);
        let slots = self.client.encoder.slots() as u64;
        let sums = (gradients.len() + totals.len()) as u64;
        self.counts.rotations += sums * u64::from(slots.trailing_zeros());
        Ok(())
    }

    /// Decrypts all parameters and encrypts them at the highest level.
    fn refresh(&mut self) -> Result<(), Error> {
        let values = self.parameters()?;
        let each = Ciphertext::wire_size(self.client.parameters(), 0, 1) as u64;
        self.counts.downloads += values.len() as u64;
        self.counts.bytes_down += values.len() as u64 * each;
        self.upload_parameters(&values)
    }
}

impl Infer for PureHe {
    type Error = Error;

    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, Error> {
        Ok(self.forward_held(layer, x)?.0)
    }
}

/// Encrypted inputs of a layer, at the server.
#[derive(Debug)]
pub struct Inputs {
    layer: usize,
    x: Vec<Ciphertext>,
}

impl Train for PureHe {
    type Held = Inputs;
    type Pending = ();

    /// Encrypts the parameters afresh if no level is left.
    fn begin(&mut self, _step: u64, capacity: usize) -> Result<(), Error> {
        let slots = self.client.encoder.slots();
        if capacity > slots {
            return Err(Error::Capacity {
                expected: slots,
                got: capacity,
            });
        }
        self.sent = None;
        // All layers are updated in every step, so they stand at the same level.
        let held = self.server.weights.iter().flatten().map(|w| w.level().0);
        self.server.level = held.min().unwrap_or(0);
        if self.server.level == 0 {
            self.refresh()
        } else {
            Ok(())
        }
    }

    fn forward_held(&mut self, layer: usize, x: &Tensor) -> Result<(Tensor, Inputs), Error> {
        let (level, scale) = (self.server.level, self.input_scale()?);
        let encrypted = self.up(&columns(x, 1.0), level, scale)?;
        let y = self.linear(layer, &encrypted)?;
        let y = self.down(&y, x.rows())?;
        let held = Inputs {
            layer,
            x: encrypted,
        };
        Ok((batch(&y, x.rows(), 1.0), held))
    }

    fn backward(&mut self, layer: usize, d: &Tensor, _held: &Inputs) -> Result<Tensor, Error> {
        let encrypted = self.encrypt_outputs(d)?;
        let lists = self.lists(layer, Phase::Backward);
        self.count_sums(&lists);
        let Self {
            server,
            style,
            times,
            ..
        } = self;
        let dx = server.sums(*style, (&server.weights[layer], &encrypted), &lists, times)?;
        let dx = self.down(&dx, d.rows())?;
        self.sent = Some((layer, encrypted));
        Ok(batch(&dx, d.rows(), 1.0 / self.factor))
    }

    fn submit_gradient(&mut self, layer: usize, d: &Tensor, held: Inputs) -> Result<(), Error> {
        if layer != held.layer {
            return Err(Error::HeldLayer {
                expected: held.layer,
                got: layer,
            });
        }
        let outputs = match self.sent.take() {
            Some((sent, outputs)) if sent == layer => outputs,
            _ => self.encrypt_outputs(d)?,
        };
        self.update(layer, &held.x, &outputs)
    }

    /// The server has updated its parameters already; nothing is released.
    fn collect(&mut self, _pending: Vec<()>) -> Result<GradientSum, Error> {
        Ok(GradientSum {
            values: Vec::new(),
            shift: 0,
            norms_squared: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
