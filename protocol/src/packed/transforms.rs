//! The operations of a step of this engine, in the units of the others.
//!
//! [`super::estimate`] counts ciphertexts and products of every layer and phase; here they become a
//! [`StepCounts`], so that one table can hold all engines. There is no key in this engine with which a server could
//! relinearise or rotate: both counts are zero by construction.
//!
//! Transforms at the server, from the definitions of `sphinx_he::exact`: an upload arrives in evaluation form (none); a
//! weight polynomial is written in coefficients and transformed once per prime; a result leaves in
//! coefficients, one inverse transform per prime and polynomial, whether the last prime is divided out
//! or not.
//!
//! ```
//! use sphinx_nn::{ImageShape, architectures};
//! use sphinx_protocol::model::PublicModel;
//! use sphinx_protocol::packed::transforms::step_counts;
//! use sphinx_protocol::plan::{Limits, Plan, PlanChoices, PlanLiteral};
//!
//! let input = ImageShape { channels: 1, height: 28, width: 28 };
//! let plan = Plan::new(&PlanLiteral::design(&PlanChoices {
//!     architecture: architectures::by_name("linear", input, 10).unwrap(),
//!     capacity: 64, clip_bound: 1.0, learning_rate: 1.0, momentum: 0.0,
//!     divisor: 50.0, init_seed: 1, tickets: 1,
//! })?, &Limits::default())?;
//! let weights = PublicModel::initial(plan.grid()).snapshot();
//! let counts = step_counts(&plan, &plan.tightness(&weights));
//! assert_eq!((counts.relinearisations, counts.rotations), (0, 0));
//! assert!(counts.transforms > 0);
//! # Ok::<(), sphinx_protocol::Error>(())
//! ```

use super::Upload;
use super::estimate::{PhaseCounts, counts};
use crate::plan::{Plan, Tightness};
use crate::work::StepCounts;

/// The operations of one step with weights of this tightness, the biases' backup included.
#[must_use]
pub fn step_counts(plan: &Plan, tightness: &[Tightness]) -> StepCounts {
    let mut all = StepCounts {
        uploads: plan.bias_parts() as u64,
        ..StepCounts::default()
    };
    for phase in counts(plan, tightness) {
        all += of_phase(&phase);
    }
    all
}

fn of_phase(phase: &PhaseCounts) -> StepCounts {
    let [products, weights, downloads] =
        [phase.products, phase.weights, phase.downloads].map(|count| count as u64);
    let primes = phase.level as u64 + 1;
    let gradient = phase.upload == Upload::ClippedGradient;
    let (plain_products, products, parts) = match gradient {
        true => (0, products, 3),
        false => (products, 0, 2),
    };
    StepCounts {
        plain_products,
        products,
        rescales: if phase.level > 0 { downloads } else { 0 },
        relinearisations: 0,
        rotations: 0,
        transforms: weights * primes + downloads * parts * primes,
        uploads: phase.uploads as u64,
        downloads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::tests::plan;

    /// Two dense layers in tiles small enough to count by hand: see the layouts.
    #[test]
    fn a_step_is_counted_by_hand() {
        let plan = plan();
        for short in [false, true] {
            let tightness = Tightness {
                forward: short,
                backward: short,
            };
            let all = step_counts(&plan, &[tightness; 2]);
            let (mut by_hand, mut rows) = (StepCounts::default(), 0);
            for (layer, layout) in plan.layouts().iter().enumerate() {
                let (inputs, outputs) = (layout.input_tiles() as u64, layout.output_tiles() as u64);
                let (chunks, pairs) = (layout.chunks() as u64, inputs * outputs);
                // forward, at both primes: weights once, a result per output tile and chunk
                rows += 2 * pairs + 2 * 2 * outputs * chunks;
                by_hand.rescales += outputs * chunks;
                // gradient: three polynomials for every pair of tiles, summed over the chunks
                rows += 2 * 3 * pairs;
                by_hand.rescales += pairs;
                by_hand.products += pairs * chunks;
                by_hand.plain_products += pairs * chunks;
                by_hand.uploads += (inputs + outputs) * chunks;
                by_hand.downloads += outputs * chunks + pairs;
                if layer == 0 {
                    continue;
                }
                // backward: at the prime that short weights need, or at both
                let level = plan.passage(Upload::OutputGradient, layer, tightness).level;
                rows += (level as u64 + 1) * (pairs + 2 * inputs * chunks);
                by_hand.rescales += if level > 0 { inputs * chunks } else { 0 };
                by_hand.plain_products += pairs * chunks;
                by_hand.uploads += outputs * chunks;
                by_hand.downloads += inputs * chunks;
            }
            by_hand.uploads += 1; // 24 biases fit one ciphertext
            by_hand.transforms = rows;
            assert_eq!(all, by_hand);
        }
    }
}
