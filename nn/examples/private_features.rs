//! DP-SGD for a linear model on scattering features, for choosing hyper-parameters.
//!
//! Poisson batches, per-sample clipping, Gaussian noise, momentum; **idealised floating-point noise
//! from a seeded generator**, so this measures accuracy and gives no privacy. Unless `test` is
//! asked for, the last 10,000 training records are held out and judged on, and never trained on.
//!
//! ```text
//! cargo run --release -p sphinx-nn --example private_features -- \
//!     data=DIR set=mnist sigma=5.8188 rate=0.1365333 steps=440 lr=8 clip=0.1 momentum=0.9 seed=1
//! ```
//!
//! `sigma` is the noise multiplier that `sphinx calibrate` gives for `rate` and `steps`. Further:
//! `groups=27`, `flip=1` (average the gradients of the image and its mirror image before
//! clipping), `decay=linear` (learning rate falls to zero), `average=0.99` (judge an exponential
//! average of the iterates), `eval=test`.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use sphinx_nn::augment::Augmentation;
use sphinx_nn::data::{self, Dataset, LoadOptions};
use sphinx_nn::features::{Extractor, FeatureSettings};
use sphinx_nn::{Tensor, ghost};
use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

const CLASSES: usize = 10;
/// Batch rows per task.
const BLOCK: usize = 256;
const HELD_OUT: usize = 10_000;

/// Settings from the command line.
struct Settings(HashMap<String, String>);

impl Settings {
    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    fn number(&self, name: &str, default: f64) -> Result<f64, Box<dyn Error>> {
        let text = self.0.get(name);
        text.map_or(Ok(default), |text| Ok(text.parse()?))
    }
}

/// Features of the training and judging records, and of their mirror images if asked for.
struct Prepared {
    views: Vec<Tensor>,
    labels: Vec<u8>,
    judged: Tensor,
    judged_labels: Vec<u8>,
}

fn rows(set: &Dataset, range: std::ops::Range<usize>) -> Dataset {
    let indices: Vec<u32> = range.clone().map(|i| i as u32).collect();
    Dataset {
        images: set.images.gather(&indices, indices.len()),
        labels: set.labels[range].to_vec(),
        ..set.clone()
    }
}

fn prepare(settings: &Settings) -> Result<Prepared, Box<dyn Error>> {
    let folder = settings.0.get("data").map(std::path::Path::new);
    let split = data::load(
        settings.text("set", "mnist"),
        folder,
        &LoadOptions::default(),
    )?;
    let judged_by_test = settings.text("eval", "held-out") == "test";
    let (train, judged) = if judged_by_test {
        (split.train, split.test)
    } else {
        let kept = split.train.len() - HELD_OUT;
        (
            rows(&split.train, 0..kept),
            rows(&split.train, kept..split.train.len()),
        )
    };
    let features = FeatureSettings {
        groups: settings.number("groups", 27.0)? as usize,
        ..FeatureSettings::default()
    };
    let extractor = Extractor::new(train.shape, features)?;
    let mut views = vec![extractor.apply(&train.images)?];
    if settings.number("flip", 0.0)? > 0.0 {
        let mirrored = Augmentation::mirror(train.shape).apply_all(&train.images);
        views.push(extractor.apply(&mirrored)?);
    }
    Ok(Prepared {
        views,
        labels: train.labels,
        judged: extractor.apply(&judged.images)?,
        judged_labels: judged.labels,
    })
}

/// Weights `[class][feature]`, then biases.
fn logits(weights: &[f32], features: &[f32]) -> [f32; CLASSES] {
    let count = features.len();
    std::array::from_fn(|c| {
        let row = &weights[c * count..(c + 1) * count];
        let mut lanes = [0.0_f32; 32];
        for (w, x) in row.chunks_exact(32).zip(features.chunks_exact(32)) {
            for ((lane, w), x) in lanes.iter_mut().zip(w).zip(x) {
                *lane += w * x;
            }
        }
        let tail = count / 32 * 32;
        let rest: f32 = row[tail..]
            .iter()
            .zip(&features[tail..])
            .map(|(w, x)| w * x)
            .sum();
        lanes.iter().sum::<f32>() + rest + weights[CLASSES * count + c]
    })
}

/// The gradient of the cross-entropy at the logits.
fn error(logits: [f32; CLASSES], label: u8) -> [f32; CLASSES] {
    let top = logits.iter().fold(f32::MIN, |m, v| m.max(*v));
    let exp = logits.map(|v| (v - top).exp());
    let sum: f32 = exp.iter().sum();
    std::array::from_fn(|c| exp[c] / sum - f32::from(u8::from(c == usize::from(label))))
}

