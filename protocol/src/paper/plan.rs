//! Everything public about a run of the engine `paper`, checked at birth.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sphinx_he::ckks::Scale;
use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security};
use sphinx_nn::network::{LinearShape, Network};

use super::exactness;
use super::products::{BANK, Products};
use crate::error::Error;
use crate::model::{PublishedBiases, REFINED};
use crate::plan::{
    Clipping, Exactness, GridLiteral, GridPlan, LOG2_FAILURE, Limits, Phase, PlanChoices, digest,
    forward_bound,
};

/// log2 of the scale of layer inputs, and of `[b]` by the default rule.
pub(super) const LOG2_SCALE_X: u32 = 30;
/// log2 of the scale of output gradients.
pub(super) const LOG2_SCALE_D: u32 = 28;
/// log2 of the scale that `W x` and `W^T d` come down with, about.
const LOG2_SCALE_RESULT: u32 = 18;
/// The most bits that `W x + b` may come down with beyond that.
const LOG2_FINER: u32 = 8;

/// What people write down: unchecked, serialisable, sent by the client when it opens a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperLiteral {
    /// Network, grids, clip bound and update rule; samples are clipped.
    pub grid: GridLiteral,
    /// Homomorphic parameters.
    pub he: ParametersLiteral,
    /// For so many steps biases follow the published rule and their ciphertexts stay exact; without a number
    /// they are noised and sent by the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_biases: Option<u64>,
}

/// The shipped parameters: `N = 4096`, 2048 slots; `q0` of 49 bits, at which everything goes down, and `q1`
/// of 34 bits, dropped before: 83 of the 106 bits that 128-bit security allows.
///
/// A gradient comes down at scale `2^(30+28-34) = 2^24`, which the rounding of the worst slot needs, and with 24
/// bits of its own and a sign fills `q0`.
#[must_use]
pub fn standard_parameters() -> ParametersLiteral {
    ParametersLiteral {
        log_n: 12,
        log_q: vec![49, 34],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Classical128,
    }
}

/// The shipped parameters for the published rule of biases, the first that serves is taken.
///
/// The first are [those of the default rule](standard_parameters) with the 23 bits that 128-bit security leaves
/// for a special prime: 106 of 106. A rotation then costs an error of 2^32 per coefficient, the digits being up to 2^26
/// times the special prime, which the second prime and the finer scale of `[b]` take for thousands of steps. The second
/// are of twice the degree, where a special prime of 57 bits has room and rotations cost next to nothing: twice the time
/// and twice the bytes for as many steps as anybody needs. There a gradient comes down at `2^26`, since the
/// rounding of the worst slot is 2^1.5 times larger; hence 51 and 32 bits.
#[must_use]
pub fn published_parameters() -> [ParametersLiteral; 2] {
    let set = |log_n, log_q: [u32; 2], special| ParametersLiteral {
        log_n,
        log_q: log_q.to_vec(),
        log_p: vec![special],
        ..standard_parameters()
    };
    [set(12, [49, 34], 23), set(13, [51, 32], 57)]
}

