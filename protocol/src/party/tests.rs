//! The machine takes what the protocol allows and nothing else.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::rlwe::{SecretKey, Security};
use sphinx_nn::network::LayerSpec;

use super::*;
use crate::fixture::{choices, image, packed_plan};
use crate::message::{Masked, ModelId, Released, Sealed, TicketId};
use crate::model::{ModelVersion, PublicModel};
use crate::packed::encrypt_level;
use crate::plan::Plan;

fn plan_with(outputs: usize) -> Plan {
    let layers = vec![
        LayerSpec::Dense { outputs: 3 },
        LayerSpec::Tanh,
        LayerSpec::Dense { outputs },
    ];
    packed_plan(&choices(image(1, 1, 4), layers, 5), 6)
}

/// A client that encrypts zeros, enough to walk through every state.
struct Walker {
    plan: Plan,
    secret: SecretKey,
    seed: u8,
}

impl Walker {
    fn new(plan: Plan) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        Self {
            secret: SecretKey::generate(plan.parameters(), &mut rng),
            plan,
            seed: 0,
        }
    }

    fn sealed(&mut self, encoding: sphinx_he::exact::Encoding) -> Sealed {
        self.sealed_at(1, encoding)
    }

    fn sealed_at(&mut self, level: usize, encoding: sphinx_he::exact::Encoding) -> Sealed {
        self.seed += 1;
        let (parameters, secret) = (self.plan.parameters(), &self.secret);
        let seed = [self.seed; 32];
        encrypt_level(parameters, secret, &[0; 4], (level, encoding), seed).unwrap()
    }

    fn open(&self) -> ToServer {
        let plan = serde_json::to_vec(self.plan.literal()).unwrap();
        ToServer::OpenModel {
            id: ModelId([1; 16]),
            plan,
        }
    }

    fn biases(&mut self) -> ToServer {
        let change = self.sealed(self.plan.bias_encoding());
        ToServer::BiasUpdate { part: 0, change }
    }

    fn upload(&mut self, upload: Upload, place: Place) -> ToServer {
        let layer = usize::from(place.layer);
        let initial = PublicModel::initial(self.plan.grid()).snapshot();
        let tightness = self.plan.tightness(&initial)[layer];
        let passage = self.plan.passage(upload, layer, tightness);
        let sealed = self.sealed_at(passage.level, passage.encoding);
        match upload {
            Upload::Activation => ToServer::Activation(place, sealed),
            Upload::OutputGradient => ToServer::OutputGradient(place, sealed),
            Upload::ClippedGradient => ToServer::ClippedGradient(place, sealed),
        }
    }
}

fn hub() -> Arc<Hub> {
    Arc::new(Hub::new(HubLimits::default()))
}

/// A machine after `messages`, and everything it answered.
fn after(hub: &Arc<Hub>, messages: Vec<ToServer>) -> (Server, Vec<ToClient>) {
    let mut server = Server::new(Arc::clone(hub));
    let mut replies = Vec::new();
    for message in messages {
        let step = server
            .step(message)
            .unwrap_or_else(|fault| panic!("{}", fault.cause));
        server = step.server;
        replies.extend(step.replies);
    }
    (server, replies)
}

fn hello() -> ToServer {
    ToServer::Hello {
        version: WIRE_VERSION,
    }
}

fn attach(id: [u8; 16], digest: [u8; 32]) -> ToServer {
    let id = ModelId(id);
    ToServer::AttachModel { id, digest }
}

fn refusal(server: Server, message: ToServer) -> (Refusal, String) {
    match server.step(message) {
        Err(Fault {
            reply: ToClient::Refused { reason, detail },
            ..
        }) => (reason, detail),
        other => panic!("not refused: {other:?}"),
    }
}

