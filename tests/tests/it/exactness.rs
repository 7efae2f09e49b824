//! Exactness: at the shipped noise nothing fails; at scaled-up noise failures appear at the rate
//! that the formula predicts.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::exact::budget;
use sphinx_he::exact::{Ciphertext, Encoding, IntegerPoly, Plaintext, SeededCiphertext};
use sphinx_he::rlwe::{Parameters, ParametersLiteral, SecretKey};
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::Error;
use sphinx_protocol::plan::{Limits, Phase, Plan, PlanLiteral};
use sphinx_tests::fixture::{architecture, choices, toy_parameters, toy_plan};

mod scalar;
mod tight;
mod worst;

const DEGREE: usize = 1 << 10;

fn noisy(error_std_dev: f64) -> Parameters {
    let literal = ParametersLiteral {
        error_std_dev,
        ..toy_parameters(10)
    };
    Parameters::new(&literal).unwrap()
}

fn encrypt(p: &Parameters, s: &SecretKey, v: &[i64], e: Encoding, seed: u64) -> Ciphertext {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let plaintext = Plaintext::encode(p, 1, v, e).unwrap();
    SeededCiphertext::encrypt(&plaintext, s, &mut rng)
        .unwrap()
        .expand()
}

fn values(seed: u64, limit: i64) -> Vec<i64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..DEGREE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as i64 % (2 * limit + 1) - limit
        })
        .collect()
}

fn schoolbook(a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut out = vec![0; DEGREE];
    for (i, &u) in a.iter().enumerate() {
        for (j, &v) in b.iter().enumerate() {
            let at = (i + j) % DEGREE;
            out[at] += if i + j < DEGREE { u * v } else { -u * v };
        }
    }
    out
}

/// Fraction of coefficients that decode wrongly.
fn observed(result: Ciphertext, secret: &SecretKey, expected: &[i64]) -> f64 {
    let all: Vec<usize> = (0..DEGREE).collect();
    let got = result
        .drop_prime()
        .unwrap()
        .select(&all)
        .unwrap()
        .decrypt(secret)
        .unwrap();
    let wrong = got
        .keep_local()
        .iter()
        .zip(expected)
        .filter(|(a, b)| a != b)
        .count();
    wrong as f64 / DEGREE as f64
}

/// Sums of observed and predicted rates over `runs` keys must agree within five binomial deviations
/// and a tenth of the rate (the errors of one product's coefficients are not quite independent).
fn assert_rate(what: &str, observed: f64, predicted: f64, runs: usize) {
    let (observed, predicted) = (observed / runs as f64, predicted / runs as f64);
    let deviation = (predicted * (1.0 - predicted) / (runs * DEGREE) as f64).sqrt();
    println!("{what}: predicted {predicted:.5}, observed {observed:.5}");
    assert!(predicted > 1e-3, "{what}: too rare to be seen");
    assert!(
        (observed - predicted).abs() < 5.0 * deviation + 0.1 * predicted,
        "{what}: predicted {predicted}, observed {observed}"
    );
}

#[test]
fn plain_products_fail_as_predicted() {
    // A small scale makes the errors that these parameters allow large enough to be seen.
    let (runs, factor) = (120, 1 << 37);
    for error in [1e2, 2e2, 4e2] {
        let p = noisy(error);
        let (mut rate, mut predicted) = (0.0, 0.0);
        for run in 0..runs {
            let secret = SecretKey::generate(&p, &mut ChaCha20Rng::seed_from_u64(run));
            let (x, w) = (values(run, 127), values(run + 50, 255));
            let encoding = Encoding::scaled(1 << 21);
            let ct = encrypt(&p, &secret, &x, encoding, run + 100);
            let poly = IntegerPoly::new(&p, 1, &w, factor).unwrap();
            rate += observed(ct.mul_plain(&poly).unwrap(), &secret, &schoolbook(&w, &x));
            let norm: f64 = w.iter().map(|&v| (v * v) as f64).sum();
            let bound = 127.0 * 255.0 * DEGREE as f64;
            predicted += budget::linear(&p, secret.norms(), 1, encoding, factor, norm, bound, 1)
                .unwrap()
                .failure_rate();
        }
        assert_rate(
            &format!("W x at error {error}"),
            rate,
            predicted,
            runs as usize,
        );
    }
}

#[test]
fn gradient_products_fail_as_predicted() {
    let runs = 120;
    for error in [2e2, 4e2] {
        let p = noisy(error);
        let (mut rate, mut predicted) = (0.0, 0.0);
        for run in 0..runs {
            let secret = SecretKey::generate(&p, &mut ChaCha20Rng::seed_from_u64(run));
            let (x, d) = (values(run, 127), values(run + 50, 127));
            let (dx, dd) = (1_u128 << 37, 1_u128 << 21);
            let a = encrypt(&p, &secret, &x, Encoding::scaled(dx), run + 100);
            let b = encrypt(&p, &secret, &d, Encoding::scaled(dd), run + 200);
            rate += observed(a.mul(&b).unwrap(), &secret, &schoolbook(&d, &x));
            let norm = |v: &[i64]| v.iter().map(|&v| (v * v) as f64).sum::<f64>();
            let bound = 127.0 * 127.0 * DEGREE as f64;
            predicted += budget::product(
                &p,
                secret.norms(),
                dx,
                dd,
                norm(&x),
                norm(&d),
                1.0,
                bound,
                1,
            )
            .unwrap()
            .failure_rate();
        }
        assert_rate(
            &format!("d x^T at error {error}"),
            rate,
            predicted,
            runs as usize,
        );
    }
}

#[test]
fn every_product_of_a_plan_is_listed_and_holds() {
    let plan = toy_plan(
        &choices(architecture(20, &[(6, LayerSpec::Tanh)], 3), 32),
        8,
    );
    let phases: Vec<Phase> = plan.exactness().iter().map(|e| e.phase).collect();
    for phase in [
        Phase::Forward,
        Phase::Backward,
        Phase::Gradient,
        Phase::Mask,
        Phase::Backup,
    ] {
        assert!(phases.contains(&phase), "{phase} is missing");
    }
    assert!(plan.exactness().iter().all(|e| e.holds(-128.0)));
}

#[test]
fn an_inexact_plan_is_refused_and_names_the_product() {
    let mut literal =
        PlanLiteral::design_with(&choices(architecture(20, &[], 3), 32), toy_parameters(8))
            .unwrap();
    literal.he.error_std_dev = 1024.0;
    let refused = Plan::new(&literal, &Limits::default()).unwrap_err();
    assert!(matches!(refused, Error::Inexact(_)), "{refused}");
    assert!(
        refused.to_string().contains("would not decode exactly"),
        "{refused}"
    );
    // To observe failures on purpose there is another constructor, for toy parameters only.
    assert!(Plan::new_inexact(&literal, &Limits::default()).is_ok());
}
