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
            biases: 24..28,
            scales: 28..28,
            shifts: 28..28,
        }
    );
    assert_eq!(
        network.layout()[1],
        ParameterSpan {
            weights: 28..48,
            biases: 48..53,
            scales: 53..53,
            shifts: 53..53,
        }
    );
    assert_eq!(
        network.layout()[2],
        ParameterSpan {
            weights: 53..68,
            biases: 68..71,
            scales: 71..71,
            shifts: 71..71,
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
        Err(E::AdjacentLinear {
            layer: 1,
            found: dense(2)
        })
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

/// A 2 x 3 image, then these layers, then a dense end.
fn build_conv(layers: &[LayerSpec]) -> Result<Network, ArchitectureError> {
    build(&[layers, &[dense(2)]].concat())
}

const fn conv(channels: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv {
        channels,
        kernel,
        stride,
        padding,
    }
}

const MAX_POOL: LayerSpec = LayerSpec::MaxPool { size: 2, stride: 2 };

#[test]
fn images_flow_through_convolutions_and_pooling() {
    // 1 x 2 x 3, conv 3 x 3 with frame 1 -> 4 x 2 x 3, pool 2 -> 4 x 1 x 1, conv 1 x 1 -> 5.
    let pool = LayerSpec::AvgPool { size: 2, stride: 2 };
    let layers = [
        conv(4, 3, 1, 1),
        LayerSpec::Square,
        pool,
        conv(5, 1, 1, 0),
        LayerSpec::Sigmoid,
    ];
    let network = build_conv(&layers).unwrap();
    let widths: Vec<_> = network
        .linears()
        .iter()
        .map(|l| (l.inputs, l.outputs, l.weights(), l.biases()))
        .collect();
    assert_eq!(widths, [(6, 24, 36, 4), (4, 5, 20, 5), (5, 2, 10, 2)]);
    let multiplications: Vec<_> = network
        .linears()
        .iter()
        .map(LinearShape::multiplications)
        .collect();
    assert_eq!(multiplications, [36 * 6, 20, 10]);
    assert_eq!(network.linears()[0].fans(), (9, 36));
    assert_eq!(network.layout()[1].weights, 40..60);
    assert_eq!(network.layout()[1].biases, 60..65);
    assert_eq!(network.between(0).activation, Activation::Square);
    let pooled = network.between(0).pool.unwrap();
    assert_eq!((pooled.kind(), pooled.size()), (PoolKind::Mean, 2));
    assert_eq!(network.between(1).pool, None);
    assert_eq!(network.activation_after(1), Activation::Sigmoid);
    assert!(matches!(network.linears()[1].kind, LinearKind::Conv(_)));
    assert_eq!(network.linears()[2], LinearShape::dense(5, 2));
}

#[test]
fn errors_of_convolutions_name_layer_and_sizes() {
    use ArchitectureError as E;
    let (relu, c) = (LayerSpec::Relu, conv(2, 2, 1, 0));
    assert_eq!(build(&[c, relu, c]), Err(E::NoDense));
    assert_eq!(
        build(&[dense(2), relu, conv(2, 1, 1, 0)]),
        Err(E::NotDenseAtEnd {
            layer: 2,
            found: conv(2, 1, 1, 0)
        })
    );
    assert_eq!(
        build_conv(&[c]),
        Err(E::AdjacentLinear {
            layer: 1,
            found: dense(2)
        })
    );
    for misplaced in [
        &[MAX_POOL][..],
        &[c, MAX_POOL],
        &[c, relu, MAX_POOL, MAX_POOL],
    ] {
        let layer = misplaced.len() - 1;
        let found = MAX_POOL;
        assert_eq!(
            build_conv(misplaced),
            Err(E::MisplacedPooling { layer, found })
        );
    }
    assert_eq!(
        build_conv(&[c, relu, MAX_POOL, relu]),
        Err(E::MisplacedActivation {
            layer: 3,
            found: relu
        })
    );
    assert_eq!(
        build_conv(&[conv(0, 2, 1, 0), relu]),
        Err(E::Outputs {
            layer: 0,
            outputs: 0,
            limit: MAX_WIDTH
        })
    );
    assert_eq!(
        build_conv(&[conv(MAX_WIDTH, 1, 1, 0), relu]),
        Err(E::Outputs {
            layer: 0,
            outputs: 6 * MAX_WIDTH,
            limit: MAX_WIDTH
        })
    );
    let message = |layers: &[LayerSpec]| build_conv(layers).unwrap_err().to_string();
    assert_eq!(
        message(&[conv(2, 2, 1, 0), relu, conv(2, 3, 1, 0), relu]),
        "layer 2: a convolution with a 3 x 3 kernel, stride 1 and padding 0 on images of \
         2 x 1 x 2 (channels x height x width); the kernel must be between 1 and 64 and fit into \
         the padded image, the stride at least 1, the padding below the kernel"
    );
    assert_eq!(
        message(&[c, relu, MAX_POOL]),
        "layer 2: pooling 2 x 2 with stride 2 on images of 2 x 1 x 2 (channels x height x \
         width); the size must be at least 2 and fit into the image, the stride at least 1"
    );
}

#[test]
fn normalisations_have_their_place_and_parameters() {
    use ArchitectureError as E;
    let norm = |groups, affine| LayerSpec::GroupNorm { groups, affine };
    let (c, relu) = (conv(4, 2, 1, 0), LayerSpec::Relu);
    let network = build_conv(&[c, norm(2, true), relu]).unwrap();
    let span = &network.layout()[0];
    assert_eq!(
        (
            span.biases.clone(),
            span.scales.clone(),
            span.shifts.clone()
        ),
        (16..20, 20..24, 24..28)
    );
    assert_eq!(network.norm_after(0).unwrap().groups(), 2);
    assert_eq!(network.layout()[1].weights.start, 28);
    assert_eq!(
        build_conv(&[c, norm(2, false), relu])
            .unwrap()
            .parameter_count(),
        38
    );
    for (layers, layer) in [
        (&[norm(1, false)][..], 0),
        (&[c, relu, norm(2, true)], 2),
        (&[c, norm(1, true), norm(1, true), relu], 2),
    ] {
        let found = layers[layer];
        assert_eq!(build_conv(layers), Err(E::MisplacedNorm { layer, found }));
    }
    for groups in [0, 3, 5] {
        let misfit = E::Groups {
            layer: 1,
            groups,
            channels: 4,
        };
        assert_eq!(build_conv(&[c, norm(groups, true), relu]), Err(misfit));
    }
    let found = dense(2);
    assert_eq!(
        build_conv(&[c, norm(2, true)]),
        Err(E::AdjacentLinear { layer: 2, found })
    );
    let refused = build_conv(&[c, LayerSpec::BatchNorm, relu]).unwrap_err();
    assert_eq!(refused, E::BatchNorm { layer: 1 });
    assert!(refused.to_string().contains("use group-norm"));
}

#[test]
fn patches_beyond_the_limit_are_refused() {
    let architecture = Architecture {
        name: "wide".into(),
        input: ImageShape {
            channels: 1,
            height: 512,
            width: 512,
        },
        layers: vec![conv(1, 64, 1, 32), LayerSpec::Relu, dense(2)],
    };
    assert_eq!(
        Network::new(&architecture),
        Err(ArchitectureError::Patches {
            layer: 0,
            patches: 64 * 64 * 513 * 513
        })
    );
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
    let layers = [
        (
            conv(8, 3, 2, 1),
            r#"{"kind":"conv","channels":8,"kernel":3,"stride":2,"padding":1}"#,
        ),
        (MAX_POOL, r#"{"kind":"max-pool","size":2,"stride":2}"#),
        (
            LayerSpec::AvgPool { size: 3, stride: 1 },
            r#"{"kind":"avg-pool","size":3,"stride":1}"#,
        ),
        (
            LayerSpec::GroupNorm {
                groups: 4,
                affine: true,
            },
            r#"{"kind":"group-norm","groups":4,"affine":true}"#,
        ),
        (LayerSpec::BatchNorm, r#"{"kind":"batch-norm"}"#),
        (LayerSpec::Sigmoid, r#"{"kind":"sigmoid"}"#),
        (LayerSpec::Square, r#"{"kind":"square"}"#),
    ];
    for (layer, text) in layers {
        assert_eq!(serde_json::from_str::<LayerSpec>(text).unwrap(), layer);
        assert_eq!(serde_json::to_string(&layer).unwrap(), text);
    }
}

proptest! {
    /// Whatever the description, building it ends in an error or in a network whose spans tile
    /// the parameter vector.
    #[test]
    fn spans_tile_the_parameters(layers in proptest::collection::vec(
        prop_oneof![
            (0_usize..300).prop_map(dense),
            (0_usize..9, 0_usize..4, 0_usize..3, 0_usize..3).prop_map(|(c, k, s, p)| conv(c, k, s, p)),
            (0_usize..3, 0_usize..3).prop_map(|(size, stride)| LayerSpec::MaxPool { size, stride }),
            (0_usize..4, any::<bool>()).prop_map(|(groups, affine)| LayerSpec::GroupNorm { groups, affine }),
            Just(LayerSpec::Relu),
            Just(LayerSpec::Tanh),
        ],
        0..6,
    )) {
        if let Ok(network) = build(&layers) {
            let mut end = 0;
            for (span, shape) in network.layout().iter().zip(network.linears()) {
                prop_assert_eq!(span.weights.start, end);
                prop_assert_eq!(span.weights.len(), shape.weights());
                prop_assert_eq!(span.weights.end, span.biases.start);
                prop_assert_eq!(span.biases.len(), shape.biases());
                prop_assert_eq!(span.biases.end, span.scales.start);
                prop_assert_eq!(span.scales.end, span.shifts.start);
                prop_assert_eq!(span.scales.len(), span.shifts.len());
                prop_assert_eq!(span.all(), end..span.shifts.end);
                end = span.shifts.end;
            }
            prop_assert_eq!(end, network.parameter_count());
            prop_assert_eq!(network.linears().len(), network.layout().len());
        }
    }
}
