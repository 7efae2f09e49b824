//! A whole batch over all threads: blocks of samples, each with its own sum, added in order.

use super::pack::{Packed, unpack, unpack_joined};
use super::workspace::Workspace;
use super::{Bounds, MAX_TILE, Prepared, Rows};
use crate::loss::Loss;
use crate::network::Network;
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// At most this many partial sums exist at once.
const MAX_PARTIALS: usize = 32;
/// And they hold at most this many values, but for the first.
const PARTIAL_VALUES: usize = 1 << 24;
/// Values of the sums that one task adds up.
const REDUCE_BLOCK: usize = 4096;

/// A prepared network, its packed parameters, and space for every task and partial sum.
#[derive(Default)]
pub(crate) struct Batch {
    prepared: Option<Prepared>,
    packed: Packed,
    fresh: bool,
    workspaces: Mutex<Vec<Workspace>>,
    partials: Vec<Vec<f32>>,
    total: Vec<f32>,
}

/// What a batch gave. All of it is private data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    /// Per row.
    pub(crate) losses: Vec<f64>,
    pub(crate) hits: Vec<bool>,
    /// Per row, the squared norm after clipping, rounded up.
    pub(crate) norms: Vec<f64>,
    /// The clipped sum, laid out as the network.
    pub(crate) sum: Vec<f32>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Clone for Batch {
    /// Working space and packed parameters are left behind; they are made again when needed.
    fn clone(&self) -> Self {
        Self {
            prepared: self.prepared.clone(),
            ..Self::default()
        }
    }
}

impl Batch {
    /// Tables for `network`; without effect for a network that is too large for them.
    pub(crate) fn new(network: &Network, joined: bool) -> Self {
        Self {
            prepared: Prepared::new(network, joined, MAX_TILE),
            ..Self::default()
        }
    }

    /// The parameters have changed.
    pub(crate) fn stale(&mut self) {
        self.fresh = false;
    }

