//! Biases by the published rule at the server: errors as predicted, keys checked, steps limited.

use sphinx_dp::ledger::Ledger;
use sphinx_dp::mechanism::{Clipped, GaussianMechanism, Noised};
use sphinx_dp::{Adjacency, SamplingRate};
use sphinx_he::ckks::SeededCiphertext;
use sphinx_he::ckks::circuit::sum_steps;
use sphinx_he::rlwe::KeyGenerator;

use super::super::exactness::bias_step;
use super::*;
use crate::message::SealedKeys;
use crate::train::Learn;

/// The first shipped parameters as a toy of this degree.
fn toy_published(log_n: u32) -> ParametersLiteral {
    let [first, _] = published_parameters();
    fixture::toy(first, log_n)
}

fn published_plan(choices: &PlanChoices, log_n: u32, steps: u64) -> PaperPlan {
    let literal = PaperLiteral::design_with(choices, toy_published(log_n)).unwrap();
    PaperPlan::new(&literal.publishing_biases(steps), &Limits::default()).unwrap()
}

/// A released sum without noise.
fn released(plan: &PaperPlan, step: u64, sum: (Vec<i64>, Vec<u128>)) -> Noised {
    let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
    let bound = sphinx_dp::ClipBound::new(plan.grid().literal().clip_bound).unwrap();
    let rate = SamplingRate::from_mean(1.0, 2).unwrap();
    let mechanism = GaussianMechanism::new(bound, None, rate).unwrap();
    let noise = mechanism.prepare_seeded(sum.0.len(), [1; 32]);
    let clipped = Clipped::check(sum.0, &sum.1, bound).unwrap();
    mechanism
        .release(step, clipped, noise, &mut ledger)
        .unwrap()
}

/// Steps from random rows; the engine has learned from each.
fn learn_steps(engine: &mut Engine<Paper>, plan: &PaperPlan, steps: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(17);
    let (rows, inputs) = (plan.capacity(), plan.network().inputs());
    for at in 0..steps {
        let values = (0..rows * inputs).map(|_| (rng.next_u32() % 256) as f32 / 255.0);
        let x = Tensor::from_vec(rows, inputs, values.collect()).unwrap();
        let classes = plan.network().classes() as u32;
        let labels: Vec<_> = (0..rows)
            .map(|_| Some((rng.next_u32() % classes) as u8))
            .collect();
        engine.begin(at, rows).unwrap();
        let pass = pass::gradients(engine, plan.network(), &x, &labels).unwrap();
        let sum = engine.collect(pass.pending).unwrap();
        let noised = released(plan, at, (sum.values, sum.norms_squared));
        engine.learn(&noised).unwrap();
    }
}

/// Where the errors of uploads dominate, the variance is as predicted; where those of rotations do, it is below by what
/// the bound allows for the worst slots of keys, a factor of six at this degree.
#[test]
fn errors_of_encrypted_biases_are_as_large_as_predicted() {
    let steps = 6;
    for (learning_rate, expected) in [(1.0, 0.7..1.4), (1.0 / 128.0, 0.2..0.9)] {
        let choices = PlanChoices {
            learning_rate,
            ..choices(vec![LayerSpec::Dense { outputs: 24 }], 3, 200)
        };
        let plan = published_plan(&choices, 9, 1000);
        let mut engine = engine(&plan);
        learn_steps(&mut engine, &plan, steps);
        let paper = engine.multiplier_mut();
        let theirs = paper.biases_at_server().unwrap();
        let ours = paper.replica().published().unwrap().in_products(0);
        assert!(ours.iter().any(|b| b.abs() > 10.0), "{ours:?}");
        let scale = plan.bias_scale().value();
        let squares = ours.iter().zip(&theirs).map(|(a, b)| (a - b).powi(2));
        let rms = (squares.sum::<f64>() / ours.len() as f64).sqrt() * scale;
        let checked = plan.checked();
        let each = bias_step(checked, checked.published.as_ref().unwrap(), 0);
        let ratio = rms / (steps as f64 * each).sqrt();
        assert!(expected.contains(&ratio), "{learning_rate}: {ratio}");
        engine.into_multiplier().close().unwrap();
    }
}

/// What the standard parameters allow: thousands of steps of the paper's networks at its degree.
#[test]
fn the_standard_sets_last_for_thousands_of_steps() {
    for (name, channels, side, capacity, batch, rate, least) in [
        ("minionn-mnist", 1, 28, 688, 500.0, 0.5, 10_000),
        ("minionn-cifar10", 3, 32, 300, 200.0, 0.2, 1_000),
        ("mlp", 1, 28, 688, 512.0, 4.0, 10_000),
    ] {
        let choices = PlanChoices {
            learning_rate: rate,
            divisor: batch,
            ..built_in(name, image(channels, side, side), capacity)
        };
        let literal = PaperLiteral::design_published(&choices, 100).unwrap();
        assert_eq!(literal.he.log_n, 12, "{name}");
        let plan = PaperPlan::new(&literal, &Limits::default()).unwrap();
        let (steps, most) = plan.published_steps().unwrap();
        assert!(steps == 100 && most >= least, "{name}: {most}");
        assert_eq!(plan.parameters().log2_p().ceil() as u32, 23);
        for row in plan.exactness() {
            assert!(row.holds(LOG2_FAILURE), "{name}: {row:?}");
        }
        // more steps than that take the ring of twice the degree
        let long = PaperLiteral::design_published(&choices, most + 1).unwrap();
        assert_eq!(long.he.log_n, 13, "{name}");
        let over = literal.publishing_biases(most + 1);
        let refused = PaperPlan::new(&over, &Limits::default());
        assert!(matches!(refused, Err(Error::TooManySteps { limit, .. }) if limit == most));
    }
}

