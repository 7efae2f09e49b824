//! The layouts against plain matrix products, in the schoolbook negacyclic ring.

use proptest::prelude::*;

use sphinx_nn::conv::ConvShape;

use super::*;
use crate::fixture::{convolutions, image, terms};

const DEGREE: usize = 64;

fn negacyclic(a: &[i64], b: &[i64], sum: &mut [i64]) {
    for (i, &u) in a.iter().enumerate() {
        for (j, &v) in b.iter().enumerate() {
            let (at, sign) = if i + j < DEGREE {
                (i + j, 1)
            } else {
                (i + j - DEGREE, -1)
            };
            sum[at] += sign * u * v;
        }
    }
}

fn pick(sum: &[i64], positions: &[usize]) -> Vec<i64> {
    positions.iter().map(|&p| sum[p]).collect()
}

/// Dense layers, and convolutions of all strides that are padded by less than half of their kernel.
fn shapes() -> impl Strategy<Value = LinearShape> {
    let dense = (1_usize..12, 1_usize..9).prop_map(|(i, o)| LinearShape::dense(i, o));
    let conv = convolutions()
        .prop_map(LinearShape::conv)
        .prop_filter("a layout", Layout::exists_for);
    prop_oneof![1 => dense, 3 => conv]
}

fn tilings() -> impl Strategy<Value = Tiling> {
    let whole = (1_usize..9, 1_usize..9, 1_usize..17).prop_map(|(n, m, b)| whole(n, m, b));
    let stream = (1_usize..5, 1_usize..5).prop_map(|(n, m)| stream(n, m));
    prop_oneof![4 => whole, 4 => stream, 1 => Just(Tiling::Scalar)]
}

fn whole(inputs_per_tile: usize, outputs_per_tile: usize, samples_per_chunk: usize) -> Tiling {
    Tiling::Whole {
        inputs_per_tile,
        outputs_per_tile,
        samples_per_chunk,
    }
}

fn stream(inputs_per_tile: usize, outputs_per_tile: usize) -> Tiling {
    Tiling::Stream {
        inputs_per_tile,
        outputs_per_tile,
    }
}

/// The given tiling, made smaller until it fits; nothing if not even the smallest does.
fn fitting(shape: &LinearShape, capacity: usize, mut tiling: Tiling) -> Option<Layout> {
    loop {
        if let Some(layout) = Layout::new(DEGREE, shape, capacity, tiling) {
            return Some(layout);
        }
        let (n, m) = (tiling.inputs_per_tile(), tiling.outputs_per_tile());
        tiling = match tiling {
            Tiling::Whole {
                samples_per_chunk: b @ 2..,
                ..
            } => whole(n, m, b - 1),
            Tiling::Whole { .. } if n > 1 => whole(n - 1, m, 1),
            Tiling::Whole { .. } if m > 1 => whole(1, m - 1, 1),
            Tiling::Stream { .. } if n > 1 => stream(n - 1, m),
            Tiling::Stream { .. } if m > 1 => stream(1, m - 1),
            _ => return None,
        };
    }
}

