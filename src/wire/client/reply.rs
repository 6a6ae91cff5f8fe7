//! Replies: what a server answers.
//!
//! | line | reply |
//! | --- | --- |
//! | `OK`, `NOT_FOUND`, `PONG`, `BYE` | those |
//! | `VALUE value` | of `GET`, `INCR`, `APPEND` and `TTL` |
//! | `MISMATCH value` | what `CAS` found |
//! | `SESSION id` | a new session |
//! | `COUNT n`, then n lines | of `LIST` (`key value`), `MGET` (`VALUE value` or `NOT_FOUND`), `STATUS` (`field value`), `HELP` (text) |
//! | `ERROR CODE text` | what went wrong: the code for programs, the text for people |
//!
//! A key never has a blank inside; a value, which ends its line, may. Both are quoted where the
//! bare bytes would read back as something else.

use super::Request;
use super::help;
use crate::kv::command::{
    Bytes, Millis, Outcome, Read, SessionId, TOLD_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::text::{self, Blanks, ParseError, Tokens};
use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// The value of a key, the number that `INCR` left, or the length after an `APPEND`.
    Value(Bytes),
    /// There is no such key.
    NotFound,
    /// What `CAS` found instead of what was expected.
    Mismatch(Bytes),
    /// Keys and values, in byte order of the keys.
    List(Vec<(Bytes, Bytes)>),
    /// The values of the keys that were asked for, in their order; none where there is no such key.
    Values(Vec<Option<Bytes>>),
    /// The session that was opened.
    Session(SessionId),
    /// Fields and values. A field is one word; it may come more than once.
    Status(Vec<(String, String)>),
    /// To `PING`.
    Pong,
    /// Lines for people.
    Help(Vec<String>),
    /// The server closes.
    Bye,
    /// What went wrong, for programs and for people.
    Error(ErrorCode, String),
}

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The line is no request; nothing was done.
    BadRequest,
    /// A line, key, value or reply beyond its limit; nothing was done.
    TooLong,
    /// `INCR` on a value that is no 64-bit integer, or past the range; nothing was done.
    NotANumber,
    /// `ONCE` with a seq below the last one of its session; nothing was done.
    StaleSeq,
    /// `ONCE` in a session that the cluster does not know; nothing was done.
    NoSession,
    /// The server was not started to allow it; nothing was done.
    Forbidden,
    /// Surely not applied, now or ever.
    NotDone,
    /// It may have been applied, or may be later.
    Unknown,
}

impl ErrorCode {
    const ALL: [Self; 8] = [
        Self::BadRequest,
        Self::TooLong,
        Self::NotANumber,
        Self::StaleSeq,
        Self::NoSession,
        Self::Forbidden,
        Self::NotDone,
        Self::Unknown,
    ];

