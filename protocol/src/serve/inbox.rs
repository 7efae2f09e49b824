//! Frames that are taken off the wire while the connection's thread computes.
//!
//! A second thread reads ahead for as long as [`Inbox::while_computing`] runs, and no further than the
//! bounds allow; otherwise the connection's own thread reads, and no frame changes hands. (With a thread that always
//! read, every frame cost two changes of threads, and a step took longer on shared cores than it does without.) Frames
//! come out in the order in which they came in.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::queue::Bounds;
use crate::error::Error;
use crate::transport::{Incoming, LONGEST_FRAME};

type Frame = Result<Vec<u8>, Error>;

/// The receiving half of a wire, with a thread that reads ahead.
pub(super) struct Inbox(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    /// Whoever reads holds it. A frame read ahead is put into the state before it is let go.
    wire: Mutex<Box<dyn Incoming>>,
    state: Mutex<State>,
    /// Wakes the second thread.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    computing: bool,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// Starts the second thread. It ends when the inbox is dropped and the wire has nothing more.
    pub(super) fn start(incoming: Box<dyn Incoming>, bounds: Bounds) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            bounds,
            wire: Mutex::new(incoming),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let ahead = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("sphinx-reader".into());
        drop(thread.spawn(move || while ahead.read_one() {})?);
        Ok(Self(shared))
    }

    /// The next frame: one that was read ahead, or the next on the wire.
    pub(super) fn receive(&self) -> Frame {
        if let Some(frame) = self.0.take() {
            return frame;
        }
        let mut wire = lock(&self.0.wire);
        // Read ahead while we waited for the wire.
        match self.0.take() {
            Some(frame) => frame,
            None => wire.receive(LONGEST_FRAME),
        }
    }

    /// Has frames read ahead while `work` runs.
    pub(super) fn while_computing<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.compute(true);
        // Should the work panic, the inbox is dropped, and the thread ends with it.
        let done = work();
        self.0.compute(false);
        done
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        lock(&self.0.state).closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn take(&self) -> Option<Frame> {
        let mut state = lock(&self.state);
        let frame = state.frames.pop_front()?;
        state.bytes -= frame.as_ref().map_or(0, Vec::len);
        Some(frame)
    }

    fn compute(&self, computing: bool) {
        lock(&self.state).computing = computing;
        if computing {
            self.changed.notify_all();
        }
    }

    /// Whether there is room for another frame. Lengths are not known ahead, so the last may exceed the bytes.
    fn has_room(&self, state: &State) -> bool {
        let Bounds { messages, bytes } = self.bounds;
        state.frames.is_empty() || (state.frames.len() < messages && state.bytes < bytes)
    }

    /// Waits until it may, and reads a frame ahead; false if there is nothing to read any more.
    fn read_one(&self) -> bool {
        let mut state = lock(&self.state);
        while !(state.closed || state.computing && self.has_room(&state)) {
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        drop(state);
        let mut wire = lock(&self.wire);
        // The work is done by now: the wire belongs to whoever asked for the work.
        if !lock(&self.state).computing {
            return true;
        }
        let frame = match wire.wait() {
            // A client that waits for a long computation is not silent, and the thread that computed has
            // patience of its own.
            Err(Error::Transport(error)) if error.kind() == ErrorKind::TimedOut => return true,
            Err(error) => Err(error),
            Ok(()) => wire.receive(LONGEST_FRAME),
        };
        let lost = frame.is_err();
        let mut state = lock(&self.state);
        state.bytes += frame.as_ref().map_or(0, Vec::len);
        state.frames.push_back(frame);
        !(lost || state.closed)
    }
}

#[cfg(test)]
mod tests;
