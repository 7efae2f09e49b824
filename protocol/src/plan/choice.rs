//! Which layout a layer gets, and why.
//!
//! One packing of inputs serves forward and gradient, so these two have one layout; the output
//! gradients of the backward product go up apart from the clipped ones, and may have another. A
//! layer is priced over its three phases: processor seconds of server and client and bytes both
//! ways, each with a price ([`Prices`]). The search runs over all
//! layouts worth trying and, where asked ([`LocalChoice::Auto`]), over the products that the client
//! might keep; the first of the cheapest wins, so that equal preferences give equal plans on every
//! machine. The client chooses; the plan it sends names the layouts, and its digest covers them.

use std::collections::BTreeMap;

use serde::Serialize;
use sphinx_nn::network::{LinearShape, Network};

use super::{Exactness, LocalPhase, Phase, Plan, PlanLiteral};
use crate::error::Error;
use crate::packed::Upload;
use crate::packed::estimate::{PhaseCounts, UnitTimes};
use crate::packed::layout::{Held, Layout, Tiling};

/// Bits of an upload's coefficient at level 0 and 1, and of a result's `c0` and of each of its
/// other polynomials: as plans of the usual networks have them. They price layouts; what a plan
/// sends is counted from its own forms.
const UP_BITS: [usize; 2] = [43, 83];
const FORWARD_BITS: [usize; 2] = [30, 33];
const BACKWARD_BITS: [usize; 2] = [29, 32];
const GRADIENT_BITS: [usize; 2] = [33, 45];
/// The products that may be kept, in the order of the uploads they would need.
const PHASES: [(Phase, Upload); 3] = [
    (Phase::Forward, Upload::Activation),
    (Phase::Backward, Upload::OutputGradient),
    (Phase::Gradient, Upload::ClippedGradient),
];

/// What things cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// Seconds of each kind of work.
    pub units: UnitTimes,
    /// Of a processor second at the server.
    pub server: f64,
    /// Of a processor second at the client.
    pub client: f64,
    /// Of a byte sent up.
    pub up: f64,
    /// Of a byte sent down.
    pub down: f64,
}

/// [`UnitTimes::STANDARD`]; a second of either party costs one, a byte what it takes at 10 Gbit/s.
impl Default for Prices {
    fn default() -> Self {
        Self {
            units: UnitTimes::STANDARD,
            server: 1.0,
            client: 1.0,
            up: 0.8e-9,
            down: 0.8e-9,
        }
    }
}

impl Prices {
    /// The price of a byte at so many bits per second.
    #[must_use]
    pub fn over(self, bits_per_second: f64) -> Self {
        let byte = 8.0 / bits_per_second;
        Self {
            up: byte,
            down: byte,
            ..self
        }
    }

    fn of(&self, cost: &Cost) -> f64 {
        self.server * cost.server
            + self.client * cost.client
            + self.up * cost.bytes_up
            + self.down * cost.bytes_down
    }
}

/// Which products the client keeps to itself.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalChoice {
    /// These.
    Named(Vec<LocalPhase>),
    /// Whatever is cheaper so.
    Auto,
}

/// How a plan is to be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Preferences {
    /// What things cost.
    pub prices: Prices,
    /// What the client keeps.
    pub local: LocalChoice,
    /// log2 of the degrees of the rings that may be taken; one ring serves all layers.
    pub log_degrees: Vec<u32>,
}

/// Everything outsourced, in the ring of [`super::standard_parameters`].
impl Default for Preferences {
    fn default() -> Self {
        Self {
            prices: Prices::default(),
            local: LocalChoice::Named(Vec::new()),
            log_degrees: vec![super::standard_parameters().log_n],
        }
    }
}

/// What one layer costs a step, as it is priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Processor seconds at the server.
    pub server: f64,
    /// Processor seconds at the client, with those of products that it keeps.
    pub client: f64,
    /// Bytes sent up, nearly.
    pub bytes_up: f64,
    /// Bytes sent down, nearly.
    pub bytes_down: f64,
}

impl Cost {
    fn plus(self, other: Self) -> Self {
        Self {
            server: self.server + other.server,
            client: self.client + other.client,
            bytes_up: self.bytes_up + other.bytes_up,
            bytes_down: self.bytes_down + other.bytes_down,
        }
    }
}

/// The layout of one layer's backward product, where it has its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Apart {
    /// The layout.
    pub tiling: Tiling,
    /// Polynomials across samples, inputs and outputs.
    pub tiles: [usize; 3],
    /// What the product costs so.
    pub cost: Cost,
}

