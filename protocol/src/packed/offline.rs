//! When the client makes encryptions of zero ahead: while it waits for the server, for uploads to come.
//!
//! Once a phase's last upload is sent, the thread that encrypted has nothing to do
//! until the last result is decrypted: meanwhile it fills a pool of bounded size ([`crate::zeros`]), and the next
//! phases add their messages to what is in it.
//!
//! It does not pay on cores that both parties share: message and
//! error are then transformed apart, which takes the client's CPU per step of `minionn-mnist` with
//! batches of 500 from 0.79 s to 0.83 s, and the step is no shorter. So, unless a number was asked for
//! ([`super::Packed::preparing`]), nothing is made ahead for a server on the same machine, nor where the
//! client waits for less time than it takes to prepare the uploads of a step.

use std::sync::Arc;

use rand_core::CryptoRng;
use sphinx_he::ckks::Level;
use sphinx_he::rlwe::{Parameters, SecretKey};

use super::client::{BATCH, TOP};
use crate::error::Error;
use crate::zeros::Zeros;

/// Memory that encryptions of zero may take where nobody said how many.
const MOST_BYTES: usize = 64 << 20;

/// Whether encryptions of zero are made ahead.
#[derive(Default)]
pub(super) enum Ahead {
    /// No.
    #[default]
    None,
    /// Not yet: it is to be seen how long the client waits.
    Undecided,
    /// Yes.
    Pool(Zeros),
}

impl Ahead {
    /// Up to so many.
    pub(super) fn of<R: CryptoRng>(most: usize, secret: &Arc<SecretKey>, rng: &mut R) -> Self {
        match most {
            0 => Self::None,
            most => Self::Pool(Zeros::new(secret, Level(TOP), most, rng)),
        }
    }

    /// The pool, if there is one.
    pub(super) const fn pool(&self) -> Option<&Zeros> {
        match self {
            Self::Pool(zeros) => Some(zeros),
            Self::None | Self::Undecided => None,
        }
    }

    /// All `uploads` of a step, if they can be prepared in `waited` seconds; some are, to know how
    /// long one takes.
    pub(super) fn weigh<R: CryptoRng>(
        waited: f64,
        uploads: usize,
        secret: &Arc<SecretKey>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let most = most(uploads, secret.parameters());
        let zeros = Zeros::new(secret, Level(TOP), most, rng);
        zeros.fill(BATCH, || zeros.ready() >= BATCH)?;
        let made = zeros.ready().max(1) as f64;
        let needed = zeros.seconds() * uploads as f64 / made;
        Ok(if uploads > 0 && needed < waited {
            Self::Pool(zeros)
        } else {
            Self::None
        })
    }
}

/// How many of `uploads` fit into [`MOST_BYTES`]: of each the one polynomial that is not a seed.
fn most(uploads: usize, parameters: &Parameters) -> usize {
    let bytes = parameters.degree() * (TOP + 1) * size_of::<u64>();
    uploads.min(MOST_BYTES / bytes.max(1))
}
