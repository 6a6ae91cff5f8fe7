//! The history cut into keys: what each operation did to one key, or saw of it, as its end proves.
//!
//! | operation and answer | on its key |
//! | --- | --- |
//! | `GET` with a value, `NOT_FOUND` | [`Act::Read`] |
//! | `PUT` | [`Act::Put`] |
//! | `DELETE` with `OK` | [`Act::Delete`]; with `NOT_FOUND` it is a read |
//! | `CAS` with `OK` | [`Act::Cas`]; with `MISMATCH` or `NOT_FOUND` it is a read |
//! | `INCR` with a number | [`Act::Incr`]; with `NOT_A_NUMBER` [`Act::NotANumber`] |
//! | `APPEND` with a length | [`Act::Append`]; with `TOO_LONG` [`Act::NoRoom`] |
//! | `EXPIRE` with `OK` | [`Act::Present`], and from then on an open [`Act::Delete`]: the key ends at some time, which no client's clock can tell; with `NOT_FOUND` it is a read |
//! | `TTL` with a value | [`Act::Present`]; with `NOT_FOUND` it is a read |
//! | `MGET` | a read of each of its keys |
//! | `LIST` | a read of each key of the history that its prefix covers |
//! | `ONCE` | its write; lines of one session and seq are one write, from the first call to the first answer |
//! | an answer that no map gives | [`Act::Never`] |
//!
//! An open read is nothing; an open write is an act that may be left out. A refused one is
//! remembered only to be named where its value turns up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::history::{History, Operation, Proof};
use super::values::integer;
use crate::kv::command::{Bytes, Command, Read, SessionId, VALUE_BYTES_MAX, Write};
use crate::wire::client::{ErrorCode, Reply, Request};

/// What an operation did to its key, or saw of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The key held this, or nothing.
    Read(Option<Bytes>),
    /// The key held something.
    Present,
    /// The key holds this from now on, whatever it held.
    Put(Bytes),
    /// There was a value, and it is gone.
    Delete,
    /// The first value was there, and is now the second.
    Cas(Bytes, Bytes),
    /// Added to a number; what it came to, where an answer tells.
    Incr {
        /// What was added.
        by: i64,
        /// The sum.
        to: Option<i64>,
    },
    /// Added to the end of a value; how long it was afterwards, where an answer tells.
    Append {
        /// What was added.
        more: Bytes,
        /// The length of the whole.
        to: Option<usize>,
    },
    /// What was there was no number, or adding this would have gone past the range.
    NotANumber(i64),
    /// What was there was too long for so many bytes more.
    NoRoom(usize),
    /// No map answers so.
    Never,
}

/// An operation, as far as one key goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which of the history's operations.
    pub operation: usize,
    /// What it did or saw.
    pub act: Act,
    /// When it was called.
    pub called: u64,
    /// By when it was surely done; none if it may have been left out, or come at any time.
    pub returned: Option<u64>,
}

/// All that a history tells of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The key.
    pub key: Bytes,
    /// In the order of the calls.
    pub entries: Vec<Entry>,
    /// The operations that surely did nothing.
    pub refused: Vec<usize>,
}

/// A history cut into keys, and what was counted on the way.
#[derive(Debug, Default)]
pub struct Parts {
    /// In byte order of the keys.
    pub parts: Vec<Part>,
    /// Operations that are judged.
    pub judged: usize,
    /// Those among them that are open.
    pub open: usize,
    /// Those among them that surely did nothing.
    pub refused: usize,
    /// `LOCAL` reads, which are not judged.
    pub local: usize,
}

impl Parts {
    /// Cuts a history.
    pub fn of(history: &History) -> Self {
        let mut cut = Cut::new(history);
        for (at, operation) in history.operations().iter().enumerate() {
            cut.take(at, operation);
        }
        cut.fold_repeats();
        let mut parts = cut.counts;
        parts.parts = cut
            .parts
            .into_values()
            .map(|mut part| {
                part.entries
                    .sort_by_key(|entry| (entry.called, entry.operation));
                part
            })
            .collect();
        parts
    }
}

/// Lines that say `ONCE` with one session and seq.
type Repeats<'a> = BTreeMap<(SessionId, u64), Vec<(usize, &'a Write)>>;

struct Cut<'a> {
    history: &'a History,
    parts: BTreeMap<Bytes, Part>,
    repeats: Repeats<'a>,
    counts: Parts,
}

