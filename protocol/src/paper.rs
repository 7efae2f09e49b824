//! The published protocol of Sphinx: batch-axis packing in CKKS slots.
//!
//! One ciphertext carries one feature of all samples, slot `j` that of sample `j`; a batch above `N/2` goes in
//! several blocks. Per step the client uploads `[x_k]` of every layer, the server answers
//! `[y_i] = sum_k W_ik [x_k] + [b_i]` (products of ciphertexts with integers, no transform); then
//! from the last layer back the client uploads `[d_i]`, the server answers `[W^T d]` and, for every
//! weight, `[d_i] x [x_k]` (for a convolution summed over the positions): ciphertexts of degree two, never
//! relinearised. The client decrypts them with `(1, s, s^2)`, has the gradient of every sample, clips
//! each, sums and noises, and returns one plaintext update. Flags (R, L), levels and scales
//! are checked by [`sphinx_he::ckks`].
//!
//! - **Forward cache.** The client keeps the local derivatives of its non-linear steps (`sphinx_nn::pass`).
//! - **Zero encryption.** Uploads are plaintexts added to encryptions of zero that were prepared ahead and are
//!   refilled in the background ([`crate::zeros`]).
//! - **Zero decryption.** Results go down at the lowest level, one prime. **Deviation**: one division by the
//!   dropped prime stands before each download, because at one prime below 2^50 a product of two ciphertexts
//!   has no room for its scale; no operation follows it.
//! - **Bias.** By the default rule, a **deviation**, `(W, b)` are noised jointly and the server adds an encryption of
//!   the noised change to `[b_i]`. By the published rule ([`PaperLiteral::published_biases`]) the server sums `[d_i]` over
//!   positions and, by rotations, over slots, and takes the step itself; no privacy bound is proven for that
//!   ([`crate::model::PublishedBiases`]). **Deviation**: the rotations are at the highest level, before any division; at
//!   the lowest prime alone `[d]` would have no room for the learning rate, and a division before the sum
//!   would leave an error of half a step of `d` in every sum over slots. The special prime has the 23 bits that
//!   security leaves beside the two primes; where its errors are too large for so many steps, the degree
//!   is 8192 and it has 57 ([`published_parameters`]).
//! - **Integers.** **Deviation**: inputs, weights and output gradients are integers on the grids of
//!   [`crate::plan::GridPlan`], decoded slots are rounded to integers, and [`PaperPlan`] refuses parameters
//!   under which a rounding could fail. So a run equals [`crate::grid::Local`] bit for bit, and
//!   nothing of the encryption errors reaches a decrypted value.
//!
//! Memory: both sides work in tiles. The server keeps uploads as they came, in memory or, where they exceed
//! a gigabyte, in a temporary file without a name, and expands no more than 10,240
//! ciphertexts (1.3 GB) at a time. The client keeps the gradients of all samples as 32-bit integers: weights times rows
//! times four bytes, 92 MB for `minionn-mnist` at 688 rows, 200 MB for `minionn-cifar10` at 300.
//!
//! Source: Tian, Zeng, Ren, Chai, Zhang, Chen, Yang, *Sphinx: Enabling Privacy-Preserving Online
//! Learning over the Cloud*, IEEE S&P 2022, section IV as far as secondary sources tell it.

mod biases;
mod client;
mod exactness;
mod plan;
mod products;
mod server;
mod store;

pub use crate::work::StepCounts;
pub use client::Paper;
pub use plan::{PaperLiteral, PaperPlan, published_parameters, standard_parameters};
pub(crate) use products::Products;
pub(crate) use server::Session;

/// The level of all uploads: both primes.
const TOP: sphinx_he::ckks::Level = sphinx_he::ckks::Level(1);

#[cfg(test)]
pub(crate) mod tests;
