use super::*;
use crate::ntt::{NttTable, reference};
use crate::ring::Aligned;
use crate::zq::prime::transform_primes;

mod slots;
mod switch;

#[test]
fn only_known_back_ends_are_accepted() {
    for backend in Backend::ALL {
        assert_eq!(Backend::from_name(&backend.to_string()), Ok(backend));
        let expected = if backend.is_available() {
            Ok(Kernels(backend))
        } else {
            Err(BackendError::Unavailable { backend })
        };
        assert_eq!(backend.kernels(), expected);
    }
    assert!(Backend::Scalar.is_available() && Backend::best().is_available());
    let error = Backend::from_name("avx1024").unwrap_err();
    assert!(error.to_string().contains("avx1024"));
}

#[test]
fn rows_agree_with_single_operations() {
    let q = Modulus::new((1 << 47) - 115).unwrap();
    let a: Vec<u64> = (0..64).map(|i| q.reduce(u64::MAX / (i + 1))).collect();
    let b: Vec<u64> = (0..64)
        .map(|i| q.reduce(0x9e37_79b9_7f4a_7c15u64.rotate_left(i)))
        .collect();
    let run = |kernel: fn(&Modulus, &mut [u64], &[u64])| {
        let mut row = a.clone();
        kernel(&q, &mut row, &b);
        row
    };
    let expect = |f: &dyn Fn(u64, u64) -> u64| -> Vec<u64> {
        a.iter().zip(&b).map(|(&x, &y)| f(x, y)).collect()
    };
    assert_eq!(run(add_assign), expect(&|x, y| q.add(x, y)));
    assert_eq!(run(sub_assign), expect(&|x, y| q.sub(x, y)));
    assert_eq!(run(mul_assign), expect(&|x, y| q.mul(x, y)));
    assert_eq!(
        run(|q, x, y| mul_add_assign(q, x, y, y)),
        expect(&|x, y| q.mul_add(x, y, y))
    );
    assert_eq!(
        run(|q, x, y| mul_sub_assign(q, x, y, y)),
        expect(&|x, y| q.sub(x, q.mul(y, y)))
    );
    assert_eq!(
        run(|q, x, y| sub_scale_assign(q, x, y, q.shoup(5))),
        expect(&|x, y| q.mul(q.sub(x, y), 5))
    );
}

#[test]
fn sums_of_many_products_do_not_overflow() {
    // 300 terms of the largest residues: more than one chunk for 60 bits, a ragged last block
    for value in [(1 << 60) - 93, (1u64 << 47) - 115, 3] {
        let q = Modulus::new(value).unwrap();
        let top = vec![value - 1; 70];
        let mixed: Vec<u64> = (0..70)
            .map(|i| q.reduce(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i)))
            .collect();
        let mut terms: Vec<(&[u64], &[u64])> = vec![(&top, &top); 300];
        terms.push((&mixed, &top));
        let mut fast = mixed.clone();
        dot_add_assign(&q, &mut fast, &terms);
        let mut slow = mixed.clone();
        terms
            .iter()
            .for_each(|(a, b)| mul_add_assign(&q, &mut slow, a, b));
        assert_eq!(fast, slow);
    }
}

#[test]
fn back_ends_agree_on_cuts() {
    let from: Vec<u64> = (1..=128).collect();
    // the second pitch is no whole line, and neither is a start at an odd word
    for (block, pitch, start) in [
        (16, 48, 0),
        (16, 17, 0),
        (16, 48, 3),
        (64, 128, 8),
        (8, 8, 0),
    ] {
        let cut = |kernels: Kernels| {
            let mut out = Aligned::zeros(start + from.len() / block * pitch);
            kernels.cut(&mut out[start..], pitch, &from, block);
            out.to_vec()
        };
        let expected = cut(scalar_kernels());
        for (at, from) in from.chunks(block).enumerate() {
            assert_eq!(expected[start + at * pitch..][..block], *from);
        }
        assert_eq!(expected.iter().filter(|&&x| x != 0).count(), from.len());
        for kernels in vector_kernels() {
            assert_eq!(
                cut(kernels),
                expected,
                "{kernels:?} {block} {pitch} {start}"
            );
        }
    }
}

/// Sizes in bits of the moduli under test: both sides of every border between two ways.
const BITS: [u32; 10] = [14, 30, 42, 46, 47, 48, 49, 50, 55, 60];

/// The back ends present, but for the scalar one.
fn vector_kernels() -> impl Iterator<Item = Kernels> {
    Backend::ALL[1..].iter().filter_map(|b| b.kernels().ok())
}

fn scalar_kernels() -> Kernels {
    Backend::Scalar.kernels().unwrap()
}

/// The smallest and the largest prime of `bits` bits that a transform of degree `2^log_n` takes.
fn moduli(bits: u32, log_n: u32) -> Vec<Modulus> {
    let two_n = 2u64 << log_n;
    let top = transform_primes(bits, log_n, 1, &[]).ok();
    let low = (1..).map(|k| (1u64 << (bits - 1)) + k * two_n + 1);
    let low = low
        .take_while(|&q| q < 1 << bits)
        .take(2000)
        .find(|&q| crate::zq::prime::is_prime(q));
    let found = top.into_iter().flatten().chain(low);
    found.map(|q| Modulus::new(q).unwrap()).collect()
}

