//! The transform against its definition, rounding, refusals.

use super::*;
use crate::ckks::reference;
use crate::rlwe::{ParametersLiteral, Security};
use proptest::prelude::*;

fn encoder(log_n: u32) -> Encoder {
    let literal = ParametersLiteral {
        log_n,
        log_q: vec![60, 60, 50],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    };
    Encoder::new(&Parameters::new(&literal).unwrap())
}

fn slots(count: usize) -> impl Strategy<Value = Vec<Complex64>> {
    let part = || -1.0f64..1.0;
    prop::collection::vec(
        (part(), part()).prop_map(|(a, b)| Complex64::new(a, b)),
        count,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn embedding_agrees_with_its_definition(log_n in 3u32..=8, values in slots(128)) {
        let encoder = encoder(log_n);
        let values = &values[..encoder.slots()];
        let mut scratch = encoder.scratch();
        encoder.embed(values.iter().copied(), values.len(), 1.0, &mut scratch);
        let fast = scratch.coefficients.clone();
        let slow = reference::coefficients(values);
        prop_assert!(fast[..].iter().zip(&slow).all(|(a, b)| (a - b).abs() < 1e-12));
        encoder.project(values.len(), 1.0, &mut scratch);
        let order = &encoder.plan(values.len()).order;
        let back: Vec<Complex64> = order.iter().map(|&k| scratch.values[k as usize]).collect();
        let slow = reference::slots(&fast);
        prop_assert!(back.iter().zip(&slow).all(|(a, b)| (a - b).norm() < 1e-12));
        prop_assert!(back.iter().zip(values).all(|(a, b)| (a - b).norm() < 1e-12));
    }

    #[test]
    fn decoding_undoes_encoding_to_the_rounding(values in slots(128), log_scale in 20u8..50, level in 0usize..3) {
        let encoder = encoder(8);
        let scale = Scale::power_of_two(log_scale);
        let plaintext = encoder.encode(&values, Level(level), scale).unwrap();
        // N roundings of variance 1/12, six standard deviations
        let bound = 6.0 * (256.0 / 12.0f64).sqrt() / scale.value() + 1e-13;
        let back = encoder.decode(&plaintext).unwrap();
        prop_assert!(back.iter().zip(&values).all(|(a, b)| (a - b).norm() < bound));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let encoder = encoder(4);
    let encode = |values: &[f64], level, log2| {
        encoder
            .encode_real(values, Level(level), Scale::power_of_two(log2))
            .map(|_| ())
    };
    assert!(encode(&[1.0; 8], 0, 58).is_ok());
    assert!(matches!(
        encode(&[1.0; 8], 0, 60),
        Err(Error::ValueTooLarge { index: 0, .. })
    ));
    assert!(encode(&[1.0; 8], 2, 119).is_ok());
    assert!(encode(&[1.0; 8], 2, 121).is_err());
    assert!(matches!(
        encode(&[0.0, f64::NAN], 0, 20),
        Err(Error::NotFinite { index: 1, .. })
    ));
    assert!(encode(&[f64::MAX; 8], 0, 20).is_err());
    assert!(matches!(
        encode(&[0.0; 9], 0, 20),
        Err(Error::TooManyValues { .. })
    ));
    assert!(matches!(
        encode(&[0.0], 3, 20),
        Err(Error::NoSuchLevel { .. })
    ));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 2.0] {
        assert!(Scale::new(bad).is_err());
    }
}
