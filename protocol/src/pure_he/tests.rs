//! Encrypted steps against steps in double precision, and counts against formulas.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::rlwe::{KeyGenerator, Parameters, SecretKey};
use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::engine::Train;
use sphinx_nn::network::LayerSpec;
use sphinx_nn::pass;
use sphinx_nn::tensor::Tensor;

use super::*;
use crate::error::Error;
use crate::fixture::{self, architecture};
use crate::message::{Refusal, Reveals, ToServer};
use crate::plan::Limits;
use crate::view::View;

fn plan(layers: Vec<LayerSpec>, side: usize, capacity: usize, style: Style) -> PureHePlan {
    let literal = PureHeLiteral {
        architecture: architecture(fixture::image(1, side, side), layers),
        capacity,
        style,
        he: fixture::toy(standard_parameters(), 8),
    };
    PureHePlan::new(&literal, &Limits::default()).unwrap()
}

fn plans(capacity: usize, style: Style) -> [PureHePlan; 2] {
    let conv = LayerSpec::Conv {
        channels: 2,
        kernel: 2,
        stride: 1,
        padding: 0,
    };
    let ends = [LayerSpec::Tanh, LayerSpec::Dense { outputs: 3 }];
    let dense = [vec![LayerSpec::Dense { outputs: 4 }], ends.to_vec()].concat();
    let convs = vec![conv, LayerSpec::Relu, conv, LayerSpec::Tanh];
    let conv = [convs, vec![LayerSpec::Dense { outputs: 4 }], ends.to_vec()].concat();
    [
        plan(dense, 3, capacity, style),
        plan(conv, 5, capacity, style),
    ]
}

/// A batch whose numbers are no special ones.
fn data(rows: usize, columns: usize) -> (Tensor, Vec<Option<u8>>) {
    let value = |i: usize| ((i * 37 + 11) % 101) as f32 / 101.0;
    let x = Tensor::from_vec(rows, columns, (0..rows * columns).map(value).collect()).unwrap();
    let labels = (0..rows).map(|j| Some((j % 3) as u8)).collect();
    (x, labels)
}

fn clear(plan: &PureHePlan, start: &[f32], rows: usize) -> Clear {
    let config = ClearConfig {
        clip_bound: None,
        learning_rate: 0.5,
        momentum: 0.0,
        divisor: rows as f64,
        shift: 30,
    };
    Clear::new(plan.network(), start.to_vec(), config).unwrap()
}

/// The largest difference of two lists.
fn worst(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let gaps = a.iter().zip(b).map(|(a, b)| f64::from(a - b).abs());
    gaps.fold(0.0, f64::max)
}

fn check(plan: &PureHePlan, rows: usize) {
    let network = plan.network();
    let (x, labels) = data(rows, network.inputs());
    let start = sphinx_nn::init::glorot(network, 3);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let size = 0.5 / rows as f64;
    let mut engine = PureHe::open(fixture::link(None), plan, &start, size, &mut rng).unwrap();
    let first = engine.work().unwrap().counts;
    assert_eq!(first.uploads as usize, network.parameter_count());
    let mut clear = clear(plan, &start, rows);
    // three steps use up the levels, the fourth begins with fresh parameters
    for step in 0..4 {
        let level = engine.level();
        let before = engine.link().meter().read();
        engine.begin(step, rows).unwrap();
        let refreshed = engine.link().meter().read().received > before.received;
        assert_eq!(refreshed, step == 3);
        let pass = pass::gradients(&mut engine, network, &x, &labels).unwrap();
        engine.collect(pass.pending).unwrap();
        let mut counted = engine.work().unwrap().counts;
        let level = if step == 3 { 3 } else { level };
        if step == 3 {
            counted.uploads -= network.parameter_count() as u64;
            counted.downloads -= network.parameter_count() as u64;
        }
        assert_eq!(counted, plan.counts(level), "step {step}");
        clear.begin(step, rows).unwrap();
        let pass = pass::gradients(&mut clear, network, &x, &labels).unwrap();
        let sum = clear.collect(pass.pending).unwrap();
        clear.apply(&sum.values, sum.shift).unwrap();
    }
    let ours = engine.parameters().unwrap();
    assert!(worst(&ours, clear.parameters()) < 1e-6);
    assert!(worst(&ours, &start) > 1e-2);
    engine.work().unwrap();
    let (logits, expected) = (
        pass::infer(&mut engine, network, &x).unwrap(),
        pass::infer(&mut clear, network, &x).unwrap(),
    );
    assert!(worst(logits.as_slice(), expected.as_slice()) < 2e-6);
    let counted = engine.work().unwrap().counts;
    assert_eq!(counted, plan.inference_counts(engine.level()));
    engine.close().unwrap();
}

