//! Sockets and threads around the server's state machine.
//!
//! One thread per connection, and two more to receive and to send meanwhile once it trains; a connection
//! that fails, lies or vanishes ends alone, and the others
//! are served on. The products of all connections share one rayon pool.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::Error;
use crate::message::{Refusal, ToClient, ToServer};
use crate::party::{Fault, Hub, HubLimits, Server, Step};
use crate::transport::{LONGEST_FRAME, LONGEST_GREETING, Outgoing, Traffic, Wire, wrap};
use crate::view::View;

mod inbox;
mod pipeline;
mod queue;

use pipeline::Pipeline;
pub use queue::Bounds;

/// What a writer was doing that found the wire closed.
const SENDING: &str = "sending results";

/// How a service behaves.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections served at once; more are refused.
    pub connections: usize,
    /// How long a silent connection is kept once it has a model.
    pub patience: Duration,
    /// How long a connection may take between two messages before it has one.
    pub greeting: Duration,
    /// What the models may ask for.
    pub limits: HubLimits,
    /// What may wait between the wire and the computation of a connection that trains, each way.
    pub buffers: Bounds,
    /// Records what the server sees, if given.
    pub view: Option<View>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections: 64,
            patience: Duration::from_secs(600),
            greeting: Duration::from_secs(30),
            limits: HubLimits::default(),
            buffers: Bounds {
                messages: 1024,
                bytes: 32 << 20,
            },
            view: None,
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub struct Ended {
    /// Number of the connection, from zero.
    pub connection: u64,
    /// What crossed the wire.
    pub traffic: Traffic,
    /// Why it ended, if not by a farewell.
    pub cause: Option<Error>,
}

/// Serves one connection until it ends. This is all the IO a server does.
pub fn converse(wire: Wire, hub: Arc<Hub>, connection: u64, view: Option<&View>) -> Ended {
    let options = ServeOptions {
        view: view.cloned(),
        ..ServeOptions::default()
    };
    converse_with(wire, hub, connection, &options)
}

/// As [`converse`], with options of its own.
pub fn converse_with(wire: Wire, hub: Arc<Hub>, connection: u64, options: &ServeOptions) -> Ended {
    let meter = wire.meter.clone();
    let talk = Talk {
        connection,
        options,
    };
    Ended {
        connection,
        cause: talk.all(wire, Server::new(hub)).err(),
        traffic: meter.read(),
    }
}

/// One connection.
struct Talk<'a> {
    connection: u64,
    options: &'a ServeOptions,
}

/// Why a connection ends, and what is said last.
struct Last {
    reply: Option<ToClient>,
    cause: Box<Error>,
}

impl Talk<'_> {
    fn all(&self, mut wire: Wire, server: Server) -> Result<(), Error> {
        let server = match self.plainly(&mut wire, server) {
            Ok(server) if !server.is_closed() => server,
            ended => {
                wire.outgoing.close();
                return ended.map(drop);
            }
        };
        let pipeline = Pipeline::start(wire.incoming, wire.outgoing, self.options.buffers)?;
        let talked = self.pipelined(&pipeline, server);
        match (talked, pipeline.finish()) {
            // A writer that stopped says why.
            (Err(Error::Disconnected(SENDING)), Err(cause)) => Err(cause),
            (talked, sent) => talked.and(sent),
        }
    }

    /// One message after the other, until the conversation ends or training begins.
    fn plainly(&self, wire: &mut Wire, mut server: Server) -> Result<Server, Error> {
        let mut greeted = false;
        while !server.is_closed() && !server.is_training() {
            if server.has_model() && !greeted {
                greeted = true;
                wire.incoming.wait_at_most(Some(self.options.patience))?;
            }
            let limit = if server.has_model() {
                LONGEST_FRAME
            } else {
                LONGEST_GREETING
            };
            let received = self.parse(wire.incoming.receive(limit));
            let step = match received.and_then(|message| take(server, message)) {
                Ok(step) => step,
                Err(Last { reply, cause }) => {
                    if let Some(reply) = reply {
                        // The peer may be gone already; the cause is reported either way.
                        let _ = wire.outgoing.send(&reply.to_bytes());
                    }
                    return Err(*cause);
                }
            };
            server = step.server;
            for reply in &step.replies {
                let bytes = reply.to_bytes();
                self.said(reply, bytes.len());
                wire.outgoing.send(&bytes)?;
            }
            if server.is_busy() {
                let said = |reply: &ToClient, bytes| self.said(reply, bytes);
                server = stream(server, wire.outgoing.as_mut(), &said)?;
            }
        }
        Ok(server)
    }

    /// The rest of a conversation in which a model is trained.
    fn pipelined(&self, pipeline: &Pipeline, mut server: Server) -> Result<(), Error> {
        while !server.is_closed() {
            let received = self.parse(pipeline.inbox.receive());
            let taken = received.and_then(|message| match server.computes_on(&message) {
                true => pipeline.inbox.while_computing(|| take(server, message)),
                false => take(server, message),
            });
            let step = match taken {
                Ok(step) => step,
                Err(Last { reply, cause }) => {
                    // If nobody hears it, the cause is reported all the same.
                    let _ = reply.is_some_and(|reply| pipeline.send(reply));
                    return Err(*cause);
                }
            };
            server = step.server;
            for reply in step.replies {
                self.said(&reply, reply.content_length());
                if !pipeline.send(reply) {
                    return Err(Error::Disconnected(SENDING));
                }
            }
        }
        Ok(())
    }

    /// The message that was received.
    fn parse(&self, received: Result<Vec<u8>, Error>) -> Result<ToServer, Last> {
        let parsed = received.and_then(|bytes| {
            let message = ToServer::from_bytes(&bytes)?;
            if let Some(view) = &self.options.view {
                view.saw(self.connection, &message, &bytes);
            }
            Ok(message)
        });
        parsed.map_err(|cause| {
            let reply = matches!(cause, Error::Invalid(_)).then(|| ToClient::Refused {
                reason: Refusal::Protocol,
                detail: cause.to_string(),
            });
            let cause = Box::new(cause);
            Last { reply, cause }
        })
    }

    fn said(&self, reply: &ToClient, bytes: usize) {
        if let Some(view) = &self.options.view {
            view.said(self.connection, reply, bytes);
        }
    }
}

