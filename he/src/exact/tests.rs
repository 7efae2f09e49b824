//! Homomorphism, exactness and bytes, on small rings.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::error::{DecodeError, Error};
use crate::rlwe::{Parameters, ParametersLiteral, SecretKey, Security};
use crate::wire::Header;

fn toy(log_n: u32, log_q: &[u32]) -> (Parameters, SecretKey, ChaCha20Rng) {
    let literal = ParametersLiteral {
        log_n,
        log_q: log_q.to_vec(),
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    };
    let parameters = Parameters::new(&literal).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(log_n));
    let secret = SecretKey::generate(&parameters, &mut rng);
    (parameters, secret, rng)
}

fn upload(
    p: &Parameters,
    secret: &SecretKey,
    rng: &mut ChaCha20Rng,
    level: usize,
    values: &[i64],
    encoding: Encoding,
) -> SeededCiphertext {
    let plaintext = Plaintext::encode(p, level, values, encoding).unwrap();
    SeededCiphertext::encrypt(&plaintext, secret, rng).unwrap()
}

/// Integer product in `Z[Y]/(Y^N + 1)` by the schoolbook sum.
fn negacyclic(n: usize, a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut out = vec![0; n];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            let sign = if i + j < n { 1 } else { -1 };
            out[(i + j) % n] += sign * x * y;
        }
    }
    out
}

fn all(n: usize) -> Vec<usize> {
    (0..n).collect()
}

fn integers(n: usize, bits: u32) -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(-(1i64 << bits)..1 << bits, n)
}

