//! The weights both parties keep, and the integer rule by which both update them.
//!
//! Server and client start from the same public initialisation and apply the same released
//! updates in the same integer arithmetic, so their weights are equal bit for bit; a
//! [`ModelVersion`] is the hash that proves it. The biases are the client's alone: the server
//! keeps only an encrypted backup of them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sphinx_dp::mechanism::Noised;

use crate::error::Error;
use crate::format::{Integers, MASTER_SHIFT, shift_round};
use crate::message::Released;
use crate::plan::GridPlan;

mod kept;
mod published;

pub use kept::PrivateModel;
pub use published::{PublishedBiases, REFINED};

/// The hash of a model's integer weights, velocities, step count and grids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelVersion(pub [u8; 32]);

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelVersion({self})")
    }
}

/// Stochastic gradient descent with momentum in integers.
///
/// With the noised sum `g` on the grid `2^-gradient_shift`, velocity `v <- g + m v` and weight
/// `w <- w - v * multiplier / 2^shift`, where `m = momentum / 2^16` and the ratio stands for
/// `learning rate / divisor` between the two grids. All constants are public; the divisor is the
/// declared mean batch size, never the drawn one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRule {
    /// Momentum in units of 2^-16.
    pub momentum: u32,
    /// Numerator of the step size.
    pub multiplier: u32,
    /// The step size is `multiplier / 2^shift`.
    pub shift: u32,
}

impl StepRule {
    /// The rule nearest to the given real constants.
    ///
    /// # Errors
    /// [`Error::StepSize`] if a constant is not positive and finite, or momentum is not in [0, 1).
    pub fn new(
        learning_rate: f64,
        momentum: f64,
        divisor: f64,
        gradient_shift: u32,
    ) -> Result<Self, Error> {
        let ratio =
            learning_rate / divisor * f64::from(MASTER_SHIFT as i32 - gradient_shift as i32).exp2();
        let refused = Error::StepSize {
            learning_rate,
            momentum,
            divisor,
        };
        if !(ratio.is_finite() && ratio > 0.0 && (0.0..1.0).contains(&momentum)) {
            return Err(refused);
        }
        // 31 significant bits of the ratio, within shifts that i128 arithmetic holds.
        let exponent = 30 - ratio.log2().floor() as i32;
        if !(0..=63).contains(&exponent) {
            return Err(refused);
        }
        Ok(Self {
            momentum: (momentum * 65536.0).round() as u32,
            multiplier: (ratio * f64::from(exponent).exp2())
                .round()
                .min(f64::from(u32::MAX)) as u32,
            shift: exponent as u32,
        })
    }

    /// Advances one velocity and gives the change of the master weight, before its limit.
    fn advance(&self, velocity: &mut i64, gradient: i64) -> i64 {
        let carried = shift_round(i128::from(*velocity) * i128::from(self.momentum), 16);
        let next = (i128::from(gradient) + carried).clamp(-(1 << 62), 1 << 62);
        *velocity = next as i64;
        let step = shift_round(next * i128::from(self.multiplier), self.shift);
        -(step.clamp(-(1 << 40), 1 << 40) as i64)
    }
}

/// One vector of parameters with its velocities.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameters {
    master: Vec<i32>,
    velocity: Vec<i64>,
}

impl Parameters {
    fn apply(&mut self, rule: &StepRule, gradient: impl Iterator<Item = i64>, limit: i64) {
        for ((master, velocity), g) in self.master.iter_mut().zip(&mut self.velocity).zip(gradient)
        {
            let next = i64::from(*master) + rule.advance(velocity, g);
            *master = next.clamp(-limit, limit) as i32;
        }
    }
}

/// The released weights: all of them public under differential privacy.
#[derive(Clone, Debug)]
pub struct PublicModel {
    plan: GridPlan,
    step: u64,
    layers: Vec<Parameters>,
}

impl PublicModel {
    /// The public initialisation that the plan names.
    #[must_use]
    pub fn initial(plan: &GridPlan) -> Self {
        let flat = sphinx_nn::init::glorot(plan.network(), plan.literal().init_seed);
        Self::at(plan, &flat)
    }

    /// The weights of a flat parameter vector, rounded to the grid and limited to it.
    fn at(plan: &GridPlan, flat: &[f32]) -> Self {
        let layers = plan
            .network()
            .layout()
            .iter()
            .zip(plan.formats())
            .map(|(span, format)| Parameters {
                master: flat[span.weights.clone()]
                    .iter()
                    .map(|&w| {
                        let limit = format.master_limit() as i32;
                        crate::format::quantise(w, MASTER_SHIFT, limit)
                    })
                    .collect(),
                velocity: vec![0; span.weights.len()],
            })
            .collect();
        Self {
            plan: plan.clone(),
            step: 0,
            layers,
        }
    }

