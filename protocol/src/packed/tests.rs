//! The forms in which products travel: who takes the other one is told so.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::exact::{IntegerPoly, Plaintext, SeededCiphertext};
use sphinx_he::rlwe::SecretKey;
use sphinx_nn::network::LayerSpec;

use super::*;
use crate::error::Error;
use crate::fixture::{choices, image, packed_plan};
use crate::message::Returned;
use crate::plan::{Passage, Tightness};

/// Two dense layers of sixteen inputs each.
pub(crate) fn plan() -> Plan {
    let layers = vec![
        LayerSpec::Dense { outputs: 16 },
        LayerSpec::Tanh,
        LayerSpec::Dense { outputs: 8 },
    ];
    packed_plan(&choices(image(1, 1, 16), layers, 5), 8)
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
