//! Client, wire and server work at the same time: results come while uploads are still held back.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_dp::calibrate::Budget;
use sphinx_dp::mechanism::Noised;
use sphinx_dp::{Adjacency, Delta, Epsilon, LedgerBuilder};
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::Error;
use sphinx_protocol::format::Integers;
use sphinx_protocol::grid::{ClippedLayer, Engine, Forward, Local, Multiplier};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::{ModelId, ToClient, ToServer};
use sphinx_protocol::model::{ModelVersion, Replica};
use sphinx_protocol::packed::layout::Tiling;
use sphinx_protocol::packed::{Packed, Upload, phases, script};
use sphinx_protocol::plan::{GridPlan, Limits, Plan, PlanLiteral};
use sphinx_protocol::serve::{Bounds, ServeOptions, converse_with};
use sphinx_protocol::train::{Outcome, Position, Setup, Streams, Trainer};
use sphinx_protocol::transport::{Incoming, Outgoing, loopback_of};
use sphinx_protocol::view::View;
use sphinx_tests::fixture::{
    architecture, choices, hub, local, mechanism, random_data, sampler, serve_in_process,
    toy_parameters, train,
};

/// How long the last upload of a phase waits for the first result of that phase.
const PATIENCE: Duration = Duration::from_secs(20);

/// The phases of which a result has come.
#[derive(Default)]
struct Answered(Mutex<Vec<(Upload, u16)>>, Condvar);

impl Answered {
    fn note(&self, phase: (Upload, u16)) {
        self.0.lock().unwrap().push(phase);
        self.1.notify_all();
    }

    /// Waits for the phase; whether it came.
    fn wait_for(&self, phase: (Upload, u16)) -> bool {
        let answered = self.0.lock().unwrap();
        let missing = |answered: &mut Vec<_>| !answered.contains(&phase);
        let waited = self.1.wait_timeout_while(answered, PATIENCE, missing);
        !waited.unwrap().1.timed_out()
    }
}

struct Answers(Box<dyn Incoming>, Arc<Answered>);

impl Incoming for Answers {
    fn receive(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let frame = self.0.receive(limit)?;
        match ToClient::from_bytes(&frame)? {
            ToClient::ForwardProduct(at, _) => self.1.note((Upload::Activation, at.layer)),
            ToClient::BackwardProduct(at, _) => self.1.note((Upload::OutputGradient, at.layer)),
            ToClient::GradientProduct(at, _) => self.1.note((Upload::ClippedGradient, at.layer)),
            _ => {}
        }
        Ok(frame)
    }
}

/// Holds the last upload of every phase back until a result of that phase is there.
struct HoldsBack {
    inner: Box<dyn Outgoing>,
    answered: Arc<Answered>,
    last: Vec<(Upload, u16, u32, u32)>,
    held: Arc<Mutex<Vec<bool>>>,
}

