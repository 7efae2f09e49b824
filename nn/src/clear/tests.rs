use super::*;
use crate::data::synth_digits;
use crate::network::{Architecture, ImageShape, LayerSpec};
use crate::{architectures, init, pass};
use proptest::prelude::*;

fn small(hidden: LayerSpec) -> Network {
    Network::new(&Architecture {
        name: "small".into(),
        input: ImageShape {
            channels: 1,
            height: 1,
            width: 2,
        },
        layers: vec![
            LayerSpec::Dense { outputs: 2 },
            hidden,
            LayerSpec::Dense { outputs: 2 },
        ],
    })
    .unwrap()
}

/// The gradients of one batch.
pub(super) fn sum_of(
    network: &Network,
    parameters: &[f32],
    config: ClearConfig,
    x: &Tensor,
    labels: &[Option<u8>],
) -> GradientSum {
    let mut engine = Clear::new(network, parameters.to_vec(), config).unwrap();
    engine.begin(0, x.rows()).unwrap();
    let pass = pass::gradients(&mut engine, network, x, labels).unwrap();
    engine.collect(pass.pending).unwrap()
}

/// A built-in network and a batch of synth-digits.
pub(super) fn digits(name: &str, rows: usize) -> (Network, Vec<f32>, Tensor, Vec<Option<u8>>) {
    let set = synth_digits::generate(5, rows);
    let architecture = architectures::by_name(name, set.shape, set.classes).unwrap();
    let network = Network::new(&architecture).unwrap();
    let parameters = init::glorot(&network, 5);
    let labels = set.labels.into_iter().map(Some).collect();
    (network, parameters, set.images, labels)
}

#[test]
fn golden_gradient() {
    // A 2-2-2 tanh network, worked out in Python's doubles straight from the chain rule:
    // h = tanh(W1 x + b1), z = W2 h + b2, d2 = softmax(z) - e1, d1 = (W2^T d2) (1 - h^2),
    // gradient (d1 x^T, d1, d2 h^T, d2), with W1 = ((0.5, -0.25), (0.75, 1)), b1 = (0.1, -0.2),
    // W2 = ((1, -0.5), (0.25, 0.5)), b2 = (0, 0.3), x = (0.6, -0.4), label 1.
    let parameters = [
        0.5, -0.25, 0.75, 1.0, 0.1, -0.2, 1.0, -0.5, 0.25, 0.5, 0.0, 0.3,
    ];
    let want = [
        0.194_190_418_611,
        -0.129_460_279_074,
        -0.321_930_014_438,
        0.214_620_009_625,
        0.323_650_697_686,
        -0.536_550_024_063,
        0.253_569_790_829,
        -0.081_695_185_388,
        -0.253_569_790_829,
        0.081_695_185_388,
        0.548_713_214_486,
        -0.548_713_214_486,
    ];
    let (want_loss, want_norm) = (0.795_652_253_513, 1.340_922_135_477);
    let network = small(LayerSpec::Tanh);
    let x = Tensor::from_vec(1, 2, vec![0.6, -0.4]).unwrap();
    let config = ClearConfig {
        shift: 40,
        ..ClearConfig::default()
    };

    let mut engine = Clear::new(&network, parameters.to_vec(), config).unwrap();
    engine.begin(0, 1).unwrap();
    let pass = pass::gradients(&mut engine, &network, &x, &[Some(1)]).unwrap();
    assert!((pass.loss - want_loss).abs() < 1e-6 && pass.correct == 0);
    let sum = engine.collect(pass.pending).unwrap();
    let scale = 2.0_f64.powi(-40);
    for (got, want) in sum.values.iter().zip(want) {
        assert!((*got as f64 * scale - want).abs() < 2e-7, "{got} {want}");
    }
    let norm = sum.norms_squared[0] as f64 * scale * scale;
    assert!((norm - want_norm).abs() < 1e-6, "{norm}");
}

#[test]
fn apply_is_sgd_on_the_divided_sum() {
    let network = small(LayerSpec::Relu);
    let config = ClearConfig {
        learning_rate: 0.5,
        momentum: 0.5,
        divisor: 4.0,
        ..ClearConfig::default()
    };
    let mut engine = Clear::new(&network, vec![1.0; 12], config).unwrap();
    let mut update = vec![0; 12];
    update[3] = 8 << 10; // 8 / 4 = 2 per step: v = 2, then 3
    engine.apply(&update, 10).unwrap();
    assert_eq!(engine.parameters()[3], 0.0);
    engine.apply(&update, 10).unwrap();
    assert_eq!(engine.parameters()[3], -1.5);
    assert_eq!(engine.parameters()[2], 1.0);
}

