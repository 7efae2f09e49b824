//! How long one online inference takes: the whole distribution, not its mean.
//!
//! **Where it sits.** One of the [`figures`](super); reads the samples
//! [`sample::ONLINE_LATENCY_S`].
//!
//! **What must be true.** The curve is the empirical distribution function of all samples of a
//! series, over its trials and seeds: at height p lies the latency that a fraction p of the
//! requests did not exceed. Milliseconds are logarithmic. The 50th and 99th percentiles are type 7
//! quantiles of the same samples. A published latency is a hollow marker on the axis, because the
//! statistic behind it was not stated.
//!
//! ```
//! use sphinx_figures::figures::latency;
//! use sphinx_figures::record::{Record, sample};
//!
//! let run = Record::new("doc", "t", "shared", "mlp", "synth-digits", 1)
//!     .with_samples(sample::ONLINE_LATENCY_S, vec![0.002, 0.003, 0.0025, 0.02]);
//! let out = tempfile::tempdir()?;
//! let written = latency::render(&[run], out.path())?;
//! let csv = std::fs::read_to_string(&written[2])?;
//! assert!(csv.contains("p50,shared,2.75,50,4"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::points::Points;
use super::series::{self, Series};
use super::{Figure, FigureError, Options, caption};
use crate::claims::{self, Claims, LatencyClaim};
use crate::plot::axis::Axis;
use crate::plot::frame::{Axes, Entry, Frame, Key, Panel};
use crate::plot::palette::{self, Look, Marker};
use crate::plot::{Point, Scene};
use crate::record::{Record, sample};
use crate::stats;

const FIGURE: &str = "latency";
const NEEDS: &str = "the samples `online_latency_s`";
const P50: Marker = Marker::Circle;
const P99: Marker = Marker::Triangle;

/// A curve is drawn through at most this many of its steps, evenly chosen, ends included.
const STEPS: usize = 1000;

render_functions!();

pub(crate) fn build(records: &[Record], options: &Options) -> Result<Vec<Figure>, FigureError> {
    let claims = claims::published()?;
    super::by_dataset((FIGURE, NEEDS), records, drawable, |dataset, set| {
        draw(dataset, set, &claims, options)
    })
}

fn drawable(record: &Record) -> Result<bool, FigureError> {
    let samples = record.samples.get(sample::ONLINE_LATENCY_S);
    Ok(samples.is_some_and(|s| !s.is_empty()))
}

/// The distribution of one series.
struct Curve {
    count: usize,
    /// Latency in ms and the fraction of requests, in percent, that did not exceed it.
    steps: Vec<(f64, f64)>,
    p50: f64,
    p99: f64,
}

fn curve(series: &Series<'_>) -> Result<Curve, FigureError> {
    let mut all = Vec::new();
    for record in &series.records {
        let samples = record
            .samples
            .get(sample::ONLINE_LATENCY_S)
            .into_iter()
            .flatten();
        for seconds in samples {
            if *seconds <= 0.0 {
                let problem = "must be above zero to stand on a logarithmic axis";
                return Err(FigureError::value(
                    FIGURE,
                    record,
                    sample::ONLINE_LATENCY_S,
                    problem,
                ));
            }
            all.push(1e3 * seconds);
        }
    }
    all.sort_by(f64::total_cmp);
    let quantile = |p| {
        stats::quantile(&all, p).map_err(|source| FigureError::Stats {
            figure: FIGURE,
            source,
        })
    };
    let (p50, p99) = (quantile(0.5)?, quantile(0.99)?);
    let count = all.len();
    let kept = count.min(STEPS);
    let index = |i: usize| {
        if kept == 1 {
            0
        } else {
            i * (count - 1) / (kept - 1)
        }
    };
    let step = |i: usize| (all[index(i)], 100.0 * (index(i) + 1) as f64 / count as f64);
    Ok(Curve {
        count,
        steps: (0..kept).map(step).collect(),
        p50,
        p99,
    })
}

