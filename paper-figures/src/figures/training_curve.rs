//! Accuracy, loss and the privacy spent, step by step.
//!
//! **Where it sits.** One of the [`figures`](super); reads the samples [`sample::CURVE_STEP`] with
//! [`sample::CURVE_ACCURACY`], [`sample::CURVE_LOSS`] and [`sample::CURVE_EPSILON`], whichever
//! exist.
//!
//! **What must be true.** One picture shows one network on one data set. Each quantity has a panel of its own over one common axis of steps, so
//! no panel has two scales. A line is the median over the seeds that have a value at that step,
//! the band runs from the lowest to the highest of them. The loss says that it is known to the
//! client alone.
//!
//! ```
//! use sphinx_figures::figures::{FigureError, training_curve};
//! use sphinx_figures::record::{Record, sample};
//!
//! let run = Record::new("doc", "t", "clear", "mlp", "synth-digits", 1)
//!     .with_samples(sample::CURVE_STEP, vec![1.0, 2.0, 3.0])
//!     .with_samples(sample::CURVE_LOSS, vec![2.3, 1.9]);
//! let out = tempfile::tempdir()?;
//! let refused = training_curve::render(&[run], out.path());
//! assert!(matches!(refused, Err(FigureError::Value { .. })), "three steps, two losses");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::points::Points;
use super::series::{self, Series};
use super::{Figure, FigureError, Options, caption};
use crate::plot::axis::Axis;
use crate::plot::frame::{self, Axes, Entry, Frame, Key, Panel, X_LABEL};
use crate::plot::palette::{self, Look};
use crate::plot::{Area, Point, Scene};
use crate::record::{Record, metric, sample};
use crate::stats::{self, Interval};
use std::collections::{BTreeMap, BTreeSet};

const FIGURE: &str = "training_curve";
const NEEDS: &str =
    "the samples `curve.step` with `curve.accuracy`, `curve.loss` or `curve.epsilon`";

/// Sample series, its name in the CSV, the name of its axis, and its factor.
const PANELS: [(&str, &str, &str, f64); 3] = [
    (
        sample::CURVE_ACCURACY,
        "accuracy_percent",
        "accuracy, %",
        100.0,
    ),
    (
        sample::CURVE_LOSS,
        "loss",
        "training loss (private to the client)",
        1.0,
    ),
    (
        sample::CURVE_EPSILON,
        "epsilon",
        "privacy spent so far, epsilon",
        1.0,
    ),
];

render_functions!();

pub(crate) fn build(records: &[Record], options: &Options) -> Result<Vec<Figure>, FigureError> {
    let figures = super::by_dataset((FIGURE, NEEDS), records, drawable, |dataset, set| {
        let models = set.iter().map(|record| record.model.as_str());
        let of = |model: &str| {
            let of_model = |r: &&Record| r.model == model;
            let records: Vec<&Record> = set.iter().copied().filter(of_model).collect();
            draw((dataset, model), &records, options)
        };
        let models: BTreeSet<&str> = models.collect();
        models.into_iter().map(of).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(figures.into_iter().flatten().collect())
}

/// Whether a record has a curve, once its series are sure to fit together.
fn drawable(record: &Record) -> Result<bool, FigureError> {
    if !record.is_for_accuracy() {
        return Ok(false);
    }
    let Some(steps) = record
        .samples
        .get(sample::CURVE_STEP)
        .filter(|s| !s.is_empty())
    else {
        return Ok(false);
    };
    let fault = |name, problem| Err(FigureError::value(FIGURE, record, name, problem));
    if steps.windows(2).any(|pair| pair[0] >= pair[1]) {
        return fault(sample::CURVE_STEP, "must ascend");
    }
    let mut found = false;
    for (name, ..) in PANELS {
        if let Some(values) = record.samples.get(name) {
            found = true;
            if values.len() != steps.len() {
                return fault(name, "must have one value for each entry of `curve.step`");
            }
            let fractions = values.iter().all(|v| (0.0..=1.0).contains(v));
            if name == sample::CURVE_ACCURACY && !fractions {
                return fault(name, "must hold fractions from 0 to 1");
            }
        }
    }
    Ok(found)
}

/// One value of a line: the step, the median over seeds, their range and their number.
struct At {
    step: f64,
    median: f64,
    range: Interval,
    seeds: usize,
}

fn line(series: &Series<'_>, name: &str, factor: f64) -> Result<Vec<At>, FigureError> {
    series::one_per_seed(FIGURE, &series.name, &series.records)?;
    let mut steps: Vec<(f64, Vec<f64>)> = Vec::new();
    for record in &series.records {
        let at = record.samples.get(sample::CURVE_STEP).into_iter().flatten();
        let values = record.samples.get(name).into_iter().flatten();
        steps.extend(
            at.zip(values)
                .map(|(step, value)| (*step, vec![factor * value])),
        );
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    steps.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1.append(&mut later.1);
        }
        same
    });
    let stats = |source| FigureError::Stats {
        figure: FIGURE,
        source,
    };
    let at = |(step, values): (f64, Vec<f64>)| {
        let (median, range) = (stats::median(&values)?, stats::range(&values)?);
        Ok(At {
            step,
            median,
            range,
            seeds: values.len(),
        })
    };
    steps
        .into_iter()
        .map(at)
        .collect::<Result<_, _>>()
        .map_err(stats)
}

/// Runs to different budgets are different series.
fn budget(record: &Record) -> BTreeMap<String, String> {
    let part = |name: &str| {
        let value = record.metrics.get(name)?;
        Some((name.to_owned(), format!("{name} {value}")))
    };
    [part(metric::EPSILON), part(metric::DELTA)]
        .into_iter()
        .flatten()
        .collect()
}

