//! The server of the engine `paper`: a state machine without sockets, like [`crate::party`].
//!
//! ```text
//! open --BiasUpdate per bias--> Ready --BeginStep--> for each layer Inputs* -> [compute]
//!                                 ^                  from the last back Outputs* -> [compute]
//!                                 +-- BiasUpdate per bias <-- Update
//! ```
//!
//! While results are computed the machine takes no message; [`Session::proceed`] gives them in
//! batches. The order of everything follows from the plan.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;
use sphinx_he::ckks::{Bank, Ciphertext, Evaluator, Scale};

use super::products::{BANK, Products, Tile, Unit};
use super::store::{Part, Store};
use super::{PaperLiteral, PaperPlan};
use crate::error::{Error, Malformed};
use crate::message::{Place, Returned, Sealed, ToClient, ToServer};
use crate::model::{PublicModel, Snapshot};
use crate::plan::{Limits, Phase};
use crate::work::{Kind, StepCounts, Tally, division_transforms};

/// Results that are computed before they are sent, about.
const BATCH: usize = 256;

/// One connection's model and where its step stands.
#[derive(Debug)]
pub(crate) struct Session {
    plan: PaperPlan,
    evaluator: Evaluator,
    public: PublicModel,
    snapshot: Arc<Snapshot>,
    /// `[b]`, layer by layer, flags (1, 0).
    biases: Vec<Ciphertext>,
    stage: Stage,
    tally: Tally,
}

#[derive(Debug)]
enum Stage {
    /// Waiting for the change of this bias; whether a model may be loaded instead.
    Biases {
        next: usize,
        opening: bool,
    },
    Ready,
    Step(Box<Step>),
}

/// A step under way.
#[derive(Debug)]
struct Step {
    step: u64,
    store: Store,
    /// Runs of uploads that are still to come.
    script: VecDeque<Run>,
    received: u32,
    jobs: VecDeque<Job>,
}

/// Uploads of one layer, all blocks.
#[derive(Clone, Copy, Debug)]
struct Run {
    part: Part,
    layer: usize,
    block: usize,
    count: usize,
}

/// One product of one block, under way.
#[derive(Debug)]
struct Job {
    phase: Phase,
    layer: usize,
    block: usize,
    /// Units and tiles, made when the job begins.
    work: Option<(Vec<Unit>, VecDeque<Tile>)>,
    held: Option<Held>,
    next: usize,
}

/// The operands of the tile in work.
#[derive(Debug)]
struct Held {
    tile: Tile,
    inputs: Bank,
    outputs: Bank,
}

impl Session {
    /// Opens a fresh model.
    pub(crate) fn open(plan: &[u8], limits: &Limits) -> Result<Self, Error> {
        let literal: PaperLiteral =
            serde_json::from_slice(plan).map_err(|e| Malformed::PlanJson {
                line: e.line(),
                column: e.column(),
            })?;
        let plan = PaperPlan::new(&literal, limits)?;
        let public = PublicModel::initial(plan.grid());
        Ok(Self {
            evaluator: Evaluator::new(plan.parameters()),
            snapshot: public.snapshot(),
            public,
            plan,
            biases: Vec::new(),
            tally: Tally::default(),
            stage: Stage::Biases {
                next: 0,
                opening: true,
            },
        })
    }

    /// Bytes that this model may make the server hold.
    pub(crate) fn held(&self) -> usize {
        self.plan.held()
    }

    /// Where the model stands.
    pub(crate) fn ready(&self) -> ToClient {
        let (version, step) = (self.snapshot.version(), self.snapshot.step());
        ToClient::ModelReady { version, step }
    }

    /// What the protocol allows next.
    pub(crate) fn expects(&self) -> String {
        match &self.stage {
            Stage::Biases { next, .. } => format!("BiasUpdate for bias {next}"),
            Stage::Ready => "BeginStep or Bye".into(),
            Stage::Step(step) => step.script.front().map_or_else(
                || "Update".into(),
                |run| format!("{:?} {} of {run:?}", run.part, step.received),
            ),
        }
    }

