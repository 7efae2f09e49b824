//! `sphinx bench --pure-he`: the baseline with encrypted weights beside the published protocol, between two
//! processes.
//!
//! A network with the shape of `minionn-mnist` and fewer channels is measured in full with every engine; so is
//! `minionn-mnist` itself with `paper`. Its encrypted weights and a step's ciphertexts would take 30 GB, so for
//! `pure-he` its seconds are **extrapolated** from the small one, operation by operation, and labelled so; its
//! counts and bytes are exact by formula. Inference on one image is measured in three forms.
//!
//! What was measured is one object ([`tables::Comparison`]); tables are made from it alone, also from a file of an
//! earlier run.

use std::path::Path;

use anyhow::Result;

use super::{kept_or, remark_memory};
use crate::output::Output;

mod image;
mod measure;
mod tables;

use tables::Comparison;

pub(super) fn run(out: Output, from: Option<&Path>) -> Result<()> {
    let takes = "measuring steps of four engines, then requests; about four minutes";
    let comparison: Comparison = kept_or(out, from, takes, || measure::all(out))?;
    tables::print(out, &comparison);
    out.object(&serde_json::to_value(&comparison)?);
    Ok(())
}
