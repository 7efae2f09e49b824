//! Glorot initialisation, the same bits on every platform.
//!
//! Weights of a layer are uniform in `(-l, l)`, `l = sqrt(6 / (inputs + outputs))`; biases are
//! zero. Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward
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
        let limit = (6.0 / (shape.inputs + shape.outputs) as f32).sqrt();
        for weight in &mut parameters[span.weights.clone()] {
            let u = (rng.next_u32() >> 8) as i32;
            *weight = (2 * u + 1 - (1 << 24)) as f32 * (0.5_f32).powi(24) * limit;
        }
    }
    parameters
}