    /// Whether results are waiting to be computed.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(&self.stage, Stage::Step(step) if !step.jobs.is_empty())
    }

    /// Takes one message; nothing if it is not allowed now.
    pub(crate) fn take(&mut self, message: ToServer) -> Result<Option<Vec<ToClient>>, Error> {
        if matches!(
            message,
            ToServer::Activation(..) | ToServer::OutputGradient(..) | ToServer::BiasUpdate { .. }
        ) {
            self.tally.add(&StepCounts {
                uploads: 1,
                ..StepCounts::default()
            });
        }
        match (&mut self.stage, message) {
            (
                Stage::Biases {
                    next: 0,
                    opening: true,
                },
                ToServer::LoadModel(released),
            ) if self.public.step() == 0 => {
                self.public = PublicModel::import(self.plan.grid(), &released)?;
                self.snapshot = self.public.snapshot();
                Ok(Some(vec![self.ready()]))
            }
            (Stage::Biases { next, .. }, ToServer::BiasUpdate { part, change })
                if part as usize == *next =>
            {
                self.bias(part as usize, &change).map(Some)
            }
            (Stage::Ready, ToServer::BeginStep { step }) => {
                self.begin(step)?;
                Ok(Some(Vec::new()))
            }
            (Stage::Ready | Stage::Step(_), ToServer::FetchWork) => {
                Ok(Some(vec![ToClient::Worked(self.tally.take())]))
            }
            (Stage::Step(step), ToServer::Activation(place, sealed)) => {
                step.upload(&self.plan, Part::Inputs, place, sealed)
            }
            (Stage::Step(step), ToServer::OutputGradient(place, sealed)) => {
                step.upload(&self.plan, Part::Outputs, place, sealed)
            }
            (
                Stage::Step(step),
                ToServer::Update {
                    step: got,
                    gradient,
                },
            ) if step.script.is_empty() && got == step.step => {
                self.public.apply(&gradient)?;
                self.snapshot = self.public.snapshot();
                self.stage = Stage::Biases {
                    next: 0,
                    opening: false,
                };
                Ok(Some(Vec::new()))
            }
            _ => Ok(None),
        }
    }

    fn bias(&mut self, part: usize, change: &Sealed) -> Result<Vec<ToClient>, Error> {
        let change = change.open_slots(self.plan.parameters())?.expand();
        // An integer weight of one: the flags of a product, to which it will be added.
        let change = self
            .evaluator
            .mul_scalar(&change, 1.0, Scale::power_of_two(0))?;
        match self.biases.get_mut(part) {
            Some(bias) => self.evaluator.add_assign(bias, &change)?,
            None => {
                check_scale(&change, self.plan.input_scale())?;
                self.biases.push(change);
            }
        }
        if part + 1 < self.plan.grid().bias_count() {
            if let Stage::Biases { next, .. } = &mut self.stage {
                *next += 1;
            }
            return Ok(Vec::new());
        }
        self.stage = Stage::Ready;
        let (version, step) = (self.snapshot.version(), self.snapshot.step());
        Ok(vec![ToClient::Updated { version, step }])
    }

    fn begin(&mut self, step: u64) -> Result<(), Error> {
        let expected = self.snapshot.step();
        if step != expected {
            return Err(Error::StepOrder {
                expected,
                got: step,
            });
        }
        let script = script(&self.plan);
        let uploads = script.iter().map(|run| run.count).sum();
        self.stage = Stage::Step(Box::new(Step {
            step,
            store: Store::new(self.plan.parameters(), uploads)?,
            script,
            received: 0,
            jobs: VecDeque::new(),
        }));
        Ok(())
    }

    /// The next results.
    pub(crate) fn proceed(&mut self) -> Result<Vec<ToClient>, Error> {
        let Stage::Step(step) = &mut self.stage else {
            return Ok(Vec::new());
        };
        let Some(job) = step.jobs.front_mut() else {
            return Ok(Vec::new());
        };
        let context = Context {
            plan: &self.plan,
            evaluator: &self.evaluator,
            snapshot: &self.snapshot,
            biases: &self.biases,
            tally: &self.tally,
        };
        let replies = job.advance(&context, &mut step.store)?;
        if job.is_done() {
            if job.phase == Phase::Gradient {
                for part in [Part::Inputs, Part::Outputs] {
                    step.store.forget((part, job.layer, job.block));
                }
            }
            step.jobs.pop_front();
        }
        Ok(replies)
    }
}

fn check_scale(ciphertext: &Ciphertext, expected: Scale) -> Result<(), Error> {
    let (got, expected) = (ciphertext.scale().value(), expected.value());
    if got == expected && ciphertext.level() == super::TOP {
        return Ok(());
    }
    Err(Error::Unexpected {
        expected: format!("a ciphertext at {:?} and scale {expected}", super::TOP),
        got: format!("{:?}, {got}", ciphertext.level()),
    })
}