fn decrypted(c: Ciphertext, secret: &SecretKey) -> Vec<i64> {
    let n = c.parameters().degree();
    c.select(&all(n))
        .unwrap()
        .decrypt(secret)
        .unwrap()
        .keep_local()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn fresh_ciphertexts_decrypt_at_every_level(values in integers(32, 20), log_scale in 9u32..30, level in 0usize..4) {
        let (p, secret, mut rng) = toy(5, &[50, 40, 45, 60]);
        let c = upload(&p, &secret, &mut rng, level, &values, Encoding::scaled(1 << log_scale));
        prop_assert_eq!((c.level(), c.encoding()), (level, Encoding::scaled(1 << log_scale)));
        prop_assert_eq!(decrypted(c.expand(), &secret), values);
    }

    #[test]
    fn residues_decrypt_at_every_level(values in integers(32, 62), log_t in 1u32..=30, level in 0usize..3) {
        let (p, secret, mut rng) = toy(5, &[47, 42, 60]);
        let c = upload(&p, &secret, &mut rng, level, &values, Encoding::Modular { log_t });
        let expected: Vec<i64> = values.iter().map(|v| v & ((1 << log_t) - 1)).collect();
        prop_assert_eq!(decrypted(c.expand(), &secret), expected);
    }

    #[test]
    fn sums_of_products_are_exact(a in integers(32, 7), b in integers(32, 11), c in integers(32, 7), d in integers(32, 11)) {
        let (p, secret, mut rng) = toy(5, &[47, 42]);
        let (dx, dd) = (Encoding::scaled(1 << 28), Encoding::scaled(1 << 30));
        let mut enc = |v: &[i64], e| upload(&p, &secret, &mut rng, 1, v, e).expand();
        let (ca, cb, cc, cd) = (enc(&a, dx), enc(&b, dd), enc(&c, dx), enc(&d, dd));
        let mut sum = ca.mul(&cb).unwrap();
        sum.add_mul(&cc, &cd).unwrap();
        prop_assert_eq!((sum.degree(), sum.level()), (2, 1));
        let expected: Vec<i64> = negacyclic(32, &a, &b).iter().zip(negacyclic(32, &c, &d)).map(|(x, y)| x + y).collect();
        prop_assert_eq!(&decrypted(sum.clone(), &secret), &expected);
        let dropped = sum.drop_prime().unwrap();
        prop_assert_eq!(dropped.level(), 0);
        prop_assert_eq!(decrypted(dropped, &secret), expected);
    }

    #[test]
    fn plain_products_are_exact_with_a_factor(x in integers(32, 8), w in integers(32, 8), v in integers(32, 8), factor in 1u64..1 << 12) {
        let (p, secret, mut rng) = toy(5, &[47, 42]);
        let c = upload(&p, &secret, &mut rng, 1, &x, Encoding::scaled(1 << 40)).expand();
        let (w_poly, v_poly) = (IntegerPoly::new(&p, 1, &w, factor).unwrap(), IntegerPoly::new(&p, 1, &v, factor).unwrap());
        let mut sum = c.mul_plain(&w_poly).unwrap();
        sum.add_mul_plain(&c, &v_poly).unwrap();
        prop_assert_eq!(sum.encoding(), Encoding::scaled(u128::from(factor) << 40));
        let both: Vec<i64> = w.iter().zip(&v).map(|(a, b)| a + b).collect();
        let expected = negacyclic(32, &x, &both);
        prop_assert_eq!(&decrypted(sum.clone(), &secret), &expected);
        if factor > 1 << 10 {
            prop_assert_eq!(decrypted(sum.drop_prime().unwrap(), &secret), expected);
        }
    }

    #[test]
    fn modular_plain_products_are_exact(r in integers(32, 62), w in integers(32, 8), log_t in prop::sample::select(vec![1u32, 17, 31])) {
        let (p, secret, mut rng) = toy(5, &[50, 36]);
        let c = upload(&p, &secret, &mut rng, 1, &r, Encoding::Modular { log_t }).expand();
        let product = c.mul_plain(&IntegerPoly::new(&p, 1, &w, 1).unwrap()).unwrap();
        let mask = (1i64 << log_t) - 1;
        let reduced: Vec<i64> = r.iter().map(|x| x & mask).collect();
        let expected: Vec<i64> = negacyclic(32, &reduced, &w).iter().map(|x| x & mask).collect();
        prop_assert_eq!(&decrypted(product.clone(), &secret), &expected);
        prop_assert_eq!(decrypted(product.drop_prime().unwrap(), &secret), expected);
    }

    #[test]
    fn selection_keeps_order_and_bytes_round_trip(values in integers(32, 12), picks in prop::sample::subsequence(all(32), 0..=32).prop_shuffle(), degree in 1usize..=2) {
        let (p, secret, mut rng) = toy(5, &[47, 42]);
        let c = upload(&p, &secret, &mut rng, 1, &values, Encoding::scaled(1 << 30));
        let bytes = c.to_bytes();
        prop_assert_eq!(bytes.len(), SeededCiphertext::wire_size(&p, 1));
        let back = SeededCiphertext::from_bytes(&bytes, &p).unwrap();
        prop_assert_eq!(back.to_bytes(), bytes);
        let mut c = back.expand();
        if degree == 2 {
            c = c.mul(&upload(&p, &secret, &mut rng, 1, &[1], Encoding::scaled(1 << 28)).expand()).unwrap().drop_prime().unwrap();
        }
        let selected = c.select(&picks).unwrap();
        let bytes = selected.to_bytes();
        prop_assert_eq!(bytes.len(), SelectedCiphertext::wire_size(&p, selected.level(), degree, picks.len(), Truncation::NONE));
        let back = SelectedCiphertext::from_bytes(&bytes, &p).unwrap();
        prop_assert_eq!(back.to_bytes(), bytes);
        prop_assert_eq!((back.len(), back.degree(), back.encoding()), (picks.len(), degree, selected.encoding()));
        let expected: Vec<i64> = picks.iter().map(|&k| values[k]).collect();
        prop_assert_eq!(back.decrypt(&secret).unwrap().keep_local(), expected);
    }

    #[test]
    fn dropping_and_selecting_at_once_is_the_same(values in integers(32, 12), degree in 1usize..=2, c0 in 0u32..14, masks in 0u32..8) {
        let (p, secret, mut rng) = toy(5, &[47, 42]);
        let up = |rng: &mut _, values: &[i64]| upload(&p, &secret, rng, 1, values, Encoding::scaled(1 << 30)).expand();
        let mut c = up(&mut rng, &values);
        if degree == 2 {
            c = c.mul(&up(&mut rng, &[1])).unwrap();
        } else {
            c = c.mul_plain(&IntegerPoly::new(&p, 1, &[1], 1 << 30).unwrap()).unwrap();
        }
        let picks = all(32);
        let whole = c.clone().drop_and_select(&picks, Truncation::NONE).unwrap();
        let twice = c.clone().drop_prime().unwrap().select(&picks).unwrap();
        prop_assert_eq!(whole.to_bytes(), twice.to_bytes());
        let cut = Truncation { c0, masks };
        let selected = c.drop_and_select(&picks, cut).unwrap();
        let bytes = selected.to_bytes();
        prop_assert_eq!(bytes.len(), SelectedCiphertext::wire_size(&p, 0, degree, 32, cut));
        let back = SelectedCiphertext::from_bytes(&bytes, &p).unwrap();
        prop_assert_eq!(back.to_bytes(), bytes);
        prop_assert_eq!(back.truncation(), cut);
        prop_assert_eq!(back.decrypt(&secret).unwrap().keep_local(), values);
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (p, _, _) = toy(5, &[30]);
        prop_assert!(SeededCiphertext::from_bytes(&bytes, &p).is_err());
        prop_assert!(SelectedCiphertext::from_bytes(&bytes, &p).is_err());
    }
}

