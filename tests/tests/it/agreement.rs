//! The first law: the encrypted trajectory is the trajectory of integer-grid `clear`, bit for bit.

use proptest::prelude::*;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec, LinearShape, Network};
use sphinx_protocol::grid::{Engine, Local, Multiplier};
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::layout::{Layout, Tiling};
use sphinx_protocol::plan::{Limits, Plan, PlanChoices, PlanLiteral};
use sphinx_tests::fixture::{
    architecture, choices, hub, local, packed, packed_from, random_data, toy_parameters, toy_plan,
    train,
};

/// Trains both ways and compares weights, biases and the server's encrypted backup.
fn check_agreement(plan: &Plan, data_seed: u64, steps: u64, z: Option<f64>) {
    let network = plan.network();
    let data = random_data(40, network.inputs(), network.classes(), data_seed);
    let clear = train(local(plan), plan, &data, steps, z, data_seed).unwrap();
    let hub = hub();
    let encrypted = train(
        packed(plan, &hub, None).unwrap(),
        plan,
        &data,
        steps,
        z,
        data_seed,
    )
    .unwrap();
    let (ours, theirs) = (
        clear.multiplier().replica(),
        encrypted.multiplier().replica(),
    );
    assert_eq!(ours.public().version(), theirs.public().version());
    assert_eq!(ours.master_biases(), theirs.master_biases());
    let mut packed = encrypted.into_multiplier();
    assert_eq!(packed.fetch_biases().unwrap(), ours.master_biases());
}

fn activation() -> impl Strategy<Value = LayerSpec> {
    prop_oneof![Just(LayerSpec::Tanh), Just(LayerSpec::Relu)]
}

prop_compose! {
    fn plans()(inputs in 1_usize..14, hidden in prop::collection::vec((1_usize..7, activation()), 0..3),
               classes in 2_usize..6, capacity in 8_usize..40, tickets in 1_usize..6)
        (tiles in prop::collection::vec((1_usize..9, 1_usize..9, 1_usize..17), hidden.len() + 1),
         choices in Just(PlanChoices { tickets, ..choices(architecture(inputs, &hidden, classes), capacity) }))
        -> Plan {
        let mut literal = PlanLiteral::design_with(&choices, toy_parameters(7)).unwrap();
        // Any layout that fits is right, not only the cheapest.
        for (layer, (n_w, m_w, b0)) in tiles.into_iter().enumerate() {
            let tiling = Tiling::Whole { inputs_per_tile: n_w, outputs_per_tile: m_w, samples_per_chunk: b0 };
            if Layout::new(128, &LinearShape::dense(1, 1), 1, tiling).is_some() {
                literal.tilings[layer] = tiling;
            }
        }
        Plan::new(&literal, &Limits::default()).unwrap()
    }
}

fn pooling() -> impl Strategy<Value = Option<LayerSpec>> {
    prop_oneof![
        Just(None),
        Just(Some(LayerSpec::MaxPool { size: 2, stride: 2 })),
        Just(Some(LayerSpec::AvgPool { size: 2, stride: 1 })),
    ]
}

/// A first convolution, perhaps pooling, perhaps a second convolution, and a dense end.
fn convolutional() -> impl Strategy<Value = Architecture> {
    let image = (1_usize..3, 3_usize..6, 3_usize..6);
    let conv = || (1_usize..4, 1_usize..4, 1_usize..3, 0_usize..2, activation());
    (
        image,
        conv(),
        pooling(),
        prop::option::of(conv()),
        2_usize..4,
    )
        .prop_filter_map(
            "a network that fits together and has layouts",
            |((channels, height, width), first, pool, second, classes)| {
                let mut layers = Vec::new();
                let specs = [Some((first, pool)), second.map(|second| (second, None))];
                for ((channels, kernel, stride, padding, after), pool) in
                    specs.into_iter().flatten()
                {
                    let padding = padding.min((kernel - 1) / 2);
                    layers.extend([
                        LayerSpec::Conv {
                            channels,
                            kernel,
                            stride,
                            padding,
                        },
                        after,
                    ]);
                    layers.extend(pool);
                }
                layers.push(LayerSpec::Dense { outputs: classes });
                let input = ImageShape {
                    channels,
                    height,
                    width,
                };
                let architecture = Architecture {
                    name: "conv".into(),
                    input,
                    layers,
                };
                let network = Network::new(&architecture).ok()?;
                sphinx_protocol::plan::has_layouts(&network).then_some(architecture)
            },
        )
}

