//! Plans are refused for one reason at a time, and named by their content.

use sphinx_nn::network::{ImageShape, LayerSpec};

use super::*;

fn literal() -> PlanLiteral {
    let architecture = Architecture {
        name: "plan".into(),
        input: ImageShape {
            channels: 1,
            height: 4,
            width: 4,
        },
        layers: vec![
            LayerSpec::Dense { outputs: 6 },
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 3 },
        ],
    };
    let choices = PlanChoices {
        architecture,
        capacity: 20,
        clip_bound: 1.0,
        learning_rate: 0.5,
        momentum: 0.9,
        divisor: 10.0,
        init_seed: 1,
        tickets: 4,
    };
    PlanLiteral::design(&choices).unwrap()
}

fn refusal(change: impl FnOnce(&mut PlanLiteral)) -> String {
    let mut literal = literal();
    change(&mut literal);
    Plan::new(&literal, &Limits::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn the_designed_plan_is_accepted_at_128_bits() {
    let plan = Plan::new(&literal(), &Limits::default()).unwrap();
    assert_eq!(plan.parameters().security(), Security::Classical128);
    assert!(plan.parameters().log2_q(1) <= 106.0);
    assert_eq!(
        plan.weight_count() + plan.bias_count(),
        plan.network().parameter_count()
    );
}

#[test]
fn the_digest_names_the_content() {
    let limits = Limits::default();
    let plan = Plan::new(&literal(), &limits).unwrap();
    assert_eq!(plan, Plan::new(&literal(), &limits).unwrap());
    let other = PlanLiteral {
        grid: GridLiteral {
            init_seed: 2,
            ..literal().grid
        },
        ..literal()
    };
    assert_ne!(plan, Plan::new(&other, &limits).unwrap());
    let text = serde_json::to_string(&literal()).unwrap();
    let back: PlanLiteral = serde_json::from_str(&text).unwrap();
    assert_eq!(plan, Plan::new(&back, &limits).unwrap());
}

#[test]
fn every_refusal_names_its_reason() {
    assert!(refusal(|l| l.he.log_q = vec![60, 60]).contains("106"));
    assert!(refusal(|l| l.he.log_q = vec![47]).contains("primes"));
    assert!(refusal(|l| l.grid.capacity = 0).contains("batch capacity"));
    assert!(refusal(|l| l.grid.capacity = 1 << 20).contains("batch capacity"));
    assert!(refusal(|l| l.tickets = 0).contains("tickets"));
    assert!(refusal(|l| l.mask_bits = 32).contains("mask bits"));
    assert!(refusal(|l| l.mask_bits = 18).contains("more mask bits"));
    assert!(refusal(|l| l.tilings.truncate(1)).contains("tilings"));
    let wide = Tiling::Whole {
        inputs_per_tile: 1,
        outputs_per_tile: 1,
        samples_per_chunk: 1 << 13,
    };
    assert!(refusal(|l| l.tilings[0] = wide).contains("does not fit"));
    let stream = Tiling::Stream {
        inputs_per_tile: 1 << 7,
        outputs_per_tile: 1 << 6,
    };
    assert!(refusal(|l| l.tilings[0] = stream).contains("does not fit"));
    assert!(refusal(|l| l.grid.clip_bound = 1 << 36).contains("would not decode exactly"));
    assert!(refusal(|l| l.grid.gradient_shift = 60).contains("fraction bits"));
    assert!(refusal(|l| l.grid.gradient_shift = 3).contains("at least 7"));
    // One sample in one tile of one input and one output: far too much to hold.
    let tiny = Tiling::Whole {
        inputs_per_tile: 1,
        outputs_per_tile: 1,
        samples_per_chunk: 1,
    };
    let wide = |l: &mut PlanLiteral| {
        l.grid.architecture.input.width = 4096;
        l.ticket_tilings[0] = tiny;
    };
    assert!(refusal(wide).contains("bytes held"));
    assert!(refusal(|l| l.grid.architecture.layers.clear()).contains("network"));
}

fn convolutional(input: ImageShape, layers: Vec<LayerSpec>) -> PlanChoices {
    PlanChoices {
        architecture: Architecture {
            name: "conv".into(),
            input,
            layers,
        },
        capacity: 20,
        clip_bound: 1.0,
        learning_rate: 0.5,
        momentum: 0.9,
        divisor: 10.0,
        init_seed: 1,
        tickets: 4,
    }
}

fn conv(kernel: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv {
        channels: 2,
        kernel,
        stride: 1,
        padding,
    }
}

/// Sound networks that have no layout are refused by both ways to a plan.
#[test]
fn layers_without_a_layout_are_refused_by_number() {
    let image = |height, width| ImageShape {
        channels: 1,
        height,
        width,
    };
    let ends = [LayerSpec::Tanh, LayerSpec::Dense { outputs: 3 }];
    let with = |(height, width), first| {
        let layers = [vec![first], ends.to_vec()].concat();
        convolutional(image(height, width), layers)
    };
    let wide = PlanLiteral::design(&with((4, 4), conv(3, 2))).unwrap_err();
    assert!(matches!(wide, Error::WidePadding { layer: 0 }));
    // An image may be larger than a polynomial, the rows that a kernel reaches over may not.
    let cut = PlanLiteral::design(&with((70, 70), conv(3, 1))).unwrap();
    assert!(Plan::new(&cut, &Limits::default()).is_ok());
    let large = PlanLiteral::design(&with((3, 2047), conv(3, 1))).unwrap_err();
    assert!(matches!(
        large,
        Error::NoLayout {
            layer: 0,
            degree: 4096
        }
    ));
    let fine = PlanLiteral::design(&with((4, 4), conv(3, 1))).unwrap();
    assert!(Plan::new(&fine, &Limits::default()).is_ok());
    let mut literal = fine;
    literal.grid.architecture.layers[0] = conv(3, 2);
    let wide = Plan::new(&literal, &Limits::default()).unwrap_err();
    assert!(matches!(wide, Error::WidePadding { layer: 0 }));
}

/// The paper's networks have exact plans at the shipped parameters.
#[test]
fn the_minionn_networks_have_plans() {
    for (name, channels, side, capacity) in [
        ("minionn-mnist", 1, 28, 688),
        ("minionn-mnist-tanh", 1, 28, 2412),
        ("minionn-cifar10", 3, 32, 300),
    ] {
        let input = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let choices = PlanChoices {
            architecture: sphinx_nn::architectures::by_name(name, input, 10).unwrap(),
            clip_bound: 0.1,
            capacity,
            ..convolutional(input, Vec::new())
        };
        let literal = PlanLiteral::design(&choices).unwrap();
        let plan = Plan::new(&literal, &Limits::default()).unwrap();
        for row in plan.exactness() {
            assert!(row.holds(LOG2_FAILURE), "{name}: {row:?}");
        }
    }
}

#[test]
fn designs_without_a_grid_are_refused() {
    let mut choices = PlanChoices {
        architecture: literal().grid.architecture,
        capacity: 20,
        clip_bound: f64::NAN,
        learning_rate: 0.5,
        momentum: 0.9,
        divisor: 10.0,
        init_seed: 1,
        tickets: 4,
    };
    assert!(matches!(
        PlanLiteral::design(&choices),
        Err(Error::ClipBound { .. })
    ));
    choices.clip_bound = 1e9;
    assert!(matches!(
        PlanLiteral::design(&choices),
        Err(Error::ClipBound { .. })
    ));
    choices.clip_bound = 1.0;
    choices.capacity = 0;
    assert!(PlanLiteral::design(&choices).is_err());
}

#[test]
fn designs_take_the_smallest_primes_that_are_exact() {
    let literal = literal();
    let chosen = PRIMES.iter().position(|p| literal.he.log_q == p).unwrap();
    for (at, primes) in PRIMES.iter().enumerate() {
        let mut other = literal.clone();
        other.he.log_q = primes.to_vec();
        let plan = Plan::new(&other, &Limits::default());
        assert!((at < chosen) == plan.is_err() || at > chosen, "{primes:?}");
    }
    let limits = Limits::default();
    let mut large = PlanLiteral {
        grid: GridLiteral {
            capacity: 800,
            ..literal.grid.clone()
        },
        ..literal.clone()
    };
    assert!(
        Plan::new(&large, &limits).is_err(),
        "more records need more room"
    );
    large.he = standard_parameters();
    assert!(Plan::new(&large, &limits).is_ok());
}

#[test]
fn downloads_leave_out_bits_and_stay_exact() {
    let plan = Plan::new(&literal(), &Limits::default()).unwrap();
    let bits = plan.parameters().moduli()[0].bits();
    for row in plan.exactness() {
        let cut = plan.returned(row.phase, row.layer).truncation;
        assert!(
            row.holds(LOG2_FAILURE) && row.log2_failure <= -140.0,
            "{row:?}"
        );
        assert!(cut.c0 >= 5 && cut.c0 < bits, "{row:?} {cut:?}");
        let returned = plan.returned(row.phase, row.layer);
        assert!(returned.degree == 2 || cut.masks >= 2, "{row:?} {cut:?}");
    }
}
