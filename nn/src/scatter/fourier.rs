//! Fourier transforms of lengths `2^a 3^b 5^c`, every lane its own transform.
//!
//! Stockham's self-sorting form with radices 5, 4, 3 and 2: each stage reads one buffer and writes
//! the other, in natural order. Source: Van Loan, "Computational Frameworks for the Fast Fourier
//! Transform", SIAM 1992, section 1.7. Tested against `rustfft`, which transforms one signal fast
//! but not many small ones in step.

use super::lanes::{Cell, Lanes, Twiddle};
use pulp::{NullaryFnOnce, Simd};
use std::f64::consts::TAU;

/// A planned forward transform, `X[k] = sum x[j] exp(-2 pi i j k / n)`.
#[derive(Clone, Debug)]
pub(super) struct Fourier {
    length: usize,
    stages: Vec<Stage>,
}

/// Splits transforms of length `radix * rest` into `radix` of length `rest`.
#[derive(Clone, Debug)]
struct Stage {
    radix: usize,
    rest: usize,
    /// Transforms of the earlier stages that lie interleaved.
    stride: usize,
    /// For each `p` below `rest`: `exp(-2 pi i p k / (radix rest))` for `k` from 1.
    twiddles: Vec<Twiddle>,
}

impl Fourier {
    /// Whether `length` is a product of 2, 3 and 5.
    pub(super) fn suits(length: usize) -> bool {
        let mut rest = length;
        for radix in [2, 3, 5] {
            while rest > 0 && rest.is_multiple_of(radix) {
                rest /= radix;
            }
        }
        rest == 1
    }

    /// Plans a transform of a length that [`Self::suits`].
    pub(super) fn new(length: usize) -> Self {
        let (mut rest, mut stride) = (length, 1);
        let mut stages = Vec::new();
        for radix in [5, 4, 3, 2] {
            while rest > 1 && rest.is_multiple_of(radix) {
                let whole = rest;
                rest /= radix;
                let angle = |p: usize, k: usize| -TAU * (p * k) as f64 / whole as f64;
                let twiddles = (0..rest)
                    .flat_map(|p| (1..radix).map(move |k| angle(p, k).sin_cos()))
                    .map(|(sin, cos)| [cos as f32, sin as f32]);
                stages.push(Stage {
                    radix,
                    rest,
                    stride,
                    twiddles: twiddles.collect(),
                });
                stride *= radix;
            }
        }
        Self { length, stages }
    }

    /// Transforms `line` in place; `other` is scratch. Both hold at least the length.
    pub(super) fn run<S: Simd>(&self, simd: S, line: &mut [Cell<S>], other: &mut [Cell<S>]) {
        let (mut x, mut y) = (&mut line[..self.length], &mut other[..self.length]);
        for stage in &self.stages {
            simd.vectorize(Pass { simd, stage, x, y });
            std::mem::swap(&mut x, &mut y);
        }
        if self.stages.len() % 2 == 1 {
            y.copy_from_slice(x);
        }
    }
}

/// One stage on one line.
struct Pass<'a, S: Simd> {
    simd: S,
    stage: &'a Stage,
    x: &'a [Cell<S>],
    y: &'a mut [Cell<S>],
}

impl<S: Simd> NullaryFnOnce for Pass<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.stage.radix {
            2 => self.pass::<2, Two>(),
            3 => self.pass::<3, Three>(),
            4 => self.pass::<4, Four>(),
            _ => self.pass::<5, Five>(),
        }
    }
}

impl<S: Simd> Pass<'_, S> {
    #[inline(always)]
    fn pass<const R: usize, B: Butterfly<R>>(self) {
        let Self { simd, stage, x, y } = self;
        let (rest, stride) = (stage.rest, stage.stride);
        let twiddles = stage.twiddles.chunks_exact(R - 1);
        for ((p, y), twiddles) in y.chunks_exact_mut(stride * R).enumerate().zip(twiddles) {
            for q in 0..stride {
                let mut values = [simd.zero(); R];
                for (k, value) in values.iter_mut().enumerate() {
                    *value = x[q + stride * (p + rest * k)];
                }
                let values = B::apply(simd, values);
                y[q] = values[0];
                for k in 1..R {
                    y[q + stride * k] = simd.twiddle(values[k], twiddles[k - 1]);
                }
            }
        }
    }
}

