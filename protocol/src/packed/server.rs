//! The server's half: products on ciphertexts.
//!
//! Operands of a layer wait in [panels](sphinx_he::exact::Panel) until several chunks (forward,
//! backward) or several output tiles (gradient) are there: every weight and every input that is
//! read from memory then serves all of them.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::prelude::*;
use sphinx_he::exact::{Ciphertext, Encoding, IntegerPoly, Panel, Products, Sums};
use sphinx_he::exact::{Scalars, SeededCiphertext, WeightPanel};
use sphinx_he::rlwe::Parameters;

use super::client::positions;
use super::layout::{Layout, Tiling, WEIGHTS_AT_ONCE};
use super::{Upload, scalar};
use crate::error::Error;
use crate::message::{Place, Returned, Sealed, ToClient};
use crate::model::Snapshot;
use crate::plan::{Passage, Plan, Return, Tightness};

/// The level at which everything is uploaded: both primes.
pub(super) const TOP: usize = 1;

/// Uploads that are expanded and laid out together: a few megabytes, which the cache still has when they are
/// cut across.
pub(super) const LAID_OUT_AT_ONCE: usize = 32;

/// Weights of one product of a layer as the product needs them, made when first used or
/// [ahead](Prepared::ahead) of that.
#[derive(Debug)]
struct Slot<T> {
    made: OnceLock<T>,
    /// Whoever makes them; whoever needs them meanwhile waits. Neither is a thread of the pool that
    /// does the work.
    making: Mutex<()>,
}

/// A row of weight polynomials for every sum.
type Polynomials = Slot<WeightPanel>;

/// One empty slot for every layer.
fn empty<T>(layers: usize) -> Vec<Slot<T>> {
    let slot = || Slot {
        made: OnceLock::new(),
        making: Mutex::new(()),
    };
    (0..layers).map(|_| slot()).collect()
}

/// One version of the weights, with the polynomials that products need.
#[derive(Debug)]
pub(crate) struct Prepared {
    plan: Plan,
    snapshot: Arc<Snapshot>,
    tightness: Vec<Tightness>,
    forward: Vec<Polynomials>,
    backward: Vec<Polynomials>,
    mask: Vec<Polynomials>,
    /// In place of them where the layout is scalar: of `W x`, `W^T d` and `W r`.
    scalars: [Vec<Slot<Scalars>>; 3],
}

impl Prepared {
    pub(crate) fn new(plan: &Plan, snapshot: Arc<Snapshot>) -> Self {
        let layers = plan.layouts().len();
        Self {
            plan: plan.clone(),
            tightness: plan.tightness(&snapshot),
            snapshot,
            forward: empty(layers),
            backward: empty(layers),
            mask: empty(layers),
            scalars: [empty(layers), empty(layers), empty(layers)],
        }
    }

    /// The same weights with nothing prepared.
    pub(crate) fn without_polynomials(&self) -> Self {
        Self::new(&self.plan, Arc::clone(&self.snapshot))
    }

