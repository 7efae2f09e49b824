//! Small worlds for tests: toy plans, tiny data sets, a trainer, and a served connection.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_dp::ledger::Ledger;
use sphinx_dp::mechanism::{ClipBound, GaussianMechanism};
use sphinx_dp::sampler::PoissonSampler;
use sphinx_dp::{Adjacency, NoiseMultiplier, SamplingRate};
use sphinx_he::exact::{Encoding, Plaintext, SeededCiphertext};
use sphinx_he::rlwe::{ParametersLiteral, SecretKey, Security};
use sphinx_nn::data::Dataset;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::tensor::Tensor;
use sphinx_protocol::Error;
use sphinx_protocol::grid::{Engine, Local};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::{ModelId, Sealed};
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::Packed;
use sphinx_protocol::paper::{Paper, PaperLiteral, PaperPlan};
use sphinx_protocol::party::{Hub, HubLimits};
use sphinx_protocol::plan::{GridPlan, Limits, Plan, PlanChoices, PlanLiteral};
use sphinx_protocol::serve::converse;
use sphinx_protocol::train::{Learn, Outcome, Setup, Streams, Trainer};
use sphinx_protocol::transport::{Wire, loopback};
use sphinx_protocol::view::View;

/// Parameters small enough for hundreds of runs; insecure, and named so.
#[must_use]
pub fn toy_parameters(log_n: u32) -> ParametersLiteral {
    ParametersLiteral {
        log_n,
        log_q: vec![47, 42],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    }
}

/// A dense network over `inputs` pixels.
#[must_use]
pub fn architecture(inputs: usize, hidden: &[(usize, LayerSpec)], classes: usize) -> Architecture {
    let mut layers = Vec::new();
    for (outputs, activation) in hidden {
        layers.push(LayerSpec::Dense { outputs: *outputs });
        layers.push(*activation);
    }
    layers.push(LayerSpec::Dense { outputs: classes });
    Architecture {
        name: "test".into(),
        input: ImageShape {
            channels: 1,
            height: 1,
            width: inputs,
        },
        layers,
    }
}

/// A convolutional network over two channels: `first`, ReLU, `pool` if any, another convolution, tanh, dense.
#[must_use]
pub fn convolutional(
    [height, width]: [usize; 2],
    first: LayerSpec,
    pool: Option<LayerSpec>,
) -> Architecture {
    let mut layers = vec![first, LayerSpec::Relu];
    layers.extend(pool);
    layers.extend([
        LayerSpec::Conv {
            channels: 2,
            kernel: 2,
            stride: 1,
            padding: 1,
        },
        LayerSpec::Tanh,
        LayerSpec::Dense { outputs: 3 },
    ]);
    Architecture {
        name: "conv".into(),
        input: ImageShape {
            channels: 2,
            height,
            width,
        },
        layers,
    }
}

/// The usual choices for a test run.
#[must_use]
pub fn choices(architecture: Architecture, capacity: usize) -> PlanChoices {
    PlanChoices {
        architecture,
        capacity,
        clip_bound: 1.0,
        learning_rate: 1.0,
        momentum: 0.9,
        divisor: (capacity as f64 / 2.0).max(1.0),
        init_seed: 7,
        tickets: 3,
    }
}

/// A checked toy plan.
///
/// # Panics
/// If the choices make no plan.
#[must_use]
pub fn toy_plan(choices: &PlanChoices, log_n: u32) -> Plan {
    let literal = PlanLiteral::design_with(choices, toy_parameters(log_n)).expect("a plan");
    Plan::new(&literal, &Limits::default()).expect("an exact plan")
}

/// `rows` random records in [0, 1] with random labels.
///
/// # Panics
/// Never: the shape is right by construction.
#[must_use]
pub fn random_data(rows: usize, inputs: usize, classes: usize, seed: u64) -> Dataset {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let pixels = (0..rows * inputs)
        .map(|_| (rng.next_u32() >> 8) as f32 / 16_777_216.0)
        .collect();
    Dataset {
        name: "random".into(),
        shape: ImageShape {
            channels: 1,
            height: 1,
            width: inputs,
        },
        classes,
        images: Tensor::from_vec(rows, inputs, pixels).expect("shape"),
        labels: (0..rows)
            .map(|_| (rng.next_u32() % classes as u32) as u8)
            .collect(),
    }
}

