//! The log for people: one line a record. Reads only, and needs no lock: a server may be writing
//! meanwhile.

use super::damage::Damage;
use super::dir::Dir;
use super::error::LogError;
use super::log::Cut;
use super::scan;
use std::io::Write;

/// What is to be told of a log besides its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The number of the last record; counts all lines, also the heads of segments.
    pub last: u64,
    /// The write at its end that had not come to its own: by a crash, or a server is writing right
    /// now.
    pub cut: Option<Cut>,
    /// What is missing, found by an earlier start or not.
    pub damage: Vec<Damage>,
}

/// Prints each line of the log in `dir` as `FILE OFFSET SEQ BODY`; with a `width`, a body with more
/// characters is cut and ends in `...`. What stands behind damage is printed too.
pub fn print_log<D: Dir>(
    dir: &D,
    width: Option<usize>,
    out: &mut impl Write,
) -> Result<Ending, LogError> {
    let end = scan::scan(dir, &mut |entry| {
        write!(out, "{} {} {} ", entry.file, entry.offset, entry.seq)
            .and_then(|()| out.write_all(&fitted(entry.text, width)))
            .and_then(|()| out.write_all(b"\n"))
            .map_err(LogError::Output)
    })?;
    out.flush().map_err(LogError::Output)?;
    Ok(Ending {
        last: end.next - 1,
        cut: Cut::of(dir, &end),
        damage: end.gaps.into_iter().map(|gap| gap.damage).collect(),
    })
}

const CUT_MARK: &str = "...";

/// A body with at most `width` characters, never less than the mark.
fn fitted(body: &[u8], width: Option<usize>) -> std::borrow::Cow<'_, [u8]> {
    let Some(width) = width else {
        return body.into();
    };
    // Four bytes a character is the most that UTF-8 has: no need to look at all of a long value.
    let window = &body[..body.len().min(4 * width)];
    let text = String::from_utf8_lossy(window);
    if window.len() == body.len() && text.chars().count() <= width {
        return body.into();
    }
    let kept = width.saturating_sub(CUT_MARK.len());
    let mut cut: String = text.chars().take(kept).collect();
    cut.push_str(CUT_MARK);
    cut.into_bytes().into()
}
