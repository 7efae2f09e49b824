//! Worst cases: a plan's bounds against observed failures, with weights, inputs and gradients at
//! their limits and the error as large as toy parameters allow.
//!
//! The products are those of the protocol: its layouts, encodings, factors and coefficients. Only
//! decoded integers can be seen, so the bound on the error is judged by how often they are wrong.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_he::exact::{Ciphertext, Encoding, IntegerPoly, Plaintext, SeededCiphertext};
use sphinx_he::rlwe::{ParametersLiteral, SecretKey};
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_protocol::format::Integers;
use sphinx_protocol::packed::Upload;
use sphinx_protocol::packed::layout::{Layout, Tiling};
use sphinx_protocol::plan::{LOG2_COEFFICIENTS, Limits, Phase, Plan, PlanChoices, PlanLiteral};
use sphinx_protocol::plan::{Passage, Return, Tightness};
use sphinx_tests::fixture::{architecture, choices, toy_parameters};

/// A plan literal with the largest errors that toy parameters may have.
pub(super) fn literal(choices: &PlanChoices, log_q: [u32; 2]) -> PlanLiteral {
    let he = ParametersLiteral {
        error_std_dev: 1024.0,
        log_q: log_q.to_vec(),
        ..toy_parameters(10)
    };
    PlanLiteral::design_with(choices, he).unwrap()
}

pub(super) const fn tiling(inputs: usize, outputs: usize, samples: usize) -> Tiling {
    Tiling::Whole {
        inputs_per_tile: inputs,
        outputs_per_tile: outputs,
        samples_per_chunk: samples,
    }
}

pub(super) fn inexact(literal: &PlanLiteral) -> Plan {
    Plan::new_inexact(literal, &Limits::default()).unwrap()
}

/// Every entry at `limit`, with a random sign.
pub(super) fn extreme(rng: &mut ChaCha20Rng, rows: usize, columns: usize, limit: i32) -> Integers {
    filled(rows, columns, || {
        if rng.next_u32() & 1 == 0 {
            limit
        } else {
            -limit
        }
    })
}

pub(super) fn filled(rows: usize, columns: usize, mut draw: impl FnMut() -> i32) -> Integers {
    let mut m = Integers::zeros(rows, columns);
    for row in 0..rows {
        m.row_mut(row).fill_with(&mut draw);
    }
    m
}

pub(super) fn flat(m: &Integers) -> Vec<i32> {
    (0..m.rows()).flat_map(|i| m.row(i).to_vec()).collect()
}

/// One key of a plan: encrypts, and decodes what is left after the prime is dropped.
pub(super) struct Party<'a> {
    plan: &'a Plan,
    secret: SecretKey,
    rng: ChaCha20Rng,
}

impl<'a> Party<'a> {
    pub(super) fn new(plan: &'a Plan, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = SecretKey::generate(plan.parameters(), &mut rng);
        Self { plan, secret, rng }
    }

    pub(super) fn encrypt(
        &mut self,
        values: &[i64],
        (level, encoding): (usize, Encoding),
    ) -> Ciphertext {
        let plaintext = Plaintext::encode(self.plan.parameters(), level, values, encoding).unwrap();
        SeededCiphertext::encrypt(&plaintext, &self.secret, &mut self.rng)
            .unwrap()
            .expand()
    }

    pub(super) fn decode(&self, sum: Ciphertext, positions: &[usize], form: Return) -> Vec<i64> {
        let kept = if sum.level() == 0 {
            sum.cut_and_select(positions, form.truncation).unwrap()
        } else {
            sum.drop_and_select(positions, form.truncation).unwrap()
        };
        assert_eq!(kept.encoding(), form.encoding);
        kept.decrypt(&self.secret).unwrap().keep_local()
    }

    /// `W x` for all samples, as integers; `polys` output tile by output tile.
    pub(super) fn forward(
        &mut self,
        layout: &Layout,
        polys: &[Vec<IntegerPoly>],
        x: &Integers,
        passage: Passage,
        y: &mut Integers,
    ) {
        let at = (passage.level, passage.encoding);
        for chunk in 0..layout.chunks() {
            let inputs: Vec<Ciphertext> = (0..layout.input_tiles())
                .map(|tile| self.encrypt(&layout.pack_inputs(x, chunk, tile), at))
                .collect();
            for (tile, row) in polys.iter().enumerate() {
                let positions = layout.forward_positions(tile, chunk);
                let values = self.decode(dot_plain(&inputs, row), &positions, passage.returned);
                layout.place_forward(y, &values, tile, chunk);
            }
        }
    }

