//! The scalar path of tickets: a request in every coefficient, a ciphertext for each feature, and sums
//! of ciphertexts times integers, as the server takes them.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_he::exact::{Ciphertext, Features, Products, Scalars};
use sphinx_protocol::format::Integers;
use sphinx_protocol::packed::layout::{Layout, Tiling};
use sphinx_protocol::plan::{LocalPhase, Phase, Plan, PlanChoices};
use sphinx_tests::fixture::{architecture, choices};

use super::worst::{Party, Tally, extreme, filled, inexact, literal, product};

/// Inputs, outputs, bits of a mask; a request for every coefficient.
const INPUTS: usize = 1024;
const OUTPUTS: usize = 8;
const BITS: u32 = 31;

/// At the usual primes a step is 2^58 before the drop. A short first prime leaves steps of 2^5 after it, and a
/// short second one leaves the errors of the sums as large as the rounding of the drop: either alone
/// would be seen too seldom to fail as predicted. Training has no room in so short a modulus and stays at the
/// client.
fn plan() -> Plan {
    let usual = choices(architecture(INPUTS, &[], OUTPUTS), 1);
    let tickets = super::DEGREE;
    let mut literal = literal(&PlanChoices { tickets, ..usual }, [36, 21]);
    literal.ticket_tilings[0] = Tiling::Scalar;
    literal.mask_bits = BITS;
    literal.local = [Phase::Forward, Phase::Gradient]
        .map(|phase| LocalPhase { phase, layer: 0 })
        .to_vec();
    inexact(&literal)
}

/// `W r` of one chunk of masks: the sums of the server, of one output after the other.
fn sums(plan: &Plan, weights: &Integers, masks: &[Ciphertext]) -> Vec<Ciphertext> {
    let (p, encoding) = (plan.parameters(), plan.mask_encoding());
    let rows = (0..weights.rows()).map(|row| {
        let row = weights.row(row).iter().map(|&w| i64::from(w));
        (0..).zip(row).collect()
    });
    let matrix = Scalars::new(p, 1, masks.len(), rows).unwrap();
    let mut features = Features::new(p, 1, encoding, masks.len()).unwrap();
    for mut part in features.parts_mut() {
        for (at, mask) in masks.iter().enumerate() {
            part.put(at, 0, mask);
        }
    }
    let products = Products::scaled(&matrix, 0..weights.rows(), &features).unwrap();
    let mut sums = products.room(None);
    sums.parts_mut()
        .for_each(|mut part| products.fill(&mut part));
    (0..sums.len()).map(|at| sums.ciphertext(at)).collect()
}

/// Decodes the sums of `weights`, `stretch` times as long as the plan allows.
fn observe(plan: &Plan, stretch: i32, runs: u64) -> Tally {
    let (format, layout) = (plan.formats()[0], &plan.ticket_layouts()[0]);
    let form = plan.returns(0).mask;
    let tickets = super::DEGREE;
    let modulus = 1_i64 << BITS;
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let mut tally = Tally::default();
    for seed in 0..runs {
        let weights = extreme(&mut rng, OUTPUTS, INPUTS, format.w_limit * stretch);
        let masks = filled(tickets, INPUTS, || (rng.next_u32() >> (32 - BITS)) as i32);
        let mut party = Party::new(plan, seed);
        let at = (1, plan.mask_encoding());
        let pack = |layout: &Layout, tile| layout.pack_inputs(&masks, 0, tile);
        let encrypted: Vec<Ciphertext> = (0..layout.input_tiles())
            .map(|tile| party.encrypt(&pack(layout, tile), at))
            .collect();
        let mut y = Integers::zeros(tickets, OUTPUTS);
        for (output, sum) in sums(plan, &weights, &encrypted).into_iter().enumerate() {
            let values = party.decode(sum, &layout.forward_positions(output, 0), form);
            layout.place_forward(&mut y, &values, output, 0);
        }
        for row in 0..tickets {
            let got = y.row(row).iter().map(|&v| i64::from(v).rem_euclid(modulus));
            tally.count(got, |output| {
                product(weights.row(output), masks.row(row)).rem_euclid(modulus)
            });
        }
    }
    tally
}

#[test]
fn scalar_products_keep_their_bound() {
    let plan = plan();
    assert_eq!(plan.ticket_layouts()[0].chunks(), 1);
    observe(&plan, 1, 2).judge(&plan, 0, Phase::Mask);
}

/// Weights four times as long as the plan allows break the bound: it is that of the errors of the sums.
#[test]
fn longer_weights_break_the_bound_of_scalar_products() {
    let plan = plan();
    let tally = observe(&plan, 4, 1);
    let broken = std::panic::catch_unwind(|| tally.judge(&plan, 0, Phase::Mask));
    assert!(broken.is_err());
}
