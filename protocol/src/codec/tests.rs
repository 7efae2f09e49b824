//! Every message survives its bytes; no bytes cause a panic.

use proptest::prelude::*;

use super::*;
use crate::message::Place;

fn place() -> Place {
    Place {
        layer: 3,
        chunk: 70_000,
        tile: 9,
    }
}

fn to_server() -> Vec<ToServer> {
    let sealed = || Sealed::received(vec![1, 2, 3]);
    let model = ReleasedModel {
        step: 4,
        master: vec![-5, 6],
        velocity: vec![7, i64::MIN],
    };
    let ticket = TicketId {
        batch: [9; 16],
        index: 8,
    };
    let version = ModelVersion([3; 32]);
    let masked = Masked(vec![1, u32::MAX]);
    vec![
        ToServer::Hello { version: 1 },
        ToServer::OpenModel {
            id: ModelId([1; 16]),
            plan: b"{}".to_vec(),
        },
        ToServer::LoadModel(model),
        ToServer::AttachModel {
            id: ModelId([2; 16]),
            digest: [7; 32],
        },
        ToServer::OpenPaper {
            plan: b"{}".to_vec(),
        },
        ToServer::OpenPureHe {
            plan: b"{}".to_vec(),
        },
        ToServer::Relinearization(SealedKeys::received(vec![7])),
        ToServer::Rotations(SealedKeys::received(vec![8, 9])),
        ToServer::Parameter(place(), sealed()),
        ToServer::FetchParameters,
        ToServer::FetchWork,
        ToServer::FetchPhases,
        ToServer::BeginStep { step: u64::MAX },
        ToServer::Activation(place(), sealed()),
        ToServer::OutputGradient(place(), sealed()),
        ToServer::ClippedGradient(place(), sealed()),
        ToServer::Update {
            step: 2,
            gradient: Released::received(vec![i32::MIN, 0, i32::MAX]),
        },
        ToServer::BiasUpdate {
            part: 1,
            change: sealed(),
        },
        ToServer::FetchBiases,
        ToServer::BeginTickets { batch: [4; 16] },
        ToServer::Mask(place(), sealed()),
        ToServer::Request {
            ticket,
            version,
            layer: 1,
            masked,
        },
        ToServer::Bye,
    ]
}

fn to_client() -> Vec<ToClient> {
    let returned = || Returned::received(vec![4, 5]);
    let version = ModelVersion([6; 32]);
    vec![
        ToClient::Welcome { version: 1 },
        ToClient::ModelReady { version, step: 3 },
        ToClient::ForwardProduct(place(), returned()),
        ToClient::BackwardProduct(place(), returned()),
        ToClient::GradientProduct(place(), returned()),
        ToClient::Updated { version, step: 4 },
        ToClient::Biases {
            part: 0,
            backup: returned(),
        },
        ToClient::Parameter(place(), returned()),
        ToClient::Worked(Work {
            counts: StepCounts::from_array([1, 2, 3, 4, 5, 6, 7, u64::MAX]),
            seconds: Seconds {
                products: 0.5,
                switching: 1.5,
                rotations: 2.5,
            },
        }),
        ToClient::Phases(vec![
            ServerSeconds {
                cpu: 0.5,
                busy: 0.25,
            };
            3
        ]),
        ToClient::TicketsBegun { version },
        ToClient::MaskProduct(place(), returned()),
        ToClient::Answer {
            layer: 2,
            masked: Masked(vec![0, 1, 2]),
        },
        ToClient::Refused {
            reason: Refusal::Stale,
            detail: "naïve".into(),
        },
        ToClient::Farewell { cpu_seconds: 1.5 },
    ]
}

#[test]
fn messages_survive_their_bytes() {
    for message in to_server() {
        assert_eq!(ToServer::from_bytes(&message.to_bytes()).unwrap(), message);
    }
    for message in to_client() {
        assert_eq!(ToClient::from_bytes(&message.to_bytes()).unwrap(), message);
    }
}

/// A shortened message is an error that names a field, or a shorter message of the same kind;
/// never the message itself.
#[test]
fn every_truncation_is_noticed() {
    for message in to_server() {
        let bytes = message.to_bytes();
        for end in 0..bytes.len() {
            if let Ok(other) = ToServer::from_bytes(&bytes[..end]) {
                assert_ne!(other, message);
                assert_eq!(other.name(), message.name());
            }
        }
    }
}

#[test]
fn a_message_of_fixed_size_may_not_go_on() {
    for message in [
        ToServer::Bye,
        ToServer::BeginStep { step: 1 },
        ToServer::FetchBiases,
    ] {
        let mut bytes = message.to_bytes();
        bytes.push(0);
        assert_eq!(ToServer::from_bytes(&bytes), Err(Malformed::Trailing(1)));
    }
}

#[test]
fn a_huge_count_allocates_nothing() {
    let mut bytes = vec![0x03];
    bytes.extend(5_u64.to_le_bytes());
    bytes.extend(u32::MAX.to_le_bytes());
    assert!(matches!(
        ToServer::from_bytes(&bytes),
        Err(Malformed::Truncated {
            field: "weights",
            left: 0,
            ..
        })
    ));
}

#[test]
fn a_long_refusal_is_cut_at_a_character() {
    let refused = ToClient::Refused {
        reason: Refusal::Plan,
        detail: "ü".repeat(DETAIL),
    };
    let Ok(ToClient::Refused { detail, .. }) = ToClient::from_bytes(&refused.to_bytes()) else {
        panic!("a refusal")
    };
    assert_eq!(detail, "ü".repeat(DETAIL / 2));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = ToServer::from_bytes(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes.clone());
        }
        // A client message may decode from bytes that are not canonical only in a NaN.
        let _ = ToClient::from_bytes(&bytes);
    }
}
