//! Vectors of images: one value of each of a few images, and complex pairs of them.
//!
//! A vector register holds the value of one pixel or frequency for 16, 8 or 4 images, whatever the
//! processor has room for (`S::f32s` of a [`pulp::Simd`]). No fused multiply-add is used, so results
//! are the same bits for every width and processor.

use pulp::Simd;

/// A complex value of each image: real parts, imaginary parts.
pub(super) type Cell<S> = [<S as Simd>::f32s; 2];

/// A complex constant: real part, imaginary part.
pub(super) type Twiddle = [f32; 2];

/// The arithmetic of cells.
pub(super) trait Lanes: Simd {
    /// Zero for each image.
    #[inline(always)]
    fn zero(self) -> Cell<Self> {
        [self.splat_f32s(0.0); 2]
    }

    #[inline(always)]
    fn plus(self, a: Cell<Self>, b: Cell<Self>) -> Cell<Self> {
        [self.add_f32s(a[0], b[0]), self.add_f32s(a[1], b[1])]
    }

    #[inline(always)]
    fn minus(self, a: Cell<Self>, b: Cell<Self>) -> Cell<Self> {
        [self.sub_f32s(a[0], b[0]), self.sub_f32s(a[1], b[1])]
    }

    /// Times a real number.
    #[inline(always)]
    fn scale(self, a: Cell<Self>, factor: f32) -> Cell<Self> {
        let factor = self.splat_f32s(factor);
        [self.mul_f32s(a[0], factor), self.mul_f32s(a[1], factor)]
    }

    /// `a - i b` and `a + i b`.
    #[inline(always)]
    fn turns(self, a: Cell<Self>, b: Cell<Self>) -> (Cell<Self>, Cell<Self>) {
        let ([re, im], [x, y]) = (a, b);
        (
            [self.add_f32s(re, y), self.sub_f32s(im, x)],
            [self.sub_f32s(re, y), self.add_f32s(im, x)],
        )
    }

    /// The product with a complex constant.
    #[inline(always)]
    fn twiddle(self, [re, im]: Cell<Self>, w: Twiddle) -> Cell<Self> {
        let (c, s) = (self.splat_f32s(w[0]), self.splat_f32s(w[1]));
        [
            self.sub_f32s(self.mul_f32s(re, c), self.mul_f32s(im, s)),
            self.add_f32s(self.mul_f32s(re, s), self.mul_f32s(im, c)),
        ]
    }

    /// `sum + factor value`.
    #[inline(always)]
    fn add_scaled(self, sum: Self::f32s, factor: f32, value: Self::f32s) -> Self::f32s {
        self.add_f32s(sum, self.mul_f32s(self.splat_f32s(factor), value))
    }

    /// The modulus.
    #[inline(always)]
    fn modulus(self, [re, im]: Cell<Self>) -> Self::f32s {
        self.sqrt_f32s(self.add_f32s(self.mul_f32s(re, re), self.mul_f32s(im, im)))
    }
}

impl<S: Simd> Lanes for S {}
