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
use std::time::Duration;

use super::catalog::Catalog;
use super::change::{Change, Tell};
use super::connect::{Hello, Label};
use super::frame::{Arguments, FrameError};
use super::glob::PATTERN_BYTES_MAX;
use super::look::Read;
use super::reply::Reply;
use super::table::{self, Row, SHOWN_BYTES_MAX};
use crate::kv::command::{Bytes, Command, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::text;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Something that its own words answer.
    Known(Reply),
    /// A change of the map.
    Change(Change),
    /// Something else for the log, which is no step of a transaction.
    Write {
        /// What.
        command: Command,
        /// How its outcome is told.
        tell: Tell,
    },
    /// A question about the map.
    Read(Read),
    /// Remember what these keys are like, for the next transaction.
    Watch(Vec<Bytes>),
    /// Forget it.
    Unwatch,
    /// Collect what follows for a transaction.
    Multi,
    /// Run the transaction.
    Exec,
    /// Forget the transaction.
    Discard,
    /// Wait until other servers have what was written.
    Wait(Wait),
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

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// So many servers, besides the one that is asked.
    pub servers: usize,
    /// At most so long; none: for ever.
    pub patience: Option<Duration>,
}

/// Why arguments are no request. Nothing was done, and the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    text: String,
    spoils: Spoils,
}

/// What becomes of the transaction that a faulty request is in, as in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoils {
    /// The request alone fails, when the others are done.
    Itself,
    /// None of it will be done: the name, or the number of words, is wrong.
    Transaction,
    /// It is over at once: this was to be the `EXEC`.
    AtOnce,
}

impl RequestError {
    /// An error that Redis has no other code for.
    pub(super) fn new(text: impl fmt::Display) -> Self {
        Self::with_code(format!("ERR {text}"))
    }

    /// An error with a code of its own.
    pub(super) fn with_code(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            spoils: Spoils::Itself,
        }
    }

    /// The same, for a request that no transaction can hold.
    pub(super) fn spoiling(self) -> Self {
        Self {
            spoils: Spoils::Transaction,
            ..self
        }
    }

    /// The same, for an `EXEC`.
    pub(super) fn ending(self) -> Self {
        let why = self.text.strip_prefix("ERR ").unwrap_or(&self.text);
        Self {
            text: format!("EXECABORT Transaction discarded because of: {why}"),
            spoils: Spoils::AtOnce,
        }
    }

    /// What becomes of the transaction that it is in.
    pub fn spoils(&self) -> Spoils {
        self.spoils
    }

    pub(super) fn arity(name: impl fmt::Display) -> Self {
        Self::new(format_args!(
            "wrong number of arguments for '{name}' command"
        ))
    }

    pub(super) fn syntax() -> Self {
        Self::new("syntax error")
    }

    pub(super) fn not_an_integer() -> Self {
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
        f.write_str(&self.text)
    }
}

impl std::error::Error for RequestError {}

impl From<RequestError> for Reply {
    fn from(error: RequestError) -> Self {
        Self::Error(error.text.into())
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

/// The word at this place, in small letters: names and options are short.
pub(super) fn word(arguments: Arguments<'_>, at: usize) -> Vec<u8> {
    let word = arguments.get(at).unwrap_or_default();
    word[..word.len().min(SHOWN_BYTES_MAX)].to_ascii_lowercase()
}

/// The argument at this place; the table has seen to it that there is one.
pub(super) fn argument(arguments: Arguments<'_>, at: usize) -> &[u8] {
    arguments.get(at).unwrap_or_default()
}

pub(super) fn key(arguments: Arguments<'_>, at: usize) -> Result<Bytes, RequestError> {
    checked_key(argument(arguments, at))
}

pub(super) fn keys(arguments: Arguments<'_>) -> Result<Vec<Bytes>, RequestError> {
    arguments.skip(1).iter().map(checked_key).collect()
}

pub(super) fn checked_key(key: &[u8]) -> Result<Bytes, RequestError> {
    match key.len() {
        0 => Err(RequestError::new("expected a key of at least 1 byte")),
        1..=KEY_BYTES_MAX => Ok(key.into()),
        found => Err(RequestError::too_long("a key", KEY_BYTES_MAX, found)),
    }
}

pub(super) fn value(arguments: Arguments<'_>, at: usize) -> Result<Bytes, RequestError> {
    checked_value(argument(arguments, at))
}

pub(super) fn checked_value(value: &[u8]) -> Result<Bytes, RequestError> {
    match value {
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

/// `WAIT servers milliseconds`; 0 milliseconds are for ever.
pub(super) fn wait(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let servers = usize::try_from(integer(argument(arguments, 1))?).unwrap_or(0);
    let millis = integer(argument(arguments, 2))
        .map_err(|_| RequestError::new("timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| RequestError::new("timeout is negative"))?;
    Ok(Request::Wait(Wait {
        servers,
        patience: (millis > 0).then(|| Duration::from_millis(millis)),
    }))
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
