//! Where the time of a training step goes, phase by phase and engine by engine.
//!
//! **Where it sits.** One of the [`figures`](super); reads every sample series called
//! `phase.<name>_s`, seconds per step.
//!
//! **What must be true.** A bar is the median over all samples of a series, over its trials and
//! seeds; its whisker is the 95 % percentile bootstrap interval of that median (1000 resamples, a
//! fixed seed). Bars start at zero on an even scale, and each carries its value, so that a bar too
//! short to see can still be read.
//!
//! ```
//! use sphinx_figures::figures::time_per_phase;
//! use sphinx_figures::record::Record;
//!
//! let run = Record::new("doc", "t", "packed", "mlp", "synth-digits", 1)
//!     .with_samples("phase.forward_s", vec![0.2, 0.3, 0.25])
//!     .with_samples("phase.encrypt_s", vec![0.05, 0.05, 0.06]);
//! let out = tempfile::tempdir()?;
//! let written = time_per_phase::render(&[run], out.path())?;
//! let csv = std::fs::read_to_string(&written[2])?;
//! assert!(csv.starts_with("phase,series,median_s,low_s,high_s,samples\nencrypt,packed,0.05,"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::latency::short;
use super::points::Points;
use super::series::{self, Series};
use super::{Figure, FigureError, Options, caption};
use crate::plot::axis::{Axis, Tick};
use crate::plot::frame::{Entry, Frame, Key};
use crate::plot::palette::{self, Colour};
use crate::plot::{Anchor, Area, Scene, text};
use crate::record::{Record, sample};
use crate::stats::{self, Interval};
use std::collections::BTreeSet;

const FIGURE: &str = "time_per_phase";
const NEEDS: &str = "samples called `phase.<name>_s`";

/// The phases of a step in their order; others follow in alphabetical order.
const ORDER: [&str; 11] = [
    "encrypt", "upload", "forward", "decrypt", "backward", "gradient", "collect", "release",
    "apply", "update", "rest",
];

const CONFIDENCE: f64 = 0.95;
const RESAMPLES: usize = 1000;
const BOOTSTRAP_SEED: u64 = 0x5350_4849_4e58;

render_functions!();

pub(crate) fn build(records: &[Record], options: &Options) -> Result<Vec<Figure>, FigureError> {
    super::by_dataset((FIGURE, NEEDS), records, drawable, |dataset, set| {
        draw(dataset, set, options)
    })
}

fn drawable(record: &Record) -> Result<bool, FigureError> {
    Ok(phases(record).next().is_some())
}

/// The phases of a record that have samples, with the name of their series.
fn phases(record: &Record) -> impl Iterator<Item = (&str, &String)> {
    record
        .samples
        .iter()
        .filter(|(_, samples)| !samples.is_empty())
        .filter_map(|(name, _)| {
            let phase = name.strip_prefix(sample::PHASE_PREFIX)?;
            Some((phase.strip_suffix(sample::SECONDS_SUFFIX)?, name))
        })
}

fn in_order(records: &[&Record]) -> Vec<String> {
    let found: BTreeSet<&str> = records
        .iter()
        .flat_map(|r| phases(r).map(|(phase, _)| phase))
        .collect();
    let rank = |phase: &str| {
        ORDER
            .iter()
            .position(|p| *p == phase)
            .unwrap_or(ORDER.len())
    };
    let mut order: Vec<String> = found.into_iter().map(str::to_owned).collect();
    order.sort_by_key(|phase| rank(phase));
    order
}

/// One bar.
struct Bar {
    median: f64,
    interval: Interval,
    samples: usize,
}

