//! synth-digits: procedural 28 x 28 handwritten-like digits, any number of them.
//!
//! No person wrote these images and no data set was used: each is drawn from a table of pen
//! strokes (several styles per digit) and random numbers. Record `i` depends on
//! `(seed, i)` alone, so a set can be regenerated, extended or generated in parallel, with the
//! same bytes on every platform: only IEEE additions, multiplications, divisions and square
//! roots are used, no library functions.
//!
//! Per record: a digit and a style; jitter of the control points; a spline through them; a smooth
//! (elastic) displacement; stretch, shear, rotation and shift; a pen of varying width and
//! softness; pixel noise; rounding to bytes.
//!
//! The variation is tuned so that the set behaves like MNIST does: a linear softmax model stays
//! below 95 % of test accuracy, a 784-64-10 network passes 97 %, and a few dozen SGD steps of a
//! 784-32-10 network pass 92 %; the crate's tests check all three.
//!
//! Test records come from other random streams than training records of the same seed.
//!
//! ```
//! use sphinx_nn::data::synth_digits::generate;
//! let set = generate(1, 100);
//! assert_eq!((set.images.rows(), set.images.columns(), set.classes), (100, 784, 10));
//! assert_eq!(set.images.row(7), generate(1, 8).images.row(7));
//! ```

use super::procedural::Procedure;
use super::{Dataset, LoadOptions, Split};
use crate::init::stream;
use crate::network::ImageShape;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

mod glyphs;
mod pen;

/// Pixels along one side.
const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;
const CLASSES: usize = 10;
/// As many records as MNIST has.
const SET: Procedure<[u8; PIXELS]> = Procedure {
    name: "synth-digits",
    shape: ImageShape {
        channels: 1,
        height: SIDE,
        width: SIDE,
    },
    classes: CLASSES,
    sizes: (60_000, 10_000),
    record,
};

/// The first `count` training records of `seed`.
pub fn generate(seed: u64, count: usize) -> Dataset {
    SET.generate(seed, count)
}

/// The first records of both parts, by default 60,000 and 10,000.
pub(super) fn split(options: &LoadOptions) -> Split {
    SET.split(options)
}

/// One record: its bytes and its digit.
fn record(seed: u64, number: u64) -> ([u8; PIXELS], u8) {
    let mut rng = stream(*b"sphinx synth-digits\0\0\0\0\0", seed);
    rng.set_stream(number);
    let mut dice = Dice(rng);
    let digit = dice.below(CLASSES);
    let styles = glyphs::styles(digit);
    let style = styles[dice.below(styles.len())];
    let image = pen::write(style, &mut dice);
    (image, digit as u8)
}

/// Random numbers of one record.
pub(super) struct Dice(pub(super) ChaCha8Rng);

impl Dice {
    /// Uniform below `n`, up to a bias of `n 2^-32`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// Uniform in `(-1, 1)`, a multiple of `2^-24`.
    pub(super) fn flat(&mut self) -> f32 {
        let u = (self.0.next_u32() >> 8) as i32;
        (2 * u + 1 - (1 << 24)) as f32 * (1.0 / 16_777_216.0)
    }

    /// In `(-1, 1)`, middling values likelier: the mean of two uniform ones.
    pub(super) fn bell(&mut self) -> f32 {
        0.5 * (self.flat() + self.flat())
    }

    /// Uniform between two numbers.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (0.5 + 0.5 * self.flat())
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests;
