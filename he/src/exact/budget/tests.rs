//! Bounds against their formulas, and against observed failures at scaled-up noise.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::exact::{Ciphertext, IntegerPoly, Plaintext, SeededCiphertext, Truncation};
use crate::rlwe::{ParametersLiteral, SecretKey, Security};

fn parameters(log_n: u32, log_q: &[u32], error_std_dev: f64) -> Parameters {
    let literal = ParametersLiteral {
        log_n,
        log_q: log_q.to_vec(),
        log_p: vec![],
        error_std_dev,
        security: Security::Toy,
    };
    Parameters::new(&literal).unwrap()
}

fn shipped() -> Parameters {
    parameters(12, &[47, 42], 3.2)
}

#[test]
fn rounding_dominates_at_the_shipped_set() {
    // PACKING: the rounding error alone has standard deviation 1115 at N = 4096; a scale of 2^13
    // left gives 2.4e-4 wrong coefficients
    let mean = SecretNorms::expected(4096);
    let none = product(&shipped(), mean, 1 << 28, 1 << 30, 0.0, 0.0, 0.0, 0.0, 1).unwrap();
    let step = 2f64.powi(58) / shipped().moduli()[1].value() as f64;
    assert!(
        (none.std_dev * step - 1115.0).abs() < 1.0,
        "{}",
        none.std_dev * step
    );
    let short = product(&shipped(), mean, 1 << 27, 1 << 28, 0.0, 0.0, 0.0, 0.0, 1).unwrap();
    assert!(
        (short.failure_rate() / 2.4e-4 - 1.0).abs() < 0.05,
        "{}",
        short.failure_rate()
    );
    let twice = parameters(13, &[47, 42], 3.2);
    let large = SecretNorms::expected(8192);
    let none = product(&twice, large, 1 << 28, 1 << 30, 0.0, 0.0, 0.0, 0.0, 1).unwrap();
    let step = 2f64.powi(58) / twice.moduli()[1].value() as f64;
    assert!((none.std_dev * step - 2230.0).abs() < 10.0);
}

#[test]
fn headroom_is_the_room_below_half_the_modulus() {
    let at = |sum: f64| {
        let terms = (1u128 << 28, 1u128 << 30);
        let norms = SecretNorms::largest(4096);
        product(&shipped(), norms, terms.0, terms.1, 1e6, 1e9, 1.0, sum, 1).unwrap()
    };
    // Q/2 = 2^88, scale 2^58
    let margin = at(2f64.powi(29));
    assert!(
        (margin.log2_headroom - 1.0).abs() < 0.01,
        "{}",
        margin.log2_headroom
    );
    assert!(margin.holds(2f64.powi(40), -128.0));
    assert!(!at(2f64.powi(31)).holds(1.0, 0.0));
    assert!(at(2f64.powi(31)).log2_headroom < 0.0);
}

#[test]
fn union_bounds_add_in_logarithms() {
    let margin = Margin {
        std_dev: 0.02,
        log2_headroom: 1.0,
        step: 1.0,
    };
    let single = margin.log2_failure(1.0);
    assert!((margin.log2_failure(1024.0) - single - 10.0).abs() < 1e-9);
    assert!(single < -400.0 && single > -500.0);
    let none = Margin {
        std_dev: 0.0,
        log2_headroom: 1.0,
        step: 1.0,
    };
    assert_eq!(none.log2_failure(1e12), f64::NEG_INFINITY);
    assert_eq!(none.failure_rate(), 0.0);
    assert!(none.holds(1e12, -1e300));
    assert!(
        !Margin {
            std_dev: f64::NAN,
            log2_headroom: 1.0,
            step: 1.0,
        }
        .holds(1.0, 0.0)
    );
}