impl Outgoing for HoldsBack {
    fn send(&mut self, content: &[u8]) -> Result<(), Error> {
        let upload = match ToServer::from_bytes(content)? {
            ToServer::Activation(at, _) => Some((Upload::Activation, at)),
            ToServer::OutputGradient(at, _) => Some((Upload::OutputGradient, at)),
            ToServer::ClippedGradient(at, _) => Some((Upload::ClippedGradient, at)),
            _ => None,
        };
        if let Some((upload, at)) = upload
            && self.last.contains(&(upload, at.layer, at.chunk, at.tile))
        {
            let came = self.answered.wait_for((upload, at.layer));
            self.held.lock().unwrap().push(came);
        }
        self.inner.send(content)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

/// Two layers with more chunks, and the last with more output tiles, than the server takes at once.
fn plan() -> Plan {
    let hidden = [(20, LayerSpec::Tanh)];
    let choices = choices(architecture(6, &hidden, 20), 80);
    let mut literal = PlanLiteral::design_with(&choices, toy_parameters(7)).unwrap();
    literal.backward_tilings.clear();
    literal.tilings.fill(Tiling::Whole {
        inputs_per_tile: 6,
        outputs_per_tile: 1,
        samples_per_chunk: 2,
    });
    Plan::new(&literal, &Limits::default()).unwrap()
}

#[test]
fn the_server_answers_before_the_last_upload_of_a_phase_is_there() {
    let plan = plan();
    let answered = Arc::new(Answered::default());
    let held = Arc::default();
    let mut last: Vec<(Upload, u16, u32, u32)> = Vec::new();
    for (upload, at) in script(&plan) {
        let entry = (upload, at.layer, at.chunk, at.tile);
        match last.last_mut() {
            Some(end) if (end.0, end.1) == (upload, at.layer) => *end = entry,
            _ => last.push(entry),
        }
    }
    let mut wire = serve_in_process(&hub(), None);
    wire.incoming = Box::new(Answers(wire.incoming, Arc::clone(&answered)));
    wire.outgoing = Box::new(HoldsBack {
        inner: wire.outgoing,
        answered,
        last,
        held: Arc::clone(&held),
    });
    let (link, mut rng) = (Link::greet(wire).unwrap(), ChaCha20Rng::seed_from_u64(3));
    let replica = Replica::initial(plan.grid());
    let packed = Packed::open(link, ModelId([1; 16]), &plan, replica, &mut rng).unwrap();
    let data = random_data(100, 6, 20, 4);
    let engine = train(Engine::new(packed), &plan, &data, 1, Some(1.0), 6).unwrap();
    assert_eq!(*held.lock().unwrap(), vec![true; phases(&plan).len()]);
    // What was measured meanwhile.
    let work = engine.into_multiplier().phase_work().unwrap();
    let named: Vec<_> = work.iter().map(|w| (w.upload, w.layer)).collect();
    assert_eq!(named, phases(&plan));
    let both_ways: f64 = work.iter().map(|w| w.both_ways_s).sum();
    assert!(both_ways > 0.0, "{work:?}");
    for work in work {
        assert_eq!(work.steps, 1, "{work:?}");
        let busy = [work.client_busy_s, work.server_busy_s];
        for seconds in busy {
            assert!(seconds > 0.0 && seconds <= work.seconds * 1.01, "{work:?}");
        }
        assert!(work.sending_s <= work.seconds, "{work:?}");
    }
}

/// A wire on which each sender waits for its receiver, and a server that holds next to nothing: nobody waits
/// for ever, and the steps are the same, message by message.
#[test]
fn small_buffers_slow_nobody_down_for_ever() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let plan = plan();
        let data = random_data(100, 6, 20, 4);
        let expected = train(local(&plan), &plan, &data, 2, Some(1.0), 6).unwrap();
        let expected = expected.multiplier().replica().public().version();
        let runs = [(0, 1), (1, 2), (64, 1024)].map(|(frames, messages)| {
            let (client, server) = loopback_of(frames);
            let bytes = messages << 10;
            let options = ServeOptions {
                buffers: Bounds { messages, bytes },
                view: Some(View::default()),
                ..ServeOptions::default()
            };
            let (view, meter) = (options.view.clone().unwrap(), client.meter.clone());
            let served = std::thread::spawn(move || converse_with(server, hub(), 0, &options));
            let link = Link::greet(client).unwrap();
            let mut rng = ChaCha20Rng::seed_from_u64(3);
            let replica = Replica::initial(plan.grid());
            let packed = Packed::open(link, ModelId([1; 16]), &plan, replica, &mut rng).unwrap();
            let engine = train(Engine::new(packed), &plan, &data, 2, Some(1.0), 6).unwrap();
            let (_, replica) = engine.into_multiplier().close().unwrap();
            assert_eq!(replica.public().version(), expected);
            let ended = served.join().unwrap();
            assert!(ended.cause.is_none(), "{:?}", ended.cause);
            // Both ends have counted the same bytes.
            let (ours, theirs) = (meter.read(), ended.traffic);
            assert_eq!((ours.sent, ours.received), (theirs.received, theirs.sent));
            let seen = view.seen().into_iter();
            let seen: Vec<_> = seen.map(|s| (s.received, s.name, s.bytes)).collect();
            (seen, ours)
        });
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0], runs[2]);
        done.send(()).unwrap();
    });
    let waited = finished.recv_timeout(Duration::from_secs(120));
    waited.expect("a step that ends, and as it should");
}

/// A server on this machine shares its cores: nothing is prepared. One elsewhere that is slow gives the
/// client time, which is used.
#[test]
fn waiting_is_used_where_it_costs_nothing() {
    let plan = plan();
    let data = random_data(100, 6, 20, 4);
    let runs = [(true, 2000), (false, 2000)].map(|(beside, delay)| {
        let mut wire = serve_in_process(&hub(), None);
        wire.beside = beside;
        wire.incoming = Box::new(Slow(wire.incoming, Duration::from_micros(delay)));
        let (link, mut rng) = (Link::greet(wire).unwrap(), ChaCha20Rng::seed_from_u64(3));
        let replica = Replica::initial(plan.grid());
        let packed = Packed::open(link, ModelId([1; 16]), &plan, replica, &mut rng).unwrap();
        let engine = Engine::new(packed.preparing_if_idle());
        // Two steps are measured before anything is prepared.
        let engine = train(engine, &plan, &data, 4, Some(1.0), 6).unwrap();
        let packed = engine.into_multiplier();
        let version = packed.replica().public().version();
        (packed.prepares(), packed.offline_seconds() > 0.0, version)
    });
    assert_eq!((runs[0].0, runs[0].1), (0, false));
    assert!(runs[1].0 > 0 && runs[1].1);
    assert!(runs.iter().all(|run| run.2 == runs[0].2));
}

