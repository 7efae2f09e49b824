//! Timing each kind of work on this machine, a few times, on all cores at once.
//!
//! Two processes of a step share the caches and the memory of one machine, and an operation takes
//! longer while the other cores work too; so every kind of work is timed on all of them together,
//! by the processor time of each thread: other load counts only where it slows memory.
//!
//! Products are timed for every layer in the shape they have there, because what a product costs
//! depends on what else is in the cache; in a shorter ring (blocks of evaluations are computed one
//! by one, so that the length of the ring matters to nothing else), with zeros for operands (no
//! kernel looks at what it multiplies).

use cpu_time::{ProcessTime, ThreadTime};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;
use sphinx_he::exact::{Ciphertext, Encoding, Sums};
use sphinx_he::exact::{Features, IntegerPoly, Panel, Products, Scalars, WeightPanel};
use sphinx_he::rlwe::{Parameters, ParametersLiteral, SecretKey, Security};

use super::own::OwnWork;
use super::{PhaseCounts, PhaseTime, PhaseUnits, UnitTimes, counts};
use crate::error::Error;
use crate::format::Integers;
use crate::message::{Place, Sealed, ToServer};
use crate::packed::Upload;
use crate::packed::client::{BATCH, encrypt_level, open_result, positions, replies};
use crate::packed::layout::Layout;
use crate::packed::server::{LAID_OUT_AT_ONCE, compute, expanded, finish, lay_out, open_at};
use crate::plan::{Passage, Plan, Return, Tightness};
use crate::transport::{LONGEST_FRAME, connect, wrap};

/// Ciphertexts that are encrypted, taken, finished and decrypted.
const SAMPLES: usize = 128;
/// Rows and columns of the panel that they are laid out in: no cache holds it.
const PANEL: [usize; 2] = [16, 64];
/// Most rows, columns and terms of the products that are timed.
const WIDEST: usize = 128;
/// Uploads that are packed and results that are placed, of each phase, and the fewest numbers of
/// the batch that they are of.
const PACKED: usize = 32;
const PLACED: usize = 128;
const ENTRIES: usize = 4 << 20;
/// Most bytes of their operands.
const OPERANDS: usize = 96 << 20;
/// Terms and sums of the products with integers that are timed.
const INTEGERS: (usize, usize) = (512, 128);
/// log2 of the degrees of the rings they are timed in.
const SHORT_RINGS: [u32; 3] = [10, 9, 8];
/// Frames that are sent over a socket.
const FRAMES: usize = 600;

/// What this machine needs for one step of one plan.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Kinds of work that do not depend on the layer; products as they are on average.
    pub units: UnitTimes,
    /// What depends on the layer, in the order of [`counts`].
    pub phases: Vec<PhaseUnits>,
    /// What the client does besides.
    pub own: OwnWork,
}

/// Processor seconds of `work` on this thread, and what it gave.
fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<(f64, T), Error> {
    let start = ThreadTime::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

/// Processor seconds of each of `count` pieces of work, on average over all cores.
fn spread<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Result<(f64, Vec<T>), Error> {
    let done = (0..count).into_par_iter().map(|at| timed(|| work(at)));
    let done = done.collect::<Result<Vec<_>, _>>()?;
    let seconds: f64 = done.iter().map(|(seconds, _)| seconds).sum();
    let results = done.into_iter().map(|(_, result)| result).collect();
    Ok((seconds / count.max(1) as f64, results))
}

/// Processor seconds of each of [`SAMPLES`] uploads that are encrypted as the client does it: a batch on
/// all cores, which then wait while they are sent.
fn batches(
    encrypt: impl Fn(usize) -> Result<Sealed, Error> + Sync,
) -> Result<(f64, Vec<Sealed>), Error> {
    let (layer, chunk, tile) = (0, 0, 0);
    let place = Place { layer, chunk, tile };
    let start = ProcessTime::now();
    let mut all = Vec::with_capacity(SAMPLES);
    for first in (0..SAMPLES).step_by(BATCH) {
        let batch = (first..first + BATCH).into_par_iter().map(&encrypt);
        for sealed in batch.collect::<Result<Vec<_>, _>>()? {
            let bytes = ToServer::Activation(place, sealed).to_bytes();
            if let ToServer::Activation(_, sealed) = ToServer::from_bytes(&bytes)? {
                all.push(sealed);
            }
        }
    }
    Ok((start.elapsed().as_secs_f64() / SAMPLES as f64, all))
}

/// Small numbers of both signs, in no order that a processor could learn.
fn scattered(count: usize) -> Vec<i64> {
    let numbers = (0..count as u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
    numbers.map(|v| v as i64 % 199 - 99).collect()
}

/// A seed of a ciphertext that is made to be timed.
fn seed(at: usize) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(at as u64).to_le_bytes());
    seed
}

