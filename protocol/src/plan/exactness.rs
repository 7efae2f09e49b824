//! The exactness inequality of every product of a plan (PACKING section 3).
//!
//! A result is an exact integer unless its decoding error reaches half a step, or its scaled
//! value half the modulus. Bounds are worst cases over all weights, inputs and clipped gradients
//! that the grids allow, and over every secret key that key generation accepts.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use sphinx_he::exact::Encoding;
use sphinx_he::exact::budget::{self, Margin};
use sphinx_he::rlwe::{Parameters, SecretNorms};
use sphinx_nn::network::LinearKind;

use super::grid::{backward_bound, forward_bound};
use super::returns::{Cut, LayerReturns, Return, choose, plain};
use super::tight::longest;
use super::{Checked, Scales};
use crate::error::Error;
use crate::model::{BIAS_LIMIT, LARGEST_STEP};
use crate::packed::layout::Layout;

/// log2 of the number of coefficients ever decoded under one key that the union bound covers.
pub const LOG2_COEFFICIENTS: f64 = 40.0;
/// log2 of the accepted probability that any of them decodes wrongly.
pub const LOG2_FAILURE: f64 = -128.0;
/// log2 of the largest factor of weights, and by how much it may stay below the usual one.
const LARGEST_FACTOR: u32 = 40;
const BELOW_USUAL: u32 = 8;
/// Updates whose encryption errors may add up in the bias backup.
const BACKUP_UPDATES: f64 = LARGEST_STEP as f64 + 1.0;

/// A product of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// `W x`
    Forward,
    /// `W^T d`
    Backward,
    /// `sum d x^T`
    Gradient,
    /// `W r` for an inference mask `r`
    Mask,
    /// the sum of all encrypted bias updates
    Backup,
    /// `W x` by [short](super::Tightness) weights
    TightForward,
    /// `W^T d` by short weights
    TightBackward,
}

impl Phase {
    /// The product, in whichever form it travels.
    pub(super) const fn loose(self) -> Self {
        match self {
            Self::TightForward => Self::Forward,
            Self::TightBackward => Self::Backward,
            other => other,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Gradient => "gradient",
            Self::Mask => "mask",
            Self::Backup => "bias backup",
            Self::TightForward => "forward, short weights",
            Self::TightBackward => "backward, short weights",
        })
    }
}

/// How far one product is from decoding wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exactness {
    /// Index of the linear layer.
    pub layer: usize,
    /// Which product.
    pub phase: Phase,
    /// Standard deviation of the decoding error, in integer steps.
    pub std_dev: f64,
    /// log2 of the ratio between half the modulus and the largest scaled value.
    pub log2_headroom: f64,
    /// log2 of the probability that any of 2^40 coefficients decodes wrongly.
    pub log2_failure: f64,
}

impl Exactness {
    fn new(layer: usize, phase: Phase, margin: &Margin) -> Self {
        Self {
            layer,
            phase,
            std_dev: margin.std_dev,
            log2_headroom: margin.log2_headroom,
            log2_failure: margin.log2_failure(LOG2_COEFFICIENTS.exp2()),
        }
    }

    /// Whether the failure probability is at most `2^log2_target` and nothing can wrap around.
    #[must_use]
    pub fn holds(&self, log2_target: f64) -> bool {
        self.log2_headroom > 0.0 && self.log2_failure <= log2_target
    }
}

/// Every product of a plan: how far it is from failing, and how its results come back.
#[derive(Debug)]
pub(super) struct Analysis {
    pub(super) rows: Vec<Exactness>,
    pub(super) returns: Vec<LayerReturns>,
    pub(super) backup: Return,
}

pub(super) fn analyse(plan: &Checked, inexact: bool) -> Result<Analysis, Error> {
    let norms = SecretNorms::largest(plan.parameters.degree());
    let scales = Scales::of(&plan.parameters);
    let analyst = Analyst {
        plan,
        norms,
        scales,
        inexact,
    };
    let mut rows = Vec::new();
    let mut returns = Vec::new();
    for layer in 0..plan.grid.formats().len() {
        let (forward, y) = analyst.forward(layer)?;
        let (backward, dx) = analyst.backward(layer)?;
        let (gradient, g) = analyst.gradient(layer)?;
        let (mask, r) = analyst.mask(layer)?;
        let tight_forward = analyst.tight(Phase::TightForward, layer)?;
        let tight_backward = analyst.tight(Phase::TightBackward, layer)?;
        let mut products = vec![
            (Phase::Forward, y),
            (Phase::Backward, dx),
            (Phase::Gradient, g),
            (Phase::Mask, r),
        ];
        products.extend(tight_forward.map(|(_, margin)| (Phase::TightForward, margin)));
        products.extend(tight_backward.map(|(_, margin)| (Phase::TightBackward, margin)));

        let backward_phase = [Phase::Backward, Phase::TightBackward];
        let local = |phase: Phase| {
            let mut local = plan.literal.local.iter();
            local.any(|kept| kept.layer == layer && kept.phase == phase.loose())
        };
        let used = |phase: &Phase| (layer > 0 || !backward_phase.contains(phase)) && !local(*phase);
        rows.extend(
            products
                .iter()
                .filter(|(phase, _)| used(phase))
                .map(|(phase, margin)| Exactness::new(layer, *phase, margin)),
        );
        returns.push(LayerReturns {
            forward,
            backward,
            gradient,
            mask,
            tight_forward: tight_forward.as_ref().map(|(returned, _)| *returned),
            tight_backward: tight_backward.map(|(returned, _)| returned),
        });
    }
    let (backup, margin) = analyst.backup()?;
    rows.push(Exactness::new(0, Phase::Backup, &margin));
    Ok(Analysis {
        rows,
        returns,
        backup,
    })
}

