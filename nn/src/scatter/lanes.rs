//! Vectors of images: one value of each of `N` images, and complex pairs of them.
//!
//! Plain arrays and loops over them; inside a function compiled for a vector extension each loop
//! becomes one instruction. No fused multiply-add is used, so results are the same bits for every
//! width and processor.

use std::ops::{Add, Mul, Sub};

/// How many images fit side by side on this processor.
pub(super) fn width() -> usize {
    match pulp::Arch::new() {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V4(_) => 16,
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V3(_) => 8,
        _ => 4,
    }
}

/// One value of each image.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Lanes<const N: usize>(pub(super) [f32; N]);

impl<const N: usize> Lanes<N> {
    pub(super) const ZERO: Self = Self([0.0; N]);

    /// All lanes times one number.
    #[inline(always)]
    pub(super) fn scale(self, factor: f32) -> Self {
        let mut out = self;
        for v in &mut out.0 {
            *v *= factor;
        }
        out
    }
}

impl<const N: usize> Add for Lanes<N> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let mut out = self;
        for (a, b) in out.0.iter_mut().zip(other.0) {
            *a += b;
        }
        out
    }
}

impl<const N: usize> Sub for Lanes<N> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let mut out = self;
        for (a, b) in out.0.iter_mut().zip(other.0) {
            *a -= b;
        }
        out
    }
}

/// One complex value of each image.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Cell<const N: usize> {
    pub(super) re: Lanes<N>,
    pub(super) im: Lanes<N>,
}

impl<const N: usize> Cell<N> {
    pub(super) const ZERO: Self = Self {
        re: Lanes::ZERO,
        im: Lanes::ZERO,
    };

    /// Times a real number.
    #[inline(always)]
    pub(super) fn scale(self, factor: f32) -> Self {
        Self {
            re: self.re.scale(factor),
            im: self.im.scale(factor),
        }
    }

    /// Times `-i`.
    #[inline(always)]
    pub(super) fn times_minus_i(self) -> Self {
        Self {
            re: self.im,
            im: Lanes::ZERO - self.re,
        }
    }

    /// Real and imaginary part exchanged: a forward transform of exchanged values is the inverse
    /// transform, exchanged and without its divisor.
    #[inline(always)]
    pub(super) fn exchanged(self) -> Self {
        Self {
            re: self.im,
            im: self.re,
        }
    }

    /// The modulus.
    #[inline(always)]
    pub(super) fn modulus(self) -> Lanes<N> {
        let mut out = Lanes::ZERO;
        for i in 0..N {
            let (re, im) = (self.re.0[i], self.im.0[i]);
            out.0[i] = (re * re + im * im).sqrt();
        }
        out
    }
}

impl<const N: usize> Add for Cell<N> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }
}

impl<const N: usize> Sub for Cell<N> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self {
            re: self.re - other.re,
            im: self.im - other.im,
        }
    }
}

impl<const N: usize> Mul<Twiddle> for Cell<N> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, w: Twiddle) -> Self {
        Self {
            re: self.re.scale(w.re) - self.im.scale(w.im),
            im: self.re.scale(w.im) + self.im.scale(w.re),
        }
    }
}

/// A complex constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twiddle {
    pub(super) re: f32,
    pub(super) im: f32,
}
