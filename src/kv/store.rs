//! The store: the map, and what it takes to change it by the log and by nothing else.
//!
//! [`Store::apply`] takes the batches of the log, slot after slot without a gap (P19), and says of
//! each command what became of it. What it says and what it leaves behind depend on the batches
//! alone, so every server that has applied slot s holds the same bytes (invariant I5), and the
//! running hash of [`super::hash`] shows it if not.
//!
//! A command has the name that its origin gave it: the server's number, its start counter, and a
//! number from 1 without gaps. A server hands the same command on again when it hears nothing, and
//! leaders come and go, so the log may hold it twice, or its successor before it. One counter for
//! each origin sorts that out (invariant I7, pitfalls P18 and P50):
//!
//! | the command's | and | becomes of it |
//! | --- | --- | --- |
//! | start is newer | | the counter begins afresh for that start, at 1; older starts are void from here on |
//! | start is older | | `Repeat`: void |
//! | number is lower than expected | | `Repeat` |
//! | number is the expected one | | it applies, and the next is expected |
//! | number is higher | | `Skipped`: it will come again, after those before it |
//!
//! So the order of one server's clients is kept, whatever leaders and slots did.
//!
//! `INCR` takes for a number exactly what it writes itself: an optional `-` and digits, within 64
//! bits, with no `+`, no leading zero, no `-0` and no blank. A value such as `007` is more likely a
//! code than a count, and would come back without its zeros.
//!
//! An image of the state for a snapshot is a clone: the maps are persistent ones. That makes each
//! command somewhat dearer than `BTreeMap` would, more so while an image is held. What it buys is that
//! nobody waits while a snapshot is made, and that there is no second state to keep in step.
//!
//! Left out on purpose: locks (who owns the store decides), the disk, and the check whether a read
//! is fresh enough. A read here answers from what is applied, now.

use super::batch::{Batch, Numbered};
use super::command::{Bytes, Command, CommandId, Outcome, Write};
use super::hash::Hash;
use super::sessions::Sessions;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The text for `INCR` on a value that is no number.
pub(super) const NO_INTEGER: &str = "the value is no 64-bit integer";

/// The text for an `INCR` past the range.
pub const OUT_OF_RANGE: &str = "the sum is outside the range of a 64-bit integer";

/// What became of a command when its slot was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It ran, here and now.
    Applied(Outcome),
    /// It ran before, or its origin has started anew since: nothing was done.
    Repeat,
    /// Commands before it are still missing: nothing was done, and it will come again.
    Skipped {
        /// The number that would have applied.
        expected: u64,
    },
}

/// Which command of an origin applies next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The newest start of the origin that the log has shown; 0 before the first.
    pub start: u64,
    /// The number that applies next in that start.
    pub next: u64,
}

impl Default for Counter {
    fn default() -> Self {
        Self { start: 0, next: 1 }
    }
}

/// The replicated state after some slot. A clone costs the same at any size, and stays as it is
/// while the original goes on: the two share what neither has changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub(super) map: OrdMap<Bytes, Bytes>,
    pub(super) sessions: Sessions,
    /// By the number of the origin.
    pub(super) origins: BTreeMap<u8, Counter>,
    pub(super) applied: u64,
    pub(super) hash: Hash,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            map: OrdMap::new(),
            sessions: Sessions::default(),
            origins: BTreeMap::new(),
            applied: 0,
            hash: Hash::START,
        }
    }
}

impl Store {
    /// The empty store, before slot 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the batch of `slot`, which must be the one after [`Store::applied`], and tells
    /// `sink` what became of each command, in order. A slot that changes nothing is an empty batch.
    pub fn apply(&mut self, slot: u64, batch: &Batch, mut sink: impl FnMut(CommandId, Fate)) {
        assert_eq!(
            slot,
            self.applied + 1,
            "I5: s{slot} applied right after s{}",
            self.applied
        );
        self.applied = slot;
        self.hash.word(slot);
        self.hash.word(batch.text_hash());
        for Numbered { id, command } in batch.commands() {
            let fate = match self.admit(*id) {
                Ok(()) => Fate::Applied(self.run(command)),
                Err(fate) => fate,
            };
            hash_fate(&mut self.hash, &fate);
            sink(*id, fate);
        }
    }

    /// The last slot that was applied; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The running hash of all that was applied.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// Which command of `origin` applies next.
    pub fn counter(&self, origin: u8) -> Counter {
        self.origins.get(&origin).copied().unwrap_or_default()
    }

