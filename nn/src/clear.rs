//! The float engine: DP-SGD's linear layers in the clear, with flat clipping.
//!
//! [`Clear`] holds the parameters as `f32` and clips each sample's gradient over all weights and
//! biases jointly to `clip_bound` (Abadi et al., "Deep Learning with Differential Privacy",
//! CCS 2016, algorithm 1). Dense layers never form that gradient, see [`crate::ghost`];
//! convolutions form one sample's at a time, which there is the cheapest way to its norm. This is
//! what the other engines are compared with, and the honest opponent in every timing: a client that
//! trains alone.
//!
//! **Deviation** from a rigorous release: the sum is computed in `f32` and rounded to the grid
//! afterwards, so its sensitivity is the clip bound only up to that rounding. A run with a privacy
//! claim uses an integer-grid engine; this one measures accuracy and time.
//!
//! Sums beyond the range of `i64` on the grid saturate, and what is not a number becomes zero:
//! nothing about the data may show by an abort.
//!
//! ```
//! use sphinx_nn::clear::{Clear, ClearConfig};
//! use sphinx_nn::{GradientSum, ImageShape, Network, Tensor, Train, architectures, pass};
//!
//! let input = ImageShape { channels: 1, height: 1, width: 1 };
//! let network = Network::new(&architectures::by_name("linear", input, 2).unwrap()).unwrap();
//! let config = ClearConfig { clip_bound: Some(0.5), shift: 10, ..ClearConfig::default() };
//! let mut engine = Clear::new(&network, vec![0.0; 4], config).unwrap();
//!
//! engine.begin(0, 2).unwrap();
//! let x = Tensor::from_vec(2, 1, vec![1.0, 0.0]).unwrap();
//! let pass = pass::gradients(&mut engine, &network, &x, &[Some(0), None]).unwrap();
//! let sum = engine.collect(pass.pending).unwrap();
//! // p = (1/2, 1/2): d = (-1/2, 1/2), gradient (-1/2, 1/2, -1/2, 1/2) of norm 1, clipped to 1/2.
//! assert_eq!(sum.values, [-256, 256, -256, 256]);
//! assert!(sum.norms_squared[0] <= 512 * 512 && sum.norms_squared[1] == 0);
//! ```

use crate::engine::{GradientSum, Infer, Train};
use crate::ghost;
use crate::network::{LinearKind, LinearShape, Network};
use crate::optim::Sgd;
use crate::tensor::Tensor;
use crate::{conv, dense};

mod clipped;
mod settings;

pub use settings::{ClearConfig, ClearError, MAX_SHIFT};
use settings::{bound_on_grid, check_settings};

/// The float engine. Parameters are laid out as [`Network::layout`].
#[derive(Clone, Debug)]
pub struct Clear {
    network: Network,
    parameters: Vec<f32>,
    config: ClearConfig,
    /// The clip bound rounded down to the grid, so that integer checks against it hold.
    bound: Option<f64>,
    optimiser: Sgd,
    capacity: Option<usize>,
}

/// The input of one layer, kept for its gradient.
#[derive(Debug)]
pub struct ClearHeld {
    layer: usize,
    x: Tensor,
}

/// One layer's part of the gradient: its input and the gradient at its output.
#[derive(Debug)]
pub struct ClearPending {
    layer: usize,
    x: Tensor,
    d: Tensor,
}

impl ClearPending {
    /// Scales sample `j`'s gradient. A factor of 0 wipes the row on both sides, since a value
    /// that is not finite times zero is not zero.
    fn scale(&mut self, j: usize, factor: f32) {
        if factor == 0.0 {
            self.d.row_mut(j).fill(0.0);
            self.x.row_mut(j).fill(0.0);
        } else {
            self.d.row_mut(j).iter_mut().for_each(|v| *v *= factor);
        }
    }
}

impl Clear {
    /// An engine for `network` starting from `parameters`.
    ///
    /// # Errors
    /// A parameter vector of the wrong length or a setting out of range.
    pub fn new(
        network: &Network,
        parameters: Vec<f32>,
        config: ClearConfig,
    ) -> Result<Self, ClearError> {
        if parameters.len() != network.parameter_count() {
            let (found, expected) = (parameters.len(), network.parameter_count());
            return Err(ClearError::Parameters { found, expected });
        }
        if config.shift > MAX_SHIFT {
            return Err(ClearError::Shift {
                shift: config.shift,
            });
        }
        check_settings(&config)?;
        let bound = config
            .clip_bound
            .map(|c| bound_on_grid(c, config.shift))
            .transpose()?;
        Ok(Self {
            network: network.clone(),
            parameters,
            config,
            bound,
            optimiser: Sgd::new(config.learning_rate, config.momentum),
            capacity: None,
        })
    }

    /// The clip bound in steps of the grid, if gradients are clipped.
    #[must_use]
    pub fn clip_bound_on_grid(&self) -> Option<u64> {
        self.bound
            .map(|b| (b * (1_u64 << self.config.shift) as f64) as u64)
    }

    /// Binary digits behind the point of the grid of sums.
    #[must_use]
    pub const fn shift(&self) -> u32 {
        self.config.shift
    }

