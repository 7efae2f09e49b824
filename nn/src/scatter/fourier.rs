//! Fourier transforms of lengths `2^a 3^b 5^c`, every lane its own transform.
//!
//! Stockham's self-sorting form with radices 5, 4, 3 and 2: each stage reads one buffer and writes
//! the other, in natural order. Source: Van Loan, "Computational Frameworks for the Fast Fourier
//! Transform", SIAM 1992, section 1.7. Tested against `rustfft`, which transforms one signal fast
//! but not many small ones in step.

use super::lanes::{Cell, Twiddle};
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
                    .map(|(sin, cos)| Twiddle {
                        re: cos as f32,
                        im: sin as f32,
                    });
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

    /// Transforms `x`, using `other` for every second stage; both hold at least the length.
    /// Returns whether the result is in `other`.
    #[inline(always)]
    pub(super) fn run<const N: usize>(&self, x: &mut [Cell<N>], other: &mut [Cell<N>]) -> bool {
        let (x, other) = (&mut x[..self.length], &mut other[..self.length]);
        let mut swapped = false;
        for stage in &self.stages {
            if swapped {
                stage.run(other, x);
            } else {
                stage.run(x, other);
            }
            swapped = !swapped;
        }
        swapped
    }
}

impl Stage {
    #[inline(always)]
    fn run<const N: usize>(&self, x: &[Cell<N>], y: &mut [Cell<N>]) {
        match self.radix {
            2 => self.pass(x, y, two),
            3 => self.pass(x, y, three),
            4 => self.pass(x, y, four),
            _ => self.pass(x, y, five),
        }
    }

    #[inline(always)]
    fn pass<const N: usize, const R: usize>(
        &self,
        x: &[Cell<N>],
        y: &mut [Cell<N>],
        butterfly: impl Fn([Cell<N>; R]) -> [Cell<N>; R],
    ) {
        let (rest, stride) = (self.rest, self.stride);
        for p in 0..rest {
            let y = &mut y[stride * R * p..stride * R * (p + 1)];
            let twiddles = &self.twiddles[p * (R - 1)..(p + 1) * (R - 1)];
            for q in 0..stride {
                let values = butterfly(std::array::from_fn(|k| x[q + stride * (p + rest * k)]));
                y[q] = values[0];
                for k in 1..R {
                    let value = values[k];
                    y[q + stride * k] = if p == 0 {
                        value
                    } else {
                        value * twiddles[k - 1]
                    };
                }
            }
        }
    }
}

#[inline(always)]
fn two<const N: usize>([a, b]: [Cell<N>; 2]) -> [Cell<N>; 2] {
    [a + b, a - b]
}

#[inline(always)]
fn three<const N: usize>([a, b, c]: [Cell<N>; 3]) -> [Cell<N>; 3] {
    const SIN: f32 = 0.866_025_4; // sin(2 pi / 3)
    let sum = b + c;
    let middle = a - sum.scale(0.5);
    let turn = (b - c).scale(SIN).times_minus_i();
    [a + sum, middle + turn, middle - turn]
}

#[inline(always)]
fn four<const N: usize>([a, b, c, d]: [Cell<N>; 4]) -> [Cell<N>; 4] {
    let (even, odd) = (a + c, b + d);
    let (half, turn) = (a - c, (b - d).times_minus_i());
    [even + odd, half + turn, even - odd, half - turn]
}

#[inline(always)]
fn five<const N: usize>([a, b, c, d, e]: [Cell<N>; 5]) -> [Cell<N>; 5] {
    const COS: [f32; 2] = [0.309_017, -0.809_017]; // cos(2 pi / 5), cos(4 pi / 5)
    const SIN: [f32; 2] = [0.951_056_5, 0.587_785_24];
    let (outer, inner) = (b + e, c + d);
    let (outer_turn, inner_turn) = ((b - e).times_minus_i(), (c - d).times_minus_i());
    let first = a + outer.scale(COS[0]) + inner.scale(COS[1]);
    let second = a + outer.scale(COS[1]) + inner.scale(COS[0]);
    let first_turn = outer_turn.scale(SIN[0]) + inner_turn.scale(SIN[1]);
    let second_turn = outer_turn.scale(SIN[1]) - inner_turn.scale(SIN[0]);
    [
        a + outer + inner,
        first + first_turn,
        second + second_turn,
        second - second_turn,
        first - first_turn,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scatter::lanes::Lanes;
    use rustfft::{FftPlanner, num_complex::Complex};

    #[test]
    fn agrees_with_rustfft_for_every_suited_length() {
        for length in (1..=120).filter(|n| Fourier::suits(*n)) {
            let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
            let cell = |i: usize| Cell {
                re: Lanes([value(4 * i), value(4 * i + 1)]),
                im: Lanes([value(4 * i + 2), value(4 * i + 3)]),
            };
            let mut x: Vec<Cell<2>> = (0..length).map(cell).collect();
            let mut other = x.clone();
            let lane = |cells: &[Cell<2>], l: usize| -> Vec<Complex<f64>> {
                let part = |c: &Cell<2>| (f64::from(c.re.0[l]), f64::from(c.im.0[l]));
                cells
                    .iter()
                    .map(part)
                    .map(|(a, b)| Complex::new(a, b))
                    .collect()
            };
            let mut want = [lane(&x, 0), lane(&x, 1)];
            let plan = FftPlanner::new().plan_fft_forward(length);
            want.iter_mut().for_each(|w| plan.process(w));
            let got = if Fourier::new(length).run(&mut x, &mut other) {
                other
            } else {
                x
            };
            for (l, want) in want.iter().enumerate() {
                for (got, want) in lane(&got, l).iter().zip(want) {
                    assert!((got - want).norm() < 1e-4, "{length}: {got} {want}");
                }
            }
        }
        assert!(!Fourier::suits(28) && !Fourier::suits(0) && Fourier::suits(36));
    }
}
