//! The inequality under which every slot decodes to the right integer.
//!
//! A slot is the value of a polynomial at a root of unity `zeta`, so an error polynomial of variance `v` per
//! coefficient puts a real error of variance `N v / 2` on every slot. With `S_x`, `S_d` the scales, `F` the
//! public factor of plain products and `q` the dropped prime, in slots:
//!
//! - a fresh upload: `v = sigma^2 + 1/12`, the encryption error and the rounding of the encoding;
//! - `W x`: `F^2 (||W_i||^2 + updates) N v / 2`, where every update of `[b_i]` by the default rule adds a fresh error;
//! - `sum d x`: `(S_x^2 ||x||^2 + S_d^2 ||d||^2) N v / 2 + T (N v)^2 / 2`;
//! - the division by `q`: all of the above over `q^2`, plus
//!   `N/24 (1 + |s(zeta)|^2 [+ |s(zeta)|^4])`, where `|s(zeta)|^2` is that of the **worst slot**. The
//!   client draws its key until no slot exceeds [`SLOT_SLACK`] times the mean `2N/3`
//!   (`N/2 exp(-10)`: one key in ten is refused).
//!
//! By the published rule `[b]` takes in every step an error of its own, in a slot at the scale of `W x` before the division
//! of variance (per step and layer, `K` the multiplier, `n = N/2` slots)
//!
//! - `K^2 terms n N v / 2`, the encryption errors of all `[d]` of a channel, summed over the slots: sums over all
//!   slots of a random polynomial are `n` times a coefficient, so that no slot is worse than another;
//! - `w N/2 (N sigma^2 / 12) ((q0 / p)^2 + (q1 / p)^2)`, the rotations: digits of the size of the primes times the errors of
//!   the key, over the special prime `p`. The rotation by `2^i` is followed by those by `2^(i+1), ...`, which sum its
//!   error over `n_i = n / 2^(i+1)` slots, so `w` is about `n - 1`; the errors of a key are drawn once and for all, and
//!   the square of their sum over `n_i` slots is at most `n_i + sqrt(2 n_i t) + t` of its mean but for
//!   `exp(-t)` (Laurent and Massart, Annals of Statistics 28, 2000, lemma 1), with `t = 100`;
//! - `(n - 1) N/24 (1 + |s(zeta)|^2)`, the rounding of the divisions by `p`.
//!
//! The rotations come after the product with `K`, so that their error is not multiplied by it.
//! [`most_updates`] is the largest number of steps for which all of it stays within the bound.
//!
//! A slot fails where the error exceeds half a step; sums of thousands of terms are taken as
//! Gaussian. Nothing wraps around while the largest scaled slot and 15.3 standard deviations stay below half the
//! modulus: a coefficient is at most as large as the largest slot. Rounding errors of the
//! double-precision transform are below 2^-49 of the largest slot, 2^-2 of an integer step times 2^-24,
//! and are left out.
//!
//! Tested by the errors of slots before they are rounded, see `tests.rs`.

use sphinx_he::exact::budget::Margin;
use sphinx_nn::network::LinearKind;

use sphinx_he::rlwe::NoiseModel;

use super::plan::{Checked, LOG2_SCALE_D, LOG2_SCALE_X, Published};
use crate::format::LayerFormat;
use crate::grid::SAMPLE_LIMIT;
use crate::model::LARGEST_STEP;
use crate::plan::{Exactness, LOG2_COEFFICIENTS, Phase, backward_bound, forward_bound};

/// Largest `|s(zeta)|^2` that the client accepts, over its mean `2N/3`.
pub(super) const SLOT_SLACK: f64 = 10.0;
/// `exp(-t)`: how seldom the errors of keys of rotations are larger than is assumed.
const KEY_TAIL: f64 = 100.0;
/// As in [`sphinx_he::exact::budget`]: failure below `2^-128` over `2^40` slots.
const TAIL: f64 = 15.31;

/// A result on its way down: variance of the slot error and size of one integer step.
struct Track {
    variance: f64,
    step: f64,
    largest: f64,
    headroom: f64,
}

impl Track {
    fn measure(&mut self, log2_q: f64) {
        let largest = self.largest * self.step + TAIL * self.variance.sqrt();
        self.headroom = self.headroom.min(log2_q - 1.0 - largest.log2());
    }

    fn down(mut self, plan: &Checked, degree: i32) -> Margin {
        let parameters = &plan.parameters;
        self.measure(parameters.log2_q(1));
        let q = (parameters.log2_q(1) - parameters.log2_q(0)).exp2();
        let n = parameters.degree() as f64;
        let slot = largest_slot(parameters.degree());
        let rounding: f64 = (0..=degree).map(|power| slot.powi(power)).sum();
        self.variance = self.variance / (q * q) + n / 24.0 * rounding;
        self.step /= q;
        self.measure(parameters.log2_q(0));
        Margin {
            std_dev: self.variance.sqrt() / self.step,
            log2_headroom: self.headroom,
            step: self.step,
        }
    }
}

/// The largest `|s(zeta)|^2` of a key in use.
pub(super) fn largest_slot(degree: usize) -> f64 {
    SLOT_SLACK * 2.0 * degree as f64 / 3.0
}

/// Variance in a slot of a fresh upload.
fn fresh(plan: &Checked) -> f64 {
    let parameters = &plan.parameters;
    let coefficient = parameters.error_std_dev().powi(2) + 1.0 / 12.0;
    parameters.degree() as f64 * coefficient / 2.0
}

