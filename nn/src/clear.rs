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
use crate::loss::{self, Loss};
use crate::network::{LinearKind, LinearShape, Network};
use crate::norm::{Affine, Normalised};
use crate::optim::Sgd;
use crate::pass::Pass;
use crate::prepared::{Batch, Bounds, Results};
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
    /// Bounds of the single layers, which come before `bound`.
    layer_bounds: Option<Vec<f64>>,
    optimiser: Sgd,
    capacity: Option<usize>,
    /// The fast way, unless the engine was told to go layer by layer.
    batch: Option<Batch>,
    /// Rows that are views of one record.
    views: usize,
    /// Sums of the gradients of all biases in this step, where biases are left out of clipping.
    exact_biases: Option<Vec<f64>>,
}

/// The input of one layer, kept for its gradient.
#[derive(Debug)]
pub struct ClearHeld {
    layer: usize,
    x: Tensor,
    /// Per row, if the layer is normalised.
    normalised: Vec<Normalised>,
}

/// A submitted gradient, of one layer or of all.
#[derive(Debug)]
pub struct ClearPending(Pending);

#[derive(Debug)]
enum Pending {
    Layer(LayerPart),
    Whole { sum: Vec<f32>, norms: Vec<f64> },
}

impl Pass<ClearPending> {
    /// What a whole pass leaves.
    fn of(results: Results, labels: &[Option<u8>]) -> Self {
        Self {
            loss: loss::mean(&results.losses, labels),
            correct: results.hits.iter().filter(|hit| **hit).count(),
            pending: vec![ClearPending(Pending::Whole {
                sum: results.sum,
                norms: results.norms,
            })],
        }
    }
}

/// One layer's part of the gradient: its input and the gradient at its output.
#[derive(Debug)]
struct LayerPart {
    layer: usize,
    x: Tensor,
    d: Tensor,
    /// Per row the gradients of scales and shifts, if the layer has any.
    affine: Option<Tensor>,
}

