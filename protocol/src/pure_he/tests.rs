//! Encrypted steps against steps in double precision, and counts against formulas.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::pass;

use super::*;

fn toy() -> ParametersLiteral {
    ParametersLiteral {
        log_n: 8,
        security: Security::Toy,
        ..standard_parameters()
    }
}

fn network(layers: Vec<LayerSpec>, side: usize) -> Network {
    Network::new(&Architecture {
        name: "pure".into(),
        input: ImageShape {
            channels: 1,
            height: side,
            width: side,
        },
        layers,
    })
    .unwrap()
}

fn networks() -> [Network; 2] {
    let conv = LayerSpec::Conv {
        channels: 2,
        kernel: 2,
        stride: 1,
        padding: 0,
    };
    let ends = [LayerSpec::Tanh, LayerSpec::Dense { outputs: 3 }];
    let dense = [vec![LayerSpec::Dense { outputs: 4 }], ends.to_vec()].concat();
    let conv = [
        vec![conv, LayerSpec::Relu, LayerSpec::Dense { outputs: 4 }],
        ends.to_vec(),
    ]
    .concat();
    [network(dense, 3), network(conv, 4)]
}

/// A batch whose numbers are no special ones.
fn data(rows: usize, columns: usize) -> (Tensor, Vec<Option<u8>>) {
    let value = |i: usize| ((i * 37 + 11) % 101) as f32 / 101.0;
    let x = Tensor::from_vec(rows, columns, (0..rows * columns).map(value).collect()).unwrap();
    let labels = (0..rows).map(|j| Some((j % 3) as u8)).collect();
    (x, labels)
}

#[test]
fn encrypted_steps_are_those_in_the_clear() {
    let rows = 20;
    for network in networks() {
        let (x, labels) = data(rows, network.inputs());
        let start = sphinx_nn::init::glorot(&network, 3);
        let config = ClearConfig {
            clip_bound: None,
            learning_rate: 0.5,
            momentum: 0.0,
            divisor: rows as f64,
            shift: 30,
        };
        for style in [Style::Eager, Style::Lazy] {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let size = 0.5 / rows as f64;
            let mut engine = PureHe::new(&network, &start, &toy(), style, size, &mut rng).unwrap();
            let first = engine.take_counts();
            assert_eq!(first.uploads as usize, network.parameter_count());
            let mut clear = Clear::new(&network, start.clone(), config).unwrap();
            // three steps use up the levels, the fourth begins with fresh parameters
            for step in 0..4 {
                let begun = engine.level();
                engine.begin(step, rows).unwrap();
                let refreshed = engine.take_counts();
                assert_eq!(refreshed.uploads > 0, step == 3, "{begun}");
                let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
                engine.collect(pass.pending).unwrap();
                let mut counts = engine.take_counts();
                assert!(counts.bytes_up > 0 && counts.bytes_down > 0);
                (counts.bytes_up, counts.bytes_down) = (0, 0);
                assert_eq!(counts, Counts::of_step(&network, style, 128));
                clear.begin(step, rows).unwrap();
                let pass = pass::gradients(&mut clear, &network, &x, &labels).unwrap();
                let sum = clear.collect(pass.pending).unwrap();
                clear.apply(&sum.values, sum.shift).unwrap();
            }
            let ours = engine.parameters().unwrap();
            let worst = ours
                .iter()
                .zip(clear.parameters())
                .map(|(a, b)| f64::from(a - b).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-4, "{style:?}: {worst}");
            let moved = ours.iter().zip(&start).map(|(a, b)| f64::from(a - b).abs());
            assert!(moved.fold(0.0, f64::max) > 1e-2);
        }
    }
}

#[test]
fn the_standard_set_has_128_bits() {
    let parameters = Parameters::new(&standard_parameters()).unwrap();
    assert_eq!(parameters.security(), Security::Classical128);
    assert_eq!((parameters.degree(), parameters.max_level()), (8192, 3));
}

#[test]
fn eager_switches_every_product_and_lazy_every_sum() {
    let [dense, _] = networks();
    let eager = Counts::of_step(&dense, Style::Eager, 4096);
    let lazy = Counts::of_step(&dense, Style::Lazy, 4096);
    // 9 x 4 forward and gradient; 4 x 3 forward, backward and gradient
    assert_eq!(eager.products, 2 * 36 + 3 * 12);
    assert_eq!(eager.relinearisations, eager.products);
    assert_eq!(lazy.products, eager.products);
    assert_eq!(lazy.relinearisations, 4 + 36 + 3 + 4 + 12);
    assert_eq!(lazy.rotations, (36 + 4 + 12 + 3) * 12);
    assert_eq!(eager.rotations, lazy.rotations);
}
