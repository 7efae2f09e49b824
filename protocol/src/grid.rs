//! Integer DP-SGD: quantise, multiply exactly, clip on integers.
//!
//! An [`Engine`] turns the real-valued passes of `sphinx_nn` into integer products and leaves the
//! products to a [`Forward`] or [`Multiplier`]: [`Local`] computes them here (the oracle),
//! [`crate::packed`] has the server compute them on ciphertexts, [`crate::shared`] on masked
//! values. Everything that rounds, saturates or clips is in this module, once; so two multipliers
//! that are both exact give the same trajectory, bit for bit.

use sphinx_dp::mechanism::{ClipBound, Noised};
use sphinx_nn::engine::{GradientSum, Infer, Train};
use sphinx_nn::tensor::Tensor;

use crate::error::Error;
use crate::format::Integers;
use crate::model::{FrozenReplica, Replica};
use crate::plan::{Clipping, GridPlan};
use crate::train::Learn;

mod clip;
mod conv;
mod local;
mod residues;
mod samples;

pub use clip::{ClippedLayer, UnclippedLayer, clip};
pub(crate) use conv::runs;
pub use local::{Frozen, Local};
pub(crate) use local::{layer_sum, pull_back};
pub(crate) use residues::product;
pub(crate) use samples::channel_limit;
pub use samples::{SAMPLE_LIMIT, SampleGradients, clip_samples, output_gradients};

/// Who computes `W x + b` on the grid.
pub trait Forward {
    /// The grids that apply.
    fn plan(&self) -> &GridPlan;

    /// `W x + b` for every row, on the grid `2^-y_shift` of the layer.
    ///
    /// # Errors
    /// Whatever keeps the product from being computed.
    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error>;
}

/// Who computes all three products of training, and keeps the model.
pub trait Multiplier: Forward {
    /// Begins a training step.
    ///
    /// # Errors
    /// If the step is not the model's next one.
    fn begin(&mut self, step: u64) -> Result<(), Error>;

    /// As [`Forward::forward`], remembering `x` for [`Self::gradients`].
    ///
    /// # Errors
    /// Whatever keeps the product from being computed.
    fn forward_held(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error>;

    /// `W^T d` for every row, on the grid `2^-back_shift` of the layer.
    ///
    /// # Errors
    /// Whatever keeps the product from being computed.
    fn backward(&mut self, layer: usize, d: &Integers) -> Result<Integers, Error>;

    /// `sum_j d_j x_j^T` of every layer, row-major `[out][in]`; `work` in any order of layers.
    ///
    /// # Errors
    /// Whatever keeps the product from being computed.
    fn gradients(&mut self, work: &[ClippedLayer]) -> Result<Vec<Vec<i64>>, Error>;

    /// Every sample's gradient `d_j x_j^T` of one layer, `[weight][row]`, for plans that clip
    /// samples ([`Clipping::Samples`]); called after [`Self::backward`] with the same `d`, layer
    /// by layer from the last. Biases by the [published rule](crate::model::PublishedBiases) take their step
    /// from this `d`.
    ///
    /// # Errors
    /// [`Error::ClipsFactors`] by multipliers that never see the gradient of a sample; whatever
    /// keeps the product from being computed.
    fn sample_gradients(
        &mut self,
        layer: usize,
        _x: &Integers,
        _d: &Integers,
    ) -> Result<Vec<i32>, Error> {
        Err(Error::ClipsFactors { layer })
    }

    /// Applies one released update on both sides.
    ///
    /// # Errors
    /// If the other side does not arrive at the same model version.
    fn learn(&mut self, noised: &Noised) -> Result<(), Error>;

    /// The client's model.
    fn replica(&self) -> &Replica;

    /// Whether another machine computes the products, so that the client waits for it.
    fn is_elsewhere(&self) -> bool {
        false
    }
}

/// A network engine on the integer grid.
#[derive(Debug)]
pub struct Engine<M> {
    multiplier: M,
    plan: GridPlan,
}

impl<M: Forward> Engine<M> {
    /// Wraps a multiplier.
    #[must_use]
    pub fn new(multiplier: M) -> Self {
        let plan = multiplier.plan().clone();
        Self { multiplier, plan }
    }

    /// The multiplier.
    #[must_use]
    pub const fn multiplier(&self) -> &M {
        &self.multiplier
    }

    /// The multiplier, to be driven directly.
    pub const fn multiplier_mut(&mut self) -> &mut M {
        &mut self.multiplier
    }

    /// Takes the multiplier out.
    #[must_use]
    pub fn into_multiplier(self) -> M {
        self.multiplier
    }

