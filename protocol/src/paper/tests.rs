//! The encrypted run against integer DP-SGD in the clear; failures where the plan says so.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_he::rlwe::{ParametersLiteral, Security};
use sphinx_nn::engine::Train;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::pass;
use sphinx_nn::tensor::Tensor;

use super::store::{Part, Store};
use super::*;
use crate::error::Error;
use crate::grid::{Engine, Local, Multiplier};
use crate::link::Link;
use crate::model::Replica;
use crate::party::{Hub, HubLimits};
use crate::plan::{LOG2_FAILURE, Limits, PlanChoices};
use crate::serve::converse;
use crate::transport::loopback;

fn toy(log_n: u32) -> ParametersLiteral {
    ParametersLiteral {
        log_n,
        security: Security::Toy,
        ..standard_parameters()
    }
}

fn choices(layers: Vec<LayerSpec>, side: usize, capacity: usize) -> PlanChoices {
    PlanChoices {
        architecture: Architecture {
            name: "paper".into(),
            input: ImageShape {
                channels: 1,
                height: side,
                width: side,
            },
            layers,
        },
        capacity,
        clip_bound: 0.5,
        learning_rate: 1.0,
        momentum: 0.5,
        divisor: 4.0,
        init_seed: 5,
        tickets: 1,
    }
}

fn dense() -> Vec<LayerSpec> {
    vec![
        LayerSpec::Dense { outputs: 5 },
        LayerSpec::Tanh,
        LayerSpec::Dense { outputs: 3 },
    ]
}

fn conv(channels: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv {
        channels,
        kernel: 3,
        stride: 1,
        padding,
    }
}

fn plan_of(choices: &PlanChoices, log_n: u32) -> PaperPlan {
    let literal = PaperLiteral::design_with(choices, toy(log_n)).unwrap();
    PaperPlan::new(&literal, &Limits::default()).unwrap()
}

fn engine(plan: &PaperPlan) -> Engine<Paper> {
    let (client, server) = loopback();
    let hub = Arc::new(Hub::new(HubLimits::default()));
    std::thread::spawn(move || converse(server, hub, 0, None));
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let replica = Replica::initial(plan.grid());
    let link = Link::greet(client).unwrap();
    Engine::new(Paper::open(link, plan, replica, &mut rng).unwrap())
}

/// Everything one step computes, from a batch of random rows.
fn step<M: Multiplier>(
    engine: &mut Engine<M>,
    plan: &PaperPlan,
    seed: u64,
) -> (Vec<i64>, Vec<u128>, f64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (rows, inputs) = (plan.capacity(), plan.network().inputs());
    let values = (0..rows * inputs).map(|_| (rng.next_u32() % 256) as f32 / 255.0);
    let x = Tensor::from_vec(rows, inputs, values.collect()).unwrap();
    let labels: Vec<Option<u8>> = (0..rows)
        .map(|j| (j + 2 < rows).then(|| (rng.next_u32() % 3) as u8))
        .collect();
    engine.begin(0, rows).unwrap();
    let pass = pass::gradients(engine, plan.network(), &x, &labels).unwrap();
    let sum = engine.collect(pass.pending).unwrap();
    (sum.values, sum.norms_squared, pass.loss)
}

#[test]
fn a_step_is_that_of_the_clear_engine() {
    let pooled = vec![
        conv(2, 0),
        LayerSpec::Relu,
        LayerSpec::MaxPool { size: 2, stride: 2 },
        conv(3, 1),
        LayerSpec::Tanh,
        LayerSpec::Dense { outputs: 3 },
    ];
    // capacities below, at and above the slots of a ciphertext
    for (layers, side, capacity, log_n) in [
        (dense(), 4, 10, 6),
        (dense(), 3, 32, 6),
        (dense(), 3, 75, 6),
        (pooled.clone(), 6, 9, 6),
        (pooled, 6, 40, 6),
    ] {
        let plan = plan_of(&choices(layers, side, capacity), log_n);
        let mut oracle = Engine::new(Local::new(Replica::initial(plan.grid())));
        let mut engine = engine(&plan);
        let (ours, theirs) = (step(&mut engine, &plan, 3), step(&mut oracle, &plan, 3));
        assert_eq!(ours, theirs, "{capacity} rows");
        assert!(ours.0.iter().any(|&v| v != 0));
        engine.into_multiplier().close().unwrap();
    }
}