/// Rows of residues: all 0, all 1, all `q - 1`, alternating ends, and two mixed ones.
fn rows(q: &Modulus, n: usize) -> Vec<Vec<u64>> {
    let top = q.value() - 1;
    let mixed = |seed: u64| {
        let mut state = seed;
        let next = |_| {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            match state >> 61 {
                0 => top,
                1 => 0,
                _ => q.reduce(state.rotate_left(23)),
            }
        };
        (0..n).map(next).collect()
    };
    let ends = (0..n).map(|i| top * (i as u64 % 2)).collect();
    vec![
        vec![0; n],
        vec![1; n],
        vec![top; n],
        ends,
        mixed(1),
        mixed(0x9e37_79b9),
    ]
}

/// Signed words of all magnitudes.
fn signed(row: &[u64]) -> Vec<i64> {
    let spread = |(i, &x): (u32, &u64)| (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64) >> (i % 64);
    (0..).zip(row).map(spread).collect()
}

#[test]
fn counts_of_tails_are_those_of_a_search() {
    let tails: Vec<u64> = (0..32u64).map(|k| (u64::MAX >> 1) >> (2 * k)).collect();
    for n in [0, 1, 31, 32, 33, 200] {
        let words: Vec<u64> = (0..n)
            .map(|i| {
                let i = i as u64;
                let edge = tails[i as usize % 32] * 2 + i % 2;
                [
                    edge.wrapping_sub(2),
                    edge,
                    i,
                    u64::MAX,
                    i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                ][i as usize % 5]
            })
            .collect();
        let expected: Vec<i64> = words
            .iter()
            .map(|&word| {
                let count = tails.partition_point(|&tail| tail > word >> 1) as i64;
                if word % 2 == 1 { -count } else { count }
            })
            .collect();
        for kernels in vector_kernels().chain([scalar_kernels()]) {
            let mut out = vec![7; n];
            kernels.count_tails(&tails, &words, &mut out);
            assert_eq!(out, expected, "{kernels:?}");
        }
    }
}

/// Every kernel of two rows and one constant, in a list: the laws are that the lists are equal.
fn all_kernels(kernels: Kernels, q: &Modulus, a: &[u64], b: &[u64], c: &[u64]) -> Vec<Vec<u64>> {
    let on = |f: &dyn Fn(&mut [u64])| {
        let mut row = a.to_vec();
        f(&mut row);
        row
    };
    let constants = [
        q.shoup(0),
        q.shoup(1),
        q.shoup(q.value() - 1),
        q.shoup(c[0]),
    ];
    let mut out = vec![
        on(&|a| kernels.add_assign(q, a, b)),
        on(&|a| kernels.sub_assign(q, a, b)),
        on(&|a| kernels.neg_assign(q, a)),
        on(&|a| kernels.mul_assign(q, a, b)),
        on(&|a| kernels.mul(q, a, b, c)),
        on(&|a| kernels.mul_add_assign(q, a, b, c)),
        on(&|a| kernels.mul_sub_assign(q, a, b, c)),
        on(&|a| kernels.dot_add_assign(q, a, &[(b, c)])),
        on(&|a| kernels.dot_add_assign(q, a, &[(b, c), (c, c), (b, b)])),
        on(&|a| kernels.weigh_add_assign(q, a, &[(b, c[0]), (c, 0), (b, q.value() - 1)])),
        on(&|a| kernels.add_signed_assign(q, a, &signed(b))),
        on(&|a| kernels.add_signed_assign(q, a, &vec![i64::MIN; a.len()])),
    ];
    for w in constants {
        out.push(on(&|a| kernels.scale_assign(q, a, w)));
        out.push(on(&|a| kernels.sub_scale_assign(q, a, b, w)));
    }
    out
}

#[test]
fn back_ends_agree_on_rows() {
    for q in BITS.iter().flat_map(|&bits| moduli(bits, 3)) {
        // whole registers, ragged ends, less than a register
        for n in [0, 1, 7, 8, 9, 64, 70, 143] {
            let rows = rows(&q, n + 1);
            for (i, a) in rows.iter().enumerate() {
                for (j, b) in rows.iter().enumerate() {
                    let c = &rows[(2 * i + 3 * j) % rows.len()];
                    let run = |kernels| all_kernels(kernels, &q, &a[..n], &b[..n], &c[1..]);
                    let run = |kernels| {
                        if n == 0 { Vec::new() } else { run(kernels) }
                    };
                    let expected = run(scalar_kernels());
                    for kernels in vector_kernels() {
                        assert_eq!(run(kernels), expected, "{kernels:?} {q:?} {n}");
                    }
                }
            }
        }
    }
}