impl PaperLiteral {
    /// Derives the grids for biases by the published rule, for `steps` steps; the first of
    /// [`published_parameters`] with which all of them are exact.
    ///
    /// # Errors
    /// As [`Self::design`], and what [`PaperPlan::new`] says of the last.
    pub fn design_published(choices: &PlanChoices, steps: u64) -> Result<Self, Error> {
        let mut refused = Error::TooManySteps {
            step: steps,
            limit: 0,
        };
        for he in published_parameters() {
            let literal = Self::design_with(choices, he)?.publishing_biases(steps);
            match PaperPlan::new(&literal, &Limits::default()) {
                Ok(_) => return Ok(literal),
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    /// The same with biases by the published rule, for `steps` steps.
    #[must_use]
    pub fn publishing_biases(self, steps: u64) -> Self {
        Self {
            published_biases: Some(steps),
            ..self
        }
    }

    /// Derives the grids; standard parameters.
    ///
    /// # Errors
    /// As [`GridLiteral::design`].
    pub fn design(choices: &PlanChoices) -> Result<Self, Error> {
        Self::design_with(choices, standard_parameters())
    }

    /// Derives the grids for other parameters (smaller ones exist only as `Toy`).
    ///
    /// # Errors
    /// As [`GridLiteral::design`].
    pub fn design_with(choices: &PlanChoices, he: ParametersLiteral) -> Result<Self, Error> {
        Ok(Self {
            grid: GridLiteral::design(choices)?.clipping_samples(),
            he,
            published_biases: None,
        })
    }
}

/// A checked plan. Cheap to clone; equal if and only if the literals are.
#[derive(Clone, Debug)]
pub struct PaperPlan(Arc<Checked>);

/// What a plan holds.
#[derive(Debug)]
pub(super) struct Checked {
    literal: PaperLiteral,
    pub(super) grid: GridPlan,
    pub(super) parameters: Parameters,
    /// log2 of the scale that `W x + b` comes down with, about.
    log2_forward: u32,
    pub(super) published: Option<Published>,
    exactness: Vec<Exactness>,
    digest: [u8; 32],
}

/// Biases by the published rule, checked.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// Steps for which the ciphertexts must stay exact.
    pub(super) steps: u64,
    /// The most for which they would.
    most: u64,
    /// What sums of output gradients are multiplied with, layer by layer.
    pub(super) multipliers: Vec<i64>,
}

impl PartialEq for PaperPlan {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl PaperPlan {
    /// Checks a literal.
    ///
    /// # Errors
    /// Names the first thing that is wrong: the network, the security table, a limit, a plan that
    /// does not clip samples, or a product that would not decode exactly.
    pub fn new(literal: &PaperLiteral, limits: &Limits) -> Result<Self, Error> {
        Self::build(literal, limits, LOG2_FAILURE)
    }

    /// A plan whose products may fail: only for `Toy` parameters, to observe failures on purpose.
    ///
    /// # Errors
    /// As [`Self::new`], and [`Error::InexactNeedsToy`] for real parameters.
    pub fn new_inexact(literal: &PaperLiteral, limits: &Limits) -> Result<Self, Error> {
        if literal.he.security != Security::Toy {
            return Err(Error::InexactNeedsToy);
        }
        Self::build(literal, limits, f64::INFINITY)
    }

    fn build(literal: &PaperLiteral, limits: &Limits, target: f64) -> Result<Self, Error> {
        let degree = 1_usize.checked_shl(literal.he.log_n).unwrap_or(usize::MAX);
        if degree > limits.degree {
            let (what, got, limit) = ("ring degree", degree, limits.degree);
            return Err(Error::Limit { what, got, limit });
        }
        let grid = GridPlan::new(&literal.grid, limits)?;
        if literal.grid.clipping != Clipping::Samples {
            return Err(Error::Unexpected {
                expected: "a plan that clips samples".into(),
                got: "one that clips factors".into(),
            });
        }
        let parameters = Parameters::new(&literal.he)?;
        if parameters.max_level() != 1 {
            let got = parameters.max_level() + 1;
            return Err(Error::PrimeCount { got, expected: 2 });
        }
        let mut checked = Checked {
            log2_forward: match literal.published_biases {
                Some(_) => finest_forward(&grid, &parameters),
                None => LOG2_SCALE_RESULT,
            },
            published: published(literal, &grid, &parameters)?,
            literal: literal.clone(),
            grid,
            parameters,
            exactness: Vec::new(),
            digest: digest(b"sphinx paper plan 1", literal)?,
        };
        if let Some(steps) = literal.published_biases {
            let most = exactness::most_updates(&checked, target);
            if steps > most {
                return Err(Error::TooManySteps {
                    step: steps,
                    limit: most,
                });
            }
            if let Some(published) = &mut checked.published {
                published.most = most;
            }
        }
        checked.exactness = exactness::analyse(&checked);
        if let Some(bad) = checked.exactness.iter().find(|e| !e.holds(target)) {
            return Err(Error::Inexact(*bad));
        }
        let plan = Self(Arc::new(checked));
        plan.check_memory(limits)?;
        Ok(plan)
    }

    /// Bytes of ciphertexts that the server expands at a time.
    #[must_use]
    pub fn held(&self) -> usize {
        BANK.max(1) * sphinx_he::ckks::Bank::bytes_each(self.parameters(), super::TOP)
    }

    /// What one product looks at must fit the server's memory at a time.
    fn check_memory(&self, limits: &Limits) -> Result<(), Error> {
        let (what, got, limit) = ("bytes held by the server", self.held(), limits.bytes);
        if got > limit {
            return Err(Error::Limit { what, got, limit });
        }
        for shape in self.network().linears() {
            let got = Products::new(*shape).widest();
            if got > BANK {
                let (what, limit) = ("ciphertexts in one sum of products", BANK);
                return Err(Error::Limit { what, got, limit });
            }
        }
        Ok(())
    }

    /// The literal this plan was built from.
    #[must_use]
    pub fn literal(&self) -> &PaperLiteral {
        &self.0.literal
    }

    /// The part that does not speak of ciphertexts.
    #[must_use]
    pub fn grid(&self) -> &GridPlan {
        &self.0.grid
    }

    /// The checked network.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.0.grid.network()
    }

    /// The homomorphic parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }

    /// The exactness inequality of every product, as evaluated.
    #[must_use]
    pub fn exactness(&self) -> &[Exactness] {
        &self.0.exactness
    }

    /// SHA-256 of the canonical literal.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest
    }

    /// Rows of every batch.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.grid.capacity()
    }