impl<'a> Cut<'a> {
    fn new(history: &'a History) -> Self {
        let mut keys: BTreeSet<&Bytes> = BTreeSet::new();
        for operation in history.operations() {
            match &operation.request {
                Request::Write(Command::Write(write) | Command::Once { write, .. }) => {
                    keys.insert(write.key());
                }
                Request::Read {
                    local: false,
                    read: Read::Get { key } | Read::Ttl { key },
                } => {
                    keys.insert(key);
                }
                Request::Read {
                    local: false,
                    read: Read::Many { keys: many },
                } => keys.extend(many),
                Request::Read { local: false, .. } => {
                    if let Proof::Done(_, Reply::List(pairs)) = operation.proof() {
                        keys.extend(pairs.iter().map(|(key, _)| key));
                    }
                }
                _ => {}
            }
        }
        let part = |key: &Bytes| Part {
            key: Arc::clone(key),
            entries: Vec::new(),
            refused: Vec::new(),
        };
        Self {
            history,
            parts: keys
                .into_iter()
                .map(|key| (key.clone(), part(key)))
                .collect(),
            repeats: Repeats::new(),
            counts: Parts::default(),
        }
    }

    fn take(&mut self, at: usize, operation: &'a Operation) {
        match &operation.request {
            Request::Read { local: true, .. } => {
                self.counts.local += 1;
                return;
            }
            Request::Read { read, .. } => self.take_read(at, operation, read),
            Request::Write(Command::Write(write)) => {
                self.take_write(at, operation, write, operation.proof());
            }
            Request::Write(Command::Once {
                session,
                seq,
                write,
            }) => {
                let lines = self.repeats.entry((*session, *seq)).or_default();
                lines.push((at, write));
            }
            _ => return,
        }
        self.counts.judged += 1;
        match operation.proof() {
            Proof::Open => self.counts.open += 1,
            Proof::Never => self.counts.refused += 1,
            Proof::Done(..) => {}
        }
    }

    fn push(&mut self, key: &Bytes, entry: Entry) {
        let part = self.parts.get_mut(key).expect("all keys were collected");
        part.entries.push(entry);
    }

    fn take_read(&mut self, at: usize, operation: &Operation, read: &Read) {
        let Proof::Done(ended, reply) = operation.proof() else {
            return;
        };
        let entry = |act| Entry {
            operation: at,
            act,
            called: operation.called,
            returned: Some(ended),
        };
        match (read, reply) {
            (Read::Get { key }, reply) => {
                let act = match reply {
                    Reply::Value(value) => Act::Read(Some(value.clone())),
                    Reply::NotFound => Act::Read(None),
                    _ => Act::Never,
                };
                self.push(key, entry(act));
            }
            (Read::Many { keys }, Reply::Values(found)) if found.len() == keys.len() => {
                for (key, value) in keys.iter().zip(found) {
                    self.push(key, entry(Act::Read(value.clone())));
                }
            }
            (Read::Many { keys }, _) => {
                for key in keys {
                    self.push(key, entry(Act::Never));
                }
            }
            (Read::Ttl { key }, reply) => {
                let act = match reply {
                    Reply::Value(_) => Act::Present,
                    Reply::NotFound => Act::Read(None),
                    _ => Act::Never,
                };
                self.push(key, entry(act));
            }
            (Read::List(list), Reply::List(pairs)) => {
                let shown: BTreeMap<&Bytes, &Bytes> = pairs.iter().map(|(k, v)| (k, v)).collect();
                // A list that is full tells nothing of the keys behind its last.
                let full = list.limit.is_some_and(|limit| pairs.len() as u64 >= limit);
                let end = shown.last_key_value().filter(|_| full).map(|(key, _)| *key);
                for (key, part) in &mut self.parts {
                    let value = shown.get(key).copied().cloned();
                    if list.covers(key) && end.is_none_or(|end| key <= end) {
                        part.entries.push(entry(Act::Read(value)));
                    } else if value.is_some() {
                        part.entries.push(entry(Act::Never));
                    }
                }
            }
            // A list of no keys has no key to tell of: nothing can be said.
            (Read::List(_), _) => {}
        }
    }

