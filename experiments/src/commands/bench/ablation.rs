//! `sphinx bench --ablation`: what each optimisation of the published protocol saves.
//!
//! Four optimisations are taken away one by one. The price of one ciphertext with and without each is measured at
//! the parameters of the engine `paper` (relinearisation at those of `pure-he`, the smallest set of ours that
//! has a special prime); the number of ciphertexts in a step of `minionn-mnist` is that of the formula which the
//! tests check. Seconds and bytes of a step are products of the two: **computed**, on one thread.

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde_json::json;
use sphinx_he::ckks::{
    Ciphertext, Decryptor, Encoder, Encryptor, Evaluator, Level, Plaintext, Scale,
    SeededCiphertext, SeededZero,
};
use sphinx_he::rlwe::{KeyGenerator, Parameters, SecretKey, Workspace};
use sphinx_nn::network::{LinearShape, Network};
use sphinx_nn::{ImageShape, architectures};
use sphinx_protocol::{paper, pure_he};

use super::median;
use crate::environment;
use crate::output::Output;
use crate::table::{Table, bytes, seconds};

/// Repetitions of each operation.
const TIMES: usize = 200;
/// log2 of the scales of the engine `paper`.
const SCALE: u8 = 30;

/// One optimisation: what a step costs with it and without it.
#[derive(Debug, Serialize)]
struct Line {
    optimisation: &'static str,
    without: &'static str,
    /// Ciphertexts concerned in one step.
    ciphertexts: u64,
    /// Microseconds of each, with and without.
    microseconds: [f64; 2],
    /// Seconds of a step, with and without, one thread.
    seconds: [f64; 2],
    /// Bytes of a step, with and without.
    bytes: [u64; 2],
}

pub(super) fn run(out: Output) -> Result<()> {
    out.remark("measuring single operations; about ten seconds");
    let input = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let architecture = architectures::by_name("minionn-mnist", input, 10);
    let network = Network::new(&architecture.context("the paper's network")?)?;
    let world = World::new()?;
    let lines = [
        world.zeros(&network)?,
        world.downloads(&network)?,
        world.forward_cache(&network)?,
        switching(&network)?,
    ];
    out.say(table(&lines));
    out.say(
        "one operation is measured, its number in a step of minionn-mnist is by formula, the step is computed \
         from both, on one thread; with -> without",
    );
    out.object(&json!({
        "machine": environment::capture().machine(),
        "network": "minionn-mnist",
        "computed_from": "one operation measured, counts by formula, one thread",
        "ablation": lines,
    }));
    Ok(())
}

/// Ciphertexts of a step: uploads of inputs and output gradients, plain results, gradients.
struct Sizes {
    uploads: u64,
    plain: u64,
    forward: u64,
    gradients: u64,
    products: u64,
}

fn sizes(network: &Network) -> Sizes {
    let linears = network.linears();
    let sum = |part: fn(&LinearShape) -> usize| linears.iter().map(part).sum::<usize>() as u64;
    let (inputs, outputs) = (sum(|s| s.inputs), sum(|s| s.outputs));
    let back = inputs - linears.first().map_or(0, |s| s.inputs) as u64;
    Sizes {
        uploads: inputs + outputs,
        plain: outputs + back,
        forward: outputs,
        gradients: sum(LinearShape::weights),
        // no padding in this network: every output looks at its whole fan-in
        products: sum(|s| s.outputs * s.fans().0),
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
        optimisation,
        without,
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

/// Gradients left at degree two, or every product relinearised and rescaled; at the parameters of `pure-he`,
/// one level above the lowest.
fn switching(network: &Network) -> Result<Line> {
    let parameters = Parameters::new(&pure_he::standard_parameters())?;
    let mut rng = StdRng::from_rng(&mut rand::rng());
    let secret = SecretKey::generate(&parameters, &mut rng);
    let key = KeyGenerator::new(&secret)?.relinearization(&mut rng)?;
    let (encoder, scale) = (Encoder::new(&parameters), Scale::power_of_two(40));
    let plain = encoder.encode_real(&[1.0, 2.0], Level(1), scale)?;
    let fresh = Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?;
    let (evaluator, mut workspace) = (Evaluator::new(&parameters), Workspace::new(&parameters));
    let mut product = evaluator.mul(&fresh, &fresh)?;
    let with = median(TIMES, || {
        Ok(evaluator.mul_into(&mut product, &fresh, &fresh)?)
    })?;
    let mut out = evaluator.empty(Level(0), 1);
    let without = median(TIMES, || {
        evaluator.mul_relin_rescale_into(&mut out, &fresh, &fresh, &key, &mut workspace)?;
        Ok(())
    })?;
    let Sizes {
        products,
        gradients,
        ..
    } = sizes(network);
    let size = |degree| gradients * Ciphertext::wire_size(&parameters, 0, degree) as u64;
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
    ]);
    for line in lines {
        let pair = |values: [String; 2]| format!("{} -> {}", values[0], values[1]);
        table.row(
            format!("{} (or {})", line.optimisation, line.without),
            [
                line.ciphertexts.to_string(),
                pair(line.microseconds.map(|us| seconds(us * 1e-6))),
                pair(line.seconds.map(seconds)),
                pair(line.bytes.map(|b| bytes(b as f64))),
            ],
        );
    }
    table
}
