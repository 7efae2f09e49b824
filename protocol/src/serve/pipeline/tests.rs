//! The reader reads on while nobody takes its frames, as far as it may, and is patient with a server
//! that computes.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::*;

const SOON: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(3600);

fn late() -> Error {
    Error::Transport(ErrorKind::TimedOut.into())
}

/// Endless frames of ten bytes; counts those that were read.
struct Endless(Arc<AtomicUsize>);

impl Incoming for Endless {
    fn receive(&mut self, _: usize) -> Result<Vec<u8>, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![0; 10])
    }
}

/// Waits until the count is there, and then whether it stays.
fn assert_settles(count: &AtomicUsize, expected: usize) {
    let start = Instant::now();
    while count.load(Ordering::SeqCst) < expected && start.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    std::thread::sleep(SOON);
    assert_eq!(count.load(Ordering::SeqCst), expected);
}

#[test]
fn frames_are_read_ahead_and_no_further_than_the_bounds() {
    for (messages, bytes, expected) in [(5, 1 << 20, 5), (100, 35, 3)] {
        let count = Arc::new(AtomicUsize::new(0));
        let (arrived, frames) = queue(Bounds { messages, bytes });
        let incoming = Box::new(Endless(Arc::clone(&count)));
        let reader = std::thread::spawn(move || read(incoming, &arrived, LONG));
        // One more is in the reader's hand.
        assert_settles(&count, expected + 1);
        assert_eq!(frames.receive().unwrap().unwrap().len(), 10);
        assert_settles(&count, expected + 2);
        drop(frames);
        reader.join().unwrap();
    }
}

/// Silent for so many waits of a few milliseconds, then one frame, then gone.
struct Silent {
    waits: usize,
    frames: VecDeque<Vec<u8>>,
    /// Told when the silence is over.
    over: Option<mpsc::Sender<()>>,
}

impl Incoming for Silent {
    fn wait(&mut self) -> Result<(), Error> {
        if self.waits == 0 {
            // Nobody may care.
            let _ = self.over.take().map(|over| over.send(()));
            return Ok(());
        }
        self.waits -= 1;
        std::thread::sleep(Duration::from_millis(5));
        Err(late())
    }

    fn receive(&mut self, _: usize) -> Result<Vec<u8>, Error> {
        self.frames.pop_front().ok_or(Error::Disconnected("a test"))
    }
}

/// What a consumer gets that asks at once, or computes until the silence is over.
fn heard(waits: usize, patience: Duration, computes: bool) -> Frame {
    let bounds = Bounds {
        messages: 4,
        bytes: 100,
    };
    let (arrived, frames) = queue(bounds);
    let frame = VecDeque::from([vec![7]]);
    let (over, when_over) = mpsc::channel();
    let incoming = Silent {
        waits,
        frames: frame,
        over: Some(over),
    };
    let reader = std::thread::spawn(move || read(Box::new(incoming), &arrived, patience));
    if computes {
        when_over.recv().unwrap();
    }
    let heard = frames.receive().unwrap();
    drop(frames);
    reader.join().unwrap();
    heard
}

#[test]
fn only_a_server_that_waits_loses_its_patience() {
    // Long silence, but the server computes meanwhile: eight waits end before it asks.
    assert_eq!(heard(8, Duration::from_millis(1), true).unwrap(), [7]);
    // Silence while it waits.
    let start = Instant::now();
    let error = heard(usize::MAX, Duration::from_millis(50), false).unwrap_err();
    assert!(
        matches!(&error, Error::Transport(e) if e.kind() == ErrorKind::TimedOut),
        "{error}"
    );
    assert!(start.elapsed() >= Duration::from_millis(50));
}

/// Keeps what was sent until it is told to fail.
struct Out(Arc<AtomicUsize>, usize);

impl Outgoing for Out {
    fn send(&mut self, _: &[u8]) -> Result<(), Error> {
        if self.0.load(Ordering::SeqCst) == self.1 {
            return Err(Error::Disconnected("a test"));
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn close(&mut self) {
        self.0.fetch_add(100, Ordering::SeqCst);
    }
}

#[test]
fn everything_is_sent_before_the_wire_is_closed_and_a_lost_client_is_noticed() {
    let welcome = || ToClient::Welcome { version: 1 };
    for (until, sent_well) in [(usize::MAX, true), (3, false)] {
        let count = Arc::new(AtomicUsize::new(0));
        let bounds = Bounds {
            messages: 2,
            bytes: 1 << 20,
        };
        let incoming = Box::new(Silent {
            waits: 0,
            frames: VecDeque::new(),
            over: None,
        });
        let outgoing = Box::new(Out(Arc::clone(&count), until));
        let pipeline = Pipeline::start(incoming, outgoing, bounds, LONG).unwrap();
        assert!(pipeline.receive().is_err());
        let sent = (0..20).take_while(|_| pipeline.send(welcome())).count();
        assert_eq!(pipeline.finish().is_ok(), sent_well);
        assert_eq!(sent == 20, sent_well);
        let expected = if sent_well { 20 } else { 3 };
        assert_eq!(count.load(Ordering::SeqCst), 100 + expected);
    }
}