/// A transform of length `R`.
trait Butterfly<const R: usize> {
    fn apply<S: Simd>(simd: S, values: [Cell<S>; R]) -> [Cell<S>; R];
}

struct Two;
struct Three;
struct Four;
struct Five;

impl Butterfly<2> for Two {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b]: [Cell<S>; 2]) -> [Cell<S>; 2] {
        [simd.plus(a, b), simd.minus(a, b)]
    }
}

impl Butterfly<3> for Three {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c]: [Cell<S>; 3]) -> [Cell<S>; 3] {
        const SIN: f32 = 0.866_025_4; // sin(2 pi / 3)
        let sum = simd.plus(b, c);
        let middle = simd.minus(a, simd.scale(sum, 0.5));
        let (second, third) = simd.turns(middle, simd.scale(simd.minus(b, c), SIN));
        [simd.plus(a, sum), second, third]
    }
}

impl Butterfly<4> for Four {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [Cell<S>; 4]) -> [Cell<S>; 4] {
        let (even, odd) = (simd.plus(a, c), simd.plus(b, d));
        let (second, fourth) = simd.turns(simd.minus(a, c), simd.minus(b, d));
        [simd.plus(even, odd), second, simd.minus(even, odd), fourth]
    }
}

impl Butterfly<5> for Five {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e]: [Cell<S>; 5]) -> [Cell<S>; 5] {
        const COS: [f32; 2] = [0.309_017, -0.809_017]; // cos(2 pi / 5), cos(4 pi / 5)
        const SIN: [f32; 2] = [0.951_056_5, 0.587_785_24];
        let mix = |x, p, y, q| simd.plus(simd.scale(x, p), simd.scale(y, q));
        let (outer, inner) = (simd.plus(b, e), simd.plus(c, d));
        let (outer_turn, inner_turn) = (simd.minus(b, e), simd.minus(c, d));
        let near = simd.plus(a, mix(outer, COS[0], inner, COS[1]));
        let far = simd.plus(a, mix(outer, COS[1], inner, COS[0]));
        let near_turn = mix(outer_turn, SIN[0], inner_turn, SIN[1]);
        let far_turn = mix(outer_turn, SIN[1], inner_turn, -SIN[0]);
        let (second, fifth) = simd.turns(near, near_turn);
        let (third, fourth) = simd.turns(far, far_turn);
        let first = simd.plus(a, simd.plus(outer, inner));
        [first, second, third, fourth, fifth]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;
    use rustfft::{FftPlanner, num_complex::Complex};

    #[test]
    fn agrees_with_rustfft_for_every_suited_length() {
        for length in (1..=120).filter(|n| Fourier::suits(*n)) {
            let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
            let mut x: Vec<Cell<Scalar>> = (0..length)
                .map(|i| [value(2 * i), value(2 * i + 1)])
                .collect();
            let complex = |[re, im]: Cell<Scalar>| Complex::new(f64::from(re), f64::from(im));
            let mut want: Vec<_> = x.iter().copied().map(complex).collect();
            FftPlanner::new()
                .plan_fft_forward(length)
                .process(&mut want);
            let mut other = x.clone();
            Fourier::new(length).run(Scalar::new(), &mut x, &mut other);
            for (got, want) in x.iter().copied().map(complex).zip(&want) {
                assert!((got - want).norm() < 1e-4, "{length}: {got} {want}");
            }
        }
        assert!(!Fourier::suits(28) && !Fourier::suits(0) && Fourier::suits(36));
    }
}
