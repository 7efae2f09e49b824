//! The honest opponent: the client trains alone, in the clear, with the same privacy.
//!
//! The client-work ratio is the client's CPU time per step divided by the CPU time of the float
//! engine for the same step: same network, same batch padded to the same capacity, same noise,
//! same number of threads, in the same process, after the run when nothing else is going on.

use anyhow::Result;
use cpu_time::ProcessTime;
use sphinx_figures::stats;
use sphinx_nn::network::{LinearKind, LinearShape};
use sphinx_nn::{Tensor, conv, dense, init};
use sphinx_protocol::packed::Upload;

use crate::config::{Config, Engine, Learning};
use crate::job::{Begun, Job, Randomness, Unwatched};

/// Steps that are measured, after a first one that is not.
const STEPS: u64 = 7;

/// What a step costs a client that trains alone.
#[derive(Clone, Debug)]
pub struct Opponent {
    /// Median CPU seconds per step.
    pub cpu_s: f64,
    /// Median wall seconds per step.
    pub seconds: f64,
    /// CPU seconds of every measured step.
    pub samples: Vec<f64>,
}

impl Opponent {
    /// Measures it for the work of `job`. Nothing that is computed leaves this function.
    ///
    /// # Errors
    /// Whatever stops the float engine.
    pub fn measure(job: &Job) -> Result<Self> {
        let config = Config {
            engine: Engine::Clear,
            grid: false,
            ..job.config.clone()
        };
        let mut alone = job.with(config)?;
        // The terms stay those of the real run: the same capacity and noise, fewer steps.
        alone.config.steps = STEPS + 1;
        alone.config.learning = Learning::default();
        let mut begun = Begun::unkept(alone.terms.ledger(None)?);
        let trained = alone.train_local(&Randomness::new(None), &mut begun, &mut Unwatched)?;
        let steady = trained.history.steady();
        let samples: Vec<f64> = steady.iter().map(|s| s.cpu_s).collect();
        let walls: Vec<f64> = steady.iter().map(|s| s.report.seconds).collect();
        Ok(Self {
            cpu_s: stats::median(&samples)?,
            seconds: stats::median(&walls)?,
            samples,
        })
    }
}

/// CPU seconds of every product of every layer in floating point, by the client itself: the same
/// shapes and rows on random values, the median of a few repetitions on all threads. The
/// gradient is the sum over the batch, as the server computes it.
///
/// # Errors
/// None that a checked job can cause.
pub fn products_alone(job: &Job) -> Result<Vec<(Upload, usize, f64)>> {
    let parameters = init::glorot(&job.network, job.config.public_seed());
    let mut all = Vec::new();
    let layers = job.network.linears().iter().zip(job.network.layout());
    for (layer, (shape, span)) in layers.enumerate() {
        let values = |columns: usize| {
            let rows = job.terms.capacity;
            let values = (0..rows * columns).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5);
            Tensor::from_vec(rows, columns, values.collect())
        };
        let (x, d) = (values(shape.inputs)?, values(shape.outputs)?);
        let weights = &parameters[span.weights.clone()];
        let biases = &parameters[span.biases.clone()];
        for upload in [
            Upload::Activation,
            Upload::OutputGradient,
            Upload::ClippedGradient,
        ] {
            let mut samples = Vec::with_capacity(STEPS as usize);
            for _ in 0..STEPS {
                let cpu = ProcessTime::now();
                match upload {
                    Upload::Activation => drop(forward(shape, weights, biases, &x)),
                    Upload::OutputGradient => drop(backward(shape, weights, &d)),
                    Upload::ClippedGradient => drop(gradient(shape, biases.len(), &d, &x)),
                }
                samples.push(cpu.elapsed().as_secs_f64());
            }
            all.push((upload, layer, stats::median(&samples)?));
        }
    }
    Ok(all)
}

fn forward(shape: &LinearShape, weights: &[f32], biases: &[f32], x: &Tensor) -> Tensor {
    match shape.kind {
        LinearKind::Dense => dense::forward(*shape, weights, biases, x),
        LinearKind::Conv(conv) => conv::forward(conv, weights, biases, x),
    }
}

fn backward(shape: &LinearShape, weights: &[f32], d: &Tensor) -> Tensor {
    match shape.kind {
        LinearKind::Dense => dense::backward(*shape, weights, d),
        LinearKind::Conv(conv) => conv::backward(conv, weights, d),
    }
}

fn gradient(shape: &LinearShape, biases: usize, d: &Tensor, x: &Tensor) -> Vec<f32> {
    let mut sum = vec![0.0; shape.weights()];
    match shape.kind {
        LinearKind::Dense => dense::gradient(*shape, d, x, &mut sum, &mut vec![0.0; biases]),
        LinearKind::Conv(conv) => {
            let (mut scratch, mut one) = (Vec::new(), sum.clone());
            let mut bias = vec![0.0; biases];
            for row in 0..x.rows() {
                let (d, x) = (d.row(row), x.row(row));
                conv::sample_gradient(conv, d, x, &mut scratch, &mut one, &mut bias);
                sum.iter_mut().zip(&one).for_each(|(sum, one)| *sum += one);
            }
        }
    }
    sum
}
