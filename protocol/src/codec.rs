//! Messages as bytes: a kind, then fixed-width little-endian fields, then at most one run of data.
//!
//! Decoding is total: any bytes give a message or a [`Malformed`] that names the field. Nothing is
//! allocated beyond what the frame itself holds.

use crate::error::Malformed;
use crate::message::{
    Masked, ModelId, Refusal, Released, Returned, Sealed, SealedKeys, TicketId, ToClient, ToServer,
};
use crate::model::{ModelVersion, ReleasedModel};
use crate::packed::ServerSeconds;
use crate::work::{Seconds, StepCounts, Work};

mod bytes;

use bytes::{Reader, Writer};

/// Longest text of a refusal.
const DETAIL: usize = 512;

impl ToServer {
    /// The frame's content.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Hello { version } => w.kind(0x01).u16(*version),
            Self::OpenModel { id, plan } => w.kind(0x02).raw(&id.0).raw(plan),
            Self::LoadModel(model) => {
                w.kind(0x03).u64(model.step).u32(model.master.len() as u32);
                model.master.iter().for_each(|v| {
                    w.raw(&v.to_le_bytes());
                });
                model.velocity.iter().for_each(|v| {
                    w.raw(&v.to_le_bytes());
                });
                &mut w
            }
            Self::AttachModel { id, digest } => w.kind(0x04).raw(&id.0).raw(digest),
            Self::OpenPaper { plan } => w.kind(0x05).raw(plan),
            Self::OpenPureHe { plan } => w.kind(0x06).raw(plan),
            Self::Relinearization(keys) => w.kind(0x07).raw(keys.bytes()),
            Self::Rotations(keys) => w.kind(0x08).raw(keys.bytes()),
            Self::BeginStep { step } => w.kind(0x10).u64(*step),
            Self::Activation(place, sealed) => w.kind(0x11).place(*place).raw(sealed.bytes()),
            Self::OutputGradient(place, sealed) => w.kind(0x12).place(*place).raw(sealed.bytes()),
            Self::ClippedGradient(place, sealed) => w.kind(0x13).place(*place).raw(sealed.bytes()),
            Self::Update { step, gradient } => {
                w.kind(0x14).u64(*step);
                gradient.values().iter().for_each(|v| {
                    w.raw(&v.to_le_bytes());
                });
                &mut w
            }
            Self::BiasUpdate { part, change } => w.kind(0x15).u32(*part).raw(change.bytes()),
            Self::FetchBiases => w.kind(0x16),
            Self::Parameter(place, sealed) => w.kind(0x17).place(*place).raw(sealed.bytes()),
            Self::FetchParameters => w.kind(0x18),
            Self::FetchWork => w.kind(0x19),
            Self::FetchPhases => w.kind(0x1a),
            Self::BeginTickets { batch } => w.kind(0x20).raw(batch),
            Self::Mask(place, sealed) => w.kind(0x21).place(*place).raw(sealed.bytes()),
            Self::Request {
                ticket,
                version,
                layer,
                masked,
            } => w
                .kind(0x22)
                .raw(&ticket.batch)
                .u32(ticket.index)
                .raw(&version.0)
                .u16(*layer)
                .residues(masked.values()),
            Self::Bye => w.kind(0x7f),
        };
        w.finish()
    }

    /// Parses a frame's content.
    ///
    /// # Errors
    /// [`Malformed`] names the field and what was expected.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = match r.kind()? {
            0x01 => Self::Hello {
                version: r.u16("version")?,
            },
            0x02 => Self::OpenModel {
                id: ModelId(r.array("model id")?),
                plan: r.rest(),
            },
            0x03 => {
                let step = r.u64("step")?;
                let count = r.u32("weight count")? as usize;
                Self::LoadModel(ReleasedModel {
                    step,
                    master: r.i32s("weights", count)?,
                    velocity: r.i64s("velocities", count)?,
                })
            }
            0x04 => Self::AttachModel {
                id: ModelId(r.array("model id")?),
                digest: r.array("plan digest")?,
            },
            0x05 => Self::OpenPaper { plan: r.rest() },
            0x06 => Self::OpenPureHe { plan: r.rest() },
            0x07 => Self::Relinearization(SealedKeys::received(r.rest())),
            0x08 => Self::Rotations(SealedKeys::received(r.rest())),
            0x10 => Self::BeginStep {
                step: r.u64("step")?,
            },
            0x11 => Self::Activation(r.place()?, Sealed::received(r.rest())),
            0x12 => Self::OutputGradient(r.place()?, Sealed::received(r.rest())),
            0x13 => Self::ClippedGradient(r.place()?, Sealed::received(r.rest())),
            0x14 => {
                let step = r.u64("step")?;
                let count = r.left() / 4;
                Self::Update {
                    step,
                    gradient: Released::received(r.i32s("gradient", count)?),
                }
            }
            0x15 => Self::BiasUpdate {
                part: r.u32("part")?,
                change: Sealed::received(r.rest()),
            },
            0x16 => Self::FetchBiases,
            0x17 => Self::Parameter(r.place()?, Sealed::received(r.rest())),
            0x18 => Self::FetchParameters,
            0x19 => Self::FetchWork,
            0x1a => Self::FetchPhases,
            0x20 => Self::BeginTickets {
                batch: r.array("batch")?,
            },
            0x21 => Self::Mask(r.place()?, Sealed::received(r.rest())),
            0x22 => Self::Request {
                ticket: TicketId {
                    batch: r.array("batch")?,
                    index: r.u32("ticket index")?,
                },
                version: ModelVersion(r.array("model version")?),
                layer: r.u16("layer")?,
                masked: Masked(r.residues("masked values")?),
            },
            0x7f => Self::Bye,
            kind => return Err(Malformed::Kind(kind)),
        };
        r.finish(message)
    }
}

