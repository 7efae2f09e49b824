//! The exactness inequality of every product of a plan (PACKING section 3).
//!
//! A result is an exact integer unless its decoding error reaches half a step, or its scaled
//! value half the modulus. Bounds are worst cases over all weights, inputs and clipped gradients
//! that the grids allow, and over every secret key that key generation accepts.

use std::fmt;

use serde::{Deserialize, Serialize};
use sphinx_he::exact::Encoding;
use sphinx_he::exact::budget::{self, Margin};
use sphinx_he::rlwe::SecretNorms;
use sphinx_nn::network::LinearKind;

use super::grid::{backward_bound, forward_bound};
use super::{Checked, LOG2_SCALE_BIAS, LOG2_SCALE_D, LOG2_SCALE_X};
use crate::error::Error;
use crate::model::{BIAS_LIMIT, LARGEST_STEP};

/// log2 of the number of coefficients ever decoded under one key that the union bound covers.
pub const LOG2_COEFFICIENTS: f64 = 40.0;
/// log2 of the accepted probability that any of them decodes wrongly.
pub const LOG2_FAILURE: f64 = -128.0;
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
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Gradient => "gradient",
            Self::Mask => "mask",
            Self::Backup => "bias backup",
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

pub(super) fn analyse(plan: &Checked) -> Result<Vec<Exactness>, Error> {
    let norms = SecretNorms::largest(plan.parameters.degree());
    let mut rows = Vec::new();
    for layer in 0..plan.grid.formats().len() {
        rows.push(Exactness::new(
            layer,
            Phase::Forward,
            &forward(plan, norms, layer)?,
        ));
        if layer > 0 {
            rows.push(Exactness::new(
                layer,
                Phase::Backward,
                &backward(plan, norms, layer)?,
            ));
        }
        rows.push(Exactness::new(
            layer,
            Phase::Gradient,
            &gradient(plan, norms, layer)?,
        ));
        rows.push(Exactness::new(
            layer,
            Phase::Mask,
            &mask(plan, norms, layer)?,
        ));
    }
    let encoding = Encoding::scaled(1 << LOG2_SCALE_BIAS);
    let backup = budget::linear(
        &plan.parameters,
        norms,
        1,
        encoding,
        1,
        BACKUP_UPDATES,
        BIAS_LIMIT as f64,
        1,
    )?;
    rows.push(Exactness::new(0, Phase::Backup, &backup));
    Ok(rows)
}

fn forward(plan: &Checked, norms: SecretNorms, layer: usize) -> Result<Margin, Error> {
    let (format, layout) = (&plan.grid.formats()[layer], &plan.layouts[layer]);
    let shape = plan.grid.network().linears()[layer];
    let w = f64::from(format.w_limit);
    let sum = forward_bound(&shape, format);
    let norm = layout.forward_weight_count() as f64 * w * w;
    let encoding = Encoding::scaled(1 << LOG2_SCALE_X);
    let factor = super::factor(&plan.literal, LOG2_SCALE_X);
    Ok(budget::linear(
        &plan.parameters,
        norms,
        1,
        encoding,
        factor,
        norm,
        sum,
        1,
    )?)
}

fn backward(plan: &Checked, norms: SecretNorms, layer: usize) -> Result<Margin, Error> {
    let (format, layout) = (&plan.grid.formats()[layer], &plan.layouts[layer]);
    let shape = plan.grid.network().linears()[layer];
    let w = f64::from(format.w_limit);
    let sum = backward_bound(&shape, format);
    let norm = layout.backward_weight_count() as f64 * w * w;
    let encoding = Encoding::scaled(1 << LOG2_SCALE_D);
    let factor = super::factor(&plan.literal, LOG2_SCALE_D);
    Ok(budget::linear(
        &plan.parameters,
        norms,
        1,
        encoding,
        factor,
        norm,
        sum,
        1,
    )?)
}

fn gradient(plan: &Checked, norms: SecretNorms, layer: usize) -> Result<Margin, Error> {
    let (format, layout) = (&plan.grid.formats()[layer], &plan.layouts[layer]);
    let rows = plan.grid.capacity() as f64;
    let clip = plan.literal.grid.clip_bound as f64;
    let x = f64::from(format.x_limit);
    // Row by row d saturates. That of a dense layer is at most clip / 2^x_shift long, because the
    // bias counts as an input of one; in a convolution positions may cancel.
    let saturated = layout.outputs_in_tile() as f64 * f64::from(format.g_limit).powi(2);
    let (d_norm, entry) = match plan.grid.network().linears()[layer].kind {
        LinearKind::Dense => {
            let d = clip * (-f64::from(format.x_shift)).exp2();
            (saturated.min(d * d), clip.min(x * d))
        }
        LinearKind::Conv(_) => (saturated, clip),
    };
    let x_norm = rows * layout.inputs_in_tile() as f64 * x * x;
    Ok(budget::product(
        &plan.parameters,
        norms,
        1 << LOG2_SCALE_X,
        1 << LOG2_SCALE_D,
        x_norm,
        rows * d_norm,
        layout.chunks() as f64,
        rows * entry,
        1,
    )?)
}

fn mask(plan: &Checked, norms: SecretNorms, layer: usize) -> Result<Margin, Error> {
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
    let encoding = Encoding::Modular {
        log_t: plan.literal.mask_bits,
    };
    Ok(budget::linear(
        &plan.parameters,
        norms,
        1,
        encoding,
        1,
        norm,
        0.0,
        1,
    )?)
}
