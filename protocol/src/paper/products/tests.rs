//! Terms against the plain sums, units and tiles as partitions, counts as sums.

use super::*;
use crate::fixture::image;

fn conv(stride: usize, padding: usize) -> (ConvShape, Products) {
    let input = image(2, 5, 6);
    let conv = ConvShape::new(input, 3, 3, stride, padding).unwrap();
    let shape = LinearShape {
        inputs: 60,
        outputs: 3 * conv.positions(),
        kind: LinearKind::Conv(conv),
    };
    (conv, Products::new(shape))
}

fn weights(count: usize) -> Vec<i32> {
    (0..count as i32).map(|i| i * 37 % 101 - 50).collect()
}

/// All three products are the same list of `(output, input, weight)`, seen from three sides.
#[test]
fn the_three_products_are_one_bilinear_map() {
    let dense = Products::new(LinearShape::dense(20, 7));
    let all = [
        dense,
        conv(1, 0).1,
        conv(1, 1).1,
        conv(2, 1).1,
        conv(3, 2).1,
    ];
    for products in all {
        let w = weights(products.results(Phase::Gradient));
        let mut forward: Vec<(u32, u32, i64)> = Vec::new();
        for y in 0..products.results(Phase::Forward) as u32 {
            forward.extend(products.forward(&w, y).iter().map(|&(x, w)| (y, x, w)));
        }
        let mut backward = Vec::new();
        for x in 0..products.results(Phase::Backward) as u32 {
            backward.extend(products.backward(&w, x).iter().map(|&(y, w)| (y, x, w)));
        }
        let mut gradient = Vec::new();
        for at in 0..w.len() as u32 {
            let terms = products.gradient(at);
            gradient.extend(
                terms
                    .iter()
                    .map(|&(y, x)| (y, x, i64::from(w[at as usize]))),
            );
        }
        for list in [&mut forward, &mut backward, &mut gradient] {
            list.sort_unstable();
        }
        assert_eq!(forward, backward);
        assert_eq!(forward, gradient);
    }
}

#[test]
fn a_convolution_has_the_terms_of_its_definition() {
    let (shape, products) = conv(2, 1);
    let w = weights(shape.weights());
    let x: Vec<i64> = (0..60).map(|i| i * 13 % 29 - 14).collect();
    for output in 0..products.results(Phase::Forward) {
        let (o, at) = (output / shape.positions(), output % shape.positions());
        let (i, j) = (at / shape.output().width, at % shape.output().width);
        let mut expected = 0;
        for c in 0..2 {
            for a in 0..3 {
                for e in 0..3 {
                    let (line, column) = ((2 * i + a) as i64 - 1, (2 * j + e) as i64 - 1);
                    if (0..5).contains(&line) && (0..6).contains(&column) {
                        let weight = i64::from(w[((o * 2 + c) * 3 + a) * 3 + e]);
                        expected += weight * x[(c as i64 * 30 + line * 6 + column) as usize];
                    }
                }
            }
        }
        let terms = products.forward(&w, output as u32);
        let got: i64 = terms.iter().map(|&(k, w)| w * x[k as usize]).sum();
        assert_eq!(got, expected, "output {output}");
    }
}

#[test]
fn units_are_a_partition_and_name_all_their_operands() {
    for products in [
        Products::new(LinearShape::dense(50, 33)),
        conv(1, 1).1,
        conv(2, 0).1,
    ] {
        let w = weights(products.results(Phase::Gradient));
        for phase in [Phase::Forward, Phase::Backward, Phase::Gradient] {
            let units = products.units(phase);
            let results = sorted(units.iter().flat_map(|u| u.results.iter().copied()));
            let all: Vec<u32> = (0..products.results(phase) as u32).collect();
            assert_eq!(results, all);
            assert_eq!(
                units.iter().map(|u| u.results.len()).sum::<usize>(),
                all.len()
            );
            for unit in &units {
                for &result in &unit.results {
                    let (inputs, outputs): (Vec<u32>, Vec<u32>) = match phase {
                        Phase::Forward => (
                            products.forward(&w, result).iter().map(|t| t.0).collect(),
                            vec![],
                        ),
                        Phase::Backward => (
                            vec![],
                            products.backward(&w, result).iter().map(|t| t.0).collect(),
                        ),
                        _ => products.gradient(result).iter().map(|t| (t.1, t.0)).unzip(),
                    };
                    assert!(inputs.iter().all(|i| unit.inputs.binary_search(i).is_ok()));
                    assert!(
                        outputs
                            .iter()
                            .all(|i| unit.outputs.binary_search(i).is_ok())
                    );
                    assert!(inputs.len() + outputs.len() <= 2 * products.widest());
                }
            }
            for limit in [1, 40, 90, 10_000] {
                let tiles = Products::tiles(&units, limit);
                assert_eq!(tiles.first().unwrap().units.start, 0);
                assert_eq!(tiles.last().unwrap().units.end, units.len());
                assert!(tiles.windows(2).all(|t| t[0].units.end == t[1].units.start));
                for tile in &tiles {
                    let held = tile.inputs.len() + tile.outputs.len();
                    assert!(held <= limit || tile.units.len() == 1);
                }
            }
        }
    }
}

#[test]
fn counts_of_a_dense_layer_are_its_sizes() {
    let counts = Products::new(LinearShape::dense(20, 7)).counts(false);
    assert_eq!(counts.plain_products, 2 * 140);
    assert_eq!(counts.products, 140);
    assert_eq!(counts.rescales, 7 + 20 + 140);
    assert_eq!(counts.downloads, 7 + 20 + 140);
    assert_eq!(counts.uploads, 27);
    assert_eq!(counts.transforms, 4 * 27 + 6 * 140);
    let first = Products::new(LinearShape::dense(20, 7)).counts(true);
    assert_eq!((first.plain_products, first.downloads), (140, 147));
}

#[test]
fn what_several_tiles_need_is_expanded_for_each() {
    let dense = LinearShape::dense(12, 5);
    // forward: inputs; backward: output gradients; gradient: both
    assert_eq!(Products::new(dense).expansions(false), 12 + 5 + (12 + 5));
    assert_eq!(Products::new(dense).expansions(true), 12 + (12 + 5));
    // too wide for one tile: its inputs come back for the second
    let wide = LinearShape::dense(BANK - 2, 4);
    let once = (BANK - 2) as u64 + (BANK - 2 + 4) as u64;
    assert!(Products::new(wide).expansions(true) > once);
}
