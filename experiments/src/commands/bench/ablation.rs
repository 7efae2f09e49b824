//! `sphinx bench --ablation`: what each optimisation of the published protocol saves.
//!
//! Each is taken away by itself. The price of one ciphertext with and without it is measured at the parameters of
//! the engine `paper` (relinearisation at those of `pure-he`, the smallest set of ours that has a special
//! prime); the number of ciphertexts in a step of `minionn-mnist` is that of the formula which the
//! tests check. Seconds and bytes of a step are products of the two: **computed**, on one thread. Beside them
//! stands the client that trains alone, measured.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sphinx_he::ckks::{
    Bank, Ciphertext, Decryptor, Encoder, Encryptor, Evaluator, Level, Plaintext, Scale,
    SeededCiphertext, SeededZero,
};
use sphinx_he::rlwe::{KeyGenerator, Parameters, RelinearizationKey, SecretKey, Workspace};
use sphinx_nn::network::{LinearShape, Network};
use sphinx_protocol::{paper, pure_he};

use super::{kept_or, median, remark_memory};
use crate::config::{Config, Engine, load_for};
use crate::environment;
use crate::job::Job;
use crate::netsim::PROFILES;
use crate::output::Output;
use crate::table::{Table, bytes, seconds};
use crate::work_ratio::Opponent;

/// Repetitions of each operation.
const TIMES: usize = 200;
/// log2 of the scales of the engine `paper`.
const SCALE: u8 = 30;

/// Terms of a sum whose price is measured.
const TERMS: usize = 64;
/// Mean batch.
const BATCH: u64 = 500;
/// The network whose ciphertexts are counted.
const NETWORK: &str = "minionn-mnist";

/// One optimisation: what a step costs with it and without it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    optimisation: String,
    without: String,
    /// Ciphertexts concerned in one step.
    ciphertexts: u64,
    /// Microseconds of each, with and without.
    microseconds: [f64; 2],
    /// Seconds of a step, with and without, one thread.
    seconds: [f64; 2],
    /// Bytes of a step, with and without.
    bytes: [u64; 2],
}

/// All of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ablation {
    machine: String,
    network: String,
    computed_from: String,
    /// Wall and CPU seconds of a step of the client that trains alone.
    alone_seconds: f64,
    alone_cpu_s: f64,
    ablation: Vec<Line>,
}

pub(super) fn run(out: Output, from: Option<&Path>) -> Result<()> {
    let takes = "measuring single operations; about twenty seconds";
    let all = kept_or(out, from, takes, || measure(out))?;
    out.say(table(&all.ablation));
    out.say(format_args!(
        "one operation is measured, its number in a step of {} at batch {BATCH} is by formula, the step is computed from \
         both,\non one thread; with -> without. LAN and WAN add the bytes of the line alone.\n\
         The client that trains alone: {} a step, {} of CPU.",
        all.network,
        seconds(all.alone_seconds),
        seconds(all.alone_cpu_s),
    ));
    out.object(&serde_json::to_value(&all)?);
    Ok(())
}

fn measure(out: Output) -> Result<Ablation> {
    let config = Config {
        engine: Engine::Paper,
        model: NETWORK.to_owned(),
        train_size: 6000,
        test_size: 10,
        batch: BATCH as f64,
        steps: 8,
        clip: Some(0.1),
        clip_samples: true,
        seed: Some(1),
        ..Config::default()
    };
    let split = load_for(&config, None)?;
    let job = Job::new(config, Arc::clone(&split))?;
    let alone = Opponent::measure(&job)?;
    let (world, network) = (World::new()?, &job.network);
    let measured = Ablation {
        machine: environment::capture().machine(),
        network: NETWORK.to_owned(),
        computed_from: "one operation measured, counts by formula, one thread".to_owned(),
        alone_seconds: alone.seconds,
        alone_cpu_s: alone.cpu_s,
        ablation: vec![
            world.slots(network)?,
            world.open_weights(network)?,
            world.small_ring(network)?,
            world.zeros(network)?,
            world.downloads(network)?,
            world.forward_cache(network)?,
            switching(network)?,
        ],
    };
    remark_memory(out, None);
    Ok(measured)
}