impl Calibration {
    /// Measures this machine for a plan and weights of this tightness: a few seconds. The keys are
    /// forgotten.
    ///
    /// # Errors
    /// [`Error::Transport`] where there is no loopback interface; else none that a checked plan
    /// could cause.
    pub fn measure(plan: &Plan, tightness: &[Tightness]) -> Result<Self, Error> {
        let phases = counts(plan, tightness);
        let mut units = UnitTimes::default();
        let bench = Bench::new(plan, tightness);
        crate::packed::keep_freed_memory();
        bench.ciphertexts(&mut units, &phases)?;
        units.byte = socket(phases.iter().map(PhaseCounts::upload_bytes).max())?;
        units.scale = [bench.scaled(0)?, bench.scaled(1)?];
        let mut each: Vec<PhaseUnits> = Vec::with_capacity(phases.len());
        for phase in &phases {
            let mut mine = bench.numbers(phase)?;
            mine.product = match phase.scalar {
                true => units.scale[phase.level],
                false => bench.product(phase, bench.passage(phase))?,
            };
            each.push(mine);
        }
        units.average(&phases, &each);
        Ok(Self {
            units,
            phases: each,
            own: OwnWork::measure(plan)?,
        })
    }

    /// The time of the phase at position `at` of [`counts`].
    #[must_use]
    pub fn of(&self, at: usize, phase: &PhaseCounts) -> PhaseTime {
        self.units.with(phase, self.each(at, phase))
    }

    /// What depends on the layer of this phase.
    pub(super) fn each(&self, at: usize, phase: &PhaseCounts) -> PhaseUnits {
        let each = self.phases.get(at).copied();
        each.unwrap_or_else(|| self.units.each(phase))
    }
}

impl PhaseCounts {
    fn upload_bytes(&self) -> usize {
        self.bytes_up / self.uploads.max(1)
    }
}

impl UnitTimes {
    /// Takes the mean seconds of a product of each kind, and of a number.
    fn average(&mut self, phases: &[PhaseCounts], each: &[PhaseUnits]) {
        let mean = |count: &dyn Fn(&PhaseCounts) -> usize, of: fn(&PhaseUnits) -> f64| {
            let pairs = || {
                phases
                    .iter()
                    .zip(each)
                    .map(|(p, u)| (count(p) as f64, of(u)))
            };
            let all: f64 = pairs().map(|(count, _)| count).sum();
            let spent: f64 = pairs().map(|(count, seconds)| count * seconds).sum();
            (all > 0.0).then(|| spent / all)
        };
        let products = |wanted: &dyn Fn(&PhaseCounts) -> bool| {
            mean(
                &|p| match !p.scalar && wanted(p) {
                    true => p.products,
                    false => 0,
                },
                |u| u.product,
            )
        };
        let gradient = |p: &PhaseCounts| p.upload == Upload::ClippedGradient;
        let linear = |level| move |p: &PhaseCounts| !gradient(p) && p.level == level;
        self.multiply = products(&gradient).unwrap_or(self.multiply);
        let top = products(&linear(1)).unwrap_or(self.multiply / 2.0);
        self.weigh = [products(&linear(0)).unwrap_or(top / 2.0), top];
        self.pack = mean(&|p| p.values_up, |u| u.pack).unwrap_or(self.pack);
        self.read = mean(&|p| p.values_down, |u| u.read).unwrap_or(self.read);
        self.select = mean(&|p| p.values_down, |u| u.select).unwrap_or(self.select);
    }
}

