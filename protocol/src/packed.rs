//! Training with every product computed by the server on ciphertexts.
//!
//! Inputs and output gradients travel as integers in the coefficients of freshly encrypted
//! polynomials ([`layout`]); one packing serves forward, backward and gradient. The server
//! multiplies with its plaintext weights or with another ciphertext, drops a prime, and returns
//! only the useful coefficients; the client decrypts **exact integers**. There is no key switching
//! and no evaluation key: ciphertexts of degree two go down as they are.
//!
//! Clipping happens at the client before encryption, so that only the clipped *sum* is returned.
//!
//! # Checks
//!
#![doc = include_str!("../proofs/checks.md")]

pub mod estimate;
pub mod layout;
pub mod transforms;

mod client;
mod offline;
mod pace;
mod scalar;
mod server;
mod verify;

#[cfg(test)]
pub(crate) use client::encrypt_level;
pub use client::{Packed, PhaseTimes};
pub(crate) use client::{encrypt, open_result, seed};
pub(crate) use pace::Clock;
pub use pace::{PhaseWork, ServerSeconds, phases};
pub(crate) use server::{Memory, Prepared, StepWork, finish, mask_products, numbered, open};

use serde::{Deserialize, Serialize};

use crate::message::Place;
use crate::plan::Plan;

/// Lets the allocator keep what is freed.
///
/// A step takes and frees polynomials by the thousand. The allocator of `sphinx` keeps them anyway; for programs
/// with that of the system: the C library on Linux hands the top of its
/// heaps back to the system whenever 128 KiB are free there, and every page returns through a
/// fault; from the largest mapped block freed so far, up to 32 MiB, it learns to keep more. The
/// block freed here is never touched, so it costs nothing.
pub(crate) fn keep_freed_memory() {
    drop(std::hint::black_box(vec![0_u8; 31 << 20]));
}

/// One upload of a training step, in the public order of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
pub fn script(plan: &Plan) -> Vec<(Upload, Place)> {
    let layers = plan.layouts().len();
    let forward = (0..layers).map(|l| (Upload::Activation, l));
    let backward = (1..layers).rev().map(|l| (Upload::OutputGradient, l));
    let gradient = (0..layers).rev().map(|l| (Upload::ClippedGradient, l));
    forward
        .chain(backward)
        .chain(gradient)
        .flat_map(|(upload, layer)| {
            places(plan, upload, layer)
                .into_iter()
                .map(move |p| (upload, p))
        })
        .collect()
}

/// The uploads of one layer and phase: chunk by chunk and tile by tile; for the gradient tile by
/// tile and chunk by chunk, so that each tile's sum over all chunks is complete early.
pub(crate) fn places(plan: &Plan, upload: Upload, layer: usize) -> Vec<Place> {
    let layout = plan.layout(upload, layer);
    let (inputs, outputs, chunks) = (layout.input_tiles(), layout.output_tiles(), layout.chunks());
    // Inputs serve forward and gradient.
    let needless = plan.is_local(upload, layer)
        && (upload != Upload::Activation || plan.is_local(Upload::ClippedGradient, layer));
    if needless {
        return Vec::new();
    }
    match upload {
        Upload::Activation => tile_places(layer, chunks, inputs).collect(),
        Upload::OutputGradient => tile_places(layer, chunks, outputs).collect(),
        Upload::ClippedGradient => transposed(layer, outputs, chunks).collect(),
    }
}

/// All places of a layer, chunk by chunk.
pub(crate) fn tile_places(
    layer: usize,
    chunks: usize,
    tiles: usize,
) -> impl Iterator<Item = Place> {
    (0..chunks as u32).flat_map(move |chunk| {
        (0..tiles as u32).map(move |tile| Place {
            layer: layer as u16,
            chunk,
            tile,
        })
    })
}

/// All places of a layer, tile by tile.
pub(crate) fn transposed(layer: usize, tiles: usize, chunks: usize) -> impl Iterator<Item = Place> {
    tile_places(layer, tiles, chunks).map(|p| Place {
        chunk: p.tile,
        tile: p.chunk,
        ..p
    })
}

#[cfg(test)]
pub(crate) mod tests;
