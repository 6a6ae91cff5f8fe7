//! The state machine once more, in the simplest way: what the servers' stores are compared with.
//!
//! It shares the commands and their text with `kv`, and nothing of how they run. It remembers every
//! value that a key ever had and from which slot on, so that a read can be judged by the slot that
//! it was made at.

use std::collections::BTreeMap;

use crate::kv::batch::parse_batch;
use crate::kv::command::{Bytes, Command, CommandId, Outcome, SessionId, Write};
use crate::paxos::types::Value;

/// A command that applied, and what it came to.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) id: CommandId,
    pub(super) command: Command,
    pub(super) outcome: Outcome,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Model {
    slot: u64,
    /// Of each key, from which slot on it had which value.
    versions: BTreeMap<Bytes, Vec<(u64, Option<Bytes>)>>,
    /// The last seq of each session, and its outcome.
    sessions: BTreeMap<SessionId, Option<(u64, Outcome)>>,
    /// The newest start of each origin and the number that comes next.
    origins: BTreeMap<u8, (u64, u64)>,
}

impl Model {
    /// The next slot is decided with this value.
    pub(super) fn apply(&mut self, value: &Value) -> Result<Vec<Applied>, String> {
        self.slot += 1;
        let slot = self.slot;
        if value.is_noop() {
            return Ok(Vec::new());
        }
        let commands = parse_batch(value.as_bytes())
            .map_err(|error| format!("s{slot} holds no batch: {error}"))?;
        let mut applied = Vec::new();
        for numbered in commands {
            let (id, command) = (numbered.id, numbered.command);
            let origin = self.origins.entry(id.origin).or_insert((0, 1));
            if id.start > origin.0 {
                *origin = (id.start, 1);
            }
            if *origin != (id.start, id.number) {
                continue;
            }
            origin.1 += 1;
            let outcome = self.run(&command);
            applied.push(Applied {
                id,
                command,
                outcome,
            });
        }
        Ok(applied)
    }

    fn run(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Session => {
                let id = SessionId(self.sessions.len() as u64 + 1);
                self.sessions.insert(id, None);
                Outcome::Session(id)
            }
            Command::Write(write) => self.write(write),
            Command::Once {
                session,
                seq,
                write,
            } => match self.sessions.get(session) {
                None => Outcome::NoSession,
                Some(Some((last, _))) if seq < last => Outcome::StaleSeq(*last),
                Some(Some((last, outcome))) if seq == last => outcome.clone(),
                Some(_) => {
                    let outcome = self.write(write);
                    self.sessions
                        .insert(*session, Some((*seq, outcome.clone())));
                    outcome
                }
            },
        }
    }

    fn write(&mut self, write: &Write) -> Outcome {
        let key = key_of(write);
        let current = self.at(key, self.slot);
        let (next, outcome) = match (write, current) {
            (Write::Put { value, .. }, _) => (Some(value.clone()), Outcome::Ok),
            (Write::Delete { .. } | Write::Cas { .. }, None) => return Outcome::NotFound,
            (Write::Delete { .. }, Some(_)) => (None, Outcome::Ok),
            (Write::Cas { expected, new, .. }, Some(current)) => {
                if current != *expected {
                    return Outcome::Mismatch(current);
                }
                (Some(new.clone()), Outcome::Ok)
            }
            (Write::Incr { by, .. }, current) => {
                let Some(sum) = number(current.as_deref()).and_then(|now| now.checked_add(*by))
                else {
                    return Outcome::NotANumber("");
                };
                let text = Bytes::from(sum.to_string().into_bytes());
                (Some(text), Outcome::Number(sum))
            }
        };
        let versions = self.versions.entry(key.clone()).or_default();
        versions.push((self.slot, next));
        outcome
    }

    /// What a key held after a slot.
    pub(super) fn at(&self, key: &[u8], slot: u64) -> Option<Bytes> {
        let versions = self.versions.get(key)?;
        let count = versions.partition_point(|&(since, _)| since <= slot);
        versions[..count].last()?.1.clone()
    }

    /// All keys with this beginning that were there after a slot.
    pub(super) fn list(&self, prefix: &[u8], slot: u64) -> Vec<(Bytes, Bytes)> {
        let keys = self.versions.keys().filter(|key| key.starts_with(prefix));
        keys.filter_map(|key| Some((key.clone(), self.at(key, slot)?)))
            .collect()
    }

    /// What came of the last command of a session, if it has this seq.
    pub(super) fn session(&self, session: SessionId) -> Option<&(u64, Outcome)> {
        self.sessions.get(&session)?.as_ref()
    }

    /// How many sessions were opened.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.len() as u64
    }
}

/// The key that a write changes.
pub(super) fn key_of(write: &Write) -> &Bytes {
    match write {
        Write::Put { key, .. }
        | Write::Delete { key }
        | Write::Cas { key, .. }
        | Write::Incr { key, .. } => key,
    }
}

/// Whether two outcomes are the same; the texts for people do not count.
pub(super) fn same(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Outcome::NotANumber(_), Outcome::NotANumber(_)) => true,
        _ => one == other,
    }
}

/// The number that `INCR` sees: as it writes one itself.
fn number(text: Option<&[u8]>) -> Option<i64> {
    let Some(text) = text else { return Some(0) };
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}
