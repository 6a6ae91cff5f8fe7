//! The whole replicated state as lines of text, and back: what a snapshot holds.
//!
//! | line | means |
//! | --- | --- |
//! | `store s17 00c0ffee00c0ffee 1763894400000` | first: the last slot applied, the running hash in hex, and the time of the last stamp |
//! | `origin n2 5 78` | of server 2, start 5 is the newest, and its command 78 applies next |
//! | `opened 13` | 13 sessions were ever opened |
//! | `session 12` | session 12 lives and has run nothing yet |
//! | `session 12 7 mismatch 1.25` | its last seq was 7, with this outcome: `ok`, `not_found`, `mismatch value`, `number n`, `no_integer`, `out_of_range`, `unmet`, `too_long` |
//! | `pair apple 1.25 s9` | a key, its value, and the slot that changed it last |
//! | `pair apple 1.25 s9 1763894460000` | the same, with its end |
//! | `end 1234` | last: how many lines stood before it |
//!
//! Sessions stand least recently used first, for they must end in the same order on the server that
//! reads this; keys stand in byte order. One state has one text. Words are tokens of
//! [`crate::text`], as in a batch.
//!
//! It keeps invariants I5 and I7 over a snapshot: the counters and the sessions travel with the
//! map, so a retry that arrives after it is still a retry (pitfall P24). A text that ends early,
//! misses its end or says a thing twice gives no store at all.
//!
//! A snapshot is made line by line ([`Store::snapshot_lines`]) or piece by piece
//! ([`Store::piece`]), for a reader far away whose link may break between any two. For a state that
//! stays put while service goes on, clone the [`Store`] first: that costs the same at any size.
//!
//! Left out on purpose: files, checksums and the wire. Whoever stores or sends the lines guards
//! them.

mod place;
mod restore;
#[cfg(test)]
mod tests;

pub use place::Place;
pub use restore::Restore;

use super::batch::{push_text, write_words};
use super::change::OUT_OF_RANGE;
use super::command::{Bytes, Outcome, SessionId};
use super::sessions::Last;
use super::store::{Counter, Store};
use super::table::{Entry, NEVER};
use crate::text::{self, ParseError, Tokens};
use place::Next;
use std::iter;
use std::ops::Bound;

/// What one line of a snapshot is about.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Head,
    Origin(u8, Counter),
    Opened,
    Session(SessionId, Option<&'a Last>),
    Pair(&'a Bytes, &'a Entry),
    End,
}

impl Part<'_> {
    /// The place right before its line.
    fn place(self) -> Place {
        Place(match self {
            Self::Head => Next::Start,
            Self::Origin(origin, _) => Next::Origin(origin),
            Self::Opened => Next::Opened,
            Self::Session(id, _) => Next::Session(id),
            Self::Pair(key, _) => Next::Pair(key.clone()),
            Self::End => Next::End,
        })
    }
}

impl Store {
    /// The lines of a snapshot of this state, none with a line end. Each is a buffer of its own:
    /// simple, and writing them costs more than making them.
    pub fn snapshot_lines(&self) -> impl Iterator<Item = Vec<u8>> {
        self.parts(&Place::START).map(|part| self.line(part))
    }

    /// The lines of the snapshot from a place on, and the place after them; none after the last
    /// line.
    ///
    /// The lines have at most `bytes_max` bytes together, each counted with a line end, unless
    /// there is but one: a piece is never empty, so that whoever asks for the next one gets on. It
    /// costs what finding a key costs, and the making of the lines; the line that no longer fits is
    /// made for nothing.
    pub fn piece(&self, from: &Place, bytes_max: usize) -> (Vec<Vec<u8>>, Option<Place>) {
        let mut lines = Vec::new();
        let mut bytes = 0;
        for part in self.parts(from) {
            let line = self.line(part);
            bytes += line.len() + 1;
            if bytes > bytes_max && !lines.is_empty() {
                return (lines, Some(part.place()));
            }
            lines.push(line);
        }
        (lines, None)
    }

