//! Everything public about a run, checked at birth.
//!
//! People (or a builder) write a [`PlanLiteral`]; a [`Plan`] exists only if its network is well
//! formed, its parameters meet the security table, every layout fits its ring and **every product
//! decodes exactly** with failure probability below 2^-128 over 2^40 decoded coefficients. Both
//! parties build the plan from the same literal; its digest binds keys, models and connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sphinx_he::exact::Encoding;
use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security};
use sphinx_nn::network::{Architecture, Network};

use crate::error::Error;
use crate::format::LayerFormat;
use crate::model::{BIAS_LIMIT, Snapshot};
use crate::packed::Upload;
use crate::packed::layout::{Held, Layout, Tiling};

mod choice;
mod exactness;
mod grid;
mod layouts;
mod local;
mod returns;
mod tight;

use choice::Bounds;
pub use choice::{Choice, Cost, Explanation, LocalChoice, Preferences, Prices};
use exactness::Analysis;
pub use exactness::{Exactness, LOG2_COEFFICIENTS, LOG2_FAILURE, Phase};
pub use grid::{Clipping, GridLiteral, GridPlan};
pub(crate) use grid::{backward_bound, forward_bound};
use layouts::{check_kinds, lay_out, lay_out_backward};
pub use local::LocalPhase;
pub use returns::{LayerReturns, Return};
pub use tight::{Passage, Tightness};

/// log2 of the encryption scale of layer inputs.
const LOG2_SCALE_X: u32 = 30;
/// Bits that the scale of gradient sums leaves below the kept prime; toy primes may be so small
/// that this decides.
const SUM_BITS: u32 = 27;
/// log2 of the scale that gradient sums have after the drop; others are near it.
const LOG2_SCALE_RESULT: u32 = 16;

/// log2 of the degree for which these scales are.
const STANDARD_LOG_N: u32 = 12;

/// log2 of the scales at which things are encrypted: functions of the parameters alone.
#[derive(Clone, Copy, Debug)]
struct Scales {
    /// Layer inputs.
    x: u32,
    /// Output gradients: a product with an input is left with 2^16 after the drop.
    d: u32,
    /// Bias updates: 30 bits of the sum fit below the prime that is kept.
    bias: u32,
    /// Bits of the prime that is dropped.
    dropped: u32,
}

impl Scales {
    fn of(parameters: &Parameters) -> Self {
        let bits = |at: usize| parameters.moduli().get(at).map_or(0, |q| q.bits());
        let (kept, dropped) = (bits(0), bits(1));
        // The error of a longer ring is larger by the square root of its length, and a bit covers it.
        let longer = parameters.log_n().saturating_sub(STANDARD_LOG_N);
        let result = (LOG2_SCALE_RESULT + longer).min(kept.saturating_sub(SUM_BITS));
        Self {
            x: LOG2_SCALE_X,
            d: (dropped + result).saturating_sub(LOG2_SCALE_X),
            bias: (dropped + kept).saturating_sub(30),
            dropped,
        }
    }

    /// log2 of the factor that leaves a product of what is encrypted at `2^scale` with
    /// [`LOG2_SCALE_RESULT`].
    fn usual_factor(self, scale: u32) -> u32 {
        (self.dropped + LOG2_SCALE_RESULT).saturating_sub(scale)
    }
}

/// What people write down: unchecked, serialisable, sent by the client when it opens a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLiteral {
    /// Network, grids, clip bound and update rule.
    pub grid: GridLiteral,
    /// Homomorphic parameters: one ring for training and inference.
    pub he: ParametersLiteral,
    /// One tiling per linear layer for training.
    pub tilings: Vec<Tiling>,
    /// The tilings of `W^T d` in the layers where its own costs less: what goes up for it serves
    /// nothing else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backward_tilings: BTreeMap<usize, Tiling>,
    /// One tiling per linear layer for the preparation of inference tickets.
    pub ticket_tilings: Vec<Tiling>,
    /// Tickets prepared at once.
    pub tickets: usize,
    /// Inference masks are uniform modulo 2^mask_bits.
    pub mask_bits: u32,
    /// Products that the client computes itself: the server neither sees nor returns them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<LocalPhase>,
}