    fn take_write(&mut self, at: usize, operation: &Operation, write: &Write, proof: Proof<'_>) {
        let key = write.key();
        let (act, returned) = match proof {
            Proof::Never => {
                let part = self.parts.get_mut(key).expect("all keys were collected");
                part.refused.push(at);
                return;
            }
            Proof::Open => (attempted(write), None),
            Proof::Done(ended, reply) => (answered(write, reply), Some(ended)),
        };
        let entry = |act, returned| Entry {
            operation: at,
            act,
            called: operation.called,
            returned,
        };
        // Only an `EXPIRE` that was done comes to this.
        if act == Act::Present {
            self.push(key, entry(Act::Delete, None));
        }
        self.push(key, entry(act, returned));
    }

    /// Makes one write of all lines of one session and seq.
    fn fold_repeats(&mut self) {
        for lines in std::mem::take(&mut self.repeats).into_values() {
            let operations = self.history.operations();
            let (first, write) = lines[0];
            if lines.iter().any(|(_, other)| *other != write) {
                // Two writes under one name: which of them ran, the answers do not say.
                for (at, write) in lines {
                    self.take_write(at, &operations[at], write, Proof::Open);
                }
                continue;
            }
            let proofs = || lines.iter().map(|&(at, _)| (at, operations[at].proof()));
            let done = proofs()
                .filter_map(|(at, proof)| match proof {
                    Proof::Done(ended, reply) => Some((ended, at, reply)),
                    _ => None,
                })
                .min_by_key(|&(ended, at, _)| (ended, at));
            let Some((ended, told_by, reply)) = done else {
                let open = proofs().any(|(_, proof)| proof == Proof::Open);
                let proof = if open { Proof::Open } else { Proof::Never };
                self.take_write(first, &operations[first], write, proof);
                continue;
            };
            // The name of the line that was answered, with the time of the first line's call.
            let spread = Operation {
                called: operations[first].called,
                ..operations[told_by].clone()
            };
            self.take_write(told_by, &spread, write, Proof::Done(ended, reply));
            for (at, proof) in proofs() {
                if let Proof::Done(ended, other) = proof
                    && !same(reply, other)
                {
                    let entry = Entry {
                        operation: at,
                        act: Act::Never,
                        called: operations[at].called,
                        returned: Some(ended),
                    };
                    self.push(write.key(), entry);
                }
            }
        }
    }
}

/// Of errors, the code alone counts.
fn same(a: &Reply, b: &Reply) -> bool {
    match (a, b) {
        (Reply::Error(a, _), Reply::Error(b, _)) => a == b,
        _ => a == b,
    }
}

/// What a write does if it is done and what it finds allows it.
fn attempted(write: &Write) -> Act {
    match write {
        Write::Put { value, .. } => Act::Put(value.clone()),
        Write::Delete { .. } | Write::Expire { .. } => Act::Delete,
        Write::Cas { expected, new, .. } => Act::Cas(expected.clone(), new.clone()),
        Write::Incr { by, .. } => Act::Incr { by: *by, to: None },
        Write::Append { value, .. } => Act::Append {
            more: value.clone(),
            to: None,
        },
        other => unreachable!("no line of a history asks for {other:?}"),
    }
}

/// What a write did, or saw, by its answer.
fn answered(write: &Write, reply: &Reply) -> Act {
    match (write, reply) {
        (Write::Put { .. } | Write::Delete { .. } | Write::Cas { .. }, Reply::Ok) => {
            attempted(write)
        }
        (Write::Expire { .. }, Reply::Ok) => Act::Present,
        (Write::Delete { .. } | Write::Cas { .. } | Write::Expire { .. }, Reply::NotFound) => {
            Act::Read(None)
        }
        (Write::Cas { expected, .. }, Reply::Mismatch(found)) if found != expected => {
            Act::Read(Some(found.clone()))
        }
        (Write::Incr { by, .. }, Reply::Value(sum)) => match integer(sum) {
            Some(sum) if sum.checked_sub(*by).is_some() => Act::Incr {
                by: *by,
                to: Some(sum),
            },
            _ => Act::Never,
        },
        (Write::Incr { by, .. }, Reply::Error(ErrorCode::NotANumber, _)) => Act::NotANumber(*by),
        (Write::Append { value, .. }, Reply::Value(length)) => {
            let length = integer(length).and_then(|length| usize::try_from(length).ok());
            let possible = |&length: &usize| (value.len()..=VALUE_BYTES_MAX).contains(&length);
            length
                .filter(possible)
                .map_or(Act::Never, |length| Act::Append {
                    more: value.clone(),
                    to: Some(length),
                })
        }
        (Write::Append { value, .. }, Reply::Error(ErrorCode::TooLong, _)) => {
            Act::NoRoom(value.len())
        }
        _ => Act::Never,
    }
}
