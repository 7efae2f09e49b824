//! How a polynomial holds numbers, before any encryption.
//!
//! A ring element has N coefficients. CKKS offers two ways to put numbers there. **Slots** are the
//! values of the polynomial at N/2 roots of unity: products act slot by slot, but a value is only
//! kept to a rounding error. **Coefficients** hold integers as they are: a product is a polynomial
//! product, which sums many terms at once, and the integers come back exactly.
//!
//! Run it with `cargo run -p sphinx-he --example 01_encode`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use sphinx_he::ckks::{Encoder, Level, Scale, reference};
use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Eight coefficients are far too few to hide anything, so the set must call itself a toy.
    let parameters = Parameters::new(&ParametersLiteral {
        log_n: 3,
        log_q: vec![50],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    })?;
    println!("{parameters:?}");

    // Four slots for N = 8. Larger scales leave smaller rounding errors.
    let encoder = Encoder::new(&parameters);
    let values = [1.0, -0.5, 0.25, 3.0];
    for log2 in [8, 16, 32] {
        let scale = Scale::power_of_two(log2);
        let plaintext = encoder.encode_real(&values, Level(0), scale)?;
        let back = encoder.decode_real(&plaintext)?;
        let error = back
            .iter()
            .zip(&values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        println!("scale 2^{log2}: slots come back to within {error:.1e}");
        assert!(error < 4.0 / scale.value());
    }

    // The same by the definition: slot j is the value at exp(i pi / N) to the power 5^j.
    let polynomial = [3.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]; // 3 + Y^4
    let slots = reference::slots(&polynomial);
    println!("3 + Y^4 has the slots {slots:.2?}");
    assert!(
        slots
            .iter()
            .all(|z| (z.re - 3.0).abs() < 1e-12 && (z.im.abs() - 1.0).abs() < 1e-12)
    );
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
