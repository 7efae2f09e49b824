//! Bad peers over real sockets: the server answers clearly, survives, and serves others on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::data::Dataset;
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::Error;
use sphinx_protocol::grid::{Engine, Multiplier};
use sphinx_protocol::link::{Link, Standing};
use sphinx_protocol::message::{ModelId, Refusal, ToServer, WIRE_VERSION};
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::Packed;
use sphinx_protocol::plan::{Plan, PlanChoices};
use sphinx_protocol::serve::{Ended, ServeOptions, Service};
use sphinx_protocol::transport::connect;
use sphinx_tests::fixture::{
    architecture, choices, local, random_data, toy_plan, train, train_from,
};

fn plan() -> Plan {
    toy_plan(&choices(architecture(8, &[(4, LayerSpec::Tanh)], 3), 16), 7)
}

/// Number of the connection and why it ended.
type Reports = Arc<Mutex<Vec<(u64, String)>>>;

/// A server, and how its connections ended.
fn service(connections: usize) -> (Service, Reports) {
    let reports = Reports::default();
    let sink = Arc::clone(&reports);
    let options = ServeOptions {
        connections,
        patience: Duration::from_secs(20),
        ..ServeOptions::default()
    };
    let service = Service::start("127.0.0.1:0", options, move |ended: &Ended| {
        let cause = ended
            .cause
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        sink.lock().unwrap().push((ended.connection, cause));
    });
    (service.unwrap(), reports)
}

/// Waits until `connections` connections have ended, and checks that each ended with exactly one
/// report: the thread of a connection that panics never gives one.
fn assert_all_reported(reports: &Reports, connections: u64) {
    for _ in 0..2000 {
        if reports.lock().unwrap().len() as u64 >= connections {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut ended: Vec<u64> = reports
        .lock()
        .unwrap()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, (0..connections).collect::<Vec<_>>(), "{reports:?}");
}

fn open(address: SocketAddr, plan: &Plan, id: u8) -> Result<Engine<Packed>, Error> {
    let link = Link::greet(connect(address)?)?;
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(id));
    Ok(Engine::new(Packed::open(
        link,
        ModelId([id; 16]),
        plan,
        Replica::initial(plan.grid()),
        &mut rng,
    )?))
}

/// The server still trains a model to the exact result.
fn assert_serves(address: SocketAddr, id: u8) {
    let plan = plan();
    let data = random_data(20, 8, 3, 1);
    let served = train(open(address, &plan, id).unwrap(), &plan, &data, 1, None, 1).unwrap();
    let expected = train(local(&plan), &plan, &data, 1, None, 1).unwrap();
    assert_eq!(
        served.multiplier().replica().public().version(),
        expected.multiplier().replica().public().version()
    );
}

fn frame(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_le_bytes(), content].concat()
}

/// Sends raw bytes, closes the sending half, and gives all that comes back.
fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // The server may close before everything is written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn junk_and_monsters_do_not_stop_the_server() {
    let (service, reports) = service(64);
    let address = service.address();
    let hello = frame(
        &ToServer::Hello {
            version: WIRE_VERSION,
        }
        .to_bytes(),
    );
    let monsters: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        frame(&[]),
        frame(&[0x55, 1, 2, 3]),
        u32::MAX.to_le_bytes().to_vec(),
        [hello.clone(), (1_u32 << 30).to_le_bytes().to_vec()].concat(),
        [hello.clone(), frame(&[0x02; 40])].concat(),
        [hello.clone(), hello.clone()].concat(),
        hello[..3].to_vec(),
    ];
    for monster in &monsters {
        raw(address, monster);
    }
    assert_serves(address, 1);
    assert_all_reported(&reports, monsters.len() as u64 + 1);
    let reports = reports.lock().unwrap();
    let some = |text: &str| reports.iter().any(|(_, cause)| cause.contains(text));
    assert!(some("exceeds the limit"), "{reports:?}");
    assert!(some("unknown kind"), "{reports:?}");
    assert!(some("not a plan in JSON"), "{reports:?}");
    assert!(some("expected OpenModel"), "{reports:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A real conversation, cut or with one bit flipped anywhere: no panic, and the next client is
    /// served.
    #[test]
    fn cut_and_flipped_conversations(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let (service, reports) = service(4);
        let plan = plan();
        let opening = ToServer::OpenModel {
            id: ModelId([9; 16]),
            plan: serde_json::to_vec(plan.literal()).unwrap(),
        };
        let mut bytes = frame(&ToServer::Hello { version: WIRE_VERSION }.to_bytes());
        bytes.extend(frame(&opening.to_bytes()));
        bytes.extend(frame(&ToServer::BeginStep { step: 0 }.to_bytes()));
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        raw(service.address(), &bytes);
        assert_serves(service.address(), 1);
        assert_all_reported(&reports, 2);
    }
}