/// A server on one end of an in-process wire; it ends with the client.
#[must_use]
pub fn serve_in_process(hub: &Arc<Hub>, view: Option<View>) -> Wire {
    let (client, server) = loopback();
    let hub = Arc::clone(hub);
    std::thread::spawn(move || converse(server, hub, 0, view.as_ref()));
    client
}

/// A fresh hub.
#[must_use]
pub fn hub() -> Arc<Hub> {
    Arc::new(Hub::new(HubLimits::default()))
}

/// The encrypted engine over an in-process wire.
///
/// # Errors
/// Whatever keeps the model from being opened.
pub fn packed(plan: &Plan, hub: &Arc<Hub>, view: Option<View>) -> Result<Engine<Packed>, Error> {
    packed_with(plan, hub, view, 99)
}

/// As [`packed`], with key and encryption randomness from `seed`.
///
/// # Errors
/// Whatever keeps the model from being opened.
pub fn packed_with(
    plan: &Plan,
    hub: &Arc<Hub>,
    view: Option<View>,
    seed: u64,
) -> Result<Engine<Packed>, Error> {
    packed_from(plan, hub, view, Replica::initial(plan.grid()), seed)
}

/// As [`packed_with`], from other weights than the plan's.
///
/// # Errors
/// Whatever keeps the model from being opened.
pub fn packed_from(
    plan: &Plan,
    hub: &Arc<Hub>,
    view: Option<View>,
    replica: Replica,
    seed: u64,
) -> Result<Engine<Packed>, Error> {
    let link = Link::greet(serve_in_process(hub, view))?;
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let id = ModelId([1; 16]);
    Ok(Engine::new(Packed::open(
        link, id, plan, replica, &mut rng,
    )?))
}

/// A checked toy plan of the engine `paper`.
///
/// # Panics
/// If the choices make no plan.
#[must_use]
pub fn toy_paper_plan(choices: &PlanChoices, log_n: u32) -> PaperPlan {
    let he = ParametersLiteral {
        log_n,
        security: Security::Toy,
        ..sphinx_protocol::paper::standard_parameters()
    };
    let literal = PaperLiteral::design_with(choices, he).expect("a plan");
    PaperPlan::new(&literal, &Limits::default()).expect("an exact plan")
}

/// A checked toy plan of the engine `paper` with biases by the published rule, for `steps` steps.
///
/// # Panics
/// If the choices make no plan.
#[must_use]
pub fn toy_published_plan(choices: &PlanChoices, log_n: u32, steps: u64) -> PaperPlan {
    let [first, _] = sphinx_protocol::paper::published_parameters();
    let he = ParametersLiteral {
        log_n,
        security: Security::Toy,
        ..first
    };
    let literal = PaperLiteral::design_with(choices, he).expect("a plan");
    PaperPlan::new(&literal.publishing_biases(steps), &Limits::default()).expect("an exact plan")
}

/// The engine `paper` over an in-process wire, with key and encryption randomness from `seed`.
///
/// # Errors
/// Whatever keeps the model from being opened.
pub fn paper_with(
    plan: &PaperPlan,
    replica: Replica,
    view: Option<View>,
    seed: u64,
) -> Result<Engine<Paper>, Error> {
    let link = Link::greet(serve_in_process(&hub(), view))?;
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    Ok(Engine::new(Paper::open(link, plan, replica, &mut rng)?))
}

/// The oracle.
#[must_use]
pub fn local(plan: &Plan) -> Engine<Local> {
    Engine::new(Local::new(Replica::initial(plan.grid())))
}

/// Trains `steps` steps with noise multiplier `z` (none: no noise) and gives the engine back.
///
/// # Errors
/// Whatever stops the training.
///
/// # Panics
/// If the fixed settings are refused.
pub fn train<E: Learn>(
    engine: E,
    plan: &Plan,
    data: &Dataset,
    steps: u64,
    z: Option<f64>,
    seed: u64,
) -> Result<E, Error>
where
    Error: From<E::Error>,
{
    train_from(engine, plan, data, 0, steps, z, seed)
}