#[test]
fn bad_quantities_are_refused() {
    let (p, n) = (shipped(), SecretNorms::expected(4096));
    let e = Encoding::scaled(1 << 20);
    assert!(matches!(
        product(&p, n, 1, 1, 1.0, 1.0, 1.0, 1.0, 2),
        Err(Error::DepthExhausted {
            needed: 2,
            level: 1,
            ..
        })
    ));
    assert!(matches!(
        product(&p, n, 1, 1, f64::NAN, 1.0, 1.0, 1.0, 1),
        Err(Error::BadBound {
            quantity: "x_norm_squared",
            ..
        })
    ));
    assert!(product(&p, n, 0, 1, 1.0, 1.0, 1.0, 1.0, 1).is_err());
    assert!(linear(&p, n, 2, e, 1, 1.0, 1.0, 0).is_err());
    assert!(linear(&p, n, 1, e, 0, 1.0, 1.0, 0).is_err());
    assert!(linear(&p, n, 1, e, 1, -1.0, 1.0, 0).is_err());
    assert!(linear(&p, n, 1, Encoding::Modular { log_t: 20 }, 2, 1.0, 1.0, 0).is_err());
}

fn random(rng: &mut ChaCha20Rng, n: usize, bits: u32) -> Vec<i64> {
    (0..n)
        .map(|_| (rng.next_u64() >> (64 - bits)) as i64 - (1 << (bits - 1)))
        .collect()
}

fn norm(values: &[i64]) -> f64 {
    values.iter().map(|&x| (x * x) as f64).sum()
}

fn all(p: &Parameters) -> Vec<usize> {
    (0..p.degree()).collect()
}

/// Negacyclic product of integers modulo `2^64`, by the schoolbook sum.
fn exact_product(a: &[i64], b: &[i64]) -> Vec<i64> {
    let n = a.len();
    let mut out = vec![0i64; n];
    for (i, &x) in a.iter().enumerate() {
        let (low, high) = b.split_at(n - i);
        for (sum, &y) in out[i..].iter_mut().zip(low) {
            *sum = sum.wrapping_add(x.wrapping_mul(y));
        }
        for (sum, &y) in out[..i].iter_mut().zip(high) {
            *sum = sum.wrapping_sub(x.wrapping_mul(y));
        }
    }
    out
}

/// Observed failures must be within five standard deviations of the prediction, widened by two per
/// cent for what the prediction averages over (norms of the messages enter as they are).
fn judge(name: &str, failures: f64, trials: f64, predicted: f64) {
    assert!(
        (1e-3..=0.3).contains(&predicted),
        "{name}: predicted {predicted} proves nothing"
    );
    let slack = 5.0 * (trials * predicted * (1.0 - predicted)).sqrt() + 0.02 * trials * predicted;
    let gap = (failures - trials * predicted).abs();
    println!(
        "{name}: {failures} failures of {trials}, {:.1} predicted",
        trials * predicted
    );
    assert!(
        gap < slack,
        "{name}: {failures} of {trials}, predicted {}",
        trials * predicted
    );
}

fn wrong(got: &[i64], expected: &[i64]) -> f64 {
    got.iter().zip(expected).filter(|(a, b)| a != b).count() as f64
}

struct Setup {
    parameters: Parameters,
    secret: SecretKey,
    rng: ChaCha20Rng,
}

impl Setup {
    fn new(log_n: u32, log_q: &[u32], std_dev: f64, seed: u64) -> Self {
        let parameters = parameters(log_n, log_q, std_dev);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = SecretKey::generate(&parameters, &mut rng);
        Self {
            parameters,
            secret,
            rng,
        }
    }

    fn encrypt(&mut self, level: usize, values: &[i64], encoding: Encoding) -> Ciphertext {
        let plaintext = Plaintext::encode(&self.parameters, level, values, encoding).unwrap();
        SeededCiphertext::encrypt(&plaintext, &self.secret, &mut self.rng)
            .unwrap()
            .expand()
    }

    fn decrypt(&self, c: Ciphertext) -> Vec<i64> {
        let selected = c.select(&all(&self.parameters)).unwrap();
        selected.decrypt(&self.secret).unwrap().keep_local()
    }
}

/// A polynomial with a single coefficient 1.
fn monomial(rng: &mut ChaCha20Rng, n: usize) -> Vec<i64> {
    let mut out = vec![0; n];
    out[rng.next_u64() as usize % n] = 1;
    out
}

