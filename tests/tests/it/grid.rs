//! The integer grid follows the real numbers: its clipped gradient sums beside those of the float
//! engine, for networks with convolutions and pooling.

use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_nn::{Train, init, pass};
use sphinx_protocol::grid::{Engine, Local};
use sphinx_protocol::model::Replica;
use sphinx_protocol::plan::{GridLiteral, GridPlan, Limits, PlanChoices};
use sphinx_tests::fixture::{choices, random_data};

const ROWS: usize = 12;

fn convolutional(activation: LayerSpec, pool: LayerSpec) -> GridPlan {
    let conv = |channels, kernel, stride, padding| LayerSpec::Conv {
        channels,
        kernel,
        stride,
        padding,
    };
    let architecture = Architecture {
        name: "small".into(),
        input: ImageShape {
            channels: 2,
            height: 10,
            width: 9,
        },
        layers: vec![
            conv(4, 3, 1, 1),
            activation,
            pool,
            conv(3, 3, 2, 0),
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 5 },
        ],
    };
    let literal = GridLiteral::design(&PlanChoices {
        clip_bound: 0.5,
        ..choices(architecture, ROWS)
    })
    .unwrap();
    GridPlan::new(&literal, &Limits::default()).unwrap()
}

/// The clipped gradient sum of one batch, as real numbers.
fn gradient<E: Train>(mut engine: E, plan: &GridPlan) -> Vec<f64> {
    let network = plan.network();
    let data = random_data(ROWS, network.inputs(), network.classes(), 5);
    let labels: Vec<Option<u8>> = data.labels.iter().map(|&label| Some(label)).collect();
    engine.begin(0, ROWS).unwrap();
    let pass = pass::gradients(&mut engine, network, &data.images, &labels).unwrap();
    let sum = engine.collect(pass.pending).unwrap();
    let unit = (-f64::from(sum.shift)).exp2();
    sum.values.iter().map(|&v| v as f64 * unit).collect()
}

#[test]
fn gradients_of_convolutions_follow_the_float_engine() {
    let max = LayerSpec::MaxPool { size: 2, stride: 2 };
    let mean = LayerSpec::AvgPool { size: 2, stride: 2 };
    for (activation, pool, tolerance) in [
        (LayerSpec::Tanh, mean, 0.03),
        (LayerSpec::Sigmoid, max, 0.03),
        (LayerSpec::Relu, max, 0.08),
        (LayerSpec::Square, mean, 0.08),
    ] {
        let plan = convolutional(activation, pool);
        let grid = gradient(Engine::new(Local::new(Replica::initial(&plan))), &plan);
        let config = ClearConfig {
            clip_bound: Some(0.5),
            ..ClearConfig::default()
        };
        let weights = init::glorot(plan.network(), plan.literal().init_seed);
        let float = gradient(Clear::new(plan.network(), weights, config).unwrap(), &plan);
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
        let length = norm(&mut float.iter().copied());
        let apart = norm(&mut grid.iter().zip(&float).map(|(a, b)| a - b));
        assert!(length > 0.5, "a gradient worth comparing: {length}");
        let error = apart / length;
        println!("{activation:?} {pool:?}: relative error {error:.4}");
        assert!(error < tolerance, "{activation:?}: {error} of {tolerance}");
        assert!(error > 0.0, "grids round");
    }
}
