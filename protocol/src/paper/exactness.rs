//! The inequality under which every slot decodes to the right integer.
//!
//! A slot is the value of a polynomial at a root of unity `zeta`, so an error polynomial of variance `v` per
//! coefficient puts a real error of variance `N v / 2` on every slot. With `S_x`, `S_d` the scales, `F` the
//! public factor of plain products and `q` the dropped prime, in slots:
//!
//! - a fresh upload: `v = sigma^2 + 1/12`, the encryption error and the rounding of the encoding;
//! - `W x`: `F^2 (||W_i||^2 + updates) N v / 2`, where every update of `[b_i]` adds a fresh error;
//! - `sum d x`: `(S_x^2 ||x||^2 + S_d^2 ||d||^2) N v / 2 + T (N v)^2 / 2`;
//! - the division by `q`: all of the above over `q^2`, plus
//!   `N/24 (1 + |s(zeta)|^2 [+ |s(zeta)|^4])`, where `|s(zeta)|^2` is that of the **worst slot**. The
//!   client draws its key until no slot exceeds [`SLOT_SLACK`] times the mean `2N/3`
//!   (`N/2 exp(-10)`: one key in ten is refused).
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

use super::plan::{Checked, LOG2_SCALE_D, LOG2_SCALE_X};
use crate::grid::SAMPLE_LIMIT;
use crate::model::LARGEST_STEP;
use crate::plan::{Exactness, LOG2_COEFFICIENTS, Phase, backward_bound, forward_bound};

/// Largest `|s(zeta)|^2` that the client accepts, over its mean `2N/3`.
pub(super) const SLOT_SLACK: f64 = 10.0;
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
    for layer in 0..plan.grid.formats().len() {
        rows.push(row(
            layer,
            Phase::Forward,
            &plain(plan, layer, Phase::Forward),
        ));
        if layer > 0 {
            rows.push(row(
                layer,
                Phase::Backward,
                &plain(plan, layer, Phase::Backward),
            ));
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

/// `W x + b` or `W^T d`.
fn plain(plan: &Checked, layer: usize, phase: Phase) -> Margin {
    let (shape, format) = (
        plan.grid.network().linears()[layer],
        plan.grid.formats()[layer],
    );
    let (fan_in, fan_out) = shape.fans();
    let (fan, largest, log2_scale, updates) = match phase {
        Phase::Forward => {
            let updates = LARGEST_STEP as f64 + 1.0;
            (
                fan_in,
                forward_bound(&shape, &format),
                LOG2_SCALE_X,
                updates,
            )
        }
        _ => (fan_out, backward_bound(&shape, &format), LOG2_SCALE_D, 0.0),
    };
    let factor = super::plan::factor(plan, log2_scale) as f64;
    let weights = fan as f64 * f64::from(format.w_limit).powi(2);
    let track = Track {
        variance: factor * factor * (weights + updates) * fresh(plan),
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
