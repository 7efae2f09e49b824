//! The client's end of a connection: typed messages, refusals as errors, and exchanges in which
//! sending and receiving overlap.

use std::sync::Arc;

use crate::error::Error;
use crate::message::{ModelId, ToClient, ToServer, WIRE_VERSION};
use crate::model::ModelVersion;
use crate::paper::PaperPlan;
use crate::plan::Plan;
use crate::pure_he::PureHePlan;
use crate::transport::{Closer, LONGEST_FRAME, Meter, Wire};
use crate::work::Work;

/// A connection to a server that speaks our version.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
}

/// Where a model stands at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Version of the weights.
    pub version: ModelVersion,
    /// Number of updates applied.
    pub step: u64,
}

impl Link {
    /// Greets the server.
    ///
    /// # Errors
    /// [`Error::Refused`] if it speaks another version, or the errors of the wire.
    pub fn greet(wire: Wire) -> Result<Self, Error> {
        let mut link = Self { wire };
        link.send(&ToServer::Hello {
            version: WIRE_VERSION,
        })?;
        match link.receive()? {
            ToClient::Welcome { .. } => Ok(link),
            other => Err(unexpected("Welcome", &other)),
        }
    }

    /// Opens a model for training, or continues it.
    ///
    /// # Errors
    /// [`Error::Refused`] if the plan is unacceptable or someone else trains the model.
    pub fn open(&mut self, id: ModelId, plan: &Plan) -> Result<Standing, Error> {
        let plan = serde_json::to_vec(plan.literal()).map_err(|_| Error::PlanText)?;
        self.send(&ToServer::OpenModel { id, plan })?;
        self.standing()
    }

    /// Opens a model of the engine `paper` for training.
    ///
    /// # Errors
    /// [`Error::Refused`] if the plan is unacceptable.
    pub fn open_paper(&mut self, plan: &PaperPlan) -> Result<Standing, Error> {
        let plan = serde_json::to_vec(plan.literal()).map_err(|_| Error::PlanText)?;
        self.send(&ToServer::OpenPaper { plan })?;
        self.standing()
    }

    /// Opens a model of the engine `pure-he`.
    ///
    /// # Errors
    /// [`Error::Refused`] if the plan is unacceptable.
    pub fn open_pure_he(&mut self, plan: &PureHePlan) -> Result<Standing, Error> {
        let plan = serde_json::to_vec(plan.literal()).map_err(|_| Error::PlanText)?;
        self.send(&ToServer::OpenPureHe { plan })?;
        self.standing()
    }

