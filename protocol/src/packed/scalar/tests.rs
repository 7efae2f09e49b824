//! Every output is computed once, and the matrix is the layer.

use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::ImageShape;

use super::*;
use crate::grid;

fn conv(stride: usize, padding: usize) -> LinearShape {
    let input = ImageShape {
        channels: 2,
        height: 5,
        width: 4,
    };
    LinearShape::conv(ConvShape::new(input, 3, 3, stride, padding).unwrap())
}

#[test]
fn the_order_has_every_output_once() {
    for shape in [conv(1, 1), conv(2, 0), LinearShape::dense(4, 7)] {
        for (upload, count) in [
            (Upload::Activation, shape.outputs),
            (Upload::OutputGradient, shape.inputs),
        ] {
            let mut order = order(&shape, upload);
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }
}

/// Times a one-hot input, the terms of the matrix are what the layer makes of it.
#[test]
fn the_terms_are_those_of_the_layer() {
    for shape in [conv(1, 1), conv(2, 0), LinearShape::dense(4, 7)] {
        let weights: Vec<i32> = (1..=shape.weights() as i32).collect();
        let products = paper::Products::new(shape);
        for input in 0..shape.inputs {
            let mut x = vec![0; shape.inputs];
            x[input] = 1;
            let expected = grid::product(&shape, &weights, &x);
            let found = (0..shape.outputs).map(|output| {
                let terms = products.forward(&weights, output as u32);
                let mine = terms.iter().filter(|(at, _)| *at as usize == input);
                mine.map(|&(_, w)| w as u32).sum::<u32>()
            });
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }
}

/// A full batch may be scalar; a smaller one is not, nor a layer too large to hold.
#[test]
fn full_batches_may_be_scalar() {
    let chosen = |shape: LinearShape, masks| Layout::scalar(4096, &shape, masks).is_some();
    let dense = LinearShape::dense(256, 100);
    assert!(chosen(dense, 4096));
    assert!(!chosen(dense, 4095));
    let input = ImageShape {
        channels: 64,
        height: 32,
        width: 32,
    };
    let large = LinearShape::conv(ConvShape::new(input, 64, 3, 1, 1).unwrap());
    assert!(!chosen(large, 4096));
}
