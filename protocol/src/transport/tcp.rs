//! TCP: the only module that names a socket.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::{Closer, Incoming, Meter, Outgoing, Wire};
use crate::error::{Error, Malformed};

/// How long a client waits for a silent server.
const CLIENT_PATIENCE: Duration = Duration::from_secs(600);

/// Connects to a server.
///
/// # Errors
/// [`Error::Transport`] if nobody answers.
pub fn connect(address: impl ToSocketAddrs) -> Result<Wire, Error> {
    wrap(TcpStream::connect(address)?, Some(CLIENT_PATIENCE))
}

/// Makes a wire of an accepted connection; `patience` bounds every wait for bytes.
///
/// # Errors
/// [`Error::Transport`] if the socket refuses its options.
pub fn wrap(stream: TcpStream, patience: Option<Duration>) -> Result<Wire, Error> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    let meter = Meter::default();
    let (here, there) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
    let beside = there.is_loopback() || here == there;
    let incoming = Receiver {
        stream: BufReader::with_capacity(1 << 16, stream.try_clone()?),
        meter: meter.clone(),
    };
    let outgoing = Sender {
        stream,
        meter: meter.clone(),
        buffer: Vec::new(),
    };
    Ok(Wire {
        outgoing: Box::new(outgoing),
        incoming: Box::new(incoming),
        meter,
        beside,
    })
}

struct Sender {
    stream: TcpStream,
    meter: Meter,
    buffer: Vec<u8>,
}

impl Outgoing for Sender {
    fn send(&mut self, content: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(content.len()).map_err(|_| Malformed::FrameTooLong {
            got: content.len() as u64,
            limit: super::LONGEST_FRAME,
        })?;
        // One write per frame: header and content leave together.
        self.buffer.clear();
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(content);
        self.stream.write_all(&self.buffer).map_err(impatient)?;
        self.meter.count_sent(self.buffer.len());
        Ok(())
    }

    fn close(&mut self) {
        // Already closed is closed.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn closer(&self) -> Closer {
        let stream = self.stream.try_clone();
        Arc::new(move || {
            if let Ok(stream) = &stream {
                let _ = stream.shutdown(Shutdown::Both);
            }
        })
    }
}

struct Receiver {
    stream: BufReader<TcpStream>,
    meter: Meter,
}

impl Incoming for Receiver {
    fn wait_at_most(&mut self, patience: Option<Duration>) -> Result<(), Error> {
        Ok(self.stream.get_ref().set_read_timeout(patience)?)
    }

    fn wait(&mut self) -> Result<(), Error> {
        loop {
            match self.stream.fill_buf() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(error, "waiting for a frame")),
            }
        }
    }

    fn receive(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut header = [0; 4];
        self.stream
            .read_exact(&mut header)
            .map_err(|e| lost(e, "waiting for a frame"))?;
        let length = u32::from_le_bytes(header) as usize;
        if length > limit {
            return Err(Malformed::FrameTooLong {
                got: length as u64,
                limit,
            }
            .into());
        }
        let mut content = Vec::new();
        self.stream
            .by_ref()
            .take(length as u64)
            .read_to_end(&mut content)
            .map_err(impatient)?;
        if content.len() < length {
            return Err(Error::Disconnected("sending a frame"));
        }
        self.meter.count_received(4 + length);
        Ok(content)
    }
}

fn lost(error: std::io::Error, when: &'static str) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Error::Disconnected(when),
        _ => Error::Transport(impatient(error)),
    }
}

/// A wait that was too long, in words; the system calls it "temporarily unavailable".
fn impatient(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => std::io::Error::new(
            ErrorKind::TimedOut,
            "the other side neither sent nor took anything for as long as this one waits (ten minutes, \
             unless told otherwise): it is gone, or too busy for this network",
        ),
        _ => error,
    }
}
