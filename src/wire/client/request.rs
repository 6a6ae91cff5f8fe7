//! Requests: what a client asks in one line.
//!
//! | line | request |
//! | --- | --- |
//! | `PUT key value`, `PUT:key:value` | [`Write::Put`] |
//! | `APPEND key value` | [`Write::Append`] |
//! | `DELETE key`, `DELETE:key` | [`Write::Delete`] |
//! | `CAS key expected new` | [`Write::Cas`] |
//! | `INCR key [by]` | [`Write::Incr`], by 1 if nothing is said |
//! | `EXPIRE key seconds` | [`Write::Expire`] |
//! | `SESSION` | [`Command::Session`] |
//! | `ONCE session seq` and one of the six | [`Command::Once`] |
//! | `GET key`, `GET:key` | [`Read::Get`] |
//! | `MGET key [key ...]` | [`Read::Many`] |
//! | `LIST [prefix] [FROM key] [LIMIT n]` | [`Read::List`] |
//! | `TTL key` | [`Read::Ttl`] |
//! | `LOCAL` and one of these four | the same, local |
//! | `STATUS`, `PING`, `HELP`, `FAIL`, `RECOVER` | those |
//! | `SLOW milliseconds` | [`Request::Slow`] |
//! | `QUIT`, `EXIT` | [`Request::Quit`] |
//!
//! The value of `PUT` and `APPEND` is one token if it is quoted, and the rest of the line if not. Behind
//! a colon nothing is quoted: key and value are the bytes that stand there. A prefix that is the word `FROM`
//! or `LIMIT`, in small letters too, is quoted.

use super::super::http;
use super::reply::{ErrorCode, Reply};
use crate::kv::batch;
use crate::kv::command::{
    Bytes, Command, Deadline, ExpireIf, KEY_BYTES_MAX, List, MILLIS_MAX, Read, STEPS_MAX,
    SessionId, VALUE_BYTES_MAX, Write,
};
use crate::text::{self, Blanks, ParseError, Tokens};
use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

/// The longest line, in bytes, without its LF.
pub const LINE_BYTES_MAX: usize = 4_325_376;

/// The most by which a client may slow each sync of a log, in milliseconds. More is a bad
/// request: a server that votes so late is as good as failed, and `FAIL` does that.
pub const SLOW_MILLIS_MAX: u64 = 1_000;

// The longest key and value fit when each byte is an escape of four, with room for the verbs.
const _: () = assert!(4 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 1_024 <= LINE_BYTES_MAX);

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Something for the log.
    Write(Command),
    /// A question about the map.
    Read {
        /// To be answered from what this server has learned, possibly stale.
        local: bool,
        /// The question.
        read: Read,
    },
    /// How the server is doing.
    Status,
    /// Whether anyone is there.
    Ping,
    /// What can be asked.
    Help,
    /// Close the connection.
    Quit,
    /// Stop this server's acceptor.
    Fail,
    /// Let it go on.
    Recover,
    /// Make each sync of this server's log take so many milliseconds longer; 0 ends it.
    Slow(u64),
}

/// Why a line is no request. Nothing was done. Displays as the whole reply line, without its LF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// What was expected and what was found.
    BadRequest(ParseError),
    /// Which limit does not hold, and what was found.
    TooLong(String),
    /// It is HTTP. What follows is no request either, whatever it looks like: the connection must end.
    Http,
}

impl RequestError {
    /// For a line of more than [`LINE_BYTES_MAX`] bytes, which was dropped.
    pub fn too_long_line() -> Self {
        Self::TooLong(format!(
            "expected a line of at most {LINE_BYTES_MAX} bytes, found a longer one and dropped it"
        ))
    }

    fn too_long(what: &str, limit: usize, found: usize) -> Self {
        Self::TooLong(format!(
            "expected {what} of at most {limit} bytes, found {found} bytes"
        ))
    }
}

impl From<ParseError> for RequestError {
    fn from(error: ParseError) -> Self {
        Self::BadRequest(error)
    }
}

impl From<RequestError> for Reply {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::BadRequest(error) => {
                Self::Error(ErrorCode::BadRequest, error.to_string())
            }
            RequestError::TooLong(text) => Self::Error(ErrorCode::TooLong, text),
            RequestError::Http => Self::error(ErrorCode::BadRequest, http::REFUSED),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Reply::from(self.clone()).fmt(f)
    }
}

impl std::error::Error for RequestError {}

/// What can be asked of one server alone.
const AFTER_LOCAL: &str = "GET, MGET, LIST or TTL after LOCAL";

