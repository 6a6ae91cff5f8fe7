//! Requests that change the map: the steps that they take, and how what came of those is told.
//!
//! One step goes through the log as it is; several are a transaction, so that a command with several
//! keys, or one that tells what it replaces, is one thing for everybody.

#![allow(
    clippy::unnecessary_wraps,
    reason = "the table calls all readers alike, also those that take everything"
)]

use super::command::{Request, RequestError, argument, checked_value, integer, key, value, word};
use super::frame::Arguments;
use super::look::Read;
use super::reply::Reply;
use super::table::{Row, SHOWN_BYTES_MAX, shown};
use crate::kv::change::OUT_OF_RANGE;
use crate::kv::command::{
    Command, Deadline, END_MAX, ExpireIf, Lifetime, Millis, Outcome, Presence, STEPS_MAX,
    SessionId, Step, TRANSACTION_BYTES_MAX, Transaction, Write,
};

/// What a request does to the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In order, and as one.
    pub steps: Vec<Step>,
    /// How what they come to is told.
    pub tell: Tell,
}

/// How what became of some steps is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// `OK` when it is done, or the number that it left.
    Done,
    /// How many of them did something.
    Count,
    /// 1 when it is done, else what stands there instead.
    Instead,
    /// `OK`.
    All,
    /// What the first one found.
    Before,
    /// As a question is answered.
    Read(Read),
    /// A time, in seconds and microseconds.
    Time,
}

impl Change {
    fn one(write: Write, tell: Tell) -> Self {
        Self {
            steps: vec![Step::Write(write)],
            tell,
        }
    }

    /// Tells first what a key held.
    fn before(write: Write) -> Self {
        let key = write.key().clone();
        Self {
            steps: vec![Step::Get { key }, Step::Write(write)],
            tell: Tell::Before,
        }
    }

    /// The command for the log, how many outcomes it has, and how they are told.
    pub fn into_command(mut self) -> (Command, usize, Tell) {
        let count = self.steps.len();
        let single = self
            .steps
            .pop_if(|step| count == 1 && matches!(step, Step::Write(_)));
        let command = match single {
            Some(Step::Write(write)) => Command::Write(write),
            _ => Command::Exec(Box::new(Transaction {
                watched: Vec::new(),
                steps: self.steps,
            })),
        };
        (command, count, self.tell)
    }
}

/// Why steps are too many for one transaction, if they are.
pub fn too_large(steps: usize, bytes: usize) -> Option<Reply> {
    if steps > STEPS_MAX {
        return Some(Reply::error(format_args!(
            "expected at most {STEPS_MAX} steps in a transaction, found {steps}"
        )));
    }
    (bytes > TRANSACTION_BYTES_MAX).then(|| {
        Reply::error(format_args!(
            "expected at most {TRANSACTION_BYTES_MAX} bytes of keys and values in a transaction, \
             found {bytes}"
        ))
    })
}

impl Tell {
    /// Tells what the next `count` outcomes came to, and takes no more than those. What is missing, or is
    /// none of those that a command can come to, is an error and never a success.
    pub fn told(self, outcomes: &mut impl Iterator<Item = Outcome>, count: usize) -> Reply {
        let own: Vec<Outcome> = outcomes.take(count).collect();
        if own.len() < count {
            return Reply::untold();
        }
        match self {
            Self::Read(read) => read.of_outcomes(own),
            Self::Count => count_of(own),
            Self::All => all_of(own),
            Self::Before => before_of(own),
            Self::Time => time_of(&own),
            Self::Done | Self::Instead => match <[Outcome; 1]>::try_from(own) {
                Ok([Outcome::Ok]) if self == Self::Instead => Reply::Integer(1),
                Ok([outcome]) => of_one(outcome),
                Err(_) => Reply::untold(),
            },
        }
    }
}

/// What one outcome is told as by itself. Behind `ONCE` it may be that of another command, which had the
/// same seq: so this knows no command, and says done of none that did nothing.
fn of_one(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Ok => Reply::OK,
        Outcome::NotFound | Outcome::Unmet => Reply::Null,
        Outcome::Mismatch(value) | Outcome::Value(value) => Reply::Bulk(value),
        Outcome::Number(number) => Reply::Integer(number),
        Outcome::Session(SessionId(id)) => {
            Reply::Integer(i64::try_from(id).expect("sessions are counted from 1"))
        }
        Outcome::NotANumber(OUT_OF_RANGE) => Reply::error("increment or decrement would overflow"),
        Outcome::NotANumber(_) => Reply::from(RequestError::not_an_integer()),
        Outcome::StaleSeq(last) => Reply::Error(
            format!("STALESEQ expected seq {last}, the last of this session, or a higher one")
                .into(),
        ),
        Outcome::NoSession => Reply::Error(
            "NOSESSION no such session: it was never opened or has ended (SESSION opens one)"
                .into(),
        ),
        Outcome::TooLong => {
            Reply::error("string exceeds maximum allowed size (proto-max-bulk-len)")
        }
        Outcome::Remaining(found) => super::look::Unit::Millis.reply(Some(found)),
        Outcome::Changed => Reply::NullArray,
        Outcome::Steps(_) => Reply::untold(),
    }
}