    /// The sessions that live.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.map.get(key).cloned()
    }

    /// All keys that begin with `prefix`, with their values, in byte order of the keys.
    pub fn list(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.range(Bound::Included(prefix))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// All keys from `start` on, with their values, in byte order of the keys.
    pub fn range(&self, start: Bound<&[u8]>) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.map.range::<_, [u8]>((start, Bound::Unbounded))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Moves the counter of the command's origin, or says why the command does not run.
    fn admit(&mut self, id: CommandId) -> Result<(), Fate> {
        let counter = self.origins.entry(id.origin).or_default();
        if id.start > counter.start {
            *counter = Counter {
                start: id.start,
                next: 1,
            };
        }
        if id.start < counter.start || id.number < counter.next {
            return Err(Fate::Repeat);
        }
        if id.number > counter.next {
            return Err(Fate::Skipped {
                expected: counter.next,
            });
        }
        counter.next += 1;
        Ok(())
    }

    fn run(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Write(write) => change(&mut self.map, write),
            Command::Once {
                session,
                seq,
                write,
            } => self
                .sessions
                .once(*session, *seq, || change(&mut self.map, write)),
            Command::Session => Outcome::Session(self.sessions.open()),
        }
    }
}

fn change(map: &mut OrdMap<Bytes, Bytes>, write: &Write) -> Outcome {
    match write {
        Write::Put { key, value } => {
            map.insert(key.clone(), value.clone());
            Outcome::Ok
        }
        Write::Delete { key } => match map.remove(key) {
            Some(_) => Outcome::Ok,
            None => Outcome::NotFound,
        },
        // Not `get_mut`: it copies what a clone shares, also where nothing is to change.
        Write::Cas { key, expected, new } => match map.get(key) {
            None => Outcome::NotFound,
            Some(current) if current != expected => Outcome::Mismatch(current.clone()),
            Some(_) => {
                map.insert(key.clone(), new.clone());
                Outcome::Ok
            }
        },
        Write::Incr { key, by } => incr(map, key, *by),
    }
}

fn incr(map: &mut OrdMap<Bytes, Bytes>, key: &Bytes, by: i64) -> Outcome {
    let current = match map.get(key) {
        None => 0,
        Some(value) => match integer(value) {
            Some(current) => current,
            None => return Outcome::NotANumber(NO_INTEGER),
        },
    };
    match current.checked_add(by) {
        None => Outcome::NotANumber(OUT_OF_RANGE),
        Some(sum) => {
            map.insert(key.clone(), sum.to_string().into_bytes().into());
            Outcome::Number(sum)
        }
    }
}

/// A 64-bit integer in the one text that `INCR` writes for it.
fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = text == b"0" || matches!(digits.first(), Some(b'1'..=b'9'));
    if canonical {
        std::str::from_utf8(text).ok()?.parse().ok()
    } else {
        None
    }
}

/// Adds a fate to the running hash: its word, then its content.
///
/// | fate | word | content |
/// | --- | --- | --- |
/// | applied: `Ok`, `NotFound` | 1, 2 | |
/// | applied: `Mismatch` | 3 | the value, as bytes |
/// | applied: `Number` | 4 | its two's complement |
/// | applied: `Session` | 5 | the id |
/// | applied: `NotANumber` | 6 | none: its text is for people and may be reworded |
/// | applied: `StaleSeq` | 7 | the last seq |
/// | applied: `NoSession` | 8 | |
/// | `Repeat` | 9 | |
/// | `Skipped` | 10 | the expected number |
fn hash_fate(hash: &mut Hash, fate: &Fate) {
    let (word, content) = match fate {
        Fate::Applied(Outcome::Ok) => (1, None),
        Fate::Applied(Outcome::NotFound) => (2, None),
        Fate::Applied(Outcome::Mismatch(_)) => (3, None),
        Fate::Applied(Outcome::Number(number)) => (4, Some(number.cast_unsigned())),
        Fate::Applied(Outcome::Session(id)) => (5, Some(id.0)),
        Fate::Applied(Outcome::NotANumber(_)) => (6, None),
        Fate::Applied(Outcome::StaleSeq(last)) => (7, Some(*last)),
        Fate::Applied(Outcome::NoSession) => (8, None),
        Fate::Repeat => (9, None),
        Fate::Skipped { expected } => (10, Some(*expected)),
    };
    hash.word(word);
    if let Some(content) = content {
        hash.word(content);
    }
    if let Fate::Applied(Outcome::Mismatch(value)) = fate {
        hash.bytes(value);
    }
}

#[cfg(test)]
mod tests;
