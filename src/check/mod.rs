//! Histories of clients, and whether they could have come from one map that does one thing at a time.
//!
//! A history is what clients saw: when they asked, what for, when the answer came and what it said.
//! It is *linearizable* (Herlihy and Wing, TOPLAS 1990) if each operation can be given one moment
//! between its call and its end such that, done in the order of these moments by a single map, all
//! have the answers that were seen. That is what Quince promises, whoever leads and whatever dies;
//! this module is the judge, and knows nothing of how the promise is kept.
//!
//! | file | holds |
//! | --- | --- |
//! | [`history`] | operations, their ends, and what each end proves |
//! | [`mod@format`] | a history as lines of text, and back |
//! | [`part`] | the history cut into keys: what each operation says about one key |
//! | `values`, `bits` | values as small numbers, sets of operations as bits |
//! | `search` | the search for an order, one key at a time |
//! | `shrink` | a refused history made as small as it goes |
//! | `timeline` | what is left of it, drawn for people |
//!
//! Linearizability is local: a history is linearizable if the part of each key is. So the search
//! never sees more than one key, and a bench over a thousand keys is a thousand small questions.
//!
//! Left out, with its price:
//! * `MGET` is judged as a read of each of its keys, and `LIST` as one of every key that it shows, and of
//!   every other key of the history that its prefix covers and that it does not show. That all of these
//!   are of *one* moment is not judged: a list that mixes two moments passes if each of its lines was
//!   true at some time of it.
//! * `LOCAL` reads promise nothing and are not judged; they are counted.
//! * An `APPEND`, or a refused `INCR` (`NOT_A_NUMBER`) or `APPEND` (`TOO_LONG`), on a key of which nothing
//!   is known yet proves less than it could. It never makes a right history look wrong.

pub mod format;
pub mod history;
pub mod part;

mod bits;
mod search;
mod shrink;
mod timeline;
mod values;

#[cfg(test)]
mod tests;

use crate::kv::command::Bytes;
use history::History;
use part::{Part, Parts};
use search::Outcome;

pub use timeline::Counterexample;

/// How many configurations the search for one key may look at before it gives up. Most keys take
/// fewer than ten an operation.
pub const STATES_MAX: u64 = 5_000_000;

/// What a key held before the first operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// Nothing: the store was empty.
    Empty,
    /// Nobody recorded it: the first operations tell.
    Unknown,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Operations that were judged, those without an end among them.
    pub operations: usize,
    /// Keys that they are about.
    pub keys: usize,
    /// Operations that may have been done, then or later, or never.
    pub open: usize,
    /// Operations that were surely never done: no value of theirs may ever be seen.
    pub refused: usize,
    /// `LOCAL` reads, which are not judged.
    pub local: usize,
    /// The keys that could not be decided within [`STATES_MAX`] configurations.
    pub undecided: Vec<Bytes>,
    /// The proof that the history is not linearizable; none if none was found.
    pub violation: Option<Counterexample>,
}

impl Report {
    /// Whether every key was decided, and well.
    pub fn is_linearizable(&self) -> bool {
        self.violation.is_none() && self.undecided.is_empty()
    }
}

/// Judges a history, looking at `states_max` configurations a key at most.
pub fn check(history: &History, begins: Begins, states_max: u64) -> Report {
    let parts = Parts::of(history);
    let mut undecided = Vec::new();
    let mut earliest: Option<(u64, &Part)> = None;
    for part in &parts.parts {
        match search::run(&part.entries, begins, states_max) {
            Outcome::Linearizable => {}
            Outcome::Undecided => undecided.push(part.key.clone()),
            Outcome::Fails(at) => {
                let end = shrink::failing_end(part, at, begins, states_max);
                if earliest.is_none_or(|(before, _)| end < before) {
                    earliest = Some((end, part));
                }
            }
        }
    }
    let violation = earliest.map(|(end, part)| {
        let shrunk = shrink::shrink(part, end, begins, states_max);
        Counterexample::new(history, part, &shrunk)
    });
    Report {
        operations: parts.judged,
        keys: parts.parts.len(),
        open: parts.open,
        refused: parts.refused,
        local: parts.local,
        undecided,
        violation,
    }
}
