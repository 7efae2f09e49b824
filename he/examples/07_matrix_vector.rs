//! A public matrix times an encrypted vector.
//!
//! Row by column would need a rotation and a sum for every entry. By diagonals it is one product per
//! diagonal: slot j of diagonal k is M[j][j + k], to be multiplied by the vector turned by k. In baby
//! and giant steps, 2 sqrt d rotations are enough, half of which share their digits.
//!
//! Run it with `cargo run -p sphinx-he --example 07_matrix_vector`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::circuit::DiagonalMatrix;
use sphinx_he::ckks::{
    Complex64, Decryptor, Encoder, Encryptor, Evaluator, Precision, Scale, sets,
};
use sphinx_he::rlwe::{KeyGenerator, Parameters, SecretKey, Workspace};

const DIMENSION: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let set = sets::A1;
    let parameters = Parameters::new(&set.literal())?;
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let mut workspace = Workspace::new(&parameters);

    // Encoded at the scale of the prime that the rescale will divide by, so that the product has the
    // scale of the vector.
    let entry = |row: usize, column: usize| ((row * 7 + column * 3) % 11) as f64 / 11.0 - 0.5;
    let prime = parameters.moduli()[set.top().0].value() as f64;
    let matrix = DiagonalMatrix::new(
        &encoder,
        DIMENSION,
        set.top(),
        Scale::new(prime)?,
        |r, c| Complex64::from(entry(r, c)),
    )?;
    let keys = KeyGenerator::new(&secret)?.rotations(&matrix.steps(), &mut rng)?;
    println!("{DIMENSION} diagonals, {} rotations", matrix.steps().len());

    let vector: Vec<Complex64> = (0..DIMENSION).map(|i| Complex64::cis(i as f64)).collect();
    let plain = encoder.encode_sparse(&vector, DIMENSION, set.top(), set.scale())?;
    let x = Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?;
    let product = matrix.mul(&evaluator, &x, &keys, &mut workspace)?;
    let product = evaluator.rescale(product)?;
    assert!((product.scale().value() / x.scale().value() - 1.0).abs() < 1e-12);

    let slots = encoder.decode(&Decryptor::new(&secret).decrypt(&product)?)?;
    let exact = (0..DIMENSION).map(|r| (0..DIMENSION).map(|c| vector[c] * entry(r, c)).sum());
    let report = Precision::of(&slots, exact);
    println!("{report}");
    assert!(report.worst < 1e-6);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
