//! The models a server holds, shared by all its connections.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cpu_time::ProcessTime;

use super::budget::{Budget, Share};
use super::tenant::{Tickets, open_bias};
use crate::error::{Error, Malformed};
use crate::message::{ModelId, Refusal, Released, Sealed, TicketId, ToClient};
use crate::model::{ModelVersion, PublicModel, ReleasedModel};
use crate::packed::{Memory, Prepared, ServerSeconds, finish};
use crate::plan::{Limits, Plan, PlanLiteral};
use sphinx_he::exact::Ciphertext;

/// Versions of the weights kept for requests whose tickets are a little behind.
const KEPT_VERSIONS: usize = 4;

/// How much a server takes on.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    /// What one plan may ask for.
    pub plan: Limits,
    /// Models held at once.
    pub models: usize,
    /// Bytes that all models in use may need together for polynomials ([`Plan::held`]).
    pub bytes: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            plan: Limits::default(),
            models: 64,
            bytes: 16 << 30,
        }
    }
}

/// All models of one server.
#[derive(Debug)]
pub struct Hub {
    limits: HubLimits,
    models: Mutex<HashMap<ModelId, Arc<Mutex<Model>>>>,
    budget: Arc<Budget>,
    started: ProcessTime,
}

/// One model: released weights, encrypted biases, tickets.
#[derive(Debug)]
struct Model {
    plan: Plan,
    public: PublicModel,
    recent: VecDeque<Arc<Prepared>>,
    biases: Vec<Ciphertext>,
    tickets: Tickets,
    training: bool,
    /// Whoever uses it, if anybody does.
    used: Weak<InUse>,
    /// What the phases of the steps took since the trainer came.
    phases: Vec<ServerSeconds>,
}

/// A refusal to open or attach.
pub(super) struct Opened {
    pub(super) reason: Refusal,
    pub(super) cause: Box<Error>,
}

impl Opened {
    fn new(reason: Refusal, cause: Error) -> Self {
        Self {
            reason,
            cause: Box::new(cause),
        }
    }
}

/// A poisoned lock means a panic in another connection's product; its model stays usable, because
/// every change of a model is one assignment at its end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// An empty server.
    #[must_use]
    pub fn new(limits: HubLimits) -> Self {
        Self {
            budget: Budget::new(limits.bytes),
            limits,
            models: Mutex::default(),
            started: ProcessTime::now(),
        }
    }

    /// How much this server takes on.
    #[must_use]
    pub const fn limits(&self) -> &HubLimits {
        &self.limits
    }

    /// CPU seconds of this process since the hub was made.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Takes memory for a model that is not held here.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Share, Error> {
        self.budget.take(bytes)
    }

    /// A use of `model`, with the memory that its plan may need: taken by the first who uses it.
    fn enter(&self, model: &Arc<Mutex<Model>>, held: &mut Model) -> Result<Arc<InUse>, Opened> {
        if let Some(used) = held.used.upgrade() {
            return Ok(used);
        }
        let share = self.reserve(held.plan.held());
        let share = share.map_err(|cause| Opened::new(Refusal::Full, cause))?;
        let used = Arc::new(InUse {
            model: Arc::clone(model),
            _share: share,
        });
        held.used = Arc::downgrade(&used);
        Ok(used)
    }

    pub(super) fn open(&self, id: ModelId, plan: &[u8]) -> Result<Lease, Opened> {
        let refuse = |cause| Opened::new(Refusal::Plan, cause);
        let literal: PlanLiteral = serde_json::from_slice(plan).map_err(|e| {
            refuse(
                Malformed::PlanJson {
                    line: e.line(),
                    column: e.column(),
                }
                .into(),
            )
        })?;
        let plan = Plan::new(&literal, &self.limits.plan).map_err(refuse)?;
        let model = self.hold(id, &plan)?;
        let (opened_at, used);
        {
            let mut held = lock(&model);
            if held.plan != plan {
                return Err(unknown("a model opened with this plan", "another plan"));
            }
            if held.training {
                let cause = Error::Unexpected {
                    expected: "a model nobody is training".into(),
                    got: "a model in training on another connection".into(),
                };
                return Err(Opened::new(Refusal::Busy, cause));
            }
            used = self.enter(&model, &mut held)?;
            held.training = true;
            held.biases.clear();
            held.phases.clear();
            opened_at = held.public.step();
        }
        let trainer = Some(Arc::new(Trainer {
            model: Arc::clone(&model),
            memory: Mutex::default(),
        }));
        Ok(Lease {
            plan,
            model,
            trainer,
            _used: used,
            opened_at,
        })
    }

    /// The model of this id, made if it is new; a model nobody uses gives way when there are too many.
    fn hold(&self, id: ModelId, plan: &Plan) -> Result<Arc<Mutex<Model>>, Opened> {
        if let Some(model) = lock(&self.models).get(&id) {
            return Ok(Arc::clone(model));
        }
        // Made outside the lock: initialising a large model takes a while.
        let fresh = Arc::new(Mutex::new(Model::new(plan)));
        let mut models = lock(&self.models);
        if models.len() >= self.limits.models && !models.contains_key(&id) {
            let idle = models
                .iter()
                .find(|(_, model)| Arc::strong_count(model) == 1);
            let Some(idle) = idle.map(|(id, _)| *id) else {
                let (got, limit) = (models.len() + 1, self.limits.models);
                let cause = Error::Limit {
                    what: "models held by the server",
                    got,
                    limit,
                };
                return Err(Opened::new(Refusal::Full, cause));
            };
            models.remove(&idle);
        }
        Ok(Arc::clone(models.entry(id).or_insert(fresh)))
    }

    pub(super) fn attach(&self, id: ModelId, digest: [u8; 32]) -> Result<Lease, Opened> {
        let model = lock(&self.models).get(&id).cloned();
        let model = model.ok_or_else(|| unknown("the id of an open model", "an unknown id"))?;
        let plan = lock(&model).plan.clone();
        if plan.digest() != digest {
            return Err(unknown("the digest of the model's plan", "another digest"));
        }
        let used = self.enter(&model, &mut lock(&model))?;
        Ok(Lease {
            plan,
            model,
            trainer: None,
            _used: used,
            opened_at: 0,
        })
    }
}