/// One layout of a layer, priced.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The layout.
    pub tiling: Tiling,
    /// Polynomials across samples, inputs and outputs.
    pub tiles: [usize; 3],
    /// The layout of the backward product, if it is another.
    pub backward: Option<Apart>,
    /// The products that the client keeps.
    pub local: Vec<Phase>,
    /// What it costs.
    pub cost: Cost,
    /// What that is worth by the prices.
    pub price: f64,
}

/// Why a layer has its layout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Index of the linear layer.
    pub layer: usize,
    /// What it has.
    pub chosen: Choice,
    /// The next best that sends other ciphertexts or keeps other products.
    pub runner_up: Option<Choice>,
    /// `W x` by integers, of inputs that go up a second time under one prime: inputs of the other
    /// form serve the gradient. Priced, not offered.
    pub second_upload: Option<Choice>,
    /// All products kept by the client.
    pub alone: Cost,
    /// Layouts that were priced.
    pub candidates: usize,
}

/// A layer to be laid out.
struct Question<'a> {
    shape: &'a LinearShape,
    degree: usize,
    rows: usize,
    /// Products that are needed at all.
    needed: Vec<Phase>,
    /// Sets of products that may be kept.
    kept: Vec<Vec<Phase>>,
    /// Of masks, which have no gradient.
    masks: bool,
    /// Most inputs and outputs of a tile, and of one of the backward product.
    most: [usize; 2],
    most_backward: [usize; 2],
    /// Most bytes that the server may hold for the layer.
    bytes: usize,
}

impl Question<'_> {
    /// The layouts that may be chosen from: of tiles no larger than `most`, of which a server holds
    /// no more than it may.
    fn layouts(
        &self,
        most: [usize; 2],
        held: impl Fn(&Layout) -> Held,
    ) -> impl Iterator<Item = Layout> {
        let [inputs, outputs] = most;
        let (degree, bytes) = (self.degree, self.bytes);
        let scalar = (most == ANY).then(|| Layout::scalar(degree, self.shape, self.rows));
        let tiled = Layout::candidates(degree, self.shape, self.rows).filter(move |layout| {
            let tiling = layout.tiling();
            tiling.inputs_per_tile() <= inputs && tiling.outputs_per_tile() <= outputs
        });
        let layouts = tiled.chain(scalar.flatten());
        layouts.filter(move |layout| Held::bytes([held(layout)], degree) <= bytes)
    }

    /// Whether there is a gradient at the server if these products are kept.
    fn has_gradient(&self, kept: &[Phase]) -> bool {
        self.needed.contains(&Phase::Gradient) && !kept.contains(&Phase::Gradient)
    }
}

/// Polynomials across samples, inputs and outputs.
const fn tiles(layout: &Layout) -> [usize; 3] {
    [layout.chunks(), layout.input_tiles(), layout.output_tiles()]
}

/// The tilings of backward products that have their own, layer by layer.
pub(super) fn apart(choices: &[Choice]) -> BTreeMap<usize, Tiling> {
    let layers = choices.iter().enumerate();
    let own = layers.filter_map(|(layer, choice)| Some((layer, choice.backward?.tiling)));
    own.collect()
}

/// Tiles of any size.
const ANY: [usize; 2] = [usize::MAX; 2];

/// What is left to choose from: tiles that are small enough that products decode exactly (more
/// numbers in one polynomial make more error), and large enough that the server can hold them.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// Most bytes that the server may hold for one layer.
    bytes: usize,
    /// Most inputs and outputs of a tile, of the layers that have a bound.
    training: BTreeMap<usize, [usize; 2]>,
    /// The same for backward products.
    backward: BTreeMap<usize, [usize; 2]>,
    /// The same for tickets.
    tickets: BTreeMap<usize, [usize; 2]>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes: usize::MAX,
            training: BTreeMap::new(),
            backward: BTreeMap::new(),
            tickets: BTreeMap::new(),
        }
    }
}

impl Bounds {
    /// Halves what the server may hold for one layer, from what it may hold in all; says whether
    /// that leaves anything.
    pub(super) fn halve(&mut self, limit: usize) -> bool {
        self.bytes = self.bytes.min(limit) / 2;
        self.bytes > 0
    }

    fn of(bounds: &BTreeMap<usize, [usize; 2]>, layer: usize) -> [usize; 2] {
        bounds.get(&layer).copied().unwrap_or(ANY)
    }

