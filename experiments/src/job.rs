//! One training run by any engine: the part that `train`, `demo` and the experiments share.
//!
//! A [`Job`] is a checked configuration with its data. [`Job::train_local`] runs it in this
//! process (float, or integers on the grid), [`Job::train_packed`], [`Job::train_paper`] and [`Job::train_pure_he`] at a server. All use the one
//! private loop of `sphinx_protocol::train` and give the same [`Trained`].
//!
//! ```
//! use std::sync::{Arc, OnceLock};
//! use sphinx_experiments::config::{Config, Engine};
//! use sphinx_experiments::job::{Begun, Job, Randomness, Unwatched};
//! use sphinx_nn::data::{self, LoadOptions};
//!
//! let config = Config {
//!     engine: Engine::Clear, model: "linear".into(), train_size: 300, test_size: 50,
//!     batch: 16.0, steps: 2, seed: Some(1), ..Config::default()
//! };
//! let options = LoadOptions { train: Some(300), test: Some(50), seed: 1 };
//! let job = Job::new(config, Arc::new(data::load("synth-digits", None, &options)?))?;
//! let mut begun = Begun::unkept(job.terms.ledger(None)?);
//! let trained = job.train_local(&Randomness::Seeded(1), &mut begun, &mut Unwatched)?;
//! assert_eq!(trained.history.steps.len(), 2);
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_dp::BiasRule;
use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::data::{Dataset, Split};
use sphinx_nn::engine::Infer;
use sphinx_nn::{Network, init, metrics, pass};
use sphinx_protocol::grid::{self, Frozen, Local};
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::{FrozenReplica, Replica};
use sphinx_protocol::packed::PhaseWork;
use sphinx_protocol::paper::{PaperLiteral, PaperPlan};
use sphinx_protocol::plan::{
    GridLiteral, GridPlan, Limits, Plan, PlanChoices, PlanLiteral, Preferences,
};
use sphinx_protocol::pure_he::{PureHeLiteral, PureHePlan, Style};
use sphinx_protocol::train::{
    Float, KeptError, Position, Schedule, Streams, UpdateRule, Views, restore_replica,
};
use sphinx_protocol::transport::Traffic;

use crate::config::{Config, Engine};
use crate::learning::Clipping;
use crate::privacy::Terms;
use crate::start::Found;
use crate::usage::OrUsage;

mod drive;
mod pure_he;
mod remote;
mod saving;

pub use drive::{History, StepSample, Unwatched, Watch};
pub use saving::{Begun, CHECKPOINT, Saving};

/// Fraction bits of the float engine's gradient sums.
const FLOAT_SHIFT: u32 = 20;
/// Test images evaluated at once.
const CHUNK: usize = 500;

/// Where batches and noise come from.
#[derive(Clone, Debug)]
pub enum Randomness {
    /// A known seed: repeatable, and no protection.
    Seeded(u64),
    /// A generator seeded by the operating system, kept in memory only. A clone gives the same
    /// streams again, for a second run of the same releases inside this process.
    Secret(Box<ChaCha20Rng>),
}

impl Randomness {
    /// From a seed if there is one, else from the operating system.
    #[must_use]
    pub fn new(seed: Option<u64>) -> Self {
        seed.map_or_else(
            || Self::Secret(Box::new(ChaCha20Rng::from_rng(&mut rand::rng()))),
            Self::Seeded,
        )
    }

    /// The streams from the start, or where a seeded run left them. A secret run never goes on with
    /// old randomness.
    fn streams(&self, position: Option<&Position>) -> Result<Streams> {
        Ok(match (self, position) {
            (Self::Seeded(seed), None) => Streams::seeded_for_experiments(*seed),
            (Self::Seeded(seed), Some(position)) => {
                let name = "position of the seeded streams";
                let streams = position.streams.ok_or(KeptError::Missing { name })?;
                Streams::resume_seeded(*seed, &streams)
            }
            (Self::Secret(root), _) => Streams::secret(&mut root.as_ref().clone()),
        })
    }
}

