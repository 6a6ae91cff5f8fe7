//! Requests: what a client asks in one array of bulk strings.
//!
//! Which words there are, and how many must follow each, stands in `table`, which calls the readers
//! here. What is wrong with a request is told in the words of Redis where it has some, because
//! programs look at them.

#![allow(
    clippy::unnecessary_wraps,
    reason = "the table calls all readers alike, also those that take everything"
)]

use std::fmt;

use super::catalog::Catalog;
use super::connect::{Hello, Label};
use super::frame::{Arguments, FrameError};
use super::glob::PATTERN_BYTES_MAX;
use super::reply::Reply;
use super::table::{self, Row, SHOWN_BYTES_MAX, shown};
use crate::kv::command::{
    Bytes, Command, KEY_BYTES_MAX, Outcome, SessionId, VALUE_BYTES_MAX, Write,
};
use crate::kv::store::OUT_OF_RANGE;
use crate::text;

/// How many keys one `SCAN` looks at when nothing is said, as in Redis.
const SCAN_COUNT: usize = 10;

/// How many keys one `SCAN` looks at at most: a higher `COUNT` is a wish, and gets this.
const SCAN_COUNT_MAX: usize = 65_536;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Something that its own words answer.
    Known(Reply),
    /// Something for the log.
    Write {
        /// What.
        command: Command,
        /// How its outcome is told.
        tell: Tell,
    },
    /// A question about the map.
    Read(Read),
    /// Choose the version of the protocol, and tell about the server.
    Hello(Hello),
    /// Make the connection as it was at first.
    Reset,
    /// Close the connection.
    Quit,
    /// Whether this connection's reads may be stale from now on.
    ReadOnly(bool),
    /// Remember something about the connection.
    Label(Label, Bytes),
    /// The name of the connection.
    Name,
    /// The number of the connection.
    Id,
    /// About this connection, in a line.
    Client,
    /// About all connections, a line each.
    Clients,
    /// Which commands there are.
    Catalog(Catalog),
    /// How the server is doing, for people: these sections, or all.
    Info(Vec<Bytes>),
    /// How the server was started: what matches these patterns.
    Config(Vec<Bytes>),
    /// How the server is doing, for programs.
    Status,
}

/// How the outcome of a change is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// `OK` when it is done.
    Done,
    /// How many keys it changed.
    Count,
    /// 1 when it is done, else what stands there instead.
    Instead,
}

/// A question about the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The value of a key.
    Get(Bytes),
    /// How many of these there are.
    Exists(Vec<Bytes>),
    /// How long a value is.
    Length(Bytes),
    /// The bytes of a value from one place to another, both included; below zero, from its end.
    Range(Bytes, i64, i64),
    /// The values of these, at one moment.
    Many(Vec<Bytes>),
    /// What kind of value there is.
    Kind(Bytes),
    /// The keys that match.
    Keys(Bytes),
    /// Some keys, and where to go on.
    Scan(Scan),
    /// How many keys there are.
    Size,
}

/// One step through the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Where to go on; 0 at the beginning.
    pub cursor: u64,
    /// Which keys are wanted, if not all.
    pub pattern: Option<Bytes>,
    /// How many keys are looked at.
    pub count: usize,
    /// Whether values of the wanted type can be there.
    pub strings: bool,
}

/// Why arguments are no request. Nothing was done, and the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError(String);

impl RequestError {
    /// An error that Redis has no other code for.
    pub(super) fn new(text: impl fmt::Display) -> Self {
        Self(format!("ERR {text}"))
    }

