//! Computations of many operations: sums over slots, matrices, polynomials.
//!
//! Sits above the evaluator. [`sum_slots`] adds slots by repeated doubling; [`DiagonalMatrix`]
//! multiplies a vector of slots by a matrix, by its diagonals in baby and giant steps over hoisted
//! rotations; [`Polynomial`] evaluates polynomials in the power or the Chebyshev basis after
//! Paterson and Stockmeyer.

mod matrix;
mod polynomial;
mod sums;

pub use matrix::DiagonalMatrix;
pub use polynomial::{Basis, Polynomial};
pub use sums::{sum_slots, sum_steps};