/// What is timed against.
struct Bench<'a> {
    plan: &'a Plan,
    tightness: &'a [Tightness],
    secret: SecretKey,
}

impl<'a> Bench<'a> {
    fn new(plan: &'a Plan, tightness: &'a [Tightness]) -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let secret = SecretKey::generate(plan.parameters(), &mut rng);
        Self {
            plan,
            tightness,
            secret,
        }
    }

    fn parameters(&self) -> &Parameters {
        self.plan.parameters()
    }

    /// Everything that is done to one ciphertext or weight, without the numbers in it.
    fn ciphertexts(&self, units: &mut UnitTimes, phases: &[PhaseCounts]) -> Result<(), Error> {
        for level in [1, 0] {
            let uses = |p: &&PhaseCounts| p.level == level && p.upload != Upload::ClippedGradient;
            let Some(phase) = phases.iter().find(uses) else {
                continue;
            };
            let passage = self.passage(phase);
            let form = passage.returned;
            let taken = self.uploads(units, level, passage.encoding)?;
            units.prepare[level] = self.weight(level, form.factor)?;
            let sums = self.sums(&taken, (level, form.factor), passage.encoding)?;
            (units.finish[level], units.decrypt[0]) = self.results(&sums, form, &[0])?;
        }
        let gradient = phases.iter().find(|p| p.upload == Upload::ClippedGradient);
        if let Some(phase) = gradient {
            let form = self.passage(phase).returned;
            let (p, rows) = (self.parameters(), (SAMPLES / 8, 1));
            let d = filled(p, (1, self.plan.gradient_encoding()), rows)?;
            let x = filled(p, (1, self.plan.input_encoding()), (8, 1))?;
            let sums = compute(&Products::of(&d, &x)?, None);
            (units.finish[2], units.decrypt[1]) = self.results(&sums, form, &[0])?;
        }
        Ok(())
    }

    fn passage(&self, phase: &PhaseCounts) -> Passage {
        let layer = phase.layer;
        self.plan
            .passage(phase.upload, layer, self.tightness[layer])
    }

    /// Times encrypting and taking, and gives what was taken.
    fn uploads(
        &self,
        units: &mut UnitTimes,
        level: usize,
        encoding: Encoding,
    ) -> Result<Vec<Ciphertext>, Error> {
        let (p, secret) = (self.parameters(), &self.secret);
        let (values, form) = (scattered(p.degree()), (level, encoding));
        let encrypt = |at| encrypt_level(p, secret, &values, form, seed(at));
        spread(SAMPLES / 8, encrypt)?;
        let (encrypting, sealed) = batches(encrypt)?;
        let [rows, columns] = PANEL;
        let mut panel = Panel::new(p, level, encoding, rows, columns)?;
        let mut taken = Vec::new();
        units.encrypt[level] = encrypting;
        // Once before: a run has its memory from the step before.
        for _ in 0..2 {
            let start = ProcessTime::now();
            taken.clear();
            for first in (0..SAMPLES).step_by(LAID_OUT_AT_ONCE) {
                let batch = sealed[first..].iter().take(LAID_OUT_AT_ONCE);
                let opened = batch.map(|sealed| open_at(p, sealed, form));
                let mut held = opened.collect::<Result<Vec<_>, _>>()?;
                let all = expanded(&mut held);
                lay_out(&mut panel, &all, |at| {
                    let (row, column) = ((first + at) % rows, (first + at) / rows);
                    (row, column * rows * columns / SAMPLES)
                })?;
                taken.extend(all);
            }
            units.take[level] = start.elapsed().as_secs_f64() / SAMPLES as f64;
        }
        Ok(taken)
    }

    fn weight(&self, level: usize, factor: u64) -> Result<f64, Error> {
        let p = self.parameters();
        let values: Vec<i64> = (0..p.degree() as i64).map(|v| v % 100).collect();
        let (seconds, made) = spread(SAMPLES, |_| {
            Ok(IntegerPoly::new(p, level, &values, factor)?)
        })?;
        let mut panel = WeightPanel::new(p, level, factor, 16, SAMPLES / 16)?;
        let (placing, ()) = timed(|| {
            for mut part in panel.parts_mut() {
                let all = made.iter().enumerate();
                all.for_each(|(at, w)| part.put(at % 16, at / 16, w));
            }
            Ok(())
        })?;
        Ok(seconds + placing / SAMPLES as f64)
    }

    /// Sums of ciphertexts, one beside the other as a run has them.
    fn sums(
        &self,
        taken: &[Ciphertext],
        (level, factor): (usize, u64),
        encoding: Encoding,
    ) -> Result<Sums, Error> {
        let p = self.parameters();
        let mut x = Panel::new(p, level, encoding, 1, taken.len())?;
        x.parts_mut().for_each(|mut part| {
            let all = taken.iter().enumerate();
            all.for_each(|(at, c)| part.put(0, at, c));
        });
        let w = weights(p, (level, factor), (SAMPLES.div_ceil(taken.len()), 1))?;
        let products = Products::weighted(&w, &x, 0..taken.len())?;
        Ok(compute(&products, None))
    }

    /// Client and server seconds of one more number in a result of this phase: values of both signs,
    /// in the places that the layout gives them.
    fn decoding(&self, passage: Passage, places: &[usize]) -> Result<(f64, f64), Error> {
        let (p, secret, form) = (self.parameters(), &self.secret, passage.returned);
        let at_level = (passage.level, passage.encoding);
        let taken = (0..SAMPLES / 8).into_par_iter().map(|at| {
            let sealed = encrypt_level(p, secret, &scattered(p.degree()), at_level, seed(at))?;
            Ok(open_at(p, &sealed, at_level)?.expand())
        });
        let taken = taken.collect::<Result<Vec<_>, Error>>()?;
        let sums = self.sums(&taken, (passage.level, form.factor), passage.encoding)?;
        let few = self.results(&sums, form, &places[..1])?;
        let many = self.results(&sums, form, places)?;
        let more = (places.len() - 1).max(1) as f64;
        let each = |few: f64, many: f64| ((many - few) / more).max(0.0);
        Ok((each(few.1, many.1), each(few.0, many.0)))
    }

    /// Seconds of finishing and of decrypting a result with the numbers at some positions in it.
    fn results(&self, sums: &Sums, form: Return, positions: &[usize]) -> Result<(f64, f64), Error> {
        let finish = |at: usize| finish(sums.ciphertext(at), positions, form);
        let (finishing, results) = spread(sums.len(), finish)?;
        let (opening, _) = spread(results.len(), |at| {
            open_result(&results[at], positions, form, &self.secret).map(drop)
        })?;
        Ok((finishing, opening))
    }

    /// Putting numbers into their places, and taking them out again, as the layout of a phase has
    /// them: in a batch that no cache holds, and in memory that is new.
    fn numbers(&self, phase: &PhaseCounts) -> Result<PhaseUnits, Error> {
        let upload = phase.upload;
        let layout = self.plan.layout(upload, phase.layer);
        let shape = self.plan.network().linears()[phase.layer];
        let capacity = self.plan.capacity();
        let columns = match upload {
            Upload::Activation => shape.inputs,
            _ => shape.outputs,
        };
        let rows = (4 * capacity.div_ceil(layout.chunks())).max(ENTRIES / columns);
        let (rows, degree) = (rows.min(capacity), self.parameters().degree());
        let small = Layout::new(degree, &shape, rows, layout.tiling());
        let small = small.unwrap_or_else(|| layout.clone());
        let mut units = PhaseUnits::default();
        if phase.uploads > 0 {
            let tiles = match upload {
                Upload::Activation => small.input_tiles(),
                _ => small.output_tiles(),
            };
            let mut batch = Integers::zeros(rows, columns);
            (0..rows).for_each(|row| batch.row_mut(row).fill(1 + row as i32 % 7));
            let (seconds, _) = spread(PACKED, |at| {
                let (chunk, tile) = (at / tiles % small.chunks(), at % tiles);
                Ok(match upload {
                    Upload::Activation => small.pack_inputs(&batch, chunk, tile).len(),
                    _ => small.pack_gradients(&batch, chunk, tile).len(),
                })
            })?;
            units.pack = seconds * phase.uploads as f64 / phase.values_up.max(1) as f64;
        }
        if phase.downloads > 0 {
            let places = replies(&small, upload, phase.layer);
            let places = &places[..places.len().min(PLACED)];
            let locate = |at: usize| Ok(positions(&small, upload, places[at]));
            let (locating, located) = spread(places.len(), locate)?;
            let values: Vec<i64> = vec![1; located.iter().map(Vec::len).max().unwrap_or(0)];
            let (placing, _) = spread(2, |_| {
                let mut room = Room::new(&small, upload);
                let places = places.iter().zip(&located);
                places.for_each(|(at, p)| room.put(&small, upload, *at, &values[..p.len()]));
                Ok(())
            })?;
            let numbers: usize = located.iter().map(Vec::len).sum();
            let located_each = locating * places.len() as f64 / numbers.max(1) as f64;
            let mut decoding = (0.0, 0.0);
            if upload != Upload::ClippedGradient {
                decoding = self.decoding(self.passage(phase), &located[0])?;
            }
            units.select = located_each + decoding.1;
            units.read = located_each + placing / numbers.max(1) as f64 + decoding.0;
        }
        Ok(units)
    }

    /// Seconds of one product of a phase.
    fn product(&self, phase: &PhaseCounts, passage: Passage) -> Result<f64, Error> {
        if phase.products == 0 {
            return Ok(0.0);
        }
        let layout = self.plan.layout(phase.upload, phase.layer);
        let level = phase.level;
        let (k, i) = (layout.input_tiles(), layout.output_tiles());
        let c = layout.chunks();
        let (left, terms, right) = match phase.upload {
            Upload::Activation => (i, k, c.min(layout.group(k))),
            Upload::OutputGradient => (k, i, c.min(layout.group(i))),
            Upload::ClippedGradient => (i.min(layout.group(c)), c, k),
        };
        let [left, terms, right] = [left, terms, right].map(|n| n.min(WIDEST));
        let p = self.short_ring((left + right) * terms)?;
        let longer = self.parameters().degree() as f64 / p.degree() as f64;
        let seconds = if phase.upload == Upload::ClippedGradient {
            let d = filled(&p, (1, passage.encoding), (left, terms))?;
            let x = filled(&p, (1, self.plan.input_encoding()), (right, terms))?;
            fill(&Products::of(&d, &x)?)?
        } else {
            let factor = passage.returned.factor;
            let x = filled(&p, (level, passage.encoding), (terms, right))?;
            let w = weights(&p, (level, factor), (left, terms))?;
            fill(&Products::weighted(&w, &x, 0..right)?)?
        };
        Ok(seconds * longer / (left * terms * right) as f64)
    }

    /// Seconds of one product of an integer and a ciphertext, in sums of [`INTEGERS`].
    fn scaled(&self, level: usize) -> Result<f64, Error> {
        let (terms, sums) = INTEGERS;
        let p = self.short_ring(terms)?;
        let encoding = self.plan.input_encoding();
        let mut x = Features::new(&p, level, encoding, terms)?;
        let zero = Ciphertext::zero(&p, level, 1, encoding);
        x.parts_mut()
            .for_each(|mut part| (0..terms).for_each(|at| part.put(at, 0, &zero)));
        let row = |i: usize| (0..terms).map(move |k| (k as u32, ((i + k) % 512) as i64 - 256));
        let rows = (0..sums).map(|i| row(i).collect());
        let matrix = Scalars::new(&p, level, terms, rows)?;
        let seconds = fill(&Products::scaled(&matrix, 0..sums, &x)?)?;
        let longer = self.parameters().degree() as f64 / p.degree() as f64;
        Ok(seconds * longer / (terms * sums) as f64)
    }

    /// A ring in which so many polynomials take no more than [`OPERANDS`] bytes.
    fn short_ring(&self, polynomials: usize) -> Result<Parameters, Error> {
        let literal = &self.plan.literal().he;
        let fits = |log_n: &&u32| (polynomials * 32) << **log_n <= OPERANDS;
        let log_n = SHORT_RINGS.iter().find(fits).unwrap_or(&SHORT_RINGS[2]);
        Ok(Parameters::new(&ParametersLiteral {
            log_n: (*log_n).min(literal.log_n),
            security: Security::Toy,
            ..literal.clone()
        })?)
    }
}