/// A wire that breaks after a number of frames.
struct Breaking {
    inner: Box<dyn sphinx_protocol::transport::Outgoing>,
    left: usize,
}

impl sphinx_protocol::transport::Outgoing for Breaking {
    fn send(&mut self, content: &[u8]) -> Result<(), Error> {
        if self.left == 0 {
            self.inner.close();
            return Err(Error::Disconnected("testing"));
        }
        self.left -= 1;
        self.inner.send(content)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

/// A trainer that vanishes after any number of frames leaves the model usable, and no half step.
#[test]
fn a_client_may_vanish_in_any_state() {
    let (service, _) = service(8);
    let plan = plan();
    let data = random_data(20, 8, 3, 2);
    let whole = {
        let engine = open(service.address(), &plan, 200).unwrap();
        train(engine, &plan, &data, 1, None, 2)
            .unwrap()
            .multiplier()
            .link()
            .meter()
            .read()
            .frames
    };
    let world = Vanishing::new(&service, &plan, &data);
    let mut applied = [0, 0];
    for frames in 1..whole as usize {
        let mut wire = connect(service.address()).unwrap();
        wire.outgoing = Box::new(Breaking {
            inner: wire.outgoing,
            left: frames,
        });
        let attempt = Link::greet(wire).and_then(|link| {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let id = ModelId([frames as u8; 16]);
            let packed = Packed::open(link, id, &plan, Replica::initial(plan.grid()), &mut rng)?;
            train(Engine::new(packed), &plan, &data, 1, None, 2)
        });
        if attempt.is_ok() {
            break; // enough frames for the whole step
        }
        // The model is free again, and either before or after the step, never between.
        applied[usize::from(world.reopen(frames as u8))] += 1;
    }
    assert!(
        applied.iter().all(|&n| n > 0),
        "both ends of a step should be seen: {applied:?}"
    );
    assert_serves(service.address(), 201);
}

/// What a model may be once its trainer has vanished in its first step.
struct Vanishing<'a> {
    service: &'a Service,
    plan: &'a Plan,
    data: &'a Dataset,
    before: Standing,
    after: Standing,
}

impl<'a> Vanishing<'a> {
    fn new(service: &'a Service, plan: &'a Plan, data: &'a Dataset) -> Self {
        let stepped = train(local(plan), plan, data, 1, None, 2).unwrap();
        let standing = |replica: &Replica| {
            let (version, step) = (replica.public().version(), replica.public().step());
            Standing { version, step }
        };
        let before = standing(&Replica::initial(plan.grid()));
        let after = standing(stepped.multiplier().replica());
        Self {
            service,
            plan,
            data,
            before,
            after,
        }
    }

    /// Where the model stands, as anyone may ask at any time.
    fn standing(&self, id: u8) -> Option<Standing> {
        let mut link = Link::greet(connect(self.service.address()).unwrap()).unwrap();
        match link.attach(ModelId([id; 16]), self.plan) {
            Ok(standing) => {
                assert!(
                    [self.before, self.after].contains(&standing),
                    "{standing:?}"
                );
                Some(standing)
            }
            // The trainer vanished before it had opened the model.
            Err(Error::Refused {
                reason: Refusal::UnknownModel,
                ..
            }) => None,
            Err(other) => panic!("{other}"),
        }
    }

