//! Private inference: exact, at once with training, across model versions, one use per ticket.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::tensor::Tensor;
use sphinx_protocol::Error;
use sphinx_protocol::grid::{Engine, Frozen};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::{ModelId, Refusal, TicketId};
use sphinx_protocol::model::FrozenReplica;
use sphinx_protocol::packed::layout::Tiling;
use sphinx_protocol::party::Hub;
use sphinx_protocol::plan::{Limits, Plan, PlanChoices, PlanLiteral};
use sphinx_protocol::shared::{ModelFeed, Requester};
use sphinx_protocol::view::{Seen, View};
use sphinx_tests::fixture::{
    architecture, choices, hub, packed, random_data, serve_in_process, toy_parameters, toy_plan,
    train,
};

fn plan(tickets: usize) -> Plan {
    let hidden = [(6, LayerSpec::Relu), (5, LayerSpec::Tanh)];
    toy_plan(
        &PlanChoices {
            tickets,
            ..choices(architecture(9, &hidden, 4), 16)
        },
        7,
    )
}

fn requester(plan: &Plan, hub: &Arc<Hub>, feed: &ModelFeed) -> Requester {
    watched(plan, hub, feed, None)
}

fn watched(plan: &Plan, hub: &Arc<Hub>, feed: &ModelFeed, view: Option<View>) -> Requester {
    let link = Link::greet(serve_in_process(hub, view)).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    Requester::attach(link, ModelId([1; 16]), plan, feed.clone(), &mut rng).unwrap()
}

fn in_the_clear(plan: &Plan, model: &Arc<FrozenReplica>, x: &Tensor) -> Tensor {
    let mut engine = Engine::new(Frozen::new(plan.grid().clone(), Arc::clone(model)));
    sphinx_nn::pass::infer(&mut engine, plan.network(), x).unwrap()
}

fn row(data: &Tensor, i: usize) -> Tensor {
    data.gather(&[i as u32], 1)
}

/// A convolution whose masks travel in a stream, so that several chunks have a part in one output
/// modulo `2^mask_bits`.
fn streamed(tickets: usize, mask_bits: u32) -> Plan {
    let architecture = Architecture {
        name: "stream".into(),
        input: ImageShape {
            channels: 1,
            height: 3,
            width: 3,
        },
        layers: vec![
            LayerSpec::Conv {
                channels: 2,
                kernel: 3,
                stride: 1,
                padding: 1,
            },
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 4 },
        ],
    };
    let choices = PlanChoices {
        tickets,
        ..choices(architecture, 16)
    };
    let mut literal = PlanLiteral::design_with(&choices, toy_parameters(7)).unwrap();
    literal.mask_bits = mask_bits;
    literal.ticket_tilings[0] = Tiling::Stream {
        inputs_per_tile: 1,
        outputs_per_tile: 8,
    };
    Plan::new(&literal, &Limits::default()).unwrap()
}

#[test]
fn answers_equal_the_clear_model_exactly() {
    answers_are_exact(&plan(5));
    answers_are_exact(&streamed(5, 30));
    answers_are_exact(&streamed(5, 31));
}

fn answers_are_exact(plan: &Plan) {
    let hub = hub();
    let data = random_data(12, 9, 4, 2);
    let engine = train(
        packed(plan, &hub, None).unwrap(),
        plan,
        &data,
        2,
        Some(1.0),
        2,
    )
    .unwrap();
    let model = engine.freeze();
    let mut requester = requester(plan, &hub, &ModelFeed::new(Arc::clone(&model)));
    for i in 0..10 {
        if requester.tickets() == 0 {
            requester.prepare().unwrap();
        }
        let x = row(&data.images, i);
        assert_eq!(requester.infer(&x).unwrap(), in_the_clear(plan, &model, &x));
    }
}

#[test]
fn tickets_prepared_before_an_update_are_refreshed_without_the_server() {
    let (plan, hub) = (plan(4), hub());
    let data = random_data(12, 9, 4, 3);
    let engine = packed(&plan, &hub, None).unwrap();
    let feed = ModelFeed::new(engine.freeze());
    let mut requester = requester(&plan, &hub, &feed);
    requester.prepare().unwrap();
    let engine = train(engine, &plan, &data, 3, Some(1.0), 3).unwrap();
    feed.publish(engine.freeze());
    let before = requester.link().meter().read().frames;
    let x = row(&data.images, 0);
    assert_eq!(
        requester.infer(&x).unwrap(),
        in_the_clear(&plan, &engine.freeze(), &x)
    );
    // One request and one answer per layer: refreshing cost no message.
    let layers = plan.network().linears().len() as u64;
    assert_eq!(requester.link().meter().read().frames - before, 2 * layers);
}

