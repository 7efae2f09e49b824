//! Morlet wavelets and the Gaussian that smooths, as real tables over frequencies.
//!
//! Conventions and constants are those of the reference implementation, its 3.1415 included, so
//! that features are comparable digit for digit.
//!
//! A Gabor function is `g(u) = exp(-u^T C u + i xi . u) / (2 * 3.1415 sigma^2 / slant)`, summed over a
//! few periods of the image; `C` is an ellipse turned by the angle. A Morlet wavelet takes away
//! as much of the same envelope as makes its mean zero. Both are even, so their spectra are real.

use rustfft::{FftDirection, FftPlanner, num_complex::Complex};
use std::f64::consts::PI;

/// A table over frequencies, row-major.
#[derive(Clone, Debug)]
pub(super) struct Spectrum {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) values: Vec<f64>,
}

/// The wavelet of scale `j` and angle number `theta` of `angles`.
pub(super) fn wavelet(
    (height, width): (usize, usize),
    j: usize,
    theta: usize,
    angles: usize,
) -> Spectrum {
    let scale = (1_usize << j) as f64;
    // Counted from the middle downwards, and for odd numbers from just below it.
    let middle = (angles as f64 / 2.0 - 1.0).trunc();
    let shape = Envelope {
        sigma: 0.8 * scale,
        angle: (middle - theta as f64) * PI / angles as f64,
        slant: 4.0 / angles as f64,
    };
    let xi = 0.75 * PI / scale;
    let wave = shape.gabor(height, width, xi);
    let envelope = shape.gabor(height, width, 0.0);
    let share = wave.iter().sum::<Complex<f64>>() / envelope.iter().sum::<Complex<f64>>();
    let morlet = wave.iter().zip(&envelope).map(|(w, e)| w - share * e);
    spectrum(height, width, morlet.collect())
}

/// The spectrum of the smoothing Gaussian along one side; in two dimensions it is the product of
/// those of both sides.
pub(super) fn smoothing(length: usize, scales: usize) -> Vec<f64> {
    let sigma = 0.8 * (1_usize << (scales - 1)) as f64;
    let value = |u: usize| {
        let periods = (-2..=2).map(|period| u as f64 + f64::from(period) * length as f64);
        let sum: f64 = periods
            .map(|u| (-u * u / (2.0 * sigma * sigma)).exp())
            .sum();
        Complex::new(sum / (2.0 * 3.1415 * sigma * sigma).sqrt(), 0.0)
    };
    spectrum(1, length, (0..length).map(value).collect()).values
}

/// A turned ellipse.
struct Envelope {
    sigma: f64,
    angle: f64,
    slant: f64,
}

impl Envelope {
    fn gabor(&self, height: usize, width: usize, xi: f64) -> Vec<Complex<f64>> {
        let (sin, cos) = self.angle.sin_cos();
        let slant = self.slant * self.slant;
        let narrow = 1.0 / (2.0 * self.sigma * self.sigma);
        let (c00, c11) = (cos * cos + sin * sin * slant, sin * sin + cos * cos * slant);
        let c01 = cos * sin * (1.0 - slant);
        let norm = 2.0 * 3.1415 * self.sigma * self.sigma / self.slant;
        let value = |y: f64, x: f64| {
            let decay = narrow * (c00 * y * y + 2.0 * c01 * y * x + c11 * x * x);
            Complex::from_polar((-decay).exp() / norm, xi * (y * cos + x * sin))
        };
        let mut values = Vec::with_capacity(height * width);
        for i in 0..height * width {
            let (y, x) = ((i / width) as f64, (i % width) as f64);
            let mut sum = Complex::new(0.0, 0.0);
            for period in 0..25 {
                let (down, right) = (f64::from(period / 5 - 2), f64::from(period % 5 - 2));
                sum += value(y + down * height as f64, x + right * width as f64);
            }
            values.push(sum);
        }
        values
    }
}

/// The real part of the Fourier transform.
fn spectrum(height: usize, width: usize, mut values: Vec<Complex<f64>>) -> Spectrum {
    transform(height, width, &mut values, FftDirection::Forward);
    Spectrum {
        height,
        width,
        values: values.iter().map(|v| v.re).collect(),
    }
}

/// A two-dimensional transform in double precision, without divisor.
pub(super) fn transform(
    height: usize,
    width: usize,
    values: &mut [Complex<f64>],
    direction: FftDirection,
) {
    let mut planner = FftPlanner::new();
    planner.plan_fft(width, direction).process(values);
    let columns = planner.plan_fft(height, direction);
    for x in 0..width {
        let mut column: Vec<_> = (0..height).map(|y| values[y * width + x]).collect();
        columns.process(&mut column);
        for (y, value) in column.into_iter().enumerate() {
            values[y * width + x] = value;
        }
    }
}

/// Whether frequency `k` of `length` stays when a table is cut to `length / 2^levels`.
fn kept(k: usize, length: usize, levels: usize) -> bool {
    let small = length >> levels;
    let start = length >> (levels + 1);
    !(start..start + length - small).contains(&k)
}

/// The low frequencies of one side's table, as a table of `length / 2^levels`.
pub(super) fn cut_side(values: &[f64], levels: usize) -> Vec<f64> {
    let small = values.len() >> levels;
    let mut out = vec![0.0; small];
    for (k, value) in values.iter().enumerate() {
        if kept(k, values.len(), levels) {
            out[k % small] += value;
        }
    }
    out
}

impl Spectrum {
    /// The low frequencies, as a table of sides `2^levels` times shorter.
    pub(super) fn cut(&self, levels: usize) -> Self {
        let (height, width) = (self.height >> levels, self.width >> levels);
        let mut values = vec![0.0; height * width];
        for (i, value) in self.values.iter().enumerate() {
            let (y, x) = (i / self.width, i % self.width);
            if kept(y, self.height, levels) && kept(x, self.width, levels) {
                values[y % height * width + x % width] += value;
            }
        }
        Self {
            height,
            width,
            values,
        }
    }
}