    /// The code as it stands on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::TooLong => "TOO_LONG",
            Self::NotANumber => "NOT_A_NUMBER",
            Self::StaleSeq => "STALE_SEQ",
            Self::NoSession => "NO_SESSION",
            Self::Forbidden => "FORBIDDEN",
            Self::NotDone => "NOT_DONE",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|code| code.name().as_bytes() == name)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Reply {
    /// An error, with its text for people.
    pub fn error(code: ErrorCode, text: impl Into<String>) -> Self {
        Self::Error(code, text.into())
    }

    /// How long a key still stays, in whole seconds, the half of one rounded up; none if there is no key.
    pub fn remaining(found: Option<Option<Millis>>) -> Self {
        match found {
            None => Self::NotFound,
            Some(None) => Self::Value(b"never"[..].into()),
            Some(Some(millis)) => {
                let seconds = millis.saturating_add(500) / 1_000;
                Self::Value(seconds.to_string().into_bytes().into())
            }
        }
    }

    /// About how many bytes its list takes, beside keys and values, which it shares with the store.
    pub fn memory(&self) -> usize {
        match self {
            Self::List(pairs) => pairs.capacity() * size_of::<(Bytes, Bytes)>(),
            Self::Values(values) => values.capacity() * size_of::<Option<Bytes>>(),
            _ => 0,
        }
    }

    /// What an `MGET` found. A key may be named many times, so the values are bounded together.
    pub fn values(found: Vec<Option<Bytes>>) -> Self {
        let bytes: usize = found.iter().flatten().map(|value| value.len()).sum();
        if bytes > TOLD_BYTES_MAX {
            return Self::Error(
                ErrorCode::TooLong,
                format!(
                    "expected values of at most {TOLD_BYTES_MAX} bytes together, found {bytes} \
                     bytes: ask for fewer keys at a time"
                ),
            );
        }
        Self::Values(found)
    }

    /// The reply to `HELP`.
    pub fn help() -> Self {
        Self::Help(help::LINES.iter().map(|&line| line.into()).collect())
    }

    /// The reply to a connection past the limit, before it is closed.
    pub fn too_many_connections(limit: usize) -> Self {
        Self::Error(
            ErrorCode::NotDone,
            format!("too many connections (limit {limit})"),
        )
    }

    /// Appends the line or lines of this reply, each with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let done = self.write_in_parts(out, |_| Ok::<_, Infallible>(()));
        done.unwrap_or_else(|never| match never {});
    }

    /// As [`Reply::write`], and calls `part` between lines, which may take away what `out` holds: many
    /// large values need not stand in memory together as text.
    ///
    /// # Errors
    /// What `part` returns.
    pub fn write_in_parts<E>(
        &self,
        out: &mut Vec<u8>,
        part: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Ok => out.extend_from_slice(b"OK"),
            Self::Value(value) => write_value(out, b"VALUE", value),
            Self::NotFound => out.extend_from_slice(b"NOT_FOUND"),
            Self::Mismatch(current) => write_value(out, b"MISMATCH", current),
            Self::List(pairs) => {
                let lines = pairs.iter().map(|(key, value)| (key, value));
                return write_list(out, part, pairs.len(), lines);
            }
            Self::Values(found) => {
                write_lines(out, part, found.len(), found, |out, value| match value {
                    Some(value) => write_value(out, b"VALUE", value),
                    None => out.extend_from_slice(b"NOT_FOUND"),
                })?;
            }
            Self::Session(id) => push_text(out, format_args!("SESSION {id}")),
            Self::Status(fields) => {
                write_lines(out, part, fields.len(), fields, |out, (field, value)| {
                    text::write_token(out, field.as_bytes(), Blanks::None);
                    out.push(b' ');
                    text::write_token(out, value.as_bytes(), Blanks::Inside);
                })?;
            }
            Self::Pong => out.extend_from_slice(b"PONG"),
            Self::Help(lines) => {
                write_lines(out, part, lines.len(), lines, |out, line| {
                    push_one_line(out, line);
                })?;
            }
            Self::Bye => out.extend_from_slice(b"BYE"),
            Self::Error(code, text) => {
                push_text(out, format_args!("ERROR {code} "));
                push_one_line(out, text);
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

fn push_text(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

/// Appends a text for people; what would end the line, or steer a terminal, becomes a space.
fn push_one_line(out: &mut Vec<u8>, text: &str) {
    let plain = text.replace(char::is_control, " ");
    out.extend_from_slice(plain.as_bytes());
}

fn write_value(out: &mut Vec<u8>, verb: &[u8], value: &[u8]) {
    out.extend_from_slice(verb);
    out.push(b' ');
    text::write_token(out, value, Blanks::Inside);
}

/// Appends how many lines follow, and these, each after the LF of the one before and a `part`.
fn write_lines<T, E>(
    out: &mut Vec<u8>,
    mut part: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    count: usize,
    lines: impl IntoIterator<Item = T>,
    write: impl Fn(&mut Vec<u8>, T),
) -> Result<(), E> {
    push_text(out, format_args!("COUNT {count}"));
    for line in lines {
        out.push(b'\n');
        part(out)?;
        write(out, line);
    }
    Ok(())
}

/// Appends a [`Reply::List`] of these `count` pairs, as [`Reply::write_in_parts`] does, without holding
/// them all.
///
/// # Errors
/// What `part` returns.
pub fn write_list<'a, E>(
    out: &mut Vec<u8>,
    part: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    count: usize,
    pairs: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>,
) -> Result<(), E> {
    write_lines(out, part, count, pairs, |out, (key, value)| {
        text::write_token(out, key, Blanks::None);
        out.push(b' ');
        text::write_token(out, value, Blanks::Inside);
    })?;
    out.push(b'\n');
    Ok(())
}

/// As [`Reply::write`], without the last LF.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Vec::new();
        self.write(&mut line);
        line.pop();
        f.write_str(&String::from_utf8_lossy(&line))
    }
}

