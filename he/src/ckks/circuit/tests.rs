//! Circuits against the same computations on numbers.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::ckks::{
    Ciphertext, Complex64, Decryptor, Encoder, Encryptor, Evaluator, Level, Precision, Scale,
};
use crate::error::Error;
use crate::rlwe::{KeyGenerator, Parameters, ParametersLiteral, SecretKey, Security, Workspace};

struct World {
    secret: SecretKey,
    encoder: Encoder,
    evaluator: Evaluator,
    workspace: Workspace,
    rng: ChaCha20Rng,
    top: Level,
}

const SCALE: u8 = 40;

fn world(log_n: u32, primes: usize) -> World {
    let parameters = Parameters::new(&ParametersLiteral {
        log_n,
        log_q: [50]
            .into_iter()
            .chain(std::iter::repeat_n(40, primes))
            .collect(),
        log_p: vec![45, 45],
        error_std_dev: 3.2,
        security: Security::Toy,
    })
    .unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    World {
        secret: SecretKey::generate(&parameters, &mut rng),
        encoder: Encoder::new(&parameters),
        evaluator: Evaluator::new(&parameters),
        workspace: Workspace::new(&parameters),
        rng,
        top: Level(primes),
    }
}

impl World {
    fn encrypt(&mut self, values: &[Complex64], slots: usize) -> Ciphertext {
        let scale = Scale::power_of_two(SCALE);
        let plain = self
            .encoder
            .encode_sparse(values, slots, self.top, scale)
            .unwrap();
        let encryptor = Encryptor::with_secret(&self.secret);
        encryptor.encrypt(&plain, &mut self.rng).unwrap()
    }

    fn decrypt(&self, c: &Ciphertext) -> Vec<Complex64> {
        let plain = Decryptor::new(&self.secret).decrypt(c).unwrap();
        self.encoder.decode(&plain).unwrap()
    }
}

fn numbers(count: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1.0f64..1.0, count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn polynomials_have_their_values(
        coefficients in prop::collection::vec(-1.0f64..1.0, 1..22),
        x in numbers(32),
        chebyshev: bool,
        zeros in any::<u32>(),
    ) {
        let mut w = world(6, 6);
        let mut coefficients = coefficients;
        let holes = coefficients.iter_mut().enumerate();
        holes.filter(|(i, _)| zeros >> i & 3 == 0).for_each(|(_, c)| *c = 0.0);
        let basis = if chebyshev { Basis::Chebyshev } else { Basis::Power };
        let p = Polynomial::new(basis, &coefficients);
        let slots: Vec<Complex64> = x.iter().map(|&v| v.into()).collect();
        let key = KeyGenerator::new(&w.secret).unwrap().relinearization(&mut w.rng).unwrap();
        let c = w.encrypt(&slots, 32);
        let y = p.evaluate(&w.evaluator, &c, &key, &mut w.workspace).unwrap();
        prop_assert_eq!(c.level().0 - y.level().0, p.depth());
        prop_assert!((y.scale().value() / c.scale().value() - 1.0).abs() < 1e-12);
        let report = Precision::of(&w.decrypt(&y), slots.iter().map(|&z| p.value(z)));
        prop_assert!(report.worst < 1e-7, "{p:?} {report}");
    }

    #[test]
    fn matrices_multiply(
        log_dimension in 0u32..=5,
        entries in numbers(1024),
        x in numbers(32),
        zeros in any::<u64>(),
    ) {
        let mut w = world(6, 1);
        let d = 1usize << log_dimension;
        let entry = |r: usize, c: usize| {
            let empty = zeros >> ((c + d - r) % d) & 1 == 0;
            Complex64::from(if empty { 0.0 } else { entries[r * d + c] })
        };
        let scale = Scale::power_of_two(SCALE);
        let matrix = DiagonalMatrix::new(&w.encoder, d, w.top, scale, entry).unwrap();
        let keys = KeyGenerator::new(&w.secret).unwrap().rotations(&matrix.steps(), &mut w.rng).unwrap();
        let vector: Vec<Complex64> = x[..d].iter().map(|&v| v.into()).collect();
        let c = w.encrypt(&vector, d);
        let y = matrix.mul(&w.evaluator, &c, &keys, &mut w.workspace).unwrap();
        let y = w.evaluator.rescale(y).unwrap();
        let want = (0..d).map(|r| (0..d).map(|k| entry(r, k) * vector[k]).sum());
        let got = w.decrypt(&y);
        prop_assert_eq!(got.len(), d);
        let report = Precision::of(&got, want);
        prop_assert!(report.worst < 1e-7, "{report}");
    }

    #[test]
    fn sums_of_slots(x in numbers(32), log_count in 0u32..=5, log_stride in 0u32..=2) {
        let mut w = world(6, 0);
        let (count, stride) = (1usize << log_count, 1usize << log_stride);
        let slots: Vec<Complex64> = x.iter().map(|&v| v.into()).collect();
        let c = w.encrypt(&slots, 32);
        let steps = sum_steps(stride, count);
        let keys = KeyGenerator::new(&w.secret).unwrap().rotations(&steps, &mut w.rng).unwrap();
        let sum = sum_slots(&w.evaluator, &c, stride, count, &keys, &mut w.workspace).unwrap();
        let want = (0..32).map(|j| (0..count).map(|k| slots[(j + k * stride) % 32]).sum());
        let report = Precision::of(&w.decrypt(&sum), want);
        prop_assert!(report.worst < 1e-6, "{report}");
    }
}