    /// Starts to lay out the weights of a training step, in the order in which it needs them, while
    /// the client draws its batch and encrypts. Without a thread to be had they are laid out when
    /// needed.
    pub(crate) fn ahead(self: &Arc<Self>) {
        let weights = Arc::clone(self);
        let layers = self.forward.len();
        let thread = std::thread::Builder::new().name("sphinx-weights".into());
        let spawned = thread.spawn(move || {
            let forward = (0..layers).map(|layer| (layer, true));
            let backward = (1..layers).rev().map(|layer| (layer, false));
            for (layer, forward) in forward.chain(backward) {
                let upload = match forward {
                    true => Upload::Activation,
                    false => Upload::OutputGradient,
                };
                if weights.plan.is_local(upload, layer) {
                    continue;
                }
                let scalar = weights.plan.layout(upload, layer).tiling() == Tiling::Scalar;
                let made = match (scalar, forward) {
                    (true, _) => weights.scaled(upload, layer).map(drop),
                    (_, true) => weights.forward(layer).map(drop),
                    (_, false) => weights.backward(layer).map(drop),
                };
                // Nobody else holds them: the step has ended. An error shows again where they are
                // needed.
                if made.is_err() || Arc::strong_count(&weights) == 1 {
                    return;
                }
            }
        });
        drop(spawned);
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn passage(&self, upload: Upload, layer: usize) -> Passage {
        self.plan.passage(upload, layer, self.tightness[layer])
    }

    fn forward(&self, layer: usize) -> Result<&WeightPanel, Error> {
        let layout = &self.plan.layouts()[layer];
        let factor = self.passage(Upload::Activation, layer).returned.factor;
        self.by_output(&self.forward[layer], layer, layout, factor)
    }

    fn backward(&self, layer: usize) -> Result<&WeightPanel, Error> {
        let layout = self.plan.layout(Upload::OutputGradient, layer);
        let size = (layout.input_tiles(), layout.output_tiles());
        let passage = self.passage(Upload::OutputGradient, layer);
        let weights = self.snapshot.layer(layer);
        let (parameters, form) = (
            self.plan.parameters(),
            (passage.level, passage.returned.factor),
        );
        ready(&self.backward[layer], || {
            lay_out_weights(parameters, form, size, |input, output| {
                layout.backward_weights(weights, output, input)
            })
        })
    }

    /// The weights of a scalar layout of a step.
    fn scaled(&self, upload: Upload, layer: usize) -> Result<&Scalars, Error> {
        let passage = self.passage(upload, layer);
        let kind = usize::from(upload == Upload::OutputGradient);
        let form = (passage.level, passage.returned.factor);
        self.scalars(&self.scalars[kind][layer], form, upload, layer)
    }

    fn scalars<'a>(
        &self,
        slot: &'a Slot<Scalars>,
        form: (usize, u64),
        upload: Upload,
        layer: usize,
    ) -> Result<&'a Scalars, Error> {
        let shape = &self.plan.network().linears()[layer];
        let of = (shape, self.snapshot.layer(layer));
        ready(slot, || {
            scalar::matrix(self.plan.parameters(), form, upload, of)
        })
    }

    fn mask(&self, layer: usize) -> Result<&WeightPanel, Error> {
        let layout = &self.plan.ticket_layouts()[layer];
        self.by_output(&self.mask[layer], layer, layout, 1)
    }

    fn by_output<'a>(
        &self,
        slot: &'a Polynomials,
        layer: usize,
        layout: &Layout,
        factor: u64,
    ) -> Result<&'a WeightPanel, Error> {
        let size = (layout.output_tiles(), layout.input_tiles());
        let weights = self.snapshot.layer(layer);
        ready(slot, || {
            lay_out_weights(
                self.plan.parameters(),
                (TOP, factor),
                size,
                |output, input| layout.forward_weights(weights, output, input),
            )
        })
    }
}

fn ready<T>(slot: &Slot<T>, make: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    if let Some(ready) = slot.made.get() {
        return Ok(ready);
    }
    // The lock guards nothing but the work.
    let making = slot.making.lock().unwrap_or_else(PoisonError::into_inner);
    let ready = match slot.made.get() {
        Some(ready) => ready,
        None => {
            let made = make()?;
            slot.made.get_or_init(|| made)
        }
    };
    drop(making);
    Ok(ready)
}

/// Rows and columns of weight polynomials, some rows at a time.
fn lay_out_weights(
    parameters: &Parameters,
    (level, factor): (usize, u64),
    (rows, columns): (usize, usize),
    weights: impl Fn(usize, usize) -> Vec<i64> + Sync,
) -> Result<WeightPanel, Error> {
    let mut panel = WeightPanel::new(parameters, level, factor, rows, columns)?;
    let at_once = (WEIGHTS_AT_ONCE / columns).max(1);
    for first in (0..rows).step_by(at_once) {
        let end = (first + at_once).min(rows);
        let made = (first * columns..end * columns)
            .into_par_iter()
            .map(|at| {
                let values = weights(at / columns, at % columns);
                IntegerPoly::new(parameters, level, &values, factor)
            })
            .collect::<Result<Vec<_>, _>>()?;
        made.iter().try_for_each(|w| panel.check(w))?;
        let parts: Vec<_> = panel.parts_mut().collect();
        parts.into_par_iter().for_each(|mut part| {
            for (at, w) in made.iter().enumerate() {
                part.put(first + at / columns, at % columns, w);
            }
        });
    }
    Ok(panel)
}

/// Lays ciphertexts out at the rows and columns that `place` gives.
pub(super) fn lay_out(
    panel: &mut Panel,
    ciphertexts: &[Ciphertext],
    place: impl Fn(usize) -> (usize, usize) + Sync,
) -> Result<(), Error> {
    ciphertexts.iter().try_for_each(|c| panel.check(c))?;
    let parts: Vec<_> = panel.parts_mut().collect();
    parts.into_par_iter().for_each(|mut part| {
        for (at, ciphertext) in ciphertexts.iter().enumerate() {
            let (row, column) = place(at);
            part.put(row, column, ciphertext);
        }
    });
    Ok(())
}

