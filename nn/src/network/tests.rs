use super::*;
use proptest::prelude::*;

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 2,
    width: 3,
};

fn dense(outputs: usize) -> LayerSpec {
    LayerSpec::Dense { outputs }
}

fn build(layers: &[LayerSpec]) -> Result<Network, ArchitectureError> {
    Network::new(&Architecture {
        name: "test".into(),
        input: SHAPE,
        layers: layers.to_vec(),
    })
}

#[test]
fn layout_is_weights_then_biases_layer_by_layer() {
    let network = build(&[
        dense(4),
        LayerSpec::Tanh,
        dense(5),
        LayerSpec::Relu,
        dense(3),
    ])
    .unwrap();
    let shapes: Vec<_> = network
        .linears()
        .iter()
        .map(|l| (l.inputs, l.outputs))
        .collect();
    assert_eq!(shapes, [(6, 4), (4, 5), (5, 3)]);
    assert_eq!(
        network.layout()[0],
        ParameterSpan {
            weights: 0..24,
            biases: 24..28
        }
    );
    assert_eq!(
        network.layout()[1],
        ParameterSpan {
            weights: 28..48,
            biases: 48..53
        }
    );
    assert_eq!(
        network.layout()[2],
        ParameterSpan {
            weights: 53..68,
            biases: 68..71
        }
    );
    assert_eq!(
        (
            network.inputs(),
            network.classes(),
            network.parameter_count()
        ),
        (6, 3, 71)
    );
    let after: Vec<_> = (0..3).map(|l| network.activation_after(l)).collect();
    assert_eq!(
        after,
        [Activation::Tanh, Activation::Relu, Activation::Identity]
    );
}

#[test]
fn errors_name_the_layer() {
    use ArchitectureError as E;
    let (relu, tanh) = (LayerSpec::Relu, LayerSpec::Tanh);
    assert_eq!(build(&[]), Err(E::NoDense));
    assert_eq!(build(&[relu]), Err(E::NoDense));
    assert_eq!(
        build(&[relu, dense(2)]),
        Err(E::MisplacedActivation {
            layer: 0,
            found: relu
        })
    );
    assert_eq!(
        build(&[dense(2), relu, tanh, dense(2)]),
        Err(E::MisplacedActivation {
            layer: 2,
            found: tanh
        })
    );
    assert_eq!(
        build(&[dense(2), dense(2)]),
        Err(E::AdjacentDense { layer: 1 })
    );
    assert_eq!(
        build(&[dense(2), tanh]),
        Err(E::NotDenseAtEnd {
            layer: 1,
            found: tanh
        })
    );
    assert_eq!(
        build(&[dense(0)]),
        Err(E::Outputs {
            layer: 0,
            outputs: 0,
            limit: 256
        })
    );
    assert_eq!(
        build(&[dense(257)]),
        Err(E::Outputs {
            layer: 0,
            outputs: 257,
            limit: 256
        })
    );
    assert_eq!(build(&vec![relu; 65]), Err(E::TooManyLayers { found: 65 }));
    let wide = [dense(MAX_WIDTH), relu, dense(MAX_WIDTH), relu, dense(2)];
    assert!(matches!(
        build(&wide),
        Err(E::TooManyParameters { layer: 2, .. })
    ));
    let message = build(&[dense(2), relu, dense(999)])
        .unwrap_err()
        .to_string();
    assert_eq!(message, "layer 2: 999 outputs; must be between 1 and 256");
}

#[test]
fn absurd_inputs_are_refused() {
    for (channels, height, width) in [(0, 1, 1), (usize::MAX, 2, 1), (1, 1 << 11, 1 << 10)] {
        let input = ImageShape {
            channels,
            height,
            width,
        };
        let architecture = Architecture {
            name: "x".into(),
            input,
            layers: vec![dense(2)],
        };
        assert_eq!(
            Network::new(&architecture),
            Err(ArchitectureError::Input(input))
        );
    }
}

#[test]
fn descriptions_survive_serde_and_unknown_words_do_not() {
    let text = r#"{"name":"t","input":{"channels":1,"height":2,"width":3},
        "layers":[{"kind":"dense","outputs":4},{"kind":"tanh"},{"kind":"dense","outputs":2}]}"#;
    let parsed: Architecture = serde_json::from_str(text).unwrap();
    assert_eq!(parsed.layers, [dense(4), LayerSpec::Tanh, dense(2)]);
    let again: Architecture =
        serde_json::from_str(&serde_json::to_string(&parsed).unwrap()).unwrap();
    assert_eq!(parsed, again);
    assert!(serde_json::from_str::<LayerSpec>(r#"{"kind":"swish"}"#).is_err());
}

proptest! {
    /// Whatever the description, building it ends in an error or in a network whose spans tile
    /// the parameter vector.
    #[test]
    fn spans_tile_the_parameters(layers in proptest::collection::vec(
        prop_oneof![(0_usize..300).prop_map(dense), Just(LayerSpec::Relu), Just(LayerSpec::Tanh)],
        0..6,
    )) {
        if let Ok(network) = build(&layers) {
            let mut end = 0;
            for (span, shape) in network.layout().iter().zip(network.linears()) {
                prop_assert_eq!(span.weights.start, end);
                prop_assert_eq!(span.weights.len(), shape.inputs * shape.outputs);
                prop_assert_eq!(span.weights.end, span.biases.start);
                prop_assert_eq!(span.biases.len(), shape.outputs);
                end = span.biases.end;
            }
            prop_assert_eq!(end, network.parameter_count());
            prop_assert_eq!(network.linears().len(), network.layout().len());
        }
    }
}
