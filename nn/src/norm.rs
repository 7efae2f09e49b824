//! Group normalisation: each group of channels of one sample is brought to mean 0 and variance 1.
//!
//! For a group of `n` values with mean `m` and (biased) variance `v`, with `e = 1e-5`:
//!
//! `h = (x - m) / sqrt(v + e)`, and, where the layer is affine, `y = scale_c h + shift_c` with one
//! pair of parameters per channel `c`. Back, with `g = scale_c dy`:
//! `dx = (g - mean(g) - h mean(g h)) / sqrt(v + e)`; `d scale_c` sums `dy h` and `d shift_c` sums
//! `dy` over the places of the channel. Source: Wu and He, "Group Normalization", ECCV 2018. One
//! group is layer normalisation, a group per channel instance normalisation.
//!
//! A sample is normalised by itself alone, so per-sample gradients, and with them clipping, keep
//! their meaning. *Batch* normalisation mixes the samples of a batch: there a sample's gradient
//! depends on the others, the sum of clipped gradients has no bounded sensitivity, and
//! [`crate::Network::new`] refuses it.
//!
//! [`GroupShape::normalise`] works on data: features may be normalised once, before training, by a
//! map that needs no parameters and looks at one record at a time.
//!
//! ```
//! use sphinx_nn::{ImageShape, Tensor, norm::GroupShape};
//! let image = ImageShape { channels: 2, height: 1, width: 2 };
//! let mut x = Tensor::from_vec(1, 4, vec![1.0, 3.0, 10.0, 30.0]).unwrap();
//! GroupShape::new(image, 2).unwrap().normalise(&mut x);
//! for (got, want) in x.as_slice().iter().zip([-1.0, 1.0, -1.0, 1.0]) {
//!     assert!((got - want).abs() < 1e-4);
//! }
//! assert!(GroupShape::new(image, 3).is_none());
//! ```

use crate::network::ImageShape;
use crate::tensor::Tensor;
use rayon::prelude::*;

mod tangent;

pub(crate) use tangent::TangentNorm;

/// Added to variances.
pub const EPSILON: f64 = 1e-5;

/// Which channels of an image are normalised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupShape {
    image: ImageShape,
    groups: usize,
}

/// What the way back needs of one sample. Private data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Normalised {
    /// The normalised values, before scale and shift.
    pub(crate) values: Vec<f32>,
    /// Per group, one over the root of variance plus epsilon.
    pub(crate) inverse: Vec<f32>,
}

impl GroupShape {
    /// `groups` groups of neighbouring channels; `None` unless they divide the channels.
    pub const fn new(image: ImageShape, groups: usize) -> Option<Self> {
        if groups == 0 || image.channels == 0 || !image.channels.is_multiple_of(groups) {
            return None;
        }
        Some(Self { image, groups })
    }

    /// Shape of the images.
    pub const fn image(&self) -> ImageShape {
        self.image
    }

    /// Number of groups.
    pub const fn groups(&self) -> usize {
        self.groups
    }

    /// Channels per group.
    pub const fn group_channels(&self) -> usize {
        self.image.channels / self.groups
    }

    const fn plane(&self) -> usize {
        self.image.height * self.image.width
    }

    /// Values per group.
    pub const fn group_values(&self) -> usize {
        self.group_channels() * self.plane()
    }

    /// Normalises every row, an image channel by channel.
    ///
    /// # Panics
    /// If `x` has other columns than the image has values.
    pub fn normalise(&self, x: &mut Tensor) {
        let columns = self.groups * self.group_values();
        assert_eq!(x.columns(), columns, "group normalisation: columns of x");
        let rows = x.as_mut_slice().par_chunks_mut(columns.max(1));
        rows.for_each(|row| {
            for group in row.chunks_exact_mut(self.group_values()) {
                normalise_group(group);
            }
        });
    }

    /// `x` becomes `scale_c h + shift_c`; returns `h`.
    pub(crate) fn forward(&self, x: &mut [f32], affine: Option<Affine<'_>>) -> Normalised {
        let groups = x.chunks_exact_mut(self.group_values());
        let inverse = groups.map(normalise_group).collect();
        let values = x.to_vec();
        if let Some(affine) = affine {
            for (c, plane) in x.chunks_exact_mut(self.plane()).enumerate() {
                let (scale, shift) = (affine.scales[c], affine.shifts[c]);
                plane.iter_mut().for_each(|v| *v = scale * *v + shift);
            }
        }
        Normalised { values, inverse }
    }