    /// Rules out what made a product of `literal` inexact; says whether anything smaller is left.
    pub(super) fn tighten(&mut self, row: &Exactness, literal: &PlanLiteral) -> bool {
        let layer = row.layer;
        let own = literal.backward_tilings.get(&layer);
        let (tiling, bounds) = match row.phase.loose() {
            Phase::Mask => (literal.ticket_tilings.get(layer), &mut self.tickets),
            Phase::Backup => return false,
            Phase::Backward => (own.or(literal.tilings.get(layer)), &mut self.backward),
            _ => (literal.tilings.get(layer), &mut self.training),
        };
        let Some(tiling) = tiling else {
            return false;
        };
        if *tiling == Tiling::Scalar {
            // Not this kind, but tiles of any size.
            bounds.insert(layer, [usize::MAX - 1; 2]);
            return true;
        }
        let (n, m) = (tiling.inputs_per_tile(), tiling.outputs_per_tile());
        // Results of `W x` meet the weights of all outputs of a tile, those of `W^T d` of its inputs.
        let side = match row.phase.loose() {
            Phase::Forward | Phase::Mask => 1,
            Phase::Backward => 0,
            _ => usize::from(m > n),
        };
        let smaller = [n, m][side] - 1;
        bounds.entry(layer).or_insert(ANY)[side] = smaller;
        smaller > 0
    }
}

impl Preferences {
    /// The cheapest layout of every layer for training.
    pub(super) fn for_training(
        &self,
        network: &Network,
        degree: usize,
        capacity: usize,
        bounds: &Bounds,
    ) -> Result<Vec<Choice>, Error> {
        if let LocalChoice::Named(local) = &self.local {
            super::local::check(local, network.linears().len())?;
        }
        let layers = network.linears().iter().enumerate();
        layers
            .map(|(layer, shape)| {
                let question = Question {
                    most: Bounds::of(&bounds.training, layer),
                    most_backward: Bounds::of(&bounds.backward, layer),
                    bytes: bounds.bytes,
                    ..self.training(layer, shape, (degree, capacity))
                };
                self.answer(&question, layer)
            })
            .collect()
    }

    /// The cheapest layout of every layer for preparing tickets: products with masks alone.
    pub(super) fn for_tickets(
        &self,
        network: &Network,
        degree: usize,
        tickets: usize,
        bounds: &Bounds,
    ) -> Result<Vec<Choice>, Error> {
        let layers = network.linears().iter().enumerate();
        layers
            .map(|(layer, shape)| {
                let question = Question {
                    shape,
                    degree,
                    rows: tickets,
                    needed: vec![Phase::Forward],
                    kept: vec![Vec::new()],
                    masks: true,
                    most: Bounds::of(&bounds.tickets, layer),
                    most_backward: ANY,
                    bytes: bounds.bytes,
                };
                self.answer(&question, layer)
            })
            .collect()
    }

    /// The cheapest layout of one layer by itself, of which these products are outsourced and the
    /// others are not needed; nothing if there is no layout.
    #[must_use]
    pub fn layer(
        &self,
        shape: &LinearShape,
        degree: usize,
        rows: usize,
        outsourced: &[Phase],
    ) -> Option<Choice> {
        let question = Question {
            shape,
            degree,
            rows,
            needed: outsourced.to_vec(),
            kept: vec![Vec::new()],
            masks: false,
            most: ANY,
            most_backward: ANY,
            bytes: usize::MAX,
        };
        self.answer(&question, 0).ok()
    }

