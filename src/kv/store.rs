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
//! A batch may carry the time that its leader gave it. The store's time is the highest such stamp so
//! far: so a key ends at one slot, the same on every server, and no server's clock is asked
//! (`kv/table.rs`).
//!
//! An image of the state for a snapshot is a clone: the maps are persistent ones. That makes each
//! command somewhat dearer than `BTreeMap` would, more so while an image is held. What it buys is that
//! nobody waits while a snapshot is made, and that there is no second state to keep in step.
//!
//! Left out on purpose: locks (who owns the store decides), the disk, and the check whether a read
//! is fresh enough. A read here answers from what is applied, now.

use super::batch::{Batch, Numbered};
use super::change::{change, number};
use super::command::{
    Bytes, Command, CommandId, List, Millis, Outcome, Step, TOLD_BYTES_MAX, Transaction,
};
use super::hash::Hash;
use super::sessions::Sessions;
use super::table::{NEVER, Table};
use std::collections::BTreeMap;
use std::ops::Bound;

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
    pub(super) table: Table,
    pub(super) sessions: Sessions,
    /// By the number of the origin.
    pub(super) origins: BTreeMap<u8, Counter>,
    pub(super) applied: u64,
    pub(super) hash: Hash,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            table: Table::default(),
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
        let swept = self.table.begin_slot(slot, batch.stamp());
        if swept > 0 {
            self.hash.word(SWEPT_WORD);
            self.hash.word(swept as u64);
        }
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

    /// The time of the last stamp: milliseconds since 1970.
    pub fn time(&self) -> Millis {
        self.table.time()
    }

    /// When the next key ends; before [`Store::time`] while some that are over are still to be removed.
    pub fn first_end(&self) -> Option<Millis> {
        self.table.first_end()
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.table.get(key).map(|entry| entry.value.clone())
    }

    /// The slot that changed `key` last, if it is there.
    pub fn version(&self, key: &[u8]) -> Option<u64> {
        self.table.get(key).map(|entry| entry.version)
    }

    /// How many milliseconds `key` stays after `time`, if it is there and if it has an end. At least 1:
    /// it is over when the log says so, and not before.
    pub fn remaining(&self, key: &[u8], time: Millis) -> Option<Option<Millis>> {
        let end = self.table.get(key)?.end;
        Some((end != NEVER).then(|| end.saturating_sub(time).max(1)))
    }

    /// All keys that begin with `prefix`, with their values, in byte order of the keys.
    pub fn list(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.listed(&List::of(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// The keys of a list, with their values, in byte order of the keys.
    pub fn listed(&self, list: &List) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let limit = list.limit.and_then(|limit| usize::try_from(limit).ok());
        self.range(Bound::Included(list.start()))
            .take_while(|(key, _)| key.starts_with(&list.prefix))
            .take(limit.unwrap_or(usize::MAX))
    }

    /// All keys from `start` on, with their values, in byte order of the keys.
    pub fn range(&self, start: Bound<&[u8]>) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.table.range(start)
    }

    /// How many keys are over by `time` and still to be removed, as far as `limit`.
    pub fn overdue(&self, time: Option<Millis>, limit: usize) -> usize {
        self.table.overdue(time, limit)
    }

    /// How many keys there are. Where very many end together, some that are over are counted for a few
    /// slots more.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// How many of them have an end.
    pub fn mortal(&self) -> usize {
        self.table.mortal()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
            Command::Write(write) => change(&mut self.table, write),
            Command::Once {
                session,
                seq,
                write,
            } => self
                .sessions
                .once(*session, *seq, || change(&mut self.table, write)),
            Command::Session => Outcome::Session(self.sessions.open()),
            Command::Exec(transaction) => self.exec(transaction),
        }
    }

    fn exec(&mut self, transaction: &Transaction) -> Outcome {
        let Transaction { watched, steps } = transaction;
        if watched
            .iter()
            .any(|watched| self.version(&watched.key) != watched.version)
        {
            return Outcome::Changed;
        }
        let mut told = 0;
        let outcomes = steps.iter().map(|step| {
            let outcome = self.step(step);
            let (Outcome::Value(value) | Outcome::Mismatch(value)) = &outcome else {
                return outcome;
            };
            told += value.len();
            match told {
                0..=TOLD_BYTES_MAX => outcome,
                _ => Outcome::TooLong,
            }
        });
        Outcome::Steps(outcomes.collect())
    }

    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Write(write) => change(&mut self.table, write),
            Step::Get { key } => self.get(key).map_or(Outcome::NotFound, Outcome::Value),
            Step::Ttl { key } => match self.remaining(key, self.time()) {
                None => Outcome::NotFound,
                Some(millis) => Outcome::Remaining(millis),
            },
            Step::Size => Outcome::Number(number(self.len())),
            Step::Time => {
                let time = i64::try_from(self.time());
                Outcome::Number(time.expect("a stamp is at most MILLIS_MAX"))
            }
            Step::Clear => {
                self.table.clear();
                Outcome::Ok
            }
        }
    }
}

/// The word that stands in the running hash before how many keys a slot has removed that were over.
const SWEPT_WORD: u64 = 17;

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
/// | applied: `Unmet`, `TooLong`, `Changed` | 11, 12, 13 | |
/// | applied: `Value` | 14 | none: it was hashed when it was written |
/// | applied: `Remaining` | 15 | the milliseconds; all ones for no end |
/// | applied: `Steps` | 16 | how many, then each outcome as if it had applied alone |
fn hash_fate(hash: &mut Hash, fate: &Fate) {
    match fate {
        Fate::Applied(outcome) => hash_outcome(hash, outcome),
        Fate::Repeat => hash.word(9),
        Fate::Skipped { expected } => {
            hash.word(10);
            hash.word(*expected);
        }
    }
}

fn hash_outcome(hash: &mut Hash, outcome: &Outcome) {
    let (word, content) = match outcome {
        Outcome::Ok => (1, None),
        Outcome::NotFound => (2, None),
        Outcome::Mismatch(_) => (3, None),
        Outcome::Number(number) => (4, Some(number.cast_unsigned())),
        Outcome::Session(id) => (5, Some(id.0)),
        Outcome::NotANumber(_) => (6, None),
        Outcome::StaleSeq(last) => (7, Some(*last)),
        Outcome::NoSession => (8, None),
        Outcome::Unmet => (11, None),
        Outcome::TooLong => (12, None),
        Outcome::Changed => (13, None),
        Outcome::Value(_) => (14, None),
        Outcome::Remaining(millis) => (15, Some(millis.unwrap_or(u64::MAX))),
        Outcome::Steps(outcomes) => (16, Some(outcomes.len() as u64)),
    };
    hash.word(word);
    if let Some(content) = content {
        hash.word(content);
    }
    match outcome {
        Outcome::Mismatch(value) => hash.bytes(value),
        Outcome::Steps(outcomes) => {
            for outcome in outcomes {
                hash_outcome(hash, outcome);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
