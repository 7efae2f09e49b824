//! The Renyi accountant: add up Renyi divergences, convert once at the end.
//!
//! One step of DP-SGD is the Poisson-sampled Gaussian mechanism; [`poisson_gaussian`] gives its
//! Renyi divergence at any real order above one. Divergences of composed steps add up (Mironov
//! 2017, *Renyi Differential Privacy*, Proposition 1), and [`RdpAccountant`] converts the sum to
//! an epsilon by the best real order between 1.005 and 2001.
//!
//! Sources: Mironov, Talwar, Zhang 2019, *Renyi Differential Privacy of the Sampled Gaussian
//! Mechanism* (arXiv:1908.10530), Theorems 4 and 5 and section 3.3; conversion by Canonne, Kamath,
//! Steinke 2020, *The Discrete Gaussian for Differential Privacy*, Proposition 12 (in v4 of
//! arXiv:2004.00010), which is Theorem 21 of Balle et al. 2020 (arXiv:1905.09982).
//!
//! What must be true: every value is an upper bound up to a stated relative rounding margin of
//! 1e-11 that is added on top ([`poisson_gaussian`]). Tested against 40-digit quadrature, against
//! the closed form at rate one, and integer orders against real ones.
//!
//! ```
//! use sphinx_dp::rdp;
//!
//! // Sampling at rate one is the plain Gaussian: order / (2 z^2).
//! let full = rdp::poisson_gaussian(1.0, 2.0, 3.5)?;
//! assert!((full - 3.5 / 8.0).abs() < 1e-9);
//! // Sampling one record in a hundred costs about a ten-thousandth of that.
//! assert!(rdp::poisson_gaussian(0.01, 2.0, 3.5)? < 2e-4 * full);
//! # Ok::<(), sphinx_dp::RangeError>(())
//! ```
#![doc = include_str!("../proofs/rdp_conversion.md")]

mod account;
mod divergence;
mod fixed;
mod pair;

pub(crate) use account::convert;
pub use account::{MAX_ORDER, MIN_ORDER, RdpAccountant};
pub use divergence::poisson_gaussian;

#[cfg(test)]
mod tests;
