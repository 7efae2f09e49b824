//! Activations: the non-linear step between two linear layers, done at the client.
//!
//! All but the square allow their derivative to be read off the *output* (for tanh, `1 - y^2`; for
//! ReLU, `1` where `y > 0`), so a pass keeps one tensor per layer, not two. The square keeps its
//! input instead: see [`Activation::derivative`]. The derivative of ReLU at zero is taken as 0.
//!
//! ```
//! use sphinx_nn::{Activation, Tensor};
//! let mut x = Tensor::from_vec(1, 2, vec![-1.0, 2.0]).unwrap();
//! Activation::Relu.apply(&mut x);
//! assert_eq!(x.as_slice(), [0.0, 2.0]);
//! assert_eq!(Activation::Relu.derivative(2.0), 1.0);
//! ```

use crate::elementary::{sigmoid, tanh};
use crate::tensor::Tensor;
use rayon::prelude::*;

/// Values per task.
const BLOCK: usize = 8192;

/// What is applied to a linear layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing; what follows the last linear layer.
    Identity,
    /// `max(0, x)`.
    Relu,
    /// The hyperbolic tangent, by [`crate::elementary::tanh`].
    Tanh,
    /// The logistic function, by [`crate::elementary::sigmoid`].
    Sigmoid,
    /// `x^2`, the cheapest non-linear step under encryption; unbounded on both sides.
    Square,
}

impl Activation {
    /// Replaces every value by its activation.
    pub fn apply(self, x: &mut Tensor) {
        match self {
            Self::Identity => {}
            Self::Relu => each(x, |v| if v > 0.0 { v } else { 0.0 }),
            Self::Tanh => each(x, tanh),
            Self::Sigmoid => each(x, sigmoid),
            Self::Square => each(x, |v| v * v),
        }
    }

    /// The derivative, from the activation's output; for the square, from its *input*.
    #[inline]
    pub fn derivative(self, y: f32) -> f32 {
        match self {
            Self::Identity => 1.0,
            Self::Relu => f32::from(u8::from(y > 0.0)),
            Self::Tanh => 1.0 - y * y,
            Self::Sigmoid => y * (1.0 - y),
            Self::Square => 2.0 * y,
        }
    }

    /// Multiplies `d` by the derivative, element by element, given what [`Self::derivative`]
    /// takes.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn pull_back(self, d: &mut Tensor, y: &Tensor) {
        assert_eq!(
            (d.rows(), d.columns()),
            (y.rows(), y.columns()),
            "shapes of d and y"
        );
        if self == Self::Identity {
            return;
        }
        let blocks = d.as_mut_slice().par_chunks_mut(BLOCK);
        blocks
            .zip(y.as_slice().par_chunks(BLOCK))
            .for_each(|(d, y)| {
                for (d, y) in d.iter_mut().zip(y) {
                    *d *= self.derivative(*y);
                }
            });
    }
}

fn each(x: &mut Tensor, f: impl Fn(f32) -> f32 + Sync) {
    x.as_mut_slice().par_chunks_mut(BLOCK).for_each(|block| {
        for value in block {
            *value = f(*value);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_match_central_differences() {
        let h = 1e-4_f64;
        for activation in [
            Activation::Identity,
            Activation::Relu,
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::Square,
        ] {
            let f = |x: f64| match activation {
                Activation::Identity => x,
                Activation::Relu => x.max(0.0),
                Activation::Tanh => x.tanh(),
                Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
                Activation::Square => x * x,
            };
            for x in [-3.0_f32, -0.7, -0.01, 0.02, 0.5, 2.5] {
                let mut y = Tensor::from_vec(1, 1, vec![x]).unwrap();
                activation.apply(&mut y);
                let from = match activation {
                    Activation::Square => x,
                    _ => y.as_slice()[0],
                };
                let got = f64::from(activation.derivative(from));
                let x = f64::from(x);
                let want = (f(x + h) - f(x - h)) / (2.0 * h);
                assert!(
                    (got - want).abs() < 1e-6,
                    "{activation:?} at {x}: {got} {want}"
                );
            }
        }
    }

    #[test]
    fn the_dead_side_of_relu_includes_zero_and_nan() {
        let mut x = Tensor::from_vec(1, 3, vec![0.0, -0.0, f32::NAN]).unwrap();
        Activation::Relu.apply(&mut x);
        assert_eq!(x.as_slice(), [0.0, 0.0, 0.0]);
        assert_eq!(Activation::Relu.derivative(0.0), 0.0);
    }
}
