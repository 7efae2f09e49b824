//! Everything public about a run of the baseline, checked at birth.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sphinx_he::rlwe::{Parameters, ParametersLiteral};
use sphinx_nn::network::{Architecture, LinearShape, Network};

use super::{Style, standard_parameters};
use crate::error::Error;
use crate::paper::Products;
use crate::plan::{Limits, Phase};
use crate::work::{StepCounts, division_transforms, key_switch_transforms};

/// How many times the memory of a model of the other engines one of this may take: a parameter is half a
/// megabyte.
const MEMORY: usize = 2;
/// Terms per operand from which operands are laid side by side.
const REUSE: usize = 2;

/// What people write down: unchecked, serialisable, sent by the client when it opens a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PureHeLiteral {
    /// The network.
    pub architecture: Architecture,
    /// Rows of every batch.
    pub capacity: usize,
    /// When products are relinearised and rescaled.
    pub style: Style,
    /// Homomorphic parameters.
    pub he: ParametersLiteral,
}

impl PureHeLiteral {
    /// With the standard parameters.
    #[must_use]
    pub fn standard(architecture: Architecture, capacity: usize, style: Style) -> Self {
        Self {
            architecture,
            capacity,
            style,
            he: standard_parameters(),
        }
    }
}

/// A checked plan. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PureHePlan(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    literal: PureHeLiteral,
    network: Network,
    parameters: Parameters,
}

impl PureHePlan {
    /// Checks a literal.
    ///
    /// # Errors
    /// The network, the security table, a set of primes without a special one or of a single prime
    /// ([`Error::PrimeCount`]), and [`Error::Limit`] for more rows than slots or more ciphertexts than the
    /// server holds.
    pub fn new(literal: &PureHeLiteral, limits: &Limits) -> Result<Self, Error> {
        let degree = 1_usize.checked_shl(literal.he.log_n).unwrap_or(usize::MAX);
        let within = |what, got, limit| match got {
            got if (1..=limit).contains(&got) => Ok(()),
            got => Err(Error::Limit { what, got, limit }),
        };
        within("ring degree", degree, limits.degree)?;
        within("rows of a batch", literal.capacity, degree / 2)?;
        let network = Network::new(&literal.architecture)?;
        let parameters = Parameters::new(&literal.he)?;
        if parameters.max_level() == 0 || parameters.special_moduli().is_empty() {
            let got = parameters.max_level() + 1;
            return Err(Error::PrimeCount { got, expected: 2 });
        }
        let plan = Self(Arc::new(Checked {
            literal: literal.clone(),
            network,
            parameters,
        }));
        let count = plan.network().parameter_count();
        within("parameters of the network", count, limits.parameters)?;
        let most = limits.bytes.saturating_mul(MEMORY);
        within("bytes held by the server", plan.memory(), most)?;
        plan.check_sums()?;
        Ok(plan)
    }

    /// A sum of nothing would be a ciphertext that hides nothing.
    fn check_sums(&self) -> Result<(), Error> {
        for layer in 0..self.network().linears().len() {
            for phase in Self::phases(layer) {
                if self.terms(layer, phase).contains(&0) {
                    return Err(Error::Unexpected {
                        expected: format!("a layer {layer} whose every number is used"),
                        got: format!("an empty sum in its {phase} product"),
                    });
                }
            }
        }
        Ok(())
    }

    /// Bytes of ciphertexts that the server holds at once: all parameters, the inputs of all layers,
    /// the output gradients of one, and operands that are laid side by side.
    #[must_use]
    pub fn memory(&self) -> usize {
        let linears = self.network().linears();
        let inputs: usize = linears.iter().map(|shape| shape.inputs).sum();
        let of_layer = |(layer, shape): (usize, &LinearShape)| {
            let banks = match self.banked(layer, Phase::Gradient) {
                true => shape.inputs + shape.outputs,
                false => 0,
            };
            shape.outputs + banks
        };
        let widest = linears.iter().enumerate().map(of_layer).max();
        let held = self.network().parameter_count() + inputs + widest.unwrap_or(0);
        held.saturating_mul(self.ciphertext_bytes())
    }

    /// Bytes of one ciphertext at the highest level in memory.
    #[must_use]
    pub fn ciphertext_bytes(&self) -> usize {
        (self.parameters().max_level() + 1) * self.parameters().degree() * 2 * size_of::<u64>()
    }