    /// Opens the model again and finishes the step, unless it is done; says whether it was.
    fn reopen(&self, id: u8) -> bool {
        for _ in 0..200 {
            self.standing(id);
            match open(self.service.address(), self.plan, id) {
                Ok(engine) => {
                    assert_eq!(self.standing(id), Some(self.before));
                    train(engine, self.plan, self.data, 1, None, 2).unwrap();
                    assert_eq!(self.standing(id), Some(self.after));
                    return false;
                }
                // The server has not noticed yet that the other connection is gone.
                Err(Error::Refused {
                    reason: Refusal::Busy,
                    ..
                }) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                // The update arrived before the client vanished.
                Err(Error::VersionMismatch { theirs, .. }) => {
                    assert_eq!(theirs, self.after.version);
                    assert_eq!(self.standing(id), Some(self.after));
                    return true;
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("the model was never freed");
    }
}

#[test]
fn a_client_with_other_parameters_is_told_so() {
    let (service, _) = service(4);
    let plan = plan();
    let trainer = open(service.address(), &plan, 1).unwrap();
    let other = toy_plan(&choices(architecture(8, &[(4, LayerSpec::Tanh)], 3), 16), 8);
    let mut link = Link::greet(connect(service.address()).unwrap()).unwrap();
    let refused = link.attach(ModelId([1; 16]), &other).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Refused {
                reason: Refusal::UnknownModel,
                ..
            }
        ),
        "{refused}"
    );
    // A ciphertext of another ring is refused by name.
    let mut link = Link::greet(connect(service.address()).unwrap()).unwrap();
    link.open(ModelId([2; 16]), &plan).unwrap();
    let foreign = sphinx_tests::fixture::sealed(&other, other.bias_encoding(), &[0]);
    link.send(&ToServer::BiasUpdate {
        part: 0,
        change: foreign,
    })
    .unwrap();
    let refused = link.standing().unwrap_err();
    assert!(refused.to_string().contains("parameters"), "{refused}");
    drop(trainer);
}

#[test]
fn connections_above_the_limit_are_refused_and_places_come_back() {
    let (service, _) = service(2);
    let held: Vec<_> = (0..2)
        .map(|_| Link::greet(connect(service.address()).unwrap()).unwrap())
        .collect();
    let refused = Link::greet(connect(service.address()).unwrap()).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Refused {
                reason: Refusal::Full,
                ..
            } | Error::Transport(_)
                | Error::Disconnected(_)
        ),
        "{refused}"
    );
    drop(held);
    for _ in 0..200 {
        if Link::greet(connect(service.address()).unwrap()).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no place came back");
}

#[test]
fn two_models_train_side_by_side() {
    let (service, _) = service(8);
    let address = service.address();
    std::thread::scope(|scope| {
        for id in 1..4 {
            scope.spawn(move || assert_serves(address, id));
        }
    });
}

/// The Poisson draw may exceed the capacity: the batch is truncated, the step goes on.
#[test]
fn a_full_batch_is_truncated_and_trains() {
    let plan = toy_plan(
        &PlanChoices {
            capacity: 4,
            ..choices(architecture(8, &[], 3), 4)
        },
        7,
    );
    // Of 400 records two are drawn on average; more than four come in every twentieth draw.
    let data = random_data(400, 8, 3, 5);
    let clear = train(local(&plan), &plan, &data, 12, Some(1.0), 5).unwrap();
    let (service, _) = service(2);
    let engine = open(service.address(), &plan, 1).unwrap();
    let encrypted = train(engine, &plan, &data, 12, Some(1.0), 5).unwrap();
    assert_eq!(
        clear.multiplier().replica().public().version(),
        encrypted.multiplier().replica().public().version()
    );
}

/// A trained model continues at a fresh server from what its owner kept.
#[test]
fn a_model_moves_to_another_server() {
    let (plan, data) = (plan(), random_data(20, 8, 3, 6));
    let (first, _) = service(2);
    let engine = open(first.address(), &plan, 1).unwrap();
    let engine = train(engine, &plan, &data, 2, Some(1.0), 6).unwrap();
    let kept = engine.multiplier().replica().export_private();
    drop((engine, first));
    let (second, _) = service(2);
    let link = Link::greet(connect(second.address()).unwrap()).unwrap();
    let replica = Replica::import_private(plan.grid(), &kept).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let packed = Packed::open(link, ModelId([5; 16]), &plan, replica.clone(), &mut rng).unwrap();
    let moved = train_from(Engine::new(packed), &plan, &data, 2, 1, Some(1.0), 7).unwrap();
    let here = Engine::new(sphinx_protocol::grid::Local::new(replica));
    let stayed = train_from(here, &plan, &data, 2, 1, Some(1.0), 7).unwrap();
    assert_eq!(
        moved.multiplier().replica().public().version(),
        stayed.multiplier().replica().public().version()
    );
}