/// Sums of three products at N = 1024, 40 times: random 6-bit by 8-bit polynomials, or monomials.
fn products(std_dev: f64, log_dx: u32, log_dd: u32, drops: usize, sparse: bool) {
    let (mut s, n, rounds) = (Setup::new(10, &[50, 40], std_dev, 11), 1024, 40);
    let (dx, dd, chunks) = (1u128 << log_dx, 1u128 << log_dd, 3);
    let (mut failures, mut predicted) = (0.0, 0.0);
    for _ in 0..rounds {
        let mut sum = Ciphertext::zero(&s.parameters, 1, 2, Encoding::scaled(dx * dd));
        let mut expected = vec![0; n];
        let (mut x_norm, mut d_norm) = (0.0, 0.0);
        for _ in 0..chunks {
            let mut draw = |bits| match sparse {
                true => monomial(&mut s.rng, n),
                false => random(&mut s.rng, n, bits),
            };
            let (x, d) = (draw(6), draw(8));
            x_norm += norm(&x);
            d_norm += norm(&d);
            expected
                .iter_mut()
                .zip(exact_product(&x, &d))
                .for_each(|(a, b)| *a += b);
            let a = s.encrypt(1, &x, Encoding::scaled(dx));
            let b = s.encrypt(1, &d, Encoding::scaled(dd));
            sum.add_mul(&a, &b).unwrap();
        }
        let bound = expected.iter().map(|x| x.abs()).max().unwrap() as f64;
        let (p, norms, chunks) = (&s.parameters, s.secret.norms(), f64::from(chunks));
        let margin = product(p, norms, dx, dd, x_norm, d_norm, chunks, bound, drops).unwrap();
        assert!(margin.log2_headroom > 0.0, "{}", margin.log2_headroom);
        predicted += margin.failure_rate() / f64::from(rounds);
        for _ in 0..drops {
            sum = sum.drop_prime().unwrap();
        }
        failures += wrong(&s.decrypt(sum), &expected);
    }
    let name = format!("products, sigma {std_dev}, scales 2^{log_dx} 2^{log_dd}, {drops} drops");
    judge(&name, failures, f64::from(rounds) * n as f64, predicted);
}

#[test]
fn products_fail_as_predicted_from_fresh_errors() {
    // the error of X times the large D, then the error of D times the large scale of X
    products(16.0, 18, 20, 0, false);
    products(4.0, 26, 14, 0, false);
}

#[test]
fn products_fail_as_predicted_from_the_product_of_errors() {
    // monomials at small scales: e f, of variance sigma^4 T N, is the larger part
    products(1000.0, 14, 14, 0, true);
}

#[test]
fn products_fail_as_predicted_from_rounding() {
    // step 2^10 after the drop against a rounding error of standard deviation 280
    products(3.2, 25, 25, 1, false);
}

#[test]
fn products_fail_as_predicted_from_all_sources() {
    products(1000.0, 24, 26, 1, false);
}