    /// Number of updates applied.
    #[must_use]
    pub const fn step(&self) -> u64 {
        self.step
    }

    /// The grids this model lives on.
    #[must_use]
    pub const fn plan(&self) -> &GridPlan {
        &self.plan
    }

    /// Applies one released update: the weight part, layer by layer in the network's order.
    ///
    /// # Errors
    /// [`Error::UpdateLength`] if the count is not the network's number of weights,
    /// [`Error::TooManySteps`] beyond [`LARGEST_STEP`]; the model is unchanged then.
    pub fn apply(&mut self, update: &Released) -> Result<(), Error> {
        let update = update.values();
        let expected = self.plan.weight_count();
        if update.len() != expected {
            return Err(Error::UpdateLength {
                expected,
                got: update.len(),
            });
        }
        if self.step >= LARGEST_STEP {
            return Err(Error::TooManySteps {
                step: self.step,
                limit: LARGEST_STEP,
            });
        }
        let rule = self.plan.literal().rule;
        let mut rest = update;
        for (layer, format) in self.layers.iter_mut().zip(self.plan.formats()) {
            let (mine, others) = rest.split_at(layer.master.len());
            rest = others;
            layer.apply(
                &rule,
                mine.iter().map(|&g| i64::from(g)),
                format.master_limit(),
            );
        }
        self.step += 1;
        Ok(())
    }

    /// The hash that names these weights.
    #[must_use]
    pub fn version(&self) -> ModelVersion {
        let mut hash = Sha256::new();
        hash.update(b"sphinx model");
        hash.update(self.plan.digest());
        hash.update(self.step.to_le_bytes());
        for layer in &self.layers {
            for w in &layer.master {
                hash.update(w.to_le_bytes());
            }
            for v in &layer.velocity {
                hash.update(v.to_le_bytes());
            }
        }
        ModelVersion(hash.finalize().into())
    }

    /// The weights as products use them, rounded to each layer's grid; row-major `[out][in]`.
    #[must_use]
    pub fn weights(&self, layer: usize) -> Vec<i32> {
        let shift = MASTER_SHIFT - self.plan.formats()[layer].w_shift;
        self.layers[layer]
            .master
            .iter()
            .map(|&w| shift_round(i128::from(w), shift) as i32)
            .collect()
    }

    /// An immutable copy for products.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            version: self.version(),
            step: self.step,
            layers: (0..self.layers.len())
                .map(|layer| self.weights(layer))
                .collect(),
        })
    }

    /// Everything needed to continue elsewhere: step, weights and velocities, all released values.
    #[must_use]
    pub fn export(&self) -> ReleasedModel {
        ReleasedModel {
            step: self.step,
            master: self
                .layers
                .iter()
                .flat_map(|l| l.master.iter().copied())
                .collect(),
            velocity: self
                .layers
                .iter()
                .flat_map(|l| l.velocity.iter().copied())
                .collect(),
        }
    }

    /// The model that [`Self::export`] described.
    ///
    /// # Errors
    /// [`Error::UpdateLength`] for a wrong count, [`Error::WeightOutOfRange`] for a weight beyond
    /// its grid.
    pub fn import(plan: &GridPlan, released: &ReleasedModel) -> Result<Self, Error> {
        let mut model = Self::initial(plan);
        let expected = plan.weight_count();
        for got in [released.master.len(), released.velocity.len()] {
            if got != expected {
                return Err(Error::UpdateLength { expected, got });
            }
        }
        let mut start = 0;
        for (layer, format) in model.layers.iter_mut().zip(plan.formats()) {
            let range = start..start + layer.master.len();
            start = range.end;
            layer
                .master
                .copy_from_slice(&released.master[range.clone()]);
            layer.velocity.copy_from_slice(&released.velocity[range]);
            let limit = format.master_limit();
            if let Some(&w) = layer.master.iter().find(|w| i64::from(**w).abs() > limit) {
                return Err(Error::WeightOutOfRange { weight: w, limit });
            }
        }
        if released.step > LARGEST_STEP {
            return Err(Error::TooManySteps {
                step: released.step,
                limit: LARGEST_STEP,
            });
        }
        model.step = released.step;
        Ok(model)
    }
}

/// A model as bytes may carry it: released values only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedModel {
    /// Number of updates applied.
    pub(crate) step: u64,
    /// Master weights, layer by layer.
    pub(crate) master: Vec<i32>,
    /// Velocities, layer by layer.
    pub(crate) velocity: Vec<i64>,
}

/// The weights of one version, ready for products.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    version: ModelVersion,
    step: u64,
    layers: Vec<Vec<i32>>,
}

impl Snapshot {
    /// Which weights these are.
    #[must_use]
    pub const fn version(&self) -> ModelVersion {
        self.version
    }

