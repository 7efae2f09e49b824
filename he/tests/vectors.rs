//! The encoder and the automorphisms against numbers from outside: see `vectors/README.md`.

use sphinx_he::ckks::{Complex64, Encoder, Level, Plaintext, Scale};
use sphinx_he::ring::{Automorphism, Eval, Poly};
use sphinx_he::rlwe::{
    Parameters, ParametersLiteral, Security, conjugation_exponent, rotation_exponent,
};

/// A line's name and numbers.
fn fields(line: &str) -> (String, Vec<f64>, Vec<i128>) {
    let is_number = |word: &&str| word.parse::<f64>().is_ok();
    let words: Vec<&str> = line.split(' ').collect();
    let skip = if words[0] == "rotated" { 2 } else { 1 };
    let numbers: Vec<&str> = words[skip..].to_vec();
    assert!(numbers.iter().all(is_number));
    (
        words[..skip].join(" "),
        numbers.iter().map(|x| x.parse().unwrap()).collect(),
        numbers.iter().filter_map(|x| x.parse().ok()).collect(),
    )
}

fn complex(numbers: &[f64]) -> Vec<Complex64> {
    let (pairs, _) = numbers.as_chunks::<2>();
    pairs.iter().map(|p| Complex64::new(p[0], p[1])).collect()
}

fn coefficients(parameters: &Parameters, poly: &Poly<Eval>) -> Vec<i128> {
    let (basis, level) = (parameters.ring().basis(), poly.level());
    let poly = poly.clone().into_coeff();
    let residues = |k: usize| (0..=level).map(|i| poly.row(i)[k]).collect::<Vec<_>>();
    (0..parameters.degree())
        .map(|k| basis.centred_i128(level, &residues(k)).unwrap())
        .collect()
}

struct Case {
    parameters: Parameters,
    encoder: Encoder,
    slots: usize,
    scale: Scale,
    plain: Plaintext,
}

impl Case {
    fn new(sizes: &[i128]) -> Self {
        let parameters = Parameters::new(&ParametersLiteral {
            log_n: sizes[0] as u32,
            log_q: vec![40, 45, 41],
            log_p: vec![],
            error_std_dev: 3.2,
            security: Security::Toy,
        })
        .unwrap();
        Self {
            encoder: Encoder::new(&parameters),
            slots: sizes[1] as usize,
            scale: Scale::power_of_two(sizes[2] as u8),
            plain: Plaintext::zero(&parameters, Level(1)).unwrap(),
            parameters,
        }
    }

    fn substituted(&self, exponent: u64) -> Vec<i128> {
        let map = Automorphism::new(self.parameters.log_n(), exponent).unwrap();
        coefficients(
            &self.parameters,
            &map.apply(self.plain.polynomial()).unwrap(),
        )
    }
}

#[test]
fn encodings_and_automorphisms_are_those_of_the_definition() {
    let text = include_str!("vectors/slots.txt");
    let (mut case, mut compared) = (None::<Case>, 0);
    for line in text.lines() {
        let (name, numbers, integers) = fields(line);
        if name == "case" {
            case = Some(Case::new(&integers));
            continue;
        }
        let case = case.as_mut().unwrap();
        let degree = case.parameters.degree();
        match name.split(' ').collect::<Vec<_>>()[..] {
            ["slots"] => {
                let (slots, level) = (complex(&numbers), Level(1));
                assert_eq!(slots.len(), case.slots);
                let plain = case
                    .encoder
                    .encode_sparse(&slots, case.slots, level, case.scale);
                case.plain = plain.unwrap();
            }
            ["coefficients"] => {
                assert_eq!(
                    coefficients(&case.parameters, case.plain.polynomial()),
                    integers
                );
            }
            ["values"] => {
                let got = case.encoder.decode(&case.plain).unwrap();
                let want = complex(&numbers);
                assert_eq!(got.len(), want.len());
                assert!(got.iter().zip(&want).all(|(a, b)| (a - b).norm() < 1e-14));
            }
            ["rotated", steps] => {
                let exponent = rotation_exponent(degree, steps.parse().unwrap());
                assert_eq!(case.substituted(exponent), integers);
            }
            ["conjugated"] => {
                assert_eq!(case.substituted(conjugation_exponent(degree)), integers);
            }
            _ => panic!("unknown line {name}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 4 * 7);
}
