//! One list of laws for every transport.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::error::Malformed;

fn tcp_pair() -> (Wire, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(listener.local_addr().unwrap()).unwrap();
    (client, wrap(listener.accept().unwrap().0, None).unwrap())
}

#[test]
fn a_wait_that_is_too_long_is_told_in_words() {
    let (mut a, b) = tcp_pair();
    a.incoming
        .wait_at_most(Some(Duration::from_millis(20)))
        .unwrap();
    let told = a.incoming.receive(10).unwrap_err().to_string();
    assert!(told.contains("neither sent nor took"), "{told}");
    drop(b);
}

fn laws(pair: impl Fn() -> (Wire, Wire)) {
    frames_arrive_whole_and_in_order(pair());
    both_ends_count_the_same_bytes(pair());
    a_frame_above_the_limit_is_refused(pair());
    closing_wakes_the_other_end(pair());
    a_lost_peer_is_an_error(pair());
}

fn frames_arrive_whole_and_in_order((mut a, mut b): (Wire, Wire)) {
    let frames: Vec<Vec<u8>> = (0..50_usize).map(|i| vec![i as u8; i * 37]).collect();
    for frame in &frames {
        a.outgoing.send(frame).unwrap();
        assert_eq!(&b.incoming.receive(LONGEST_FRAME).unwrap(), frame);
    }
    b.outgoing.send(b"back").unwrap();
    assert_eq!(a.incoming.receive(4).unwrap(), b"back");
}

fn both_ends_count_the_same_bytes((mut a, mut b): (Wire, Wire)) {
    a.outgoing.send(&[0; 100]).unwrap();
    b.incoming.receive(100).unwrap();
    b.outgoing.send(&[0; 7]).unwrap();
    a.incoming.receive(100).unwrap();
    assert_eq!(
        a.meter.read(),
        Traffic {
            sent: 104,
            received: 11,
            frames: 2
        }
    );
    assert_eq!(
        b.meter.read(),
        Traffic {
            sent: 11,
            received: 104,
            frames: 2
        }
    );
}

fn a_frame_above_the_limit_is_refused((mut a, mut b): (Wire, Wire)) {
    a.outgoing.send(&[0; 11]).unwrap();
    let refused = b.incoming.receive(10).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Invalid(Malformed::FrameTooLong { got: 11, limit: 10 })
        ),
        "{refused}"
    );
}

fn closing_wakes_the_other_end((mut a, mut b): (Wire, Wire)) {
    let waiting = std::thread::spawn(move || b.incoming.receive(10).unwrap_err());
    a.outgoing.close();
    assert!(matches!(waiting.join().unwrap(), Error::Disconnected(_)));
}

fn a_lost_peer_is_an_error((a, mut b): (Wire, Wire)) {
    drop(a);
    assert!(b.incoming.receive(10).is_err());
}

#[test]
fn loopback_keeps_the_laws() {
    laws(loopback);
}

#[test]
fn tcp_keeps_the_laws() {
    laws(tcp_pair);
}

/// An announced length is a promise, not an allocation.
#[test]
fn a_frame_cut_short_is_a_disconnection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut raw = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = wrap(listener.accept().unwrap().0, None).unwrap();
    raw.write_all(&(60_u32 << 20).to_le_bytes()).unwrap();
    raw.write_all(b"only this").unwrap();
    drop(raw);
    let error = server.incoming.receive(LONGEST_FRAME).unwrap_err();
    assert!(
        matches!(error, Error::Disconnected("sending a frame")),
        "{error}"
    );
}
