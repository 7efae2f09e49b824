//! The Sphinx protocol: a client trains and queries a network that one curious server computes.
//!
//! # Who holds what
//!
//! | | client | server |
//! |---|---|---|
//! | data, labels, losses, batch membership | yes | never |
//! | secret key | yes | never |
//! | biases `b` | in clear | only as a ciphertext |
//! | weights `W` | a replica of the released values | in clear, differentially private |
//! | activations `x`, output gradients `d` | in clear | as ciphertexts, or masked |
//!
//! # The rooms, from the bottom up
//!
//! - [`mod@format`] fixed point: how real numbers become the integers that every engine agrees on.
//! - [`model`] the weights both parties keep, and the integer update rule they both apply.
//! - [`plan`] everything public about a run, checked at birth (shapes, parameters, exactness).
//! - [`grid`] integer DP-SGD, with the linear algebra left to a [`grid::Multiplier`].
//! - [`packed`] a multiplier whose products are computed by the server on ciphertexts.
//! - [`paper`] a multiplier for the published protocol, one ciphertext per feature.
//! - [`pure_he`] the baseline with encrypted weights, no privacy budget and no plaintext release.
//! - [`shared`] private inference: masks prepared under encryption, an online phase without it.
//! - [`zeros`] encryptions of zero that clients make ahead.
//! - [`message`], [`codec`], [`transport`] what crosses the wire, its bytes, and the wire.
//! - [`party`] the server as a state machine without IO; [`link`] the client's end of the wire.
//! - [`serve`] sockets and threads around the state machine; [`train`] the one private loop.
//! - [`work`] what a server computed, counted; [`view`] what it saw, for tests and teaching.
//!
//! # Laws
//!
//! 1. The only plaintext about training data that leaves the client is a clipped, noised gradient
//!    entered in the privacy ledger: a [`message::Released`] is built from a
//!    [`sphinx_dp::mechanism::Noised`] and from nothing else.
//! 2. Every encrypted run gives the trajectory of [`grid::Local`], bit for bit.
//! 3. The sizes and the order of all frames follow from the public [`plan::Plan`] alone.

pub mod codec;
pub mod error;
pub mod format;
pub mod grid;
pub mod link;
pub mod message;
pub mod model;
pub mod packed;
pub mod paper;
pub mod party;
pub mod plan;
pub mod pure_he;
pub mod serve;
pub mod shared;
pub mod train;
pub mod transport;
pub mod view;
pub mod work;
pub mod zeros;

pub use error::Error;

#[cfg(test)]
pub(crate) mod fixture;
