//! Biases by the published rule at the server: `[b_i] <- [b_i] - K sum [d_i]`, over positions and slots.
//!
//! Fresh `[d_i]` of all positions and blocks are added up, multiplied by the public integer `K`, and turned and added
//! to themselves `log2` of the slots times; every slot then holds the full sum, and unused slots, which the client
//! filled with zeros, add nothing. No level is used up. Rotations by powers of two share no operand, so nothing is
//! hoisted: four at once, hoisted, take as many transforms as two after each other (6 for the digits and 6 for each
//! division) and three keys instead of two.
//!
//! The client sends the keys once, before its first biases; they must be those of exactly these rotations, at the
//! highest level, in digits of one prime each, as the [bound on errors](super::exactness) assumes.
//!
//! Source: as [`super`]; the sum over slots is the usual one, see [`sphinx_he::ckks::circuit`].

use std::time::Instant;

use rand_core::CryptoRng;
use rayon::prelude::*;
use sphinx_he::ckks::circuit::{sum_slots, sum_steps};
use sphinx_he::ckks::{Ciphertext, Evaluator, Scale};
use sphinx_he::rlwe::{GaloisKeys, KeyGenerator, SecretKey, Workspace, rotation_exponent};

use super::server::check_scale;
use super::store::{Part, Store};
use super::{PaperPlan, TOP};
use crate::error::Error;
use crate::message::{Sealed, SealedKeys};
use crate::work::{Kind, StepCounts, Tally, key_switch_transforms};

/// Primes in a digit of a key.
pub(super) const GROUPS: [usize; 2] = [1, 1];
/// Uploads that are read before they are expanded and added up.
const BATCH: usize = 4096;

/// The keys as the client makes them.
pub(super) fn keys<R: CryptoRng + ?Sized>(
    secret: &SecretKey,
    plan: &PaperPlan,
    rng: &mut R,
) -> Result<SealedKeys, Error> {
    let generator = KeyGenerator::with_groups(secret, &GROUPS)?;
    let keys = generator.rotations(&sum_steps(1, plan.slots()), rng)?;
    Ok(SealedKeys::rotations(&keys))
}

/// What the sums of one step count, all layers together.
pub(super) fn counts(plan: &PaperPlan) -> StepCounts {
    let biases = plan.grid().bias_count() as u64;
    let rotations = biases * u64::from(plan.slots().trailing_zeros());
    StepCounts {
        plain_products: biases,
        rotations,
        transforms: rotations * key_switch_transforms(1, 1),
        ..StepCounts::default()
    }
}

/// The server's side: keys that were checked.
#[derive(Debug)]
pub(super) struct Summer {
    keys: GaloisKeys,
}

impl Summer {
    /// Takes the client's keys.
    pub(super) fn open(plan: &PaperPlan, keys: &SealedKeys) -> Result<Self, Error> {
        let keys = keys.open_rotations(plan.parameters())?;
        let steps = sum_steps(1, plan.slots());
        let degree = plan.parameters().degree();
        let mut expected: Vec<u64> = steps
            .iter()
            .map(|&steps| rotation_exponent(degree, steps))
            .collect();
        expected.sort_unstable();
        let got: Vec<u64> = keys.exponents().collect();
        let fits = |&exponent: &u64| {
            let key = keys.get(exponent).map(|key| key.switching());
            key.is_some_and(|key| key.level() == TOP.0 && key.groups() == GROUPS)
        };
        if got != expected || !got.iter().all(fits) {
            return Err(Error::RotationKeys {
                expected: format!(
                    "{} rotations by powers of two at {TOP:?}, digits of {GROUPS:?} primes",
                    expected.len()
                ),
                got: format!("{} keys", got.len()),
            });
        }
        Ok(Self { keys })
    }

    /// What a layer's biases change by, from the output gradients of all blocks.
    pub(super) fn changes(
        &self,
        plan: &PaperPlan,
        evaluator: &Evaluator,
        store: &mut Store,
        layer: usize,
        tally: &Tally,
    ) -> Result<Vec<Ciphertext>, Error> {
        let channels = plan.network().layout()[layer].biases.len();
        let outputs = plan.network().linears()[layer].outputs;
        let terms = outputs / channels.max(1);
        let at_once = (BATCH / (terms * plan.blocks()).max(1)).max(rayon::current_num_threads());
        let mut changes = Vec::with_capacity(channels);
        for first in (0..channels).step_by(at_once) {
            let range = first..(first + at_once).min(channels);
            let mut uploads: Vec<Vec<Sealed>> = Vec::with_capacity(range.len());
            for channel in range {
                let places: Vec<u32> = (channel * terms..(channel + 1) * terms)
                    .map(|at| at as u32)
                    .collect();
                let mut all = Vec::with_capacity(terms * plan.blocks());
                for block in 0..plan.blocks() {
                    all.extend(store.read((Part::Outputs, layer, block), &places)?);
                }
                uploads.push(all);
            }
            let multiplier = plan.bias_multiplier(layer);
            let work = Work {
                plan,
                evaluator,
                keys: &self.keys,
                multiplier,
                tally,
            };
            let part: Vec<Ciphertext> = uploads
                .par_iter()
                .map_init(
                    || Workspace::new(plan.parameters()),
                    |workspace, uploads| work.change(uploads, workspace),
                )
                .collect::<Result<_, Error>>()?;
            changes.extend(part);
        }
        Ok(changes)
    }
}

/// The computation of one bias.
struct Work<'a> {
    plan: &'a PaperPlan,
    evaluator: &'a Evaluator,
    keys: &'a GaloisKeys,
    multiplier: i64,
    tally: &'a Tally,
}

impl Work<'_> {
    fn change(&self, uploads: &[Sealed], workspace: &mut Workspace) -> Result<Ciphertext, Error> {
        let start = Instant::now();
        let mut sum: Option<Ciphertext> = None;
        for upload in uploads {
            let d = upload.open_slots(self.plan.parameters())?.expand();
            check_scale(&d, self.plan.gradient_scale())?;
            match &mut sum {
                Some(sum) => self.evaluator.add_assign(sum, &d)?,
                None => sum = Some(d),
            }
        }
        let sum = sum.ok_or_else(|| Error::Unexpected {
            expected: "an output gradient".into(),
            got: "none".into(),
        })?;
        let unit = Scale::power_of_two(self.plan.bias_unit() as u8);
        let factor = -(self.multiplier as f64) / unit.value();
        let scaled = self.evaluator.mul_scalar(&sum, factor, unit)?;
        self.tally.spend(Kind::Products, start.elapsed());
        let start = Instant::now();
        let slots = self.plan.slots();
        let summed = sum_slots(self.evaluator, &scaled, 1, slots, self.keys, workspace)?;
        let rotations = u64::from(slots.trailing_zeros());
        self.tally.add(&StepCounts {
            plain_products: 1,
            rotations,
            transforms: rotations * key_switch_transforms(1, 1),
            ..StepCounts::default()
        });
        self.tally.spend(Kind::Rotations, start.elapsed());
        Ok(summed)
    }
}
