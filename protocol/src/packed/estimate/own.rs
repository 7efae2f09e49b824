//! The client's own arithmetic: what it does besides ciphertexts, and what the products would cost
//! it.
//!
//! Measured by a few rows of one step of the integer oracle ([`Local`]) on this network: the time
//! of its products is what a client spends that keeps a phase at home; the rest of the step
//! (quantising, activations, pooling, loss, norms, clipping) it has to do in any case.

use std::time::Instant;

use cpu_time::ProcessTime;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sphinx_dp::mechanism::Noised;
use sphinx_nn::engine::Train;
use sphinx_nn::tensor::Tensor;

use crate::error::Error;
use crate::format::Integers;
use crate::grid::{ClippedLayer, Engine, Forward, Local, Multiplier};
use crate::model::Replica;
use crate::packed::Upload;
use crate::plan::{GridLiteral, GridPlan, Limits, Plan};

/// Multiplications that are measured, and the fewest and most rows that they make.
const MULTIPLICATIONS: usize = 400_000_000;
const ROWS: [usize; 2] = [32, 16 << 10];
/// Passes, the first of which does not count.
const PASSES: usize = 3;

/// Wall seconds and processor seconds of one kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Wall seconds, on all cores.
    pub seconds: f64,
    /// Processor seconds of all threads.
    pub cpu: f64,
}

impl Spent {
    fn plus(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            cpu: self.cpu + other.cpu,
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds * factor,
            cpu: self.cpu * factor,
        }
    }

    fn least(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.min(other.seconds),
            cpu: self.cpu.min(other.cpu),
        }
    }
}

/// Products of one layer computed at the client, in integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerWork {
    /// `W x`
    pub forward: Spent,
    /// `W^T d`
    pub backward: Spent,
    /// `sum d x^T`
    pub gradient: Spent,
}

/// The client's work of one step besides ciphertexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnWork {
    /// What it has to do in any case: quantising, activations, loss, norms, clipping.
    pub rest: Spent,
    /// What every layer's products would take it.
    pub layers: Vec<LayerWork>,
}

impl OwnWork {
    /// Measures some rows and counts for all.
    ///
    /// # Errors
    /// None that a checked plan could cause.
    pub fn measure(plan: &Plan) -> Result<Self, Error> {
        let linears = plan.network().linears();
        let each: usize = linears.iter().map(|l| l.multiplications()).sum();
        let rows = (MULTIPLICATIONS / each.max(1)).clamp(ROWS[0], ROWS[1]);
        let rows = rows.min(plan.capacity());
        let grid = GridPlan::new(
            &GridLiteral {
                capacity: rows,
                ..plan.literal().grid.clone()
            },
            &Limits::default(),
        )?;
        let mut best: Option<Self> = None;
        for _ in 0..PASSES {
            let pass = pass(&grid)?;
            best = Some(match best {
                Some(best) => best.least(&pass),
                None => pass,
            });
        }
        let all = plan.capacity() as f64 / rows as f64;
        Ok(best.map_or_else(|| Self::nothing(linears.len()), |best| best.times(all)))
    }

    fn nothing(layers: usize) -> Self {
        Self {
            rest: Spent::default(),
            layers: vec![LayerWork::default(); layers],
        }
    }

    fn least(&self, other: &Self) -> Self {
        let layers = self.layers.iter().zip(&other.layers);
        Self {
            rest: self.rest.least(other.rest),
            layers: layers
                .map(|(a, b)| LayerWork {
                    forward: a.forward.least(b.forward),
                    backward: a.backward.least(b.backward),
                    gradient: a.gradient.least(b.gradient),
                })
                .collect(),
        }
    }

    fn times(&self, factor: f64) -> Self {
        let layers = self.layers.iter().map(|layer| LayerWork {
            forward: layer.forward.times(factor),
            backward: layer.backward.times(factor),
            gradient: layer.gradient.times(factor),
        });
        Self {
            rest: self.rest.times(factor),
            layers: layers.collect(),
        }
    }

