//! A drawing as a list of shapes and texts, before it is ink.
//!
//! **Where it sits.** The figures fill a [`Scene`]; `render` turns it into SVG and PNG through the
//! two backends of plotters, `axis` maps values to positions, `frame` places title, legend, axes
//! and caption, `palette` gives every series its look, `text` measures words.
//!
//! **What must be true.** Coordinates are in the units of an 800 wide canvas, x to the right and
//! y downwards, at [`SCALE`] steps per unit. Both outputs come from the same list.
//!
//! **Deviation** from the charts of plotters: only its backends are used. Its mesh has no tick for
//! infinity and no check against overlapping labels, and its bitmap text drops side bearings; here
//! every text has a measured box, so that tests can see an overlap.

pub(crate) mod axis;
pub(crate) mod frame;
pub(crate) mod palette;
pub(crate) mod render;
pub(crate) mod text;

use palette::{Colour, Look, Marker};

/// A position: x to the right, y downwards.
pub(crate) type Point = (f64, f64);

/// Steps per unit at which coordinates are rounded for both backends.
pub(crate) const SCALE: f64 = 4.0;

/// An upright rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

impl Area {
    pub(crate) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    #[cfg(test)]
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// One shape; later shapes lie on earlier ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// A line through the points.
    Path {
        points: Vec<Point>,
        colour: Colour,
        width: f64,
    },
    /// A filled polygon.
    Polygon {
        points: Vec<Point>,
        colour: Colour,
        alpha: f64,
    },
}

/// Which end of the text is at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// One line of text, on top of all shapes; `at` is the middle of its capital letters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) at: Point,
    pub(crate) size: f64,
    pub(crate) anchor: Anchor,
    pub(crate) bold: bool,
    pub(crate) colour: Colour,
}

impl Text {
    /// The box that the line occupies, from the top of its capitals to the foot of its descenders.
    #[cfg(test)]
    pub(crate) fn area(&self) -> Area {
        let width = text::width(&self.text, self.size, self.bold);
        let left = self.left(width);
        Area {
            left,
            right: left + width,
            top: self.at.1 - 0.40 * self.size,
            bottom: self.at.1 + 0.55 * self.size,
        }
    }

    /// The left end of the line, given its width.
    pub(crate) fn left(&self, width: f64) -> f64 {
        match self.anchor {
            Anchor::Start => self.at.0,
            Anchor::Middle => self.at.0 - width / 2.0,
            Anchor::End => self.at.0 - width,
        }
    }
}

/// A whole drawing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) texts: Vec<Text>,
}

impl Scene {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            shapes: Vec::new(),
            texts: Vec::new(),
        }
    }

    pub(crate) fn path(&mut self, points: Vec<Point>, colour: Colour, width: f64) {
        self.shapes.push(Shape::Path {
            points,
            colour,
            width,
        });
    }

    /// A line in dashes: `pattern` alternates lengths drawn and left out; empty for a full line.
    pub(crate) fn dashed(&mut self, points: &[Point], colour: Colour, width: f64, pattern: &[f64]) {
        if pattern.is_empty() {
            self.path(points.to_vec(), colour, width);
            return;
        }
        for dash in dashes(points, pattern) {
            self.path(dash, colour, width);
        }
    }

    pub(crate) fn polygon(&mut self, points: Vec<Point>, colour: Colour, alpha: f64) {
        self.shapes.push(Shape::Polygon {
            points,
            colour,
            alpha,
        });
    }

    pub(crate) fn rectangle(&mut self, area: Area, colour: Colour, alpha: f64) {
        let Area {
            left,
            top,
            right,
            bottom,
        } = area;
        let corners = vec![(left, top), (right, top), (right, bottom), (left, bottom)];
        self.polygon(corners, colour, alpha);
    }

    /// A filled marker.
    pub(crate) fn marker(&mut self, at: Point, marker: Marker, colour: Colour) {
        self.polygon(marker.outline(at, 4.5), colour, 1.0);
    }

    /// A marker in outline: what lies under it can be seen.
    pub(crate) fn hollow(&mut self, at: Point, marker: Marker, colour: Colour) {
        let outline = marker.outline(at, 5.0);
        // Two corners more than needed close the line with a joint.
        self.path(
            outline
                .iter()
                .chain(outline.iter().take(2))
                .copied()
                .collect(),
            colour,
            1.5,
        );
    }

    /// A marker in outline with a white inside.
    pub(crate) fn open_marker(&mut self, at: Point, marker: Marker, colour: Colour) {
        self.polygon(marker.outline(at, 5.0), palette::WHITE, 1.0);
        self.hollow(at, marker, colour);
    }

    /// A series as it looks in the legend and in the plot: its line, without markers.
    pub(crate) fn series_line(&mut self, points: &[Point], look: &Look, width: f64) {
        self.dashed(points, look.colour, width, look.dashes);
    }

    pub(crate) fn text(
        &mut self,
        text: &str,
        at: Point,
        size: f64,
        anchor: Anchor,
        colour: Colour,
    ) {
        self.push_text(text, at, size, anchor, colour, false);
    }

    pub(crate) fn title(&mut self, text: &str, at: Point, size: f64) {
        self.push_text(text, at, size, Anchor::Start, palette::INK, true);
    }

    fn push_text(
        &mut self,
        text: &str,
        at: Point,
        size: f64,
        anchor: Anchor,
        colour: Colour,
        bold: bool,
    ) {
        let text = text::printable(text);
        self.texts.push(Text {
            text,
            at,
            size,
            anchor,
            bold,
            colour,
        });
    }
}

/// Cuts a line into the pieces that a dash pattern leaves visible.
fn dashes(points: &[Point], pattern: &[f64]) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    let (mut index, mut left) = (0, pattern[0]);
    let mut current: Vec<Point> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        let mut length = (to.0 - from.0).hypot(to.1 - from.1);
        while length > left {
            let t = left / length;
            from = (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
            length -= left;
            current.push(from);
            if index % 2 == 0 {
                pieces.push(std::mem::take(&mut current));
            }
            current = vec![from];
            index = (index + 1) % pattern.len();
            left = pattern[index];
        }
        left -= length;
        current.push(to);
    }
    if index % 2 == 0 && current.len() > 1 {
        pieces.push(current);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_their_share_and_turn_corners() {
        let line = [(0.0, 0.0), (7.0, 0.0), (7.0, 13.0)];
        let pieces = dashes(&line, &[3.0, 2.0]);
        let length: f64 = pieces
            .iter()
            .flat_map(|p| p.windows(2))
            .map(|w| (w[1].0 - w[0].0).hypot(w[1].1 - w[0].1))
            .sum();
        assert!((length - 12.0).abs() < 1e-9, "{length}");
        assert_eq!(pieces[1], vec![(5.0, 0.0), (7.0, 0.0), (7.0, 1.0)]);
    }
}
