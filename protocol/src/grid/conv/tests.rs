//! The products against their definition, written with five loops over indices.

use proptest::prelude::*;
use sphinx_nn::network::ImageShape;

use super::*;

#[derive(Debug)]
struct Case {
    shape: ConvShape,
    x: Vec<i32>,
    w: Vec<i32>,
    b: Vec<i32>,
    d: Vec<i32>,
}

fn shapes() -> impl Strategy<Value = ConvShape> {
    let sizes = (1_usize..4, 1_usize..8, 1_usize..8);
    let moves = (1_usize..4, 1_usize..5, 1_usize..4, 0_usize..4);
    (sizes, moves).prop_filter_map(
        "a kernel that fits",
        |((channels, height, width), (out, kernel, stride, padding))| {
            let input = ImageShape {
                channels,
                height,
                width,
            };
            ConvShape::new(input, out, kernel, stride, padding)
        },
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let integers = |count: usize, limit: i32| prop::collection::vec(-limit..=limit, count);
    shapes().prop_flat_map(move |shape| {
        let (input, output) = (shape.input(), shape.output());
        let outputs = output.channels * shape.positions();
        (
            integers(input.channels * input.height * input.width, 255),
            integers(shape.weights(), 511),
            integers(output.channels, 1 << 20),
            integers(outputs, D_LIMIT),
        )
            .prop_map(move |(x, w, b, d)| Case { shape, x, w, b, d })
    })
}

const D_LIMIT: i32 = 2047;

/// Calls `term(weight, output, input)` for every product that the definition names.
fn terms(shape: ConvShape, mut term: impl FnMut(usize, usize, usize)) {
    let (input, output, k) = (shape.input(), shape.output(), shape.kernel());
    for out in 0..output.channels {
        for channel in 0..input.channels {
            for (a, e) in (0..k).flat_map(|a| (0..k).map(move |e| (a, e))) {
                for (i, j) in
                    (0..output.height).flat_map(|i| (0..output.width).map(move |j| (i, j)))
                {
                    let line = (i * shape.stride() + a) as isize - shape.padding() as isize;
                    let column = (j * shape.stride() + e) as isize - shape.padding() as isize;
                    let inside = (0..input.height as isize).contains(&line)
                        && (0..input.width as isize).contains(&column);
                    if inside {
                        let pixel = (channel * input.height + line as usize) * input.width
                            + column as usize;
                        let weight = ((out * input.channels + channel) * k + a) * k + e;
                        term(weight, (out * output.height + i) * output.width + j, pixel);
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn products_follow_their_definition(case in cases()) {
        let Case { shape, x, w, b, d } = &case;
        let shape = *shape;
        let mut y: Vec<i32> = b.iter().flat_map(|&b| vec![b; shape.positions()]).collect();
        let mut dx = vec![0; x.len()];
        let mut gradient = vec![0_i64; w.len()];
        terms(shape, |weight, output, input| {
            y[output] += w[weight] * x[input];
            dx[input] += w[weight] * d[output];
            gradient[weight] += i64::from(d[output]) * i64::from(x[input]);
        });

        let mut patches = Patches::default();
        let mut got = vec![0; y.len()];
        patches.spread(shape, x);
        patches.forward(shape, w, b, &mut got);
        prop_assert_eq!(&got, &y);

        let real: Vec<f64> = d.iter().map(|&d| f64::from(d)).collect();
        let mut got = vec![0.0; w.len()];
        patches.gradient(shape, &real, &mut got);
        let got: Vec<i64> = got.iter().map(|&g| g as i64).collect();
        prop_assert_eq!(&got, &gradient);

        prop_assert!(ShortPatches::fit(shape, 255, D_LIMIT));
        let mut short = ShortPatches::default();
        short.spread(shape, x);
        let got: Vec<i64> = short.gradient(shape, d).iter().map(|&g| g.into()).collect();
        prop_assert_eq!(&got, &gradient);

        let mut got = vec![0; x.len()];
        patches.backward(shape, w, d, &mut got);
        prop_assert_eq!(&got, &dx);
    }
}
