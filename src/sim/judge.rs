//! Whether what clients were told could have come from one map that does one thing at a time: the
//! judge that knows nothing of the log.
//!
//! It takes what a life leaves behind, puts it in the words of [`crate::check`], and asks there.
//! `history` judges reads more strictly, by the slot that they were made at; but it trusts that the
//! slot is the right one to ask about. This judge trusts only the clients' clocks, so what both
//! overlook must be wrong in two ways at once.
//!
//! | in a life | in the history |
//! | --- | --- |
//! | a request, with its call | an operation, called then |
//! | its answer | that answer, at that time |
//! | `NotDone` | refused: no value of it may ever be seen (P46) |
//! | `Unknown`, or no answer, or a node that is gone | open, for ever |
//! | an answer after its client went elsewhere | as any other: it was given, so it must be true |
//! | a `ONCE` sent again | the same operation, from its first call to its first answer |
//! | what the cluster is filled with | open puts before everything else |
//!
//! A life counts its calls and answers, so that two at one microsecond have an order too: what was
//! answered before another request was made is over before it begins, however close.
//!
//! Left out: what no plain line asks for, and the keys of such requests (their ends are the log's
//! business, which `history` knows); `LOCAL` reads, which promise nothing, and the ids of sessions, which `history` looks at.

use super::clients::{CLIENTS, MORTAL};
use super::history::{Call, Operation, Reply};
use super::watch::Checked;
use crate::check::history::{End, History, Operation as Judged, OperationId};
use crate::check::{self, Begins, Report};
use crate::kv::command::{Bytes, Command, List, Read, Step, Write};
use crate::outbox::Answer;
use crate::wire::client::{ErrorCode, Reply as Told, Request};
use std::collections::BTreeSet;

/// How many configurations the judge looks at a key. Lives take a few hundred; a key beyond this is
/// counted as undecided, and is no failure.
const STATES_MAX: u64 = 1_000_000;

/// How many lines of a counter-example a failure tells.
const LINES_MAX: usize = 40;

/// How many of these come from its end, where the reason stands.
const LAST_LINES: usize = 4;

const _: () = assert!(LAST_LINES < LINES_MAX);

/// Nanoseconds in a microsecond: the checker draws its times as nanoseconds.
const NS: u64 = 1_000;

/// Judges what clients were told, in a cluster that begins with `preload`.
pub(super) fn judge(operations: &[Operation], preload: &[Command]) -> Checked<Report> {
    let report = check::check(&history(operations, preload), Begins::Empty, STATES_MAX);
    match &report.violation {
        Some(found) => Err(bounded(&found.to_string())),
        None => Ok(report),
    }
}

/// The same in the words of the checker.
pub(super) fn history(operations: &[Operation], preload: &[Command]) -> History {
    let moments = moments(operations);
    let mut judged = Vec::with_capacity(preload.len() + operations.len());
    let mut numbers = [0; CLIENTS + 1];
    let mut name = |client: usize| {
        numbers[client] += 1;
        OperationId {
            client: client as u64 + 1,
            number: numbers[client],
        }
    };
    // The first leader may be long in coming, so nobody knows when they are there.
    judged.extend(preload.iter().map(|command| Judged {
        id: name(CLIENTS),
        request: Request::Write(command.clone()),
        called: 0,
        resent: 0,
        end: End::Open(None, "filled with at the start".into()),
    }));
    let known = operations
        .iter()
        .filter(|operation| is_known(&operation.call));
    judged.extend(known.map(|operation| Judged {
        id: name(operation.client),
        request: request(&operation.call),
        called: moments[operation.called.1],
        resent: 0,
        end: end(operation, &moments),
    }));
    clears(operations, &mut judged, &mut name, &moments);
    History::new(judged)
}