#[test]
fn large_moduli_take_the_big_integer_path() {
    let (p, secret, mut rng) = toy(5, &[60, 60, 60, 60]);
    let values = [i64::MAX, i64::MIN + 1, 0, 1, -1];
    let c = upload(&p, &secret, &mut rng, 3, &values, Encoding::scaled(1 << 50));
    assert_eq!(decrypted(c.expand(), &secret)[..5], values);
    let half = Encoding::Scaled {
        numerator: 3 << 60,
        denominator: 1 << 20,
    };
    let c = upload(&p, &secret, &mut rng, 1, &[7, -9, 1 << 40], half);
    assert_eq!(decrypted(c.expand(), &secret)[..4], [7, -9, 1 << 40, 0]);
}

#[test]
fn encoding_refuses_what_does_not_fit() {
    let (p, _, _) = toy(5, &[30, 30]);
    let encode = |level, values: &[i64], e| Plaintext::encode(&p, level, values, e).map(|_| ());
    assert!(encode(0, &[1 << 28], Encoding::scaled(1)).is_ok());
    assert!(matches!(
        encode(0, &[0, 1 << 29], Encoding::scaled(1)),
        Err(Error::ValueTooLarge { index: 1, .. })
    ));
    assert!(encode(1, &[1 << 29], Encoding::scaled(1)).is_ok());
    assert!(encode(1, &[i64::MIN], Encoding::scaled(u128::MAX)).is_err());
    let fraction = |numerator| Encoding::Scaled {
        numerator,
        denominator: 3,
    };
    assert!(encode(0, &[1 << 28], fraction(3)).is_ok());
    assert!(encode(0, &[1 << 28], fraction(9)).is_err());
    assert!(encode(0, &[i64::MIN], fraction(u128::MAX)).is_err());
    assert!(matches!(
        encode(2, &[], fraction(1)),
        Err(Error::NoSuchLevel { got: 2, max: 1, .. })
    ));
    assert!(matches!(
        encode(0, &[0; 33], fraction(1)),
        Err(Error::TooManyValues { .. })
    ));
    for bad in [
        Encoding::scaled(0),
        Encoding::Scaled {
            numerator: 1,
            denominator: 0,
        },
        Encoding::Modular { log_t: 0 },
        Encoding::Modular { log_t: 63 },
    ] {
        assert!(matches!(
            encode(0, &[], bad),
            Err(Error::InvalidEncoding { .. })
        ));
    }
}

#[test]
fn mismatches_name_both_operands() {
    let (p, secret, mut rng) = toy(5, &[47, 42]);
    let (q, other, mut other_rng) = toy(5, &[47, 41]);
    let e = Encoding::scaled(1 << 30);
    let mut a = upload(&p, &secret, &mut rng, 1, &[1], e).expand();
    let b = upload(&p, &secret, &mut rng, 1, &[1], Encoding::scaled(1 << 29)).expand();
    let low = upload(&p, &secret, &mut rng, 0, &[1], e).expand();
    let foreign = upload(&q, &other, &mut other_rng, 1, &[1], e).expand();
    assert!(matches!(
        a.add_assign(&b),
        Err(Error::EncodingMismatch { left, right, .. }) if left == e && right != e
    ));
    assert!(matches!(
        a.add_assign(&low),
        Err(Error::LevelMismatch {
            left: 1,
            right: 0,
            ..
        })
    ));
    assert!(matches!(
        a.add_assign(&foreign),
        Err(Error::ForeignParameters { .. })
    ));
    assert!(matches!(
        a.mul(&foreign),
        Err(Error::ForeignParameters { .. })
    ));
    let square = a.mul(&a).unwrap();
    assert!(matches!(
        square.mul(&a),
        Err(Error::DegreeMismatch {
            left: 2,
            right: 1,
            ..
        })
    ));
    assert!(matches!(
        a.add_mul(&b, &b),
        Err(Error::EncodingMismatch { .. })
    ));
    let mut flat = Ciphertext::zero(&p, 1, 1, square.encoding());
    assert!(matches!(
        flat.add_assign(&square),
        Err(Error::DegreeMismatch { .. })
    ));
    assert!(matches!(
        flat.add_mul(&a, &a),
        Err(Error::DegreeMismatch { .. })
    ));
    assert!(matches!(
        low.clone().drop_prime(),
        Err(Error::DepthExhausted { .. })
    ));
    assert!(matches!(
        a.clone().select(&[32]),
        Err(Error::PositionOutOfRange { .. })
    ));
    assert!(matches!(
        a.clone().select(&[3, 3]),
        Err(Error::DuplicatePosition { position: 3, .. })
    ));
    assert!(a.select(&[0]).unwrap().decrypt(&other).is_err());
    let plaintext = Plaintext::encode(&q, 0, &[], e).unwrap();
    assert!(SeededCiphertext::encrypt(&plaintext, &secret, &mut rng).is_err());
}