/// All uploads of a step.
fn script(plan: &PaperPlan) -> VecDeque<Run> {
    let linears = plan.network().linears();
    let run = |part, layer: usize, count| {
        (0..plan.blocks()).map(move |block| Run {
            part,
            layer,
            block,
            count,
        })
    };
    let inputs = (0..linears.len()).flat_map(|l| run(Part::Inputs, l, linears[l].inputs));
    let outputs = (0..linears.len()).rev();
    let outputs = outputs.flat_map(|l| run(Part::Outputs, l, linears[l].outputs));
    inputs.chain(outputs).collect()
}

impl Step {
    fn upload(
        &mut self,
        plan: &PaperPlan,
        part: Part,
        place: Place,
        sealed: Sealed,
    ) -> Result<Option<Vec<ToClient>>, Error> {
        let Some(&run) = self.script.front() else {
            return Ok(None);
        };
        let expected = Place {
            layer: run.layer as u16,
            chunk: run.block as u32,
            tile: self.received,
        };
        if part != run.part || place != expected {
            return Ok(None);
        }
        self.store.push((part, run.layer, run.block), sealed)?;
        self.received += 1;
        if self.received as usize == run.count {
            self.received = 0;
            self.script.pop_front();
            if run.block + 1 == plan.blocks() {
                self.enqueue(plan, run);
            }
        }
        Ok(Some(Vec::new()))
    }

    /// All blocks of a layer are here.
    fn enqueue(&mut self, plan: &PaperPlan, run: Run) {
        let phases: &[Phase] = match (run.part, run.layer) {
            (Part::Inputs, _) => &[Phase::Forward],
            (Part::Outputs, 0) => &[Phase::Gradient],
            (Part::Outputs, _) => &[Phase::Backward, Phase::Gradient],
        };
        for &phase in phases {
            self.jobs.extend((0..plan.blocks()).map(|block| Job {
                phase,
                layer: run.layer,
                block,
                work: None,
                held: None,
                next: 0,
            }));
        }
    }
}

/// What a job looks at beside the uploads.
struct Context<'a> {
    plan: &'a PaperPlan,
    evaluator: &'a Evaluator,
    snapshot: &'a Snapshot,
    biases: &'a [Ciphertext],
    tally: &'a Tally,
}

impl Job {
    fn is_done(&self) -> bool {
        self.work
            .as_ref()
            .is_some_and(|(units, tiles)| self.next == units.len() && tiles.is_empty())
    }

    /// Computes the next batch: whole units of the tile in work, or of the next.
    fn advance(
        &mut self,
        context: &Context<'_>,
        store: &mut Store,
    ) -> Result<Vec<ToClient>, Error> {
        let products = Products::new(context.plan.network().linears()[self.layer]);
        if self.work.is_none() {
            let units = products.units(self.phase);
            let tiles = Products::tiles(&units, BANK).into();
            self.work = Some((units, tiles));
        }
        let Some((units, tiles)) = &mut self.work else {
            return Ok(Vec::new());
        };
        let over = |held: &Held| held.tile.units.end <= self.next;
        if self.held.as_ref().is_none_or(over) {
            let Some(tile) = tiles.pop_front() else {
                return Ok(Vec::new());
            };
            let key = |part| (part, self.layer, self.block);
            // Freed before the next is expanded.
            self.held = None;
            let (inputs, outputs) = (context.plan.input_scale(), context.plan.gradient_scale());
            let inputs = store.expand(key(Part::Inputs), &tile.inputs, inputs);
            let outputs = match tile.outputs.is_empty() {
                true => Bank::new(context.plan.parameters(), super::TOP, outputs, 0)?,
                false => store.expand(key(Part::Outputs), &tile.outputs, outputs)?,
            };
            self.held = Some(Held {
                tile,
                inputs: inputs?,
                outputs,
            });
        }
        let Some(held) = &self.held else {
            return Ok(Vec::new());
        };
        let start = self.next;
        let mut results = 0;
        while self.next < held.tile.units.end && results < BATCH {
            results += units[self.next].results.len();
            self.next += 1;
        }
        let (phase, layer, block) = (self.phase, self.layer, self.block);
        let work = Work {
            context,
            products,
            phase,
            layer,
            held,
        };
        let batches = units[start..self.next]
            .par_iter()
            .map(|unit| work.unit(unit))
            .collect::<Result<Vec<_>, Error>>()?;
        let message = match phase {
            Phase::Forward => ToClient::ForwardProduct,
            Phase::Backward => ToClient::BackwardProduct,
            _ => ToClient::GradientProduct,
        };
        let replies = batches.into_iter().flatten().map(|(tile, result)| {
            let place = Place {
                layer: layer as u16,
                chunk: block as u32,
                tile,
            };
            message(place, result)
        });
        Ok(replies.collect())
    }
}

