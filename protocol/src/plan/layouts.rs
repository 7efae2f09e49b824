//! The layouts that a plan names, checked: they fit their ring, and have the products that they serve.

use sphinx_he::rlwe::Parameters;
use sphinx_nn::network::Network;

use super::{LocalPhase, Phase, PlanLiteral};
use crate::error::Error;
use crate::packed::layout::{Layout, Tiling};

/// One layout per linear layer.
pub(super) fn lay_out(
    network: &Network,
    parameters: &Parameters,
    rows: usize,
    tilings: &[Tiling],
) -> Result<Vec<Layout>, Error> {
    let layers = network.linears();
    if tilings.len() != layers.len() {
        return Err(Error::TilingCount {
            expected: layers.len(),
            got: tilings.len(),
        });
    }
    let degree = parameters.degree();
    layers
        .iter()
        .zip(tilings)
        .enumerate()
        .map(|(layer, (shape, &tiling))| {
            Layout::new(degree, shape, rows, tiling).ok_or(Error::TilingTooLarge {
                layer,
                tiling,
                degree,
            })
        })
        .collect()
}

/// A scalar layout serves inputs whose gradient the client keeps.
pub(super) fn check_kinds(literal: &PlanLiteral) -> Result<(), Error> {
    let kept = |layer| {
        let phase = Phase::Gradient;
        literal.local.contains(&LocalPhase { phase, layer })
    };
    let scalar = literal.tilings.iter().enumerate();
    let mut scalar = scalar.filter(|&(layer, &t)| t == Tiling::Scalar && !kept(layer));
    match scalar.next() {
        Some((layer, _)) => Err(Error::NoGradient { layer }),
        None => Ok(()),
    }
}

/// The layouts of `W^T d`: those of the other products unless the plan says otherwise.
pub(super) fn lay_out_backward(
    literal: &PlanLiteral,
    parameters: &Parameters,
    layouts: &[Layout],
) -> Result<Vec<Layout>, Error> {
    let (degree, layers) = (parameters.degree(), layouts.len());
    let mut backward = layouts.to_vec();
    for (&layer, &tiling) in &literal.backward_tilings {
        if layer == 0 || layer >= layers {
            let phase = Phase::Backward;
            return Err(Error::LocalPhase {
                phase,
                layer,
                layers,
            });
        }
        let own = layouts[layer].with(tiling);
        backward[layer] = own.ok_or(Error::TilingTooLarge {
            layer,
            tiling,
            degree,
        })?;
    }
    Ok(backward)
}
