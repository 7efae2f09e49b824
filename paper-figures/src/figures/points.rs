//! The points of a figure as CSV, beside its picture.
//!
//! What must be true: one row per mark, bar or line point that is drawn, and no other; numbers in
//! the shortest form that reads back to the same bits; quoting after RFC 4180.

/// A table of drawn points.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Points {
    columns: usize,
    text: String,
}

impl Points {
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut points = Self {
            columns: header.len(),
            text: String::new(),
        };
        points.row(
            &header
                .iter()
                .map(|name| Cell::from(*name))
                .collect::<Vec<_>>(),
        );
        points
    }

    /// Adds a row; missing cells at the end are empty.
    pub(crate) fn row(&mut self, cells: &[Cell]) {
        debug_assert!(
            cells.len() <= self.columns,
            "a row is longer than its header"
        );
        for index in 0..self.columns {
            if index > 0 {
                self.text.push(',');
            }
            if let Some(Cell(text)) = cells.get(index) {
                self.text.push_str(text);
            }
        }
        self.text.push('\n');
    }

    pub(crate) fn to_csv(&self) -> String {
        self.text.clone()
    }
}

/// One cell, quoted where needed.
pub(crate) struct Cell(String);

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        if text.contains(['"', ',', '\n', '\r']) {
            Self(format!("\"{}\"", text.replace('"', "\"\"")))
        } else {
            Self(text.into())
        }
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self(format!("{value}"))
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self(format!("{value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_rows_have_one_length() {
        let mut points = Points::new(&["series", "x", "y"]);
        points.row(&["a \"b\", c".into(), 0.1.into()]);
        points.row(&["d".into(), f64::INFINITY.into(), 3_usize.into()]);
        assert_eq!(
            points.to_csv(),
            "series,x,y\n\"a \"\"b\"\", c\",0.1,\nd,inf,3\n"
        );
    }
}