/// A training run, ready to go.
#[derive(Clone, Debug)]
pub struct Job {
    /// What was asked.
    pub config: Config,
    /// The data.
    pub split: Arc<Split>,
    /// The network.
    pub network: Network,
    /// What it costs.
    pub terms: Terms,
    /// Grids, for engines on the integer grid.
    pub grid: Option<GridPlan>,
    /// Layouts on these grids, for products by a server; none if a layer has no layout.
    pub plan: Option<Plan>,
    /// The plan of the engine `paper`, if that is the engine.
    pub paper: Option<PaperPlan>,
    /// The plan of the engine `pure-he`, if that is the engine.
    pub pure_he: Option<PureHePlan>,
    /// The first parameters once somebody asked.
    start: OnceLock<Found>,
}

/// A finished training run.
#[derive(Debug)]
pub struct Trained {
    /// Step by step.
    pub history: History,
    /// The model.
    pub model: Model,
    /// Test accuracy of the last iterate.
    pub accuracy: f64,
    /// Wall seconds before the first step (connection, keys, encrypted biases), and of noise and
    /// encryptions of zero made while waiting in steps.
    pub offline_seconds: f64,
    /// Wall seconds of preparation and all steps, without evaluation on test data.
    pub seconds: f64,
    /// Bytes on the socket, as the client counts them; TCP and IP headers are not in it.
    pub traffic: Traffic,
    /// CPU seconds of the client in preparation and all steps.
    pub client_cpu_s: f64,
    /// CPU seconds of the server process meanwhile.
    pub server_cpu_s: f64,
    /// The name of the model at the server.
    pub id: Option<ModelId>,
    /// What every phase of every layer took, for the engine packed; of the steps of this process.
    pub work: Vec<PhaseWork>,
}

/// A trained model.
#[derive(Debug)]
pub enum Model {
    /// On the integer grid.
    Grid(Box<Replica>),
    /// In floating point.
    Float(Box<Clear>),
}

impl Model {
    /// The model on the grid, if it is one.
    #[must_use]
    pub fn replica(&self) -> Option<&Replica> {
        match self {
            Self::Grid(replica) => Some(replica),
            Self::Float(_) => None,
        }
    }
}

impl Job {
    /// Checks a configuration against its data.
    ///
    /// # Errors
    /// [`UsageError`](crate::usage::UsageError) for whatever does not fit.
    pub fn new(config: Config, split: Arc<Split>) -> Result<Self> {
        let architecture = config.architecture(split.train.shape, split.train.classes)?;
        let network = Network::new(&architecture).or_usage("--model")?;
        Self::of_network(config, split, network)
    }

