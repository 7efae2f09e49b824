use super::*;
use crate::scatter::filters::{Spectrum, transform};
use proptest::prelude::*;
use rustfft::{FftDirection, num_complex::Complex};

const GOLDEN: &str = include_str!("golden/kymatio.csv");

fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
    ImageShape {
        channels,
        height,
        width,
    }
}

fn pattern(height: usize, width: usize, channel: usize) -> Vec<f32> {
    let value = |y: usize, x: usize| (x * x * 7 + y * y * 13 + x * y * 5 + 31 * channel) % 256;
    let places = (0..height * width).map(|i| value(i / width, i % width));
    places.map(|v| v as f32 / 255.0).collect()
}

fn noise(height: usize, width: usize, channel: usize) -> Vec<f32> {
    let mut state = 12_345 + channel as u64;
    let values = (0..height * width).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as f32 / 255.0
    });
    values.collect()
}

type Image = fn(usize, usize, usize) -> Vec<f32>;

/// Against Kymatio; see `golden/README.md`.
#[test]
fn golden_values() {
    let cases: [(&str, usize, usize, ImageShape, Image); 5] = [
        ("pattern-28", 2, 8, shape(1, 28, 28), pattern),
        ("noise-28", 2, 8, shape(1, 28, 28), noise),
        ("pattern-colour-32", 2, 8, shape(3, 32, 32), pattern),
        ("noise-32-three-scales", 3, 8, shape(1, 32, 32), noise),
        ("pattern-oblong", 2, 6, shape(1, 24, 32), pattern),
    ];
    for (name, scales, angles, input, image) in cases {
        let scattering = Scattering::new(input, ScatterSettings { scales, angles }).unwrap();
        let planes = (0..input.channels).flat_map(|c| image(input.height, input.width, c));
        let columns = input.values().unwrap();
        let x = Tensor::from_vec(1, columns, planes.collect()).unwrap();
        let got = scattering.transform(&x).unwrap();
        let output = scattering.output();
        let rows: Vec<Vec<f64>> = GOLDEN
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(','))
            .map(|line| line.split(',').map(|v| v.parse().unwrap()).collect())
            .collect();
        assert_eq!(rows.len(), output.channels, "{name}");
        let area = output.height * output.width;
        for (map, row) in got.as_slice().chunks_exact(area).zip(rows) {
            let middle = output.height / 2 * output.width + output.width / 2;
            let got = [
                map.iter().map(|v| f64::from(*v)).sum(),
                map.iter().map(|v| f64::from(*v).powi(2)).sum(),
                f64::from(map[0]),
                f64::from(map[middle]),
                f64::from(map[area - 1]),
            ];
            for (got, want) in got.iter().zip(&row[1..]) {
                // Values are below 1; sums go over `area` of them.
                assert!(
                    (got - want).abs() < 1e-5 * want.abs().max(0.1),
                    "{name} {row:?}: {got}"
                );
            }
        }
    }
}

/// The slow twin: every convolution at full length in double precision, subsampled in space.
fn plain(plane: &[f32], geometry: Geometry, settings: ScatterSettings) -> Vec<f64> {
    let Geometry { height, width } = geometry;
    let size = (height.padded, width.padded);
    let place = |at: usize, side: Side| {
        let from = at as isize - ((side.padded - side.length) / 2) as isize;
        let last = side.length as isize - 1;
        (if from > last {
            2 * last - from
        } else {
            from.abs()
        }) as usize
    };
    let padded: Vec<f64> = (0..size.0 * size.1)
        .map(|i| (place(i / size.1, height), place(i % size.1, width)))
        .map(|(y, x)| f64::from(plane[y * width.length + x]))
        .collect();
    let ScatterSettings { scales, angles } = settings;
    let wavelets: Vec<Spectrum> = (0..scales * angles)
        .map(|n| filters::wavelet(size, n / angles, n % angles, angles))
        .collect();
    let phi = |level: usize| {
        let side = |padded| filters::cut_side(&filters::smoothing(padded, scales), level);
        let (rows, columns) = (side(size.0), side(size.1));
        let values = rows.iter().flat_map(|r| columns.iter().map(move |c| r * c));
        Spectrum {
            height: rows.len(),
            width: columns.len(),
            values: values.collect(),
        }
    };
    let smooth = |map: &[f64], level: usize| {
        let phi = phi(level);
        let out = convolve(map, &phi, 1 << (scales - level));
        let width = phi.width >> (scales - level);
        let inner = |i: usize| {
            let (y, x) = (i / width, i % width);
            y > 0 && x > 0 && x + 1 < width && y + 1 < out.len() / width
        };
        let kept = out.iter().enumerate().filter(|(i, _)| inner(*i));
        kept.map(|(_, v)| v.re).collect::<Vec<f64>>()
    };
    let modulus = |map: &[f64], table: &Spectrum, step: usize| -> Vec<f64> {
        convolve(map, table, step)
            .iter()
            .map(|v| v.norm())
            .collect()
    };
    let mut first = smooth(&padded, 0);
    let mut second = Vec::new();
    for n in 0..scales * angles {
        let j = n / angles;
        let one = modulus(&padded, &wavelets[n], 1 << j);
        first.extend(smooth(&one, j));
        for m in (j + 1) * angles..scales * angles {
            let two = modulus(&one, &wavelets[m].cut(j), 1 << (m / angles - j));
            second.extend(smooth(&two, m / angles));
        }
    }
    first.extend(second);
    first
}

