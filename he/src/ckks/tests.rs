//! Homomorphism with stated error bounds, flags, bytes.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::error::{DecodeError, Error};
use crate::rlwe::{Parameters, ParametersLiteral, PublicKey, SecretKey, Security};

const LOG_N: u32 = 8;
const N: f64 = 256.0;
const SIGMA: f64 = 3.2;
const SCALE: u8 = 40;

struct Setup {
    parameters: Parameters,
    secret: SecretKey,
    encoder: Encoder,
    evaluator: Evaluator,
    rng: ChaCha20Rng,
}

fn setup(log_q: &[u32]) -> Setup {
    let literal = ParametersLiteral {
        log_n: LOG_N,
        log_q: log_q.to_vec(),
        log_p: vec![],
        error_std_dev: SIGMA,
        security: Security::Toy,
    };
    let parameters = Parameters::new(&literal).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    Setup {
        secret: SecretKey::generate(&parameters, &mut rng),
        encoder: Encoder::new(&parameters),
        evaluator: Evaluator::new(&parameters),
        rng,
        parameters,
    }
}

impl Setup {
    fn encrypt(&mut self, values: &[Complex64], level: usize) -> Ciphertext {
        let scale = Scale::power_of_two(SCALE);
        let plaintext = self.encoder.encode(values, Level(level), scale).unwrap();
        Encryptor::with_secret(&self.secret)
            .encrypt(&plaintext, &mut self.rng)
            .unwrap()
    }

    fn decrypt(&self, c: &Ciphertext) -> Vec<Complex64> {
        self.encoder
            .decode(&Decryptor::new(&self.secret).decrypt(c).unwrap())
            .unwrap()
    }
}

/// Slots of modulus at most 1.
fn slots() -> impl Strategy<Value = Vec<Complex64>> {
    let slot = (0.0f64..1.0, -3.15f64..3.15).prop_map(|(r, phi)| Complex64::from_polar(r, phi));
    prop::collection::vec(slot, 1 << (LOG_N - 1))
}

fn largest_gap(got: &[Complex64], want: impl Iterator<Item = Complex64>) -> f64 {
    got.iter()
        .zip(want)
        .map(|(a, b)| (a - b).norm())
        .fold(0.0, f64::max)
}

/// Standard deviation in a slot of a polynomial error with this variance per coefficient, at the
/// scale of the tests.
fn slot_error(variance: f64) -> f64 {
    (N * variance).sqrt() / f64::from(SCALE).exp2()
}

/// What a fresh symmetric encryption adds: its error and the rounding of the encoding.
fn fresh() -> f64 {
    slot_error(SIGMA * SIGMA + 1.0 / 12.0)
}