/// All products of all layers.
pub(super) fn analyse(plan: &Checked) -> Vec<Exactness> {
    let mut rows = Vec::new();
    let steps = plan.published.as_ref().map_or(0, |p| p.steps);
    for layer in 0..plan.grid.formats().len() {
        rows.push(row(layer, Phase::Forward, &forward(plan, layer, steps)));
        if layer > 0 {
            rows.push(row(layer, Phase::Backward, &backward(plan, layer)));
        }
        rows.push(row(layer, Phase::Gradient, &gradient(plan, layer)));
    }
    rows
}

fn row(layer: usize, phase: Phase, margin: &Margin) -> Exactness {
    Exactness {
        layer,
        phase,
        std_dev: margin.std_dev,
        log2_headroom: margin.log2_headroom,
        log2_failure: margin.log2_failure(LOG2_COEFFICIENTS.exp2()),
    }
}

/// The largest number of steps, up to [`LARGEST_STEP`], after which all forward products still decode with a failure
/// below `2^target`; zero without the published rule.
pub(super) fn most_updates(plan: &Checked, target: f64) -> u64 {
    if plan.published.is_none() {
        return 0;
    }
    let holds = |steps: u64| {
        let layers = 0..plan.grid.formats().len();
        let mut rows = layers.map(|at| row(at, Phase::Forward, &forward(plan, at, steps)));
        rows.all(|row| row.holds(target))
    };
    let (mut held, mut fails) = (0, LARGEST_STEP + 1);
    while fails - held > 1 {
        let middle = held + (fails - held) / 2;
        match holds(middle) {
            true => held = middle,
            false => fails = middle,
        }
    }
    held
}

/// Variance in a slot that one step by the published rule adds to `[b]`.
pub(super) fn bias_step(plan: &Checked, published: &Published, layer: usize) -> f64 {
    let parameters = &plan.parameters;
    let shape = plan.grid.network().linears()[layer];
    let biases = plan.grid.network().layout()[layer].biases.len().max(1);
    let n = parameters.degree() as f64;
    let slots = n / 2.0;
    let blocks = plan.grid.capacity().div_ceil(parameters.degree() / 2);
    let terms = (shape.outputs / biases * blocks) as f64;
    let multiplier = (published.multipliers[layer] << plan.bias_bits()) as f64;
    let uploads = multiplier * multiplier * terms * slots * fresh(plan);
    let doublings = 0..(parameters.degree() / 2).trailing_zeros();
    let summed = doublings.map(|i| slots / f64::from(i + 1).exp2());
    let key = |n: f64| n + (2.0 * n * KEY_TAIL).sqrt() + KEY_TAIL;
    let digits = NoiseModel::new(parameters).digit_variance(1, &super::biases::GROUPS);
    let rotations = summed.map(key).sum::<f64>() * slots * digits;
    let rounding = (slots - 1.0) * n / 24.0 * (1.0 + largest_slot(parameters.degree()));
    uploads + rotations + rounding
}

/// `W x + b` after so many steps by the published rule, or as many as there may be by the default rule.
fn forward(plan: &Checked, layer: usize, steps: u64) -> Margin {
    let (shape, format) = (
        plan.grid.network().linears()[layer],
        plan.grid.formats()[layer],
    );
    let (fan_in, _) = shape.fans();
    let biases = match &plan.published {
        None => {
            let factor = super::plan::factor(plan, Phase::Forward) as f64;
            factor * factor * (LARGEST_STEP as f64 + 1.0) * fresh(plan)
        }
        Some(published) => fresh(plan) + steps as f64 * bias_step(plan, published, layer),
    };
    let largest = forward_bound(&shape, &format) + 1.0;
    plain(plan, Phase::Forward, (fan_in, largest), &format, biases)
}

/// `W^T d`.
fn backward(plan: &Checked, layer: usize) -> Margin {
    let (shape, format) = (
        plan.grid.network().linears()[layer],
        plan.grid.formats()[layer],
    );
    let (_, fan_out) = shape.fans();
    let largest = backward_bound(&shape, &format);
    plain(plan, Phase::Backward, (fan_out, largest), &format, 0.0)
}

/// A product with plain weights, and what else stands in its slots.
fn plain(
    plan: &Checked,
    phase: Phase,
    (fan, largest): (usize, f64),
    format: &LayerFormat,
    more: f64,
) -> Margin {
    let log2_scale = match phase {
        Phase::Forward => LOG2_SCALE_X,
        _ => LOG2_SCALE_D,
    };
    let factor = super::plan::factor(plan, phase) as f64;
    let weights = fan as f64 * f64::from(format.w_limit).powi(2);
    let track = Track {
        variance: factor * factor * weights * fresh(plan) + more,
        step: f64::from(log2_scale).exp2() * factor,
        largest,
        headroom: f64::INFINITY,
    };
    track.down(plan, 1)
}

/// `sum d x` of one sample.
fn gradient(plan: &Checked, layer: usize) -> Margin {
    let (shape, format) = (
        plan.grid.network().linears()[layer],
        plan.grid.formats()[layer],
    );
    let terms = match shape.kind {
        LinearKind::Dense => 1.0,
        LinearKind::Conv(conv) => conv.positions() as f64,
    };
    let (x, d) = (f64::from(format.x_limit), f64::from(format.d_limit));
    let channel = f64::from(crate::grid::channel_limit(format.x_limit));
    let x_norm = terms * x * x;
    let d_norm = (terms * d * d).min(channel * d);
    let [sx, sd] = [LOG2_SCALE_X, LOG2_SCALE_D].map(|log2| f64::from(log2).exp2());
    let fresh = fresh(plan);
    let track = Track {
        variance: (sx * sx * x_norm + sd * sd * d_norm) * fresh + 2.0 * terms * fresh * fresh,
        step: sx * sd,
        largest: (terms * x * d).min(f64::from(SAMPLE_LIMIT)),
        headroom: f64::INFINITY,
    };
    track.down(plan, 2)
}
