//! The encrypted run against integer DP-SGD in the clear; failures where the plan says so.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_he::ckks::{Bank, Decryptor, Encoder, Encryptor, Evaluator};
use sphinx_he::rlwe::{ParametersLiteral, SecretKey};
use sphinx_nn::engine::Train;
use sphinx_nn::network::{ImageShape, LayerSpec};
use sphinx_nn::pass;
use sphinx_nn::tensor::Tensor;

use super::store::{Part, Store};
use super::*;
use crate::error::Error;
use crate::fixture::{self, image};
use crate::grid::{Engine, Local, Multiplier};
use crate::message::{Place, Sealed, ToServer};
use crate::model::Replica;
use crate::plan::{LOG2_FAILURE, Limits, Phase, PlanChoices};

mod published;

fn toy(log_n: u32) -> ParametersLiteral {
    fixture::toy(standard_parameters(), log_n)
}

fn choices(layers: Vec<LayerSpec>, side: usize, capacity: usize) -> PlanChoices {
    PlanChoices {
        clip_bound: 0.5,
        init_seed: 5,
        tickets: 1,
        ..fixture::choices(image(1, side, side), layers, capacity)
    }
}

/// A network by its name, as the paper trains it.
fn built_in(name: &str, input: ImageShape, capacity: usize) -> PlanChoices {
    PlanChoices {
        architecture: sphinx_nn::architectures::by_name(name, input, 10).unwrap(),
        clip_bound: 0.1,
        ..choices(Vec::new(), input.height, capacity)
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
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let replica = Replica::initial(plan.grid());
    Engine::new(Paper::open(fixture::link(None), plan, replica, &mut rng).unwrap())
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
        engine.multiplier_mut().work().unwrap();
        let (ours, theirs) = (step(&mut engine, &plan, 3), step(&mut oracle, &plan, 3));
        assert_eq!(ours, theirs, "{capacity} rows");
        assert!(ours.0.iter().any(|&v| v != 0));
        // What the server counted is what the formula says; biases come with the update.
        let mut counted = engine.multiplier_mut().work().unwrap().counts;
        counted.uploads += plan.grid().bias_count() as u64;
        assert_eq!(counted, Paper::counts_of(&plan), "{capacity} rows");
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
        let choices = built_in(name, image(channels, side, side), capacity);
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

/// Errors in the slots before rounding are as large as the formulas say, for the bound on the slots of
/// the secret replaced by those of the key at hand.
#[test]
fn slot_errors_are_as_large_as_predicted() {
    let choices = choices(vec![LayerSpec::Dense { outputs: 3 }], 4, 256);
    let plan = plan_of(&choices, 9);
    let parameters = plan.parameters();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let secret = SecretKey::generate(parameters, &mut rng);
    let encoder = Encoder::new(parameters);
    let [sx, sd] = [plan.input_scale(), plan.gradient_scale()];
    let (terms, slots) = (300, 256_i64);
    let value = |t: i64, j: i64| (t * 37 + j * 11) % 257 - 128;
    let mut bank = |scale| {
        let mut bank = Bank::new(parameters, TOP, scale, terms).unwrap();
        for t in 0..terms {
            let values: Vec<f64> = (0..slots).map(|j| value(t as i64, j) as f64).collect();
            let plain = encoder.encode_real(&values, TOP, scale).unwrap();
            let sealed = Encryptor::with_secret(&secret)
                .encrypt(&plain, &mut rng)
                .unwrap();
            bank.put(t, &sealed).unwrap();
        }
        bank
    };
    let (x, d) = (bank(sx), bank(sd));
    let pairs: Vec<(u32, u32)> = (0..terms as u32).map(|t| (t, t)).collect();
    let mut sums = vec![d.product_sums(&x, &[&pairs]).unwrap().remove(0)];
    let weights: Vec<(u32, i64)> = (0..terms as u32).map(|t| (t, i64::from(t) - 150)).collect();
    let mut linear = x.weighted_sums(&[&weights]).unwrap().remove(0);
    linear.refine_scale(plan.factor(Phase::Forward)).unwrap();
    sums.push(linear);
    let exact = |j: i64, linear: bool| -> i64 {
        let term = |t: i64| value(t, j) * if linear { t - 150 } else { value(t, j) };
        (0..terms as i64).map(term).sum()
    };
    let evaluator = Evaluator::new(parameters);
    for (sum, linear) in sums.into_iter().zip([false, true]) {
        let down = evaluator.rescale(sum).unwrap();
        let step = down.scale().value();
        let plain = Decryptor::new(&secret).decrypt(&down).unwrap();
        let decoded = encoder.decode_real(&plain).unwrap();
        let errors: Vec<f64> = (0..slots)
            .map(|j| decoded[j as usize] - exact(j, linear) as f64)
            .collect();
        let rms = (errors.iter().map(|e| e * e).sum::<f64>() / slots as f64).sqrt();
        // mean over the slots: E|s|^2 = 2N/3, E|s|^4 = 2 (2N/3)^2
        let n = 512.0_f64;
        let s = 2.0 * n / 3.0;
        let powers = if linear {
            1.0 + s
        } else {
            1.0 + s + 2.0 * s * s
        };
        let rounding = n / 24.0 * powers;
        let fresh = n / 2.0 * (3.2_f64.powi(2) + 1.0 / 12.0);
        let q = parameters.moduli()[1].value() as f64;
        let squares =
            |f: &dyn Fn(i64) -> i64| (0..terms as i64).map(|t| f(t).pow(2) as f64).sum::<f64>();
        let before = if linear {
            let factor = plan.factor(Phase::Forward) as f64;
            factor * factor * fresh * squares(&|t| t - 150)
        } else {
            let mean = squares(&|t| value(t, 5));
            (sx.value().powi(2) + sd.value().powi(2)) * mean * fresh
        };
        let predicted = (before / (q * q) + rounding).sqrt() / step;
        let ratio = rms / predicted;
        assert!(
            (0.8..1.25).contains(&ratio),
            "linear {linear}: {rms} against {predicted}"
        );
        let phase = if linear {
            Phase::Forward
        } else {
            Phase::Gradient
        };
        let bound = plan.exactness().iter().find(|e| e.phase == phase).unwrap();
        // the plan's own bound is for fewer terms, but the rounding of the worst slot dominates it
        assert!(linear || rms < bound.std_dev, "{rms} {}", bound.std_dev);
    }
}

#[test]
fn uploads_come_back_from_memory_and_from_disk() {
    use sphinx_he::ckks::{Scale, SeededCiphertext, SeededZero};
    use sphinx_he::rlwe::Parameters;
    let parameters = Parameters::new(&toy(6)).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let scale = Scale::power_of_two(30);
    let encoder = Encoder::new(&parameters);
    let mut sealed = |value: f64| {
        let plain = encoder.encode_real(&[value], TOP, scale).unwrap();
        let zero = SeededZero::new(&secret, TOP, &mut rng).unwrap();
        Sealed::slots(&SeededCiphertext::from_zero(zero, &plain).unwrap())
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
        let plain = Decryptor::new(&secret).decrypt(&sums[0]).unwrap();
        assert_eq!(encoder.decode_real(&plain).unwrap()[0].round(), 20.0);
        assert!(store.expand((Part::Inputs, 1, 0), &[3], scale).is_err());
        assert!(store.expand((Part::Outputs, 0, 0), &[0], scale).is_err());
        let other = Scale::power_of_two(28);
        assert!(store.expand((Part::Outputs, 1, 0), &[0], other).is_err());
        store.forget((Part::Inputs, 1, 0));
        assert!(store.expand((Part::Inputs, 1, 0), &[0], scale).is_err());
        assert!(
            store
                .push((Part::Inputs, 2, 0), Sealed::received(vec![1]))
                .is_err()
        );
    }
}

#[test]
fn counts_of_the_paper_network_are_its_sizes() {
    let choices = built_in("minionn-mnist", image(1, 28, 28), 688);
    let plan =
        PaperPlan::new(&PaperLiteral::design(&choices).unwrap(), &Limits::default()).unwrap();
    let counts = Paper::counts_of(&plan);
    // one product per multiplication of the network: 230400 + 409600 + 25600 + 1000
    assert_eq!(counts.products, 666_600);
    assert_eq!(counts.plain_products, 666_600 + 436_200);
    assert_eq!((counts.relinearisations, counts.rotations), (0, 0));
    assert_eq!(
        counts.uploads,
        784 + 2304 + 256 + 100 + 9216 + 1024 + 100 + 10 + 142
    );
    assert_eq!(
        counts.downloads,
        (9216 + 1024 + 110) + (2304 + 256 + 100) + 33_400
    );
    assert_eq!(counts.rescales, counts.downloads);
}

/// The opening of a toy model, for tests of the machine: the network of `party::tests`.
pub(crate) fn open_message() -> ToServer {
    let layers = vec![
        LayerSpec::Dense { outputs: 3 },
        LayerSpec::Tanh,
        LayerSpec::Dense { outputs: 2 },
    ];
    let mut choices = choices(layers, 1, 5);
    choices.architecture.input.width = 4;
    let literal = PaperLiteral::design_with(&choices, toy(6)).unwrap();
    let plan = serde_json::to_vec(&literal).unwrap();
    ToServer::OpenPaper { plan }
}

/// A client that keeps the order but not the plan: what it sends is refused, and names why.
#[test]
fn uploads_out_of_order_or_of_another_form_are_refused() {
    let plan = plan_of(&choices(dense(), 2, 10), 6);
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let secret = SecretKey::generate(plan.parameters(), &mut rng);
    let encoder = Encoder::new(plan.parameters());
    let mut sealed = |log2: u8| {
        let scale = sphinx_he::ckks::Scale::power_of_two(log2);
        let plain = encoder.encode_real(&[1.0], TOP, scale).unwrap();
        let sealed = sphinx_he::ckks::SeededCiphertext::encrypt(&plain, &secret, &mut rng);
        Sealed::slots(&sealed.unwrap())
    };
    let opened = || {
        Session::open(
            &serde_json::to_vec(plan.literal()).unwrap(),
            &Limits::default(),
        )
    };
    let bias = |part, change| ToServer::BiasUpdate { part, change };
    let mut session = opened().unwrap();
    assert!(session.take(bias(1, sealed(30))).unwrap().is_none());
    assert!(session.take(bias(0, sealed(28))).is_err());
    let mut session = opened().unwrap();
    for part in 0..8 {
        assert!(session.take(bias(part, sealed(30))).unwrap().is_some());
    }
    assert!(session.take(bias(0, sealed(30))).unwrap().is_none());
    assert!(session.take(ToServer::BeginStep { step: 1 }).is_err());
    assert!(
        session
            .take(ToServer::BeginStep { step: 0 })
            .unwrap()
            .is_some()
    );
    let place = |layer, tile| Place {
        layer,
        chunk: 0,
        tile,
    };
    let early = ToServer::OutputGradient(place(1, 0), sealed(28));
    assert!(session.take(early).unwrap().is_none());
    let second = ToServer::Activation(place(0, 1), sealed(30));
    assert!(session.take(second).unwrap().is_none());
    let short = ToServer::Activation(place(0, 0), Sealed::received(vec![0; 9]));
    assert!(session.take(short).is_err());
    // of the right length but another scale: noticed when it is used
    for tile in 0..4 {
        let upload = ToServer::Activation(place(0, tile), sealed(31));
        assert!(session.take(upload).unwrap().is_some());
    }
    assert!(session.is_busy());
    let refused = session.proceed().unwrap_err().to_string();
    assert!(refused.contains("scale"), "{refused}");
    let other = Session::open(b"{}", &Limits::default());
    assert!(other.is_err());
}
