//! Test accuracy against the privacy loss spent.
//!
//! **Where it sits.** One of the [`figures`](super); reads [`metric::ACCURACY`],
//! [`metric::EPSILON`] and [`metric::DELTA`].
//!
//! **What must be true.** A mark is the median over seeds, its bar runs from the worst to the best
//! seed, and every seed is a small dot: with five seeds a bootstrap interval would promise more
//! than it knows. Epsilon is logarithmic; runs without privacy (label `private` = `no`) stand at a
//! tick of their own, marked with the sign for infinity, and no line leads there. Runs at another
//! delta are another series. Published numbers on the same data set are hollow markers.
//!
//! ```
//! use sphinx_figures::figures::{FigureError, accuracy_vs_epsilon};
//! use sphinx_figures::record::{Record, metric};
//!
//! let run = Record::new("doc", "t", "clear", "mlp", "synth-digits", 1)
//!     .with_metric(metric::ACCURACY, 0.9)
//!     .with_label("private", "yes");
//! let out = tempfile::tempdir()?;
//! // A private run must say what it spent.
//! let refused = accuracy_vs_epsilon::render(&[run], out.path());
//! assert!(matches!(refused, Err(FigureError::Value { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::points::{Cell, Points};
use super::series::{self, Series};
use super::{Figure, FigureError, Options, caption};
use crate::claims::{self, AccuracyClaim, Claims};
use crate::plot::axis::Axis;
use crate::plot::frame::{Axes, Entry, Frame, Key, Panel};
use crate::plot::palette::{self, Look, Marker};
use crate::plot::{Area, Point, Scene};
use crate::record::{Record, label, metric};
use crate::stats::{self, Interval};
use std::collections::BTreeMap;

const FIGURE: &str = "accuracy_vs_epsilon";
const NEEDS: &str = "the metrics `accuracy` and `epsilon` (or the label `private` = `no`)";

/// How far marks may stand beside their epsilon, to either side.
const ASIDE: f64 = 15.0;

/// Room on the right for the tick of runs without privacy.
const INFINITY_ROOM: f64 = 80.0;

render_functions!();

pub(crate) fn build(records: &[Record], options: &Options) -> Result<Vec<Figure>, FigureError> {
    let claims = claims::published()?;
    super::by_dataset((FIGURE, NEEDS), records, drawable, |dataset, set| {
        draw(dataset, set, &claims, options)
    })
}

fn drawable(record: &Record) -> Result<bool, FigureError> {
    let has = record.metrics.contains_key(metric::ACCURACY) && record.is_for_accuracy();
    Ok(has && epsilon(record)?.is_some())
}

/// Epsilon of a record, infinite without privacy, `None` where the record says nothing.
fn epsilon(record: &Record) -> Result<Option<f64>, FigureError> {
    let spent = record.metrics.get(metric::EPSILON).copied();
    let problem = match (record.labels.get(label::PRIVATE).map(String::as_str), spent) {
        (Some("no"), Some(_)) => "is given for a run that is not private: remove one of the two",
        (Some("no"), None) => return Ok(Some(f64::INFINITY)),
        (Some("yes"), None) => "is missing for a private run: record what was spent",
        (_, Some(spent)) if spent <= 0.0 => "must be above zero to stand on a logarithmic axis",
        (_, spent) => return Ok(spent),
    };
    Err(FigureError::value(FIGURE, record, metric::EPSILON, problem))
}

fn accuracy(record: &Record) -> Result<f64, FigureError> {
    match record.metrics.get(metric::ACCURACY) {
        Some(accuracy) if (0.0..=1.0).contains(accuracy) => Ok(100.0 * accuracy),
        _ => {
            let problem = "must be a fraction from 0 to 1";
            Err(FigureError::value(
                FIGURE,
                record,
                metric::ACCURACY,
                problem,
            ))
        }
    }
}

/// One mark: all seeds of one series at one epsilon.
struct Mark {
    epsilon: f64,
    seeds: Vec<f64>,
    median: f64,
    range: Interval,
    delta: Option<f64>,
}

fn marks(series: &Series<'_>) -> Result<Vec<Mark>, FigureError> {
    // Positive floats order like their bits, infinity last.
    let mut groups: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in &series.records {
        if let Some(epsilon) = epsilon(record)? {
            groups.entry(epsilon.to_bits()).or_default().push(record);
        }
    }
    let mut marks = Vec::new();
    for (bits, records) in groups {
        series::one_per_seed(FIGURE, &series.name, &records)?;
        let seeds = records
            .iter()
            .map(|r| accuracy(r))
            .collect::<Result<Vec<_>, _>>()?;
        let stats = |source| FigureError::Stats {
            figure: FIGURE,
            source,
        };
        marks.push(Mark {
            epsilon: f64::from_bits(bits),
            median: stats::median(&seeds).map_err(stats)?,
            range: stats::range(&seeds).map_err(stats)?,
            delta: records[0].metrics.get(metric::DELTA).copied(),
            seeds,
        });
    }
    Ok(marks)
}

