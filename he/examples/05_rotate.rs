//! Rotations: slots that move, and keys that let them.
//!
//! Y -> Y^g permutes the slots of a polynomial. Applied to a ciphertext it also turns the secret s
//! into s(Y^g), so a key is needed that leads back, one for each rotation. Keys are large; a
//! protocol names the rotations that it wants and makes keys for those. Many rotations of one
//! ciphertext share their costly half, the digits ("hoisting").
//!
//! Run it with `cargo run -p sphinx-he --example 05_rotate`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::circuit::{sum_slots, sum_steps};
use sphinx_he::ckks::{Complex64, Decryptor, Encoder, Encryptor, Evaluator, Level, Scale};
use sphinx_he::rlwe::{
    GaloisKeys, KeyGenerator, Parameters, ParametersLiteral, PublicKey, SecretKey, Security,
    Workspace, conjugation_exponent, rotation_exponent,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parameters = Parameters::new(&ParametersLiteral {
        log_n: 12,
        log_q: vec![50],
        log_p: vec![50],
        error_std_dev: 3.2,
        security: Security::Classical128,
    })?;
    let mut rng = ChaCha20Rng::seed_from_u64(5);

    // The client makes the keys: one for encryption, and those of a chosen set of rotations.
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&secret)?;
    let public = generator.public(&mut rng).to_bytes();
    let degree = parameters.degree();
    let steps = [1, 2, 3].into_iter().chain(sum_steps(1, 8));
    let exponents = steps
        .map(|k| rotation_exponent(degree, k))
        .chain([conjugation_exponent(degree)]);
    let galois = generator.galois_set(exponents, &mut rng)?;
    println!(
        "{} keys: {} bytes in memory, {} on the wire (half is a seed, residues are packed)",
        galois.exponents().count(),
        galois.memory(),
        galois.to_bytes().len()
    );

    // The server reads them. Eight values fill all slots by repetition, and turn in a circle.
    let galois = GaloisKeys::from_bytes(&galois.to_bytes(), &parameters)?;
    let public = PublicKey::from_bytes(&public, &parameters)?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let mut workspace = Workspace::new(&parameters);
    let values: Vec<Complex64> = (0..8).map(|i| Complex64::new(f64::from(i), 0.5)).collect();
    let plain = encoder.encode_sparse(&values, 8, Level(0), Scale::power_of_two(40))?;
    let x = Encryptor::with_public(&public).encrypt(&plain, &mut rng)?;
    let show = |name: &str, c: &_| -> Result<Vec<Complex64>, Box<dyn std::error::Error>> {
        let slots = encoder.decode(&Decryptor::new(&secret).decrypt(c)?)?;
        let list: Vec<String> = slots.iter().map(|z| format!("{z:.2}")).collect();
        println!("{name}: {}", list.join(" "));
        Ok(slots)
    };
    assert_eq!(show("x          ", &x)?.len(), 8);

    // One rotation, and three that share the digits.
    let key = galois.rotation("example", 1)?;
    let turned = evaluator.apply_galois(&x, key, &mut workspace)?;
    let slots = show("turned by 1", &turned)?;
    assert!((0..8).all(|j| (slots[j] - values[(j + 1) % 8]).norm() < 1e-6));
    let hoisted = evaluator.hoist(&x, key, &mut workspace)?;
    for steps in [1, 2, 3] {
        let key = galois.rotation("example", steps)?;
        let turned = evaluator.apply_galois_hoisted(&hoisted, key, &mut workspace)?;
        let slots = encoder.decode(&Decryptor::new(&secret).decrypt(&turned)?)?;
        let want = |j: usize| values[(j + steps as usize) % 8];
        assert!((0..8).all(|j| (slots[j] - want(j)).norm() < 1e-6));
    }

    // Conjugation is one more of these maps; a sum over slots takes log2 of them.
    let key = galois.get(conjugation_exponent(degree)).ok_or("no key")?;
    let slots = show(
        "conjugated ",
        &evaluator.apply_galois(&x, key, &mut workspace)?,
    )?;
    assert!(
        slots
            .iter()
            .zip(&values)
            .all(|(a, b)| (a - b.conj()).norm() < 1e-6)
    );
    let sum = sum_slots(&evaluator, &x, 1, 8, &galois, &mut workspace)?;
    let slots = show("summed     ", &sum)?;
    assert!(
        slots
            .iter()
            .all(|z| (z - Complex64::new(28.0, 4.0)).norm() < 1e-5)
    );

    // There is no key for other rotations.
    if let Err(refused) = galois.rotation("rotate", 100) {
        println!("refused: {refused}");
    }
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