/// Ciphertexts of a step: uploads of inputs and output gradients, plain results, gradients.
struct Sizes {
    uploads: u64,
    plain: u64,
    forward: u64,
    gradients: u64,
    products: u64,
    plain_products: u64,
}

fn sizes(network: &Network) -> Sizes {
    let linears = network.linears();
    let sum = |part: fn(&LinearShape) -> usize| linears.iter().map(part).sum::<usize>() as u64;
    let (inputs, outputs) = (sum(|s| s.inputs), sum(|s| s.outputs));
    let back = inputs - linears.first().map_or(0, |s| s.inputs) as u64;
    let products = sum(|s| s.outputs * s.fans().0);
    let first = linears.first().map_or(0, |s| s.outputs * s.fans().0) as u64;
    Sizes {
        uploads: inputs + outputs,
        plain: outputs + back,
        forward: outputs,
        gradients: sum(LinearShape::weights),
        // no padding in this network: every output looks at its whole fan-in
        products,
        // forward, and backward but for the first layer
        plain_products: 2 * products - first,
    }
}

/// One key at the parameters of the engine `paper`.
struct World {
    parameters: Parameters,
    secret: SecretKey,
    encoder: Encoder,
    plain: Plaintext,
    fresh: Ciphertext,
}

fn one_line(
    (optimisation, without): (&'static str, &'static str),
    ciphertexts: u64,
    each: [f64; 2],
    bytes: [u64; 2],
) -> Line {
    Line {
        optimisation: optimisation.to_owned(),
        without: without.to_owned(),
        ciphertexts,
        microseconds: each.map(|s| s * 1e6),
        seconds: each.map(|s| s * ciphertexts as f64),
        bytes,
    }
}

impl World {
    fn new() -> Result<Self> {
        let parameters = Parameters::new(&paper::standard_parameters())?;
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let secret = SecretKey::generate(&parameters, &mut rng);
        let encoder = Encoder::new(&parameters);
        let values: Vec<f64> = (0..encoder.slots())
            .map(|_| f64::from(rng.next_u32() % 256))
            .collect();
        let plain = encoder.encode_real(&values, Level(1), Scale::power_of_two(SCALE))?;
        let fresh = Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?;
        Ok(Self {
            parameters,
            secret,
            encoder,
            plain,
            fresh,
        })
    }

    /// Encrypting for the wire, on the spot.
    fn encryption(&self) -> Result<f64> {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        median(TIMES, || {
            SeededCiphertext::encrypt(&self.plain, &self.secret, &mut rng)?;
            Ok(())
        })
    }

    /// A feature of all samples in one ciphertext, or of one sample.
    fn slots(&self, network: &Network) -> Result<Line> {
        let (each, uploads) = (self.encryption()?, sizes(network).uploads);
        let bytes = uploads * SeededCiphertext::wire_size(&self.parameters, 1) as u64;
        let names = ("a batch in the slots", "one image to a ciphertext");
        let each = [each, each * BATCH as f64];
        Ok(one_line(names, uploads, each, [bytes, bytes * BATCH]))
    }

    /// Weights as integers, or encrypted: products of two ciphertexts, relinearised and rescaled once a
    /// sum.
    fn open_weights(&self, network: &Network) -> Result<Line> {
        let mut bank = Bank::new(&self.parameters, Level(1), self.fresh.scale(), TERMS)?;
        (0..TERMS).try_for_each(|at| bank.put(at, &self.fresh))?;
        let list: Vec<(u32, i64)> = (0..TERMS as u32).map(|at| (at, 77)).collect();
        let with = median(TIMES, || {
            bank.weighted_sums(&[&list])?;
            Ok(())
        })?;
        let encrypted = Encrypted::new(Level(3))?;
        let without = encrypted.sum()?;
        let each = [with, without].map(|sum| sum / TERMS as f64);
        let names = (
            "weights in the clear",
            "encrypted, switched once a sum of 64",
        );
        let Sizes {
            plain,
            plain_products,
            ..
        } = sizes(network);
        let size = |p: &Parameters| plain * Ciphertext::wire_size(p, 0, 1) as u64;
        let bytes = [size(&self.parameters), size(&encrypted.parameters)];
        Ok(one_line(names, plain_products, each, bytes))
    }