fn unknown(expected: &str, got: &str) -> Opened {
    let cause = Error::Unexpected {
        expected: expected.into(),
        got: got.into(),
    };
    Opened::new(Refusal::UnknownModel, cause)
}

impl Model {
    fn new(plan: &Plan) -> Self {
        let public = PublicModel::initial(plan.grid());
        let recent = VecDeque::from([Arc::new(Prepared::new(plan, public.snapshot()))]);
        Self {
            plan: plan.clone(),
            public,
            recent,
            biases: Vec::new(),
            tickets: Tickets::default(),
            training: false,
            used: Weak::new(),
            phases: Vec::new(),
        }
    }

    /// Makes the current weights the latest version.
    fn publish(&mut self) {
        // Older versions answer requests, which need only the weights.
        for older in &mut self.recent {
            *older = Arc::new(older.without_polynomials());
        }
        let prepared = Prepared::new(&self.plan, self.public.snapshot());
        self.recent.push_front(Arc::new(prepared));
        self.recent.truncate(KEPT_VERSIONS);
    }

    fn latest(&self) -> Option<Arc<Prepared>> {
        self.recent.front().map(Arc::clone)
    }
}

/// Ends a model's training state with the last lease that holds it.
#[derive(Debug)]
struct Trainer {
    model: Arc<Mutex<Model>>,
    /// Between steps: memory for the next.
    memory: Mutex<Memory>,
}

impl Drop for Trainer {
    fn drop(&mut self) {
        lock(&self.model).training = false;
    }
}

/// A model in use. With the last user go its memory and whatever was laid out for products; the
/// weights stay.
#[derive(Debug)]
struct InUse {
    model: Arc<Mutex<Model>>,
    _share: Share,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut model = lock(&self.model);
        // Unless somebody came since.
        if model.used.strong_count() == 0
            && let Some(latest) = model.recent.front_mut()
        {
            *latest = Arc::new(latest.without_polynomials());
        }
    }
}

/// A connection's right to use a model.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    plan: Plan,
    model: Arc<Mutex<Model>>,
    trainer: Option<Arc<Trainer>>,
    _used: Arc<InUse>,
    /// Where the model stood when it was opened.
    opened_at: u64,
}

