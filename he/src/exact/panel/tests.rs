//! Panels against sums of single ciphertexts.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::super::{Plaintext, SeededCiphertext};
use super::*;
use crate::rlwe::{ParametersLiteral, SecretKey, Security};

fn toy(log_n: u32, log_q: &[u32]) -> (Parameters, SecretKey, ChaCha20Rng) {
    let literal = ParametersLiteral {
        log_n,
        log_q: log_q.to_vec(),
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    };
    let parameters = Parameters::new(&literal).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(log_n));
    let secret = SecretKey::generate(&parameters, &mut rng);
    (parameters, secret, rng)
}

struct Case {
    parameters: Parameters,
    level: usize,
    secret: SecretKey,
    rng: ChaCha20Rng,
}

const ENCODING: Encoding = Encoding::scaled(1 << 10);

impl Case {
    fn upload(&mut self) -> Ciphertext {
        let plain = Plaintext::encode(&self.parameters, self.level, &[3, -5], ENCODING).unwrap();
        SeededCiphertext::encrypt(&plain, &self.secret, &mut self.rng)
            .unwrap()
            .expand()
    }

    fn uploads(&mut self, count: usize) -> Vec<Ciphertext> {
        (0..count).map(|_| self.upload()).collect()
    }

    /// Row by row.
    fn panel(&self, ciphertexts: &[Ciphertext], rows: usize) -> Panel {
        let columns = ciphertexts.len() / rows;
        let mut panel = Panel::new(&self.parameters, self.level, ENCODING, rows, columns).unwrap();
        Self::fill(&mut panel, ciphertexts);
        panel
    }

    fn fill(panel: &mut Panel, ciphertexts: &[Ciphertext]) {
        let columns = panel.columns();
        for mut part in panel.parts_mut() {
            for (at, c) in ciphertexts.iter().enumerate() {
                part.put(at / columns, at % columns, c);
            }
        }
    }
}

fn bytes(c: Ciphertext) -> Vec<u8> {
    let all: Vec<usize> = (0..c.parameters().degree()).collect();
    c.select(&all).unwrap().to_bytes()
}

