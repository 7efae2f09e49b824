//! The traits by which an engine computes linear layers: [`Infer`] and [`Train`].
//!
//! A training step, as a loop and [`crate::pass::gradients`] carry it out together:
//!
//! 1. `begin(step, capacity)`: the loop names the step and the public batch capacity;
//! 2. `forward_held` for each layer, first to last; the engine keeps what it needs of the input;
//! 3. for each layer, last to first: `backward` (not for the first layer, whose input is data),
//!    then `submit_gradient`, which may run on while the next layer's `backward` is computed;
//! 4. `collect`: the sum over the rows of the gradients, clipped by the engine's policy;
//! 5. the loop adds noise, and the engine updates the parameters from the noised sum only.
//!
//! `layer` is a position in [`crate::Network::linears`]; flat vectors follow
//! [`crate::Network::layout`]. Rows beyond the real batch are padding: their `d` is zero, so
//! they add nothing, but engines do the same work for them.
//!
//! An engine that has the whole network in the clear can do better than layer by layer; it says so
//! by `infer_whole` and `pass_whole`, which the passes ask first.
//!
//! [`crate::clear::Clear`] is an engine to read first.

use crate::loss::Loss;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// Linear layers for inference.
pub trait Infer {
    /// What can go wrong, by blame.
    type Error: std::error::Error + Send + Sync + 'static;

    /// `W x + b` for every row of `x` (rows x inputs); rows x outputs. Keeps no state.
    ///
    /// # Errors
    /// An unknown layer, a wrong shape, or what the engine itself meets.
    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, Self::Error>;

    /// The logits of a batch at once, if the engine has a faster way than layer by layer.
    fn infer_whole(&mut self, _x: &Tensor) -> Option<Result<Tensor, Self::Error>> {
        None
    }
}

/// Linear layers for training.
pub trait Train: Infer {
    /// What the engine keeps of one layer's input for this step. Used once.
    type Held;
    /// A submitted gradient, not yet collected.
    type Pending;

    /// Starts a step; batches of this step have at most `capacity` rows, padding included.
    ///
    /// # Errors
    /// What the engine itself meets.
    fn begin(&mut self, step: u64, capacity: usize) -> Result<(), Self::Error>;

    /// [`Infer::forward`], keeping what the gradient will need.
    ///
    /// # Errors
    /// As [`Infer::forward`], a step that was not begun, or more rows than its capacity.
    fn forward_held(
        &mut self,
        layer: usize,
        x: &Tensor,
    ) -> Result<(Tensor, Self::Held), Self::Error>;

    /// `W^T d` for every row of `d` (rows x outputs); rows x inputs.
    ///
    /// # Errors
    /// An unknown layer, a wrong shape, or what the engine itself meets.
    fn backward(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: &Self::Held,
    ) -> Result<Tensor, Self::Error>;

    /// Hands over `d` (rows x outputs) for the layer's gradient.
    ///
    /// # Errors
    /// A held input of another layer or of other rows, or what the engine itself meets.
    fn submit_gradient(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: Self::Held,
    ) -> Result<Self::Pending, Self::Error>;

    /// Forward, loss, backward and all submissions at once, if the engine has a faster way than
    /// layer by layer. `collect` takes what it leaves pending.
    fn pass_whole(
        &mut self,
        _x: &Tensor,
        _labels: &[Option<u8>],
        _loss: Loss,
    ) -> Option<Result<Pass<Self::Pending>, Self::Error>> {
        None
    }

    /// The sum over the rows of the clipped gradients of all layers, each submitted once.
    ///
    /// # Errors
    /// A layer missing, doubled or of other rows, or what the engine itself meets.
    fn collect(&mut self, pending: Vec<Self::Pending>) -> Result<GradientSum, Self::Error>;
}

/// A clipped sum of per-sample gradients, in fixed point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GradientSum {
    /// The sum, laid out as [`crate::Network::layout`]; the value is `values[i] * 2^-shift`.
    pub values: Vec<i64>,
    /// Binary digits behind the point.
    pub shift: u32,
    /// Per row, the squared norm after clipping, on the grid `2^(-2 shift)`, rounded up.
    /// Private: it stays with the client, where a release checks its sensitivity against it.
    pub norms_squared: Vec<u128>,
}