    /// What the lines from a place on are about, in order.
    fn parts<'a>(&'a self, from: &Place) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let next = &from.0;
        let head = (*next == Next::Start).then_some(Part::Head);
        let origin = match next {
            Next::Start => Some(0),
            Next::Origin(origin) => Some(*origin),
            _ => None,
        };
        let opened =
            (head.is_some() || origin.is_some() || *next == Next::Opened).then_some(Part::Opened);
        let session = match next {
            Next::Session(id) => Some(*id),
            _ => opened.and_then(|_| self.sessions.oldest()),
        };
        let key = match next {
            Next::End => None,
            Next::Pair(key) => Some(Bound::Included(&**key)),
            _ => Some(Bound::Unbounded),
        };
        let origins = origin.map(|first| self.origins.range(first..));
        let sessions = session.map(|first| self.sessions.iter_from(first));
        let pairs = key.map(|first| self.table.entries(first));
        head.into_iter()
            .chain(
                origins
                    .into_iter()
                    .flatten()
                    .map(|(&origin, &counter)| Part::Origin(origin, counter)),
            )
            .chain(opened)
            .chain(
                sessions
                    .into_iter()
                    .flatten()
                    .map(|(id, last)| Part::Session(id, last)),
            )
            .chain(
                pairs
                    .into_iter()
                    .flatten()
                    .map(|(key, entry)| Part::Pair(key, entry)),
            )
            .chain(iter::once(Part::End))
    }

    fn line(&self, part: Part<'_>) -> Vec<u8> {
        match part {
            Part::Head => {
                let (slot, hash, time) = (self.applied, self.hash(), self.time());
                text_line(format_args!("store s{slot} {hash:016x} {time}"))
            }
            Part::Origin(origin, Counter { start, next }) => {
                text_line(format_args!("origin n{origin} {start} {next}"))
            }
            Part::Opened => text_line(format_args!("opened {}", self.sessions.opened())),
            Part::Session(id, last) => session_line(id, last),
            Part::Pair(key, entry) => pair_line(key, entry),
            Part::End => {
                let before = 2 + self.origins.len() + self.sessions.len() + self.table.len();
                text_line(format_args!("end {before}"))
            }
        }
    }
}

fn pair_line(key: &Bytes, entry: &Entry) -> Vec<u8> {
    // Besides the words: a slot, and seldom an end.
    const MORE_BYTES: usize = b"pair   s123456789".len();
    let Entry {
        value,
        version,
        end,
    } = entry;
    let mut pair = Vec::with_capacity(MORE_BYTES + key.len() + value.len());
    write_words(&mut pair, b"pair", &[key, value]);
    push_text(&mut pair, format_args!(" s{version}"));
    if *end != NEVER {
        push_text(&mut pair, format_args!(" {end}"));
    }
    pair
}

fn text_line(text: std::fmt::Arguments<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    push_text(&mut line, text);
    line
}

fn session_line(id: SessionId, last: Option<&Last>) -> Vec<u8> {
    let mut out = text_line(format_args!("session {id}"));
    let Some(Last { seq, outcome }) = last else {
        return out;
    };
    push_text(&mut out, format_args!(" {seq} "));
    match outcome {
        Outcome::Ok => out.extend_from_slice(b"ok"),
        Outcome::NotFound => out.extend_from_slice(b"not_found"),
        Outcome::Mismatch(value) => write_words(&mut out, b"mismatch", &[value]),
        Outcome::Number(number) => push_text(&mut out, format_args!("number {number}")),
        Outcome::NotANumber(OUT_OF_RANGE) => out.extend_from_slice(b"out_of_range"),
        Outcome::NotANumber(_) => out.extend_from_slice(b"no_integer"),
        Outcome::Unmet => out.extend_from_slice(b"unmet"),
        Outcome::TooLong => out.extend_from_slice(b"too_long"),
        Outcome::Session(_)
        | Outcome::StaleSeq(_)
        | Outcome::NoSession
        | Outcome::Value(_)
        | Outcome::Remaining(_)
        | Outcome::Steps(_)
        | Outcome::Changed => {
            unreachable!("I7: session {id} remembers {outcome:?}, which no change comes to")
        }
    }
    out
}

/// A number behind a letter.
fn prefixed(tokens: &mut Tokens<'_>, letter: u8, expected: &str) -> Result<u64, ParseError> {
    let token = tokens.need(expected)?;
    token
        .strip_prefix(&[letter])
        .and_then(text::number)
        .ok_or_else(|| ParseError::at(expected, &token))
}