/// What results of one kind are written into.
enum Room {
    Batch(Integers),
    Sum(Vec<i64>),
}

impl Room {
    fn new(layout: &Layout, upload: Upload) -> Self {
        let (rows, (inputs, outputs)) = layout.batch();
        match upload {
            Upload::Activation => Self::Batch(Integers::zeros(rows, outputs)),
            Upload::OutputGradient => Self::Batch(Integers::zeros(rows, inputs)),
            Upload::ClippedGradient => Self::Sum(vec![0; layout.weights()]),
        }
    }

    fn put(&mut self, layout: &Layout, upload: Upload, at: Place, values: &[i64]) {
        let (tile, chunk) = (at.tile as usize, at.chunk as usize);
        match (self, upload) {
            (Self::Batch(y), Upload::Activation) => layout.place_forward(y, values, tile, chunk),
            (Self::Batch(dx), _) => layout.place_backward(dx, values, tile, chunk),
            (Self::Sum(sum), _) => layout.place_gradient(sum, values, tile, chunk),
        }
    }
}

/// A panel of ciphertexts of zero, written.
fn filled(
    p: &Parameters,
    (level, encoding): (usize, Encoding),
    (rows, columns): (usize, usize),
) -> Result<Panel, Error> {
    let mut panel = Panel::new(p, level, encoding, rows, columns)?;
    let zero = Ciphertext::zero(p, level, 1, encoding);
    panel.parts_mut().for_each(|mut part| {
        for at in 0..rows * columns {
            part.put(at % rows, at / rows, &zero);
        }
    });
    Ok(panel)
}

