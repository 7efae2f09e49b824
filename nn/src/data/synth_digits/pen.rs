//! Writing one digit: splines, distortion, and a soft round pen.

use super::glyphs::{Stroke, Style};
use super::{Dice, PIXELS, SIDE};

/// Straight pieces per span of a curve.
const PIECES: usize = 5;
/// Height of a digit in pixels, before stretching.
const HEIGHT: f32 = 20.0;
/// Largest width of the pen's soft edge, in pixels.
const MAX_SOFT: f32 = 1.5;
/// "Nowhere near ink", in units of the pen's half width, squared.
const FAR: f32 = 1e6;

type Point = (f32, f32);

/// How one writer distorts the plane: jitter, an elastic field, an affine map.
struct Hand {
    /// Displacements at a 4 x 4 grid over the unit box, interpolated smoothly between.
    elastic: [[Point; 4]; 4],
    /// Columns of the linear map, in pixels per unit.
    across: Point,
    down: Point,
    centre: Point,
}

/// Draws the strokes in one random hand.
pub(super) fn write(style: Style, dice: &mut Dice) -> [u8; PIXELS] {
    let hand = Hand::new(dice);
    let width = dice.between(0.75, 1.55);
    let mut field = [FAR; PIXELS];
    for stroke in style {
        let path = path(stroke, dice);
        let mut from = hand.map(path[0]);
        let (mut pen, pressure) = (width * dice.between(0.9, 1.1), 0.25 * dice.flat());
        let change = pressure * width / path.len() as f32;
        for point in &path[1..] {
            let to = hand.map(*point);
            press(&mut field, from, to, pen);
            from = to;
            pen += change;
        }
    }
    develop(&field, width, dice)
}

impl Hand {
    fn new(dice: &mut Dice) -> Self {
        let mut elastic = [[(0.0, 0.0); 4]; 4];
        for point in elastic.iter_mut().flatten() {
            *point = (0.08 * dice.flat(), 0.08 * dice.flat());
        }
        let height = HEIGHT * (1.0 + 0.18 * dice.bell());
        let width = height * (1.0 + 0.31 * dice.bell());
        let shear = 0.12 + 0.44 * dice.bell();
        // The half-angle form of a rotation needs no library function: t = tan(angle / 2).
        let t = 0.18 * dice.bell();
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let middle = 0.5 * (SIDE - 1) as f32;
        Self {
            elastic,
            across: (width * cos, width * sin),
            down: (-height * (sin + shear * cos), height * (cos - shear * sin)),
            centre: (middle + 2.6 * dice.bell(), middle + 2.6 * dice.bell()),
        }
    }

    /// From the unit box to pixels.
    fn map(&self, (x, y): Point) -> Point {
        let (dx, dy) = self.displacement(x, y);
        let (x, y) = (x + dx - 0.5, y + dy - 0.5);
        (
            self.centre.0 + x * self.across.0 + y * self.down.0,
            self.centre.1 + x * self.across.1 + y * self.down.1,
        )
    }

    fn displacement(&self, x: f32, y: f32) -> Point {
        let ((i, u), (j, v)) = (cell(x), cell(y));
        let mix = |a: Point, b: Point, t: f32| (a.0 + (b.0 - a.0) * t, a.1 + (b.1 - a.1) * t);
        let above = mix(self.elastic[j][i], self.elastic[j][i + 1], u);
        let below = mix(self.elastic[j + 1][i], self.elastic[j + 1][i + 1], u);
        mix(above, below, v)
    }
}

/// Which of three cells a coordinate falls into, and how far, eased at both ends.
fn cell(x: f32) -> (usize, f32) {
    let scaled = x.clamp(0.0, 1.0) * 3.0;
    let i = (scaled as usize).min(2);
    let t = scaled - i as f32;
    (i, t * t * (3.0 - 2.0 * t))
}

