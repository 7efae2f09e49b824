//! The forms in which products travel: who takes the other one is told so. And what the tests of layouts and
//! checks share: layers by their definition.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::exact::{IntegerPoly, Plaintext, SeededCiphertext};
use sphinx_he::rlwe::{ParametersLiteral, SecretKey, Security};
use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec, LinearKind, LinearShape};

use super::*;
use crate::error::Error;
use crate::message::Returned;
use crate::plan::{Limits, Passage, PlanChoices, PlanLiteral, Tightness};

/// Two dense layers of sixteen inputs each.
pub(crate) fn plan() -> Plan {
    let architecture = Architecture {
        name: "forms".into(),
        input: ImageShape {
            channels: 1,
            height: 1,
            width: 16,
        },
        layers: vec![
            LayerSpec::Dense { outputs: 16 },
            LayerSpec::Tanh,
            LayerSpec::Dense { outputs: 8 },
        ],
    };
    let choices = PlanChoices {
        architecture,
        capacity: 5,
        clip_bound: 1.0,
        learning_rate: 1.0,
        momentum: 0.5,
        divisor: 4.0,
        init_seed: 3,
        tickets: 2,
    };
    let he = ParametersLiteral {
        log_n: 8,
        log_q: vec![47, 42],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    };
    let literal = PlanLiteral::design_with(&choices, he).unwrap();
    Plan::new(&literal, &Limits::default()).unwrap()
}

/// Convolutions of all strides and paddings.
pub(crate) fn convolutions() -> impl Strategy<Value = LinearShape> {
    let sizes = (1_usize..4, 1_usize..7, 1_usize..7);
    let moves = (1_usize..4, 1_usize..6, 1_usize..4, 0_usize..3);
    (sizes, moves).prop_filter_map(
        "a kernel that fits",
        |((channels, height, width), (out, kernel, stride, padding))| {
            let input = ImageShape {
                channels,
                height,
                width,
            };
            ConvShape::new(input, out, kernel, stride, padding).map(LinearShape::conv)
        },
    )
}

/// Calls `term(weight, output, input)` for every product that the layer's definition names.
pub(crate) fn terms(shape: &LinearShape, mut term: impl FnMut(usize, usize, usize)) {
    let conv = match shape.kind {
        LinearKind::Dense => {
            for weight in 0..shape.weights() {
                term(weight, weight / shape.inputs, weight % shape.inputs);
            }
            return;
        }
        LinearKind::Conv(conv) => conv,
    };
    let (input, output, k) = (conv.input(), conv.output(), conv.kernel());
    for weight in 0..shape.weights() {
        let (e, a, c) = (
            weight % k,
            weight / k % k,
            weight / (k * k) % input.channels,
        );
        let out = weight / (k * k * input.channels);
        for position in 0..conv.positions() {
            let (i, j) = (position / output.width, position % output.width);
            let line = (i * conv.stride() + a).checked_sub(conv.padding());
            let column = (j * conv.stride() + e).checked_sub(conv.padding());
            if let (Some(u), Some(v)) = (line, column)
                && u < input.height
                && v < input.width
            {
                let pixel = (c * input.height + u) * input.width + v;
                term(weight, out * conv.positions() + position, pixel);
            }
        }
    }
}

/// How an upload travels by short weights and by others.
pub(crate) fn passages(plan: &Plan, upload: Upload, layer: usize) -> [Passage; 2] {
    [true, false].map(|short| {
        let tightness = Tightness {
            forward: short,
            backward: short,
        };
        plan.passage(upload, layer, tightness)
    })
}

/// The result that an honest server of this form sends for an encryption of seven and weights of
/// three.
fn result(plan: &Plan, secret: &SecretKey, form: Passage) -> Returned {
    let p = plan.parameters();
    let x = Plaintext::encode(p, form.level, &[7], form.encoding).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let x = SeededCiphertext::encrypt(&x, secret, &mut rng)
        .unwrap()
        .expand();
    let w = IntegerPoly::new(p, form.level, &[3], form.returned.factor).unwrap();
    finish(x.mul_plain(&w).unwrap(), &[0], form.returned).unwrap()
}

#[test]
fn a_result_of_the_other_form_is_refused() {
    let plan = plan();
    let secret = SecretKey::generate(plan.parameters(), &mut ChaCha20Rng::seed_from_u64(1));
    for (upload, layer) in [
        (Upload::Activation, 0),
        (Upload::Activation, 1),
        (Upload::OutputGradient, 1),
    ] {
        let forms = passages(&plan, upload, layer);
        assert_ne!(forms[0].returned, forms[1].returned, "{upload:?}");
        for (at, form) in forms.into_iter().enumerate() {
            let result = result(&plan, &secret, form);
            let agreed = open_result(&result, &[0], form.returned, &secret).unwrap();
            assert_eq!(agreed, [21]);
            let other = open_result(&result, &[0], forms[1 - at].returned, &secret).unwrap_err();
            assert!(matches!(other, Error::Unexpected { .. }), "{other}");
        }
    }
}
