//! A server that returns wrong products, against a client that checks them.
//!
//! The server is honest; a relay on the wire changes one coefficient of one product, or lets two
//! results change places, as a server that deviates could.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::exact::{Encoding, SelectedCiphertext, Truncation};
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec};
use sphinx_protocol::Error;
use sphinx_protocol::grid::{Engine, Multiplier};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::{ModelId, ToClient};
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::layout::Tiling;
use sphinx_protocol::packed::{Packed, Upload, script};
use sphinx_protocol::plan::{Limits, Phase, Plan, PlanLiteral};
use sphinx_protocol::transport::{Incoming, Outgoing};
use sphinx_protocol::view::View;
use sphinx_tests::fixture::{
    architecture, choices, hub, random_data, serve_in_process, toy_parameters, train,
};

/// What the relay does, once.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// One coefficient of the `nth` product of a phase and layer is off by one, or by a quarter of
    /// the modulus.
    Coefficient {
        upload: Upload,
        layer: u16,
        nth: usize,
        far: bool,
    },
    /// The first two chunks of samples change places.
    Swap { upload: Upload, layer: u16 },
    /// The backup of the biases is off by one.
    Backup,
}

/// The receiving half of a client's wire, with a liar on it.
struct Relay {
    inner: Box<dyn Incoming>,
    plan: Plan,
    lie: Option<Lie>,
    seen: usize,
    waiting: VecDeque<Vec<u8>>,
    told: Arc<AtomicBool>,
}

/// Kind and place of a product's frame.
const PLACE: usize = 1 + 2 + 4 + 4;

impl Relay {
    /// Whether this is the frame of a product of this phase and layer; its chunk.
    fn product(frame: &[u8], upload: Upload, layer: u16) -> Option<u32> {
        let ((Upload::Activation, ToClient::ForwardProduct(place, _))
        | (Upload::OutputGradient, ToClient::BackwardProduct(place, _))
        | (Upload::ClippedGradient, ToClient::GradientProduct(place, _))) =
            (upload, ToClient::from_bytes(frame).unwrap())
        else {
            return None;
        };
        (place.layer == layer).then_some(place.chunk)
    }

    /// Changes the bit of weight `2^bit` of the first coefficient, of which the lowest `cut` bits
    /// do not travel.
    fn flip(&self, frame: &mut [u8], ahead: usize, bit: u32, cut: u32) {
        let parameters = self.plan.parameters();
        let prefix = SelectedCiphertext::wire_size_bare(parameters, 0, 0, 0, Truncation::NONE);
        let bit = bit.checked_sub(cut).expect("the bit travels") as usize;
        frame[ahead + prefix + bit / 8] ^= 1 << (bit % 8);
        self.told.store(true, Ordering::SeqCst);
    }

    fn lie(&mut self, mut frame: Vec<u8>) -> Result<Vec<u8>, Error> {
        let kept = self.plan.parameters().moduli()[0].bits();
        match self.lie {
            Some(Lie::Coefficient {
                upload,
                layer,
                nth,
                far,
            }) if Self::product(&frame, upload, layer).is_some() => {
                if self.seen == nth {
                    let weights = Replica::initial(self.plan.grid()).public().snapshot();
                    let tightness = self.plan.tightness(&weights)[usize::from(layer)];
                    let passage = self.plan.passage(upload, layer.into(), tightness);
                    let form = passage.returned;
                    let bit = if far { kept - 2 } else { step(form.encoding) };
                    self.flip(&mut frame, PLACE, bit, form.truncation.c0);
                }
                self.seen += 1;
            }
            Some(Lie::Swap { upload, layer })
                if Self::product(&frame, upload, layer) == Some(0)
                    && !self.told.load(Ordering::SeqCst) =>
            {
                // Reads ahead to the same tile of the next chunk.
                let mut other = self.inner.receive(1 << 26)?;
                while Self::product(&other, upload, layer) != Some(1) {
                    self.waiting.push_back(other);
                    other = self.inner.receive(1 << 26)?;
                }
                assert_eq!(frame.len(), other.len());
                let (one, two) = (&mut frame[PLACE..], &mut other[PLACE..]);
                one.swap_with_slice(two);
                self.waiting.push_back(other);
                self.told.store(true, Ordering::SeqCst);
            }
            Some(Lie::Backup)
                if matches!(ToClient::from_bytes(&frame), Ok(ToClient::Biases { .. })) =>
            {
                let form = self.plan.backup_return();
                self.flip(&mut frame, 1 + 4, kept - 2, form.truncation.c0);
            }
            _ => {}
        }
        Ok(frame)
    }
}