impl LayerPart {
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
            layer_bounds: None,
            optimiser: Sgd::new(config.learning_rate, config.momentum),
            capacity: None,
            batch: Some(Batch::new(network, true)),
            views: 1,
            exact_biases: None,
        })
    }

    /// Leaves biases out of clipping and of sums: norms are those of the other parameters, and what stands at
    /// a bias in a sum is zero. [`Self::bias_sums`] has their exact gradients instead. Passes go layer by layer
    /// from here on.
    pub fn leave_out_biases(&mut self) {
        self.batch = None;
        self.exact_biases = Some(vec![0.0; self.parameters.len()]);
    }

    /// The gradients of the biases over all rows since the step began, neither clipped nor divided, laid out as
    /// the parameters with zeros elsewhere; nothing unless [left out](Self::leave_out_biases). Private data.
    #[must_use]
    pub fn bias_sums(&self) -> Option<&[f64]> {
        self.exact_biases.as_deref()
    }

    /// Takes every `views` rows of a training batch, one after the other, for views of one record
    /// ([`crate::augment`]): the record's gradient is their mean, and is clipped once.
    ///
    /// # Errors
    /// [`ClearError::Setting`] for no views at all.
    pub fn average_views(&mut self, views: usize) -> Result<(), ClearError> {
        if views == 0 {
            return Err(ClearError::Setting {
                name: "views",
                value: 0.0,
                expected: "at least 1",
            });
        }
        self.views = views;
        // The gradient of a record of several views is formed as a whole.
        self.batch = Some(Batch::new(&self.network, views == 1));
        Ok(())
    }

    /// Clips every linear layer's gradient by its own bound, weights and biases jointly, instead of
    /// all together. A sample's whole gradient then has norm at most the root of the sum of the
    /// squared bounds.
    ///
    /// # Errors
    /// [`ClearError::LayerBounds`] unless there is one bound per linear layer, and
    /// [`ClearError::ClipBound`] for one that is no use.
    pub fn clip_per_layer(&mut self, bounds: &[f32]) -> Result<(), ClearError> {
        let (found, expected) = (bounds.len(), self.network.linears().len());
        if found != expected {
            return Err(ClearError::LayerBounds { found, expected });
        }
        let on_grid = |bound: &f32| bound_on_grid(*bound, self.config.shift);
        self.layer_bounds = Some(bounds.iter().map(on_grid).collect::<Result<_, _>>()?);
        Ok(())
    }

    /// The gradient of every row by itself, neither clipped nor summed: rows x parameters, laid out as
    /// [`Network::layout`]; zero for rows without a label. Private data, and large: meant for
    /// attacks, diagnostics and tests.
    ///
    /// # Errors
    /// Images of another width, another number of labels, or a network too large for tables of
    /// 32-bit places.
    pub fn sample_gradients(
        &self,
        x: &Tensor,
        labels: &[Option<u8>],
        loss: Loss,
    ) -> Result<Tensor, ClearError> {
        let operation = "per-sample gradients";
        expect(operation, 0, "columns", x.columns(), self.network.inputs())?;
        expect(operation, 0, "labels", labels.len(), x.rows())?;
        let gradients =
            Batch::new(&self.network, false).sample_gradients(&self.parameters, x, labels, loss);
        gradients.ok_or(ClearError::TooLarge { operation })
    }

    /// Makes passes go layer by layer over the whole batch, as engines do whose layers are computed
    /// elsewhere: the slow twin of [`crate::prepared`], for tests.
    pub fn go_layer_by_layer(&mut self) {
        self.batch = None;
    }

    /// The bound of a whole gradient's norm in steps of the grid, if gradients are clipped.
    #[must_use]
    pub fn clip_bound_on_grid(&self) -> Option<u64> {
        let joint = |bounds: &Vec<f64>| bounds.iter().map(|b| b * b).sum::<f64>().sqrt();
        let bound = self.layer_bounds.as_ref().map(joint).or(self.bound);
        // A joint bound lies between grid steps: rounded up, so that no clipped row is above it.
        bound.map(|b| (b * (1_u64 << self.config.shift) as f64).ceil() as u64)
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
        if let Some(batch) = &mut self.batch {
            batch.stale();
        }
        Ok(())
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The parameters, for a loop with an optimiser of its own.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        if let Some(batch) = &mut self.batch {
            batch.stale();
        }
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

    /// The learned part of a layer's normalisation, if it has one.
    fn affine(&self, layer: usize) -> Option<Affine<'_>> {
        let span = &self.network.layout()[layer];
        (!span.scales.is_empty()).then(|| Affine {
            scales: &self.parameters[span.scales.clone()],
            shifts: &self.parameters[span.shifts.clone()],
        })
    }

    /// The linear map and the normalisation behind it.
    fn normalised_forward(
        &self,
        layer: usize,
        x: &Tensor,
    ) -> Result<(Tensor, Vec<Normalised>), ClearError> {
        let shape = self.shape("forward", layer)?;
        expect("forward", layer, "columns", x.columns(), shape.inputs)?;
        let biases = &self.parameters[self.network.layout()[layer].biases.clone()];
        let weights = self.weights(layer);
        let mut y = match shape.kind {
            LinearKind::Dense => dense::forward(shape, weights, biases, x),
            LinearKind::Conv(conv) => conv::forward(conv, weights, biases, x),
        };
        let Some(norm) = self.network.norm_after(layer) else {
            return Ok((y, Vec::new()));
        };
        let affine = self.affine(layer);
        let rows = 0..y.rows();
        let kept = rows.map(|j| norm.forward(y.row_mut(j), affine)).collect();
        Ok((y, kept))
    }

    /// From the gradient behind the normalisation to that before it, and per row the gradients of
    /// scales and shifts.
    fn before_norm(&self, layer: usize, d: &Tensor, held: &ClearHeld) -> (Tensor, Option<Tensor>) {
        let mut d = d.clone();
        let Some(norm) = self.network.norm_after(layer) else {
            return (d, None);
        };
        let affine = self.affine(layer);
        let channels = affine.map_or(0, |affine| affine.scales.len());
        let mut gradients = Tensor::zeros(d.rows(), 2 * channels);
        for (j, kept) in held.normalised.iter().enumerate() {
            let (scales, shifts) = gradients.row_mut(j).split_at_mut(channels);
            norm.backward(d.row_mut(j), kept, affine, scales, shifts);
        }
        (d, affine.map(|_| gradients))
    }

    /// Checks the rows of a training batch against what `begin` announced.
    fn check_capacity(&self, layer: usize, rows: usize) -> Result<(), ClearError> {
        let operation = "forward";
        let capacity = self.capacity.ok_or(ClearError::NotBegun { operation })?;
        let capacity = capacity.saturating_mul(self.views);
        if rows > capacity {
            return Err(ClearError::Capacity {
                layer,
                rows,
                capacity,
            });
        }
        Ok(())
    }

    /// A pass over records of several views each.
    fn pass_views(
        &mut self,
        x: &Tensor,
        labels: &[Option<u8>],
        loss: Loss,
    ) -> Result<Pass<ClearPending>, ClearError> {
        let operation = "a pass over views";
        self.check_capacity(0, x.rows())?;
        expect(operation, 0, "columns", x.columns(), self.network.inputs())?;
        let whole = x.rows() - x.rows() % self.views;
        expect(operation, 0, "rows, whole records", x.rows(), whole)?;
        let labels: Vec<_> = labels.iter().step_by(self.views).copied().collect();
        let bounds = bounds(self.layer_bounds.as_deref(), self.bound);
        let batch = self.batch.as_mut().filter(|batch| batch.is_ready());
        let results = batch.and_then(|batch| {
            batch.step_views(&self.parameters, (x, self.views), &labels, loss, bounds)
        });
        let results = results.ok_or(self.views_refused())?;
        Ok(Pass::of(results, &labels))
    }

    /// The sum and norms of a collection: that of a whole pass, or the layers' together.
    fn summed(
        &mut self,
        mut pending: Vec<ClearPending>,
    ) -> Result<(Vec<f32>, Vec<f64>), ClearError> {
        if let [ClearPending(Pending::Whole { sum, norms })] = pending.as_mut_slice() {
            return Ok((std::mem::take(sum), std::mem::take(norms)));
        }
        if self.views > 1 {
            return Err(self.views_refused());
        }
        let part = |pending: ClearPending| match pending.0 {
            Pending::Layer(part) => Some(part),
            Pending::Whole { .. } => None,
        };
        let mut parts: Vec<LayerPart> = pending.into_iter().filter_map(part).collect();
        self.check_parts(&mut parts)?;
        let bounds = bounds(self.layer_bounds.as_deref(), self.bound);
        let Some(sums) = &mut self.exact_biases else {
            let biases = clipped::Biases::Clipped;
            return Ok(clipped::sum(&self.network, bounds, biases, parts));
        };
        for part in &parts {
            let span = self.network.layout()[part.layer].biases.clone();
            add_channels(&mut sums[span], &part.d);
        }
        let biases = clipped::Biases::LeftOut;
        let (mut sum, norms) = clipped::sum(&self.network, bounds, biases, parts);
        for span in self.network.layout() {
            sum[span.biases.clone()].fill(0.0);
        }
        Ok((sum, norms))
    }

    const fn views_refused(&self) -> ClearError {
        ClearError::Setting {
            name: "views",
            value: self.views as f64,
            expected: "1 where layers are computed one by one",
        }
    }

    /// Checks that every layer is there once, all with the same rows; sorts by layer.
    fn check_parts(&self, pending: &mut [LayerPart]) -> Result<(), ClearError> {
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
        Ok(self.normalised_forward(layer, x)?.0)
    }

    fn infer_whole(&mut self, x: &Tensor) -> Option<Result<Tensor, ClearError>> {
        let batch = self.batch.as_mut().filter(|batch| batch.is_ready())?;
        if let Err(error) = expect("forward", 0, "columns", x.columns(), self.network.inputs()) {
            return Some(Err(error));
        }
        batch.logits(&self.parameters, x).map(Ok)
    }
}