#[test]
fn polynomials_know_their_values_and_depth() {
    let cube = Polynomial::new(Basis::Chebyshev, &[0.0, 0.75, 0.0, 0.25, 0.0]); // x^3
    assert_eq!((cube.degree(), cube.depth()), (3, 2));
    for x in [-1.0, -0.3, 0.0, 0.7] {
        assert!((cube.value(x.into()).re - f64::powi(x, 3)).abs() < 1e-15);
    }
    let depths = [0, 1, 2, 2, 4, 4, 4, 4, 5];
    for (degree, depth) in depths.into_iter().enumerate() {
        let mut coefficients = vec![0.0; degree];
        coefficients.push(1.0);
        assert_eq!(Polynomial::new(Basis::Power, &coefficients).depth(), depth);
    }
    let wave = Polynomial::interpolate(20, |x| (3.0 * x).sin());
    let gap = |x: f64| (wave.value(x.into()).re - (3.0 * x).sin()).abs();
    assert!((-10..=10).all(|k| gap(f64::from(k) / 10.0) < 1e-12));
    assert_eq!(Polynomial::new(Basis::Power, &[]).degree(), 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut w = world(6, 1);
    let c = w.encrypt(&[Complex64::ONE], 32);
    let generator = KeyGenerator::new(&w.secret).unwrap();
    let key = generator.relinearization(&mut w.rng).unwrap();
    let quartic = Polynomial::new(Basis::Power, &[0.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(matches!(
        quartic.evaluate(&w.evaluator, &c, &key, &mut w.workspace),
        Err(Error::DepthExhausted { needed: 4, .. })
    ));
    let scale = Scale::power_of_two(SCALE);
    for bad in [0, 3, 64] {
        let refused = DiagonalMatrix::new(&w.encoder, bad, w.top, scale, |_, _| Complex64::ONE);
        assert!(matches!(refused, Err(Error::BadSlotCount { .. })), "{bad}");
    }
    let matrix = DiagonalMatrix::new(&w.encoder, 8, w.top, scale, |_, _| Complex64::ONE).unwrap();
    let keys = generator.rotations(&matrix.steps(), &mut w.rng).unwrap();
    let mul = |c: &Ciphertext, keys, workspace: &mut _| {
        matrix.mul(&w.evaluator, c, keys, workspace).map(|_| ())
    };
    assert!(matches!(
        mul(&c, &keys, &mut w.workspace),
        Err(Error::BadSlotCount { .. })
    ));
    let none = generator.rotations(&[], &mut w.rng).unwrap();
    let plain = w
        .encoder
        .encode_sparse(&[Complex64::ONE], 8, w.top, scale)
        .unwrap();
    let few = Encryptor::with_secret(&w.secret)
        .encrypt(&plain, &mut w.rng)
        .unwrap();
    assert!(matches!(
        mul(&few, &none, &mut w.workspace),
        Err(Error::NoGaloisKey { .. })
    ));
    let low = w.evaluator.drop_to(few, Level(0)).unwrap();
    assert!(matches!(
        mul(&low, &keys, &mut w.workspace),
        Err(Error::LevelMismatch { .. })
    ));
}