/// What a command did, as its client is told.
impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::NotFound => Self::NotFound,
            Outcome::Mismatch(current) => Self::Mismatch(current),
            Outcome::Number(number) => Self::Value(number.to_string().into_bytes().into()),
            Outcome::Session(id) => Self::Session(id),
            Outcome::NotANumber(text) => Self::error(ErrorCode::NotANumber, text),
            Outcome::StaleSeq(last) => Self::Error(
                ErrorCode::StaleSeq,
                format!("expected seq {last}, the last of this session, or a higher one"),
            ),
            Outcome::NoSession => Self::error(
                ErrorCode::NoSession,
                "no such session: it was never opened or has ended (SESSION opens one)",
            ),
            Outcome::TooLong => Self::Error(
                ErrorCode::TooLong,
                format!("expected a value of at most {VALUE_BYTES_MAX} bytes, it would be longer"),
            ),
            Outcome::Value(value) => Self::Value(value),
            Outcome::Remaining(millis) => Self::remaining(Some(millis)),
            // No line comes to this. But one may repeat the seq of a command of RESP that did.
            Outcome::Unmet => Self::error(
                ErrorCode::BadRequest,
                "expected the command that had this seq first, found another one; the condition of \
                 the first was not met, and nothing was done",
            ),
            Outcome::Changed | Outcome::Steps(_) => Self::error(
                ErrorCode::Unknown,
                "what became of this command was not told: perhaps it was done",
            ),
        }
    }
}

/// What a `GET` found.
impl From<Option<Bytes>> for Reply {
    fn from(value: Option<Bytes>) -> Self {
        value.map_or(Self::NotFound, Self::Value)
    }
}

/// What the first line of a reply tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// The whole reply.
    Done(Reply),
    /// So many lines follow.
    Lines(u64),
}