/// Circular convolution with a filter given by its spectrum, then every `step`-th sample.
fn convolve(map: &[f64], table: &Spectrum, step: usize) -> Vec<Complex<f64>> {
    let (height, width) = (table.height, table.width);
    let mut values: Vec<_> = map.iter().map(|v| Complex::new(*v, 0.0)).collect();
    transform(height, width, &mut values, FftDirection::Forward);
    values
        .iter_mut()
        .zip(&table.values)
        .for_each(|(v, t)| *v *= t);
    transform(height, width, &mut values, FftDirection::Inverse);
    let rows = (0..height).step_by(step);
    let places = rows.flat_map(|y| (0..width).step_by(step).map(move |x| y * width + x));
    places
        .map(|i| values[i] / (height * width) as f64)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Every lane, odd numbers of planes and angles, sides of their own.
    #[test]
    fn agrees_with_the_slow_twin(
        planes in 1_usize..20, height in 9_usize..25, width in 9_usize..25,
        scales in 1_usize..4, angles in 1_usize..5, seed in 0_usize..1000,
    ) {
        let settings = ScatterSettings { scales, angles };
        let Ok(scattering) = Scattering::new(shape(1, height, width), settings) else {
            return Ok(());
        };
        let values = (0..planes).flat_map(|p| noise(height, width, seed + p));
        let x = Tensor::from_vec(planes, height * width, values.collect()).unwrap();
        let got = scattering.transform(&x).unwrap();
        for p in [0, planes / 2, planes - 1] {
            let want = plain(x.row(p), scattering.plan.geometry(), settings);
            prop_assert_eq!(want.len(), got.columns());
            for (got, want) in got.row(p).iter().zip(want) {
                prop_assert!((f64::from(*got) - want).abs() < 3e-6, "{got} {want}");
            }
        }
    }
}

#[test]
fn lanes_and_batches_do_not_matter() {
    let input = shape(3, 32, 32);
    let scattering = Scattering::new(input, ScatterSettings::default()).unwrap();
    let values = (0..21).flat_map(|c| noise(32, 32, c));
    let x = Tensor::from_vec(7, 3072, values.collect()).unwrap();
    let whole = scattering.transform(&x).unwrap();
    for i in 0..7 {
        let one = scattering.transform(&x.gather(&[i as u32], 1)).unwrap();
        assert_eq!(one.row(0), whole.row(i));
    }
    // One lane, without vectors: the same bits.
    let mut narrow = Tensor::zeros(7, whole.columns());
    let everything = Everything {
        plan: &scattering.plan,
        plane: 1024,
        block: whole.columns() / 3,
        images: x.as_slice(),
        features: narrow.as_mut_slice(),
    };
    everything.with_simd(pulp::Scalar::new());
    assert_eq!(narrow, whole);
}

#[test]
fn shapes_and_settings_are_checked() {
    let settings = ScatterSettings::default();
    assert_eq!(
        (
            settings.maps(),
            ScatterSettings {
                scales: 3,
                angles: 8
            }
            .maps()
        ),
        (81, 217)
    );
    let refused = |input, settings| Scattering::new(input, settings).unwrap_err();
    let none = ScatterSettings {
        scales: 0,
        angles: 8,
    };
    assert_eq!(
        refused(shape(1, 28, 28), none),
        ScatterError::Settings(none)
    );
    assert_eq!(refused(shape(0, 28, 28), settings), ScatterError::Channels);
    for side in [0, 3, 20, 100_000, usize::MAX] {
        // 20 pads to 28 = 4 7.
        let error = refused(shape(1, 28, side), settings);
        assert!(
            matches!(error, ScatterError::Side { .. }),
            "{side}: {error}"
        );
    }
    let scattering = Scattering::new(shape(1, 28, 28), settings).unwrap();
    assert_eq!(scattering.output(), shape(81, 7, 7));
    let error = scattering.transform(&Tensor::zeros(2, 783)).unwrap_err();
    assert_eq!(
        error,
        ScatterError::Columns {
            found: 783,
            expected: 784
        }
    );
    assert_eq!(
        scattering.transform(&Tensor::zeros(0, 784)).unwrap().rows(),
        0
    );
}
