//! Training with every product computed by the server on ciphertexts.
//!
//! Inputs and output gradients travel as integers in the coefficients of freshly encrypted
//! polynomials ([`layout`]); one packing serves forward, backward and gradient. The server
//! multiplies with its plaintext weights or with another ciphertext, drops a prime, and returns
//! only the useful coefficients; the client decrypts **exact integers**. There is no key switching
//! and no evaluation key: ciphertexts of degree two go down as they are.
//!
//! Clipping happens at the client before encryption, so that only the clipped *sum* is returned.

pub mod layout;

mod client;
mod server;

pub use client::{Packed, PhaseTimes};
pub(crate) use client::{encrypt, open_result, seed};
pub(crate) use server::{Prepared, StepWork, chunk_forward, numbered, open};

use crate::plan::Plan;

/// One upload of a training step, in the public order of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// An input tile.
    Activation,
    /// An output tile for the backward product.
    OutputGradient,
    /// A clipped output tile for the gradient.
    ClippedGradient,
}

/// The uploads of one step: what, layer, chunk, tile. A function of the plan alone.
#[must_use]
pub fn script(plan: &Plan) -> Vec<(Upload, crate::message::Place)> {
    let layers = plan.layouts().len();
    let forward = (0..layers).map(|l| (Upload::Activation, l));
    let backward = (1..layers).rev().map(|l| (Upload::OutputGradient, l));
    let gradient = (0..layers).rev().map(|l| (Upload::ClippedGradient, l));
    forward
        .chain(backward)
        .chain(gradient)
        .flat_map(|(upload, layer)| places(plan, upload, layer).map(move |p| (upload, p)))
        .collect()
}

/// The uploads of one layer and phase: chunk by chunk, tile by tile.
pub(crate) fn places(
    plan: &Plan,
    upload: Upload,
    layer: usize,
) -> impl Iterator<Item = crate::message::Place> {
    let layout = &plan.layouts()[layer];
    let tiles = match upload {
        Upload::Activation => layout.input_tiles(),
        Upload::OutputGradient | Upload::ClippedGradient => layout.output_tiles(),
    };
    tile_places(layer, layout.chunks(), tiles)
}

/// All places of a layer, chunk by chunk.
pub(crate) fn tile_places(
    layer: usize,
    chunks: usize,
    tiles: usize,
) -> impl Iterator<Item = crate::message::Place> {
    (0..chunks as u32).flat_map(move |chunk| {
        (0..tiles as u32).map(move |tile| crate::message::Place {
            layer: layer as u16,
            chunk,
            tile,
        })
    })
}
