//! Slots under encryption: a client, a server, and the flags that keep them honest.
//!
//! The client encrypts a vector, seeded, so that half of the ciphertext is 32 bytes. The server,
//! which has no key at all, computes 2 x + x^2 slot by slot. Without a key for relinearisation a
//! product keeps degree two in the secret, and the client decrypts it as it is.
//!
//! Run it with `cargo run -p sphinx-he --example 02_encrypt`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::{Ciphertext, Decryptor, Encoder, Evaluator, Level, Scale, SeededCiphertext};
use sphinx_he::rlwe::{Parameters, ParametersLiteral, SecretKey, Security};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parameters = Parameters::new(&ParametersLiteral {
        log_n: 12,
        log_q: vec![46, 40],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Classical128,
    })?;
    // A fixed seed makes the example repeatable. Outside examples and tests, use the system's
    // generator.
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let scale = Scale::power_of_two(40);

    // The client.
    let secret = SecretKey::generate(&parameters, &mut rng);
    let encoder = Encoder::new(&parameters);
    let values: Vec<f64> = (0..encoder.slots())
        .map(|i| (i as f64 / 100.0).sin())
        .collect();
    let plaintext = encoder.encode_real(&values, Level(1), scale)?;
    let upload = SeededCiphertext::encrypt(&plaintext, &secret, &mut rng)?.to_bytes();
    println!("upload: {} bytes for {} slots", upload.len(), values.len());

    // The server knows the parameters and the bytes.
    let evaluator = Evaluator::new(&parameters);
    let x = SeededCiphertext::from_bytes(&upload, &parameters)?.expand();
    let square = evaluator.mul(&x, &x)?;
    println!(
        "x * x has flags {:?} and scale 2^{}",
        square.form(),
        square.scale().value().log2()
    );
    // Adding x itself would mix flags, levels and scales; the evaluator says so.
    if let Err(refused) = evaluator.add(&square, &x) {
        println!("refused: {refused}");
    }
    // Both terms of the sum have to be products of degree two: 2 x as x times an encryption of 2
    // would do. Here the two results go down one by one.
    let square = evaluator.rescale(square)?.to_bytes();
    let double = evaluator
        .rescale(evaluator.mul_scalar(&x, 2.0, scale)?)?
        .to_bytes();
    println!("download: {} bytes", square.len() + double.len());

    // The client again.
    let decrypt = |bytes: &[u8]| -> Result<Vec<f64>, Box<dyn std::error::Error>> {
        let ciphertext = Ciphertext::from_bytes(bytes, &parameters)?;
        Ok(encoder.decode_real(&Decryptor::new(&secret).decrypt(&ciphertext)?)?)
    };
    let (square, double) = (decrypt(&square)?, decrypt(&double)?);
    let error = values
        .iter()
        .zip(square.iter().zip(&double))
        .map(|(x, (square, double))| (x * x + 2.0 * x - square - double).abs())
        .fold(0.0, f64::max);
    println!("largest error of x^2 + 2 x: {error:.1e}");
    assert!(error < 1e-6);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
