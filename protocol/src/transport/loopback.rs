//! A wire inside one process, with the same framing costs and a bounded buffer.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{Incoming, Meter, Outgoing, Wire};
use crate::error::{Error, Malformed};

/// Frames that may wait in each direction.
const DEPTH: usize = 64;

/// Two connected ends.
#[must_use]
pub fn loopback() -> (Wire, Wire) {
    loopback_of(DEPTH)
}

/// As [`loopback`], with room for `frames` in each direction; with none, each sender waits for its receiver.
#[must_use]
pub fn loopback_of(frames: usize) -> (Wire, Wire) {
    let (to_right, from_left) = sync_channel(frames);
    let (to_left, from_right) = sync_channel(frames);
    (end(to_right, from_right), end(to_left, from_left))
}

fn end(sender: SyncSender<Vec<u8>>, receiver: Receiver<Vec<u8>>) -> Wire {
    let meter = Meter::default();
    Wire {
        outgoing: Box::new(Left {
            sender: Some(sender),
            meter: meter.clone(),
        }),
        incoming: Box::new(Right {
            receiver,
            meter: meter.clone(),
        }),
        meter,
        beside: true,
    }
}

struct Left {
    sender: Option<SyncSender<Vec<u8>>>,
    meter: Meter,
}

impl Outgoing for Left {
    fn send(&mut self, content: &[u8]) -> Result<(), Error> {
        let sender = self
            .sender
            .as_ref()
            .ok_or(Error::Disconnected("sending a frame"))?;
        sender
            .send(content.to_vec())
            .map_err(|_| Error::Disconnected("sending a frame"))?;
        self.meter.count_sent(4 + content.len());
        Ok(())
    }

    fn close(&mut self) {
        // The other end's receiver wakes; when it drops its sender, so does ours.
        self.sender = None;
    }
}

struct Right {
    receiver: Receiver<Vec<u8>>,
    meter: Meter,
}

impl Incoming for Right {
    fn receive(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let content = self
            .receiver
            .recv()
            .map_err(|_| Error::Disconnected("waiting for a frame"))?;
        if content.len() > limit {
            return Err(Malformed::FrameTooLong {
                got: content.len() as u64,
                limit,
            }
            .into());
        }
        self.meter.count_received(4 + content.len());
        Ok(content)
    }
}