    /// Takes a noised sum, `update[i] * 2^-shift`, divides it by the public divisor and steps.
    ///
    /// Not part of [`Train`]: who may hand an engine its update is decided by the private loop.
    ///
    /// # Errors
    /// [`ClearError::Parameters`] for a wrong length, [`ClearError::Shift`] for a shift above
    /// [`MAX_SHIFT`].
    pub fn apply(&mut self, update: &[i64], shift: u32) -> Result<(), ClearError> {
        if update.len() != self.parameters.len() {
            let (found, expected) = (update.len(), self.parameters.len());
            return Err(ClearError::Parameters { found, expected });
        }
        if shift > MAX_SHIFT {
            return Err(ClearError::Shift { shift });
        }
        let scale = 1.0 / ((1_u64 << shift) as f64 * self.config.divisor);
        let mean: Vec<f32> = update.iter().map(|v| (*v as f64 * scale) as f32).collect();
        self.optimiser.step(&mut self.parameters, &mean);
        Ok(())
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The parameters, for a loop with an optimiser of its own.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// The network this engine computes for.
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn shape(&self, operation: &'static str, layer: usize) -> Result<LinearShape, ClearError> {
        let layers = self.network.linears().len();
        let shape = self.network.linears().get(layer).copied();
        shape.ok_or(ClearError::Layer {
            operation,
            layer,
            layers,
        })
    }

    fn weights(&self, layer: usize) -> &[f32] {
        &self.parameters[self.network.layout()[layer].weights.clone()]
    }

    /// Checks that every layer is there once, all with the same rows; sorts by layer.
    fn check_pending(&self, pending: &mut [ClearPending]) -> Result<(), ClearError> {
        pending.sort_by_key(|p| p.layer);
        for layer in 0..self.network.linears().len() {
            let found = pending.iter().filter(|p| p.layer == layer).count();
            if found != 1 {
                return Err(ClearError::Collected { layer, found });
            }
        }
        let rows = pending.first().map_or(0, |p| p.d.rows());
        for p in pending.iter() {
            expect("collect", p.layer, "rows", p.d.rows(), rows)?;
        }
        Ok(())
    }
}

impl Infer for Clear {
    type Error = ClearError;

    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, ClearError> {
        let shape = self.shape("forward", layer)?;
        expect("forward", layer, "columns", x.columns(), shape.inputs)?;
        let biases = &self.parameters[self.network.layout()[layer].biases.clone()];
        let weights = self.weights(layer);
        Ok(match shape.kind {
            LinearKind::Dense => dense::forward(shape, weights, biases, x),
            LinearKind::Conv(conv) => conv::forward(conv, weights, biases, x),
        })
    }
}

impl Train for Clear {
    type Held = ClearHeld;
    type Pending = ClearPending;

    fn begin(&mut self, _step: u64, capacity: usize) -> Result<(), ClearError> {
        self.capacity = Some(capacity);
        Ok(())
    }

    fn forward_held(
        &mut self,
        layer: usize,
        x: &Tensor,
    ) -> Result<(Tensor, ClearHeld), ClearError> {
        let capacity = self.capacity.ok_or(ClearError::NotBegun {
            operation: "forward",
        })?;
        if x.rows() > capacity {
            return Err(ClearError::Capacity {
                layer,
                rows: x.rows(),
                capacity,
            });
        }
        let y = self.forward(layer, x)?;
        Ok((
            y,
            ClearHeld {
                layer,
                x: x.clone(),
            },
        ))
    }

    fn backward(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: &ClearHeld,
    ) -> Result<Tensor, ClearError> {
        let shape = self.shape("backward", layer)?;
        check_against("backward", layer, shape, d, held)?;
        let weights = self.weights(layer);
        Ok(match shape.kind {
            LinearKind::Dense => dense::backward(shape, weights, d),
            LinearKind::Conv(conv) => conv::backward(conv, weights, d),
        })
    }

    fn submit_gradient(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: ClearHeld,
    ) -> Result<ClearPending, ClearError> {
        let shape = self.shape("gradient", layer)?;
        check_against("gradient", layer, shape, d, &held)?;
        Ok(ClearPending {
            layer,
            x: held.x,
            d: d.clone(),
        })
    }

    fn collect(&mut self, mut pending: Vec<ClearPending>) -> Result<GradientSum, ClearError> {
        self.check_pending(&mut pending)?;
        let (sum, norms) = clipped::sum(&self.network, self.bound, pending);
        let shift = self.config.shift;
        let step = (1_u64 << shift) as f64;
        Ok(GradientSum {
            values: sum
                .iter()
                .map(|v| (f64::from(*v) * step).round() as i64)
                .collect(),
            shift,
            norms_squared: norms
                .iter()
                .map(|n| (n * step * step).ceil() as u128)
                .collect(),
        })
    }
}

/// An upper bound on the squared norm after scaling in `f32`, where each product may have been
/// rounded up by `2^-24`.
fn scaled_norm(norm_squared: f64, factor: f32) -> f64 {
    if factor == 0.0 {
        return 0.0;
    }
    let factor = f64::from(factor);
    norm_squared * factor * factor * (1.0 + 0.25 * ghost::MARGIN)
}

fn expect(
    operation: &'static str,
    layer: usize,
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), ClearError> {
    if found == expected {
        return Ok(());
    }
    Err(ClearError::Shape {
        operation,
        layer,
        what,
        found,
        expected,
    })
}

fn check_against(
    operation: &'static str,
    layer: usize,
    shape: LinearShape,
    d: &Tensor,
    held: &ClearHeld,
) -> Result<(), ClearError> {
    expect(
        operation,
        layer,
        "layer of the held input",
        held.layer,
        layer,
    )?;
    expect(operation, layer, "columns of d", d.columns(), shape.outputs)?;
    expect(operation, layer, "rows of d", d.rows(), held.x.rows())
}

#[cfg(test)]
mod tests;