/// A plan whose layers are streams of `n` by `m` channels, or of fewer where those do not fit.
fn streamed(choices: &PlanChoices, n: usize, m: usize) -> Plan {
    let mut literal = PlanLiteral::design_with(choices, toy_parameters(7)).unwrap();
    let network = Network::new(&choices.architecture).unwrap();
    for (layer, shape) in network.linears().iter().enumerate() {
        let streams = [(n, m), (n, 1), (1, 1)].map(|(n, m)| Tiling::Stream {
            inputs_per_tile: n,
            outputs_per_tile: m,
        });
        let fits = |tiling: &&Tiling| Layout::new(128, shape, choices.capacity, **tiling).is_some();
        let stream = *streams.iter().find(fits).unwrap();
        literal.backward_tilings.remove(&layer);
        literal.tilings[layer] = stream;
        literal.ticket_tilings[layer] = stream;
    }
    Plan::new(&literal, &Limits::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn encrypted_streams_equal_integer_grid_clear(
        architecture in convolutional(),
        capacity in 8_usize..24,
        channels in (1_usize..4, 1_usize..4),
        seed in 0_u64..1000,
        noisy in any::<bool>(),
    ) {
        let plan = streamed(&choices(architecture, capacity), channels.0, channels.1);
        check_agreement(&plan, seed, 2, noisy.then_some(1.0));
    }

    #[test]
    fn encrypted_convolutions_equal_integer_grid_clear(
        architecture in convolutional(),
        capacity in 8_usize..24,
        seed in 0_u64..1000,
        noisy in any::<bool>(),
    ) {
        let plan = toy_plan(&choices(architecture, capacity), 7);
        check_agreement(&plan, seed, 2, noisy.then_some(1.0));
    }

    #[test]
    fn encrypted_training_is_grid_clear(plan in plans(), seed in 0_u64..1000, noisy in any::<bool>()) {
        check_agreement(&plan, seed, 3, noisy.then_some(0.8));
    }
}

#[test]
fn it_holds_at_the_shipped_parameters() {
    let hidden = [(16, LayerSpec::Tanh)];
    let literal = PlanLiteral::design(&choices(architecture(100, &hidden, 10), 48)).unwrap();
    let plan = Plan::new(&literal, &Limits::default()).unwrap();
    check_agreement(&plan, 3, 2, Some(1.0));
}

/// Weights that somebody trained on other data: the server takes them as it takes a run that goes on.
#[test]
fn it_holds_from_other_first_weights() {
    let plan = toy_plan(&choices(architecture(6, &[(4, LayerSpec::Relu)], 3), 16), 7);
    let grid = plan.grid();
    let data = random_data(40, 6, 3, 1);
    let count = plan.network().parameter_count();
    let flat: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
    let first = || Replica::starting_from(grid, &flat).unwrap();
    assert_ne!(
        first().public().version(),
        Replica::initial(grid).public().version()
    );
    assert!(Replica::starting_from(grid, &flat[1..]).is_err());
    let clear = Engine::new(Local::new(first()));
    let clear = train(clear, &plan, &data, 3, Some(1.0), 5).unwrap();
    let hub = hub();
    let encrypted = packed_from(&plan, &hub, None, first(), 9).unwrap();
    let encrypted = train(encrypted, &plan, &data, 3, Some(1.0), 5).unwrap();
    let (ours, theirs) = (
        clear.multiplier().replica(),
        encrypted.multiplier().replica(),
    );
    assert_eq!(ours.public().version(), theirs.public().version());
    assert_eq!(ours.master_biases(), theirs.master_biases());
}

#[test]
fn a_different_seed_gives_a_different_trajectory() {
    let plan = toy_plan(&choices(architecture(6, &[], 3), 16), 7);
    let data = random_data(40, 6, 3, 1);
    let version = |seed| {
        let engine = train(local(&plan), &plan, &data, 2, Some(1.0), seed).unwrap();
        engine.multiplier().replica().public().version()
    };
    assert_eq!(version(1), version(1));
    assert_ne!(version(1), version(2));
}
