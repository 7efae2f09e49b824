use super::*;
use crate::clear::{Clear, ClearConfig};
use crate::engine::{GradientSum, Train};
use crate::network::{Architecture, ImageShape, LayerSpec};
use crate::tensor::Tensor;
use crate::{architectures, init, pass};
use proptest::prelude::*;

/// Values in (-1, 1) that look random.
pub(super) fn batch(rows: usize, columns: usize, seed: u32) -> Tensor {
    let value = |i: usize| {
        let mixed = (i as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(2_654_435_761);
        (mixed ^ mixed >> 15) as f32 / 2_147_483_648.0 - 1.0
    };
    Tensor::from_vec(rows, columns, (0..rows * columns).map(value).collect()).unwrap()
}

fn labels(rows: usize, classes: usize) -> Vec<Option<u8>> {
    let label = |i: usize| (i % 5 != 3).then_some((i * 7 % classes) as u8);
    (0..rows).map(label).collect()
}

fn build(layers: Vec<LayerSpec>, input: ImageShape) -> Option<Network> {
    let name = "test".into();
    Network::new(&Architecture {
        name,
        input,
        layers,
    })
    .ok()
}

fn parameters(network: &Network, seed: u64) -> Vec<f32> {
    let mut parameters = init::glorot(network, seed);
    for (i, p) in parameters.iter_mut().enumerate() {
        *p += (i % 7) as f32 * 0.01 - 0.03; // biases too
    }
    parameters
}

/// Mean loss, hits and the sum of a step.
fn step(
    engine: &mut Clear,
    x: &Tensor,
    labels: &[Option<u8>],
    loss: Loss,
) -> (f64, usize, GradientSum) {
    let network = engine.network().clone();
    engine.begin(0, x.rows()).unwrap();
    let pass = pass::gradients_of(loss, engine, &network, x, labels).unwrap();
    (
        pass.loss,
        pass.correct,
        engine.collect(pass.pending).unwrap(),
    )
}

/// The prepared engine against the one that goes layer by layer: logits, loss, hits, sums, norms.
fn check_twins(network: &Network, rows: usize, bound: Option<f32>, per_layer: bool, loss: Loss) {
    let x = batch(rows, network.inputs(), 3);
    let labels = labels(rows, network.classes());
    let config = ClearConfig {
        clip_bound: bound,
        shift: 40,
        ..ClearConfig::default()
    };
    let mut fast = Clear::new(network, parameters(network, 2), config).unwrap();
    if let (true, Some(bound)) = (per_layer, bound) {
        let bounds: Vec<f32> = (1..=network.linears().len())
            .map(|l| bound / l as f32)
            .collect();
        fast.clip_per_layer(&bounds).unwrap();
    }
    let mut slow = fast.clone();
    slow.go_layer_by_layer();
    let logits = pass::infer(&mut fast, network, &x).unwrap();
    let want = pass::infer(&mut slow, network, &x).unwrap();
    let close = |got: f64, want: f64, unit: f64| (got - want).abs() <= 2e-5 * (unit + want.abs());
    for (got, want) in logits.as_slice().iter().zip(want.as_slice()) {
        assert!(
            close(f64::from(*got), f64::from(*want), 1.0),
            "logits {got} {want}"
        );
    }
    let (got, want) = (
        step(&mut fast, &x, &labels, loss),
        step(&mut slow, &x, &labels, loss),
    );
    assert!(close(got.0, want.0, 1.0), "loss {} {}", got.0, want.0);
    assert_eq!(got.1, want.1, "hits");
    let unit = 2.0_f64.powi(-40);
    let largest = want
        .2
        .values
        .iter()
        .map(|v| (*v as f64 * unit).abs())
        .fold(0.1, f64::max);
    for (i, (got, want)) in got.2.values.iter().zip(&want.2.values).enumerate() {
        let (got, want) = (*got as f64 * unit, *want as f64 * unit);
        assert!(close(got, want, largest), "sum at {i}: {got} {want}");
    }
    for (got, want) in got.2.norms_squared.iter().zip(&want.2.norms_squared) {
        let (got, want) = (*got as f64 * unit * unit, *want as f64 * unit * unit);
        assert!(close(got, want, 0.1), "norm {got} {want}");
    }
}

fn layer() -> impl Strategy<Value = Vec<LayerSpec>> {
    let linear = prop_oneof![
        1 => (1_usize..40).prop_map(|outputs| LayerSpec::Dense { outputs }),
        3 => (1_usize..20, 1_usize..5, 1_usize..3, 0_usize..4).prop_map(
            |(channels, kernel, stride, padding)| LayerSpec::Conv { channels, kernel, stride, padding }
        ),
    ];
    let activation = prop_oneof![
        Just(LayerSpec::Relu),
        Just(LayerSpec::Tanh),
        Just(LayerSpec::Sigmoid),
        Just(LayerSpec::Square)
    ];
    let pool = prop_oneof![
        Just(None),
        (2_usize..4, 1_usize..4)
            .prop_map(|(size, stride)| Some(LayerSpec::MaxPool { size, stride })),
        (2_usize..4, 1_usize..4)
            .prop_map(|(size, stride)| Some(LayerSpec::AvgPool { size, stride })),
    ];
    (linear, activation, pool)
        .prop_map(|(l, a, p)| [Some(l), Some(a), p].into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever the layers: the same results as layer by layer, clipped or not, at ragged tiles.
    #[test]
    fn prepared_networks_agree_with_layer_by_layer(
        parts in proptest::collection::vec(layer(), 0..4),
        (channels, height, width) in (1_usize..5, 1_usize..9, 1_usize..9),
        (rows, classes) in (0_usize..60, 2_usize..20),
        bound in prop_oneof![Just(None), (0.05_f32..3.0).prop_map(Some)],
        (per_layer, squared) in (any::<bool>(), any::<bool>()),
    ) {
        let input = ImageShape { channels, height, width };
        let mut layers = parts.concat();
        layers.push(LayerSpec::Dense { outputs: classes });
        if let Some(network) = build(layers, input) {
            let loss = if squared { Loss::SquaredError } else { Loss::CrossEntropy };
            check_twins(&network, rows, bound, per_layer, loss);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Ghost norm = explicit norm, for every kind of layer: the norms of a step against those of the
    /// gradients that are formed one by one; and the sums are the sums of the clipped gradients.
    #[test]
    fn norms_and_sums_are_those_of_explicit_gradients(
        parts in proptest::collection::vec(layer(), 0..4),
        (channels, height, width) in (1_usize..5, 1_usize..9, 1_usize..9),
        (rows, bound) in (1_usize..30, 0.05_f64..3.0),
    ) {
        let input = ImageShape { channels, height, width };
        let mut layers = parts.concat();
        layers.push(LayerSpec::Dense { outputs: 3 });
        if let Some(network) = build(layers, input) {
            check_explicit(&network, rows, bound as f32);
            check_explicit_layers(&network, rows, bound as f32);
        }
    }
}

/// The same with normalisations, learned scales included.
#[test]
fn norms_behind_normalisations_are_those_of_explicit_gradients() {
    let input = ImageShape {
        channels: 2,
        height: 7,
        width: 6,
    };
    let stacks = crate::gradient_check::tests::conv_stacks();
    let normalised = |layers: &&Vec<LayerSpec>| {
        let mut layers = layers.iter();
        layers.any(|layer| matches!(layer, LayerSpec::GroupNorm { .. }))
    };
    let mut count = 0;
    for layers in stacks.iter().filter(normalised) {
        let mut layers = layers.clone();
        layers.push(LayerSpec::Dense { outputs: 3 });
        let network = build(layers, input).unwrap();
        check_explicit(&network, 23, 0.4);
        check_explicit_layers(&network, 23, 0.4);
        count += 1;
    }
    assert_eq!(count, 4);
}

/// Clipped layer by layer: the sum is that of explicit gradients whose layers are scaled one by one to
/// their bounds, and no row is above the root of the sum of the squared bounds, which is what is promised.
fn check_explicit_layers(network: &Network, rows: usize, least: f32) {
    let (x, labels) = (batch(rows, network.inputs(), 7), labels(rows, 3));
    let config = ClearConfig {
        shift: 40,
        ..ClearConfig::default()
    };
    let free = Clear::new(network, parameters(network, 3), config).unwrap();
    let gradients = free
        .sample_gradients(&x, &labels, Loss::CrossEntropy)
        .unwrap();
    // Other bounds for other layers.
    let layers = 1..=network.linears().len();
    let bounds: Vec<f32> = layers.map(|l| least * (0.5 + 0.25 * l as f32)).collect();
    let mut clipping = free.clone();
    clipping.clip_per_layer(&bounds).unwrap();
    let clipped = step(&mut clipping, &x, &labels, Loss::CrossEntropy).2;
    let unit = 2.0_f64.powi(-40);
    let mut want = vec![0.0_f64; network.parameter_count()];
    for j in 0..rows {
        for (span, bound) in network.layout().iter().zip(&bounds) {
            let row = gradients.row(j)[span.all()].iter().map(|g| f64::from(*g));
            let norm = row.clone().map(|g| g * g).sum::<f64>().sqrt();
            let factor = (f64::from(*bound) / norm.max(1e-30)).min(1.0);
            let to = want[span.all()].iter_mut();
            to.zip(row).for_each(|(want, g)| *want += factor * g);
        }
    }
    for (got, want) in clipped.values.iter().zip(&want) {
        assert!((*got as f64 * unit - want).abs() < 1e-4, "{got} {want}");
    }
    let promised = u128::from(clipping.clip_bound_on_grid().unwrap());
    let squares: f64 = bounds.iter().map(|b| f64::from(*b).powi(2)).sum();
    assert!((promised as f64 * unit / squares.sqrt() - 1.0).abs() < 1e-6);
    for norm in &clipped.norms_squared {
        assert!(*norm <= promised * promised, "{norm} {promised}");
    }
}

fn check_explicit(network: &Network, rows: usize, bound: f32) {
    let (x, labels) = (batch(rows, network.inputs(), 7), labels(rows, 3));
    let config = ClearConfig {
        shift: 40,
        ..ClearConfig::default()
    };
    let mut free = Clear::new(network, parameters(network, 3), config).unwrap();
    let gradients = free
        .sample_gradients(&x, &labels, Loss::CrossEntropy)
        .unwrap();
    let config = ClearConfig {
        clip_bound: Some(bound),
        ..config
    };
    let mut clipping = Clear::new(network, parameters(network, 3), config).unwrap();
    let ghosts = step(&mut free, &x, &labels, Loss::CrossEntropy).2;
    let clipped = step(&mut clipping, &x, &labels, Loss::CrossEntropy).2;
    let unit = 2.0_f64.powi(-40);
    let mut want = vec![0.0_f64; network.parameter_count()];
    for (j, ghost) in ghosts.norms_squared.iter().enumerate() {
        let row = gradients.row(j).iter().map(|g| f64::from(*g));
        let norm: f64 = row.clone().map(|g| g * g).sum();
        let ghost = *ghost as f64 * unit * unit;
        assert!(
            (ghost - norm).abs() <= 1e-5 * norm + 1e-12,
            "row {j}: {ghost} {norm}"
        );
        let factor = (f64::from(bound) / norm.sqrt()).min(1.0);
        want.iter_mut()
            .zip(row)
            .for_each(|(want, g)| *want += if norm > 0.0 { factor * g } else { 0.0 });
    }
    for (got, want) in clipped.values.iter().zip(&want) {
        assert!((*got as f64 * unit - want).abs() < 1e-4, "{got} {want}");
    }
}

#[test]
fn real_networks_agree_with_layer_by_layer() {
    for (name, channels, side, rows) in [
        ("minionn-mnist", 1, 28, 45),
        ("minionn-cifar10", 3, 32, 3),
        ("papernot-tanh", 1, 28, 30),
        ("mlp", 1, 28, 100),
    ] {
        let input = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let network = Network::new(&architectures::by_name(name, input, 10).unwrap()).unwrap();
        check_twins(&network, rows, Some(0.5), false, Loss::CrossEntropy);
        check_twins(&network, rows, None, false, Loss::CrossEntropy);
    }
}

/// Many threads, few threads, and workspaces that have served others: the same bits.
#[test]
fn bits_do_not_depend_on_threads_or_history() {
    let input = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let network =
        Network::new(&architectures::by_name("minionn-mnist", input, 10).unwrap()).unwrap();
    let (x, labels) = (batch(130, 784, 1), labels(130, 10));
    let config = ClearConfig {
        clip_bound: Some(0.7),
        shift: 40,
        ..ClearConfig::default()
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut engine = Clear::new(&network, parameters(&network, 1), config).unwrap();
            let once = step(&mut engine, &x, &labels, Loss::CrossEntropy);
            let other = batch(77, 784, 9).gather(&(0..77).collect::<Vec<_>>(), 77);
            step(&mut engine, &other, &labels[..77], Loss::CrossEntropy);
            let again = step(&mut engine, &x, &labels, Loss::CrossEntropy);
            assert_eq!(
                (once.0.to_bits(), once.1, &once.2),
                (again.0.to_bits(), again.1, &again.2)
            );
            once.2
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads give other bits");
    }
}

#[test]
fn predictors_give_the_logits_of_a_pass() {
    for (name, channels, side) in [
        ("minionn-mnist", 1, 28),
        ("minionn-cifar10", 3, 32),
        ("linear", 1, 5),
    ] {
        let input = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let network = Network::new(&architectures::by_name(name, input, 10).unwrap()).unwrap();
        let parameters = parameters(&network, 4);
        let mut predictor = Predictor::new(&network, &parameters).unwrap();
        let mut engine = Clear::new(&network, parameters, ClearConfig::default()).unwrap();
        let x = batch(3, network.inputs(), 8);
        let want = pass::infer(&mut engine, &network, &x).unwrap();
        for j in 0..3 {
            // Bit for bit: a batch is no different from its rows.
            assert_eq!(predictor.logits(x.row(j)).unwrap(), want.row(j), "{name}");
        }
        assert_eq!(
            Predictor::new(&network, &[0.0; 3]).unwrap_err(),
            PredictorError::Parameters {
                found: 3,
                expected: network.parameter_count()
            }
        );
    }
}
