//! synth-shapes: procedural 3 x 32 x 32 colour images of ten kinds of shapes.
//!
//! A shape of random size, place, turn and colour before a background of another colour with a
//! gradient, stripes across both, and pixel noise. Colours say nothing about the class, and shape
//! and ground are close in brightness in part of the records, so that a linear model of the pixels
//! stays far from perfect: the crate's tests hold it below 60 % (chance is 10 %).
//!
//! | label | shape | label | shape |
//! |---|---|---|---|
//! | 0 | disc | 5 | cross |
//! | 1 | ring | 6 | crescent |
//! | 2 | square | 7 | two discs |
//! | 3 | triangle | 8 | bar |
//! | 4 | half disc | 9 | frame |
//!
//! Record `i` depends on `(seed, i)` alone, with the same bytes on every platform: IEEE
//! additions, multiplications, divisions and square roots only. Test records come from other
//! random streams than training records of the same seed.
//!
//! ```
//! use sphinx_nn::data::synth_shapes::generate;
//! let set = generate(1, 20);
//! assert_eq!((set.images.rows(), set.images.columns(), set.classes), (20, 3072, 10));
//! assert_eq!(set.images.row(7), generate(1, 8).images.row(7));
//! ```

use super::procedural::Procedure;
use super::synth_digits::Dice;
use super::{Dataset, LoadOptions, Split};
use crate::init::stream;
use crate::network::ImageShape;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const CLASSES: usize = 10;
/// As many records as CIFAR-10 has.
const SET: Procedure<Vec<u8>> = Procedure {
    name: "synth-shapes",
    shape: ImageShape {
        channels: 3,
        height: SIDE,
        width: SIDE,
    },
    classes: CLASSES,
    sizes: (50_000, 10_000),
    record,
};

/// The first `count` training records of `seed`.
pub fn generate(seed: u64, count: usize) -> Dataset {
    SET.generate(seed, count)
}

/// The first records of both parts, by default 50,000 and 10,000.
pub(super) fn split(options: &LoadOptions) -> Split {
    SET.split(options)
}

/// One record: its bytes and its class.
fn record(seed: u64, number: u64) -> (Vec<u8>, u8) {
    let mut rng = stream(*b"sphinx synth-shapes\0\0\0\0\0", seed);
    rng.set_stream(number);
    let mut dice = Dice(rng);
    let class = dice.below(CLASSES);
    (paint(class, &mut dice), class as u8)
}

/// Where a shape lies: pixels to its own coordinates, in which it fills about `[-1, 1]^2`.
struct Pose {
    centre: (f32, f32),
    across: (f32, f32),
    down: (f32, f32),
    /// Pixels per unit.
    size: f32,
}

impl Pose {
    fn new(dice: &mut Dice) -> Self {
        let size = dice.between(6.0, 11.0);
        let stretch = dice.between(0.85, 1.18);
        // The half-angle form of a rotation needs no library function; up to 90 degrees each way.
        let t = dice.flat();
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let middle = 0.5 * (SIDE - 1) as f32;
        Self {
            centre: (middle + 6.0 * dice.flat(), middle + 6.0 * dice.flat()),
            across: (cos / (size * stretch), sin / (size * stretch)),
            down: (-sin * stretch / size, cos * stretch / size),
            size,
        }
    }

    fn own(&self, x: f32, y: f32) -> (f32, f32) {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let along = |axis: (f32, f32)| dx * axis.0 + dy * axis.1;
        (along(self.across), along(self.down))
    }
}

/// How far a point lies outside the shape, about; negative inside. In the shape's own units.
fn outside(class: usize, x: f32, y: f32) -> f32 {
    let radius = (x * x + y * y).sqrt();
    let boxed = |w: f32, h: f32| (x.abs() - w).max(y.abs() - h);
    match class {
        0 => radius - 0.9,
        1 => (radius - 0.75).abs() - 0.22,
        2 => boxed(0.8, 0.8),
        // Three half planes.
        3 => (y - 0.6).max(0.866 * x.abs() - 0.5 * y - 0.5),
        4 => (radius - 1.0).max(y - 0.1),
        5 => boxed(1.0, 0.28).min(boxed(0.28, 1.0)),
        6 => (radius - 0.95).max(0.75 - ((x - 0.45) * (x - 0.45) + y * y).sqrt()),
        7 => {
            let x = x.abs() - 0.6;
            (x * x + y * y).sqrt() - 0.45
        }
        8 => boxed(1.1, 0.3),
        _ => boxed(0.85, 0.85).max(-boxed(0.5, 0.5)),
    }
}

