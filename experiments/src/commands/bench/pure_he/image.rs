//! Inference on one encrypted image without interaction, measured.

use std::time::Instant;

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use sphinx_he::ckks::{Ciphertext, Decryptor, Encoder, SeededCiphertext};
use sphinx_he::rlwe::{KeyGenerator, Parameters, SecretKey, Workspace};
use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::{Network, Tensor, init, pass};
use sphinx_protocol::pure_he::{ImageKeys, ImageModel, image_parameters};

use super::super::median;
use super::tables::Inference;

/// Requests that are timed, after one that is not.
const REQUESTS: usize = 3;

/// The network of CryptoNets: a convolution with five maps and two dense layers, squares between.
pub(super) fn network() -> Result<Network> {
    Ok(Network::new(&Architecture {
        name: "cryptonets".to_owned(),
        input: ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        },
        layers: vec![
            LayerSpec::Conv {
                channels: 5,
                kernel: 5,
                stride: 2,
                padding: 1,
            },
            LayerSpec::Square,
            LayerSpec::Dense { outputs: 100 },
            LayerSpec::Square,
            LayerSpec::Dense { outputs: 10 },
        ],
    })?)
}

pub(super) fn measure(image: &Tensor) -> Result<Inference> {
    let network = network()?;
    let values = init::glorot(&network, 1);
    let start = Instant::now();
    let parameters = Parameters::new(&image_parameters(network.linears().len()))?;
    let rng = &mut rand::rng();
    let secret = SecretKey::generate(&parameters, rng);
    let model = ImageModel::new(&network, &values, &parameters)?;
    let generator = KeyGenerator::new(&secret)?;
    let keys = ImageKeys {
        relinearisation: generator.relinearization(rng)?,
        rotations: generator.rotations(&model.steps(), rng)?,
    };
    let offline_seconds = start.elapsed().as_secs_f64();
    let (encoder, mut workspace) = (Encoder::new(&parameters), Workspace::new(&parameters));
    let (mut bytes, mut logits) = (0, Vec::new());
    let mut client = 0.0;
    let seconds = median(REQUESTS, || {
        let cpu = ProcessTime::now();
        let plain = model.encode(&encoder, image.row(0))?;
        let up = SeededCiphertext::encrypt(&plain, &secret, &mut rand::rng())?.to_bytes();
        let sealed = cpu.elapsed();
        let received = SeededCiphertext::from_bytes(&up, &parameters)?.expand();
        let down = model.answer(&received, &keys, &mut workspace)?.to_bytes();
        let cpu = ProcessTime::now();
        let answer = Ciphertext::from_bytes(&down, &parameters)?;
        logits = encoder.decode_real(&Decryptor::new(&secret).decrypt(&answer)?)?;
        client = (sealed + cpu.elapsed()).as_secs_f64();
        bytes = (up.len() + down.len()) as u64;
        Ok(())
    })?;
    let mut clear = Clear::new(&network, values, ClearConfig::default())?;
    let expected = pass::infer(&mut clear, &network, image)?;
    let gaps = logits.iter().zip(expected.row(0));
    let error = gaps.map(|(a, b)| (a - f64::from(*b)).abs());
    let alone = alone(&mut clear, &network, image)?;
    Ok(Inference {
        form: "pure HE, one image, one message each way".to_owned(),
        network: format!(
            "{} ({} rotations)",
            network.architecture().name,
            model.rotations()
        ),
        extrapolated: false,
        seconds,
        bytes,
        rounds: 1,
        offline_seconds,
        error: Some(error.reduce(f64::max).context("logits")?),
        client_work_ratio: Some(client / alone),
        client_cpu_s: Some(client),
        alone_cpu_s: Some(alone),
    })
}

/// CPU seconds of one image in the clear.
pub(super) fn alone(clear: &mut Clear, network: &Network, image: &Tensor) -> Result<f64> {
    const TIMES: u32 = 50;
    pass::infer(clear, network, image)?;
    let cpu = ProcessTime::now();
    for _ in 0..TIMES {
        pass::infer(clear, network, image)?;
    }
    Ok(cpu.elapsed().as_secs_f64() / f64::from(TIMES))
}
