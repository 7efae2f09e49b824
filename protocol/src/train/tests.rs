use sphinx_dp::{Adjacency, GaussianMechanism, LedgerBuilder, PoissonSampler, SamplingRate};
use sphinx_nn::augment::AugmentSettings;
use sphinx_nn::clear::ClearConfig;
use sphinx_nn::data::synth_digits;
use sphinx_nn::{Network, architectures, init};

use super::*;

/// The parameters after a few steps without noise, and the ledger's charges.
fn trained(model: &str, views: Option<Views>) -> (Vec<f32>, usize) {
    let data = synth_digits::generate(2, 60);
    let architecture = architectures::by_name(model, data.shape, data.classes).unwrap();
    let network = Network::new(&architecture).unwrap();
    let config = ClearConfig {
        clip_bound: Some(0.5),
        ..ClearConfig::default()
    };
    let clear = Clear::new(&network, init::glorot(&network, 1), config).unwrap();
    let rule = UpdateRule {
        schedule: Schedule::constant(0.5),
        momentum: 0.5,
        nesterov: false,
        divisor: 12.0,
        steps: 4,
        averaging: Averaging::None,
    };
    let mut engine = Float::new(clear, rule);
    if let Some(views) = views {
        engine = engine.with_views(views).unwrap();
    }
    let rate = SamplingRate::from_mean(12.0, 60).unwrap();
    let mut ledger = LedgerBuilder::new(None, Adjacency::AddRemove).in_memory();
    let setup = Setup {
        network: &network,
        data: &data,
        sampler: PoissonSampler::new(rate, 40),
        mechanism: GaussianMechanism::new(engine.clip_bound().unwrap(), None, rate).unwrap(),
        capacity: 40,
        streams: Streams::seeded_for_experiments(7),
        ledger: &mut ledger,
        first_step: 0,
    };
    let mut trainer = Trainer::new(engine, setup).unwrap();
    for _ in 0..4 {
        // A row above the bound would be refused here.
        assert!(matches!(trainer.step().unwrap(), Outcome::Done(_)));
    }
    let engine = trainer.into_engine();
    (
        engine.last_iterate().parameters().to_vec(),
        ledger.entries().len(),
    )
}

fn views(multiplicity: usize, padding: usize, seed: u64) -> Option<Views> {
    let settings = AugmentSettings {
        multiplicity,
        padding,
        flip: false,
    };
    Some(Views { settings, seed })
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn views_that_are_the_record_change_nothing() {
    for model in ["mlp", "minionn-mnist-tanh"] {
        let (plain, charges) = trained(model, None);
        for multiplicity in [1, 3] {
            let (same, charged) = trained(model, views(multiplicity, 0, 5));
            assert!(distance(&plain, &same) < 1e-4, "{model} {multiplicity}");
            assert_eq!(charges, charged);
        }
    }
}

#[test]
fn shifted_views_are_repeatable_and_others_for_another_seed() {
    let one = trained("mlp", views(2, 2, 5)).0;
    assert_eq!(one, trained("mlp", views(2, 2, 5)).0);
    assert_ne!(one, trained("mlp", views(2, 2, 6)).0);
    assert!(distance(&one, &trained("mlp", None).0) > 1e-3);
}
