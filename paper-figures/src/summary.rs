//! Accuracies over seeds, as tables show them.
//!
//! **Where it sits.** Beside the [figures](crate::figures): the same records, grouped by the same
//! rule, as numbers instead of marks.
//!
//! **What must be true.** Every seed is counted, none twice; two records of one row agree in data set,
//! engine, network, epsilon, delta and every label but those of provenance.
//!
//! ```
//! use sphinx_figures::record::{Record, metric};
//! use sphinx_figures::summary;
//!
//! let run = |seed: u64, accuracy| {
//!     Record::new("doc", format!("t{seed}"), "clear", "mlp", "synth-digits", seed)
//!         .with_metric(metric::ACCURACY, accuracy)
//!         .with_metric(metric::EPSILON, 2.0)
//! };
//! let rows = summary::accuracies(&[run(1, 0.90), run(2, 0.94)])?;
//! assert_eq!((rows.len(), rows[0].seeds.clone()), (1, vec![1, 2]));
//! assert!((rows[0].mean - 0.92).abs() < 1e-12 && rows[0].range.low == 0.90);
//! # Ok::<(), sphinx_figures::figures::FigureError>(())
//! ```

use std::collections::BTreeMap;

use crate::figures::{FigureError, series};
use crate::record::{Record, label, metric};
use crate::stats::{self, Interval};

const TABLE: &str = "summary of accuracies";

/// One row: all seeds of one series at one budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Data set.
    pub dataset: String,
    /// Network, engine, and whatever else tells series of this data set apart.
    pub name: String,
    /// Privacy loss; infinite for runs without protection.
    pub epsilon: f64,
    /// The delta at which it holds.
    pub delta: Option<f64>,
    /// Who priced the runs.
    pub accountant: Option<String>,
    /// The seeds, ascending.
    pub seeds: Vec<u64>,
    /// Mean test accuracy, a fraction.
    pub mean: f64,
    /// Worst and best seed.
    pub range: Interval,
    /// Mean seconds of a run, where recorded.
    pub seconds: Option<f64>,
}

/// One row per data set, series and epsilon.
///
/// # Errors
/// [`FigureError::Ambiguous`] if one seed is there twice; [`FigureError::Stats`] for values that are
/// not finite.
pub fn accuracies(records: &[Record]) -> Result<Vec<Summary>, FigureError> {
    let shown = records
        .iter()
        .filter(|r| r.metrics.contains_key(metric::ACCURACY));
    let mut rows = Vec::new();
    for (dataset, set) in series::by_dataset(shown) {
        for series in series::series(&set, series::nothing_more, &[label::PRIVATE]) {
            let mut groups: BTreeMap<(u64, u64), Vec<&Record>> = BTreeMap::new();
            for record in &series.records {
                let epsilon = record.metrics.get(metric::EPSILON).copied();
                let delta = record.metrics.get(metric::DELTA).copied().unwrap_or(0.0);
                // Positive floats order like their bits, infinity last.
                let key = (epsilon.unwrap_or(f64::INFINITY).to_bits(), delta.to_bits());
                groups.entry(key).or_default().push(record);
            }
            for ((epsilon, _), group) in groups {
                series::one_per_seed(TABLE, &series.name, &group)?;
                // The series names its network only where networks differ.
                let parts = series.name.split(", ");
                let told = parts.into_iter().any(|part| part == group[0].model);
                let name = if told {
                    series.name.clone()
                } else {
                    format!("{}, {}", group[0].model, series.name)
                };
                rows.push(row(dataset, name, f64::from_bits(epsilon), &group)?);
            }
        }
    }
    Ok(rows)
}

fn row(
    dataset: &str,
    name: String,
    epsilon: f64,
    group: &[&Record],
) -> Result<Summary, FigureError> {
    let metric = |name: &str| -> Vec<f64> {
        let values = group.iter().filter_map(|r| r.metrics.get(name));
        values.copied().collect()
    };
    let accuracies = metric(metric::ACCURACY);
    let range = stats::range(&accuracies).map_err(|source| FigureError::Stats {
        figure: TABLE,
        source,
    })?;
    let seconds = metric("seconds");
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut seeds: Vec<u64> = group.iter().map(|r| r.seed).collect();
    seeds.sort_unstable();
    Ok(Summary {
        dataset: dataset.to_owned(),
        name,
        epsilon,
        delta: group[0].metrics.get(metric::DELTA).copied(),
        accountant: group[0].labels.get(label::ACCOUNTANT).cloned(),
        seeds,
        mean: mean(&accuracies),
        range,
        seconds: (!seconds.is_empty()).then(|| mean(&seconds)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seed: u64, model: &str, epsilon: Option<f64>, accuracy: f64) -> Record {
        let trial = format!("{model}-{seed}-{epsilon:?}");
        let private = if epsilon.is_some() { "yes" } else { "no" };
        let record = Record::new("e", trial, "clear", model, "d", seed)
            .with_label(label::PRIVATE, private)
            .with_label(label::COMMAND, format!("run --seeds {seed}"))
            .with_metric(metric::ACCURACY, accuracy)
            .with_metric("seconds", 10.0 * accuracy);
        match epsilon {
            Some(epsilon) => record.with_metric(metric::EPSILON, epsilon),
            None => record,
        }
    }

    #[test]
    fn rows_are_told_apart_by_network_and_budget_only() {
        let records = [
            record(2, "a", Some(2.0), 0.8),
            record(1, "a", Some(2.0), 0.6),
            record(1, "a", Some(1.0), 0.5),
            record(1, "a", None, 0.9),
            record(1, "b", Some(2.0), 0.7),
        ];
        let rows = accuracies(&records).unwrap();
        let told: Vec<(f64, usize)> = rows.iter().map(|r| (r.epsilon, r.seeds.len())).collect();
        assert_eq!(told, [(1.0, 1), (2.0, 2), (f64::INFINITY, 1), (2.0, 1)]);
        assert!((rows[1].mean - 0.7).abs() < 1e-12);
        assert_eq!((rows[1].range.low, rows[1].range.high), (0.6, 0.8));
        assert!((rows[1].seconds.unwrap() - 7.0).abs() < 1e-12);
    }

    #[test]
    fn a_seed_that_is_there_twice_is_refused() {
        let mut again = record(1, "a", Some(2.0), 0.6);
        again.trial.push('x');
        let records = [record(1, "a", Some(2.0), 0.8), again];
        assert!(matches!(
            accuracies(&records),
            Err(FigureError::Ambiguous { .. })
        ));
    }
}
