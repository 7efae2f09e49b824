use super::*;
use crate::zq::prime::transform_primes;
use proptest::prelude::*;

fn table(log_n: u32, bits: u32) -> NttTable {
    let q = transform_primes(bits, log_n, 1, &[]).unwrap()[0];
    NttTable::new(Modulus::new(q).unwrap(), log_n).unwrap()
}

/// A row of residues from a seed; dense near both ends of the range.
fn row(table: &NttTable, seed: u64) -> Vec<u64> {
    let q = table.modulus();
    let mut state = seed | 1;
    (0..table.degree())
        .map(|_| {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            match state >> 61 {
                0 => q.value() - 1,
                1 => 0,
                _ => q.reduce(state.rotate_left(23)),
            }
        })
        .collect()
}

fn product(table: &NttTable, a: &[u64], b: &[u64]) -> Vec<u64> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    table.forward(&mut a);
    table.forward(&mut b);
    crate::simd::mul_assign(&table.modulus(), &mut a, &b);
    table.inverse(&mut a);
    a
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn product_is_schoolbook(log_n in 1u32..=8, bits in prop::sample::select(vec![20u32, 30, 47, 60]), s: u64, t: u64) {
        let table = table(log_n, bits);
        let (a, b) = (row(&table, s), row(&table, t));
        let slow = reference::negacyclic_product(table.modulus().value(), &a, &b);
        prop_assert_eq!(product(&table, &a, &b), slow);
    }

    #[test]
    fn forward_is_evaluation_at_the_roots(log_n in 1u32..=7, bits in prop::sample::select(vec![20u32, 45, 60]), s: u64) {
        let table = table(log_n, bits);
        let a = row(&table, s);
        let mut fast = a.clone();
        table.forward(&mut fast);
        prop_assert_eq!(fast, reference::transform(table.modulus().value(), table.root(), &a));
    }

    #[test]
    fn transforms_are_inverse_linear_and_canonical(log_n in 3u32..=13, bits in prop::sample::select(vec![20u32, 47, 60]), s: u64, t: u64) {
        let table = table(log_n, bits);
        let q = table.modulus();
        let (a, b) = (row(&table, s), row(&table, t));
        let (mut fa, mut fb) = (a.clone(), b.clone());
        table.forward(&mut fa);
        table.forward(&mut fb);
        prop_assert!(fa.iter().all(|&x| x < q.value()));
        let mut sum = a.clone();
        crate::simd::add_assign(&q, &mut sum, &b);
        table.forward(&mut sum);
        crate::simd::add_assign(&q, &mut fb, &fa);
        prop_assert_eq!(sum, fb);
        table.inverse(&mut fa);
        prop_assert_eq!(fa, a);
    }

    #[test]
    fn shifting_is_multiplying_by_a_power(log_n in 3u32..=13, s: u64, by: prop::sample::Index) {
        let table = table(log_n, 47);
        let n = table.degree();
        let by = by.index(n);
        let a = row(&table, s);
        let mut monomial = vec![0; n];
        monomial[by] = 1;
        let shifted: Vec<u64> = (0..n)
            .map(|i| if i >= by { a[i - by] } else { table.modulus().neg(a[i + n - by]) })
            .collect();
        prop_assert_eq!(product(&table, &a, &monomial), shifted);
    }
}

#[test]
fn refuses_moduli_without_a_root() {
    let q = Modulus::new(97).unwrap();
    assert!(NttTable::new(q, 4).is_ok());
    assert!(matches!(
        NttTable::new(q, 5),
        Err(crate::ParameterError::NoRoot { .. })
    ));
    assert!(NttTable::new(Modulus::new(33).unwrap(), 3).is_err()); // 33 = 1 mod 16, composite
    assert!(NttTable::new(q, 0).is_err() && NttTable::new(q, 40).is_err());
}
