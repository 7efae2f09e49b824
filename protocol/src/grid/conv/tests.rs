//! The products against their definition, term by term.

use proptest::prelude::*;
use sphinx_nn::network::LinearShape;

use super::*;
use crate::fixture::{convolutions, terms};

#[derive(Debug)]
struct Case {
    shape: ConvShape,
    x: Vec<i32>,
    w: Vec<i32>,
    b: Vec<i32>,
    d: Vec<i32>,
}

fn cases() -> impl Strategy<Value = Case> {
    let integers = |count: usize, limit: i32| prop::collection::vec(-limit..=limit, count);
    convolutions().prop_flat_map(move |shape| {
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

proptest! {
    #[test]
    fn products_follow_their_definition(case in cases()) {
        let Case { shape, x, w, b, d } = &case;
        let shape = *shape;
        let mut y: Vec<i32> = b.iter().flat_map(|&b| vec![b; shape.positions()]).collect();
        let mut dx = vec![0; x.len()];
        let mut gradient = vec![0_i64; w.len()];
        terms(&LinearShape::conv(shape), |weight, output, input| {
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