    /// An upload in the ring that depth one needs, or in that of `pure-he`.
    fn small_ring(&self, network: &Network) -> Result<Line> {
        let with = self.encryption()?;
        let encrypted = Encrypted::new(Level(3))?;
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let without = median(TIMES, || {
            SeededCiphertext::encrypt(&encrypted.plain, &encrypted.secret, &mut rng)?;
            Ok(())
        })?;
        let uploads = sizes(network).uploads;
        let size = |p: &Parameters, level| uploads * SeededCiphertext::wire_size(p, level) as u64;
        let bytes = [size(&self.parameters, 1), size(&encrypted.parameters, 3)];
        let names = ("N = 4096 and depth one", "N = 8192 and depth three");
        Ok(one_line(names, uploads, [with, without], bytes))
    }

    /// Adding a plaintext to a prepared zero, or encrypting on the spot.
    fn zeros(&self, network: &Network) -> Result<Line> {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let zeros = (0..=TIMES).map(|_| SeededZero::new(&self.secret, Level(1), &mut rng));
        let mut zeros = zeros.collect::<Result<Vec<_>, _>>()?;
        let with = median(TIMES, || {
            let zero = zeros.pop().context("a zero for each repetition")?;
            SeededCiphertext::from_zero(zero, &self.plain)?;
            Ok(())
        })?;
        let without = median(TIMES, || {
            SeededCiphertext::encrypt(&self.plain, &self.secret, &mut rng)?;
            Ok(())
        })?;
        let uploads = sizes(network).uploads;
        let bytes = uploads * SeededCiphertext::wire_size(&self.parameters, 1) as u64;
        let names = ("prepared encryptions of zero", "encryption on the spot");
        Ok(one_line(names, uploads, [with, without], [bytes; 2]))
    }

    /// Results at the lowest level, or with both primes: their division by the last prime (at the server), serialised,
    /// parsed, decrypted and decoded.
    fn downloads(&self, network: &Network) -> Result<Line> {
        let evaluator = Evaluator::new(&self.parameters);
        let product = evaluator.mul(&self.fresh, &self.fresh)?;
        let decryptor = Decryptor::new(&self.secret);
        let receive = |bytes: &[u8]| -> Result<()> {
            let received = Ciphertext::from_bytes(bytes, &self.parameters)?;
            self.encoder.decode_real(&decryptor.decrypt(&received)?)?;
            Ok(())
        };
        let with = median(TIMES, || {
            receive(&evaluator.rescale(product.clone())?.to_bytes())
        })?;
        let without = median(TIMES, || receive(&product.to_bytes()))?;
        let Sizes {
            plain, gradients, ..
        } = sizes(network);
        let size = |level, degree| Ciphertext::wire_size(&self.parameters, level, degree) as u64;
        let total = |level| plain * size(level, 1) + gradients * size(level, 2);
        let names = (
            "downloads at the lowest level",
            "downloads with both primes",
        );
        Ok(one_line(
            names,
            plain + gradients,
            [with, without],
            [total(0), total(1)],
        ))
    }

    /// The local derivative kept by the client, or the layer's outputs sent down again for the backward pass.
    fn forward_cache(&self, network: &Network) -> Result<Line> {
        let evaluator = Evaluator::new(&self.parameters);
        let low = evaluator.drop_to(self.fresh.clone(), Level(0))?;
        let decryptor = Decryptor::new(&self.secret);
        let without = median(TIMES, || {
            let received = Ciphertext::from_bytes(&low.to_bytes(), &self.parameters)?;
            self.encoder.decode_real(&decryptor.decrypt(&received)?)?;
            Ok(())
        })?;
        let forward = sizes(network).forward;
        let again = forward * Ciphertext::wire_size(&self.parameters, 0, 1) as u64;
        let names = ("derivatives cached at the client", "outputs sent again");
        Ok(one_line(names, forward, [0.0, without], [0, again]))
    }
}

