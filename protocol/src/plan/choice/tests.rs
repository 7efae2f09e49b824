//! Choices are the cheapest, deterministic, and follow their prices.

use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};

use super::*;
use crate::plan::{Limits, PlanChoices, PlanLiteral};

fn choices(outputs: usize, capacity: usize) -> PlanChoices {
    PlanChoices {
        architecture: Architecture {
            name: "choice".into(),
            input: ImageShape {
                channels: 1,
                height: 12,
                width: 12,
            },
            layers: vec![
                LayerSpec::Conv {
                    channels: 4,
                    kernel: 3,
                    stride: 1,
                    padding: 1,
                },
                LayerSpec::Relu,
                LayerSpec::Dense { outputs },
                LayerSpec::Tanh,
                LayerSpec::Dense { outputs: 10 },
            ],
        },
        capacity,
        clip_bound: 0.5,
        learning_rate: 1.0,
        momentum: 0.5,
        divisor: 50.0,
        init_seed: 1,
        tickets: 8,
    }
}

fn plan(preferences: &Preferences) -> Plan {
    let literal = PlanLiteral::design_for(&choices(32, 60), preferences).unwrap();
    Plan::new(&literal, &Limits::default()).unwrap()
}

#[test]
fn the_chosen_layout_is_the_cheapest_and_the_next_is_no_cheaper() {
    let preferences = Preferences::default();
    let plan = plan(&preferences);
    let explained = preferences.explain(&plan);
    assert_eq!(explained.len(), 3);
    for layer in &explained {
        let next = layer.runner_up.as_ref().unwrap();
        assert!(next.price >= layer.chosen.price, "{layer:?}");
        assert_ne!(next.tiles, layer.chosen.tiles);
        assert!(layer.chosen.local.is_empty() && layer.candidates > 2);
    }
}

#[test]
fn dear_bytes_are_saved_and_dear_seconds_too() {
    let total = |preferences: &Preferences| {
        let explained = preferences.explain(&plan(preferences));
        explained
            .iter()
            .fold((0.0, 0.0), |(seconds, bytes), layer| {
                let cost = layer.chosen.cost;
                let moved = cost.bytes_up + cost.bytes_down;
                (seconds + cost.server + cost.client, bytes + moved)
            })
    };
    let cheap_wire = Preferences::default();
    let dear_wire = Preferences {
        prices: Prices::default().over(1e6),
        ..Preferences::default()
    };
    let (fast, fine) = (total(&cheap_wire), total(&dear_wire));
    assert!(fine.1 <= fast.1, "{fine:?} moves more than {fast:?}");
    assert!(fast.0 <= fine.0, "{fast:?} takes longer than {fine:?}");
}

#[test]
fn equal_preferences_give_equal_plans() {
    let preferences = Preferences::default();
    assert_eq!(plan(&preferences), plan(&preferences));
    let named = |phase| Preferences {
        local: LocalChoice::Named(vec![LocalPhase { phase, layer: 1 }]),
        ..Preferences::default()
    };
    let plans = [Phase::Forward, Phase::Backward, Phase::Gradient].map(|p| plan(&named(p)));
    for (at, one) in plans.iter().enumerate() {
        assert_ne!(*one, plan(&preferences));
        assert!(plans[..at].iter().all(|other| other != one));
    }
}

/// Where the client's own work costs nothing it keeps everything; where it is dear, nothing.
#[test]
fn auto_keeps_what_is_cheaper_so() {
    let with = |own: f64| {
        let mut preferences = Preferences {
            local: LocalChoice::Auto,
            ..Preferences::default()
        };
        preferences.prices.units.own = own;
        plan(&preferences).literal().local.len()
    };
    assert_eq!(with(0.0), 8);
    assert_eq!(with(1.0), 0);
}

