//! Sums over banks against the evaluator, residue by residue.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rustfft::num_complex::Complex64;

use super::*;
use crate::ckks::{Encoder, Encryptor, Evaluator, SeededCiphertext, SeededZero};
use crate::rlwe::{ParametersLiteral, SecretKey, Security};

fn parameters() -> Parameters {
    Parameters::new(&ParametersLiteral {
        log_n: 8,
        log_q: vec![49, 34],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    })
    .unwrap()
}

struct World {
    evaluator: Evaluator,
    ciphertexts: Vec<Ciphertext>,
    bank: Bank,
}

fn world(seed: u64, count: usize) -> World {
    let parameters = parameters();
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let (encoder, scale) = (Encoder::new(&parameters), Scale::power_of_two(30));
    let mut bank = Bank::new(&parameters, Level(1), scale, count).unwrap();
    let ciphertexts: Vec<_> = (0..count)
        .map(|i| {
            let plain = encoder
                .encode_real(&[i as f64, -3.0], Level(1), scale)
                .unwrap();
            Encryptor::with_secret(&secret)
                .encrypt(&plain, &mut rng)
                .unwrap()
        })
        .collect();
    for (index, ciphertext) in ciphertexts.iter().enumerate() {
        bank.put(index, ciphertext).unwrap();
    }
    World {
        evaluator: Evaluator::new(&parameters),
        ciphertexts,
        bank,
    }
}

#[test]
fn weighted_sums_are_the_evaluators() {
    let World {
        evaluator,
        ciphertexts,
        bank,
    } = world(1, 5);
    let lists: [&[(u32, i64)]; 3] = [&[(0, 3), (4, -511), (2, 7)], &[(1, 0)], &[(3, 1), (3, 1)]];
    let sums = bank.weighted_sums(&lists).unwrap();
    for (sum, list) in sums.iter().zip(lists) {
        let term = |&(index, w): &(u32, i64)| {
            let one = Scale::power_of_two(0);
            evaluator
                .mul_scalar(&ciphertexts[index as usize], w as f64, one)
                .unwrap()
        };
        let expected = list
            .iter()
            .map(term)
            .reduce(|a, b| evaluator.add(&a, &b).unwrap());
        let expected = expected.unwrap();
        assert_eq!(sum.polys, expected.polys);
        let kept = |c: &Ciphertext| (c.scale, c.form, c.slots);
        assert_eq!(kept(sum), kept(&expected));
    }
}

#[test]
fn product_sums_are_the_evaluators() {
    let World {
        evaluator,
        ciphertexts,
        bank,
    } = world(2, 4);
    let lists: [&[(u32, u32)]; 2] = [&[(0, 1), (2, 3), (1, 1)], &[(3, 0)]];
    let sums = bank.product_sums(&bank, &lists).unwrap();
    for (sum, list) in sums.iter().zip(lists) {
        let term = |&(a, b): &(u32, u32)| {
            evaluator
                .mul(&ciphertexts[a as usize], &ciphertexts[b as usize])
                .unwrap()
        };
        let expected = list
            .iter()
            .map(term)
            .reduce(|a, b| evaluator.add(&a, &b).unwrap());
        let expected = expected.unwrap();
        assert_eq!(sum.polys, expected.polys);
        let kept = |c: &Ciphertext| (c.scale, c.form, c.slots);
        assert_eq!(kept(sum), kept(&expected));
    }
}

/// Where slots repeat, the decoder averages over the repetitions; a result that forgot how many differ
/// would lose that.
#[test]
fn results_repeat_as_many_slots_as_their_operands() {
    let parameters = parameters();
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let (encoder, scale) = (Encoder::new(&parameters), Scale::power_of_two(30));
    let encryptor = Encryptor::with_secret(&secret);
    let mut encrypt = |slots| {
        let values = vec![Complex64::ONE; slots];
        let plain = encoder
            .encode_sparse(&values, slots, Level(1), scale)
            .unwrap();
        encryptor.encrypt(&plain, &mut rng).unwrap()
    };
    let (four, sixteen) = (encrypt(4), encrypt(16));
    let bank = |ciphertext: &Ciphertext| {
        let mut bank = Bank::new(&parameters, Level(1), scale, 1).unwrap();
        bank.put(0, ciphertext).unwrap();
        bank
    };
    let (few, more) = (bank(&four), bank(&sixteen));
    let terms: [&[(u32, i64)]; 1] = [&[(0, 3)]];
    assert_eq!(few.weighted_sums(&terms).unwrap()[0].slots(), 4);
    let terms: [&[(u32, u32)]; 1] = [&[(0, 0)]];
    assert_eq!(few.product_sums(&few, &terms).unwrap()[0].slots(), 4);
    assert_eq!(few.product_sums(&more, &terms).unwrap()[0].slots(), 16);
    assert_eq!(more.product_sums(&few, &terms).unwrap()[0].slots(), 16);
}

#[test]
fn what_does_not_belong_is_refused() {
    let World {
        evaluator,
        ciphertexts,
        mut bank,
    } = world(3, 2);
    let product = evaluator.mul(&ciphertexts[0], &ciphertexts[1]).unwrap();
    assert!(matches!(
        bank.put(0, &product),
        Err(Error::FormMismatch { .. })
    ));
    let lower = evaluator.mod_drop(ciphertexts[0].clone()).unwrap();
    assert!(matches!(
        bank.put(0, &lower),
        Err(Error::LevelMismatch { .. })
    ));
    assert!(matches!(
        bank.put(2, &ciphertexts[0]),
        Err(Error::TooManyValues { .. })
    ));
    let beyond: [&[(u32, i64)]; 1] = [&[(2, 1)]];
    assert!(matches!(
        bank.weighted_sums(&beyond),
        Err(Error::TooManyValues { .. })
    ));
    assert!(
        Bank::new(
            bank.result(bank.scale, 1, 1).parameters(),
            Level(2),
            bank.scale,
            1
        )
        .is_err()
    );
}

#[test]
fn a_finer_scale_carries_the_same_slots() {
    let World { ciphertexts, .. } = world(4, 2);
    let parameters = ciphertexts[0].parameters.clone();
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let (encoder, scale) = (Encoder::new(&parameters), Scale::power_of_two(30));
    let plain = encoder.encode_real(&[5.0, -6.0], Level(1), scale).unwrap();
    let zero = SeededZero::new(&secret, Level(1), &mut rng).unwrap();
    let mut fine = SeededCiphertext::from_zero(zero, &plain).unwrap().expand();
    fine.refine_scale(1 << 20).unwrap();
    assert_eq!(fine.scale, Scale::power_of_two(50));
    let decrypted = crate::ckks::Decryptor::new(&secret).decrypt(&fine).unwrap();
    let slots = encoder.decode_real(&decrypted).unwrap();
    assert!((slots[0] - 5.0).abs() < 1e-5 && (slots[1] + 6.0).abs() < 1e-5);
}
