//! Clients: what they ask for, whom, and what they do when no answer comes.
//!
//! A client has one batch of requests under way, as a connection with a pipeline. When its server is
//! gone or silent it takes another one. The first clients have sessions, and send a command without
//! an outcome again, under the same seq, wherever (D12, P45). Few keys, so that clients collide.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::history::{Call, LIFE_MIN, unique_key, value_of};
use crate::kv::command::{
    Bytes, Command, Deadline, ExpireIf, Lifetime, Presence, SessionId, Step, Transaction, Watched,
    Write,
};

/// How many clients there are.
pub(super) const CLIENTS: usize = 6;

/// How many of them have sessions.
const WITH_SESSION: usize = 3;

/// How many requests a batch has at most.
const PIPELINE_MAX: u64 = 6;

/// Requests that were sent together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) client: usize,
    pub(super) node: usize,
    pub(super) life: u64,
    /// Tickets of commands.
    pub(super) commands: Vec<usize>,
    /// Tickets of reads, which are made once the commands are answered.
    pub(super) reads: Vec<usize>,
    /// Whether the reads want to be linearizable.
    pub(super) fresh: bool,
    /// How many answers are missing until the reads can be made.
    pub(super) missing: usize,
    /// Whether the node said that the reads may be made.
    pub(super) readable: bool,
    /// Nobody waits any more.
    pub(super) closed: bool,
}

/// One client.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) server: usize,
    /// Counts what it does.
    pub(super) turn: u64,
    /// The batch that it waits for.
    pub(super) open: Option<usize>,
    session: Option<SessionId>,
    seq: u64,
    /// The command of this seq, while it has no outcome.
    unsettled: Option<Write>,
    /// What it has read last.
    seen: BTreeMap<Bytes, Bytes>,
    /// The slot that had changed what it has read, when it did; none if nothing was there.
    versions: BTreeMap<Bytes, Option<u64>>,
    /// A key that it alone has put.
    own: Option<Bytes>,
}

impl Client {
    /// The next batch. `ticket` will be that of the first request. True if it is sent again.
    pub(super) fn ask(
        &mut self,
        index: usize,
        ticket: usize,
        dice: &mut Dice,
    ) -> (Vec<Call>, bool) {
        if index < WITH_SESSION && dice.chance(500) {
            return self.ask_in_session(ticket, dice);
        }
        let count = 1 + dice.index(usize::try_from(PIPELINE_MAX).expect("small"));
        if dice.chance(80) {
            let reads = (0..count).map(|_| Call::Local(shared(dice))).collect();
            return (reads, false);
        }
        let mut calls: Vec<Call> = (0..count).map(|at| self.call(ticket + at, dice)).collect();
        // Reads are made after the commands of their batch.
        calls.sort_by_key(|call| !matches!(call, Call::Command(_)));
        for (at, call) in calls.iter_mut().enumerate() {
            if let Call::Command(Command::Exec(transaction)) = call {
                for step in &mut transaction.steps {
                    if let Step::Write(write) = step {
                        sign(write, ticket + at);
                    }
                }
            }
            if let Call::Command(Command::Write(write)) = call {
                sign(write, ticket + at);
                if let Write::Put { key, .. } = write
                    && key[0] == b'u'
                {
                    *key = unique_key(ticket + at);
                    self.own = Some(key.clone());
                }
            }
        }
        (calls, false)
    }

    fn ask_in_session(&mut self, ticket: usize, dice: &mut Dice) -> (Vec<Call>, bool) {
        let Some(session) = self.session else {
            return (vec![Call::Command(Command::Session)], false);
        };
        let again = self.unsettled.is_some();
        let write = self.unsettled.take().unwrap_or_else(|| {
            self.seq += 1;
            let mut write = if dice.chance(500) {
                let key = format!("c{session}").into_bytes().into();
                Write::Incr { key, by: 1 }
            } else {
                let key = shared(dice);
                let value = value_of(ticket);
                Write::Put { key, value }
            };
            if let Write::Put { value, .. } = &mut write {
                *value = value_of(ticket);
            }
            write
        });
        self.unsettled = Some(write.clone());
        let seq = self.seq;
        let once = Command::Once {
            session,
            seq,
            write,
        };
        (vec![Call::Command(once)], again)
    }

    fn call(&mut self, ticket: usize, dice: &mut Dice) -> Call {
        if dice.chance(200) {
            return self.call_of_redis(ticket, dice);
        }
        let key = shared(dice);
        let write = match dice.below(20) {
            0..5 => return Call::Get(key),
            5 => {
                let prefix: &[u8] = dice.pick(&[b"", b"k", b"n"]);
                return Call::List(prefix.into());
            }
            6..10 => Write::Put {
                key,
                value: value_of(ticket),
            },
            10 => Write::Put {
                key: unique_key(ticket),
                value: value_of(ticket),
            },
            11..14 => {
                let expected = self.seen.get(&key).cloned();
                Write::Cas {
                    expected: expected.unwrap_or_else(|| value_of(ticket / 2)),
                    new: value_of(ticket),
                    key,
                }
            }
            14 => Write::Delete { key },
            15 => match self.own.take() {
                Some(key) => Write::Delete { key },
                None => Write::Delete { key },
            },
            _ => Write::Incr {
                key: format!("n{}", dice.below(2)).into_bytes().into(),
                by: 0,
            },
        };
        Call::Command(Command::Write(write))
    }

