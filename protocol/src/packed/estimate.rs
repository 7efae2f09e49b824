//! What a training step will cost: counted, and timed by a short calibration.
//!
//! [`counts`] follows the script of uploads and gives ciphertexts, products and bytes of every
//! layer and phase; bytes are those on the wire, exactly. [`UnitTimes::measure`] runs each kind of
//! work a few times on one thread of this machine, on panels larger than its caches, and
//! [`UnitTimes::of`] multiplies. What the client does besides ciphertexts (activations, norms,
//! clipping), the wire and the noised update are not in it.

use cpu_time::ThreadTime;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use sphinx_he::exact::{Ciphertext, SeededCiphertext, Sums};
use sphinx_he::exact::{IntegerPoly, Panel, Products, SelectedCiphertext, WeightPanel};
use sphinx_he::rlwe::SecretKey;

use super::client::{encrypt_level, open_result, positions, replies};
use super::server::{finish, open_at};
use super::{Upload, places};
use crate::error::Error;
use crate::message::{Place, Returned, Sealed, ToClient, ToServer};
use crate::plan::{Passage, Plan, Tightness};

/// Bytes that announce the length of a frame.
const FRAME: usize = 4;
/// Rows and columns of the panels that are timed.
const ROWS: usize = 32;
const COLUMNS: usize = 8;

/// What one phase of one layer takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseCounts {
    /// Index of the linear layer.
    pub layer: usize,
    /// What is sent up.
    pub upload: Upload,
    /// Level of the uploads: the primes they carry, less one.
    pub level: usize,
    /// Ciphertexts sent up.
    pub uploads: usize,
    /// Ciphertexts sent down.
    pub downloads: usize,
    /// Products at the server.
    pub products: usize,
    /// Weight polynomials prepared at the server.
    pub weights: usize,
    /// Bytes sent up.
    pub bytes_up: usize,
    /// Bytes sent down.
    pub bytes_down: usize,
}

/// Every phase of a step with weights of this tightness, in the order of the script.
#[must_use]
pub fn counts(plan: &Plan, tightness: &[Tightness]) -> Vec<PhaseCounts> {
    let layers = plan.layouts().len();
    let forward = (0..layers).map(|l| (Upload::Activation, l));
    let backward = (1..layers).rev().map(|l| (Upload::OutputGradient, l));
    let gradient = (0..layers).rev().map(|l| (Upload::ClippedGradient, l));
    let phases = forward.chain(backward).chain(gradient);
    phases
        .map(|(upload, layer)| phase(plan, upload, layer, tightness[layer]))
        .collect()
}

fn phase(plan: &Plan, upload: Upload, layer: usize, tightness: Tightness) -> PhaseCounts {
    let (layout, parameters) = (&plan.layouts()[layer], plan.parameters());
    let passage = plan.passage(upload, layer, tightness);
    let uploads = places(plan, upload, layer).len();
    let replies = replies(layout, upload, layer);
    let form = passage.returned;
    let down = |at: &Place| {
        let count = positions(layout, upload, *at).len();
        overhead(false)
            + SelectedCiphertext::wire_size_bare(parameters, 0, form.degree, count, form.truncation)
    };
    let up = overhead(true) + SeededCiphertext::wire_size(parameters, passage.level);
    let pairs = layout.input_tiles() * layout.output_tiles();
    PhaseCounts {
        layer,
        upload,
        level: passage.level,
        uploads,
        downloads: replies.len(),
        products: pairs * layout.chunks(),
        weights: if form.degree == 1 { pairs } else { 0 },
        bytes_up: uploads * up,
        bytes_down: replies.iter().map(down).sum(),
    }
}

/// Bytes around a ciphertext.
fn overhead(up: bool) -> usize {
    let (layer, chunk, tile) = (0, 0, 0);
    let place = Place { layer, chunk, tile };
    FRAME
        + if up {
            let empty = Sealed::received(Vec::new());
            ToServer::Activation(place, empty).to_bytes().len()
        } else {
            let empty = Returned::received(Vec::new());
            ToClient::ForwardProduct(place, empty).to_bytes().len()
        }
}

/// Seconds of one core for each kind of work, at each level or degree where they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitTimes {
    /// Client: an upload at level 0 and at level 1.
    pub encrypt: [f64; 2],
    /// Client: a result of degree 1 and of degree 2.
    pub decrypt: [f64; 2],
    /// Server: taking an upload at level 0 and at level 1.
    pub take: [f64; 2],
    /// Server: a product with weights at level 0 and at level 1.
    pub weigh: [f64; 2],
    /// Server: a product of two ciphertexts.
    pub multiply: f64,
    /// Server: a weight polynomial at level 0 and at level 1.
    pub prepare: [f64; 2],
    /// Server: a result of degree 1 from level 0 and from level 1, and of degree 2.
    pub finish: [f64; 3],
}

/// Seconds of one core that a phase takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// At the server.
    pub server: f64,
    /// At the client, with ciphertexts.
    pub client: f64,
}

