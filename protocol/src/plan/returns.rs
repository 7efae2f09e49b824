//! How results come back: with which factor, and how many bits of them.
//!
//! A product with weights carries a public power of two, so that it survives the prime drop; the
//! more of it, the further the result stands above the error of the download, and the more low
//! bits of that download are noise that need not travel. [`choose`] takes the largest factor whose
//! sums still fit the modulus, then cuts off as many bits as the exactness inequality allows (the
//! floor of `PACKING` section 3: about 31 bits of `c0` and 38 of `c1` where sums have 26 bits).

use std::ops::RangeInclusive;

use sphinx_he::exact::budget::Margin;
use sphinx_he::exact::{Encoding, Truncation};
use sphinx_he::rlwe::{Parameters, SecretNorms};

use super::LOG2_COEFFICIENTS;
use crate::error::Error;

/// log2 of the accepted failure probability when bits are cut: stricter than that of a plan,
/// because the error of one cut coefficient is uniform where the tail is taken as Gaussian.
const LOG2_CUT_FAILURE: f64 = -140.0;

/// How far the bits of a download may be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// log2 of the accepted probability that any coefficient decodes wrongly.
    log2_failure: f64,
    /// How many more bits of `c0` than of the others may go.
    lead: u32,
}

impl Cut {
    /// So that nothing ever fails.
    pub(super) const EXACT: Self = Self {
        log2_failure: LOG2_CUT_FAILURE,
        lead: u32::MAX,
    };
    /// So that up to every fourth coefficient decodes wrongly, on purpose; the error is then a sum
    /// of many terms, as the formula takes it, and not the uniform one of `c0`.
    pub(super) const VISIBLE: Self = Self {
        log2_failure: LOG2_COEFFICIENTS - 2.0,
        lead: 2,
    };
}

/// Bits of headroom that a larger factor must leave.
const ROOM: f64 = 0.05;

/// How the results of one product come back. Part of the plan: the server does not choose it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Return {
    /// Degree of the ciphertext in the secret.
    pub degree: usize,
    /// The public factor that the weights of the product carry; 1 without weights.
    pub factor: u64,
    /// How integers are carried after the prime drop.
    pub encoding: Encoding,
    /// Low bits left out.
    pub truncation: Truncation,
}

/// The results of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerReturns {
    /// `W x`
    pub forward: Return,
    /// `W^T d`; never asked for in the first layer.
    pub backward: Return,
    /// `sum d x^T`
    pub gradient: Return,
    /// `W r`
    pub mask: Return,
    /// `W x` by [short](super::Tightness) weights, where that is any different.
    pub tight_forward: Option<Return>,
    /// `W^T d` by short weights, of uploads at level 0 encoded as these results.
    pub tight_backward: Option<Return>,
}

/// What is decided for one product.
pub(super) struct Choice {
    pub(super) log2_factor: u32,
    pub(super) truncation: Truncation,
    /// The margin with both.
    pub(super) margin: Margin,
}

/// The largest factor of `log2_factors` that leaves room, then the most bits that may go.
pub(super) fn choose(
    (parameters, norms): (&Parameters, SecretNorms),
    degree: usize,
    limit: Cut,
    log2_factors: RangeInclusive<u32>,
    margin_of: impl Fn(u64) -> Result<Margin, Error>,
) -> Result<Choice, Error> {
    let mut log2_factor = *log2_factors.start();
    let mut margin = margin_of(1 << log2_factor)?;
    for larger in log2_factors.skip(1) {
        let next = margin_of(1 << larger)?;
        if next.log2_headroom <= ROOM {
            break;
        }
        (log2_factor, margin) = (larger, next);
    }
    let cut = |c0: u32, masks: u32| {
        let truncation = Truncation { c0, masks };
        let margin = margin.truncated(parameters, norms, degree, truncation);
        (truncation, margin)
    };
    let holds = |c0: u32, masks: u32| {
        let (_, margin) = cut(c0, masks);
        margin.holds(LOG2_COEFFICIENTS.exp2(), limit.log2_failure)
    };
    // A bit of c1 costs N times as much error as one of c0, and is worth as much or more.
    let bits = parameters.moduli()[0].bits();
    let masks = (1..bits - 2).take_while(|&t| holds(t + 2, t)).last();
    let masks = masks.unwrap_or(0);
    let most = masks.saturating_add(limit.lead).saturating_add(1);
    let c0 = (1..bits.min(most)).take_while(|&t| holds(t, masks)).last();
    let (truncation, margin) = cut(c0.unwrap_or(0), masks);
    Ok(Choice {
        log2_factor,
        truncation,
        margin,
    })
}

/// No larger factor than needed, and nothing cut: what plans use that may fail on purpose.
pub(super) fn plain(
    log2_factor: u32,
    margin_of: impl Fn(u64) -> Result<Margin, Error>,
) -> Result<Choice, Error> {
    Ok(Choice {
        log2_factor,
        truncation: Truncation::NONE,
        margin: margin_of(1 << log2_factor)?,
    })
}
