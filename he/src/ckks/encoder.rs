//! Between slots and polynomials, by fast Fourier transforms.

use std::f64::consts::PI;
use std::sync::Arc;

use num_traits::ToPrimitive;
use rustfft::{Fft, FftPlanner};

use super::{Complex64, Level, Plaintext, Scale};
use crate::error::Error;
use crate::ring::{Coeff, Poly};
use crate::rlwe::Parameters;

/// Scaled coefficients must stay below this power of two.
const LARGEST_BITS: u32 = 120;

/// Encodes and decodes; made once per parameter set.
///
/// Slot `j` is the value at `zeta^(5^j)`, `zeta = exp(i pi / N)`. Encoding puts slots and
/// conjugates in the order of the odd powers of `zeta` and transforms back; the result is rounded
/// coefficient by coefficient. The rounding moves a slot by about `sqrt(N / 12) / scale`.
#[derive(Clone)]
pub struct Encoder {
    parameters: Parameters,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    /// `zeta^i`.
    twist: Vec<Complex64>,
    /// Where slot `j` sits among the odd powers: `(5^j mod 2N - 1) / 2`.
    order: Vec<usize>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("slots", &self.slots())
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Plans the transforms for these parameters.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        let n = parameters.degree();
        let mut planner = FftPlanner::new();
        let powers = std::iter::successors(Some(1usize), |e| Some(5 * e % (2 * n)));
        Self {
            parameters: parameters.clone(),
            forward: planner.plan_fft_forward(n),
            inverse: planner.plan_fft_inverse(n),
            twist: (0..n)
                .map(|i| Complex64::cis(PI * i as f64 / n as f64))
                .collect(),
            order: powers.take(n / 2).map(|e| (e - 1) / 2).collect(),
        }
    }

    /// `N/2`.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.order.len()
    }

    /// The real polynomial with these slots, before scaling; missing slots are zero.
    fn embed(&self, values: &[Complex64]) -> Vec<f64> {
        let n = self.twist.len();
        let mut buffer = vec![Complex64::ZERO; n];
        for (&k, &z) in self.order.iter().zip(values) {
            buffer[k] = z;
            buffer[n - 1 - k] = z.conj();
        }
        self.forward.process(&mut buffer);
        buffer
            .iter()
            .zip(&self.twist)
            .map(|(x, w)| (x * w.conj()).re / n as f64)
            .collect()
    }

    /// The slots of a real polynomial.
    fn project(&self, coefficients: &[f64]) -> Vec<Complex64> {
        let mut buffer: Vec<Complex64> = coefficients
            .iter()
            .zip(&self.twist)
            .map(|(m, w)| w * m)
            .collect();
        self.inverse.process(&mut buffer);
        self.order.iter().map(|&k| buffer[k]).collect()
    }

    /// Encodes up to `N/2` complex numbers; the rest is zero.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::NoSuchLevel`], [`Error::NotFinite`],
    /// [`Error::ValueTooLarge`] where a scaled coefficient exceeds half the modulus or `2^120`.
    pub fn encode(
        &self,
        values: &[Complex64],
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext, Error> {
        let op = "encode slots";
        if values.len() > self.slots() {
            let (got, limit) = (values.len(), self.slots());
            return Err(Error::TooManyValues { op, got, limit });
        }
        if let Some(index) = values.iter().position(|z| !z.is_finite()) {
            return Err(Error::NotFinite { op, index });
        }
        let mut poly = Poly::<Coeff>::zero(self.parameters.ring(), level.0)?;
        let half = self.parameters.log2_q(level.0) - 1.0;
        let limit_bits = (half as u32).min(LARGEST_BITS);
        let limit = half.min(f64::from(LARGEST_BITS)).exp2();
        let moduli = &self.parameters.moduli()[..=level.0];
        for (k, x) in self.embed(values).into_iter().enumerate() {
            let rounded = (x * scale.value()).round();
            // an overflow of the transform may leave NaN
            if rounded.is_nan() || rounded.abs() >= limit {
                return Err(Error::ValueTooLarge {
                    op,
                    index: k,
                    limit_bits,
                });
            }
            for (i, q) in moduli.iter().enumerate() {
                poly.row_mut(i)[k] = q.reduce_i128(rounded as i128);
            }
        }
        Ok(Plaintext {
            parameters: self.parameters.clone(),
            scale,
            poly: poly.into_eval(),
        })
    }

    /// Encodes up to `N/2` real numbers.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_real(
        &self,
        values: &[f64],
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext, Error> {
        let values: Vec<Complex64> = values.iter().map(|&x| x.into()).collect();
        self.encode(&values, level, scale)
    }

    /// All `N/2` slots.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<Complex64>, Error> {
        if plaintext.parameters != self.parameters {
            return Err(Error::ForeignParameters { op: "decode slots" });
        }
        let (level, scale) = (plaintext.level().0, plaintext.scale.value());
        let poly = plaintext.poly.clone().into_coeff();
        let basis = self.parameters.ring().basis();
        let mut residues = vec![0; level + 1];
        let coefficient = |k: usize| {
            for (i, residue) in residues.iter_mut().enumerate() {
                *residue = poly.row(i)[k];
            }
            basis.centred_i128(level, &residues).map_or_else(
                || basis.centred(level, &residues).to_f64().unwrap_or(f64::NAN),
                |x| x as f64,
            ) / scale
        };
        let coefficients: Vec<f64> = (0..self.parameters.degree()).map(coefficient).collect();
        Ok(self.project(&coefficients))
    }

    /// The real parts of all slots.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_real(&self, plaintext: &Plaintext) -> Result<Vec<f64>, Error> {
        Ok(self.decode(plaintext)?.into_iter().map(|z| z.re).collect())
    }
}

#[cfg(test)]
mod tests {
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
            let fast = encoder.embed(values);
            let slow = reference::coefficients(values);
            prop_assert!(fast.iter().zip(&slow).all(|(a, b)| (a - b).abs() < 1e-12));
            let back = encoder.project(&fast);
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
}
