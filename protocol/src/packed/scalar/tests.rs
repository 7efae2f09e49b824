//! Every output is computed once, and the matrix is the layer.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::rlwe::SecretKey;
use sphinx_nn::conv::ConvShape;

use super::*;
use crate::fixture::image;
use crate::format::Integers;
use crate::grid;
use crate::message::Place;
use crate::packed::client::{encrypt_level, open_result, positions};
use crate::packed::layout::Tiling;
use crate::packed::server::open_at;
use crate::packed::tests::{passages, plan};

fn conv(stride: usize, padding: usize) -> LinearShape {
    let input = image(2, 5, 4);
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
    let input = image(64, 32, 32);
    let large = LinearShape::conv(ConvShape::new(input, 64, 3, 1, 1).unwrap());
    assert!(!chosen(large, 4096));
}

/// A layer of the plan in scalar layout, in either form: what comes back is the product.
#[test]
fn results_are_the_products() {
    let plan = plan();
    let (p, layer) = (plan.parameters(), 1);
    let secret = SecretKey::generate(p, &mut ChaCha20Rng::seed_from_u64(1));
    let shape = plan.network().linears()[layer];
    let limit = plan.formats()[layer].w_limit;
    let weights = (0..shape.weights() as i32).map(|at| at * 37 % (2 * limit + 1) - limit);
    let weights: Vec<i32> = weights.collect();
    let layout = plan.layouts()[layer].with(Tiling::Scalar).unwrap();
    for upload in [Upload::Activation, Upload::OutputGradient] {
        let backward = upload == Upload::OutputGradient;
        let (columns, results) = match backward {
            true => (shape.outputs, shape.inputs),
            false => (shape.inputs, shape.outputs),
        };
        let mut v = Integers::zeros(plan.capacity(), columns);
        for row in 0..plan.capacity() {
            let entries = v.row_mut(row).iter_mut().enumerate();
            entries.for_each(|(at, v)| *v = (at * 5 + row) as i32 % 7 - 3);
        }
        for form in passages(&plan, upload, layer) {
            let at_level = (form.level, form.encoding);
            let of = (form.level, form.returned.factor);
            let matrix = matrix(p, of, upload, (&shape, &weights)).unwrap();
            let held = (0..columns).map(|tile| {
                let values = match backward {
                    true => layout.pack_gradients(&v, 0, tile),
                    false => layout.pack_inputs(&v, 0, tile),
                };
                let seed = [tile as u8; 32];
                let sealed = encrypt_level(p, &secret, &values, at_level, seed).unwrap();
                open_at(p, &sealed, at_level).unwrap().expand()
            });
            let of = (&layout, &shape);
            let found = products(of, &matrix, (upload, 0), held.collect(), form.returned).unwrap();
            assert_eq!(found.len(), results);
            let mut out = Integers::zeros(plan.capacity(), results);
            for (tile, result) in found.iter().enumerate() {
                let place = Place {
                    layer: 1,
                    chunk: 0,
                    tile: tile as u32,
                };
                let at = positions(&layout, upload, place);
                let values = open_result(result, &at, form.returned, &secret).unwrap();
                match backward {
                    true => layout.place_backward(&mut out, &values, tile, 0),
                    false => layout.place_forward(&mut out, &values, tile, 0),
                }
            }
            let weight = |result: usize, column: usize| match backward {
                true => weights[column * shape.inputs + result],
                false => weights[result * shape.inputs + column],
            };
            for row in 0..plan.capacity() {
                let expected = (0..results).map(|result| {
                    let terms = v.row(row).iter().enumerate();
                    terms.map(|(at, v)| v * weight(result, at)).sum::<i32>()
                });
                assert_eq!(out.row(row), expected.collect::<Vec<_>>());
            }
        }
    }
}