    /// Samples in one ciphertext.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.parameters().degree() / 2
    }

    /// Blocks of samples that a batch needs.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.capacity().div_ceil(self.slots())
    }

    /// The rows of one block.
    #[must_use]
    pub fn rows(&self, block: usize) -> std::ops::Range<usize> {
        let start = block * self.slots();
        start.min(self.capacity())..(start + self.slots()).min(self.capacity())
    }

    /// Uploads that the server expands in one step. It holds few at a time, so those that several tiles of
    /// products need are expanded for each.
    #[must_use]
    pub fn expansions(&self) -> u64 {
        let layers = self.network().linears().iter().enumerate();
        let of_layer =
            |(at, shape): (usize, &LinearShape)| Products::new(*shape).expansions(at == 0);
        let products: u64 = layers.map(of_layer).sum();
        // By the published rule output gradients are expanded once more, for their sums.
        let outputs = self.network().linears().iter().map(|shape| shape.outputs);
        let sums = self.0.published.is_some().then(|| outputs.sum::<usize>());
        self.blocks() as u64 * (products + sums.unwrap_or(0) as u64)
    }

    /// What the plan holds, for tests of its bounds.
    #[cfg(test)]
    pub(super) fn checked(&self) -> &Checked {
        &self.0
    }

    /// With biases by the published rule: for how many steps their ciphertexts must stay exact, and for how many
    /// they would.
    #[must_use]
    pub fn published_steps(&self) -> Option<(u64, u64)> {
        let published = self.0.published.as_ref()?;
        Some((published.steps, published.most))
    }

    /// What a layer's sums of output gradients are multiplied with under the published rule, on the scale of
    /// `[b]`; zero under the default rule.
    pub(super) fn bias_multiplier(&self, layer: usize) -> i64 {
        let published = self.0.published.as_ref();
        published.map_or(0, |p| p.multipliers[layer] << self.0.bias_bits())
    }

    /// The scale of `[b]`: that of layer inputs, or that of `W x` on its way down.
    #[must_use]
    pub fn bias_scale(&self) -> Scale {
        match self.0.published {
            Some(_) => Scale::power_of_two((LOG2_SCALE_D + self.0.bias_unit()) as u8),
            None => self.input_scale(),
        }
    }

    /// log2 of the units of a bias in one unit of `[b]` by the published rule, on the scale of `[d]`.
    pub(super) fn bias_unit(&self) -> u32 {
        self.0.bias_unit()
    }

    /// The scale of layer inputs.
    #[must_use]
    pub fn input_scale(&self) -> Scale {
        Scale::power_of_two(LOG2_SCALE_X as u8)
    }

    /// The scale of output gradients.
    #[must_use]
    pub fn gradient_scale(&self) -> Scale {
        Scale::power_of_two(LOG2_SCALE_D as u8)
    }

    /// The public factor that brings plain products to a scale which survives the division.
    #[must_use]
    pub fn factor(&self, phase: Phase) -> u64 {
        factor(&self.0, phase)
    }

    /// The scale of the results of one phase.
    #[must_use]
    pub fn result_scale(&self, phase: Phase) -> f64 {
        let [x, d] = [self.input_scale(), self.gradient_scale()].map(Scale::value);
        let before = match phase {
            Phase::Forward => x * self.factor(phase) as f64,
            Phase::Backward => d * self.factor(phase) as f64,
            _ => x * d,
        };
        before / self.parameters().moduli()[1].value() as f64
    }
}