/// Has the machine take a message.
fn take(server: Server, message: ToServer) -> Result<Step, Last> {
    server.step(message).map_err(|Fault { reply, cause }| Last {
        reply: Some(reply),
        cause,
    })
}

/// Sends what the machine has to give: one batch of replies travels while the next is computed.
fn stream(
    server: Server,
    outgoing: &mut dyn Outgoing,
    said: &dyn Fn(&ToClient, usize),
) -> Result<Server, Error> {
    std::thread::scope(|scope| {
        let (batches, queue) = std::sync::mpsc::sync_channel::<Vec<ToClient>>(1);
        let sender = scope.spawn(move || -> Result<(), Error> {
            for reply in queue.iter().flatten() {
                outgoing.send(&reply.to_bytes())?;
            }
            Ok(())
        });
        let mut busy = Ok(server);
        while let Ok(server) = busy {
            if !server.is_busy() {
                busy = Ok(server);
                break;
            }
            busy = match server.proceed() {
                Ok(step) => {
                    for reply in &step.replies {
                        said(reply, reply.content_length());
                    }
                    // A sender that stopped says why when it is joined.
                    let stopped = batches.send(step.replies).is_err();
                    let done = Error::Disconnected(SENDING);
                    if stopped { Err(done) } else { Ok(step.server) }
                }
                Err(Fault { reply, cause }) => {
                    // If the peer is gone already, the cause is reported all the same.
                    let _ = batches.send(vec![reply]);
                    Err(*cause)
                }
            };
        }
        drop(batches);
        let sent = sender.join().unwrap_or(Err(Error::Disconnected(SENDING)));
        match (busy, sent) {
            (Err(Error::Disconnected(_)), Err(cause)) => Err(cause),
            (Ok(server), sent) => sent.map(|()| server),
            (Err(cause), _) => Err(cause),
        }
    })
}

/// A server listening on a socket.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Service {
    /// Listens on `address` (port 0 picks a free one) and serves in the background; `report` is
    /// called when a connection ends.
    ///
    /// # Errors
    /// [`Error::Transport`] if the address cannot be bound.
    pub fn start(
        address: impl ToSocketAddrs,
        options: ServeOptions,
        report: impl Fn(&Ended) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let acceptor = std::thread::Builder::new()
            .name("sphinx-accept".into())
            .spawn(move || accept(&listener, &options, &flag, &Arc::new(report)))?;
        Ok(Self {
            address,
            stop,
            acceptor: Some(acceptor),
        })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the service is stopped from elsewhere.
    pub fn wait(mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in the acceptor has been printed; there is nothing left to wait for.
            let _ = acceptor.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            self.stop.store(true, Ordering::SeqCst);
            // Wakes the acceptor; open connections end with their clients.
            let _ = TcpStream::connect(self.address);
            let _ = acceptor.join();
        }
    }
}

fn accept<R: Fn(&Ended) + Send + Sync + 'static>(
    listener: &TcpListener,
    options: &ServeOptions,
    stop: &AtomicBool,
    report: &Arc<R>,
) {
    let hub = Arc::new(Hub::new(options.limits));
    let open = Arc::new(AtomicUsize::new(0));
    let count = AtomicU64::new(0);
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(wire) = stream
            .map_err(Error::from)
            .and_then(|s| wrap(s, Some(options.greeting)))
        else {
            continue;
        };
        if open.load(Ordering::SeqCst) >= options.connections {
            refuse(wire, options.connections);
            continue;
        }
        open.fetch_add(1, Ordering::SeqCst);
        let connection = count.fetch_add(1, Ordering::Relaxed);
        let (hub, report) = (Arc::clone(&hub), Arc::clone(report));
        let (slot, options) = (Slot(Arc::clone(&open)), options.clone());
        let spawned = std::thread::Builder::new()
            .name(format!("sphinx-connection-{connection}"))
            .spawn(move || {
                let ended = converse_with(wire, hub, connection, &options);
                drop(slot);
                report(&ended);
            });
        // Out of threads: the slot went with the closure, the client sees a closed connection.
        drop(spawned);
    }
}

/// Gives a connection's place back, also when its thread panics.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refuse(mut wire: Wire, limit: usize) {
    // The greeting is read first: closing over unread bytes would overtake the refusal.
    let _ = wire.incoming.wait_at_most(Some(Duration::from_millis(200)));
    let _ = wire.incoming.receive(LONGEST_GREETING);
    let detail = format!("{limit} connections are served already; try again later");
    let reply = ToClient::Refused {
        reason: Refusal::Full,
        detail,
    };
    let _ = wire.outgoing.send(&reply.to_bytes());
    wire.outgoing.close();
}
