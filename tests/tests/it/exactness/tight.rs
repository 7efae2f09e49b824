//! Short weights: failures at the rate that the inequality predicts where it is pushed that far,
//! and the right form of every product on both sides of the bound.
//!
//! A plan for observation takes the forms of short weights as far as they go: the largest scales
//! that leave room, and so many bits cut off that up to every fourth result is wrong. Weights are
//! as long as short weights may be, and in every run one result is the largest sum there can be.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::format::Integers;
use sphinx_protocol::grid::{Engine, Local, Multiplier};
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::Upload;
use sphinx_protocol::plan::{Passage, Phase, Plan, Tightness};
use sphinx_protocol::view::View;
use sphinx_tests::fixture::{
    architecture, choices, hub, packed_from, random_data, toy_plan, train,
};

use super::worst::{
    Party, Tally, backward_polys, extreme, filled, flat, forward_polys, inexact, literal, product,
    tiling,
};

use crate::transcript::forms::{planned_bytes, seen_bytes};

const SHORT: Tightness = Tightness {
    forward: true,
    backward: true,
};
/// The length of the longest short weights, in units of 1.
const LONGEST: i32 = 4;

/// One layer of `fan` weights of equal size in every result: the longest that are short, times
/// `stretch`.
struct Case {
    plan: Plan,
    layer: usize,
    upload: Upload,
    fan: usize,
    results: usize,
    stretch: i32,
}

impl Case {
    fn forward(stretch: i32) -> Self {
        let (fan, results) = (4096, 128);
        let mut literal = literal(&choices(architecture(fan, &[], results), 1), [47, 42]);
        literal.tilings[0] = tiling(16, 64, 1);
        Self {
            plan: inexact(&literal),
            layer: 0,
            upload: Upload::Activation,
            fan,
            results,
            stretch,
        }
    }

    fn backward(stretch: i32) -> Self {
        let (fan, results) = (256, 512);
        let hidden = [(results, LayerSpec::Tanh), (fan, LayerSpec::Tanh)];
        let mut literal = literal(&choices(architecture(4, &hidden, 3), 1), [47, 42]);
        literal.backward_tilings.clear();
        literal.tilings[1] = tiling(2, 256, 1);
        Self {
            plan: inexact(&literal),
            layer: 1,
            upload: Upload::OutputGradient,
            fan,
            results,
            stretch,
        }
    }

    fn passage(&self) -> Passage {
        self.plan.passage(self.upload, self.layer, SHORT)
    }

    /// The weights, one row for every result.
    fn weights(&self, rng: &mut ChaCha20Rng) -> Integers {
        let long = LONGEST << self.plan.formats()[self.layer].w_shift;
        let size = long / self.fan.isqrt() as i32;
        assert_eq!(
            self.fan as i32 * size * size,
            long * long,
            "exactly as long"
        );
        extreme(rng, self.results, self.fan, size * self.stretch)
    }

    /// How many results are wrong, and by how much the worst one is.
    fn observe(&self, runs: u64) -> (Tally, i64) {
        let (plan, layout) = (&self.plan, &self.plan.layouts()[self.layer]);
        let (format, passage) = (plan.formats()[self.layer], self.passage());
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let weights = self.weights(&mut rng);
        let forward = self.upload == Upload::Activation;
        let form = (passage.level, passage.returned.factor);
        let polys = if forward {
            forward_polys(plan, layout, &flat(&weights), form)
        } else {
            backward_polys(plan, layout, &transposed(&weights), form)
        };
        let limit = if forward {
            format.x_limit
        } else {
            format.d_limit
        };
        let (mut tally, mut worst) = (Tally::default(), 0);
        for run in 0..runs {
            // Signs as those of one row: its sum is the largest of all.
            let signs = weights.row(run as usize * 31 % self.results).to_vec();
            let mut signs = signs.into_iter();
            let v = filled(1, self.fan, || limit * signs.next().unwrap().signum());
            let mut party = Party::new(plan, run);
            let mut got = Integers::zeros(1, self.results);
            if forward {
                party.forward(layout, &polys, &v, passage, &mut got);
            } else {
                party.backward(layout, &polys, &v, passage, &mut got);
            }
            for (at, &got) in got.row(0).iter().enumerate() {
                let expected = product(weights.row(at), v.row(0));
                worst = worst.max((i64::from(got) - expected).abs());
            }
            let got = got.row(0).iter().map(|&v| i64::from(v));
            tally.count(got, |at| product(weights.row(at), v.row(0)));
        }
        (tally, worst)
    }
}

