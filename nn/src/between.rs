//! The client's work between two linear layers: an activation, then perhaps pooling.
//!
//! [`Between::apply_kept`] keeps what the exact way back needs: the activation's output (for the
//! square its input, whose sign the output has lost) and, for maximum pooling, where the maxima
//! stood.
//!
//! ```
//! use sphinx_nn::{Activation, Tensor, between::Between};
//! let square = Between { activation: Activation::Square, pool: None };
//! let (y, kept) = square.apply_kept(Tensor::from_vec(1, 2, vec![3.0, -2.0]).unwrap());
//! assert_eq!(y.as_slice(), [9.0, 4.0]);
//! let d = square.pull_back(Tensor::from_vec(1, 2, vec![1.0, 1.0]).unwrap(), &kept);
//! assert_eq!(d.as_slice(), [6.0, -4.0]);
//! ```

use crate::activation::Activation;
use crate::pool::{PoolShape, Positions};
use crate::tensor::Tensor;

/// What happens to the output of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Between {
    /// First this.
    pub activation: Activation,
    /// Then this.
    pub pool: Option<PoolShape>,
}

/// What the way back needs. Private data of the batch.
#[derive(Clone, Debug)]
pub struct Kept {
    activation: Tensor,
    positions: Option<Positions>,
}

impl Between {
    /// What follows the last linear layer.
    pub const NOTHING: Self = Self {
        activation: Activation::Identity,
        pool: None,
    };

    /// The next layer's input.
    ///
    /// # Panics
    /// If `y` does not have the columns of the pooling's input.
    #[must_use]
    pub fn apply(&self, mut y: Tensor) -> Tensor {
        self.activation.apply(&mut y);
        match self.pool {
            Some(pool) => pool.forward(&y).0,
            None => y,
        }
    }

    /// [`Self::apply`], and what [`Self::pull_back`] needs.
    ///
    /// # Panics
    /// As [`Self::apply`].
    #[must_use]
    pub fn apply_kept(&self, y: Tensor) -> (Tensor, Kept) {
        let input = (self.activation == Activation::Square).then(|| y.clone());
        let mut y = y;
        self.activation.apply(&mut y);
        let pooled = self.pool.map(|pool| pool.forward(&y));
        let (next, positions) = match pooled {
            Some((next, positions)) => (next, Some(positions)),
            None => (y.clone(), None),
        };
        let kept = Kept {
            activation: input.unwrap_or(y),
            positions,
        };
        (next, kept)
    }

    /// The gradient of the loss at the linear layer's output, from the one at the next layer's
    /// input.
    ///
    /// # Panics
    /// If `d` or `kept` come from a pass over another network or batch.
    #[must_use]
    pub fn pull_back(&self, d: Tensor, kept: &Kept) -> Tensor {
        let mut d = match (&self.pool, &kept.positions) {
            (Some(pool), Some(positions)) => pool.backward(&d, positions),
            _ => d,
        };
        self.activation.pull_back(&mut d, &kept.activation);
        d
    }
}
