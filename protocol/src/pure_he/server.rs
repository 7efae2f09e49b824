//! The server of the baseline: a state machine without sockets, like [`crate::party`].
//!
//! ```text
//! open --Relinearization, Rotations--> Parameters* --> Ready <------------------+
//!   Ready --Activation*--> [W x + b] --> Ready        (inference, any layer)    |
//!   Ready --FetchParameters--> all parameters; --Parameter*--> Ready            |
//!   Ready --BeginStep--> for each layer Activation* -> [W x + b]                |
//!         from the last back OutputGradient* -> [W^T d], [d] x [x] into [W] ----+
//! ```
//!
//! While results are computed the machine takes no message; [`Session::proceed`] gives them in batches.

use std::collections::VecDeque;

use sphinx_he::ckks::{Ciphertext, SeededCiphertext};
use sphinx_he::rlwe::RelinearizationKey;

use super::operands::Terms;
use super::sums::{Arithmetic, Banks};
use super::{PureHeLiteral, PureHePlan};
use crate::error::{Error, Malformed};
use crate::message::{Place, Returned, Sealed, SealedKeys, ToClient, ToServer};
use crate::model::ModelVersion;
use crate::paper::Products;
use crate::plan::{Limits, Phase};
use crate::work::{StepCounts, Work};

/// Results that are computed before they are sent.
const BATCH: usize = 64;

/// Nobody but the client can read the weights, so they have no version.
const VERSION: ModelVersion = ModelVersion([0; 32]);

/// One connection's model and where it stands.
#[derive(Debug)]
pub(crate) struct Session {
    plan: PureHePlan,
    steps: u64,
    /// Level of all parameters at the start of a step.
    level: usize,
    stage: Stage,
    arithmetic: Option<Arithmetic>,
    model: Model,
    /// Inputs of the layers of this step, or of the layer under inference.
    inputs: Vec<Vec<Ciphertext>>,
    outputs: Vec<Ciphertext>,
    jobs: VecDeque<Job>,
}

/// `[W]` and `[b]` of every layer, flags (0, 0).
#[derive(Debug, Default)]
struct Model {
    weights: Vec<Vec<Ciphertext>>,
    biases: Vec<Vec<Ciphertext>>,
}

#[derive(Debug)]
enum Stage {
    Relinearisation,
    Rotations(Box<RelinearizationKey>),
    /// Waiting for this parameter.
    Parameters(usize),
    Ready,
    /// Inputs of a layer, outside a step.
    Inference(usize),
    /// Runs of uploads that are still to come.
    Step(VecDeque<(Upload, usize)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Inputs,
    Outputs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Forward,
    Backward,
    Gradient,
    Fetch,
}

/// Results of one layer, under way.
#[derive(Debug)]
struct Job {
    task: Task,
    layer: usize,
    banks: Option<Banks>,
    next: usize,
}

impl Session {
    /// Opens a model that is still to come.
    pub(crate) fn open(plan: &[u8], limits: &Limits) -> Result<Self, Error> {
        let literal: PureHeLiteral =
            serde_json::from_slice(plan).map_err(|e| Malformed::PlanJson {
                line: e.line(),
                column: e.column(),
            })?;
        Ok(Self {
            plan: PureHePlan::new(&literal, limits)?,
            steps: 0,
            level: 0,
            stage: Stage::Relinearisation,
            arithmetic: None,
            model: Model::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            jobs: VecDeque::new(),
        })
    }

    /// Bytes that this model may make the server hold.
    pub(crate) fn held(&self) -> usize {
        self.plan.memory()
    }

    pub(crate) const fn ready(&self) -> ToClient {
        ToClient::ModelReady {
            version: VERSION,
            step: self.steps,
        }
    }

    const fn updated(&self) -> ToClient {
        ToClient::Updated {
            version: VERSION,
            step: self.steps,
        }
    }

    /// What the protocol allows next.
    pub(crate) fn expects(&self) -> String {
        match &self.stage {
            Stage::Relinearisation => "Relinearization".into(),
            Stage::Rotations(_) => "Rotations".into(),
            Stage::Parameters(next) => format!("Parameter {next} in order"),
            Stage::Ready => {
                "BeginStep, Activation, FetchParameters, Parameter, FetchWork or Bye".into()
            }
            Stage::Inference(layer) => format!("Activation of layer {layer}"),
            Stage::Step(script) => format!("{:?}", script.front()),
        }
    }

