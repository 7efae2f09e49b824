//! Which ciphertexts meet in which sum: a layer's three products, term by term, and the tiles in which the
//! server computes them.
//!
//! A *unit* is what one thread computes at once: outputs that share operands. A *tile* is a run of units whose
//! operands are expanded together, at most [`BANK`] ciphertexts. Units and tiles follow from the
//! network's shape alone.

use std::ops::Range;

use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::{LinearKind, LinearShape};

use crate::plan::Phase;
use crate::work::{StepCounts, division_transforms};

/// Ciphertexts that are expanded at a time: at `N = 4096` and two primes 1.3 GB.
pub(super) const BANK: usize = 10_240;
/// Outputs of a dense layer in one unit.
const DENSE_UNIT: usize = 16;

/// The products of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Products {
    shape: LinearShape,
}

/// Outputs that are computed together, and the operands they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Outputs of `W x`, inputs of `W^T d`, or weights.
    pub(super) results: Vec<u32>,
    /// Layer inputs they look at, in order.
    pub(super) inputs: Vec<u32>,
    /// Output gradients they look at, in order.
    pub(super) outputs: Vec<u32>,
}

/// A run of units whose operands are held together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) units: Range<usize>,
    pub(super) inputs: Vec<u32>,
    pub(super) outputs: Vec<u32>,
}

impl Products {
    pub(crate) const fn new(shape: LinearShape) -> Self {
        Self { shape }
    }

    /// How many results a phase gives.
    pub(crate) const fn results(&self, phase: Phase) -> usize {
        match phase {
            Phase::Forward => self.shape.outputs,
            Phase::Backward => self.shape.inputs,
            _ => self.shape.weights(),
        }
    }

    /// The most operands that one unit needs.
    pub(super) fn widest(&self) -> usize {
        match self.shape.kind {
            LinearKind::Dense => self.shape.inputs.max(self.shape.outputs) + DENSE_UNIT,
            LinearKind::Conv(conv) => {
                let image = |s: sphinx_nn::network::ImageShape| s.height * s.width;
                let side = conv.output().channels * conv.kernel().pow(2);
                let pair = image(conv.input()) + image(conv.output());
                conv.patch().max(side).max(pair)
            }
        }
    }

    /// Terms `(input, weight)` of an output.
    pub(crate) fn forward(&self, weights: &[i32], output: u32) -> Vec<(u32, i64)> {
        let output = output as usize;
        match self.shape.kind {
            LinearKind::Dense => {
                let row = &weights[output * self.shape.inputs..(output + 1) * self.shape.inputs];
                let terms = row.iter().enumerate();
                terms.map(|(k, &w)| (k as u32, w.into())).collect()
            }
            LinearKind::Conv(conv) => {
                let (channel, position) = (output / conv.positions(), output % conv.positions());
                let kernel = &weights[channel * conv.patch()..(channel + 1) * conv.patch()];
                let terms = kernel.iter().enumerate();
                let seen = terms.filter_map(|(tap, &w)| Some((pixel(conv, tap, position)?, w)));
                seen.map(|(pixel, w)| (pixel, w.into())).collect()
            }
        }
    }

    /// Terms `(output gradient, weight)` of an input's gradient.
    pub(crate) fn backward(&self, weights: &[i32], input: u32) -> Vec<(u32, i64)> {
        let input = input as usize;
        match self.shape.kind {
            LinearKind::Dense => {
                let column = weights[input..].iter().step_by(self.shape.inputs);
                let terms = column.enumerate();
                terms.map(|(i, &w)| (i as u32, w.into())).collect()
            }
            LinearKind::Conv(conv) => {
                let (area, taps) = (
                    conv.input().height * conv.input().width,
                    conv.kernel().pow(2),
                );
                let (channel, place) = (input / area, input % area);
                let mut terms = Vec::new();
                for tap in 0..taps {
                    let Some(position) = position(conv, tap, place) else {
                        continue;
                    };
                    for out in 0..conv.output().channels {
                        let w = weights[out * conv.patch() + channel * taps + tap];
                        terms.push(((out * conv.positions() + position) as u32, w.into()));
                    }
                }
                terms
            }
        }
    }