/// The choices a caller makes; [`PlanLiteral::design`] derives the rest.
#[derive(Clone, Debug)]
pub struct PlanChoices {
    /// The network.
    pub architecture: Architecture,
    /// Rows of every batch.
    pub capacity: usize,
    /// Clip bound C, real.
    pub clip_bound: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Momentum in [0, 1).
    pub momentum: f64,
    /// Public divisor of the gradient sum: the declared mean batch size.
    pub divisor: f64,
    /// Seed of the public initialisation.
    pub init_seed: u64,
    /// Tickets prepared at once.
    pub tickets: usize,
}

/// Bits of the primes, kept and dropped, that [`PlanLiteral::design`] tries, smallest first.
const PRIMES: [[u32; 2]; 9] = [
    [42, 39],
    [43, 39],
    [44, 39],
    [44, 40],
    [45, 40],
    [45, 41],
    [46, 41],
    [46, 42],
    [47, 42],
];

/// The largest of the shipped parameters: N = 4096, q0 = 47 bits kept, q1 = 42 bits dropped first;
/// 89 of the 106 bits that 128-bit security allows.
#[must_use]
pub fn standard_parameters() -> ParametersLiteral {
    ParametersLiteral {
        log_n: 12,
        log_q: vec![47, 42],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Classical128,
    }
}

impl PlanLiteral {
    /// As [`Self::design_for`], by the [standard](Preferences::default) preferences.
    ///
    /// # Errors
    /// As [`Self::design_for`].
    pub fn design(choices: &PlanChoices) -> Result<Self, Error> {
        Self::design_for(choices, &Preferences::default())
    }

    /// Derives grids and layouts, and takes the smallest of the shipped primes with which every
    /// product is exact, in the cheapest of the rings asked for; the
    /// [largest](standard_parameters) primes if none are, so that [`Plan::new`] names what fails.
    ///
    /// # Errors
    /// As [`Plan::new`] for the network and its kinds of layers, [`Error::StepSize`] for impossible constants,
    /// [`Error::ClipBound`] for a bound that leaves no usable gradient grid, and
    /// [`Error::LocalPhase`] for a product that the network does not have.
    pub fn design_for(choices: &PlanChoices, preferences: &Preferences) -> Result<Self, Error> {
        let mut best: Option<(f64, Self)> = None;
        let mut inexact = None;
        for &log_n in &preferences.log_degrees {
            let (price, literal, exact) = Self::exact_in(choices, preferences, log_n)?;
            if !exact {
                inexact.get_or_insert(literal);
            } else if best.as_ref().is_none_or(|(least, _)| price < *least) {
                best = Some((price, literal));
            }
        }
        let best = best.map(|(_, literal)| literal).or(inexact);
        best.map_or_else(|| Self::design_with(choices, standard_parameters()), Ok)
    }

    /// The cheapest literal in one ring that is exact with some of the shipped primes, its price,
    /// and whether there is one: layouts whose products would not decode exactly, or that a server does
    /// not hold, are passed over.
    fn exact_in(
        choices: &PlanChoices,
        preferences: &Preferences,
        log_n: u32,
    ) -> Result<(f64, Self, bool), Error> {
        let mut bounds = Bounds::default();
        let he = ParametersLiteral {
            log_n,
            ..standard_parameters()
        };
        let (mut price, mut literal) = Self::priced(choices, preferences, he.clone(), &bounds)?;
        loop {
            let mut failure = None;
            for log_q in PRIMES {
                literal.he.log_q = log_q.to_vec();
                match Plan::new(&literal, &Limits::default()) {
                    Ok(_) => return Ok((price, literal, true)),
                    Err(error) => failure = Some(error),
                }
            }
            let next = match failure {
                Some(Error::Inexact(row)) if bounds.tighten(&row, &literal) => {
                    Self::priced(choices, preferences, he.clone(), &bounds).ok()
                }
                Some(Error::Limit { what, limit, .. }) if what == HELD && bounds.halve(limit) => {
                    Self::priced(choices, preferences, he.clone(), &bounds).ok()
                }
                _ => None,
            };
            match next {
                Some(next) => (price, literal) = next,
                None => return Ok((price, literal, false)),
            }
        }
    }

    /// Derives grids and layouts for other parameters (smaller ones exist only as `Toy`), by the
    /// standard prices.
    ///
    /// # Errors
    /// As [`Self::design`].
    pub fn design_with(choices: &PlanChoices, he: ParametersLiteral) -> Result<Self, Error> {
        Ok(Self::priced(choices, &Preferences::default(), he, &Bounds::default())?.1)
    }