/// Evaluates the inequality of one plan.
struct Analyst<'a> {
    plan: &'a Checked,
    norms: SecretNorms,
    scales: Scales,
    inexact: bool,
}

impl Analyst<'_> {
    fn decide(
        &self,
        degree: usize,
        scale: Option<u32>,
        log2_factors: RangeInclusive<u32>,
        margin_of: impl Fn(u64) -> Result<Margin, Error>,
    ) -> Result<(Return, Margin), Error> {
        let (p, norms) = (&self.plan.parameters, self.norms);
        let choice = if self.inexact {
            let usual = scale.map_or(0, |scale| self.scales.usual_factor(scale));
            plain(usual.min(*log2_factors.end()), margin_of)?
        } else {
            choose((p, norms), degree, Cut::EXACT, log2_factors, margin_of)?
        };
        let encoding = match scale {
            Some(scale) => dropped(p, scale + choice.log2_factor),
            None => self.plan.mask_encoding(),
        };
        let returned = Return {
            degree,
            factor: 1 << choice.log2_factor,
            encoding,
            truncation: choice.truncation,
        };
        Ok((returned, choice.margin))
    }

    fn forward(&self, layer: usize) -> Result<(Return, Margin), Error> {
        let (grid, layout) = (&self.plan.grid, &self.plan.layouts[layer]);
        let sum = forward_bound(&grid.network().linears()[layer], &grid.formats()[layer]);
        self.linear(layer, self.scales.x, layout.forward_weight_count(), sum)
    }

    fn backward(&self, layer: usize) -> Result<(Return, Margin), Error> {
        let (grid, layout) = (&self.plan.grid, &self.plan.backward_layouts[layer]);
        let sum = backward_bound(&grid.network().linears()[layer], &grid.formats()[layer]);
        self.linear(layer, self.scales.d, layout.backward_weight_count(), sum)
    }

    /// A product of at most `weights` weights with what is encrypted at a scale of `2^scale`.
    fn linear(
        &self,
        layer: usize,
        scale: u32,
        weights: usize,
        sum: f64,
    ) -> Result<(Return, Margin), Error> {
        let w = f64::from(self.plan.grid.formats()[layer].w_limit);
        let norm = weights as f64 * w * w;
        let encoding = Encoding::scaled(1 << scale);
        let least = self.scales.usual_factor(scale).saturating_sub(BELOW_USUAL);
        self.decide(
            1,
            Some(scale),
            least..=LARGEST_FACTOR.max(least),
            |factor| {
                let (p, norms) = (&self.plan.parameters, self.norms);
                Ok(budget::linear(p, norms, 1, encoding, factor, norm, sum, 1)?)
            },
        )
    }

    /// A product by short weights: by Cauchy and Schwarz no sum is above the length of the weights
    /// of one result times that of what they meet. Nothing where it would not be exact. A plan
    /// that may fail on purpose takes these products so far that they do.
    fn tight(&self, phase: Phase, layer: usize) -> Result<Option<(Return, Margin)>, Error> {
        let p = &self.plan.parameters;
        let (norm, sum) = self.short(phase, layer);
        let (cut, target) = if self.inexact {
            (Cut::VISIBLE, f64::INFINITY)
        } else {
            (Cut::EXACT, LOG2_FAILURE)
        };
        // Forward, inputs are those of the gradient as well: two primes, and their scale. Backward,
        // one prime, and a scale that takes the place of a factor.
        let forward = phase == Phase::TightForward;
        let least = self.scales.usual_factor(self.scales.x);
        let least = if forward {
            least.saturating_sub(BELOW_USUAL)
        } else {
            1
        };
        let factors = least..=LARGEST_FACTOR.max(least);
        let choice = choose((p, self.norms), 1, cut, factors, |factor| {
            let (level, encoding, factor) = if forward {
                (1, Encoding::scaled(1 << self.scales.x), factor)
            } else {
                (0, Encoding::scaled(factor.into()), 1)
            };
            let norms = self.norms;
            Ok(budget::linear(
                p, norms, level, encoding, factor, norm, sum, level,
            )?)
        })?;
        let (factor, encoding) = if forward {
            let scale = self.scales.x + choice.log2_factor;
            (1 << choice.log2_factor, dropped(p, scale))
        } else {
            (1, Encoding::scaled(1 << choice.log2_factor))
        };
        let returned = Return {
            degree: 1,
            factor,
            encoding,
            truncation: choice.truncation,
        };
        let row = Exactness::new(layer, phase, &choice.margin);
        Ok(row.holds(target).then_some((returned, choice.margin)))
    }

    /// The squared length of the weights that one result polynomial meets, and the largest sum.
    fn short(&self, phase: Phase, layer: usize) -> (f64, f64) {
        let grid = &self.plan.grid;
        let tiling = |layouts: &[Layout]| layouts[layer].tiling();
        let format = &grid.formats()[layer];
        let (fan_in, fan_out) = grid.network().linears()[layer].fans();
        let (fan, limit, results) = match phase {
            Phase::TightForward => {
                let results = tiling(&self.plan.layouts).outputs_per_tile();
                (fan_in, format.x_limit, results)
            }
            _ => {
                let results = tiling(&self.plan.backward_layouts).inputs_per_tile();
                (fan_out, format.d_limit, results)
            }
        };
        let root = (fan as f64).sqrt();
        let length = longest(format).min(root * f64::from(format.w_limit));
        let sum = root * f64::from(limit) * length;
        (results as f64 * length * length, sum)
    }

    fn gradient(&self, layer: usize) -> Result<(Return, Margin), Error> {
        let (plan, scales) = (self.plan, self.scales);
        let (format, layout) = (&plan.grid.formats()[layer], &plan.layouts[layer]);
        let rows = plan.grid.capacity() as f64;
        let clip = plan.literal.grid.clip_bound as f64;
        let x = f64::from(format.x_limit);
        // Row by row d saturates. That of a dense layer is at most clip / 2^x_shift long, because
        // the bias counts as an input of one; in a convolution positions may cancel. In a stream
        // some entries stand in several chunks.
        let saturated = layout.outputs_in_chunks() as f64 * f64::from(format.g_limit).powi(2);
        let (d_norm, entry) = match plan.grid.network().linears()[layer].kind {
            LinearKind::Dense => {
                let d = clip * (-f64::from(format.x_shift)).exp2();
                (saturated.min(rows * d * d), clip.min(x * d))
            }
            LinearKind::Conv(_) => (saturated, clip),
        };
        let x_norm = rows * layout.inputs_in_tile() as f64 * x * x;
        self.decide(2, Some(scales.x + scales.d), 0..=0, |_| {
            Ok(budget::product(
                &plan.parameters,
                self.norms,
                1 << scales.x,
                1 << scales.d,
                x_norm,
                d_norm,
                layout.chunks() as f64,
                rows * entry,
                1,
            )?)
        })
    }

    fn mask(&self, layer: usize) -> Result<(Return, Margin), Error> {
        let plan = self.plan;
        let (format, layout) = (&plan.grid.formats()[layer], &plan.ticket_layouts[layer]);
        let shape = plan.grid.network().linears()[layer];
        let w = f64::from(format.w_limit);
        let online = forward_bound(&shape, format);
        let half = f64::from(plan.literal.mask_bits - 1).exp2();
        if online >= half {
            return Err(Error::MaskTooNarrow {
                layer,
                mask_bits: plan.literal.mask_bits,
                log2_bound: online.log2(),
            });
        }
        let norm = layout.forward_weight_count() as f64 * w * w;
        let encoding = plan.mask_encoding();
        self.decide(1, None, 0..=0, |_| {
            let (p, norms) = (&plan.parameters, self.norms);
            Ok(budget::linear(p, norms, 1, encoding, 1, norm, 0.0, 1)?)
        })
    }

    fn backup(&self) -> Result<(Return, Margin), Error> {
        let scale = self.scales.bias;
        let encoding = Encoding::scaled(1 << scale);
        self.decide(1, Some(scale), 0..=0, |_| {
            let (p, norms) = (&self.plan.parameters, self.norms);
            let largest = BIAS_LIMIT as f64;
            Ok(budget::linear(
                p,
                norms,
                1,
                encoding,
                1,
                BACKUP_UPDATES,
                largest,
                1,
            )?)
        })
    }
}

/// `2^log2_scale` after the prime drop.
fn dropped(parameters: &Parameters, log2_scale: u32) -> Encoding {
    let last = parameters.moduli().last();
    Encoding::Scaled {
        numerator: 1 << log2_scale,
        denominator: last.map_or(1, |q| u128::from(q.value())),
    }
}
