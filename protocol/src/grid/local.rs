//! The multiplier that computes everything here: the oracle of all encrypted ones.

use std::sync::Arc;

use rayon::prelude::*;
use sphinx_dp::mechanism::Noised;

use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::{LinearKind, LinearShape};

use super::conv::Patches;
use super::{ClippedLayer, Forward, Multiplier};
use crate::error::Error;
use crate::format::Integers;
use crate::model::{FrozenReplica, Replica};
use crate::plan::GridPlan;

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
    plan: GridPlan,
    model: Arc<FrozenReplica>,
}

impl Frozen {
    /// A forward-only multiplier.
    #[must_use]
    pub const fn new(plan: GridPlan, model: Arc<FrozenReplica>) -> Self {
        Self { plan, model }
    }
}

impl Forward for Frozen {
    fn plan(&self) -> &GridPlan {
        &self.plan
    }

    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        Ok(affine(&self.plan, &self.model, layer, x))
    }
}

/// `W x + b` of every row.
fn affine(plan: &GridPlan, model: &FrozenReplica, layer: usize, x: &Integers) -> Integers {
    let (weights, biases) = (model.snapshot().layer(layer), model.biases(layer));
    let shape = plan.network().linears()[layer];
    let mut y = Integers::zeros(x.rows(), shape.outputs);
    match shape.kind {
        LinearKind::Dense => y.par_rows_mut().enumerate().for_each(|(j, out)| {
            let x = x.row(j);
            let rows = weights.chunks_exact(x.len());
            for ((y, &b), w) in out.iter_mut().zip(biases).zip(rows) {
                *y = b + w.iter().zip(x).map(|(w, x)| w * x).sum::<i32>();
            }
        }),
        LinearKind::Conv(conv) => {
            y.par_rows_mut()
                .enumerate()
                .for_each_init(Patches::default, |patches, (j, out)| {
                    patches.spread(conv, x.row(j));
                    patches.forward(conv, weights, biases, out);
                })
        }
    }
    y
}

impl Forward for Local {
    fn plan(&self) -> &GridPlan {
        self.replica.public().plan()
    }

    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        Ok(affine(self.plan(), &self.frozen, layer, x))
    }
}

impl Multiplier for Local {
    fn begin(&mut self, step: u64) -> Result<(), Error> {
        let expected = self.replica.public().step();
        if step == expected {
            self.replica.begin_outputs();
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
        Ok(pull_back(self.plan(), &self.frozen, layer, d))
    }

    fn gradients(&mut self, work: &[ClippedLayer]) -> Result<Vec<Vec<i64>>, Error> {
        Ok(work
            .iter()
            .map(|layer| layer_sum(self.plan(), layer))
            .collect())
    }

    fn sample_gradients(
        &mut self,
        layer: usize,
        x: &Integers,
        d: &Integers,
    ) -> Result<Vec<i32>, Error> {
        self.replica.note_outputs(layer, d);
        Ok(per_sample(&self.plan().network().linears()[layer], x, d))
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

/// `W^T d` of every row.
pub(crate) fn pull_back(
    plan: &GridPlan,
    model: &FrozenReplica,
    layer: usize,
    d: &Integers,
) -> Integers {
    let shape = plan.network().linears()[layer];
    let weights = model.snapshot().layer(layer);
    let mut dx = Integers::zeros(d.rows(), shape.inputs);
    match shape.kind {
        LinearKind::Dense => dx.par_rows_mut().enumerate().for_each(|(j, out)| {
            for (&d, w) in d.row(j).iter().zip(weights.chunks_exact(shape.inputs)) {
                for (out, &w) in out.iter_mut().zip(w) {
                    *out += d * w;
                }
            }
        }),
        LinearKind::Conv(conv) => dx
            .par_rows_mut()
            .enumerate()
            .for_each_init(Patches::default, |patches, (j, out)| {
                patches.backward(conv, weights, d.row(j), out)
            }),
    }
    dx
}

/// `sum_j d_j x_j^T` of one layer.
pub(crate) fn layer_sum(plan: &GridPlan, layer: &ClippedLayer) -> Vec<i64> {
    match plan.network().linears()[layer.layer].kind {
        LinearKind::Dense => outer_sum(layer),
        LinearKind::Conv(conv) => kernel_sum(conv, layer),
    }
}

/// `d_j x_j^T` of every sample, `[weight][row]`; a plan keeps it within 32 bits.
fn per_sample(shape: &LinearShape, x: &Integers, d: &Integers) -> Vec<i32> {
    let rows = x.rows();
    let gradients: Vec<Vec<i32>> = (0..rows)
        .into_par_iter()
        .map_init(Patches::default, |patches, j| match shape.kind {
            LinearKind::Dense => {
                let row = d.row(j).iter();
                row.flat_map(|&d| x.row(j).iter().map(move |&x| d * x))
                    .collect()
            }
            LinearKind::Conv(conv) => {
                let real: Vec<f64> = d.row(j).iter().map(|&d| f64::from(d)).collect();
                let mut gradient = vec![0.0; conv.weights()];
                patches.spread(conv, x.row(j));
                patches.gradient(conv, &real, &mut gradient);
                gradient.iter().map(|&g| g as i32).collect()
            }
        })
        .collect();
    let mut out = vec![0; shape.weights() * rows];
    let columns = out.par_chunks_mut(rows.max(1)).enumerate();
    columns.for_each(|(weight, column)| {
        for (out, gradient) in column.iter_mut().zip(&gradients) {
            *out = gradient[weight];
        }
    });
    out
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

/// `sum_j D_j P_j^T`, `[out][in][a][e]`.
fn kernel_sum(conv: ConvShape, layer: &ClippedLayer) -> Vec<i64> {
    let zero = || vec![0_i64; conv.weights()];
    (0..layer.x.rows())
        .into_par_iter()
        .fold(
            || {
                (
                    Patches::default(),
                    Vec::new(),
                    vec![0.0; conv.weights()],
                    zero(),
                )
            },
            |(mut patches, mut d, mut gradient, mut sum), j| {
                patches.spread(conv, layer.x.row(j));
                d.clear();
                d.extend(layer.d.row(j).iter().map(|&d| f64::from(d)));
                patches.gradient(conv, &d, &mut gradient);
                for (sum, &g) in sum.iter_mut().zip(&gradient) {
                    *sum += g as i64;
                }
                (patches, d, gradient, sum)
            },
        )
        .map(|(.., sum)| sum)
        .reduce(zero, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        })
}
