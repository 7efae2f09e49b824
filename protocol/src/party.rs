//! The server as a state machine: a message in, messages out, no IO.
//!
//! ```text
//! ExpectHello --Hello--> ExpectModel --OpenModel--> ReceivingBiases --BiasUpdate*--> Ready
//!                             |                                                       |  ^
//!                             +--AttachModel----------------------------------> Ready |  |
//!                                                                                     v  |
//!              Training --script of uploads, Update--> ReceivingBiases --BiasUpdate*-----+
//!              Preparing --Mask*--> Ready        Answering --Request per layer--> Ready
//! ```
//!
//! `OpenPaper` and `OpenPureHe` lead to the machines of [`crate::paper`] and [`crate::pure_he`] instead, whose
//! models live as long as the connection. Their replies are too many to be held: between two messages the caller asks for
//! them with [`Server::proceed`] as long as the machine [is busy](Server::is_busy).
//!
//! A state is consumed by the message it takes, so a step cannot be replayed. A message that the
//! protocol does not allow ends the connection with a [`Refusal`]; a stale version or a used
//! ticket is refused and the connection goes on. Nothing here knows a secret.

use std::sync::Arc;

use crate::error::Error;
use crate::message::{Refusal, ToClient, ToServer, WIRE_VERSION};
use crate::packed::{Clock, StepWork, Upload, script};
use crate::paper::Session;
use crate::pure_he;

mod budget;
mod hub;
mod tenant;

use budget::Share;
pub use hub::{Hub, HubLimits};
use hub::{Lease, Opened};
use tenant::{Preparation, Query};

use crate::message::Place;

/// One connection's state at the server.
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    state: State,
}

#[derive(Debug)]
enum State {
    ExpectHello,
    ExpectModel,
    Ready(Lease),
    ReceivingBiases(Lease, u32),
    Training(Box<Training>),
    Preparing(Lease, Box<Preparation>),
    Answering(Lease, Box<Query>),
    Paper(Box<Session>, Share),
    PureHe(Box<pure_he::Session>, Share),
    Closed,
}

#[derive(Debug)]
struct Training {
    lease: Lease,
    step: u64,
    script: Vec<(Upload, Place)>,
    next: usize,
    work: StepWork,
    clock: Clock,
}

/// What a step of the machine gives: the next state and what to send.
#[derive(Debug)]
pub struct Step {
    /// The machine in its next state.
    pub server: Server,
    /// Messages for the client.
    pub replies: Vec<ToClient>,
}

/// Why a connection must end: what to tell the client, and the cause.
#[derive(Debug)]
pub struct Fault {
    /// The last message.
    pub reply: ToClient,
    /// For the server's log.
    pub cause: Box<Error>,
}