impl ToClient {
    /// The frame's content.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Welcome { version } => w.kind(0x81).u16(*version),
            Self::ModelReady { version, step } => w.kind(0x82).raw(&version.0).u64(*step),
            Self::ForwardProduct(place, result) => w.kind(0x91).place(*place).raw(result.bytes()),
            Self::BackwardProduct(place, result) => w.kind(0x92).place(*place).raw(result.bytes()),
            Self::GradientProduct(place, result) => w.kind(0x93).place(*place).raw(result.bytes()),
            Self::Updated { version, step } => w.kind(0x94).raw(&version.0).u64(*step),
            Self::Biases { part, backup } => w.kind(0x96).u32(*part).raw(backup.bytes()),
            Self::Parameter(place, result) => w.kind(0x97).place(*place).raw(result.bytes()),
            Self::Worked(work) => {
                w.kind(0x98);
                for count in work.counts.to_array() {
                    w.u64(count);
                }
                let Seconds {
                    products,
                    switching,
                    rotations,
                } = work.seconds;
                for seconds in [products, switching, rotations] {
                    w.raw(&seconds.to_le_bytes());
                }
                &mut w
            }
            Self::Phases(phases) => {
                w.kind(0x99);
                for ServerSeconds { cpu, busy } in phases {
                    w.raw(&cpu.to_le_bytes()).raw(&busy.to_le_bytes());
                }
                &mut w
            }
            Self::TicketsBegun { version } => w.kind(0xa0).raw(&version.0),
            Self::MaskProduct(place, result) => w.kind(0xa1).place(*place).raw(result.bytes()),
            Self::Answer { layer, masked } => w.kind(0xa2).u16(*layer).residues(masked.values()),
            Self::Refused { reason, detail } => {
                let end = detail.char_indices().map(|(at, c)| at + c.len_utf8());
                let end = end.take_while(|&end| end <= DETAIL).last().unwrap_or(0);
                w.kind(0xfe)
                    .raw(&[refusal_code(*reason)])
                    .raw(&detail.as_bytes()[..end])
            }
            Self::Farewell { cpu_seconds } => w.kind(0xff).raw(&cpu_seconds.to_le_bytes()),
        };
        w.finish()
    }

    /// Parses a frame's content.
    ///
    /// # Errors
    /// [`Malformed`] names the field and what was expected.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = match r.kind()? {
            0x81 => Self::Welcome {
                version: r.u16("version")?,
            },
            0x82 => Self::ModelReady {
                version: ModelVersion(r.array("model version")?),
                step: r.u64("step")?,
            },
            0x91 => Self::ForwardProduct(r.place()?, Returned::received(r.rest())),
            0x92 => Self::BackwardProduct(r.place()?, Returned::received(r.rest())),
            0x93 => Self::GradientProduct(r.place()?, Returned::received(r.rest())),
            0x94 => Self::Updated {
                version: ModelVersion(r.array("model version")?),
                step: r.u64("step")?,
            },
            0x96 => Self::Biases {
                part: r.u32("part")?,
                backup: Returned::received(r.rest()),
            },
            0x97 => Self::Parameter(r.place()?, Returned::received(r.rest())),
            0x98 => Self::Worked(work(&mut r)?),
            0x99 => Self::Phases(phases(&mut r)?),
            0xa0 => Self::TicketsBegun {
                version: ModelVersion(r.array("model version")?),
            },
            0xa1 => Self::MaskProduct(r.place()?, Returned::received(r.rest())),
            0xa2 => Self::Answer {
                layer: r.u16("layer")?,
                masked: Masked(r.residues("masked values")?),
            },
            0xfe => {
                let [code] = r.array("reason")?;
                let reason = refusal_from(code)?;
                let text = r.rest();
                if text.len() > DETAIL {
                    return Err(Malformed::Text("detail"));
                }
                let detail = String::from_utf8(text).map_err(|_| Malformed::Text("detail"))?;
                Self::Refused { reason, detail }
            }
            0xff => Self::Farewell {
                cpu_seconds: f64::from_le_bytes(r.array("CPU seconds")?),
            },
            kind => return Err(Malformed::Kind(kind)),
        };
        r.finish(message)
    }
}

