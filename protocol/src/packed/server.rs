//! The server's half: products on ciphertexts.

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use sphinx_he::exact::{Ciphertext, Encoding, IntegerPoly};
use sphinx_he::rlwe::Parameters;

use super::Upload;
use super::layout::Layout;
use crate::error::Error;
use crate::message::{Place, Returned, Sealed, ToClient};
use crate::model::Snapshot;
use crate::plan::{Plan, Return};

/// The level at which everything is uploaded: both primes.
const TOP: usize = 1;

/// Weight polynomials of one layer for every (output tile, input tile), made when first used.
type Polynomials = OnceLock<Vec<IntegerPoly>>;

/// One version of the weights, with the polynomials that products need.
#[derive(Debug)]
pub(crate) struct Prepared {
    plan: Plan,
    snapshot: Arc<Snapshot>,
    forward: Vec<Polynomials>,
    backward: Vec<Polynomials>,
    mask: Vec<Polynomials>,
}

impl Prepared {
    pub(crate) fn new(plan: &Plan, snapshot: Arc<Snapshot>) -> Self {
        let empty = || (0..plan.layouts().len()).map(|_| OnceLock::new()).collect();
        Self {
            plan: plan.clone(),
            snapshot,
            forward: empty(),
            backward: empty(),
            mask: empty(),
        }
    }

    /// The same weights with nothing prepared.
    pub(crate) fn without_polynomials(&self) -> Self {
        Self::new(&self.plan, Arc::clone(&self.snapshot))
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn forward(&self, layer: usize) -> Result<&[IntegerPoly], Error> {
        let layout = &self.plan.layouts()[layer];
        self.polynomials(
            &self.forward[layer],
            layer,
            layout,
            self.plan.returns(layer).forward.factor,
            false,
        )
    }

    fn backward(&self, layer: usize) -> Result<&[IntegerPoly], Error> {
        let layout = &self.plan.layouts()[layer];
        self.polynomials(
            &self.backward[layer],
            layer,
            layout,
            self.plan.returns(layer).backward.factor,
            true,
        )
    }

    pub(crate) fn mask(&self, layer: usize) -> Result<&[IntegerPoly], Error> {
        let layout = &self.plan.ticket_layouts()[layer];
        self.polynomials(&self.mask[layer], layer, layout, 1, false)
    }

    /// Output tile by output tile, input tiles within.
    fn polynomials<'a>(
        &self,
        slot: &'a Polynomials,
        layer: usize,
        layout: &Layout,
        factor: u64,
        backward: bool,
    ) -> Result<&'a [IntegerPoly], Error> {
        if let Some(ready) = slot.get() {
            return Ok(ready);
        }
        let weights = self.snapshot.layer(layer);
        let inputs = layout.input_tiles();
        let made = (0..layout.output_tiles() * inputs)
            .into_par_iter()
            .map(|at| {
                let (i, k) = (at / inputs, at % inputs);
                let values = if backward {
                    layout.backward_weights(weights, i, k)
                } else {
                    layout.forward_weights(weights, i, k)
                };
                IntegerPoly::new(self.plan.parameters(), TOP, &values, factor)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(slot.get_or_init(|| made))
    }
}

/// Parses an upload and checks that it is encrypted as the plan says.
pub(crate) fn open(
    parameters: &Parameters,
    sealed: &Sealed,
    encoding: Encoding,
) -> Result<Ciphertext, Error> {
    let seeded = sealed.open(parameters)?;
    if seeded.level() != TOP || seeded.encoding() != encoding {
        return Err(Error::Unexpected {
            expected: format!("a ciphertext at level {TOP} encoded as {encoding:?}"),
            got: format!("level {}, {:?}", seeded.level(), seeded.encoding()),
        });
    }
    Ok(seeded.expand())
}

/// `W x` of one chunk: one result per output tile.
pub(crate) fn chunk_forward(
    layout: &Layout,
    weights: &[IntegerPoly],
    inputs: &[Ciphertext],
    chunk: usize,
    form: Return,
) -> Result<Vec<Returned>, Error> {
    (0..layout.output_tiles())
        .into_par_iter()
        .map(|i| {
            let row = &weights[i * inputs.len()..(i + 1) * inputs.len()];
            let sum = weighted_sum(&inputs.iter().zip(row).collect::<Vec<_>>())?;
            finish(sum, &layout.forward_positions(i, chunk), form)
        })
        .collect()
}

fn weighted_sum(terms: &[(&Ciphertext, &IntegerPoly)]) -> Result<Ciphertext, Error> {
    let Some(((first, w), rest)) = terms.split_first() else {
        return Err(nothing_to_sum());
    };
    let mut sum = first.mul_plain(w)?;
    sum.add_dot_plain(rest)?;
    Ok(sum)
}

fn product_sum(terms: &[(&Ciphertext, &Ciphertext)]) -> Result<Ciphertext, Error> {
    let Some(((x, d), rest)) = terms.split_first() else {
        return Err(nothing_to_sum());
    };
    let mut sum = x.mul(d)?;
    sum.add_dot(rest)?;
    Ok(sum)
}

fn nothing_to_sum() -> Error {
    Error::Unexpected {
        expected: "at least one tile".into(),
        got: "none".into(),
    }
}

/// Drops the prime and keeps what the plan says.
pub(crate) fn finish(
    sum: Ciphertext,
    positions: &[usize],
    form: Return,
) -> Result<Returned, Error> {
    let selected = sum.drop_and_select(positions, form.truncation)?;
    Ok(Returned::new(&selected))
}

/// What the server holds during one training step.
#[derive(Debug)]
pub(crate) struct StepWork {
    plan: Plan,
    weights: Arc<Prepared>,
    /// Inputs of every layer, chunk by chunk: `chunk * input_tiles + tile`.
    inputs: Vec<Vec<Ciphertext>>,
    /// Output gradients being received: the tiles of one chunk for the backward product, the
    /// chunks of one tile for the gradient.
    outputs: Vec<Ciphertext>,
}

impl StepWork {
    pub(crate) fn new(plan: &Plan, weights: Arc<Prepared>) -> Self {
        let inputs = vec![Vec::new(); plan.layouts().len()];
        Self {
            plan: plan.clone(),
            weights,
            inputs,
            outputs: Vec::new(),
        }
    }

