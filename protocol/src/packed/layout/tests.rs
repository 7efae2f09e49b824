//! The layouts against plain matrix products, in the schoolbook negacyclic ring.

use proptest::prelude::*;

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

fn pick(sum: &[i64], positions: &[usize]) -> Vec<i64> {
    positions.iter().map(|&p| sum[p]).collect()
}

prop_compose! {
    fn cases()(inputs in 1_usize..12, outputs in 1_usize..9, capacity in 1_usize..20,
               n_w in 1_usize..9, m_w in 1_usize..9, b0 in 1_usize..17)
        (x in prop::collection::vec(-9_i32..9, capacity * inputs),
         d in prop::collection::vec(-9_i32..9, capacity * outputs),
         w in prop::collection::vec(-9_i32..9, outputs * inputs),
         shape in Just((inputs, outputs, capacity, n_w, m_w, b0)))
        -> (DenseLayout, Integers, Integers, Vec<i32>) {
        let (inputs, outputs, capacity, mut n_w, mut m_w, mut b0) = shape;
        while n_w * m_w * b0 > DEGREE {
            if b0 > 1 { b0 -= 1 } else if n_w > 1 { n_w -= 1 } else { m_w -= 1 }
        }
        let tiling = Tiling { inputs_per_tile: n_w, outputs_per_tile: m_w, samples_per_chunk: b0 };
        let layout = DenseLayout::new(DEGREE, inputs, outputs, capacity, tiling).unwrap();
        let fill = |values: &[i32], columns: usize| {
            let mut m = Integers::zeros(capacity, columns);
            for row in 0..capacity {
                m.row_mut(row).copy_from_slice(&values[row * columns..(row + 1) * columns]);
            }
            m
        };
        (layout, fill(&x, inputs), fill(&d, outputs), w)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_three_products_are_exact((layout, x, d, w) in cases()) {
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
        let mut gradient = vec![0_i64; outputs * inputs];
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
        for j in 0..rows {
            for i in 0..outputs {
                let expected: i32 = (0..inputs).map(|k| w[i * inputs + k] * x.row(j)[k]).sum();
                prop_assert_eq!(y.row(j)[i], expected);
            }
            for k in 0..inputs {
                let expected: i32 = (0..outputs).map(|i| w[i * inputs + k] * d.row(j)[i]).sum();
                prop_assert_eq!(dx.row(j)[k], expected);
            }
        }
        for i in 0..outputs {
            for k in 0..inputs {
                let expected: i64 =
                    (0..rows).map(|j| i64::from(d.row(j)[i]) * i64::from(x.row(j)[k])).sum();
                prop_assert_eq!(gradient[i * inputs + k], expected);
            }
        }
    }
}

#[test]
fn a_tile_that_does_not_fit_is_refused() {
    let tiling = Tiling {
        inputs_per_tile: 8,
        outputs_per_tile: 8,
        samples_per_chunk: 2,
    };
    assert!(DenseLayout::new(DEGREE, 8, 8, 8, tiling).is_none());
}

#[test]
fn the_cheapest_layout_fits_and_covers() {
    let layout = DenseLayout::cheapest(4096, 784, 32, 700, false).unwrap();
    let Tiling {
        inputs_per_tile,
        outputs_per_tile,
        samples_per_chunk,
    } = layout.tiling();
    assert!(inputs_per_tile * outputs_per_tile * samples_per_chunk <= 4096);
    assert_eq!(layout.samples(layout.chunks() - 1).end, 700);
    assert_eq!(layout.input_range(layout.input_tiles() - 1).end, 784);
}