#[test]
fn unsupported_products_are_refused() {
    let (p, secret, mut rng) = toy(5, &[47, 42]);
    let a = upload(&p, &secret, &mut rng, 1, &[1], Encoding::scaled(1 << 30)).expand();
    let w = IntegerPoly::new(&p, 0, &[1], 1).unwrap();
    assert!(matches!(a.mul_plain(&w), Err(Error::LevelMismatch { .. })));
    assert!(IntegerPoly::new(&p, 0, &[1], 0).is_err());
    let modular = upload(
        &p,
        &secret,
        &mut rng,
        0,
        &[1],
        Encoding::Modular { log_t: 20 },
    )
    .expand();
    let doubled = IntegerPoly::new(&p, 0, &[1], 2).unwrap();
    assert!(matches!(
        modular.mul_plain(&doubled),
        Err(Error::UnsupportedEncoding { .. })
    ));
    assert!(matches!(
        modular.mul(&modular),
        Err(Error::UnsupportedEncoding { .. })
    ));
    let huge = upload(&p, &secret, &mut rng, 1, &[0], Encoding::scaled(1 << 70)).expand();
    assert!(matches!(huge.mul(&huge), Err(Error::ScaleOverflow { .. })));
}

#[test]
fn dot_products_are_the_sums_of_their_terms() {
    let (p, secret, mut rng) = toy(5, &[60, 42]);
    let e = Encoding::scaled(1 << 20);
    let fresh: Vec<Ciphertext> = (0..200)
        .map(|i| upload(&p, &secret, &mut rng, 1, &[i, 1 - i, 3], e).expand())
        .collect();
    let pairs: Vec<_> = fresh.iter().zip(fresh.iter().rev()).collect();
    let mut slow = Ciphertext::zero(&p, 1, 2, Encoding::scaled(1 << 40));
    let mut fast = slow.clone();
    pairs.iter().for_each(|(a, b)| slow.add_mul(a, b).unwrap());
    fast.add_dot(&pairs).unwrap();
    let bytes = |c: Ciphertext| c.select(&all(32)).unwrap().to_bytes();
    assert_eq!(bytes(fast.clone()), bytes(slow));
    assert!(fast.add_dot(&[(&fresh[0], &fast.clone())]).is_err());
    assert!(
        Ciphertext::zero(&p, 1, 1, fast.encoding())
            .add_dot(&pairs)
            .is_err()
    );

    let weights: Vec<_> = (0..200)
        .map(|i| IntegerPoly::new(&p, 1, &[i, 7 - i], 4).unwrap())
        .collect();
    let terms: Vec<_> = fresh.iter().zip(&weights).collect();
    let mut slow = Ciphertext::zero(&p, 1, 1, Encoding::scaled(1 << 22));
    let mut sum = slow.clone();
    terms
        .iter()
        .for_each(|(a, w)| slow.add_mul_plain(a, w).unwrap());
    sum.add_dot_plain(&terms).unwrap();
    assert_eq!(bytes(sum.clone()), bytes(slow));
    assert!(sum.add_dot_plain(&[(&fast, &weights[0])]).is_err());
    let modular = upload(
        &p,
        &secret,
        &mut rng,
        1,
        &[1],
        Encoding::Modular { log_t: 9 },
    )
    .expand();
    assert!(sum.add_dot_plain(&[(&modular, &weights[0])]).is_err());
}

