//! Epsilon against the number of steps, by several accountants.
//!
//! **Where it sits.** One of the [`figures`](super); reads the samples [`sample::ACCOUNT_STEPS`]
//! and [`sample::ACCOUNT_EPSILON`], which `sphinx account --over-steps` records.
//!
//! **What must be true.** Both axes are logarithmic; one line per record, named by its label
//! [`label::SERIES`]. The caption names sampling rate, noise multiplier and delta, and says that an
//! estimate is no bound.
//!
//! ```
//! use sphinx_figures::figures::{FigureError, epsilon_over_steps};
//! use sphinx_figures::record::{Record, sample};
//!
//! let curve = Record::new("account", "t", "pld", "dp-sgd", "accountants", 0)
//!     .with_samples(sample::ACCOUNT_STEPS, vec![1.0, 10.0, 100.0])
//!     .with_samples(sample::ACCOUNT_EPSILON, vec![0.2, 0.4]);
//! let out = tempfile::tempdir()?;
//! let refused = epsilon_over_steps::render(&[curve], out.path());
//! assert!(matches!(refused, Err(FigureError::Value { .. })), "three steps, two epsilons");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::points::Points;
use super::{Figure, FigureError, Options, caption, series};
use crate::plot::Point;
use crate::plot::axis::Axis;
use crate::plot::frame::{Axes, Entry, Frame, Key, Panel};
use crate::plot::palette;
use crate::record::{Record, label, metric, sample};
use std::collections::BTreeSet;

const FIGURE: &str = "epsilon_over_steps";
const NEEDS: &str = "the samples `account.steps` and `account.epsilon`";

render_functions!();

pub(crate) fn build(records: &[Record], options: &Options) -> Result<Vec<Figure>, FigureError> {
    super::by_dataset((FIGURE, NEEDS), records, drawable, |dataset, set| {
        draw(dataset, set, options)
    })
}

/// Whether a record has a curve, once its two series are sure to fit together.
fn drawable(record: &Record) -> Result<bool, FigureError> {
    let problem = "must have one value above zero for each entry of `account.steps`";
    series::has_pairs(
        (FIGURE, record),
        sample::ACCOUNT_STEPS,
        (sample::ACCOUNT_EPSILON, problem),
        |epsilon| epsilon > 0.0,
    )
}

/// `(steps, epsilon)` of a record.
fn curve(record: &Record) -> impl Iterator<Item = (f64, f64)> {
    let series = |name| record.samples.get(name).into_iter().flatten().copied();
    series(sample::ACCOUNT_STEPS).zip(series(sample::ACCOUNT_EPSILON))
}

fn name(record: &Record) -> &str {
    record.labels.get(label::SERIES).unwrap_or(&record.engine)
}

fn draw(dataset: &str, records: &[&Record], options: &Options) -> Result<Figure, FigureError> {
    let heading = "What a run of sampled Gaussian steps costs";
    let title = series::title(FIGURE, heading, records, options)?;
    let engines: Vec<&str> = records.iter().map(|r| r.engine.as_str()).collect();
    let mut looks = palette::looks(&engines);
    // Every second line is broken, so that bounds that agree can both be seen.
    for look in looks.iter_mut().skip(1).step_by(2) {
        look.dashes = palette::BROKEN;
    }
    let legend = records.iter().zip(&looks).map(|(record, look)| Entry {
        key: Key::Series {
            look: look.clone(),
            width: 1.8,
            marks: false,
        },
        text: name(record).to_owned(),
    });
    let frame = Frame {
        title,
        legend: legend.collect(),
        caption: vec![parameters(records), machine(records)],
    };
    let (mut scene, room) = frame.lay_out(300.0);
    let all = || records.iter().flat_map(|record| curve(record));
    let axes = Axes {
        x: Axis::logarithmic(all().map(|(steps, _)| steps)),
        x_label: "steps (logarithmic)",
        y: Axis::logarithmic(all().map(|(_, epsilon)| epsilon)),
        y_label: "epsilon (logarithmic)",
        ends: (0.0, 0.0),
        gutter: 0.0,
    };
    let panel = Panel::draw(&mut scene, room, axes);
    let mut points = Points::new(&["series", "accountant", "steps", "epsilon"]);
    for (record, look) in records.iter().zip(&looks) {
        let line: Vec<Point> = curve(record)
            .map(|(steps, epsilon)| (panel.x.place(steps), panel.y.place(epsilon)))
            .collect();
        match line.as_slice() {
            [only] => scene.marker(*only, look.marker, look.colour),
            _ => scene.series_line(&line, look, 1.8),
        }
        for (steps, epsilon) in curve(record) {
            let (name, engine) = (name(record), record.engine.as_str());
            points.row(&[name.into(), engine.into(), steps.into(), epsilon.into()]);
        }
    }
    Ok(Figure {
        kind: FIGURE,
        subject: dataset.into(),
        scene,
        points,
    })
}

/// The parameters of the mechanism, and what the lines are.
fn parameters(records: &[&Record]) -> String {
    let values = |name: &str| -> String {
        let found = records.iter().filter_map(|r| r.metrics.get(name));
        let found: BTreeSet<String> = found.map(|&value| short(value)).collect();
        caption::join(&found)
    };
    format!(
        "Poisson sampling rate {}; noise multiplier {}; delta {}; neighbours differ in one added or \
         removed record. The central limit is an estimate that may lie below the truth; the other \
         lines are bounds.",
        values("sampling_rate"),
        values("noise_multiplier"),
        values(metric::DELTA),
    )
}

/// Three significant digits, or all where there are fewer.
fn short(value: f64) -> String {
    let digits = format!("{value:.2e}").parse().unwrap_or(value);
    f64::to_string(&digits)
}

fn machine(records: &[&Record]) -> String {
    let machines = records.iter().filter_map(|r| r.labels.get(label::MACHINE));
    let machines: BTreeSet<String> = machines.cloned().collect();
    if machines.is_empty() {
        "Computed on a machine that was not recorded.".into()
    } else {
        format!("Computed on {}.", caption::join(&machines))
    }
}
