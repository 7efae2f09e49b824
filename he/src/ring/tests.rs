use super::*;
use crate::ntt::reference::negacyclic_product;
use crate::zq::prime::transform_primes;
use proptest::prelude::*;

fn ring(log_n: u32) -> Ring {
    let mut primes = transform_primes(47, log_n, 2, &[]).unwrap();
    primes.extend(transform_primes(30, log_n, 1, &[]).unwrap());
    Ring::new(
        log_n,
        primes
            .into_iter()
            .map(|q| Modulus::new(q).unwrap())
            .collect(),
    )
    .unwrap()
}

fn poly(ring: &Ring, seed: i64) -> Poly<Eval> {
    let values: Vec<i64> = (1..=ring.degree() as i64)
        .map(|i| {
            seed.wrapping_mul(i)
                .wrapping_mul(0x2545_f491_4f6c_dd1d)
                .rotate_left(17)
        })
        .collect();
    Poly::from_signed(ring, 2, &values).unwrap().into_eval()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ring_axioms(log_n in 3u32..=8, s: i64, t: i64, u: i64) {
        let ring = ring(log_n);
        let (a, b, c) = (poly(&ring, s), poly(&ring, t), poly(&ring, u));
        prop_assert_eq!(a.mul(&b).unwrap(), b.mul(&a).unwrap());
        prop_assert_eq!(a.mul(&b).unwrap().mul(&c).unwrap(), a.mul(&b.mul(&c).unwrap()).unwrap());
        let mut sum = b.clone();
        sum.add_assign(&c).unwrap();
        let mut right = a.mul(&b).unwrap();
        right.add_mul(&a, &c).unwrap();
        prop_assert_eq!(a.mul(&sum).unwrap(), right);
        sum.sub_assign(&c).unwrap();
        prop_assert_eq!(&sum, &b);
        sum.neg_assign();
        sum.add_assign(&b).unwrap();
        prop_assert_eq!(sum, Poly::zero(&ring, 2).unwrap());
    }

    #[test]
    fn product_is_schoolbook_in_every_row(log_n in 3u32..=7, s: i64, t: i64) {
        let ring = ring(log_n);
        let (a, b) = (poly(&ring, s), poly(&ring, t));
        let product = a.mul(&b).unwrap().into_coeff();
        let (a, b) = (a.into_coeff(), b.into_coeff());
        for (i, q) in ring.moduli().iter().enumerate() {
            prop_assert_eq!(product.row(i), negacyclic_product(q.value(), a.row(i), b.row(i)));
        }
    }

    #[test]
    fn division_in_evaluation_form_rounds_every_coefficient(s: i64) {
        let ring = ring(4);
        let a = poly(&ring, s);
        let divided = a.clone().divide_by_last().unwrap().into_coeff();
        let a = a.into_coeff();
        let (whole, q) = (ring.basis(), i128::from(ring.moduli()[2].value()));
        for k in 0..ring.degree() {
            let at = |p: &Poly<Coeff>| (0..=p.level()).map(|i| p.row(i)[k]).collect::<Vec<_>>();
            let x = whole.centred_i128(2, &at(&a)).unwrap();
            let expected = (2 * x + q).div_euclid(2 * q);
            prop_assert_eq!(whole.centred_i128(1, &at(&divided)), Some(expected));
        }
    }
}

#[test]
fn mismatches_are_refused() {
    let (small, large) = (ring(3), ring(4));
    let mut a = poly(&small, 1);
    assert!(matches!(
        a.add_assign(&poly(&large, 1)),
        Err(Error::ForeignParameters { .. })
    ));
    let lower = a.clone().divide_by_last().unwrap();
    assert!(matches!(
        a.mul_assign(&lower),
        Err(Error::LevelMismatch {
            left: 2,
            right: 1,
            ..
        })
    ));
    assert!(a.add_mul(&a.clone(), &lower).is_err());
    let bottom = lower.divide_by_last().unwrap();
    assert!(matches!(
        bottom.divide_by_last(),
        Err(Error::DepthExhausted { .. })
    ));
    assert!(Poly::<Coeff>::from_signed(&small, 0, &[0; 9]).is_err());
    assert!(Poly::<Coeff>::zero(&small, 3).is_err());
}
