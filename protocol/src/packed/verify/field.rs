//! The prime field of `2^61 - 1` elements, and a linear layer as a map over it.
//!
//! Random vectors are multiplied with integers of at most 32 bits. Where there are many of them, an
//! element travels as two halves of 31 bits, so that products and sums stay within 64.

use std::ops::AddAssign;

use rand_core::CryptoRng;
use rayon::prelude::*;
use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::{ImageShape, LinearKind, LinearShape};

use crate::grid::runs;

/// A Mersenne prime.
pub(super) const PRIME: u64 = (1 << BITS) - 1;
/// Its length.
const BITS: u32 = 61;
/// Bits of the lower half of an element.
const HALF: u32 = 31;

/// An element of the field, below [`PRIME`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Element(u64);

impl Element {
    /// A uniform element, by rejection of the one value of 61 bits that is none.
    pub(super) fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        loop {
            let value = rng.next_u64() >> (64 - BITS);
            if value < PRIME {
                return Self(value);
            }
        }
    }

    /// The residue of an integer: what is above 61 bits is added to what is below, twice.
    pub(super) const fn of(value: i128) -> Self {
        let below = PRIME as i128;
        let once = (value >> BITS) + (value & below);
        let twice = ((once >> BITS) + (once & below)) as i64;
        let prime = PRIME as i64;
        let positive = if twice < 0 { twice + prime } else { twice };
        Self(if positive >= prime {
            positive - prime
        } else {
            positive
        } as u64)
    }

    const fn wide(self) -> i128 {
        self.0 as i128
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self::of(self.wide() + other.wide())
    }

    pub(super) const fn times(self, other: Self) -> Self {
        Self::of(self.wide() * other.wide())
    }

    /// `self value`, for an integer.
    pub(super) const fn times_integer(self, value: i64) -> Self {
        self.times(Self::of(value as i128))
    }
}

/// A vector of elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vector(Vec<Element>);

/// The two halves of every element of a vector.
pub(super) struct Halves {
    low: Vec<i32>,
    high: Vec<i32>,
}

impl Vector {
    /// Uniform elements.
    pub(super) fn random<R: CryptoRng + ?Sized>(len: usize, rng: &mut R) -> Self {
        Self((0..len).map(|_| Element::random(rng)).collect())
    }

    pub(super) fn elements(&self) -> &[Element] {
        &self.0
    }

    pub(super) fn halves(&self) -> Halves {
        let mask = (1 << HALF) - 1;
        Halves {
            low: self.0.iter().map(|e| (e.0 & mask) as i32).collect(),
            high: self.0.iter().map(|e| (e.0 >> HALF) as i32).collect(),
        }
    }

    /// The sum of `v_i values_i`, for fewer than 2^35 integers.
    pub(super) fn dot(&self, values: &[i32]) -> Element {
        dot(&self.0, values)
    }
}

/// The sum of `v_i values_i`.
pub(super) fn dot(vector: &[Element], values: &[i32]) -> Element {
    let terms = vector.iter().zip(values);
    let sum = terms.fold(0_i128, |sum, (e, &v)| {
        sum + i128::from(e.0 as i64) * i128::from(i64::from(v))
    });
    Element::of(sum)
}

/// The integers in which products with halves are summed.
trait Sum: Copy + Default + From<i64> + Into<i128> + AddAssign + Send + Sync {}

impl Sum for i64 {}
impl Sum for i128 {}

fn join<A: Sum>(low: &[A], high: &[A]) -> Vec<Element> {
    let element = |(&low, &high): (&A, &A)| {
        let (low, high): (i128, i128) = (low.into(), high.into());
        Element::of(low + (high << HALF))
    };
    low.iter().zip(high).map(element).collect()
}

/// Whether sums of `terms` products of a half with integers up to `limit` fit 64 bits.
const fn fits(limit: i32, terms: usize) -> bool {
    (terms as u64).saturating_mul(limit.unsigned_abs() as u64) < 1 << (62 - HALF)
}

/// A layer's weights as a linear map `A` from inputs to outputs.
pub(crate) struct Linear<'a> {
    /// Its shape.
    pub(crate) shape: LinearShape,
    /// Row-major `[out][in]` or `[out][in][a][e]`.
    pub(crate) weights: &'a [i32],
    /// Largest |weight|.
    pub(crate) limit: i32,
}