impl Server {
    /// A machine that waits for a greeting.
    #[must_use]
    pub const fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            state: State::ExpectHello,
        }
    }

    /// Whether the conversation is over.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether a model is open, so that long frames are acceptable.
    #[must_use]
    pub const fn has_model(&self) -> bool {
        !matches!(self.state, State::ExpectHello | State::ExpectModel)
    }

    /// Whether a step of the engine `packed` is under way.
    #[must_use]
    pub const fn is_training(&self) -> bool {
        matches!(self.state, State::Training(_))
    }

    /// Whether taking this message means long work: it completes what products are computed of.
    #[must_use]
    pub fn computes_on(&self, message: &ToServer) -> bool {
        match (&self.state, message) {
            (
                State::Training(training),
                ToServer::Activation(..)
                | ToServer::OutputGradient(..)
                | ToServer::ClippedGradient(..),
            ) => training.completes_group(),
            _ => false,
        }
    }

    /// What the protocol allows next, for errors.
    fn expects(&self) -> String {
        match &self.state {
            State::ExpectHello => "Hello".into(),
            State::ExpectModel => "OpenModel, OpenPaper, OpenPureHe or AttachModel".into(),
            State::Ready(lease) if lease.trains() => {
                "BeginStep, FetchBiases, FetchPhases, BeginTickets, Request or Bye".into()
            }
            State::Ready(_) => "BeginTickets, Request or Bye".into(),
            State::ReceivingBiases(_, part) => format!("BiasUpdate for part {part}"),
            State::Training(t) => t.expects(),
            State::Preparing(_, p) => format!("Mask at {:?}", p.expects()),
            State::Answering(_, q) => format!("Request for layer {}", q.expects()),
            State::Paper(session, _) => session.expects(),
            State::PureHe(session, _) => session.expects(),
            State::Closed => "nothing".into(),
        }
    }

    /// Whether there are replies that [`Self::proceed`] gives, before the next message may be taken:
    /// results that are too many to be held at a time.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match &self.state {
            State::Paper(session, _) => session.is_busy(),
            State::PureHe(session, _) => session.is_busy(),
            _ => false,
        }
    }

    /// Computes and gives the next replies.
    ///
    /// # Errors
    /// A [`Fault`] if what was uploaded does not fit the plan.
    pub fn proceed(self) -> Result<Step, Fault> {
        let Self { hub, mut state } = self;
        let replies = match &mut state {
            State::Paper(session, _) => session.proceed(),
            State::PureHe(session, _) => session.proceed(),
            _ => Ok(Vec::new()),
        };
        let replies = replies.map_err(protocol)?;
        Ok(Step {
            server: Self { hub, state },
            replies,
        })
    }

    /// Takes one message.
    ///
    /// # Errors
    /// A [`Fault`] if the message is not allowed now or its content does not fit the plan; the
    /// connection must be closed after sending the fault's reply.
    pub fn step(self, message: ToServer) -> Result<Step, Fault> {
        let expects = self.expects();
        let name = message.name();
        let Self { hub, state } = self;
        let next = advance(&hub, state, message).map_err(|error| match error {
            Stop::Unexpected => protocol(Error::Unexpected {
                expected: expects,
                got: name.into(),
            }),
            Stop::Failed(cause) => protocol(cause),
            Stop::Refused(reason, cause) => fault(reason, cause),
        })?;
        let (state, replies) = next;
        Ok(Step {
            server: Self { hub, state },
            replies,
        })
    }
}

fn fault(reason: Refusal, cause: Box<Error>) -> Fault {
    Fault {
        reply: ToClient::Refused {
            reason,
            detail: cause.to_string(),
        },
        cause,
    }
}

fn protocol(cause: Error) -> Fault {
    fault(Refusal::Protocol, Box::new(cause))
}