#[test]
fn products_that_do_not_exist_are_refused() {
    for (phase, layer) in [
        (Phase::Forward, 3),
        (Phase::Backward, 0),
        (Phase::Mask, 1),
        (Phase::TightForward, 1),
    ] {
        let local = LocalChoice::Named(vec![LocalPhase { phase, layer }]);
        let preferences = Preferences {
            local,
            ..Preferences::default()
        };
        let refused = PlanLiteral::design_for(&choices(8, 20), &preferences).unwrap_err();
        assert!(matches!(refused, Error::LocalPhase { .. }), "{refused}");
    }
    let mut literal = PlanLiteral::design(&choices(8, 20)).unwrap();
    let twice = LocalPhase {
        phase: Phase::Forward,
        layer: 0,
    };
    literal.local = vec![twice, twice];
    let refused = Plan::new(&literal, &Limits::default()).unwrap_err();
    assert!(matches!(refused, Error::LocalPhase { .. }), "{refused}");
}

#[test]
fn products_that_are_kept_have_no_exactness_to_prove() {
    let local = LocalChoice::Named(vec![LocalPhase {
        phase: Phase::Forward,
        layer: 1,
    }]);
    let preferences = Preferences {
        local,
        ..Preferences::default()
    };
    let plan = plan(&preferences);
    let forward = |p: Phase| matches!(p, Phase::Forward | Phase::TightForward);
    let rows = plan.exactness().iter();
    assert!(!rows.clone().any(|row| row.layer == 1 && forward(row.phase)));
    assert!(rows.clone().any(|row| row.layer == 0 && forward(row.phase)));
}

/// Where the server's seconds cost nothing and the forward product alone is outsourced, the cheapest
/// layout keeps every weight in a polynomial of its own, more than a server holds: one that it does
/// hold is taken.
#[test]
fn what_a_server_cannot_hold_is_passed_over() {
    let mut choices = choices(256, 2048);
    let dense = LayerSpec::Dense { outputs: 256 };
    let last = LayerSpec::Dense { outputs: 10 };
    choices.architecture.layers = vec![dense, LayerSpec::Tanh, dense, LayerSpec::Tanh, last];
    let kept = [
        (Phase::Forward, 0),
        (Phase::Gradient, 0),
        (Phase::Backward, 1),
        (Phase::Gradient, 1),
        (Phase::Forward, 2),
        (Phase::Backward, 2),
        (Phase::Gradient, 2),
    ];
    let kept = kept.map(|(phase, layer)| LocalPhase { phase, layer });
    let mut preferences = Preferences {
        local: LocalChoice::Named(kept.to_vec()),
        ..Preferences::default()
    };
    preferences.prices.server = 0.0;
    let network = Network::new(&choices.architecture).unwrap();
    let held = |tilings: &[Tiling]| {
        let shapes = network.linears().iter().zip(tilings);
        let layouts = shapes.map(|(shape, &at)| Layout::new(4096, shape, 2048, at).unwrap());
        Held::bytes(layouts.map(|layout| layout.held()), 4096)
    };
    let limit = Limits::default().bytes;
    let free = preferences.for_training(&network, 4096, 2048, &Bounds::default());
    let free: Vec<Tiling> = free.unwrap().iter().map(|layer| layer.tiling).collect();
    assert!(held(&free) > limit);
    let literal = PlanLiteral::design_for(&choices, &preferences).unwrap();
    assert!(held(&literal.tilings) <= limit);
    assert!(Plan::new(&literal, &Limits::default()).is_ok());
}

/// A longer ring is taken only where it is asked for and cheaper.
#[test]
fn the_ring_is_chosen_among_those_asked_for() {
    let both = Preferences {
        log_degrees: vec![12, 13],
        ..Preferences::default()
    };
    let degree = plan(&both).parameters().degree();
    assert!([4096, 8192].contains(&degree));
    let long = Preferences {
        log_degrees: vec![13],
        ..Preferences::default()
    };
    assert_eq!(plan(&long).parameters().degree(), 8192);
}

