//! The part of a plan that every integer engine shares: the network, its grids, the clip bound and
//! the update rule. It says nothing about ciphertexts; [`super::Plan`] adds them.
//!
//! Two engines with equal grid plans and equal seeds compute the same integers, so a model's
//! version ([`crate::model::ModelVersion`]) depends on this part alone: weights trained in the clear and under
//! encryption carry the same name.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sphinx_nn::network::{Architecture, LayerSpec, LinearKind, LinearShape, Network};

use super::{Limits, PlanChoices, bias_bound, check};
use crate::error::Error;
use crate::format::{LayerFormat, formats};
use crate::model::StepRule;

/// What the client clips, sample by sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clipping {
    /// The output gradients, before they are multiplied: only the clipped sum is computed.
    #[default]
    Factors,
    /// The finished gradient of every sample, as in the published protocol.
    Samples,
}

impl Clipping {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature serde asks for"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What people write down of the grids: unchecked, serialisable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridLiteral {
    /// The network.
    pub architecture: Architecture,
    /// Rows of every batch, from the tail of the Poisson draw.
    pub capacity: usize,
    /// Fraction bits of the gradient grid shared by all parameters.
    pub gradient_shift: u32,
    /// L2 bound of one sample's gradient over all (W, b), in units of the gradient grid.
    pub clip_bound: u64,
    /// The update rule both parties apply.
    pub rule: StepRule,
    /// Seed of the public initialisation.
    pub init_seed: u64,
    /// What is clipped.
    #[serde(default, skip_serializing_if = "Clipping::is_default")]
    pub clipping: Clipping,
}

impl GridLiteral {
    /// Derives the gradient grid and the integer rule from real choices.
    ///
    /// # Errors
    /// [`Error::Architecture`], [`Error::StepSize`] for impossible constants and
    /// [`Error::ClipBound`] for a bound that leaves no usable gradient grid.
    pub fn design(choices: &PlanChoices) -> Result<Self, Error> {
        Network::new(&choices.architecture)?;
        let gradient_shift = gradient_shift(choices.clip_bound, choices.capacity)?;
        Ok(Self {
            architecture: choices.architecture.clone(),
            capacity: choices.capacity,
            gradient_shift,
            clip_bound: (choices.clip_bound * f64::from(gradient_shift).exp2()).floor() as u64,
            rule: StepRule::new(
                choices.learning_rate,
                choices.momentum,
                choices.divisor,
                gradient_shift,
            )?,
            init_seed: choices.init_seed,
            clipping: Clipping::Factors,
        })
    }

    /// The same grids with the gradients of samples clipped.
    #[must_use]
    pub fn clipping_samples(self) -> Self {
        Self {
            clipping: Clipping::Samples,
            ..self
        }
    }
}

/// The finest gradient grid, of at most 20 fraction bits, whose clipped sum stays below 2^29 units.
fn gradient_shift(clip_bound: f64, capacity: usize) -> Result<u32, Error> {
    let sum = clip_bound * capacity as f64;
    let shift = 29.0 - sum.log2().ceil();
    if sum > 0.0 && (10.0..=1e3).contains(&shift) {
        Ok((shift as u32).min(20))
    } else {
        Err(Error::ClipBound {
            clip_bound,
            capacity,
        })
    }
}

/// Checked grids of a network. Cheap to clone; equal if and only if the literals are.
#[derive(Clone, Debug)]
pub struct GridPlan(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    literal: GridLiteral,
    network: Network,
    formats: Vec<LayerFormat>,
    digest: [u8; 32],
}

impl PartialEq for GridPlan {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl GridPlan {
    /// Checks a literal: dense layers, convolutions, pooling, every activation and normalisation
    /// without learned scales have a grid.
    ///
    /// # Errors
    /// Names the first thing that is wrong: the network, a limit, a rule, or sums that would leave
    /// the integers they are computed in ([`Error::SumTooLarge`]).
    pub fn new(literal: &GridLiteral, limits: &Limits) -> Result<Self, Error> {
        let network = Network::new(&literal.architecture)?;
        check_layers(&literal.architecture)?;
        check_limits(literal, &network, limits)?;
        let formats = formats(&network);
        for (layer, (shape, format)) in network.linears().iter().zip(&formats).enumerate() {
            check_sums(layer, shape, format)?;
        }
        Ok(Self(Arc::new(Checked {
            literal: literal.clone(),
            network,
            formats,
            digest: super::digest(b"sphinx grid 2", literal)?,
        })))
    }

