//! Everything public about a run of the engine `paper`, checked at birth.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sphinx_he::ckks::Scale;
use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security};
use sphinx_nn::network::{LinearShape, Network};

use super::exactness;
use super::products::{BANK, Products};
use crate::error::Error;
use crate::plan::{
    Clipping, Exactness, GridLiteral, GridPlan, LOG2_FAILURE, Limits, Phase, PlanChoices, digest,
};

/// log2 of the scale of layer inputs, and of `[b]`.
pub(super) const LOG2_SCALE_X: u32 = 30;
/// log2 of the scale of output gradients.
pub(super) const LOG2_SCALE_D: u32 = 28;
/// log2 of the scale that `W x` and `W^T d` come down with, about.
const LOG2_SCALE_RESULT: u32 = 18;

/// What people write down: unchecked, serialisable, sent by the client when it opens a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperLiteral {
    /// Network, grids, clip bound and update rule; samples are clipped.
    pub grid: GridLiteral,
    /// Homomorphic parameters.
    pub he: ParametersLiteral,
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

impl PaperLiteral {
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
    exactness: Vec<Exactness>,
    digest: [u8; 32],
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
            literal: literal.clone(),
            grid,
            parameters,
            exactness: Vec::new(),
            digest: digest(b"sphinx paper plan 1", literal)?,
        };
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
        self.blocks() as u64 * layers.map(of_layer).sum::<u64>()
    }

    /// The scale of layer inputs and of `[b]`.
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
        match phase {
            Phase::Backward => factor(&self.0, LOG2_SCALE_D),
            _ => factor(&self.0, LOG2_SCALE_X),
        }
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

/// 2^(bits of the dropped prime + bits of the result's scale - bits of the operand's scale).
pub(super) fn factor(plan: &Checked, log2_scale: u32) -> u64 {
    let dropped = plan.literal.he.log_q.last().copied().unwrap_or(0);
    1 << (dropped + LOG2_SCALE_RESULT)
        .saturating_sub(log2_scale)
        .min(40)
}
