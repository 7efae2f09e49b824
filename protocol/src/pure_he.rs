//! The baseline that Sphinx is compared with: training with everything encrypted.
//!
//! `[W]` and `[b]` live at the server under the client's key, one ciphertext per parameter, the same number in all
//! slots; inputs and output gradients are packed along the batch as in [`crate::paper`], and activations are
//! the client's. Every product is one of two ciphertexts. The update needs no client: `[d] x [x]` is summed over
//! the slots by rotations and added to `[W]`. There is no differential privacy, since nothing is
//! released; whoever decrypts the model has it as it is.
//!
//! Two styles: [`Style::Eager`] relinearises and rescales after every product, as libraries of
//! encrypted tensors do; [`Style::Lazy`] sums products of degree two first and does both once per sum.
//! In both, a single product is divided once by the special prime and the last one together, uploads are seeded,
//! results go down at the lowest level, and a batch of `m` rows repeats its `m` slots (rounded up to a power of two) so
//! that a sum over slots takes `log2 m` rotations: neither is slowed.
//!
//! Levels: with `L = 3` every step costs one; after three the client decrypts the parameters and
//! encrypts them afresh, which is counted. Scales: `[W]`, `[b]` and `[d]` have `2^40`, `[x]` that of the prime that a
//! rescale takes off, so that sums and parameters meet at `2^40` without a product of their own; `[d]`
//! carries the factor `-lr / batch`.
//!
//! [`PureHe`] is the client, at the other end of a [`crate::link::Link`]; the server is a state machine of
//! [`crate::party`]. The bytes are those of the wire. [`PureHePlan::counts`] has the operations of a step by
//! formula, [`PureHe::work`] as the server counted them.
//!
//! [`ImageModel`] is pure-HE inference in its classic form: one encrypted image, polynomial activations,
//! one message each way.
//!
//! Source: the baseline of Tian et al., IEEE S&P 2022, as secondary sources describe it: CKKS, `N = 2^13`,
//! `L >= 3`, activations at the client.

mod client;
mod image;
mod operands;
mod plan;
mod server;
mod sums;

use serde::{Deserialize, Serialize};
use sphinx_he::rlwe::{ParametersLiteral, Security};

pub use client::{Inputs, PureHe};
pub use image::{ImageKeys, ImageModel, image_parameters};
pub use plan::{PureHeLiteral, PureHePlan};
pub(crate) use server::Session;

/// log2 of the scale of parameters and output gradients.
const LOG2_SCALE: u8 = 40;

/// When products are relinearised and rescaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// After every product.
    Eager,
    /// Once per sum of products.
    Lazy,
}

impl Style {
    /// The name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Lazy => "lazy",
        }
    }
}

/// `N = 8192`, four primes (`L = 3`) and a special one: 214 of 214 bits.
#[must_use]
pub fn standard_parameters() -> ParametersLiteral {
    ParametersLiteral {
        log_n: 13,
        log_q: vec![50, 40, 40, 40],
        log_p: vec![44],
        error_std_dev: 3.2,
        security: Security::Classical128,
    }
}

#[cfg(test)]
mod tests;
