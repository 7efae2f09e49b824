//! What the server sees: ciphertexts, masked values, noised updates and public constants, in an
//! order and in sizes that do not depend on the data, the labels or the Poisson draw.

use std::collections::HashSet;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_dp::ledger::Ledger;
use sphinx_he::exact::{Plaintext, SeededCiphertext};
use sphinx_he::rlwe::SecretKey;
use sphinx_he::zq::Modulus;
use sphinx_nn::data::Dataset;
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::message::Reveals;
use sphinx_protocol::packed::layout::Tiling;
use sphinx_protocol::plan::{Limits, Plan, PlanChoices, PlanLiteral};
use sphinx_protocol::view::{Seen, View};
use sphinx_tests::fixture::{
    architecture, choices, hub, mechanism, packed_with, random_data, sampler, toy_parameters,
    train_recorded,
};

pub(crate) mod forms;
mod inference;

/// Rows of every batch of the honest trainer.
const CAPACITY: usize = 24;
/// Steps of every run.
const STEPS: u64 = 3;

fn plan(capacity: usize) -> Plan {
    plan_with(capacity, 1.0)
}

fn plan_with(capacity: usize, learning_rate: f64) -> Plan {
    let hidden = [(6, LayerSpec::Tanh), (4, LayerSpec::Relu)];
    let choices = PlanChoices {
        learning_rate,
        ..choices(architecture(10, &hidden, 3), capacity)
    };
    let mut literal = PlanLiteral::design_with(&choices, toy_parameters(7)).unwrap();
    // Several chunks in a batch and several tiles in a layer: much that could vary.
    literal.backward_tilings.clear();
    literal.tilings.fill(Tiling::Whole {
        inputs_per_tile: 4,
        outputs_per_tile: 4,
        samples_per_chunk: 4,
    });
    Plan::new(&literal, &Limits::default()).unwrap()
}

/// The server's view of noised steps, and the trainer's ledger.
fn run(plan: &Plan, data: &Dataset, seed: u64, encryption: u64) -> (Vec<Seen>, Ledger) {
    let view = View::default();
    let engine = packed_with(plan, &hub(), Some(view.clone()), encryption).unwrap();
    let (engine, ledger) = train_recorded(engine, plan, data, 0, STEPS, Some(1.0), seed).unwrap();
    engine.into_multiplier().close().unwrap();
    (view.seen(), ledger)
}

fn data(rows: usize, seed: u64) -> Dataset {
    let mut data = random_data(rows, 10, 3, seed);
    if seed == 77 {
        // Extreme data: all pixels at full scale, one class.
        data.images.as_mut_slice().fill(1.0);
        data.labels.fill(2);
    }
    data
}

/// The honest trainer on `rows` records.
fn view_of(rows: usize, seed: u64) -> Vec<Seen> {
    run(&plan(CAPACITY), &data(rows, seed), seed, 99).0
}

fn shape(seen: &[Seen]) -> Vec<(bool, &'static str, usize)> {
    // What is received and what is sent interleave by the threads' chance; each side is ordered.
    let side = |received| seen.iter().filter(move |s| s.received == received);
    side(true)
        .chain(side(false))
        .map(|s| (s.received, s.name, s.bytes))
        .collect()
}

/// The first frame by whose kind, place in the order or size the server could tell two views
/// apart.
pub(crate) fn difference(one: &[Seen], other: &[Seen]) -> Option<String> {
    let (one, other) = (shape(one), shape(other));
    let at = (0..one.len().max(other.len())).find(|&at| one.get(at) != other.get(at))?;
    Some(format!(
        "frame {at}: {:?} and {:?}",
        one.get(at),
        other.get(at)
    ))
}

#[test]
fn order_and_sizes_do_not_depend_on_the_data() {
    let reference = view_of(30, 1);
    for (rows, seed) in [(30, 2), (30, 77), (200, 3), (13, 4)] {
        let difference = difference(&view_of(rows, seed), &reference);
        assert_eq!(difference, None, "rows {rows}, seed {seed}");
    }
}

/// A trainer that really leaks: its capacity is what the draw gave, so it sends no padding.
fn view_without_padding(seed: u64) -> (usize, Vec<Seen>) {
    let data = random_data(30, 10, 3, seed);
    let honest = sampler(plan(CAPACITY).grid(), &data);
    let drawn = honest
        .draw(data.labels.len(), &mut ChaCha20Rng::seed_from_u64(seed))
        .len();
    let (mut seen, _) = run(&plan(drawn), &data, seed, 99);
    // The plan itself tells the capacity; the leak must show without it.
    seen.retain(|s| s.name != "OpenModel");
    (drawn, seen)
}

#[test]
fn the_comparison_notices_a_trainer_without_padding() {
    let views: Vec<_> = (1..=5).map(view_without_padding).collect();
    let mut noticed = 0;
    for (at, (drawn, seen)) in views.iter().enumerate() {
        for (others, other) in &views[..at] {
            let difference = difference(seen, other);
            // Even where no ciphertext is saved: results of the last one are left out.
            assert_eq!(difference.is_some(), drawn != others, "{difference:?}");
            noticed += usize::from(difference.is_some());
        }
    }
    assert!(noticed > 0, "the draws never differed");
}

