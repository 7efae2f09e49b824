//! From which widths on outsourcing saves a client work.
//!
//! **Where it sits.** One of the [`figures`](super); reads the samples [`sample::WIDTHS`] and
//! [`sample::WIDTH_RATIOS`], which `sphinx bench --widths` records.
//!
//! **What must be true.** Both axes are logarithmic and a line stands at one, below which the client
//! saves work. Marks are measured (label [`label::BASIS`]); lines without marks are not, and the
//! caption says so. Lines of one [`label::SERIES`] share a look.
//!
//! ```
//! use sphinx_figures::figures::{FigureError, outsourcing};
//! use sphinx_figures::record::{Record, sample};
//!
//! let line = Record::new("widths", "t", "packed", "dense", "dense layers", 0)
//!     .with_samples(sample::WIDTHS, vec![64.0, 128.0])
//!     .with_samples(sample::WIDTH_RATIOS, vec![20.0]);
//! let out = tempfile::tempdir()?;
//! let refused = outsourcing::render(&[line], out.path());
//! assert!(matches!(refused, Err(FigureError::Value { .. })), "two widths, one ratio");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::points::Points;
use super::{Figure, FigureError, Options, caption, series};
use crate::plot::Point;
use crate::plot::axis::Axis;
use crate::plot::frame::{Axes, Entry, Frame, Key, Panel};
use crate::plot::palette::{self, Look};
use crate::record::{Record, label, sample};
use std::collections::BTreeSet;

const FIGURE: &str = "outsourcing";
const NEEDS: &str = "the samples `outsourcing.width` and `outsourcing.ratio`";
/// Width of the lines.
const LINE: f64 = 1.6;

render_functions!();

pub(crate) fn build(records: &[Record], options: &Options) -> Result<Vec<Figure>, FigureError> {
    super::by_dataset((FIGURE, NEEDS), records, drawable, |dataset, set| {
        draw(dataset, set, options)
    })
}

/// Whether a record has a line, once its two series are sure to fit together.
fn drawable(record: &Record) -> Result<bool, FigureError> {
    let problem = "must have one value, not below zero, for each entry of `outsourcing.width`";
    series::has_pairs(
        (FIGURE, record),
        sample::WIDTHS,
        (sample::WIDTH_RATIOS, problem),
        |ratio| ratio >= 0.0,
    )
}

/// `(width, ratio)` of a record, where it can stand on a logarithmic axis.
fn line(record: &Record) -> impl Iterator<Item = (f64, f64)> {
    let series = |name| record.samples.get(name).into_iter().flatten().copied();
    let pairs = series(sample::WIDTHS).zip(series(sample::WIDTH_RATIOS));
    pairs.filter(|(_, ratio)| *ratio > 0.0)
}

fn name(record: &Record) -> &str {
    record.labels.get(label::SERIES).unwrap_or(&record.engine)
}

fn is_measured(record: &Record) -> bool {
    let basis = record.labels.get(label::BASIS);
    basis.is_some_and(|basis| basis == label::MEASURED)
}

fn draw(dataset: &str, records: &[&Record], options: &Options) -> Result<Figure, FigureError> {
    let heading = format!("Where outsourcing saves the client work: {dataset}");
    let title = series::title(FIGURE, &heading, records, options)?;
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        if !names.contains(&name(record)) {
            names.push(name(record));
        }
    }
    let looks = palette::looks(&names);
    let look = |record: &Record| {
        let at = names.iter().position(|n| *n == name(record)).unwrap_or(0);
        &looks[at]
    };
    let legend = names.iter().zip(&looks).map(|(name, look)| Entry {
        key: Key::Series {
            look: look.clone(),
            width: LINE,
            marks: true,
        },
        text: format!("{name} outsourced"),
    });
    let frame = Frame {
        title,
        legend: legend.collect(),
        caption: vec![about(records), caption::facts(dataset, records)],
    };
    let (mut scene, room) = frame.lay_out(300.0);
    let all = || records.iter().flat_map(|record| line(record));
    let axes = Axes {
        x: Axis::logarithmic(all().map(|(width, _)| width)),
        x_label: "width: inputs and outputs, or channels",
        y: Axis::logarithmic(all().map(|(_, ratio)| ratio).chain([1.0])),
        y_label: "client's work with a server / without",
        ends: (0.0, 0.0),
        gutter: 0.0,
    };
    let panel = Panel::draw(&mut scene, room, axes);
    let ends = all().fold((f64::INFINITY, 0.0_f64), |(low, high), (width, _)| {
        (low.min(width), high.max(width))
    });
    let even = [ends.0, ends.1].map(|width| (panel.x.place(width), panel.y.place(1.0)));
    scene.path(even.to_vec(), palette::INK, 1.0);
    let mut points = Points::new(&["series", "basis", "width", "ratio"]);
    for record in records {
        let placed: Vec<Point> = line(record)
            .map(|(width, ratio)| (panel.x.place(width), panel.y.place(ratio)))
            .collect();
        let Look { marker, colour, .. } = look(record).clone();
        if is_measured(record) {
            placed
                .iter()
                .for_each(|at| scene.marker(*at, marker, colour));
        } else {
            scene.series_line(&placed, look(record), LINE);
        }
        let basis = record.labels.get(label::BASIS).map_or("", String::as_str);
        for (width, ratio) in line(record) {
            points.row(&[
                name(record).into(),
                basis.into(),
                width.into(),
                ratio.into(),
            ]);
        }
    }
    Ok(Figure {
        kind: FIGURE,
        subject: dataset.into(),
        scene,
        points,
    })
}

/// What marks and lines are.
fn about(records: &[&Record]) -> String {
    let rows = records.iter().filter_map(|r| r.metrics.get("rows"));
    let rows: BTreeSet<String> = rows.map(f64::to_string).collect();
    format!(
        "{} rows. Processor seconds of the client with ciphertexts over those of the same products in \
         floating point. Marks: measured. Lines: extrapolated, counted ciphertexts and \
         multiplications times their measured cost. Below one the client saves work.",
        caption::join(&rows)
    )
}
