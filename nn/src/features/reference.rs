//! Features measured against procedural images: centred, and their maps partly decorrelated.
//!
//! Scattering maps are strongly correlated and have a common mean. Under clipping and noise both
//! cost accuracy: the mean takes part of every gradient's bounded norm and tells nothing, and
//! directions of little variance are learned slowly while the noise is the same in all. So
//!
//! `y = r A (x - mean)`, `A = C^-power` over the maps at each place, `r` such that `||y||^2` is
//! the number of features,
//!
//! with the mean (per feature) and the covariance `C` of the maps (over records and places) **of
//! procedural images**, [`synth_digits`] for one colour and [`synth_shapes`] for three: public
//! constants, drawn from a fixed seed. Nothing is estimated from the data set, so nothing is
//! released and nothing has to be paid for. With `power` 1/2 maps of the reference have covariance
//! one (whitening); 1/4 goes half of the way.
//!
//! Normalising by statistics of the *private* set is the usual way (Tramer and Boneh, ICLR 2021,
//! appendix B), and is a release with a price.

use rayon::prelude::*;

use super::{FeatureError, symmetric};
use crate::data::{synth_digits, synth_shapes};
use crate::gemm::{LANES, Left, Rows, Start, Step, Steps, multiply_at};
use crate::network::ImageShape;
use crate::tensor::Tensor;

/// Reference images.
const RECORDS: usize = 2000;
/// Their seed: fixed for good, since features depend on it.
const SEED: u64 = 0x5350_4849;
/// Eigenvalues of the covariance below this share of the largest count as that.
const FLOOR: f64 = 1e-4;
/// Places of the covariance that one task adds up.
const BLOCK: usize = 16;

/// The reference images for images of this shape.
pub(super) fn images(input: ImageShape) -> Result<Tensor, FeatureError> {
    let sets = [synth_digits::generate, synth_shapes::generate];
    let fitting = sets.into_iter().find(|set| set(SEED, 0).shape == input);
    match fitting {
        Some(set) => Ok(set(SEED, RECORDS).images),
        None => Err(FeatureError::NoReference {
            channels: input.channels,
            height: input.height,
            width: input.width,
        }),
    }
}

/// The planned map.
#[derive(Clone, Debug)]
pub(super) struct Decorrelation {
    maps: usize,
    places: usize,
    mean: Vec<f32>,
    /// `A`, rows padded to whole vectors.
    matrix: Vec<f32>,
    width: usize,
    rows: Rows,
    steps: Steps,
}

impl Decorrelation {
    /// The map of power `power` for features of shape `shape`, from those of the reference images.
    pub(super) fn new(shape: ImageShape, reference: &Tensor, power: f64) -> Self {
        let (maps, places) = (shape.channels, shape.height * shape.width);
        assert_eq!(reference.columns(), maps * places, "reference features");
        let mean = mean(reference);
        let covariance = covariance(reference, &mean, (maps, places));
        let power = symmetric::inverse_power(covariance, maps, power, FLOOR);
        let width = maps.next_multiple_of(LANES);
        let mut matrix = vec![0.0; maps * width];
        for (to, from) in matrix.chunks_exact_mut(width).zip(power.chunks_exact(maps)) {
            to.iter_mut().zip(from).for_each(|(t, f)| *t = *f as f32);
        }
        let step = |map: usize| Step {
            x: (map * places) as u32,
            b: (map * width) as u32,
        };
        Self {
            maps,
            places,
            mean,
            matrix,
            width,
            rows: Rows::new((0..places as u32).collect()),
            steps: Steps::new((0..maps).map(step).collect()),
        }
    }

    /// Replaces every row.
    pub(super) fn apply(&self, features: &mut Tensor) {
        let columns = self.maps * self.places;
        assert_eq!(features.columns(), columns, "features");
        features
            .as_mut_slice()
            .par_chunks_exact_mut(columns)
            .for_each_init(
                || vec![0.0; self.places * self.width],
                |product, row| self.apply_to(row, product),
            );
    }

    fn apply_to(&self, row: &mut [f32], product: &mut [f32]) {
        row.iter_mut().zip(&self.mean).for_each(|(v, m)| *v -= m);
        // The transpose: places x maps.
        let left = Left::all(row, &self.rows, &self.steps);
        multiply_at(left, &self.matrix, self.width, Start::Zero, product);
        let norm = crate::ghost::squared_norm(product);
        let scale = match norm > 0.0 {
            true => ((row.len() as f64) / norm).sqrt() as f32,
            false => 0.0,
        };
        for (map, to) in row.chunks_exact_mut(self.places).enumerate() {
            let from = product[map..].iter().step_by(self.width);
            to.iter_mut().zip(from).for_each(|(t, f)| *t = f * scale);
        }
    }
}