/// One message of every kind.
fn every_message(walker: &mut Walker) -> Vec<ToServer> {
    let place = Place {
        layer: 0,
        chunk: 0,
        tile: 0,
    };
    let plan = walker.plan.clone();
    vec![
        hello(),
        walker.open(),
        ToServer::LoadModel(PublicModel::initial(plan.grid()).export()),
        ToServer::AttachModel {
            id: ModelId([1; 16]),
            digest: plan.digest(),
        },
        crate::paper::tests::open_message(),
        ToServer::BeginStep { step: 0 },
        walker.upload(Upload::Activation, place),
        walker.upload(Upload::OutputGradient, place),
        walker.upload(Upload::ClippedGradient, place),
        ToServer::Update {
            step: 0,
            gradient: Released::received(vec![0; plan.weight_count()]),
        },
        walker.biases(),
        ToServer::FetchBiases,
        ToServer::FetchPhases,
        ToServer::BeginTickets { batch: [1; 16] },
        ToServer::Mask(place, walker.sealed(plan.mask_encoding())),
        request(ModelVersion([0; 32]), 1, 4),
        ToServer::Bye,
    ]
}

fn request(version: ModelVersion, layer: u16, columns: usize) -> ToServer {
    let ticket = TicketId {
        batch: [1; 16],
        index: 0,
    };
    ToServer::Request {
        ticket,
        version,
        layer,
        masked: Masked(vec![0; columns]),
    }
}

/// Every state with the messages that lead there and the kinds that it accepts.
fn states(walker: &mut Walker) -> Vec<(&'static str, Vec<ToServer>, Vec<&'static str>)> {
    let open = vec![hello(), walker.open()];
    let ready = [open.clone(), vec![walker.biases()]].concat();
    let training = [ready.clone(), vec![ToServer::BeginStep { step: 0 }]].concat();
    let preparing = [
        ready.clone(),
        vec![ToServer::BeginTickets { batch: [2; 16] }],
    ]
    .concat();
    vec![
        ("ExpectHello", vec![], vec!["Hello", "Bye"]),
        (
            "ExpectModel",
            vec![hello()],
            vec!["OpenModel", "OpenPaper", "Bye"],
        ),
        (
            "Paper",
            vec![hello(), crate::paper::tests::open_message()],
            vec!["LoadModel", "Bye"],
        ),
        // An update whose connection was lost may be repeated right after opening.
        (
            "ReceivingBiases",
            open,
            vec!["LoadModel", "BiasUpdate", "Update", "Bye"],
        ),
        // A request for an unknown version is declined without ending the connection, but not
        // for a later layer; the request above is for layer 1.
        (
            "Ready",
            ready,
            vec![
                "BeginStep",
                "FetchBiases",
                "FetchPhases",
                "BeginTickets",
                "Bye",
            ],
        ),
        ("Training", training, vec!["Activation", "Bye"]),
        ("Preparing", preparing, vec!["Mask", "Bye"]),
    ]
}

