//! The one-run audit pointed at the training loop: the right mechanism passes on the integer grid, in
//! floats and under encryption; noise divided by four does not.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_dp::audit::{Audit, Setup as AuditSetup, run};
use sphinx_dp::ledger::Ledger;
use sphinx_dp::mechanism::GaussianMechanism;
use sphinx_dp::sampler::PoissonSampler;
use sphinx_dp::{Accountant, Adjacency, Delta, NoiseMultiplier, PldAccountant, SamplingRate};
use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::data::Dataset;
use sphinx_nn::engine::Infer;
use sphinx_nn::init;
use sphinx_protocol::Error;
use sphinx_protocol::grid::{Engine, Frozen, Local, Multiplier};
use sphinx_protocol::model::Replica;
use sphinx_protocol::plan::{GridLiteral, GridPlan, Limits, PlanChoices};
use sphinx_protocol::train::{Learn, Outcome, Setup, Streams, Trainer};
use sphinx_tests::canary::{Audited, Canaries, Stop};
use sphinx_tests::fixture::{architecture, choices, hub, packed, random_data, toy_plan};

const BASE: usize = 16;
const DELTA: f64 = 1e-5;

/// A run and its audit: what is claimed, and what is done.
struct Case {
    canaries: Canaries,
    capacity: usize,
    steps: u64,
    rate: f64,
    /// The noise multiplier that is claimed.
    z: f64,
    guesses: usize,
}

impl Case {
    const fn large() -> Self {
        Self {
            canaries: Canaries {
                count: 1500,
                pixels: 4,
                classes: 10,
            },
            capacity: 500,
            steps: 8,
            rate: 0.5,
            z: 4.0,
            guesses: 75,
        }
    }

    fn choices(&self) -> PlanChoices {
        PlanChoices {
            clip_bound: 0.5,
            momentum: 0.0,
            divisor: 8.0,
            ..choices(
                architecture(self.canaries.inputs(BASE), &[], self.canaries.classes),
                self.capacity,
            )
        }
    }

    fn plan(&self) -> GridPlan {
        let literal = GridLiteral::design(&self.choices()).unwrap();
        GridPlan::new(&literal, &Limits::default()).unwrap()
    }

    fn mechanism(&self, bound: sphinx_dp::mechanism::ClipBound, z: f64) -> GaussianMechanism {
        let z = NoiseMultiplier::new(z).unwrap();
        let rate = SamplingRate::new(self.rate).unwrap();
        GaussianMechanism::new(bound, Some(z), rate).unwrap()
    }

    /// The epsilon that the accountant claims for the run.
    fn claimed(&self, plan: &GridPlan) -> f64 {
        let bound = sphinx_dp::mechanism::ClipBound::new(plan.literal().clip_bound).unwrap();
        let mut accountant = PldAccountant::new(Adjacency::AddRemove);
        let event = self.mechanism(bound, self.z).event();
        accountant.compose(&event, self.steps).unwrap();
        let delta = Delta::new(DELTA).unwrap();
        accountant.epsilon(delta).unwrap().epsilon
    }

    /// Trains with the noise multiplier `z`.
    fn train<E: Learn>(
        &self,
        engine: E,
        plan: &GridPlan,
        data: &Dataset,
        z: f64,
        seed: u64,
    ) -> Result<E, Stop>
    where
        Error: From<E::Error>,
    {
        let mechanism = self.mechanism(engine.clip_bound()?, z);
        let mut ledger = Ledger::in_memory(None, Adjacency::AddRemove);
        let setup = Setup {
            network: plan.network(),
            data,
            sampler: PoissonSampler::new(mechanism.rate(), self.capacity as u64),
            mechanism,
            capacity: self.capacity,
            streams: Streams::seeded_for_experiments(seed),
            ledger: &mut ledger,
            first_step: 0,
        };
        let mut trainer = Trainer::new(engine, setup)?;
        for _ in 0..self.steps {
            assert!(matches!(trainer.step()?, Outcome::Done(_)));
        }
        Ok(trainer.into_engine())
    }