    /// What connections of RESP ask for, on keys of their own: they come and go by themselves.
    fn call_of_redis(&mut self, ticket: usize, dice: &mut Dice) -> Call {
        let key = mortal(dice);
        match dice.below(6) {
            0 => Call::Get(key),
            1 | 2 => Call::Command(Command::Exec(Box::new(self.transaction(ticket, dice)))),
            _ => Call::Command(Command::Write(write_of_redis(key, ticket, dice))),
        }
    }

    fn transaction(&mut self, ticket: usize, dice: &mut Dice) -> Transaction {
        let watched = (self.versions.iter())
            .filter(|_| dice.chance(300))
            .map(|(key, version)| Watched {
                key: key.clone(),
                version: *version,
            })
            .collect();
        // Its first step tells whose it is.
        let mut steps = vec![Step::Write(Write::Put {
            key: mortal(dice),
            value: value_of(ticket),
        })];
        for _ in 0..dice.below(4) {
            let key = mortal(dice);
            steps.push(match dice.below(8) {
                0 | 1 => Step::Get { key },
                2 => Step::Ttl { key },
                3 => Step::Size,
                4 => Step::Write(Write::Delete { key }),
                5 => Step::Write(Write::Persist { key }),
                6 if dice.chance(100) => Step::Clear,
                6 if dice.chance(100) => Step::Time,
                _ => Step::Write(write_of_redis(key, ticket, dice)),
            });
        }
        Transaction { watched, steps }
    }

    /// A read came back. `version` is the slot that changed the key last.
    pub(super) fn on_value(&mut self, key: &Bytes, value: Option<&Bytes>, version: Option<u64>) {
        self.versions.insert(key.clone(), version);
        match value {
            Some(value) => drop(self.seen.insert(key.clone(), value.clone())),
            None => drop(self.seen.remove(key)),
        }
    }

    /// A command of its session, or the opening of one, has an outcome.
    pub(super) fn on_session(&mut self, session: SessionId) {
        self.session = Some(session);
    }

    /// The command with this seq has an outcome.
    pub(super) fn on_once(&mut self, seq: u64) {
        if seq == self.seq {
            self.unsettled = None;
        }
    }
}

/// A write of a kind that nobody else here asks for.
fn write_of_redis(key: Bytes, ticket: usize, dice: &mut Dice) -> Write {
    let value = value_of(ticket);
    let deadline = Deadline::In(LIFE_MIN);
    match dice.below(4) {
        0 => Write::Append { key, value },
        1 => {
            let offset = dice.below(12);
            Write::SetRange { key, offset, value }
        }
        2 => Write::Expire {
            key,
            deadline,
            only: dice.pick(&[
                ExpireIf::Any,
                ExpireIf::Any,
                ExpireIf::Endless,
                ExpireIf::Mortal,
                ExpireIf::Later,
                ExpireIf::Sooner,
            ]),
        },
        _ => Write::Set {
            key,
            value,
            only: dice.pick(&[Presence::Any, Presence::Absent, Presence::Present]),
            lifetime: dice.pick(&[
                Lifetime::Endless,
                Lifetime::Kept,
                Lifetime::Until(deadline),
                Lifetime::Until(deadline),
            ]),
        },
    }
}

/// A key that ends by itself, or may.
fn mortal(dice: &mut Dice) -> Bytes {
    format!("{}{}", char::from(MORTAL), dice.below(3))
        .into_bytes()
        .into()
}

/// Keys that have ends begin so.
pub(super) const MORTAL: u8 = b'm';

/// A key that everyone uses.
fn shared(dice: &mut Dice) -> Bytes {
    format!("k{}", dice.below(4)).into_bytes().into()
}

/// How many milliseconds a key stays that this request gives an end.
fn life_of(ticket: usize) -> u64 {
    LIFE_MIN + ticket as u64
}

/// Puts the ticket into a write, so that it can be told from all others.
fn sign(write: &mut Write, ticket: usize) {
    match write {
        Write::Put { value, .. }
        | Write::Cas { new: value, .. }
        | Write::Append { value, .. }
        | Write::SetRange { value, .. } => *value = value_of(ticket),
        Write::Set {
            value, lifetime, ..
        } => {
            *value = value_of(ticket);
            if let Lifetime::Until(Deadline::In(millis)) = lifetime {
                *millis = life_of(ticket);
            }
        }
        Write::Expire { deadline, .. } => *deadline = Deadline::In(life_of(ticket)),
        Write::Incr { by, .. } => *by = i64::try_from(ticket).expect("a small number"),
        Write::Delete { .. } | Write::Persist { .. } => {}
    }
}
