//! Matching gradients: how an observed gradient pulls on the input that might have caused it.
//!
//! A reconstruction attack (Zhu, Liu, Han, "Deep Leakage from Gradients", NeurIPS 2019; with the
//! cosine: Geiping, Bauermeister, Droege, Moeller, "Inverting Gradients", NeurIPS 2020) looks for
//! the images `x` whose gradient `g(x) = sum_j grad_p loss(p, x_j, l_j)` is closest to an observed
//! one. It needs the derivative of a distance `F(g(x))` by `x`, a second derivative of the network:
//!
//! `dF/dx = (dg/dx)^T v = d/de grad_x loss(p + e v, x) at e = 0`, with `v = dF/dg`.
//!
//! The right side is one forward and one backward pass in which every value carries its tangent
//! along `v` ([`mixed_product`], forward over reverse; Pearlmutter, "Fast Exact Multiplication by the
//! Hessian", Neural Computation 6, 1994). It costs about three plain passes, forms no Jacobian, and
//! is exact up to rounding in `f32`. At the kinks of ReLU and in ties of maximum pooling it takes the
//! side that the passes take; the second derivative of ReLU is 0.
//!
//! ```
//! use sphinx_nn::matching::{Distance, gradient_matching};
//! use sphinx_nn::{Clear, ClearConfig, ImageShape, Network, Tensor, architectures, init, loss::Loss};
//!
//! let input = ImageShape { channels: 1, height: 1, width: 3 };
//! let network = Network::new(&architectures::by_name("mlp", input, 2).unwrap()).unwrap();
//! let parameters = init::glorot(&network, 1);
//! let secret = Tensor::from_vec(1, 3, vec![0.3, -0.2, 0.9]).unwrap();
//! let engine = Clear::new(&network, parameters.clone(), ClearConfig::default()).unwrap();
//! let seen = engine.sample_gradients(&secret, &[Some(1)], Loss::CrossEntropy).unwrap();
//!
//! // From a guess, follow the pull downhill.
//! let mut guess = Tensor::from_vec(1, 3, vec![0.0, 0.0, 0.5]).unwrap();
//! for _ in 0..2000 {
//!     let pull = gradient_matching(&network, &parameters, &guess, &[1], seen.row(0),
//!         Distance::Squared, Loss::CrossEntropy).unwrap();
//!     let values = guess.as_mut_slice().iter_mut().zip(pull.by_input.as_slice());
//!     values.for_each(|(x, d)| *x -= 0.2 * d);
//! }
//! for (found, secret) in guess.as_slice().iter().zip(secret.as_slice()) {
//!     assert!((found - secret).abs() < 0.01);
//! }
//! ```

use crate::clear::{Clear, ClearConfig, ClearError};
use crate::loss::Loss;
use crate::network::Network;
use crate::tensor::Tensor;
use thiserror::Error;

mod tangent;

/// How far two gradients are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Distance {
    /// The squared Euclidean distance.
    #[default]
    Squared,
    /// One minus the cosine of the angle between them; 1 if either is zero.
    Cosine,
}

/// A distance and its derivative.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// The distance between the gradient at the input and the target.
    pub distance: f64,
    /// Its derivative by the input: rows x inputs.
    pub by_input: Tensor,
}

/// What the functions here refuse.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum MatchingError {
    /// A vector that should be laid out as the network's parameters.
    #[error(
        "gradient matching: {what} of {found} values for a network of {expected} parameters; give one per place in its layout"
    )]
    Parameters {
        /// Which vector.
        what: &'static str,
        /// Its length.
        found: usize,
        /// Length needed.
        expected: usize,
    },
    /// Not one label per row.
    #[error("gradient matching: {found} labels for {expected} rows; give one per row")]
    Labels {
        /// Labels given.
        found: usize,
        /// Rows there are.
        expected: usize,
    },
    /// A label beyond the classes.
    #[error(
        "gradient matching: label {label} in a network of {classes} classes; labels must be below that"
    )]
    Label {
        /// The label.
        label: u8,
        /// Classes there are.
        classes: usize,
    },
    /// What the engine for first derivatives reports.
    #[error(transparent)]
    Engine(#[from] ClearError),
}

