//! How one sample's images lie in a workspace: place by place, all channels of a place together.
//!
//! Channels are padded with zeros to a multiple of [`LANES`] (but not those of the data), so that a
//! place is a whole number of vectors, and an image may stand in a frame of zeros, so that a kernel
//! that reaches over the edge needs no special case.

use crate::gemm::LANES;
use crate::network::ImageShape;

/// An image in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canvas {
    image: ImageShape,
    lane: usize,
    frame: usize,
}

impl Canvas {
    /// The data as it comes: channels are not padded.
    pub(super) const fn tight(image: ImageShape, frame: usize) -> Self {
        let lane = image.channels;
        Self { image, lane, frame }
    }

    /// Channels padded to whole vectors.
    pub(super) const fn padded(image: ImageShape, frame: usize) -> Self {
        let lane = image.channels.next_multiple_of(LANES);
        Self { image, lane, frame }
    }

    /// Shape of the image.
    pub(super) const fn image(&self) -> ImageShape {
        self.image
    }

    /// Values per place, padding included.
    pub(super) const fn lane(&self) -> usize {
        self.lane
    }

    /// Values from a line to the next.
    pub(super) const fn line(&self) -> usize {
        (self.image.width + 2 * self.frame) * self.lane
    }

    /// Where the first channel of row `i`, column `j` stands.
    pub(super) const fn place(&self, i: usize, j: usize) -> usize {
        (i + self.frame) * self.line() + (j + self.frame) * self.lane
    }

    /// Where row `i`, column `j` of the *framed* image stands.
    pub(super) const fn framed_place(&self, i: usize, j: usize) -> usize {
        i * self.line() + j * self.lane
    }

    /// The values of row `i` inside the frame.
    pub(super) const fn row(&self, i: usize) -> std::ops::Range<usize> {
        let start = self.place(i, 0);
        start..start + self.image.width * self.lane
    }

    /// Number of values, a multiple of [`LANES`].
    pub(super) const fn len(&self) -> usize {
        ((self.image.height + 2 * self.frame) * self.line()).next_multiple_of(LANES)
    }

    /// Every place in reading order.
    pub(super) fn places(self) -> impl Iterator<Item = usize> {
        (0..self.image.height)
            .flat_map(move |i| (0..self.image.width).map(move |j| self.place(i, j)))
    }

    /// Puts an image that lies channel by channel.
    pub(super) fn put(&self, image: &[f32], to: &mut [f32]) {
        let ImageShape {
            channels,
            height,
            width,
        } = self.image;
        if channels == 1 || width * height == 1 {
            for (i, line) in image.chunks_exact(width * channels).enumerate() {
                to[self.place(i, 0)..][..line.len()].copy_from_slice(line);
            }
            return;
        }
        for (c, plane) in image.chunks_exact(height * width).enumerate() {
            for (i, line) in plane.chunks_exact(width).enumerate() {
                let to = to[self.place(i, 0) + c..].iter_mut().step_by(self.lane);
                to.zip(line).for_each(|(to, v)| *to = *v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_lands_inside_its_frame() {
        let image = ImageShape {
            channels: 2,
            height: 1,
            width: 2,
        };
        let canvas = Canvas::tight(image, 1);
        let mut to = vec![0.0; canvas.len()];
        canvas.put(&[1.0, 2.0, 3.0, 4.0], &mut to);
        assert_eq!((canvas.line(), canvas.len()), (8, 32));
        assert_eq!(to[8..16], [0.0, 0.0, 1.0, 3.0, 2.0, 4.0, 0.0, 0.0]);
        assert_eq!(to.iter().filter(|v| **v != 0.0).count(), 4);
        assert_eq!(canvas.places().collect::<Vec<_>>(), [10, 12]);
        assert_eq!(Canvas::padded(image, 0).len(), 32);
    }
}