/// Reads the first line of a reply, without its LF; a CR at its end is dropped.
///
/// # Errors
/// Whatever is no reply: the other end is no server of this protocol.
pub fn parse_reply_head(line: &[u8]) -> Result<Head, ParseError> {
    const EXPECTED: &str = "a reply such as OK, VALUE or ERROR";
    let mut tokens = Tokens::new(without_cr(line));
    let verb = tokens.need(EXPECTED)?;
    let reply = match &*verb {
        b"OK" => Reply::Ok,
        b"VALUE" => return Ok(Head::Done(Reply::Value(parse_value(tokens)?))),
        b"NOT_FOUND" => Reply::NotFound,
        b"MISMATCH" => return Ok(Head::Done(Reply::Mismatch(parse_value(tokens)?))),
        b"SESSION" => Reply::Session(SessionId(parse_number(&mut tokens, "a session")?)),
        b"PONG" => Reply::Pong,
        b"BYE" => Reply::Bye,
        b"ERROR" => return parse_error(tokens).map(Head::Done),
        b"COUNT" => {
            let count = parse_number(&mut tokens, "how many lines follow")?;
            tokens.end()?;
            return Ok(Head::Lines(count));
        }
        other => return Err(ParseError::at(EXPECTED, other)),
    };
    tokens.end()?;
    Ok(Head::Done(reply))
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn parse_number(tokens: &mut Tokens<'_>, expected: &str) -> Result<u64, ParseError> {
    let token = tokens.need(expected)?;
    text::number(&token).ok_or_else(|| ParseError::at(expected, &token))
}

/// A value that ends its line: one quoted token, or all the rest.
fn parse_value(mut tokens: Tokens<'_>) -> Result<Bytes, ParseError> {
    if tokens.next_is_quoted() {
        let value = tokens.need("a value")?;
        tokens.end()?;
        return Ok(value.into());
    }
    match tokens.rest() {
        b"" => Err(ParseError::at_end("a value")),
        value => Ok(value.into()),
    }
}

fn parse_error(mut tokens: Tokens<'_>) -> Result<Reply, ParseError> {
    const EXPECTED: &str = "an error code such as BAD_REQUEST";
    let code = tokens.need(EXPECTED)?;
    let code = ErrorCode::from_name(&code).ok_or_else(|| ParseError::at(EXPECTED, &code))?;
    let text = String::from_utf8_lossy(tokens.rest()).into_owned();
    Ok(Reply::Error(code, text))
}

/// Reads a line of `LIST`: key and value.
///
/// # Errors
/// Whatever is no such line.
pub fn parse_pair(line: &[u8]) -> Result<(Bytes, Bytes), ParseError> {
    let mut tokens = Tokens::new(without_cr(line));
    let key = tokens.need("a key")?;
    Ok((key.into(), parse_value(tokens)?))
}

/// A line of `MGET`: what was found under one key.
fn parse_found(line: &[u8]) -> Result<Option<Bytes>, ParseError> {
    match parse_reply_head(line)? {
        Head::Done(Reply::Value(value)) => Ok(Some(value)),
        Head::Done(Reply::NotFound) => Ok(None),
        _ => Err(ParseError::at("VALUE or NOT_FOUND", line)),
    }
}

/// A line of `STATUS`: field and value.
fn parse_field(line: &[u8]) -> Result<(String, String), ParseError> {
    let (field, value) = parse_pair(line)?;
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map_err(|error| ParseError::at("a text", error.as_bytes()))
    };
    Ok((text(&field)?, text(&value)?))
}

/// Puts the lines of one reply together.
#[derive(Debug)]
pub struct ReplyReader {
    /// Lines that follow a `COUNT` and have not come; none before the first line.
    left: Option<u64>,
    /// What the lines that follow a `COUNT` are, with those that have come.
    reply: Option<Reply>,
}

impl ReplyReader {
    /// For the reply to `request`.
    pub fn new(request: &Request) -> Self {
        let reply = match request {
            Request::Read {
                read: Read::List(_),
                ..
            } => Some(Reply::List(Vec::new())),
            Request::Read {
                read: Read::Many { .. },
                ..
            } => Some(Reply::Values(Vec::new())),
            Request::Status => Some(Reply::Status(Vec::new())),
            Request::Help => Some(Reply::Help(Vec::new())),
            _ => None,
        };
        Self { left: None, reply }
    }

    /// Takes the next line, without its LF. Returns the reply once it is whole; the reader is of no
    /// use after that.
    ///
    /// # Errors
    /// A line that is no part of a reply to this request. The connection is of no use then.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ParseError> {
        let line = without_cr(line);
        match (self.left, &mut self.reply) {
            (None, reply) => match parse_reply_head(line)? {
                Head::Done(reply) => return Ok(Some(reply)),
                Head::Lines(_) if reply.is_none() => {
                    return Err(ParseError::at("a reply of one line", line));
                }
                Head::Lines(count) => self.left = Some(count),
            },
            (Some(0), _) | (_, None) => return Err(ParseError::at("no more lines", line)),
            (Some(left), Some(reply)) => {
                match reply {
                    Reply::List(pairs) => pairs.push(parse_pair(line)?),
                    Reply::Values(found) => found.push(parse_found(line)?),
                    Reply::Status(fields) => fields.push(parse_field(line)?),
                    Reply::Help(lines) => lines.push(String::from_utf8_lossy(line).into_owned()),
                    other => unreachable!("{other:?} has one line"),
                }
                self.left = Some(left - 1);
            }
        }
        Ok(self.reply.take_if(|_| self.left == Some(0)))
    }
}

#[cfg(test)]
mod tests;