/// log2 of what one is carried as.
fn step(encoding: Encoding) -> u32 {
    let Encoding::Scaled {
        numerator,
        denominator,
    } = encoding
    else {
        panic!("products are scaled");
    };
    (numerator as f64 / denominator as f64).log2().round() as u32
}

impl Incoming for Relay {
    fn receive(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        if let Some(frame) = self.waiting.pop_front() {
            return Ok(frame);
        }
        let frame = self.inner.receive(limit)?;
        self.lie(frame)
    }
}

/// The encrypted engine beside a relay; whether the relay lied.
fn engine(
    plan: &Plan,
    view: &View,
    lie: Option<Lie>,
    verify: bool,
) -> (Engine<Packed>, Arc<AtomicBool>) {
    let told = Arc::new(AtomicBool::new(false));
    let mut wire = serve_in_process(&hub(), Some(view.clone()));
    wire.incoming = Box::new(Relay {
        inner: wire.incoming,
        plan: plan.clone(),
        lie,
        seen: 0,
        waiting: VecDeque::new(),
        told: Arc::clone(&told),
    });
    let (link, mut rng) = (Link::greet(wire).unwrap(), ChaCha20Rng::seed_from_u64(3));
    let replica = Replica::initial(plan.grid());
    let packed = Packed::open(link, ModelId([1; 16]), plan, replica, &mut rng).unwrap();
    let packed = if verify { packed.verifying() } else { packed };
    (Engine::new(packed), told)
}

fn plan_of(architecture: Architecture, tiling: Tiling, log_n: u32) -> Plan {
    let choices = choices(architecture, 12);
    let mut literal = PlanLiteral::design_with(&choices, toy_parameters(log_n)).unwrap();
    literal.backward_tilings.clear();
    literal.tilings.fill(tiling);
    Plan::new(&literal, &Limits::default()).unwrap()
}

/// Dense layers, two of which have a layout of their own for the backward product.
fn apart() -> Plan {
    let mut literal = dense().literal().clone();
    let whole = Tiling::Whole {
        inputs_per_tile: 2,
        outputs_per_tile: 1,
        samples_per_chunk: 8,
    };
    literal.backward_tilings = [(1, Tiling::Scalar), (2, whole)].into();
    Plan::new(&literal, &Limits::default()).unwrap()
}

/// Three dense layers, each of several chunks and tiles.
fn dense() -> Plan {
    let hidden = [(6, LayerSpec::Tanh), (4, LayerSpec::Relu)];
    let tiling = Tiling::Whole {
        inputs_per_tile: 4,
        outputs_per_tile: 4,
        samples_per_chunk: 4,
    };
    plan_of(architecture(10, &hidden, 3), tiling, 7)
}

/// Two convolutions, one of them strided and framed, and a dense layer.
fn convolutional() -> Plan {
    let conv = |channels, stride, padding| LayerSpec::Conv {
        channels,
        kernel: 3,
        stride,
        padding,
    };
    let architecture = Architecture {
        name: "conv".into(),
        input: ImageShape {
            channels: 1,
            height: 6,
            width: 6,
        },
        layers: vec![
            conv(2, 1, 1),
            LayerSpec::Tanh,
            conv(3, 2, 1),
            LayerSpec::Relu,
            LayerSpec::Dense { outputs: 3 },
        ],
    };
    let tiling = Tiling::Whole {
        inputs_per_tile: 1,
        outputs_per_tile: 2,
        samples_per_chunk: 2,
    };
    plan_of(architecture, tiling, 9)
}