    /// The literal with the cheapest layouts, and the price of a step.
    fn priced(
        choices: &PlanChoices,
        preferences: &Preferences,
        he: ParametersLiteral,
        bounds: &Bounds,
    ) -> Result<(f64, Self), Error> {
        let network = with_layouts(&choices.architecture)?;
        if choices.capacity == 0 || choices.tickets == 0 {
            return Err(Error::EmptyPlan {
                capacity: choices.capacity,
                tickets: choices.tickets,
            });
        }
        let degree = 1_usize << he.log_n.min(20);
        let grid = GridLiteral::design(choices)?;
        let training = preferences.for_training(&network, degree, choices.capacity, bounds)?;
        let tickets = preferences.for_tickets(&network, degree, choices.tickets, bounds)?;
        let price = training.iter().map(|choice| choice.price).sum();
        let literal = Self {
            grid,
            he,
            tilings: training.iter().map(|choice| choice.tiling).collect(),
            backward_tilings: choice::apart(&training),
            ticket_tilings: tickets.iter().map(|choice| choice.tiling).collect(),
            tickets: choices.tickets,
            mask_bits: 30,
            local: local::of(&training),
        };
        Ok((price, literal))
    }
}

/// Whether every linear layer has a ciphertext layout.
#[must_use]
pub fn has_layouts(network: &Network) -> bool {
    network.linears().iter().all(Layout::exists_for)
}

/// The checked network, if it has layouts.
fn with_layouts(architecture: &Architecture) -> Result<Network, Error> {
    let network = Network::new(architecture)?;
    let layer = network
        .linears()
        .iter()
        .position(|l| !Layout::exists_for(l));
    layer.map_or(Ok(network), |layer| Err(Error::WidePadding { layer }))
}

/// A checked plan. Cheap to clone; equal if and only if the literals are.
#[derive(Clone, Debug)]
pub struct Plan {
    checked: Arc<Checked>,
    analysis: Arc<Analysis>,
}

#[derive(Debug)]
struct Checked {
    literal: PlanLiteral,
    grid: GridPlan,
    parameters: Parameters,
    layouts: Vec<Layout>,
    backward_layouts: Vec<Layout>,
    ticket_layouts: Vec<Layout>,
    held: usize,
    digest: [u8; 32],
}

impl Checked {
    const fn mask_encoding(&self) -> Encoding {
        Encoding::Modular {
            log_t: self.literal.mask_bits,
        }
    }
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.checked.digest == other.checked.digest
    }
}

/// Upper limits that any plan must keep: what one party may ask the other to hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest ring degree.
    pub degree: usize,
    /// Largest number of parameters of a network.
    pub parameters: usize,
    /// Largest batch capacity, and largest number of tickets prepared at once.
    pub rows: usize,
    /// Most bytes of polynomials that one model may make the server hold at a time: those of a
    /// step and of a batch of tickets, and weights prepared for both. See [`Held`].
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            degree: 1 << 13,
            parameters: 4_000_000,
            rows: 1 << 15,
            bytes: 6 << 30,
        }
    }
}

impl Plan {
    /// Checks a literal.
    ///
    /// # Errors
    /// Names the first thing that is wrong: the network, a convolution
    /// without a layout ([`Error::WidePadding`]), the security table, a layout that does
    /// not fit, a limit, or a product that would not decode exactly.
    pub fn new(literal: &PlanLiteral, limits: &Limits) -> Result<Self, Error> {
        Self::build(literal, limits, LOG2_FAILURE)
    }

    /// A plan whose products may fail: only for `Toy` parameters, to observe failures on purpose.
    ///
    /// # Errors
    /// As [`Self::new`], and [`Error::InexactNeedsToy`] for real parameters.
    pub fn new_inexact(literal: &PlanLiteral, limits: &Limits) -> Result<Self, Error> {
        if literal.he.security != Security::Toy {
            return Err(Error::InexactNeedsToy);
        }
        Self::build(literal, limits, f64::INFINITY)
    }

