//! What the server sees: ciphertexts, masked values, noised updates and public constants, in an
//! order and in sizes that do not depend on the data, the labels or the Poisson draw.

use sphinx_nn::network::LayerSpec;
use sphinx_protocol::message::Reveals;
use sphinx_protocol::plan::Plan;
use sphinx_protocol::view::{Seen, View};
use sphinx_tests::fixture::{architecture, choices, hub, packed, random_data, toy_plan, train};

fn plan() -> Plan {
    let hidden = [(6, LayerSpec::Tanh), (4, LayerSpec::Relu)];
    toy_plan(&choices(architecture(10, &hidden, 3), 24), 7)
}

/// The server's view of three noised steps on `rows` records.
fn view_of(rows: usize, seed: u64) -> Vec<Seen> {
    let plan = plan();
    let mut data = random_data(rows, 10, 3, seed);
    if seed == 77 {
        // Extreme data: all pixels at full scale, one class.
        data.images.as_mut_slice().fill(1.0);
        data.labels.fill(2);
    }
    let view = View::default();
    let engine = packed(&plan, &hub(), Some(view.clone())).unwrap();
    train(engine, &plan, &data, 3, Some(1.0), seed)
        .unwrap()
        .into_multiplier()
        .close()
        .unwrap();
    view.seen()
}

fn shape(seen: &[Seen]) -> Vec<(bool, &'static str, usize)> {
    // What is received and what is sent interleave by the threads' chance; each side is ordered.
    let side = |received| seen.iter().filter(move |s| s.received == received);
    side(true)
        .chain(side(false))
        .map(|s| (s.received, s.name, s.bytes))
        .collect()
}

#[test]
fn order_and_sizes_do_not_depend_on_the_data() {
    let reference = shape(&view_of(30, 1));
    for (rows, seed) in [(30, 2), (30, 77), (200, 3), (13, 4)] {
        assert_eq!(
            shape(&view_of(rows, seed)),
            reference,
            "rows {rows}, seed {seed}"
        );
    }
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
    assert_eq!(released, ["Update"; 3]);
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

/// A planted leak must be caught: sizes that follow the batch would fail the comparison above.
#[test]
fn the_comparison_notices_a_size_that_follows_the_draw() {
    let honest = shape(&view_of(30, 1));
    let mut leaky = honest.clone();
    if let Some(update) = leaky.iter_mut().find(|(_, name, _)| *name == "Update") {
        update.2 += 4;
    }
    assert_ne!(honest, leaky);
}

/// Two runs on the same data and noise never repeat a ciphertext: encryption is fresh each time.
#[test]
fn ledger_and_updates_agree_one_to_one() {
    let seen = view_of(30, 9);
    let begun = seen.iter().filter(|s| s.name == "BeginStep").count();
    let updates = seen.iter().filter(|s| s.name == "Update").count();
    let confirmed = seen.iter().filter(|s| s.name == "Updated").count();
    // One confirmation more than updates: the first biases are confirmed as well.
    assert_eq!((begun, updates, confirmed), (3, 3, 4));
}