    /// Number of updates applied.
    #[must_use]
    pub const fn step(&self) -> u64 {
        self.step
    }

    /// Weights of one layer, row-major `[out][in]`.
    #[must_use]
    pub fn layer(&self, layer: usize) -> &[i32] {
        &self.layers[layer]
    }
}

/// The client's copy: the released weights, and the biases that never leave it in the clear.
///
/// Every field is a function of released values and public constants (the biases are updated from
/// noised gradients), which is what makes adaptive composition valid; unless the biases follow the
/// [published rule](PublishedBiases).
#[derive(Clone, Debug)]
pub struct Replica {
    public: PublicModel,
    biases: Vec<Parameters>,
    published: Option<PublishedBiases>,
    /// The last released update, in case the server has not received it.
    last: Option<Released>,
}

/// What one released update changed, as the client must send it.
#[derive(Debug)]
pub struct Change {
    /// The noised weight gradients, saturated to 32 bits: what the server is told.
    pub weights: Released,
    /// The change of every master bias: what the server is told only under encryption.
    pub biases: Vec<i64>,
}

impl Replica {
    /// Public initial weights, biases zero.
    #[must_use]
    pub fn initial(plan: &GridPlan) -> Self {
        let biases = plan
            .network()
            .layout()
            .iter()
            .map(|span| Parameters {
                master: vec![0; span.biases.len()],
                velocity: vec![0; span.biases.len()],
            })
            .collect();
        Self {
            public: PublicModel::initial(plan),
            biases,
            published: None,
            last: None,
        }
    }

    /// Other initial weights and biases than the plan's: `flat` holds the parameters as
    /// [`Network::layout`](sphinx_nn::Network::layout) has them, in units of 1. They count as
    /// released: they must not depend on private records.
    ///
    /// # Errors
    /// [`Error::UpdateLength`] if the count is not the network's number of parameters.
    pub fn starting_from(plan: &GridPlan, flat: &[f32]) -> Result<Self, Error> {
        let (expected, got) = (plan.network().parameter_count(), flat.len());
        if got != expected {
            return Err(Error::UpdateLength { expected, got });
        }
        let mut replica = Self::initial(plan);
        replica.public = PublicModel::at(plan, flat);
        for (span, layer) in plan.network().layout().iter().zip(&mut replica.biases) {
            for (master, &b) in layer.master.iter_mut().zip(&flat[span.biases.clone()]) {
                *master = crate::format::quantise(b, MASTER_SHIFT, BIAS_LIMIT as i32);
            }
        }
        Ok(replica)
    }

    /// The released part.
    #[must_use]
    pub const fn public(&self) -> &PublicModel {
        &self.public
    }

    /// The same model, its biases following the published rule from here on.
    ///
    /// # Errors
    /// [`Error::BiasRate`].
    pub fn publishing_biases(mut self) -> Result<Self, Error> {
        self.published = Some(PublishedBiases::of(&self.public.plan, &self.biases)?);
        Ok(self)
    }

    /// As [`Self::publishing_biases`], from kept [values](PublishedBiases::values).
    ///
    /// # Errors
    /// As [`Self::publishing_biases`]; [`Error::UpdateLength`] and [`Error::BiasOutOfRange`] for values that do
    /// not fit.
    pub fn publishing_biases_from(self, values: &[i64]) -> Result<Self, Error> {
        let mut replica = self.publishing_biases()?;
        if let Some(published) = &mut replica.published {
            published.restore(values)?;
            published.write(&mut replica.biases);
        }
        Ok(replica)
    }

    /// The biases by the published rule, if they follow it.
    #[must_use]
    pub const fn published(&self) -> Option<&PublishedBiases> {
        self.published.as_ref()
    }

    /// See [`PublishedBiases::pass_over`]; nothing by the default rule.
    pub(crate) fn pass_over(&self, layer: usize, d: &mut Integers) {
        if let Some(published) = &self.published {
            published.pass_over(layer, d);
        }
    }

    /// Notes output gradients of the step under way, for biases by the published rule.
    pub(crate) fn note_outputs(&mut self, layer: usize, d: &Integers) {
        if let Some(published) = &mut self.published {
            published.note(layer, d);
        }
    }

    /// A step begins: nothing of it was noted.
    pub(crate) fn begin_outputs(&mut self) {
        if let Some(published) = &mut self.published {
            published.forget();
        }
    }

    #[cfg(test)]
    fn step_published(&mut self) {
        if let Some(published) = &mut self.published {
            published.step(&mut self.biases);
        }
    }

