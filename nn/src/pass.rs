//! One pass over a batch, the same for every engine: [`infer`] and [`gradients`].
//!
//! Activations, pooling, loss and their derivatives happen here, at the client; linear layers happen in
//! the engine. See [`crate::engine`] for the order of calls and [`crate`] for an example of a
//! loop around it.
//!
//! ```
//! use sphinx_nn::clear::{Clear, ClearConfig};
//! use sphinx_nn::{ImageShape, Network, Tensor, architectures, pass};
//!
//! let input = ImageShape { channels: 1, height: 1, width: 2 };
//! let network = Network::new(&architectures::by_name("linear", input, 2).unwrap()).unwrap();
//! let parameters = vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.5]; // identity weights, then biases
//! let mut engine = Clear::new(&network, parameters, ClearConfig::default()).unwrap();
//! let x = Tensor::from_vec(1, 2, vec![3.0, 4.0]).unwrap();
//! let logits = pass::infer(&mut engine, &network, &x).unwrap();
//! assert_eq!(logits.as_slice(), [3.0, 4.5]);
//! ```

use crate::engine::{Infer, Train};
use crate::loss::Loss;
use crate::metrics;
use crate::network::Network;
use crate::tensor::Tensor;

/// What a pass over a training batch leaves behind.
///
/// `loss` and `correct` are functions of private data: they stay at the client.
#[derive(Clone, Debug)]
pub struct Pass<P> {
    /// Mean cross-entropy over the real rows; 0 if there are none. Private.
    pub loss: f64,
    /// Real rows whose largest logit is their label. Private.
    pub correct: usize,
    /// The submitted gradients, for [`Train::collect`]: one per linear layer, last layer first, or
    /// one for all from [`Train::pass_whole`].
    pub pending: Vec<P>,
}

/// Logits (rows x classes) of a batch (rows x inputs).
///
/// # Errors
/// Whatever the engine reports.
pub fn infer<E: Infer>(engine: &mut E, network: &Network, x: &Tensor) -> Result<Tensor, E::Error> {
    if let Some(logits) = engine.infer_whole(x) {
        return logits;
    }
    let mut current = network.between(0).apply(engine.forward(0, x)?);
    for layer in 1..network.linears().len() {
        let y = engine.forward(layer, &current)?;
        current = network.between(layer).apply(y);
    }
    Ok(current)
}

/// [`gradients_of`] the cross-entropy.
///
/// # Errors
/// Whatever the engine reports.
///
/// # Panics
/// As [`gradients_of`].
pub fn gradients<E: Train>(
    engine: &mut E,
    network: &Network,
    x: &Tensor,
    labels: &[Option<u8>],
) -> Result<Pass<E::Pending>, E::Error> {
    gradients_of(Loss::CrossEntropy, engine, network, x, labels)
}

/// Forward, loss, backward: submits the gradient of every layer.
///
/// A label of `None` marks a padding row, whose gradient is zero. [`Train::begin`] is the
/// caller's, and so are [`Train::collect`] and what becomes of the sum.
///
/// # Errors
/// Whatever the engine reports.
///
/// # Panics
/// If the number of labels is not the number of rows, or a label is not below
/// [`Network::classes`]; a checked [`crate::Dataset`] rules this out.
pub fn gradients_of<E: Train>(
    loss: Loss,
    engine: &mut E,
    network: &Network,
    x: &Tensor,
    labels: &[Option<u8>],
) -> Result<Pass<E::Pending>, E::Error> {
    assert_eq!(labels.len(), x.rows(), "one label per row");
    if let Some(pass) = engine.pass_whole(x, labels, loss) {
        return pass;
    }
    let layers = network.linears().len();
    let mut held = Vec::with_capacity(layers);
    let mut current = x.clone();
    for layer in 0..layers {
        let (y, input) = engine.forward_held(layer, &current)?;
        let (next, kept) = network.between(layer).apply_kept(y);
        current = next;
        held.push((input, kept));
    }
    let logits = current;
    let (loss, mut d) = loss.and_gradient(&logits, labels);
    let correct = metrics::correct(&logits, labels);

    let mut pending = Vec::with_capacity(layers);
    while let Some((input, kept)) = held.pop() {
        let layer = held.len();
        d = network.between(layer).pull_back(d, &kept);
        let dx = match layer {
            0 => None, // nobody needs the gradient of the data
            _ => Some(engine.backward(layer, &d, &input)?),
        };
        pending.push(engine.submit_gradient(layer, &d, input)?);
        if let Some(dx) = dx {
            d = dx;
        }
    }
    Ok(Pass {
        loss,
        correct,
        pending,
    })
}

#[cfg(test)]
mod tests;
