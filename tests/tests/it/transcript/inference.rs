//! The server's view of private inference: the same frames whatever is asked of whatever model,
//! masks used once, and masked values that look uniform.

use std::collections::HashSet;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_nn::network::LayerSpec;
use sphinx_nn::tensor::Tensor;
use sphinx_protocol::format::Integers;
use sphinx_protocol::link::Link;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::plan::{Plan, PlanChoices};
use sphinx_protocol::shared::{ModelFeed, Requester};
use sphinx_protocol::view::{Seen, SeenRequest, View};
use sphinx_tests::fixture::{
    architecture, choices, hub, packed, random_data, serve_in_process, toy_plan, train,
};

use super::difference;

const PIXELS: usize = 9;

fn plan() -> Plan {
    let hidden = [(6, LayerSpec::Relu), (5, LayerSpec::Tanh)];
    let usual = choices(architecture(PIXELS, &hidden, 4), 16);
    toy_plan(
        &PlanChoices {
            tickets: 10,
            ..usual
        },
        7,
    )
}

/// The server's view of one requester that asks `requests` times about `pixels`; the model was
/// trained with seed `model`, the requester draws from `random`.
fn view_of(pixels: &[f32], requests: usize, model: u64, random: u64) -> Vec<Seen> {
    let (plan, hub, view) = (plan(), hub(), View::default());
    let data = random_data(20, PIXELS, 4, model);
    let engine = packed(&plan, &hub, None).unwrap();
    let engine = train(engine, &plan, &data, 2, Some(1.0), model).unwrap();
    let feed = ModelFeed::new(engine.freeze());
    let link = Link::greet(serve_in_process(&hub, Some(view.clone()))).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(random);
    let mut requester = Requester::attach(link, ModelId([1; 16]), &plan, feed, &mut rng).unwrap();
    let x = Tensor::from_vec(1, PIXELS, pixels.to_vec()).unwrap();
    for _ in 0..requests {
        if requester.tickets() == 0 {
            requester.prepare().unwrap();
        }
        requester.infer(&x).unwrap();
    }
    requester.close().unwrap();
    view.seen()
}

#[test]
fn order_and_sizes_depend_on_neither_input_nor_model() {
    let reference = view_of(&[0.0; PIXELS], 12, 1, 1);
    for name in ["Mask", "MaskProduct", "Request", "Answer"] {
        assert!(reference.iter().any(|s| s.name == name), "no {name}");
    }
    let ramp: Vec<f32> = (0..PIXELS).map(|i| i as f32 / 8.0 - 0.5).collect();
    for (pixels, model, random) in [
        (&[1.0; PIXELS][..], 1, 1),
        (&[-1.0; PIXELS], 2, 2),
        (&ramp, 3, 3),
        (&[0.0; PIXELS], 4, 4),
    ] {
        let difference = difference(&view_of(pixels, 12, model, random), &reference);
        assert_eq!(difference, None, "model {model}");
    }
    // One request more is one request more: the comparison is able to fail.
    assert!(difference(&view_of(&ramp, 13, 1, 1), &reference).is_some());
}

fn asked(seen: &[Seen]) -> Vec<SeenRequest> {
    seen.iter().filter_map(Seen::request).collect()
}

/// Masked vectors, and tickets of a layer, that were seen before.
fn repeated(asked: &[SeenRequest]) -> (usize, usize) {
    let (mut vectors, mut tickets) = (HashSet::new(), HashSet::new());
    (
        asked.iter().filter(|a| !vectors.insert(&a.masked)).count(),
        asked
            .iter()
            .filter(|a| !tickets.insert((a.ticket, a.layer)))
            .count(),
    )
}

#[test]
fn masks_and_tickets_serve_once() {
    // The same question again and again: what differs is the mask alone.
    let view = |random| asked(&view_of(&[0.5; PIXELS], 40, 1, random));
    let layers = plan().network().linears().len();
    let mut all = view(1);
    assert_eq!(all.len(), 40 * layers);
    // A ticket goes through all layers of its request, and a request has one ticket.
    for request in all.chunks(layers) {
        assert!(request.iter().all(|a| a.ticket == request[0].ticket));
        assert!(
            request
                .iter()
                .enumerate()
                .all(|(at, a)| usize::from(a.layer) == at)
        );
    }
    all.extend(view(2));
    assert_eq!(repeated(&all), (0, 0));
    // A requester that starts again from the same randomness repeats itself, and is noticed.
    all.extend(view(2));
    assert_eq!(repeated(&all), (40 * layers, 40 * layers));
}

/// Pearson's statistic of the top four bits, on 15 degrees of freedom if they are uniform.
fn chi_square(residues: &[u32], bits: u32) -> f64 {
    let mut bins = [0.0_f64; 16];
    for &v in residues {
        assert!(v >> bits == 0, "{v} has more than {bits} bits");
        bins[(v >> (bits - 4)) as usize] += 1.0;
    }
    let expected = residues.len() as f64 / 16.0;
    bins.iter().map(|n| (n - expected).powi(2) / expected).sum()
}

/// Exceeded by one uniform sample in a thousand.
const CRITICAL: f64 = 37.7;

#[test]
fn masked_values_look_uniform() {
    let plan = plan();
    let (bits, format) = (plan.literal().mask_bits, plan.formats()[0]);
    // All pixels at full scale: nothing about the inputs is spread out.
    let seen = asked(&view_of(&[1.0; PIXELS], 200, 1, 7));
    let masked: Vec<u32> = seen.iter().flat_map(|a| a.masked.clone()).collect();
    let honest = chi_square(&masked, bits);
    println!(
        "chi-square of {} masked residues: {honest:.1}",
        masked.len()
    );
    assert!(honest < CRITICAL, "{honest}");

    // Twins that must fail: no mask at all, and masks one bit too short.
    let x = Tensor::from_vec(1, PIXELS, vec![1.0; PIXELS]).unwrap();
    let x = Integers::quantised(&x, format.x_shift, format.x_limit);
    let modulus = (1_u32 << bits) - 1;
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut twin = |mask_bits: u32| {
        let values = (0..200).flat_map(|_| x.row(0).to_vec());
        let hidden = values.map(|x| {
            let mask = rng.next_u32().checked_shr(32 - mask_bits).unwrap_or(0);
            (x as u32).wrapping_sub(mask) & modulus
        });
        chi_square(&hidden.collect::<Vec<_>>(), bits)
    };
    assert!(twin(bits) < CRITICAL);
    for short in [0, bits - 1] {
        let statistic = twin(short);
        assert!(statistic > 10.0 * CRITICAL, "{short} bits: {statistic}");
    }
}
