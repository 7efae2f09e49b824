//! The engine `paper`: its trajectory is that of integer-grid `clear`, and what the server sees of it
//! says nothing about the data.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_dp::ledger::Ledger;
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::grid::{Engine, Local, Multiplier};
use sphinx_protocol::message::Reveals;
use sphinx_protocol::model::Replica;
use sphinx_protocol::paper::PaperPlan;
use sphinx_protocol::view::{Seen, View};
use sphinx_tests::fixture::{
    architecture, choices, convolutional, paper_with, random_data, sampler, toy_paper_plan,
    train_on_grid,
};

use crate::transcript::{difference, repeated};

/// Trains both ways and compares weights and biases after several steps, so that the encrypted
/// biases take part.
fn check_agreement(plan: &PaperPlan, seed: u64, steps: u64, z: Option<f64>) {
    let (grid, network) = (plan.grid(), plan.network());
    let data = random_data(40, network.inputs(), network.classes(), seed);
    let clear = Engine::new(Local::new(Replica::initial(grid)));
    let (clear, _) = train_on_grid(clear, grid, &data, 0, steps, z, seed).unwrap();
    let paper = paper_with(plan, Replica::initial(grid), None, 99).unwrap();
    let (paper, _) = train_on_grid(paper, grid, &data, 0, steps, z, seed).unwrap();
    let (ours, theirs) = (clear.multiplier().replica(), paper.multiplier().replica());
    assert_eq!(ours.public().version(), theirs.public().version());
    assert_eq!(ours.master_biases(), theirs.master_biases());
    paper.into_multiplier().close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn dense_training_is_grid_clear(
        inputs in 1_usize..10,
        hidden in 1_usize..6,
        capacity in 6_usize..50,
        seed in 0_u64..1000,
        noisy in any::<bool>(),
    ) {
        let layers = [(hidden, LayerSpec::Relu), (4, LayerSpec::Tanh)];
        let plan = toy_paper_plan(&choices(architecture(inputs, &layers, 3), capacity), 6);
        check_agreement(&plan, seed, 3, noisy.then_some(0.8));
    }

    #[test]
    fn convolutional_training_is_grid_clear(
        side in 4_usize..6,
        channels in 1_usize..4,
        geometry in (1_usize..4, 1_usize..3, 0_usize..3),
        pooled in any::<bool>(),
        capacity in 6_usize..20,
        seed in 0_u64..1000,
    ) {
        let (kernel, stride, padding) = geometry;
        // Padding by more than half a kernel has no layout in `packed`; here it has.
        let padding = padding.min(kernel - 1);
        let first = LayerSpec::Conv { channels, kernel, stride, padding };
        let pool = pooled.then_some(LayerSpec::MaxPool { size: 2, stride: 1 });
        let plan = toy_paper_plan(&choices(convolutional([side, side + 1], first, pool), capacity), 6);
        check_agreement(&plan, seed, 2, Some(1.0));
    }
}

#[test]
fn a_run_goes_on_under_a_new_key() {
    let plan = toy_paper_plan(&choices(architecture(5, &[(4, LayerSpec::Tanh)], 3), 12), 6);
    let (grid, data) = (plan.grid(), random_data(30, 5, 3, 1));
    let run = |replica, first, steps, seed| {
        let engine = paper_with(&plan, replica, None, seed).unwrap();
        let (engine, _) = train_on_grid(engine, grid, &data, first, steps, None, 4).unwrap();
        engine.into_multiplier().close().unwrap().1
    };
    let half = run(Replica::initial(grid), 0, 1, 1);
    let ended = run(half.clone(), 1, 1, 2);
    // the oracle interrupted at the same place: its streams begin anew as well
    let clear = |replica, first| {
        let engine = Engine::new(Local::new(replica));
        let (engine, _) = train_on_grid(engine, grid, &data, first, 1, None, 4).unwrap();
        engine.multiplier().replica().clone()
    };
    let expected = clear(clear(Replica::initial(grid), 0), 1);
    assert_eq!(half.public().step(), 1);
    assert_eq!(ended.public().version(), expected.public().version());
    assert_eq!(ended.master_biases(), expected.master_biases());
}

#[test]
fn a_run_begins_where_it_is_told_to() {
    let plan = toy_paper_plan(&choices(architecture(5, &[(4, LayerSpec::Tanh)], 3), 12), 6);
    let (grid, data) = (plan.grid(), random_data(30, 5, 3, 1));
    let count = grid.network().parameter_count();
    let flat: Vec<f32> = (0..count).map(|i| (i as f32 * 0.73).cos()).collect();
    let first = || Replica::starting_from(grid, &flat).unwrap();
    let paper = paper_with(&plan, first(), None, 3).unwrap();
    let (paper, _) = train_on_grid(paper, grid, &data, 0, 2, Some(1.0), 4).unwrap();
    let clear = Engine::new(Local::new(first()));
    let (clear, _) = train_on_grid(clear, grid, &data, 0, 2, Some(1.0), 4).unwrap();
    let (ours, theirs) = (clear.multiplier().replica(), paper.multiplier().replica());
    assert_eq!(ours.public().version(), theirs.public().version());
    assert_eq!(ours.master_biases(), theirs.master_biases());
}

