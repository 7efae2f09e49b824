//! Between slots and polynomials, by fast Fourier transforms.
//!
//! Slot `j` is the value at `zeta^(5^j)`, `zeta = exp(i pi / N)`. Every power of 5 is 1 modulo 4, and
//! `zeta^(N/2) = i`, so with `u_k = m_k + i m_(k + N/2)` the slot at `zeta^(4t + 1)` is
//! `sum_k (u_k zeta^k) w^(t k)`, `w = exp(2 i pi / (N/2))`: one complex transform of length `N/2`
//! and a twist, between slots in the order of `t` and coefficients. The quadratic twin is
//! [`super::reference`].
//!
//! Fewer slots: with `n` slots, `n` a power of two, the polynomial is one in `Y^(N / 2n)`, which
//! repeats the `n` values `N / 2n` times over all slots. Rotations then turn the `n` values in a
//! circle.

mod coefficients;

use std::f64::consts::PI;
use std::sync::{Arc, OnceLock};

use rustfft::{Fft, FftPlanner};

use super::{Complex64, Level, Plaintext, Scale};
use crate::error::Error;
use crate::ring::{Aligned, Eval, Poly};
use crate::rlwe::Parameters;
use crate::simd::{Kernels, parts, parts_mut};
use coefficients::Reconstruction;

/// The transforms of one number of slots.
#[derive(Clone)]
struct Plan {
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    /// `zeta^k`, `k` below the number of slots.
    twist: Vec<Complex64>,
    /// Where slot `j` sits in the transform: `(5^j mod 4n - 1) / 4`.
    order: Vec<u32>,
}

impl Plan {
    fn new(slots: usize) -> Self {
        let mut planner = FftPlanner::new();
        let powers = std::iter::successors(Some(1usize), |e| Some(5 * e % (4 * slots)));
        let angle = |k: usize| PI * k as f64 / (2 * slots) as f64;
        Self {
            forward: planner.plan_fft_forward(slots),
            inverse: planner.plan_fft_inverse(slots),
            twist: (0..slots).map(|k| Complex64::cis(angle(k))).collect(),
            order: powers.take(slots).map(|e| (e / 4) as u32).collect(),
        }
    }

    fn scratch(&self) -> usize {
        let (f, i) = (&self.forward, &self.inverse);
        f.get_inplace_scratch_len().max(i.get_inplace_scratch_len())
    }
}

/// Memory that an [`Encoder`] works in; made once. May hold plaintexts: erased when dropped.
pub struct EncoderScratch {
    values: Vec<Complex64>,
    transform: Vec<Complex64>,
    coefficients: Vec<f64>,
    integers: Vec<i64>,
    /// The rows of a plaintext that is decoded, and four more.
    rows: Aligned,
}

impl std::fmt::Debug for EncoderScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncoderScratch").finish_non_exhaustive()
    }
}

impl Drop for EncoderScratch {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.values.fill(Complex64::ZERO);
        self.transform.fill(Complex64::ZERO);
        std::hint::black_box((&self.values, &self.transform));
        self.coefficients.zeroize();
        self.integers.zeroize();
        self.rows.zeroize();
    }
}

impl zeroize::ZeroizeOnDrop for EncoderScratch {}