#[test]
fn encrypted_steps_are_those_in_the_clear_and_counted() {
    for style in [Style::Eager, Style::Lazy] {
        let [dense, conv] = plans(20, style);
        check(&dense, 20);
        check(&conv, 13);
    }
}

#[test]
fn the_standard_set_has_128_bits_and_one_prime_to_a_digit() {
    let parameters = Parameters::new(&standard_parameters()).unwrap();
    assert_eq!(parameters.security(), Security::Classical128);
    assert_eq!((parameters.degree(), parameters.max_level()), (8192, 3));
    // what the formula of transforms takes for granted
    let secret = SecretKey::generate(&parameters, &mut ChaCha20Rng::seed_from_u64(1));
    assert_eq!(KeyGenerator::new(&secret).unwrap().groups(), [1; 4]);
}

#[test]
fn eager_switches_every_product_and_lazy_every_sum() {
    let [eager, _] = plans(20, Style::Eager);
    let [lazy, _] = plans(20, Style::Lazy);
    let (eager, lazy) = (eager.counts(3), lazy.counts(3));
    // 9 x 4 forward and gradient; 4 x 3 forward, backward and gradient
    assert_eq!(eager.products, 2 * 36 + 3 * 12);
    assert_eq!(eager.relinearisations, eager.products);
    assert_eq!(lazy.products, eager.products);
    assert_eq!(lazy.relinearisations, 4 + 36 + 3 + 4 + 12);
    // twenty rows repeat in 32 slots
    assert_eq!(lazy.rotations, (36 + 4 + 12 + 3) * 5);
    assert_eq!(eager.rotations, lazy.rotations);
    assert!(lazy.transforms < eager.transforms);
}

#[test]
fn what_the_server_cannot_hold_is_refused_with_its_size() {
    let paper =
        sphinx_nn::architectures::by_name("minionn-mnist", fixture::image(1, 28, 28), 10).unwrap();
    let literal = PureHeLiteral::standard(paper, 500, Style::Lazy);
    let refused = PureHePlan::new(&literal, &Limits::default()).unwrap_err();
    assert!(matches!(refused, Error::Limit { got, .. } if got > 17_000_000_000));
    let roomy = Limits {
        bytes: 1 << 40,
        ..Limits::default()
    };
    let plan = PureHePlan::new(&literal, &roomy).unwrap();
    // The server decides by its own limits.
    let start = vec![0.0; plan.network().parameter_count()];
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let refused = PureHe::open(fixture::link(None), &plan, &start, 1.0, &mut rng).unwrap_err();
    assert!(matches!(
        refused,
        Error::Refused {
            reason: Refusal::Plan,
            ..
        }
    ));
}