fn compute(products: &Products<'_>) -> Vec<Vec<u8>> {
    let mut sums = products.room(None);
    sums.parts_mut()
        .for_each(|mut part| products.fill(&mut part));
    (0..sums.len())
        .map(|at| bytes(sums.ciphertext(at)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn sums_are_those_of_single_ciphertexts(log_n in 3_u32..9, large: bool, level in 0_usize..2,
        rows in 1_usize..6, columns in 1_usize..6, outputs in 1_usize..6, first in 0_usize..6) {
        let (parameters, secret, rng) = toy(log_n, if large { &[60, 42] } else { &[47, 42] });
        let mut case = Case { parameters, level, secret, rng };
        let x = case.uploads(rows * columns);
        let d = case.uploads(outputs * columns);
        let weights: Vec<IntegerPoly> = (0..(outputs * rows) as i64)
            .map(|i| IntegerPoly::new(&case.parameters, 1, &[i - 3, 7 * i], 4).unwrap())
            .collect();
        let x_panel = case.panel(&x, rows);

        let mut w = WeightPanel::new(&case.parameters, level, 4, outputs, rows).unwrap();
        for mut part in w.parts_mut() {
            weights.iter().enumerate().for_each(|(at, w)| part.put(at / rows, at % rows, w));
        }
        let range = first.min(columns)..columns;
        let mut expected = Vec::new();
        for t in range.clone() {
            for row in weights.chunks(rows) {
                let terms: Vec<_> = (0..rows).map(|k| &x[k * columns + t]).zip(row).collect();
                let encoding = Encoding::scaled(1 << 12);
                let mut sum = Ciphertext::zero(&case.parameters, level, 1, encoding);
                sum.add_dot_plain(&terms).unwrap();
                expected.push(bytes(sum));
            }
        }
        prop_assert_eq!(compute(&Products::weighted(&w, &x_panel, range).unwrap()), expected);

        let d_panel = case.panel(&d, outputs);
        let mut expected = Vec::new();
        for d in d.chunks(columns) {
            for x in x.chunks(columns) {
                let terms: Vec<_> = x.iter().zip(d).collect();
                let encoding = Encoding::scaled(1 << 20);
                let mut sum = Ciphertext::zero(&case.parameters, level, 2, encoding);
                sum.add_dot(&terms).unwrap();
                expected.push(bytes(sum));
            }
        }
        let products = Products::of(&d_panel, &x_panel).unwrap();
        prop_assert_eq!(compute(&products), expected);
        let single = Products::of(&x_panel, &x_panel).unwrap();
        let used = products.room(Some(single.room(None)));
        prop_assert_eq!(used.len(), outputs * rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// In the memory of another panel, larger or smaller, sums are the same.
    #[test]
    fn memory_of_an_earlier_panel_says_nothing(log_n in 3_u32..9, before in 0_usize..2, level in 0_usize..2,
        earlier in (1_usize..5, 1_usize..5), rows in 1_usize..5, columns in 1_usize..5) {
        let (parameters, secret, rng) = toy(log_n, &[47, 42]);
        let mut case = Case { parameters, level: before, secret, rng };
        let old = case.uploads(earlier.0 * earlier.1);
        let old = case.panel(&old, earlier.0);
        case.level = level;
        let x = case.uploads(rows * columns);
        let fresh = case.panel(&x, rows);
        let mut again = old.resized(level, ENCODING, rows, columns).unwrap();
        prop_assert_eq!((again.rows(), again.columns()), (rows, columns));
        again.check(&x[0]).unwrap();
        Case::fill(&mut again, &x);
        let expected = compute(&Products::of(&fresh, &fresh).unwrap());
        prop_assert_eq!(compute(&Products::of(&again, &again).unwrap()), expected);
        let op = "panel of ciphertexts";
        let refused = again.resized(2, ENCODING, 1, 1).unwrap_err();
        prop_assert_eq!(refused, Error::NoSuchLevel { op, got: 2, max: 1 });
    }

    /// An integer is a polynomial of degree zero; absent terms are zeros.
    #[test]
    fn integers_weigh_as_constant_polynomials_do(log_n in 3_u32..9, large: bool, level in 0_usize..2,
        rows in prop::collection::vec(prop::collection::vec((0_u32..5, -600_i64..600), 0..40), 1..6),
        first in 0_usize..6) {
        let (parameters, secret, rng) = toy(log_n, if large { &[60, 42] } else { &[47, 42] });
        let mut case = Case { parameters, level, secret, rng };
        let p = case.parameters.clone();
        let x = case.uploads(5);
        let mut features = Features::new(&p, level, ENCODING, 5).unwrap();
        for mut part in features.parts_mut() {
            x.iter().enumerate().for_each(|(at, x)| part.put(at, 0, x));
        }
        let scalars = Scalars::new(&p, level, 5, rows.clone()).unwrap();
        let first = first.min(rows.len());
        let products = Products::scaled(&scalars, first..rows.len(), &features).unwrap();
        let expected = rows[first..].iter().map(|row| {
            let mut sum = Ciphertext::zero(&p, level, 1, ENCODING);
            for &(k, w) in row {
                let w = IntegerPoly::new(&p, level, &[w], 1).unwrap();
                sum.add_mul_plain(&x[k as usize], &w).unwrap();
            }
            bytes(sum)
        });
        prop_assert_eq!(compute(&products), expected.collect::<Vec<_>>());
    }
}

#[test]
fn integers_that_do_not_fit_are_refused() {
    let (p, ..) = toy(5, &[47, 42]);
    let features = Features::new(&p, 1, ENCODING, 2).unwrap();
    assert!(Features::new(&p, 2, ENCODING, 2).is_err());
    assert!(Scalars::new(&p, 2, 2, [vec![]]).is_err());
    assert!(Scalars::new(&p, 1, 2, [vec![(2, 1)]]).is_err());
    let scalars = |level, columns| Scalars::new(&p, level, columns, [vec![(0, 1)]]).unwrap();
    assert!(Products::scaled(&scalars(1, 2), 0..1, &features).is_ok());
    assert!(Products::scaled(&scalars(1, 2), 0..2, &features).is_err());
    assert!(Products::scaled(&scalars(1, 3), 0..1, &features).is_err());
    assert!(Products::scaled(&scalars(0, 2), 0..1, &features).is_err());
}

#[test]
fn what_does_not_fit_is_refused() {
    let (parameters, secret, rng) = toy(5, &[47, 42]);
    let mut case = Case {
        parameters,
        level: 1,
        secret,
        rng,
    };
    let p = case.parameters.clone();
    let upload = case.upload();
    let panel = |level, encoding, rows| Panel::new(&p, level, encoding, rows, 2).unwrap();
    let same = panel(1, ENCODING, 2);
    assert_eq!(same.check(&upload), Ok(()));
    assert!(same.check(&upload.mul(&upload).unwrap()).is_err());
    assert!(panel(0, ENCODING, 2).check(&upload).is_err());
    let other = panel(1, Encoding::scaled(1 << 11), 2);
    assert!(other.check(&upload).is_err());
    assert!(Panel::new(&p, 2, ENCODING, 1, 1).is_err());
    assert!(WeightPanel::new(&p, 1, 0, 1, 1).is_err());

    let weights = WeightPanel::new(&p, 1, 4, 3, 2).unwrap();
    let w = IntegerPoly::new(&p, 1, &[1], 4).unwrap();
    assert_eq!(weights.check(&w), Ok(()));
    assert!(
        weights
            .check(&IntegerPoly::new(&p, 0, &[1], 4).unwrap())
            .is_err()
    );
    assert!(
        weights
            .check(&IntegerPoly::new(&p, 1, &[1], 2).unwrap())
            .is_err()
    );
    assert!(Products::weighted(&weights, &same, 0..2).is_ok());
    assert!(Products::weighted(&weights, &same, 1..3).is_err());
    assert!(Products::weighted(&weights, &panel(1, ENCODING, 3), 0..2).is_err());
    assert!(Products::weighted(&weights, &panel(0, ENCODING, 2), 0..2).is_err());
    let wide = Panel::new(&p, 1, ENCODING, 2, 3).unwrap();
    assert!(Products::of(&same, &wide).is_err());
    assert!(Products::of(&same, &panel(0, ENCODING, 2)).is_err());
}

#[test]
fn many_terms_do_not_overflow() {
    // more than one reduction for each kernel, with the largest residues
    let q = crate::zq::Modulus::new((1 << 47) - 115).unwrap();
    let top = q.value() - 1;
    let terms = 5000;
    let places = vec![top; 2 * BLOCK * terms];
    let factors = vec![top; BLOCK * terms];
    let kernels = Kernels::active();
    let sum = |count: usize| q.reduce(count as u64);
    let mut out = [0; 4 * BLOCK];
    kernels.weigh_block_pair(&q, &mut out, [&factors, &factors], &places, 2 * BLOCK);
    assert_eq!(out, [sum(terms); 4 * BLOCK]);
    let mut out = [0; 6 * BLOCK];
    kernels.multiply_block_pair(&q, &mut out, [&places, &places], &places);
    for (at, block) in out.chunks(BLOCK).enumerate() {
        let expected = if at % 3 == 1 {
            sum(2 * terms)
        } else {
            sum(terms)
        };
        assert_eq!(block, [expected; BLOCK]);
    }
}