impl Checked {
    /// log2 of the scale of `W x + b` before the division.
    const fn log2_before(&self) -> u32 {
        LOG2_SCALE_X + log2_factor(self, Phase::Forward)
    }

    /// log2 of the scale of `[b]` over that of `[d]`.
    const fn bias_unit(&self) -> u32 {
        self.log2_before().saturating_sub(LOG2_SCALE_D)
    }

    /// What [`Self::bias_unit`] has beyond the bits of a bias below the grid of products.
    pub(super) const fn bias_bits(&self) -> u32 {
        self.bias_unit().saturating_sub(REFINED)
    }
}

/// The largest scale of `W x + b` at the lowest level for which all layers have room.
fn finest_forward(grid: &GridPlan, parameters: &Parameters) -> u32 {
    let layers = grid.network().linears().iter().zip(grid.formats());
    let bounds = layers.map(|(shape, format)| forward_bound(shape, format) + 1.0);
    let room = parameters.log2_q(0) - 1.0 - bounds.fold(1.0, f64::max).log2();
    // A tenth of a bit for the error, and for a dropped prime that is less than its bits say.
    let bits = (room - 0.1).floor().max(0.0) as u32;
    bits.clamp(LOG2_SCALE_RESULT, LOG2_SCALE_RESULT + LOG2_FINER)
}

/// The published rule of biases, if the literal asks for it.
fn published(
    literal: &PaperLiteral,
    grid: &GridPlan,
    parameters: &Parameters,
) -> Result<Option<Published>, Error> {
    let Some(steps) = literal.published_biases else {
        return Ok(None);
    };
    let special = parameters.special_moduli().len();
    if special != 1 || steps == 0 {
        return Err(Error::Unexpected {
            expected: "one special prime and a step at least, for biases by the published rule"
                .into(),
            got: format!("{special} special primes, {steps} steps"),
        });
    }
    let layers = 0..grid.network().linears().len();
    let multipliers = layers.map(|layer| PublishedBiases::multiplier(grid, layer));
    Ok(Some(Published {
        steps,
        most: 0,
        multipliers: multipliers.collect::<Result<_, _>>()?,
    }))
}

/// log2 of [`factor`]: bits of the dropped prime and of the result's scale, less those of the operand's.
const fn log2_factor(plan: &Checked, phase: Phase) -> u32 {
    let dropped = match plan.literal.he.log_q.as_slice() {
        [.., last] => *last,
        [] => 0,
    };
    let (result, operand) = match phase {
        Phase::Backward => (LOG2_SCALE_RESULT, LOG2_SCALE_D),
        _ => (plan.log2_forward, LOG2_SCALE_X),
    };
    let bits = (dropped + result).saturating_sub(operand);
    if bits < 40 { bits } else { 40 }
}

/// The public factor of one phase.
pub(super) const fn factor(plan: &Checked, phase: Phase) -> u64 {
    1 << log2_factor(plan, phase)
}