fn weights(
    p: &Parameters,
    (level, factor): (usize, u64),
    (rows, columns): (usize, usize),
) -> Result<WeightPanel, Error> {
    let mut panel = WeightPanel::new(p, level, factor, rows, columns)?;
    let one = IntegerPoly::new(p, level, &[1], factor)?;
    panel.parts_mut().for_each(|mut part| {
        for at in 0..rows * columns {
            part.put(at % rows, at / rows, &one);
        }
    });
    Ok(panel)
}

/// Processor seconds of all sums together, the second time.
fn fill(products: &Products<'_>) -> Result<f64, Error> {
    let (mut earlier, mut seconds): (Option<Sums>, f64) = (None, 0.0);
    for _ in 0..2 {
        let mut sums = products.room(earlier.take());
        let parts: Vec<_> = sums.parts_mut().collect();
        let spent = parts.into_par_iter().map(|mut part| {
            timed(|| {
                products.fill(&mut part);
                Ok(())
            })
        });
        let spent = spent.collect::<Result<Vec<_>, Error>>()?;
        seconds = spent.iter().map(|(seconds, ())| seconds).sum();
        earlier = Some(sums);
    }
    Ok(seconds)
}

/// Seconds of a byte written to a socket and of one read, with parsing, for messages like ours.
fn socket(bytes: Option<usize>) -> Result<[f64; 2], Error> {
    let bytes = bytes.unwrap_or(0).max(1);
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut there = connect(listener.local_addr()?)?;
    let (stream, _) = listener.accept()?;
    let mut here = wrap(stream, None)?;
    let sender = std::thread::spawn(move || {
        let at = Place {
            layer: 0,
            chunk: 0,
            tile: 0,
        };
        let message = ToServer::Activation(at, Sealed::received(vec![1; bytes]));
        timed(|| (0..FRAMES).try_for_each(|_| there.outgoing.send(&message.to_bytes())))
    });
    let (reading, ()) = timed(|| {
        (0..FRAMES).try_for_each(|_| {
            let frame = here.incoming.receive(LONGEST_FRAME)?;
            ToServer::from_bytes(&frame)?;
            Ok(())
        })
    })?;
    let sent = sender
        .join()
        .unwrap_or(Err(Error::Disconnected("calibration")));
    let all = (FRAMES * bytes) as f64;
    Ok([sent?.0 / all, reading / all])
}