/// As [`train`], for a model that stands at `first_step`.
///
/// # Errors
/// Whatever stops the training.
///
/// # Panics
/// If the fixed settings are refused.
pub fn train_from<E: Learn>(
    engine: E,
    plan: &Plan,
    data: &Dataset,
    first_step: u64,
    steps: u64,
    z: Option<f64>,
    seed: u64,
) -> Result<E, Error>
where
    Error: From<E::Error>,
{
    Ok(train_recorded(engine, plan, data, first_step, steps, z, seed)?.0)
}

/// As [`train_from`]; gives the ledger as well.
///
/// # Errors
/// Whatever stops the training.
///
/// # Panics
/// If the fixed settings are refused.
pub fn train_recorded<E: Learn>(
    engine: E,
    plan: &Plan,
    data: &Dataset,
    first_step: u64,
    steps: u64,
    z: Option<f64>,
    seed: u64,
) -> Result<(E, Ledger), Error>
where
    Error: From<E::Error>,
{
    train_on_grid(engine, plan.grid(), data, first_step, steps, z, seed)
}

/// As [`train_recorded`], for engines whose plan has other ciphertexts or none.
///
/// # Errors
/// Whatever stops the training.
///
/// # Panics
/// If the fixed settings are refused.
pub fn train_on_grid<E: Learn>(
    engine: E,
    grid: &GridPlan,
    data: &Dataset,
    first_step: u64,
    steps: u64,
    z: Option<f64>,
    seed: u64,
) -> Result<(E, Ledger), Error>
where
    Error: From<E::Error>,
{
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    let setup = Setup {
        network: grid.network(),
        data,
        sampler: sampler(grid, data),
        mechanism: mechanism(grid, data, z),
        capacity: grid.capacity(),
        streams: Streams::seeded_for_experiments(seed),
        ledger: &mut ledger,
        first_step,
    };
    let mut trainer = Trainer::new(engine, setup)?;
    for _ in 0..steps {
        match trainer.step()? {
            Outcome::Done(_) => {}
            Outcome::BudgetSpent => panic!("no budget was set"),
        }
    }
    Ok((trainer.into_engine(), ledger))
}

/// The rate of the runs of [`train`]: half the capacity on average, if there are so many records.
///
/// # Panics
/// Never: the rate is right by construction.
#[must_use]
pub fn rate(plan: &GridPlan, data: &Dataset) -> SamplingRate {
    let (mean, records) = (plan.capacity() as f64 / 2.0, data.labels.len());
    SamplingRate::from_mean(mean.min(records as f64), records as u64).expect("rate")
}

/// The sampler of the runs of [`train`].
///
/// # Panics
/// Never: the rate is right by construction.
#[must_use]
pub fn sampler(plan: &GridPlan, data: &Dataset) -> PoissonSampler {
    PoissonSampler::new(rate(plan, data), plan.capacity() as u64)
}

/// The mechanism of the runs of [`train`].
///
/// # Panics
/// If the noise multiplier is refused.
#[must_use]
pub fn mechanism(plan: &GridPlan, data: &Dataset, z: Option<f64>) -> GaussianMechanism {
    let bound = ClipBound::new(plan.literal().clip_bound).expect("bound");
    let z = z.map(|z| NoiseMultiplier::new(z).expect("z"));
    GaussianMechanism::new(bound, z, rate(plan, data)).expect("mechanism")
}

/// Integers encrypted under a throwaway key of `plan`'s parameters.
///
/// # Panics
/// If the values do not fit the encoding.
#[must_use]
pub fn sealed(plan: &Plan, encoding: Encoding, values: &[i64]) -> Sealed {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let secret = SecretKey::generate(plan.parameters(), &mut rng);
    let plaintext = Plaintext::encode(plan.parameters(), 1, values, encoding).expect("encodes");
    Sealed::new(&SeededCiphertext::encrypt(&plaintext, &secret, &mut rng).expect("encrypts"))
}