    /// Whether [`Self::step`] and [`Self::logits`] can be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.prepared.is_some()
    }

    fn pack(&mut self, parameters: &[f32]) {
        if let (Some(prepared), false) = (&self.prepared, self.fresh) {
            self.packed.fill(prepared, parameters);
            self.fresh = true;
        }
    }

    /// One step over the rows of `x`; `None` if the network is too large.
    pub(crate) fn step(
        &mut self,
        parameters: &[f32],
        x: &Tensor,
        labels: &[Option<u8>],
        loss: Loss,
        bounds: Bounds<'_>,
    ) -> Option<Results> {
        self.pack(parameters);
        let Self {
            prepared,
            packed,
            workspaces,
            partials,
            total,
            ..
        } = self;
        let (prepared, packed) = (prepared.as_ref()?, &*packed);
        let rows = x.rows();
        let mut results = Results {
            losses: vec![0.0; rows],
            hits: vec![false; rows],
            norms: vec![0.0; rows],
            sum: vec![0.0; prepared.parameters],
        };
        let block = prepared.block_rows(rows);
        partials.resize_with(rows.div_ceil(block), Vec::new);
        let inputs = x.as_slice().par_chunks(block * prepared.inputs);
        partials
            .par_iter_mut()
            .zip(inputs)
            .zip(labels.par_chunks(block))
            .zip(results.losses.par_chunks_mut(block))
            .zip(results.hits.par_chunks_mut(block))
            .zip(results.norms.par_chunks_mut(block))
            .for_each(|(((((sum, x), labels), losses), hits), norms)| {
                sum.resize(prepared.sum_len(), 0.0);
                sum.fill(0.0);
                let mut rows = Rows {
                    losses,
                    hits,
                    norms,
                };
                with_workspace(prepared, workspaces, |w| {
                    prepared.block(packed, w, (x, labels), (loss, bounds), &mut rows, sum);
                });
            });
        prepared.reduce(partials, total, &mut results.sum);
        Some(results)
    }

    /// One step over records of several views each, the rows of a record one after the other: a
    /// record's gradient is the mean over its views, formed before clipping. `labels` has one per
    /// record. `None` if the network is too large. For a batch that was made without joined layers.
    pub(crate) fn step_views(
        &mut self,
        parameters: &[f32],
        (x, views): (&Tensor, usize),
        labels: &[Option<u8>],
        loss: Loss,
        bounds: Bounds<'_>,
    ) -> Option<Results> {
        self.pack(parameters);
        let (prepared, packed) = (self.prepared.as_ref()?, &self.packed);
        let records = labels.len();
        let mut results = Results {
            losses: vec![0.0; records],
            hits: vec![false; records],
            norms: vec![0.0; records],
            sum: vec![0.0; prepared.parameters],
        };
        let block = prepared.block_rows(records);
        self.partials.resize_with(records.div_ceil(block), Vec::new);
        let of_record = views * prepared.inputs;
        let workspaces = &self.workspaces;
        self.partials
            .par_iter_mut()
            .zip(x.as_slice().par_chunks(block * of_record))
            .zip(labels.par_chunks(block))
            .zip(results.losses.par_chunks_mut(block))
            .zip(results.hits.par_chunks_mut(block))
            .zip(results.norms.par_chunks_mut(block))
            .for_each(|(((((sum, x), labels), losses), hits), norms)| {
                sum.resize(prepared.sum_len(), 0.0);
                sum.fill(0.0);
                let mut mean = vec![0.0; prepared.sum_len()];
                let records = x.chunks_exact(of_record).zip(labels).enumerate();
                for (i, (x, label)) in records {
                    with_workspace(prepared, workspaces, |w| {
                        (losses[i], hits[i]) =
                            prepared.mean_gradient(packed, w, (x, *label), loss, &mut mean);
                        norms[i] = prepared.add_clipped(w, &mean, bounds, sum);
                    });
                }
            });
        prepared.reduce(&self.partials, &mut self.total, &mut results.sum);
        Some(results)
    }

    /// The gradient of every row, rows x parameters; `None` if the network is too large. For a
    /// batch that was made without joined layers.
    pub(crate) fn sample_gradients(
        &mut self,
        parameters: &[f32],
        x: &Tensor,
        labels: &[Option<u8>],
        loss: Loss,
    ) -> Option<Tensor> {
        self.pack(parameters);
        let (prepared, packed) = (self.prepared.as_ref()?, &self.packed);
        let mut gradients = Tensor::zeros(x.rows(), prepared.parameters);
        let tile = prepared.tile;
        let inputs = x.as_slice().par_chunks(tile * prepared.inputs);
        let outputs = gradients.as_mut_slice();
        outputs
            .par_chunks_mut(tile * prepared.parameters)
            .zip(inputs)
            .zip(labels.par_chunks(tile))
            .for_each(|((to, x), labels)| {
                with_workspace(prepared, &self.workspaces, |w| {
                    prepared.sample_gradients(packed, w, (x, labels), loss, to);
                });
            });
        Some(gradients)
    }

    /// Logits of the rows of `x`; `None` if the network is too large.
    pub(crate) fn logits(&mut self, parameters: &[f32], x: &Tensor) -> Option<Tensor> {
        self.pack(parameters);
        let (prepared, packed) = (self.prepared.as_ref()?, &self.packed);
        let mut logits = Tensor::zeros(x.rows(), prepared.classes);
        if x.rows() == 1 {
            with_workspace(prepared, &self.workspaces, |w| {
                prepared.forward_split(packed, w, x.as_slice());
                prepared.read_logits(w, logits.as_mut_slice());
            });
            return Some(logits);
        }
        let inputs = x.as_slice().par_chunks(prepared.tile * prepared.inputs);
        let outputs = logits.as_mut_slice();
        outputs
            .par_chunks_mut(prepared.tile * prepared.classes)
            .zip(inputs)
            .for_each(|(to, x)| {
                with_workspace(prepared, &self.workspaces, |w| {
                    prepared.forward(packed, w, x, false);
                    prepared.read_logits(w, to);
                });
            });
        Some(logits)
    }
}

/// Lends a workspace to a task. Which one cannot matter: everything that is read was written
/// before by the same task, frames excepted, which stay zero.
fn with_workspace(
    prepared: &Prepared,
    workspaces: &Mutex<Vec<Workspace>>,
    work: impl FnOnce(&mut Workspace),
) {
    let lent = workspaces
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop();
    let mut w = lent.unwrap_or_else(|| Workspace::new(prepared, prepared.tile));
    work(&mut w);
    let mut back = workspaces.lock().unwrap_or_else(PoisonError::into_inner);
    back.push(w);
}