impl Linear<'_> {
    /// `v^T A`.
    pub(super) fn transposed(&self, v: &Vector) -> Vector {
        let terms = match self.shape.kind {
            LinearKind::Dense => self.shape.outputs,
            LinearKind::Conv(conv) => conv.output().channels * conv.kernel() * conv.kernel(),
        };
        let v = v.halves();
        Vector(if fits(self.limit, terms) {
            self.transposed_in::<i64>(&v)
        } else {
            self.transposed_in::<i128>(&v)
        })
    }

    /// `A v`.
    pub(super) fn applied(&self, v: &Vector) -> Vector {
        let terms = match self.shape.kind {
            LinearKind::Dense => self.shape.inputs,
            LinearKind::Conv(conv) => conv.patch(),
        };
        let v = v.halves();
        Vector(if fits(self.limit, terms) {
            self.applied_in::<i64>(&v)
        } else {
            self.applied_in::<i128>(&v)
        })
    }

    fn transposed_in<A: Sum>(&self, v: &Halves) -> Vec<Element> {
        let half = |v: &[i32]| {
            let mut sums = vec![A::default(); self.shape.inputs];
            match self.shape.kind {
                LinearKind::Dense => {
                    for (&v, row) in v.iter().zip(self.weights.chunks_exact(self.shape.inputs)) {
                        add_scaled(&mut sums, v, row);
                    }
                }
                LinearKind::Conv(conv) => self.scatter(conv, v, &mut sums),
            }
            sums
        };
        let (low, high) = rayon::join(|| half(&v.low), || half(&v.high));
        join(&low, &high)
    }

    fn applied_in<A: Sum>(&self, v: &Halves) -> Vec<Element> {
        let half = |v: &[i32]| {
            let mut sums = vec![A::default(); self.shape.outputs];
            match self.shape.kind {
                LinearKind::Dense => {
                    let rows = self.weights.par_chunks_exact(self.shape.inputs);
                    sums.par_iter_mut().zip(rows).for_each(|(sum, row)| {
                        *sum = dot_half(v, row);
                    });
                }
                LinearKind::Conv(conv) => {
                    let kernels = self.weights.par_chunks_exact(conv.patch());
                    let planes = sums.par_chunks_mut(conv.positions()).zip(kernels);
                    planes.for_each(|(plane, kernel)| correlate(conv, kernel, v, plane));
                }
            }
            sums
        };
        let (low, high) = rayon::join(|| half(&v.low), || half(&v.high));
        join(&low, &high)
    }

    /// Every output of `v` times its kernel, added into the image; channel by channel.
    fn scatter<A: Sum>(&self, conv: ConvShape, v: &[i32], sums: &mut [A]) {
        let (input, stride) = (conv.input(), conv.stride());
        let taps = conv.kernel() * conv.kernel();
        let Some(plane) = single_channel(conv) else {
            return;
        };
        let pixels = input.height * input.width;
        let channels = sums.par_chunks_mut(pixels).enumerate();
        channels.for_each(|(channel, sums)| {
            let outputs = v.chunks_exact(conv.positions()).enumerate();
            for (output, v) in outputs {
                let kernel = &self.weights[(output * input.channels + channel) * taps..][..taps];
                runs(plane, |run| {
                    let (w, v) = (kernel[run.row], &v[run.position..][..run.length]);
                    let sums = &mut sums[run.pixel..];
                    if stride == 1 {
                        add_scaled(sums, w, v);
                    } else {
                        for (sum, &v) in sums.iter_mut().step_by(stride).zip(v) {
                            *sum += product(w, v);
                        }
                    }
                });
            }
        });
    }
}

/// The convolution with one input channel.
fn single_channel(conv: ConvShape) -> Option<ConvShape> {
    let input = ImageShape {
        channels: 1,
        ..conv.input()
    };
    let (channels, kernel) = (conv.output().channels, conv.kernel());
    ConvShape::new(input, channels, kernel, conv.stride(), conv.padding())
}

/// The response of an image to one kernel per half of the elements of `kernel`, at every position;
/// `limit` bounds the pixels.
pub(super) fn response(
    conv: ConvShape,
    kernel: &Halves,
    image: &[i32],
    limit: i32,
) -> Vec<Element> {
    if fits(limit, conv.patch()) {
        response_in::<i64>(conv, kernel, image)
    } else {
        response_in::<i128>(conv, kernel, image)
    }
}

fn response_in<A: Sum>(conv: ConvShape, kernel: &Halves, image: &[i32]) -> Vec<Element> {
    let half = |kernel: &[i32]| {
        let mut sums = vec![A::default(); conv.positions()];
        correlate(conv, kernel, image, &mut sums);
        sums
    };
    join(&half(&kernel.low), &half(&kernel.high))
}

/// Adds the response of an image to one kernel, at every position.
fn correlate<A: Sum>(conv: ConvShape, kernel: &[i32], image: &[i32], sums: &mut [A]) {
    let stride = conv.stride();
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            runs(conv, |run| {
                let (w, pixels) = (kernel[run.row], &image[run.pixel..]);
                let sums = &mut sums[run.position..][..run.length];
                if stride == 1 {
                    add_products(sums, w, pixels);
                } else {
                    for (sum, &x) in sums.iter_mut().zip(pixels.iter().step_by(stride)) {
                        *sum += product(w, x);
                    }
                }
            });
        },
    );
}

/// At most 2^62 in size.
#[inline(always)]
fn product<A: Sum>(a: i32, b: i32) -> A {
    A::from(i64::from(a) * i64::from(b))
}

#[inline(always)]
fn add_products<A: Sum>(sums: &mut [A], factor: i32, values: &[i32]) {
    for (sum, &v) in sums.iter_mut().zip(values) {
        *sum += product(factor, v);
    }
}

fn add_scaled<A: Sum>(sums: &mut [A], factor: i32, values: &[i32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || add_products(sums, factor, values),
    );
}

fn dot_half<A: Sum>(half: &[i32], values: &[i32]) -> A {
    let mut sum = A::default();
    for (&a, &b) in half.iter().zip(values) {
        sum += product(a, b);
    }
    sum
}