/// Encodes and decodes; made once per parameter set.
///
/// Encoding rounds the coefficients, which moves a slot by about `sqrt(N / 12) / scale` (Cheon,
/// Kim, Kim and Song, ePrint 2016/421, lemma 1, bounds it).
#[derive(Clone)]
pub struct Encoder {
    parameters: Parameters,
    /// Entry `k` serves `2^k` slots.
    plans: Vec<OnceLock<Plan>>,
    reconstruction: Arc<Reconstruction>,
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
        let plans = (0..parameters.log_n()).map(|_| OnceLock::new()).collect();
        Self {
            parameters: parameters.clone(),
            plans,
            reconstruction: Arc::new(Reconstruction::new(parameters)),
        }
    }

    /// `N/2`.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.parameters.degree() / 2
    }

    /// Memory for the operations that do not allocate.
    #[must_use]
    pub fn scratch(&self) -> EncoderScratch {
        let (n, level) = (self.parameters.degree(), self.parameters.max_level());
        let zeros = |count| vec![Complex64::ZERO; count];
        EncoderScratch {
            values: zeros(n / 2),
            transform: zeros(self.plan(n / 2).scratch()),
            coefficients: vec![0.0; n],
            integers: vec![0; n],
            rows: Aligned::zeros((level + 1 + coefficients::SPARE_ROWS) * n),
        }
    }

    /// The plan for `slots`, a power of two up to `N/2`.
    fn plan(&self, slots: usize) -> &Plan {
        self.plans[slots.trailing_zeros() as usize].get_or_init(|| Plan::new(slots))
    }

    fn check_slots(&self, op: &'static str, slots: usize) -> Result<(), Error> {
        if slots.is_power_of_two() && slots <= self.slots() {
            Ok(())
        } else {
            Err(Error::BadSlotCount {
                op,
                got: slots,
                max: self.slots(),
            })
        }
    }

    /// The real polynomial with these slots times `scale`, before rounding: `2 slots`
    /// coefficients. Missing slots are zero.
    fn embed(
        &self,
        values: impl Iterator<Item = Complex64>,
        slots: usize,
        scale: f64,
        scratch: &mut EncoderScratch,
    ) {
        let plan = self.plan(slots);
        let buffer = &mut scratch.values[..slots];
        buffer.fill(Complex64::ZERO);
        for (&k, z) in plan.order.iter().zip(values) {
            buffer[k as usize] = z;
        }
        scratch
            .transform
            .resize(plan.scratch().max(scratch.transform.len()), Complex64::ZERO);
        plan.forward
            .process_with_scratch(buffer, &mut scratch.transform);
        let factor = scale / slots as f64;
        let (real, imaginary) = scratch.coefficients[..2 * slots].split_at_mut(slots);
        Kernels::active().untwist(real, imaginary, parts(buffer), parts(&plan.twist), factor);
    }

    /// The slots of the real polynomial of `2 slots` coefficients in the scratch, times `factor`,
    /// into its values, in the order of the transform.
    fn project(&self, slots: usize, factor: f64, scratch: &mut EncoderScratch) {
        let plan = self.plan(slots);
        let (real, imaginary) = scratch.coefficients[..2 * slots].split_at(slots);
        let buffer = &mut scratch.values[..slots];
        Kernels::active().twist(
            parts_mut(buffer),
            real,
            imaginary,
            parts(&plan.twist),
            factor,
        );
        scratch
            .transform
            .resize(plan.scratch().max(scratch.transform.len()), Complex64::ZERO);
        plan.inverse
            .process_with_scratch(buffer, &mut scratch.transform);
    }

    /// Encodes up to `slots` complex numbers, `slots` a power of two up to `N/2`, into `out`: the
    /// rest is zero. Allocates nothing where `out` has the right level.
    ///
    /// # Errors
    /// [`Error::BadSlotCount`], [`Error::TooManyValues`], [`Error::NoSuchLevel`],
    /// [`Error::NotFinite`], [`Error::ValueTooLarge`] where a scaled coefficient exceeds half the
    /// modulus or `2^120`; what `out` holds is undefined then.
    pub fn encode_into(
        &self,
        out: &mut Plaintext,
        values: &[Complex64],
        slots: usize,
        level: Level,
        scale: Scale,
        scratch: &mut EncoderScratch,
    ) -> Result<(), Error> {
        let op = "encode slots";
        self.check_slots(op, slots)?;
        if values.len() > slots {
            let (got, limit) = (values.len(), slots);
            return Err(Error::TooManyValues { op, got, limit });
        }
        if out.parameters != self.parameters || out.level() != level {
            let poly = Poly::<Eval>::zero(self.parameters.ring(), level.0)?;
            out.replace(&self.parameters, poly);
        }
        (out.scale, out.slots) = (scale, slots);
        self.embed(values.iter().copied(), slots, scale.value(), scratch);
        let coefficients = &scratch.coefficients[..2 * slots];
        let integers = &mut scratch.integers[..2 * slots];
        coefficients::write_rows(op, &mut out.poly, coefficients, integers).map_err(|refused| {
            // what is not finite leaves no coefficient that is
            let index = values.iter().position(|z| !z.is_finite());
            index.map_or(refused, |index| Error::NotFinite { op, index })
        })
    }

    /// Encodes up to `N/2` complex numbers; the rest is zero.
    ///
    /// # Errors
    /// As [`Self::encode_into`].
    pub fn encode(
        &self,
        values: &[Complex64],
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext, Error> {
        self.encode_sparse(values, self.slots(), level, scale)
    }

    /// Encodes up to `slots` complex numbers, repeated over all slots.
    ///
    /// # Errors
    /// As [`Self::encode_into`].
    pub fn encode_sparse(
        &self,
        values: &[Complex64],
        slots: usize,
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext, Error> {
        let mut out = Plaintext {
            parameters: self.parameters.clone(),
            scale,
            slots,
            poly: Poly::zero(self.parameters.ring(), level.0)?,
        };
        self.encode_into(&mut out, values, slots, level, scale, &mut self.scratch())?;
        Ok(out)
    }

    /// Encodes up to `N/2` real numbers.
    ///
    /// # Errors
    /// As [`Self::encode_into`].
    pub fn encode_real(
        &self,
        values: &[f64],
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext, Error> {
        let values: Vec<Complex64> = values.iter().map(|&x| x.into()).collect();
        self.encode(&values, level, scale)
    }

    /// The slots of a plaintext, as many as it says it has, into `out`. Allocates nothing.
    ///
    /// Coefficients are rebuilt from mixed radix digits of their centred representatives, to a
    /// relative error below `2^-45`; where they are small against the modulus, from the first two
    /// primes, with the others only compared.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::TooManyValues`] where `out` is shorter than the
    /// number of slots.
    pub fn decode_into(
        &self,
        out: &mut [Complex64],
        plaintext: &Plaintext,
        scratch: &mut EncoderScratch,
    ) -> Result<(), Error> {
        let op = "decode slots";
        if plaintext.parameters != self.parameters {
            return Err(Error::ForeignParameters { op });
        }
        let slots = plaintext.slots;
        let Some(out) = out.get_mut(..slots) else {
            let (got, limit) = (slots, out.len());
            return Err(Error::TooManyValues { op, got, limit });
        };
        let coefficients = &mut scratch.coefficients[..2 * slots];
        self.reconstruction
            .rebuild(&plaintext.poly, coefficients, &mut scratch.rows);
        self.project(slots, 1.0 / plaintext.scale.value(), scratch);
        for (&k, z) in self.plan(slots).order.iter().zip(out) {
            *z = scratch.values[k as usize];
        }
        Ok(())
    }

    /// The slots of a plaintext, as many as it says it has.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<Complex64>, Error> {
        let mut out = vec![Complex64::ZERO; plaintext.slots];
        self.decode_into(&mut out, plaintext, &mut self.scratch())?;
        Ok(out)
    }

    /// The real parts of the slots.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_real(&self, plaintext: &Plaintext) -> Result<Vec<f64>, Error> {
        Ok(self.decode(plaintext)?.into_iter().map(|z| z.re).collect())
    }
}

#[cfg(test)]
mod tests;