    /// As [`Self::new`], for a network that need not be the one `config` names.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_network(config: Config, split: Arc<Split>, network: Network) -> Result<Self> {
        split
            .train
            .check_fits(&network)
            .or_usage("the training data")?;
        split.test.check_fits(&network).or_usage("the test data")?;
        let terms = Terms::resolve(&config)?;
        let grid = config
            .grid
            .then(|| grids(&config, &network, &terms))
            .transpose()?;
        let has_layouts = grid.is_some() && sphinx_protocol::plan::has_layouts(&network);
        let plan = match config.engine {
            Engine::Packed => Some(design(&config, &network, &terms)?),
            // Only for requests to the model that is saved: training goes on without.
            _ if has_layouts => design(&config, &network, &terms).ok(),
            _ => None,
        };
        let paper = (config.engine == Engine::Paper)
            .then(|| design_paper(&config, &network, &terms))
            .transpose()?;
        let pure_he = (config.engine == Engine::PureHe)
            .then(|| design_pure_he(&config, &network, &terms))
            .transpose()?;
        Ok(Self {
            config,
            split,
            network,
            terms,
            grid,
            plan,
            paper,
            pure_he,
            start: OnceLock::new(),
        })
    }

    /// The first parameters; found when first asked for.
    ///
    /// # Errors
    /// Whatever stops the training on procedural images.
    pub fn start(&self) -> Result<&Found> {
        match self.start.get() {
            Some(found) => Ok(found),
            None => {
                let found = self.config.start.find(&self.config)?;
                Ok(self.start.get_or_init(|| found))
            }
        }
    }

    /// The first parameters, if anybody has asked for them.
    #[must_use]
    pub fn found(&self) -> Option<&Found> {
        self.start.get()
    }

    /// Takes the first parameters that a configuration with another budget has found before.
    #[must_use]
    pub fn starting_from(self, found: Found) -> Self {
        Self {
            start: OnceLock::from(found),
            ..self
        }
    }

    /// The same data under another configuration.
    ///
    /// # Errors
    /// As [`Job::new`].
    pub fn with(&self, config: Config) -> Result<Self> {
        Self::new(config, Arc::clone(&self.split))
    }

    /// The plan.
    ///
    /// # Errors
    /// If the job runs in floating point, or on layers without a ciphertext layout.
    pub fn plan(&self) -> Result<&Plan> {
        self.plan
            .as_ref()
            .context("this run has no layouts for encrypted products")
    }

    /// The float engine at the public initial weights.
    pub(crate) fn float_engine(&self) -> Result<Float> {
        let config = &self.config;
        let settings = ClearConfig {
            clip_bound: config.clip.map(|c| c as f32),
            learning_rate: config.lr,
            momentum: config.momentum,
            divisor: config.batch,
            shift: FLOAT_SHIFT,
        };
        let weights = init::glorot(&self.network, config.public_seed());
        let mut clear =
            Clear::new(&self.network, weights, settings).or_usage("the float engine")?;
        let learning = &config.learning;
        if let (Clipping::PerLayer, Some(clip)) = (learning.clipping, config.clip) {
            let layers = self.network.linears().len();
            let bound = (clip / (layers as f64).sqrt()) as f32;
            clear
                .clip_per_layer(&vec![bound; layers])
                .or_usage("--clip")?;
        }
        let rule = UpdateRule {
            schedule: Schedule {
                base: config.lr,
                warm_up: learning.warm_up,
                shape: learning.schedule,
            },
            momentum: config.momentum,
            nesterov: learning.nesterov,
            divisor: config.batch,
            steps: config.steps,
            averaging: learning.averaging,
        };
        let mut engine = Float::new(clear, rule);
        if config.bias == BiasRule::Paper {
            engine = engine.publishing_biases();
        }
        match learning.augmentation.settings() {
            Some(settings) => {
                let seed = config.public_seed();
                let views = Views { settings, seed };
                engine.with_views(views).or_usage("--views")
            }
            None => Ok(engine),
        }
    }

    /// Trains in this process, from where `begun` says.
    ///
    /// # Errors
    /// Whatever stops the run.
    pub fn train_local(
        &self,
        randomness: &Randomness,
        begun: &mut Begun,
        watch: &mut dyn Watch,
    ) -> Result<Trained> {
        let (history, model) = if let Some(grid) = &self.grid {
            let engine = grid::Engine::new(Local::new(self.replica(grid, begun)?));
            let (engine, history) = drive::drive(self, engine, randomness, begun, watch)?;
            let replica = grid::Multiplier::replica(engine.multiplier()).clone();
            (history, Model::Grid(Box::new(replica)))
        } else {
            let mut engine = self.float_engine()?;
            if let Some(checkpoint) = &begun.from {
                engine.restore(&checkpoint.state)?;
            } else if let Some(start) = &self.start()?.parameters {
                engine.start_from(start)?;
            }
            let (engine, history) = drive::drive(self, engine, randomness, begun, watch)?;
            (history, Model::Float(Box::new(engine.model())))
        };
        Ok(Trained {
            accuracy: self.accuracy(&model)?,
            offline_seconds: 0.0,
            seconds: history.seconds(),
            traffic: Traffic::default(),
            client_cpu_s: history.cpu_s(),
            server_cpu_s: 0.0,
            id: None,
            work: Vec::new(),
            history,
            model,
        })
    }

    /// The replica that a run on these grids starts or goes on from.
    fn replica(&self, grid: &GridPlan, begun: &Begun) -> Result<Replica> {
        if let Some(checkpoint) = &begun.from {
            return Ok(restore_replica(grid, &checkpoint.state)?);
        }
        let replica = match &self.start()?.parameters {
            Some(start) => Replica::starting_from(grid, start)?,
            None => Replica::initial(grid),
        };
        match self.config.bias {
            BiasRule::Private => Ok(replica),
            BiasRule::Paper => replica.publishing_biases().or_usage("--bias paper"),
        }
    }

    /// Test accuracy of a model.
    ///
    /// # Errors
    /// If the engine refuses the test data.
    pub fn accuracy(&self, model: &Model) -> Result<f64> {
        match model {
            Model::Grid(replica) => self.accuracy_frozen(&replica.freeze()),
            Model::Float(engine) => self.accuracy_float(engine.as_ref().clone()),
        }
    }

    fn accuracy_float(&self, mut engine: Clear) -> Result<f64> {
        Ok(accuracy(&mut engine, &self.network, &self.split.test)?)
    }

    /// Test accuracy of one version of the model, computed by the client from its replica: the
    /// same integers as the server's.
    fn accuracy_frozen(&self, model: &Arc<FrozenReplica>) -> Result<f64> {
        let grid = self.grid.as_ref();
        let grid = grid.context("this run is not on the integer grid")?;
        let mut engine = grid::Engine::new(Frozen::new(grid.clone(), Arc::clone(model)));
        Ok(accuracy(&mut engine, &self.network, &self.split.test)?)
    }
}

