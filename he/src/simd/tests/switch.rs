//! The kernels of key switching, each against its formula in 128-bit remainders, on every back end.

use super::*;
use crate::ring::Automorphism;

/// All back ends present.
fn kernels() -> impl Iterator<Item = Kernels> {
    vector_kernels().chain([scalar_kernels()])
}

/// Rows of lazy residues, ends of the range among them.
fn lazy_rows(q: &Modulus, n: usize) -> Vec<Vec<u64>> {
    let mut out = rows(q, n);
    if q.bits() <= 50 {
        let multiples = (1u64 << 52) / q.value();
        let spread = |(i, &x): (usize, &u64)| x + (i as u64 % multiples) * q.value();
        out.push(out[4].iter().enumerate().map(spread).collect());
        out.push(vec![(1 << 52) - 1; n]);
    }
    out
}

/// `sum a b mod q`.
fn dot(q: &Modulus, terms: impl Iterator<Item = (u64, u64)>) -> u64 {
    let q = u128::from(q.value());
    terms.fold(0, |sum, (a, b)| {
        (sum + u128::from(a) % q * u128::from(b)) % q
    }) as u64
}

/// Lengths of rows: whole blocks, ragged ends, less than a register.
const LENGTHS: [usize; 7] = [0, 1, 8, 9, 64, 70, 143];

#[test]
fn divisions_are_products_of_differences() {
    for q in BITS.iter().flat_map(|&bits| moduli(bits, 3)) {
        for (n, i) in LENGTHS.iter().flat_map(|&n| (0..6).map(move |i| (n, i))) {
            let (rows, lazy) = (rows(&q, n), lazy_rows(&q, n));
            let (acc, a, b) = (&rows[5], &rows[i], &lazy[(3 * i + 1) % lazy.len()]);
            for w in [q.shoup(q.value() - 1), q.shoup(q.reduce(0x5851_f42d))] {
                let one = |a: u64, b: u64, c: u64| {
                    dot(
                        &q,
                        [(a, w.value), (q.neg(q.reduce(b)), w.value), (c, 1)].into_iter(),
                    )
                };
                let each = |f: &dyn Fn(usize) -> u64| -> Vec<u64> { (0..n).map(f).collect() };
                for kernels in kernels() {
                    let mut out = vec![7; n];
                    kernels.scale(&q, &mut out, b, w);
                    assert_eq!(out, each(&|k| one(b[k], 0, 0)), "{kernels:?} {q:?}");
                    kernels.sub_scale(&q, &mut out, a, b, w);
                    assert_eq!(out, each(&|k| one(a[k], b[k], 0)), "{kernels:?} {q:?}");
                    out.clone_from(acc);
                    kernels.sub_scale_add_assign(&q, &mut out, a, b, w);
                    assert_eq!(out, each(&|k| one(a[k], b[k], acc[k])), "{kernels:?} {q:?}");
                }
            }
        }
    }
}