/// Ghost clipping against the textbook: each sample alone, its gradient formed, clipped, summed.
#[test]
fn clipped_sum_is_the_sum_of_clipped_gradients() {
    let rows = 40;
    let (network, parameters, x, labels) = digits("mlp", rows);
    let free = ClearConfig {
        shift: 40,
        ..ClearConfig::default()
    };
    let scale = 2.0_f64.powi(-40);
    for bound in [0.3_f32, 3.0, 5.0, 100.0] {
        let mut want = vec![0.0; network.parameter_count()];
        let mut clipped = 0;
        for j in 0..rows {
            let one = x.gather(&[j as u32], 1);
            let alone = sum_of(&network, &parameters, free, &one, &labels[j..=j]);
            let norm = alone
                .values
                .iter()
                .map(|v| (*v as f64 * scale).powi(2))
                .sum::<f64>()
                .sqrt();
            let factor = (f64::from(bound) / norm).min(1.0);
            clipped += usize::from(factor < 1.0);
            for (want, v) in want.iter_mut().zip(&alone.values) {
                *want += factor * *v as f64 * scale;
            }
        }
        let config = ClearConfig {
            clip_bound: Some(bound),
            ..free
        };
        let got = sum_of(&network, &parameters, config, &x, &labels);
        for (got, want) in got.values.iter().zip(&want) {
            assert!((*got as f64 * scale - want).abs() < 1e-4, "{got} {want}");
        }
        let limit = ((f64::from(bound) / scale).floor() as u128).pow(2);
        assert!(got.norms_squared.iter().all(|norm| *norm <= limit));
        let full = got
            .norms_squared
            .iter()
            .filter(|n| **n as f64 > limit as f64 * 0.9999)
            .count();
        assert!(
            full >= clipped,
            "{full} of {clipped} clipped rows are at the bound"
        );
    }
}

#[test]
fn padding_adds_nothing() {
    let (network, parameters, x, labels) = digits("mlp", 200);
    let config = ClearConfig {
        clip_bound: Some(1.0),
        ..ClearConfig::default()
    };
    let plain = sum_of(&network, &parameters, config, &x, &labels);
    let rows: Vec<u32> = (0..200).collect();
    let mut padded_labels = labels;
    padded_labels.resize(275, None);
    let padded = sum_of(
        &network,
        &parameters,
        config,
        &x.gather(&rows, 275),
        &padded_labels,
    );
    assert_eq!(plain.values, padded.values);
    assert_eq!(plain.norms_squared[..], padded.norms_squared[..200]);
    assert!(padded.norms_squared[200..].iter().all(|norm| *norm == 0));
}

#[test]
fn empty_batches_are_steps_too() {
    let (network, parameters, x, _) = digits("mlp", 1);
    let config = ClearConfig {
        clip_bound: Some(1.0),
        ..ClearConfig::default()
    };
    let sum = sum_of(&network, &parameters, config, &x.gather(&[], 0), &[]);
    assert!(sum.values.iter().all(|v| *v == 0) && sum.norms_squared.is_empty());
    let sum = sum_of(&network, &parameters, config, &x.gather(&[], 5), &[None; 5]);
    assert!(sum.values.iter().all(|v| *v == 0));
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (network, parameters, x, labels) = digits("mlp", 333);
            let config = ClearConfig {
                clip_bound: Some(1.0),
                learning_rate: 0.5,
                momentum: 0.9,
                divisor: 300.0,
                shift: 24,
            };
            let mut engine = Clear::new(&network, parameters, config).unwrap();
            for step in 0..4 {
                engine.begin(step, 333).unwrap();
                let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
                let sum = engine.collect(pass.pending).unwrap();
                engine.apply(&sum.values, sum.shift).unwrap();
            }
            engine
                .parameters()
                .iter()
                .map(|p| p.to_bits())
                .collect::<Vec<_>>()
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads give other bits");
    }
}

#[test]
fn rows_that_are_not_finite_are_dropped_not_spread() {
    let network = small(LayerSpec::Tanh);
    let x = Tensor::from_vec(2, 2, vec![f32::INFINITY, 1.0, 0.5, 0.5]).unwrap();
    let config = ClearConfig {
        clip_bound: Some(1.0),
        ..ClearConfig::default()
    };
    let both = sum_of(&network, &[0.5; 12], config, &x, &[Some(0), Some(1)]);
    let alone = sum_of(&network, &[0.5; 12], config, &x.gather(&[1], 1), &[Some(1)]);
    assert_eq!(both.norms_squared[0], 0);
    // The bad row's x is infinite, but its d is zeroed; 0 * infinity must not reach the sum.
    assert_eq!(both.values, alone.values);
}

