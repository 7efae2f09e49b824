//! Stochastic gradient descent with momentum, on flat parameter vectors.
//!
//! `v <- m v + g`, `p <- p - rate v` (Polyak, "Some methods of speeding up the convergence of
//! iteration methods", 1964, in the form most deep-learning code uses: the rate outside `v`).
//!
//! ```
//! use sphinx_nn::optim::Sgd;
//! let mut sgd = Sgd::new(0.5, 0.9);
//! let mut parameters = [1.0];
//! sgd.step(&mut parameters, &[1.0]); // v = 1
//! assert_eq!(parameters, [0.5]);
//! sgd.step(&mut parameters, &[1.0]); // v = 1.9
//! assert!((parameters[0] + 0.45).abs() < 1e-6);
//! ```

/// The optimiser and its velocity.
#[derive(Clone, Debug, PartialEq)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f64,
    /// Share of the velocity kept from step to step; 0 for plain SGD.
    pub momentum: f64,
    velocity: Vec<f32>,
}

impl Sgd {
    /// An optimiser at rest.
    pub fn new(learning_rate: f64, momentum: f64) -> Self {
        Self {
            learning_rate,
            momentum,
            velocity: Vec::new(),
        }
    }

    /// One step along the mean gradient.
    ///
    /// # Panics
    /// If the lengths differ, or differ from those of earlier steps.
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32]) {
        assert_eq!(
            parameters.len(),
            gradient.len(),
            "one gradient value per parameter"
        );
        if self.velocity.is_empty() {
            self.velocity = vec![0.0; parameters.len()];
        }
        assert_eq!(
            parameters.len(),
            self.velocity.len(),
            "the same parameters at every step"
        );
        let (rate, momentum) = (self.learning_rate as f32, self.momentum as f32);
        for ((p, v), g) in parameters.iter_mut().zip(&mut self.velocity).zip(gradient) {
            *v = momentum * *v + g;
            *p -= rate * *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_bowl_is_descended() {
        // f(p) = p^2 / 2, from 1: with rate 0.1 and momentum 0.5 the characteristic roots of
        // x^2 - 1.4 x + 0.5 have modulus sqrt(0.5), so 40 steps shrink p by about 1e-6.
        let mut sgd = Sgd::new(0.1, 0.5);
        let mut p = [1.0];
        for _ in 0..40 {
            let g = p;
            sgd.step(&mut p, &g);
        }
        assert!(p[0].abs() < 1e-5, "{}", p[0]);
    }
}