#[test]
fn back_ends_agree_on_long_sums() {
    // more terms than one chunk of any way takes, of the largest residues
    for q in BITS.iter().flat_map(|&bits| moduli(bits, 3)) {
        let rows = rows(&q, 75);
        for count in [0, 1, 2047, 2048, 2049, 4500] {
            let mut terms: Vec<(&[u64], &[u64])> = vec![(&rows[2], &rows[2]); count];
            terms.push((&rows[4], &rows[5]));
            let weighted: Vec<_> = terms.iter().map(|(a, b)| (*a, b[0])).collect();
            let run = |kernels: Kernels| {
                let mut acc = rows[2].clone();
                kernels.dot_add_assign(&q, &mut acc, &terms);
                kernels.weigh_add_assign(&q, &mut acc, &weighted);
                acc
            };
            let expected = run(scalar_kernels());
            for kernels in vector_kernels() {
                assert_eq!(run(kernels), expected, "{kernels:?} {q:?} {count}");
            }
        }
    }
}

#[test]
fn back_ends_agree_on_centred_residues() {
    let moduli: Vec<Modulus> = BITS.iter().flat_map(|&bits| moduli(bits, 3)).collect();
    for from in &moduli {
        let half = from.value() / 2;
        let mut row = [0, 1, half - 1, half, half + 1, half + 2, from.value() - 1].to_vec();
        row.extend(&rows(from, 20)[4]);
        for to in &moduli {
            let run = |kernels: Kernels| {
                let mut out = vec![7; row.len()];
                kernels.centred_to(from, to, &mut out, &row);
                out
            };
            let expected = run(scalar_kernels());
            for kernels in vector_kernels() {
                assert_eq!(run(kernels), expected, "{kernels:?} {from:?} {to:?}");
            }
        }
    }
}

#[test]
fn back_ends_agree_on_transforms() {
    for log_n in 3..=16 {
        for q in BITS.iter().flat_map(|&bits| moduli(bits, log_n)) {
            let table = NttTable::new(q, log_n).unwrap();
            for row in rows(&q, 1 << log_n) {
                let run = |kernels: Kernels| {
                    let (mut forward, mut inverse) = (row.clone(), row.clone());
                    table.forward_with(kernels, &mut forward);
                    table.inverse_with(kernels, &mut inverse);
                    let mut back = forward.clone();
                    table.inverse_with(kernels, &mut back);
                    assert_eq!(back, row);
                    back.clone_from(&row);
                    table.forward_lazy_with(kernels, &mut back);
                    let limit = if q.bits() <= 50 { 1 << 52 } else { q.value() };
                    let lazy = back.iter().zip(&forward);
                    assert!(
                        lazy.into_iter()
                            .all(|(&x, &y)| x < limit && q.reduce(x) == y)
                    );
                    [forward, inverse]
                };
                let expected = run(scalar_kernels());
                for kernels in vector_kernels() {
                    assert!(run(kernels) == expected, "{kernels:?} {q:?} {log_n}");
                }
            }
        }
    }
}

#[test]
fn every_back_end_agrees_with_the_schoolbook() {
    for log_n in [3, 4, 5, 6, 7, 8] {
        for q in BITS.iter().flat_map(|&bits| moduli(bits, log_n)) {
            let table = NttTable::new(q, log_n).unwrap();
            let rows = rows(&q, 1 << log_n);
            for (a, b) in [(&rows[4], &rows[5]), (&rows[2], &rows[3])] {
                let slow = reference::negacyclic_product(q.value(), a, b);
                for kernels in vector_kernels().chain([scalar_kernels()]) {
                    let (mut a, mut b) = (a.clone(), b.clone());
                    table.forward_with(kernels, &mut a);
                    table.forward_with(kernels, &mut b);
                    kernels.mul_assign(&q, &mut a, &b);
                    table.inverse_with(kernels, &mut a);
                    assert_eq!(a, slow, "{kernels:?} {q:?} {log_n}");
                }
            }
        }
    }
}

#[test]
fn inverse_of_values_at_the_bounds() {
    // the largest residues wherever a mask of the place has odd parity: any child's sums at their largest
    // beside its sibling's at their smallest, and the other way round, in all but the outermost layers
    for (bits, log_n) in [(46, 7), (47, 7), (47, 10), (50, 9), (60, 8)] {
        for q in moduli(bits, log_n) {
            let table = NttTable::new(q, log_n).unwrap();
            for mask in 0..1usize << log_n {
                for flip in [0, 1] {
                    let row: Vec<u64> = (0..1usize << log_n)
                        .map(|i| u64::from(((i & mask).count_ones() ^ flip) & 1) * (q.value() - 1))
                        .collect();
                    let run = |kernels: Kernels| {
                        let mut row = row.clone();
                        table.inverse_with(kernels, &mut row);
                        row
                    };
                    let expected = run(scalar_kernels());
                    for kernels in vector_kernels() {
                        assert!(run(kernels) == expected, "{kernels:?} {q:?} {mask:x}");
                    }
                }
            }
        }
    }
}