/// One noised step of the engine.
fn step_of(plan: &Plan, engine: Engine<Packed>) -> Result<Engine<Packed>, Error> {
    let data = random_data(30, plan.network().inputs(), plan.network().classes(), 4);
    train(engine, plan, &data, 1, Some(1.0), 6)
}

/// Every product of a plan: upload and layer.
fn products(plan: &Plan) -> Vec<(Upload, u16)> {
    let mut all: Vec<_> = script(plan).iter().map(|(u, p)| (*u, p.layer)).collect();
    all.dedup();
    all
}

const fn phase(upload: Upload) -> Phase {
    match upload {
        Upload::Activation => Phase::Forward,
        Upload::OutputGradient => Phase::Backward,
        Upload::ClippedGradient => Phase::Gradient,
    }
}

/// Messages that the server received.
fn received(view: &View) -> Vec<&'static str> {
    let seen = view.seen();
    let received = seen.iter().filter(|s| s.received);
    received.map(|s| s.name).collect()
}

/// The run must end with the phase that was spoiled, and say so.
fn assert_caught(plan: &Plan, upload: Upload, layer: u16, lie: Lie) {
    let view = View::default();
    let (engine, told) = engine(plan, &view, Some(lie), true);
    let opening = received(&view).len();
    let error = step_of(plan, engine).expect_err("the lie passed");
    assert!(told.load(Ordering::SeqCst), "{lie:?} was never told");
    let found = (usize::from(layer), phase(upload));
    let named = matches!(&error, Error::WrongProduct { layer, phase } if (*layer, *phase) == found);
    assert!(named, "{lie:?}: {error}");
    // BeginStep and the uploads up to the end of that phase, and not a frame more.
    let script = script(plan);
    let last = script
        .iter()
        .rposition(|(u, p)| (*u, p.layer) == (upload, layer));
    let frames = received(&view);
    assert_eq!(frames.len(), opening + 1 + last.unwrap() + 1, "{lie:?}");
    assert!(!frames.contains(&"Update") && !frames.contains(&"Bye"));
}

#[test]
fn one_wrong_coefficient_of_any_product_is_caught() {
    for plan in [dense(), convolutional(), apart()] {
        for (upload, layer) in products(&plan) {
            // Every phase has one product at least, the first of every network several.
            let nth = usize::from(layer == 0 && upload == Upload::Activation);
            for (nth, far) in [(0, false), (nth, true)] {
                let lie = Lie::Coefficient {
                    upload,
                    layer,
                    nth,
                    far,
                };
                assert_caught(&plan, upload, layer, lie);
            }
        }
    }
}

#[test]
fn samples_that_change_places_are_caught() {
    for plan in [dense(), convolutional()] {
        let of_samples = |(upload, _): &(Upload, u16)| *upload != Upload::ClippedGradient;
        for (upload, layer) in products(&plan).into_iter().filter(of_samples) {
            assert_caught(&plan, upload, layer, Lie::Swap { upload, layer });
        }
    }
}

/// The same lies change the model of a client that does not look: they are not harmless.
#[test]
fn without_checks_the_lies_pass() {
    let plan = dense();
    let honest = step_of(&plan, engine(&plan, &View::default(), None, false).0).unwrap();
    // The gradient at an output may meet a derivative of zero, and change nothing.
    let matters = |(upload, _): &(Upload, u16)| *upload != Upload::OutputGradient;
    for (upload, layer) in products(&plan).into_iter().filter(matters) {
        let lie = Lie::Coefficient {
            upload,
            layer,
            nth: 0,
            // A sum that no clipped rows can have is refused by the mechanism.
            far: upload == Upload::Activation,
        };
        let (engine, told) = engine(&plan, &View::default(), Some(lie), false);
        let fooled = step_of(&plan, engine).unwrap();
        assert!(told.load(Ordering::SeqCst));
        assert_ne!(
            fooled.multiplier().replica().public().version(),
            honest.multiplier().replica().public().version(),
            "{lie:?}"
        );
    }
}