#[test]
fn requests_are_answered_while_the_model_trains() {
    let (plan, hub) = (plan(8), hub());
    let data = random_data(30, 9, 4, 4);
    let mut engine = packed(&plan, &hub, None).unwrap();
    let feed = ModelFeed::new(engine.freeze());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut requester = requester(&plan, &hub, &feed);
            let mut answered = 0;
            while !done.load(Ordering::SeqCst) || answered < 20 {
                if requester.tickets() == 0 {
                    requester.prepare().unwrap();
                }
                match requester.infer(&row(&data.images, answered % 30)) {
                    Ok(_) => answered += 1,
                    Err(Error::NoTicket) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            answered
        });
        for seed in 0..6 {
            // One step at a time, so that versions are published between them.
            engine = train_one(engine, &plan, &data, seed);
            feed.publish(engine.freeze());
        }
        done.store(true, Ordering::SeqCst);
        assert!(asking.join().unwrap() >= 20);
    });
}

fn train_one(
    engine: Engine<sphinx_protocol::packed::Packed>,
    plan: &Plan,
    data: &sphinx_nn::data::Dataset,
    step: u64,
) -> Engine<sphinx_protocol::packed::Packed> {
    sphinx_tests::fixture::train_from(engine, plan, data, step, 1, Some(1.0), step).unwrap()
}

#[test]
fn without_tickets_there_is_no_request() {
    let (plan, hub) = (plan(2), hub());
    let engine = packed(&plan, &hub, None).unwrap();
    let mut requester = requester(&plan, &hub, &ModelFeed::new(engine.freeze()));
    let x = Tensor::zeros(1, 9);
    assert!(matches!(requester.infer(&x), Err(Error::NoTicket)));
    requester.prepare().unwrap();
    assert!(matches!(
        requester.infer(&Tensor::zeros(2, 9)),
        Err(Error::RequestRows { got: 2 })
    ));
    assert!(matches!(
        requester.infer(&Tensor::zeros(1, 8)),
        Err(Error::Columns { .. })
    ));
    requester.infer(&x).unwrap();
}

/// The tickets with which requests were begun, in order.
fn tried(view: &View) -> Vec<TicketId> {
    let seen = view.seen();
    let requests = seen.iter().filter_map(Seen::request);
    requests
        .filter(|request| request.layer == 0)
        .map(|request| request.ticket)
        .collect()
}

/// The server moves on further than it remembers while the feed stands still: requests end in a
/// clear error, no ticket that was shown is shown again, and a published model mends all.
#[test]
fn a_frozen_feed_ends_in_a_clear_error_and_costs_tickets_only() {
    let (plan, hub, view) = (plan(12), hub(), View::default());
    let data = random_data(12, 9, 4, 6);
    let engine = packed(&plan, &hub, None).unwrap();
    let feed = ModelFeed::new(engine.freeze());
    let mut requester = watched(&plan, &hub, &feed, Some(view.clone()));
    requester.prepare().unwrap();
    let engine = train(engine, &plan, &data, 6, Some(1.0), 6).unwrap();

    let x = row(&data.images, 0);
    let refused = requester.infer(&x).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::NoTicket
                | Error::Refused {
                    reason: Refusal::Stale,
                    ..
                }
        ),
        "{refused}"
    );
    let shown = tried(&view).len();
    assert!(shown >= 1);
    assert_eq!(
        requester.tickets(),
        12 - shown,
        "every ticket shown is gone"
    );

    feed.publish(engine.freeze());
    let expected = in_the_clear(&plan, &engine.freeze(), &x);
    if requester.tickets() == 0 {
        requester.prepare().unwrap();
    }
    let left = requester.tickets();
    for _ in 0..left {
        assert_eq!(requester.infer(&x).unwrap(), expected);
    }
    let tried = tried(&view);
    assert_eq!(tried.len(), shown + left);
    assert_eq!(tried.iter().collect::<HashSet<_>>().len(), tried.len());
}

/// A preparation that fails because the owner has not published yet leaves the connection usable.
#[test]
fn a_preparation_ahead_of_the_feed_can_be_tried_again() {
    let (plan, hub) = (plan(2), hub());
    let data = random_data(12, 9, 4, 8);
    let engine = packed(&plan, &hub, None).unwrap();
    let feed = ModelFeed::new(engine.freeze());
    let mut requester = requester(&plan, &hub, &feed);
    let engine = train(engine, &plan, &data, 1, Some(1.0), 8).unwrap();
    assert!(matches!(
        requester.prepare(),
        Err(Error::VersionMismatch { .. })
    ));
    feed.publish(engine.freeze());
    requester.prepare().unwrap();
    let x = row(&data.images, 0);
    let expected = in_the_clear(&plan, &engine.freeze(), &x);
    assert_eq!(requester.infer(&x).unwrap(), expected);
}