#[test]
fn useless_settings_are_named() {
    let network = small(LayerSpec::Tanh);
    let default = ClearConfig::default();
    let refused = |config| Clear::new(&network, vec![0.0; 12], config).unwrap_err();
    assert!(matches!(
        Clear::new(&network, vec![0.0; 11], default).unwrap_err(),
        ClearError::Parameters {
            found: 11,
            expected: 12
        }
    ));
    for bound in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-9] {
        let config = ClearConfig {
            clip_bound: Some(bound),
            ..default
        };
        assert!(
            matches!(refused(config), ClearError::ClipBound { .. }),
            "{bound}"
        );
    }
    assert!(matches!(
        refused(ClearConfig {
            shift: 53,
            ..default
        }),
        ClearError::Shift { .. }
    ));
    for (rate, momentum, divisor) in [
        (0.0, 0.0, 1.0),
        (f64::NAN, 0.0, 1.0),
        (0.1, 1.0, 1.0),
        (0.1, f64::NAN, 1.0),
        (0.1, 0.0, 0.0),
    ] {
        let config = ClearConfig {
            learning_rate: rate,
            momentum,
            divisor,
            ..default
        };
        assert!(matches!(refused(config), ClearError::Setting { .. }));
    }
}

#[test]
fn misplaced_calls_are_named() {
    let network = small(LayerSpec::Tanh);
    let mut engine = Clear::new(&network, vec![0.0; 12], ClearConfig::default()).unwrap();
    let x = Tensor::zeros(3, 2);
    assert!(matches!(
        engine.forward_held(0, &x),
        Err(ClearError::NotBegun { .. })
    ));
    engine.begin(0, 2).unwrap();
    assert!(matches!(
        engine.forward_held(0, &x),
        Err(ClearError::Capacity { rows: 3, .. })
    ));
    assert!(matches!(
        engine.forward(2, &x),
        Err(ClearError::Layer { layer: 2, .. })
    ));
    assert!(matches!(
        engine.forward(0, &Tensor::zeros(1, 5)),
        Err(ClearError::Shape { .. })
    ));
    let x = Tensor::zeros(2, 2);
    let (_, held) = engine.forward_held(0, &x).unwrap();
    assert!(matches!(
        engine.backward(1, &x, &held),
        Err(ClearError::Shape { .. })
    ));
    let short = Tensor::zeros(1, 2);
    assert!(matches!(
        engine.backward(0, &short, &held),
        Err(ClearError::Shape { .. })
    ));
    let pending = engine.submit_gradient(0, &x, held).unwrap();
    assert!(matches!(
        engine.collect(vec![pending]),
        Err(ClearError::Collected { layer: 1, found: 0 })
    ));
    assert!(matches!(
        engine.apply(&[0; 3], 20),
        Err(ClearError::Parameters { .. })
    ));
    assert!(matches!(
        engine.apply(&[0; 12], 64),
        Err(ClearError::Shift { shift: 64 })
    ));
}

proptest! {
    /// Whatever parameters and inputs, clipped norms stay under the bound on the grid.
    #[test]
    fn clipped_norms_never_exceed_the_bound(
        parameters in proptest::collection::vec(-4.0_f32..4.0, 12),
        values in proptest::collection::vec(-8.0_f32..8.0, 10),
        bound in 0.001_f32..20.0, shift in 10_u32..30,
    ) {
        let network = small(LayerSpec::Relu);
        let x = Tensor::from_vec(5, 2, values).unwrap();
        let config = ClearConfig { clip_bound: Some(bound), shift, ..ClearConfig::default() };
        let labels = [Some(0), Some(1), Some(0), None, Some(1)];
        let sum = sum_of(&network, &parameters, config, &x, &labels);
        let grid = (f64::from(bound) * (1_u64 << shift) as f64).floor() as u128;
        for norm in &sum.norms_squared {
            prop_assert!(*norm <= grid * grid, "{norm} {grid}");
        }
    }
}

/// Two images, both convolutions and a dense layer before them: `minionn-mnist` in small.
fn convolutional() -> (Network, Vec<f32>) {
    let network = Network::new(&Architecture {
        name: "convolutional".into(),
        input: ImageShape {
            channels: 1,
            height: 6,
            width: 6,
        },
        layers: vec![
            LayerSpec::Conv {
                channels: 3,
                kernel: 3,
                stride: 1,
                padding: 0,
            },
            LayerSpec::Tanh,
            LayerSpec::MaxPool { size: 2, stride: 2 },
            LayerSpec::Dense { outputs: 5 },
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 4 },
        ],
    })
    .unwrap();
    let parameters = init::glorot(&network, 3);
    (network, parameters)
}