#[test]
fn an_honest_run_is_the_same_with_checks() {
    for plan in [dense(), convolutional()] {
        let runs = [false, true].map(|verify| {
            let view = View::default();
            let engine = step_of(&plan, engine(&plan, &view, None, verify).0).unwrap();
            let mut packed = engine.into_multiplier();
            assert_eq!(packed.times().verify > 0.0, verify);
            let backup = packed.fetch_biases().unwrap();
            let kept = packed.replica().export_private();
            packed.close().unwrap();
            let digests: Vec<_> = view.seen().iter().map(|s| s.digest).collect();
            (backup, kept.weights().to_vec(), digests)
        });
        assert_eq!(runs[0].0, runs[1].0);
        assert_eq!(runs[0].1, runs[1].1);
        // Under the same seed even the ciphertexts are the same, in whatever order they were seen.
        let sorted = |mut digests: Vec<_>| {
            digests.sort_unstable();
            digests
        };
        assert_eq!(sorted(runs[0].2.clone()), sorted(runs[1].2.clone()));
    }
}

#[test]
fn a_wrong_backup_is_caught_and_the_engine_is_dead_then() {
    let plan = dense();
    let view = View::default();
    let (engine, told) = engine(&plan, &view, Some(Lie::Backup), true);
    let mut packed = step_of(&plan, engine).unwrap().into_multiplier();
    let error = packed.fetch_biases().unwrap_err();
    assert!(told.load(Ordering::SeqCst));
    assert!(matches!(error, Error::WrongBackup), "{error}");
    assert!(packed.is_stopped());
    let frames = received(&view).len();
    for refused in [
        packed.begin(1).unwrap_err(),
        packed.fetch_biases().unwrap_err(),
        packed.close().unwrap_err(),
    ] {
        assert!(matches!(refused, Error::Stopped), "{refused}");
    }
    assert_eq!(received(&view).len(), frames);
}

/// Notes when the wire is closed.
struct Closing(Box<dyn Outgoing>, Arc<Mutex<Vec<String>>>);

impl Outgoing for Closing {
    fn send(&mut self, content: &[u8]) -> Result<(), Error> {
        self.0.send(content)
    }

    fn close(&mut self) {
        self.1.lock().unwrap().push("closed".into());
        self.0.close();
    }
}

/// Whoever keeps a record of a failed check does so while the server cannot know of it yet.
#[test]
fn a_failed_check_is_marked_before_anything_else_happens() {
    let plan = dense();
    let events = Arc::new(Mutex::new(Vec::new()));
    let view = View::default();
    let mut wire = serve_in_process(&hub(), Some(view.clone()));
    wire.outgoing = Box::new(Closing(wire.outgoing, Arc::clone(&events)));
    wire.incoming = Box::new(Relay {
        inner: wire.incoming,
        plan: plan.clone(),
        lie: Some(Lie::Coefficient {
            upload: Upload::Activation,
            layer: 1,
            nth: 0,
            far: true,
        }),
        seen: 0,
        waiting: VecDeque::new(),
        told: Arc::default(),
    });
    let (link, mut rng) = (Link::greet(wire).unwrap(), ChaCha20Rng::seed_from_u64(3));
    let replica = Replica::initial(plan.grid());
    let packed = Packed::open(link, ModelId([1; 16]), &plan, replica, &mut rng).unwrap();
    let log = Arc::clone(&events);
    let packed = packed.verifying().marking(move |error| {
        log.lock().unwrap().push(error.to_string());
    });
    let error = step_of(&plan, Engine::new(packed)).unwrap_err();
    let events = events.lock().unwrap();
    assert_eq!(*events, [error.to_string(), "closed".into()]);
    assert!(
        events[0].contains("layer 1: the forward product"),
        "{events:?}"
    );
}
