//! Receiving, computing and sending at the same time.
//!
//! Once a connection trains, one thread [takes frames](super::inbox) off the wire while the connection's own
//! computes, and another sends what has been computed, out of a [queue](super::queue). Both are
//! bounded: a server that cannot keep up stops reading, and a client that does not read stops the server.
//! Frames are parsed and taken in the order in which they came, by the same state machine as before, so
//! nothing that crosses the wire depends on these threads.

use std::thread::{Builder, JoinHandle};

use super::SENDING;
use super::inbox::Inbox;
use super::queue::{Bounds, Receiver, Sender, queue};
use crate::error::Error;
use crate::message::ToClient;
use crate::transport::{Incoming, Outgoing};

/// Both halves of a wire, each with its thread.
pub(super) struct Pipeline {
    /// What comes in.
    pub(super) inbox: Inbox,
    replies: Sender<ToClient>,
    writer: JoinHandle<Result<(), Error>>,
}

impl Pipeline {
    /// Starts both threads.
    pub(super) fn start(
        incoming: Box<dyn Incoming>,
        outgoing: Box<dyn Outgoing>,
        bounds: Bounds,
    ) -> Result<Self, Error> {
        let inbox = Inbox::start(incoming, bounds)?;
        let (replies, leaving) = queue(bounds);
        let writer = Builder::new().name("sphinx-writer".into());
        let writer = writer.spawn(move || write(outgoing, &leaving))?;
        Ok(Self {
            inbox,
            replies,
            writer,
        })
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
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts what is sent, fails when told to, and notes that it was closed.
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

    struct Gone;

    impl Incoming for Gone {
        fn receive(&mut self, _: usize) -> Result<Vec<u8>, Error> {
            Err(Error::Disconnected("a test"))
        }
    }

    #[test]
    fn everything_is_sent_before_the_wire_is_closed_and_a_lost_client_is_noticed() {
        for (until, sent_well) in [(usize::MAX, true), (3, false)] {
            let count = Arc::new(AtomicUsize::new(0));
            let bounds = Bounds {
                messages: 2,
                bytes: 1 << 20,
            };
            let outgoing = Box::new(Out(Arc::clone(&count), until));
            let pipeline = Pipeline::start(Box::new(Gone), outgoing, bounds).unwrap();
            assert!(pipeline.inbox.receive().is_err());
            let welcome = || ToClient::Welcome { version: 1 };
            let sent = (0..20).take_while(|_| pipeline.send(welcome())).count();
            assert_eq!(pipeline.finish().is_ok(), sent_well);
            assert_eq!(sent == 20, sent_well);
            let expected = if sent_well { 20 } else { 3 };
            assert_eq!(count.load(Ordering::SeqCst), 100 + expected);
        }
    }
}