fn views_of(
    engine: &mut Clear,
    network: &Network,
    views: usize,
    x: &Tensor,
    labels: &[Option<u8>],
) -> GradientSum {
    engine.average_views(views).unwrap();
    engine.begin(0, x.rows() / views).unwrap();
    let pass = pass::gradients(engine, network, x, labels).unwrap();
    engine.collect(pass.pending).unwrap()
}

const CLIPPED: ClearConfig = ClearConfig {
    clip_bound: Some(0.4),
    learning_rate: 0.1,
    momentum: 0.0,
    divisor: 1.0,
    shift: 24,
};

proptest! {
    /// Many more views than a tile has places, too.
    #[test]
    fn identical_views_are_one_view(
        views in 1_usize..40, values in proptest::collection::vec(-1.0_f32..1.0, 3 * 36),
    ) {
        let (network, parameters) = convolutional();
        let x = Tensor::from_vec(3, 36, values).unwrap();
        let labels = [Some(1), None, Some(3)];
        let want = sum_of(&network, &parameters, CLIPPED, &x, &labels);
        let rows: Vec<u32> = (0..3 * views).map(|i| (i / views) as u32).collect();
        let many: Vec<_> = rows.iter().map(|i| labels[*i as usize]).collect();
        let mut engine = Clear::new(&network, parameters, CLIPPED).unwrap();
        let got = views_of(&mut engine, &network, views, &x.gather(&rows, rows.len()), &many);
        prop_assert_eq!(got.norms_squared.len(), 3);
        for (got, want) in got.values.iter().zip(&want.values) {
            prop_assert!((got - want).abs() <= 40, "{} {}", got, want);
        }
    }

    /// The slow twin: per-row gradients, averaged, clipped once per record, added.
    #[test]
    fn a_record_is_clipped_once_after_the_mean_over_its_views(
        views in 2_usize..6, values in proptest::collection::vec(-2.0_f32..2.0, 3 * 6 * 36),
        labels in proptest::collection::vec(0_u8..4, 3),
    ) {
        let (network, parameters) = convolutional();
        let rows = 3 * views;
        let x = Tensor::from_vec(rows, 36, values[..rows * 36].to_vec()).unwrap();
        let labels: Vec<_> = (0..rows).map(|i| Some(labels[i / views])).collect();
        let mut engine = Clear::new(&network, parameters, CLIPPED).unwrap();
        let single = engine.sample_gradients(&x, &labels, Loss::CrossEntropy).unwrap();
        let mut want = vec![0.0_f64; network.parameter_count()];
        for record in 0..3 {
            let mut mean = vec![0.0_f64; want.len()];
            for view in 0..views {
                let row = mean.iter_mut().zip(single.row(record * views + view));
                row.for_each(|(m, g)| *m += f64::from(*g) / views as f64);
            }
            let norm = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
            let factor = (0.4 / norm).min(1.0);
            want.iter_mut().zip(mean).for_each(|(w, m)| *w += factor * m);
        }
        let got = views_of(&mut engine, &network, views, &x, &labels);
        let grid = f64::from(1 << 24);
        for (got, want) in got.values.iter().zip(&want) {
            prop_assert!((*got as f64 / grid - want).abs() < 1e-5, "{} {}", got, want);
        }
        let bound = u128::from(engine.clip_bound_on_grid().unwrap()).pow(2);
        prop_assert!(got.norms_squared.iter().all(|norm| *norm <= bound));
    }
}

#[test]
fn views_need_whole_records_and_the_whole_pass() {
    let (network, parameters) = convolutional();
    let mut engine = Clear::new(&network, parameters, CLIPPED).unwrap();
    assert!(engine.average_views(0).is_err());
    engine.average_views(2).unwrap();
    engine.begin(0, 2).unwrap();
    let x = Tensor::zeros(3, 36);
    let error = pass::gradients(&mut engine, &network, &x, &[Some(0); 3]).unwrap_err();
    assert!(matches!(error, ClearError::Shape { .. }), "{error}");
    engine.go_layer_by_layer();
    let x = Tensor::zeros(4, 36);
    let error = pass::gradients(&mut engine, &network, &x, &[Some(0); 4]).unwrap_err();
    assert!(error.to_string().contains("views = 2"), "{error}");
}
