//! A queue between two threads that holds so many items, and so many bytes, at most.
//!
//! Whoever puts something in waits for room. An item larger than all the
//! bytes goes alone. Either end that is dropped wakes the other; what is in the queue then can still be
//! taken.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How much may wait between two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages, at least one.
    pub messages: usize,
    /// Bytes, unless a single message has more.
    pub bytes: usize,
}

struct Shared<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Whether both ends are there.
    open: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().open = false;
        self.changed.notify_all();
    }
}

/// The end that puts in.
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The end that takes out.
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// A queue with nothing in it.
pub(super) fn queue<T>(bounds: Bounds) -> (Sender<T>, Receiver<T>) {
    let state = State {
        items: VecDeque::new(),
        bytes: 0,
        open: true,
    };
    let shared = Arc::new(Shared {
        bounds,
        state: Mutex::new(state),
        changed: Condvar::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts an item of so many bytes in, once there is room; false if nobody takes it any more.
    #[must_use]
    pub(super) fn send(&self, item: T, bytes: usize) -> bool {
        let Bounds {
            messages,
            bytes: most,
        } = self.0.bounds;
        let mut state = self.0.lock();
        while state.open
            && !state.items.is_empty()
            && (state.items.len() >= messages || state.bytes.saturating_add(bytes) > most)
        {
            state = self.0.wait(state);
        }
        if !state.open {
            return false;
        }
        state.bytes += bytes;
        state.items.push_back((item, bytes));
        drop(state);
        self.0.changed.notify_all();
        true
    }
}

impl<T> Receiver<T> {
    /// The next item, once there is one; none if there will be none.
    pub(super) fn receive(&self) -> Option<T> {
        let mut state = self.0.lock();
        while state.open && state.items.is_empty() {
            state = self.0.wait(state);
        }
        let (item, bytes) = state.items.pop_front()?;
        state.bytes -= bytes;
        drop(state);
        self.0.changed.notify_all();
        Some(item)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    const SOON: Duration = Duration::from_millis(40);

    /// So many of `sizes` go in while nobody takes any out, and no more.
    fn assert_taken(bounds: Bounds, sizes: &'static [usize], expected: usize) {
        let (sender, receiver) = queue(bounds);
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let thread = std::thread::spawn(move || {
            for &size in sizes {
                assert!(sender.send(size, size));
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let start = Instant::now();
        while sent.load(Ordering::SeqCst) < expected && start.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        std::thread::sleep(SOON);
        assert_eq!(sent.load(Ordering::SeqCst), expected);
        // All of them come, in order.
        let all: Vec<usize> = std::iter::from_fn(|| receiver.receive()).collect();
        assert_eq!(all, sizes);
        thread.join().unwrap();
    }

    #[test]
    fn no_more_waits_than_the_bounds_allow() {
        let bounds = |messages, bytes| Bounds { messages, bytes };
        assert_taken(bounds(3, 1 << 20), &[1; 10], 3);
        assert_taken(bounds(10, 25), &[10, 10, 10, 1], 2);
        // One that is too large goes alone.
        assert_taken(bounds(10, 5), &[10, 10], 1);
        assert_taken(bounds(0, 0), &[1, 1], 1);
    }

    #[test]
    fn an_end_that_is_dropped_wakes_the_other() {
        let bounds = Bounds {
            messages: 1,
            bytes: 10,
        };
        let (sender, receiver) = queue(bounds);
        assert!(sender.send(1, 1));
        let blocked = std::thread::spawn(move || sender.send(2, 1));
        std::thread::sleep(SOON);
        drop(receiver);
        assert!(!blocked.join().unwrap());

        let (sender, receiver) = queue::<u8>(bounds);
        let waiting = std::thread::spawn(move || receiver.receive());
        std::thread::sleep(SOON);
        drop(sender);
        assert_eq!(waiting.join().unwrap(), None);
    }
}
