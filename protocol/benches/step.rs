//! One training step of a 784-32-10 network at capacity 256, who multiplies being the difference.
//!
//! `step/grid-clear` is the client alone (its slow twin in trust, its fast twin in time);
//! `step/packed` has a server on the other end of an in-process wire, both on this machine's cores.
//! The ratio of the two is the price of not showing the data.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop on any error")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_nn::engine::Train;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::tensor::Tensor;
use sphinx_protocol::grid::{Engine, Local, Multiplier};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::Packed;
use sphinx_protocol::party::{Hub, HubLimits};
use sphinx_protocol::plan::{Limits, Plan, PlanChoices, PlanLiteral};
use sphinx_protocol::serve::converse;
use sphinx_protocol::transport::loopback;

const CAPACITY: usize = 256;

fn plan() -> Plan {
    let architecture = Architecture {
        name: "mlp".into(),
        input: ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        },
        layers: vec![
            LayerSpec::Dense { outputs: 32 },
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 10 },
        ],
    };
    let choices = PlanChoices {
        architecture,
        capacity: CAPACITY,
        clip_bound: 1.0,
        learning_rate: 1.0,
        momentum: 0.9,
        divisor: 200.0,
        init_seed: 1,
        tickets: 16,
    };
    Plan::new(&PlanLiteral::design(&choices).unwrap(), &Limits::default()).unwrap()
}

/// The three products of a step, from inputs to clipped sums; nothing is released.
fn products<M: Multiplier>(engine: &mut Engine<M>, plan: &Plan, x: &Tensor) -> usize {
    let labels = vec![Some(3); CAPACITY];
    engine.begin(0, CAPACITY).unwrap();
    let pass = sphinx_nn::pass::gradients(engine, plan.network(), x, &labels).unwrap();
    engine.collect(pass.pending).unwrap().values.len()
}

fn packed(plan: &Plan) -> Engine<Packed> {
    let (client, server) = loopback();
    let hub = Arc::new(Hub::new(HubLimits::default()));
    std::thread::spawn(move || converse(server, hub, 0, None));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let link = Link::greet(client).unwrap();
    let packed = Packed::open(
        link,
        ModelId([1; 16]),
        plan,
        Replica::initial(plan.grid()),
        &mut rng,
    )
    .unwrap();
    Engine::new(packed)
}

fn step(c: &mut Criterion) {
    let plan = plan();
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let pixels = (0..CAPACITY * 784)
        .map(|_| (rng.next_u32() >> 8) as f32 / 16_777_216.0)
        .collect();
    let x = Tensor::from_vec(CAPACITY, 784, pixels).unwrap();
    let mut group = c.benchmark_group("step");
    group.sample_size(10);
    let mut local = Engine::new(Local::new(Replica::initial(plan.grid())));
    group.bench_function("grid-clear", |b| {
        b.iter(|| black_box(products(&mut local, &plan, &x)));
    });
    group.bench_function("packed", |b| {
        // A step that was begun must be finished by an update, so every pass opens a new model.
        b.iter_batched(
            || packed(&plan),
            |mut engine| black_box(products(&mut engine, &plan, &x)),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