/// A transaction may remove all keys, those that are judged too: as far as the clients' clocks tell, each
/// of them may be deleted at any time since.
fn clears(
    operations: &[Operation],
    judged: &mut Vec<Judged>,
    name: &mut impl FnMut(usize) -> OperationId,
    moments: &Moments,
) {
    let clearing = operations.iter().filter(|operation| match &operation.call {
        Call::Command(Command::Exec(transaction)) => transaction.steps.contains(&Step::Clear),
        _ => false,
    });
    let keys: BTreeSet<Bytes> = (judged.iter())
        .filter_map(|operation| match &operation.request {
            Request::Write(Command::Write(write) | Command::Once { write, .. }) => {
                Some(write.key().clone())
            }
            _ => None,
        })
        .collect();
    for operation in clearing {
        judged.extend(keys.iter().map(|key| Judged {
            id: name(operation.client),
            request: Request::Write(Command::Write(Write::Delete { key: key.clone() })),
            called: moments[operation.called.1],
            resent: 0,
            end: End::Open(None, "one of all keys".into()),
        }));
    }
}

/// When each call and each answer was, in nanoseconds, by its number: no two at one time.
fn moments(operations: &[Operation]) -> Moments {
    let mut moments = Moments::default();
    for operation in operations {
        moments.note(operation.called);
        if let Some(replied) = operation.replied {
            moments.note(replied);
        }
    }
    let mut last = 0;
    for moment in &mut moments.0 {
        *moment = (*moment * NS).max(last + 1);
        last = *moment;
    }
    moments
}

#[derive(Debug, Default)]
struct Moments(Vec<u64>);

impl Moments {
    fn note(&mut self, (at, number): (u64, u64)) {
        let number = place(number);
        if self.0.len() <= number {
            self.0.resize(number + 1, 0);
        }
        self.0[number] = at;
    }
}

impl std::ops::Index<u64> for Moments {
    type Output = u64;

    fn index(&self, number: u64) -> &u64 {
        &self.0[place(number)]
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("few events")
}

/// Whether the checker knows what such a request does: those that plain lines ask for.
fn is_known(call: &Call) -> bool {
    match call {
        Call::Command(Command::Write(write) | Command::Once { write, .. }) => {
            write.key()[0] != MORTAL
        }
        Call::Command(Command::Session) | Call::List(_) => true,
        Call::Command(Command::Exec(_)) => false,
        Call::Get(key) | Call::Local(key) => key[0] != MORTAL,
    }
}

fn request(call: &Call) -> Request {
    let get = |local, key: &Bytes| Request::Read {
        local,
        read: Read::Get { key: key.clone() },
    };
    match call {
        Call::Command(command) => Request::Write(command.clone()),
        Call::Get(key) => get(false, key),
        Call::Local(key) => get(true, key),
        Call::List(prefix) => Request::Read {
            local: false,
            read: Read::List(List::of(prefix.clone())),
        },
    }
}

fn end(operation: &Operation, moments: &Moments) -> End {
    let (Some(reply), Some((_, number))) = (&operation.reply, operation.replied) else {
        return End::Open(None, "none came".into());
    };
    let told = match reply {
        Reply::Value(value) => value.clone().into(),
        Reply::List(pairs) => {
            let known = pairs.iter().filter(|(key, _)| key[0] != MORTAL);
            Told::List(known.cloned().collect())
        }
        Reply::Answer(Answer::Done(outcome)) => outcome.clone().into(),
        Reply::Answer(Answer::NotDone(why)) => Told::error(ErrorCode::NotDone, *why),
        Reply::Answer(Answer::Unknown(why)) => Told::error(ErrorCode::Unknown, *why),
        Reply::Answer(Answer::Readable) => {
            return End::Open(None, "it may read, and has not".into());
        }
    };
    End::Reply(moments[number], told)
}

/// A counter-example with its longest part cut short.
fn bounded(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= LINES_MAX {
        return text.trim_end().to_owned();
    }
    let (first, rest) = lines.split_at(LINES_MAX - LAST_LINES);
    let (cut, last) = rest.split_at(rest.len() - LAST_LINES);
    let cut = format!("... {} more lines", cut.len());
    [first, &[cut.as_str()], last].concat().join("\n")
}

#[cfg(test)]
mod tests;