    /// Whether results are waiting to be computed.
    pub(crate) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Takes one message; nothing if it is not allowed now.
    pub(crate) fn take(&mut self, message: ToServer) -> Result<Option<Vec<ToClient>>, Error> {
        let stage = std::mem::replace(&mut self.stage, Stage::Ready);
        match (stage, message) {
            (Stage::Relinearisation, ToServer::Relinearization(keys)) => {
                let key = keys.open_relinearization(self.plan.parameters())?;
                self.stage = Stage::Rotations(Box::new(key));
                Ok(Some(Vec::new()))
            }
            (Stage::Rotations(key), ToServer::Rotations(keys)) => self.keys(*key, &keys),
            (Stage::Parameters(next), ToServer::Parameter(place, sealed)) => {
                self.parameter(next, place, &sealed)
            }
            (Stage::Ready, ToServer::Parameter(place, sealed)) => {
                self.model = Model::default();
                self.parameter(0, place, &sealed)
            }
            (Stage::Ready, ToServer::FetchParameters) => {
                self.jobs.push_back(Job::new(Task::Fetch, 0));
                Ok(Some(Vec::new()))
            }
            (Stage::Ready, ToServer::FetchWork) => Ok(Some(vec![ToClient::Worked(self.work())])),
            (Stage::Ready, ToServer::BeginStep { step })
                if step == self.steps && self.level > 0 =>
            {
                let layers = self.plan.network().linears().len();
                let inputs = (0..layers).map(|layer| (Upload::Inputs, layer));
                let outputs = (0..layers).rev().map(|layer| (Upload::Outputs, layer));
                self.stage = Stage::Step(inputs.chain(outputs).collect());
                self.inputs = vec![Vec::new(); layers];
                self.outputs.clear();
                Ok(Some(Vec::new()))
            }
            (Stage::Ready, ToServer::Activation(place, sealed)) if self.level > 0 => {
                let layer = usize::from(place.layer);
                self.inputs = vec![Vec::new(); self.plan.network().linears().len()];
                self.inference(layer, place, &sealed)
            }
            (Stage::Inference(layer), ToServer::Activation(place, sealed)) => {
                self.inference(layer, place, &sealed)
            }
            (Stage::Step(script), ToServer::Activation(place, sealed)) => {
                self.upload(script, Upload::Inputs, place, &sealed)
            }
            (Stage::Step(script), ToServer::OutputGradient(place, sealed)) => {
                self.upload(script, Upload::Outputs, place, &sealed)
            }
            _ => Ok(None),
        }
    }

    fn keys(
        &mut self,
        relinearisation: RelinearizationKey,
        keys: &SealedKeys,
    ) -> Result<Option<Vec<ToClient>>, Error> {
        let rotations = keys.open_rotations(self.plan.parameters())?;
        self.arithmetic = Some(Arithmetic::new(&self.plan, relinearisation, rotations));
        self.stage = Stage::Parameters(0);
        Ok(Some(Vec::new()))
    }

    fn work(&self) -> Work {
        self.arithmetic
            .as_ref()
            .map_or_else(Work::default, |arithmetic| arithmetic.tally().take())
    }

    fn count(&self, counts: StepCounts) {
        if let Some(arithmetic) = &self.arithmetic {
            arithmetic.tally().add(&counts);
        }
    }

    fn open_upload(&self, sealed: &Sealed, level: Option<usize>) -> Result<Ciphertext, Error> {
        let seeded: SeededCiphertext = sealed.open_slots(self.plan.parameters())?;
        let (got, top) = (seeded.level().0, self.plan.parameters().max_level());
        let expected = level.unwrap_or(top);
        if got != expected {
            return Err(Error::Unexpected {
                expected: format!("a ciphertext at level {expected}"),
                got: format!("level {got}"),
            });
        }
        self.count(StepCounts {
            uploads: 1,
            ..StepCounts::default()
        });
        Ok(seeded.expand())
    }