fn draw(
    (dataset, model): (&str, &str),
    records: &[&Record],
    options: &Options,
) -> Result<Figure, FigureError> {
    let all = series::series(records, budget, &[]);
    let looks = palette::looks(&all.iter().map(|s| s.engine).collect::<Vec<_>>());
    let title = series::title(
        FIGURE,
        &format!("Training {model} on {dataset}"),
        records,
        options,
    )?;
    let legend = all
        .iter()
        .zip(&looks)
        .enumerate()
        .map(|(i, (series, look))| Entry {
            key: Key::Series {
                look: look.clone(),
                width: palette::width(i, all.len()),
                marks: false,
            },
            text: series.name.clone(),
        });
    let mut about = String::from("Lines: median over seeds; bands: lowest to highest seed.");
    if all.iter().all(|series| series.records.len() == 1) {
        about = "Lines: one seed each.".into();
    }
    let panels = panels(&all)?;
    let caption = vec![caption::facts(dataset, records), about];
    let frame = Frame {
        title,
        legend: legend.collect(),
        caption,
    };
    let (mut scene, room) = frame.lay_out(105.0 * panels.len() as f64 + X_LABEL);
    let steps = |lines: &[Vec<At>]| lines.iter().flatten().map(|at| at.step).collect::<Vec<_>>();
    let steps: Vec<f64> = panels
        .iter()
        .flat_map(|(_, _, lines)| steps(lines))
        .collect();
    let x = Axis::linear(steps, 8);
    let ys: Vec<Axis> = panels
        .iter()
        .map(|(_, _, lines)| value_axis(lines))
        .collect();
    let gutter = ys.iter().map(frame::label_width).fold(0.0, f64::max);
    let mut points = Points::new(&[
        "quantity", "series", "step", "median", "low", "high", "seeds",
    ]);
    let rooms = rooms(room, panels.len());
    for (((column, label, lines), y), (room, last)) in panels.iter().zip(ys).zip(rooms) {
        let x_label = if last { "training step" } else { "" };
        let axes = Axes {
            x: x.clone(),
            x_label,
            y,
            y_label: label,
            ends: (0.0, 0.0),
            gutter,
        };
        let panel = Panel::draw(&mut scene, room, axes);
        for (look, line) in looks.iter().zip(lines) {
            draw_band(&mut scene, &panel, look, line);
        }
        for (i, ((series, look), line)) in all.iter().zip(&looks).zip(lines).enumerate() {
            draw_line(
                &mut scene,
                &panel,
                (look, palette::width(i, all.len())),
                line,
            );
            rows(&mut points, column, &series.name, line);
        }
    }
    Ok(Figure {
        kind: FIGURE,
        subject: format!("{dataset}-{model}"),
        scene,
        points,
    })
}

/// The lines of each quantity that somebody has: its name in the CSV, that of its axis, its lines.
type Lines = (&'static str, &'static str, Vec<Vec<At>>);

fn panels(all: &[Series<'_>]) -> Result<Vec<Lines>, FigureError> {
    let mut panels = Vec::new();
    for (name, column, label, factor) in PANELS {
        let lines = all
            .iter()
            .map(|s| line(s, name, factor))
            .collect::<Result<Vec<_>, _>>()?;
        if lines.iter().any(|line| !line.is_empty()) {
            panels.push((column, label, lines));
        }
    }
    Ok(panels)
}

fn value_axis(lines: &[Vec<At>]) -> Axis {
    Axis::linear(
        lines
            .iter()
            .flatten()
            .flat_map(|at| [at.range.low, at.range.high]),
        4,
    )
}

/// Cuts a room into rows; the last is higher by the name of the x axis.
fn rooms(room: Area, count: usize) -> Vec<(Area, bool)> {
    let height = (room.height() - X_LABEL) / count.max(1) as f64;
    let row = |i: usize| {
        let (top, last) = (room.top + i as f64 * height, i + 1 == count);
        let bottom = if last { room.bottom } else { top + height };
        (
            Area {
                top,
                bottom,
                ..room
            },
            last,
        )
    };
    (0..count).map(row).collect()
}

fn draw_band(scene: &mut Scene, panel: &Panel, look: &Look, line: &[At]) {
    if line.len() < 2 || line.iter().all(|at| at.seeds < 2) {
        return;
    }
    let at = |step: f64, value: f64| -> Point { (panel.x.place(step), panel.y.place(value)) };
    let high = line.iter().map(|a| at(a.step, a.range.high));
    let low = line.iter().rev().map(|a| at(a.step, a.range.low));
    scene.polygon(high.chain(low).collect(), look.colour, 0.2);
}

fn draw_line(scene: &mut Scene, panel: &Panel, (look, width): (&Look, f64), line: &[At]) {
    let points: Vec<Point> = line
        .iter()
        .map(|at| (panel.x.place(at.step), panel.y.place(at.median)))
        .collect();
    match points.as_slice() {
        // One point makes no line.
        [only] => scene.marker(*only, look.marker, look.colour),
        _ => scene.series_line(&points, look, width),
    }
}

fn rows(points: &mut Points, quantity: &str, name: &str, line: &[At]) {
    for at in line {
        points.row(&[
            quantity.into(),
            name.into(),
            at.step.into(),
            at.median.into(),
            at.range.low.into(),
            at.range.high.into(),
            at.seeds.into(),
        ]);
    }
}
