//! Frames are read ahead while work runs, as far as the bounds allow, in order; a long silence is no
//! fault of a client that waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::*;

const SOON: Duration = Duration::from_millis(60);

/// Endless frames of ten bytes, numbered; counts those that were read.
struct Endless(Arc<AtomicUsize>);

impl Incoming for Endless {
    fn receive(&mut self, _: usize) -> Frame {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![number as u8; 10])
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
fn frames_are_read_ahead_while_work_runs_and_no_further_than_the_bounds() {
    for (messages, bytes, expected) in [(5, 1 << 20, 5), (100, 35, 4), (0, 0, 1)] {
        let count = Arc::new(AtomicUsize::new(0));
        let bounds = Bounds { messages, bytes };
        let inbox = Inbox::start(Box::new(Endless(Arc::clone(&count))), bounds).unwrap();
        assert_settles(&count, 0);
        inbox.while_computing(|| assert_settles(&count, expected));
        assert_settles(&count, expected);
        inbox.while_computing(|| assert_settles(&count, expected));
        for number in 0..expected + 3 {
            assert_eq!(inbox.receive().unwrap(), [number as u8; 10]);
        }
        // Nobody reads but who asks.
        assert_settles(&count, expected + 3);
    }
}

/// Frames when they are told to come; silence in waits of a few milliseconds before.
struct Told(Receiver<Frame>, Option<Frame>);

impl Incoming for Told {
    fn wait(&mut self) -> Result<(), Error> {
        match self.0.recv_timeout(Duration::from_millis(5)) {
            Ok(frame) => {
                self.1 = Some(frame);
                Ok(())
            }
            Err(_) => Err(Error::Transport(ErrorKind::TimedOut.into())),
        }
    }

    fn receive(&mut self, _: usize) -> Frame {
        let gone = || Err(Error::Disconnected("a test"));
        let kept = self.1.take();
        kept.unwrap_or_else(|| self.0.recv().unwrap_or_else(|_| gone()))
    }
}

fn told() -> (Sender<Frame>, Inbox) {
    let (sender, frames) = channel();
    let bounds = Bounds {
        messages: 10,
        bytes: 1 << 20,
    };
    (
        sender,
        Inbox::start(Box::new(Told(frames, None)), bounds).unwrap(),
    )
}

#[test]
fn silence_during_long_work_is_no_fault() {
    let (sender, inbox) = told();
    inbox.while_computing(|| std::thread::sleep(SOON));
    let late = std::thread::spawn(move || {
        std::thread::sleep(SOON);
        sender.send(Ok(vec![1])).unwrap();
        sender.send(Ok(vec![2])).unwrap();
    });
    assert_eq!(inbox.receive().unwrap(), [1]);
    assert_eq!(inbox.receive().unwrap(), [2]);
    late.join().unwrap();
    // What ends the wire is told once what came before it is taken.
    assert!(matches!(inbox.receive(), Err(Error::Disconnected(_))));
}

#[test]
fn a_frame_that_comes_between_two_readers_is_not_lost() {
    let (sender, inbox) = told();
    let numbers = std::thread::spawn(move || {
        for number in 0..200_u8 {
            sender.send(Ok(vec![number])).unwrap();
            if number % 7 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    for number in 0..200_u8 {
        inbox.while_computing(std::thread::yield_now);
        assert_eq!(inbox.receive().unwrap(), [number]);
    }
    numbers.join().unwrap();
}