/// One image through a convolution and two dense layers with squares between, against double
/// precision; the margin is stated here and printed by the measurement.
#[test]
fn one_encrypted_image_gives_the_logits_of_the_clear_network() {
    let conv = LayerSpec::Conv {
        channels: 2,
        kernel: 3,
        stride: 2,
        padding: 1,
    };
    let dense = |outputs| LayerSpec::Dense { outputs };
    let square = LayerSpec::Square;
    let architecture =
        |layers: &[LayerSpec]| architecture(fixture::image(1, 6, 6), layers.to_vec());
    let layers = [conv, square, dense(7), square, dense(3)];
    let network = sphinx_nn::network::Network::new(&architecture(&layers)).unwrap();
    let mut values = sphinx_nn::init::glorot(&network, 3);
    for span in network.layout() {
        for (i, bias) in values[span.biases.clone()].iter_mut().enumerate() {
            *bias = 0.1 * i as f32 - 0.2;
        }
    }
    let parameters = Parameters::new(&fixture::toy(image_parameters(3), 8)).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let model = ImageModel::new(&network, &values, &parameters).unwrap();
    let generator = KeyGenerator::new(&secret).unwrap();
    let keys = ImageKeys {
        relinearisation: generator.relinearization(&mut rng).unwrap(),
        rotations: generator.rotations(&model.steps(), &mut rng).unwrap(),
    };
    let encoder = sphinx_he::ckks::Encoder::new(&parameters);
    let (x, _) = data(1, network.inputs());
    let plain = model.encode(&encoder, x.row(0)).unwrap();
    let image = sphinx_he::ckks::SeededCiphertext::encrypt(&plain, &secret, &mut rng).unwrap();
    let mut workspace = sphinx_he::rlwe::Workspace::new(&parameters);
    let answer = model
        .answer(&image.expand(), &keys, &mut workspace)
        .unwrap();
    assert_eq!(answer.level().0, 0);
    let plain = sphinx_he::ckks::Decryptor::new(&secret)
        .decrypt(&answer)
        .unwrap();
    let slots = encoder.decode_real(&plain).unwrap();
    let mut clear = Clear::new(&network, values.clone(), ClearConfig::default()).unwrap();
    let logits = pass::infer(&mut clear, &network, &x).unwrap();
    for (ours, theirs) in slots.iter().zip(logits.as_slice()) {
        assert!((ours - f64::from(*theirs)).abs() < 1e-4, "{ours} {theirs}");
    }
    assert!(logits.as_slice().iter().any(|v| v.abs() > 1e-2));
    // other activations have no polynomial here
    let layers = [conv, LayerSpec::Relu, dense(3)];
    let network = sphinx_nn::network::Network::new(&architecture(&layers)).unwrap();
    let values = sphinx_nn::init::glorot(&network, 3);
    assert!(matches!(
        ImageModel::new(&network, &values, &parameters),
        Err(Error::UnsupportedLayer { layer: 1, .. })
    ));
}

/// What the server sees: one upload after the other, all ciphertexts, the same sizes whatever the data.
#[test]
fn order_and_sizes_do_not_depend_on_the_data() {
    let [_, plan] = plans(8, Style::Lazy);
    let run = |offset: f32, seed| {
        let view = View::default();
        let (mut x, labels) = data(8, plan.network().inputs());
        x.as_mut_slice().iter_mut().for_each(|v| *v *= offset);
        let start = sphinx_nn::init::glorot(plan.network(), 3);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let link = fixture::link(Some(view.clone()));
        let mut engine = PureHe::open(link, &plan, &start, 0.1, &mut rng).unwrap();
        engine.begin(0, 8).unwrap();
        let pass = pass::gradients(&mut engine, plan.network(), &x, &labels).unwrap();
        engine.collect(pass.pending).unwrap();
        engine.close().unwrap();
        view.seen()
    };
    let (one, other) = (run(1.0, 1), run(0.0, 2));
    let shape = |seen: &[crate::view::Seen]| -> Vec<(&'static str, usize)> {
        let seen = seen.iter().filter(|s| s.name != "Farewell");
        seen.map(|s| (s.name, s.bytes)).collect()
    };
    assert_eq!(shape(&one), shape(&other));
    assert!(one.iter().all(|s| s.reveals != Some(Reveals::Released)));
    let digests: Vec<_> = one.iter().chain(&other).filter_map(|s| s.digest).collect();
    let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
    assert!(distinct.len() == digests.len() && digests.len() > 100);
}

#[test]
fn a_message_out_of_order_ends_the_connection() {
    let [plan, _] = plans(8, Style::Lazy);
    let mut link = fixture::link(None);
    link.open_pure_he(&plan).unwrap();
    link.send(&ToServer::BeginStep { step: 0 }).unwrap();
    assert!(matches!(
        link.receive(),
        Err(Error::Refused {
            reason: Refusal::Protocol,
            ..
        })
    ));
}
