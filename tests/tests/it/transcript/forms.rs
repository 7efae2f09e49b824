//! The form in which products travel follows from released weights alone.
//!
//! Results of short weights are smaller than those of others, so sizes may differ from step to
//! step. What the server was told, replayed, gives the weights of every step; these and the plan
//! give every size, whatever the data were.

use std::collections::{BTreeMap, HashSet};

use sphinx_protocol::message::ToServer;
use sphinx_protocol::model::PublicModel;
use sphinx_protocol::packed::Upload;
use sphinx_protocol::packed::estimate::counts;
use sphinx_protocol::packed::transforms::step_counts;
use sphinx_protocol::plan::Tightness;

use super::*;

/// Bytes of each kind of message of the products, as the frames on the wire have them.
pub(crate) fn seen_bytes(seen: &[Seen]) -> BTreeMap<&'static str, usize> {
    let mut bytes = BTreeMap::new();
    for s in seen.iter().filter(|s| s.digest.is_some()) {
        if !["BiasUpdate", "Biases"].contains(&s.name) {
            *bytes.entry(s.name).or_default() += s.bytes + 4;
        }
    }
    bytes
}

/// The same for one step, from the plan and the forms alone.
pub(crate) fn planned_bytes(plan: &Plan, forms: &[Tightness]) -> BTreeMap<&'static str, usize> {
    let mut bytes = BTreeMap::new();
    for phase in counts(plan, forms) {
        let (up, down) = match phase.upload {
            Upload::Activation => ("Activation", "ForwardProduct"),
            Upload::OutputGradient => ("OutputGradient", "BackwardProduct"),
            Upload::ClippedGradient => ("ClippedGradient", "GradientProduct"),
        };
        *bytes.entry(up).or_default() += phase.bytes_up;
        *bytes.entry(down).or_default() += phase.bytes_down;
    }
    bytes
}

/// Every step: the forms that the weights released before it call for, and its ciphertexts.
fn steps(plan: &Plan, seen: &[Seen]) -> Vec<(Vec<Tightness>, Vec<Seen>)> {
    let mut model = PublicModel::initial(plan.grid());
    let mut steps = Vec::new();
    for s in seen {
        let message = s.content.as_ref().filter(|_| s.received);
        match message.map(|content| ToServer::from_bytes(content).unwrap()) {
            Some(ToServer::BeginStep { .. }) => {
                let mut forms = plan.tightness(&model.snapshot());
                // No gradient is asked for of the inputs.
                forms[0].backward = false;
                steps.push((forms, Vec::new()));
            }
            Some(ToServer::Update { gradient, .. }) => model.apply(&gradient).unwrap(),
            _ => {}
        }
        if let Some((_, frames)) = steps.last_mut()
            && s.digest.is_some()
        {
            frames.push(s.clone());
        }
    }
    steps
}

#[test]
fn forms_follow_from_released_weights_alone() {
    // Steps so large that the noise alone makes some rows and columns long, and others not.
    let plan = plan_with(CAPACITY, 12.0);
    let mut known: Vec<(Vec<Tightness>, Vec<Seen>)> = Vec::new();
    let mut shared = 0;
    for (rows, seed) in [(30, 1), (30, 77), (200, 3), (13, 4), (30, 5), (30, 6)] {
        let seen = run(&plan, &data(rows, seed), seed, 99).0;
        let steps = steps(&plan, &seen);
        assert_eq!(steps.len() as u64, STEPS);
        for (step, (forms, frames)) in steps.into_iter().enumerate() {
            let planned = planned_bytes(&plan, &forms);
            assert_eq!(seen_bytes(&frames), planned, "step {step} of seed {seed}");
            // as the operations of a step count them, the biases' backup included
            let counts = step_counts(&plan, &forms);
            let ciphertexts = |up: bool| frames.iter().filter(|s| s.received == up).count() as u64;
            assert_eq!(
                [counts.uploads, counts.downloads],
                [true, false].map(ciphertexts)
            );
            let same = known.iter().find(|(other, _)| *other == forms);
            if let Some((_, others)) = same {
                assert_eq!(difference(&frames, others), None, "step {step}, {seed}");
                shared += 1;
                continue;
            }
            known.push((forms, frames));
        }
    }
    let sizes: HashSet<_> = known.iter().map(|(_, frames)| seen_bytes(frames)).collect();
    assert!(sizes.len() > 3 && shared > 5, "{} {shared}", sizes.len());
}