/// One key at the parameters of the engine `pure-he`.
struct Encrypted {
    parameters: Parameters,
    secret: SecretKey,
    plain: Plaintext,
    fresh: Ciphertext,
    evaluator: Evaluator,
    key: RelinearizationKey,
}

impl Encrypted {
    fn new(level: Level) -> Result<Self> {
        let parameters = Parameters::new(&pure_he::standard_parameters())?;
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let secret = SecretKey::generate(&parameters, &mut rng);
        let key = KeyGenerator::new(&secret)?.relinearization(&mut rng)?;
        let (encoder, scale) = (Encoder::new(&parameters), Scale::power_of_two(40));
        let plain = encoder.encode_real(&[1.0, 2.0], level, scale)?;
        let fresh = Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?;
        Ok(Self {
            evaluator: Evaluator::new(&parameters),
            parameters,
            secret,
            plain,
            fresh,
            key,
        })
    }

    /// Seconds of a sum of [`TERMS`] products, relinearised and rescaled at its end.
    fn sum(&self) -> Result<f64> {
        let (level, scale) = (self.fresh.level(), self.fresh.scale());
        let mut bank = Bank::new(&self.parameters, level, scale, TERMS)?;
        (0..TERMS).try_for_each(|at| bank.put(at, &self.fresh))?;
        let list: Vec<(u32, u32)> = (0..TERMS as u32).map(|at| (at, at)).collect();
        let mut workspace = Workspace::new(&self.parameters);
        median(TIMES, || {
            for mut sum in bank.product_sums(&bank, &[&list])? {
                self.evaluator
                    .relinearize_assign(&mut sum, &self.key, &mut workspace)?;
                self.evaluator.rescale(sum)?;
            }
            Ok(())
        })
    }
}

/// Gradients left at degree two, or every product relinearised and rescaled; at the parameters of `pure-he`,
/// one level above the lowest.
fn switching(network: &Network) -> Result<Line> {
    let world = Encrypted::new(Level(1))?;
    let Encrypted {
        parameters,
        fresh,
        evaluator,
        key,
        ..
    } = &world;
    let mut workspace = Workspace::new(parameters);
    let mut product = evaluator.mul(fresh, fresh)?;
    let with = median(TIMES, || {
        Ok(evaluator.mul_into(&mut product, fresh, fresh)?)
    })?;
    let mut out = evaluator.empty(Level(0), 1);
    let without = median(TIMES, || {
        evaluator.mul_relin_rescale_into(&mut out, fresh, fresh, key, &mut workspace)?;
        Ok(())
    })?;
    let Sizes {
        products,
        gradients,
        ..
    } = sizes(network);
    let size = |degree| gradients * Ciphertext::wire_size(parameters, 0, degree) as u64;
    let names = (
        "no relinearisation, no rescale of products",
        "both after every product",
    );
    Ok(one_line(
        names,
        products,
        [with, without],
        [size(2), size(1)],
    ))
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new([
        "optimisation",
        "ciphertexts",
        "each",
        "a step",
        "bytes a step",
        "LAN",
        "WAN",
    ]);
    for line in lines {
        let pair = |values: [String; 2]| format!("{} -> {}", values[0], values[1]);
        let over = |line: &Line, network: usize| {
            let [with, without] = [0, 1].map(|i| (line.seconds[i], line.bytes[i]));
            let both = [with, without].map(|(s, b)| seconds(PROFILES[network].seconds(s, b, 0)));
            pair(both)
        };
        table.row(
            format!("{} (or {})", line.optimisation, line.without),
            [
                line.ciphertexts.to_string(),
                pair(line.microseconds.map(|us| seconds(us * 1e-6))),
                pair(line.seconds.map(seconds)),
                pair(line.bytes.map(|b| bytes(b as f64))),
                over(line, 0),
                over(line, 1),
            ],
        );
    }
    table
}
