//! Exact sums of products, and how surely they are exact.
//!
//! A gradient of a dense layer is a sum over samples of products d_i x_k. With the samples placed
//! in the coefficients in a suitable order, a single polynomial product computes the whole sum. The
//! client encrypts integers at a scale, the server multiplies two ciphertexts and drops a prime,
//! and the client rounds: what it gets is the exact integer, unless an error exceeds half a step.
//! The budget says how unlikely that is, before anything is run.
//!
//! Run it with `cargo run -p sphinx-he --example 03_exact_products`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_he::exact::{
    Ciphertext, Encoding, Plaintext, SeededCiphertext, SelectedCiphertext, budget,
};
use sphinx_he::rlwe::{Parameters, ParametersLiteral, SecretKey, Security};

const SAMPLES: usize = 64;
const INPUTS: usize = 8;
const OUTPUTS: usize = 4;

fn norm_squared(values: &[i64]) -> f64 {
    values.iter().map(|&x| (x * x) as f64).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parameters = Parameters::new(&ParametersLiteral {
        log_n: 12,
        log_q: vec![47, 42], // the 42-bit prime is dropped
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Classical128,
    })?;
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let secret = SecretKey::generate(&parameters, &mut rng);

    // x[j][k] in 8 bits and d[i][j] in 12 bits.
    let x = |j: usize, k: usize| ((j * 31 + k * 17) % 255) as i64 - 127;
    let d = |i: usize, j: usize| ((i * 701 + j * 113) % 4095) as i64 - 2047;

    // X = sum x[j][k] Y^(k B + B-1-j) and D = sum d[i][j] Y^(i n B + j): in D X the coefficient
    // i n B + k B + B-1 is the sum over j of d[i][j] x[j][k].
    let mut x_poly = vec![0; INPUTS * SAMPLES];
    let mut d_poly = vec![0; OUTPUTS * INPUTS * SAMPLES];
    for j in 0..SAMPLES {
        (0..INPUTS).for_each(|k| x_poly[k * SAMPLES + SAMPLES - 1 - j] = x(j, k));
        (0..OUTPUTS).for_each(|i| d_poly[i * INPUTS * SAMPLES + j] = d(i, j));
    }

    // How surely? Worst secret that key generation accepts is in `norms`.
    let (dx, dd) = (1u128 << 28, 1u128 << 30);
    let norms = secret.norms();
    let (nx, nd) = (norm_squared(&x_poly), norm_squared(&d_poly));
    let bound = (nx * nd).sqrt(); // Cauchy and Schwarz: no coefficient exceeds it
    let margin = budget::product(&parameters, norms, dx, dd, nx, nd, 1.0, bound, 1)?;
    println!(
        "one of 2^40 results is wrong with probability 2^{:.0}",
        margin.log2_failure(2f64.powi(40))
    );
    assert!(margin.holds(2f64.powi(40), -128.0));

    // The client encrypts.
    let mut upload = |values: &[i64], scale| -> Result<Vec<u8>, sphinx_he::Error> {
        let plaintext = Plaintext::encode(&parameters, 1, values, Encoding::scaled(scale))?;
        Ok(SeededCiphertext::encrypt(&plaintext, &secret, &mut rng)?.to_bytes())
    };
    let (x_bytes, d_bytes) = (upload(&x_poly, dx)?, upload(&d_poly, dd)?);

    // The server multiplies; sums over further chunks of samples would go into the same `sum`.
    let x_up = SeededCiphertext::from_bytes(&x_bytes, &parameters)?.expand();
    let d_up = SeededCiphertext::from_bytes(&d_bytes, &parameters)?.expand();
    let mut sum = Ciphertext::zero(&parameters, 1, 2, Encoding::scaled(dx * dd));
    sum.add_mul(&x_up, &d_up)?;
    let targets: Vec<usize> = (0..OUTPUTS)
        .flat_map(|i| (0..INPUTS).map(move |k| (i * INPUTS + k) * SAMPLES + SAMPLES - 1))
        .collect();
    let download = sum.drop_prime()?.select(&targets)?.to_bytes();
    println!(
        "up {} bytes, down {} bytes",
        x_bytes.len() + d_bytes.len(),
        download.len()
    );

    // The client decrypts exact integers.
    let gradient = SelectedCiphertext::from_bytes(&download, &parameters)?.decrypt(&secret)?;
    let expected: Vec<i64> = (0..OUTPUTS)
        .flat_map(|i| (0..INPUTS).map(move |k| (0..SAMPLES).map(|j| d(i, j) * x(j, k)).sum()))
        .collect();
    assert_eq!(gradient.keep_local(), expected);
    println!("all {} entries of the gradient are exact", expected.len());
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