/// Reads a line, without its LF; a CR at its end is dropped.
///
/// # Errors
/// Whatever is no request. Nothing but the line decides this, so it is the client's to mend.
pub fn parse_request(line: &[u8]) -> Result<Request, RequestError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if http::is_http(line) {
        return Err(RequestError::Http);
    }
    let (verb, mut arguments) = split_verb(line, "a request (HELP lists them)")?;
    match verb {
        Verb::Change(change) => {
            let write = parse_change(change, arguments)?;
            Ok(Request::Write(Command::Write(write)))
        }
        Verb::Question(question) => parse_read(false, question, arguments),
        Verb::Local => match split_verb(arguments.rest(), AFTER_LOCAL)? {
            (Verb::Question(question), arguments) => parse_read(true, question, arguments),
            (_, other) => Err(other.wrong_verb(AFTER_LOCAL)),
        },
        Verb::Once => {
            let session = parse_session(&arguments.token("a session after ONCE")?);
            let seq = parse_seq(&arguments.token("a seq after the session")?)?;
            let expected = "PUT, APPEND, DELETE, CAS, INCR or EXPIRE after the seq";
            match split_verb(arguments.rest(), expected)? {
                (Verb::Change(change), arguments) => Ok(Request::Write(Command::Once {
                    session,
                    seq,
                    write: parse_change(change, arguments)?,
                })),
                (_, other) => Err(other.wrong_verb(expected)),
            }
        }
        Verb::Slow => {
            let millis = parse_slow(&arguments.token("milliseconds after SLOW")?)?;
            arguments.end("the end of the line after the milliseconds")?;
            Ok(Request::Slow(millis))
        }
        Verb::Alone(request) => {
            arguments.end("the end of the line after the request")?;
            Ok(request)
        }
    }
}

/// The first word of a request, by what follows it.
enum Verb {
    Change(Change),
    Question(Question),
    Local,
    Once,
    Slow,
    /// Nothing follows.
    Alone(Request),
}

#[derive(Clone, Copy)]
enum Change {
    Put,
    Append,
    Delete,
    Cas,
    Incr,
    Expire,
}

#[derive(Clone, Copy)]
enum Question {
    Get,
    Many,
    List,
    Ttl,
}

impl Verb {
    fn from_name(name: &[u8]) -> Option<Self> {
        // Longer than any verb: not worth a copy.
        let mut upper = [0; 8];
        let upper = upper.get_mut(..name.len())?;
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        Some(match &*upper {
            b"PUT" => Self::Change(Change::Put),
            b"APPEND" => Self::Change(Change::Append),
            b"DELETE" => Self::Change(Change::Delete),
            b"CAS" => Self::Change(Change::Cas),
            b"INCR" => Self::Change(Change::Incr),
            b"EXPIRE" => Self::Change(Change::Expire),
            b"GET" => Self::Question(Question::Get),
            b"MGET" => Self::Question(Question::Many),
            b"LIST" => Self::Question(Question::List),
            b"TTL" => Self::Question(Question::Ttl),
            b"LOCAL" => Self::Local,
            b"ONCE" => Self::Once,
            b"SESSION" => Self::Alone(Request::Write(Command::Session)),
            b"STATUS" => Self::Alone(Request::Status),
            b"PING" => Self::Alone(Request::Ping),
            b"HELP" => Self::Alone(Request::Help),
            b"QUIT" | b"EXIT" => Self::Alone(Request::Quit),
            b"FAIL" => Self::Alone(Request::Fail),
            b"RECOVER" => Self::Alone(Request::Recover),
            b"SLOW" => Self::Slow,
            _ => return None,
        })
    }

    fn has_colon_form(&self) -> bool {
        matches!(
            self,
            Self::Change(Change::Put | Change::Delete) | Self::Question(Question::Get)
        )
    }
}

/// What follows a verb.
struct Arguments<'a> {
    /// The verb as it was written.
    name: &'a [u8],
    form: Form<'a>,
}

enum Form<'a> {
    /// `GET key`
    Tokens(Tokens<'a>),
    /// `GET:key`: what follows the last colon that was read; none where there was no other colon.
    Colon(Option<&'a [u8]>),
}

/// Splits the verb off. `expected` says what could stand here.
fn split_verb<'a>(line: &'a [u8], expected: &str) -> Result<(Verb, Arguments<'a>), RequestError> {
    let line = text::trim(line);
    if line.is_empty() {
        return Err(ParseError::at_end(expected).into());
    }
    let end = line
        .iter()
        .position(|&byte| byte == b':' || text::is_blank(byte))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let verb = Verb::from_name(name).ok_or_else(|| ParseError::at(expected, name))?;
    let form = match rest.strip_prefix(b":") {
        None => Form::Tokens(Tokens::new(rest)),
        Some(rest) if verb.has_colon_form() => Form::Colon(Some(rest)),
        Some(_) => {
            let expected = "a space after the verb (only PUT, GET and DELETE take a colon)";
            return Err(ParseError::at(expected, rest).into());
        }
    };
    Ok((verb, Arguments { name, form }))
}