/// How many did something; another outcome, if one is no answer to that.
fn count_of(outcomes: Vec<Outcome>) -> Reply {
    let mut count = 0;
    for outcome in outcomes {
        match outcome {
            Outcome::Ok => count += 1,
            Outcome::NotFound | Outcome::Unmet => {}
            other => return of_one(other),
        }
    }
    Reply::count(count)
}

/// `OK` if all did something; else the first that did not.
fn all_of(outcomes: Vec<Outcome>) -> Reply {
    let failed = outcomes.into_iter().find(|outcome| *outcome != Outcome::Ok);
    failed.map_or(Reply::OK, of_one)
}

/// What was there before the change.
fn before_of(outcomes: Vec<Outcome>) -> Reply {
    match <[Outcome; 2]>::try_from(outcomes) {
        Ok([found, Outcome::Ok | Outcome::NotFound | Outcome::Unmet]) => match found {
            Outcome::Value(value) => Reply::Bulk(value),
            Outcome::NotFound => Reply::Null,
            Outcome::TooLong => {
                Reply::error("done, but this transaction reads more than fits into one reply")
            }
            _ => Reply::untold(),
        },
        Ok([_, failed]) => of_one(failed),
        Err(_) => Reply::untold(),
    }
}

/// The time of the log has whole milliseconds.
fn time_of(outcomes: &[Outcome]) -> Reply {
    let &[Outcome::Number(millis)] = outcomes else {
        return Reply::untold();
    };
    let parts = [millis / SECOND, millis % SECOND * 1_000];
    Reply::Array(parts.map(|part| Reply::text(part.to_string())).into())
}

/// Reads what goes through the log.
pub(super) fn write(row: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let change = change(row, arguments)?;
    let bytes = change.steps.iter().map(Step::bytes).sum();
    if let Some(Reply::Error(error)) = too_large(change.steps.len(), bytes) {
        return Err(RequestError::with_code(error));
    }
    Ok(Request::Change(change))
}

fn change(row: &Row, arguments: Arguments<'_>) -> Result<Change, RequestError> {
    let name = row.name;
    let at_key = || key(arguments, 1);
    let at_value = |at| value(arguments, at);
    let add = |by| at_key().map(|key| Change::one(Write::Incr { key, by }, Tell::Done));
    Ok(match name {
        "set" => set(row, arguments)?,
        "setnx" => {
            let (key, value) = (at_key()?, at_value(2)?);
            let write = Write::Set {
                key,
                value,
                only: Presence::Absent,
                lifetime: Lifetime::Endless,
            };
            Change::one(write, Tell::Count)
        }
        "setex" | "psetex" => {
            let key = at_key()?;
            let unit = if name == "setex" { SECOND } else { 1 };
            let lifetime = Lifetime::Until(positive(row, arguments, 2, (unit, Deadline::In))?);
            let write = Write::Set {
                key,
                value: at_value(3)?,
                only: Presence::Any,
                lifetime,
            };
            Change::one(write, Tell::Done)
        }
        "put" => {
            let (key, value) = (at_key()?, at_value(2)?);
            Change::one(Write::Put { key, value }, Tell::Done)
        }
        "getset" => {
            let (key, value) = (at_key()?, at_value(2)?);
            Change::before(Write::Put { key, value })
        }
        "getdel" => Change::before(Write::Delete { key: at_key()? }),
        "mset" => mset(arguments)?,
        "append" => {
            let (key, value) = (at_key()?, at_value(2)?);
            Change::one(Write::Append { key, value }, Tell::Done)
        }
        "setrange" => {
            let key = at_key()?;
            let offset = u64::try_from(integer(argument(arguments, 2))?)
                .map_err(|_| RequestError::new("offset is out of range"))?;
            let value = at_value(3)?;
            Change::one(Write::SetRange { key, offset, value }, Tell::Done)
        }
        "cas" => {
            let (key, expected, new) = (at_key()?, at_value(2)?, at_value(3)?);
            Change::one(Write::Cas { key, expected, new }, Tell::Instead)
        }
        "incr" => add(1)?,
        "decr" => add(-1)?,
        "incrby" => add(integer(argument(arguments, 2))?)?,
        "decrby" => {
            let by = integer(argument(arguments, 2))?.checked_neg();
            add(by.ok_or_else(|| RequestError::new("decrement would overflow"))?)?
        }
        "expire" => expire(row, arguments, (SECOND, Deadline::In))?,
        "pexpire" => expire(row, arguments, (1, Deadline::In))?,
        "expireat" => expire(row, arguments, (SECOND, Deadline::At))?,
        "pexpireat" => expire(row, arguments, (1, Deadline::At))?,
        "persist" => Change::one(Write::Persist { key: at_key()? }, Tell::Count),
        "flushall" | "flushdb" => {
            flush_options(arguments)?;
            Change {
                steps: vec![Step::Clear],
                tell: Tell::All,
            }
        }
        "time" => Change {
            steps: vec![Step::Time],
            tell: Tell::Time,
        },
        // `del`, `unlink`, `delete`
        _ => {
            let keys = super::command::keys(arguments)?.into_iter();
            Change {
                steps: keys.map(|key| Step::Write(Write::Delete { key })).collect(),
                tell: Tell::Count,
            }
        }
    })
}