impl Prepared {
    /// Rows per block: a number of tiles that depends on the rows and the network alone.
    fn block_rows(&self, rows: usize) -> usize {
        let most = (PARTIAL_VALUES / self.sum_len().max(1)).clamp(1, MAX_PARTIALS);
        rows.div_ceil(most).next_multiple_of(self.tile).max(1)
    }

    /// All tiles of a block.
    fn block(
        &self,
        packed: &Packed,
        w: &mut Workspace,
        (x, labels): (&[f32], &[Option<u8>]),
        how: (Loss, Bounds<'_>),
        rows: &mut Rows<'_>,
        sum: &mut [f32],
    ) {
        let tiles = x
            .chunks(self.tile * self.inputs)
            .zip(labels.chunks(self.tile));
        for (i, (x, labels)) in tiles.enumerate() {
            let range = i * self.tile..i * self.tile + labels.len();
            let mut rows = Rows {
                losses: &mut rows.losses[range.clone()],
                hits: &mut rows.hits[range.clone()],
                norms: &mut rows.norms[range],
            };
            self.tile_step(packed, w, (x, labels), how, &mut rows, sum);
        }
    }

    /// The gradients of one tile of samples, none of whose layers is joined.
    fn sample_gradients(
        &self,
        packed: &Packed,
        w: &mut Workspace,
        (x, labels): (&[f32], &[Option<u8>]),
        loss: Loss,
        to: &mut [f32],
    ) {
        let count = self.forward(packed, w, x, false);
        let mut rows = Rows {
            losses: &mut vec![0.0; count],
            hits: &mut vec![false; count],
            norms: &mut [],
        };
        self.losses(w, loss, labels, &mut rows);
        for (s, to) in to.chunks_exact_mut(self.parameters).enumerate() {
            self.back_one(packed, w, s);
            for (l, layer) in self.layers.iter().enumerate() {
                unpack(
                    layer,
                    &self.layout[l],
                    &w.gradient[self.sums[l].clone()],
                    to,
                );
            }
        }
    }

    /// The mean of one record's gradients over its views, none of whose layers is joined; its mean
    /// loss, and whether the first view is predicted correctly.
    fn mean_gradient(
        &self,
        packed: &Packed,
        w: &mut Workspace,
        (x, label): (&[f32], Option<u8>),
        loss: Loss,
        mean: &mut [f32],
    ) -> (f64, bool) {
        mean.fill(0.0);
        let views = x.len() / self.inputs.max(1);
        let share = 1.0 / views as f32;
        let (mut losses, mut hit) = (0.0, false);
        for (tile, x) in x.chunks(self.tile * self.inputs).enumerate() {
            let count = self.forward(packed, w, x, false);
            let mut rows = Rows {
                losses: &mut vec![0.0; count],
                hits: &mut vec![false; count],
                norms: &mut [],
            };
            self.losses(w, loss, &vec![label; count], &mut rows);
            losses += rows.losses.iter().sum::<f64>();
            hit |= tile == 0 && rows.hits[0];
            for s in 0..count {
                self.back_one(packed, w, s);
                let views = mean.iter_mut().zip(&w.gradient);
                views.for_each(|(mean, view)| *mean += share * view);
            }
        }
        (losses / views as f64, hit)
    }

    /// Adds the partial sums in order and writes them where the network wants them.
    fn reduce(&self, partials: &[Vec<f32>], total: &mut Vec<f32>, to: &mut [f32]) {
        total.resize(self.sum_len(), 0.0);
        let blocks = total.par_chunks_mut(REDUCE_BLOCK).enumerate();
        blocks.for_each(|(i, total)| {
            total.fill(0.0);
            for partial in partials {
                let from = &partial[i * REDUCE_BLOCK..][..total.len()];
                total.iter_mut().zip(from).for_each(|(t, v)| *t += v);
            }
        });
        for (l, layer) in self.layers.iter().enumerate() {
            let (span, from) = (&self.layout[l], &total[self.sums[l].clone()]);
            match self.is_joined(l) {
                true => unpack_joined(layer, span, from, to),
                false => unpack(layer, span, from, to),
            }
        }
    }

    /// Copies the logits that a forward pass has left.
    pub(super) fn read_logits(&self, w: &Workspace, to: &mut [f32]) {
        let Some(last) = self.layers.last() else {
            return;
        };
        let from = w.slope[self.layers.len() - 1].chunks_exact(last.y.len());
        for (to, z) in to.chunks_exact_mut(self.classes).zip(from) {
            to.copy_from_slice(&z[..self.classes]);
        }
    }
}