    /// Takes the next upload of the script; the caller has checked its place.
    pub(crate) fn take(
        &mut self,
        upload: Upload,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Vec<ToClient>, Error> {
        let encoding = match upload {
            Upload::Activation => self.plan.input_encoding(),
            _ => self.plan.gradient_encoding(),
        };
        let ciphertext = open(self.plan.parameters(), sealed, encoding)?;
        match upload {
            Upload::Activation => self.activation(place, ciphertext),
            Upload::OutputGradient => self.output_gradient(place, ciphertext),
            Upload::ClippedGradient => self.clipped_gradient(place, ciphertext),
        }
    }

    fn activation(&mut self, place: Place, x: Ciphertext) -> Result<Vec<ToClient>, Error> {
        let (layer, chunk) = (usize::from(place.layer), place.chunk as usize);
        let layout = &self.plan.layouts()[layer];
        self.inputs[layer].push(x);
        let tiles = layout.input_tiles();
        if place.tile as usize + 1 < tiles {
            return Ok(Vec::new());
        }
        let inputs = &self.inputs[layer][chunk * tiles..];
        let (weights, form) = (
            self.weights.forward(layer)?,
            self.plan.returns(layer).forward,
        );
        let results = chunk_forward(layout, weights, inputs, chunk, form)?;
        Ok(numbered(place, results, ToClient::ForwardProduct))
    }

    fn output_gradient(&mut self, place: Place, d: Ciphertext) -> Result<Vec<ToClient>, Error> {
        let layer = usize::from(place.layer);
        let layout = &self.plan.layouts()[layer];
        self.outputs.push(d);
        if self.outputs.len() < layout.output_tiles() {
            return Ok(Vec::new());
        }
        let (outputs, inputs) = (std::mem::take(&mut self.outputs), layout.input_tiles());
        let (weights, form) = (
            self.weights.backward(layer)?,
            self.plan.returns(layer).backward,
        );
        let results = (0..inputs)
            .into_par_iter()
            .map(|k| {
                let column = weights[k..].iter().step_by(inputs);
                let sum = weighted_sum(&outputs.iter().zip(column).collect::<Vec<_>>())?;
                let positions = layout.backward_positions(k, place.chunk as usize);
                finish(sum, &positions, form)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(numbered(place, results, ToClient::BackwardProduct))
    }

    fn clipped_gradient(&mut self, place: Place, d: Ciphertext) -> Result<Vec<ToClient>, Error> {
        let (layer, i) = (usize::from(place.layer), place.tile as usize);
        let layout = &self.plan.layouts()[layer];
        self.outputs.push(d);
        if self.outputs.len() < layout.chunks() {
            return Ok(Vec::new());
        }
        // All chunks of this output tile are here: one reduction for the whole sum.
        let (outputs, tiles) = (std::mem::take(&mut self.outputs), layout.input_tiles());
        let (inputs, form) = (&self.inputs[layer], self.plan.returns(layer).gradient);
        (0..tiles)
            .into_par_iter()
            .map(|k| {
                let column = inputs[k..].iter().step_by(tiles);
                let sum = product_sum(&column.zip(&outputs).collect::<Vec<_>>())?;
                let result = finish(sum, &layout.gradient_positions(i, k), form)?;
                let place = Place {
                    chunk: k as u32,
                    ..place
                };
                Ok(ToClient::GradientProduct(place, result))
            })
            .collect()
    }
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
