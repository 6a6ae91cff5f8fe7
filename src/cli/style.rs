//! Colour and alignment, on a terminal only.
//!
//! Whatever goes into a pipe or a file is plain: no escape codes, one blank between columns. So a
//! script never has to strip what was meant for eyes.

use std::fmt::Write as _;
use std::io::IsTerminal;

/// What the reader of an output can make use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether columns are padded to one width.
    pub(crate) aligned: bool,
    coloured: bool,
}

/// The few colours that have a meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As the rest of the text.
    Plain,
    /// Beside the point: who answered, how long it took.
    Dim,
    /// A heading.
    Bold,
    /// As it should be.
    Green,
    /// Failed or out of reach.
    Red,
}

impl Style {
    /// For pipes and files.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self {
        aligned: false,
        coloured: false,
    };

    /// The style that `output` can show; `NO_COLOR` (not empty) and a dumb terminal take the colour.
    pub(crate) fn of(output: &impl IsTerminal) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = output.is_terminal();
        Self {
            aligned: terminal,
            coloured: terminal && !set("NO_COLOR") && !dumb,
        }
    }

    /// `text` in a colour, where colours are shown.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Dim => "2",
            Paint::Bold => "1",
            Paint::Green => "32",
            Paint::Red => "31",
            Paint::Plain => return text.to_owned(),
        };
        if self.coloured && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// One place of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) paint: Paint,
}

impl Cell {
    pub(crate) fn new(paint: Paint, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            paint,
        }
    }

    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(Paint::Plain, text)
    }
}

/// Rows as text, a line each. Aligned, columns are two blanks apart and as wide as their widest
/// cell; a row's last cell widens nothing, so that a long remark does not push a column away.
pub(crate) fn table(style: Style, rows: &[Vec<Cell>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
            widths.resize(widths.len().max(column + 1), 0);
            widths[column] = widths[column].max(cell.text.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(&style.paint(cell.paint, &cell.text));
            if column + 1 == row.len() {
                out.push('\n');
            } else if style.aligned {
                let gap = widths[column] - cell.text.chars().count() + 2;
                write!(out, "{:gap$}", "").expect("a string takes all");
            } else {
                out.push(' ');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![
                Cell::new(Paint::Bold, "id"),
                Cell::plain("role"),
                Cell::plain("links"),
            ],
            vec![
                Cell::plain("n1"),
                Cell::plain("follower"),
                Cell::plain("2+ 3-"),
            ],
            vec![
                Cell::plain("-"),
                Cell::plain("unreachable: a long and telling remark"),
            ],
            vec![
                Cell::plain("Öl"),
                Cell::new(Paint::Green, "x"),
                Cell::plain(""),
            ],
        ]
    }

    #[test]
    fn a_pipe_gets_single_blanks_and_no_colour() {
        assert_eq!(
            table(Style::PLAIN, &rows()),
            "id role links\nn1 follower 2+ 3-\n- unreachable: a long and telling remark\nÖl x \n"
        );
    }

    #[test]
    fn a_terminal_gets_columns_that_a_last_cell_does_not_widen() {
        let style = Style {
            aligned: true,
            coloured: false,
        };
        assert_eq!(
            table(style, &rows()),
            "id  role      links\n\
             n1  follower  2+ 3-\n\
             -   unreachable: a long and telling remark\n\
             Öl  x         \n"
        );
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let style = Style {
            aligned: true,
            coloured: true,
        };
        let text = table(style, &rows());
        assert!(
            text.starts_with("\x1b[1mid\x1b[0m  role      links\n"),
            "{text}"
        );
        assert_eq!(style.paint(Paint::Dim, ""), "");
    }
}