/// The distance between `target` and the gradient of the summed loss at `input` (rows x inputs),
/// and its derivative by `input`. `parameters` and `target` are laid out as [`Network::layout`].
///
/// # Errors
/// [`MatchingError`], for whichever of the arguments does not fit the network.
pub fn gradient_matching(
    network: &Network,
    parameters: &[f32],
    input: &Tensor,
    labels: &[u8],
    target: &[f32],
    distance: Distance,
    loss: Loss,
) -> Result<Matching, MatchingError> {
    check(network, "target gradient", target)?;
    let gradient = summed_gradient(network, parameters, input, labels, loss)?;
    let (distance, direction) = match distance {
        Distance::Squared => squared(&gradient, target),
        Distance::Cosine => cosine(&gradient, target),
    };
    let by_input = mixed_product(network, parameters, input, labels, &direction, loss)?;
    Ok(Matching { distance, by_input })
}

/// `(dg/dx)^T v` for the gradient `g` of the loss by the parameters and a `direction` `v` in the
/// space of parameters: rows x inputs. With `v = dF/dg` the derivative of any `F(g)` by the input.
///
/// # Errors
/// [`MatchingError`], for whichever of the arguments does not fit the network.
pub fn mixed_product(
    network: &Network,
    parameters: &[f32],
    input: &Tensor,
    labels: &[u8],
    direction: &[f32],
    loss: Loss,
) -> Result<Tensor, MatchingError> {
    check(network, "parameters", parameters)?;
    check(network, "direction", direction)?;
    check_rows(network, input, labels)?;
    Ok(tangent::input_tangent(
        network, parameters, direction, input, labels, loss,
    ))
}

/// The gradient of the loss by the parameters, summed over the rows.
fn summed_gradient(
    network: &Network,
    parameters: &[f32],
    input: &Tensor,
    labels: &[u8],
    loss: Loss,
) -> Result<Vec<f64>, MatchingError> {
    check_rows(network, input, labels)?;
    let engine = Clear::new(network, parameters.to_vec(), ClearConfig::default())?;
    let labels: Vec<_> = labels.iter().copied().map(Some).collect();
    let rows = engine.sample_gradients(input, &labels, loss)?;
    let mut sum = vec![0.0; network.parameter_count()];
    for row in rows.as_slice().chunks_exact(sum.len()) {
        let values = sum.iter_mut().zip(row);
        values.for_each(|(sum, g)| *sum += f64::from(*g));
    }
    Ok(sum)
}

/// `|g - t|^2` and its derivative by `g`.
fn squared(gradient: &[f64], target: &[f32]) -> (f64, Vec<f32>) {
    let apart = |(g, t): (&f64, &f32)| g - f64::from(*t);
    let distance = gradient.iter().zip(target).map(|pair| apart(pair).powi(2));
    let direction = gradient
        .iter()
        .zip(target)
        .map(|pair| (2.0 * apart(pair)) as f32);
    (distance.sum(), direction.collect())
}

/// `1 - <g, t> / (|g| |t|)` and its derivative by `g`.
fn cosine(gradient: &[f64], target: &[f32]) -> (f64, Vec<f32>) {
    let pairs = || gradient.iter().zip(target.iter().map(|t| f64::from(*t)));
    let product: f64 = pairs().map(|(g, t)| g * t).sum();
    let own = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let other = pairs().map(|(_, t)| t * t).sum::<f64>().sqrt();
    if own == 0.0 || other == 0.0 {
        return (1.0, vec![0.0; gradient.len()]);
    }
    let cosine = product / (own * other);
    let by_g = |(g, t): (&f64, f64)| (cosine * g / (own * own) - t / (own * other)) as f32;
    (1.0 - cosine, pairs().map(by_g).collect())
}

fn check(network: &Network, what: &'static str, values: &[f32]) -> Result<(), MatchingError> {
    let (found, expected) = (values.len(), network.parameter_count());
    if found == expected {
        return Ok(());
    }
    Err(MatchingError::Parameters {
        what,
        found,
        expected,
    })
}

fn check_rows(network: &Network, input: &Tensor, labels: &[u8]) -> Result<(), MatchingError> {
    let (found, expected) = (labels.len(), input.rows());
    if found != expected {
        return Err(MatchingError::Labels { found, expected });
    }
    if input.columns() != network.inputs() {
        return Err(MatchingError::Engine(ClearError::Shape {
            operation: "gradient matching",
            layer: 0,
            what: "columns",
            found: input.columns(),
            expected: network.inputs(),
        }));
    }
    let classes = network.classes();
    match labels.iter().find(|label| usize::from(**label) >= classes) {
        Some(label) => Err(MatchingError::Label {
            label: *label,
            classes,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
