//! Augmentation: shifts, crops and mirror images, several of each record at a time.
//!
//! Under differential privacy the number of augmented *views* of a record is free of charge if the
//! record's gradient is the **mean over its views, taken before clipping**: the clipped mean is at
//! most the clip bound long, so the record's influence is what it was without augmentation
//! (De, Berrada, Hayes, Smith, Balle, "Unlocking High-Accuracy Differentially Private Image
//! Classification through Scale", arXiv:2204.13650v2, section 3.3, "augmentation multiplicity").
//! Clipping each view and adding up would cost `K` times the sensitivity.
//!
//! A training loop therefore asks for all `K` views of a record ([`Augmentation::views`]), adds up
//! their gradients divided by `K`, and clips the sum. For a dense layer the norm of the mean needs
//! no explicit gradient: `||sum_v d_v x_v^T||^2 = sum_vw (d_v . d_w) (x_v . x_w)`, with one added
//! to the second factor for the bias.
//!
//! What a view looks like depends on the record, on public settings and on fresh randomness
//! (seed, step, record, view); never on another record.
//!
//! ```
//! use sphinx_nn::ImageShape;
//! use sphinx_nn::augment::Augmentation;
//! let shape = ImageShape { channels: 1, height: 2, width: 3 };
//! let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
//! let mut mirrored = [0.0; 6];
//! Augmentation::mirror(shape).apply(&image, &mut mirrored);
//! assert_eq!(mirrored, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
//!
//! let settings = sphinx_nn::augment::AugmentSettings { multiplicity: 4, padding: 1, flip: true };
//! assert_eq!(Augmentation::views(shape, settings, 7, 0, 12).count(), 4);
//! ```

use crate::init::stream;
use crate::network::ImageShape;
use crate::tensor::Tensor;
use rand_core::Rng;
use rayon::prelude::*;

/// Which views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AugmentSettings {
    /// Views per record and step, `K`; at least 1.
    pub multiplicity: usize,
    /// Pixels by which a view may be shifted each way; the frame is filled by reflection.
    pub padding: usize,
    /// Whether half of the views are mirror images.
    pub flip: bool,
}

/// One view of an image: a shift, then perhaps a left-right mirror image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augmentation {
    shape: ImageShape,
    down: isize,
    right: isize,
    flip: bool,
}

impl Augmentation {
    /// The image as it is.
    #[must_use]
    pub const fn identity(shape: ImageShape) -> Self {
        Self {
            shape,
            down: 0,
            right: 0,
            flip: false,
        }
    }

    /// The mirror image.
    #[must_use]
    pub const fn mirror(shape: ImageShape) -> Self {
        Self {
            flip: true,
            ..Self::identity(shape)
        }
    }

    /// The views of record number `record` at training step `step`. The same arguments give the
    /// same views, whatever happened before.
    pub fn views(
        shape: ImageShape,
        settings: AugmentSettings,
        seed: u64,
        step: u64,
        record: u32,
    ) -> impl Iterator<Item = Self> {
        let mut rng = stream(*b"sphinx augmentation\0\0\0\0\0", seed);
        // One stream per step; a record's words begin at a place of its own.
        rng.set_stream(step);
        rng.set_word_pos(u128::from(record) << 32);
        let span = 2 * settings.padding as u64 + 1;
        (0..settings.multiplicity).map(move |_| {
            let mut shift = || {
                let draw = (u64::from(rng.next_u32()) * span) >> 32;
                draw as isize - settings.padding as isize
            };
            let (down, right) = (shift(), shift());
            let flip = rng.next_u32() >> 31 == 1 && settings.flip;
            Self {
                shape,
                down,
                right,
                flip,
            }
        })
    }

    /// Writes the view of one image.
    ///
    /// # Panics
    /// If either slice is not of the shape's size.
    pub fn apply(&self, image: &[f32], view: &mut [f32]) {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        assert_eq!(image.len(), channels * height * width, "values of an image");
        assert_eq!(view.len(), image.len(), "values of a view");
        for (row, out) in view.chunks_exact_mut(width).enumerate() {
            let (channel, y) = (row / height, row % height);
            let from = channel * height + reflected(y as isize + self.down, height);
            let line = &image[from * width..(from + 1) * width];
            for (x, value) in out.iter_mut().enumerate() {
                let x = if self.flip { width - 1 - x } else { x };
                *value = line[reflected(x as isize + self.right, width)];
            }
        }
    }

    /// The same view of every row.
    ///
    /// # Panics
    /// If the rows are not images of the shape.
    #[must_use]
    pub fn apply_all(&self, images: &Tensor) -> Tensor {
        let columns = images.columns();
        let mut views = Tensor::zeros(images.rows(), columns);
        if columns > 0 {
            let rows = images.as_slice().par_chunks_exact(columns);
            let out = views.as_mut_slice().par_chunks_exact_mut(columns);
            out.zip(rows)
                .for_each(|(view, image)| self.apply(image, view));
        }
        views
    }
}

/// A place beyond the edge, reflected back; the edge itself is not repeated.
fn reflected(at: isize, length: usize) -> usize {
    let period = (2 * length as isize - 2).max(1);
    let at = at.rem_euclid(period);
    at.min(period - at).unsigned_abs().min(length - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 2,
        height: 3,
        width: 4,
    };
    const SETTINGS: AugmentSettings = AugmentSettings {
        multiplicity: 200,
        padding: 2,
        flip: true,
    };

    #[test]
    fn shifts_reflect_at_the_edges_channel_by_channel() {
        let image: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let mut view = vec![0.0; 24];
        let shifted = Augmentation {
            down: -1,
            right: 2,
            ..Augmentation::identity(SHAPE)
        };
        shifted.apply(&image, &mut view);
        // Row -1 is row 1; columns 2, 3, 4, 5 are 2, 3, 2, 1.
        assert_eq!(view[..8], [6.0, 7.0, 6.0, 5.0, 2.0, 3.0, 2.0, 1.0]);
        assert_eq!(view[12..16], [18.0, 19.0, 18.0, 17.0]);
        Augmentation::identity(SHAPE).apply(&image, &mut view);
        assert_eq!(view, image);
        let x = Tensor::from_vec(1, 24, image).unwrap();
        let twice =
            Augmentation::mirror(SHAPE).apply_all(&Augmentation::mirror(SHAPE).apply_all(&x));
        assert_eq!(twice, x);
    }

    #[test]
    fn views_are_reproducible_varied_and_each_records_own() {
        let views = |seed, step, record| -> Vec<_> {
            Augmentation::views(SHAPE, SETTINGS, seed, step, record).collect()
        };
        let own = views(1, 5, 9);
        assert_eq!((own.len(), views(1, 5, 9)), (200, own.clone()));
        for other in [views(2, 5, 9), views(1, 6, 9), views(1, 5, 10)] {
            assert_ne!(other, own);
        }
        for shift in -2..=2 {
            // Binomial(200, 1/5): standard deviation 5.7.
            let count = own.iter().filter(|v| v.down == shift).count();
            assert!((15..65).contains(&count), "{shift}: {count}");
        }
        let flips = own.iter().filter(|v| v.flip).count();
        assert!((60..140).contains(&flips), "{flips}");
    }
}
