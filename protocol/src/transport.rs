//! Frames over a wire: TCP, or channels in one process. Bytes are counted at the wire.
//!
//! A frame is a little-endian `u32` length and that many bytes. A receiver states the longest
//! frame it accepts at this point, and memory grows only with bytes that really arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Error;

mod loopback;
mod tcp;

pub use loopback::{loopback, loopback_of};
pub use tcp::{connect, wrap};

/// Longest frame either party accepts once a model is open.
pub const LONGEST_FRAME: usize = 64 << 20;
/// Longest frame before that: a greeting or a plan.
pub const LONGEST_GREETING: usize = 1 << 20;

/// Bytes and frames that crossed one wire, headers included.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    frames: AtomicU64,
}

/// A reading of a [`Meter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Frames in both directions.
    pub frames: u64,
}

impl Meter {
    /// What has crossed so far.
    #[must_use]
    pub fn read(&self) -> Traffic {
        Traffic {
            sent: self.0.sent.load(Ordering::Relaxed),
            received: self.0.received.load(Ordering::Relaxed),
            frames: self.0.frames.load(Ordering::Relaxed),
        }
    }

    fn count_sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.frames.fetch_add(1, Ordering::Relaxed);
    }

    fn count_received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.frames.fetch_add(1, Ordering::Relaxed);
    }
}

/// The sending half of a wire.
pub trait Outgoing: Send {
    /// Sends one frame.
    ///
    /// # Errors
    /// [`Error::Transport`] or [`Error::Disconnected`].
    fn send(&mut self, content: &[u8]) -> Result<(), Error>;

    /// Closes the wire in both directions, so that the other end and our own receiver wake up.
    fn close(&mut self);

    /// What closes the wire from another thread, where the wire can do that.
    fn closer(&self) -> Closer {
        Arc::new(|| ())
    }
}

/// Closes a wire whose sender is busy elsewhere.
pub type Closer = Arc<dyn Fn() + Send + Sync>;

/// The receiving half of a wire.
pub trait Incoming: Send {
    /// Receives one frame of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Transport`], [`Error::Disconnected`], or
    /// [`crate::error::Malformed::FrameTooLong`].
    fn receive(&mut self, limit: usize) -> Result<Vec<u8>, Error>;

    /// Waits until a frame begins or the wire has ended. A wait that was too long, of the kind
    /// [`std::io::ErrorKind::TimedOut`], has taken nothing off the wire and may be repeated.
    ///
    /// # Errors
    /// [`Error::Transport`].
    fn wait(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Bounds every wait for bytes, where the wire can wait for ever.
    ///
    /// # Errors
    /// [`Error::Transport`] if the socket refuses.
    fn wait_at_most(&mut self, _patience: Option<Duration>) -> Result<(), Error> {
        Ok(())
    }
}

/// One end of a connection.
pub struct Wire {
    /// Sending half.
    pub outgoing: Box<dyn Outgoing>,
    /// Receiving half.
    pub incoming: Box<dyn Incoming>,
    /// Counts both halves.
    pub meter: Meter,
    /// Whether the other end is on this machine, as far as addresses tell: then it computes on the
    /// same cores.
    pub beside: bool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("traffic", &self.meter.read())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