/// A slot exceeds seven standard deviations with probability `e^(-49/2)` or so.
const TAIL: f64 = 7.0;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn fresh_encryptions_are_within_their_error(z in slots(), level in 0usize..3) {
        let mut s = setup(&[50, 40, 40]);
        let c = s.encrypt(&z, level);
        prop_assert_eq!((c.form(), c.level(), c.degree()), (Form::FRESH, Level(level), 1));
        let gap = largest_gap(&s.decrypt(&c), z.iter().copied());
        prop_assert!(gap < TAIL * fresh(), "{gap} {}", fresh());
        // and the error is there: an encryption without one would pass the bound too
        prop_assert!(gap > fresh() / 2.0);
    }

    #[test]
    fn public_encryptions_are_within_their_error(z in slots(), level in 0usize..3) {
        let mut s = setup(&[50, 40, 40]);
        let key = PublicKey::generate(&s.secret, &mut s.rng);
        let plaintext = s.encoder.encode(&z, Level(level), Scale::power_of_two(SCALE)).unwrap();
        let c = Encryptor::with_public(&key).encrypt(&plaintext, &mut s.rng).unwrap();
        let variance = SIGMA * SIGMA * (1.0 + 2.0 * N / 3.0 + s.secret.norms().s_squared);
        let gap = largest_gap(&s.decrypt(&c), z.iter().copied());
        prop_assert!(gap < TAIL * slot_error(variance) && gap > slot_error(variance) / 2.0);
    }

    #[test]
    fn sums_and_differences(x in slots(), y in slots()) {
        let mut s = setup(&[50, 40]);
        let (a, b) = (s.encrypt(&x, 1), s.encrypt(&y, 1));
        let bound = TAIL * fresh() * 2f64.sqrt();
        let sum = s.decrypt(&s.evaluator.add(&a, &b).unwrap());
        prop_assert!(largest_gap(&sum, x.iter().zip(&y).map(|(p, q)| p + q)) < bound);
        let difference = s.decrypt(&s.evaluator.sub(&a, &b).unwrap());
        prop_assert!(largest_gap(&difference, x.iter().zip(&y).map(|(p, q)| p - q)) < bound);
        let negative = s.decrypt(&s.evaluator.neg(&a).unwrap());
        prop_assert!(largest_gap(&negative, x.iter().map(|p| -p)) < bound);
        let plaintext = s.encoder.encode(&y, Level(1), Scale::power_of_two(SCALE)).unwrap();
        let mixed = s.decrypt(&s.evaluator.add_plain(&a, &plaintext).unwrap());
        prop_assert!(largest_gap(&mixed, x.iter().zip(&y).map(|(p, q)| p + q)) < bound);
    }

    #[test]
    fn products_rescale_and_sum(x in slots(), y in slots()) {
        let mut s = setup(&[50, 40, 40]);
        let (a, b) = (s.encrypt(&x, 2), s.encrypt(&y, 2));
        let product = s.evaluator.mul(&a, &b).unwrap();
        prop_assert_eq!(product.form().flags(), (1, 1));
        // |x| e_y + |y| e_x, both at most one error each
        let crossed = fresh() * 2f64.sqrt();
        let want = || x.iter().zip(&y).map(|(p, q)| p * q);
        prop_assert!(largest_gap(&s.decrypt(&product), want()) < TAIL * crossed);
        let doubled = s.evaluator.add(&product, &product).unwrap();
        let rescaled = s.evaluator.rescale(doubled).unwrap();
        prop_assert_eq!((rescaled.form().flags(), rescaled.level()), ((0, 1), Level(1)));
        let norms = s.secret.norms();
        let rounding = slot_error((1.0 + norms.s_squared + norms.s2_squared) / 12.0);
        let bound = TAIL * (4.0 * crossed * crossed + rounding * rounding).sqrt();
        prop_assert!(largest_gap(&s.decrypt(&rescaled), want().map(|z| z * 2.0)) < bound);
        // degree two, ready for a plain factor
        let scaled = s.evaluator.mul_scalar(&rescaled, -0.5, Scale::power_of_two(SCALE)).unwrap();
        prop_assert_eq!(scaled.form().flags(), (1, 1));
        let last = s.evaluator.rescale(scaled).unwrap();
        prop_assert!(largest_gap(&s.decrypt(&last), want().map(|z| -z)) < bound);
    }

    #[test]
    fn plain_products_rescale(x in slots(), y in slots()) {
        let mut s = setup(&[50, 40]);
        let a = s.encrypt(&x, 1);
        let w = s.encoder.encode(&y, Level(1), Scale::power_of_two(SCALE)).unwrap();
        let product = s.evaluator.mul_plain(&a, &w).unwrap();
        prop_assert_eq!(product.form().flags(), (1, 0));
        let rescaled = s.evaluator.rescale(product).unwrap();
        prop_assert_eq!(rescaled.form(), Form::FRESH);
        let rounding = slot_error((1.0 + s.secret.norms().s_squared) / 12.0);
        let bound = TAIL * (fresh().powi(2) + slot_error(1.0 / 12.0).powi(2) + rounding.powi(2)).sqrt();
        prop_assert!(largest_gap(&s.decrypt(&rescaled), x.iter().zip(&y).map(|(p, q)| p * q)) < bound);
    }

    #[test]
    fn dropping_a_prime_keeps_the_slots(x in slots()) {
        let mut s = setup(&[50, 40, 40]);
        let a = s.encrypt(&x, 2);
        let dropped = s.evaluator.mod_drop(a.clone()).unwrap();
        prop_assert_eq!((dropped.level(), dropped.scale()), (Level(1), a.scale()));
        prop_assert!(largest_gap(&s.decrypt(&dropped), x.iter().copied()) < TAIL * fresh());
    }
}