impl<'a> Arguments<'a> {
    /// All that was not read. Only behind verbs without a colon form.
    fn rest(&self) -> &'a [u8] {
        match &self.form {
            Form::Tokens(tokens) => tokens.rest(),
            Form::Colon(rest) => rest.unwrap_or_default(),
        }
    }

    /// The next token; none at the end. Behind a colon, what stands before the next colon.
    fn next(&mut self) -> Result<Option<Cow<'a, [u8]>>, ParseError> {
        match &mut self.form {
            Form::Tokens(tokens) => tokens.next_token(),
            Form::Colon(rest) => Ok(rest.map(|all| {
                let end = all.iter().position(|&byte| byte == b':');
                *rest = end.map(|end| &all[end + 1..]);
                text::trim(&all[..end.unwrap_or(all.len())]).into()
            })),
        }
    }

    fn next_is_quoted(&self) -> bool {
        matches!(&self.form, Form::Tokens(tokens) if tokens.next_is_quoted())
    }

    fn token(&mut self, expected: &str) -> Result<Cow<'a, [u8]>, ParseError> {
        self.next()?.ok_or_else(|| ParseError::at_end(expected))
    }

    fn key(&mut self) -> Result<Bytes, RequestError> {
        let name = String::from_utf8_lossy(self.name);
        let key = self
            .next()?
            .ok_or_else(|| ParseError::at_end(format!("a key after {name}")))?;
        match key.len() {
            0 => Err(ParseError::at(format!("a key of at least 1 byte after {name}"), b"").into()),
            1..=KEY_BYTES_MAX => Ok(key.into()),
            found => Err(RequestError::too_long("a key", KEY_BYTES_MAX, found)),
        }
    }

    /// All that is left: one key or more.
    fn keys(&mut self) -> Result<Vec<Bytes>, RequestError> {
        let mut keys = vec![self.key()?];
        while !self.rest().is_empty() {
            if keys.len() == STEPS_MAX {
                let text = format!("expected at most {STEPS_MAX} keys, found more");
                return Err(RequestError::TooLong(text));
            }
            keys.push(self.key()?);
        }
        Ok(keys)
    }

    /// A value that is one token.
    fn value(&mut self, expected: &str) -> Result<Bytes, RequestError> {
        checked_value(&self.token(expected)?)
    }

    /// A value that ends the line.
    fn last_value(mut self) -> Result<Bytes, RequestError> {
        const EXPECTED: &str = "a value after the key";
        match &self.form {
            Form::Tokens(_) if self.next_is_quoted() => {
                let value = self.value(EXPECTED)?;
                self.end("the end of the line after a quoted value")?;
                Ok(value)
            }
            Form::Tokens(tokens) => match tokens.rest() {
                b"" => Err(ParseError::at_end(EXPECTED).into()),
                value => checked_value(value),
            },
            Form::Colon(Some(value)) => checked_value(text::trim(value)),
            Form::Colon(None) => Err(ParseError::at_end("':' and a value after the key").into()),
        }
    }

    /// Fails if anything is left.
    fn end(&self, expected: &str) -> Result<(), RequestError> {
        match &self.form {
            Form::Tokens(tokens) => match tokens.rest() {
                b"" => Ok(()),
                more => Err(ParseError::at(expected, more).into()),
            },
            Form::Colon(None) => Ok(()),
            Form::Colon(Some(more)) => {
                let more = [b":", *more].concat();
                Err(ParseError::at(expected, &more).into())
            }
        }
    }

    /// The error for a verb that exists but cannot stand here.
    fn wrong_verb(&self, expected: &str) -> RequestError {
        ParseError::at(expected, self.name).into()
    }
}

fn checked_value(value: &[u8]) -> Result<Bytes, RequestError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(RequestError::too_long(
            "a value",
            VALUE_BYTES_MAX,
            value.len(),
        ));
    }
    Ok(value.into())
}