    fn build(literal: &PlanLiteral, limits: &Limits, target: f64) -> Result<Self, Error> {
        let network = with_layouts(&literal.grid.architecture)?;
        check_limits(literal, limits)?;
        local::check(&literal.local, network.linears().len())?;
        let grid = GridPlan::new(&literal.grid, limits)?;
        let parameters = Parameters::new(&literal.he)?;
        if parameters.max_level() != 1 {
            return Err(Error::PrimeCount {
                got: parameters.max_level() + 1,
                expected: 2,
            });
        }
        let layouts = lay_out(&network, &parameters, grid.capacity(), &literal.tilings)?;
        check_kinds(literal)?;
        let backward_layouts = lay_out_backward(literal, &parameters, &layouts)?;
        let ticket_layouts = lay_out(
            &network,
            &parameters,
            literal.tickets,
            &literal.ticket_tilings,
        )?;
        let own = literal.backward_tilings.keys();
        let own = own.map(|&layer| backward_layouts[layer].held_backward());
        let training = layouts.iter().map(Layout::held).chain(own);
        let tickets = ticket_layouts.iter().map(Layout::held_for_tickets);
        let held = Held::bytes(training, parameters.degree())
            .saturating_add(Held::bytes(tickets, parameters.degree()));
        check(HELD, held, limits.bytes)?;
        let checked = Checked {
            literal: literal.clone(),
            grid,
            parameters,
            layouts,
            backward_layouts,
            ticket_layouts,
            held,
            digest: digest(b"sphinx plan 5", literal)?,
        };
        let analysis = exactness::analyse(&checked, target.is_infinite())?;
        if let Some(bad) = analysis.rows.iter().find(|e| !e.holds(target)) {
            return Err(Error::Inexact(*bad));
        }
        Ok(Self {
            checked: Arc::new(checked),
            analysis: Arc::new(analysis),
        })
    }

    /// The literal this plan was built from.
    #[must_use]
    pub fn literal(&self) -> &PlanLiteral {
        &self.checked.literal
    }

    /// The part that does not speak of ciphertexts.
    #[must_use]
    pub fn grid(&self) -> &GridPlan {
        &self.checked.grid
    }

