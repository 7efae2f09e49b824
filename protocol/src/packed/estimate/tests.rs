//! Counts and predictions of small plans.

use super::*;
use crate::model::PublicModel;
use crate::packed::script;
use crate::packed::tests::plan;

fn fresh(plan: &Plan) -> Vec<PhaseCounts> {
    counts(
        plan,
        &plan.tightness(&PublicModel::initial(plan.grid()).snapshot()),
    )
}

#[test]
fn counts_follow_the_script() {
    let plan = plan();
    let counts = fresh(&plan);
    let uploads: usize = counts.iter().map(|phase| phase.uploads).sum();
    assert_eq!(uploads, script(&plan).len());
    for phase in &counts {
        assert!((1..=phase.downloads).contains(&phase.last), "{phase:?}");
        assert!(phase.values_up > 0 && phase.values_down > 0, "{phase:?}");
    }
}

#[test]
fn times_grow_with_what_is_counted() {
    let units = UnitTimes::STANDARD;
    for phase in fresh(&plan()) {
        let once = units.of(&phase);
        let twice = PhaseCounts {
            uploads: 2 * phase.uploads,
            downloads: 2 * phase.downloads,
            products: 2 * phase.products,
            weights: 2 * phase.weights,
            bytes_up: 2 * phase.bytes_up,
            bytes_down: 2 * phase.bytes_down,
            values_up: 2 * phase.values_up,
            values_down: 2 * phase.values_down,
            ..phase
        };
        let doubled = units.of(&twice);
        assert!((doubled.server - 2.0 * once.server).abs() < 1e-12);
        assert!((doubled.client - 2.0 * once.client).abs() < 1e-12);
        assert!(once.server > 0.0 && once.client > 0.0);
    }
}

#[test]
fn a_longer_ring_costs_more_and_a_slower_wire_decides() {
    let (short, long) = (UnitTimes::STANDARD, UnitTimes::STANDARD.at_degree(8192));
    assert_eq!(short.at_degree(4096), short);
    assert!((long.multiply / short.multiply - 2.0).abs() < 1e-12);
    assert!(long.encrypt[1] / short.encrypt[1] > 2.1);

    let plan = plan();
    let tightness = plan.tightness(&PublicModel::initial(plan.grid()).snapshot());
    let machine = Calibration::measure(&plan, &tightness).unwrap();
    let counts = fresh(&plan);
    let seconds = |hosts| {
        Prediction::new(&plan, &counts, &machine, hosts)
            .seconds
            .total()
    };
    let apart = |bits_per_second| Hosts::Apart {
        cores: 2,
        bits_per_second,
        round_trip: 0.0,
    };
    let bytes: usize = counts.iter().map(|p| p.bytes_up.max(p.bytes_down)).sum();
    let slow = seconds(apart(1e6));
    assert!(slow >= 8.0 * bytes as f64 / 1e6);
    assert!(seconds(apart(1e10)) < slow);
    let one = seconds(Hosts::Shared { cores: 1 });
    assert!(seconds(Hosts::Shared { cores: 2 }) <= one);
}

#[test]
fn every_phase_is_measured() {
    let plan = plan();
    let tightness = plan.tightness(&PublicModel::initial(plan.grid()).snapshot());
    let machine = Calibration::measure(&plan, &tightness).unwrap();
    let counts = fresh(&plan);
    assert_eq!(machine.phases.len(), counts.len());
    // What the last two are, on a machine that may do other things meanwhile, is not for a test.
    let sound =
        |u: &PhaseUnits| u.product > 0.0 && u.pack > 0.0 && u.read >= 0.0 && u.select >= 0.0;
    assert!(machine.phases.iter().all(sound), "{machine:?}");
    let units = machine.units;
    assert!(units.scale.iter().all(|&seconds| seconds > 0.0));
    assert_eq!(machine.own.layers.len(), plan.layouts().len());
    let hosts = Hosts::Shared { cores: 2 };
    let prediction = Prediction::new(&plan, &counts, &machine, hosts);
    assert_eq!(prediction.phases.len(), counts.len());
    let client: f64 = prediction.phases.iter().map(|p| p.cpu.client).sum();
    assert!(prediction.client_cpu >= client && prediction.server_cpu > 0.0);
}
