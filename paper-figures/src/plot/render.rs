//! From a scene to SVG text and PNG pixels, through the backends of plotters.
//!
//! **Where it sits.** Last in the chain; the only file that names a plotters backend.
//!
//! **What must be true.** The same scene gives the same bytes. SVG: 800 units wide, drawn at
//! [`SCALE`] steps per unit. PNG: two pixels per unit, each the mean of four drawn ones, which
//! smooths edges that the backend draws hard.

use std::error::Error;
use std::path::Path;

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontFamily, FontStyle, IntoFont, RGBAColor, ShapeStyle, TextStyle};

use super::palette::{Colour, Marker};
use super::{Anchor, Point, SCALE, Scene, Shape, Text, text};

/// What a backend reports, whichever it is.
pub(crate) type DrawError = Box<dyn Error + Send + Sync>;

/// Drawn pixels per pixel of the PNG, along each axis.
const OVERSAMPLING: usize = 2;

/// plotters divides the size of a font by this before it writes it into an SVG file.
const PLOTTERS_FONT_RATIO: f64 = 1.24;

/// Half the height of a lower-case x, over the size of the type: where plotters puts the middle.
const HALF_X_HEIGHT: f64 = 0.268;

fn steps(scene: &Scene) -> (u32, u32) {
    ((scene.width * SCALE) as u32, (scene.height * SCALE) as u32)
}

fn at((x, y): Point) -> (i32, i32) {
    ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
}

fn colour((r, g, b): Colour, alpha: f64) -> RGBAColor {
    RGBAColor(r, g, b, alpha)
}

/// How a backend draws a wide line.
type Stroke<B> = fn(&mut B, &[(i32, i32)], &ShapeStyle) -> Result<(), DrawError>;

fn shapes<B: DrawingBackend>(
    scene: &Scene,
    backend: &mut B,
    stroke: Stroke<B>,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    backend.draw_rect(
        (0, 0),
        at((scene.width, scene.height)),
        &style((255, 255, 255), 1.0, 0.0),
        true,
    )?;
    for shape in &scene.shapes {
        match shape {
            Shape::Path {
                points,
                colour,
                width,
            } => {
                let points: Vec<_> = points.iter().copied().map(at).collect();
                stroke(backend, &points, &style(*colour, 1.0, *width))?;
            }
            Shape::Polygon {
                points,
                colour,
                alpha,
            } => {
                let points = points.iter().copied().map(at);
                backend.fill_polygon(points, &style(*colour, *alpha, 0.0))?;
            }
        }
    }
    Ok(())
}

fn style(rgb: Colour, alpha: f64, width: f64) -> ShapeStyle {
    let stroke_width = ((width * SCALE).round() as u32).max(1);
    ShapeStyle {
        color: colour(rgb, alpha),
        filled: true,
        stroke_width,
    }
}

fn stroke_whole(
    backend: &mut SVGBackend<'_>,
    points: &[(i32, i32)],
    style: &ShapeStyle,
) -> Result<(), DrawError> {
    Ok(backend.draw_path(points.iter().copied(), style)?)
}

/// Draws each piece alone and rounds the joints: given the whole line, the bitmap backend loses
/// some of its pieces at sharp corners.
fn stroke_in_pieces(
    backend: &mut BitMapBackend<'_>,
    points: &[(i32, i32)],
    style: &ShapeStyle,
) -> Result<(), DrawError> {
    for pair in points.windows(2) {
        backend.draw_path(pair.iter().copied(), style)?;
    }
    let inner = points
        .get(1..points.len().saturating_sub(1))
        .unwrap_or_default();
    for (x, y) in inner {
        let centre = (f64::from(*x), f64::from(*y));
        let disc = Marker::Circle.outline(centre, f64::from(style.stroke_width) / 2.0);
        backend.fill_polygon(
            disc.iter()
                .map(|p| (p.0.round() as i32, p.1.round() as i32)),
            style,
        )?;
    }
    Ok(())
}

/// The scene as SVG text.
pub(crate) fn svg(scene: &Scene) -> Result<String, DrawError> {
    let mut drawn = String::new();
    let (width, height) = steps(scene);
    {
        let mut backend = SVGBackend::with_string(&mut drawn, (width, height));
        shapes(scene, &mut backend, stroke_whole)?;
        for text in &scene.texts {
            let middle = text.at.1 + (text::CAPITAL / 2.0 - HALF_X_HEIGHT) * text.size;
            backend.draw_text(&text.text, &text_style(text), at((text.at.0, middle)))?;
        }
        backend.present()?;
    }
    // The backend knows only whole steps; the picture is shown at a quarter of that size.
    let drawn_size = format!("width=\"{width}\" height=\"{height}\"");
    let shown_size = format!("width=\"{}\" height=\"{}\"", scene.width, scene.height);
    Ok(drawn.replacen(&drawn_size, &shown_size, 1))
}

fn text_style(text: &Text) -> TextStyle<'static> {
    let weight = if text.bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    let size = text.size * SCALE * PLOTTERS_FONT_RATIO;
    let horizontal = match text.anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let font = (FontFamily::Name(text::FAMILIES), size)
        .into_font()
        .style(weight);
    let pos = Pos::new(horizontal, VPos::Center);
    TextStyle {
        font,
        color: colour(text.colour, 1.0).to_backend_color(),
        pos,
    }
}

/// Writes the scene as PNG.
pub(crate) fn png(scene: &Scene, path: &Path) -> Result<(), DrawError> {
    let (width, height) = steps(scene);
    let mut pixels = vec![255; 3 * width as usize * height as usize];
    {
        let mut backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
        shapes(scene, &mut backend, stroke_in_pieces)?;
        backend.present()?;
    }
    for text in &scene.texts {
        print(text, &mut pixels, (i64::from(width), i64::from(height)));
    }
    let small = shrink(&pixels, width as usize, height as usize);
    let size = (width / OVERSAMPLING as u32, height / OVERSAMPLING as u32);
    let mut backend = BitMapBackend::new(path, size);
    backend.blit_bitmap((0, 0), size, &small)?;
    backend.present()?;
    Ok(())
}

fn print(text: &Text, pixels: &mut [u8], (width, height): (i64, i64)) {
    let left = text.left(text::width(&text.text, text.size, text.bold));
    let baseline = text.at.1 + text::CAPITAL / 2.0 * text.size;
    let start = (left * SCALE, (baseline * SCALE).round());
    let (r, g, b) = text.colour;
    text::rasterise(
        &text.text,
        start,
        text.size * SCALE,
        text.bold,
        |x, y, coverage| {
            if (0..width).contains(&x) && (0..height).contains(&y) {
                let first = 3 * (y * width + x) as usize;
                for (old, ink) in pixels[first..first + 3].iter_mut().zip([r, g, b]) {
                    let coverage = coverage.clamp(0.0, 1.0);
                    let mixed = f32::from(*old) * (1.0 - coverage) + f32::from(ink) * coverage;
                    *old = mixed.round() as u8;
                }
            }
        },
    );
}

fn shrink(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut small = Vec::with_capacity(pixels.len() / (OVERSAMPLING * OVERSAMPLING));
    for y in (0..height - height % OVERSAMPLING).step_by(OVERSAMPLING) {
        for x in (0..width - width % OVERSAMPLING).step_by(OVERSAMPLING) {
            for channel in 0..3 {
                let of = |dx: usize, dy: usize| {
                    u32::from(pixels[3 * ((y + dy) * width + x + dx) + channel])
                };
                let sum = of(0, 0) + of(1, 0) + of(0, 1) + of(1, 1);
                small.push((sum / 4) as u8);
            }
        }
    }
    small
}
