//! The figures, one module each, and what they share: selection, captions, files.
//!
//! **Where it sits.** Last in the chain definition -> trials -> figure. [`render_all`] draws every
//! figure for which there are records; each module's `render` draws one kind.
//!
//! **What must be true.** One picture shows one data set, so files are called
//! `<figure>-<dataset>.svg`, `.png` and `.csv`; curves of training show one network as well,
//! `training_curve-<dataset>-<network>`. The CSV holds exactly the points drawn. Records of
//! insecure test parameters never stand beside secure ones unless the title says
//! `toy parameters` ([`Options::note`]).
//!
//! ```
//! use sphinx_figures::figures::{self, FigureError, latency};
//! use sphinx_figures::record::{Record, sample};
//!
//! let record = Record::new("doc", "t", "shared", "mlp", "synth-digits", 1)
//!     .with_samples(sample::ONLINE_LATENCY_S, vec![0.011, 0.010, 0.014]);
//! let out = tempfile::tempdir()?;
//! assert_eq!(latency::render(&[record.clone()], out.path())?.len(), 3);
//!
//! // Toy records alone are drawn under a title that says so; beside secure ones they are refused.
//! let secure = Record { trial: "u".into(), ..record.clone() }.with_security("classical-128");
//! let toy = record.with_security("toy");
//! let refused = latency::render(&[toy, secure], out.path());
//! assert!(matches!(refused, Err(FigureError::MixedSecurity { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::claims::ClaimsError;
use crate::plot::Scene;
use crate::plot::render;
use crate::record::Record;
use crate::stats::StatsError;

/// `render` and `render_with` of a figure, which draw what its `build` gives.
macro_rules! render_functions {
    () => {
        /// Draws the figure once per data set; returns SVG, PNG and CSV of each.
        ///
        /// # Errors
        /// [`FigureError`], [`NothingToDraw`](FigureError::NothingToDraw) if no record belongs here.
        pub fn render(
            records: &[Record],
            out_dir: &std::path::Path,
        ) -> Result<Vec<std::path::PathBuf>, FigureError> {
            render_with(records, out_dir, &Options::default())
        }

        /// As [`render`], with choices.
        ///
        /// # Errors
        /// As [`render`].
        pub fn render_with(
            records: &[Record],
            out_dir: &std::path::Path,
            options: &Options,
        ) -> Result<Vec<std::path::PathBuf>, FigureError> {
            super::write(&build(records, options)?, out_dir)
        }
    };
}

pub mod accuracy_vs_epsilon;
mod caption;
pub mod epsilon_over_steps;
pub mod latency;
pub mod outsourcing;
mod points;
pub(crate) mod series;
pub mod time_per_phase;
pub mod training_curve;

use points::Points;

/// The words that a title must hold before it may show insecure parameters beside secure ones.
pub const TOY_NOTE: &str = "toy parameters";

/// What a caller may choose about the figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Added to every title; must contain [`TOY_NOTE`] where toy and secure records are mixed.
    pub note: Option<String>,
}

/// Why a figure could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// No record has what the figure shows.
    #[error("{figure}: no record has {needs}")]
    NothingToDraw {
        /// The figure.
        figure: &'static str,
        /// What a record needs to appear in it.
        needs: &'static str,
    },
    /// A value of a record cannot be placed in the figure.
    #[error("{figure}: trial `{trial}`, seed {seed}: `{name}` {problem}")]
    Value {
        /// The figure.
        figure: &'static str,
        /// The trial.
        trial: String,
        /// Its seed.
        seed: u64,
        /// The metric, label or sample series.
        name: String,
        /// What is wrong and what is expected.
        problem: &'static str,
    },
    /// Records of toy parameters stand beside records of secure ones.
    #[error(
        "{figure}: trial `{toy}` has toy security and trial `{other}` has `{security}`: draw them \
         apart, or add a note to the title that says \"{TOY_NOTE}\""
    )]
    MixedSecurity {
        /// The figure.
        figure: &'static str,
        /// A trial with toy parameters.
        toy: String,
        /// A trial with other parameters.
        other: String,
        /// The other trial's security.
        security: String,
    },
    /// Two trials with one seed would be averaged into one mark as if they were repetitions.
    #[error(
        "{figure}: trials `{first}` and `{second}` of series `{series}` share seed {seed}: they \
         are different configurations, so give each a label that tells them apart"
    )]
    Ambiguous {
        /// The figure.
        figure: &'static str,
        /// The series.
        series: String,
        /// The seed that both have.
        seed: u64,
        /// One trial.
        first: String,
        /// The other trial.
        second: String,
    },
    /// A statistic has no value.
    #[error("{figure}: {source}")]
    Stats {
        /// The figure.
        figure: &'static str,
        /// Why.
        source: StatsError,
    },
    /// The published numbers cannot be read.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// The file system refused.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A drawing backend refused.
    #[error("cannot draw {}: {source}", path.display())]
    Draw {
        /// The file.
        path: PathBuf,
        /// The backend's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl FigureError {
    fn value(figure: &'static str, record: &Record, name: &str, problem: &'static str) -> Self {
        let (trial, seed) = (record.trial.clone(), record.seed);
        Self::Value {
            figure,
            trial,
            seed,
            name: name.into(),
            problem,
        }
    }
}

