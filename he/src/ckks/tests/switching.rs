//! What needs keys: relinearisation, rotations, pools, scalars, refusals; big integers as oracle.

use num_bigint::BigInt;

use super::*;
use crate::ring::{Eval, Poly};
use crate::rlwe::{
    GaloisKeys, KeyGenerator, RelinearizationKey, Workspace, ZeroEncryption, ZeroPool,
    conjugation_exponent, rotation_exponent,
};

struct Keys {
    s: Setup,
    relinearization: RelinearizationKey,
    galois: GaloisKeys,
    workspace: Workspace,
}

fn keys(log_q: &[u32], log_p: &[u32]) -> Keys {
    let parameters = Parameters::new(&ParametersLiteral {
        log_n: LOG_N,
        log_q: log_q.to_vec(),
        log_p: log_p.to_vec(),
        error_std_dev: SIGMA,
        security: Security::Toy,
    })
    .unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&secret).unwrap();
    let n = parameters.degree();
    let exponents = [1, 2, 5, -1, 64].map(|k| rotation_exponent(n, k));
    let exponents = exponents.into_iter().chain([conjugation_exponent(n)]);
    let galois = generator.galois_set(exponents, &mut rng).unwrap();
    let relinearization = generator.relinearization(&mut rng).unwrap();
    Keys {
        workspace: Workspace::new(&parameters),
        relinearization,
        galois,
        s: Setup {
            encoder: Encoder::new(&parameters),
            evaluator: Evaluator::new(&parameters),
            secret,
            rng,
            parameters,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_chain_of_all_operations(x in slots(), y in slots(), sizes in 0usize..4) {
        let (log_q, log_p): (&[u32], &[u32]) = [
            (&[50, 40, 40][..], &[50][..]),
            (&[50, 40, 40], &[46, 46]),
            (&[60, 40, 40], &[60]),
            (&[30, 30, 40, 40, 40], &[42, 42]),
        ][sizes];
        let mut k = keys(log_q, log_p);
        let level = log_q.len() - 1;
        let (a, b) = (k.s.encrypt(&x, level), k.s.encrypt(&y, level));
        let e = &k.s.evaluator;
        let product = e.relinearize(&e.mul(&a, &b).unwrap(), &k.relinearization, &mut k.workspace).unwrap();
        prop_assert_eq!(product.form().flags(), (1, 0));
        let rescaled = e.rescale(product).unwrap();
        let merged = e.mul_relin_rescale(&a, &b, &k.relinearization, &mut k.workspace).unwrap();
        let want: Vec<Complex64> = x.iter().zip(&y).map(|(p, q)| p * q).collect();
        for c in [&rescaled, &merged] {
            prop_assert_eq!((c.form(), c.level()), (Form::FRESH, Level(level - 1)));
            let gap = largest_gap(&k.s.decrypt(c), want.iter().copied());
            prop_assert!(gap < 1e-8, "{gap}");
        }
        let slots = x.len();
        for steps in [1i64, 2, 5, -1, 64] {
            let key = k.galois.rotation("test", steps).unwrap();
            let turned = e.apply_galois(&merged, key, &mut k.workspace).unwrap();
            let want = (0..slots).map(|j| want[(j as i64 + steps).rem_euclid(slots as i64) as usize]);
            let gap = largest_gap(&k.s.decrypt(&turned), want);
            prop_assert!(gap < 1e-8, "{steps} {gap}");
            let hoisted = e.hoist(&merged, key, &mut k.workspace).unwrap();
            let again = e.apply_galois_hoisted(&hoisted, key, &mut k.workspace).unwrap();
            prop_assert_eq!(again.to_bytes(), turned.to_bytes());
        }
        let key = k.galois.get(2 * 256 - 1).unwrap();
        let conjugate = e.apply_galois(&merged, key, &mut k.workspace).unwrap();
        let gap = largest_gap(&k.s.decrypt(&conjugate), want.iter().map(|z| z.conj()));
        prop_assert!(gap < 1e-8, "{gap}");
    }
}

/// The coefficients of a polynomial, centred modulo its level.
fn integers(poly: &Poly<Eval>) -> Vec<BigInt> {
    let (ring, level) = (poly.ring().clone(), poly.level());
    let poly = poly.clone().into_coeff();
    let column = |k: usize| (0..=level).map(|i| poly.row(i)[k]).collect::<Vec<_>>();
    (0..ring.degree())
        .map(|k| ring.basis().centred(level, &column(k)))
        .collect()
}

/// The product of integer polynomials modulo `Y^N + 1`.
fn product(a: &[BigInt], b: &[BigInt]) -> Vec<BigInt> {
    let n = a.len();
    let mut out = vec![BigInt::ZERO; n];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            let term = x * y;
            if i + j < n {
                out[i + j] += term;
            } else {
                out[i + j - n] -= term;
            }
        }
    }
    out
}

