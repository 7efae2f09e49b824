//! Measures and rasterises lines of text in one embedded typeface.
//!
//! **Where it sits.** `frame` and the figures ask for widths; `render` for ink.
//!
//! **What must be true.** No system font is consulted, so a figure has the same bytes on every
//! machine. SVG files carry text as text; a viewer without Noto Sans uses its own sans-serif.
//!
//! **Where it is from.** Noto Sans, SIL Open Font License 1.1, as data from the `notosans`
//! package; outlines are read by `ab_glyph`.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, Glyph, GlyphId, PxScale, point};

/// The families that a viewer of an SVG file may choose from.
pub(crate) const FAMILIES: &str = "Noto Sans, Open Sans, DejaVu Sans, sans-serif";

/// Height of a capital letter over the size of the type.
pub(crate) const CAPITAL: f64 = 0.714;

static REGULAR: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(notosans::REGULAR_TTF).ok());
static BOLD: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(notosans::BOLD_TTF).ok());

/// The typeface; `None` only if the embedded data were damaged.
pub(crate) fn font(bold: bool) -> Option<&'static FontRef<'static>> {
    if bold {
        BOLD.as_ref()
    } else {
        REGULAR.as_ref()
    }
}

/// The text with control characters, which XML forbids, as spaces.
pub(crate) fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') {
            ' '
        } else {
            c
        }
    };
    text.chars().map(plain).collect()
}

/// Width of one line at a size, both in units of the scene.
pub(crate) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let Some(font) = font(bold) else {
        return 0.6 * size * text.chars().count() as f64;
    };
    let mut end = 0.0;
    walk(font, text, |_, _, advance| end = advance);
    f64::from(end) * size / units(font)
}

fn units(font: &FontRef<'_>) -> f64 {
    f64::from(font.units_per_em().unwrap_or(1000.0))
}

/// Visits every glyph with its start and end in font units, kerning included.
fn walk(font: &FontRef<'_>, text: &str, mut visit: impl FnMut(GlyphId, f32, f32)) {
    let mut x = 0.0;
    let mut previous = None;
    for c in text.chars() {
        let id = font.glyph_id(c);
        if let Some(previous) = previous {
            x += font.kern_unscaled(previous, id);
        }
        let end = x + font.h_advance_unscaled(id);
        visit(id, x, end);
        x = end;
        previous = Some(id);
    }
}

/// Calls `ink` with every touched pixel and its coverage in `0..=1`, for a line whose baseline
/// starts at `(left, baseline)`; all in pixels.
pub(crate) fn rasterise(
    text: &str,
    (left, baseline): (f64, f64),
    size: f64,
    bold: bool,
    mut ink: impl FnMut(i64, i64, f32),
) {
    let Some(font) = font(bold) else { return };
    let scale = PxScale::from((size / units(font)) as f32 * font.height_unscaled());
    walk(font, text, |id, x, _| {
        let x = left + f64::from(x) * size / units(font);
        let position = point(x as f32, baseline as f32);
        let Some(outline) = font.outline_glyph(Glyph {
            id,
            scale,
            position,
        }) else {
            return;
        };
        let corner = outline.px_bounds().min;
        let (left, top) = (corner.x as i64, corner.y as i64);
        outline.draw(|x, y, coverage| ink(left + i64::from(x), top + i64::from(y), coverage));
    });
}

/// Breaks text into lines of at most `limit` units, between words; a longer word is cut.
pub(crate) fn wrap(text: &str, size: f64, limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in printable(text).split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match (longer, lines.last_mut()) {
            (Some(longer), Some(line)) if width(&longer, size, false) <= limit => *line = longer,
            _ => lines.push(fit(word, size, limit)),
        }
    }
    lines
}

/// The text, cut with an ellipsis to at most `limit` units.
pub(crate) fn fit(text: &str, size: f64, limit: f64) -> String {
    let text = printable(text);
    if width(&text, size, false) <= limit {
        return text;
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let cut: String = kept.iter().collect::<String>().trim_end().to_owned() + "\u{2026}";
        if width(&cut, size, false) <= limit {
            return cut;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_faces_load_and_hold_the_signs_that_figures_use() {
        for bold in [false, true] {
            let font = font(bold).unwrap();
            for sign in "Aaz09 .,;:()%+-\u{2013}\u{2026}\u{221e}\u{3b5}\u{3b4}".chars() {
                assert_ne!(font.glyph_id(sign).0, 0, "{sign}");
            }
        }
    }

    /// This cut of Noto Sans has 2048 units per em, and its digits are all 1171 units wide.
    #[test]
    fn widths_are_those_of_the_face() {
        let digit = 1171.0 / 2048.0;
        assert!((width("0123456789", 100.0, false) - 1000.0 * digit).abs() < 1e-3);
        assert!((width("00", 10.0, true) - 20.0 * digit).abs() < 1e-4);
    }

    #[test]
    fn ink_lies_inside_the_measured_box() {
        let (mut left, mut right, mut bottom) = (i64::MAX, i64::MIN, i64::MIN);
        rasterise("Hxn", (10.0, 50.0), 40.0, false, |x, y, coverage| {
            if coverage > 0.05 {
                (left, right, bottom) = (left.min(x), right.max(x), bottom.max(y));
            }
        });
        let end = 10.0 + width("Hxn", 40.0, false);
        assert!(
            left >= 10 && (right as f64) < end && bottom == 49,
            "{left} {right} {bottom}"
        );
    }

    #[test]
    fn wrapped_lines_keep_every_word_and_fit() {
        let text = "every word of this caption must survive the breaking of its lines";
        let lines = wrap(text, 11.0, 120.0);
        assert!(lines.len() > 2 && lines.iter().all(|l| width(l, 11.0, false) <= 120.0));
        assert_eq!(lines.join(" "), text);
        assert!(fit("a-very-long-name-without-spaces", 11.0, 60.0).ends_with('\u{2026}'));
    }
}
