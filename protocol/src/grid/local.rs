//! The multiplier that computes everything here: the oracle of all encrypted ones.

use std::sync::Arc;

use rayon::prelude::*;
use sphinx_dp::mechanism::Noised;

use super::{ClippedLayer, Forward, Multiplier};
use crate::error::Error;
use crate::format::Integers;
use crate::model::{FrozenReplica, Replica};
use crate::plan::Plan;

/// Integer products in the clear, by the client itself.
#[derive(Debug)]
pub struct Local {
    replica: Replica,
    frozen: Arc<FrozenReplica>,
}

impl Local {
    /// A multiplier that starts from `replica`.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        let frozen = replica.freeze();
        Self { replica, frozen }
    }
}

/// Inference in the clear with one version of the model.
#[derive(Clone, Debug)]
pub struct Frozen {
    plan: Plan,
    model: Arc<FrozenReplica>,
}

impl Frozen {
    /// A forward-only multiplier.
    #[must_use]
    pub const fn new(plan: Plan, model: Arc<FrozenReplica>) -> Self {
        Self { plan, model }
    }
}

impl Forward for Frozen {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        Ok(affine(&self.model, layer, x))
    }
}

/// `W x + b` of every row.
fn affine(model: &FrozenReplica, layer: usize, x: &Integers) -> Integers {
    let (weights, biases) = (model.snapshot().layer(layer), model.biases(layer));
    let mut y = Integers::zeros(x.rows(), biases.len());
    y.par_rows_mut().enumerate().for_each(|(j, out)| {
        let x = x.row(j);
        for ((y, &b), w) in out
            .iter_mut()
            .zip(biases)
            .zip(weights.chunks_exact(x.len()))
        {
            *y = b + w.iter().zip(x).map(|(w, x)| w * x).sum::<i32>();
        }
    });
    y
}

impl Forward for Local {
    fn plan(&self) -> &Plan {
        self.replica.public().plan()
    }

    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        Ok(affine(&self.frozen, layer, x))
    }
}

impl Multiplier for Local {
    fn begin(&mut self, step: u64) -> Result<(), Error> {
        let expected = self.replica.public().step();
        if step == expected {
            Ok(())
        } else {
            Err(Error::StepOrder {
                expected,
                got: step,
            })
        }
    }

    fn forward_held(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        self.forward(layer, x)
    }

    fn backward(&mut self, layer: usize, d: &Integers) -> Result<Integers, Error> {
        let inputs = self.plan().network().linears()[layer].inputs;
        let weights = self.frozen.snapshot().layer(layer);
        let mut dx = Integers::zeros(d.rows(), inputs);
        dx.par_rows_mut().enumerate().for_each(|(j, out)| {
            for (&d, w) in d.row(j).iter().zip(weights.chunks_exact(inputs)) {
                for (out, &w) in out.iter_mut().zip(w) {
                    *out += d * w;
                }
            }
        });
        Ok(dx)
    }

    fn gradients(&mut self, work: &[ClippedLayer]) -> Result<Vec<Vec<i64>>, Error> {
        Ok(work.iter().map(outer_sum).collect())
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), Error> {
        self.replica.apply(noised)?;
        self.frozen = self.replica.freeze();
        Ok(())
    }

    fn replica(&self) -> &Replica {
        &self.replica
    }
}

/// `sum_j d_j x_j^T`, row-major `[out][in]`.
fn outer_sum(layer: &ClippedLayer) -> Vec<i64> {
    let (inputs, outputs) = (layer.x.columns(), layer.d.columns());
    let mut sum = vec![0_i64; inputs * outputs];
    sum.par_chunks_mut(inputs).enumerate().for_each(|(i, out)| {
        for j in 0..layer.x.rows() {
            let d = i64::from(layer.d.row(j)[i]);
            if d != 0 {
                for (s, &x) in out.iter_mut().zip(layer.x.row(j)) {
                    *s += d * i64::from(x);
                }
            }
        }
    });
    sum
}