    /// `W^T d` of one chunk, as integers; `polys` input tile by input tile.
    pub(super) fn backward(
        &mut self,
        layout: &Layout,
        polys: &[Vec<IntegerPoly>],
        d: &Integers,
        passage: Passage,
        dx: &mut Integers,
    ) {
        let at = (passage.level, passage.encoding);
        let tiles: Vec<Ciphertext> = (0..layout.output_tiles())
            .map(|i| self.encrypt(&layout.pack_gradients(d, 0, i), at))
            .collect();
        for (k, column) in polys.iter().enumerate() {
            let positions = layout.backward_positions(k, 0);
            let values = self.decode(dot_plain(&tiles, column), &positions, passage.returned);
            layout.place_backward(dx, &values, k, 0);
        }
    }
}

fn dot_plain(inputs: &[Ciphertext], weights: &[IntegerPoly]) -> Ciphertext {
    let mut sum = inputs[0].mul_plain(&weights[0]).unwrap();
    let rest: Vec<_> = inputs.iter().zip(weights).skip(1).collect();
    sum.add_dot_plain(&rest).unwrap();
    sum
}

/// Forward polynomials, output tile by output tile.
pub(super) fn forward_polys(
    plan: &Plan,
    layout: &Layout,
    weights: &[i32],
    form: (usize, u64),
) -> Vec<Vec<IntegerPoly>> {
    let size = (layout.output_tiles(), layout.input_tiles());
    polys(plan, form, size, |i, k| {
        layout.forward_weights(weights, i, k)
    })
}

/// Backward polynomials, input tile by input tile.
pub(super) fn backward_polys(
    plan: &Plan,
    layout: &Layout,
    weights: &[i32],
    form: (usize, u64),
) -> Vec<Vec<IntegerPoly>> {
    let size = (layout.input_tiles(), layout.output_tiles());
    polys(plan, form, size, |k, i| {
        layout.backward_weights(weights, i, k)
    })
}

fn polys(
    plan: &Plan,
    (level, factor): (usize, u64),
    (rows, columns): (usize, usize),
    weights: impl Fn(usize, usize) -> Vec<i64>,
) -> Vec<Vec<IntegerPoly>> {
    let poly = |row, column| {
        IntegerPoly::new(plan.parameters(), level, &weights(row, column), factor).unwrap()
    };
    (0..rows)
        .map(|row| (0..columns).map(|column| poly(row, column)).collect())
        .collect()
}

/// How many of how many results were wrong.
#[derive(Default)]
pub(super) struct Tally {
    wrong: usize,
    of: usize,
}

impl Tally {
    pub(super) fn count(
        &mut self,
        got: impl IntoIterator<Item = i64>,
        expected: impl Fn(usize) -> i64,
    ) {
        for (at, got) in got.into_iter().enumerate() {
            self.wrong += usize::from(got != expected(at));
            self.of += 1;
        }
    }

    /// The plan's rate is an upper bound, and not four times too high.
    pub(super) fn judge(&self, plan: &Plan, layer: usize, phase: Phase) {
        let mut rows = plan.exactness().iter();
        let row = rows.find(|e| (e.layer, e.phase) == (layer, phase)).unwrap();
        let predicted = (row.log2_failure - LOG2_COEFFICIENTS).exp2();
        let observed = self.wrong as f64 / self.of as f64;
        println!(
            "{phase}: std dev {:.4}, predicted {predicted:.5}, observed {observed:.5} of {}",
            row.std_dev, self.of
        );
        assert!(predicted > 1e-2, "{phase}: too rare to be seen");
        let deviation = (predicted * (1.0 - predicted) / self.of as f64).sqrt();
        assert!(
            observed <= 1.2 * predicted + 5.0 * deviation,
            "{phase}: observed {observed} above the bound {predicted}"
        );
        assert!(
            observed >= predicted / 4.0,
            "{phase}: the bound {predicted} is far above the observed {observed}"
        );
    }
}

pub(super) fn product(row: &[i32], x: &[i32]) -> i64 {
    row.iter()
        .zip(x)
        .map(|(&w, &x)| i64::from(w) * i64::from(x))
        .sum()
}

