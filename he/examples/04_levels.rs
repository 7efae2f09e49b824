//! Levels and scales: what a product costs, and how it is paid.
//!
//! A product of two ciphertexts multiplies their scales and has degree two in the secret. Two steps
//! bring it back: relinearisation, which needs a public key made for it, and a rescale, which divides
//! by the last prime and drops it. When the last prime is gone, no product is left. This lesson
//! takes x to x^8 in three products and predicts the error at each.
//!
//! Run it with `cargo run -p sphinx-he --example 04_levels`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::{
    Complex64, Decryptor, Encoder, Encryptor, Estimate, Evaluator, Level, Precision, Scale,
};
use sphinx_he::rlwe::{
    KeyGenerator, NoiseModel, Parameters, ParametersLiteral, SecretKey, Security, Workspace,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Four primes of Q, so three rescales; one special prime for key switching. The special prime
    // counts towards security: the bound at N = 2^13 is 214 bits.
    let parameters = Parameters::new(&ParametersLiteral {
        log_n: 13,
        log_q: vec![44, 40, 40, 40],
        log_p: vec![48],
        error_std_dev: 3.2,
        security: Security::Classical128,
    })?;
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&secret)?;
    let key = generator.relinearization(&mut rng)?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let mut workspace = Workspace::new(&parameters);
    let scale = Scale::power_of_two(40);

    let values: Vec<f64> = (0..encoder.slots())
        .map(|i| (i as f64 / 700.0).cos())
        .collect();
    let plain = encoder.encode_real(&values, Level(3), scale)?;
    let mut x = Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?;
    let model = NoiseModel::new(&parameters);
    let mut estimate = Estimate::symmetric(&model, 1.0, scale);

    for power in [2, 4, 8] {
        // The three steps, one by one ...
        let product = evaluator.square(&x)?;
        assert_eq!((product.form().flags(), product.degree()), ((1, 1), 2));
        let linear = evaluator.relinearize(&product, &key, &mut workspace)?;
        assert_eq!((linear.form().flags(), linear.degree()), ((1, 0), 1));
        let rescaled = evaluator.rescale(linear.clone())?;
        // ... or all at once, with one division less.
        let merged = evaluator.mul_relin_rescale(&x, &x, &key, &mut workspace)?;
        assert_eq!(
            (rescaled.level(), rescaled.scale()),
            (merged.level(), merged.scale())
        );

        let level = x.level().0;
        estimate = estimate
            .times(estimate)
            .switched(&model, level, &generator.groups(), linear.scale())
            .rescaled(&model, 1, merged.scale());
        x = merged;
        let slots = encoder.decode(&Decryptor::new(&secret).decrypt(&x)?)?;
        let exact = values.iter().map(|v| Complex64::from(v.powi(power)));
        let report = Precision::of(&slots, exact);
        println!(
            "x^{power}: {:?}, scale 2^{:.4}, {report}",
            x.level(),
            x.scale().value().log2()
        );
        println!("      predicted to stay below {:.1e}", estimate.bound());
        assert!(report.worst < estimate.bound());
    }

    // No prime is left to divide by, and the evaluator says so.
    let refused = evaluator.mul_relin_rescale(&x, &x, &key, &mut workspace);
    println!(
        "refused: {}",
        refused.err().map(|e| e.to_string()).unwrap_or_default()
    );

    // Operands of different levels do not add; dropping primes costs nothing but depth. Scales that
    // differ need a product by one, which takes a level.
    let fresh = Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?;
    if let Err(refused) = evaluator.add(&fresh, &x) {
        println!("refused: {refused}");
    }
    let met = evaluator.adjust(&fresh, 1.0, x.level(), x.scale())?;
    let sum = evaluator.add(&met, &x)?;
    let slots = encoder.decode_real(&Decryptor::new(&secret).decrypt(&sum)?)?;
    assert!(
        slots
            .iter()
            .zip(&values)
            .all(|(s, v)| (s - v - v.powi(8)).abs() < 1e-6)
    );
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