/// `[out][in]` from one row per input.
fn transposed(m: &Integers) -> Vec<i32> {
    let (inputs, outputs) = (m.rows(), m.columns());
    (0..outputs)
        .flat_map(|i| (0..inputs).map(move |k| m.row(k)[i]))
        .collect()
}

#[test]
fn tight_forward_products_keep_their_bound() {
    let case = Case::forward(1);
    let (tally, worst) = case.observe(10);
    tally.judge(&case.plan, case.layer, Phase::TightForward);
    assert!(worst < 8, "a sum wrapped around: off by {worst}");
}

#[test]
fn tight_backward_products_keep_their_bound() {
    let case = Case::backward(1);
    assert_eq!(case.passage().level, 0);
    let (tally, worst) = case.observe(10);
    tally.judge(&case.plan, case.layer, Phase::TightBackward);
    assert!(worst < 8, "a sum wrapped around: off by {worst}");
}

/// The forms have no room to spare: the sums of weights four times as long leave the modulus, and
/// backward, where errors grow with the weights, more results are wrong than the bound allows.
#[test]
fn tight_forms_fail_for_longer_weights() {
    for (case, phase) in [
        (Case::forward(4), Phase::TightForward),
        (Case::backward(4), Phase::TightBackward),
    ] {
        let (tally, worst) = case.observe(2);
        assert!(worst > 1 << 16, "{phase}: off by {worst} at most");
        let broken = std::panic::catch_unwind(|| tally.judge(&case.plan, case.layer, phase));
        assert_eq!(broken.is_err(), phase == Phase::TightBackward, "{phase}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Weights at the bound, and the least above it, on either side: client and server take the
    /// form that the weights call for, and the step is the one in the clear.
    #[test]
    fn both_sides_take_the_form_of_the_weights(
        column: bool, line in 0_usize..8, above: bool,
        order in Just((0..8).collect::<Vec<usize>>()).prop_shuffle(), sign: bool,
    ) {
        let plan = toy_plan(&choices(architecture(6, &[(8, LayerSpec::Tanh)], 8), 8), 7);
        let mut flat = vec![0.0; plan.network().parameter_count()];
        let weights = plan.network().layout()[1].weights.clone();
        let mut put = |at: usize, w: f32| {
            let (out, input) = if column { (order[at], line) } else { (line, order[at]) };
            flat[weights.start + out * 8 + input] = if sign { -w } else { w };
        };
        (0..4).for_each(|at| put(at, LONGEST as f32 / 2.0));
        if above {
            put(4, (-f32::from(plan.formats()[1].w_shift as u8)).exp2());
        }
        let expected = Tightness { forward: column || !above, backward: !column || !above };
        let replica = Replica::starting_from(plan.grid(), &flat).unwrap();
        let data = random_data(12, 6, 8, 1);
        let view = View::default();
        let engine = packed_from(&plan, &hub(), Some(view.clone()), replica.clone(), 3).unwrap();
        let engine = train(engine, &plan, &data, 1, None, 1).unwrap();
        let here = Engine::new(Local::new(replica));
        let here = train(here, &plan, &data, 1, None, 1).unwrap();
        prop_assert_eq!(
            engine.multiplier().replica().public().version(),
            here.multiplier().replica().public().version()
        );
        // The first layer's weights are zero, and zeros are short.
        let bytes = seen_bytes(&view.seen());
        prop_assert_eq!(&bytes, &planned_bytes(&plan, &[SHORT, expected]));
        let other = Tightness { forward: !expected.forward, ..expected };
        prop_assert_ne!(&bytes, &planned_bytes(&plan, &[SHORT, other]));
        let other = Tightness { backward: !expected.backward, ..expected };
        prop_assert_ne!(&bytes, &planned_bytes(&plan, &[SHORT, other]));
    }
}