    /// An error with a code of its own.
    pub(super) fn with_code(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn arity(name: impl fmt::Display) -> Self {
        Self::new(format_args!(
            "wrong number of arguments for '{name}' command"
        ))
    }

    pub(super) fn syntax() -> Self {
        Self::new("syntax error")
    }

    fn not_an_integer() -> Self {
        Self::new("value is not an integer or out of range")
    }

    fn too_long(what: &str, limit: usize, found: usize) -> Self {
        Self::new(format_args!(
            "expected {what} of at most {limit} bytes, found {found} bytes"
        ))
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RequestError {}

impl From<RequestError> for Reply {
    fn from(RequestError(text): RequestError) -> Self {
        Self::Error(text.into())
    }
}

impl From<FrameError> for Reply {
    fn from(error: FrameError) -> Self {
        Self::error(error)
    }
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// Whatever is no request. Nothing but its words decides this, so it is the client's to mend.
    pub fn read(arguments: Arguments<'_>) -> Result<Self, RequestError> {
        table::read(arguments)
    }
}

/// What a command did, as its client is told. The outcome may be that of another change, which the
/// same session sent under the same seq.
pub fn outcome_reply(outcome: Outcome, tell: Tell) -> Reply {
    match (outcome, tell) {
        (Outcome::Ok, Tell::Done) => Reply::OK,
        (Outcome::Ok, Tell::Count | Tell::Instead) => Reply::Integer(1),
        (Outcome::NotFound, Tell::Done | Tell::Instead) => Reply::Null,
        (Outcome::NotFound, Tell::Count) => Reply::Integer(0),
        (Outcome::Mismatch(current), _) => Reply::Bulk(current),
        (Outcome::Number(number), _) => Reply::Integer(number),
        (Outcome::Session(SessionId(id)), _) => {
            Reply::Integer(i64::try_from(id).expect("sessions are counted from 1"))
        }
        (Outcome::NotANumber(OUT_OF_RANGE), _) => {
            Reply::error("increment or decrement would overflow")
        }
        (Outcome::NotANumber(_), _) => Reply::from(RequestError::not_an_integer()),
        (Outcome::StaleSeq(last), _) => Reply::Error(
            format!("STALESEQ expected seq {last}, the last of this session, or a higher one")
                .into(),
        ),
        (Outcome::NoSession, _) => Reply::Error(
            "NOSESSION no such session: it was never opened or has ended (SESSION opens one)"
                .into(),
        ),
    }
}

/// The word at this place, in small letters: names and options are short.
pub(super) fn word(arguments: Arguments<'_>, at: usize) -> Vec<u8> {
    let word = arguments.get(at).unwrap_or_default();
    word[..word.len().min(SHOWN_BYTES_MAX)].to_ascii_lowercase()
}

/// The argument at this place; the table has seen to it that there is one.
fn argument(arguments: Arguments<'_>, at: usize) -> &[u8] {
    arguments.get(at).unwrap_or_default()
}

fn key(arguments: Arguments<'_>, at: usize) -> Result<Bytes, RequestError> {
    checked_key(argument(arguments, at))
}

fn keys(arguments: Arguments<'_>) -> Result<Vec<Bytes>, RequestError> {
    arguments.skip(1).iter().map(checked_key).collect()
}

fn checked_key(key: &[u8]) -> Result<Bytes, RequestError> {
    match key.len() {
        0 => Err(RequestError::new("expected a key of at least 1 byte")),
        1..=KEY_BYTES_MAX => Ok(key.into()),
        found => Err(RequestError::too_long("a key", KEY_BYTES_MAX, found)),
    }
}

fn value(arguments: Arguments<'_>, at: usize) -> Result<Bytes, RequestError> {
    match argument(arguments, at) {
        long if long.len() > VALUE_BYTES_MAX => Err(RequestError::too_long(
            "a value",
            VALUE_BYTES_MAX,
            long.len(),
        )),
        value => Ok(value.into()),
    }
}

pub(super) fn pattern(text: &[u8]) -> Result<Bytes, RequestError> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(RequestError::too_long(
            "a pattern",
            PATTERN_BYTES_MAX,
            text.len(),
        ));
    }
    Ok(text.into())
}

/// A 64-bit integer in the one text that Redis takes: no `+`, no leading zero, no `-0`.
pub(super) fn integer(text: &[u8]) -> Result<i64, RequestError> {
    let number = match text.strip_prefix(b"-") {
        None => text::number(text).and_then(|number| i64::try_from(number).ok()),
        Some(digits) => text::number(digits)
            .filter(|&number| number > 0)
            .and_then(|number| 0_i64.checked_sub_unsigned(number)),
    };
    number.ok_or_else(RequestError::not_an_integer)
}

/// Reads what goes through the log.
pub(super) fn write(row: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let (write, tell) = change(row.name, arguments)?;
    Ok(Request::Write {
        command: Command::Write(write),
        tell,
    })
}

fn change(name: &str, arguments: Arguments<'_>) -> Result<(Write, Tell), RequestError> {
    let key = key(arguments, 1)?;
    let add = |key, by| (Write::Incr { key, by }, Tell::Done);
    Ok(match name {
        "set" => {
            only_key_and_value(arguments)?;
            let value = value(arguments, 2)?;
            (Write::Put { key, value }, Tell::Done)
        }
        "put" => {
            let value = value(arguments, 2)?;
            (Write::Put { key, value }, Tell::Done)
        }
        "cas" => {
            let (expected, new) = (value(arguments, 2)?, value(arguments, 3)?);
            (Write::Cas { key, expected, new }, Tell::Instead)
        }
        "incr" => add(key, 1),
        "decr" => add(key, -1),
        "incrby" => add(key, integer(argument(arguments, 2))?),
        "decrby" => {
            let by = integer(argument(arguments, 2))?.checked_neg();
            let by = by.ok_or_else(|| RequestError::new("decrement would overflow"))?;
            add(key, by)
        }
        // `del`, `unlink`, `delete`
        _ => {
            if arguments.len() > 2 {
                return Err(RequestError::new(format_args!(
                    "'{name}' of several keys is refused: they would not be removed in one step"
                )));
            }
            (Write::Delete { key }, Tell::Count)
        }
    })
}

/// An option that is not kept must not be overlooked.
fn only_key_and_value(arguments: Arguments<'_>) -> Result<(), RequestError> {
    const OPTIONS: [&[u8]; 9] = [
        b"nx", b"xx", b"get", b"ex", b"px", b"exat", b"pxat", b"keepttl", b"ifeq",
    ];
    let Some(option) = arguments.get(3) else {
        return Ok(());
    };
    if !OPTIONS.contains(&&*word(arguments, 3)) {
        return Err(RequestError::syntax());
    }
    Err(RequestError::new(format_args!(
        "'set' with option '{}' is refused: only SET key value is kept",
        shown(option, SHOWN_BYTES_MAX)
    )))
}

/// Reads `ONCE session seq` and a change.
pub(super) fn once(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    // What cannot be the id of a session is one that the cluster does not know: session 0.
    let session = SessionId(text::number(argument(arguments, 1)).unwrap_or(0));
    let seq = text::number(argument(arguments, 2)).filter(|&seq| seq > 0);
    let seq = seq
        .ok_or_else(|| RequestError::new(format_args!("expected a seq from 1 to {}", u64::MAX)))?;
    let inner = arguments.skip(3);
    match table::read(inner)? {
        Request::Write {
            command: Command::Write(write),
            tell,
        } => Ok(Request::Write {
            command: Command::Once {
                session,
                seq,
                write,
            },
            tell,
        }),
        _ => Err(RequestError::new(format_args!(
            "expected a command that changes one key after the seq, found '{}'",
            shown(argument(inner, 0), SHOWN_BYTES_MAX)
        ))),
    }
}

pub(super) fn session(_: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::Write {
        command: Command::Session,
        tell: Tell::Done,
    })
}