impl Train for Clear {
    type Held = ClearHeld;
    type Pending = ClearPending;

    fn begin(&mut self, _step: u64, capacity: usize) -> Result<(), ClearError> {
        self.capacity = Some(capacity);
        if let Some(sums) = &mut self.exact_biases {
            sums.fill(0.0);
        }
        Ok(())
    }

    fn forward_held(
        &mut self,
        layer: usize,
        x: &Tensor,
    ) -> Result<(Tensor, ClearHeld), ClearError> {
        self.check_capacity(layer, x.rows())?;
        let (y, normalised) = self.normalised_forward(layer, x)?;
        let x = x.clone();
        Ok((
            y,
            ClearHeld {
                layer,
                x,
                normalised,
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
        let (d, _) = self.before_norm(layer, d, held);
        Ok(match shape.kind {
            LinearKind::Dense => dense::backward(shape, weights, &d),
            LinearKind::Conv(conv) => conv::backward(conv, weights, &d),
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
        let (d, affine) = self.before_norm(layer, d, &held);
        Ok(ClearPending(Pending::Layer(LayerPart {
            layer,
            x: held.x,
            d,
            affine,
        })))
    }

    fn pass_whole(
        &mut self,
        x: &Tensor,
        labels: &[Option<u8>],
        loss: Loss,
    ) -> Option<Result<Pass<ClearPending>, ClearError>> {
        if self.views > 1 {
            // Layer by layer, every view would be clipped by itself: `views` times the sensitivity.
            return Some(self.pass_views(x, labels, loss));
        }
        if !self.batch.as_ref()?.is_ready() {
            return None;
        }
        let checked = self
            .check_capacity(0, x.rows())
            .and_then(|()| expect("forward", 0, "columns", x.columns(), self.network.inputs()));
        if let Err(error) = checked {
            return Some(Err(error));
        }
        let bounds = bounds(self.layer_bounds.as_deref(), self.bound);
        let batch = self.batch.as_mut()?;
        let results = batch.step(&self.parameters, x, labels, loss, bounds)?;
        Some(Ok(Pass::of(results, labels)))
    }

    fn collect(&mut self, pending: Vec<ClearPending>) -> Result<GradientSum, ClearError> {
        let (sum, norms) = self.summed(pending)?;
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

/// Bounds of the single layers come before a joint one.
fn bounds(layers: Option<&[f64]>, joint: Option<f64>) -> Bounds<'_> {
    match (layers, joint) {
        (Some(bounds), _) => Bounds::PerLayer(bounds),
        (None, Some(bound)) => Bounds::Joint(bound),
        (None, None) => Bounds::None,
    }
}

/// Adds the sums over rows and positions of every channel; a value that is not finite counts as zero.
fn add_channels(sums: &mut [f64], d: &Tensor) {
    let positions = (d.columns() / sums.len().max(1)).max(1);
    for j in 0..d.rows() {
        for (sum, channel) in sums.iter_mut().zip(d.row(j).chunks_exact(positions)) {
            let finite = channel.iter().filter(|v| v.is_finite());
            *sum += finite.map(|&v| f64::from(v)).sum::<f64>();
        }
    }
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