/// Rows of every batch of the honest trainer.
const CAPACITY: usize = 40;
/// Steps of every run.
const STEPS: u64 = 2;

fn plan(capacity: usize) -> PaperPlan {
    let layers = [(4, LayerSpec::Tanh), (3, LayerSpec::Relu)];
    toy_paper_plan(&choices(architecture(6, &layers, 3), capacity), 6)
}

/// The server's view of noised steps, and the trainer's ledger.
fn run(capacity: usize, rows: usize, seed: u64, encryption: u64) -> (Vec<Seen>, Ledger) {
    let (plan, view) = (plan(capacity), View::default());
    let mut data = random_data(rows, 6, 3, seed);
    if seed == 77 {
        // Extreme data: all pixels at full scale, one class.
        data.images.as_mut_slice().fill(1.0);
        data.labels.fill(2);
    }
    let replica = Replica::initial(plan.grid());
    let engine = paper_with(&plan, replica, Some(view.clone()), encryption).unwrap();
    let noise = Some(1.0);
    let (engine, ledger) =
        train_on_grid(engine, plan.grid(), &data, 0, STEPS, noise, seed).unwrap();
    engine.into_multiplier().close().unwrap();
    (view.seen(), ledger)
}

#[test]
fn order_and_sizes_do_not_depend_on_the_data() {
    let (reference, _) = run(CAPACITY, 50, 1, 99);
    for (rows, seed) in [(50, 2), (50, 77), (200, 3), (21, 4)] {
        let (seen, _) = run(CAPACITY, rows, seed, 98);
        assert_eq!(difference(&seen, &reference), None, "{rows} rows, {seed}");
    }
}

/// A trainer that sends no more blocks than the draw needs is caught.
#[test]
fn the_comparison_notices_a_trainer_without_padding() {
    let views = (1..=6).map(|seed| {
        let honest = sampler(plan(CAPACITY).grid(), &random_data(50, 6, 3, seed));
        let rows = honest.draw(50, &mut ChaCha20Rng::seed_from_u64(seed)).len();
        // 32 samples fit one ciphertext: a draw of 16 needs one block where the capacity needs two
        let (mut seen, _) = run(rows.max(1), 50, seed, 99);
        seen.retain(|s| s.name != "OpenPaper");
        seen
    });
    let (mut honest, _) = run(CAPACITY, 50, 1, 99);
    honest.retain(|s| s.name != "OpenPaper");
    let noticed = views.filter(|seen| difference(seen, &honest).is_some());
    assert!(noticed.count() >= 5);
}

#[test]
fn the_only_plaintext_about_data_is_the_noised_update() {
    let (seen, ledger) = run(CAPACITY, 50, 5, 99);
    let released: Vec<_> = seen
        .iter()
        .filter(|s| s.reveals == Some(Reveals::Released))
        .map(|s| s.name)
        .collect();
    assert_eq!(released, ["Update"; STEPS as usize]);
    let public = seen
        .iter()
        .filter(|s| s.reveals == Some(Reveals::PublicConstants));
    for s in public {
        let constants = ["Hello", "OpenPaper", "BeginStep", "Bye"];
        assert!(constants.contains(&s.name), "{}", s.name);
    }
    // One charge for each update, of all weights and biases; the server is told the weights.
    let biases = plan(CAPACITY).grid().bias_count();
    let paid = ledger.entries().iter();
    let paid: Vec<_> = paid
        .map(|e| (e.step, e.coordinates.unwrap() as usize - biases))
        .collect();
    let told = seen.iter().filter_map(Seen::update);
    assert_eq!(
        told.map(|(step, v)| (step, v.len())).collect::<Vec<_>>(),
        paid
    );
}

#[test]
fn no_ciphertext_and_no_mask_is_ever_repeated() {
    let views: Vec<_> = [1, 2]
        .map(|encryption| run(CAPACITY, 50, 8, encryption).0)
        .into();
    let all = views.iter().flatten();
    let sealed: Vec<[u8; 32]> = all.clone().filter_map(|s| s.digest).collect();
    assert!(sealed.len() > 200);
    assert_eq!(repeated(&sealed), 0);
    // Header, level, flags, slots, scale; then the seed.
    let length = sphinx_he::ckks::SeededCiphertext::wire_size(plan(CAPACITY).parameters(), 1);
    let bits: u32 = plan(CAPACITY)
        .parameters()
        .moduli()
        .iter()
        .map(|q| q.bits())
        .sum();
    let end = length - bits as usize * 64 / 8;
    let seeds: Vec<[u8; 32]> = all
        .filter_map(|s| s.opening.as_ref())
        .map(|opening| opening[end - 32..end].try_into().unwrap())
        .collect();
    assert!(seeds.len() > 100);
    assert_eq!(repeated(&seeds), 0);
    // The count notices what comes twice.
    assert_eq!(
        repeated(&[sealed.clone(), sealed.clone()].concat()),
        sealed.len()
    );
}
