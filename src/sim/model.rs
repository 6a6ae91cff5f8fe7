//! The state machine once more, in the simplest way: what the servers' stores are compared with.
//!
//! It shares the commands and their text with `kv`, and nothing of how they run. It remembers every
//! value that a key ever had and from which slot on, so that a read can be judged by the slot that
//! it was made at. A key is over at a slot if the highest stamp up to there is past its end: that is
//! looked up at each question, and nothing is ever removed.

use std::collections::BTreeMap;

use crate::kv::batch::parse_stamped;
use crate::kv::command::{
    Bytes, Command, CommandId, Deadline, ExpireIf, Lifetime, Outcome, Presence, SessionId, Step,
    Transaction, VALUE_BYTES_MAX, Write,
};
use crate::paxos::types::Value;

/// A command that applied, and what it came to.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) id: CommandId,
    pub(super) command: Command,
    pub(super) outcome: Outcome,
}

/// What a slot brought.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) applied: Vec<Applied>,
    /// The lives, in milliseconds from their command on, that its stamp ended.
    pub(super) ended: Vec<u64>,
}

/// What a key held from a slot on.
#[derive(Debug, Clone)]
struct Version {
    since: u64,
    held: Option<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    value: Bytes,
    end: Option<Ends>,
}

/// When a key ends.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// In milliseconds.
    at: u64,
    /// How long after the command that said so.
    after: u64,
}

/// How often what came to pass, so that it can be seen that it did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Felt {
    pub(super) transactions_done: u64,
    pub(super) transactions_changed: u64,
    pub(super) keys_ended: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Model {
    felt: Felt,
    slot: u64,
    /// From which slot on it was which time.
    times: Vec<(u64, u64)>,
    /// Of each key, what it held when.
    versions: BTreeMap<Bytes, Vec<Version>>,
    /// The last seq of each session, and its outcome.
    sessions: BTreeMap<SessionId, Option<(u64, Outcome)>>,
    /// The newest start of each origin and the number that comes next.
    origins: BTreeMap<u8, (u64, u64)>,
}