/// `c0 + c1 s + c2 s^2`, centred modulo `Q`, from the secret's exported bytes.
fn phase(c: &Ciphertext, secret: &SecretKey) -> Vec<BigInt> {
    let n = c.parameters().degree();
    let bytes = secret.export_secret();
    let digits = bytes[bytes.len() - n / 4..].iter();
    let s: Vec<BigInt> = digits
        .flat_map(|byte| [0, 2, 4, 6].map(|shift| BigInt::from((byte >> shift & 3) as i8 - 1)))
        .collect();
    let q = BigInt::from(c.parameters().ring().basis().product(c.level().0));
    let mut sum = vec![BigInt::ZERO; n];
    for poly in c.polys.iter().rev() {
        sum = product(&sum, &s)
            .iter()
            .zip(integers(poly))
            .map(|(x, y)| x + y)
            .collect();
    }
    let centre = |x: &BigInt| {
        let x = ((x % &q) + &q) % &q;
        if &x * 2 > q { x - &q } else { x }
    };
    sum.iter().map(centre).collect()
}

#[test]
fn decryption_and_key_switching_agree_with_big_integers() {
    for (log_q, log_p) in [
        (&[50, 40, 40][..], &[50][..]),
        (&[30, 30, 40, 40], &[42, 42]),
    ] {
        let mut k = keys(log_q, log_p);
        let level = log_q.len() - 1;
        let slots = vec![Complex64::new(0.5, -0.25); 128];
        let (a, b) = (k.s.encrypt(&slots, level), k.s.encrypt(&slots, level));
        let e = &k.s.evaluator;
        let product = e.mul(&a, &b).unwrap();
        let decrypt =
            |c: &Ciphertext| integers(Decryptor::new(&k.s.secret).decrypt(c).unwrap().polynomial());
        for c in [&a, &product] {
            assert_eq!(decrypt(c), phase(c, &k.s.secret));
        }
        // a switch moves each coefficient by less than sixteen predicted deviations
        let model = crate::rlwe::NoiseModel::with_norms(&k.s.parameters, k.s.secret.norms());
        let groups = k.relinearization.switching().groups();
        let bound = BigInt::from((16.0 * model.key_switch_variance(level, &groups).sqrt()) as u64);
        let linear = e
            .relinearize(&product, &k.relinearization, &mut k.workspace)
            .unwrap();
        let (before, after) = (phase(&product, &k.s.secret), phase(&linear, &k.s.secret));
        for (x, y) in before.iter().zip(&after) {
            assert!(x - y < bound && y - x < bound);
        }
        assert_ne!(before, after);
    }
}

#[test]
fn zeros_made_ahead_are_used_once() {
    let mut k = keys(&[50, 40], &[50]);
    let generator = KeyGenerator::new(&k.s.secret).unwrap();
    let public = generator.public(&mut k.s.rng);
    let mut pool = ZeroPool::new();
    pool.put(ZeroEncryption::symmetric(&k.s.secret, 1, &mut k.s.rng).unwrap());
    pool.put(ZeroEncryption::public(&public, 1, &mut k.s.rng).unwrap());
    let values = vec![Complex64::new(1.0, 2.0); 128];
    let plain =
        k.s.encoder
            .encode(&values, Level(1), Scale::power_of_two(SCALE))
            .unwrap();
    while let Some(zero) = pool.take() {
        let c = Ciphertext::from_zero(zero, &plain).unwrap();
        let gap = largest_gap(&k.s.decrypt(&c), values.iter().copied());
        assert!(gap < 1e-8, "{gap}");
    }
    assert!(pool.is_empty());
    let low = ZeroEncryption::symmetric(&k.s.secret, 0, &mut k.s.rng).unwrap();
    assert!(matches!(
        Ciphertext::from_zero(low, &plain),
        Err(Error::LevelMismatch { .. })
    ));
    assert!(ZeroEncryption::symmetric(&k.s.secret, 2, &mut k.s.rng).is_err());
}

