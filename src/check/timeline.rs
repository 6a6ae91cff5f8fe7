//! The counter-example, drawn: an operation a line, time from left to right, and what clashes in words.
//!
//! ```text
//! not linearizable: key apple, by 3 of its 41 operations up to 12.034 ms
//!
//!     called      ended
//!   1.000 ms   2.000 ms  c1.1  |====|            PUT apple 1 -> OK
//!   3.000 ms   4.000 ms  c2.1        |====|      PUT apple 2 -> OK
//!   5.000 ms  12.034 ms  c1.2              |===| GET apple -> VALUE 1   <- cannot be
//! ```
//!
//! The bars are not to scale: each call and each end that is shown has a column of its own, so that
//! what overlaps and what does not can be seen. Times are taken for nanoseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use super::history::{End, History, Operation};
use super::part::{Act, Entry, Part};
use super::shrink::Shrunk;
use crate::kv::command::Bytes;
use crate::text;
use crate::wire::client::write_request;

/// The longest request or reply that is shown; the rest is cut.
const TEXT_CHARS_MAX: usize = 60;

/// The most characters of a bar between two events; fewer when there are many events.
const COLUMN_CHARS_MAX: usize = 5;

/// How wide all bars may be together.
const BARS_CHARS_MAX: usize = 80;

/// A history that no order explains, as small as it could be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// The key it is about.
    pub key: Bytes,
    /// The operations that cannot all be true.
    pub operations: Vec<Operation>,
    text: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Counterexample {
    pub(super) fn new(history: &History, part: &Part, shrunk: &Shrunk) -> Self {
        let drawing = Drawing {
            history,
            part,
            shrunk,
        };
        let operation = |&at: &usize| drawing.operation(&part.entries[at]).clone();
        Self {
            key: part.key.clone(),
            operations: shrunk.kept.iter().map(operation).collect(),
            text: drawing.draw(),
        }
    }
}

struct Drawing<'a> {
    history: &'a History,
    part: &'a Part,
    shrunk: &'a Shrunk,
}

/// One line of the drawing.
struct Row<'a> {
    operation: &'a Operation,
    called: u64,
    /// When the operation's effect was surely there; none if it never was.
    ended: Option<u64>,
    note: &'static str,
}