#[test]
fn the_standard_plans_are_exact_at_128_bits() {
    for (name, channels, side, capacity) in [
        ("minionn-mnist", 1, 28, 688),
        ("minionn-mnist", 1, 28, 2412),
        ("minionn-cifar10", 3, 32, 300),
        ("mlp", 1, 28, 688),
    ] {
        let input = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let choices = PlanChoices {
            architecture: sphinx_nn::architectures::by_name(name, input, 10).unwrap(),
            clip_bound: 0.1,
            ..choices(Vec::new(), side, capacity)
        };
        let literal = PaperLiteral::design(&choices).unwrap();
        let plan = PaperPlan::new(&literal, &Limits::default()).unwrap();
        for row in plan.exactness() {
            assert!(row.holds(LOG2_FAILURE), "{name}: {row:?}");
        }
        assert_eq!(plan.blocks(), capacity.div_ceil(2048));
    }
}

#[test]
fn plans_that_would_round_wrongly_are_refused() {
    let choices = choices(dense(), 4, 10);
    let narrow = |log_q: Vec<u32>| {
        let he = ParametersLiteral { log_q, ..toy(12) };
        let literal = PaperLiteral::design_with(&choices, he).unwrap();
        PaperPlan::new(&literal, &Limits::default()).map(|_| ())
    };
    assert!(matches!(narrow(vec![40, 34]), Err(Error::Inexact(_))));
    assert!(matches!(narrow(vec![49, 45]), Err(Error::Inexact(_))));
    assert!(matches!(narrow(vec![49]), Err(Error::PrimeCount { .. })));
    assert!(narrow(vec![49, 34]).is_ok());
    let mut literal = PaperLiteral::design_with(&choices, toy(6)).unwrap();
    literal.grid.clipping = crate::plan::Clipping::Factors;
    assert!(PaperPlan::new(&literal, &Limits::default()).is_err());
}

/// The predicted rate of wrong roundings is the observed one, at parameters where it is large.
#[test]
fn wrong_roundings_come_as_often_as_predicted() {
    let layers = vec![LayerSpec::Dense { outputs: 40 }];
    let choices = choices(layers, 8, 512);
    // q1 so large that gradients come down at a scale of 2^19 instead of 2^24
    let he = ParametersLiteral {
        log_q: vec![49, 39],
        ..toy(10)
    };
    let literal = PaperLiteral::design_with(&choices, he).unwrap();
    let plan = PaperPlan::new_inexact(&literal, &Limits::default()).unwrap();
    let predicted = plan.exactness().last().unwrap().std_dev;
    let mut oracle = Engine::new(Local::new(Replica::initial(plan.grid())));
    let mut engine = engine(&plan);
    let (rows, inputs, outputs) = (512, 64, 40);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut random = |columns| {
        let values = (0..rows * columns).map(|_| (rng.next_u32() % 200) as f32 / 256.0);
        Tensor::from_vec(rows, columns, values.collect()).unwrap()
    };
    let (x, d) = (random(inputs), random(outputs));
    let x = crate::format::Integers::quantised(&x, 7, 128);
    let d = crate::format::Integers::quantised(&d, 10, 2047);
    let expected = oracle.multiplier_mut().sample_gradients(0, &x, &d).unwrap();
    engine.begin(0, rows).unwrap();
    engine.multiplier_mut().forward_held(0, &x).unwrap();
    let got = engine.multiplier_mut().sample_gradients(0, &x, &d).unwrap();
    let squares = got.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2));
    let observed = (squares.sum::<f64>() / got.len() as f64).sqrt();
    // the bound is for the worst slot of the worst key: ten times the mean |s|^2, squared with it
    let ratio = predicted / observed;
    assert!((3.0..12.0).contains(&ratio), "{predicted} against {observed}");
}