#[test]
fn each_state_takes_only_its_messages() {
    let mut walker = Walker::new(plan_with(2));
    for (name, path, accepted) in states(&mut walker) {
        for message in every_message(&mut walker) {
            let kind = message.name();
            let (server, _) = after(&hub(), path.clone());
            let expects = server.expects();
            match server.step(message) {
                Ok(_) => assert!(accepted.contains(&kind), "{name} took {kind}"),
                Err(fault) => {
                    assert!(!accepted.contains(&kind), "{name}: {kind}: {}", fault.cause);
                    let ToClient::Refused { reason, detail } = fault.reply else {
                        panic!("a fault refuses")
                    };
                    // The walker's biases are those of `packed`: in their place, but of another form.
                    let foreign = (name, kind) == ("Paper", "BiasUpdate");
                    if reason == Refusal::Protocol && !foreign {
                        assert!(
                            detail.contains(&expects) && detail.contains(kind),
                            "{detail}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_whole_step_walks_through_the_script() {
    let hub = hub();
    let mut walker = Walker::new(plan_with(2));
    let mut messages = vec![
        hello(),
        walker.open(),
        walker.biases(),
        ToServer::BeginStep { step: 0 },
    ];
    for (upload, place) in script(&walker.plan.clone()) {
        messages.push(walker.upload(upload, place));
    }
    let gradient = Released::received(vec![1 << 20; walker.plan.weight_count()]);
    messages.push(ToServer::Update { step: 0, gradient });
    messages.push(walker.biases());
    let (server, replies) = after(&hub, messages);
    let count = |name| replies.iter().filter(|r| r.name() == name).count();
    let layouts = walker.plan.layouts();
    let forward: usize = layouts.iter().map(|l| l.chunks() * l.output_tiles()).sum();
    let gradients: usize = layouts
        .iter()
        .map(|l| l.input_tiles() * l.output_tiles())
        .sum();
    assert_eq!(count("ForwardProduct"), forward);
    assert_eq!(
        count("BackwardProduct"),
        layouts[1].chunks() * layouts[1].input_tiles()
    );
    assert_eq!(count("GradientProduct"), gradients);
    assert!(matches!(
        replies.last(),
        Some(ToClient::Updated { step: 1, .. })
    ));
    // The same step cannot be taken twice.
    let (reason, detail) = refusal(server, ToServer::BeginStep { step: 0 });
    assert_eq!(reason, Refusal::Protocol);
    assert!(detail.contains("next step is 1"), "{detail}");
}

#[test]
fn another_wire_version_is_refused() {
    let (server, _) = after(&hub(), vec![]);
    let (reason, detail) = refusal(server, ToServer::Hello { version: 9 });
    assert_eq!(reason, Refusal::Version);
    let ours = WIRE_VERSION.to_string();
    assert!(detail.contains('9') && detail.contains(&ours), "{detail}");
}

#[test]
fn bad_plans_are_refused_with_their_reason() {
    let walker = Walker::new(plan_with(2));
    let mut insecure = walker.plan.literal().clone();
    insecure.he.security = Security::Classical128;
    for (plan, expected) in [
        (b"not json".to_vec(), "JSON"),
        (serde_json::to_vec(&insecure).unwrap(), "parameters"),
        (vec![b'['; 100_000], "JSON"),
    ] {
        let (server, _) = after(&hub(), vec![hello()]);
        let (reason, detail) = refusal(
            server,
            ToServer::OpenModel {
                id: ModelId([1; 16]),
                plan,
            },
        );
        assert_eq!(reason, Refusal::Plan);
        assert!(detail.contains(expected), "{detail}");
    }
}

#[test]
fn a_model_is_trained_by_one_connection_and_freed_when_it_ends() {
    let hub = hub();
    let mut walker = Walker::new(plan_with(2));
    let (first, _) = after(&hub, vec![hello(), walker.open()]);
    let (second, _) = after(&hub, vec![hello()]);
    assert_eq!(refusal(second, walker.open()).0, Refusal::Busy);
    drop(first);
    let (_, replies) = after(&hub, vec![hello(), walker.open(), walker.biases()]);
    assert!(matches!(
        replies.last(),
        Some(ToClient::Updated { step: 0, .. })
    ));
}

#[test]
fn models_are_found_by_id_and_plan() {
    let hub = hub();
    let walker = Walker::new(plan_with(2));
    let other = Walker::new(plan_with(3));
    let digest = walker.plan.digest();
    let (stranger, _) = after(&hub, vec![hello()]);
    assert_eq!(
        refusal(stranger, attach([1; 16], digest)).0,
        Refusal::UnknownModel
    );
    let (trainer, _) = after(&hub, vec![hello(), walker.open()]);
    drop(trainer);
    let (wrong_plan, _) = after(&hub, vec![hello()]);
    assert_eq!(
        refusal(wrong_plan, attach([1; 16], [0; 32])).0,
        Refusal::UnknownModel
    );
    let (wrong_open, _) = after(&hub, vec![hello()]);
    assert_eq!(refusal(wrong_open, other.open()).0, Refusal::UnknownModel);
    let (_, replies) = after(&hub, vec![hello(), attach([1; 16], digest)]);
    assert!(matches!(
        replies.last(),
        Some(ToClient::ModelReady { step: 0, .. })
    ));
}

#[test]
fn a_server_holds_only_so_many_models() {
    let hub = Arc::new(Hub::new(HubLimits {
        models: 1,
        ..HubLimits::default()
    }));
    let walker = Walker::new(plan_with(2));
    let _first = after(&hub, vec![hello(), walker.open()]);
    let (second, _) = after(&hub, vec![hello()]);
    let plan = serde_json::to_vec(walker.plan.literal()).unwrap();
    let (reason, _) = refusal(
        second,
        ToServer::OpenModel {
            id: ModelId([2; 16]),
            plan,
        },
    );
    assert_eq!(reason, Refusal::Full);
}

#[test]
fn models_in_use_share_the_memory_of_the_server() {
    let walker = Walker::new(plan_with(2));
    let hub = Arc::new(Hub::new(HubLimits {
        bytes: walker.plan.held(),
        ..HubLimits::default()
    }));
    let other = |hub: &Arc<Hub>| {
        let plan = serde_json::to_vec(walker.plan.literal()).unwrap();
        let id = ModelId([2; 16]);
        let (server, _) = after(hub, vec![hello()]);
        (server, ToServer::OpenModel { id, plan })
    };
    let (first, _) = after(&hub, vec![hello(), walker.open()]);
    // Another user of the same model takes no more.
    let again = vec![hello(), attach([1; 16], walker.plan.digest())];
    let (asker, _) = after(&hub, again);
    drop(first);
    let (second, open) = other(&hub);
    let (reason, detail) = refusal(second, open);
    assert_eq!(reason, Refusal::Full);
    assert!(detail.contains("serve --memory"), "{detail}");
    drop(asker);
    let (second, open) = other(&hub);
    let Ok(opened) = second.step(open) else {
        panic!("the memory was not given back");
    };
    assert!(matches!(opened.replies[..], [ToClient::ModelReady { .. }]));
}

/// Prepares one batch of tickets and gives the version they were made with.
fn prepared(hub: &Arc<Hub>, walker: &mut Walker) -> (Server, ModelVersion) {
    let mut messages = vec![
        hello(),
        walker.open(),
        walker.biases(),
        ToServer::BeginTickets { batch: [1; 16] },
    ];
    let encoding = walker.plan.mask_encoding();
    for (layer, layout) in walker.plan.ticket_layouts().to_vec().iter().enumerate() {
        for place in crate::packed::tile_places(layer, layout.chunks(), layout.input_tiles()) {
            messages.push(ToServer::Mask(place, walker.sealed(encoding)));
        }
    }
    let (server, replies) = after(hub, messages);
    let version = replies
        .iter()
        .find_map(|r| match r {
            ToClient::TicketsBegun { version } => Some(*version),
            _ => None,
        })
        .unwrap();
    (server, version)
}

#[test]
fn a_ticket_works_once_and_refusals_leave_the_connection_open() {
    let hub = hub();
    let mut walker = Walker::new(plan_with(2));
    let (mut server, version) = prepared(&hub, &mut walker);
    let mut ask = |message: ToServer| {
        let step = std::mem::replace(&mut server, Server::new(Arc::clone(&hub)))
            .step(message)
            .unwrap_or_else(|fault| panic!("{}", fault.cause));
        server = step.server;
        step.replies
    };
    let refused = |replies: Vec<ToClient>, expected| {
        assert!(
            matches!(&replies[..], [ToClient::Refused { reason, .. }] if *reason == expected),
            "{replies:?}"
        );
    };
    refused(ask(request(ModelVersion([9; 32]), 0, 4)), Refusal::Stale);
    assert!(matches!(
        &ask(request(version, 0, 4))[..],
        [ToClient::Answer { layer: 0, .. }]
    ));
    assert!(matches!(
        &ask(request(version, 1, 3))[..],
        [ToClient::Answer { layer: 1, .. }]
    ));
    refused(ask(request(version, 0, 4)), Refusal::Ticket);
}

#[test]
fn a_request_of_the_wrong_width_ends_the_connection() {
    let hub = hub();
    let mut walker = Walker::new(plan_with(2));
    let (server, version) = prepared(&hub, &mut walker);
    let (reason, detail) = refusal(server, request(version, 0, 7));
    assert_eq!(reason, Refusal::Protocol);
    assert!(detail.contains("4 inputs"), "{detail}");
}

#[test]
fn ciphertexts_of_another_kind_or_broken_ones_are_refused() {
    let hub = hub();
    let mut walker = Walker::new(plan_with(2));
    let place = Place {
        layer: 0,
        chunk: 0,
        tile: 0,
    };
    let path = vec![
        hello(),
        walker.open(),
        walker.biases(),
        ToServer::BeginStep { step: 0 },
    ];
    let masks = walker.plan.mask_encoding();
    let wrong_encoding = walker.sealed(masks);
    let good = walker.upload(Upload::Activation, place);
    let ToServer::Activation(_, sealed) = &good else {
        unreachable!()
    };
    let mut flipped = sealed.bytes().to_vec();
    flipped[0] ^= 1;
    let truncated = sealed.bytes()[..sealed.bytes().len() - 1].to_vec();
    for bad in [
        wrong_encoding,
        Sealed::received(flipped),
        Sealed::received(truncated),
    ] {
        let (server, _) = after(&hub, path.clone());
        let (reason, _) = refusal(server, ToServer::Activation(place, bad));
        assert_eq!(reason, Refusal::Protocol);
    }
    let (server, _) = after(&hub, path);
    assert!(server.step(good).is_ok());
}

/// Output gradients in the form of longer or shorter weights than the server has, in either
/// direction; forward, uploads are of one form.
#[test]
fn uploads_of_the_other_form_are_refused() {
    let plan = crate::packed::tests::plan();
    let [tight, wide] = crate::packed::tests::passages(&plan, Upload::OutputGradient, 1);
    assert_eq!((tight.level, wide.level), (0, 1));
    for long in [false, true] {
        let mut walker = Walker::new(plan.clone());
        let mut messages = vec![hello(), walker.open()];
        if long {
            let flat = vec![2.0; plan.network().parameter_count()];
            let replica = crate::model::Replica::starting_from(plan.grid(), &flat).unwrap();
            messages.push(ToServer::LoadModel(replica.public().export()));
        }
        messages.extend([walker.biases(), ToServer::BeginStep { step: 0 }]);
        let steps = script(&plan);
        let (forward, rest) = steps.split_at(
            steps
                .iter()
                .position(|s| s.0 == Upload::OutputGradient)
                .unwrap(),
        );
        for &(upload, place) in forward {
            messages.push(walker.upload(upload, place));
        }
        let (right, wrong) = if long { (wide, tight) } else { (tight, wide) };
        for (form, fine) in [(right, true), (wrong, false)] {
            let (server, _) = after(&hub(), messages.clone());
            let sealed = walker.sealed_at(form.level, form.encoding);
            let upload = ToServer::OutputGradient(rest[0].1, sealed);
            if fine {
                assert!(server.step(upload).is_ok());
            } else {
                let (reason, detail) = refusal(server, upload);
                assert_eq!(reason, Refusal::Protocol);
                assert!(detail.contains("at level"), "{detail}");
            }
        }
    }
}

#[test]
fn an_update_of_the_wrong_length_is_refused() {
    let hub = hub();
    let mut walker = Walker::new(plan_with(2));
    let mut messages = vec![
        hello(),
        walker.open(),
        walker.biases(),
        ToServer::BeginStep { step: 0 },
    ];
    for (upload, place) in script(&walker.plan.clone()) {
        messages.push(walker.upload(upload, place));
    }
    let (server, _) = after(&hub, messages);
    let gradient = Released::received(vec![0; 1]);
    let (reason, detail) = refusal(server, ToServer::Update { step: 0, gradient });
    assert_eq!(reason, Refusal::Protocol);
    assert!(detail.contains("expected"), "{detail}");
}

#[test]
fn a_lost_update_may_be_repeated_once_right_after_opening() {
    let mut walker = Walker::new(plan_with(2));
    let update = |step| ToServer::Update {
        step,
        gradient: Released::received(vec![1 << 10; walker.plan.weight_count()]),
    };
    let (first, second, late) = (update(0), update(1), update(0));
    let (server, replies) = after(&hub(), vec![hello(), walker.open(), first]);
    assert!(matches!(
        replies.last(),
        Some(ToClient::Updated { step: 1, .. })
    ));
    assert_eq!(refusal(server, second).0, Refusal::Protocol);
    let (server, _) = after(&hub(), vec![hello(), walker.open(), walker.biases()]);
    assert_eq!(refusal(server, late).0, Refusal::Protocol);
}

#[test]
fn a_model_nobody_uses_gives_way_to_a_new_one() {
    let hub = Arc::new(Hub::new(HubLimits {
        models: 1,
        ..HubLimits::default()
    }));
    let walker = Walker::new(plan_with(2));
    drop(after(&hub, vec![hello(), walker.open()]));
    let plan = serde_json::to_vec(walker.plan.literal()).unwrap();
    let other = ToServer::OpenModel {
        id: ModelId([2; 16]),
        plan,
    };
    let (_, replies) = after(&hub, vec![hello(), other]);
    assert!(matches!(
        replies.last(),
        Some(ToClient::ModelReady { step: 0, .. })
    ));
}