#[test]
fn constants_and_sparse_slots() {
    let mut k = keys(&[50, 40, 40], &[50]);
    let few: Vec<Complex64> = (0..4).map(|i| Complex64::new(f64::from(i), -0.5)).collect();
    let scale = Scale::power_of_two(SCALE);
    let plain = k.s.encoder.encode_sparse(&few, 4, Level(2), scale).unwrap();
    let a = Encryptor::with_secret(&k.s.secret)
        .encrypt(&plain, &mut k.s.rng)
        .unwrap();
    assert_eq!((a.slots(), k.s.decrypt(&a).len()), (4, 4));
    let e = &k.s.evaluator;
    let check = |c: &Ciphertext, f: &dyn Fn(usize) -> Complex64| {
        let got = k.s.decrypt(c);
        let gap = largest_gap(&got, (0..got.len()).map(f));
        assert!(gap < 1e-7, "{gap}");
    };
    let x = Complex64::new(1.25, -3.5);
    check(&e.add_scalar(&a, x).unwrap(), &|j| few[j] + x);
    check(&e.mul_i(&a).unwrap(), &|j| few[j] * Complex64::I);
    let key = k.galois.rotation("test", 5).unwrap();
    let turned = e.apply_galois(&a, key, &mut k.workspace).unwrap();
    check(&turned, &|j| few[(j + 5) % 4]);
    let square = e
        .relinearize(&e.square(&a).unwrap(), &k.relinearization, &mut k.workspace)
        .unwrap();
    let square = e.rescale(square).unwrap();
    check(&square, &|j| few[j] * few[j]);
    // in all slots the four repeat
    let full =
        k.s.encoder
            .encode(&[Complex64::ZERO; 128], Level(2), scale)
            .unwrap();
    let all = e.add_plain(&a, &full).unwrap();
    assert_eq!(all.slots(), 128);
    check(&all, &|j| few[j % 4]);
    let met = e.adjust(&a, 1.0, square.level(), square.scale()).unwrap();
    check(&e.add(&met, &square).unwrap(), &|j| {
        few[j] + few[j] * few[j]
    });
    assert!(matches!(
        e.adjust(&a, 1.0, Level(2), scale),
        Err(Error::LevelMismatch { .. })
    ));
    for bad in [0, 3, 256] {
        let refused = k.s.encoder.encode_sparse(&few[..0], bad, Level(0), scale);
        assert!(matches!(refused, Err(Error::BadSlotCount { .. })));
    }
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let mut k = keys(&[50, 40, 40], &[50]);
    let one = vec![Complex64::ONE; 128];
    let (a, low) = (k.s.encrypt(&one, 2), k.s.encrypt(&one, 1));
    let generator = KeyGenerator::new(&k.s.secret).unwrap().at_level(1).unwrap();
    let key = generator
        .galois(rotation_exponent(256, 1), &mut k.s.rng)
        .unwrap();
    let other = KeyGenerator::with_groups(&k.s.secret, &[3]).unwrap();
    let other = other
        .galois(rotation_exponent(256, 1), &mut k.s.rng)
        .unwrap();
    let (e, workspace) = (&k.s.evaluator, &mut k.workspace);
    assert!(matches!(
        e.apply_galois(&a, &key, workspace),
        Err(Error::KeyTooLow {
            level: 2,
            key: 1,
            ..
        })
    ));
    let turned = e.apply_galois(&low, &key, workspace).unwrap();
    assert_eq!(turned.level(), Level(1));
    let hoisted = e.hoist(&low, &key, workspace).unwrap();
    assert!(matches!(
        e.apply_galois_hoisted(&hoisted, &other, workspace),
        Err(Error::DigitMismatch { .. })
    ));
    let square = e.square(&a).unwrap();
    assert!(matches!(
        e.apply_galois(&square, &other, workspace),
        Err(Error::NotLinear { got: 2, .. })
    ));
    assert!(matches!(
        k.galois.rotation("test", 3),
        Err(Error::NoGaloisKey { .. })
    ));
    assert!(generator.galois(4, &mut k.s.rng).is_err());
    assert!(KeyGenerator::new(&k.s.secret).unwrap().at_level(3).is_err());
    let foreign = keys(&[50, 40, 41], &[50]);
    assert!(matches!(
        e.relinearize(&square, &foreign.relinearization, workspace),
        Err(Error::ForeignParameters { .. })
    ));
    let bare = setup(&[50, 40]);
    assert!(KeyGenerator::new(&bare.secret).is_err());
}

#[test]
fn decoding_large_coefficients_takes_all_primes() {
    let k = keys(&[50, 40, 40, 40], &[50]);
    let values: Vec<Complex64> = (0..128).map(|i| Complex64::cis(f64::from(i))).collect();
    for log2 in [20, 60, 88, 110, 119] {
        let scale = Scale::power_of_two(log2);
        let plain = k.s.encoder.encode(&values, Level(3), scale).unwrap();
        let gap = largest_gap(&k.s.encoder.decode(&plain).unwrap(), values.iter().copied());
        assert!(gap < 30.0 / scale.value() + 1e-14, "{log2} {gap}");
    }
}
