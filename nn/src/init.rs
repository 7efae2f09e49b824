//! Glorot initialisation, the same bits on every platform.
//!
//! Weights of a layer are uniform in `(-l, l)`, `l = sqrt(6 / (fan in + fan out))`; biases
//! and shifts are zero, scales one. The fans are a dense layer's inputs and outputs, and a convolution's channels on either
//! side times the places of its kernel. Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward
//! neural networks", AISTATS 2010, equation 16.
//!
//! The uniform draw is made from integers: 24 bits `u` of a ChaCha8 stream give
//! `(2 u + 1 - 2^24) 2^-24 l`, where the factor in front of `l` is exact in `f32`. One 32-bit
//! word is used per weight, in the order of the layout.
//!
//! ```
//! use sphinx_nn::{ImageShape, Network, architectures, init};
//! let input = ImageShape { channels: 1, height: 4, width: 4 };
//! let network = Network::new(&architectures::by_name("mlp", input, 10).unwrap()).unwrap();
//! let parameters = init::glorot(&network, 1);
//! assert_eq!(parameters, init::glorot(&network, 1));
//! assert_ne!(parameters, init::glorot(&network, 2));
//! assert!(parameters[network.layout()[0].biases.clone()].iter().all(|b| *b == 0.0));
//! ```

use crate::network::Network;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The generator for one purpose: 8 bytes of seed, then the purpose's name, zero-filled.
pub(crate) fn stream(purpose: [u8; 24], seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].copy_from_slice(&purpose);
    ChaCha8Rng::from_seed(key)
}

/// The flat parameter vector, laid out as [`Network::layout`].
pub fn glorot(network: &Network, seed: u64) -> Vec<f32> {
    let mut rng = stream(*b"sphinx glorot weights\0\0\0", seed);
    let mut parameters = vec![0.0; network.parameter_count()];
    for (shape, span) in network.linears().iter().zip(network.layout()) {
        let (fan_in, fan_out) = shape.fans();
        let limit = (6.0 / (fan_in + fan_out) as f32).sqrt();
        for weight in &mut parameters[span.weights.clone()] {
            let u = (rng.next_u32() >> 8) as i32;
            *weight = (2 * u + 1 - (1 << 24)) as f32 * (0.5_f32).powi(24) * limit;
        }
        parameters[span.scales.clone()].fill(1.0);
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architectures::by_name;
    use crate::network::ImageShape;

    #[test]
    fn golden_values() {
        // From ChaCha8 written anew in Python (64-bit counter 0, stream 0, key = 42 as 8 bytes
        // little-endian, then the purpose string): the top 24 bits of the first words are
        // 7930285, 16654564, 9493152, 12528127, 9396571, 14604921, and l = sqrt(6 / 5).
        let want = [
            -0.059_851_069_755_012_53,
            1.079_428_435_377_707_3,
            0.144_239_416_386_967_46,
            0.540_568_421_464_655_6,
            0.131_627_170_276_402_7,
            0.811_771_215_481_513_8,
        ];
        let input = ImageShape {
            channels: 1,
            height: 1,
            width: 3,
        };
        let network = Network::new(&by_name("linear", input, 2).unwrap()).unwrap();
        let got = glorot(&network, 42);
        assert_eq!(got.len(), 8);
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 1e-7, "{got} {want}");
        }
        assert_eq!(got[6..], [0.0, 0.0]);
    }

    #[test]
    fn convolutions_are_scaled_by_their_fans() {
        let input = ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        };
        let network = Network::new(&by_name("minionn-mnist", input, 10).unwrap()).unwrap();
        let parameters = glorot(&network, 3);
        // 16 channels to 16 with a 5 x 5 kernel: fans 400 and 400.
        let limit = (6.0 / 800.0_f32).sqrt();
        let weights = &parameters[network.layout()[1].weights.clone()];
        let largest = weights.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
        assert!(
            largest < limit && largest > 0.999 * limit,
            "{largest} {limit}"
        );
    }

    #[test]
    fn the_spread_is_that_of_the_paper() {
        let input = ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        };
        let network = Network::new(&by_name("mlp", input, 10).unwrap()).unwrap();
        let parameters = glorot(&network, 3);
        for (shape, span) in network.linears().iter().zip(network.layout()) {
            let limit = (6.0 / (shape.inputs + shape.outputs) as f64).sqrt();
            let weights = &parameters[span.weights.clone()];
            let n = weights.len() as f64;
            let mean = weights.iter().map(|w| f64::from(*w)).sum::<f64>() / n;
            let variance = weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / n;
            // Uniform on (-l, l): variance l^2 / 3. Five standard errors either way.
            assert!(mean.abs() < 5.0 * limit / (3.0 * n).sqrt());
            let error = 5.0 * limit * limit * (4.0 / 45.0_f64).sqrt() / n.sqrt();
            assert!((variance - limit * limit / 3.0).abs() < error);
            assert!(
                weights
                    .iter()
                    .all(|w| f64::from(w.abs()) < limit * 1.000_001)
            );
        }
    }
}