    fn training<'a>(
        &self,
        layer: usize,
        shape: &'a LinearShape,
        (degree, rows): (usize, usize),
    ) -> Question<'a> {
        let all = PHASES.map(|(phase, _)| phase).into_iter();
        let needed: Vec<Phase> = all
            .filter(|&phase| layer > 0 || phase != Phase::Backward)
            .collect();
        let kept = match &self.local {
            LocalChoice::Named(local) => {
                let mine = local.iter().filter(|kept| kept.layer == layer);
                vec![mine.map(|kept| kept.phase).collect()]
            }
            LocalChoice::Auto => subsets(&needed),
        };
        Question {
            shape,
            degree,
            rows,
            needed,
            kept,
            masks: false,
            most: ANY,
            most_backward: ANY,
            bytes: usize::MAX,
        }
    }

    fn answer(&self, question: &Question<'_>, layer: usize) -> Result<Choice, Error> {
        let degree = question.degree;
        let mut best: Option<Choice> = None;
        for choice in self.priced(question) {
            if best.as_ref().is_none_or(|best| choice.price < best.price) {
                best = Some(choice);
            }
        }
        best.ok_or(Error::NoLayout { layer, degree })
    }

    /// Everything that may be chosen, with its price.
    fn priced(&self, question: &Question<'_>) -> impl Iterator<Item = Choice> {
        let apart = self.apart(question);
        let layouts = question.layouts(question.most, move |layout| match question.masks {
            true => layout.held_for_tickets(),
            false => layout.held(),
        });
        layouts.flat_map(move |layout| {
            let kept = question.kept.iter();
            let choices: Vec<Choice> = kept
                .filter(|kept| layout.tiling() != Tiling::Scalar || !question.has_gradient(kept))
                .map(|kept| self.choice(question, &layout, kept, apart))
                .collect();
            choices
        })
    }

    /// The cheapest layout of the backward product by itself, where there are other products.
    fn apart(&self, question: &Question<'_>) -> Option<Apart> {
        let needed = question.needed.contains(&Phase::Backward);
        if !needed || question.needed.len() == 1 {
            return None;
        }
        let layouts = question.layouts(question.most_backward, |layout| layout.held_backward());
        let priced = layouts.map(|layout| Apart {
            tiling: layout.tiling(),
            tiles: tiles(&layout),
            cost: self.part(question, &layout, Upload::OutputGradient, &|_| true),
        });
        let price = |apart: &Apart| self.prices.of(&apart.cost);
        priced.min_by(|a, b| price(a).total_cmp(&price(b)))
    }

    /// One layout, with the backward product in the cheaper of this and its own.
    fn choice(
        &self,
        question: &Question<'_>,
        layout: &Layout,
        kept: &[Phase],
        apart: Option<Apart>,
    ) -> Choice {
        let outsourced = |phase: Phase| question.needed.contains(&phase) && !kept.contains(&phase);
        let [inputs, outputs] = question.most_backward;
        let tiling = layout.tiling();
        let fits = tiling.inputs_per_tile() <= inputs && tiling.outputs_per_tile() <= outputs;
        let (mut cost, mut backward) = (Cost::default(), None);
        for (phase, upload) in PHASES {
            let mut part = self.part(question, layout, upload, &outsourced);
            if phase == Phase::Backward && outsourced(phase) {
                let cheaper = |a: &Apart| self.prices.of(&a.cost) < self.prices.of(&part);
                backward = apart.filter(|apart| !fits || cheaper(apart));
                part = backward.map_or(part, |apart| apart.cost);
            }
            cost = cost.plus(part);
            if kept.contains(&phase) {
                cost.client += self.alone(question.shape, question.rows);
            }
        }
        Choice {
            tiling,
            tiles: tiles(layout),
            backward,
            local: kept.to_vec(),
            cost,
            price: self.prices.of(&cost),
        }
    }

    /// `W x` in a scalar layout of its own, and the other products as they are then best; where
    /// all of them are outsourced.
    fn second_upload(&self, question: &Question<'_>) -> Option<Choice> {
        if !question.has_gradient(&[]) {
            return None;
        }
        let scalar = Layout::scalar(question.degree, question.shape, question.rows)?;
        let counts = rough(question, &scalar, Upload::Activation, &|_| true);
        let counts = PhaseCounts {
            level: 0,
            bytes_up: counts.uploads * question.degree * UP_BITS[0] / 8,
            ..counts
        };
        let forward = self.cost(question, &counts);
        let needed = question.needed.iter().copied();
        let others = Question {
            needed: needed.filter(|&phase| phase != Phase::Forward).collect(),
            kept: vec![Vec::new()],
            ..*question
        };
        let mut choice = self.answer(&others, 0).ok()?;
        choice.cost = choice.cost.plus(forward);
        choice.price = self.prices.of(&choice.cost);
        Some(choice)
    }

    /// What the product of one kind of uploads costs.
    fn part(
        &self,
        question: &Question<'_>,
        layout: &Layout,
        upload: Upload,
        outsourced: &impl Fn(Phase) -> bool,
    ) -> Cost {
        self.cost(question, &rough(question, layout, upload, outsourced))
    }

    fn cost(&self, question: &Question<'_>, counts: &PhaseCounts) -> Cost {
        let units = self.prices.units.at_degree(question.degree);
        let time = units.of(counts);
        Cost {
            server: time.server,
            client: time.client,
            bytes_up: counts.bytes_up as f64,
            bytes_down: counts.bytes_down as f64,
        }
    }

    /// Seconds of one product of a layer at the client.
    fn alone(&self, shape: &LinearShape, rows: usize) -> f64 {
        self.prices.units.own * (shape.multiplications() * rows) as f64
    }

    /// Why every layer of a plan has its layout, by these preferences.
    #[must_use]
    pub fn explain(&self, plan: &Plan) -> Vec<Explanation> {
        let layers = plan.network().linears().iter().enumerate();
        let size = (plan.parameters().degree(), plan.capacity());
        layers
            .filter_map(|(layer, shape)| {
                let question = self.training(layer, shape, size);
                let tiling = plan.layouts()[layer].tiling();
                let own = plan.literal().backward_tilings.get(&layer).copied();
                let local = plan.literal().local.iter().filter(|l| l.layer == layer);
                let local: Vec<Phase> = local.map(|l| l.phase).collect();
                let all: Vec<Choice> = self.priced(&question).collect();
                let mine = |choice: &&Choice| {
                    let backward = choice.backward.map(|apart| apart.tiling);
                    choice.tiling == tiling && choice.local == local && backward == own
                };
                let chosen = all.iter().find(mine)?.clone();
                // Other layouts may send as many ciphertexts of the same kinds.
                let other = |c: &&Choice| (c.tiles, &c.local) != (chosen.tiles, &chosen.local);
                // What is cheaper was passed over because it would not be exact.
                let others = all.iter().filter(other).filter(|c| c.price >= chosen.price);
                let runner_up = others.min_by(|a, b| a.price.total_cmp(&b.price)).cloned();
                let products = question.needed.len() as f64;
                let client = products * self.alone(shape, plan.capacity());
                Some(Explanation {
                    layer,
                    chosen,
                    runner_up,
                    second_upload: self.second_upload(&question),
                    alone: Cost {
                        client,
                        ..Cost::default()
                    },
                    candidates: all.len(),
                })
            })
            .collect()
    }
}