/// Two plain products with random 8-bit weights, `rounds` times.
fn plain(
    std_dev: f64,
    log_q: &[u32],
    encoding: Encoding,
    factor: u64,
    drops: usize,
    rounds: usize,
) {
    let mut s = Setup::new(10, log_q, std_dev, 12);
    let level = log_q.len() - 1;
    let (mut failures, mut predicted) = (0.0, 0.0);
    for _ in 0..rounds {
        let mut expected = vec![0; s.parameters.degree()];
        let mut weight_norm = 0.0;
        let target = encoding.times_factor("test", factor).unwrap();
        let mut sum = Ciphertext::zero(&s.parameters, level, 1, target);
        for _ in 0..2 {
            let bits = if let Encoding::Modular { log_t } = encoding {
                log_t
            } else {
                8
            };
            let (x, w) = (random(&mut s.rng, 1024, bits), random(&mut s.rng, 1024, 8));
            weight_norm += norm(&w);
            let product = exact_product(&x, &w);
            expected.iter_mut().zip(product).for_each(|(a, b)| *a += b);
            let w = IntegerPoly::new(&s.parameters, level, &w, factor).unwrap();
            sum.add_mul_plain(&s.encrypt(level, &x, encoding), &w)
                .unwrap();
        }
        let bound = expected.iter().map(|x| x.abs()).max().unwrap() as f64;
        if let Encoding::Modular { log_t } = encoding {
            expected.iter_mut().for_each(|x| *x &= (1 << log_t) - 1);
        }
        let norms = s.secret.norms();
        let margin = linear(
            &s.parameters,
            norms,
            level,
            encoding,
            factor,
            weight_norm,
            bound,
            drops,
        );
        let margin = margin.unwrap();
        assert!(margin.log2_headroom > 0.0);
        predicted += margin.failure_rate() / rounds as f64;
        for _ in 0..drops {
            sum = sum.drop_prime().unwrap();
        }
        failures += wrong(&s.decrypt(sum), &expected);
    }
    let name = format!("plain, sigma {std_dev}, {encoding:?}, factor {factor}, {drops} drops");
    judge(&name, failures, (rounds * 1024) as f64, predicted);
}

#[test]
fn plain_products_fail_as_predicted() {
    plain(30.0, &[50], Encoding::scaled(1 << 19), 1, 0, 40);
    plain(30.0, &[50, 40], Encoding::scaled(1 << 19), 1 << 12, 0, 40);
}

#[test]
fn plain_products_fail_as_predicted_after_a_drop() {
    // step 2^4 against a rounding error of standard deviation 7.5
    plain(3.2, &[50, 40], Encoding::scaled(1 << 32), 1 << 12, 1, 40);
}

#[test]
fn modular_products_fail_as_predicted() {
    // the error of the encoding, 1/12, counts beside a small sigma
    plain(1.0, &[40], Encoding::Modular { log_t: 26 }, 1, 0, 40);
    plain(3.2, &[40, 30], Encoding::Modular { log_t: 35 }, 1, 1, 40);
}

/// Sums of plain products whose downloads are cut so far that a good part of them fails.
fn truncated(degree: usize, cut: Truncation) {
    let (mut s, n, rounds) = (Setup::new(10, &[47, 42], 3.2, 17), 1024, 20);
    let (mut failures, mut predicted) = (0.0, 0.0);
    for _ in 0..rounds {
        let x = random(&mut s.rng, n, 6);
        let a = s.encrypt(1, &x, Encoding::scaled(1 << 30));
        let (p, norms, unit) = (s.parameters.clone(), s.secret.norms(), [1]);
        let (product, margin) = if degree == 2 {
            let b = s.encrypt(1, &unit, Encoding::scaled(1 << 28));
            let (dx, dd) = (1 << 30, 1 << 28);
            let margin = product(&p, norms, dx, dd, norm(&x), 1.0, 1.0, 64.0, 1).unwrap();
            (a.mul(&b).unwrap(), margin)
        } else {
            let w = IntegerPoly::new(&p, 1, &unit, 1 << 28).unwrap();
            let encoding = Encoding::scaled(1 << 30);
            let margin = linear(&p, norms, 1, encoding, 1 << 28, 1.0, 64.0, 1).unwrap();
            (a.mul_plain(&w).unwrap(), margin)
        };
        let margin = margin.truncated(&p, norms, degree, cut);
        predicted += margin.failure_rate() / f64::from(rounds);
        let down = product.drop_and_select(&all(&p), cut).unwrap();
        failures += wrong(&down.decrypt(&s.secret).unwrap().keep_local(), &x);
    }
    let name = format!("degree {degree}, {cut:?}");
    judge(&name, failures, f64::from(rounds) * n as f64, predicted);
}

#[test]
fn truncated_downloads_fail_as_predicted() {
    // the bits of the masks decide; then they and those of c0, whose error is not Gaussian
    truncated(1, Truncation { c0: 4, masks: 12 });
    truncated(1, Truncation { c0: 14, masks: 12 });
    truncated(2, Truncation { c0: 3, masks: 6 });
}
