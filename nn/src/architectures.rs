//! Networks known by name, for command lines and definitions.
//!
//! | name | hidden layers | activation | parameters | images, classes |
//! |---|---|---|---|---|
//! | `linear` | none | none | 7,850 | 28 x 28, 10 |
//! | `mlp` | 32 | tanh | 25,450 | 28 x 28, 10 |
//! | `mlp-64` | 64 | tanh | 50,890 | 28 x 28, 10 |
//! | `mlp-relu` | 32 | ReLU | 25,450 | 28 x 28, 10 |
//! | `minionn-mnist` | 2 convolutions, 1 dense | ReLU | 33,542 | 28 x 28, 10 |
//! | `minionn-mnist-tanh` | the same | tanh | 33,542 | 28 x 28, 10 |
//! | `minionn-cifar10` | 7 convolutions | ReLU | 164,954 | 3 x 32 x 32, 10 |
//! | `minionn-cifar10-tanh` | the same | tanh | 164,954 | 3 x 32 x 32, 10 |
//! | `papernot-tanh` | 2 convolutions, 1 dense | tanh | 26,010 | 28 x 28, 10 |
//! | `scatter-linear` | none, on [features](crate::features) | none | 39,700 | 28 x 28, 10 |
//!
//! The two `minionn` networks are those of Liu, Juuti, Lu, Asokan, "Oblivious Neural Network
//! Predictions via MiniONN Transformations", CCS 2017, which works on private inference have
//! measured since. `papernot-tanh` is the MNIST network of the paper named below.
//!
//! Tanh is the default: bounded activations keep per-sample gradients small, which helps under
//! clipping (Papernot, Thakurta, Song, Chien, Erlingsson, "Tempered Sigmoid Activations for Deep
//! Learning with Differential Privacy", AAAI 2021).
//!
//! ```
//! use sphinx_nn::{ImageShape, Network, architectures};
//! let input = ImageShape { channels: 1, height: 28, width: 28 };
//! for name in architectures::list() {
//!     let architecture = architectures::by_name(name, input, 10).unwrap();
//!     assert!(Network::new(&architecture).is_ok());
//! }
//! ```

use crate::features;
use crate::network::{Architecture, ImageShape, LayerSpec};

/// The names [`by_name`] knows.
pub fn list() -> &'static [&'static str] {
    &[
        "linear",
        "mlp",
        "mlp-64",
        "mlp-relu",
        "minionn-mnist",
        "minionn-mnist-tanh",
        "minionn-cifar10",
        "minionn-cifar10-tanh",
        "papernot-tanh",
        "scatter-linear",
    ]
}

/// The architecture of that name for the given images; `None` for an unknown name.
///
/// A model on fixed features takes the shape of the images or that of their features; its input
/// is the features, which [`features::prepare`] puts in the place of images.
///
/// The result is a description: [`crate::Network::new`] checks the sizes.
#[must_use]
pub fn by_name(name: &str, input: ImageShape, classes: usize) -> Option<Architecture> {
    let layers = match name {
        "linear" | "scatter-linear" => vec![dense(classes)],
        "mlp" => vec![dense(32), LayerSpec::Tanh, dense(classes)],
        "mlp-64" => vec![dense(64), LayerSpec::Tanh, dense(classes)],
        "mlp-relu" => vec![dense(32), LayerSpec::Relu, dense(classes)],
        "minionn-mnist" => minionn_mnist(LayerSpec::Relu, classes),
        "minionn-mnist-tanh" => minionn_mnist(LayerSpec::Tanh, classes),
        "minionn-cifar10" => minionn_cifar10(LayerSpec::Relu, classes),
        "minionn-cifar10-tanh" => minionn_cifar10(LayerSpec::Tanh, classes),
        "papernot-tanh" => papernot(LayerSpec::Tanh, classes),
        _ => return None,
    };
    Some(Architecture {
        name: name.to_owned(),
        input: features::shape_for(name, input),
        layers,
    })
}

const fn dense(outputs: usize) -> LayerSpec {
    LayerSpec::Dense { outputs }
}

const fn conv(channels: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv {
        channels,
        kernel,
        stride,
        padding,
    }
}

fn minionn_mnist(activation: LayerSpec, classes: usize) -> Vec<LayerSpec> {
    let halve = LayerSpec::MaxPool { size: 2, stride: 2 };
    vec![
        conv(16, 5, 1, 0),
        activation,
        halve,
        conv(16, 5, 1, 0),
        activation,
        halve,
        dense(100),
        activation,
        dense(classes),
    ]
}

fn minionn_cifar10(activation: LayerSpec, classes: usize) -> Vec<LayerSpec> {
    let halve = LayerSpec::AvgPool { size: 2, stride: 2 };
    vec![
        conv(64, 3, 1, 1),
        activation,
        conv(64, 3, 1, 1),
        activation,
        halve,
        conv(64, 3, 1, 1),
        activation,
        conv(64, 3, 1, 1),
        activation,
        halve,
        conv(64, 3, 1, 1),
        activation,
        conv(64, 1, 1, 0),
        activation,
        conv(16, 1, 1, 0),
        activation,
        dense(classes),
    ]
}

fn papernot(activation: LayerSpec, classes: usize) -> Vec<LayerSpec> {
    let pool = LayerSpec::MaxPool { size: 2, stride: 1 };
    vec![
        conv(16, 8, 2, 3),
        activation,
        pool,
        conv(32, 4, 2, 0),
        activation,
        pool,
        dense(32),
        activation,
        dense(classes),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    const MNIST: ImageShape = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    const CIFAR10: ImageShape = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };

    fn network(name: &str, input: ImageShape) -> Network {
        Network::new(&by_name(name, input, 10).unwrap()).unwrap()
    }

    #[test]
    fn sizes_are_those_of_the_table() {
        let sizes = [
            ("linear", MNIST, 7_850),
            ("mlp", MNIST, 25_450),
            ("mlp-64", MNIST, 50_890),
            ("mlp-relu", MNIST, 25_450),
            ("minionn-mnist", MNIST, 33_542),
            ("minionn-mnist-tanh", MNIST, 33_542),
            ("minionn-cifar10", CIFAR10, 164_954),
            ("minionn-cifar10-tanh", CIFAR10, 164_954),
            ("papernot-tanh", MNIST, 26_010),
            ("scatter-linear", MNIST, 39_700),
        ];
        for (name, input, size) in sizes {
            assert_eq!(network(name, input).parameter_count(), size, "{name}");
        }
        assert_eq!(list().len(), sizes.len());
        assert!(by_name("resnet", MNIST, 10).is_none());
    }

    /// The figures by which these networks are known: weights, multiplications per image, and the
    /// values that go in and out of linear layers, which cross the wire in private inference.
    #[test]
    fn the_minionn_networks_do_the_published_work() {
        // Convolutions: 16 25 576 + 16 16 25 64; dense: 256 100 + 100 10.
        let cases = [
            ("minionn-mnist", MNIST, 33_400, 666_600, 13_794),
            ("minionn-cifar10", CIFAR10, 164_544, 61_089_792, 287_754),
        ];
        for (name, input, weights, multiplications, crossing) in cases {
            let network = network(name, input);
            let total = |count: fn(&crate::LinearShape) -> usize| {
                network.linears().iter().map(count).sum::<usize>()
            };
            assert_eq!(total(crate::LinearShape::weights), weights, "{name}");
            assert_eq!(
                total(crate::LinearShape::multiplications),
                multiplications,
                "{name}"
            );
            assert_eq!(total(|l| l.inputs + l.outputs), crossing, "{name}");
        }
    }
}
