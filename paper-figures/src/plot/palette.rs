//! Colours, markers and dashes that stay apart for colour-blind readers and in grey print.
//!
//! **Where it sits.** Every figure asks here for the look of its series.
//!
//! **What must be true.** A known engine keeps its colour in every figure. No two series of one
//! figure share colour, marker and dashes, up to 105 of them.
//!
//! **Where it is from.** The eight colours of Okabe and Ito, *Color Universal Design*, 2008;
//! yellow is left out, being too faint for lines on white.

use super::Point;

/// Red, green, blue.
pub(crate) type Colour = (u8, u8, u8);

/// Text and axes.
pub(crate) const INK: Colour = (34, 34, 34);
/// Captions and published marks.
pub(crate) const GREY: Colour = (96, 96, 96);
/// Grid lines.
pub(crate) const GRID: Colour = (225, 225, 225);
/// The inside of hollow markers.
pub(crate) const WHITE: Colour = (255, 255, 255);

const BLACK: Colour = (0, 0, 0);
const ORANGE: Colour = (230, 159, 0);
const SKY_BLUE: Colour = (86, 180, 233);
const BLUISH_GREEN: Colour = (0, 158, 115);
const BLUE: Colour = (0, 114, 178);
const VERMILLION: Colour = (213, 94, 0);
const REDDISH_PURPLE: Colour = (204, 121, 167);

// The two that belong to no engine come first, so that a second series takes them first.
const COLOURS: [Colour; 7] = [
    ORANGE,
    SKY_BLUE,
    BLUE,
    VERMILLION,
    BLUISH_GREEN,
    REDDISH_PURPLE,
    BLACK,
];
/// The dashes of a line that lies over another.
pub(crate) const BROKEN: &[f64] = &[7.0, 3.0];
const DASHES: [&[f64]; 3] = [&[], BROKEN, &[2.0, 3.0]];

/// The shape of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Wedge,
}

const MARKERS: [Marker; 5] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Wedge,
];

impl Marker {
    /// The marker at a position in a list of published marks.
    pub(crate) fn nth(index: usize) -> Self {
        MARKERS[(index + 3) % MARKERS.len()]
    }

    /// The corners of the mark, which covers about the same surface for every shape.
    pub(crate) fn outline(self, (x, y): Point, radius: f64) -> Vec<Point> {
        let (corners, turn, radius) = match self {
            Self::Circle => (24, 0.0, radius),
            Self::Square => (4, 0.125, radius * 1.2),
            Self::Diamond => (4, 0.0, radius * 1.25),
            Self::Triangle => (3, -0.25, radius * 1.35),
            Self::Wedge => (3, 0.25, radius * 1.35),
        };
        let corner = |i: u32| {
            let angle = std::f64::consts::TAU * (f64::from(i) / f64::from(corners) + turn);
            (x + radius * angle.cos(), y + radius * angle.sin())
        };
        (0..corners).map(corner).collect()
    }
}

/// How one series is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    pub(crate) colour: Colour,
    pub(crate) marker: Marker,
    pub(crate) dashes: &'static [f64],
}

/// The colour that an engine keeps in every figure.
fn engine_colour(engine: &str) -> Option<Colour> {
    match engine {
        "packed" => Some(BLUE),
        "paper" => Some(VERMILLION),
        "shared" => Some(BLUISH_GREEN),
        "clear" => Some(BLACK),
        "pure-he" => Some(REDDISH_PURPLE),
        _ => None,
    }
}

/// One look for each series, given the engine of each in order.
pub(crate) fn looks(engines: &[&str]) -> Vec<Look> {
    let mut taken: Vec<Colour> = Vec::new();
    let mut chosen: Vec<Option<Colour>> = Vec::new();
    for engine in engines {
        let own = engine_colour(engine).filter(|colour| !taken.contains(colour));
        taken.extend(own);
        chosen.push(own);
    }
    let mut free = COLOURS.into_iter().filter(|colour| !taken.contains(colour));
    let mut rest = COLOURS.into_iter().cycle();
    let mut used: Vec<Colour> = Vec::new();
    let mut looks = Vec::with_capacity(engines.len());
    for (colour, index) in chosen.into_iter().zip(0..) {
        let colour = colour
            .or_else(|| free.next())
            .or_else(|| rest.next())
            .unwrap_or(INK);
        let turn = used.iter().filter(|seen| **seen == colour).count();
        used.push(colour);
        let marker = MARKERS[(index + turn) % MARKERS.len()];
        looks.push(Look {
            colour,
            marker,
            dashes: DASHES[turn % DASHES.len()],
        });
    }
    looks
}

/// Later series are thinner, so that lines which agree, as those of two engines should, can both
/// be seen.
pub(crate) fn width(index: usize, series: usize) -> f64 {
    1.5 + 2.0 * (series - 1 - index) as f64 / (series - 1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_keep_their_colours() {
        let alone = looks(&["shared"]);
        let among = looks(&["unknown", "clear", "packed", "shared"]);
        assert_eq!(alone[0].colour, among[3].colour);
    }

    #[test]
    fn no_two_series_look_the_same() {
        for names in [
            vec!["packed"; 20],
            vec!["a", "packed", "clear", "packed", "b", "packed"],
        ] {
            let looks = looks(&names);
            for (i, one) in looks.iter().enumerate() {
                assert!(looks[..i].iter().all(|other| other != one), "{i}: {one:?}");
            }
        }
    }
}