pub(super) fn compute(products: &Products<'_>, earlier: Option<Sums>) -> Sums {
    let mut sums = products.room(earlier);
    let parts: Vec<_> = sums.parts_mut().collect();
    parts
        .into_par_iter()
        .for_each(|mut part| products.fill(&mut part));
    sums
}

/// Parses an upload and checks that it is encrypted as the plan says, at the highest level.
pub(crate) fn open(
    parameters: &Parameters,
    sealed: &Sealed,
    encoding: Encoding,
) -> Result<SeededCiphertext, Error> {
    open_at(parameters, sealed, (TOP, encoding))
}

pub(super) fn open_at(
    parameters: &Parameters,
    sealed: &Sealed,
    (level, encoding): (usize, Encoding),
) -> Result<SeededCiphertext, Error> {
    let seeded = sealed.open(parameters)?;
    if seeded.level() != level || seeded.encoding() != encoding {
        return Err(Error::Unexpected {
            expected: format!("a ciphertext at level {level} encoded as {encoding:?}"),
            got: format!("level {}, {:?}", seeded.level(), seeded.encoding()),
        });
    }
    Ok(seeded)
}

pub(super) fn expanded(held: &mut Vec<SeededCiphertext>) -> Vec<Ciphertext> {
    let held = std::mem::take(held);
    held.into_par_iter().map(SeededCiphertext::expand).collect()
}

/// `W r` of one chunk of masks of a layer: one result per output tile.
pub(crate) fn mask_products(
    weights: &Prepared,
    layer: usize,
    masks: Vec<SeededCiphertext>,
    chunk: usize,
) -> Result<Vec<Returned>, Error> {
    let plan = &weights.plan;
    let (layout, form) = (&plan.ticket_layouts()[layer], plan.returns(layer).mask);
    let (mut masks, upload) = (masks, Upload::Activation);
    let masks = expanded(&mut masks);
    if layout.tiling() == Tiling::Scalar {
        let of = (layout, &plan.network().linears()[layer]);
        let matrix = weights.scalars(&weights.scalars[2][layer], (TOP, 1), upload, layer)?;
        return scalar::products(of, matrix, (upload, chunk), masks, form);
    }
    let weights = weights.mask(layer)?;
    let Some(first) = masks.first() else {
        return Ok(Vec::new());
    };
    let (parameters, encoding) = (first.parameters(), first.encoding());
    let mut panel = Panel::new(parameters, TOP, encoding, masks.len(), 1)?;
    lay_out(&mut panel, &masks, |tile| (tile, 0))?;
    let sums = compute(&Products::weighted(weights, &panel, 0..1)?, None);
    (0..sums.len())
        .into_par_iter()
        .map(|i| {
            finish(
                sums.ciphertext(i),
                &layout.forward_positions(i, chunk),
                form,
            )
        })
        .collect()
}

/// Drops the prime, if it is still there, and keeps what the plan says.
pub(crate) fn finish(
    sum: Ciphertext,
    positions: &[usize],
    form: Return,
) -> Result<Returned, Error> {
    let selected = if sum.level() == 0 {
        sum.cut_and_select(positions, form.truncation)?
    } else {
        sum.drop_and_select(positions, form.truncation)?
    };
    Ok(Returned::new(&selected))
}

/// What one training step leaves to the next: memory alone, of which nothing is read before it is written.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    inputs: Vec<Option<Panel>>,
    group: Option<Panel>,
    sums: Option<Sums>,
}

/// What the server holds during one training step.
#[derive(Debug)]
pub(crate) struct StepWork {
    plan: Plan,
    weights: Arc<Prepared>,
    /// Inputs of every layer: a row for every tile, a column for every chunk.
    inputs: Vec<Option<Panel>>,
    /// Output gradients of the group being received.
    group: Option<Panel>,
    /// Uploads of that group that are in a panel, and those that are not yet.
    laid_out: usize,
    held: Vec<SeededCiphertext>,
    memory: Memory,
}

/// Uploads whose products are computed together.
struct Group {
    /// Their chunks, or their output tiles where the gradient is computed.
    range: Range<usize>,
    /// Uploads of each.
    each: usize,
}