/// One finished figure: the drawing and the points in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    kind: &'static str,
    /// What it shows, for the file's name: a data set, or a network on it.
    subject: String,
    pub(crate) scene: Scene,
    points: Points,
}

impl Figure {
    /// Writes SVG, PNG and CSV under `stem`; returns the three paths in that order.
    fn write(&self, directory: &Path, stem: &str) -> Result<[PathBuf; 3], FigureError> {
        let paths = ["svg", "png", "csv"].map(|end| directory.join(format!("{stem}.{end}")));
        let [svg, png, csv] = &paths;
        let draw = |path: &PathBuf| {
            let path = path.clone();
            move |source| FigureError::Draw { path, source }
        };
        save(svg, &render::svg(&self.scene).map_err(draw(svg))?)?;
        render::png(&self.scene, png).map_err(draw(png))?;
        save(csv, &self.points.to_csv())?;
        Ok(paths)
    }
}

fn save(path: &Path, text: &str) -> Result<(), FigureError> {
    fs::write(path, text).map_err(|source| FigureError::Io {
        path: path.into(),
        source,
    })
}

type Build = fn(&[Record], &Options) -> Result<Vec<Figure>, FigureError>;

/// Renders every figure for which there are records into `out_dir`, which is created.
///
/// Returns the files written: for each figure SVG, PNG and CSV. Records that belong to no figure
/// are passed over; no record at all gives an empty list.
///
/// # Errors
/// [`FigureError`] at the first figure that has records but cannot be drawn from them.
pub fn render_all(records: &[Record], out_dir: &Path) -> Result<Vec<PathBuf>, FigureError> {
    render_all_with(records, out_dir, &Options::default())
}

/// As [`render_all`], with choices.
///
/// # Errors
/// As [`render_all`].
pub fn render_all_with(
    records: &[Record],
    out_dir: &Path,
    options: &Options,
) -> Result<Vec<PathBuf>, FigureError> {
    let builds: [Build; 6] = [
        accuracy_vs_epsilon::build,
        training_curve::build,
        time_per_phase::build,
        latency::build,
        epsilon_over_steps::build,
        outsourcing::build,
    ];
    let mut figures = Vec::new();
    for build in builds {
        match build(records, options) {
            Ok(built) => figures.extend(built),
            Err(FigureError::NothingToDraw { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    write(&figures, out_dir)
}

/// Draws one figure per data set from the records that belong to it.
fn by_dataset<T>(
    (figure, needs): (&'static str, &'static str),
    records: &[Record],
    belongs: impl Fn(&Record) -> Result<bool, FigureError>,
    draw: impl Fn(&str, &[&Record]) -> Result<T, FigureError>,
) -> Result<Vec<T>, FigureError> {
    let mut shown = Vec::new();
    for record in records {
        if belongs(record)? {
            shown.push(record);
        }
    }
    if shown.is_empty() {
        return Err(FigureError::NothingToDraw { figure, needs });
    }
    let sets = series::by_dataset(shown);
    let drawn = sets.iter().map(|(dataset, set)| draw(dataset, set));
    drawn.collect()
}

/// Writes figures into a directory, which is created; each has a name of its own.
fn write(figures: &[Figure], directory: &Path) -> Result<Vec<PathBuf>, FigureError> {
    fs::create_dir_all(directory).map_err(|source| FigureError::Io {
        path: directory.into(),
        source,
    })?;
    let mut stems = BTreeSet::new();
    let mut written = Vec::new();
    for figure in figures {
        let plain = format!("{}-{}", figure.kind, file_name(&figure.subject));
        let mut stem = plain.clone();
        let mut number = 2;
        while !stems.insert(stem.clone()) {
            stem = format!("{plain}-{number}");
            number += 1;
        }
        written.extend(figure.write(directory, &stem)?);
    }
    Ok(written)
}

/// The name with everything but ASCII letters, digits, `.`, `_` and `-` replaced, so that a data
/// set's name cannot lead out of the directory.
fn file_name(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    name.chars().map(safe).collect()
}

#[cfg(test)]
mod tests;