/// Three images of 33 by 33 in 4096 coefficients leave a fifth of them empty: a stream fills them.
#[test]
fn a_stream_is_chosen_where_images_leave_room() {
    let input = ImageShape {
        channels: 64,
        height: 32,
        width: 32,
    };
    let shape = LinearShape::conv(ConvShape::new(input, 64, 3, 1, 1).unwrap());
    let preferences = Preferences::default();
    let all = [Phase::Forward, Phase::Backward, Phase::Gradient];
    let choice = preferences.layer(&shape, 4096, 315, &all).unwrap();
    assert!(matches!(choice.tiling, Tiling::Stream { .. }), "{choice:?}");
}

/// Alone, a phase costs no more than its share of a layout that serves all three.
#[test]
fn a_phase_alone_has_its_own_layout() {
    let preferences = Preferences::default();
    let shape = LinearShape::dense(256, 256);
    let price = |phases: &[Phase]| preferences.layer(&shape, 4096, 1000, phases).unwrap().price;
    let all = [Phase::Forward, Phase::Backward, Phase::Gradient];
    let apart: f64 = all.iter().map(|&phase| price(&[phase])).sum();
    // Inputs go up for forward and for the gradient.
    let inputs = price(&[Phase::Forward]);
    assert!(all.iter().all(|&phase| price(&[phase]) < price(&all)));
    assert!(
        apart - inputs <= price(&all),
        "{apart} {inputs} {}",
        price(&all)
    );
}

/// What `W x` by integers, of inputs that go up a second time, adds to the price of a layer.
fn second_upload(shape: LinearShape, rows: usize) -> Option<f64> {
    let preferences = Preferences::default();
    let question = preferences.training(1, &shape, (4096, rows));
    let chosen = preferences.answer(&question, 1).unwrap().price;
    let second = preferences.second_upload(&question)?;
    Some(second.price / chosen - 1.0)
}

/// In the shipped networks at the batches they are trained with, a second upload costs more than it
/// saves, or there is no batch that fills polynomials. The product with an integer takes as long as
/// that with a polynomial; what a second upload saves is one prime of two.
#[test]
fn a_second_upload_does_not_pay_in_the_shipped_networks() {
    let image = |channels, side| ImageShape {
        channels,
        height: side,
        width: side,
    };
    for (name, input, rows) in [
        ("mlp", image(1, 28), 8869),
        ("minionn-mnist", image(1, 28), 676),
        ("minionn-mnist-tanh", image(1, 28), 2412),
        ("minionn-cifar10", image(3, 32), 315),
    ] {
        let architecture = sphinx_nn::architectures::by_name(name, input, 10).unwrap();
        for shape in Network::new(&architecture).unwrap().linears() {
            let more = second_upload(*shape, rows);
            assert!(more.is_none_or(|more| more > 0.0), "{name} {more:?}");
        }
    }
    assert!(second_upload(LinearShape::dense(3969, 10), 8869) > Some(0.2));
}

/// In wide dense layers it would pay by up to a tenth of the layer's price, if the product is
/// exact at one prime. No plan has it.
#[test]
fn a_second_upload_would_pay_in_wide_layers() {
    for width in [256, 1024, 4096] {
        for rows in [4096, 8192, 16384] {
            let more = second_upload(LinearShape::dense(width, width), rows).unwrap();
            assert!((-0.11..-0.06).contains(&more), "{width} {rows} {more}");
        }
    }
}

/// Where the client keeps the gradient, or for the backward product, full polynomials of a wide
/// layer are multiplied by integers.
#[test]
fn wide_layers_are_multiplied_by_integers() {
    let preferences = Preferences::default();
    let shape = LinearShape::dense(1024, 1024);
    for phase in [Phase::Forward, Phase::Backward] {
        let choice = preferences.layer(&shape, 4096, 8192, &[phase]).unwrap();
        assert_eq!(choice.tiling, Tiling::Scalar, "{phase}");
    }
    let all = [Phase::Forward, Phase::Backward, Phase::Gradient];
    let choice = preferences.layer(&shape, 4096, 8192, &all).unwrap();
    assert_ne!(choice.tiling, Tiling::Scalar);
    let own = choice.backward.map(|own| own.tiling);
    assert_eq!(own, Some(Tiling::Scalar));
    assert!(choice.price > 0.0);
}