    /// The literal this plan was built from.
    #[must_use]
    pub fn literal(&self) -> &PureHeLiteral {
        &self.0.literal
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// The homomorphic parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }

    /// The style.
    #[must_use]
    pub fn style(&self) -> Style {
        self.0.literal.style
    }

    /// Rows of every batch.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.literal.capacity
    }

    /// Slots that differ: the capacity, rounded up to a power of two. A ciphertext repeats them, so
    /// that sums over slots take `log2` of this many rotations and not of all slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        let all = self.parameters().degree() / 2;
        self.capacity().next_power_of_two().min(all)
    }

    fn phases(layer: usize) -> impl Iterator<Item = Phase> {
        let backward = (layer > 0).then_some(Phase::Backward);
        [Phase::Forward, Phase::Gradient]
            .into_iter()
            .chain(backward)
    }

    /// Terms of every sum of a product.
    fn terms(&self, layer: usize, phase: Phase) -> Vec<usize> {
        let shape = self.network().linears()[layer];
        let (products, places) = (Products::new(shape), vec![0; shape.weights()]);
        let terms = |result| match phase {
            Phase::Forward => products.forward(&places, result).len(),
            Phase::Backward => products.backward(&places, result).len(),
            _ => products.gradient(result).len(),
        };
        (0..products.results(phase) as u32).map(terms).collect()
    }

    /// Whether the operands of a product are laid side by side: where the lazy style uses each several times, in
    /// sums of several terms.
    pub(super) fn banked(&self, layer: usize, phase: Phase) -> bool {
        self.banks(layer, phase, &self.terms(layer, phase))
    }

    fn banks(&self, layer: usize, phase: Phase, sums: &[usize]) -> bool {
        let shape = self.network().linears()[layer];
        let operands = match phase {
            Phase::Forward => shape.weights() + shape.inputs,
            Phase::Backward => shape.weights() + shape.outputs,
            _ => shape.inputs + shape.outputs,
        };
        let terms: usize = sums.iter().sum();
        self.style() == Style::Lazy && terms > REUSE * operands && terms > sums.len()
    }

    /// The operations of one step that begins at `level`, by formula, without a refresh.
    #[must_use]
    pub fn counts(&self, level: usize) -> StepCounts {
        let mut counts = StepCounts::default();
        for (layer, shape) in self.network().linears().iter().enumerate() {
            for phase in Self::phases(layer) {
                counts += self.sums(level, layer, phase);
            }
            counts.uploads += (shape.inputs + shape.outputs) as u64;
            counts.downloads += shape.outputs as u64;
            counts.downloads += if layer > 0 { shape.inputs as u64 } else { 0 };
            let span = &self.network().layout()[layer];
            let summed = (span.weights.len() + span.biases.len()) as u64;
            let rotations = summed * u64::from(self.slots().trailing_zeros());
            counts.rotations += rotations;
            counts.transforms += rotations * self.switch(level.saturating_sub(1));
        }
        counts
    }

    /// The operations of inference on one batch at `level`, by formula.
    #[must_use]
    pub fn inference_counts(&self, level: usize) -> StepCounts {
        let mut counts = StepCounts::default();
        for (layer, shape) in self.network().linears().iter().enumerate() {
            counts += self.sums(level, layer, Phase::Forward);
            counts.uploads += shape.inputs as u64;
            counts.downloads += shape.outputs as u64;
        }
        counts
    }

    /// Rows transformed by one key switch.
    pub(super) fn switch(&self, level: usize) -> u64 {
        let special = self.parameters().special_moduli().len() as u64;
        key_switch_transforms(level as u64, special)
    }

    /// The sums of one product.
    fn sums(&self, level: usize, layer: usize, phase: Phase) -> StepCounts {
        let sums = self.terms(layer, phase);
        let terms = sums.iter().sum::<usize>() as u64;
        let single = match self.banks(layer, phase, &sums) {
            true => 0,
            false => sums.iter().filter(|&&terms| terms == 1).count(),
        };
        // A product that is a sum by itself is divided once by both primes, a longer sum twice.
        let (switches, divisions) = match self.style() {
            Style::Eager => (terms, 0),
            Style::Lazy => (sums.len() as u64, (sums.len() - single) as u64),
        };
        StepCounts {
            products: terms,
            relinearisations: switches,
            rescales: switches,
            transforms: switches * self.switch(level)
                + divisions * division_transforms(level as u64, 2),
            ..StepCounts::default()
        }
    }
}