/// Why a message was not taken.
enum Stop {
    /// Not allowed in this state.
    Unexpected,
    /// Allowed, but its content is wrong.
    Failed(Error),
    /// Declined for a reason of its own.
    Refused(Refusal, Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

type Next = Result<(State, Vec<ToClient>), Stop>;

fn advance(hub: &Arc<Hub>, state: State, message: ToServer) -> Next {
    match (state, message) {
        (State::Closed, _) => Err(Stop::Unexpected),
        (_, ToServer::Bye) => Ok((
            State::Closed,
            vec![ToClient::Farewell {
                cpu_seconds: hub.cpu_seconds(),
            }],
        )),
        (State::ExpectHello, ToServer::Hello { version }) => greet(version),
        (State::ExpectModel, ToServer::OpenModel { id, plan }) => match hub.open(id, &plan) {
            Ok(lease) => {
                let ready = lease.ready()?;
                Ok((State::ReceivingBiases(lease, 0), vec![ready]))
            }
            Err(Opened { reason, cause }) => Err(Stop::Refused(reason, cause)),
        },
        (State::ExpectModel, ToServer::AttachModel { id, digest }) => {
            let lease = hub
                .attach(id, digest)
                .map_err(|Opened { reason, cause }| Stop::Refused(reason, cause))?;
            let ready = lease.ready()?;
            Ok((State::Ready(lease), vec![ready]))
        }
        (State::ExpectModel, ToServer::OpenPaper { plan }) => {
            let session = Session::open(&plan, &hub.limits().plan);
            let session = session.map_err(|cause| Stop::Refused(Refusal::Plan, cause.into()))?;
            let (share, ready) = (reserve(hub, session.held())?, session.ready());
            Ok((State::Paper(Box::new(session), share), vec![ready]))
        }
        (State::ExpectModel, ToServer::OpenPureHe { plan }) => {
            let session = pure_he::Session::open(&plan, &hub.limits().plan);
            let session = session.map_err(|cause| Stop::Refused(Refusal::Plan, cause.into()))?;
            let (share, ready) = (reserve(hub, session.held())?, session.ready());
            Ok((State::PureHe(Box::new(session), share), vec![ready]))
        }
        (State::PureHe(mut session, share), message) => match session.take(message)? {
            Some(replies) => Ok((State::PureHe(session, share), replies)),
            None => Err(Stop::Unexpected),
        },
        (State::Paper(mut session, share), message) => match session.take(message)? {
            Some(replies) => Ok((State::Paper(session, share), replies)),
            None => Err(Stop::Unexpected),
        },
        (State::ReceivingBiases(lease, part), message) => biases(lease, part, message),
        (State::Ready(lease), message) => ready(lease, &message),
        (State::Training(training), message) => training.take(message),
        (State::Preparing(lease, preparation), ToServer::Mask(place, sealed)) => {
            let batch = preparation.batch();
            let (rest, replies) = preparation.take(place, &sealed)?;
            let Some(rest) = rest else {
                lease.register(batch)?;
                return Ok((State::Ready(lease), replies));
            };
            Ok((State::Preparing(lease, Box::new(rest)), replies))
        }
        (State::Answering(lease, query), message @ ToServer::Request { .. }) => {
            answer(lease, *query, &message)
        }
        _ => Err(Stop::Unexpected),
    }
}

/// Memory for a model that lives as long as its connection.
fn reserve(hub: &Hub, bytes: usize) -> Result<Share, Stop> {
    let full = |cause: Error| Stop::Refused(Refusal::Full, cause.into());
    hub.reserve(bytes).map_err(full)
}

fn greet(version: u16) -> Next {
    if version == WIRE_VERSION {
        return Ok((
            State::ExpectModel,
            vec![ToClient::Welcome {
                version: WIRE_VERSION,
            }],
        ));
    }
    Err(Stop::Refused(
        Refusal::Version,
        Error::Unexpected {
            expected: format!("wire version {WIRE_VERSION}"),
            got: format!("wire version {version}"),
        }
        .into(),
    ))
}

fn biases(lease: Lease, part: u32, message: ToServer) -> Next {
    match message {
        // A model trained before is loaded between opening it and its first biases.
        ToServer::LoadModel(released) if part == 0 && lease.is_fresh()? => {
            let ready = lease.load(&released)?;
            Ok((State::ReceivingBiases(lease, 0), vec![ready]))
        }
        // An update whose connection was lost is sent again, right after opening.
        ToServer::Update { step, gradient } if part == 0 && lease.may_repeat(step)? => {
            lease.apply(&gradient)?;
            let updated = lease.updated()?;
            Ok((State::ReceivingBiases(lease, 0), vec![updated]))
        }
        ToServer::BiasUpdate { part: got, change } if got == part => {
            lease.add_biases(part, &change)?;
            if (part as usize) + 1 < lease.plan().bias_parts() {
                return Ok((State::ReceivingBiases(lease, part + 1), Vec::new()));
            }
            let updated = lease.updated()?;
            Ok((State::Ready(lease), vec![updated]))
        }
        _ => Err(Stop::Unexpected),
    }
}

fn ready(lease: Lease, message: &ToServer) -> Next {
    match message {
        ToServer::BeginStep { step } if lease.trains() => {
            let training = Training::new(lease, *step)?;
            Ok((State::Training(Box::new(training)), Vec::new()))
        }
        ToServer::FetchPhases if lease.trains() => {
            let phases = ToClient::Phases(lease.phases());
            Ok((State::Ready(lease), vec![phases]))
        }
        ToServer::FetchBiases if lease.trains() => {
            let replies = lease.backup()?;
            Ok((State::Ready(lease), replies))
        }
        ToServer::BeginTickets { batch } => {
            let weights = lease.latest()?;
            let version = weights.snapshot().version();

            let preparation = Preparation::new(lease.plan(), weights, *batch);
            Ok((
                State::Preparing(lease, Box::new(preparation)),
                vec![ToClient::TicketsBegun { version }],
            ))
        }
        ToServer::Request {
            ticket,
            version,
            layer,
            ..
        } => {
            if *layer != 0 {
                return Err(Stop::Unexpected);
            }
            // Both refusals leave the connection usable: a ticket can be refreshed or replaced.
            let weights = match lease.version(*version)? {
                Ok(weights) => weights,
                Err(detail) => return Ok(decline(lease, Refusal::Stale, detail)),
            };
            if let Err(detail) = lease.spend(*ticket)? {
                return Ok(decline(lease, Refusal::Ticket, detail));
            }
            let query = Query::new(lease.plan(), weights, *ticket);
            answer(lease, query, message)
        }
        _ => Err(Stop::Unexpected),
    }
}

fn decline(lease: Lease, reason: Refusal, detail: String) -> (State, Vec<ToClient>) {
    (
        State::Ready(lease),
        vec![ToClient::Refused { reason, detail }],
    )
}

fn answer(lease: Lease, query: Query, message: &ToServer) -> Next {
    let ToServer::Request {
        ticket,
        version,
        layer,
        masked,
    } = message
    else {
        return Err(Stop::Unexpected);
    };
    if !query.continues(*ticket, *version, *layer) {
        return Err(Stop::Unexpected);
    }
    let (rest, reply) = query.take(masked)?;
    let state = rest.map_or(State::Ready(lease.clone()), |q| {
        State::Answering(lease, Box::new(q))
    });
    Ok((state, vec![reply]))
}

impl Training {
    fn new(lease: Lease, step: u64) -> Result<Self, Error> {
        let weights = lease.latest()?;
        let expected = weights.snapshot().step();
        if step != expected {
            return Err(Error::StepOrder {
                expected,
                got: step,
            });
        }
        weights.ahead();
        let plan = lease.plan();
        let (script, memory) = (script(plan), lease.memory());
        let work = StepWork::new(plan, weights, memory);
        let clock = Clock::new(plan, lease.phases());
        Ok(Self {
            lease,
            step,
            script,
            next: 0,
            work,
            clock,
        })
    }

    fn expects(&self) -> String {
        self.script.get(self.next).map_or_else(
            || "Update".into(),
            |(upload, place)| format!("{upload:?} at {place:?}"),
        )
    }

    /// Whether the next upload of the script completes a group.
    fn completes_group(&self) -> bool {
        let next = self.script.get(self.next);
        next.is_some_and(|&(upload, place)| self.work.completes(upload, place))
    }

    fn take(mut self: Box<Self>, message: ToServer) -> Next {
        let (upload, place, sealed) = match message {
            ToServer::Activation(place, sealed) => (Upload::Activation, place, sealed),
            ToServer::OutputGradient(place, sealed) => (Upload::OutputGradient, place, sealed),
            ToServer::ClippedGradient(place, sealed) => (Upload::ClippedGradient, place, sealed),
            ToServer::Update { step, gradient }
                if step == self.step && self.next == self.script.len() =>
            {
                self.lease.keep_phases(self.clock.stop());
                self.lease.keep_memory(self.work.into_memory());
                self.lease.apply(&gradient)?;
                return Ok((State::ReceivingBiases(self.lease, 0), Vec::new()));
            }
            _ => return Err(Stop::Unexpected),
        };
        if self.script.get(self.next) != Some(&(upload, place)) {
            return Err(Stop::Unexpected);
        }
        self.next += 1;
        let phase = (upload, usize::from(place.layer));
        let work = &mut self.work;
        let replies = self
            .clock
            .count(phase, || work.take(upload, place, &sealed))?;
        Ok((State::Training(self), replies))
    }
}

#[cfg(test)]
mod tests;
