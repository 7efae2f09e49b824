use crate::clear::tests::{digits, sum_of};
use crate::clear::{Clear, ClearConfig};
use crate::engine::{GradientSum, Train};
use crate::network::{Architecture, ImageShape, LayerSpec, Network};
use crate::pass;
use crate::tensor::Tensor;

const FREE: ClearConfig = ClearConfig {
    clip_bound: None,
    learning_rate: 0.1,
    momentum: 0.0,
    divisor: 1.0,
    shift: 40,
};

/// Convolution, tanh, overlapping maximum pooling, dense, against derivatives from elsewhere.
#[test]
fn golden_gradient_of_a_convolution() {
    // On a 1 x 4 x 4 image: conv 1 -> 2, kernel 2, stride 2, padding 1 (2 x 3 x 3), tanh, maximum
    // pooling 2 with stride 1 (2 x 2 x 2), dense 8 -> 2. In Python: loops straight from the
    // definitions over complex doubles, and every derivative by the complex step,
    // Im(loss(p + 1e-30 i)) / 1e-30, which is exact to rounding. Inputs and weights are
    // x[i] = ((7 i) mod 11 - 5) / 10, W[i] = ((5 i) mod 9 - 4) / 8, b = (0.1, -0.2),
    // V[i] = ((3 i) mod 7 - 3) / 5, c = (0.05, -0.05), label 1.
    let network = Network::new(&Architecture {
        name: "golden".into(),
        input: ImageShape {
            channels: 1,
            height: 4,
            width: 4,
        },
        layers: vec![
            LayerSpec::Conv {
                channels: 2,
                kernel: 2,
                stride: 2,
                padding: 1,
            },
            LayerSpec::Tanh,
            LayerSpec::MaxPool { size: 2, stride: 1 },
            LayerSpec::Dense { outputs: 2 },
        ],
    })
    .unwrap();
    let ramp = |n: i32, step: i32, modulus: i32, shift: i32, unit: f32| {
        (0..n).map(move |i| (step * i % modulus - shift) as f32 / unit)
    };
    let mut parameters: Vec<f32> = ramp(8, 5, 9, 4, 8.0).collect();
    parameters.extend([0.1, -0.2]);
    parameters.extend(ramp(16, 3, 7, 3, 5.0));
    parameters.extend([0.05, -0.05]);
    let x = Tensor::from_vec(1, 16, ramp(16, 7, 11, 5, 10.0).collect()).unwrap();
    let want = [
        0.012_080_257_759,
        0.065_327_737_114,
        0.176_385_625_880,
        0.027_293_823_289,
        -0.046_566_111_191,
        0.083_851_575_713,
        0.027_911_744_798,
        -0.009_303_914_933,
        -0.440_466_363_843,
        0.186_310_981_292,
        0.075_228_974_859,
        0.130_685_911_550,
        0.119_851_242_459,
        0.130_685_911_550,
        -0.029_150_508_793,
        -0.029_150_508_793,
        0.017_504_868_544,
        0.017_504_868_544,
        -0.075_228_974_859,
        -0.130_685_911_550,
        -0.119_851_242_459,
        -0.130_685_911_550,
        0.029_150_508_793,
        0.029_150_508_793,
        -0.017_504_868_544,
        -0.017_504_868_544,
        0.467_015_284_863,
        -0.467_015_284_863,
    ];
    let (want_loss, want_norm) = (0.629_262_532_269, 0.824_251_915_688);
    let mut engine = Clear::new(&network, parameters, FREE).unwrap();
    engine.begin(0, 1).unwrap();
    let pass = pass::gradients(&mut engine, &network, &x, &[Some(1)]).unwrap();
    assert!((pass.loss - want_loss).abs() < 1e-6, "{}", pass.loss);
    let sum = engine.collect(pass.pending).unwrap();
    let scale = 2.0_f64.powi(-40);
    assert_eq!(sum.values.len(), want.len());
    for (got, want) in sum.values.iter().zip(want) {
        assert!((*got as f64 * scale - want).abs() < 2e-7, "{got} {want}");
    }
    let norm = sum.norms_squared[0] as f64 * scale * scale;
    assert!((norm - want_norm).abs() < 1e-6, "{norm}");
}

/// The slow twin of clipping: each sample alone, its gradient formed, clipped, summed in `f64`.
#[test]
fn clipped_sum_is_the_sum_of_clipped_gradients() {
    let rows = 37;
    let scale = 2.0_f64.powi(-40);
    for name in ["minionn-mnist", "papernot-tanh"] {
        let (network, parameters, x, labels) = digits(name, rows);
        let alone: Vec<GradientSum> = (0..rows)
            .map(|j| {
                let one = x.gather(&[j as u32], 1);
                sum_of(&network, &parameters, FREE, &one, &labels[j..=j])
            })
            .collect();
        let norm = |sum: &GradientSum| {
            let squares = sum.values.iter().map(|v| (*v as f64 * scale).powi(2));
            squares.sum::<f64>()
        };
        let mut norms: Vec<f64> = alone.iter().map(norm).collect();
        let free = sum_of(&network, &parameters, FREE, &x, &labels);
        for (got, want) in free.norms_squared.iter().zip(&norms) {
            let got = *got as f64 * scale * scale;
            assert!((got - want).abs() < 1e-5 * want, "{name}: {got} {want}");
        }
        norms.sort_by(f64::total_cmp);
        let middle = norms[rows / 2].sqrt();
        for bound in [0.1 * middle, middle, 100.0 * middle] {
            let mut want = vec![0.0; network.parameter_count()];
            for sum in &alone {
                let factor = (bound / norm(sum).sqrt()).min(1.0);
                for (want, v) in want.iter_mut().zip(&sum.values) {
                    *want += factor * *v as f64 * scale;
                }
            }
            let config = ClearConfig {
                clip_bound: Some(bound as f32),
                ..FREE
            };
            let got = sum_of(&network, &parameters, config, &x, &labels);
            for (got, want) in got.values.iter().zip(&want) {
                assert!((*got as f64 * scale - want).abs() < 2e-4, "{got} {want}");
            }
            let limit = ((f64::from(bound as f32) / scale).floor() as u128).pow(2);
            assert!(got.norms_squared.iter().all(|norm| *norm <= limit));
        }
    }
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (network, parameters, x, labels) = digits("minionn-mnist-tanh", 83);
            let config = ClearConfig {
                clip_bound: Some(1.0),
                learning_rate: 0.5,
                momentum: 0.9,
                divisor: 80.0,
                shift: 24,
            };
            let mut engine = Clear::new(&network, parameters, config).unwrap();
            for step in 0..3 {
                engine.begin(step, 83).unwrap();
                let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
                let sum = engine.collect(pass.pending).unwrap();
                engine.apply(&sum.values, sum.shift).unwrap();
            }
            let bits = engine.parameters().iter().map(|p| p.to_bits());
            bits.collect::<Vec<_>>()
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads give other bits");
    }
}