fn phases(r: &mut Reader<'_>) -> Result<Vec<ServerSeconds>, Malformed> {
    let mut phases = Vec::with_capacity(r.left() / 16);
    while r.left() > 0 {
        phases.push(ServerSeconds {
            cpu: f64::from_le_bytes(r.array("CPU seconds of a phase")?),
            busy: f64::from_le_bytes(r.array("seconds of a phase")?),
        });
    }
    Ok(phases)
}

fn work(r: &mut Reader<'_>) -> Result<Work, Malformed> {
    let mut counts = [0; 8];
    for count in &mut counts {
        *count = r.u64("count")?;
    }
    let mut seconds = || Ok::<_, Malformed>(f64::from_le_bytes(r.array("seconds")?));
    Ok(Work {
        counts: StepCounts::from_array(counts),
        seconds: Seconds {
            products: seconds()?,
            switching: seconds()?,
            rotations: seconds()?,
        },
    })
}

const REFUSALS: [Refusal; 8] = [
    Refusal::Version,
    Refusal::Plan,
    Refusal::UnknownModel,
    Refusal::Busy,
    Refusal::Stale,
    Refusal::Ticket,
    Refusal::Protocol,
    Refusal::Full,
];

fn refusal_code(reason: Refusal) -> u8 {
    REFUSALS
        .iter()
        .position(|&r| r == reason)
        .unwrap_or_default() as u8
}

fn refusal_from(code: u8) -> Result<Refusal, Malformed> {
    REFUSALS
        .get(usize::from(code))
        .copied()
        .ok_or(Malformed::OutOfRange {
            field: "reason",
            got: u64::from(code),
            limit: REFUSALS.len() as u64 - 1,
        })
}

#[cfg(test)]
mod tests;
