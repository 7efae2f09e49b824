//! Whatever the client keeps, the sums are those of the oracle, and the server sees less.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::engine::{GradientSum, Train};
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::tensor::Tensor;

use super::*;
use crate::grid::{Engine, Local, Multiplier};
use crate::link::Link;
use crate::message::ModelId;
use crate::model::Replica;
use crate::packed::layout::Tiling;
use crate::packed::{Packed, Upload, script, tests};
use crate::party::{Hub, HubLimits};
use crate::plan::{Limits, Plan, PlanChoices, PlanLiteral};
use crate::serve::converse;
use crate::transport::loopback;

const ALL: [(Phase, usize); 5] = [
    (Phase::Forward, 0),
    (Phase::Gradient, 0),
    (Phase::Forward, 1),
    (Phase::Backward, 1),
    (Phase::Gradient, 1),
];

fn keeping(mask: usize) -> Plan {
    let mut literal = tests::plan().literal().clone();
    let kept = ALL.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
    let kept = kept.map(|(_, &(phase, layer))| LocalPhase { phase, layer });
    literal.local = kept.collect();
    Plan::new(&literal, &Limits::default()).unwrap()
}

/// The clipped sum of one step on fixed data.
fn sums<M: Multiplier>(mut engine: Engine<M>, plan: &Plan) -> GradientSum {
    let (rows, columns) = (plan.capacity(), plan.network().inputs());
    let pixels = (0..rows * columns).map(|at| (at * 29 % 64) as f32 / 64.0);
    let x = Tensor::from_vec(rows, columns, pixels.collect()).unwrap();
    let labels: Vec<Option<u8>> = (0..rows).map(|row| Some(row as u8)).collect();
    engine.begin(0, rows).unwrap();
    let pass = sphinx_nn::pass::gradients(&mut engine, plan.network(), &x, &labels).unwrap();
    engine.collect(pass.pending).unwrap()
}

fn packed(plan: &Plan) -> GradientSum {
    let (client, server) = loopback();
    let hub = Arc::new(Hub::new(HubLimits::default()));
    let server = std::thread::spawn(move || converse(server, hub, 0, None));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let link = Link::greet(client).unwrap();
    let replica = Replica::initial(plan.grid());
    let packed = Packed::open(link, ModelId([1; 16]), plan, replica, &mut rng).unwrap();
    let sums = sums(Engine::new(packed), plan);
    server.join().unwrap();
    sums
}

/// Every subset of the products of a network of two layers.
#[test]
fn every_choice_gives_the_sums_of_the_oracle() {
    let plan = keeping(0);
    let local = Engine::new(Local::new(Replica::initial(plan.grid())));
    let expected = sums(local, &plan);
    assert!(expected.values.iter().any(|&v| v != 0));
    for mask in 0..1 << ALL.len() {
        let got = packed(&keeping(mask));
        assert_eq!(got.values, expected.values, "kept {mask:05b}");
        assert_eq!(got.norms_squared, expected.norms_squared, "kept {mask:05b}");
    }
}

/// The same with the backward product in a layout of its own, of whole samples and of integers, and
/// with inputs as integers where nothing else needs them: a dense network and a convolution.
#[test]
fn every_kind_gives_the_sums_of_the_oracle() {
    let whole = Tiling::Whole {
        inputs_per_tile: 3,
        outputs_per_tile: 1,
        samples_per_chunk: 2,
    };
    for plan in [keeping(0), convolution()] {
        let local = Engine::new(Local::new(Replica::initial(plan.grid())));
        let expected = sums(local, &plan);
        let gradient = |layer| LocalPhase {
            phase: Phase::Gradient,
            layer,
        };
        for (own, scalar) in [
            (whole, None),
            (Tiling::Scalar, None),
            (Tiling::Scalar, Some(0)),
            (whole, Some(1)),
        ] {
            let mut literal = plan.literal().clone();
            literal.backward_tilings.insert(1, own);
            if let Some(layer) = scalar {
                literal.tilings[layer] = Tiling::Scalar;
                assert!(Plan::new(&literal, &Limits::default()).is_err());
                literal.local = vec![gradient(layer)];
            }
            let other = Plan::new(&literal, &Limits::default()).unwrap();
            assert_ne!(other, plan);
            let got = packed(&other);
            assert_eq!(got.values, expected.values, "{own:?} {scalar:?}");
            assert_eq!(got.norms_squared, expected.norms_squared);
        }
    }
}

/// A convolution between two others.
fn convolution() -> Plan {
    let conv = LayerSpec::Conv {
        channels: 2,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    let dense = LayerSpec::Dense { outputs: 5 };
    let mut literal = tests::plan().literal().clone();
    let choices = PlanChoices {
        architecture: Architecture {
            name: "kinds".into(),
            input: ImageShape {
                channels: 1,
                height: 4,
                width: 3,
            },
            layers: vec![conv, LayerSpec::Tanh, conv, LayerSpec::Relu, dense],
        },
        capacity: 5,
        clip_bound: 1.0,
        learning_rate: 1.0,
        momentum: 0.5,
        divisor: 4.0,
        init_seed: 3,
        tickets: 2,
    };
    literal = PlanLiteral::design_with(&choices, literal.he).unwrap();
    Plan::new(&literal, &Limits::default()).unwrap()
}

/// What is kept goes up no more; inputs go up as long as one of their two products is left.
#[test]
fn the_script_leaves_out_what_is_kept() {
    let count = |plan: &Plan, upload: Upload, layer: u16| {
        let script = script(plan).into_iter();
        script
            .filter(|(kind, place)| *kind == upload && place.layer == layer)
            .count()
    };
    let whole = keeping(0);
    for mask in 0..1 << ALL.len() {
        let plan = keeping(mask);
        for (upload, layer) in [
            (Upload::Activation, 0),
            (Upload::ClippedGradient, 0),
            (Upload::Activation, 1),
            (Upload::OutputGradient, 1),
            (Upload::ClippedGradient, 1),
        ] {
            let layer_at = usize::from(layer);
            let needed = !plan.is_local(upload, layer_at)
                || upload == Upload::Activation
                    && !plan.is_local(Upload::ClippedGradient, layer_at);
            let expected = if needed {
                count(&whole, upload, layer)
            } else {
                0
            };
            assert_eq!(
                count(&plan, upload, layer),
                expected,
                "{mask:05b} {upload:?}"
            );
        }
    }
}

/// Plans that keep nothing are the plans they were.
#[test]
fn keeping_nothing_is_not_written_down() {
    let text = serde_json::to_string(keeping(0).literal()).unwrap();
    assert!(!text.contains("local"));
    let text = serde_json::to_string(keeping(1).literal()).unwrap();
    let literal = serde_json::from_str(&text).unwrap();
    let read = Plan::new(&literal, &Limits::default()).unwrap();
    assert_eq!(read, keeping(1));
    assert_ne!(read, keeping(0));
}
