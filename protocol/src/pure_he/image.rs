//! Inference on one encrypted image without a word in between: the classic form of homomorphic
//! inference, whose activations are polynomials.
//!
//! The image is one ciphertext, a pixel to a slot. The server multiplies by each layer's matrix (a convolution is one
//! as well) in baby and giant steps over hoisted rotations, adds biases and squares; the client
//! decrypts the logits. The weights are in the clear at the server: the easier case, and so the fairer
//! opponent for [`crate::shared`], whose server has them in the clear too.
//!
//! Levels: one for a matrix, one for a square; a network of `n` linear layers takes `2n - 1`. The
//! result is approximate; the tests compare it with `sphinx_nn` within a stated margin.
//!
//! Sources: squares as activations, Gilad-Bachrach, Dowlin, Laine, Lauter, Naehrig and Wernsing, *CryptoNets*, ICML 2016;
//! matrices by diagonals, see [`sphinx_he::ckks::circuit::DiagonalMatrix`].

use sphinx_he::ckks::circuit::DiagonalMatrix;
use sphinx_he::ckks::{Ciphertext, Complex64, Encoder, Evaluator, Level, Plaintext, Scale};
use sphinx_he::rlwe::{
    GaloisKeys, Parameters, ParametersLiteral, RelinearizationKey, Security, Workspace,
};
use sphinx_nn::network::{LayerSpec, Network};

use super::LOG2_SCALE;
use crate::error::Error;
use crate::paper::Products;

/// `N = 16384` and a prime for every level of a network of so many linear layers: with three, 250 bits and
/// 100 of special primes, of 430.
#[must_use]
pub fn image_parameters(linears: usize) -> ParametersLiteral {
    let levels = (2 * linears).saturating_sub(1);
    ParametersLiteral {
        log_n: 14,
        log_q: std::iter::once(50)
            .chain(std::iter::repeat_n(u32::from(LOG2_SCALE), levels))
            .collect(),
        log_p: vec![50, 50],
        error_std_dev: 3.2,
        security: Security::Classical128,
    }
}

/// A network at a server that computes it on one encrypted image.
#[derive(Debug)]
pub struct ImageModel {
    evaluator: Evaluator,
    top: usize,
    slots: usize,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    matrix: DiagonalMatrix,
    bias: Plaintext,
}

/// Keys with which the server computes.
#[derive(Debug)]
pub struct ImageKeys {
    /// For squares.
    pub relinearisation: RelinearizationKey,
    /// For the steps of [`ImageModel::steps`].
    pub rotations: GaloisKeys,
}

impl ImageModel {
    /// Encodes a network whose layers alternate between linear ones and [`LayerSpec::Square`], with
    /// parameters laid out as [`Network::layout`].
    ///
    /// # Errors
    /// [`Error::UnsupportedLayer`] for other layers, [`Error::UpdateLength`] for another number of parameters,
    /// [`Error::PrimeCount`] for too few primes, and the errors of encoding.
    pub fn new(network: &Network, values: &[f32], parameters: &Parameters) -> Result<Self, Error> {
        check_layers(network)?;
        let (expected, got) = (network.parameter_count(), values.len());
        if expected != got {
            return Err(Error::UpdateLength { expected, got });
        }
        let linears = network.linears();
        let (needed, primes) = (2 * linears.len() - 1, parameters.max_level());
        if primes < needed {
            let (got, expected) = (primes + 1, needed + 1);
            return Err(Error::PrimeCount { got, expected });
        }
        let widest = linears.iter().map(|s| s.inputs.max(s.outputs)).max();
        let slots = widest.unwrap_or(1).next_power_of_two();
        let (encoder, mut level) = (Encoder::new(parameters), needed);
        let mut scale = Scale::power_of_two(LOG2_SCALE);
        let mut layers = Vec::with_capacity(linears.len());
        for (at, shape) in linears.iter().enumerate() {
            let span = &network.layout()[at];
            let weights = dense(Products::new(*shape), &values[span.weights.clone()], shape);
            let entry = |row: usize, column: usize| {
                let inside = row < shape.outputs && column < shape.inputs;
                let weight = inside.then(|| weights[row * shape.inputs + column]);
                Complex64::from(f64::from(weight.unwrap_or(0.0)))
            };
            // The last prime as scale: a rescale gives the vector's own back.
            let prime = |level: usize| parameters.moduli()[level].value() as f64;
            let by = Scale::new(prime(level))?;
            let matrix = DiagonalMatrix::new(&encoder, slots, Level(level), by, entry)?;
            level -= 1;
            let biases = &values[span.biases.clone()];
            let each = shape.outputs / biases.len();
            let biases: Vec<Complex64> = biases
                .iter()
                .flat_map(|&b| std::iter::repeat_n(f64::from(b).into(), each))
                .collect();
            let bias = encoder.encode_sparse(&biases, slots, Level(level), scale)?;
            layers.push(Layer { matrix, bias });
            if at + 1 < linears.len() {
                scale = Scale::new(scale.value() * scale.value() / prime(level))?;
                level -= 1;
            }
        }
        Ok(Self {
            evaluator: Evaluator::new(parameters),
            top: needed,
            slots,
            layers,
        })
    }