    fn audit<E: Infer>(
        &self,
        plan: &GridPlan,
        seed: u64,
        train: impl FnMut(&Dataset) -> Result<(E, E), Stop>,
    ) -> Audit {
        let mut subject = Audited {
            canaries: self.canaries,
            network: plan.network(),
            base: random_data(BASE, BASE, self.canaries.classes, 3),
            train,
        };
        let setup = AuditSetup {
            canaries: self.canaries.count,
            k_plus: self.guesses,
            k_minus: self.guesses,
            delta: DELTA,
            confidence: 0.95,
        };
        run(&mut subject, &setup, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap()
    }

    /// Audits an engine of the integer grid; scores come from the released model.
    fn audit_grid<M: Multiplier>(
        &self,
        plan: &GridPlan,
        z: f64,
        seed: u64,
        mut open: impl FnMut() -> Engine<M>,
    ) -> Audit {
        let released = |model| Engine::new(Frozen::new(plan.clone(), model));
        self.audit(plan, seed, |data| {
            let engine = open();
            let before = released(engine.freeze());
            let engine = self.train(engine, plan, data, z, seed)?;
            Ok((before, released(engine.freeze())))
        })
    }

    fn audit_local(&self, plan: &GridPlan, z: f64, seed: u64) -> Audit {
        self.audit_grid(plan, z, seed, || {
            Engine::new(Local::new(Replica::initial(plan)))
        })
    }
}

#[test]
fn the_grid_engine_keeps_its_promise_and_a_quarter_of_the_noise_does_not() {
    let case = Case::large();
    let plan = case.plan();
    let claimed = case.claimed(&plan);
    for seed in 0..2 {
        let right = case.audit_local(&plan, case.z, seed);
        let broken = case.audit_local(&plan, case.z / 4.0, seed);
        println!("seed {seed}: claimed {claimed:.3}, right {right:?}, broken {broken:?}");
        assert!(!right.refutes(claimed), "{right:?} against {claimed}");
        assert!(broken.refutes(claimed), "{broken:?} against {claimed}");
    }
}

#[test]
fn the_float_engine_keeps_its_promise_and_a_quarter_of_the_noise_does_not() {
    let case = Case::large();
    let plan = case.plan();
    let claimed = case.claimed(&plan);
    let audited = |z: f64| {
        case.audit(&plan, 5, |data| {
            let config = ClearConfig {
                clip_bound: Some(0.5),
                learning_rate: 1.0,
                divisor: 8.0,
                ..ClearConfig::default()
            };
            let open = || {
                let weights = init::glorot(plan.network(), 1);
                Clear::new(plan.network(), weights, config)
            };
            Ok((open()?, case.train(open()?, &plan, data, z, 5)?))
        })
    };
    let (right, broken) = (audited(case.z), audited(case.z / 4.0));
    println!("claimed {claimed:.3}, right {right:?}, broken {broken:?}");
    assert!(!right.refutes(claimed), "{right:?} against {claimed}");
    assert!(broken.refutes(claimed), "{broken:?} against {claimed}");
}

/// The encrypted engine has the trajectory of the grid, and so its audit; few canaries are enough for
/// a claim that is far off.
#[test]
fn the_encrypted_engine_is_audited_like_the_grid() {
    let case = Case {
        canaries: Canaries {
            count: 60,
            pixels: 4,
            classes: 3,
        },
        capacity: 60,
        steps: 4,
        rate: 1.0,
        z: 8.0,
        guesses: 15,
    };
    let plan = toy_plan(&case.choices(), 8);
    let claimed = case.claimed(plan.grid());
    for (z, refuted) in [(case.z, false), (case.z / 16.0, true)] {
        let encrypted = case.audit_grid(plan.grid(), z, 1, || packed(&plan, &hub(), None).unwrap());
        let grid = case.audit_local(plan.grid(), z, 1);
        println!("claimed {claimed:.3}, {encrypted:?}");
        assert_eq!(encrypted, grid);
        assert_eq!(encrypted.refutes(claimed), refuted, "{encrypted:?}");
    }
}