#[test]
fn forward_products_keep_their_bound() {
    let (inputs, outputs) = (4096, 128);
    let mut literal = literal(&choices(architecture(inputs, &[], outputs), 1), [47, 42]);
    literal.tilings[0] = tiling(16, 64, 1);
    let plan = inexact(&literal);
    let (format, layout) = (plan.formats()[0], &plan.layouts()[0]);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let weights = extreme(&mut rng, outputs, inputs, format.w_limit);
    let polys = forward_polys(
        &plan,
        layout,
        &flat(&weights),
        (1, plan.returns(0).forward.factor),
    );
    let passage = plan.passage(Upload::Activation, 0, Tightness::default());
    let mut tally = Tally::default();
    for seed in 0..10 {
        let x = extreme(&mut rng, 1, inputs, format.x_limit);
        let mut y = Integers::zeros(1, outputs);
        Party::new(&plan, seed).forward(layout, &polys, &x, passage, &mut y);
        let got = y.row(0).iter().map(|&v| i64::from(v));
        tally.count(got, |i| product(weights.row(i), x.row(0)));
    }
    tally.judge(&plan, 0, Phase::Forward);
}

#[test]
fn backward_products_keep_their_bound() {
    let (inputs, outputs, layer) = (1024, 512, 1);
    let hidden = [(inputs, LayerSpec::Tanh), (outputs, LayerSpec::Tanh)];
    let mut literal = literal(&choices(architecture(4, &hidden, 3), 1), [47, 42]);
    literal.backward_tilings.clear();
    literal.tilings[layer] = tiling(512, 2, 1);
    let plan = inexact(&literal);
    let (format, layout) = (plan.formats()[layer], &plan.layouts()[layer]);
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    // Transposed here: one row per input, for the expected sums.
    let transposed = extreme(&mut rng, inputs, outputs, format.w_limit);
    let weights: Vec<i32> = (0..outputs)
        .flat_map(|i| (0..inputs).map(move |k| (i, k)))
        .map(|(i, k)| transposed.row(k)[i])
        .collect();
    let passage = plan.passage(Upload::OutputGradient, layer, Tightness::default());
    let polys = backward_polys(&plan, layout, &weights, (1, passage.returned.factor));
    let mut tally = Tally::default();
    for seed in 0..10 {
        let d = extreme(&mut rng, 1, outputs, format.d_limit);
        let mut dx = Integers::zeros(1, inputs);
        Party::new(&plan, seed).backward(layout, &polys, &d, passage, &mut dx);
        let got = dx.row(0).iter().map(|&v| i64::from(v));
        tally.count(got, |k| product(transposed.row(k), d.row(0)));
    }
    tally.judge(&plan, layer, Phase::Backward);
}

#[test]
fn gradient_products_keep_their_bound() {
    let (inputs, outputs, rows) = (256, 4, 16);
    let mut literal = literal(&choices(architecture(inputs, &[], outputs), rows), [47, 42]);
    literal.tilings[0] = tiling(32, outputs, 8);
    literal.grid.clip_bound = 1 << 23;
    let plan = inexact(&literal);
    let (format, layout) = (plan.formats()[0], &plan.layouts()[0]);
    // The longest row of d that clipping lets through has length clip / 2^x_shift; here four
    // entries of equal size.
    let longest = (literal.grid.clip_bound >> format.x_shift) as i32;
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let mut tally = Tally::default();
    for seed in 0..12 {
        let x = extreme(&mut rng, rows, inputs, format.x_limit);
        let d = extreme(&mut rng, rows, outputs, longest / 2);
        let mut party = Party::new(&plan, seed);
        let gradients: Vec<Ciphertext> = (0..layout.chunks())
            .map(|c| {
                party.encrypt(
                    &layout.pack_gradients(&d, c, 0),
                    (1, plan.gradient_encoding()),
                )
            })
            .collect();
        let mut sum = vec![0; outputs * inputs];
        for tile in 0..layout.input_tiles() {
            let held: Vec<Ciphertext> = (0..layout.chunks())
                .map(|c| {
                    party.encrypt(&layout.pack_inputs(&x, c, tile), (1, plan.input_encoding()))
                })
                .collect();
            let mut product = held[0].mul(&gradients[0]).unwrap();
            let rest: Vec<_> = held.iter().zip(&gradients).skip(1).collect();
            product.add_dot(&rest).unwrap();
            let values = party.decode(
                product,
                &layout.gradient_positions(0, tile),
                plan.returns(0).gradient,
            );
            layout.place_gradient(&mut sum, &values, 0, tile);
        }
        tally.count(sum, |at| {
            let (i, k) = (at / inputs, at % inputs);
            (0..rows)
                .map(|j| i64::from(d.row(j)[i]) * i64::from(x.row(j)[k]))
                .sum()
        });
    }
    tally.judge(&plan, 0, Phase::Gradient);
}