    /// The rotations that it needs.
    #[must_use]
    pub fn steps(&self) -> Vec<i64> {
        let all = self.layers.iter().flat_map(|layer| layer.matrix.steps());
        let mut steps: Vec<i64> = all.collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Rotations of one answer.
    #[must_use]
    pub fn rotations(&self) -> usize {
        self.layers.iter().map(|l| l.matrix.steps().len()).sum()
    }

    /// Encodes an image, for the client to encrypt.
    ///
    /// # Errors
    /// The errors of encoding.
    pub fn encode(&self, encoder: &Encoder, image: &[f32]) -> Result<Plaintext, Error> {
        let values: Vec<Complex64> = image.iter().map(|&v| f64::from(v).into()).collect();
        let scale = Scale::power_of_two(LOG2_SCALE);
        Ok(encoder.encode_sparse(&values, self.slots, Level(self.top), scale)?)
    }

    /// The logits of an encrypted image, in the first slots, at level 0.
    ///
    /// # Errors
    /// Ciphertexts or keys of other parameters, levels or scales.
    pub fn answer(
        &self,
        image: &Ciphertext,
        keys: &ImageKeys,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let evaluator = &self.evaluator;
        let mut x = image.clone();
        for (at, layer) in self.layers.iter().enumerate() {
            let y = layer
                .matrix
                .mul(evaluator, &x, &keys.rotations, workspace)?;
            x = evaluator.add_plain(&evaluator.rescale(y)?, &layer.bias)?;
            if at + 1 < self.layers.len() {
                x = evaluator.mul_relin_rescale(&x, &x, &keys.relinearisation, workspace)?;
            }
        }
        Ok(x)
    }
}

/// Linear layers and squares, in turn.
fn check_layers(network: &Network) -> Result<(), Error> {
    for (layer, found) in network.architecture().layers.iter().enumerate() {
        let fits = match found {
            LayerSpec::Dense { .. } | LayerSpec::Conv { .. } => layer.is_multiple_of(2),
            LayerSpec::Square => !layer.is_multiple_of(2),
            _ => false,
        };
        if !fits {
            let found = *found;
            return Err(Error::UnsupportedLayer { layer, found });
        }
    }
    Ok(())
}

/// A layer's matrix, row-major.
fn dense(products: Products, weights: &[f32], shape: &sphinx_nn::network::LinearShape) -> Vec<f32> {
    let places: Vec<i32> = (0..weights.len() as i32).collect();
    let mut matrix = vec![0.0; shape.inputs * shape.outputs];
    for row in 0..shape.outputs {
        for (column, place) in products.forward(&places, row as u32) {
            matrix[row * shape.inputs + column as usize] = weights[place as usize];
        }
    }
    matrix
}
