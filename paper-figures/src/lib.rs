//! From experiment records to figures.
//!
//! **What it is.** The only schema of experiment records ([`record`]), the reader of run
//! directories ([`load`]), the statistics that figures quote ([`stats`]), the published numbers
//! that stand beside ours ([`claims`]), tables over seeds ([`summary`]) and the figures themselves
//! ([`figures`]).
//!
//! **Where it sits.** A leaf: it knows no other crate of the workspace. The experiment runner
//! writes records through it and renders figures from them.
//!
//! **What must be true.** A figure is a function of its records: the same records, in any order,
//! give the same bytes of SVG, PNG and CSV on every machine; no number in a figure is typed by
//! hand, and the CSV beside each picture holds exactly what is drawn in it.
//!
//! **Where it is from.** The palette is Okabe and Ito's, the typeface Noto Sans, the drawing
//! backends those of plotters; sources of the statistics stand in [`stats`].
//!
//! ```
//! use sphinx_figures::figures;
//! use sphinx_figures::record::{Record, metric};
//!
//! let records: Vec<Record> = [(0.5, 0.90), (2.0, 0.95)]
//!     .map(|(epsilon, accuracy)| {
//!         Record::new("doc", format!("eps {epsilon}"), "packed", "mlp", "synth-digits", 1)
//!             .with_metric(metric::EPSILON, epsilon)
//!             .with_metric(metric::DELTA, 1e-5)
//!             .with_metric(metric::ACCURACY, accuracy)
//!     })
//!     .into();
//! let out = tempfile::tempdir()?;
//! let written = figures::render_all(&records, out.path())?;
//! let names: Vec<_> = written.iter().filter_map(|p| p.file_name()?.to_str()).collect();
//! assert_eq!(names, [
//!     "accuracy_vs_epsilon-synth-digits.svg",
//!     "accuracy_vs_epsilon-synth-digits.png",
//!     "accuracy_vs_epsilon-synth-digits.csv",
//! ]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod claims;
pub mod figures;
pub mod load;
mod plot;
pub mod record;
pub mod stats;
pub mod summary;