fn bar(series: &Series<'_>, phase: &str) -> Result<Option<Bar>, FigureError> {
    let mut all = Vec::new();
    for record in &series.records {
        for (_, name) in phases(record).filter(|(found, _)| *found == phase) {
            let samples = record.samples.get(name).map_or(&[][..], Vec::as_slice);
            if samples.iter().any(|seconds| *seconds < 0.0) {
                let problem = "must not be below zero seconds";
                return Err(FigureError::value(FIGURE, record, name, problem));
            }
            all.extend_from_slice(samples);
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    let stats = |source| FigureError::Stats {
        figure: FIGURE,
        source,
    };
    let interval = stats::bootstrap(&all, stats::median, CONFIDENCE, RESAMPLES, BOOTSTRAP_SEED);
    let (median, interval) = (
        stats::median(&all).map_err(stats)?,
        interval.map_err(stats)?,
    );
    Ok(Some(Bar {
        median,
        interval,
        samples: all.len(),
    }))
}

fn draw(dataset: &str, records: &[&Record], options: &Options) -> Result<Figure, FigureError> {
    let all = series::series(records, series::nothing_more, &[]);
    let looks = palette::looks(&all.iter().map(|s| s.engine).collect::<Vec<_>>());
    let mut groups = Vec::new();
    for phase in in_order(records) {
        let bars = all
            .iter()
            .map(|s| bar(s, &phase))
            .collect::<Result<Vec<_>, _>>()?;
        groups.push((phase, bars));
    }
    let title = format!("Time per phase of a training step on {dataset}");
    let title = series::title(FIGURE, &title, records, options)?;
    let legend = all.iter().zip(&looks).map(|(series, look)| Entry {
        key: Key::Box(look.colour),
        text: series.name.clone(),
    });
    let counts = || {
        groups
            .iter()
            .flat_map(|(_, bars)| bars.iter().flatten().map(|b| b.samples))
    };
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let steps = if fewest == most {
        format!("{most}")
    } else {
        format!("{fewest} to {most}")
    };
    let about = format!(
        "Bars: median of {steps} samples; whiskers: 95 % bootstrap interval of the median."
    );
    let caption = vec![caption::facts(dataset, records), about];
    let frame = Frame {
        title,
        legend: legend.collect(),
        caption,
    };
    let slots = groups
        .iter()
        .map(|(_, bars)| bars.iter().flatten().count() as f64);
    let needed = slots.map(|bars| bars * BAR + GAP).sum::<f64>() + AXIS;
    let (mut scene, room) = frame.lay_out(needed.max(200.0));
    let colours: Vec<Colour> = looks.iter().map(|look| look.colour).collect();
    draw_groups(&mut scene, room, &groups, &colours);
    let mut points = Points::new(&["phase", "series", "median_s", "low_s", "high_s", "samples"]);
    for (phase, bars) in &groups {
        for (series, bar) in all.iter().zip(bars) {
            if let Some(Bar {
                median,
                interval,
                samples,
            }) = bar
            {
                let (low, high) = (interval.low.into(), interval.high.into());
                let (phase, name) = (phase.as_str().into(), series.name.as_str().into());
                points.row(&[phase, name, (*median).into(), low, high, (*samples).into()]);
            }
        }
    }
    Ok(Figure {
        kind: FIGURE,
        subject: dataset.into(),
        scene,
        points,
    })
}

/// Least height of one bar with its value, and of the gap between phases.
const BAR: f64 = 13.0;
const GAP: f64 = 8.0;
/// Room for the axis below the bars.
const AXIS: f64 = 48.0;
const LABEL: f64 = 12.5;
const VALUE: f64 = 11.0;
/// Room to the right of the longest bar for its value.
const VALUE_ROOM: f64 = 74.0;

/// Bars from the top to the bottom of a room, phases named on the left.
fn draw_groups(
    scene: &mut Scene,
    room: Area,
    groups: &[(String, Vec<Option<Bar>>)],
    colours: &[Colour],
) {
    let names: Vec<String> = groups
        .iter()
        .map(|(phase, _)| text::fit(&phase.replace('_', " "), LABEL, 150.0))
        .collect();
    let widest = names
        .iter()
        .map(|n| text::width(n, LABEL, false))
        .fold(0.0, f64::max);
    let area = Area {
        left: room.left + widest + 12.0,
        top: room.top + 2.0,
        right: room.right - VALUE_ROOM,
        bottom: room.bottom - AXIS + 4.0,
    };
    let bars = || groups.iter().flat_map(|(_, bars)| bars.iter().flatten());
    let longest = bars().map(|bar| bar.interval.high.max(bar.median));
    let axis = Axis::linear(longest.chain([0.0]), 6).between(area.left, area.right);
    time_axis(scene, area, &axis);
    let gaps = GAP * groups.len() as f64;
    let height = ((area.height() - gaps) / bars().count().max(1) as f64).min(34.0);
    let used = height * bars().count() as f64 + gaps;
    let mut y = area.top + (area.height() - used) / 2.0 + GAP / 2.0;
    for ((_, bars), name) in groups.iter().zip(&names) {
        let here = bars.iter().flatten().count() as f64 * height;
        let label = (area.left - 8.0, y + here / 2.0);
        scene.text(name, label, LABEL, Anchor::End, palette::INK);
        for (bar, colour) in bars.iter().zip(colours) {
            if let Some(bar) = bar {
                draw_bar(scene, &axis, bar, *colour, (y, height));
                y += height;
            }
        }
        y += GAP;
    }
    let foot = vec![(area.left, area.top), (area.left, area.bottom)];
    scene.path(foot, palette::INK, 1.0);
}

fn time_axis(scene: &mut Scene, area: Area, axis: &Axis) {
    let mut free_from = f64::NEG_INFINITY;
    for Tick { value, label } in axis.ticks.iter().filter(|t| t.value >= 0.0) {
        let x = axis.place(*value);
        scene.path(vec![(x, area.top), (x, area.bottom)], palette::GRID, 1.0);
        scene.path(
            vec![(x, area.bottom), (x, area.bottom + 4.0)],
            palette::INK,
            1.0,
        );
        let half = text::width(label, 12.0, false) / 2.0;
        if x - half >= free_from {
            let at = (x, area.bottom + 15.0);
            scene.text(label, at, 12.0, Anchor::Middle, palette::INK);
            free_from = x + half + 8.0;
        }
    }
    scene.path(
        vec![(area.left, area.bottom), (area.right, area.bottom)],
        palette::INK,
        1.0,
    );
    let middle = (f64::midpoint(area.left, area.right), area.bottom + 36.0);
    scene.text(
        "median time per step, s",
        middle,
        12.0,
        Anchor::Middle,
        palette::INK,
    );
}

fn draw_bar(scene: &mut Scene, axis: &Axis, bar: &Bar, colour: Colour, (y, height): (f64, f64)) {
    let (zero, end) = (axis.place(0.0), axis.place(bar.median));
    let (top, bottom) = (y + 1.0, y + height - 1.0);
    let middle = f64::midpoint(top, bottom);
    scene.rectangle(
        Area {
            left: zero,
            top,
            right: end,
            bottom,
        },
        colour,
        1.0,
    );
    let (low, high) = (axis.place(bar.interval.low), axis.place(bar.interval.high));
    if high - low > 1.0 {
        scene.path(vec![(low, middle), (high, middle)], palette::INK, 1.5);
        for x in [low, high] {
            scene.path(
                vec![(x, middle - 3.0), (x, middle + 3.0)],
                palette::INK,
                1.5,
            );
        }
    }
    let (at, value) = ((high.max(end) + 5.0, middle), in_units(bar.median));
    // Grid lines end where a value is written.
    let right = at.0 + text::width(&value, VALUE, false) + 2.0;
    let behind = Area {
        left: at.0 - 2.0,
        top: middle - 6.0,
        right,
        bottom: middle + 6.0,
    };
    scene.rectangle(behind, palette::WHITE, 1.0);
    scene.text(&value, at, VALUE, Anchor::Start, palette::INK);
}

/// Seconds in the unit that suits them, three significant digits.
fn in_units(seconds: f64) -> String {
    match seconds {
        0.0 => "0 s".into(),
        s if s < 1e-3 => format!("{} \u{b5}s", short(1e6 * s)),
        s if s < 1.0 => format!("{} ms", short(1e3 * s)),
        s => format!("{} s", short(s)),
    }
}