    /// The literal this was built from.
    #[must_use]
    pub fn literal(&self) -> &GridLiteral {
        &self.0.literal
    }

    /// The checked network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// Grids, one per linear layer.
    #[must_use]
    pub fn formats(&self) -> &[LayerFormat] {
        &self.0.formats
    }

    /// SHA-256 of the canonical literal.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest
    }

    /// Rows of every batch.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.literal.capacity
    }

    /// Number of weights (without biases).
    #[must_use]
    pub fn weight_count(&self) -> usize {
        let spans = self.0.network.layout().iter();
        spans.map(|span| span.weights.len()).sum()
    }

    /// Number of biases.
    #[must_use]
    pub fn bias_count(&self) -> usize {
        let spans = self.0.network.layout().iter();
        spans.map(|span| span.biases.len()).sum()
    }
}

/// The update rule knows weights and biases only, no learned scales of a normalisation.
fn check_layers(architecture: &Architecture) -> Result<(), Error> {
    let mut layers = architecture.layers.iter().copied().enumerate();
    let learned = |spec: &LayerSpec| matches!(spec, LayerSpec::GroupNorm { affine: true, .. });
    match layers.find(|(_, spec)| learned(spec)) {
        Some((layer, found)) => Err(Error::UnsupportedLayer { layer, found }),
        None => Ok(()),
    }
}

fn check_limits(literal: &GridLiteral, network: &Network, limits: &Limits) -> Result<(), Error> {
    check("parameters", network.parameter_count(), limits.parameters)?;
    check("batch capacity", literal.capacity, limits.rows)?;
    check(
        "gradient fraction bits",
        literal.gradient_shift as usize,
        26,
    )?;
    let least = formats(network)
        .iter()
        .map(|f| f.x_shift)
        .max()
        .unwrap_or(0);
    if literal.gradient_shift < least {
        return Err(Error::GradientGrid {
            got: literal.gradient_shift,
            least,
        });
    }
    check("step shift", literal.rule.shift as usize + 1, 64)?;
    check(
        "momentum units",
        literal.rule.momentum as usize + 1,
        1 << 16,
    )?;
    check(
        "clip bound",
        usize::try_from(literal.clip_bound).unwrap_or(usize::MAX),
        1 << 40,
    )
}

/// Largest |`W x + b`| of a layer, in units of its product grid.
pub(crate) fn forward_bound(shape: &LinearShape, format: &LayerFormat) -> f64 {
    let (fan_in, _) = shape.fans();
    fan_in as f64 * f64::from(format.x_limit) * f64::from(format.w_limit)
        + bias_bound(format) as f64
}

/// Largest |`W^T d`| of a layer, in units of its backward grid.
pub(crate) fn backward_bound(shape: &LinearShape, format: &LayerFormat) -> f64 {
    let (_, fan_out) = shape.fans();
    fan_out as f64 * f64::from(format.d_limit) * f64::from(format.w_limit)
}

/// Products are stored in 32 bits. A convolution's gradient of one sample is summed over the positions in
/// double precision, which holds integers below 2^53 exactly.
fn check_sums(layer: usize, shape: &LinearShape, format: &LayerFormat) -> Result<(), Error> {
    let positions = match shape.kind {
        LinearKind::Dense => 1,
        LinearKind::Conv(conv) => conv.positions(),
    };
    let gradient = positions as f64 * f64::from(format.x_limit) * f64::from(format.g_limit);
    let sums = [
        (forward_bound(shape, format), 31_u32),
        (backward_bound(shape, format), 31),
        (gradient, 53),
    ];
    for (bound, bits) in sums {
        if bound >= f64::from(bits).exp2() - 1.0 {
            return Err(Error::SumTooLarge {
                layer,
                log2_bound: bound.log2(),
                bits,
            });
        }
    }
    Ok(())
}