#[test]
fn only_one_prime_can_be_truncated() {
    let (p, secret, mut rng) = toy(5, &[47, 42, 40]);
    let up = upload(&p, &secret, &mut rng, 2, &[1], Encoding::scaled(1 << 60)).expand();
    let cut = |c0, masks| Truncation { c0, masks };
    let refused = up.clone().drop_and_select(&[0], cut(1, 0));
    assert!(matches!(refused, Err(Error::Truncation { level: 1, .. })));
    let low = up.drop_prime().unwrap();
    let refused = low.clone().drop_and_select(&[0], cut(47, 0));
    assert!(matches!(refused, Err(Error::Truncation { c0: 47, .. })));
    let bytes = low.drop_and_select(&[0], cut(3, 2)).unwrap().to_bytes();
    let at = Header::BYTES + 2;
    for (index, value) in [(at, 47), (at + 1, 60), (at + 1, 255)] {
        let mut bytes = bytes.clone();
        bytes[index] = value;
        let refused = SelectedCiphertext::from_bytes(&bytes, &p);
        assert!(matches!(refused, Err(DecodeError::BadTruncation { .. })));
    }
    let mut shorter = bytes;
    shorter[at + 1] = 1;
    assert!(SelectedCiphertext::from_bytes(&shorter, &p).is_err());
}

#[test]
fn known_positions_need_not_travel() {
    let (p, secret, mut rng) = toy(5, &[47, 42]);
    let up = upload(
        &p,
        &secret,
        &mut rng,
        1,
        &[10, 11, 12, 13],
        Encoding::scaled(1 << 60),
    );
    let picks = [3, 0, 2];
    let selected = up.expand().drop_prime().unwrap().select(&picks).unwrap();
    let bytes = selected.to_bytes_bare();
    assert_eq!(
        bytes.len(),
        SelectedCiphertext::wire_size_bare(&p, 0, 1, 3, Truncation::NONE)
    );
    assert_eq!(bytes.len() + 2, selected.to_bytes().len()); // three positions of five bits
    let read = |positions: &[usize]| SelectedCiphertext::from_bytes_at(&bytes, &p, positions);
    let back = read(&picks).unwrap();
    assert_eq!(back.to_bytes(), selected.to_bytes());
    assert_eq!(back.decrypt(&secret).unwrap().keep_local(), [13, 10, 12]);
    assert!(matches!(
        read(&[3, 0]),
        Err(DecodeError::BadCount { got: 3, limit: 2 })
    ));
    assert!(matches!(
        read(&[3, 0, 3]),
        Err(DecodeError::DuplicatePosition { position: 3 })
    ));
    assert!(matches!(
        read(&[3, 0, 32]),
        Err(DecodeError::PositionOutOfRange { .. })
    ));
    assert!(SelectedCiphertext::from_bytes(&bytes, &p).is_err());
    for length in 0..bytes.len() {
        assert!(SelectedCiphertext::from_bytes_at(&bytes[..length], &p, &picks).is_err());
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let (p, secret, mut rng) = toy(4, &[30, 25]);
    let e = Encoding::scaled(1 << 12);
    let up = upload(&p, &secret, &mut rng, 1, &[1, 2, 3], e);
    let bytes = up.to_bytes();
    for length in 0..bytes.len() {
        let error = SeededCiphertext::from_bytes(&bytes[..length], &p).unwrap_err();
        assert!(
            matches!(error, DecodeError::Truncated { .. }),
            "{length}: {error}"
        );
    }
    let long = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(
        SeededCiphertext::from_bytes(&long, &p),
        Err(DecodeError::TrailingBytes { extra: 1, .. })
    ));
    let square = up
        .clone()
        .expand()
        .mul(&up.expand())
        .unwrap()
        .select(&[1, 5, 2])
        .unwrap();
    let bytes = square.to_bytes();
    for length in 0..bytes.len() {
        assert!(SelectedCiphertext::from_bytes(&bytes[..length], &p).is_err());
    }
    assert!(SelectedCiphertext::from_bytes(&[bytes.as_slice(), &[0]].concat(), &p).is_err());
}

/// Flips every bit in turn: an error, or an object that encodes to the very same bytes.
fn flip_all<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> usize {
    let mut refused = 0;
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match decode(&flipped) {
            Ok(object) => assert_eq!(encode(&object), flipped, "bit {bit}"),
            Err(_) => refused += 1,
        }
    }
    refused
}

