//! Functions of encrypted numbers, by polynomials.
//!
//! Sums and products are all there is, so a function is replaced by a polynomial near it. In the
//! Chebyshev basis coefficients stay small and the values between -1 and 1 stay there, which keeps
//! errors small as well. A polynomial of degree d takes about log2 d levels and 2 sqrt d products.
//!
//! Run it with `cargo run -p sphinx-he --example 06_polynomial`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::circuit::{Basis, Polynomial};
use sphinx_he::ckks::{Complex64, Decryptor, Encoder, Encryptor, Evaluator, Precision, sets};
use sphinx_he::rlwe::{KeyGenerator, Parameters, SecretKey, Workspace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let set = sets::B;
    let parameters = Parameters::new(&set.literal())?;
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let key = KeyGenerator::new(&secret)?.relinearization(&mut rng)?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let mut workspace = Workspace::new(&parameters);

    let n = encoder.slots();
    let values: Vec<f64> = (0..n).map(|i| 2.0 * i as f64 / n as f64 - 1.0).collect();
    let plain = encoder.encode_real(&values, set.top(), set.scale())?;
    let x = Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?;

    let sigmoid = |x: f64| 1.0 / (1.0 + (-8.0 * x).exp());
    let cubic = Polynomial::new(Basis::Power, &[0.5, 0.75, 0.0, -0.25]);
    for (name, polynomial, exact) in [
        ("a cubic", cubic.clone(), None),
        (
            "the logistic function of 8 x, degree 31",
            Polynomial::interpolate(31, sigmoid),
            Some(sigmoid),
        ),
    ] {
        let y = polynomial.evaluate(&evaluator, &x, &key, &mut workspace)?;
        assert_eq!(x.level().0 - y.level().0, polynomial.depth());
        assert!((y.scale().value() / x.scale().value() - 1.0).abs() < 1e-12);
        let slots = encoder.decode(&Decryptor::new(&secret).decrypt(&y)?)?;
        let of_polynomial =
            Precision::of(&slots, values.iter().map(|&v| polynomial.value(v.into())));
        println!(
            "{name}: {} levels; against the polynomial: {of_polynomial}",
            polynomial.depth()
        );
        assert!(of_polynomial.worst < 1e-6);
        if let Some(exact) = exact {
            let of_function =
                Precision::of(&slots, values.iter().map(|&v| Complex64::from(exact(v))));
            println!("  against the function: {of_function}");
            assert!(of_function.worst < 1e-3);
        }
    }
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