fn delta_part(record: &Record) -> BTreeMap<String, String> {
    let delta = record.metrics.get(metric::DELTA);
    let private = record.metrics.contains_key(metric::EPSILON);
    let part = |delta: &f64| ("delta".to_owned(), format!("delta {delta:e}"));
    delta.filter(|_| private).map(part).into_iter().collect()
}

/// The series of a picture. Runs without privacy have no delta; they join the private runs of
/// their engine as long as those have one delta in common.
fn all_series<'a>(records: &[&'a Record]) -> Vec<Series<'a>> {
    let deltas: std::collections::BTreeSet<_> = records
        .iter()
        .flat_map(|r| delta_part(r).into_values())
        .collect();
    let extra = if deltas.len() > 1 {
        delta_part
    } else {
        series::nothing_more
    };
    series::series(records, extra, &[label::PRIVATE])
}

fn draw(
    dataset: &str,
    records: &[&Record],
    claims: &Claims,
    options: &Options,
) -> Result<Figure, FigureError> {
    let all = all_series(records);
    let looks = palette::looks(&all.iter().map(|s| s.engine).collect::<Vec<_>>());
    let marks = all.iter().map(marks).collect::<Result<Vec<_>, _>>()?;
    let claims: Vec<&AccuracyClaim> = claims
        .accuracy
        .iter()
        .filter(|claim| claim.dataset == dataset)
        .collect();
    let published = published_marks(&claims);
    let mut legend: Vec<Entry> = Vec::new();
    for (series, look) in all.iter().zip(&looks) {
        let key = Key::Series {
            look: look.clone(),
            width: 2.0,
            marks: true,
        };
        legend.push(Entry {
            key,
            text: series.name.clone(),
        });
    }
    legend.extend(published.iter().map(|(text, marker)| Entry {
        key: Key::Hollow(*marker),
        text: text.clone(),
    }));
    let title = format!("Test accuracy against privacy loss on {dataset}");
    let title = series::title(FIGURE, &title, records, options)?;
    let (mut scene, room) = Frame {
        title,
        legend,
        caption: captions(dataset, records, &marks, &claims),
    }
    .lay_out(300.0);
    let panel = axes(&mut scene, room, &marks, &claims);
    let mut points = Points::new(&[
        "kind",
        "series",
        "epsilon",
        "accuracy_percent",
        "low_percent",
        "high_percent",
        "seeds",
        "delta",
        "source",
    ]);
    for (((series, look), marks), index) in all.iter().zip(&looks).zip(&marks).zip(0..) {
        draw_series(&mut scene, &panel, look, marks, aside(index, all.len()));
        marks
            .iter()
            .for_each(|mark| rows(&mut points, &series.name, mark));
    }
    for claim in &claims {
        let marker = published
            .iter()
            .find(|(text, _)| *text == claim_name(claim));
        let at = (
            panel.x.place(claim.epsilon),
            panel.y.place(100.0 * claim.accuracy),
        );
        scene.hollow(
            at,
            marker.map_or(Marker::Diamond, |(_, m)| *m),
            palette::GREY,
        );
        points.row(&claim_row(claim));
    }
    Ok(Figure {
        kind: FIGURE,
        subject: dataset.into(),
        scene,
        points,
    })
}

fn axes(scene: &mut Scene, room: Area, marks: &[Vec<Mark>], claims: &[&AccuracyClaim]) -> Panel {
    let all = || marks.iter().flatten();
    let finite = all().map(|m| m.epsilon).filter(|e| e.is_finite());
    let x = Axis::logarithmic(finite.chain(claims.iter().map(|c| c.epsilon)));
    let ours = all().flat_map(|m| [m.range.low, m.range.high]);
    let shown: Vec<f64> = ours
        .chain(claims.iter().map(|c| 100.0 * c.accuracy))
        .collect();
    let y = Axis::linear(with_margin(&shown), 6);
    let unbounded = all().any(|m| m.epsilon.is_infinite());
    let ends = (
        ASIDE + 8.0,
        if unbounded {
            INFINITY_ROOM
        } else {
            ASIDE + 8.0
        },
    );
    let x_label = "privacy loss epsilon (logarithmic; infinity: not private)";
    let x_label = if unbounded {
        x_label
    } else {
        "privacy loss epsilon (logarithmic)"
    };
    let axes = Axes {
        x,
        x_label,
        y,
        y_label: "test accuracy, %",
        ends,
        gutter: 0.0,
    };
    let panel = Panel::draw(scene, room, axes);
    if unbounded {
        let x = infinity(&panel);
        panel.x_tick(scene, x, "\u{221e}", 15.0);
        let area = panel.area;
        // Two strokes across the axis say that the scale is interrupted here.
        for shift in [-3.0, 3.0] {
            let middle = area.right - INFINITY_ROOM * 0.72 + shift;
            let ends = [
                (middle - 3.0, area.bottom + 5.0),
                (middle + 3.0, area.bottom - 5.0),
            ];
            scene.path(ends.to_vec(), palette::INK, 1.0);
        }
    }
    panel
}