#[test]
fn uploads_come_back_from_memory_and_from_disk() {
    use sphinx_he::ckks::{Encoder, Scale, SeededCiphertext, SeededZero};
    use sphinx_he::rlwe::{Parameters, SecretKey};
    let parameters = Parameters::new(&toy(6)).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let scale = Scale::power_of_two(30);
    let encoder = Encoder::new(&parameters);
    let mut sealed = |value: f64| {
        let plain = encoder.encode_real(&[value], TOP, scale).unwrap();
        let zero = SeededZero::new(&secret, TOP, &mut rng).unwrap();
        crate::message::Sealed::slots(&SeededCiphertext::from_zero(zero, &plain).unwrap())
    };
    let uploads: Vec<_> = (0..5).map(|i| sealed(f64::from(i))).collect();
    for memory in [true, false] {
        let mut store = Store::with_memory(&parameters, memory).unwrap();
        for (at, upload) in uploads.iter().enumerate() {
            let part = if at < 3 { Part::Inputs } else { Part::Outputs };
            store.push((part, 1, 0), upload.clone()).unwrap();
        }
        let bank = store.expand((Part::Inputs, 1, 0), &[2, 0], scale).unwrap();
        let sums = bank.weighted_sums(&[&[(0, 10), (1, 1)]]).unwrap();
        let plain = sphinx_he::ckks::Decryptor::new(&secret).decrypt(&sums[0]).unwrap();
        assert_eq!(encoder.decode_real(&plain).unwrap()[0].round(), 20.0);
        assert!(store.expand((Part::Inputs, 1, 0), &[3], scale).is_err());
        assert!(store.expand((Part::Outputs, 0, 0), &[0], scale).is_err());
        let other = Scale::power_of_two(28);
        assert!(store.expand((Part::Outputs, 1, 0), &[0], other).is_err());
        store.forget((Part::Inputs, 1, 0));
        assert!(store.expand((Part::Inputs, 1, 0), &[0], scale).is_err());
        assert!(store.push((Part::Inputs, 2, 0), crate::message::Sealed::received(vec![1])).is_err());
    }
}

#[test]
fn zeros_are_refilled_and_made_on_the_spot() {
    use sphinx_he::rlwe::{Parameters, SecretKey};
    let parameters = Parameters::new(&toy(6)).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let secret = Arc::new(SecretKey::generate(&parameters, &mut rng));
    let mut zeros = Zeros::new(&secret, 4, &mut rng);
    zeros.take().unwrap();
    assert_eq!((zeros.ready(), zeros.made_on_the_spot()), (0, 1));
    zeros.fill().unwrap();
    assert_eq!(zeros.ready(), 4);
    for _ in 0..4 {
        zeros.take().unwrap();
    }
    while zeros.ready() < 4 {
        std::thread::yield_now();
    }
}

#[test]
fn counts_of_the_paper_network_are_its_sizes() {
    let input = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let choices = PlanChoices {
        architecture: sphinx_nn::architectures::by_name("minionn-mnist", input, 10).unwrap(),
        clip_bound: 0.1,
        ..choices(Vec::new(), 28, 688)
    };
    let plan = PaperPlan::new(&PaperLiteral::design(&choices).unwrap(), &Limits::default()).unwrap();
    let counts = Paper::counts_of(&plan);
    // one product per multiplication of the network: 230400 + 409600 + 25600 + 1000
    assert_eq!(counts.products, 666_600);
    assert_eq!(counts.plain_products, 666_600 + 436_200);
    assert_eq!((counts.relinearisations, counts.rotations), (0, 0));
    assert_eq!(counts.uploads, 784 + 2304 + 256 + 100 + 9216 + 1024 + 100 + 10 + 142);
    assert_eq!(counts.downloads, (9216 + 1024 + 110) + (2304 + 256 + 100) + 33_400);
    assert_eq!(counts.rescales, counts.downloads);
}