    /// Takes parameter `next` of the order: layer by layer, weights, then biases.
    fn parameter(
        &mut self,
        next: usize,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Option<Vec<ToClient>>, Error> {
        if Some(place) != parameter_place(&self.plan, next) {
            return Ok(None);
        }
        let ciphertext = self.open_upload(sealed, None)?;
        let Model { weights, biases } = &mut self.model;
        let kind = if place.chunk == 0 { weights } else { biases };
        kind.resize_with(usize::from(place.layer) + 1, Vec::new);
        if let Some(layer) = kind.last_mut() {
            layer.push(ciphertext);
        }
        if next + 1 < self.plan.network().parameter_count() {
            self.stage = Stage::Parameters(next + 1);
            return Ok(Some(Vec::new()));
        }
        self.level = self.plan.parameters().max_level();
        self.stage = Stage::Ready;
        Ok(Some(vec![self.updated()]))
    }

    fn inference(
        &mut self,
        layer: usize,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Option<Vec<ToClient>>, Error> {
        let Some(wanted) = self.plan.network().linears().get(layer).map(|s| s.inputs) else {
            return Ok(None);
        };
        if place != input_place(layer, self.inputs[layer].len()) {
            return Ok(None);
        }
        let ciphertext = self.open_upload(sealed, Some(self.level))?;
        self.inputs[layer].push(ciphertext);
        if self.inputs[layer].len() < wanted {
            self.stage = Stage::Inference(layer);
        } else {
            self.stage = Stage::Ready;
            self.jobs.push_back(Job::new(Task::Forward, layer));
        }
        Ok(Some(Vec::new()))
    }

    fn upload(
        &mut self,
        mut script: VecDeque<(Upload, usize)>,
        kind: Upload,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Option<Vec<ToClient>>, Error> {
        let Some(&(expected, layer)) = script.front() else {
            return Ok(None);
        };
        let shape = self.plan.network().linears()[layer];
        let (received, wanted) = match kind {
            Upload::Inputs => (self.inputs[layer].len(), shape.inputs),
            Upload::Outputs => (self.outputs.len(), shape.outputs),
        };
        if kind != expected || place != input_place(layer, received) {
            return Ok(None);
        }
        let ciphertext = self.open_upload(sealed, Some(self.level))?;
        match kind {
            Upload::Inputs => self.inputs[layer].push(ciphertext),
            Upload::Outputs => self.outputs.push(ciphertext),
        }
        if received + 1 == wanted {
            script.pop_front();
            let tasks: &[Task] = match (kind, layer) {
                (Upload::Inputs, _) => &[Task::Forward],
                (Upload::Outputs, 0) => &[Task::Gradient],
                (Upload::Outputs, _) => &[Task::Backward, Task::Gradient],
            };
            self.jobs
                .extend(tasks.iter().map(|&task| Job::new(task, layer)));
        }
        self.stage = Stage::Step(script);
        Ok(Some(Vec::new()))
    }

    /// The next results.
    pub(crate) fn proceed(&mut self) -> Result<Vec<ToClient>, Error> {
        let (Some(job), Some(arithmetic)) = (self.jobs.front_mut(), &self.arithmetic) else {
            return Ok(Vec::new());
        };
        let at = job.layer;
        let (x, d) = (self.inputs.get(at), &self.outputs);
        let mut context = Context {
            plan: &self.plan,
            arithmetic,
            model: &mut self.model,
            x: x.map_or(&[][..], Vec::as_slice),
            d,
        };
        let (mut replies, done) = match job.task {
            Task::Fetch => job.fetch(&context)?,
            Task::Gradient => (Vec::new(), job.gradient(&mut context)?),
            _ => job.plain(&context)?,
        };
        let downloads = replies.len() as u64;
        self.count(StepCounts {
            downloads,
            ..StepCounts::default()
        });
        if done && let Some(Job { task, layer, .. }) = self.jobs.pop_front() {
            if task == Task::Gradient {
                self.outputs.clear();
                self.inputs[layer].clear();
            }
            if task == Task::Gradient && layer == 0 {
                self.steps += 1;
                self.level -= 1;
                self.stage = Stage::Ready;
                replies.push(self.updated());
            }
        }
        Ok(replies)
    }
}

/// Where a layer's input or output gradient of this index belongs.
fn input_place(layer: usize, index: usize) -> Place {
    Place {
        layer: layer as u16,
        chunk: 0,
        tile: index as u32,
    }
}

/// The place of parameter `index` in the order of uploads.
pub(super) fn parameter_place(plan: &PureHePlan, index: usize) -> Option<Place> {
    let layout = plan.network().layout();
    layout.iter().enumerate().find_map(|(layer, span)| {
        let chunk = [&span.weights, &span.biases]
            .iter()
            .position(|range| range.contains(&index))?;
        let first = [&span.weights, &span.biases][chunk].start;
        Some(Place {
            layer: layer as u16,
            chunk: chunk as u32,
            tile: (index - first) as u32,
        })
    })
}

/// What a job looks at.
struct Context<'a> {
    plan: &'a PureHePlan,
    arithmetic: &'a Arithmetic,
    model: &'a mut Model,
    x: &'a [Ciphertext],
    d: &'a [Ciphertext],
}

impl Job {
    const fn new(task: Task, layer: usize) -> Self {
        Self {
            task,
            layer,
            banks: None,
            next: 0,
        }
    }

    fn products(&self, plan: &PureHePlan) -> Products {
        Products::new(plan.network().linears()[self.layer])
    }

    /// The products that make some results: operands of `[W]` and `[x]`, `[W]` and `[d]`, or `[d]` and `[x]`.
    fn lists(&self, plan: &PureHePlan, results: std::ops::Range<usize>) -> Vec<Terms> {
        let products = self.products(plan);
        // A weight stands for its own number.
        let places: Vec<i32> = (0..plan.network().linears()[self.layer].weights() as i32).collect();
        let swap = |terms: Vec<(u32, i64)>| terms.iter().map(|t| (t.1 as u32, t.0)).collect();
        results
            .map(|result| match self.task {
                Task::Gradient => products.gradient(result as u32),
                Task::Backward => swap(products.backward(&places, result as u32)),
                _ => swap(products.forward(&places, result as u32)),
            })
            .collect()
    }

    /// The results of the next batch, before the server does anything else with them.
    fn sums(
        &mut self,
        context: &Context<'_>,
        phase: Phase,
    ) -> Result<(usize, Vec<Ciphertext>, bool), Error> {
        let (plan, first) = (context.plan, self.next);
        let all = self.products(plan).results(phase);
        let last = (first + BATCH).min(all);
        let operands = match phase {
            Phase::Forward => (&context.model.weights[self.layer][..], context.x),
            Phase::Backward => (&context.model.weights[self.layer][..], context.d),
            _ => (context.d, context.x),
        };
        if self.banks.is_none() {
            let banked = plan.banked(self.layer, phase);
            self.banks = Some(Banks::new(operands, banked)?);
        }
        let lists = self.lists(plan, first..last);
        let sums = match &self.banks {
            Some(banks) => context.arithmetic.sums(operands, banks, &lists)?,
            None => Vec::new(),
        };
        self.next = last;
        Ok((first, sums, last == all))
    }

    /// `[W x + b]` or `[W^T d]`, at the lowest level.
    fn plain(&mut self, context: &Context<'_>) -> Result<(Vec<ToClient>, bool), Error> {
        let forward = self.task == Task::Forward;
        let phase = match forward {
            true => Phase::Forward,
            false => Phase::Backward,
        };
        let (first, mut sums, done) = self.sums(context, phase)?;
        let arithmetic = context.arithmetic;
        if forward {
            let biases = &context.model.biases[self.layer];
            let positions = self.products(context.plan).results(phase) / biases.len();
            for (at, sum) in (first..).zip(&mut sums) {
                let bias = arithmetic.down(&biases[at / positions], sum.level().0)?;
                arithmetic.evaluator().add_assign(sum, &bias)?;
            }
        }
        let message = match forward {
            true => ToClient::ForwardProduct,
            false => ToClient::BackwardProduct,
        };
        let replies = (first..).zip(sums).map(|(at, sum)| {
            let result = Returned::slots(&arithmetic.down(&sum, 0)?);
            Ok(message(input_place(self.layer, at), result))
        });
        Ok((replies.collect::<Result<_, Error>>()?, done))
    }

    /// Adds the next gradients, which carry the step size, to weights; at the end those of the
    /// biases.
    fn gradient(&mut self, context: &mut Context<'_>) -> Result<bool, Error> {
        let (first, sums, done) = self.sums(context, Phase::Gradient)?;
        let arithmetic = context.arithmetic;
        let gradients = arithmetic.sum_slots(&sums)?;
        let weights = &mut context.model.weights[self.layer];
        learn(arithmetic, &mut weights[first..], &gradients)?;
        if !done {
            return Ok(false);
        }
        let biases = &mut context.model.biases[self.layer];
        let positions = context.d.len() / biases.len();
        let mut totals = Vec::with_capacity(biases.len());
        for outputs in context.d.chunks(positions) {
            let below = outputs[0].level().0 - 1;
            let mut total = arithmetic.down(&outputs[0], below)?;
            for output in &outputs[1..] {
                let output = arithmetic.down(output, below)?;
                arithmetic.evaluator().add_assign(&mut total, &output)?;
            }
            totals.push(total);
        }
        let totals = arithmetic.sum_slots(&totals)?;
        learn(arithmetic, biases, &totals)?;
        Ok(true)
    }

    /// All parameters, at the lowest level.
    fn fetch(&mut self, context: &Context<'_>) -> Result<(Vec<ToClient>, bool), Error> {
        let all = context.plan.network().parameter_count();
        let (first, last) = (self.next, (self.next + BATCH).min(all));
        self.next = last;
        let replies = (first..last).map(|index| {
            let place = parameter_place(context.plan, index);
            let place = place.ok_or_else(|| super::operands::missing(index as u32))?;
            let kind = match place.chunk {
                0 => &context.model.weights,
                _ => &context.model.biases,
            };
            let parameter = &kind[usize::from(place.layer)][place.tile as usize];
            let result = Returned::slots(&context.arithmetic.down(parameter, 0)?);
            Ok(ToClient::Parameter(place, result))
        });
        Ok((replies.collect::<Result<_, Error>>()?, last == all))
    }
}

/// Brings parameters down to their changes and adds them.
fn learn(
    arithmetic: &Arithmetic,
    parameters: &mut [Ciphertext],
    changes: &[Ciphertext],
) -> Result<(), Error> {
    for (parameter, change) in parameters.iter_mut().zip(changes) {
        let mut next = arithmetic.down(parameter, change.level().0)?;
        arithmetic.evaluator().add_assign(&mut next, change)?;
        *parameter = next;
    }
    Ok(())
}
