//! What a training step will cost: counted, and timed by a short calibration.
//!
//! [`counts`] follows the script of uploads and gives ciphertexts, products and bytes of every
//! layer and phase; bytes are those on the wire, exactly. [`Calibration::measure`] runs each kind of
//! work a few times on all cores of this machine: encrypting, taking, products of the shapes of this
//! network, finishing, decrypting, frames over a socket, and the client's own arithmetic by the
//! oracle of its grids. [`Prediction::new`] multiplies, and says how long the two parties need
//! together, on one machine or two ([`Hosts`]).
//!
//! A step is `forward`, `backward`, `gradient` (exchanges with the server, in which both compute at
//! once), `update` (the released gradient and the biases), `release` (noise) and `rest` (batch,
//! activations, loss, clipping): the phases that a run measures.

use serde::{Deserialize, Serialize};
use sphinx_he::exact::{SeededCiphertext, SelectedCiphertext};

use super::client::{positions, replies};
use super::layout::Tiling;
use super::{Upload, places};
use crate::message::{Place, Returned, Sealed, ToClient, ToServer};
use crate::plan::{Plan, Tightness};

mod calibrate;
mod own;
mod predict;
mod units;

pub use calibrate::Calibration;
pub use own::{LayerWork, OwnWork, Spent};
pub use predict::{Hosts, PhaseForecast, Prediction, StepSeconds};
pub use units::{PhaseTime, PhaseUnits, UnitTimes};

/// Bytes that announce the length of a frame.
const FRAME: usize = 4;

/// What one phase of one layer takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseCounts {
    /// Index of the linear layer.
    pub layer: usize,
    /// What is sent up.
    pub upload: Upload,
    /// Level of the uploads: the primes they carry, less one.
    pub level: usize,
    /// Ciphertexts sent up.
    pub uploads: usize,
    /// Ciphertexts sent down.
    pub downloads: usize,
    /// Products at the server.
    pub products: usize,
    /// Whether they are products with integers and not with polynomials.
    #[serde(default)]
    pub scalar: bool,
    /// Weight polynomials prepared at the server.
    pub weights: usize,
    /// Bytes sent up.
    pub bytes_up: usize,
    /// Bytes sent down.
    pub bytes_down: usize,
    /// Numbers packed into uploads.
    pub values_up: usize,
    /// Numbers read from results.
    pub values_down: usize,
    /// Whether the client computes the product itself.
    pub local: bool,
    /// Results of the last group of uploads: nothing else is left to do while they are read.
    pub last: usize,
}

/// Every phase of a step with weights of this tightness, in the order of the script.
#[must_use]
pub fn counts(plan: &Plan, tightness: &[Tightness]) -> Vec<PhaseCounts> {
    let layers = plan.layouts().len();
    let forward = (0..layers).map(|l| (Upload::Activation, l));
    let backward = (1..layers).rev().map(|l| (Upload::OutputGradient, l));
    let gradient = (0..layers).rev().map(|l| (Upload::ClippedGradient, l));
    let phases = forward.chain(backward).chain(gradient);
    phases
        .map(|(upload, layer)| phase(plan, upload, layer, tightness[layer]))
        .collect()
}

fn phase(plan: &Plan, upload: Upload, layer: usize, tightness: Tightness) -> PhaseCounts {
    let (layout, parameters) = (plan.layout(upload, layer), plan.parameters());
    let passage = plan.passage(upload, layer, tightness);
    let uploads = places(plan, upload, layer).len();
    let local = plan.is_local(upload, layer);
    let replies = match local {
        true => Vec::new(),
        false => replies(layout, upload, layer),
    };
    let form = passage.returned;
    let (mut bytes_down, mut values_down) = (0, 0);
    for at in &replies {
        let count = positions(layout, upload, *at).len();
        let (degree, cut) = (form.degree, form.truncation);
        let size = SelectedCiphertext::wire_size_bare(parameters, 0, degree, count, cut);
        bytes_down += overhead(false) + size;
        values_down += count;
    }
    let up = overhead(true) + SeededCiphertext::wire_size(parameters, passage.level);
    let pairs = layout.input_tiles() * layout.output_tiles();
    let scalar = layout.tiling() == Tiling::Scalar;
    let products = match upload {
        Upload::ClippedGradient => pairs * layout.chunks(),
        _ => layout.forward_products(),
    };
    let shape = plan.network().linears()[layer];
    let width = match upload {
        Upload::Activation => shape.inputs,
        _ => shape.outputs,
    };
    PhaseCounts {
        layer,
        upload,
        level: passage.level,
        uploads,
        downloads: replies.len(),
        products: if local { 0 } else { products },
        scalar,
        weights: if local || scalar || form.degree != 1 {
            0
        } else {
            pairs
        },
        bytes_up: uploads * up,
        bytes_down,
        values_up: if uploads > 0 {
            plan.capacity() * width
        } else {
            0
        },
        values_down,
        local,
        last: if local { 0 } else { layout.last_group(upload) },
    }
}

/// Bytes around a ciphertext.
fn overhead(up: bool) -> usize {
    let (layer, chunk, tile) = (0, 0, 0);
    let place = Place { layer, chunk, tile };
    FRAME
        + if up {
            let empty = Sealed::received(Vec::new());
            ToServer::Activation(place, empty).to_bytes().len()
        } else {
            let empty = Returned::received(Vec::new());
            ToClient::ForwardProduct(place, empty).to_bytes().len()
        }
}

#[cfg(test)]
mod tests;
