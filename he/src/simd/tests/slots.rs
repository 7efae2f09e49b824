//! The kernels of encoding and decoding: every back end gives the bits of the scalar one, and that
//! one what the formulas say.

use super::*;
use crate::simd::SIGNED_LIMIT;

/// Numbers of all sizes, from a counter.
fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let word =
        |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.rotate_left(i as u32 % 64);
    (0..n as u64)
        .map(|i| (word(i) as i64 as f64) * 2f64.powi((i % 70) as i32 - 70))
        .collect()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn sums_and_signed_residues() {
    for q in BITS.iter().flat_map(|&bits| moduli(bits, 3)) {
        for n in [0, 5, 8, 31] {
            let rows = rows(&q, n);
            let (least, most) = (i64::MIN, i64::MAX);
            let ends = [0, 1, -1, most, least, q.value() as i64, -(q.value() as i64)];
            let values: Vec<i64> = (0..n)
                .map(|i| {
                    ends.get(i)
                        .copied()
                        .unwrap_or((rows[4][i] as i64 - 1) * (1 - 2 * (i as i64 & 1)))
                })
                .collect();
            for kernels in vector_kernels().chain([scalar_kernels()]) {
                let mut out = vec![7; n];
                kernels.add(&q, &mut out, &rows[4], &rows[5]);
                let sum = |(&a, &b): (&u64, &u64)| {
                    ((u128::from(a) + u128::from(b)) % u128::from(q.value())) as u64
                };
                assert_eq!(
                    out,
                    rows[4].iter().zip(&rows[5]).map(sum).collect::<Vec<_>>()
                );
                kernels.signed_residues(&q, &mut out, &values);
                let residue = |&v: &i64| i128::from(v).rem_euclid(i128::from(q.value())) as u64;
                assert_eq!(
                    out,
                    values.iter().map(residue).collect::<Vec<_>>(),
                    "{kernels:?}"
                );
                out.copy_from_slice(&rows[5]);
                kernels.add_signed_assign(&q, &mut out, &values);
                let sum = |(&a, &v): (&u64, &i64)| q.add(a, residue(&v));
                assert_eq!(
                    out,
                    rows[5].iter().zip(&values).map(sum).collect::<Vec<_>>()
                );
            }
        }
    }
}

#[test]
fn twists_and_roundings_agree_to_the_bit() {
    for n in [1usize, 4, 8, 20, 64] {
        let (x, w) = (numbers(2 * n, 1), numbers(2 * n, 2));
        let (re, im) = (numbers(n, 3), numbers(n, 4));
        let run = |kernels: Kernels| {
            let (mut a, mut b, mut c) = (vec![0.0; n], vec![0.0; n], vec![0.0; 2 * n]);
            kernels.untwist(&mut a, &mut b, &x, &w, 3.7);
            kernels.twist(&mut c, &re, &im, &w, 0.3);
            let mut integers = vec![0; n];
            let within = kernels.round(&mut integers, &re, SIGNED_LIMIT);
            let q = moduli(50, 3)[0];
            let residues: Vec<u64> = re.iter().map(|x| q.reduce_i64(*x as i64)).collect();
            let mut sum = im.clone();
            kernels.add_centred(&q, &mut sum, 12.5, &residues);
            (bits(&a), bits(&b), bits(&c), integers, within, bits(&sum))
        };
        let slow = run(scalar_kernels());
        for kernels in vector_kernels() {
            assert_eq!(run(kernels), slow);
        }
        assert!(slow.4);
        for (integer, x) in slow.3.iter().zip(&re) {
            assert!((*integer as f64 - x).abs() <= 0.5);
        }
        for k in 0..n {
            let product = |a: f64, b: f64| (a * w[2 * k] + b * w[2 * k + 1]) * 3.7;
            assert_eq!(slow.0[k], product(x[2 * k], x[2 * k + 1]).to_bits());
        }
    }
    for kernels in vector_kernels().chain([scalar_kernels()]) {
        for bad in [f64::NAN, f64::INFINITY, -SIGNED_LIMIT, 1e300] {
            for place in [0, 7, 8, 10] {
                let mut values = vec![0.5; 11];
                values[place] = bad;
                assert!(!kernels.round(&mut [0; 11], &values, SIGNED_LIMIT));
            }
        }
    }
}