    /// What one product of one layer would take the client.
    #[must_use]
    pub fn product(&self, upload: Upload, layer: usize) -> Spent {
        let layer = self.layers.get(layer).copied().unwrap_or_default();
        match upload {
            Upload::Activation => layer.forward,
            Upload::OutputGradient => layer.backward,
            Upload::ClippedGradient => layer.gradient,
        }
    }

    /// Processor seconds of all products at the client.
    #[must_use]
    pub fn products_cpu(&self) -> f64 {
        let layers = self.layers.iter();
        layers
            .map(|l| l.forward.cpu + l.backward.cpu + l.gradient.cpu)
            .sum()
    }
}

/// One step without release, of rows that are all real, from records that lie elsewhere in memory.
fn pass(grid: &GridPlan) -> Result<OwnWork, Error> {
    let (rows, columns) = (grid.capacity(), grid.network().inputs());
    let pixels = (0..rows * columns).map(|at| (at * 37 % 256) as f32 / 256.0);
    let records: Vec<f32> = pixels.collect();
    let mut values = vec![0.0; rows * columns];
    let classes = grid.network().classes();
    let labels: Vec<Option<u8>> = (0..rows).map(|row| Some((row % classes) as u8)).collect();
    let local = Local::new(Replica::initial(grid));
    let mut engine = Engine::new(Watched::new(local, grid.network().linears().len()));
    let (spent, done) = spent(|| {
        let each = values.par_chunks_mut(columns.max(1));
        let each = each.zip(records.par_chunks(columns.max(1)).rev());
        each.for_each(|(to, record)| to.copy_from_slice(record));
        let x = Tensor::from_vec(rows, columns, values).map_err(|_| Error::UpdateLength {
            expected: rows * columns,
            got: 0,
        })?;
        engine.begin(0, rows)?;
        let pass = sphinx_nn::pass::gradients(&mut engine, grid.network(), &x, &labels)?;
        engine.collect(pass.pending)
    });
    done?;
    let layers = engine.into_multiplier().layers;
    let products = layers.iter().fold(Spent::default(), |sum, l| {
        sum.plus(l.forward).plus(l.backward).plus(l.gradient)
    });
    let rest = Spent {
        seconds: (spent.seconds - products.seconds).max(0.0),
        cpu: (spent.cpu - products.cpu).max(0.0),
    };
    Ok(OwnWork { rest, layers })
}

fn spent<T>(work: impl FnOnce() -> T) -> (Spent, T) {
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    let done = work();
    let spent = Spent {
        seconds: wall.elapsed().as_secs_f64(),
        cpu: cpu.elapsed().as_secs_f64(),
    };
    (spent, done)
}

/// A multiplier whose products are timed.
#[derive(Debug)]
struct Watched {
    inner: Local,
    layers: Vec<LayerWork>,
}

impl Watched {
    fn new(inner: Local, layers: usize) -> Self {
        Self {
            inner,
            layers: vec![LayerWork::default(); layers],
        }
    }
}

impl Forward for Watched {
    fn plan(&self) -> &GridPlan {
        self.inner.plan()
    }

    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        let (time, y) = spent(|| self.inner.forward(layer, x));
        self.layers[layer].forward = time;
        y
    }
}

impl Multiplier for Watched {
    fn begin(&mut self, step: u64) -> Result<(), Error> {
        self.inner.begin(step)
    }

    fn forward_held(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        self.forward(layer, x)
    }

    fn backward(&mut self, layer: usize, d: &Integers) -> Result<Integers, Error> {
        let (time, dx) = spent(|| self.inner.backward(layer, d));
        self.layers[layer].backward = time;
        dx
    }

    fn gradients(&mut self, work: &[ClippedLayer]) -> Result<Vec<Vec<i64>>, Error> {
        let mut sums = Vec::with_capacity(work.len());
        for layer in work {
            let (time, sum) = spent(|| self.inner.gradients(std::slice::from_ref(layer)));
            self.layers[layer.layer].gradient = time;
            sums.extend(sum?);
        }
        Ok(sums)
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), Error> {
        self.inner.learn(noised)
    }

    fn replica(&self) -> &Replica {
        self.inner.replica()
    }
}