fn draw(
    dataset: &str,
    records: &[&Record],
    claims: &Claims,
    options: &Options,
) -> Result<Figure, FigureError> {
    let all = series::series(records, series::nothing_more, &[]);
    let looks = palette::looks(&all.iter().map(|s| s.engine).collect::<Vec<_>>());
    let curves = all.iter().map(curve).collect::<Result<Vec<_>, _>>()?;
    let claims: Vec<&LatencyClaim> = claims
        .latency
        .iter()
        .filter(|claim| claim.dataset == dataset)
        .collect();
    let title = format!("Online inference latency on {dataset}");
    let title = series::title(FIGURE, &title, records, options)?;
    let mut about = format!(
        "Curves: fraction of requests answered within a time, all samples of {} trials.",
        records.len()
    );
    if curves.iter().any(|curve| curve.count < 100) {
        about.push_str(" With fewer than 100 samples p99 is little more than the slowest.");
    }
    if !claims.is_empty() {
        about.push_str(
            " Hollow on the axis: published by others for their own networks on their own machines \
             and links, statistic not stated; no comparison of protocols.",
        );
    }
    let legend = legend(&all, &looks, &curves, &claims);
    let frame = Frame {
        title,
        legend,
        caption: vec![caption::facts(dataset, records), about],
    };
    let (mut scene, room) = frame.lay_out(280.0);
    let ends = curves
        .iter()
        .flat_map(|c| c.steps.iter().map(|s| s.0).chain([c.p50, c.p99]));
    let x = Axis::logarithmic(ends.chain(claims.iter().map(|c| 1e3 * c.seconds)));
    let y = Axis::linear([0.0, 100.0], 5);
    let x_label = "online latency of one request, ms (logarithmic)";
    let axes = Axes {
        x,
        x_label,
        y,
        y_label: "requests answered, %",
        ends: (0.0, 0.0),
        gutter: 0.0,
    };
    let panel = Panel::draw(&mut scene, room, axes);
    let mut points = Points::new(&[
        "kind",
        "series",
        "latency_ms",
        "percent",
        "samples",
        "source",
    ]);
    for ((series, look), curve) in all.iter().zip(&looks).zip(&curves) {
        draw_curve(&mut scene, &panel, look, curve);
        rows(&mut points, &series.name, curve);
    }
    for (claim, index) in claims.iter().zip(0..) {
        let at = (panel.x.place(1e3 * claim.seconds), panel.area.bottom);
        scene.hollow(at, Marker::nth(index), palette::GREY);
        let source = format!("{}: {}", claim.source, claim.citation);
        let (label, ms) = (claim.label.as_str().into(), (1e3 * claim.seconds).into());
        points.row(&[
            "published".into(),
            label,
            ms,
            "".into(),
            "".into(),
            source.as_str().into(),
        ]);
    }
    Ok(Figure {
        kind: FIGURE,
        subject: dataset.into(),
        scene,
        points,
    })
}

fn legend(
    all: &[Series<'_>],
    looks: &[Look],
    curves: &[Curve],
    claims: &[&LatencyClaim],
) -> Vec<Entry> {
    let mut legend = Vec::new();
    for ((series, look), curve) in all.iter().zip(looks).zip(curves) {
        let text = format!(
            "{} (p50 {} ms, p99 {} ms, n = {})",
            series.name,
            short(curve.p50),
            short(curve.p99),
            curve.count
        );
        let key = Key::Series {
            look: look.clone(),
            width: 2.0,
            marks: false,
        };
        legend.push(Entry { key, text });
    }
    legend.push(Entry {
        key: Key::Mark(P50),
        text: "p50".into(),
    });
    legend.push(Entry {
        key: Key::Mark(P99),
        text: "p99".into(),
    });
    for (claim, index) in claims.iter().zip(0..) {
        let text = format!(
            "{}, {}: {} ms",
            claim.label,
            claim.source,
            short(1e3 * claim.seconds)
        );
        legend.push(Entry {
            key: Key::Hollow(Marker::nth(index)),
            text,
        });
    }
    legend
}

/// Three significant digits.
pub(crate) fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor() as i32;
    match 2 - magnitude {
        decimals @ 0..=5 => format!("{value:.prec$}", prec = decimals as usize),
        ..=-1 if magnitude < 6 => format!("{value:.0}"),
        _ => format!("{value:.2e}"),
    }
}

fn draw_curve(scene: &mut Scene, panel: &Panel, look: &Look, curve: &Curve) {
    let mut line: Vec<Point> = Vec::with_capacity(2 * curve.steps.len() + 2);
    let mut y = panel.area.bottom;
    for (ms, percent) in &curve.steps {
        let x = panel.x.place(*ms);
        line.push((x, y));
        y = panel.y.place(*percent);
        line.push((x, y));
    }

    scene.series_line(&line, look, 2.0);
    for (marker, ms, percent) in [(P50, curve.p50, 50.0), (P99, curve.p99, 99.0)] {
        scene.open_marker(
            (panel.x.place(ms), panel.y.place(percent)),
            marker,
            look.colour,
        );
    }
}

fn rows(points: &mut Points, name: &str, curve: &Curve) {
    for (kind, ms, percent) in [("p50", curve.p50, 50.0), ("p99", curve.p99, 99.0)] {
        points.row(&[
            kind.into(),
            name.into(),
            ms.into(),
            percent.into(),
            curve.count.into(),
        ]);
    }
    for (ms, percent) in &curve.steps {
        let (ms, percent) = ((*ms).into(), (*percent).into());
        points.row(&["ecdf".into(), name.into(), ms, percent, curve.count.into()]);
    }
}