    /// What the server computed since the last question; servers of [`crate::paper`] and
    /// [`crate::pure_he`] answer between steps.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn work(&mut self) -> Result<Work, Error> {
        self.send(&ToServer::FetchWork)?;
        match self.receive()? {
            ToClient::Worked(work) => Ok(work),
            other => Err(unexpected("Worked", &other)),
        }
    }

    /// Joins a model for inference.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such model with this plan.
    pub fn attach(&mut self, id: ModelId, plan: &Plan) -> Result<Standing, Error> {
        self.send(&ToServer::AttachModel {
            id,
            digest: plan.digest(),
        })?;
        self.standing()
    }

    /// Waits for the server to say where the model stands.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn standing(&mut self) -> Result<Standing, Error> {
        match self.receive()? {
            ToClient::ModelReady { version, step } | ToClient::Updated { version, step } => {
                Ok(Standing { version, step })
            }
            other => Err(unexpected("ModelReady or Updated", &other)),
        }
    }

    /// Waits until the server stands at the version `ours`.
    ///
    /// # Errors
    /// As [`Self::standing`], and [`Error::VersionMismatch`].
    pub(crate) fn confirm(&mut self, ours: ModelVersion) -> Result<(), Error> {
        let theirs = self.standing()?.version;
        if ours == theirs {
            Ok(())
        } else {
            Err(Error::VersionMismatch { ours, theirs })
        }
    }

    /// Says goodbye; gives the CPU seconds the server process spent meanwhile.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn close(mut self) -> Result<f64, Error> {
        self.send(&ToServer::Bye)?;
        match self.receive()? {
            ToClient::Farewell { cpu_seconds } => Ok(cpu_seconds),
            other => Err(unexpected("Farewell", &other)),
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The errors of the wire.
    pub fn send(&mut self, message: &ToServer) -> Result<(), Error> {
        self.wire.outgoing.send(&message.to_bytes())
    }

    /// Closes the connection without another word; whatever is sent from here on fails.
    pub(crate) fn abandon(&mut self) {
        self.wire.outgoing.close();
    }

    /// Receives one message; a refusal is an error.
    ///
    /// # Errors
    /// [`Error::Refused`], the errors of the wire, or of bytes that are no message.
    pub fn receive(&mut self) -> Result<ToClient, Error> {
        parse(&self.wire.incoming.receive(LONGEST_FRAME)?)
    }

    /// The counters of this connection.
    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.wire.meter
    }

    /// Whether the server is on this machine, as far as addresses tell.
    #[must_use]
    pub const fn is_beside(&self) -> bool {
        self.wire.beside
    }

    /// Sends what `produce` yields while `absorb` takes `replies` answers.
    ///
    /// The two run at the same time: the server may answer the first upload while the last is
    /// being encrypted, and neither side can block the other with a full buffer.
    ///
    /// # Errors
    /// The first failure of either side; the connection is closed then.
    pub fn exchange(
        &mut self,
        produce: impl FnOnce(&mut dyn FnMut(&ToServer) -> Result<(), Error>) -> Result<(), Error> + Send,
        replies: usize,
        mut absorb: impl FnMut(ToClient) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Wire {
            outgoing, incoming, ..
        } = &mut self.wire;
        let closer = outgoing.closer();
        let guard = CloseOnFailure {
            closer: Arc::clone(&closer),
            armed: true,
        };
        std::thread::scope(|scope| {
            let producer = scope.spawn(move || {
                let mut guard = guard;
                let sent = produce(&mut |message| outgoing.send(&message.to_bytes()));
                if sent.is_err() {
                    outgoing.close();
                }
                guard.armed = false;
                sent
            });
            let mut received = Ok(());
            for _ in 0..replies {
                received = incoming
                    .receive(LONGEST_FRAME)
                    .and_then(|frame| parse(&frame))
                    .and_then(&mut absorb);
                if received.is_err() {
                    // A producer that waits for the server to read wakes up.
                    closer();
                    drain(incoming.as_mut(), || producer.is_finished());
                    break;
                }
            }
            let sent = producer
                .join()
                .unwrap_or(Err(Error::Disconnected("encrypting uploads")));
            // Our own failure explains the missing answers; a broken pipe does not.
            match (sent, received) {
                (Ok(()), received) => received,
                (Err(Error::Transport(_) | Error::Disconnected(_)), Err(reason)) => Err(reason),
                (Err(reason), _) => Err(reason),
            }
        })
    }
}

/// Closes the wire if the producer panics, so that nobody waits for answers that cannot come.
struct CloseOnFailure {
    closer: Closer,
    armed: bool,
}

impl Drop for CloseOnFailure {
    fn drop(&mut self) {
        if self.armed {
            (self.closer)();
        }
    }
}

/// Reads and forgets until the producer is done or the wire ends.
fn drain(incoming: &mut dyn crate::transport::Incoming, done: impl Fn() -> bool) {
    while !done() {
        if incoming.receive(LONGEST_FRAME).is_err() {
            break;
        }
    }
}

fn parse(frame: &[u8]) -> Result<ToClient, Error> {
    match ToClient::from_bytes(frame)? {
        ToClient::Refused { reason, detail } => Err(Error::Refused { reason, detail }),
        message => Ok(message),
    }
}

/// The error for a well-formed message at the wrong moment.
pub(crate) fn unexpected(expected: &str, got: &ToClient) -> Error {
    Error::Unexpected {
        expected: expected.to_owned(),
        got: got.name().to_owned(),
    }
}
