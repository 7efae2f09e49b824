//! The layouts against plain matrix products, in the schoolbook negacyclic ring.

use proptest::prelude::*;

use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::ImageShape;

use super::*;

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

/// Calls `term(weight, output, input)` for every product that the layer's definition names.
fn terms(shape: &LinearShape, mut term: impl FnMut(usize, usize, usize)) {
    let conv = match shape.kind {
        LinearKind::Dense => {
            for weight in 0..shape.weights() {
                term(weight, weight / shape.inputs, weight % shape.inputs);
            }
            return;
        }
        LinearKind::Conv(conv) => conv,
    };
    let (input, output, k) = (conv.input(), conv.output(), conv.kernel());
    for weight in 0..shape.weights() {
        let (e, a, c) = (
            weight % k,
            weight / k % k,
            weight / (k * k) % input.channels,
        );
        let out = weight / (k * k * input.channels);
        for position in 0..conv.positions() {
            let (i, j) = (position / output.width, position % output.width);
            let line = (i * conv.stride() + a).checked_sub(conv.padding());
            let column = (j * conv.stride() + e).checked_sub(conv.padding());
            if let (Some(u), Some(v)) = (line, column)
                && u < input.height
                && v < input.width
            {
                let pixel = (c * input.height + u) * input.width + v;
                term(weight, out * conv.positions() + position, pixel);
            }
        }
    }
}

fn pick(sum: &[i64], positions: &[usize]) -> Vec<i64> {
    positions.iter().map(|&p| sum[p]).collect()
}

/// Dense layers and convolutions of all strides and allowed paddings.
fn shapes() -> impl Strategy<Value = LinearShape> {
    let dense = (1_usize..12, 1_usize..9).prop_map(|(i, o)| LinearShape::dense(i, o));
    let sizes = (1_usize..4, 1_usize..7, 1_usize..7);
    let moves = (1_usize..4, 1_usize..6, 1_usize..4, 0_usize..3);
    let conv = (sizes, moves).prop_filter_map(
        "a kernel that fits and is padded by less than half of it",
        |((channels, height, width), (out, kernel, stride, padding))| {
            let input = ImageShape {
                channels,
                height,
                width,
            };
            let conv = ConvShape::new(input, out, kernel, stride, padding)?;
            let shape = LinearShape::conv(conv);
            Layout::exists_for(&shape).then_some(shape)
        },
    );
    prop_oneof![1 => dense, 3 => conv]
}

fn tilings() -> impl Strategy<Value = Tiling> {
    (1_usize..9, 1_usize..9, 1_usize..17).prop_map(|(n, m, b)| Tiling {
        inputs_per_tile: n,
        outputs_per_tile: m,
        samples_per_chunk: b,
    })
}

/// The given tiling, made smaller until it fits; nothing if not even the smallest does.
fn fitting(shape: &LinearShape, capacity: usize, mut tiling: Tiling) -> Option<Layout> {
    loop {
        if let Some(layout) = Layout::new(DEGREE, shape, capacity, tiling) {
            return Some(layout);
        }
        let Tiling {
            inputs_per_tile: n,
            outputs_per_tile: m,
            samples_per_chunk: b,
        } = &mut tiling;
        match (*n, *m, *b) {
            (1, 1, 1) => return None,
            (_, _, 2..) => *b -= 1,
            (2.., ..) => *n -= 1,
            _ => *m -= 1,
        }
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
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

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
    let tiling = Tiling {
        inputs_per_tile: 8,
        outputs_per_tile: 8,
        samples_per_chunk: 2,
    };
    assert!(Layout::new(DEGREE, &LinearShape::dense(8, 8), 8, tiling).is_none());
}

#[test]
fn candidates_fit_and_cover() {
    let shape = LinearShape::dense(784, 32);
    let candidates: Vec<Layout> = Layout::candidates(4096, &shape, 700).collect();
    assert!(candidates.len() > 100);
    for layout in candidates {
        let Tiling {
            inputs_per_tile,
            outputs_per_tile,
            samples_per_chunk,
        } = layout.tiling();
        assert!(inputs_per_tile * outputs_per_tile * samples_per_chunk <= 4096);
        assert_eq!(layout.samples(layout.chunks() - 1).end, 700);
        assert_eq!(layout.input_range(layout.input_tiles() - 1).end, 784);
    }
}

/// A layer of 40 by 3 by 50 ciphertexts, all groups whole: what the definition of each part says.
#[test]
fn what_a_server_holds_is_counted() {
    let tiling = Tiling {
        inputs_per_tile: 2,
        outputs_per_tile: 4,
        samples_per_chunk: 8,
    };
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
    let tiling = Tiling {
        inputs_per_tile: 1,
        outputs_per_tile: 1,
        samples_per_chunk: 1,
    };
    let layout = Layout::new(1 << 13, &LinearShape::dense(1, 1), 1, tiling).unwrap();
    let bytes = (4 * 8) << 13;
    assert_eq!(layout.group(1), 16);
    assert_eq!(layout.group((64 << 20) / bytes), 4);
    assert_eq!(layout.group((256 << 20) / bytes), 1);
    assert_eq!(layout.group((257 << 20) / bytes), 1);
}