/// The points of a stroke, jittered, with curves cut into straight pieces.
fn path(stroke: &Stroke, dice: &mut Dice) -> Vec<Point> {
    let (points, smooth) = match stroke {
        Stroke::Curve(points) => (points, true),
        Stroke::Line(points) => (points, false),
    };
    let jitter =
        |p: &Point, dice: &mut Dice| (p.0 + 0.036 * dice.flat(), p.1 + 0.036 * dice.flat());
    let knots: Vec<Point> = points.iter().map(|p| jitter(p, dice)).collect();
    // Lines are cut too, so that the elastic field can bend them.
    let mut path = Vec::with_capacity(PIECES * knots.len());
    path.push(knots[0]);
    for i in 1..knots.len() {
        let before = if smooth {
            knots[i.saturating_sub(2)]
        } else {
            knots[i - 1]
        };
        let after = if smooth {
            knots[(i + 1).min(knots.len() - 1)]
        } else {
            knots[i]
        };
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            path.push(if smooth {
                catmull_rom(before, knots[i - 1], knots[i], after, t)
            } else {
                (
                    knots[i - 1].0 + (knots[i].0 - knots[i - 1].0) * t,
                    knots[i - 1].1 + (knots[i].1 - knots[i - 1].1) * t,
                )
            });
        }
    }
    path
}

/// The uniform Catmull-Rom spline between `b` and `c` (Catmull and Rom, "A class of local
/// interpolating splines", 1974).
fn catmull_rom(a: Point, b: Point, c: Point, d: Point, t: f32) -> Point {
    let one = |a: f32, b: f32, c: f32, d: f32| {
        let (quadratic, cubic) = (2.0 * a - 5.0 * b + 4.0 * c - d, 3.0 * (b - c) + d - a);
        b + 0.5 * t * ((c - a) + t * (quadratic + t * cubic))
    };
    (one(a.0, b.0, c.0, d.0), one(a.1, b.1, c.1, d.1))
}

/// Lowers the field to the squared distance from a segment, in units of the pen's half width.
fn press(field: &mut [f32; PIXELS], from: Point, to: Point, pen: f32) {
    let reach = pen + MAX_SOFT;
    let span = |a: f32, b: f32| {
        let low = (a.min(b) - reach).max(0.0) as usize;
        let high = (a.max(b) + reach + 1.0).clamp(0.0, SIDE as f32) as usize;
        (low.min(SIDE), high)
    };
    let ((left, right), (top, bottom)) = (span(from.0, to.0), span(from.1, to.1));
    if left >= right {
        return;
    }
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let per_length = 1.0 / (dx * dx + dy * dy).max(1e-12);
    let per_pen = 1.0 / (pen * pen);
    for y in top..bottom {
        let py = y as f32 - from.1;
        let row = &mut field[y * SIDE + left..y * SIDE + right];
        for (x, value) in row.iter_mut().enumerate() {
            let px = (left + x) as f32 - from.0;
            let t = ((px * dx + py * dy) * per_length).clamp(0.0, 1.0);
            let (ex, ey) = (px - t * dx, py - t * dy);
            *value = value.min((ex * ex + ey * ey) * per_pen);
        }
    }
}

/// Ink from distances, with a soft edge, uneven ink and a little noise; rounded to bytes.
fn develop(field: &[f32; PIXELS], width: f32, dice: &mut Dice) -> [u8; PIXELS] {
    let per_soft = 1.0 / dice.between(0.9, MAX_SOFT);
    let ink = dice.between(0.85, 1.0);
    let grain = dice.between(0.0, 0.06) / 128.0;
    let mut bytes = [0; PIXELS];
    dice.fill(&mut bytes);
    for (byte, distance) in bytes.iter_mut().zip(field) {
        let inside = 0.5 + width * (1.0 - distance.sqrt()) * per_soft;
        let noise = grain * (f32::from(*byte) - 127.5);
        let value = ink * inside.clamp(0.0, 1.0) + noise;
        *byte = (255.0 * value.clamp(0.0, 1.0) + 0.5) as u8;
    }
    bytes
}