fn mset(arguments: Arguments<'_>) -> Result<Change, RequestError> {
    if arguments.len().is_multiple_of(2) {
        return Err(RequestError::arity("mset"));
    }
    let steps = (1..arguments.len()).step_by(2).map(|at| {
        let key = key(arguments, at)?;
        let value = checked_value(argument(arguments, at + 1))?;
        Ok(Step::Write(Write::Put { key, value }))
    });
    Ok(Change {
        steps: steps.collect::<Result<_, RequestError>>()?,
        tell: Tell::All,
    })
}

fn set(row: &Row, arguments: Arguments<'_>) -> Result<Change, RequestError> {
    let (key, value) = (key(arguments, 1)?, value(arguments, 2)?);
    let (mut only, mut kept, mut before) = (Presence::Any, false, false);
    // In what the end is told, and where. The same may be told again: the last time counts, and the others
    // are not even looked at.
    let mut end: Option<(&[u8], Reckoned, usize)> = None;
    let mut at = 3;
    while at < arguments.len() {
        let word = word(arguments, at);
        match &*word {
            b"nx" if only != Presence::Present => only = Presence::Absent,
            b"xx" if only != Presence::Absent => only = Presence::Present,
            b"get" => before = true,
            b"keepttl" if end.is_none() => kept = true,
            word => {
                let (name, reckoned) = *ENDS
                    .iter()
                    .find(|(name, _)| *name == word)
                    .ok_or_else(RequestError::syntax)?;
                at += 1;
                let other = end.is_some_and(|(other, ..)| other != name);
                if kept || other || at == arguments.len() {
                    return Err(RequestError::syntax());
                }
                end = Some((name, reckoned, at));
            }
        }
        at += 1;
    }
    let lifetime = match end {
        Some((_, reckoned, at)) => Some(Lifetime::Until(positive(row, arguments, at, reckoned)?)),
        None => kept.then_some(Lifetime::Kept),
    };
    let plain = only == Presence::Any && lifetime.is_none();
    let write = if plain {
        Write::Put { key, value }
    } else {
        Write::Set {
            key,
            value,
            only,
            lifetime: lifetime.unwrap_or(Lifetime::Endless),
        }
    };
    Ok(if before {
        Change::before(write)
    } else {
        Change::one(write, Tell::Done)
    })
}

/// In milliseconds.
const SECOND: i64 = 1_000;

/// How many milliseconds the unit of a time has, and whether it counts from now on or since 1970.
type Reckoned = (i64, fn(Millis) -> Deadline);

/// The options of `SET` that tell an end.
const ENDS: [(&[u8], Reckoned); 4] = [
    (b"ex", (SECOND, Deadline::In)),
    (b"px", (1, Deadline::In)),
    (b"exat", (SECOND, Deadline::At)),
    (b"pxat", (1, Deadline::At)),
];

/// The longest life that is taken. Redis refuses one whose end, by its clock, is beyond 64 bits with a
/// sign. No clock is asked here, so this counts from a moment in 2004; what still ends too late ends at
/// [`END_MAX`].
const LIFE_MAX: Millis = END_MAX - (1 << 40);

/// A time for a key that is set now: it must lie ahead.
fn positive(
    row: &Row,
    arguments: Arguments<'_>,
    at: usize,
    reckoned: Reckoned,
) -> Result<Deadline, RequestError> {
    match deadline(row, argument(arguments, at), reckoned)? {
        Deadline::In(0) | Deadline::At(0) => Err(invalid_time(row)),
        deadline => Ok(deadline),
    }
}