prop_compose! {
    fn cases()((layout, shape, capacity) in (shapes(), 1_usize..20, tilings()).prop_filter_map(
                   "an image that fits",
                   |(shape, capacity, tiling)| {
                       Some((fitting(&shape, capacity, tiling)?, shape, capacity))
                   }))
        (x in prop::collection::vec(-9_i32..9, capacity * shape.inputs),
         d in prop::collection::vec(-9_i32..9, capacity * shape.outputs),
         w in prop::collection::vec(-9_i32..9, shape.weights()),
         (layout, shape, capacity) in Just((layout, shape, capacity)))
        -> (Layout, LinearShape, Integers, Integers, Vec<i32>) {
        let (inputs, outputs) = (shape.inputs, shape.outputs);
        let fill = |values: &[i32], columns: usize| {
            let mut m = Integers::zeros(capacity, columns);
            for row in 0..capacity {
                m.row_mut(row).copy_from_slice(&values[row * columns..(row + 1) * columns]);
            }
            m
        };
        (layout, shape, fill(&x, inputs), fill(&d, outputs), w)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn all_three_products_are_exact((layout, shape, x, d, w) in cases()) {
        let (inputs, outputs, rows) = (x.columns(), d.columns(), x.rows());
        let mut y = Integers::zeros(rows, outputs);
        let mut dx = Integers::zeros(rows, inputs);
        for chunk in 0..layout.chunks() {
            for i in 0..layout.output_tiles() {
                let mut sum = vec![0; DEGREE];
                for k in 0..layout.input_tiles() {
                    let wf = layout.forward_weights(&w, i, k);
                    negacyclic(&wf, &layout.pack_inputs(&x, chunk, k), &mut sum);
                }
                let values = pick(&sum, &layout.forward_positions(i, chunk));
                layout.place_forward(&mut y, &values, i, chunk);
            }
            for k in 0..layout.input_tiles() {
                let mut sum = vec![0; DEGREE];
                for i in 0..layout.output_tiles() {
                    let wb = layout.backward_weights(&w, i, k);
                    negacyclic(&wb, &layout.pack_gradients(&d, chunk, i), &mut sum);
                }
                let values = pick(&sum, &layout.backward_positions(k, chunk));
                layout.place_backward(&mut dx, &values, k, chunk);
            }
        }
        let mut gradient = vec![0_i64; shape.weights()];
        // Scalars have no gradient.
        if layout.tiling() == Tiling::Scalar {
            terms(&shape, |weight, output, input| {
                for j in 0..rows {
                    y.row_mut(j)[output] -= w[weight] * x.row(j)[input];
                    dx.row_mut(j)[input] -= w[weight] * d.row(j)[output];
                }
            });
            let zero = |m: &Integers| (0..rows).all(|j| m.row(j).iter().all(|&v| v == 0));
            prop_assert!(zero(&y) && zero(&dx));
            return Ok(());
        }
        for i in 0..layout.output_tiles() {
            for k in 0..layout.input_tiles() {
                let mut sum = vec![0; DEGREE];
                for chunk in 0..layout.chunks() {
                    let dp = layout.pack_gradients(&d, chunk, i);
                    negacyclic(&dp, &layout.pack_inputs(&x, chunk, k), &mut sum);
                }
                let values = pick(&sum, &layout.gradient_positions(i, k));
                layout.place_gradient(&mut gradient, &values, i, k);
            }
        }
        let mut expected_y = Integers::zeros(rows, outputs);
        let mut expected_dx = Integers::zeros(rows, inputs);
        let mut expected_gradient = vec![0_i64; shape.weights()];
        terms(&shape, |weight, output, input| {
            for j in 0..rows {
                expected_y.row_mut(j)[output] += w[weight] * x.row(j)[input];
                expected_dx.row_mut(j)[input] += w[weight] * d.row(j)[output];
                expected_gradient[weight] +=
                    i64::from(d.row(j)[output]) * i64::from(x.row(j)[input]);
            }
        });
        prop_assert_eq!(y, expected_y);
        prop_assert_eq!(dx, expected_dx);
        prop_assert_eq!(gradient, expected_gradient);
    }
}

#[test]
fn a_tile_that_does_not_fit_is_refused() {
    let refused = |tiling| Layout::new(DEGREE, &LinearShape::dense(8, 8), 8, tiling).is_none();
    assert!(refused(whole(8, 8, 2)));
    assert!(refused(whole(usize::MAX, 2, 2)));
    assert!(refused(whole(8, 8, 0)));
    assert!(refused(stream(8, 9)));
    assert!(refused(stream(8, 0)));
}

fn square(side: usize, kernel: usize, padding: usize, channels: [usize; 2]) -> LinearShape {
    let input = image(channels[0], side, side);
    LinearShape::conv(ConvShape::new(input, channels[1], kernel, 1, padding).unwrap())
}

/// A block must be longer than the reach of the kernel: 22 of 64 coefficients here.
#[test]
fn a_stream_needs_room_for_its_halo() {
    let shape = square(9, 3, 1, [4, 4]);
    let chunks = |n, m| Layout::new(DEGREE, &shape, 2, stream(n, m)).map(|l| l.chunks());
    // 89 + 100 elements of the sequence, 42 and 10 at a time.
    assert_eq!(chunks(1, 1), Some(189_usize.div_ceil(42)));
    assert_eq!(chunks(1, 2), Some(189_usize.div_ceil(10)));
    assert_eq!(chunks(3, 1), None);
}

/// Every coefficient of a result is named once, and what the plan counts is what is there.
#[test]
fn a_stream_says_what_it_carries() {
    let shape = square(9, 3, 1, [2, 3]);
    let layout = Layout::new(DEGREE, &shape, 5, stream(1, 1)).unwrap();
    let entries = |at: &dyn Fn(usize) -> Vec<usize>| -> usize {
        let chunks = (0..layout.chunks()).map(|chunk| {
            let mut positions = at(chunk);
            let all = positions.len();
            positions.sort_unstable();
            positions.dedup();
            assert_eq!(positions.len(), all);
            assert!(positions.iter().all(|&p| p < DEGREE));
            all
        });
        chunks.sum()
    };
    let pixels = entries(&|chunk| layout.backward_positions(0, chunk));
    assert_eq!(pixels, 5 * 81);
    let positions = entries(&|chunk| layout.forward_positions(0, chunk));
    assert!(positions > 5 * 81);
    let bound = layout.outputs_in_chunks();
    assert!(
        positions <= bound && bound < 2 * 5 * 81,
        "{positions} {bound}"
    );
}

#[test]
fn candidates_fit_and_cover() {
    let shape = LinearShape::dense(784, 32);
    let candidates: Vec<Layout> = Layout::candidates(4096, &shape, 700).collect();
    assert!(candidates.len() > 100);
    for layout in candidates {
        let Tiling::Whole {
            inputs_per_tile,
            outputs_per_tile,
            samples_per_chunk,
        } = layout.tiling()
        else {
            panic!("samples of one element fill what they are given");
        };
        assert!(inputs_per_tile * outputs_per_tile * samples_per_chunk <= 4096);
        assert_eq!(layout.chunks(), 700_usize.div_ceil(samples_per_chunk));
        assert_eq!(layout.input_range(layout.input_tiles() - 1).end, 784);
    }
}

/// A layer of 40 by 3 by 50 ciphertexts, all groups whole: what the definition of each part says.
#[test]
fn what_a_server_holds_is_counted() {
    let tiling = whole(2, 4, 8);
    let layout = Layout::new(DEGREE, &LinearShape::dense(80, 12), 400, tiling).unwrap();
    let (k, i, c) = (40, 3, 50);
    assert_eq!(
        (layout.input_tiles(), layout.output_tiles(), layout.chunks()),
        (k, i, c)
    );
    let held = layout.held();
    assert_eq!(held.kept, 2 * k * c + 2 * k * i);
    // Forward: 16 chunks expanded; backward and gradient: 16 chunks or 3 tiles, twice.
    let uploads = (2 * 16 * k).max(4 * 16 * i).max(4 * 3 * c);
    assert_eq!(held.uploads, uploads + k * i);
    assert_eq!(held.sums, (3 * 16 * i).max(3 * 16 * k).max(5 * 3 * k));
    let bytes = Held::bytes([held, held], DEGREE);
    let polynomials = 2 * held.kept + held.uploads + held.sums;
    assert_eq!(bytes, polynomials * 2 * 8 * DEGREE);
}

/// Large ciphertexts come in smaller groups, of one at least.
#[test]
fn groups_are_limited_in_bytes() {
    let tiling = whole(1, 1, 1);
    let layout = Layout::new(1 << 13, &LinearShape::dense(1, 1), 1, tiling).unwrap();
    let bytes = (4 * 8) << 13;
    assert_eq!(layout.group(1), 16);
    assert_eq!(layout.group((64 << 20) / bytes), 4);
    assert_eq!(layout.group((256 << 20) / bytes), 1);
    assert_eq!(layout.group((257 << 20) / bytes), 1);
}