#[test]
fn mismatches_name_both_operands() {
    let mut s = setup(&[50, 40, 40]);
    let one = vec![Complex64::ONE; 4];
    let (a, low) = (s.encrypt(&one, 2), s.encrypt(&one, 1));
    let e = &s.evaluator;
    let product = e.mul(&a, &a).unwrap();
    assert!(matches!(
        e.add(&a, &low),
        Err(Error::LevelMismatch {
            left: 2,
            right: 1,
            ..
        })
    ));
    assert!(matches!(
        e.add(&a, &product),
        Err(Error::FormMismatch {
            left: (0, 0),
            right: (1, 1),
            ..
        })
    ));
    assert!(matches!(
        e.mul(&product, &a),
        Err(Error::FormMismatch { .. })
    ));
    assert!(matches!(
        e.rescale(a.clone()),
        Err(Error::FormMismatch { .. })
    ));
    assert!(matches!(
        e.mul_scalar(&product, 1.0, Scale::power_of_two(9)),
        Err(Error::FormMismatch { .. })
    ));
    let other = s
        .encoder
        .encode(&one, Level(2), Scale::power_of_two(39))
        .unwrap();
    assert!(matches!(
        e.add_plain(&a, &other),
        Err(Error::ScaleMismatch { .. })
    ));
    let scalar = |x: f64, log2| e.mul_scalar(&a, x, Scale::power_of_two(log2)).map(|_| ());
    assert!(matches!(scalar(f64::NAN, 3), Err(Error::NotFinite { .. })));
    assert!(matches!(scalar(1.0, 62), Err(Error::ValueTooLarge { .. })));
    let bottom = e.mod_drop(e.mod_drop(a.clone()).unwrap()).unwrap();
    assert!(matches!(
        e.mod_drop(bottom),
        Err(Error::DepthExhausted { .. })
    ));
    let mut foreign = setup(&[50, 40, 41]);
    let b = foreign.encrypt(&one, 2);
    assert!(matches!(
        s.evaluator.add(&a, &b),
        Err(Error::ForeignParameters { .. })
    ));
    assert!(matches!(
        Decryptor::new(&s.secret).decrypt(&b),
        Err(Error::ForeignParameters { .. })
    ));
    assert!(matches!(
        foreign.evaluator.neg(&a),
        Err(Error::ForeignParameters { .. })
    ));
}

#[test]
fn bytes_are_canonical() {
    let mut s = setup(&[30, 25]);
    let scale = Scale::power_of_two(20);
    let plaintext = s.encoder.encode_real(&[1.0], Level(1), scale).unwrap();
    let seeded = SeededCiphertext::encrypt(&plaintext, &s.secret, &mut s.rng).unwrap();
    let bytes = seeded.to_bytes();
    assert_eq!(bytes.len(), SeededCiphertext::wire_size(&s.parameters, 1));
    let back = SeededCiphertext::from_bytes(&bytes, &s.parameters).unwrap();
    assert_eq!(back.to_bytes(), bytes);
    let a = back.expand();
    let product = s.evaluator.mul(&a, &a).unwrap();
    for c in [a, product] {
        let bytes = c.to_bytes();
        assert_eq!(
            bytes.len(),
            Ciphertext::wire_size(&s.parameters, 1, c.degree())
        );
        let back = Ciphertext::from_bytes(&bytes, &s.parameters).unwrap();
        assert_eq!(
            (back.form(), back.scale(), back.to_bytes()),
            (c.form(), c.scale(), bytes.clone())
        );
        assert!(largest_gap(&s.decrypt(&back), s.decrypt(&c).into_iter()) == 0.0);
        for length in (0..bytes.len()).step_by(37).chain(0..40) {
            assert!(Ciphertext::from_bytes(&bytes[..length], &s.parameters).is_err());
        }
        // every bit of the prefix, and a sample of the others
        for bit in (0..8 * 40).chain((320..8 * bytes.len()).step_by(97)) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(object) = Ciphertext::from_bytes(&flipped, &s.parameters) {
                assert_eq!(object.to_bytes(), flipped, "bit {bit}");
            }
        }
        let mut bad = bytes.clone();
        bad[25..33].copy_from_slice(&f64::NAN.to_bits().to_le_bytes());
        assert!(matches!(
            Ciphertext::from_bytes(&bad, &s.parameters),
            Err(DecodeError::BadEncoding)
        ));
    }
    let mut flags = bytes;
    flags[23] = 1;
    assert!(SeededCiphertext::from_bytes(&flags, &s.parameters).is_err());
}

struct Keys {
    s: Setup,
    relinearization: crate::rlwe::RelinearizationKey,
    galois: crate::rlwe::GaloisKeys,
    workspace: crate::rlwe::Workspace,
}

fn keys(log_q: &[u32], log_p: &[u32]) -> Keys {
    use crate::rlwe::{KeyGenerator, Workspace, conjugation_exponent, rotation_exponent};
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