fn parse_change(change: Change, mut arguments: Arguments<'_>) -> Result<Write, RequestError> {
    let key = arguments.key()?;
    match change {
        Change::Put => {
            let value = arguments.last_value()?;
            Ok(Write::Put { key, value })
        }
        Change::Append => {
            let value = arguments.last_value()?;
            Ok(Write::Append { key, value })
        }
        Change::Delete => {
            arguments.end("the end of the line after the key")?;
            Ok(Write::Delete { key })
        }
        Change::Cas => {
            let expected = arguments.value("the expected value after the key")?;
            let new = arguments.value("the new value after the expected one")?;
            arguments.end("the end of the line after the new value (one with spaces is quoted)")?;
            Ok(Write::Cas { key, expected, new })
        }
        Change::Incr => {
            let by = if arguments.rest().is_empty() {
                1
            } else {
                parse_by(&arguments.token("a number to add")?)?
            };
            arguments.end("the end of the line after the number")?;
            Ok(Write::Incr { key, by })
        }
        Change::Expire => {
            let deadline = parse_seconds(&arguments.token("seconds after the key")?)?;
            arguments.end("the end of the line after the seconds")?;
            Ok(Write::Expire {
                key,
                deadline,
                only: ExpireIf::Any,
            })
        }
    }
}

/// What to add: any text of a 64-bit integer, `+5` and `05` too, for it is not kept.
fn parse_by(token: &[u8]) -> Result<i64, RequestError> {
    std::str::from_utf8(token)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ParseError::at("a 64-bit integer to add", token).into())
}

fn parse_slow(token: &[u8]) -> Result<u64, RequestError> {
    text::number(token)
        .filter(|&millis| millis <= SLOW_MILLIS_MAX)
        .ok_or_else(|| {
            ParseError::at(format!("milliseconds from 0 to {SLOW_MILLIS_MAX}"), token).into()
        })
}

/// So many seconds from now on; 0 removes the key at once.
fn parse_seconds(token: &[u8]) -> Result<Deadline, RequestError> {
    const SECONDS_MAX: u64 = MILLIS_MAX / 1_000;
    text::number(token)
        .filter(|&seconds| seconds <= SECONDS_MAX)
        .map(|seconds| Deadline::In(seconds * 1_000))
        .ok_or_else(|| ParseError::at(format!("seconds from 0 to {SECONDS_MAX}"), token).into())
}

fn parse_read(
    local: bool,
    question: Question,
    mut arguments: Arguments<'_>,
) -> Result<Request, RequestError> {
    let read = match question {
        Question::Get => {
            let key = arguments.key()?;
            arguments.end("the end of the line after the key")?;
            Read::Get { key }
        }
        Question::Many => Read::Many {
            keys: arguments.keys()?,
        },
        Question::Ttl => {
            let key = arguments.key()?;
            arguments.end("the end of the line after the key")?;
            Read::Ttl { key }
        }
        Question::List => Read::List(parse_list(arguments)?),
    };
    Ok(Request::Read { local, read })
}

/// What begins a part of a `LIST`, unless it is quoted.
#[derive(Clone, Copy)]
enum ListWord {
    From,
    Limit,
}

impl ListWord {
    fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            _ if name.eq_ignore_ascii_case(b"FROM") => Some(Self::From),
            _ if name.eq_ignore_ascii_case(b"LIMIT") => Some(Self::Limit),
            _ => None,
        }
    }
}

fn parse_list(mut arguments: Arguments<'_>) -> Result<List, RequestError> {
    let mut list = List::default();
    let mut first = true;
    while !arguments.rest().is_empty() {
        let quoted = arguments.next_is_quoted();
        let token = arguments.token("a prefix")?;
        let word = ListWord::from_name(&token).filter(|_| !quoted);
        match word {
            Some(ListWord::From) if list.from.is_none() => {
                if arguments.rest().is_empty() {
                    let expected = "a key after FROM (a prefix that is this word is quoted)";
                    return Err(ParseError::at_end(expected).into());
                }
                arguments.name = b"FROM";
                list.from = Some(arguments.key()?);
            }
            Some(ListWord::Limit) if list.limit.is_none() => {
                const EXPECTED: &str =
                    "a number of keys from 1 after LIMIT (a prefix that is this word is quoted)";
                let token = arguments.token(EXPECTED)?;
                let limit = text::number(&token).filter(|&limit| limit > 0);
                list.limit = Some(limit.ok_or_else(|| ParseError::at(EXPECTED, &token))?);
            }
            None if first && token.len() > KEY_BYTES_MAX => {
                let found = token.len();
                return Err(RequestError::too_long("a prefix", KEY_BYTES_MAX, found));
            }
            None if first => list.prefix = token.into(),
            _ => {
                let expected = "FROM key, LIMIT n, each once, or the end of the line";
                return Err(ParseError::at(expected, &token).into());
            }
        }
        first = false;
    }
    Ok(list)
}