    /// The checked network.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.checked.grid.network()
    }

    /// Grids, one per linear layer.
    #[must_use]
    pub fn formats(&self) -> &[LayerFormat] {
        self.checked.grid.formats()
    }

    /// The homomorphic parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.checked.parameters
    }

    /// Training layouts, one per linear layer, of all products but those that have
    /// [their own](Self::layout).
    #[must_use]
    pub fn layouts(&self) -> &[Layout] {
        &self.checked.layouts
    }

    /// How uploads of one kind are laid out.
    #[must_use]
    pub fn layout(&self, upload: Upload, layer: usize) -> &Layout {
        match upload {
            Upload::OutputGradient => &self.checked.backward_layouts[layer],
            _ => &self.checked.layouts[layer],
        }
    }

    /// Whether the client computes what the results of such uploads would be.
    #[must_use]
    pub fn is_local(&self, upload: Upload, layer: usize) -> bool {
        let phase = local::phase(upload);
        let mut local = self.checked.literal.local.iter();
        local.any(|kept| kept.layer == layer && kept.phase == phase)
    }

    /// Ticket layouts, one per linear layer.
    #[must_use]
    pub fn ticket_layouts(&self) -> &[Layout] {
        &self.checked.ticket_layouts
    }

    /// The exactness inequality of every product, as evaluated.
    #[must_use]
    pub fn exactness(&self) -> &[Exactness] {
        &self.analysis.rows
    }

    /// SHA-256 of the canonical literal.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.checked.digest
    }

    /// Rows of every batch.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.checked.grid.capacity()
    }

    /// Number of weights (without biases).
    #[must_use]
    pub fn weight_count(&self) -> usize {
        self.checked.grid.weight_count()
    }

    /// Number of biases.
    #[must_use]
    pub fn bias_count(&self) -> usize {
        self.checked.grid.bias_count()
    }

    /// Number of ciphertexts that carry all biases.
    #[must_use]
    pub fn bias_parts(&self) -> usize {
        self.bias_count().div_ceil(self.checked.parameters.degree())
    }

    /// The coefficients that carry biases in one part of the backup.
    #[must_use]
    pub fn bias_positions(&self, part: u32) -> Vec<usize> {
        let degree = self.checked.parameters.degree();
        let before = (part as usize).saturating_mul(degree);
        (0..self.bias_count().saturating_sub(before).min(degree)).collect()
    }

    /// How layer inputs are encrypted.
    #[must_use]
    pub fn input_encoding(&self) -> Encoding {
        Encoding::scaled(1 << self.scales().x)
    }

    /// How output gradients are encrypted.
    #[must_use]
    pub fn gradient_encoding(&self) -> Encoding {
        Encoding::scaled(1 << self.scales().d)
    }

    /// How biases are encrypted.
    #[must_use]
    pub fn bias_encoding(&self) -> Encoding {
        Encoding::scaled(1 << self.scales().bias)
    }

    fn scales(&self) -> Scales {
        Scales::of(&self.checked.parameters)
    }

    /// How inference masks are encrypted.
    #[must_use]
    pub fn mask_encoding(&self) -> Encoding {
        self.checked.mask_encoding()
    }

    /// How the results of a layer come back.
    #[must_use]
    pub fn returns(&self, layer: usize) -> &LayerReturns {
        &self.analysis.returns[layer]
    }

    /// How the results of one product of a layer come back.
    #[must_use]
    pub fn returned(&self, phase: Phase, layer: usize) -> Return {
        let returns = self.returns(layer);
        match phase {
            Phase::Forward => returns.forward,
            Phase::Backward => returns.backward,
            Phase::Gradient => returns.gradient,
            Phase::Mask => returns.mask,
            Phase::Backup => self.backup_return(),
            Phase::TightForward => returns.tight_forward.unwrap_or(returns.forward),
            Phase::TightBackward => returns.tight_backward.unwrap_or(returns.backward),
        }
    }

    /// Which products of which layers these weights keep short, and so how they travel.
    #[must_use]
    pub fn tightness(&self, weights: &Snapshot) -> Vec<Tightness> {
        let measured = Tightness::of_all(self.network().linears(), self.formats(), weights);
        let returns = self.analysis.returns.iter();
        let pairs = measured.into_iter().zip(returns);
        let agreed = pairs.map(|(measured, returns)| Tightness {
            forward: measured.forward && returns.tight_forward.is_some(),
            backward: measured.backward && returns.tight_backward.is_some(),
        });
        agreed.collect()
    }

    /// How the uploads of one kind travel, and what comes back for them.
    #[must_use]
    pub fn passage(&self, upload: Upload, layer: usize, tightness: Tightness) -> Passage {
        let returns = self.returns(layer);
        let top = |encoding, returned| Passage {
            level: 1,
            encoding,
            returned,
        };
        match upload {
            Upload::Activation => {
                let tight = returns.tight_forward.filter(|_| tightness.forward);
                top(self.input_encoding(), tight.unwrap_or(returns.forward))
            }
            Upload::OutputGradient => {
                let low = |returned: Return| Passage {
                    level: 0,
                    encoding: returned.encoding,
                    returned,
                };
                let tight = returns.tight_backward.filter(|_| tightness.backward);
                tight.map_or_else(|| top(self.gradient_encoding(), returns.backward), low)
            }
            Upload::ClippedGradient => top(self.gradient_encoding(), returns.gradient),
        }
    }

    /// Bytes of polynomials that this model may make the server hold at a time. See [`Held`].
    #[must_use]
    pub fn held(&self) -> usize {
        self.checked.held
    }

    /// How the bias backup comes back.
    #[must_use]
    pub fn backup_return(&self) -> Return {
        self.analysis.backup
    }
}

/// What the server's memory is called where it is limited.
const HELD: &str = "bytes held by the server";

fn check(what: &'static str, got: usize, limit: usize) -> Result<(), Error> {
    if got == 0 || got > limit {
        Err(Error::Limit { what, got, limit })
    } else {
        Ok(())
    }
}

fn check_limits(literal: &PlanLiteral, limits: &Limits) -> Result<(), Error> {
    let degree = 1_usize.checked_shl(literal.he.log_n).unwrap_or(usize::MAX);
    check("ring degree", degree, limits.degree)?;
    check("tickets prepared at once", literal.tickets, limits.rows)?;
    check("mask bits", literal.mask_bits as usize, 31)
}

/// SHA-256 of a literal's canonical text, under a name of its kind and version.
pub(crate) fn digest<L: Serialize>(kind: &[u8], literal: &L) -> Result<[u8; 32], Error> {
    let canonical = serde_json::to_vec(literal).map_err(|_| Error::PlanText)?;
    let mut hash = Sha256::new();
    hash.update(kind);
    hash.update(&canonical);
    Ok(hash.finalize().into())
}

/// Largest |bias| on the grid of a layer's products.
fn bias_bound(format: &LayerFormat) -> i64 {
    BIAS_LIMIT >> (crate::format::MASTER_SHIFT - format.y_shift())
}

#[cfg(test)]
mod tests;
