//! Honest products pass, a product that is wrong in one place does not; a verifier whose vectors are
//! zero is the planted twin that these tests must catch.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};

use super::field::PRIME;
use super::*;
use crate::fixture::{convolutions, terms};

/// A generator of zeros.
struct Zeros;

impl TryRng for Zeros {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Zeros {}

/// A layer with a batch and its true products, by the definition.
#[derive(Debug)]
struct Case {
    shape: LinearShape,
    weights: Vec<i32>,
    limits: (i32, i32),
    x: Integers,
    d: Integers,
    y: Integers,
    dx: Integers,
    sum: Vec<i64>,
}

fn draw(rng: &mut ChaCha20Rng, limit: i32) -> i32 {
    let span = 2 * limit.unsigned_abs() as u64 + 1;
    (rng.next_u64() % span) as i32 - limit
}

impl Case {
    fn new(shape: LinearShape, rows: usize, limits: (i32, i32), seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let weights: Vec<i32> = (0..shape.weights())
            .map(|_| draw(&mut rng, limits.0))
            .collect();
        let mut filled = |columns: usize, limit: i32| {
            let mut m = Integers::zeros(rows, columns);
            for row in 0..rows {
                m.row_mut(row).fill_with(|| draw(&mut rng, limit));
            }
            m
        };
        let (x, d) = (filled(shape.inputs, limits.1), filled(shape.outputs, 1000));
        let mut y = Integers::zeros(rows, shape.outputs);
        let mut dx = Integers::zeros(rows, shape.inputs);
        let mut sum = vec![0; shape.weights()];
        for j in 0..rows {
            terms(&shape, |weight, out, at| {
                let w = weights[weight];
                y.row_mut(j)[out] += w * x.row(j)[at];
                dx.row_mut(j)[at] += w * d.row(j)[out];
                sum[weight] += i64::from(d.row(j)[out]) * i64::from(x.row(j)[at]);
            });
        }
        Self {
            shape,
            weights,
            limits,
            x,
            d,
            y,
            dx,
            sum,
        }
    }

    fn accepted<R: CryptoRng>(&self, verifier: &mut Verifier<R>) -> [bool; 3] {
        let linear = Linear {
            shape: self.shape,
            weights: &self.weights,
            limit: self.limits.0,
        };
        let x = (&self.x, self.limits.1);
        [
            verifier.forward(&linear, &self.x, &self.y),
            verifier.backward(&linear, &self.d, &self.dx),
            verifier.gradient(&self.shape, x, &self.d, &self.sum),
        ]
    }

    /// The case with one entry of each product off by `error`.
    fn spoil(mut self, at: usize, error: i32) -> Self {
        let rows = self.x.rows();
        let (outputs, inputs, weights) = (self.shape.outputs, self.shape.inputs, self.sum.len());
        self.y.row_mut(at % rows)[at % outputs] += error;
        self.dx.row_mut(at % rows)[at % inputs] += error;
        self.sum[at % weights] += i64::from(error);
        self
    }
}

fn shapes() -> impl Strategy<Value = LinearShape> {
    let dense = (1_usize..20, 1_usize..20).prop_map(|(i, o)| LinearShape::dense(i, o));
    prop_oneof![dense, convolutions().prop_map(LinearShape::conv)]
}

fn verifier() -> Verifier<ChaCha20Rng> {
    Verifier::new(ChaCha20Rng::seed_from_u64(5))
}

proptest! {
    #[test]
    fn true_products_pass_and_wrong_ones_do_not(
        shape in shapes(), rows in 1_usize..5, seed: u64, at: usize,
        error in prop_oneof![-3..=-1, 1..=3, Just(1 << 29)],
        // within these bounds sums are taken in 64 bits, within larger ones in 128
        declared in prop_oneof![Just((511, 255)), Just((i32::MAX, i32::MAX))],
    ) {
        let mut case = Case::new(shape, rows, (511, 255), seed);
        case.limits = declared;
        prop_assert_eq!(case.accepted(&mut verifier()), [true; 3]);
        // The twin accepts everything: what is not caught here would not be caught by it.
        let wrong = case.spoil(at, error);
        prop_assert_eq!(wrong.accepted(&mut verifier()), [false; 3]);
        prop_assert_eq!(wrong.accepted(&mut Verifier::new(Zeros)), [true; 3]);
    }

    #[test]
    fn residues_are_those_of_the_definition(value: i128, shift in 0_u32..127) {
        let value = value >> shift;
        let expected = value.rem_euclid(i128::from(PRIME));
        let one = Element::of(1);
        prop_assert_eq!(Element::of(value), Element::of(expected));
        prop_assert_eq!(Element::of(value).plus(Element::of(-expected)), Element::default());
        prop_assert_eq!(Element::of(value).times(one), Element::of(expected));
    }
}

#[test]
fn samples_that_changed_places_are_caught() {
    let mut case = Case::new(LinearShape::dense(6, 4), 3, (511, 255), 1);
    let (first, second) = (case.y.row(0).to_vec(), case.y.row(1).to_vec());
    case.y.row_mut(0).copy_from_slice(&second);
    case.y.row_mut(1).copy_from_slice(&first);
    let (first, second) = (case.dx.row(0).to_vec(), case.dx.row(1).to_vec());
    case.dx.row_mut(0).copy_from_slice(&second);
    case.dx.row_mut(1).copy_from_slice(&first);
    assert_eq!(case.accepted(&mut verifier()), [false, false, true]);
}

/// A multiple of the prime is zero in the field: a sum that is off by it is refused for its size.
#[test]
fn a_sum_that_is_off_by_the_prime_is_refused() {
    let mut case = Case::new(LinearShape::dense(6, 4), 3, (511, 255), 2);
    case.sum[5] += PRIME as i64;
    assert_eq!(case.accepted(&mut verifier()), [true, true, false]);
    case.sum[5] -= 2 * PRIME as i64;
    assert_eq!(case.accepted(&mut verifier()), [true, true, false]);
}

/// Off by a half's weight, in every direction that halves could hide.
#[test]
fn halves_join_to_the_element() {
    let elements = [0, 1, (1 << 31) - 1, 1 << 31, PRIME - 1];
    for a in elements {
        let (low, high) = (a & ((1 << 31) - 1), a >> 31);
        let joined = i128::from(low) + (i128::from(high) << 31);
        assert_eq!(Element::of(joined), Element::of(i128::from(a)));
    }
}
