//! Everything around the data: title, legend, axes, grid and caption.
//!
//! **Where it sits.** A figure gives a [`Frame`]; [`Frame::lay_out`] writes title, legend and
//! caption into a scene and returns the room that is left; [`Panel`] draws axes into such a room.
//!
//! **What must be true.** No two texts overlap and none leaves the canvas, whatever the names are:
//! legend and caption wrap, labels that would touch a neighbour are left out (their tick stays),
//! and the scene grows in height rather than squeeze the plot.
//!
//! The name of the y axis stands above the axis, level, so that it is read without turning.

use super::axis::Axis;
use super::palette::{self, Colour, Look, Marker};
use super::{Anchor, Area, Scene, text};

/// Width of every figure.
pub(crate) const WIDTH: f64 = 800.0;
/// Height of a figure that needs no more.
pub(crate) const HEIGHT: f64 = 500.0;

const MARGIN: f64 = 20.0;
const TITLE_SIZE: f64 = 16.0;
const LEGEND_SIZE: f64 = 12.5;
const LABEL_SIZE: f64 = 12.0;
const CAPTION_SIZE: f64 = 11.0;
const KEY: f64 = 26.0;

/// One line of the legend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) text: String,
}

/// The sample beside the text of a legend entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    /// A line of a width, with the marker of the series where it has marks.
    Series { look: Look, width: f64, marks: bool },
    /// A filled box, for bars.
    Box(Colour),
    /// A hollow mark, for published figures.
    Hollow(Marker),
    /// A mark that is drawn in the colour of each series.
    Mark(Marker),
}

/// Title, legend and caption of one figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) legend: Vec<Entry>,
    pub(crate) caption: Vec<String>,
}

impl Frame {
    /// A scene with title, legend and caption, and the room left for the plot, which is at least
    /// `least` high.
    pub(crate) fn lay_out(&self, least: f64) -> (Scene, Area) {
        let mut scene = Scene::new(WIDTH, HEIGHT);
        let room = WIDTH - 2.0 * MARGIN;
        let mut y = 26.0;
        // Bold is wider than what `wrap` measures, by less than a tenth.
        for line in text::wrap(&self.title, TITLE_SIZE, 0.9 * room) {
            scene.title(&line, (MARGIN, y), TITLE_SIZE);
            y += 22.0;
        }
        let top = self.legend(&mut scene, y + 2.0) + 8.0;
        let lines: Vec<String> = self
            .caption
            .iter()
            .flat_map(|paragraph| text::wrap(paragraph, CAPTION_SIZE, 0.93 * room))
            .collect();
        let foot = 16.0 * lines.len() as f64 + 18.0;
        scene.height = HEIGHT.max((top + least + foot).ceil());
        let bottom = scene.height - foot;
        for (line, i) in lines.iter().zip(1..) {
            let at = (MARGIN, bottom + 16.0 * f64::from(i) - 4.0);
            scene.text(line, at, CAPTION_SIZE, Anchor::Start, palette::GREY);
        }
        (
            scene,
            Area {
                left: MARGIN,
                top,
                right: WIDTH - MARGIN,
                bottom,
            },
        )
    }

    /// Draws the legend in rows from `y` on; returns the y below it.
    fn legend(&self, scene: &mut Scene, y: f64) -> f64 {
        let (mut x, mut y) = (MARGIN, y);
        let room = WIDTH - 2.0 * MARGIN;
        for entry in &self.legend {
            let label = text::fit(&entry.text, LEGEND_SIZE, 0.92 * room - KEY);
            // A viewer's own typeface may be somewhat wider than ours.
            let width = KEY + 1.06 * text::width(&label, LEGEND_SIZE, false) + 18.0;
            if x > MARGIN && x + width > WIDTH - MARGIN {
                (x, y) = (MARGIN, y + 19.0);
            }
            entry.key.draw(scene, x, y);
            scene.text(
                &label,
                (x + KEY, y),
                LEGEND_SIZE,
                Anchor::Start,
                palette::INK,
            );
            x += width;
        }
        if self.legend.is_empty() { y } else { y + 14.0 }
    }
}

impl Key {
    fn draw(&self, scene: &mut Scene, x: f64, y: f64) {
        let middle = (x + 10.0, y);
        match self {
            Self::Series { look, width, marks } => {
                scene.series_line(&[(x, y), (x + 20.0, y)], look, *width);
                if *marks {
                    scene.marker(middle, look.marker, look.colour);
                }
            }
            Self::Box(colour) => {
                let area = Area {
                    left: x + 3.0,
                    right: x + 17.0,
                    top: y - 5.5,
                    bottom: y + 5.5,
                };
                scene.rectangle(area, *colour, 1.0);
            }
            Self::Hollow(marker) => scene.hollow(middle, *marker, palette::GREY),
            Self::Mark(marker) => scene.open_marker(middle, *marker, palette::INK),
        }
    }
}

