use super::*;
use proptest::prelude::*;

fn modulus() -> impl Strategy<Value = Modulus> {
    prop_oneof![
        (1u64..(1 << 59)).prop_map(|x| Modulus::new(2 * x + 1).unwrap()),
        (2u32..=60).prop_map(|b| Modulus::new((1 << (b - 1)) + 1).unwrap()),
        (2u32..=60).prop_map(|b| Modulus::new(((1u64 << b) - 1) | 1).unwrap()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn agrees_with_wide_integers(q in modulus(), a: u64, b: u64, c: u64, wide: u128) {
        let p = u128::from(q.value());
        let residue = |x: u64| u128::from(x) % p;
        let (ra, rb, rc) = (q.reduce(a), q.reduce(b), q.reduce(c));
        prop_assert_eq!(u128::from(ra), residue(a));
        prop_assert_eq!(u128::from(q.add(ra, rb)), (residue(a) + residue(b)) % p);
        prop_assert_eq!(u128::from(q.sub(ra, rb)), (residue(a) + p - residue(b)) % p);
        prop_assert_eq!(u128::from(q.neg(ra)), (p - residue(a)) % p);
        prop_assert_eq!(u128::from(q.mul(ra, rb)), residue(a) * residue(b) % p);
        prop_assert_eq!(u128::from(q.mul_add(rc, ra, rb)), (residue(c) + residue(a) * residue(b)) % p);
        prop_assert_eq!(u128::from(q.reduce_u128(wide)), wide % p);
        let w = q.shoup(rb);
        prop_assert_eq!(u128::from(q.mul_shoup(a, w)), u128::from(a) * residue(b) % p);
        prop_assert!(q.mul_shoup_lazy(a, w) < 2 * q.value());
    }

    #[test]
    fn largest_residues_do_not_overflow(q in modulus()) {
        let top = q.value() - 1;
        let p = u128::from(q.value());
        prop_assert_eq!(q.mul(top, top), 1);
        prop_assert_eq!(u128::from(q.mul_add(top, top, top)), (u128::from(top) + 1) % p);
    }

    #[test]
    fn signed_reduction_and_centring_are_inverse(q in modulus(), x: i64, y: i128) {
        let r = q.reduce_i64(x);
        prop_assert_eq!(i128::from(r), i128::from(x).rem_euclid(i128::from(q.value())));
        prop_assert_eq!(i128::from(q.reduce_i128(y)), y.rem_euclid(i128::from(q.value())));
        let centred = q.centre(r);
        prop_assert!(centred.unsigned_abs() <= q.value() / 2);
        prop_assert_eq!(q.reduce_i64(centred), r);
    }

    #[test]
    fn inverse_is_an_inverse(q in modulus(), a: u64) {
        match q.inv(a) {
            Some(inverse) => prop_assert_eq!(q.mul(q.reduce(a), inverse), 1),
            None => prop_assert_ne!(prime::gcd(q.reduce(a), q.value()), 1),
        }
    }

    #[test]
    fn powers_add(q in modulus(), a: u64, m in 0u64..1 << 20, n in 0u64..1 << 20) {
        let a = q.reduce(a);
        prop_assert_eq!(q.pow(a, m + n), q.mul(q.pow(a, m), q.pow(a, n)));
    }
}

#[test]
fn refuses_even_small_and_large_moduli() {
    for bad in [0, 1, 2, 4, 1 << 40, (1 << 60) + 1, u64::MAX] {
        assert!(matches!(
            Modulus::new(bad),
            Err(ParameterError::ModulusOutOfRange { .. })
        ));
    }
    assert!(Modulus::new((1 << 60) - 1).is_ok());
    assert!(Modulus::new(3).is_ok());
}
