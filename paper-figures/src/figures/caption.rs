//! The caption under every figure: on what, with which parameters, where it was measured.
//!
//! What must be true: data set, networks, engines, security, delta, accountant and machine of every record in
//! the picture are named, or said to be not recorded.

use std::collections::BTreeSet;

use crate::record::{Record, label, metric};

/// One paragraph of facts about the records of a picture.
pub(crate) fn facts(dataset: &str, records: &[&Record]) -> String {
    let deltas: BTreeSet<String> = records
        .iter()
        .filter(|record| record.metrics.contains_key(metric::EPSILON))
        .map(|record| match record.metrics.get(metric::DELTA) {
            Some(delta) => format!("{delta:e}"),
            None => "not recorded".into(),
        })
        .collect();
    let mut facts = vec![
        format!("Data set {dataset}"),
        named(["network", "networks"], records, |r| Some(&r.model)),
        named(["engine", "engines"], records, |r| Some(&r.engine)),
        named(["security", "security"], records, |r| Some(&r.security)),
    ];
    if !deltas.is_empty() {
        facts.push(format!("delta {}", join(&deltas)));
        let priced = named(["accountant", "accountants"], records, |r| {
            r.labels.get(label::ACCOUNTANT)
        });
        facts.extend(Some(priced).filter(|priced| !priced.is_empty()));
    }
    let machine = named(["machine", "machines"], records, |r| {
        r.labels.get(label::MACHINE)
    });
    facts.push(if machine.is_empty() {
        "machine not recorded".into()
    } else {
        machine
    });
    facts.join("; ") + "."
}

/// `name a, b` over all records, or nothing where no record has it.
fn named(
    [one, many]: [&str; 2],
    records: &[&Record],
    of: fn(&Record) -> Option<&String>,
) -> String {
    let found: BTreeSet<String> = records.iter().filter_map(|r| of(r).cloned()).collect();
    match found.len() {
        0 => String::new(),
        1 => format!("{one} {}", join(&found)),
        _ => format!("{many} {}", join(&found)),
    }
}

pub(crate) fn join(names: &BTreeSet<String>) -> String {
    names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