/// Reads a question about the map.
pub(super) fn look(row: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::Read(match row.name {
        "get" => Read::Get(key(arguments, 1)?),
        "exists" => Read::Exists(keys(arguments)?),
        "strlen" => Read::Length(key(arguments, 1)?),
        "getrange" => {
            let (start, end) = (argument(arguments, 2), argument(arguments, 3));
            Read::Range(key(arguments, 1)?, integer(start)?, integer(end)?)
        }
        "mget" => Read::Many(keys(arguments)?),
        "type" => Read::Kind(key(arguments, 1)?),
        "keys" => Read::Keys(pattern(argument(arguments, 1))?),
        "scan" => Read::Scan(scan(arguments)?),
        // `dbsize`
        _ => Read::Size,
    }))
}

fn scan(arguments: Arguments<'_>) -> Result<Scan, RequestError> {
    let cursor = text::number(argument(arguments, 1));
    let mut scan = Scan {
        cursor: cursor.ok_or_else(|| RequestError::new("invalid cursor"))?,
        pattern: None,
        count: SCAN_COUNT,
        strings: true,
    };
    let mut at = 2;
    while at < arguments.len() {
        let text = arguments.get(at + 1).ok_or_else(RequestError::syntax)?;
        match &*word(arguments, at) {
            b"match" => scan.pattern = Some(pattern(text)?),
            b"count" => {
                let count = integer(text)?;
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                scan.count = count.ok_or_else(RequestError::syntax)?.min(SCAN_COUNT_MAX);
            }
            b"type" => scan.strings = text.eq_ignore_ascii_case(b"string"),
            _ => return Err(RequestError::syntax()),
        }
        at += 2;
    }
    Ok(scan)
}

pub(super) fn info(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let sections = arguments.skip(1).iter().map(Bytes::from).collect();
    Ok(Request::Info(sections))
}

pub(super) fn config_get(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let patterns = arguments
        .skip(2)
        .iter()
        .map(pattern)
        .collect::<Result<_, _>>()?;
    Ok(Request::Config(patterns))
}

pub(super) fn status(_: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::Status)
}

#[cfg(test)]
mod tests;