    /// Terms `(output gradient, input)` of a weight's gradient.
    pub(crate) fn gradient(&self, weight: u32) -> Vec<(u32, u32)> {
        let weight = weight as usize;
        match self.shape.kind {
            LinearKind::Dense => {
                let inputs = self.shape.inputs;
                vec![((weight / inputs) as u32, (weight % inputs) as u32)]
            }
            LinearKind::Conv(conv) => {
                let (out, tap) = (weight / conv.patch(), weight % conv.patch());
                let positions = 0..conv.positions();
                let first = out * conv.positions();
                let seen = positions.filter_map(|at| Some((at, pixel(conv, tap, at)?)));
                seen.map(|(at, pixel)| ((first + at) as u32, pixel))
                    .collect()
            }
        }
    }

    /// All units of a phase, in the order in which results go down.
    pub(super) fn units(&self, phase: Phase) -> Vec<Unit> {
        match (self.shape.kind, phase) {
            (LinearKind::Dense, _) => self.dense_units(phase),
            (LinearKind::Conv(conv), Phase::Forward) => (0..conv.positions())
                .map(|position| {
                    let channels = 0..conv.output().channels;
                    let taps = 0..conv.patch();
                    Unit {
                        results: channels
                            .map(|o| (o * conv.positions() + position) as u32)
                            .collect(),
                        inputs: sorted(taps.filter_map(|tap| pixel(conv, tap, position))),
                        outputs: Vec::new(),
                    }
                })
                .collect(),
            (LinearKind::Conv(conv), Phase::Backward) => {
                let area = conv.input().height * conv.input().width;
                (0..area)
                    .map(|place| {
                        let channels = 0..conv.input().channels;
                        let taps = 0..conv.kernel().pow(2);
                        let seen = taps.filter_map(move |tap| position(conv, tap, place));
                        let outs = move |at| {
                            (0..conv.output().channels)
                                .map(move |o| (o * conv.positions() + at) as u32)
                        };
                        Unit {
                            results: channels.map(|c| (c * area + place) as u32).collect(),
                            inputs: Vec::new(),
                            outputs: sorted(seen.flat_map(outs)),
                        }
                    })
                    .collect()
            }
            (LinearKind::Conv(conv), _) => kernel_units(conv),
        }
    }

    fn dense_units(&self, phase: Phase) -> Vec<Unit> {
        let LinearShape {
            inputs, outputs, ..
        } = self.shape;
        let all = |count: usize| (0..count as u32).collect::<Vec<_>>();
        let parts = |count: usize| {
            let starts = (0..count).step_by(DENSE_UNIT);
            starts.map(move |s| (s as u32..(s + DENSE_UNIT).min(count) as u32).collect::<Vec<_>>())
        };
        match phase {
            Phase::Forward => parts(outputs)
                .map(|results| Unit {
                    results,
                    inputs: all(inputs),
                    outputs: Vec::new(),
                })
                .collect(),
            Phase::Backward => parts(inputs)
                .map(|results| Unit {
                    results,
                    inputs: Vec::new(),
                    outputs: all(outputs),
                })
                .collect(),
            _ => (0..outputs as u32)
                .flat_map(|out| {
                    parts(inputs).map(move |part| Unit {
                        results: part.iter().map(|k| out * inputs as u32 + k).collect(),
                        inputs: part,
                        outputs: vec![out],
                    })
                })
                .collect(),
        }
    }