/// Processor seconds of `work` on this thread, and what it gave: other load does not count.
fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<(f64, T), Error> {
    let start = ThreadTime::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

impl UnitTimes {
    /// Calibrates on the first layer's passages, in a second or two. The keys are forgotten.
    ///
    /// # Errors
    /// None that a checked plan could cause; those of its ciphertexts all the same.
    pub fn measure(plan: &Plan, tightness: &[Tightness]) -> Result<Self, Error> {
        let mut times = Self::default();
        let last = plan.layouts().len() - 1;
        let secret = SecretKey::generate(plan.parameters(), &mut ChaCha20Rng::from_seed([1; 32]));
        let passage = |upload| plan.passage(upload, last, tightness[last]);
        times.linear(plan, &secret, passage(Upload::Activation))?;
        let low = passage(Upload::OutputGradient);
        if low.level == 0 {
            times.linear(plan, &secret, low)?;
        }
        times.quadratic(plan, &secret, passage(Upload::ClippedGradient))?;
        Ok(times)
    }

    fn linear(&mut self, plan: &Plan, secret: &SecretKey, passage: Passage) -> Result<(), Error> {
        let (parameters, level) = (plan.parameters(), passage.level);
        let x = self.panel(plan, secret, (level, passage.encoding), (ROWS, COLUMNS))?;
        let factor = passage.returned.factor;
        let (made, weights) = timed(|| {
            let mut panel = WeightPanel::new(parameters, level, factor, ROWS, ROWS)?;
            for row in 0..ROWS {
                let values = vec![row as i64; parameters.degree()];
                let polys = (0..ROWS).map(|_| IntegerPoly::new(parameters, level, &values, factor));
                let polys = polys.collect::<Result<Vec<_>, _>>()?;
                for mut part in panel.parts_mut() {
                    let columns = polys.iter().enumerate();
                    columns.for_each(|(column, w)| part.put(row, column, w));
                }
            }
            Ok(panel)
        })?;
        self.prepare[level] = made / (ROWS * ROWS) as f64;
        let products = Products::weighted(&weights, &x, 0..COLUMNS)?;
        let (weighed, sums) = timed(|| Ok(fill(&products)))?;
        self.weigh[level] = weighed / (ROWS * ROWS * COLUMNS) as f64;
        self.finish(plan, secret, passage, level, &sums)
    }

    fn quadratic(&mut self, plan: &Plan, secret: &SecretKey, p: Passage) -> Result<(), Error> {
        let x = self.panel(plan, secret, (1, plan.input_encoding()), (ROWS, COLUMNS))?;
        let d = self.panel(plan, secret, (1, p.encoding), (COLUMNS, COLUMNS))?;
        let products = Products::of(&d, &x)?;
        let (multiplied, sums) = timed(|| Ok(fill(&products)))?;
        self.multiply = multiplied / (ROWS * COLUMNS * COLUMNS) as f64;
        self.finish(plan, secret, p, 2, &sums)
    }

    /// Times encrypting and taking, and gives what was taken.
    fn panel(
        &mut self,
        plan: &Plan,
        secret: &SecretKey,
        (level, encoding): (usize, sphinx_he::exact::Encoding),
        (rows, columns): (usize, usize),
    ) -> Result<Panel, Error> {
        let (parameters, count) = (plan.parameters(), rows * columns);
        let values: Vec<i64> = (0..parameters.degree() as i64).map(|v| v % 100).collect();
        let (encrypting, sealed) = timed(|| {
            let sealed = (0..count as u32).map(|at| {
                let mut seed = [0; 32];
                seed[..4].copy_from_slice(&at.to_le_bytes());
                encrypt_level(parameters, secret, &values, (level, encoding), seed)
            });
            sealed.collect::<Result<Vec<_>, _>>()
        })?;
        let (taking, panel) = timed(|| {
            let mut panel = Panel::new(parameters, level, encoding, rows, columns)?;
            let opened = sealed.iter();
            let opened = opened.map(|s| Ok(open_at(parameters, s, (level, encoding))?.expand()));
            let opened = opened.collect::<Result<Vec<Ciphertext>, Error>>()?;
            for mut part in panel.parts_mut() {
                let all = opened.iter().enumerate();
                all.for_each(|(at, c)| part.put(at % rows, at / rows, c));
            }
            Ok(panel)
        })?;
        self.encrypt[level] = encrypting / count as f64;
        self.take[level] = taking / count as f64;
        Ok(panel)
    }

    fn finish(
        &mut self,
        plan: &Plan,
        secret: &SecretKey,
        passage: Passage,
        kind: usize,
        sums: &Sums,
    ) -> Result<(), Error> {
        let positions: Vec<usize> = (0..plan.parameters().degree() * 3 / 4).collect();
        let form = passage.returned;
        let results = 0..sums.len().min(128);
        let count = results.len() as f64;
        let (finishing, results) = timed(|| {
            let results = results.map(|at| finish(sums.ciphertext(at), &positions, form));
            results.collect::<Result<Vec<_>, _>>()
        })?;
        let (opening, ()) = timed(|| {
            let mut results = results.iter();
            results.try_for_each(|r| open_result(r, &positions, form, secret).map(drop))
        })?;
        self.finish[kind] = finishing / count;
        self.decrypt[form.degree - 1] = opening / count;
        Ok(())
    }

    /// The time of one phase.
    #[must_use]
    pub fn of(&self, phase: &PhaseCounts) -> PhaseTime {
        let level = phase.level;
        let gradient = phase.upload == Upload::ClippedGradient;
        let (product, finish, decrypt) = if gradient {
            (self.multiply, self.finish[2], self.decrypt[1])
        } else {
            (self.weigh[level], self.finish[level], self.decrypt[0])
        };
        PhaseTime {
            server: phase.uploads as f64 * self.take[level]
                + phase.weights as f64 * self.prepare[level]
                + phase.products as f64 * product
                + phase.downloads as f64 * finish,
            client: phase.uploads as f64 * self.encrypt[level] + phase.downloads as f64 * decrypt,
        }
    }
}

fn fill(products: &Products<'_>) -> Sums {
    let mut sums = products.room(None);
    sums.parts_mut()
        .for_each(|mut part| products.fill(&mut part));
    sums
}
