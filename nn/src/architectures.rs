//! Networks known by name, for command lines and definitions.
//!
//! | name | hidden layer | activation | parameters on 28 x 28, 10 classes |
//! |---|---|---|---|
//! | `linear` | none | none | 7,850 |
//! | `mlp` | 32 | tanh | 25,450 |
//! | `mlp-64` | 64 | tanh | 50,890 |
//! | `mlp-relu` | 32 | ReLU | 25,450 |
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

use crate::network::{Architecture, ImageShape, LayerSpec};

/// The names [`by_name`] knows.
pub fn list() -> &'static [&'static str] {
    &["linear", "mlp", "mlp-64", "mlp-relu"]
}

/// The architecture of that name for the given images; `None` for an unknown name.
///
/// The result is a description: [`crate::Network::new`] checks the sizes.
pub fn by_name(name: &str, input: ImageShape, classes: usize) -> Option<Architecture> {
    let dense = |outputs| LayerSpec::Dense { outputs };
    let layers = match name {
        "linear" => vec![dense(classes)],
        "mlp" => vec![dense(32), LayerSpec::Tanh, dense(classes)],
        "mlp-64" => vec![dense(64), LayerSpec::Tanh, dense(classes)],
        "mlp-relu" => vec![dense(32), LayerSpec::Relu, dense(classes)],
        _ => return None,
    };
    Some(Architecture {
        name: name.to_owned(),
        input,
        layers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    #[test]
    fn sizes_are_those_of_the_table() {
        let input = ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        };
        let sizes = [
            ("linear", 7_850),
            ("mlp", 25_450),
            ("mlp-64", 50_890),
            ("mlp-relu", 25_450),
        ];
        for (name, size) in sizes {
            let network = Network::new(&by_name(name, input, 10).unwrap()).unwrap();
            assert_eq!(network.parameter_count(), size, "{name}");
        }
        assert_eq!(list().len(), sizes.len());
        assert!(by_name("resnet", input, 10).is_none());
    }
}