/// Height of the rows that hold the labels and the name of an x axis.
pub(crate) const X_LABEL: f64 = 36.0;

/// The two axes of a panel and their names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axes<'a> {
    pub(crate) x: Axis,
    /// May be empty, which leaves out the name and the labels of the ticks.
    pub(crate) x_label: &'a str,
    pub(crate) y: Axis,
    pub(crate) y_label: &'a str,
    /// Room kept free at the left and right ends of the x axis, for marks that stand beside their
    /// place and for a tick outside the range.
    pub(crate) ends: (f64, f64),
    /// Least width for the labels of the y axis, to align panels.
    pub(crate) gutter: f64,
}

/// Width of the widest label of an axis.
pub(crate) fn label_width(axis: &Axis) -> f64 {
    let widths = axis
        .ticks
        .iter()
        .map(|t| text::width(&t.label, LABEL_SIZE, false));
    widths.fold(0.0, f64::max)
}

/// A pair of axes in a room, and the area between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Panel {
    pub(crate) area: Area,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
}

impl Panel {
    /// Draws grid, ticks, axis lines and names.
    pub(crate) fn draw(scene: &mut Scene, room: Area, axes: Axes<'_>) -> Self {
        let Axes {
            x,
            x_label,
            y,
            y_label,
            ends,
            gutter,
        } = axes;
        let left = room.left + label_width(&y).max(gutter) + 12.0;
        let below = if x_label.is_empty() {
            8.0
        } else {
            8.0 + X_LABEL
        };
        let (top, right) = (room.top + 24.0, room.right - 14.0);
        let area = Area {
            left,
            top,
            right,
            bottom: room.bottom - below,
        };
        let (x, y) = (
            x.between(area.left + ends.0, area.right - ends.1),
            y.between(area.bottom, area.top),
        );
        let panel = Self { area, x, y };
        scene.text(
            y_label,
            (room.left, room.top + 8.0),
            LABEL_SIZE,
            Anchor::Start,
            palette::INK,
        );
        panel.draw_grid(scene);
        panel.draw_y(scene);
        panel.draw_x(scene, !x_label.is_empty());
        if !x_label.is_empty() {
            let middle = (
                f64::midpoint(area.left, area.right - ends.1),
                area.bottom + 36.0,
            );
            scene.text(x_label, middle, LABEL_SIZE, Anchor::Middle, palette::INK);
        }
        panel
    }

    fn draw_grid(&self, scene: &mut Scene) {
        let Area {
            left,
            top,
            right,
            bottom,
        } = self.area;
        for y in self.y.ticks.iter().map(|tick| self.y.place(tick.value)) {
            scene.path(vec![(left, y), (right, y)], palette::GRID, 1.0);
        }
        for x in self.x.ticks.iter().map(|tick| self.x.place(tick.value)) {
            scene.path(vec![(x, top), (x, bottom)], palette::GRID, 1.0);
        }
    }

    fn draw_y(&self, scene: &mut Scene) {
        let mut last = f64::INFINITY;
        for tick in &self.y.ticks {
            let y = self.y.place(tick.value);

            scene.path(
                vec![(self.area.left - 4.0, y), (self.area.left, y)],
                palette::INK,
                1.0,
            );
            if last - y >= 1.2 * LABEL_SIZE {
                let at = (self.area.left - 8.0, y);
                scene.text(&tick.label, at, LABEL_SIZE, Anchor::End, palette::INK);
                last = y;
            }
        }
        let axis = vec![
            (self.area.left, self.area.top),
            (self.area.left, self.area.bottom),
        ];
        scene.path(axis, palette::INK, 1.0);
    }

    fn draw_x(&self, scene: &mut Scene, labels: bool) {
        let mut free_from = f64::NEG_INFINITY;
        let bottom = self.area.bottom;
        for tick in &self.x.ticks {
            let x = self.x.place(tick.value);

            let half = text::width(&tick.label, LABEL_SIZE, false) / 2.0;
            if !labels {
                self.x_tick(scene, x, "", LABEL_SIZE);
            } else if x - half >= free_from {
                self.x_tick(scene, x, &tick.label, LABEL_SIZE);
                free_from = x + half + 8.0;
            }
        }
        let axis = vec![(self.area.left, bottom), (self.area.right, bottom)];
        scene.path(axis, palette::INK, 1.0);
    }

    /// A tick on the x axis at a position, with its label.
    pub(crate) fn x_tick(&self, scene: &mut Scene, x: f64, label: &str, size: f64) {
        let bottom = self.area.bottom;
        scene.path(vec![(x, bottom), (x, bottom + 4.0)], palette::INK, 1.0);
        if !label.is_empty() {
            scene.text(
                label,
                (x, bottom + 15.0),
                size,
                Anchor::Middle,
                palette::INK,
            );
        }
    }
}