fn mean(features: &Tensor) -> Vec<f32> {
    let mut sum = vec![0.0_f64; features.columns()];
    for i in 0..features.rows() {
        let row = sum.iter_mut().zip(features.row(i));
        row.for_each(|(s, v)| *s += f64::from(*v));
    }
    let count = features.rows().max(1) as f64;
    sum.into_iter().map(|s| (s / count) as f32).collect()
}

/// The covariance of the maps, over records and places.
fn covariance(features: &Tensor, mean: &[f32], (maps, places): (usize, usize)) -> Vec<f64> {
    // Per task a block of maps: their covariances with all maps, records in order.
    let mut result = vec![0.0; maps * maps];
    result
        .par_chunks_mut(BLOCK * maps)
        .enumerate()
        .for_each(|(block, sums)| {
            let mut centred = vec![0.0; maps * places];
            for i in 0..features.rows() {
                let values = features.row(i).iter().zip(mean);
                let centre = centred.iter_mut().zip(values);
                centre.for_each(|(c, (v, m))| *c = f64::from(v - m));
                for (a, sums) in sums.chunks_exact_mut(maps).enumerate() {
                    let a = block * BLOCK + a;
                    let left = &centred[a * places..(a + 1) * places];
                    for (sum, right) in sums.iter_mut().zip(centred.chunks_exact(places)) {
                        *sum += dot(left, right);
                    }
                }
            }
        });
    let count = (features.rows() * places).max(1) as f64;
    result.iter_mut().for_each(|v| *v /= count);
    result
}

/// A scalar product in eight fixed lanes.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = left.remainder().iter().zip(right.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 3,
        height: 2,
        width: 2,
    };

    fn some_features(rows: usize) -> Tensor {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let mut x = Tensor::zeros(rows, 12);
        for i in 0..rows {
            for place in 0..4 {
                let (a, b, c) = (next(), next(), next());
                // Correlated maps of different means.
                for (map, v) in [a + 1.0, a + 0.5 * b, 0.3 * a + 0.2 * c - 2.0]
                    .iter()
                    .enumerate()
                {
                    x.row_mut(i)[map * 4 + place] = *v;
                }
            }
        }
        x
    }

    #[test]
    fn power_one_half_whitens_the_reference() {
        let mut x = some_features(400);
        let plan = Decorrelation::new(SHAPE, &x, 0.5);
        plan.apply(&mut x);
        let zero = vec![0.0; 12];
        let c = covariance(&x, &zero, (3, 4));
        for (i, v) in c.iter().enumerate() {
            // Up to the rescaling of each record, which changes little here.
            let expected = f64::from(u8::from(i / 3 == i % 3));
            assert!((v - expected).abs() < 0.15, "{c:?}");
        }
        assert!(mean(&x).iter().all(|m| m.abs() < 0.1));
    }

    #[test]
    fn rows_have_the_norm_of_the_root_of_their_number() {
        let mut x = some_features(9);
        Decorrelation::new(SHAPE, &some_features(50), 0.25).apply(&mut x);
        for i in 0..9 {
            assert!((crate::ghost::squared_norm(x.row(i)) - 12.0).abs() < 1e-4);
        }
    }

    /// The slow twin: the same map by plain sums.
    #[test]
    fn the_map_is_what_its_formula_says() {
        let reference = some_features(60);
        let plan = Decorrelation::new(SHAPE, &reference, 0.25);
        let mean = mean(&reference);
        let c = covariance(&reference, &mean, (3, 4));
        let a = symmetric::inverse_power(c, 3, 0.25, FLOOR);
        let x = some_features(5);
        let mut got = x.clone();
        plan.apply(&mut got);
        for i in 0..5 {
            let mut want = [0.0_f64; 12];
            for (n, w) in want.iter_mut().enumerate() {
                let (map, place) = (n / 4, n % 4);
                *w = (0..3)
                    .map(|k| {
                        a[map * 3 + k] * f64::from(x.row(i)[k * 4 + place] - mean[k * 4 + place])
                    })
                    .sum();
            }
            let scale = (12.0 / want.iter().map(|v| v * v).sum::<f64>()).sqrt();
            for (g, w) in got.row(i).iter().zip(want) {
                assert!((f64::from(*g) - w * scale).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn shapes_without_a_reference_are_named() {
        let error = images(SHAPE).unwrap_err().to_string();
        assert!(error.contains("3 x 2 x 2"), "{error}");
    }
}