impl Model {
    /// The next slot is decided with this value.
    pub(super) fn apply(&mut self, value: &Value) -> Result<News, String> {
        self.slot += 1;
        let slot = self.slot;
        let mut news = News::default();
        if value.is_noop() {
            return Ok(news);
        }
        let (stamp, commands) = parse_stamped(value.as_bytes())
            .map_err(|error| format!("s{slot} holds no batch: {error}"))?;
        if let Some(stamp) = stamp
            && stamp > self.time(slot)
        {
            news.ended = self.lives_over(stamp);
            self.felt.keys_ended += news.ended.len() as u64;
            self.times.push((slot, stamp));
        }
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
            news.applied.push(Applied {
                id,
                command,
                outcome,
            });
        }
        Ok(news)
    }

    fn run(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Session => {
                let id = SessionId(self.sessions.len() as u64 + 1);
                self.sessions.insert(id, None);
                Outcome::Session(id)
            }
            Command::Write(write) => self.write(write),
            Command::Exec(transaction) => self.exec(transaction),
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

    fn exec(&mut self, transaction: &Transaction) -> Outcome {
        for watched in &transaction.watched {
            let last = self.last(&watched.key, self.slot);
            let version = last.and_then(|version| version.held.as_ref().map(|_| version.since));
            if version != watched.version {
                self.felt.transactions_changed += 1;
                return Outcome::Changed;
            }
        }
        self.felt.transactions_done += 1;
        Outcome::Steps(
            transaction
                .steps
                .iter()
                .map(|step| self.step(step))
                .collect(),
        )
    }

    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Write(write) => self.write(write),
            Step::Get { key } => match self.at(key, self.slot) {
                Some(value) => Outcome::Value(value),
                None => Outcome::NotFound,
            },
            Step::Ttl { key } => match self.held(key) {
                None => Outcome::NotFound,
                Some(Held { end: None, .. }) => Outcome::Remaining(None),
                Some(Held { end: Some(end), .. }) => {
                    let rest = end.at - self.time(self.slot);
                    Outcome::Remaining(Some(rest.max(1)))
                }
            },
            Step::Size => {
                let count = self.list(b"", self.slot).len();
                Outcome::Number(i64::try_from(count).expect("few keys"))
            }
            Step::Time => {
                let time = self.time(self.slot);
                Outcome::Number(i64::try_from(time).expect("a stamp"))
            }
            Step::Clear => {
                for versions in self.versions.values_mut() {
                    versions.push(Version {
                        since: self.slot,
                        held: None,
                    });
                }
                Outcome::Ok
            }
        }
    }

    fn write(&mut self, write: &Write) -> Outcome {
        let held = self.held(write.key());
        let end = held.as_ref().and_then(|held| held.end);
        let current = held.as_ref().map(|held| held.value.clone());
        let text = current.as_deref().unwrap_or_default();
        let (value, end, outcome) = match write {
            Write::Put { value, .. } => (Some(value.clone()), None, Outcome::Ok),
            Write::Set {
                value,
                only,
                lifetime,
                ..
            } => {
                let there = current.is_some();
                if *only == Presence::Absent && there || *only == Presence::Present && !there {
                    return Outcome::Unmet;
                }
                let value = value.clone();
                let (value, end) = match lifetime {
                    Lifetime::Endless => (Some(value), None),
                    Lifetime::Kept => (Some(value), end),
                    Lifetime::Until(deadline) => self.until(*deadline, Some(value)),
                };
                (value, end, Outcome::Ok)
            }
            Write::Append { value, .. } => {
                let longer = [text, value].concat();
                let length = i64::try_from(longer.len()).expect("short");
                (Some(longer.into()), end, Outcome::Number(length))
            }
            Write::SetRange { offset, value, .. } => {
                let length =
                    |text: &[u8]| Outcome::Number(i64::try_from(text.len()).expect("short"));
                if value.is_empty() {
                    return length(text);
                }
                if offset.saturating_add(value.len() as u64) > VALUE_BYTES_MAX as u64 {
                    return Outcome::TooLong;
                }
                let mut longer = text.to_vec();
                for (at, &byte) in (*offset..).zip(value.iter()) {
                    let at = usize::try_from(at).expect("within a value");
                    while longer.len() <= at {
                        longer.push(0);
                    }
                    longer[at] = byte;
                }
                let outcome = length(&longer);
                (Some(longer.into()), end, outcome)
            }
            Write::Incr { by, .. } => {
                let Some(sum) = number(current.as_deref()).and_then(|now| now.checked_add(*by))
                else {
                    return Outcome::NotANumber("");
                };
                let text = Bytes::from(sum.to_string().into_bytes());
                (Some(text), end, Outcome::Number(sum))
            }
            Write::Delete { .. }
            | Write::Cas { .. }
            | Write::Expire { .. }
            | Write::Persist { .. }
                if current.is_none() =>
            {
                return Outcome::NotFound;
            }
            Write::Delete { .. } => (None, None, Outcome::Ok),
            Write::Cas { expected, new, .. } => {
                if text != &**expected {
                    return Outcome::Mismatch(text.into());
                }
                (Some(new.clone()), end, Outcome::Ok)
            }
            Write::Expire { deadline, only, .. } => {
                let (value, next) = self.until(*deadline, current);
                if !is_met(*only, end, next) {
                    return Outcome::Unmet;
                }
                (value, next, Outcome::Ok)
            }
            Write::Persist { .. } => {
                if end.is_none() {
                    return Outcome::Unmet;
                }
                (current, None, Outcome::Ok)
            }
        };
        let version = Version {
            since: self.slot,
            held: value.map(|value| Held { value, end }),
        };
        let versions = self.versions.entry(write.key().clone()).or_default();
        versions.push(version);
        outcome
    }

    /// What a new end makes of a value: nothing, if it has come.
    fn until(&self, deadline: Deadline, value: Option<Bytes>) -> (Option<Bytes>, Option<Ends>) {
        let now = self.time(self.slot);
        let end = match deadline {
            Deadline::In(after) => Ends {
                at: now + after,
                after,
            },
            // Whatever it was when the command was made.
            Deadline::At(at) => Ends { at, after: 0 },
        };
        (value.filter(|_| now < end.at), Some(end))
    }

    /// The lives that are over at a later time, of the keys that are there.
    fn lives_over(&self, time: u64) -> Vec<u64> {
        let held = self.versions.keys().filter_map(|key| self.held(key));
        held.filter_map(|held| held.end)
            .filter(|end| end.at < time)
            .map(|end| end.after)
            .collect()
    }

    pub(super) fn felt(&self) -> Felt {
        self.felt
    }

    /// The highest stamp up to a slot.
    fn time(&self, slot: u64) -> u64 {
        let count = self.times.partition_point(|&(since, _)| since <= slot);
        self.times[..count].last().map_or(0, |&(_, time)| time)
    }

    /// What a key held after a slot, if it was not over.
    fn last(&self, key: &[u8], slot: u64) -> Option<&Version> {
        let versions = self.versions.get(key)?;
        let count = versions.partition_point(|version| version.since <= slot);
        let last = versions[..count].last()?;
        let over = last.held.as_ref().and_then(|held| held.end);
        over.is_none_or(|end| self.time(slot) <= end.at)
            .then_some(last)
    }

    /// What a key holds now.
    fn held(&self, key: &[u8]) -> Option<Held> {
        self.last(key, self.slot)?.held.clone()
    }

    /// The value of a key after a slot.
    pub(super) fn at(&self, key: &[u8], slot: u64) -> Option<Bytes> {
        Some(self.last(key, slot)?.held.as_ref()?.value.clone())
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

/// Whether two outcomes are the same; the texts for people do not count.
pub(super) fn same(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Outcome::NotANumber(_), Outcome::NotANumber(_)) => true,
        (Outcome::Steps(one), Outcome::Steps(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => one == other,
    }
}

/// The number that `INCR` sees: as it writes one itself.
fn number(text: Option<&[u8]>) -> Option<i64> {
    let Some(text) = text else { return Some(0) };
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// Whether a new end may take the place of the one that is there. A key without one stays longest.
fn is_met(only: ExpireIf, end: Option<Ends>, next: Option<Ends>) -> bool {
    let at = |end: Option<Ends>| end.map_or(u64::MAX, |end| end.at);
    match only {
        ExpireIf::Any => true,
        ExpireIf::Endless => end.is_none(),
        ExpireIf::Mortal => end.is_some(),
        ExpireIf::Later => at(next) > at(end),
        ExpireIf::Sooner => at(next) < at(end),
    }
}