#[test]
fn rotations_are_counted_by_the_formula() {
    let choices = PlanChoices {
        learning_rate: 0.5,
        divisor: 500.0,
        ..built_in("minionn-mnist", image(1, 28, 28), 688)
    };
    let literal = PaperLiteral::design_published(&choices, 10).unwrap();
    let plan = PaperPlan::new(&literal, &Limits::default()).unwrap();
    let counts = Paper::counts_of(&plan);
    // 142 biases, 11 rotations for 2048 slots, 12 rows a rotation
    assert_eq!(counts.rotations, 142 * 11);
    let default = PaperLiteral::design(&choices).unwrap();
    let default = PaperPlan::new(&default, &Limits::default()).unwrap();
    let without = Paper::counts_of(&default);
    assert_eq!(without.rotations, 0);
    assert_eq!(counts.transforms - without.transforms, 142 * 11 * 12);
    assert_eq!(without.uploads - counts.uploads, 142);
    assert_eq!(counts.plain_products - without.plain_products, 142);
    let outputs: u64 = 9216 + 1024 + 100 + 10;
    assert_eq!(plan.expansions() - default.expansions(), outputs);
}

#[test]
fn a_plan_without_room_for_rotations_is_refused() {
    let choices = choices(dense(), 4, 10);
    let without = PaperLiteral::design_with(&choices, toy(9)).unwrap();
    let refused = PaperPlan::new(&without.clone().publishing_biases(3), &Limits::default());
    assert!(refused.unwrap_err().to_string().contains("special prime"));
    let with = PaperLiteral::design_with(&choices, toy_published(9)).unwrap();
    assert!(PaperPlan::new(&with.clone().publishing_biases(0), &Limits::default()).is_err());
    assert!(PaperPlan::new(&with.publishing_biases(3), &Limits::default()).is_ok());
    // 106 bits are all that 128-bit security allows at this degree
    let mut wide = PaperLiteral::design_published(&choices, 3).unwrap();
    wide.he.log_p = vec![24];
    assert!(matches!(
        PaperPlan::new(&wide, &Limits::default()),
        Err(Error::Parameters(_))
    ));
}

#[test]
fn keys_of_other_rotations_are_refused() {
    let plan = published_plan(&choices(dense(), 2, 10), 6, 5);
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let secret = SecretKey::generate(plan.parameters(), &mut rng);
    let opened = || {
        Session::open(
            &serde_json::to_vec(plan.literal()).unwrap(),
            &Limits::default(),
        )
        .unwrap()
    };
    let generator = || KeyGenerator::new(&secret).unwrap();
    let mut sent = |generator: KeyGenerator<'_>, steps: &[i64]| {
        SealedKeys::rotations(&generator.rotations(steps, &mut rng).unwrap())
    };
    let right = sum_steps(1, plan.slots());
    let low = generator().at_level(0).unwrap();
    let coarse = KeyGenerator::with_groups(&secret, &[2]).unwrap();
    let more: Vec<i64> = right.iter().copied().chain([3]).collect();
    for keys in [
        sent(generator(), &right[1..]),
        sent(generator(), &more),
        sent(low, &right),
        sent(coarse, &right),
        SealedKeys::received(vec![7; 90]),
    ] {
        assert!(opened().take(ToServer::Rotations(keys)).is_err());
    }
    let mut session = opened();
    let bias = ToServer::BiasUpdate {
        part: 0,
        change: Sealed::received(vec![0; 9]),
    };
    assert!(session.expects().contains("Rotations"));
    assert!(session.take(bias).unwrap().is_none());
    let keys = sent(generator(), &right);
    let first = session.take(ToServer::Rotations(keys.clone())).unwrap();
    assert!(first.is_some());
    assert!(
        session
            .take(ToServer::Rotations(keys.clone()))
            .unwrap()
            .is_none()
    );
    assert!(session.take(ToServer::FetchBiases).unwrap().is_none());
    // of the default rule's scale
    let scale = plan.input_scale();
    let plain = Encoder::new(plan.parameters()).encode_real(&[1.0], TOP, scale);
    let change = SeededCiphertext::encrypt(&plain.unwrap(), &secret, &mut rng).unwrap();
    let change = Sealed::slots(&change);
    assert!(
        session
            .take(ToServer::BiasUpdate { part: 0, change })
            .is_err()
    );
    // and by the default rule no key is taken
    let default = plan_of(&choices(dense(), 2, 10), 6);
    let literal = serde_json::to_vec(default.literal()).unwrap();
    let mut session = Session::open(&literal, &Limits::default()).unwrap();
    assert!(session.take(ToServer::Rotations(keys)).unwrap().is_none());
}

#[test]
fn steps_beyond_the_bound_are_refused_on_both_sides() {
    let plan = published_plan(&choices(dense(), 2, 10), 6, 2);
    let mut engine = engine(&plan);
    learn_steps(&mut engine, &plan, 2);
    let refused = engine.begin(2, 10).unwrap_err();
    assert!(matches!(refused, Error::TooManySteps { limit: 2, .. }));
    // a client that goes on all the same
    let link = engine.multiplier_mut().link_mut();
    link.send(&ToServer::BeginStep { step: 2 }).unwrap();
    let refused = link.receive().unwrap_err().to_string();
    assert!(refused.contains("2 updates"), "{refused}");
}

#[test]
fn replicas_of_another_rule_are_refused() {
    let plan = plan_of(&choices(dense(), 2, 10), 6);
    let replica = Replica::initial(plan.grid()).publishing_biases().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let refused = Paper::open(fixture::link(None), &plan, replica, &mut rng);
    assert!(matches!(refused, Err(Error::OtherBiases)));
}