/// Results that take their time.
struct Slow(Box<dyn Incoming>, Duration);

impl Incoming for Slow {
    fn receive(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let frame = self.0.receive(limit)?;
        std::thread::sleep(self.1);
        Ok(frame)
    }
}

/// Uploads over encryptions of zero that were made while waiting: the same weights, and no mask twice.
#[test]
fn what_is_made_while_waiting_changes_nothing_and_serves_once() {
    let plan = plan();
    let data = random_data(100, 6, 20, 4);
    let runs = [0, 8, 200].map(|most| {
        let view = View::default();
        let link = Link::greet(serve_in_process(&hub(), Some(view.clone()))).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let replica = Replica::initial(plan.grid());
        let packed = Packed::open(link, ModelId([1; 16]), &plan, replica, &mut rng).unwrap();
        let engine = Engine::new(packed.preparing(most));
        let packed = train(engine, &plan, &data, 2, Some(1.0), 6).unwrap();
        let packed = packed.into_multiplier();
        assert_eq!(packed.offline_seconds() > 0.0, most > 0);
        let seen = view.seen();
        let openings: Vec<_> = seen.iter().filter_map(|s| s.opening.clone()).collect();
        let fresh: HashSet<_> = openings.iter().collect();
        assert_eq!(fresh.len(), openings.len());
        let replica = packed.replica();
        (replica.public().version(), replica.master_biases())
    });
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0], runs[2]);
}

/// The oracle, as if it were another machine that the client waits for.
struct Remote(Local);

impl Forward for Remote {
    fn plan(&self) -> &GridPlan {
        self.0.plan()
    }

    fn forward(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        self.0.forward(layer, x)
    }
}

impl Multiplier for Remote {
    fn begin(&mut self, step: u64) -> Result<(), Error> {
        self.0.begin(step)
    }

    fn forward_held(&mut self, layer: usize, x: &Integers) -> Result<Integers, Error> {
        self.0.forward_held(layer, x)
    }

    fn backward(&mut self, layer: usize, d: &Integers) -> Result<Integers, Error> {
        self.0.backward(layer, d)
    }

    fn gradients(&mut self, work: &[ClippedLayer]) -> Result<Vec<Vec<i64>>, Error> {
        self.0.gradients(work)
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), Error> {
        self.0.learn(noised)
    }

    fn replica(&self) -> &Replica {
        self.0.replica()
    }

    fn is_elsewhere(&self) -> bool {
        true
    }
}

/// Trains until the budget is spent: where the run stood after every step, the seconds of noise drawn
/// ahead, and the weights.
fn until_spent<M: Multiplier>(
    multiplier: M,
    plan: &Plan,
) -> (Vec<Position>, Vec<f64>, ModelVersion) {
    let data = random_data(100, 6, 20, 4);
    let budget = Budget {
        epsilon: Epsilon::new(30.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    let mut ledger = LedgerBuilder::new(Some(budget), Adjacency::AddRemove).in_memory();
    let setup = Setup {
        network: plan.network(),
        data: &data,
        sampler: sampler(plan.grid(), &data),
        mechanism: mechanism(plan.grid(), &data, Some(1.0)),
        capacity: plan.capacity(),
        streams: Streams::seeded_for_experiments(6),
        ledger: &mut ledger,
        first_step: 0,
    };
    let mut trainer = Trainer::new(Engine::new(multiplier), setup).unwrap();
    let (mut positions, mut offline) = (Vec::new(), Vec::new());
    while let Outcome::Done(report) = trainer.step().unwrap() {
        positions.push(trainer.position().unwrap());
        offline.push(report.offline_seconds);
    }
    let engine = trainer.into_engine();
    let version = engine.multiplier().replica().public().version();
    (positions, offline, version)
}

/// Noise drawn while waiting is that of the step it is for: the run is the same, a checkpoint of it says the
/// same, and none is drawn for a step that the budget does not allow.
#[test]
fn noise_drawn_ahead_changes_nothing() {
    let plan = plan();
    let local = || Local::new(Replica::initial(plan.grid()));
    let (positions, offline, version) = until_spent(local(), &plan);
    let (steps, none) = (positions.len(), vec![0.0; positions.len()]);
    assert!(steps > 2 && offline == none);
    let ahead = until_spent(Remote(local()), &plan);
    assert_eq!((ahead.0, ahead.2), (positions, version));
    let drawn: Vec<bool> = ahead.1.iter().map(|&seconds| seconds > 0.0).collect();
    let expected: Vec<bool> = (1..=steps).map(|step| step < steps).collect();
    assert_eq!(drawn, expected);
}