    /// Runs of units whose operands together are at most `limit` ciphertexts; one unit at least.
    pub(super) fn tiles(units: &[Unit], limit: usize) -> Vec<Tile> {
        let mut tiles: Vec<Tile> = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            let joined = tiles.last().map(|tile| {
                let inputs = merged(&tile.inputs, &unit.inputs);
                (inputs, merged(&tile.outputs, &unit.outputs))
            });
            match (joined, tiles.last_mut()) {
                (Some((inputs, outputs)), Some(tile)) if inputs.len() + outputs.len() <= limit => {
                    tile.units.end = at + 1;
                    (tile.inputs, tile.outputs) = (inputs, outputs);
                }
                _ => tiles.push(Tile {
                    units: at..at + 1,
                    inputs: unit.inputs.clone(),
                    outputs: unit.outputs.clone(),
                }),
            }
        }
        tiles
    }

    /// Uploads that the server expands for one layer in one step and one block of samples: those of a tile
    /// once for every tile that needs them.
    pub(crate) fn expansions(&self, first: bool) -> u64 {
        let phases = [Phase::Forward, Phase::Gradient, Phase::Backward];
        let phases = phases.iter().take(if first { 2 } else { 3 });
        phases
            .flat_map(|&phase| Self::tiles(&self.units(phase), BANK))
            .map(|tile| (tile.inputs.len() + tile.outputs.len()) as u64)
            .sum()
    }

    /// The operations of one layer in one step, for one block of samples.
    pub(crate) fn counts(&self, first: bool) -> StepCounts {
        let sum = |phase: Phase, terms: &dyn Fn(u32) -> usize| -> u64 {
            (0..self.results(phase) as u32)
                .map(|r| terms(r) as u64)
                .sum()
        };
        let zeros = vec![0; self.shape.weights()];
        let forward = sum(Phase::Forward, &|r| self.forward(&zeros, r).len());
        let backward = match first {
            true => 0,
            false => sum(Phase::Backward, &|r| self.backward(&zeros, r).len()),
        };
        let back = if first { 0 } else { self.shape.inputs };
        let plain = (self.shape.outputs + back) as u64;
        let gradients = self.shape.weights() as u64;
        StepCounts {
            plain_products: forward + backward,
            products: sum(Phase::Gradient, &|r| self.gradient(r).len()),
            rescales: plain + gradients,
            relinearisations: 0,
            rotations: 0,
            // a division: one row back, one row forward, for each part of the ciphertext
            transforms: plain * division_transforms(1, 2) + gradients * division_transforms(1, 3),
            uploads: (self.shape.inputs + self.shape.outputs) as u64,
            downloads: plain + gradients,
        }
    }
}

/// One unit per pair of channels, in blocks of channels that fit half a tile each.
fn kernel_units(conv: ConvShape) -> Vec<Unit> {
    let area = conv.input().height * conv.input().width;
    let (outs, ins) = (conv.output().channels, conv.input().channels);
    let block = |values: usize, channels: usize| (BANK / 2 / values.max(1)).clamp(1, channels);
    let (out_block, in_block) = (block(conv.positions(), outs), block(area, ins));
    let taps = conv.kernel().pow(2);
    let mut units = Vec::with_capacity(outs * ins);
    for out_start in (0..outs).step_by(out_block) {
        for in_start in (0..ins).step_by(in_block) {
            for out in out_start..(out_start + out_block).min(outs) {
                for channel in in_start..(in_start + in_block).min(ins) {
                    let first = (out * conv.patch() + channel * taps) as u32;
                    let places = |first: usize, count: usize| {
                        (first as u32..(first + count) as u32).collect::<Vec<_>>()
                    };
                    units.push(Unit {
                        results: (first..first + taps as u32).collect(),
                        inputs: places(channel * area, area),
                        outputs: places(out * conv.positions(), conv.positions()),
                    });
                }
            }
        }
    }
    units
}

/// The input that tap `[in][a][e]` of a kernel sees at an output position, if it is inside.
fn pixel(conv: ConvShape, tap: usize, position: usize) -> Option<u32> {
    let (kernel, input) = (conv.kernel(), conv.input());
    let (channel, a, e) = (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel);
    let (i, j) = (
        position / conv.output().width,
        position % conv.output().width,
    );
    let place = |o: usize, k: usize, length: usize| {
        let inside = (o * conv.stride() + k).checked_sub(conv.padding())?;
        (inside < length).then_some(inside)
    };
    let (line, column) = (place(i, a, input.height)?, place(j, e, input.width)?);
    Some(((channel * input.height + line) * input.width + column) as u32)
}

/// The output position at which tap `[a][e]` sees an input place, if there is one.
fn position(conv: ConvShape, tap: usize, place: usize) -> Option<usize> {
    let (kernel, width) = (conv.kernel(), conv.input().width);
    let (a, e) = (tap / kernel, tap % kernel);
    let at = |p: usize, k: usize, length: usize| {
        let shifted = (p + conv.padding()).checked_sub(k)?;
        let o = shifted / conv.stride();
        (shifted % conv.stride() == 0 && o < length).then_some(o)
    };
    let i = at(place / width, a, conv.output().height)?;
    let j = at(place % width, e, conv.output().width)?;
    Some(i * conv.output().width + j)
}

fn sorted(values: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut values: Vec<u32> = values.collect();
    values.sort();
    values.dedup();
    values
}

/// The union of two ordered lists.
fn merged(a: &[u32], b: &[u32]) -> Vec<u32> {
    if b.is_empty() || a == b {
        return a.to_vec();
    }
    sorted(a.iter().chain(b).copied())
}

#[cfg(test)]
mod tests;
