use super::*;
use proptest::prelude::*;

/// Values in (-1, 1) that look random.
fn tensor(rows: usize, columns: usize, seed: u32) -> Tensor {
    let value = |i: usize| {
        let mixed = (i as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(2_654_435_761);
        (mixed ^ mixed >> 15) as f32 / 2_147_483_648.0 - 1.0
    };
    Tensor::from_vec(rows, columns, (0..rows * columns).map(value).collect()).unwrap()
}

/// Calls `term(weight, output, input)` for every product in the definition of a convolution.
fn terms(shape: ConvShape, mut term: impl FnMut(usize, usize, usize)) {
    let (input, output, k) = (shape.input, shape.output, shape.kernel);
    for o in 0..output.channels {
        for i in 0..output.height {
            for j in 0..output.width {
                for n in 0..input.channels * k * k {
                    let (c, a, e) = (n / (k * k), n / k % k, n % k);
                    let row = (i * shape.stride + a).wrapping_sub(shape.padding);
                    let column = (j * shape.stride + e).wrapping_sub(shape.padding);
                    if row < input.height && column < input.width {
                        term(
                            o * shape.patch() + n,
                            (o * output.height + i) * output.width + j,
                            (c * input.height + row) * input.width + column,
                        );
                    }
                }
            }
        }
    }
}

fn product(a: f32, b: f32) -> f64 {
    f64::from(a) * f64::from(b)
}

fn close(got: &[f32], want: &[f64]) -> bool {
    let near = |(got, want): (&f32, &f64)| (f64::from(*got) - want).abs() < 1e-4;
    got.len() == want.len() && got.iter().zip(want).all(near)
}

fn check_products(shape: ConvShape, rows: usize) -> Result<(), TestCaseError> {
    let x = tensor(rows, shape.inputs(), 1);
    let d = tensor(rows, shape.outputs(), 2);
    let w = tensor(1, shape.weights(), 3);
    let b = tensor(1, shape.output.channels, 4);
    let y = forward(shape, w.as_slice(), b.as_slice(), &x);
    let dx = backward(shape, w.as_slice(), &d);
    let mut scratch = vec![f32::NAN; 5]; // left over from another layer
    for j in 0..rows {
        let (x, d) = (x.row(j), d.row(j));
        let bias = |i: usize| f64::from(b.row(0)[i / shape.positions()]);
        let mut want_y: Vec<f64> = (0..shape.outputs()).map(bias).collect();
        let mut want_dx = vec![0.0; shape.inputs()];
        let mut want_w = vec![0.0; shape.weights()];
        terms(shape, |weight, output, input| {
            want_y[output] += product(w.row(0)[weight], x[input]);
            want_dx[input] += product(w.row(0)[weight], d[output]);
            want_w[weight] += product(d[output], x[input]);
        });
        let planes = d.chunks_exact(shape.positions());
        let want_b: Vec<f64> = planes
            .map(|plane| plane.iter().map(|v| f64::from(*v)).sum())
            .collect();
        let mut weights = vec![f32::NAN; shape.weights()];
        let mut biases = vec![f32::NAN; shape.output.channels];
        sample_gradient(shape, d, x, &mut scratch, &mut weights, &mut biases);
        prop_assert!(close(y.row(j), &want_y), "forward {shape:?}");
        prop_assert!(close(dx.row(j), &want_dx), "backward {shape:?}");
        prop_assert!(close(&weights, &want_w), "weights {shape:?}");
        prop_assert!(close(&biases, &want_b), "biases {shape:?}");
    }
    Ok(())
}

proptest! {
    /// All three products against the definition, in `f64`, over geometries of every kind.
    #[test]
    fn products_agree_with_the_definition(
        (channels, height, width) in (1_usize..4, 1_usize..8, 1_usize..8),
        (out, kernel, stride, padding) in (1_usize..5, 1_usize..6, 1_usize..4, 0_usize..5),
        rows in 0_usize..4,
    ) {
        let input = ImageShape { channels, height, width };
        if let Some(shape) = ConvShape::new(input, out, kernel, stride, padding) {
            check_products(shape, rows)?;
        }
    }
}

#[test]
fn many_rows_and_real_sizes_agree_with_the_definition() {
    let image = |channels, height, width| ImageShape {
        channels,
        height,
        width,
    };
    let shapes = [
        ConvShape::new(image(1, 28, 28), 16, 5, 1, 0),
        ConvShape::new(image(1, 28, 28), 16, 8, 2, 3),
        ConvShape::new(image(8, 9, 7), 12, 3, 1, 1),
        ConvShape::new(image(16, 8, 8), 8, 1, 1, 0),
    ];
    for shape in shapes {
        check_products(shape.unwrap(), 9).unwrap();
    }
}

#[test]
fn output_sizes_follow_the_floor_formula() {
    // floor((length + 2 padding - kernel) / stride) + 1
    let input = ImageShape {
        channels: 1,
        height: 28,
        width: 11,
    };
    for (kernel, stride, padding, height, width) in [
        (5, 1, 0, 24, 7),
        (3, 1, 1, 28, 11),
        (8, 2, 3, 14, 5),
        (11, 4, 0, 5, 1),
    ] {
        let output = ConvShape::new(input, 6, kernel, stride, padding)
            .unwrap()
            .output();
        assert_eq!((output.height, output.width), (height, width));
    }
}

#[test]
fn kernels_that_do_not_fit_are_refused() {
    let input = ImageShape {
        channels: 2,
        height: 4,
        width: 3,
    };
    let max = usize::MAX;
    for (channels, kernel, stride, padding) in [
        (0, 1, 1, 0),
        (1, 0, 1, 0),
        (1, 4, 1, 0),
        (1, 6, 1, 1),
        (1, 2, 0, 0),
        (1, 2, 1, 2),
        (1, 65, 1, 64),
        (max, 1, 1, 0),
        (1, max, 1, max - 1),
    ] {
        let shape = ConvShape::new(input, channels, kernel, stride, padding);
        assert_eq!(shape, None, "{channels} {kernel} {stride} {padding}");
    }
    assert!(ConvShape::new(input, 1, 5, max, 1).is_some());
    let huge = ImageShape {
        channels: max / 2,
        height: 1,
        width: 1,
    };
    assert_eq!(ConvShape::new(huge, 1, 3, 1, 1), None);
}