/// What lies before 1970 is as over as 1970, and a life that is over as one of nothing.
fn deadline(row: &Row, text: &[u8], (unit, from): Reckoned) -> Result<Deadline, RequestError> {
    let millis = integer(text)?.checked_mul(unit);
    let millis = millis.ok_or_else(|| invalid_time(row))?;
    match from(u64::try_from(millis).unwrap_or(0)) {
        Deadline::In(LIFE_TOO_LONG..) => Err(invalid_time(row)),
        deadline => Ok(deadline),
    }
}

const LIFE_TOO_LONG: Millis = LIFE_MAX + 1;

fn invalid_time(row: &Row) -> RequestError {
    RequestError::new(format_args!(
        "invalid expire time in '{}' command",
        row.name
    ))
}

fn expire(row: &Row, arguments: Arguments<'_>, reckoned: Reckoned) -> Result<Change, RequestError> {
    let key = key(arguments, 1)?;
    let only = expire_if(arguments)?;
    let deadline = match deadline(row, argument(arguments, 2), reckoned)? {
        // A life of nothing is over, whatever time it is.
        Deadline::In(0) => Deadline::At(0),
        deadline => deadline,
    };
    let write = Write::Expire {
        key,
        deadline,
        only,
    };
    Ok(Change::one(write, Tell::Count))
}

fn expire_if(arguments: Arguments<'_>) -> Result<ExpireIf, RequestError> {
    let [mut nx, mut xx, mut gt, mut lt] = [false; 4];
    for at in 3..arguments.len() {
        match &*word(arguments, at) {
            b"nx" => nx = true,
            b"xx" => xx = true,
            b"gt" => gt = true,
            b"lt" => lt = true,
            _ => {
                let option = shown(argument(arguments, at), SHOWN_BYTES_MAX);
                return Err(RequestError::new(format_args!(
                    "Unsupported option {option}"
                )));
            }
        }
    }
    let refused = |text| Err(RequestError::new(text));
    match (nx, xx, gt, lt) {
        (true, false, false, false) => Ok(ExpireIf::Endless),
        (true, ..) => refused("NX and XX, GT or LT options at the same time are not compatible"),
        (_, _, true, true) => refused("GT and LT options at the same time are not compatible"),
        (_, true, _, true) => {
            refused("XX and LT options at the same time are refused: one of them is kept")
        }
        // One that is later than another end needs that one to be there.
        (_, _, true, _) => Ok(ExpireIf::Later),
        (_, _, _, true) => Ok(ExpireIf::Sooner),
        (_, true, ..) => Ok(ExpireIf::Mortal),
        _ => Ok(ExpireIf::Any),
    }
}

/// What is removed is gone at once for everybody, whichever way is asked for.
fn flush_options(arguments: Arguments<'_>) -> Result<(), RequestError> {
    match (arguments.len(), &*word(arguments, 1)) {
        (1, _) | (2, b"async" | b"sync") => Ok(()),
        _ => Err(RequestError::syntax()),
    }
}

/// Reads `ONCE session seq` and a change.
pub(super) fn once(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    // What cannot be the id of a session is one that the cluster does not know: session 0.
    let session = SessionId(crate::text::number(argument(arguments, 1)).unwrap_or(0));
    let seq = crate::text::number(argument(arguments, 2)).filter(|&seq| seq > 0);
    let seq = seq
        .ok_or_else(|| RequestError::new(format_args!("expected a seq from 1 to {}", u64::MAX)))?;
    let inner = arguments.skip(3);
    let refused = || {
        RequestError::new(format_args!(
            "expected a command that changes one key after the seq, found '{}'",
            shown(argument(inner, 0), SHOWN_BYTES_MAX)
        ))
    };
    let Request::Change(change) = super::table::read(inner)? else {
        return Err(refused());
    };
    match change.into_command() {
        (Command::Write(write), _, tell) => Ok(Request::Write {
            command: Command::Once {
                session,
                seq,
                write,
            },
            tell,
        }),
        _ => Err(refused()),
    }
}

pub(super) fn session(_: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::Write {
        command: Command::Session,
        tell: Tell::Done,
    })
}

/// Reads what begins and ends transactions.
pub(super) fn transaction(row: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(match row.name {
        "multi" => Request::Multi,
        "exec" => Request::Exec,
        "discard" => Request::Discard,
        // `unwatch`
        _ => Request::Unwatch,
    })
}

#[cfg(test)]
mod tests;