#[test]
fn inner_products_are_sums_of_products() {
    for q in BITS.iter().flat_map(|&bits| moduli(bits, 3)) {
        for n in LENGTHS {
            let (digits, keys) = (lazy_rows(&q, n), rows(&q, n));
            for count in [0, 1, 2, 7] {
                let terms: Vec<(&[u64], &[u64], &[u64])> = (0..count)
                    .map(|t| {
                        let digit = &digits[digits.len() - 1 - t % digits.len()];
                        (
                            &digit[..],
                            &keys[(t + 2) % 6][..],
                            &keys[(5 * t + 4) % 6][..],
                        )
                    })
                    .collect();
                for kernels in kernels() {
                    let (mut out0, mut out1) = (vec![7; n], vec![9; n]);
                    kernels.dot_pair(&q, &mut out0, &mut out1, &terms);
                    for k in 0..n {
                        let half0 = dot(&q, terms.iter().map(|(d, key, _)| (d[k], key[k])));
                        let half1 = dot(&q, terms.iter().map(|(d, _, key)| (d[k], key[k])));
                        assert_eq!((out0[k], out1[k]), (half0, half1), "{kernels:?} {q:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn long_inner_products_do_not_overflow() {
    for q in BITS.iter().flat_map(|&bits| moduli(bits, 3)) {
        let n = 41;
        let (top, mixed) = (vec![q.value() - 1; n], &rows(&q, n)[5]);
        let lazy = lazy_rows(&q, n);
        let largest = lazy.last().unwrap();
        let largest = if q.bits() <= 50 { largest } else { &top };
        for count in [127, 128, 129, 2047, 2048, 2049, 4500] {
            let mut terms: Vec<(&[u64], &[u64], &[u64])> = vec![(largest, &top, &top); count];
            terms.push((&top, mixed, &top));
            let expected = |end: u64| {
                let sum = dot(&q, [(largest[0], top[0])].into_iter());
                dot(&q, [(sum, count as u64), (top[0], end)].into_iter())
            };
            for kernels in kernels() {
                let (mut out0, mut out1) = (vec![7; n], vec![9; n]);
                kernels.dot_pair(&q, &mut out0, &mut out1, &terms);
                let halves = out0.iter().zip(&out1).zip(mixed);
                halves.for_each(|((&x, &y), &end)| {
                    assert_eq!(
                        (x, y),
                        (expected(end), expected(top[0])),
                        "{kernels:?} {q:?}"
                    );
                });
            }
        }
    }
}

#[test]
fn changes_of_basis_are_sums_of_products() {
    for to in BITS.iter().flat_map(|&bits| moduli(bits, 3)) {
        for (n, digit_bits) in LENGTHS
            .iter()
            .flat_map(|&n| [20, 50, 52, 60].map(|b| (n, b)))
        {
            for count in [1, 2, 5, MAX_ROWS] {
                let top = (1u64 << digit_bits) - 1;
                let word = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3;
                let digits: Vec<u64> = (0..n * count)
                    .map(|i| if i % 3 == 0 { top } else { word(i) & top })
                    .collect();
                let factors: Vec<u64> = (0..count)
                    .map(|i| {
                        if i % 2 == 0 {
                            to.value() - 1
                        } else {
                            to.reduce(word(i))
                        }
                    })
                    .collect();
                for kernels in kernels() {
                    let mut out = vec![7; n];
                    kernels.convert(&to, &mut out, &digits, &factors, digit_bits);
                    for (k, &x) in out.iter().enumerate() {
                        let terms = digits.iter().skip(k).step_by(n).copied();
                        let expected = dot(&to, terms.zip(factors.iter().copied()));
                        assert_eq!(x, expected, "{kernels:?} {to:?} {digit_bits}");
                    }
                }
            }
        }
    }
}

#[test]
fn quotients_count_the_product_to_take_off() {
    // sums of fractions that are far from a half, so that exact arithmetic is 60-bit fixed point
    for count in [1usize, 2, 3, 9] {
        let basis: Vec<Modulus> = (0..count).map(|i| moduli(BITS[i + 1], 3)[0]).collect();
        for n in LENGTHS {
            let digits: Vec<u64> = basis.iter().flat_map(|q| rows(q, n)[4].clone()).collect();
            let exact = |k: usize| {
                let fraction = |(i, q): (usize, &Modulus)| {
                    (u128::from(digits[i * n + k]) << 60) / u128::from(q.value())
                };
                let sum: u128 = basis.iter().enumerate().map(fraction).sum();
                ((sum + (1 << 59)) >> 60) as u64
            };
            for kernels in kernels() {
                let mut out = vec![7; n];
                kernels.quotients(&basis, &mut out, &digits);
                let expected: Vec<u64> = (0..n).map(exact).collect();
                assert_eq!(out, expected, "{kernels:?}");
            }
        }
    }
}

#[test]
fn permutations_move_every_word_to_its_place() {
    for log_n in 3..=16u32 {
        let (n, two_n) = (1usize << log_n, 2usize << log_n);
        let row: Vec<u64> = (0..n as u64).collect();
        for g in [1, 3, 5, 25, two_n / 2 + 1, two_n - 1] {
            let map = Automorphism::new(log_n, g as u64).unwrap();
            let reverse = |k: usize| k.reverse_bits() >> (usize::BITS - log_n);
            let source = |k: usize| reverse((g * (2 * reverse(k) + 1) - 1) / 2 % n) as u64;
            let expected: Vec<u64> = (0..n).map(source).collect();
            for kernels in kernels() {
                let mut out = vec![7; n];
                kernels.permute(&mut out, &row, map.permutation());
                assert_eq!(out, expected, "{kernels:?} {log_n} {g}");
            }
        }
    }
}
