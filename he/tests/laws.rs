//! Laws of the ring, of key switching and of slots, over random parameters and circuits.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::ckks::{
    Ciphertext, Complex64, Decryptor, Encoder, Encryptor, Estimate, Evaluator, Level, Scale,
};
use sphinx_he::ring::Automorphism;
use sphinx_he::rlwe::{
    GaloisKeys, KeyGenerator, NoiseModel, Parameters, ParametersLiteral, RelinearizationKey,
    SecretKey, Security, Workspace, rotation_exponent,
};
use sphinx_he::strategies::{digit_groups, slots, switching_literals, uniform_polynomials};

fn ring_case() -> impl Strategy<Value = (Parameters, usize)> {
    switching_literals().prop_map(|literal| {
        let parameters = Parameters::new(&literal).unwrap();
        let level = parameters.max_level();
        (parameters, level)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_ring_is_a_commutative_ring_with_automorphisms(
        ((parameters, a, b, c), g, h) in (
            ring_case().prop_flat_map(|(parameters, level)| {
                let poly = || uniform_polynomials(&parameters, level);
                (Just(parameters.clone()), poly(), poly(), poly())
            }),
            any::<u64>(),
            any::<u64>(),
        )
    ) {
        let (a, b, c) = (a.into_eval(), b.into_eval(), c.into_eval());
        prop_assert!(a.mul(&b).unwrap() == b.mul(&a).unwrap());
        prop_assert!(a.mul(&b).unwrap().mul(&c).unwrap() == a.mul(&b.mul(&c).unwrap()).unwrap());
        let sum = |x: &_, y: &_| {
            let mut out: sphinx_he::ring::Poly<_> = Clone::clone(x);
            out.add_assign(y).unwrap();
            out
        };
        let left = a.mul(&sum(&b, &c)).unwrap();
        prop_assert!(left == sum(&a.mul(&b).unwrap(), &a.mul(&c).unwrap()));
        let map = |g: u64| Automorphism::new(parameters.log_n(), g | 1).unwrap();
        let (g, h) = (g >> 8, h >> 8);
        let image = |x: &_| map(g).apply(x).unwrap();
        prop_assert!(image(&a.mul(&b).unwrap()) == image(&a).mul(&image(&b)).unwrap());
        let both = ((u128::from(g | 1) * u128::from(h | 1)) % (2 * parameters.degree() as u128)) as u64;
        prop_assert!(map(h).apply(&image(&a)).unwrap() == map(both).apply(&a).unwrap());
    }
}

/// Keys and tools of one toy set.
struct World {
    parameters: Parameters,
    secret: SecretKey,
    groups: Vec<usize>,
    relinearization: RelinearizationKey,
    galois: GaloisKeys,
    encoder: Encoder,
    evaluator: Evaluator,
    model: NoiseModel,
    workspace: Workspace,
    rng: ChaCha20Rng,
}

const SCALE: u8 = 40;

impl World {
    fn new(log_n: u32, log_q: &[u32], log_p: &[u32], groups: Option<&[usize]>) -> Self {
        let parameters = Parameters::new(&ParametersLiteral {
            log_n,
            log_q: log_q.to_vec(),
            log_p: log_p.to_vec(),
            error_std_dev: 3.2,
            security: Security::Toy,
        })
        .unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(17);
        let secret = SecretKey::generate(&parameters, &mut rng);
        let generator = groups.map_or_else(
            || KeyGenerator::new(&secret),
            |groups| KeyGenerator::with_groups(&secret, groups),
        );
        let generator = generator.unwrap();
        let degree = parameters.degree();
        let exponents = (0..degree as i64 / 2).map(|k| rotation_exponent(degree, k));
        let exponents = exponents.chain([2 * degree as u64 - 1]);
        Self {
            groups: generator.groups(),
            relinearization: generator.relinearization(&mut rng).unwrap(),
            galois: generator.galois_set(exponents, &mut rng).unwrap(),
            encoder: Encoder::new(&parameters),
            evaluator: Evaluator::new(&parameters),
            model: NoiseModel::with_norms(&parameters, secret.norms()),
            workspace: Workspace::new(&parameters),
            secret,
            parameters,
            rng,
        }
    }

    fn encrypt(&mut self, values: &[Complex64]) -> Tracked {
        let (level, scale) = (
            Level(self.parameters.max_level()),
            Scale::power_of_two(SCALE),
        );
        let plain = self.encoder.encode(values, level, scale).unwrap();
        let encryptor = Encryptor::with_secret(&self.secret);
        let magnitude = values.iter().map(|z| z.norm()).fold(0.0, f64::max);
        Tracked {
            ciphertext: encryptor.encrypt(&plain, &mut self.rng).unwrap(),
            exact: values.to_vec(),
            estimate: Estimate::symmetric(&self.model, magnitude, scale),
        }
    }

    fn decrypt(&self, c: &Ciphertext) -> Vec<Complex64> {
        let plain = Decryptor::new(&self.secret).decrypt(c).unwrap();
        self.encoder.decode(&plain).unwrap()
    }

    fn rotate(&mut self, a: &Ciphertext, steps: i64) -> Ciphertext {
        let key = self.galois.rotation("law", steps).unwrap();
        self.evaluator
            .apply_galois(a, key, &mut self.workspace)
            .unwrap()
    }
}

/// A ciphertext with what it should hold and how wrong it may be.
#[derive(Clone)]
struct Tracked {
    ciphertext: Ciphertext,
    exact: Vec<Complex64>,
    estimate: Estimate,
}

impl Tracked {
    fn gap(&self, world: &World) -> f64 {
        let got = world.decrypt(&self.ciphertext);
        let gaps = got.iter().zip(&self.exact).map(|(a, b)| (a - b).norm());
        gaps.fold(0.0, f64::max)
    }
}

#[derive(Clone, Copy, Debug)]
enum Gate {
    Add,
    Sub,
    Mul,
    Turn(i64),
    Conjugate,
    Scale(f64),
}

fn gates() -> impl Strategy<Value = Vec<(Gate, usize, usize)>> {
    let gate = prop_oneof![
        Just(Gate::Add),
        Just(Gate::Sub),
        Just(Gate::Mul),
        Just(Gate::Mul),
        (-20i64..20).prop_map(Gate::Turn),
        Just(Gate::Conjugate),
        (-1.0f64..1.0).prop_map(Gate::Scale),
    ];
    prop::collection::vec((gate, 0usize..100, 0usize..100), 1..14)
}

/// Both at one level and scale, the higher one brought to the lower where they differ.
fn meet(world: &World, a: &Tracked, b: &Tracked) -> Option<(Tracked, Tracked)> {
    let (la, lb) = (a.ciphertext.level(), b.ciphertext.level());
    if la < lb {
        return meet(world, b, a).map(|(b, a)| (a, b));
    }
    let e = &world.evaluator;
    let scale = b.ciphertext.scale();
    let (ratio, mut lowered) = (a.ciphertext.scale().value() / scale.value(), a.clone());
    if (ratio - 1.0).abs() < 1e-13 {
        lowered.ciphertext = e.drop_to(a.ciphertext.clone(), lb).unwrap();
    } else if la > lb {
        lowered.ciphertext = e.adjust(&a.ciphertext, 1.0, lb, scale).unwrap();
        // the factor 1 is rounded to a multiple of the last scale over the prime
        let rounded = Estimate {
            magnitude: 1.0,
            deviation: 2f64.powi(-38),
        };
        lowered.estimate = a.estimate.times(rounded).rescaled(&world.model, 1, scale);
        lowered.estimate.magnitude = a.estimate.magnitude;
    } else {
        return None;
    }
    Some((lowered, b.clone()))
}

fn step(world: &mut World, pool: &[Tracked], gate: Gate, i: usize, j: usize) -> Option<Tracked> {
    let (a, b) = (&pool[i % pool.len()], &pool[j % pool.len()]);
    let n = a.exact.len() as i64;
    let zip = |a: &Tracked, b: &Tracked, f: fn(Complex64, Complex64) -> Complex64| {
        a.exact
            .iter()
            .zip(&b.exact)
            .map(|(&x, &y)| f(x, y))
            .collect::<Vec<_>>()
    };
    let switched = |world: &World, a: &Tracked| {
        let (level, scale) = (a.ciphertext.level().0, a.ciphertext.scale());
        a.estimate
            .switched(&world.model, level, &world.groups, scale)
    };
    let (ciphertext, exact, estimate) = match gate {
        Gate::Add | Gate::Sub => {
            let (a, b) = meet(world, a, b)?;
            let estimate = a.estimate.plus(b.estimate);
            let (x, y) = (&a.ciphertext, &b.ciphertext);
            match gate {
                Gate::Add => (
                    world.evaluator.add(x, y).unwrap(),
                    zip(&a, &b, |x, y| x + y),
                    estimate,
                ),
                _ => (
                    world.evaluator.sub(x, y).unwrap(),
                    zip(&a, &b, |x, y| x - y),
                    estimate,
                ),
            }
        }
        Gate::Mul => {
            let level = a.ciphertext.level().min(b.ciphertext.level());
            if level.0 == 0 || a.estimate.magnitude * b.estimate.magnitude > 100.0 {
                return None;
            }
            let drop = |t: &Tracked| {
                world
                    .evaluator
                    .drop_to(t.ciphertext.clone(), level)
                    .unwrap()
            };
            let (x, y) = (drop(a), drop(b));
            let product = world.evaluator.mul_relin_rescale(
                &x,
                &y,
                &world.relinearization,
                &mut world.workspace,
            );
            let product = product.unwrap();
            let before = Scale::new(x.scale().value() * y.scale().value()).unwrap();
            let estimate =
                a.estimate
                    .times(b.estimate)
                    .switched(&world.model, level.0, &world.groups, before);
            (
                product.clone(),
                zip(a, b, |x, y| x * y),
                estimate.rescaled(&world.model, 1, product.scale()),
            )
        }
        Gate::Turn(steps) => {
            let exact = (0..n)
                .map(|k| a.exact[(k + steps).rem_euclid(n) as usize])
                .collect();
            (
                world.rotate(&a.ciphertext, steps),
                exact,
                switched(world, a),
            )
        }
        Gate::Conjugate => {
            let exponent = 2 * world.parameters.degree() as u64 - 1;
            let key = world.galois.get(exponent).unwrap();
            let out = world
                .evaluator
                .apply_galois(&a.ciphertext, key, &mut world.workspace)
                .unwrap();
            (
                out,
                a.exact.iter().map(|z| z.conj()).collect(),
                switched(world, a),
            )
        }
        Gate::Scale(x) => {
            if a.ciphertext.level().0 == 0 {
                return None;
            }
            let by = Scale::power_of_two(SCALE);
            let scaled = world.evaluator.mul_scalar(&a.ciphertext, x, by).unwrap();
            let out = world.evaluator.rescale(scaled).unwrap();
            let factor = Estimate {
                magnitude: x.abs(),
                deviation: 2f64.powi(-40),
            };
            let estimate = a
                .estimate
                .times(factor)
                .rescaled(&world.model, 1, out.scale());
            (out, a.exact.iter().map(|z| z * x).collect(), estimate)
        }
    };
    Some(Tracked {
        ciphertext,
        exact,
        estimate,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_circuits_stay_within_the_predicted_error(
        x in slots(32, 1.0),
        y in slots(32, 1.0),
        gates in gates(),
        special in 0usize..3,
    ) {
        let log_p: &[u32] = [&[50][..], &[42, 42], &[45, 45, 45]][special];
        let mut world = World::new(6, &[50, 40, 40, 40, 40], log_p, None);
        let mut pool = vec![world.encrypt(&x), world.encrypt(&y)];
        for (gate, i, j) in gates {
            if let Some(next) = step(&mut world, &pool, gate, i, j) {
                let gap = next.gap(&world);
                prop_assert!(gap <= next.estimate.bound(), "{gate:?}: {gap} {:?}", next.estimate);
                // a prediction that says nothing would pass the bound too
                prop_assert!(next.estimate.bound() < 1e-4);
                let bytes = next.ciphertext.to_bytes();
                let back = Ciphertext::from_bytes(&bytes, &world.parameters).unwrap();
                prop_assert_eq!(back.to_bytes(), bytes);
                pool.push(next);
            }
        }
    }

    #[test]
    fn any_digits_switch_within_their_predicted_error(
        (log_q, groups) in prop::collection::vec(30u32..=45, 1..6)
            .prop_flat_map(|log_q| {
                let primes = log_q.len();
                (Just(log_q), digit_groups(primes))
            }),
        log_p in prop::collection::vec(40u32..=50, 1..4),
        x in slots(16, 1.0),
        steps in 1i64..16,
    ) {
        let mut world = World::new(5, &log_q, &log_p, Some(&groups));
        prop_assert_eq!(&world.groups, &groups);
        let scale = Scale::power_of_two(28);
        let level = Level(world.parameters.max_level());
        let plain = world.encoder.encode(&x, level, scale).unwrap();
        let a = Encryptor::with_secret(&world.secret).encrypt(&plain, &mut world.rng).unwrap();
        let before = world.decrypt(&a);
        let turned = world.rotate(&a, steps);
        let after = world.decrypt(&turned);
        let estimate = Estimate::exact(1.0).switched(&world.model, level.0, &groups, scale);
        let want = |k: usize| before[(k + steps as usize) % 16];
        let gap = (0..16).map(|k| (after[k] - want(k)).norm()).fold(0.0, f64::max);
        // digits above P may bury the message; the error is as large as predicted all the same
        prop_assume!(estimate.bound() < 0.5);
        prop_assert!(gap <= estimate.bound() + 1e-12, "{gap} {}", estimate.bound());
    }

    #[test]
    fn rotations_are_a_group_and_switching_is_linear(
        x in slots(16, 1.0),
        y in slots(16, 1.0),
        j in -16i64..16,
        k in -16i64..16,
    ) {
        let mut world = World::new(5, &[50, 40], &[50], None);
        let (a, b) = (world.encrypt(&x), world.encrypt(&y));
        let gap = |world: &World, p: &Ciphertext, q: &Ciphertext| {
            let (p, q) = (world.decrypt(p), world.decrypt(q));
            p.iter().zip(&q).map(|(x, y)| (x - y).norm()).fold(0.0, f64::max)
        };
        let scale = a.ciphertext.scale();
        let one = Estimate::exact(1.0).switched(&world.model, 1, &world.groups, scale).bound();
        let first = world.rotate(&a.ciphertext, j);
        let twice = world.rotate(&first, k);
        let once = world.rotate(&a.ciphertext, j + k);
        prop_assert!(gap(&world, &twice, &once) < 3.0 * one);
        let back = world.rotate(&first, -j);
        prop_assert!(gap(&world, &back, &a.ciphertext) < 2.0 * one);
        let e = world.evaluator.clone();
        let sum = e.add(&a.ciphertext, &b.ciphertext).unwrap();
        let turned_sum = world.rotate(&sum, j);
        let other = world.rotate(&b.ciphertext, j);
        let sum_turned = e.add(&first, &other).unwrap();
        prop_assert!(gap(&world, &turned_sum, &sum_turned) < 3.0 * one);
        let product = |p: &Ciphertext, q: &Ciphertext| e.mul(p, q).unwrap();
        let (p, q) = (product(&a.ciphertext, &b.ciphertext), product(&b.ciphertext, &b.ciphertext));
        let mut relinearize = |c: &Ciphertext| {
            e.relinearize(c, &world.relinearization, &mut world.workspace).unwrap()
        };
        let left = relinearize(&e.add(&p, &q).unwrap());
        let right = e.add(&relinearize(&p), &relinearize(&q)).unwrap();
        let scale = left.scale();
        let one = Estimate::exact(1.0).switched(&world.model, 1, &world.groups, scale).bound();
        prop_assert!(gap(&world, &left, &right) < 3.0 * one + 1e-15);
    }
}

/// Root of the mean square of the coefficients' errors against the model, over several draws.
#[test]
fn measured_errors_are_the_predicted_ones() {
    let mut world = World::new(8, &[50, 40, 40], &[42, 42], None);
    let zero = vec![Complex64::ZERO; 128];
    let scale = Scale::power_of_two(SCALE);
    let rms = |world: &World, c: &Ciphertext| {
        let got = world.decrypt(c);
        (got.iter().map(|z| z.norm_sqr()).sum::<f64>() / 128.0).sqrt()
    };
    let public = KeyGenerator::new(&world.secret)
        .unwrap()
        .public(&mut world.rng);
    let (mut sums, draws) = ([0.0f64; 4], 24);
    let mut predicted = [0.0f64; 4];
    for _ in 0..draws {
        let a = world.encrypt(&zero).ciphertext;
        let plain = world.encoder.encode(&zero, Level(2), scale).unwrap();
        let p = Encryptor::with_public(&public)
            .encrypt(&plain, &mut world.rng)
            .unwrap();
        let turned = world.rotate(&a, 3);
        let scaled = world
            .evaluator
            .mul_scalar(&a, 1.0, Scale::power_of_two(20))
            .unwrap();
        let rescaled = world.evaluator.rescale(scaled).unwrap();
        for (sum, c) in sums.iter_mut().zip([&a, &p, &turned, &rescaled]) {
            *sum += rms(&world, c).powi(2) / f64::from(draws);
        }
        let m = &world.model;
        let small = rescaled.scale().value();
        predicted = [
            m.slot_error(m.symmetric_variance(), scale.value()),
            m.slot_error(m.public_variance(), scale.value()),
            m.slot_error(
                m.symmetric_variance() + m.key_switch_variance(2, &world.groups),
                scale.value(),
            ),
            m.slot_error(
                m.symmetric_variance() * 2f64.powi(-40) + m.rounding_variance(1),
                small,
            ),
        ];
    }
    for (name, (sum, predicted)) in ["symmetric", "public", "rotation", "rescale"]
        .iter()
        .zip(sums.iter().zip(predicted))
    {
        let ratio = sum.sqrt() / predicted;
        assert!(
            (0.8..1.25).contains(&ratio),
            "{name}: measured / predicted = {ratio}"
        );
    }
}