    /// Applies one noised gradient sum over (W, b), in the network's parameter order. By the published rule
    /// what stands at the biases is not looked at: they take the step that was noted.
    ///
    /// # Errors
    /// [`Error::UpdateLength`] if the count is not the network's number of parameters.
    pub fn apply(&mut self, noised: &Noised) -> Result<Change, Error> {
        let plan = self.public.plan.clone();
        let (expected, got) = (plan.network().parameter_count(), noised.values().len());
        if got != expected {
            return Err(Error::UpdateLength { expected, got });
        }
        let spans = plan.network().layout();
        let weights = Released::from_noised(noised, spans.iter().flat_map(|s| s.weights.clone()));
        let before = self.master_biases();
        match &mut self.published {
            Some(published) => published.step(&mut self.biases),
            None => {
                for (span, layer) in spans.iter().zip(&mut self.biases) {
                    let gradient = Released::from_noised(noised, span.biases.clone());
                    let gradient = gradient.values().iter().map(|&g| i64::from(g));
                    layer.apply(&plan.literal().rule, gradient, BIAS_LIMIT);
                }
            }
        }
        let changes = self.master_biases().into_iter().zip(before);
        let changes = changes.map(|(a, b)| a - b).collect();
        self.public.apply(&weights)?;
        self.last = Some(weights.clone());
        Ok(Change {
            weights,
            biases: changes,
        })
    }

    /// The last released update with the step it belongs to, to be sent again if it was lost.
    #[must_use]
    pub fn last_update(&self) -> Option<(u64, Released)> {
        let step = self.public.step.checked_sub(1)?;
        self.last.as_ref().map(|released| (step, released.clone()))
    }

    /// Biases of one layer on the grid of that layer's products.
    #[must_use]
    pub fn biases(&self, layer: usize) -> Vec<i32> {
        let shift = MASTER_SHIFT - self.public.plan.formats()[layer].y_shift();
        self.biases[layer]
            .master
            .iter()
            .map(|&b| shift_round(i128::from(b), shift) as i32)
            .collect()
    }

    /// The master biases of all layers: what the server's encrypted backup holds.
    #[must_use]
    pub fn master_biases(&self) -> Vec<i64> {
        self.biases
            .iter()
            .flat_map(|l| l.master.iter().map(|&b| i64::from(b)))
            .collect()
    }

    /// A consistent copy of weights and biases for inference.
    #[must_use]
    pub fn freeze(&self) -> Arc<FrozenReplica> {
        Arc::new(FrozenReplica {
            snapshot: self.public.snapshot(),
            biases: (0..self.biases.len())
                .map(|layer| self.biases(layer))
                .collect(),
        })
    }

    /// Everything the client must keep to go on later; **contains the biases in the clear**.
    #[must_use]
    pub fn export_private(&self) -> PrivateModel {
        PrivateModel {
            released: self.public.export(),
            biases: self
                .biases
                .iter()
                .flat_map(|l| l.master.iter().copied())
                .collect(),
            bias_velocity: self
                .biases
                .iter()
                .flat_map(|l| l.velocity.iter().copied())
                .collect(),
        }
    }

    /// The replica that [`Self::export_private`] described.
    ///
    /// # Errors
    /// As [`PublicModel::import`], also for the biases.
    pub fn import_private(plan: &GridPlan, kept: &PrivateModel) -> Result<Self, Error> {
        let mut replica = Self::initial(plan);
        replica.public = PublicModel::import(plan, &kept.released)?;
        let expected = plan.bias_count();
        for got in [kept.biases.len(), kept.bias_velocity.len()] {
            if got != expected {
                return Err(Error::UpdateLength { expected, got });
            }
        }
        if let Some(&b) = kept
            .biases
            .iter()
            .find(|b| i64::from(**b).abs() > BIAS_LIMIT)
        {
            return Err(Error::WeightOutOfRange {
                weight: b,
                limit: BIAS_LIMIT,
            });
        }
        let mut start = 0;
        for layer in &mut replica.biases {
            let range = start..start + layer.master.len();
            start = range.end;
            layer.master.copy_from_slice(&kept.biases[range.clone()]);
            layer.velocity.copy_from_slice(&kept.bias_velocity[range]);
        }
        Ok(replica)
    }
}

/// One version of weights and biases, as the owner or a delegate uses it for inference.
#[derive(Debug)]
pub struct FrozenReplica {
    snapshot: Arc<Snapshot>,
    biases: Vec<Vec<i32>>,
}

impl FrozenReplica {
    /// The weights.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Biases of one layer on the grid of its products.
    #[must_use]
    pub fn biases(&self, layer: usize) -> &[i32] {
        &self.biases[layer]
    }
}

/// Updates after which a model takes no more: what the bound on the encrypted biases covers.
pub const LARGEST_STEP: u64 = 1 << 20;

/// Largest |master bias|: 8.0, so that the encrypted backup decodes exactly.
pub const BIAS_LIMIT: i64 = 8 << MASTER_SHIFT;

#[cfg(test)]
mod tests;