    fn quantise_inputs(&self, layer: usize, x: &Tensor) -> Result<Integers, Error> {
        let expected = self.plan.network().linears()[layer].inputs;
        if x.columns() != expected {
            return Err(Error::Columns {
                layer,
                expected,
                got: x.columns(),
            });
        }
        let format = &self.plan.formats()[layer];
        Ok(Integers::quantised(x, format.x_shift, format.x_limit))
    }
}

/// Inference with the model as it stands.
impl<M: Forward> Infer for Engine<M> {
    type Error = Error;

    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, Error> {
        let x = self.quantise_inputs(layer, x)?;
        let y = self.multiplier.forward(layer, &x)?;
        Ok(y.to_tensor(self.plan.formats()[layer].y_shift()))
    }
}

/// What an engine keeps of one layer's input during a step.
#[derive(Debug)]
pub struct Held {
    layer: usize,
    x: Integers,
}

/// A submitted gradient: what is clipped of it.
#[derive(Debug)]
pub enum Pending {
    /// Its factors.
    Factors(UnclippedLayer),
    /// The gradients of all samples.
    Samples(SampleGradients),
}

impl<M> Engine<M> {
    fn sum(&self, values: Vec<i64>, norms_squared: Vec<u128>) -> GradientSum {
        GradientSum {
            values,
            shift: self.plan.literal().gradient_shift,
            norms_squared,
        }
    }
}

impl<M: Multiplier> Engine<M> {
    /// The output gradients that are sent backward, on their grid.
    fn quantise_outputs(&self, layer: usize, d: &Tensor) -> Integers {
        match self.plan.literal().clipping {
            Clipping::Factors => {
                let format = &self.plan.formats()[layer];
                Integers::quantised(d, format.d_shift, format.d_limit)
            }
            Clipping::Samples => {
                let mut d = output_gradients(&self.plan, layer, d);
                self.multiplier.replica().pass_over(layer, &mut d);
                d
            }
        }
    }

    /// The clipped sum of layers whose factors are clipped.
    fn collect_factors(&mut self, pending: Vec<UnclippedLayer>) -> Result<GradientSum, Error> {
        let literal = self.plan.literal();
        let bound = ClipBound::new(literal.clip_bound)?;
        let (work, norms_squared) = clip(&self.plan, pending, bound, literal.gradient_shift);
        let sums = self.multiplier.gradients(&work)?;
        let mut values = vec![0_i64; self.plan.network().parameter_count()];
        for (layer, sum) in work.iter().zip(sums) {
            let span = &self.plan.network().layout()[layer.layer];
            values[span.weights.clone()].copy_from_slice(&sum);
            layer.add_bias_sum(&self.plan, &mut values[span.biases.clone()]);
        }
        Ok(self.sum(values, norms_squared))
    }
}

impl<M: Multiplier> Train for Engine<M> {
    type Held = Held;
    type Pending = Pending;

    fn begin(&mut self, step: u64, capacity: usize) -> Result<(), Error> {
        let expected = self.plan.capacity();
        if capacity != expected {
            return Err(Error::Capacity {
                expected,
                got: capacity,
            });
        }
        self.multiplier.begin(step)
    }

    fn forward_held(&mut self, layer: usize, x: &Tensor) -> Result<(Tensor, Held), Error> {
        let x = self.quantise_inputs(layer, x)?;
        if x.rows() != self.plan.capacity() {
            return Err(Error::Capacity {
                expected: self.plan.capacity(),
                got: x.rows(),
            });
        }
        let y = self.multiplier.forward_held(layer, &x)?;
        Ok((
            y.to_tensor(self.plan.formats()[layer].y_shift()),
            Held { layer, x },
        ))
    }

    fn backward(&mut self, layer: usize, d: &Tensor, _held: &Held) -> Result<Tensor, Error> {
        let shift = self.plan.formats()[layer].back_shift();
        let d = self.quantise_outputs(layer, d);
        Ok(self.multiplier.backward(layer, &d)?.to_tensor(shift))
    }

    fn submit_gradient(&mut self, layer: usize, d: &Tensor, held: Held) -> Result<Pending, Error> {
        if layer != held.layer {
            return Err(Error::HeldLayer {
                expected: held.layer,
                got: layer,
            });
        }
        if self.plan.literal().clipping == Clipping::Factors {
            let (x, d) = (held.x, d.clone());
            return Ok(Pending::Factors(UnclippedLayer { layer, x, d }));
        }
        let d = self.quantise_outputs(layer, d);
        let weights = self.multiplier.sample_gradients(layer, &held.x, &d)?;
        // By the published rule biases are neither clipped nor released.
        let released = match self.multiplier.replica().published() {
            Some(_) => SampleGradients::of_weights(&self.plan, layer, weights, d.rows()),
            None => SampleGradients::new(&self.plan, layer, weights, &d),
        };
        released.map(Pending::Samples)
    }

    fn collect(&mut self, pending: Vec<Pending>) -> Result<GradientSum, Error> {
        let (mut factors, mut samples) = (Vec::new(), Vec::new());
        for layer in pending {
            match layer {
                Pending::Factors(layer) => factors.push(layer),
                Pending::Samples(layer) => samples.push(layer),
            }
        }
        if samples.is_empty() {
            return self.collect_factors(factors);
        }
        let bound = ClipBound::new(self.plan.literal().clip_bound)?;
        let (values, norms_squared) = clip_samples(&self.plan, &samples, bound);
        Ok(self.sum(values, norms_squared))
    }
}

impl<M: Multiplier> Learn for Engine<M> {
    fn clip_bound(&self) -> Result<ClipBound, Error> {
        Ok(ClipBound::new(self.plan.literal().clip_bound)?)
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), Error> {
        self.multiplier.learn(noised)
    }

    fn learns_elsewhere(&self) -> bool {
        self.multiplier.is_elsewhere()
    }
}

impl<M: Multiplier> Engine<M> {
    /// The model as it stands, for inference elsewhere.
    #[must_use]
    pub fn freeze(&self) -> std::sync::Arc<FrozenReplica> {
        self.multiplier.replica().freeze()
    }
}