fn paint(class: usize, dice: &mut Dice) -> Vec<u8> {
    let pose = Pose::new(dice);
    let mut colour = || [0; 3].map(|_: u8| dice.between(0.1, 0.9));
    let (ink, ground, tint) = (colour(), colour(), colour());
    let (slope, stripes) = (0.25 * dice.flat(), dice.between(0.0, 0.25));
    let (wave, turn) = (dice.between(0.15, 0.6), dice.flat());
    let grain = dice.between(0.02, 0.12) / 128.0;
    let mut bytes = vec![0; 3 * PLANE];
    dice.fill(&mut bytes);
    for place in 0..PLANE {
        let (px, py) = ((place % SIDE) as f32, (place / SIDE) as f32);
        let (x, y) = pose.own(px, py);
        let inside = (0.5 - outside(class, x, y) * pose.size).clamp(0.0, 1.0);
        let light =
            slope * (px + turn * py) / SIDE as f32 + stripes * triangle(wave * (py - turn * px));
        let colours = ink.iter().zip(ground.iter().zip(&tint));
        for (channel, (ink, (ground, tint))) in colours.enumerate() {
            let under = ground + light * (tint - 0.3);
            let over = ink + 0.5 * light;
            let byte = &mut bytes[channel * PLANE + place];
            let noise = grain * (f32::from(*byte) - 127.5);
            let value = under + inside * (over - under) + noise;
            *byte = (255.0 * value.clamp(0.0, 1.0) + 0.5) as u8;
        }
    }
    bytes
}

/// A wave of straight lines between -1 and 1 with period 4.
fn triangle(x: f32) -> f32 {
    let phase = x - 4.0 * (0.25 * x).floor();
    (phase - 2.0).abs() - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clear, ClearConfig, Network, Train, architectures, init, metrics, pass};

    #[test]
    fn records_depend_on_seed_and_number_alone() {
        let (all, few) = (generate(11, 60), generate(11, 7));
        assert_eq!(all.labels[..7], few.labels);
        assert_eq!(all.images.row(6), few.images.row(6));
        assert_ne!(all.images.row(0), generate(12, 1).images.row(0));
        let options = LoadOptions {
            train: Some(60),
            test: Some(60),
            seed: 11,
        };
        let split = split(&options);
        assert_eq!(split.train, all);
        let test = &split.test.images;
        assert!((0..60).all(|i| (0..60).all(|j| test.row(i) != all.images.row(j))));
    }

    /// Fixed for good: a change of this number is a change of the data set.
    #[test]
    fn the_set_is_pinned() {
        let set = generate(1, 64);
        let sum = set
            .images
            .as_slice()
            .iter()
            .enumerate()
            .fold(0_u64, |sum, (i, v)| {
                sum.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add((v * 255.0).round() as u64 + i as u64)
            });
        assert_eq!(sum, 17_267_133_326_565_346_955);
    }

    /// The promise of the module's documentation.
    #[test]
    fn a_linear_model_does_not_saturate() {
        let options = LoadOptions {
            train: Some(6_000),
            test: Some(2_000),
            seed: 1,
        };
        let split = split(&options);
        let set = &split.train;
        let architecture = architectures::by_name("linear", set.shape, 10).unwrap();
        let network = Network::new(&architecture).unwrap();
        let config = ClearConfig {
            learning_rate: 0.01,
            momentum: 0.9,
            divisor: 128.0,
            ..ClearConfig::default()
        };
        let mut engine = Clear::new(&network, init::glorot(&network, 1), config).unwrap();
        for step in 0..400_usize {
            let rows: Vec<u32> = (0..128)
                .map(|i| ((step * 128 + i) % 6_000) as u32)
                .collect();
            let labels: Vec<_> = rows.iter().map(|i| Some(set.labels[*i as usize])).collect();
            engine.begin(step as u64, 128).unwrap();
            let x = set.images.gather(&rows, 128);
            let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
            let sum = engine.collect(pass.pending).unwrap();
            engine.apply(&sum.values, sum.shift).unwrap();
        }
        let logits = pass::infer(&mut engine, &network, &split.test.images).unwrap();
        let accuracy = metrics::accuracy(&logits, &split.test.labels);
        println!("synth-shapes, linear: {accuracy:.4}");
        assert!(accuracy < 0.6, "{accuracy}");
    }
}
