//! Client, wire and server work at the same time: results come while uploads are still held back.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::Error;
use sphinx_protocol::grid::{Engine, Multiplier};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::{ModelId, ToClient, ToServer};
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::layout::Tiling;
use sphinx_protocol::packed::{Packed, Upload, phases, script};
use sphinx_protocol::plan::{Limits, Plan, PlanLiteral};
use sphinx_protocol::transport::{Incoming, Outgoing};
use sphinx_protocol::view::View;
use sphinx_tests::fixture::{
    architecture, choices, hub, random_data, serve_in_process, toy_parameters, train,
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