/// A word that cannot be the id of a session is one the cluster does not know: session 0, which was
/// never handed out.
fn parse_session(token: &[u8]) -> SessionId {
    SessionId(text::number(token).unwrap_or(0))
}

fn parse_seq(token: &[u8]) -> Result<u64, RequestError> {
    text::number(token)
        .filter(|&seq| seq > 0)
        .ok_or_else(|| ParseError::at(format!("a seq from 1 to {}", u64::MAX), token).into())
}

/// Appends the line of `request`, with its LF: the one line among those that read back as this
/// request which has all spaces single, verbs in capitals and tokens quoted only where they must
/// be.
///
/// A `CAS` of two values of nearly the longest size can give a line beyond [`LINE_BYTES_MAX`], and so
/// can an `MGET` of thousands of the longest keys; a server refuses it. What no line asks for is shown as in the log.
pub fn write_request(out: &mut Vec<u8>, request: &Request) {
    match request {
        Request::Write(Command::Write(write)) => write_change(out, write),
        Request::Write(Command::Once {
            session,
            seq,
            write,
        }) => {
            write!(out, "ONCE {session} {seq} ").expect("a vector takes every byte");
            write_change(out, write);
        }
        Request::Write(Command::Session) => out.extend_from_slice(b"SESSION"),
        Request::Write(Command::Exec(transaction)) => batch::write_transaction(out, transaction),
        Request::Read { local, read } => {
            if *local {
                out.extend_from_slice(b"LOCAL ");
            }
            match read {
                Read::Get { key } => write_words(out, b"GET", [key]),
                Read::Many { keys } => write_words(out, b"MGET", keys),
                Read::List(list) => write_list(out, list),
                Read::Ttl { key } => write_words(out, b"TTL", [key]),
            }
        }
        Request::Status => out.extend_from_slice(b"STATUS"),
        Request::Ping => out.extend_from_slice(b"PING"),
        Request::Help => out.extend_from_slice(b"HELP"),
        Request::Quit => out.extend_from_slice(b"QUIT"),
        Request::Fail => out.extend_from_slice(b"FAIL"),
        Request::Recover => out.extend_from_slice(b"RECOVER"),
        Request::Slow(millis) => write!(out, "SLOW {millis}").expect("a vector takes every byte"),
    }
    out.push(b'\n');
}

fn write_change(out: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Put { key, value } => write_pair(out, b"PUT", key, value),
        Write::Append { key, value } => write_pair(out, b"APPEND", key, value),
        Write::Delete { key } => write_words(out, b"DELETE", [key]),
        Write::Cas { key, expected, new } => write_words(out, b"CAS", [key, expected, new]),
        Write::Incr { key, by } => {
            write_words(out, b"INCR", [key]);
            write!(out, " {by}").expect("a vector takes every byte");
        }
        Write::Expire {
            key,
            deadline: Deadline::In(millis),
            only: ExpireIf::Any,
        } if millis % 1_000 == 0 => {
            write_words(out, b"EXPIRE", [key]);
            write!(out, " {}", millis / 1_000).expect("a vector takes every byte");
        }
        other => batch::write_change(out, other),
    }
}

fn write_list(out: &mut Vec<u8>, list: &List) {
    out.extend_from_slice(b"LIST");
    if ListWord::from_name(&list.prefix).is_some() {
        out.push(b' ');
        text::write_quoted(out, &list.prefix);
    } else if !list.prefix.is_empty() {
        write_words(out, b"", [&list.prefix]);
    }
    if let Some(from) = &list.from {
        write_words(out, b" FROM", [from]);
    }
    if let Some(limit) = list.limit {
        write!(out, " LIMIT {limit}").expect("a vector takes every byte");
    }
}

/// A key, and a value that ends the line.
fn write_pair(out: &mut Vec<u8>, verb: &[u8], key: &Bytes, value: &Bytes) {
    write_words(out, verb, [key]);
    out.push(b' ');
    text::write_token(out, value, Blanks::Inside);
}

fn write_words<'a>(out: &mut Vec<u8>, verb: &[u8], words: impl IntoIterator<Item = &'a Bytes>) {
    out.extend_from_slice(verb);
    for word in words {
        out.push(b' ');
        text::write_token(out, word, Blanks::None);
    }
}

#[cfg(test)]
mod tests;