/// The computation of one unit.
struct Work<'a> {
    context: &'a Context<'a>,
    products: Products,
    phase: Phase,
    layer: usize,
    held: &'a Held,
}

impl Work<'_> {
    fn unit(&self, unit: &Unit) -> Result<Vec<(u32, Returned)>, Error> {
        let start = Instant::now();
        let sums = match self.phase {
            Phase::Forward => self.plain(unit, &self.held.inputs, &self.held.tile.inputs)?,
            Phase::Backward => self.plain(unit, &self.held.outputs, &self.held.tile.outputs)?,
            _ => self.samples(unit)?,
        };
        let tally = self.context.tally;
        tally.spend(Kind::Products, start.elapsed());
        let down = |(&result, sum): (&u32, Ciphertext)| {
            let (start, parts) = (Instant::now(), sum.degree() as u64 + 1);
            let sum = self.context.evaluator.rescale(sum)?;
            tally.add(&StepCounts {
                rescales: 1,
                transforms: division_transforms(1, parts),
                downloads: 1,
                ..StepCounts::default()
            });
            tally.spend(Kind::Switching, start.elapsed());
            Ok((result, Returned::slots(&sum)))
        };
        unit.results.iter().zip(sums).map(down).collect()
    }

    /// `W x + b` or `W^T d`, at the finer scale that survives the division.
    fn plain(&self, unit: &Unit, bank: &Bank, held: &[u32]) -> Result<Vec<Ciphertext>, Error> {
        let weights = self.context.snapshot.layer(self.layer);
        let lists = unit.results.iter().map(|&result| {
            let terms = match self.phase {
                Phase::Forward => self.products.forward(weights, result),
                _ => self.products.backward(weights, result),
            };
            let local = terms.into_iter().map(|(at, w)| Ok((place(held, at)?, w)));
            local.collect::<Result<Vec<_>, Error>>()
        });
        let lists = lists.collect::<Result<Vec<_>, _>>()?;
        let lists: Vec<&[(u32, i64)]> = lists.iter().map(Vec::as_slice).collect();
        let mut sums = bank.weighted_sums(&lists)?;
        self.context.tally.add(&StepCounts {
            plain_products: lists.iter().map(|list| list.len() as u64).sum(),
            ..StepCounts::default()
        });
        for (&result, sum) in unit.results.iter().zip(&mut sums) {
            if self.phase == Phase::Forward {
                self.context.evaluator.add_assign(sum, self.bias(result)?)?;
            }
            sum.refine_scale(self.context.plan.factor(self.phase))?;
        }
        Ok(sums)
    }

    /// `[b]` of the channel that an output belongs to.
    fn bias(&self, output: u32) -> Result<&Ciphertext, Error> {
        let network = self.context.plan.network();
        let biases = |layer: usize| network.layout()[layer].biases.len();
        let before: usize = (0..self.layer).map(biases).sum();
        let positions = network.linears()[self.layer].outputs / biases(self.layer);
        let at = before + output as usize / positions;
        self.context
            .biases
            .get(at)
            .ok_or_else(|| Error::Unexpected {
                expected: format!("a ciphertext of bias {at}"),
                got: "none".into(),
            })
    }

    /// `sum d x` for every weight, of degree two.
    fn samples(&self, unit: &Unit) -> Result<Vec<Ciphertext>, Error> {
        let tile = &self.held.tile;
        let lists = unit.results.iter().map(|&weight| {
            let terms = self.products.gradient(weight);
            let local = terms
                .into_iter()
                .map(|(d, x)| Ok((place(&tile.outputs, d)?, place(&tile.inputs, x)?)));
            local.collect::<Result<Vec<_>, Error>>()
        });
        let lists = lists.collect::<Result<Vec<_>, _>>()?;
        let lists: Vec<&[(u32, u32)]> = lists.iter().map(Vec::as_slice).collect();
        self.context.tally.add(&StepCounts {
            products: lists.iter().map(|list| list.len() as u64).sum(),
            ..StepCounts::default()
        });
        Ok(self.held.outputs.product_sums(&self.held.inputs, &lists)?)
    }
}

/// Where an operand stands in the bank.
fn place(held: &[u32], index: u32) -> Result<u32, Error> {
    let found = held.binary_search(&index);
    found.map(|at| at as u32).map_err(|_| Error::Unexpected {
        expected: format!("operand {index} in its tile"),
        got: "another tile".into(),
    })
}
