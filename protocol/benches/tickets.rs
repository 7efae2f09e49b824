//! Preparing 4096 inference tickets, client and server together on this machine's cores: by integers
//! (`scalar`), and by the layouts for fewer tickets (`polynomials`).
//!
//! Criterion's throughput is in tickets; the networks are a small dense one and `minionn-mnist`.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop on any error")]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::architectures;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::Packed;
use sphinx_protocol::packed::layout::Tiling;
use sphinx_protocol::party::{Hub, HubLimits};
use sphinx_protocol::plan::{Limits, Plan, PlanChoices, PlanLiteral};
use sphinx_protocol::serve::converse;
use sphinx_protocol::shared::{ModelFeed, Requester};
use sphinx_protocol::transport::loopback;

const TICKETS: usize = 4096;
const MODEL: ModelId = ModelId([1; 16]);
const DIGIT: ImageShape = ImageShape {
    channels: 1,
    height: 28,
    width: 28,
};

fn dense() -> Architecture {
    Architecture {
        name: "mlp".into(),
        input: DIGIT,
        layers: vec![
            LayerSpec::Dense { outputs: 32 },
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 10 },
        ],
    }
}

fn plan(architecture: Architecture, scalar: bool) -> Plan {
    let choices = PlanChoices {
        architecture,
        capacity: 256,
        clip_bound: 1.0,
        learning_rate: 1.0,
        momentum: 0.9,
        divisor: 200.0,
        init_seed: 1,
        // One less than fills a polynomial: the layouts for that.
        tickets: TICKETS - 1,
    };
    let mut literal = PlanLiteral::design(&choices).unwrap();
    literal.tickets = TICKETS;
    if scalar {
        literal.ticket_tilings.fill(Tiling::Scalar);
    }
    Plan::new(&literal, &Limits::default()).unwrap()
}

fn link(hub: &Arc<Hub>) -> Link {
    let (client, server) = loopback();
    let hub = Arc::clone(hub);
    std::thread::spawn(move || converse(server, hub, 0, None));
    Link::greet(client).unwrap()
}

/// A server that has the model, and its feed.
fn served(plan: &Plan) -> (Arc<Hub>, ModelFeed) {
    let hub = Arc::new(Hub::new(HubLimits::default()));
    let first = Replica::initial(plan.grid());
    let feed = ModelFeed::new(first.freeze());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let owner = Packed::open(link(&hub), MODEL, plan, first, &mut rng).unwrap();
    owner.close().unwrap();
    (hub, feed)
}

fn prepare(c: &mut Criterion) {
    let mut group = c.benchmark_group("tickets");
    group.sample_size(10);
    group.throughput(Throughput::Elements(TICKETS as u64));
    let digits = architectures::by_name("minionn-mnist", DIGIT, 10).unwrap();
    for (name, architecture) in [("dense", dense()), ("minionn-mnist", digits)] {
        for (kind, scalar) in [("scalar", true), ("polynomials", false)] {
            let plan = plan(architecture.clone(), scalar);
            let (hub, feed) = served(&plan);
            let mut rng = ChaCha20Rng::seed_from_u64(2);
            let mut attach =
                || Requester::attach(link(&hub), MODEL, &plan, feed.clone(), &mut rng).unwrap();
            // The server lays its weights out once.
            attach().prepare().unwrap();
            group.bench_function(format!("{name}/{kind}"), |b| {
                b.iter_batched(
                    &mut attach,
                    |mut requester| {
                        requester.prepare().unwrap();
                        requester
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, prepare);
criterion_main!(benches);