/// Padding rows and broken rows add nothing, and an empty batch is a step too.
#[test]
fn rows_without_a_gradient_add_nothing() {
    let (network, parameters, x, labels) = digits("papernot-tanh", 5);
    let config = ClearConfig {
        clip_bound: Some(1.0),
        ..FREE
    };
    let plain = sum_of(&network, &parameters, config, &x, &labels);
    let mut more = x.gather(&[0, 1, 2, 3, 4, 0], 8);
    more.row_mut(5)[300] = f32::INFINITY;
    let mut more_labels = labels;
    more_labels.extend([Some(1), None, None]);
    let got = sum_of(&network, &parameters, config, &more, &more_labels);
    assert_eq!(got.norms_squared[..5], plain.norms_squared[..]);
    assert_eq!(got.norms_squared[6..], [0, 0]);
    // Tanh bounds the later layers, but the first one's gradient is not finite: left out.
    assert_eq!(got.norms_squared[5], 0);
    let scale = 2.0_f64.powi(-40);
    for (got, want) in got.values.iter().zip(&plain.values) {
        // Other blocks, other order of additions: equal up to rounding.
        assert!(((got - want) as f64 * scale).abs() < 1e-5);
    }
    let empty = sum_of(&network, &parameters, config, &x.gather(&[], 0), &[]);
    assert!(empty.values.iter().all(|v| *v == 0) && empty.norms_squared.is_empty());
}

/// Gradient descent on the whole network learns: a wrong sign or a lost factor would not.
#[test]
fn a_convolutional_network_learns() {
    let (network, parameters, x, labels) = digits("minionn-mnist", 100);
    let config = ClearConfig {
        learning_rate: 0.03,
        momentum: 0.9,
        divisor: 100.0,
        shift: 24,
        ..FREE
    };
    let mut engine = Clear::new(&network, parameters, config).unwrap();
    let mut correct = 0;
    for step in 0..50 {
        engine.begin(step, 100).unwrap();
        let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
        correct = pass.correct;
        let sum = engine.collect(pass.pending).unwrap();
        engine.apply(&sum.values, sum.shift).unwrap();
    }
    assert!(correct >= 70, "{correct} of 100 after 50 steps");
}

/// Norms are those of the weights, and the biases' gradients are summed as they are, whatever is clipped.
#[test]
fn biases_can_be_left_out() {
    for name in ["mlp-64", "minionn-mnist"] {
        let (network, parameters, x, labels) = digits(name, 3);
        let config = ClearConfig {
            clip_bound: Some(0.1),
            ..FREE
        };
        let mut engine = Clear::new(&network, parameters.clone(), FREE).unwrap();
        let single = engine
            .sample_gradients(&x, &labels, crate::loss::Loss::default())
            .unwrap();
        engine = Clear::new(&network, parameters.clone(), config).unwrap();
        engine.leave_out_biases();
        engine.begin(0, x.rows()).unwrap();
        let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
        let sum = engine.collect(pass.pending).unwrap();
        let spans = network.layout();
        let unit = f64::from(FREE.shift as i32).exp2();
        let mut expected = vec![0.0; parameters.len()];
        for j in 0..x.rows() {
            let squares = |range: std::ops::Range<usize>| -> f64 {
                let row = single.row(j)[range].iter();
                row.map(|&g| f64::from(g) * f64::from(g)).sum()
            };
            let norm: f64 = spans.iter().map(|s| squares(s.weights.clone())).sum();
            let factor = (0.1 / norm.sqrt()).min(1.0);
            for (at, (e, &g)) in expected.iter_mut().zip(single.row(j)).enumerate() {
                let is_bias = spans.iter().any(|s| s.biases.contains(&at));
                *e += f64::from(g) * if is_bias { 1.0 } else { factor };
            }
            let clipped = (sum.norms_squared[j] as f64).sqrt() / unit;
            assert!(clipped <= 0.1 && clipped > 0.0999, "{name}: {clipped}");
        }
        let biases = engine.bias_sums().unwrap();
        for (at, &e) in expected.iter().enumerate() {
            let is_bias = spans.iter().any(|s| s.biases.contains(&at));
            let got = match is_bias {
                true => biases[at],
                false => sum.values[at] as f64 / unit,
            };
            assert!(
                (got - e).abs() < 1e-4 * (1.0 + e.abs()),
                "{name} {at}: {got} {e}"
            );
            assert!(!is_bias || sum.values[at] == 0);
        }
    }
}