#[test]
fn flipped_bits_never_panic_and_stay_canonical() {
    let (p, secret, mut rng) = toy(4, &[30, 25]);
    let up = upload(
        &p,
        &secret,
        &mut rng,
        1,
        &[1, 2, 3],
        Encoding::scaled(1 << 12),
    );
    let header = 8 * Header::BYTES;
    let bytes = up.to_bytes();
    let decode = |b: &[u8]| SeededCiphertext::from_bytes(b, &p);
    assert!(flip_all(&bytes, decode, SeededCiphertext::to_bytes) >= header + 8);
    let modular = upload(
        &p,
        &secret,
        &mut rng,
        0,
        &[1],
        Encoding::Modular { log_t: 10 },
    );
    assert!(flip_all(&modular.to_bytes(), decode, SeededCiphertext::to_bytes) >= header + 128);
    let square = up
        .clone()
        .expand()
        .mul(&up.expand())
        .unwrap()
        .select(&[1, 5, 2])
        .unwrap();
    let decode = |b: &[u8]| SelectedCiphertext::from_bytes(b, &p);
    // three positions of four bits leave four bits of padding
    assert!(flip_all(&square.to_bytes(), decode, SelectedCiphertext::to_bytes) >= header + 8 + 4);
}

#[test]
fn hostile_fields_are_named() {
    let (p, secret, mut rng) = toy(4, &[30, 25]);
    let up = upload(
        &p,
        &secret,
        &mut rng,
        1,
        &[1, 2, 3],
        Encoding::scaled(1 << 12),
    );
    let bytes = up.to_bytes();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        SeededCiphertext::from_bytes(&bytes, &p).unwrap_err()
    };
    assert!(matches!(with(0, b"X"), DecodeError::BadMagic { .. }));
    assert!(matches!(
        with(4, &[9]),
        DecodeError::UnsupportedVersion { got: 9, .. }
    ));
    assert!(matches!(
        with(5, &[3]),
        DecodeError::WrongKind {
            expected: 2,
            got: 3
        }
    ));
    assert!(matches!(with(6, &[0; 16]), DecodeError::ForeignParameters));
    assert!(matches!(
        with(22, &[2]),
        DecodeError::NoSuchLevel { got: 2, max: 1 }
    ));
    assert!(matches!(with(23, &[2]), DecodeError::BadEncoding));
    assert!(matches!(with(24, &[0; 16]), DecodeError::BadEncoding));
    let residues = 22 + 1 + 33 + 32;
    assert!(matches!(
        with(residues, &[255; 8]),
        DecodeError::ResidueTooLarge { row: 0, .. }
    ));
    let down = up.expand().select(&[1, 5, 2]).unwrap().to_bytes();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = down.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        SelectedCiphertext::from_bytes(&bytes, &p).unwrap_err()
    };
    assert!(matches!(with(23, &[3]), DecodeError::BadDegree { got: 3 }));
    assert!(matches!(
        with(59, &[255; 4]),
        DecodeError::BadCount { limit: 16, .. }
    ));
    assert!(matches!(
        with(63, &[0x55, 0]),
        DecodeError::DuplicatePosition { position: 5 }
    ));
    assert!(matches!(
        with(63, &[0x51, 0xf2]),
        DecodeError::NonZeroPadding
    ));
}

#[test]
fn the_same_generator_repeats_and_seeds_are_fresh() {
    let (p, secret, _) = toy(5, &[40]);
    let encrypt = |seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let first = upload(&p, &secret, &mut rng, 0, &[1], Encoding::scaled(1 << 20)).to_bytes();
        (
            first,
            upload(&p, &secret, &mut rng, 0, &[1], Encoding::scaled(1 << 20)).to_bytes(),
        )
    };
    assert_eq!(encrypt(1), encrypt(1));
    let ((a, b), (c, _)) = (encrypt(1), encrypt(2));
    let seeds = [&a, &b, &c].map(|x| x[56..88].to_vec());
    assert!(seeds[0] != seeds[1] && seeds[0] != seeds[2]);
}

#[test]
fn shared_between_threads_and_silent_about_content() {
    fn shared<T: Send + Sync>() {}
    shared::<(SecretKey, Plaintext, SeededCiphertext, Ciphertext)>();
    shared::<(SelectedCiphertext, IntegerPoly, Parameters, Decrypted<i64>)>();
    let (p, _, _) = toy(5, &[40]);
    let plaintext = Plaintext::encode(&p, 0, &[424_242], Encoding::scaled(1)).unwrap();
    assert!(!format!("{plaintext:?}").contains("424242"));
}