/// Messages in the clear that speak of the data at all: exactly one noised update per step.
#[test]
fn the_only_plaintext_about_data_is_the_noised_update() {
    let seen = view_of(30, 5);
    let released: Vec<_> = seen
        .iter()
        .filter(|s| s.reveals == Some(Reveals::Released))
        .map(|s| s.name)
        .collect();
    assert_eq!(released, ["Update"; STEPS as usize]);
    for s in seen
        .iter()
        .filter(|s| s.reveals == Some(Reveals::PublicConstants))
    {
        assert!(
            ["Hello", "OpenModel", "BeginStep", "Bye"].contains(&s.name),
            "{} is not a public constant of training",
            s.name
        );
    }
    // Public messages carry the same bytes whatever the data were.
    let constants = |seed| {
        view_of(30, seed)
            .into_iter()
            .filter(|s| s.reveals == Some(Reveals::PublicConstants))
            .map(|s| s.content)
            .collect::<Vec<_>>()
    };
    assert_eq!(constants(6), constants(77));
}

/// The updates that the server received: step and number of coordinates.
fn updates(seen: &[Seen]) -> Vec<(u64, usize)> {
    seen.iter()
        .filter_map(Seen::update)
        .map(|(step, values)| (step, values.len()))
        .collect()
}

#[test]
fn ledger_and_updates_agree_one_to_one() {
    let (plan, data) = (plan(CAPACITY), random_data(30, 10, 3, 9));
    let (seen, ledger) = run(&plan, &data, 9, 99);
    let event = mechanism(plan.grid(), &data, Some(1.0)).event();
    let entries = ledger.entries();
    assert!(entries.iter().all(|e| e.event == event), "{entries:?}");
    // One charge pays for weights and biases; the server is told the weights.
    let paid: Vec<_> = entries
        .iter()
        .map(|e| (e.step, e.coordinates.unwrap() as usize - plan.bias_count()))
        .collect();
    assert_eq!(updates(&seen), paid);
    let steps: Vec<u64> = paid.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (0..STEPS).collect::<Vec<_>>());
    // One confirmation more than updates: the first biases are confirmed as well.
    let confirmed = seen.iter().filter(|s| s.name == "Updated").count();
    assert_eq!(confirmed, entries.len() + 1);
}

/// Digests of all ciphertexts, up and down.
fn ciphertexts(seen: &[Seen]) -> Vec<[u8; 32]> {
    let sealed = |s: &Seen| s.reveals == Some(Reveals::Ciphertext);
    assert!(seen.iter().all(|s| !sealed(s) || s.digest.is_some()));
    seen.iter().filter_map(|s| s.digest).collect()
}

/// How many of `digests` were there before.
pub(crate) fn repeated(digests: &[[u8; 32]]) -> usize {
    let mut known = HashSet::new();
    digests.iter().filter(|d| !known.insert(**d)).count()
}

/// The seed that stands between the header and the residues of an uploaded ciphertext, in the same
/// place for one prime and for two.
fn mask_seed(plan: &Plan, opening: &[u8]) -> [u8; 32] {
    let parameters = plan.parameters();
    let [end, of_two] = [0, 1].map(|level| {
        let moduli = parameters.moduli()[..=level].iter();
        let bits: u32 = moduli.map(Modulus::bits).sum();
        SeededCiphertext::wire_size(parameters, level) - bits as usize * parameters.degree() / 8
    });
    assert_eq!(end, of_two);
    opening[end - 32..end].try_into().unwrap()
}

/// Two uploads under one mask would reveal the difference of what they hide, though no ciphertext
/// came twice.
#[test]
fn no_mask_of_an_upload_is_ever_repeated() {
    let (plan, data) = (plan(CAPACITY), random_data(30, 10, 3, 8));
    let seeds: Vec<[u8; 32]> = [1, 2]
        .iter()
        .flat_map(|&encryption| run(&plan, &data, 8, encryption).0)
        .filter_map(|s| s.opening.map(|opening| mask_seed(&plan, &opening)))
        .collect();
    assert!(seeds.len() > 100);
    assert_eq!(repeated(&seeds), 0);
    // Different integers from one generator state: different ciphertexts, the same mask.
    let secret = SecretKey::generate(plan.parameters(), &mut ChaCha20Rng::seed_from_u64(1));
    let [one, other] = [1, 2].map(|value| {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let encoding = plan.input_encoding();
        let plaintext = Plaintext::encode(plan.parameters(), 1, &[value], encoding).unwrap();
        SeededCiphertext::encrypt(&plaintext, &secret, &mut rng)
            .unwrap()
            .to_bytes()
    });
    assert_ne!(one, other);
    assert_eq!(
        repeated(&[&one, &other].map(|bytes| mask_seed(&plan, bytes))),
        1
    );
}

/// Encryption is fresh: neither within a run nor between two runs that differ in nothing else
/// does a ciphertext come twice. With the same randomness all of them would.
#[test]
fn no_ciphertext_is_ever_repeated() {
    let (plan, data) = (plan(CAPACITY), random_data(30, 10, 3, 8));
    let [one, other, again] = [1, 2, 1].map(|encryption| run(&plan, &data, 8, encryption).0);
    let plaintext = |seen: &[Seen]| {
        let contents = seen.iter().filter_map(|s| s.content.clone());
        contents.collect::<Vec<_>>()
    };
    assert_eq!(plaintext(&one), plaintext(&other), "the runs should agree");
    let [one, other, again] = [one, other, again].map(|seen| ciphertexts(&seen));
    assert!(one.len() > 100 && one.len() == other.len());
    assert_eq!(repeated(&[one.clone(), other].concat()), 0);
    assert_eq!(repeated(&[one.clone(), again].concat()), one.len());
}