/// Adds one record's clipped gradient, the mean over its views, to `sum`.
fn add_record(sum: &mut [f32], weights: &[f32], data: &Prepared, i: usize, clip: f64) {
    let views: Vec<&[f32]> = data.views.iter().map(|v| v.row(i)).collect();
    let share = 1.0 / views.len() as f32;
    let errors: Vec<[f32; CLASSES]> = views
        .iter()
        .map(|x| error(logits(weights, x), data.labels[i]).map(|d| d * share))
        .collect();
    // || sum_v d_v x_v^T ||^2 = sum_vw (d_v . d_w) (x_v . x_w + 1)
    let mut norm = 0.0;
    for (a, d) in views.iter().zip(&errors) {
        for (b, e) in views.iter().zip(&errors) {
            let errors: f64 = d.iter().zip(e).map(|(d, e)| f64::from(d * e)).sum();
            let inner = if std::ptr::eq(*a, *b) {
                ghost::squared_norm(a)
            } else {
                a.iter().zip(*b).map(|(a, b)| f64::from(a * b)).sum()
            };
            norm += errors * (inner + 1.0);
        }
    }
    let factor = ghost::factor(norm, clip) as f32;
    for (x, d) in views.iter().zip(&errors) {
        for (c, d) in d.iter().enumerate() {
            let (count, d) = (x.len(), d * factor);
            let row = &mut sum[c * count..(c + 1) * count];
            row.iter_mut().zip(*x).for_each(|(s, x)| *s += d * x);
            sum[CLASSES * count + c] += d;
        }
    }
}

fn clipped_sum(weights: &[f32], data: &Prepared, batch: &[usize], clip: f64) -> Vec<f32> {
    let partials: Vec<Vec<f32>> = batch
        .par_chunks(batch.len().div_ceil(16).max(BLOCK))
        .map(|records| {
            let mut sum = vec![0.0; weights.len()];
            for i in records {
                add_record(&mut sum, weights, data, *i, clip);
            }
            sum
        })
        .collect();
    let mut sum = vec![0.0; weights.len()];
    for partial in &partials {
        sum.iter_mut().zip(partial).for_each(|(s, p)| *s += p);
    }
    sum
}

/// Two standard normal numbers (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> [f64; 2] {
    let unit = |rng: &mut ChaCha8Rng| (rng.next_u32() as f64 + 0.5) / 4_294_967_296.0;
    let (radius, angle) = (
        (-2.0 * unit(rng).ln()).sqrt(),
        std::f64::consts::TAU * unit(rng),
    );
    [radius * angle.cos(), radius * angle.sin()]
}

fn accuracy(weights: &[f32], data: &Prepared) -> f64 {
    let right = (0..data.judged.rows()).into_par_iter().filter(|&i| {
        let logits = logits(weights, data.judged.row(i));
        let own = logits[usize::from(data.judged_labels[i])];
        logits.iter().filter(|v| **v >= own).count() == 1
    });
    right.count() as f64 / data.judged.rows() as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let pairs = std::env::args().skip(1).filter_map(|a| {
        let (name, value) = a.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let settings = Settings(pairs.collect());
    let mut out = std::io::stdout().lock();
    let start = Instant::now();
    let data = prepare(&settings)?;
    writeln!(out, "features in {:.1?}", start.elapsed())?;
    let sigmas = settings.text("sigma", "5.8188").split(',').map(str::parse);
    let sigmas: Vec<f64> = sigmas.collect::<Result<_, _>>()?;
    for sigma in sigmas {
        train(&settings, &data, sigma, &mut out)?;
    }
    Ok(())
}

fn train(
    settings: &Settings,
    data: &Prepared,
    sigma: f64,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let (rate, steps) = (
        settings.number("rate", 8192.0 / 60_000.0)?,
        settings.number("steps", 440.0)? as usize,
    );
    let (lr, clip) = (settings.number("lr", 8.0)?, settings.number("clip", 0.1)?);
    let (momentum, average) = (
        settings.number("momentum", 0.9)?,
        settings.number("average", 0.0)?,
    );
    let falls = settings.text("decay", "none") == "linear";
    let mut rng = ChaCha8Rng::seed_from_u64(settings.number("seed", 1.0)? as u64);
    let divisor = rate * data.labels.len() as f64;
    let mut weights = vec![0.0_f32; CLASSES * (data.judged.columns() + 1)];
    let (mut velocity, mut averaged) = (weights.clone(), weights.clone());
    let start = Instant::now();
    for step in 0..steps {
        let threshold = (rate * 4_294_967_296.0) as u32;
        let batch: Vec<usize> = (0..data.labels.len())
            .filter(|_| rng.next_u32() < threshold)
            .collect();
        let sum = clipped_sum(&weights, data, &batch, clip);
        let fall = if falls {
            1.0 - step as f64 / steps as f64
        } else {
            1.0
        };
        let mut noise = std::iter::repeat_with(|| normal(&mut rng)).flatten();
        let keep = (average.min((1 + step) as f64 / (10 + step) as f64)) as f32;
        for (((w, v), s), a) in weights
            .iter_mut()
            .zip(&mut velocity)
            .zip(&sum)
            .zip(&mut averaged)
        {
            let noised = f64::from(*s) + sigma * clip * noise.next().unwrap_or(0.0);
            *v = momentum as f32 * *v + (noised / divisor) as f32;
            *w -= (lr * fall) as f32 * *v;
            *a = keep * *a + (1.0 - keep) * *w;
        }
        if (step + 1) % (steps / 4).max(1) == 0 {
            let (last, mean) = (accuracy(&weights, data), accuracy(&averaged, data));
            let seconds = start.elapsed().as_secs_f64();
            writeln!(
                out,
                "sigma {sigma} lr {lr} step {}: last {last:.4}, averaged {mean:.4}, {seconds:.1} s",
                step + 1
            )?;
            out.flush()?;
        }
    }
    Ok(())
}