/// The values with one more below and one above, within 0 to 100, so that no mark sits on a frame.
fn with_margin(values: &[f64]) -> Vec<f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let margin = (0.04 * (high - low)).max(0.2);
    let ends = [(low - margin).max(0.0), (high + margin).min(100.0)];
    values.iter().copied().chain(ends).collect()
}

fn infinity(panel: &Panel) -> f64 {
    panel.area.right - 0.35 * INFINITY_ROOM
}

/// How far the marks of a series stand beside their epsilon, so that series do not hide each other.
fn aside(index: u32, series: usize) -> f64 {
    let step = (2.0 * ASIDE / series as f64).min(10.0);
    step * (f64::from(index) - (series as f64 - 1.0) / 2.0)
}

fn draw_series(scene: &mut Scene, panel: &Panel, look: &Look, marks: &[Mark], aside: f64) {
    let x = |mark: &Mark| {
        let finite = mark.epsilon.is_finite();
        aside
            + if finite {
                panel.x.place(mark.epsilon)
            } else {
                infinity(panel)
            }
    };
    let at = |mark: &Mark| -> Point { (x(mark), panel.y.place(mark.median)) };
    let line: Vec<Point> = marks
        .iter()
        .filter(|m| m.epsilon.is_finite())
        .map(at)
        .collect();
    scene.series_line(&line, look, 2.0);
    for mark in marks {
        let (low, high) = (
            panel.y.place(mark.range.low),
            panel.y.place(mark.range.high),
        );
        if mark.seeds.len() > 1 {
            scene.path(vec![(x(mark), low), (x(mark), high)], look.colour, 1.5);
            for y in [low, high] {
                scene.path(
                    vec![(x(mark) - 3.0, y), (x(mark) + 3.0, y)],
                    look.colour,
                    1.5,
                );
            }
            for seed in &mark.seeds {
                let dot = Marker::Circle.outline((x(mark) + 6.0, panel.y.place(*seed)), 1.7);
                scene.polygon(dot, look.colour, 0.6);
            }
        }
        scene.marker(at(mark), look.marker, look.colour);
    }
}

fn captions(
    dataset: &str,
    records: &[&Record],
    marks: &[Vec<Mark>],
    claims: &[&AccuracyClaim],
) -> Vec<String> {
    let counts = || marks.iter().flatten().map(|m| m.seeds.len());
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let seeds = if fewest == most {
        format!("{most}")
    } else {
        format!("{fewest} to {most}")
    };
    let mut text = format!("Marks: median of {seeds} seeds; bars: worst to best; dots: seeds.");
    if most == 1 {
        text = "Marks: one seed each.".into();
    }
    if marks.len() > 1 {
        text.push_str(" Series stand side by side.");
    }
    if !claims.is_empty() {
        text.push_str(" Hollow: published, not measured here.");
    }
    vec![caption::facts(dataset, records), text]
}

fn claim_name(claim: &AccuracyClaim) -> String {
    format!("{}, {}", claim.label, claim.source)
}

/// Each published work once, with its marker.
fn published_marks(claims: &[&AccuracyClaim]) -> Vec<(String, Marker)> {
    let mut names: Vec<String> = Vec::new();
    for claim in claims {
        let name = claim_name(claim);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
        .into_iter()
        .zip(0..)
        .map(|(name, i)| (name, Marker::nth(i)))
        .collect()
}

fn claim_row(claim: &AccuracyClaim) -> Vec<Cell> {
    let accuracy = 100.0 * claim.accuracy;
    vec![
        "published".into(),
        claim.label.as_str().into(),
        claim.epsilon.into(),
        accuracy.into(),
        "".into(),
        "".into(),
        "".into(),
        claim.delta.into(),
        format!("{}: {}", claim.source, claim.citation)
            .as_str()
            .into(),
    ]
}

fn rows(points: &mut Points, name: &str, mark: &Mark) {
    let delta = || mark.delta.filter(|_| mark.epsilon.is_finite());
    let delta = || delta().map_or_else(|| "".into(), Cell::from);
    points.row(&[
        "median".into(),
        name.into(),
        mark.epsilon.into(),
        mark.median.into(),
        mark.range.low.into(),
        mark.range.high.into(),
        mark.seeds.len().into(),
        delta(),
    ]);
    if mark.seeds.len() > 1 {
        for seed in &mark.seeds {
            let empty = || "".into();
            let one = 1_usize.into();
            let cells = [
                "seed".into(),
                name.into(),
                mark.epsilon.into(),
                (*seed).into(),
                empty(),
                empty(),
                one,
                delta(),
            ];
            points.row(&cells);
        }
    }
}