impl Lease {
    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) const fn trains(&self) -> bool {
        self.trainer.is_some()
    }

    pub(super) fn latest(&self) -> Result<Arc<Prepared>, Error> {
        lock(&self.model).latest().ok_or_else(|| Error::Unexpected {
            expected: "a model with weights".into(),
            got: "none".into(),
        })
    }

    fn standing(&self) -> Result<(ModelVersion, u64), Error> {
        let latest = self.latest()?;
        Ok((latest.snapshot().version(), latest.snapshot().step()))
    }

    pub(super) fn ready(&self) -> Result<ToClient, Error> {
        let (version, step) = self.standing()?;
        Ok(ToClient::ModelReady { version, step })
    }

    pub(super) fn updated(&self) -> Result<ToClient, Error> {
        let (version, step) = self.standing()?;
        Ok(ToClient::Updated { version, step })
    }

    /// Whether nothing was ever applied, so that a trained model may be loaded.
    pub(super) fn is_fresh(&self) -> Result<bool, Error> {
        Ok(self.standing()?.1 == 0)
    }

    /// Whether this lease may still bring the update of `step`, the model's next one: once, between
    /// opening the model and its first biases.
    pub(super) fn may_repeat(&self, step: u64) -> Result<bool, Error> {
        Ok(lock(&self.model).biases.is_empty()
            && self.opened_at == step
            && self.standing()?.1 == step)
    }

    pub(super) fn load(&self, released: &ReleasedModel) -> Result<ToClient, Error> {
        let public = PublicModel::import(self.plan.grid(), released)?;
        let mut model = lock(&self.model);
        model.public = public;
        model.publish();
        drop(model);
        self.ready()
    }

    pub(super) fn apply(&self, gradient: &Released) -> Result<(), Error> {
        let mut model = lock(&self.model);
        model.public.apply(gradient)?;
        model.publish();
        Ok(())
    }

    pub(super) fn add_biases(&self, part: u32, change: &Sealed) -> Result<(), Error> {
        let change = open_bias(&self.plan, change)?;
        let mut model = lock(&self.model);
        match model.biases.get_mut(part as usize) {
            Some(sum) => sum.add_assign(&change)?,
            None => model.biases.push(change),
        }
        Ok(())
    }

    /// The encrypted biases, as they are sent down.
    pub(super) fn backup(&self) -> Result<Vec<ToClient>, Error> {
        let biases = lock(&self.model).biases.clone();
        biases
            .into_iter()
            .enumerate()
            .map(|(part, sum)| {
                let positions = self.plan.bias_positions(part as u32);
                let backup = finish(sum, &positions, self.plan.backup_return())?;
                Ok(ToClient::Biases {
                    part: part as u32,
                    backup,
                })
            })
            .collect()
    }

    /// What the phases of all steps took, as [`Self::keep_phases`] last had it.
    pub(super) fn phases(&self) -> Vec<ServerSeconds> {
        lock(&self.model).phases.clone()
    }

    pub(super) fn keep_phases(&self, phases: Vec<ServerSeconds>) {
        lock(&self.model).phases = phases;
    }

    /// The memory of the step before, if there was one.
    pub(super) fn memory(&self) -> Memory {
        let trainer = self.trainer.as_ref();
        trainer.map_or_else(Memory::default, |t| std::mem::take(&mut *lock(&t.memory)))
    }

    pub(super) fn keep_memory(&self, memory: Memory) {
        if let Some(trainer) = &self.trainer {
            *lock(&trainer.memory) = memory;
        }
    }

    pub(super) fn register(&self, batch: [u8; 16]) -> Result<(), Error> {
        lock(&self.model)
            .tickets
            .register(batch, self.plan.literal().tickets)
    }

    /// The weights of a version, or why they are not here.
    pub(super) fn version(
        &self,
        version: ModelVersion,
    ) -> Result<Result<Arc<Prepared>, String>, Error> {
        let model = lock(&self.model);
        let found = model
            .recent
            .iter()
            .find(|p| p.snapshot().version() == version);
        Ok(found.map(Arc::clone).ok_or_else(|| {
            let newest = model
                .recent
                .front()
                .map(|p| p.snapshot().version().to_string());
            format!(
                "weights {version} are not kept; the newest are {}: refresh the ticket",
                newest.unwrap_or_default()
            )
        }))
    }

    /// Marks a ticket as used, or says why it cannot be.
    pub(super) fn spend(&self, ticket: TicketId) -> Result<Result<(), String>, Error> {
        Ok(lock(&self.model).tickets.spend(ticket))
    }
}