impl StepWork {
    /// In the memory of an earlier step, if there was one.
    pub(crate) fn new(plan: &Plan, weights: Arc<Prepared>, mut memory: Memory) -> Self {
        super::keep_freed_memory();
        let layers = plan.layouts().len();
        memory.inputs.resize_with(layers, || None);
        Self {
            plan: plan.clone(),
            weights,
            inputs: (0..layers).map(|_| None).collect(),
            group: None,
            laid_out: 0,
            held: Vec::new(),
            memory,
        }
    }

    /// The memory, for the next step.
    pub(crate) fn into_memory(self) -> Memory {
        Memory {
            inputs: self.inputs,
            ..self.memory
        }
    }

    /// Takes the next upload of the script; the caller has checked its place.
    pub(crate) fn take(
        &mut self,
        upload: Upload,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Vec<ToClient>, Error> {
        let layer = usize::from(place.layer);
        let Passage {
            level, encoding, ..
        } = self.weights.passage(upload, layer);
        let (group, complete) = (self.group(upload, place), self.completes(upload, place));
        self.held
            .push(open_at(self.plan.parameters(), sealed, (level, encoding))?);
        if self.plan.layout(upload, layer).tiling() == Tiling::Scalar {
            if !complete {
                return Ok(Vec::new());
            }
            let held = expanded(&mut self.held);
            return self.scaled(upload, place, held);
        }
        if complete || self.held.len() == LAID_OUT_AT_ONCE {
            self.lay_out(upload, layer, &group)?;
        }
        if !complete {
            return Ok(Vec::new());
        }
        self.laid_out = 0;
        match upload {
            Upload::ClippedGradient => self.sums(place.layer, group.range),
            _ => self.weighted(upload, place.layer, group.range),
        }
    }

    /// The group of an upload.
    fn group(&self, upload: Upload, place: Place) -> Group {
        let layout = self.plan.layout(upload, usize::from(place.layer));
        let (chunk, tile) = (place.chunk as usize, place.tile as usize);
        // What must be complete before there are sums, and how many of it there are.
        let (each, at, all) = match upload {
            Upload::Activation => (layout.input_tiles(), chunk, layout.chunks()),
            Upload::OutputGradient => (layout.output_tiles(), chunk, layout.chunks()),
            Upload::ClippedGradient => (layout.chunks(), tile, layout.output_tiles()),
        };
        let size = layout.group(each);
        let first = at / size * size;
        Group {
            range: first..(first + size).min(all),
            each,
        }
    }

    /// Whether this upload, the next of the script, completes its group, whose products are computed then.
    pub(crate) fn completes(&self, upload: Upload, place: Place) -> bool {
        let group = self.group(upload, place);
        self.laid_out + self.held.len() + 1 == group.each * group.range.len()
    }

    /// Lays out what is held, while it is still in the cache.
    fn lay_out(&mut self, upload: Upload, layer: usize, group: &Group) -> Result<(), Error> {
        let layout = self.plan.layout(upload, layer);
        let Passage {
            level, encoding, ..
        } = self.weights.passage(upload, layer);
        let Group { range, each } = group;
        // Inputs stay until the gradient: they have columns of their own in the panel of the layer.
        let (rows, columns, first) = match upload {
            Upload::Activation => (*each, layout.chunks(), range.start),
            Upload::OutputGradient => (*each, range.len(), 0),
            Upload::ClippedGradient => (range.len(), *each, 0),
        };
        let (slot, earlier) = match upload {
            Upload::Activation => (&mut self.inputs[layer], &mut self.memory.inputs[layer]),
            _ => (&mut self.group, &mut self.memory.group),
        };
        let mut panel = match (slot.take(), earlier) {
            (Some(panel), _) => panel,
            (None, earlier) => match earlier.take() {
                Some(earlier) => earlier.resized(level, encoding, rows, columns)?,
                None => Panel::new(self.plan.parameters(), level, encoding, rows, columns)?,
            },
        };
        let held = expanded(&mut self.held);
        let before = self.laid_out;
        lay_out(&mut panel, &held, |at| {
            let (outer, inner) = ((before + at) / each, (before + at) % each);
            match upload {
                Upload::ClippedGradient => (outer, inner),
                _ => (inner, first + outer),
            }
        })?;
        self.laid_out += held.len();
        *slot = Some(panel);
        Ok(())
    }

    /// `W x` or `W^T d` of one chunk by integers. Nothing stays: the client keeps the gradient.
    fn scaled(
        &self,
        upload: Upload,
        place: Place,
        held: Vec<Ciphertext>,
    ) -> Result<Vec<ToClient>, Error> {
        let layer = usize::from(place.layer);
        let layout = self.plan.layout(upload, layer);
        let of = (layout, &self.plan.network().linears()[layer]);
        let form = self.weights.passage(upload, layer).returned;
        let (matrix, at) = (self.weights.scaled(upload, layer)?, place.chunk as usize);
        let results = scalar::products(of, matrix, (upload, at), held, form)?;
        let message = match upload {
            Upload::OutputGradient => ToClient::BackwardProduct,
            _ => ToClient::ForwardProduct,
        };
        Ok(numbered(place, results, message))
    }

    /// `W x` or `W^T d` of some chunks. Inputs stay for the gradient.
    fn weighted(
        &mut self,
        upload: Upload,
        layer: u16,
        chunks: Range<usize>,
    ) -> Result<Vec<ToClient>, Error> {
        let (at, forward) = (usize::from(layer), upload == Upload::Activation);
        if self.plan.is_local(upload, at) {
            return Ok(Vec::new());
        }
        let layout = self.plan.layout(upload, at);
        let (panel, weights, each, columns) = if forward {
            let weights = self.weights.forward(at)?;
            let each = layout.output_tiles();
            (&self.inputs[at], weights, each, chunks.clone())
        } else {
            let weights = self.weights.backward(at)?;
            (&self.group, weights, layout.input_tiles(), 0..chunks.len())
        };
        let panel = panel.as_ref().ok_or_else(|| missing("uploads"))?;
        let form = self.weights.passage(upload, at).returned;
        let products = Products::weighted(weights, panel, columns)?;
        let results = results(&products, &mut self.memory.sums, form, |sum| {
            let at = place(layer, chunks.start + sum / each, sum % each);
            (upload, at, positions(layout, upload, at))
        });
        if !forward {
            self.memory.group = self.group.take();
        }
        results
    }

    /// `sum d x^T` of some output tiles.
    fn sums(&mut self, layer: u16, tiles: Range<usize>) -> Result<Vec<ToClient>, Error> {
        let (at, upload) = (usize::from(layer), Upload::ClippedGradient);
        let (layout, passage) = (&self.plan.layouts()[at], self.weights.passage(upload, at));
        let inputs = layout.input_tiles();
        let kept = self.inputs[at].as_ref().ok_or_else(|| missing("inputs"))?;
        let group = self.group.as_ref().ok_or_else(|| missing("uploads"))?;
        let products = Products::of(group, kept)?;
        let results = results(&products, &mut self.memory.sums, passage.returned, |sum| {
            // The input tile stands in `chunk`.
            let at = place(layer, sum % inputs, tiles.start + sum / inputs);
            (upload, at, positions(layout, upload, at))
        });
        self.memory.group = self.group.take();
        results
    }
}

/// What the order of the script makes impossible.
fn missing(what: &str) -> Error {
    Error::Unexpected {
        expected: format!("{what} before their products"),
        got: "none".into(),
    }
}

fn place(layer: u16, chunk: usize, tile: usize) -> Place {
    Place {
        layer,
        chunk: chunk as u32,
        tile: tile as u32,
    }
}

/// Computes all sums in the memory of `room` and finishes them: `destination` says what each answers,
/// where it belongs, and the coefficients it carries.
fn results(
    products: &Products<'_>,
    room: &mut Option<Sums>,
    form: Return,
    destination: impl Fn(usize) -> (Upload, Place, Vec<usize>) + Sync,
) -> Result<Vec<ToClient>, Error> {
    let sums = compute(products, room.take());
    let finished = (0..sums.len()).into_par_iter().map(|at| {
        let (upload, place, positions) = destination(at);
        let result = finish(sums.ciphertext(at), &positions, form)?;
        Ok(match upload {
            Upload::Activation => ToClient::ForwardProduct(place, result),
            Upload::OutputGradient => ToClient::BackwardProduct(place, result),
            Upload::ClippedGradient => ToClient::GradientProduct(place, result),
        })
    });
    let finished = finished.collect();
    *room = Some(sums);
    finished
}

/// Names results by tile.
pub(crate) fn numbered(
    place: Place,
    results: Vec<Returned>,
    message: impl Fn(Place, Returned) -> ToClient,
) -> Vec<ToClient> {
    results
        .into_iter()
        .enumerate()
        .map(|(tile, result)| {
            message(
                Place {
                    tile: tile as u32,
                    ..place
                },
                result,
            )
        })
        .collect()
}