impl<'a> Drawing<'a> {
    fn operation(&self, entry: &Entry) -> &'a Operation {
        &self.history.operations()[entry.operation]
    }

    fn rows(&self) -> Vec<Row<'a>> {
        let row = |at: usize, note| {
            let entry = &self.part.entries[at];
            Row {
                operation: self.operation(entry),
                called: entry.called,
                ended: entry.returned,
                note,
            }
        };
        let mut rows: Vec<Row<'a>> = Vec::new();
        for &at in &self.shrunk.kept {
            let last = at == self.shrunk.last;
            rows.push(row(at, if last { "<- cannot be" } else { "" }));
        }
        rows.extend(
            self.shrunk
                .aside
                .iter()
                .map(|&at| row(at, "(whenever it was done)")),
        );
        let refused = self.refused_and_seen().map(|operation| Row {
            operation,
            called: operation.called,
            ended: operation.ended(),
            note: "(refused: must never be seen)",
        });
        rows.extend(refused);
        rows.sort_by_key(|row| (row.called, row.operation.id));
        rows
    }

    /// Operations that were refused, and whose value was seen all the same.
    fn refused_and_seen(&self) -> impl Iterator<Item = &'a Operation> {
        let seen = self.seen();
        let refused = self.part.refused.iter();
        refused
            .map(|&at| &self.history.operations()[at])
            .filter(move |operation| {
                let request = request_text(operation);
                seen.iter().any(|value| request.ends_with(value))
            })
    }

    /// The values that the operations that are left saw.
    fn seen(&self) -> BTreeSet<String> {
        let values = self.shrunk.kept.iter().filter_map(|&at| {
            let (Act::Read(Some(value)) | Act::Cas(value, _)) = &self.part.entries[at].act else {
                return None;
            };
            let mut text = vec![b' '];
            text::write_token(&mut text, value, text::Blanks::Inside);
            Some(String::from_utf8_lossy(&text).into_owned())
        });
        values.collect()
    }

    fn draw(&self) -> String {
        let mut out = String::new();
        let end = self.part.entries[self.shrunk.last].returned;
        let all = self.shrunk.kept.len() + self.shrunk.aside.len() + self.shrunk.others;
        let key = text::excerpt(&self.part.key);
        let count = self.shrunk.kept.len();
        line(
            &mut out,
            &format!(
                "not linearizable: key {key}, by {count} of its {all} operations up to {}",
                end.map_or_else(|| "the end".into(), milliseconds)
            ),
        );
        line(&mut out, "");
        self.draw_rows(&mut out);
        line(&mut out, "");
        line(&mut out, &self.reason());
        if self.shrunk.others > 0 {
            let others = self.shrunk.others;
            line(
                &mut out,
                &format!(
                    "Whatever the other {others} did and saw: no order of these has their answers."
                ),
            );
        }
        out
    }

    fn draw_rows(&self, out: &mut String) {
        let rows = self.rows();
        let times: BTreeSet<u64> = rows
            .iter()
            .flat_map(|row| std::iter::once(row.called).chain(row.ended))
            .collect();
        let columns = times.len() + 1;
        let width = (BARS_CHARS_MAX / columns).clamp(1, COLUMN_CHARS_MAX);
        let place: BTreeMap<u64, usize> = times
            .iter()
            .enumerate()
            .map(|(at, &time)| (time, at * width))
            .collect();
        let bars = columns * width;
        let ids = rows
            .iter()
            .map(|row| row.operation.id.to_string().len())
            .max();
        let id_width = ids.unwrap_or(0);
        line(out, &format!("{:>14} {:>14}", "called", "ended"));
        for row in &rows {
            let from = place[&row.called];
            let (upto, close) = match row.ended {
                Some(ended) => (place[&ended].max(from + 1), '|'),
                None => (bars - 1, '~'),
            };
            let bar = format!("{:from$}|{}{close}", "", "=".repeat(upto - from - 1));
            let ended = row.ended.map_or_else(|| "open".into(), milliseconds);
            let text = format!(
                "{:>14} {ended:>14}  {:id_width$}  {bar:<width$}  {} -> {}   {}",
                milliseconds(row.called),
                row.operation.id.to_string(),
                cut(&request_text(row.operation)),
                cut(&end_text(row.operation)),
                row.note,
                width = bars + 1,
            );
            line(out, text.trim_end());
        }
    }

    /// What clashes, in words.
    fn reason(&self) -> String {
        let last = &self.part.entries[self.shrunk.last];
        let name = self.operation(last).id;
        let seen = match &last.act {
            Act::Never => {
                return format!("{name} has an answer that no map gives to that request.");
            }
            Act::Read(Some(value)) | Act::Cas(value, _) => value,
            Act::Read(None) => return self.reason_of_absence(last),
            _ => return format!("No order of these leads to the answer of {name}."),
        };
        let all = &self.part.entries;
        let writers: Vec<&Entry> = all.iter().filter(|entry| leaves(entry, seen)).collect();
        let shown = text::excerpt(seen);
        let in_time = |entry: &&&Entry| entry.called <= last.returned.unwrap_or(u64::MAX);
        if let Some(refused) = self.refused_and_seen().next()
            && writers.is_empty()
        {
            return format!(
                "{name} saw {shown}, which only {} wrote, and that was refused.",
                refused.id
            );
        }
        if writers.iter().filter(in_time).count() == 0 {
            let when = if writers.is_empty() {
                "ever wrote"
            } else {
                "had begun to write"
            };
            return format!("{name} saw {shown}, which nobody {when}.");
        }
        let over = |entry: &Entry| {
            writers
                .iter()
                .filter(|writer| writer.returned.is_some_and(|done| done < entry.called))
                .map(|writer| self.operation(writer).id)
                .next()
        };
        let between = self
            .shrunk
            .kept
            .iter()
            .map(|&at| &all[at])
            .find_map(|entry| {
                let before = entry.returned.is_some_and(|done| done < last.called);
                let other = !leaves(entry, seen) && entry.act != Act::Read(Some(seen.clone()));
                let writer = over(entry)?;
                (before && other).then_some((entry, writer))
            });
        match between {
            Some((entry, writer)) => {
                let did = if matches!(entry.act, Act::Read(_)) {
                    "saw"
                } else {
                    "left"
                };
                format!(
                    "{name} saw {shown} of {writer}, but after {writer} and before {name} began, {} \
                     {did} something else.",
                    self.operation(entry).id
                )
            }
            None => format!("No order of these lets {name} see {shown}."),
        }
    }

    fn reason_of_absence(&self, last: &Entry) -> String {
        let name = self.operation(last).id;
        let kept = self.shrunk.kept.iter().map(|&at| &self.part.entries[at]);
        let before = kept.filter(|entry| entry.returned.is_some_and(|done| done < last.called));
        let left_it =
            |entry: &&Entry| !matches!(entry.act, Act::Delete | Act::Read(None) | Act::Never);
        let mut before = before;
        match before.rfind(left_it) {
            Some(entry) => format!(
                "{name} found nothing, but {} was over before it began, and nobody is known to have \
                 deleted it in between.",
                self.operation(entry).id
            ),
            None => format!("No order of these lets {name} find nothing."),
        }
    }
}

/// Whether this write leaves `value`, or may.
fn leaves(entry: &Entry, value: &Bytes) -> bool {
    match &entry.act {
        Act::Put(left) | Act::Cas(_, left) => left == value,
        Act::Incr { to: Some(sum), .. } => sum.to_string().as_bytes() == &**value,
        Act::Append { more, to } => {
            value.ends_with(more) && to.is_none_or(|length| length == value.len())
        }
        _ => false,
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a string takes all");
}

fn milliseconds(nanoseconds: u64) -> String {
    let micros = nanoseconds / 1_000;
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

fn cut(text: &str) -> String {
    if text.chars().count() <= TEXT_CHARS_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(TEXT_CHARS_MAX).collect();
    format!("{head}...")
}

fn request_text(operation: &Operation) -> String {
    let mut line = Vec::new();
    write_request(&mut line, &operation.request);
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

fn end_text(operation: &Operation) -> String {
    match &operation.end {
        End::Reply(_, reply) => reply.to_string().replace('\n', ", "),
        End::Refused(_, why) => format!("refused: {why}"),
        End::Open(_, why) => format!("no answer: {why}"),
    }
}