    /// `d` at the output becomes that at the input; writes the gradients of scales and shifts.
    pub(crate) fn backward(
        &self,
        d: &mut [f32],
        kept: &Normalised,
        affine: Option<Affine<'_>>,
        scales: &mut [f32],
        shifts: &mut [f32],
    ) {
        let plane = self.plane();
        if let Some(affine) = affine {
            let planes = d
                .chunks_exact_mut(plane)
                .zip(kept.values.chunks_exact(plane));
            for (c, (d, h)) in planes.enumerate() {
                scales[c] = dot(d, h) as f32;
                shifts[c] = d.iter().map(|d| f64::from(*d)).sum::<f64>() as f32;
                d.iter_mut().for_each(|d| *d *= affine.scales[c]);
            }
        }
        let n = self.group_values();
        let groups = d.chunks_exact_mut(n).zip(kept.values.chunks_exact(n));
        for ((d, h), inverse) in groups.zip(&kept.inverse) {
            let mean = d.iter().map(|d| f64::from(*d)).sum::<f64>() / n as f64;
            let along = dot(d, h) / n as f64;
            for (d, h) in d.iter_mut().zip(h) {
                *d = inverse * (*d - mean as f32 - h * along as f32);
            }
        }
    }
}

/// The learned part: one scale and one shift per channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine<'a> {
    pub(crate) scales: &'a [f32],
    pub(crate) shifts: &'a [f32],
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum()
}

/// Normalises values in place; returns what their distance from the mean was multiplied by.
fn normalise_group(x: &mut [f32]) -> f32 {
    let n = x.len() as f64;
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let square = |v: &f32| (f64::from(*v) - mean).powi(2);
    let variance = x.iter().map(square).sum::<f64>() / n;
    let inverse = 1.0 / (variance + EPSILON).sqrt();
    for v in x.iter_mut() {
        *v = ((f64::from(*v) - mean) * inverse) as f32;
    }
    inverse as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels in one group, scales and shifts by hand.
    #[test]
    fn golden_values() {
        let image = ImageShape {
            channels: 2,
            height: 1,
            width: 1,
        };
        let shape = GroupShape::new(image, 1).unwrap();
        let affine = Affine {
            scales: &[2.0, 3.0],
            shifts: &[0.5, -0.5],
        };
        let mut x = [1.0, 5.0]; // mean 3, variance 4: h = (-1, 1) up to epsilon
        let kept = shape.forward(&mut x, Some(affine));
        assert!((x[0] + 1.5).abs() < 1e-5 && (x[1] - 2.5).abs() < 1e-5);
        // Any gradient is constant or along h for two values: nothing is left of it.
        let (mut d, mut scales, mut shifts) = ([0.7, -0.2], [0.0; 2], [0.0; 2]);
        shape.backward(&mut d, &kept, Some(affine), &mut scales, &mut shifts);
        assert!(d.iter().all(|d| d.abs() < 1e-5), "{d:?}");
        assert!((scales[0] + 0.7).abs() < 1e-5 && (scales[1] + 0.2).abs() < 1e-5);
        assert_eq!(shifts, [0.7, -0.2]);
    }

    #[test]
    fn constant_groups_become_zero() {
        let image = ImageShape {
            channels: 1,
            height: 2,
            width: 2,
        };
        let mut x = Tensor::from_vec(2, 4, vec![7.0; 8]).unwrap();
        GroupShape::new(image, 1).unwrap().normalise(&mut x);
        assert_eq!(x.as_slice(), [0.0; 8]);
    }

    #[test]
    fn groups_must_divide_the_channels() {
        let image = |channels| ImageShape {
            channels,
            height: 1,
            width: 1,
        };
        assert!(GroupShape::new(image(6), 0).is_none());
        assert!(GroupShape::new(image(6), 4).is_none());
        assert!(GroupShape::new(image(0), 1).is_none());
        assert_eq!(GroupShape::new(image(6), 3).unwrap().group_channels(), 2);
    }
}