/// Every set of products.
fn subsets(of: &[Phase]) -> Vec<Vec<Phase>> {
    (0..1_usize << of.len())
        .map(|mask| {
            let members = of.iter().enumerate();
            let members = members.filter(|(at, _)| mask >> at & 1 == 1);
            members.map(|(_, &phase)| phase).collect()
        })
        .collect()
}

/// One phase of a layer by a layout, counted before there is a plan.
fn rough(
    question: &Question<'_>,
    layout: &Layout,
    upload: Upload,
    outsourced: &impl Fn(Phase) -> bool,
) -> PhaseCounts {
    let (k, i, c) = (layout.input_tiles(), layout.output_tiles(), layout.chunks());
    let (shape, rows) = (question.shape, question.rows);
    let wanted = outsourced(super::local::phase(upload));
    // Uploads, results, numbers up and down, level, bits of a result, polynomials besides its c0.
    let (uploads, downloads, up, down, level, bits, masks) = match upload {
        Upload::Activation => (
            c * k,
            c * i,
            shape.inputs,
            rows * shape.outputs,
            1,
            FORWARD_BITS,
            1,
        ),
        Upload::OutputGradient => (
            c * i,
            c * k,
            shape.outputs,
            rows * shape.inputs,
            0,
            BACKWARD_BITS,
            1,
        ),
        Upload::ClippedGradient => (
            c * i,
            k * i,
            shape.outputs,
            shape.weights(),
            1,
            GRADIENT_BITS,
            2,
        ),
    };
    let serves = wanted || upload == Upload::Activation && outsourced(Phase::Gradient);
    let [uploads, packed] = [uploads, rows * up].map(|n| if serves { n } else { 0 });
    let linear = wanted && upload != Upload::ClippedGradient;
    let products = match upload {
        Upload::ClippedGradient => c * k * i,
        _ => layout.forward_products(),
    };
    let [downloads, down, products] =
        [downloads, down, products].map(|n| if wanted { n } else { 0 });
    let prepared = linear && layout.tiling() != Tiling::Scalar;
    let words = question.degree * masks * downloads;
    PhaseCounts {
        layer: 0,
        upload,
        level,
        uploads,
        downloads,
        products,
        scalar: linear && layout.tiling() == Tiling::Scalar,
        weights: if prepared { k * i } else { 0 },
        bytes_up: uploads * question.degree * UP_BITS[level] / 8,
        bytes_down: (words * bits[1] + down * bits[0]) / 8,
        values_up: packed,
        values_down: down,
        local: !wanted,
        last: 0,
    }
}

#[cfg(test)]
mod tests;
