//! Receiving, computing and sending at the same time.
//!
//! Once a connection trains, one thread takes frames off the wire while the connection's own computes,
//! and another sends what has been computed. Between them are [queues](super::queue) of bounded size: a
//! server that cannot keep up stops reading, and a client that does not read stops the server. Frames are
//! parsed and taken in the order in which they came, by the same state machine as before, so
//! nothing that crosses the wire depends on these threads.

use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::SENDING;
use super::queue::{Bounds, Receiver, Sender, queue};
use crate::error::Error;
use crate::message::ToClient;
use crate::transport::{Incoming, LONGEST_FRAME, Outgoing};

type Frame = Result<Vec<u8>, Error>;

/// Both halves of a wire, each with its thread.
pub(super) struct Pipeline {
    frames: Receiver<Frame>,
    replies: Sender<ToClient>,
    writer: JoinHandle<Result<(), Error>>,
}

impl Pipeline {
    /// Starts both threads.
    pub(super) fn start(
        incoming: Box<dyn Incoming>,
        outgoing: Box<dyn Outgoing>,
        bounds: Bounds,
        patience: Duration,
    ) -> Result<Self, Error> {
        let (arrived, frames) = queue(bounds);
        let (replies, leaving) = queue(bounds);
        let writer = Builder::new().name("sphinx-writer".into());
        let writer = writer.spawn(move || write(outgoing, &leaving))?;
        let reader = Builder::new().name("sphinx-reader".into());
        // It ends with the wire, or when it finds that nobody takes its frames.
        drop(reader.spawn(move || read(incoming, &arrived, patience))?);
        Ok(Self {
            frames,
            replies,
            writer,
        })
    }

    /// The next frame.
    pub(super) fn receive(&self) -> Frame {
        let frame = self.frames.receive();
        frame.unwrap_or(Err(Error::Disconnected("waiting for a frame")))
    }

    /// Has a reply sent; false if the wire takes no more.
    #[must_use]
    pub(super) fn send(&self, reply: ToClient) -> bool {
        let bytes = reply.content_length();
        self.replies.send(reply, bytes)
    }

    /// Waits until everything is sent, and closes the wire.
    pub(super) fn finish(self) -> Result<(), Error> {
        drop(self.replies);
        let sent = self.writer.join();
        sent.unwrap_or(Err(Error::Disconnected(SENDING)))
    }
}

/// Takes frames off the wire until it ends.
fn read(mut incoming: Box<dyn Incoming>, arrived: &Sender<Frame>, patience: Duration) {
    loop {
        let frame = match incoming.wait() {
            // A client that waits for a long computation is not silent.
            Err(Error::Transport(error))
                if error.kind() == std::io::ErrorKind::TimedOut && arrived.awaited() < patience =>
            {
                continue;
            }
            Err(error) => Err(error),
            Ok(()) => incoming.receive(LONGEST_FRAME),
        };
        let last = frame.is_err();
        let bytes = frame.as_ref().map_or(0, Vec::len);
        if !arrived.send(frame, bytes) || last {
            return;
        }
    }
}

/// Sends replies until there are no more, or the wire takes no more, and closes it.
fn write(mut outgoing: Box<dyn Outgoing>, leaving: &Receiver<ToClient>) -> Result<(), Error> {
    let mut sent = Ok(());
    while sent.is_ok()
        && let Some(reply) = leaving.receive()
    {
        sent = outgoing.send(&reply.to_bytes());
    }
    outgoing.close();
    sent
}

#[cfg(test)]
mod tests;