/// The sum over the chunks of a stream, whose output gradients stand in two of them near an end.
#[test]
fn streamed_gradients_keep_their_bound() {
    let (side, channels, rows) = (8, 8, 64);
    let input = ImageShape {
        channels: 1,
        height: side,
        width: side,
    };
    let layers = vec![
        LayerSpec::Conv {
            channels,
            kernel: 3,
            stride: 1,
            padding: 1,
        },
        LayerSpec::Tanh,
        LayerSpec::Dense { outputs: 2 },
    ];
    let name = "stream".into();
    let architecture = Architecture {
        name,
        input,
        layers,
    };
    let mut literal = literal(&choices(architecture, rows), [47, 42]);
    literal.tilings[0] = Tiling::Stream {
        inputs_per_tile: 1,
        outputs_per_tile: 1,
    };
    let plan = inexact(&literal);
    let (format, layout) = (plan.formats()[0], &plan.layouts()[0]);
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let mut tally = Tally::default();
    for seed in 0..12 {
        let x = extreme(&mut rng, rows, side * side, format.x_limit);
        let d = extreme(&mut rng, rows, channels * side * side, format.g_limit);
        let mut party = Party::new(&plan, seed);
        let inputs: Vec<Ciphertext> = (0..layout.chunks())
            .map(|c| party.encrypt(&layout.pack_inputs(&x, c, 0), (1, plan.input_encoding())))
            .collect();
        let mut sum = vec![0; channels * 9];
        for tile in 0..channels {
            let mut product: Option<Ciphertext> = None;
            for (chunk, x) in inputs.iter().enumerate() {
                let at = (1, plan.gradient_encoding());
                let d = party.encrypt(&layout.pack_gradients(&d, chunk, tile), at);
                match &mut product {
                    Some(sum) => sum.add_dot(&[(x, &d)]).unwrap(),
                    first => *first = Some(x.mul(&d).unwrap()),
                }
            }
            let positions = layout.gradient_positions(tile, 0);
            let values = party.decode(product.unwrap(), &positions, plan.returns(0).gradient);
            layout.place_gradient(&mut sum, &values, tile, 0);
        }
        tally.count(sum, |at| {
            let (m, a, e) = (at / 9, at / 3 % 3, at % 3);
            let shifted = |i: usize, tap: usize| (i + tap).checked_sub(1).filter(|&u| u < side);
            let places = (0..rows).flat_map(|j| (0..side * side).map(move |p| (j, p)));
            let terms = places.filter_map(|(j, p)| {
                let pixel = shifted(p / side, a)? * side + shifted(p % side, e)?;
                let d = d.row(j)[m * side * side + p];
                Some(i64::from(d) * i64::from(x.row(j)[pixel]))
            });
            terms.sum()
        });
    }
    tally.judge(&plan, 0, Phase::Gradient);
}

/// Masks fill the modulus, so at the usual primes a step is 2^58 before the drop and no error of
/// toy parameters comes near it. A short first prime leaves steps of 2^5 after the drop, and the
/// rounding of the drop, which the bound must cover as well, is seen.
#[test]
fn mask_products_keep_their_bound() {
    let (inputs, outputs, tickets, bits) = (4, 4, 256, 31);
    let usual = choices(architecture(inputs, &[], outputs), 1);
    let mut literal = literal(&PlanChoices { tickets, ..usual }, [36, 52]);
    literal.ticket_tilings[0] = tiling(inputs, outputs, 64);
    literal.mask_bits = bits;
    let plan = inexact(&literal);
    let (format, layout) = (plan.formats()[0], &plan.ticket_layouts()[0]);
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let modulus = 1_i64 << bits;
    let passage = Passage {
        level: 1,
        encoding: plan.mask_encoding(),
        returned: plan.returns(0).mask,
    };
    let mut tally = Tally::default();
    for seed in 0..12 {
        let weights = extreme(&mut rng, outputs, inputs, format.w_limit);
        let polys = forward_polys(&plan, layout, &flat(&weights), (1, 1));
        let masks = filled(tickets, inputs, || (rng.next_u32() >> (32 - bits)) as i32);
        let mut y = Integers::zeros(tickets, outputs);
        Party::new(&plan, seed).forward(layout, &polys, &masks, passage, &mut y);
        let got = flat(&y)
            .into_iter()
            .map(|v| i64::from(v).rem_euclid(modulus));
        tally.count(got, |at| {
            product(weights.row(at % outputs), masks.row(at / outputs)).rem_euclid(modulus)
        });
    }
    tally.judge(&plan, 0, Phase::Mask);
}