/// Grids and layouts for a configuration.
///
/// # Errors
/// [`UsageError`](crate::usage::UsageError) if no exact plan exists for it.
pub fn design(config: &Config, network: &Network, terms: &Terms) -> Result<Plan> {
    design_by(config, network, terms, &config.layouts.preferences())
}

/// As [`design`], by other preferences.
///
/// # Errors
/// As [`design`].
pub fn design_by(
    config: &Config,
    network: &Network,
    terms: &Terms,
    preferences: &Preferences,
) -> Result<Plan> {
    let literal = PlanLiteral::design_for(&choices(config, network, terms), preferences);
    let mut literal = literal.or_usage("planning the run")?;
    if config.clip_samples {
        literal.grid = literal.grid.clipping_samples();
    }
    Plan::new(&literal, &Limits::default()).or_usage("planning the run")
}

/// The plan of the engine `paper` for a configuration.
///
/// # Errors
/// [`UsageError`](crate::usage::UsageError) if no exact plan exists for it.
pub fn design_paper(config: &Config, network: &Network, terms: &Terms) -> Result<PaperPlan> {
    let choices = choices(config, network, terms);
    let literal = match config.bias {
        BiasRule::Private => PaperLiteral::design(&choices),
        BiasRule::Paper => PaperLiteral::design_published(&choices, config.steps),
    };
    let literal = literal.or_usage("planning the run")?;
    PaperPlan::new(&literal, &Limits::default()).or_usage("planning the run")
}

/// The plan of the engine `pure-he` for a configuration.
///
/// # Errors
/// [`UsageError`](crate::usage::UsageError) for a network whose ciphertexts the server would not hold.
pub fn design_pure_he(config: &Config, network: &Network, terms: &Terms) -> Result<PureHePlan> {
    let style = config.style.unwrap_or(Style::Lazy);
    let architecture = network.architecture().clone();
    let literal = PureHeLiteral::standard(architecture, terms.capacity, style);
    PureHePlan::new(&literal, &Limits::default()).or_usage("planning the run")
}

/// The grids alone.
fn grids(config: &Config, network: &Network, terms: &Terms) -> Result<GridPlan> {
    let literal = GridLiteral::design(&choices(config, network, terms));
    let mut literal = literal.or_usage("planning the run")?;
    if config.clip_samples {
        literal = literal.clipping_samples();
    }
    GridPlan::new(&literal, &Limits::default()).or_usage("planning the run")
}

fn choices(config: &Config, network: &Network, terms: &Terms) -> PlanChoices {
    PlanChoices {
        architecture: network.architecture().clone(),
        capacity: terms.capacity,
        clip_bound: config.clip.unwrap_or(crate::config::DEFAULT_CLIP),
        learning_rate: config.lr,
        momentum: config.momentum,
        divisor: config.batch,
        init_seed: config.public_seed(),
        tickets: config.tickets,
    }
}

/// Share of `data` that `engine` gets right.
fn accuracy<E: Infer>(engine: &mut E, network: &Network, data: &Dataset) -> Result<f64, E::Error> {
    let mut correct = 0.0;
    let positions: Vec<u32> = (0..data.len() as u32).collect();
    for chunk in positions.chunks(CHUNK) {
        let logits = pass::infer(engine, network, &data.images.gather(chunk, chunk.len()))?;
        let start = chunk[0] as usize;
        let labels = &data.labels[start..start + chunk.len()];
        correct += metrics::accuracy(&logits, labels) * chunk.len() as f64;
    }
    Ok(correct / data.len() as f64)
}
